"""Score maps as pictures, to lie beside the images that they are of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from madcluster.arguments import check_number
from madcluster.files import whole_file
from madcluster.images.metrics import checked_maps

__all__ = ["write_maps"]


def write_maps(
    maps: ArrayLike,
    paths: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    threshold: float,
) -> list[Path]:
    """Write every map as a gray picture, `<name of the image>_map.png`, and say where it lies.

    Shades are the same in all of them: black is the lowest score of all maps, the middle of gray is the
    threshold, and white is as far above it. What is brighter than the middle is an alarm.

    Parameters
    ----------
    maps : (m h w)
        Finite scores of pixels.
    paths : (m,)
        The images that they are of; `madcluster.images.images_in` lists a folder.
    folder : folder
        Made if it is not there.
    threshold : float
        Such as `threshold_` of a detector.

    Raises
    ------
    ValueError
        If maps are no maps of finite numbers, there are not as many paths, two images have the same
        name, or the threshold is not finite.

    Examples
    --------
    From a folder of good pictures and one of new ones, in five lines::

        from madcluster.images import PatchCore, images_in, read_images, write_maps
        detector = PatchCore().fit(read_images("good"))
        new = read_images("new")
        print(dict(zip(images_in("new"), detector.decision_function(new) > detector.threshold_)))
        write_maps(detector.maps(new), images_in("new"), "maps", threshold=detector.threshold_)
    """
    values = checked_maps(maps).astype(np.float64)
    if isinstance(paths, str | bytes | os.PathLike):
        raise ValueError(f"paths must be a list of images, got {paths!r}")
    paths = list(paths)
    if len(paths) != len(values):
        raise ValueError(f"paths must name {len(values)} images, got {len(paths)}")
    threshold = check_number("threshold", threshold, -np.inf)
    names = [f"{Path(path).stem}_map.png" for path in paths]
    if "_map.png" in names:
        raise ValueError(f"paths must name images, got {paths[names.index('_map.png')]!r}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"paths name two images for {twice[0]}")
    lowest = values.min()
    reach = threshold - lowest if threshold > lowest else 1.0
    shades = (127.5 * ((values - lowest) / reach)).round().clip(0, 255).astype(np.uint8)
    written = []
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, picture in zip(names, shades, strict=True):
        written.append(Path(folder) / name)
        with whole_file(written[-1]) as part:
            Image.fromarray(picture).save(part, format="PNG")
    return written
