"""How good is a score? Labels (m,) of 0 and 1, scores (m,), higher = more anomalous."""

from madcluster.metrics.pointwise import (
    BestF1,
    average_precision_score,
    best_f1_score,
    roc_auc_score,
)

__all__ = ["BestF1", "average_precision_score", "best_f1_score", "evaluate", "roc_auc_score"]


def evaluate(y_true: object, y_score: object) -> dict[str, float]:
    """The point-wise metrics of a score, by the names of the release's result file.

    Precision, recall and F1 are those of the best threshold on these labels, an oracle.

    Examples
    --------
    >>> evaluate([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])["roc_auc"]
    0.75
    """
    best = best_f1_score(y_true, y_score)
    return {
        "precision": best.precision,
        "recall": best.recall,
        "f1_score": best.f1,
        "aupr": average_precision_score(y_true, y_score),
        "roc_auc": roc_auc_score(y_true, y_score),
    }
