"""Images: sets with labels and masks, metrics, detectors; head and training loop are those of series.

Images are (n c h w) float32 between 0 and 1, masks (n h w) bool, and score maps (n h w): **higher =
more anomalous**, one number for each pixel.
"""

from madcluster.images.metrics import aupro, evaluate, image_scores
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

__all__ = [
    "GOOD",
    "KINDS",
    "TEXTURES",
    "ImageFileError",
    "ImageSet",
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
]
