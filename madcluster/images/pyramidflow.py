"""A small PyramidFlow (Lei et al., CVPR 2023): a pyramid of an image, made plain by couplings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle, pixel_unshuffle

from madcluster.arguments import check_whole
from madcluster.images.embedders import ImageEmbedder, positions
from madcluster.models.base import Embedding

__all__ = ["PyramidFlow", "laplacian_pyramid"]

LEVELS = 3


def laplacian_pyramid(x: Tensor, n_levels: int = LEVELS) -> list[Tensor]:
    """What a map loses when it is halved, and what is left: (b c h w) → levels (b c h/2ˡ w/2ˡ).

    Burt and Adelson (1983), with means of four pixels for the halving and nearest neighbors for the
    doubling. The map is the last level, doubled and added to the one before again and again.
    """
    levels = []
    for _ in range(n_levels - 1):
        half = avg_pool2d(x, 2)
        levels.append(x - interpolate(half, scale_factor=2))
        x = half
    return [*levels, x]


def _resized(x: Tensor, like: Tensor) -> Tensor:
    """A level in the size of another."""
    if x.shape[-1] > like.shape[-1]:
        return avg_pool2d(x, x.shape[-1] // like.shape[-1])
    return interpolate(x, scale_factor=like.shape[-1] / x.shape[-1])


class Coupling(nn.Module):
    """Every level in turn is scaled and moved by what the others say, then its channels are rotated.

    The logarithm of the scale has the mean 0 over channels and positions ("volume normalization"), and
    a rotation keeps volumes: the determinant is 1 for every image.
    """

    def __init__(self, c: int, width: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d((LEVELS - 1) * c, width, 3, padding=1, padding_mode="replicate"),
                nn.LeakyReLU(0.1),
                nn.Conv2d(width, 2 * c, 3, padding=1, padding_mode="replicate"),
            )
            for _ in range(LEVELS)
        )
        for net in self.nets:  # begin as a rotation
            last = cast(nn.Conv2d, cast(nn.Sequential, net)[-1])
            nn.init.zeros_(last.weight)
            nn.init.zeros_(cast(Tensor, last.bias))
        turns = [nn.init.orthogonal_(torch.empty(c, c)) for _ in range(LEVELS)]
        self.register_buffer("turns", torch.stack(turns))  # (l c c)
        self.turns: Tensor

    def _scale_and_shift(self, levels: list[Tensor], at: int) -> tuple[Tensor, Tensor]:
        others = [_resized(z, levels[at]) for i, z in enumerate(levels) if i != at]
        log_scale, shift = self.nets[at](torch.cat(others, 1)).chunk(2, 1)
        log_scale = torch.tanh(log_scale)
        return (log_scale - log_scale.mean((1, 2, 3), keepdim=True)).exp(), shift

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        levels = list(levels)
        for at in range(LEVELS):
            scale, shift = self._scale_and_shift(levels, at)
            levels[at] = levels[at] * scale + shift
        return [
            torch.einsum("bchw,dc->bdhw", *each) for each in zip(levels, self.turns, strict=True)
        ]

    def inverse(self, levels: list[Tensor]) -> list[Tensor]:
        """The levels that `forward` made these of."""
        turned = zip(levels, self.turns, strict=True)
        levels = [torch.einsum("bdhw,dc->bchw", *each) for each in turned]
        for at in reversed(range(LEVELS)):
            scale, shift = self._scale_and_shift(levels, at)
            levels[at] = (levels[at] - shift) / scale
        return levels


class PyramidFlow(ImageEmbedder):
    """Couplings that map the Laplacian pyramid of normal images close to 0, and keep its volume.

    The own loss and score are ‖z‖² of the latent pyramid z. As the determinant is 1, that is the
    negative logarithm of a density under a standard Gaussian, up to scale and a constant. It is itself
    a distance to a center, and the head takes its place.

    Of the paper are the Laplacian pyramid, couplings between its levels in turn, and volume
    normalization. Left out are the 16 channels that it opens an image to, the loss over Fourier
    coefficients, the latent template (a mean for each position; here 0), and its full size. A pyramid
    has about a third more numbers than its image: volume alone does not rule out that images come to
    lie closer together, and `madcluster.diagnostics` looks at it.

    Parameters
    ----------
    n_channels : int
        c of an image.
    n_blocks : int
        Couplings.
    width : int
        Channels of the networks in them.

    Notes
    -----
    A position stands for 4 × 4 pixels. Its embedding has the four cells of the finest level, at a
    stride of 2, the one at 4, and that at 8 that it lies in: d = 24 c. Every level is divided by the
    root of its mean square over the train images.
    """

    stride = 4
    replaced_by_head = True

    def __init__(self, n_channels: int = 1, *, n_blocks: int = 4, width: int = 32) -> None:
        super().__init__()
        check_whole("n_channels", n_channels)
        check_whole("n_blocks", n_blocks)
        check_whole("width", width)
        c = 4 * n_channels  # squares of four pixels as channels
        self.d = 6 * c
        self.blocks = nn.ModuleList(Coupling(c, width) for _ in range(n_blocks))
        self.register_buffer("spread", torch.ones(LEVELS))
        self.spread: Tensor

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Images (b c h w) → levels (b 4c h/2 w/2), (b 4c h/4 w/4), (b 4c h/8 w/8)."""
        if x.shape[2] % 8 or x.shape[3] % 8:
            raise ValueError(
                f"sides of images must be multiples of 8 for PyramidFlow, got {x.shape[2]} x "
                f"{x.shape[3]}"
            )
        return laplacian_pyramid(pixel_unshuffle(2 * x - 1, 2))

    def latent(self, x: Tensor) -> list[Tensor]:
        """The levels after all couplings, in the same shapes."""
        levels = [z / s for z, s in zip(self.pyramid(x), self.spread, strict=True)]
        for block in self.blocks:
            levels = block(levels)
        return levels

    def image(self, levels: list[Tensor]) -> Tensor:
        """The images (b c h w) that `latent` made these of."""
        for block in reversed(list(cast(Iterable[Coupling], self.blocks))):
            levels = block.inverse(levels)
        levels = [z * s for z, s in zip(levels, self.spread, strict=True)]
        x = levels[-1]
        for level in reversed(levels[:-1]):
            x = level + interpolate(x, scale_factor=2)
        return (pixel_shuffle(x, 2) + 1) / 2

    def forward(self, x: Tensor) -> Embedding:
        fine, middle, coarse = self.latent(x)
        parts = [pixel_unshuffle(fine, 2), middle, interpolate(coarse, scale_factor=2)]
        h = positions(torch.cat(parts, 1))  # (b t d)
        score = h.square().sum(-1)  # (b t)
        return Embedding(h, score.mean(), score)

    @torch.no_grad()
    def prepare(self, batches: Iterable[Tensor], epoch: int) -> None:
        if epoch > 0:
            return
        squares, counts = torch.zeros(LEVELS), torch.zeros(LEVELS)
        for x in batches:
            for i, level in enumerate(self.pyramid(x)):
                squares[i] += level.square().sum().cpu()
                counts[i] += level.numel()
        spread = (squares / counts).sqrt()
        self.spread.copy_(torch.where(spread > 0, spread, 1.0))

    def anchors(self) -> Tensor:
        return torch.zeros(1, self.d, dtype=self.spread.dtype, device=self.spread.device)
