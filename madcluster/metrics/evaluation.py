"""All metrics of a score at once, and what a score reaches that knows nothing."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from madcluster.aggregation import Smooth, smoothed
from madcluster.arguments import check_seed, check_whole
from madcluster.metrics._check import labels_and_scores, positive_count
from madcluster.metrics._ranked import levels_of, ranked
from madcluster.metrics.affiliation import _affiliation
from madcluster.metrics.pointwise import _average_precision, _best_f1, _roc_auc
from madcluster.metrics.ranges import _around, _range_auc, _vus

__all__ = ["beside_chance", "evaluate"]


def evaluate(
    y_true: ArrayLike, y_score: ArrayLike, *, threshold: float | None = None, window: int = 100
) -> dict[str, float]:
    """Eleven metrics of a score, by the names and in the order of the release's result file.

    Parameters
    ----------
    y_true, y_score : (m,)
        Labels of 0 and 1; finite scores, higher = more anomalous.
    threshold : float, optional
        Steps with score > threshold are predicted, as in alarms. None takes the threshold of the
        best F1 on these very labels: an oracle, and optimistic. It matters to precision, recall, F1
        and Affiliation only.
    window : int
        Window of Range-AUC and longest window of VUS, in steps.

    Returns
    -------
    dict
        precision, recall, f1_score, aupr, roc_auc, R_AUC_ROC, R_AUC_PR, VUS_ROC, VUS_PR,
        Affiliation_Precision, Affiliation_Recall. Where a threshold predicts nothing, precision is
        0 and Affiliation_Precision NaN.

    Raises
    ------
    ValueError
        For bad labels or scores, a NaN threshold or a negative window.

    Examples
    --------
    >>> evaluate([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])["roc_auc"]
    0.75
    """
    labels, scores = labels_and_scores(y_true, y_score)
    window = positive_count("window", window, least=0)
    if threshold is not None and math.isnan(threshold):
        raise ValueError("threshold is NaN")
    rank = ranked(labels, scores)
    levels = levels_of(rank.ascending, rank.hits)
    if threshold is None:
        threshold = _best_f1(rank.ascending, levels).threshold
    predicted = scores > threshold
    tp = int(np.count_nonzero(predicted & labels))
    n_predicted, n_true = int(np.count_nonzero(predicted)), len(rank.hits)
    around = _around(rank, window, n_thresholds=250)
    range_auc, vus = _range_auc(around, window), _vus(around, window)
    affiliation = _affiliation(rank.bounds, predicted)
    return {
        "precision": tp / max(n_predicted, 1),
        "recall": tp / n_true,
        "f1_score": 2 * tp / (n_predicted + n_true),
        "aupr": _average_precision(levels),
        "roc_auc": _roc_auc(rank.ascending, levels),
        "R_AUC_ROC": range_auc.roc,
        "R_AUC_PR": range_auc.pr,
        "VUS_ROC": vus.roc,
        "VUS_PR": vus.pr,
        "Affiliation_Precision": affiliation.precision,
        "Affiliation_Recall": affiliation.recall,
    }


def beside_chance(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    window: int = 100,
    smooth: Smooth = "off",
    repeats: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """The eleven metrics of a score beside those of scores that are drawn at random.

    A metric of an unbalanced series says little by itself: the best F1 and Affiliation of a random
    score are far from 0, and VUS is not at the base rate.

    Parameters
    ----------
    y_true, y_score, window
        See `evaluate`.
    smooth : int or "off"
        Rows about each row that the random scores are means over. A score that is smoothed, or is a
        mean over windows, is high in runs, and by luck they lie in an event or do not: the levels
        spread more widely then.
    repeats : int
        Random scores, from a uniform law.
    seed : int
        Of the first of them.

    Returns
    -------
    A row per metric: `score`; `chance`, the mean of the random scores; and `low` and `high`, between
    which nine tenths of them lie.

    Raises
    ------
    ValueError
        As `evaluate`; if `smooth`, `repeats` or `seed` is out of its range.

    Examples
    --------
    >>> labels = np.arange(500) // 50 == 7
    >>> table = beside_chance(labels, np.arange(500.0), repeats=5)
    >>> table.columns.tolist(), float(table.loc["aupr", "chance"].round(1))
    (['score', 'chance', 'low', 'high'], 0.1)
    """
    check_whole("repeats", repeats)
    rng, found = np.random.default_rng(check_seed(seed)), evaluate(y_true, y_score, window=window)
    drawn = pd.DataFrame(
        evaluate(y_true, smoothed(rng.random(np.size(y_true)), smooth, causal=False), window=window)
        for _ in range(repeats)
    )
    return pd.DataFrame(
        {
            "score": pd.Series(found),
            "chance": drawn.mean(),
            "low": drawn.quantile(0.05),
            "high": drawn.quantile(0.95),
        }
    )
