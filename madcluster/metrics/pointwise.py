"""Metrics that look at single time steps.

All take labels (m,) of 0 and 1 and either scores (m,), **higher = more anomalous**, or predictions (m,)
of 0 and 1. Some of them are optimistic by construction, and say so: the best F1 chooses its threshold
on the labels that it is judged by, and point adjustment forgives all but one step of a long event.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from madcluster.data import segments
from madcluster.metrics._check import labels_and_predictions, labels_and_scores
from madcluster.metrics._ranked import Levels, levels_of, ranked

__all__ = [
    "BestF1",
    "average_precision_score",
    "best_f1_score",
    "best_point_adjusted_f1_score",
    "point_adjusted_f1_score",
    "roc_auc_score",
]


class BestF1(NamedTuple):
    """The best F1 over all thresholds, and where it is reached."""

    f1: float
    precision: float
    recall: float
    threshold: float  # predicted = score > threshold, as in alarms; −∞ where all are predicted


def average_precision_score(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Area under the precision-recall curve by steps; the base rate for a random score.

    Steps, not straight lines: between two points of the curve precision does not move linearly with
    recall (Davis and Goadrich, ICML 2006). The value is that of scikit-learn.

    >>> average_precision_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.83...
    """
    rank = ranked(*labels_and_scores(y_true, y_score))
    return _average_precision(levels_of(rank.ascending, rank.hits))


def roc_auc_score(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Chance that an anomalous step scores above a normal one, a tie being half; 0.5 if random.

    The value is that of scikit-learn.

    >>> roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    rank = ranked(*labels_and_scores(y_true, y_score))
    return _roc_auc(rank.ascending, levels_of(rank.ascending, rank.hits))


def best_f1_score(y_true: ArrayLike, y_score: ArrayLike) -> BestF1:
    """F1 at the threshold that is best on these very labels: an oracle, and optimistic.

    What lies above the threshold is predicted, so it is the highest score that is not. Of equally
    good thresholds the highest, which raises the fewest alarms.

    Raises
    ------
    ValueError
        For bad labels or scores, see `madcluster.metrics`.

    Examples
    --------
    >>> best_f1_score([0, 0, 1, 1], [0.1, 0.6, 0.5, 0.9])
    BestF1(f1=0.8, precision=0.66..., recall=1.0, threshold=0.1)
    """
    rank = ranked(*labels_and_scores(y_true, y_score))
    return _best_f1(rank.ascending, levels_of(rank.ascending, rank.hits))


def point_adjusted_f1_score(y_true: ArrayLike, y_pred: ArrayLike, *, k: float = 0.0) -> float:
    """F1 after whole events are granted for a part of them (PA%K of Kim et al., AAAI 2022).

    An anomalous segment counts as predicted in full if more than a share `k` of its steps is.
    ``k=0`` is plain point adjustment: one step is enough, and random predictions score high.
    ``k=1`` adjusts nothing. 0 where nothing is predicted.

    Raises
    ------
    ValueError
        If `y_pred` is not a prediction of 0 and 1, or `k` is not within [0, 1].

    Examples
    --------
    >>> y_true, y_pred = [0, 1, 1, 1, 1, 0], [0, 0, 1, 0, 0, 1]
    >>> [round(point_adjusted_f1_score(y_true, y_pred, k=k), 3) for k in (0, 0.3)]
    [0.889, 0.333]
    """
    labels, predicted = labels_and_predictions(y_true, y_pred)
    if not 0 <= k <= 1:
        raise ValueError(f"k is a share and must be within [0, 1], got {k!r}")
    bounds = segments(labels)
    lengths = bounds[:, 1] - bounds[:, 0]
    hits = np.add.reduceat(predicted[labels].astype(np.int64), np.cumsum(lengths) - lengths)
    granted = np.where(hits > k * lengths, lengths, hits)
    false_alarms = np.count_nonzero(predicted) - hits.sum()
    tp = granted.sum()
    return float(2 * tp / (tp + false_alarms + lengths.sum()))


def best_point_adjusted_f1_score(y_true: ArrayLike, y_score: ArrayLike) -> BestF1:
    """Point-adjusted F1 at the best threshold on these very labels: optimistic twice over.

    Many published tables have this number. Flags are scores above a threshold, and an event counts in
    full where its highest score is flagged; so it is the best F1 of scores in which each event has
    its maximum throughout.

    Raises
    ------
    ValueError
        For bad labels or scores, see `madcluster.metrics`.

    Examples
    --------
    >>> best_point_adjusted_f1_score([0, 1, 1, 1, 0, 0], [0.1, 0.2, 0.9, 0.3, 0.4, 0.5])
    BestF1(f1=1.0, precision=1.0, recall=1.0, threshold=0.5)
    """
    labels, scores = labels_and_scores(y_true, y_score)
    rank = ranked(labels, scores)
    lengths = rank.bounds[:, 1] - rank.bounds[:, 0]
    highest = np.repeat(rank.highest(), lengths)
    adjusted = np.sort(np.concatenate([scores[~labels], highest]))
    return _best_f1(adjusted, levels_of(adjusted, np.sort(highest)))


def _best_f1(ascending: np.ndarray, levels: Levels) -> BestF1:
    n_true = int(levels.tp[-1])
    f1 = 2 * levels.tp / (levels.n_predicted + n_true)
    best = int(np.argmax(f1))
    tp, n_predicted = int(levels.tp[best]), int(levels.n_predicted[best])
    below = len(ascending) - n_predicted
    return BestF1(
        f1=float(f1[best]),
        precision=tp / n_predicted,
        recall=tp / n_true,
        threshold=float(ascending[below - 1]) if below else -float("inf"),
    )


def _average_precision(levels: Levels) -> float:
    return float(levels.found @ (levels.tp / levels.n_predicted) / levels.tp[-1])


def _roc_auc(ascending: np.ndarray, levels: Levels) -> float:
    """By ranks (Mann and Whitney), in integers: twice the pairs that are in order, ties once."""
    n, n_true = len(ascending), int(levels.tp[-1])
    below = n - levels.n_predicted
    up_to = below + 1  # scores that are not above the level
    tied = np.flatnonzero(ascending[np.minimum(up_to, n - 1)] == levels.level)
    tied = tied[up_to[tied] < n]
    up_to[tied] = np.searchsorted(ascending, levels.level[tied], side="right")
    pairs = levels.found @ (below + up_to) - n_true**2
    return float(pairs / (2 * n_true * (n - n_true)))
