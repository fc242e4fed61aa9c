"""Images: sets with labels and masks, metrics, detectors; head and training loop are those of series.

Images are (n c h w) float32 between 0 and 1, masks (n h w) bool, and score maps (n h w): **higher =
more anomalous**, one number for each pixel.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from madcluster.images.metrics import aupro, evaluate, image_scores
from madcluster.images.pictures import write_maps
from madcluster.images.planted import KINDS, TEXTURES, planted, texture, textures
from madcluster.images.readers import (
    ImageFileError,
    images_in,
    read_image,
    read_images,
    read_mvtec,
    read_visa,
)
from madcluster.images.sets import GOOD, ImageSet, checked_images

if TYPE_CHECKING:
    from madcluster.images.detectors import (
        NETWORKS,
        CenterDistance,
        ImageMADCluster,
        PaDiM,
        PatchCore,
    )
    from madcluster.images.embedders import FeatureMaps, ImageEmbedder
    from madcluster.images.features import Features
    from madcluster.images.pyramidflow import PyramidFlow
    from madcluster.images.rd4ad import RD4AD
    from madcluster.images.realnet import PlantedRealNet

__all__ = [
    "GOOD",
    "KINDS",
    "NETWORKS",
    "RD4AD",
    "TEXTURES",
    "CenterDistance",
    "FeatureMaps",
    "Features",
    "ImageEmbedder",
    "ImageFileError",
    "ImageMADCluster",
    "ImageSet",
    "PaDiM",
    "PatchCore",
    "PlantedRealNet",
    "PyramidFlow",
    "aupro",
    "checked_images",
    "evaluate",
    "image_scores",
    "images_in",
    "planted",
    "read_image",
    "read_images",
    "read_mvtec",
    "read_visa",
    "texture",
    "textures",
    "write_maps",
]

# looked up on first use, so that sets and metrics do without torch
_HOMES = {
    "CenterDistance": "detectors",
    "FeatureMaps": "embedders",
    "Features": "features",
    "ImageEmbedder": "embedders",
    "ImageMADCluster": "detectors",
    "PaDiM": "detectors",
    "NETWORKS": "detectors",
    "PatchCore": "detectors",
    "PlantedRealNet": "realnet",
    "PyramidFlow": "pyramidflow",
    "RD4AD": "rd4ad",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"madcluster.images.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
