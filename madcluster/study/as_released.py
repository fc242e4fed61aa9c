"""The released protocol and wiring, so that published numbers can be set beside ours like with like.

The code published with the paper (`SYLee1996/MADCluster`, commit 59dc097) differs from the appendix in
what it trains and in how it evaluates; the page "Coming from the release" lists how. That other form is
here, for comparison alone. Its protocol has one score and one label for every window, at the window's
first step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from sklearn import metrics as sklearn_metrics
from torch import Tensor, nn
from torch.nn import functional

from madcluster.arguments import check_number, check_one_of
from madcluster.heads import Objective
from madcluster.loss import distance_and_cosine, radius, soft_boundary
from madcluster.metrics._check import _binary, labels_and_scores, positive_count
from madcluster.metrics._ranked import ranked
from madcluster.metrics.affiliation import _affiliation
from madcluster.metrics.ranges import _around, _range_auc, _vus
from madcluster.models import DCdetector, Embedder, Embedding
from madcluster.models.base import windows_of

__all__ = [
    "ReleasedWiring",
    "clustering_loss",
    "evaluate",
    "results_table",
    "window_labels",
    "window_scores",
]

DROPOUT = 0.1  # of the tokens
TEMPERATURE = 50.0  # of the softmax over the discrepancies of a window
LEAST, MOST = 1e-6, 1e6  # bounds of q from below, of f1 and f2 from above


def window_labels(labels: ArrayLike, window: int) -> np.ndarray:
    """True where any step of the window that starts there is anomalous; (m,) → (m − window + 1,).

    So an event grows by up to window − 1 steps, to its left.

    Raises
    ------
    ValueError
        If the labels are not (m,) of 0 and 1, or `window` is no integer from 1 to m.

    Examples
    --------
    >>> window_labels([0, 0, 0, 1, 0, 0], 3).astype(int).tolist()
    [0, 1, 1, 1]
    """
    window, rows = positive_count("window", window, least=1), _binary("labels", labels)
    if len(rows) < window:
        raise ValueError(f"labels have {len(rows)} rows, less than a window of {window}")
    hits = np.concatenate([[0], np.cumsum(rows)])
    return hits[window:] > hits[:-window]


@torch.no_grad()
def window_scores(
    model: Embedder, x: np.ndarray, *, window: int, stride: int = 1, batch_size: int = 256
) -> np.ndarray:
    """Mean score of every window, at its first step; **higher = more anomalous**.

    Parameters
    ----------
    model : Embedder
        In eval mode, with a score (b t).
    x : (m c)
        The scaled series.
    stride : int
        Steps between the windows that are computed. The value of one is held until the next.

    Returns
    -------
    (m − window + 1,) float64, of means in the precision of the model, as released.

    Raises
    ------
    ValueError
        If the series is shorter than a window, a number is no positive integer, or the model has no
        score.
    """
    for name, value in (("window", window), ("stride", stride), ("batch_size", batch_size)):
        positive_count(name, value, least=1)
    if x.ndim != 2 or len(x) < window:
        raise ValueError(
            f"series must be (m c) with at least one window of {window} rows, got shape {x.shape}"
        )
    like = next(model.parameters())
    series = torch.as_tensor(np.array(x), dtype=like.dtype, device=like.device)
    means = []
    for batch in windows_of(series, window, stride).split(batch_size):  # (b t c)
        score = model(batch).score  # (b t)
        if score is None:
            raise ValueError("the embedder has no score of its own: use it with head=True")
        means.append(score.double().mean(1).to(like.dtype).cpu())
    return torch.cat(means).double().numpy().repeat(stride)[: len(x) - window + 1]


def evaluate(labels: ArrayLike, scores: ArrayLike, *, window: int = 100) -> dict[str, float]:
    """The eleven metrics of `madcluster.metrics.evaluate`, each as the release computes it.

    Parameters
    ----------
    labels : (m,)
        Labels of the rows, 0 or 1.
    scores : (m − window + 1,)
        One finite score per window, such as those of `window_scores`.
    window : int
        Steps in a window; also the window of Range-AUC and the longest one of VUS.

    Returns
    -------
    dict
        precision, recall and f1_score at the threshold that is best on these very labels, the lowest
        of equally good ones, where a window *at* the threshold is predicted; aupr and roc_auc of the
        scores. The other six take the prediction score > threshold for a score, without the windows
        at the threshold. No constant exceeds its threshold: the prediction is 0 everywhere, Range-AUC
        and VUS are those of a constant (1.0 where events lie close together), Affiliation_Precision
        is NaN and Affiliation_Recall 0.

    Raises
    ------
    ValueError
        For bad labels or another number of scores; if all windows have the same label.

    Warns
    -----
    UserWarning
        If the scores themselves have two distinct values or fewer.

    Examples
    --------
    >>> evaluate([0, 0, 0, 0, 1, 0], [0.2, 0.1, 0.3, 0.9, 0.4], window=2)["f1_score"]
    1.0
    """
    truth, n_scores = window_labels(labels, window), np.shape(scores)
    if n_scores != truth.shape:
        raise ValueError(f"scores must be one per window, {truth.shape}, got shape {n_scores}")
    if truth.all() or not truth.any():
        raise ValueError(f"all windows of {window} rows have the same label, {int(truth[0])}")
    truth, values = labels_and_scores(truth, scores)
    precision, recall, thresholds = sklearn_metrics.precision_recall_curve(truth, values)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    best = int(np.argmax(f1))
    predicted = values > thresholds[best]
    # the unchecked forms take a prediction for a score without a warning
    rank = ranked(truth, predicted.astype(float))
    around = _around(rank, window, n_thresholds=250)
    range_auc, vus = _range_auc(around, window), _vus(around, window)
    affiliation = _affiliation(rank.bounds, predicted)
    return {
        "precision": float(precision[best]),
        "recall": float(recall[best]),
        "f1_score": float(f1[best]),
        "aupr": float(sklearn_metrics.average_precision_score(truth, values)),
        "roc_auc": float(sklearn_metrics.roc_auc_score(truth, values)),
        "R_AUC_ROC": range_auc.roc,
        "R_AUC_PR": range_auc.pr,
        "VUS_ROC": vus.roc,
        "VUS_PR": vus.pr,
        "Affiliation_Precision": affiliation.precision,
        "Affiliation_Recall": affiliation.recall,
    }


RESULTS = (  # columns of the release's file, in its order
    *("precision", "recall", "f1_score", "aupr", "roc_auc", "R_AUC_ROC", "R_AUC_PR"),
    *("VUS_ROC", "VUS_PR", "Affiliation_Precision", "Affiliation_Recall"),
)
OF_ONE_SERIES = ("PSM", "PSM_excerpt")  # the release names the entity of such a data set "All-data"


def results_table(table: pd.DataFrame) -> pd.DataFrame:
    """Runs of one detector on one data set, as the file that the released solver writes.

    Its README averages the columns of that file, so ``results_table(table).to_csv(path, index=False)``
    is a file that its lines read.

    Parameters
    ----------
    table : rows of `madcluster.study.benchmark`
        Of one data set and of one detector with one seed, so that an entity is there once.

    Returns
    -------
    fname, which is the entity, and the eleven metrics. A run that failed has a row without metrics, so
    a mean over the file is that of the others.

    Raises
    ------
    ValueError
        If the table has no row or no such columns, has several data sets, or an entity twice.
    """
    needed = ["dataset", "entity", *RESULTS]
    if missing := [name for name in needed if name not in table]:
        raise ValueError(f"the table has no column {missing}")
    names = sorted(table["dataset"].unique())
    if len(names) != 1:
        raise ValueError(f"the table must be of one data set, got {names}")
    if (twice := table["entity"][table["entity"].duplicated()]).size:
        raise ValueError(
            f"the table must be of one detector and seed, but has {twice.iloc[0]} more than once"
        )
    entity = "All-data" if names[0] in OF_ONE_SERIES else table["entity"]
    return table.assign(fname=entity)[["fname", *RESULTS]].reset_index(drop=True)


def clustering_loss(q: Tensor, threshold: Tensor | float, smoothing: float = 0.01) -> Tensor:
    """KL(p‖q) plus the One-directed Adaptive loss with smoothed labels, as released; elementwise.

    The target is normalized over one cluster: p = 1 for every q. So KL(p‖q) is −log q, f1 is used on
    both sides of the threshold, and smoothing gives f2 its weight:

        −log q − (1 − smoothing)·log f1 − smoothing·log f2.

    The slope of f1 is taken in the plain form, which loses its digits near a threshold of 1. Nothing
    bounds the threshold: beyond 1 the loss goes on, at 1 it is NaN.
    """
    nu = torch.as_tensor(threshold, dtype=q.dtype, device=q.device)
    q = q.clamp_min(LEAST)
    f1 = (1 - nu ** (1 - nu)) / (1 - nu) * (q - nu) + nu ** (1 - nu)
    log_f1, log_f2 = (f.clamp_max(MOST).log() for f in (f1, q ** (1 - nu)))
    return -q.log() - (1 - smoothing) * log_f1 - smoothing * log_f2


class ReleasedWiring(Embedder):
    """DCdetector and MADCluster as the release joins them; fit it with `head=False`.

    The head sees the tokens of the raw window: one convolution and a positional encoding. No parameter
    of the attention maps takes part in that, nor in the score.

    Parameters
    ----------
    n_channels, window, d, n_heads, n_layers, patch_sizes
        See `madcluster.models.DCdetector`.
    head : bool
        False is the released baseline: the maps and their loss alone.
    threshold : float
        Where ν starts. It is a raw parameter and can leave (0, 1).
    smoothing : float
        Weight of f2 in the loss, in [0, 1).
    outer_log : bool
        Train on the log of the head's loss, as released.
    objective : "one-class" or "soft-boundary"
    nu : float
        Fraction of steps outside the radius, in (0, 1); for "soft-boundary" alone. The radius is taken
        anew before each epoch, here from the train split; as released, from the test split.
    train_maps : bool
        False spares the loss of the maps beside the head. It is nearly all of the time of a fit, and
        scores are the same without it, bit for bit.

    Raises
    ------
    ValueError
        If an argument is out of its range, or a window has another length.

    Notes
    -----
    Loss: log of the mean over windows of Σ_t (D + `clustering_loss`), plus DCdetector's own, whose
    value is 0. D is ‖h − c‖², or `madcluster.loss.soft_boundary` of it. The center starts as a sample
    of N(0, 2/d).

    Score: the mean clustering loss of the window times 1/window, which is what a softmax over the steps
    of a window gives when it is averaged over the same steps; the distance is not in it. Without the
    head it is that mean of a softmax, and all that varies is rounding. Every step of a window has the
    same score.

    The maps are those of `DCdetector`, which normalizes the window and takes one position of every
    patch as a token, and are trained without dropout. The release does none of the three; no score
    depends on them.

    Examples
    --------
    >>> from madcluster import MADCluster, synthetic
    >>> series = synthetic(n_train=600, n_test=800, n_channels=4, seed=0)
    >>> wiring = ReleasedWiring(4, window=100, d=16)
    >>> detector = MADCluster(wiring, head=False, epochs=1, stride=20).fit(series.train)
    >>> window_scores(detector.model_, detector.scaler_.transform(series.test), window=100).shape
    (701,)
    """

    def __init__(
        self,
        n_channels: int,
        *,
        window: int,
        d: int = 256,
        n_heads: int = 1,
        n_layers: int = 3,
        patch_sizes: Sequence[int] | None = None,
        head: bool = True,
        threshold: float = 0.5,
        smoothing: float = 0.01,
        outer_log: bool = True,
        objective: Objective = "one-class",
        nu: float = 0.01,
        train_maps: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must lie in (0, 1), got {threshold}")
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1), got {smoothing}")
        check_one_of("objective", objective, get_args(Objective))
        check_number("nu", nu, 0, 1)
        if not (head or train_maps):
            raise ValueError("train_maps must be True without the head: nothing else is trained")
        self.detector = DCdetector(
            n_channels,
            window=window,
            d=d,
            n_heads=n_heads,
            n_layers=n_layers,
            patch_sizes=patch_sizes,
        )
        self.d, self.window, self.smoothing = d, window, smoothing
        self.outer_log, self.train_maps = outer_log, train_maps
        self.objective, self.nu = objective, nu
        self.center: nn.Parameter | None = None
        if head:
            self.center = nn.Parameter(torch.randn(1, d) * (2 / d) ** 0.5)
            self.threshold = nn.Parameter(torch.full((1,), threshold))
            self.register_buffer("squared_radius", torch.zeros(()))
            self.squared_radius: Tensor

    def forward(self, x: Tensor) -> Embedding:
        if x.shape[1] != self.window:
            raise ValueError(f"expected windows of {self.window} steps, got {x.shape[1]}")
        h = functional.dropout(self.detector.tokens(x), DROPOUT, self.training)  # (b t d)
        if self.center is None:
            _, loss, discrepancy, parts = self.detector(x)
            score = (-TEMPERATURE * discrepancy).softmax(1).mean(1, keepdim=True)  # (b 1)
            return Embedding(h, loss, score.expand(h.shape[:2]), parts)
        distance, q = distance_and_cosine(h, self.center)  # (b t)
        if self.objective == "soft-boundary":
            distance = soft_boundary(distance, self.squared_radius, self.nu)
        cluster = clustering_loss(q, self.threshold, self.smoothing)
        loss = (distance + cluster).sum(1).mean()
        loss = (loss + 1e-8).log() if self.outer_log else loss
        parts = {"distance": distance, "cluster": cluster, "threshold": self.threshold}
        parts = {name: value.detach().mean() for name, value in parts.items()}
        if self.training and self.train_maps:  # a game of value 0, which no score needs
            own = self.detector(x)
            loss, parts = loss + own.loss, {**own.parts, **parts}
        score = cluster.mean(1, keepdim=True) / self.window  # (b 1)
        return Embedding(h, loss, score.expand_as(cluster), parts)

    @torch.no_grad()
    def prepare(self, batches: Iterable[Tensor], epoch: int) -> None:
        self.detector.prepare(batches, epoch)
        if self.center is not None and self.objective == "soft-boundary":
            tokens = (self.detector.tokens(x) for x in batches)
            distances = [distance_and_cosine(h, self.center)[0].flatten() for h in tokens]
            self.squared_radius.copy_(radius(torch.cat(distances), self.nu))

    def no_decay(self) -> list[nn.Parameter]:
        return [] if self.center is None else [self.threshold]

    def anchors(self) -> Tensor | None:
        return self.center
