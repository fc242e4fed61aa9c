"""Deep SVDD on windows (Ruff et al., Deep One-Class Classification, ICML 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, cast

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from madcluster import loss
from madcluster.models.base import Embedder, Embedding, Memory, array_of

__all__ = ["DeepSVDD", "OneClass", "away_from_zero"]


def away_from_zero(center: Tensor, epsilon: float = 0.1) -> Tensor:
    """Move coordinates in (−epsilon, epsilon) to ±epsilon.

    A unit whose target is zero is matched by zero weights, whatever the input.
    """
    sign = torch.where(center < 0, -1.0, 1.0).to(center.dtype)
    return torch.where(center.abs() < epsilon, sign * epsilon, center)


class DilatedConvolution(nn.Module):
    """One residual layer that sees `dilation` steps to either side; (b d t) → (b d t).

    No bias, no normalization and an unbounded activation: with any of them a constant map is easy to
    learn (Ruff et al., propositions 2 and 3). The edges are repeated, for zeros beyond the window
    would give its first and last steps embeddings of their own.
    """

    def __init__(self, d: int, *, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            d, d, 3, dilation=dilation, padding=dilation, padding_mode="replicate", bias=False
        )

    def forward(self, h: Tensor) -> Tensor:
        return h + leaky_relu(self.conv(h), 0.1)

    def inside(self) -> Tensor:
        """Weights (d 3d) on the neighbor before a step, the step, and the neighbor after it."""
        return torch.cat(self.conv.weight.unbind(-1), 1)

    def at_end(self) -> Tensor:
        """Weights (d 2d) on `dilation` steps before a window's last step, and on that step itself.

        There the edge is repeated, so the right neighbor of the last step is the step.
        """
        before, here, after = self.conv.weight.unbind(-1)
        return torch.cat([before, here + after], 1)


class OneClass(Embedder):
    """A network with the objective of Deep SVDD: to embed near a center that stays where it began.

    Subclasses define `embed`, (b t c) → (b t d).

    Parameters
    ----------
    d : int
        Embedding size.
    objective : "one-class" or "soft-boundary"
        Mean distance (eq. 4), or the radius objective (eq. 3).
    nu : float
        Fraction of training steps outside the radius; for "soft-boundary" alone.

    Raises
    ------
    ValueError
        For any other objective.

    Notes
    -----
    The center is the mean embedding of the training windows before the first step, moved away from
    zero. The score of a step is ‖h − c‖², less R² for "soft-boundary".
    """

    replaced_by_head = True

    def __init__(self, d: int, objective: Literal["one-class", "soft-boundary"], nu: float) -> None:
        super().__init__()
        if objective not in ("one-class", "soft-boundary"):
            raise ValueError(f"objective must be 'one-class' or 'soft-boundary', got {objective!r}")
        self.d, self.objective, self.nu = d, objective, nu
        self.register_buffer("center", torch.zeros(d))
        self.register_buffer("squared_radius", torch.zeros(()))
        self.center: Tensor
        self.squared_radius: Tensor

    def embed(self, x: Tensor) -> Tensor:
        """(b t c) → (b t d)."""
        raise TypeError(f"{type(self).__name__} must define embed(x (b t c)) -> (b t d)")

    def forward(self, x: Tensor) -> Embedding:
        h = self.embed(x)
        distance = loss.distance_mapping(h, self.center[None]).squeeze(-1)  # (b t)
        if self.objective == "one-class":
            return Embedding(h, distance.mean(), distance)
        outside = loss.soft_boundary(distance, self.squared_radius, self.nu)
        return Embedding(h, outside.mean(), distance - self.squared_radius)

    @torch.no_grad()
    def prepare(self, batches: Iterable[Tensor], epoch: int) -> None:
        if epoch == 0:
            sums, counts = zip(
                *((self.embed(x).mean(1).sum(0), len(x)) for x in batches), strict=True
            )
            self.center.copy_(away_from_zero(torch.stack(sums).sum(0) / sum(counts)))
        if self.objective == "soft-boundary":
            distances = [
                loss.distance_mapping(self.embed(x), self.center[None]).flatten() for x in batches
            ]
            self.squared_radius.copy_(loss.radius(torch.cat(distances), self.nu))

    def anchors(self) -> Tensor:
        return self.center[None]


class DeepSVDD(OneClass):
    """Bias-free dilated convolutions, trained to lie near a center that stays where it began.

    Parameters
    ----------
    n_channels : int
        c, channels of the input.
    d : int
        Embedding size.
    n_layers : int
        Layers of dilation 1, 2, 4, …; four layers see 15 steps to either side.
    objective : "one-class" or "soft-boundary"
        Mean distance (eq. 4), or the radius objective (eq. 3).
    nu : float
        Fraction of training steps outside the radius; for "soft-boundary" alone.

    Notes
    -----
    The center is the mean embedding of the training windows before the first step, moved away from
    zero. The score of a step is ‖h − c‖², less R² for "soft-boundary".
    """

    def __init__(
        self,
        n_channels: int,
        *,
        d: int = 64,
        n_layers: int = 4,
        objective: Literal["one-class", "soft-boundary"] = "one-class",
        nu: float = 0.01,
    ) -> None:
        super().__init__(d, objective, nu)
        self.inlet = nn.Conv1d(n_channels, d, 1, bias=False)
        self.layers = nn.Sequential(
            *(DilatedConvolution(d, dilation=2**i) for i in range(n_layers))
        )
        self.outlet = nn.Conv1d(d, d, 1, bias=False)

    def embed(self, x: Tensor) -> Tensor:
        h = self.outlet(self.layers(self.inlet(rearrange(x, "b t c -> b c t"))))
        return rearrange(h, "b d t -> b t d")

    def last_steps(self) -> Callable[[Tensor], Embedding]:
        """See `Embedder.last_steps`. A last step sees 2^layers − 1 rows before it, none after it."""
        layers = list(cast(Iterable[DilatedConvolution], self.layers))
        weights = [(layer.inside(), layer.at_end()) for layer in layers]
        reach = 2 ** len(layers) - 1

        def last(x: Tensor) -> Embedding:
            # as products of matrices, for a convolution costs more to call than to do on a few rows
            inner, first = self.inlet.weight[..., 0] @ x.T, 0  # (d m), the first stands for row 0
            end = inner[:, reach:]  # (d n)
            for i, (inside, at_end) in enumerate(weights):
                s = 2**i
                before = inner[:, reach - s - first :][:, : end.shape[1]]
                end = end + leaky_relu(at_end @ torch.cat([before, end]), 0.1)
                if i + 1 < len(layers):
                    seen = torch.cat([inner[:, : -2 * s], inner[:, s:-s], inner[:, 2 * s :]])
                    inner, first = inner[:, s:-s] + leaky_relu(inside @ seen, 0.1), first + s
            h = (self.outlet.weight[..., 0] @ end).T[None]  # (1 n d)
            score = (h - self.center).square().sum(-1)
            if self.objective == "soft-boundary":
                score = score - self.squared_radius
            return Embedding(h, score=score)

        return last

    def memory(self, n: int) -> Memory:
        return _Memory(self, n)


class _Memory:
    """Every layer's last states of n series; of a new row, one state of each layer is new.

    A layer of dilation s makes two at a time. One is of the step that now has all its neighbors, and
    stays: it is made from the states of the layer below 2s and s steps before its newest, and the
    newest. The other is of the last step, whose right neighbor is itself: from the newest but one, and
    the layer below at the last step. Both are one product of matrices.
    """

    def __init__(self, model: DeepSVDD, n: int) -> None:
        layers = list(cast(Iterable[DilatedConvolution], model.layers))
        m, self.d = len(layers), model.d
        self.reach = 2**m - 1
        self.inlet, self.outlet = (
            array_of(conv.weight[..., 0].T) for conv in (model.inlet, model.outlet)
        )
        self.weights = [self._weights(layer) for layer in layers]  # (2 3d d), inside and at the end
        if layers:  # of the last layer only the last step is wanted
            self.weights[-1] = self.weights[-1][1:].copy()
        self.center = array_of(model.center)
        self.radius = model.squared_radius.item() if model.objective == "soft-boundary" else 0.0
        self.length = max(1, 2 ** (m - 1))  # steps that the states of a layer are remembered
        self.states = np.zeros((n * max(1, m) * self.length, self.d), self.inlet.dtype)
        self.phase = np.zeros(n, np.intp)  # where the next states of a series go to
        first = np.arange(n * m).reshape(n, 1, m, 1) * self.length  # of a series and layer
        # by series and phase: where the states are that a step needs (m 6), and where new ones go (m)
        self.places = first + self._places(m)
        self.next = (first + np.arange(self.length)[:, None, None])[..., 0]
        self.work = _Work(n, m, self.d, self.inlet.dtype)

    @staticmethod
    def _weights(layer: DilatedConvolution) -> np.ndarray:
        """On (2s before, s before, newest), and (newest but one, last step, nothing); (2 3d d)."""
        before, here, after = layer.conv.weight.unbind(-1)
        inside = torch.cat([before, here, after], 1)
        at_end = torch.cat([before, here + after, torch.zeros_like(here)], 1)
        return array_of(torch.stack([inside.T, at_end.T]))

    def _places(self, m: int) -> np.ndarray:
        """Where the states that a layer sees are, from its first one on.

        Two of the six are not there yet, and one has no weight: these are the newest but one.
        """
        ago = np.ones((m, 6), int)
        for i in range(m - 1):
            ago[i, :2] = 2 ** (i + 1), 2**i
        return (np.arange(self.length)[:, None, None] - ago) % self.length

    def step(self, series: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.work.n != len(series):
            self.work = _Work(len(series), len(self.weights), self.d, self.inlet.dtype)
        work, phase = self.work, self.phase[series]
        self.states.take(self.places[series, phase], 0, work.seen, "clip")  # (s m 6 d)
        end = x @ self.inlet
        if self.weights:
            work.first[:] = end
            for weights, given, added, small, before, made in zip(
                self.weights, *work.views, strict=True
            ):
                np.matmul(given, weights, added)
                np.multiply(added, 0.1, small)
                np.maximum(added, small, out=added)  # a leaky ReLU
                np.add(before, added, made)
            self.states[self.next[series, phase]] = work.new
            end = made[0]
        self.phase[series] = (phase + 1) % self.length
        h = end @ self.outlet  # (s d)
        gap = h - self.center
        return h, np.vecdot(gap, gap).astype(np.float64) - self.radius


class _Work:
    """Where the states of n series are put that a step needs, and views of them for every layer."""

    def __init__(self, n: int, m: int, d: int, dtype: np.dtype) -> None:
        self.n = n
        self.seen = seen = np.empty((n, m, 6, d), dtype)  # for either product, three states
        self.new = seen[:, :, 2]  # (n m d)
        given = [seen[:, i].reshape(n, 2, 3 * d).swapaxes(0, 1) for i in range(m)]  # (2 n 3d)
        # what is added to: the middle state, and the layer below at the last step
        before = [seen[:, i, 1:5:3].swapaxes(0, 1) for i in range(m)]  # (2 n d)
        made = [seen[:, i, 2:5:2].swapaxes(0, 1) for i in range(m)]
        added, small = ([each] * m for each in np.empty((2, 2, n, d), dtype))
        self.views = given, added, small, before, [*made[1:], np.empty((2, n, d), dtype)]
        if m:
            self.first = made[0]
            for view in self.views:  # of the last layer only the last step
                view[-1] = view[-1][1:]
