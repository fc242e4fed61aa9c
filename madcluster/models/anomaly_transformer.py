"""Anomaly Transformer (Xu et al., ICLR 2022, arXiv 2110.02642).

Attention of a step goes where the series repeats itself. An anomaly repeats nothing, so its attention
stays near itself, and comes to resemble a Gaussian around the step. Every layer therefore holds two
associations between steps (eq. 2): the *series* association S, ordinary attention, and the *prior* P, a
Gaussian kernel with a learned width. Their *association discrepancy* (eq. 3) is a symmetrized KL
divergence between rows of P and S.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import gelu

from madcluster.loss import cache_blocks, stacked
from madcluster.models.base import Embedder, Embedding
from madcluster.models.layers import TokenEmbedding, reverse_gradient

__all__ = [
    "AnomalyTransformer",
    "association_discrepancy",
    "discrepancy_of_width",
    "gaussian_association",
]

EPSILON = 1e-4  # added inside the logarithms by the authors' code


def gaussian_association(width: Tensor) -> Tensor:
    """Rows of a Gaussian in ``|i − j|``, normalized to sum to one (eq. 2); width (… t) → (… t t)."""
    # softmax of the exponent: the factor 1 / (sqrt(2π) σ) is the same for a whole row
    return (squared_distance(width) * (-0.5 / width.square())[..., None]).softmax(-1)


def squared_distance(like: Tensor) -> Tensor:
    """(i − j)² of all steps, for widths (… t); (t t)."""
    steps = torch.arange(like.shape[-1], dtype=like.dtype, device=like.device)
    return (steps[:, None] - steps).square()


def association_discrepancy(prior: Tensor, series: Tensor) -> Tensor:
    """KL(P‖S) + KL(S‖P) of every row (eq. 3); (… t t) → (… t)."""
    # Σ p (log p − log s) + Σ s (log s − log p) in one sum
    difference = (prior + EPSILON).log() - (series + EPSILON).log()
    return ((prior - series) * difference).sum(-1)


class _Discrepancy(torch.autograd.Function):
    """`_discrepancy` with a backward pass in blocks as well.

    What autograd would keep, about ten maps for each of S, is made again block by block: in a cache
    that costs less than reading it from memory.
    """

    @staticmethod
    def forward(width: Tensor, series: Tensor) -> Tensor:
        return _discrepancy(width, series)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        """Each row is by itself, so those of many are so many more rows."""
        width, series = stacked(info.batch_size, in_dims, inputs)
        rows = _Discrepancy.apply(width.flatten(0, 1), series.flatten(0, 1))
        return rows.view_as(width), 0

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor]:
        width, series = ctx.saved_tensors  # type: ignore[attr-defined]
        squared = squared_distance(width)
        grad_width, grad_series = torch.empty_like(width), torch.empty_like(series)
        for w, s, g, of_w, of_s in _blocks(width, series, grad, grad_width, grad_series):
            p = gaussian_association(w)
            gap, difference = p - s, (p + EPSILON).log() - (s + EPSILON).log()
            torch.div(gap, s + EPSILON, out=of_s).add_(difference).mul_(-g[..., None])
            # through the softmax to its exponent −(i − j)² / 2σ², of which (i − j)² / σ³ is the slope
            by_p = gap.div_(p + EPSILON).add_(difference)
            by_exponent = p * (by_p - (p * by_p).sum(-1, keepdim=True))
            torch.div((by_exponent * squared).sum(-1) * g, w**3, out=of_w)
        return grad_width, grad_series


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Pieces of tensors (n …), a few maps (t t) at a time."""
    size = tensors[0].shape[-1] ** 2
    return zip(*(cache_blocks(x, size) for x in tensors), strict=True)


def _discrepancy(width: Tensor, series: Tensor) -> Tensor:
    """Δ of rows with a Gaussian of that width; (n t) and (n t t) → (n t)."""
    return torch.cat(
        [association_discrepancy(gaussian_association(w), s) for w, s in _blocks(width, series)]
    )


def discrepancy_of_width(width: Tensor, series: Tensor) -> Tensor:
    """`association_discrepancy(gaussian_association(width), series)`, with no map of the prior kept.

    Parameters
    ----------
    width : (b g t)
    series : (b g t t)

    Returns
    -------
    (b g t). It can be differentiated once.
    """
    discrepancy = _Discrepancy.apply if torch.is_grad_enabled() else _discrepancy
    return discrepancy(width.flatten(0, 1), series.flatten(0, 1)).view_as(width)


class Associations(NamedTuple):
    """What one layer makes of its tokens."""

    output: Tensor  # (b t d)
    width: Tensor  # (b g t), of the prior
    series: Tensor  # (b g t t)


class Layer(nn.Module):
    """Anomaly attention and a feed-forward part, each with a residual and a normalization (eq. 1)."""

    def __init__(self, d: int, *, n_heads: int, d_ff: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query, self.value, self.out = (nn.Linear(d, d) for _ in range(3))
        self.key = nn.Linear(d, d, bias=False)  # a bias of the key adds the same to a whole row
        self.width = nn.Linear(d, n_heads)
        self.norm, self.last_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.up, self.down = nn.Linear(d, d_ff), nn.Linear(d_ff, d)

    def forward(self, x: Tensor) -> Associations:
        query, key, value = (
            rearrange(part(x), "b t (g e) -> b g t e", g=self.n_heads)
            for part in (self.query, self.key, self.value)
        )
        series = (query / math.sqrt(query.shape[-1]) @ key.mT).softmax(-1)  # (b g t t)
        # the authors' code bounds σ to (0, 2) this way
        raw = rearrange(self.width(x), "b t g -> b g t")
        width = 3 ** (torch.sigmoid(5 * raw) + 1e-5) - 1
        attended = rearrange(series @ value, "b g t e -> b t (g e)")
        x = self.norm(x + self.out(attended))
        x = self.last_norm(x + self.down(gelu(self.up(x))))
        return Associations(x, width, series)


class AnomalyTransformer(Embedder):
    """Reconstruction by a transformer whose attention plays a minimax game with a Gaussian prior.

    Parameters
    ----------
    n_channels, window : int
        c and t of the input.
    d, n_heads, n_layers, d_ff : int
        As published: 512, 8, 3, 512.
    weight : float
        λ of the discrepancy, as published 3.
    temperature : float
        Factor of the discrepancy in the score; 50 in the authors' code, 1 in eq. 6.

    Raises
    ------
    ValueError
        If `n_heads` does not divide `d`.

    Notes
    -----
    Loss (eq. 5): the two phases ‖x − x̂‖² + λ·Δ(P, S.detach) and ‖x − x̂‖² − λ·Δ(P.detach, S), Δ the mean
    discrepancy over layers, heads and steps, both in one backward pass as in the authors' code. So the
    prior approaches the series association, which moves away from it. Only the squared error,
    twice, averaged over steps and channels, shows in the value.

    Score of a step (eq. 6): softmax over the window of −Δ, times the squared error of the step.

    Embedding: the output of the last layer after its normalization, as the reconstruction reads it. The
    widths of the prior do not act on it, so the gradient of a head does not reach them.
    """

    def __init__(
        self,
        n_channels: int,
        *,
        window: int,
        d: int = 512,
        n_heads: int = 8,
        n_layers: int = 3,
        d_ff: int = 512,
        weight: float = 3.0,
        temperature: float = 50.0,
    ) -> None:
        super().__init__()
        if d % n_heads:
            raise ValueError(f"n_heads must divide d: got {n_heads} and {d}")
        self.d, self.window, self.weight, self.temperature = d, window, weight, temperature
        self.tokens = TokenEmbedding(n_channels, d, length=window)
        self.layers = nn.ModuleList(Layer(d, n_heads=n_heads, d_ff=d_ff) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d)
        self.decode = nn.Linear(d, n_channels)

    def forward(self, x: Tensor) -> Embedding:
        if x.shape[1] != self.window:
            raise ValueError(f"expected windows of {self.window} steps, got {x.shape[1]}")
        h = self.tokens(x)
        total = x.new_zeros(x.shape[:2])  # (b t)
        # in training: value of S, gradient turned round, so that one discrepancy plays both phases
        turned = reverse_gradient if self.training else nn.Identity()
        for layer in cast(Iterable[Layer], self.layers):
            h, width, series = layer(h)
            total = total + discrepancy_of_width(width, turned(series)).mean(1)
        discrepancy = total / len(self.layers)
        h = self.norm(h)
        error = (x - self.decode(h)).square().mean(-1)  # (b t)
        game = discrepancy.mean()
        of_score = discrepancy.detach() if self.training else discrepancy
        score = (-self.temperature * of_score).softmax(-1) * error
        parts = {"reconstruction": error.mean().detach(), "discrepancy": game.detach()}
        return Embedding(h, 2 * error.mean() + self.weight * (game - game.detach()), score, parts)
