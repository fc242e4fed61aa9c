"""How good is a score? Labels (m,) of 0 and 1; scores (m,) or predictions (m,) of 0 and 1.

**Higher score = more anomalous, one number per time step.** Labels must hold both classes; NaN,
infinities, other lengths, 2-D or empty input raise a ValueError that names the argument; a score
with two distinct values or fewer warns.
"""

from madcluster.metrics.affiliation import Affiliation, affiliation_precision_recall
from madcluster.metrics.evaluation import beside_chance, evaluate
from madcluster.metrics.pointwise import (
    BestF1,
    average_precision_score,
    best_f1_score,
    best_point_adjusted_f1_score,
    point_adjusted_f1_score,
    roc_auc_score,
)
from madcluster.metrics.ranges import (
    VUS,
    RangeAUC,
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
    "beside_chance",
    "best_f1_score",
    "best_point_adjusted_f1_score",
    "evaluate",
    "point_adjusted_f1_score",
    "range_auc_score",
    "roc_auc_score",
    "soft_labels",
    "vus_score",
]
