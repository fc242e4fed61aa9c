"""Metrics that look at single time steps.

All take labels (m,) of 0 and 1 and either scores (m,), **higher = more anomalous**, or predictions (m,)
of 0 and 1. Some of them are optimistic by construction, and say so: the best F1 chooses its threshold
on the labels that it is judged by, and point adjustment forgives all but one step of a long event.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn import metrics as sklearn_metrics

from madcluster.data import segments
from madcluster.metrics._check import labels_and_predictions, labels_and_scores

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
    """Area under the precision-recall curve by steps (scikit-learn's); base rate for a random score.

    Steps, not straight lines: between two points of the curve precision does not move linearly with
    recall (Davis and Goadrich, ICML 2006).

    >>> average_precision_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.83...
    """
    labels, scores = labels_and_scores(y_true, y_score)
    return float(sklearn_metrics.average_precision_score(labels, scores))


def roc_auc_score(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Chance that an anomalous step scores above a normal one (scikit-learn's); 0.5 if random.

    >>> roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    labels, scores = labels_and_scores(y_true, y_score)
    return float(sklearn_metrics.roc_auc_score(labels, scores))


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
    return _best_f1(*labels_and_scores(y_true, y_score))


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
    hits = np.concatenate([[0], np.cumsum(predicted)])
    lengths = bounds[:, 1] - bounds[:, 0]
    granted = hits[bounds[:, 1]] - hits[bounds[:, 0]]
    granted = np.where(granted > k * lengths, lengths, granted)
    false_alarms = np.count_nonzero(predicted & ~labels)
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
    adjusted = scores.copy()
    for start, stop in segments(labels):
        adjusted[start:stop] = scores[start:stop].max()
    return _best_f1(labels, adjusted)


def _best_f1(labels: np.ndarray, scores: np.ndarray) -> BestF1:
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    # tied scores are predicted together: only the last of a tie is a threshold
    n_predicted = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1) + 1
    tp = np.cumsum(labels[order])[n_predicted - 1]
    n_true = tp[-1]
    f1 = 2 * tp / (n_predicted + n_true)
    best = int(np.argmax(f1))
    return BestF1(
        f1=float(f1[best]),
        precision=float(tp[best] / n_predicted[best]),
        recall=float(tp[best] / n_true),
        threshold=float(np.append(ranked, -np.inf)[n_predicted[best]]),
    )
