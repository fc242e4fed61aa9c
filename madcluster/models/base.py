"""What the rest of the package knows about a network: it embeds a window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

__all__ = [
    "Embedder",
    "Embedding",
    "Memory",
    "PlainEmbedder",
    "as_embedder",
    "windows_of",
]

NOTHING: Mapping[str, Tensor] = MappingProxyType({})


class Embedding(NamedTuple):
    """What a model makes of a batch of windows."""

    h: Tensor  # (b t d)
    loss: Tensor | None = None  # (), the model's own training loss
    score: Tensor | None = None  # (b t), higher = more anomalous
    parts: Mapping[str, Tensor] = NOTHING  # scalars for the training log, by name


class Memory(Protocol):
    """What a network remembers of some series, so that one more row costs one step and no window.

    It computes with NumPy, whose functions cost less to call than torch's: of one row, next to all
    the time is that of calls. Values are those of `Embedder.last_steps` up to the rounding of float32.
    """

    @property
    def reach(self) -> int:
        """Rows before it that the last step of a window depends on."""
        ...

    def step(self, series: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The next row of some series.

        Parameters
        ----------
        series : (s,)
            Their numbers, from 0; each once.
        x : (s c)
            Scaled rows. The first `reach` rows of a series fill its memory: what is returned with them
            means nothing, whatever was remembered before.

        Returns
        -------
        Embeddings (s d) of these rows as the last ones of their windows, and scores (s,), float64, or
        None where there is no score.
        """
        ...


class Embedder(nn.Module):
    """A Base Embedder: any network with `forward(x (b t c)) -> Embedding`.

    Subclasses set `d`, the embedding size. The head sees `h` only, and the gradient of its loss must
    reach the layers that made `h`.

    Attributes
    ----------
    d : int
        Size of one embedding.
    replaced_by_head : bool
        True where the own objective is itself a distance to a center, as in Deep SVDD. The head then
        takes its place; otherwise the two losses are added.
    """

    d: int
    replaced_by_head: bool = False

    def forward(self, x: Tensor) -> Embedding:
        raise TypeError(f"{type(self).__name__} must define forward(x (b t c)) -> Embedding")

    def scored(self, x: Tensor) -> Embedding:
        """Embeddings and score alone: what `forward` gives, without a loss that would cost more."""
        out: Embedding = self(x)
        return out

    def last_steps(self) -> Callable[[Tensor], Embedding] | None:
        """A function that embeds the last step of every window that ends in a series, in one pass.

        For networks whose last step depends on a few rows before it, so that windows share most of
        their work. Others return None, and windows go through `forward` one by one.

        Returns
        -------
        A function of rows (m c) in order. It returns an Embedding with h (1 n d) and score (1 n) for
        the last n rows, as many as have enough rows before them, and no loss; the values are those that
        `forward` gives the last step of a window. It uses the weights as they are now.
        """
        return None

    def memory(self, n: int) -> Memory | None:
        """What makes last steps of n series row by row, with the weights as they are now.

        For networks that have `last_steps` and can remember what windows share. A subclass that embeds
        in another way defines it anew, as it does `last_steps`. Others return None.
        """
        return None

    def prepare(self, batches: Iterable[Tensor], epoch: int) -> None:
        """Look at the training windows before an epoch (0, 1, …): set a center, refresh a radius.

        `batches` can be iterated as often as needed; a model that needs nothing does not touch it.
        """

    def finish(self, batches: Iterable[Tensor]) -> None:
        """Look at the training windows after the best weights are back: what scoring needs to know."""

    def no_decay(self) -> list[nn.Parameter]:
        """Parameters that take no weight decay and no decay of the learning rate."""
        return []

    def anchors(self) -> Tensor | None:
        """Points (k d) that the training draws embeddings to; None where there are none."""
        return None


class PlainEmbedder(Embedder):
    """Wrap a module that returns (b t d); it has neither a loss nor a score of its own."""

    def __init__(self, module: nn.Module, d: int) -> None:
        super().__init__()
        self.module = module
        self.d = d

    def forward(self, x: Tensor) -> Embedding:
        return Embedding(self.module(x))


def array_of(weights: Tensor) -> np.ndarray:
    """A copy on the CPU, as contiguous numbers."""
    return np.array(weights.detach().cpu().numpy(), order="C")


def windows_of(x: Tensor, window: int, stride: int = 1) -> Tensor:
    """Windows of a series (n c) → (b t c), a view."""
    return x.unfold(0, window, stride).transpose(1, 2)


def as_embedder(module: nn.Module, *, n_channels: int, window: int) -> Embedder:
    """Accept an `Embedder` as it is and wrap any other module that returns (b t d).

    Raises
    ------
    ValueError
        If the module does not map (b t c) to a floating point (b t d).
    """
    if isinstance(module, Embedder):
        return module
    like = next(module.parameters(), torch.empty(0))
    was_training = module.training
    module.eval()
    with torch.no_grad():
        h = module(torch.zeros(2, window, n_channels, dtype=like.dtype, device=like.device))
    module.train(was_training)
    if not isinstance(h, Tensor) or h.ndim != 3 or h.shape[:2] != (2, window):
        got = tuple(h.shape) if isinstance(h, Tensor) else type(h).__name__
        raise ValueError(
            f"embedder must return one embedding per time step, (b t d): for an input of "
            f"{(2, window, n_channels)} it returned {got}"
        )
    if not h.is_floating_point():
        raise ValueError(f"embedder must return floating point embeddings, got {h.dtype}")
    return PlainEmbedder(module, h.shape[-1])
