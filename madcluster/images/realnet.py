"""A small network after RealNet (Zhang et al., CVPR 2024), with defects planted, not diffused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    interpolate,
    max_pool2d,
    mse_loss,
)

from madcluster.arguments import check_whole
from madcluster.images.embedders import ImageEmbedder, positions
from madcluster.images.features import Features, Weights
from madcluster.images.planted import checked_kinds, planted
from madcluster.models.base import Embedding

__all__ = ["PlantedRealNet"]


class PlantedRealNet(ImageEmbedder):
    """Frozen features, their rebuilding as of a good image, and a judge of what differs.

    In training every image gets a defect. The rebuilding learns to give the features of the good image
    from those of the spoiled one (mean square), and the judge, which sees the squared difference before
    and after it, to tell marked positions from others (cross-entropy, in which both weigh the same).
    The score of a position is the judge's logit. h is the layer before it, of the good image alone: the
    head is one-class, and must not draw defects to its center. Its loss is added to the own one.

    Of the paper are the frozen features, the rebuilding, the use of residuals, and a judge that learns
    from synthetic defects. Left out are the diffusion model that makes them, for which
    `madcluster.images.planted` stands, the choice of features and of residuals (AFS and RRS), and the
    full size: a network of its kind, and not RealNet.

    Parameters
    ----------
    kinds : sequence of str
        Defects that are planted in training, of `madcluster.images.planted.KINDS`. A set whose defects
        come from the same code is known to it by these: judge it by other kinds.
    weights : "imagenet" or "random"
        Of the features, see `madcluster.images.features.Features`.
    d : int
        Embedding size.
    seed : int
        Of random weights of the features.

    Notes
    -----
    In eval mode nothing is planted, and the loss is that of rebuilding good images: what the
    best epoch is chosen by. Features are scaled as over the train images.
    """

    stride = 8

    def __init__(
        self,
        *,
        kinds: Sequence[str] = ("cut-paste", "texture exchange"),
        weights: Weights = "imagenet",
        d: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.kinds, self.d = checked_kinds(kinds), check_whole("d", d)
        self.features = Features(weights, seed=seed)
        n = self.features.d
        self.down = nn.Sequential(
            nn.Conv2d(n, 2 * d, 3, stride=2, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(2 * d, d, 1)
        )
        self.up = nn.Sequential(
            nn.Conv2d(d, 2 * d, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(2 * d, n, 3, padding=1)
        )
        self.judge = nn.Sequential(nn.Conv2d(n, d, 3, padding=1), nn.LeakyReLU(0.1))
        self.verdict = nn.Conv2d(d, 1, 1)
        self.register_buffer("mean", torch.zeros(n, 1, 1))
        self.register_buffer("std", torch.ones(n, 1, 1))
        self.mean: Tensor
        self.std: Tensor

    def scaled(self, x: Tensor) -> Tensor:
        """Images (b c h w) → features (b n h/8 w/8)."""
        scaled: Tensor = (self.features(x) - self.mean) / self.std
        return scaled

    def rebuilt(self, maps: Tensor) -> Tensor:
        """Features as of a good image, in the same shape; their sides may be odd."""
        small = interpolate(self.down(maps), size=maps.shape[2:], mode="bilinear")
        rebuilt: Tensor = self.up(small)
        return rebuilt

    def spoiled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images with a defect each, and masks (b 1 h w); drawn by torch's generator."""
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        images = x.detach().cpu().numpy()
        found = [
            planted(image, str(rng.choice(self.kinds)), rng, difficulty=rng.uniform(0, 0.5))
            for image in images
        ]
        spoiled, masks = (np.stack(each) for each in zip(*found, strict=True))
        return torch.as_tensor(spoiled).to(x), torch.as_tensor(masks[:, None]).to(x)

    def forward(self, x: Tensor) -> Embedding:
        good = self.scaled(x)
        back = self.rebuilt(good)
        hidden = self.judge((good - back).square())  # (b d h/8 w/8)
        score = positions(self.verdict(hidden)).squeeze(-1)  # (b t)
        if not self.training:
            return Embedding(positions(hidden), mse_loss(back, good), score)
        new, mask = self.spoiled(x)
        maps = self.scaled(new)
        back = self.rebuilt(maps)
        logits = self.verdict(self.judge((maps - back).square()))
        rebuilding = mse_loss(back, good)
        marked = max_pool2d(mask, self.stride)  # (b 1 h/8 w/8)
        few = (1 - marked).sum() / marked.sum().clamp_min(1)
        judging = binary_cross_entropy_with_logits(logits, marked, pos_weight=few)
        parts = {"rebuilding": rebuilding.detach(), "judging": judging.detach()}
        return Embedding(positions(hidden), rebuilding + judging, score, parts)

    @torch.no_grad()
    def prepare(self, batches: Iterable[Tensor], epoch: int) -> None:
        if epoch > 0:
            return
        maps = torch.cat([self.features(x) for x in batches])
        std, mean = torch.std_mean(maps, (0, 2, 3), correction=0)
        self.mean.copy_(mean[:, None, None])
        self.std.copy_(torch.where(std > 0, std, 1.0)[:, None, None])
