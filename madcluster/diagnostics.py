"""Is the network still telling windows apart? Four numbers, and a warning in words.

A one-class loss is lowest where all embeddings are the same, and it does not say so. These numbers do.
They are taken on one fixed batch that is not trained on, once before the first step and after every
epoch; `madcluster.training.fit` writes them into the rows of its `History`:

- `variance_ratio`: total variance of the embeddings, relative to the start
- `effective_rank`: in how many directions they vary
- `distinct_scores`: how many different scores the batch has
- `center_distance`: mean ‖h − c‖², where the model has centers

A head that is trained by contrast gives a fifth: a loss on held-out windows that no collapsed network
can have, its `Certificate`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import torch
from scipy import stats
from torch import Tensor

from madcluster.arguments import check_number, check_whole, outside
from madcluster.loss import distance_mapping
from madcluster.models.base import Embedder
from madcluster.randomness import undisturbed

__all__ = [
    "Certificate",
    "CollapseWarning",
    "Monitor",
    "Spread",
    "effective_rank",
    "spread",
    "total_variance",
    "variance_ratio",
]

# below these a fit warns; of 169 fits of benchmarks/defaults.py none came below a ratio of .012, and
# those near it ranked no worse than the others
LEAST_RATIO = 5e-3
LEAST_RANK = 1.05
LEAST_DISTINCT = 0.1  # of the distinct scores at the start
WINDOWS = 64  # of the batch that is looked at


class CollapseWarning(UserWarning):
    """A model has lost most of what told windows apart."""


def _centered(h: Tensor) -> Tensor:
    """Embeddings (… d) less their mean, (n d) in float64; what is rounding of `h` alone becomes 0."""
    if h.ndim < 2 or h.shape[-1] == 0 or h[..., 0].numel() == 0:
        raise ValueError(f"embeddings must be (… d) and not empty, got shape {tuple(h.shape)}")
    if not torch.isfinite(h).all():
        raise ValueError("embeddings hold NaN or infinite values")
    rounding = 4 * torch.finfo(h.dtype).eps * h.detach().abs().amax().double()
    flat = h.detach().flatten(0, -2).double()
    centered = flat - flat.mean(0)
    return torch.where(centered.abs().amax(0) <= rounding, 0.0, centered)


def total_variance(h: Tensor) -> float:
    """Variance of embeddings (… d) over all steps and windows, summed over d.

    The mean is taken off first: a cloud that is moved has the variance it had. What differs by no more
    than four rounding units of the largest entry counts as equal.

    Raises
    ------
    ValueError
        If `h` is empty or not finite.
    """
    return _centered(h).square().mean(0).sum().item()


def variance_ratio(h: Tensor, start: Tensor) -> float:
    """Total variance of embeddings (… d), relative to that of the same windows at the start.

    1 is no change, 0 is one point. Without any variance at the start it is NaN.

    Examples
    --------
    >>> h = torch.randn(8, 100, 16)
    >>> round(variance_ratio(3 + 0.1 * h, h), 6)
    0.01
    """
    before = total_variance(start)
    return total_variance(h) / before if before > 0 else float("nan")


def effective_rank(h: Tensor) -> float:
    """exp of the entropy of the spectrum of the covariance of embeddings (… d).

    With λ_j the eigenvalues of the covariance and p_j = λ_j / Σλ, it is exp(−Σ p_j log p_j): m equal
    eigenvalues and no others give m. This is the effective rank of Roy and Vetterli (EUSIPCO 2007)
    of the covariance matrix, whose singular values are its eigenvalues. It lies in [1, d], is the same
    for h and αh + b, and is 0 for a constant embedding, which varies in no direction.

    Raises
    ------
    ValueError
        If `h` is empty or not finite.
    """
    centered = _centered(h)
    scale = centered.abs().amax()
    if scale == 0:
        return 0.0
    centered = centered / scale  # squares of tiny numbers would underflow
    eigenvalues = torch.linalg.eigvalsh(centered.mT @ centered).clamp_min(0)
    return torch.special.entr(eigenvalues / eigenvalues.sum()).sum().exp().item()


class Certificate(NamedTuple):
    """A loss by which a score tells normal windows from corrupted ones, where nothing was learned.

    Of windows that do not overlap, each with its corrupted copies, and of a fixed function u of a step,
    the logarithm of its score, it is the mean of

        softplus(u − b) + softplus(b − ũ)

    over corrupted steps, with ũ of the corrupted step and u of the same step of the window as it was.
    If u and ũ have one law, then the mean is that of softplus(v) + softplus(−v), v = u − b, which is
    at least 2 log 2 for every v: so it is for a score that is a constant, for one that depends on where
    a step stands in its window and not on the rows, and for any other that corruptions leave as it is.
    A loss below 2 log 2 says that the score has not collapsed. It does not say that it ranks other
    anomalies well.

    Attributes
    ----------
    loss : float or None
        The mean; None without any window.
    error : float or None
        Its standard error over windows; None for fewer than two.
    windows : int
        How many there are.
    """

    loss: float | None
    error: float | None
    windows: int

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From the values of a file.

        Raises
        ------
        KeyError, ValueError
            If they are none of a certificate.
        """
        loss, error = (
            None if values[name] is None else check_number(name, values[name], 0, ends="[)")
            for name in ("loss", "error")
        )
        return cls(loss, error, check_whole("windows", values["windows"], 0))

    @property
    def bound(self) -> float:
        """2 log 2, 1.386: what no collapsed score is below."""
        return 2 * math.log(2)

    @property
    def limit(self) -> float:
        """Upper limit of the mean, one-sided, 95 % by Student's t over windows; infinite without any.

        Windows that follow each other are not independent: the level holds about, not exactly.
        """
        if self.loss is None or self.error is None:
            return math.inf
        return self.loss + float(stats.t.ppf(0.95, self.windows - 1)) * self.error

    @property
    def holds(self) -> bool:
        """Whether the limit is below the bound."""
        return self.limit < self.bound

    def warn(self) -> None:
        """Say so if it does not hold.

        Warns
        -----
        CollapseWarning
        """
        if self.holds:
            return
        found = f"there the loss is {self.loss:.3f}, " if self.loss is not None else ""
        limit = f"its limit {self.limit:.3f}, " if math.isfinite(self.limit) else ""
        warnings.warn(
            f"nothing certifies that the score has not collapsed: {found}{limit}not below 2 log 2 = "
            f"{self.bound:.3f}, on {self.windows} held-out windows. Give longer rows or a shorter "
            f"window, train for more epochs, or take another embedder",
            CollapseWarning,
            stacklevel=outside(),
        )


class Spread(NamedTuple):
    """How far a batch of embeddings and its scores are spread out."""

    variance: float  # total, over steps and windows
    effective_rank: float
    distinct_scores: int | None  # None where the model has no score
    center_distance: float | None  # mean ‖h − c‖² to the nearest center; None without centers


@torch.no_grad()
def spread(model: Embedder, x: Tensor) -> Spread:
    """Measure a model on windows x (b t c), as it is in eval mode; its mode and the random state stay.

    Raises
    ------
    ValueError
        If the embeddings are not finite.
    """
    was_training = model.training
    model.eval()
    # some models draw noise in forward: training must not depend on whether somebody looks
    with undisturbed(x.device):
        out = model.scored(x)
    model.train(was_training)
    centers = model.anchors()
    return Spread(
        total_variance(out.h),
        effective_rank(out.h),
        None if out.score is None else len(out.score.unique()),
        None if centers is None else distance_mapping(out.h, centers).amin(-1).mean().item(),
    )


class Monitor:
    """Watch one batch of windows through a training.

    Parameters
    ----------
    model : Embedder
        As it is before the first step.
    x : (b t c)
        Windows that are not trained on, best taken from all of the held-out rows.
    """

    def __init__(self, model: Embedder, x: Tensor) -> None:
        self.model, self.x = model, x
        self.start = spread(model, x)

    def row(self) -> dict[str, float]:
        """The numbers of now, by the names at the top of this module."""
        now = spread(self.model, self.x)
        before = self.start.variance
        row = {
            "variance_ratio": now.variance / before if before > 0 else float("nan"),
            "effective_rank": now.effective_rank,
        }
        if now.distinct_scores is not None:
            row["distinct_scores"] = now.distinct_scores
        if now.center_distance is not None:
            row["center_distance"] = now.center_distance
        return row

    def warn(self, row: dict[str, float]) -> None:
        """Say which number of a row has fallen out of its range, and what to try.

        Warns
        -----
        CollapseWarning
            If the variance fell below 5e-3 of its start, the embeddings of several directions
            came to lie on a line, or nine of ten distinct scores were lost.
        """
        ratio, rank = row["variance_ratio"], row["effective_rank"]
        distinct, at_start = row.get("distinct_scores"), self.start.distinct_scores
        found = []
        if ratio < LEAST_RATIO:
            found.append(f"the variance ratio is {ratio:.1e} (below {LEAST_RATIO:.0e})")
        if rank < LEAST_RANK < self.start.effective_rank / 2:
            found.append(
                f"the effective rank is {rank:.2f}, at the start it was "
                f"{self.start.effective_rank:.1f}"
            )
        if distinct is not None and at_start and distinct < LEAST_DISTINCT * at_start:
            found.append(f"{distinct:.0f} scores are distinct, at the start {at_start} were")
        if found:
            warnings.warn(
                f"the embeddings have nearly collapsed: {'; '.join(found)}. Such a model may still "
                f"rank, but little is left to rank by: train for fewer epochs, lower lr, use "
                f"outer_log=False, or take an encoder without bias",
                CollapseWarning,
                stacklevel=outside(),
            )
