"""A small RD4AD (Deng and Li, CVPR 2022): a student rebuilds a teacher's maps from a narrow place."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cosine_similarity, interpolate

from madcluster.arguments import check_whole
from madcluster.images.embedders import ImageEmbedder, positions
from madcluster.images.features import Features, Weights
from madcluster.models.base import Embedding

__all__ = ["RD4AD"]


def _layer(before: int, after: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.LeakyReLU(0.1),
    )


class RD4AD(ImageEmbedder):
    """A frozen teacher, a bottleneck of its three maps, and a student that rebuilds them from it.

    The own loss is the sum over maps of 1 − cos of teacher and student, as a mean over positions; the
    score of a position is the sum of the same at a stride of 8. What the student has never seen
    rebuilt, it does not rebuild. h is the embedding in the bottleneck, which the paper calls one-class:
    the head trains bottleneck and student's input, and is added to the own loss.

    Of the paper are the reverse direction, the fusion of three maps into one embedding, and the loss.
    Left out are the WideResNet50 teacher, for which EfficientNet-Lite0 stands, a student that
    mirrors the teacher layer by layer, the last halving of the bottleneck (which leaves 4 × 4 positions
    of 128 pixels), and the blur of the map.

    Parameters
    ----------
    weights : "imagenet" or "random"
        Of the teacher, see `madcluster.images.features.Features`.
    d : int
        Embedding size.
    seed : int
        Of random weights of the teacher.

    Notes
    -----
    The bottleneck has a stride of 16 pixels. h is its bilinear map at a stride of 8.
    """

    stride = 8

    def __init__(self, *, weights: Weights = "imagenet", d: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.d = check_whole("d", d)
        self.teacher = Features(weights, seed=seed)
        fine, middle, coarse = self.teacher.channels
        self.from_fine = nn.Sequential(_layer(fine, d, stride=2), _layer(d, d, stride=2))
        self.from_middle = _layer(middle, d, stride=2)
        self.bottleneck = nn.Sequential(
            _layer(2 * d + coarse, 2 * d), nn.Conv2d(2 * d, d, 1, bias=False)
        )
        self.to_coarse = nn.Sequential(_layer(d, coarse), nn.Conv2d(coarse, coarse, 1))
        self.to_middle = nn.Sequential(_layer(coarse, middle), nn.Conv2d(middle, middle, 1))
        self.to_fine = nn.Sequential(_layer(middle, fine), nn.Conv2d(fine, fine, 1))

    def rebuilt(self, levels: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The embedding (b d h/16 w/16) of the teacher's maps, and what the student makes of it."""
        fine, middle, coarse = levels
        parts = [self.from_fine(fine), self.from_middle(middle), coarse]
        h = self.bottleneck(torch.cat(parts, 1))
        coarse = self.to_coarse(h)
        middle = self.to_middle(interpolate(coarse, scale_factor=2, mode="bilinear"))
        fine = self.to_fine(interpolate(middle, scale_factor=2, mode="bilinear"))
        return h, [fine, middle, coarse]

    def forward(self, x: Tensor) -> Embedding:
        levels = self.teacher.levels(x)
        coarse = levels[-1]
        if self.training and coarse[:, 0].numel() < 2:  # which have no variance to normalize by
            raise ValueError(
                f"RD4AD is trained on two positions of 16 x 16 pixels or more in a batch, got "
                f"{tuple(x.shape)}: choose another batch_size or larger images"
            )
        h, student = self.rebuilt(levels)
        fine, middle, coarse = (
            1 - cosine_similarity(t, s, dim=1, eps=1e-8)[:, None]
            for t, s in zip(levels, student, strict=True)
        )  # (b 1 h' w')
        large = interpolate(coarse, scale_factor=2, mode="bilinear")
        score = positions(avg_pool2d(fine, 2) + middle + large).squeeze(-1)  # (b t)
        loss = fine.mean() + middle.mean() + coarse.mean()
        h = positions(interpolate(h, scale_factor=2, mode="bilinear"))  # (b t d)
        return Embedding(h, loss, score)
