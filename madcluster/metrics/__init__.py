"""How good is a score? Labels (m,) of 0 and 1; scores (m,) or predictions (m,) of 0 and 1.

**Higher score = more anomalous, one number per time step.** Labels must hold both classes; NaN,
infinities, other lengths, 2-D or empty input raise a ValueError that names the argument; a score
with two distinct values or fewer warns.
"""

from __future__ import annotations

import math

from numpy.typing import ArrayLike
from sklearn import metrics as sklearn_metrics

from madcluster.metrics._check import labels_and_scores, positive_count
from madcluster.metrics.affiliation import (
    Affiliation,
    _affiliation,
    affiliation_precision_recall,
)
from madcluster.metrics.pointwise import (
    BestF1,
    _best_f1,
    average_precision_score,
    best_f1_score,
    point_adjusted_f1_score,
    roc_auc_score,
)
from madcluster.metrics.ranges import (
    VUS,
    RangeAUC,
    _range_auc,
    _vus,
    range_auc_score,
    soft_labels,
    vus_score,
)

__all__ = [
    "VUS",
    "Affiliation",
    "BestF1",
    "RangeAUC",
    "affiliation_precision_recall",
    "average_precision_score",
    "best_f1_score",
    "evaluate",
    "point_adjusted_f1_score",
    "range_auc_score",
    "roc_auc_score",
    "soft_labels",
    "vus_score",
]


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
    if threshold is None:
        threshold = _best_f1(labels, scores).threshold
    elif math.isnan(threshold):
        raise ValueError("threshold is NaN")
    predicted = scores > threshold
    tp = int((predicted & labels).sum())
    n_predicted, n_true = int(predicted.sum()), int(labels.sum())
    range_auc = _range_auc(labels, scores, window, n_thresholds=250)
    vus = _vus(labels, scores, window, n_thresholds=250)
    affiliation = _affiliation(labels, predicted)
    return {
        "precision": tp / max(n_predicted, 1),
        "recall": tp / n_true,
        "f1_score": 2 * tp / (n_predicted + n_true),
        "aupr": float(sklearn_metrics.average_precision_score(labels, scores)),
        "roc_auc": float(sklearn_metrics.roc_auc_score(labels, scores)),
        "R_AUC_ROC": range_auc.roc,
        "R_AUC_PR": range_auc.pr,
        "VUS_ROC": vus.roc,
        "VUS_PR": vus.pr,
        "Affiliation_Precision": affiliation.precision,
        "Affiliation_Recall": affiliation.recall,
    }
