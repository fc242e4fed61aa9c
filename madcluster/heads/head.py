"""The MADCluster head (arXiv 2505.16223)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from madcluster import loss
from madcluster.arguments import check_flag, check_number, check_one_of, check_whole
from madcluster.heads.base import BaseHead, Embed, Score
from madcluster.models.base import array_of
from madcluster.models.deepsvdd import away_from_zero

__all__ = [
    "Assignment",
    "Guard",
    "Head",
    "Objective",
    "Terms",
    "variance_floor",
]

Objective = Literal["one-class", "soft-boundary"]
Guard = Literal["none", "variance-floor"]
Terms = Literal["both", "distance", "cluster"]

MOST = 50_000  # embeddings that k-means sees
TINY = float(np.finfo(np.float32).tiny)  # the least q
MARGIN = 1e-6  # the threshold stays this far from 0 and 1, also where a float32 sigmoid saturates


class Assignment(NamedTuple):
    """What the head says of a batch of embeddings."""

    distance: Tensor  # (b t), squared, to the nearest center
    q: Tensor  # (b t k), similarity to each center
    cluster: Tensor  # (b t), clustering loss of each step


def variance_floor(h: Tensor, start: Tensor, *, floor: float = 0.5, weight: float = 10.0) -> Tensor:
    """λ max(0, log γ − ½ log(V / V₀)): the penalty for less variance than a part of that at the start.

    Parameters
    ----------
    h : (b t d)
        Embeddings of a batch. V is their variance over steps and windows, summed over d.
    start : ()
        V₀, the same before training. Without any there is no floor.
    floor, weight : float
        γ, a share of the standard deviation, and λ.

    Returns
    -------
    (). VICReg keeps embeddings apart by a hinge on standard deviations (Bardes et al., ICLR 2022), and
    Chong et al. (IJCNN 2020) penalize a small variance of the mini-batch in one-class learning. The
    logarithm is ours. The head trains on log mean(D + L), which falls by up to 2 for every factor e by
    which embeddings and centers shrink together. This grows by λ, from whatever size, so for λ > 2
    shrinking below the floor never pays; a hinge on σ itself loses its pull as σ goes to 0.
    """
    if not start > 0:
        return h.new_zeros(())
    variance = h.flatten(0, -2).var(0, correction=0).sum()
    ratio = (variance / start).clamp_min(torch.finfo(h.dtype).tiny)
    return weight * torch.relu(math.log(floor) - ratio.log() / 2)


class Head(BaseHead):
    """Cluster Distance Mapping and Sequence-wise Clustering on embeddings (b t d).

    Parameters
    ----------
    d : int
        Embedding size.
    k : int
        Clusters. k = 1 uses the cosine, a learned threshold and the One-directed Adaptive loss:
        d + 1 parameters. k > 1 uses Student's t, a sharpened target and KL(P‖Q): k·d parameters.
    objective : "one-class" or "soft-boundary"
    nu : float
        Fraction of training steps outside the radius; for "soft-boundary" alone.
    threshold : float
        Where the learned threshold starts, in (0, 1). It is bounded: ν = sigmoid(θ), kept off the
        ends, so no step of an optimizer can carry it out of (0, 1).
    label_smoothing : float
        Of the One-directed Adaptive loss, in [0, 1/2]; the release has 0.01. For
        training alone: the score is that of the hard label.
    terms : "both", "distance" or "cluster"
        Train on D + L, or on one of the two alone.
    outer_log : bool
        Train on log(mean(D + L)), as the release does, or on mean(D + L).
    guard : "none" or "variance-floor"
        Keep the embeddings from collapsing, see `variance_floor`. In eval mode the loss is that
        without the guard. Evidence (book/guards, book/results/collapse.csv; three embedders, five
        series, ten seeds or more, short trainings): the variance of held-out embeddings stays above a
        tenth of its start in every run, though the proof needs more: that the loss is not above its
        start on the same windows, and λ > 2. With the score "head" the ranking is lower in the mean and
        on four of five series, with "mahalanobis" the two are not told apart; five series decide
        little. Therefore it is not the default.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """

    scores: ClassVar[tuple[Score, ...]] = ("head", "distance", "cluster")

    def __init__(
        self,
        d: int,
        *,
        k: int = 1,
        objective: Objective = "one-class",
        nu: float = 0.01,
        threshold: float = 0.5,
        label_smoothing: float = 0.0,
        terms: Terms = "both",
        outer_log: bool = True,
        guard: Guard = "none",
    ) -> None:
        super().__init__()
        k = check_whole("k", k)
        check_one_of("objective", objective, get_args(Objective))
        threshold = check_number("threshold", threshold, 0, 1)
        if not MARGIN < threshold < 1 - MARGIN:
            raise ValueError(
                f"threshold must not lie so close to an end of (0, 1), got {threshold}"
            )
        check_number("nu", nu, 0, 1)
        check_one_of("guard", guard, get_args(Guard))
        check_one_of("terms", terms, get_args(Terms))
        check_flag("outer_log", outer_log)
        check_number("label_smoothing", label_smoothing, 0, 0.5, ends="[]")
        self.d, self.k, self.objective, self.nu, self.outer_log = d, k, objective, nu, outer_log
        self.terms, self.label_smoothing = terms, label_smoothing
        self.guard = guard
        self.centers = nn.Parameter(torch.randn(k, d))
        self.theta: nn.Parameter | None = None
        if k == 1:
            start = (torch.tensor(threshold) - MARGIN) / (1 - 2 * MARGIN)
            self.theta = nn.Parameter(torch.logit(start))
        self.register_buffer("squared_radius", torch.zeros(()))
        self.squared_radius: Tensor
        # needed while training alone: checkpoints hold what scoring needs
        self.register_buffer("start", torch.zeros(()), persistent=False)
        self.start: Tensor

    @property
    def threshold(self) -> Tensor | None:
        """ν, strictly inside (0, 1); None for k > 1."""
        return None if self.theta is None else MARGIN + (1 - 2 * MARGIN) * self.theta.sigmoid()

    def forward(self, h: Tensor) -> Assignment:
        threshold = self.threshold
        if threshold is not None:
            distance, q = loss.distance_and_cosine(h, self.centers)  # (b t)
            smoothing = self.label_smoothing if self.training else 0.0
            cluster = loss.one_directed_adaptive(q, threshold, smoothing=smoothing)
            return Assignment(distance, q.unsqueeze(-1), cluster)
        distance = loss.distance_mapping(h, self.centers).amin(-1)  # (b t)
        q = loss.student_t_assignment(h, self.centers)  # (b t k)
        return Assignment(distance, q, loss.cluster_divergence(q))

    def penalty(self, h: Tensor) -> Tensor | None:
        """What the guard adds to the training loss, (); None without a guard and in eval mode."""
        if self.guard == "none" or not self.training:
            return None
        return variance_floor(h, self.start)

    def objective_of(self, a: Assignment) -> Tensor:
        """The training loss of a batch, (), without the penalty of a guard."""
        distance = a.distance
        if self.objective == "soft-boundary":
            distance = loss.soft_boundary(distance, self.squared_radius, self.nu)
        parts = {"distance": distance, "cluster": a.cluster, "both": distance + a.cluster}
        total = parts[self.terms]  # (b t)
        return loss.log_mean(total) if self.outer_log else total.mean()

    def read(self, x: Tensor, h: Tensor, embed: Embed) -> Assignment:
        assigned: Assignment = self(h)
        return assigned

    def losses(
        self, read: Assignment, x: Tensor, h: Tensor, embed: Embed
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        total = self.objective_of(read)
        parts = {"distance": read.distance.mean(), "cluster": read.cluster.mean()}
        if self.threshold is not None:
            parts["threshold"] = self.threshold
        if (penalty := self.penalty(h)) is not None:
            parts["guard"] = penalty
            total = total + penalty
        return total, parts

    def score(self, read: Assignment, name: Score) -> Tensor:
        if name == "distance":
            return read.distance
        return read.cluster if name == "cluster" else read.distance + read.cluster

    def of_one_step(self) -> bool:
        """For k > 1 the target is that of a whole window."""
        return self.k == 1

    def score_of_steps(self, name: Score) -> Callable[[np.ndarray], np.ndarray] | None:
        if self.threshold is None:
            return None
        center = array_of(self.centers[0].double())  # (d)
        unit = center / max(float(center @ center), 1e-16) ** 0.5
        nu = self.threshold.item()
        slope = -math.expm1((1 - nu) * math.log(nu)) / (1 - nu)

        # the equations of `loss.distance_and_cosine` and `loss.one_directed_adaptive`, in float64,
        # which needs none of their care for digits; number by number, for NumPy takes ten times as
        # long for one
        def cluster(product: float, squared: float) -> float:
            q = min(max(0.5 + product / (2 * math.sqrt(max(squared, 1e-16))), TINY), 1.0)
            return max(-math.log1p(slope * (q - 1)), (nu - 1) * math.log(q))

        def score(h: np.ndarray) -> np.ndarray:  # (s d)
            gap = h - center
            distance: np.ndarray = np.vecdot(gap, gap)
            if name == "distance":
                return distance
            products = (h @ unit).tolist(), np.vecdot(h, h).tolist()
            found = np.array([*map(cluster, *products)])
            return found if name == "cluster" else distance + found

        return score

    def prepare(self, batches: Iterable[Tensor], embed: Embed, epoch: int) -> None:
        if epoch == 0:
            # every tenth step says enough about where the embeddings lie
            self.place(embed(x)[:, ::10] for x in batches)
        if self.objective == "soft-boundary":
            distances = [self(embed(x)).distance.flatten() for x in batches]
            self.squared_radius.copy_(loss.radius(torch.cat(distances), self.nu))

    def no_decay(self) -> list[nn.Parameter]:
        return [] if self.theta is None else [self.theta]

    def anchors(self) -> Tensor:
        return self.centers

    @torch.no_grad()
    def place(self, batches: Iterable[Tensor]) -> None:
        """Start the centers on batches of embeddings (… d): their mean, or k-means for k > 1.

        Their total variance is what a guard against collapse compares with. Sums in float64 are kept,
        not the embeddings; k-means sees a part of them, at equal distances.
        """
        count = 0
        around = total = squares = torch.zeros(self.d, dtype=torch.float64)
        seen: list[Tensor] = []
        step = 1  # between the embeddings that k-means sees
        for batch in batches:
            h = batch.flatten(0, -2).double()
            if count == 0:  # sums of squares about a point nearby lose no digits
                around = h.mean(0)
                total = squares = torch.zeros_like(around)
            count, total = count + len(h), total + (h - around).sum(0)
            squares = squares + (h - around).square().sum(0)
            if self.k > 1:
                seen.append(h[::step].cpu())
                if sum(map(len, seen)) > 2 * MOST:
                    seen, step = [torch.cat(seen)[::2].clone()], 2 * step
        mean = around + total / count
        self.start.copy_((squares / count - (total / count) ** 2).sum().clamp_min(0))
        if self.k == 1:
            self.centers.copy_(away_from_zero(mean[None].to(self.centers.dtype)))
            return
        seed = int(torch.randint(2**31, ()))
        points = torch.cat(seen).numpy()
        if len(points) < self.k:
            raise ValueError(f"k must not exceed the {len(points)} embeddings, got {self.k}")
        from sklearn.cluster import KMeans  # takes a while, and is for k > 1 alone

        means = KMeans(self.k, n_init=1, random_state=seed).fit(points)
        self.centers.copy_(torch.as_tensor(means.cluster_centers_))
