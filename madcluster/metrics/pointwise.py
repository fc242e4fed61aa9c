"""Metrics that look at single time steps.

All of them take labels (m,) of 0 and 1 and scores (m,), higher = more anomalous.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn import metrics as sklearn_metrics

__all__ = [
    "BestF1",
    "average_precision_score",
    "best_f1_score",
    "checked_labels_and_scores",
    "roc_auc_score",
]


class BestF1(NamedTuple):
    """The best F1 over all thresholds, and where it is reached."""

    f1: float
    precision: float
    recall: float
    threshold: float  # predicted = score ≥ threshold


def checked_labels_and_scores(y_true: Any, y_score: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels as bool (m,) and scores as float64 (m,).

    Raises
    ------
    ValueError
        If one is not 1-D, empty or of another length, if labels are not 0 or 1 or of one class only,
        or if a score is NaN or infinite.
    """
    labels, scores = np.asarray(y_true), np.asarray(y_score, dtype=np.float64)
    for name, values in (("y_true", labels), ("y_score", scores)):
        if values.ndim != 1:
            raise ValueError(f"{name} must be 1-D, got shape {values.shape}")
    if len(labels) != len(scores):
        raise ValueError(f"y_true has {len(labels)} values, y_score {len(scores)}")
    if not len(labels):
        raise ValueError("y_true is empty")
    if not np.isin(labels, (0, 1)).all():
        row = int(np.argmin(np.isin(labels, (0, 1))))
        raise ValueError(f"y_true must be 0 or 1, row {row} is {labels[row]}")
    if not np.isfinite(scores).all():
        row = int(np.argmin(np.isfinite(scores)))
        raise ValueError(f"y_score must be finite, row {row} is {scores[row]}")
    labels = labels.astype(bool)
    if labels.all() or not labels.any():
        raise ValueError(f"y_true must hold both classes, all are {int(labels[0])}")
    return labels, scores


def average_precision_score(y_true: Any, y_score: Any) -> float:
    """Area under the precision-recall curve by steps (scikit-learn's)."""
    labels, scores = checked_labels_and_scores(y_true, y_score)
    return float(sklearn_metrics.average_precision_score(labels, scores))


def roc_auc_score(y_true: Any, y_score: Any) -> float:
    """Area under the receiver operating characteristic (scikit-learn's)."""
    labels, scores = checked_labels_and_scores(y_true, y_score)
    return float(sklearn_metrics.roc_auc_score(labels, scores))


def best_f1_score(y_true: Any, y_score: Any) -> BestF1:
    """F1 at the threshold that is best on these very labels: an oracle, and optimistic.

    Examples
    --------
    >>> best_f1_score([0, 0, 1, 1], [0.1, 0.6, 0.5, 0.9])
    BestF1(f1=0.8, precision=0.66..., recall=1.0, threshold=0.5)
    """
    labels, scores = checked_labels_and_scores(y_true, y_score)
    precision, recall, thresholds = sklearn_metrics.precision_recall_curve(labels, scores)
    with np.errstate(invalid="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))[:-1]
    best = int(np.argmax(f1))
    return BestF1(*(float(v[best]) for v in (f1, precision, recall, thresholds)))
