"""A head that learns to tell normal windows from corrupted ones, by a Mahalanobis distance."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from madcluster.arguments import check_number
from madcluster.diagnostics import Certificate
from madcluster.heads.base import BaseHead, Embed, Score, WithHead, population
from madcluster.heads.corruption import CORRUPTIONS, check_corruptions, corrupted

__all__ = ["ContrastiveHead", "contrast", "shrunk_distance"]

DRAWS = 4  # corrupted copies of a held-out window
MOST = 1024  # windows that a certificate looks at, of each split
BATCH = 256
SEED = 0  # of corruptions in eval mode: a loss on held-out windows is the same whenever it is asked for


def shrunk_distance(h: Tensor, eps: float) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """M(y) = (y − m)ᵀ C_ε⁻¹ (y − m), by the mean m and the covariance C of embeddings h.

    C_ε = C + ε (tr C / d) I, so that a direction in which h hardly varies does not decide alone. It
    follows that

    - M is the same for h → αQh + v and y → αQy + v, with α ≠ 0 and Q orthogonal: C becomes α²QCQᵀ and
      tr C becomes α² tr C, which cancels. Shrinking pays nothing
    - the mean of M over h itself is tr(C C_ε⁻¹) = Σ λ_j / (λ_j + ε λ̄) < d, at any scale, with λ_j the
      eigenvalues of C and λ̄ their mean

    Parameters
    ----------
    h : (… d)
        What does not differ by more than four rounding units of its largest entry counts as equal.
    eps : float
        ε, a share.

    Returns
    -------
    M, a function (… d) → (…), and its mean over h. Gradients reach h through m and C too.
    """
    flat = h.flatten(0, -2)  # (n d)
    m, d, of = flat.mean(0), flat.shape[-1], torch.finfo(h.dtype)
    gap = flat - m
    least = (4 * of.eps * flat.detach().abs().amax()).clamp_min(of.tiny**0.25)
    # clamped before the root, whose slope at 0 is infinite
    unit = gap.square().mean().clamp_min(least**2).sqrt()
    gap = gap / unit
    # of size d: a double costs nothing beside the products of n
    covariance, eye = (gap.mT @ gap / len(gap)).double(), torch.eye(d).to(h.device).double()
    factor = torch.linalg.cholesky(covariance + eps * eye)
    root = torch.linalg.solve_triangular(factor, eye, upper=False)  # C_ε⁻¹ = rootᵀ root
    mean = (root @ covariance @ root.mT).diagonal().sum().to(h.dtype)
    white = (root.to(h.dtype) / unit).mT  # (d d)

    def distance(y: Tensor) -> Tensor:
        return ((y - m) @ white).square().sum(-1)

    return distance, mean


def contrast(u: Tensor, other: Tensor, border: Tensor, changed: Tensor) -> Tensor:
    """softplus(u − b) + softplus(b − ũ), the mean over the corrupted steps of each window.

    Both terms are of the same steps. So a u that knows where a step stands, and nothing of the rows,
    has ũ = u there and a loss of at least 2 log 2, as softplus(v) + softplus(−v) is at least 2 log 2
    (also proved by ball arithmetic, `madcluster.study.certificate.CONTRAST`).

    Parameters
    ----------
    u, other : (b t)
        Logarithms of the score, of windows and of their corrupted copies.
    border : ()
        b.
    changed : (b t) bool
        The corrupted steps; all steps of a window in which there is none.

    Returns
    -------
    (b,), one loss for each window.
    """
    weight = torch.where(changed.any(1, keepdim=True), changed, True).to(u.dtype)  # (b t)
    of_steps = softplus(u - border) + softplus(border - other)
    return (weight * of_steps).sum(1) / weight.sum(1)


class ContrastiveHead(BaseHead):
    """Normal steps near, corrupted ones far, by the Mahalanobis distance of a batch.

    With M(h) = (h − m)ᵀ C_ε⁻¹ (h − m), m and C the mean and covariance of the normal embeddings of a
    batch, and h̃ an embedding of a corrupted copy x̃ of the windows (`corrupted`), the loss is

        L = E softplus(log(M(h) + δ) − b) + E softplus(b − log(M(h̃) + δ)),

    logistic regression on log M with a learned border b. Why it cannot collapse unseen:

    1. M does not see scale, rotation and place of the embeddings (`shrunk_distance`): there is nothing
       to win by shrinking them, by moving a center, or by growing.
    2. The mean of M over normal steps is tr(C C_ε⁻¹) ≤ d for every network, so the first term cannot be
       won by a covariance that swallows all.
    3. If M has one law on normal and corrupted steps, as of a constant h, L ≥ 2 log 2 (`contrast`). A
       loss below that on windows that were not learned is a certificate that the network has not
       collapsed; it is reported after every fit (`Certificate`).

    The score is the Mahalanobis distance to all training embeddings, taken once after training
    (`WithHead`), so scoring costs what it does for the score "mahalanobis" of any head.

    One-class learning against transformed data is older: NeuTraL AD, and for time series the injected
    anomalies of CARLA (2308.09296); the mean-shifted contrastive loss (2106.03844) has a frozen center.
    W-MSE whitens, and VICReg and COCA bound variances, to prevent collapse without negatives. Here the
    distance itself is whitened, and the loss has a value that names a collapse.

    Parameters
    ----------
    d : int
        Embedding size.
    eps : float
        ε, the share of the mean variance that is added to every direction.
    delta : float
        δ, what keeps the logarithm finite; M is about d in the mean.
    kinds : names of `madcluster.heads.corruption.CORRUPTIONS`
        What corrupted windows are made by; all by default.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """

    own_score: ClassVar[Score] = "mahalanobis"

    def __init__(
        self,
        d: int,
        *,
        eps: float = 1e-3,
        delta: float = 1e-2,
        kinds: Collection[str] = CORRUPTIONS,
    ) -> None:
        super().__init__()
        self.d = d
        self.eps, self.delta = check_number("eps", eps, 0), check_number("delta", delta, 0)
        self.kinds = check_corruptions(kinds)
        self.border = nn.Parameter(torch.tensor(math.log(d)))

    def losses(
        self, read: Tensor, x: Tensor, h: Tensor, embed: Embed
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        other, changed = corrupted(x, self.kinds, generator=self._generator())
        distance, mean = shrunk_distance(h, self.eps)
        u, of_other = (torch.log(distance(y) + self.delta) for y in (h, embed(other)))
        total = contrast(u, of_other, self.border, changed).mean()
        return total, {"contrast": total, "normal_distance": mean, "border": self.border}

    def _generator(self) -> torch.Generator | None:
        """Torch's own in training, which a fit has seeded; one that begins anew in eval mode."""
        return None if self.training else torch.Generator().manual_seed(SEED)

    def prepare(self, batches: Iterable[Tensor], embed: Embed, epoch: int) -> None:
        """The border starts at the mean distance of the training embeddings."""
        if epoch > 0:
            return
        # every tenth step says enough about them
        _, values, _ = population(
            lambda: (embed(x)[:, ::10].flatten(0, 1).double() for x in batches)
        )
        values = values.clamp_min(0)
        shares = values / (values + self.eps * values.mean() + torch.finfo(torch.float64).tiny)
        self.border.copy_(torch.log(shares.sum() + self.delta))

    def certify(self, model: WithHead, seen: Tensor, held_out: Tensor) -> Certificate:
        """By the score of the model; the border is chosen on windows that were learned."""
        if not len(held_out):
            return Certificate(None, None, 0)
        generator = torch.Generator().manual_seed(SEED)

        def pairs(windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """What `contrast` compares, with a corrupted copy of each window."""
            other, changed = corrupted(windows, self.kinds, generator=generator)
            u, of_other = (self._logarithms(model, each) for each in (windows, other))
            return u, of_other, changed

        u, other, changed = pairs(_some(seen))
        border = _best_border(u, other, changed)
        losses = torch.zeros((), dtype=u.dtype, device=u.device)
        for _ in range(DRAWS):
            u, other, changed = pairs(_some(held_out))
            losses = losses + contrast(u, other, border, changed) / DRAWS  # (m,)
        n = len(losses)
        return Certificate(
            losses.mean().item(), (losses.std() / n**0.5).item() if n > 1 else None, n
        )

    def _logarithms(self, model: WithHead, windows: Tensor) -> Tensor:
        """log(score + δ) of every step, (b t).

        An embedder's own score may be negative, as a negative log likelihood is: the logarithm goes on
        as an odd function about a score of 0, so it still rises.
        """
        parts = []
        for x in windows.split(BATCH):
            score = model.scored(x).score
            assert score is not None
            score = score.double()
            parts.append(
                score.sign() * torch.log1p(score.abs() / self.delta) + math.log(self.delta)
            )
        return torch.cat(parts)

    def no_decay(self) -> list[nn.Parameter]:
        return [self.border]


def _some(windows: Tensor) -> Tensor:
    """Not more than `MOST` of them, at equal distances."""
    return windows[:: max(1, math.ceil(len(windows) / MOST))]


def _best_border(u: Tensor, other: Tensor, changed: Tensor) -> Tensor:
    """The border with the least loss, by halving: the loss is convex in it."""
    low, high = min(u.min(), other.min()), max(u.max(), other.max())
    for _ in range(60):
        middle = ((low + high) / 2).detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(contrast(u, other, middle, changed).mean(), middle)
        low, high = (low, middle.detach()) if slope > 0 else (middle.detach(), high)
    return (low + high) / 2
