"""The head on images: every position of a feature map is a step.

The paper's appendix D says of its image networks that their features take the place of the embedded
series, and leaves open what a step is. Two readings:

- a **position** is a step: (b d h w) → (b t, d) with t = h·w. Every position has a score of its own, so
  there is a score map, which pixel-level numbers need. This one is implemented.
- a **channel** is a step, as the text read literally has it: (b d h w) → (b t, d') with t = d and
  d' = h·w. Then a score says which channel is unusual, and nothing says where; `channels` shows it.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from madcluster.arguments import check_whole
from madcluster.heads import WithHead
from madcluster.models.base import Embedder, Embedding

__all__ = [
    "FeatureMaps",
    "ImageEmbedder",
    "as_image_embedder",
    "channels",
    "grid_of",
    "positions",
    "three_channels",
]


def positions(maps: Tensor) -> Tensor:
    """Every position is a step, row by row: (b d h w) → (b t d), t = h·w."""
    return rearrange(maps, "b d h w -> b (h w) d")


def channels(maps: Tensor) -> Tensor:
    """Every channel is a step: (b d h w) → (b d t), t = h·w. A step's score does not say where."""
    return rearrange(maps, "b d h w -> b d (h w)")


def three_channels(x: Tensor) -> Tensor:
    """Images (b c h w) with three channels: of gray all three are the same.

    Raises
    ------
    ValueError
        If c is neither 1 nor 3.
    """
    if x.shape[1] not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels, got shape {tuple(x.shape)}")
    return x.expand(-1, 3, -1, -1)


class ImageEmbedder(Embedder):
    """A network with `forward(x (b c h w)) -> Embedding`, whose steps are positions, row by row.

    h is (b t d) and the score (b t), with t = (h / stride)·(w / stride). `Head`, `WithHead` and
    `madcluster.training.fit` take it as they take an embedder of windows.

    Attributes
    ----------
    d : int
        Size of one embedding.
    stride : int
        Pixels of a side of what one position stands for.
    """

    stride: int


class FeatureMaps(ImageEmbedder):
    """Wrap a module (b c h w) → (b d h' w'); it has neither a loss nor a score of its own."""

    def __init__(self, module: nn.Module, d: int, stride: int) -> None:
        super().__init__()
        self.module = module
        self.d, self.stride = d, check_whole("stride", stride)

    def forward(self, x: Tensor) -> Embedding:
        return Embedding(positions(self.module(x)))


def as_image_embedder(module: nn.Module, *, shape: tuple[int, int, int]) -> ImageEmbedder:
    """Accept an `ImageEmbedder` as it is and wrap any other module that returns (b d h' w').

    Parameters
    ----------
    module : nn.Module
    shape : (c, h, w)
        Of an image.

    Raises
    ------
    ValueError
        If the module does not map (b c h w) to a floating point (b d h' w') with as many pixels to a
        position in both directions.
    """
    if isinstance(module, ImageEmbedder):
        return module
    like = next(module.parameters(), torch.empty(0))
    was_training = module.training
    module.eval()
    with torch.no_grad():
        zeros = torch.zeros(2, *shape, dtype=like.dtype, device=like.device)
        maps = called("network", module, zeros)
    module.train(was_training)
    got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
    if not isinstance(maps, Tensor) or maps.ndim != 4 or len(maps) != 2 or 0 in maps.shape:
        raise ValueError(
            f"network must return a map of embeddings, (b d h w): for an input of {(2, *shape)} it "
            f"returned {got}"
        )
    if not maps.is_floating_point():
        raise ValueError(f"network must return floating point embeddings, got {maps.dtype}")
    (h, w), stride = maps.shape[2:], shape[1] // maps.shape[2]
    if (h * stride, w * stride) != shape[1:]:
        raise ValueError(
            f"every position must stand for a square of pixels: {got} does not divide {shape}"
        )
    return FeatureMaps(module, maps.shape[1], stride)


def called(name: str, module: nn.Module, x: Tensor) -> Any:
    """What a module makes of images (b c h w).

    Raises
    ------
    ValueError
        If it does not take them, as those with another number of channels.
    """
    try:
        return module(x)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(f"{name} does not take images {tuple(x.shape)}: {error}") from error


def check_embedder(network: ImageEmbedder, shape: tuple[int, int, int]) -> None:
    """Raise a ValueError unless a network keeps what `ImageEmbedder` says, for images (c h w)."""
    like = next(network.parameters(), torch.empty(0))
    zeros = torch.zeros(2, *shape, dtype=like.dtype, device=like.device)
    rows, columns = grid_of(network, zeros)
    was_training = network.training
    network.eval()
    with torch.no_grad():
        found = called("network", network, zeros)
    network.train(was_training)
    if not isinstance(found, Embedding):
        raise ValueError(f"network must return an Embedding, got {type(found).__name__}")
    steps = 2, rows * columns
    if found.h.shape != (*steps, network.d):
        raise ValueError(
            f"network must return embeddings {(*steps, network.d)} for images {tuple(zeros.shape)}, as "
            f"its stride and d say, got {tuple(found.h.shape)}"
        )
    if found.h.dtype != like.dtype:
        raise ValueError(f"network must return embeddings of {like.dtype}, got {found.h.dtype}")
    if found.score is not None and found.score.shape != steps:
        raise ValueError(f"network must return scores {steps}, got {tuple(found.score.shape)}")


def grid_of(model: Embedder, x: Tensor) -> tuple[int, int]:
    """Rows and columns of positions in images (b c h w), for a network with or without a head.

    Raises
    ------
    ValueError
        If the network has no positions, or the sides are no multiple of its stride.
    """
    inner = model.embedder if isinstance(model, WithHead) else model
    if not isinstance(inner, ImageEmbedder):
        raise ValueError(f"{type(inner).__name__} is no network for images")
    h, w = x.shape[2:]
    if h % inner.stride or w % inner.stride:
        raise ValueError(
            f"sides of images must be multiples of {inner.stride} for {type(inner).__name__}, got "
            f"{h} x {w}"
        )
    return h // inner.stride, w // inner.stride
