"""How good are score maps? Masks and maps (n h w), labels and image scores (n,).

**Higher score = more anomalous.** Every metric is exact: all thresholds are looked at, and pixels with
equal scores count together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from madcluster.arguments import check_number, check_scores
from madcluster.metrics import roc_auc_score

__all__ = ["aupro", "evaluate", "image_scores"]


class _Curve(NamedTuple):
    """Pixels of both kinds over the scores that defective pixels have, the highest first."""

    hits: np.ndarray  # (v,) defective pixels with exactly that score
    overlap: np.ndarray  # (v,) what they add to the mean coverage of a region
    above: np.ndarray  # (v,) normal pixels with a higher score
    from_there: np.ndarray  # (v,) normal pixels with that score or a higher one
    n_normal: int


def image_scores(maps: ArrayLike) -> np.ndarray:
    """The highest score of every map: (n h w) → (n,).

    Raises
    ------
    ValueError
        If they are not maps of finite numbers.
    """
    scores: np.ndarray = checked_maps(maps).max((1, 2))
    return scores


def evaluate(
    labels: ArrayLike,
    image_scores: ArrayLike,
    masks: ArrayLike,
    maps: ArrayLike,
    *,
    limit: float = 0.3,
) -> dict[str, float]:
    """Four metrics of score maps, each with what a score by dice reaches beside it.

    Parameters
    ----------
    labels : (n,)
        1 for an image with a defect, else 0.
    image_scores : (n,)
        Finite.
    masks : (n h w)
        1 for a pixel of a defect, else 0.
    maps : (n h w)
        Finite scores of pixels.
    limit : float
        Of `aupro`.

    Returns
    -------
    dict
        - image_auroc: chance that an image with a defect scores above one without; 0.5 by dice
        - pixel_auroc: the same of pixels, where large defects count more; 0.5 by dice
        - pixel_ap: average precision of pixels; by dice the share of pixels that are defective
        - aupro: see `aupro`; limit / 2 by dice

        and "image_auroc_chance" and so on.

    Raises
    ------
    ValueError
        For other shapes or numbers, labels or masks of one class only, and an image with the label 0
        whose mask marks a pixel. The message names the argument.

    Warns
    -----
    UserWarning
        If the image scores have two values or fewer.

    Examples
    --------
    >>> masks = np.zeros((3, 4, 4)); masks[1:, :2] = 1
    >>> found = evaluate([0, 1, 1], [0.1, 0.9, 0.8], masks, masks)
    >>> found["aupro"], found["pixel_ap_chance"]
    (1.0, 0.33...)
    """
    limit = check_number("limit", limit, 0, 1, ends="(]")
    marked, values = _masks_and_maps(masks, maps)
    of_images = _array("labels", labels)
    if of_images.shape != (len(marked),):
        raise ValueError(
            f"labels must be one for each of {len(marked)} masks, got {of_images.shape}"
        )
    if not ((of_images == 0) | (of_images == 1)).all():
        raise ValueError("labels must be 0 or 1 everywhere")
    if (of_images == 1).all() or not (of_images == 1).any():
        raise ValueError(f"labels must hold both classes, all are {int(of_images[0])}")
    if len(scores := check_scores("image_scores", image_scores)) != len(marked):
        raise ValueError(f"image_scores must be {len(marked)}, one for each map, got {len(scores)}")
    wrong = (of_images == 0) & marked.any((1, 2))
    if wrong.any():
        image = int(np.argmax(wrong))
        raise ValueError(f"labels and masks contradict each other: image {image} has the label 0")
    of_image = roc_auc_score(of_images == 1, scores)
    curve = _curve(marked, values)
    hits = curve.hits / curve.hits.sum()
    found = np.cumsum(curve.hits)
    # a tie counts half
    below = 1 - (curve.above + curve.from_there) / (2 * curve.n_normal)
    return {
        "image_auroc": of_image,
        "image_auroc_chance": 0.5,
        "pixel_auroc": float(hits @ below),
        "pixel_auroc_chance": 0.5,
        # precision changes the average only where recall does: at scores of defective pixels
        "pixel_ap": float(hits @ (found / (found + curve.from_there))),
        "pixel_ap_chance": float(marked.mean()),
        "aupro": _area(curve, limit),
        "aupro_chance": limit / 2,
    }


def aupro(masks: ArrayLike, maps: ArrayLike, limit: float = 0.3) -> float:
    """Area under the per-region overlap, up to a share of false pixels (Bergmann et al., IJCV 2021).

    For every threshold, the per-region overlap is the share of a defect's pixels above it, as a mean
    over all defects, so that a small one counts as much as a large one; a defect is a region of marked
    pixels that touch, corners included. It is drawn over the share of all normal pixels that lie above
    the threshold, and the area from 0 to `limit` is divided by `limit`.

    Parameters
    ----------
    masks : (n h w)
        1 for a pixel of a defect, else 0.
    maps : (n h w)
        Finite scores.
    limit : float
        In (0, 1].

    Returns
    -------
    In [0, 1]; for a score by dice, limit / 2.

    Raises
    ------
    ValueError
        For other shapes or numbers, or where all pixels are of one class.

    Notes
    -----
    Exact, with straight lines between the points of the curve. The overlap changes only at scores of
    defective pixels, so normal pixels are sorted and counted, and never ranked one by one.

    Examples
    --------
    >>> masks = np.zeros((1, 4, 4)); masks[0, :2] = 1
    >>> aupro(masks, masks), round(aupro(masks, np.ones((1, 4, 4))), 3)
    (1.0, 0.15)
    """
    limit = check_number("limit", limit, 0, 1, ends="(]")
    return _area(_curve(*_masks_and_maps(masks, maps)), limit)


def _area(curve: _Curve, limit: float) -> float:
    covered = np.cumsum(curve.overlap)
    before = covered - curve.overlap
    # the points of the curve: flat up to the normal pixels above a score, then a line across the tie
    rate = np.column_stack([curve.above, curve.from_there]).ravel() / curve.n_normal
    overlap = np.column_stack([before, covered]).ravel()
    rate, overlap = np.concatenate([[0], rate, [1]]), np.concatenate([[0], overlap, [1]])
    inside = rate <= limit
    last = int(np.count_nonzero(inside)) - 1  # rates do not fall
    area = np.trapezoid(overlap[: last + 1], rate[: last + 1])
    if last + 1 < len(rate):
        # interpolated to the limit within the line that crosses it
        share = (limit - rate[last]) / (rate[last + 1] - rate[last])
        end = overlap[last] + share * (overlap[last + 1] - overlap[last])
        area += (limit - rate[last]) * (overlap[last] + end) / 2
    return float(min(area / limit, 1.0))  # rounding


def _curve(masks: np.ndarray, maps: np.ndarray) -> _Curve:
    touching = np.zeros((3, 3, 3), dtype=bool)
    touching[1] = True  # within an image, corners included
    regions, n_regions = ndimage.label(masks, touching)
    scores = maps[masks]
    region = regions[masks] - 1
    size = np.bincount(region, minlength=n_regions)
    values, which, hits = np.unique(scores, return_inverse=True, return_counts=True)
    overlap = np.bincount(which, 1 / size[region], minlength=len(values)) / n_regions
    normal = np.sort(maps[~masks])
    above = len(normal) - np.searchsorted(normal, values, side="right")
    from_there = len(normal) - np.searchsorted(normal, values, side="left")
    back = np.s_[::-1]
    return _Curve(hits[back], overlap[back], above[back], from_there[back], len(normal))


def _masks_and_maps(masks: ArrayLike, maps: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Masks as bool and maps as floating point, both (n h w)."""
    values = checked_maps(maps)
    if np.ma.is_masked(masks):
        raise ValueError("masks must say 0 or 1 of every pixel, some are masked")
    marked = _array("masks", masks)
    if marked.shape != values.shape:
        raise ValueError(f"masks are {marked.shape}, maps {values.shape}")
    if marked.dtype != bool:
        ones = marked == 1
        if not (ones | (marked == 0)).all():
            raise ValueError("masks must be 0 or 1 everywhere")
        marked = ones
    if marked.all() or not marked.any():
        raise ValueError(f"masks must mark some pixels and not all, all are {int(marked.all())}")
    return marked, values


def checked_maps(maps: ArrayLike) -> np.ndarray:
    """Maps (n h w) as they are in float32 or float64, else as float64.

    Raises
    ------
    ValueError
        If they are not maps of finite numbers.
    """
    if np.ma.is_masked(maps):
        raise ValueError("maps must not be masked: what lies behind the mask is no score")
    values = _array("maps", maps)
    if values.dtype.kind not in "fiub":
        raise ValueError(f"maps must be numbers, got {values.dtype}")
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    if values.ndim != 3 or not values.size:
        raise ValueError(f"maps must be (n h w) and not empty, got shape {values.shape}")
    for i, image in enumerate(values):  # one at a time: no mask as large as all of them
        if not np.isfinite(image).all():
            raise ValueError(f"maps must be finite, image {i} is not")
    return values


def _array(name: str, values: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(values)
    except (
        RuntimeError,
        ValueError,
    ) as error:  # lists of several lengths, a tensor with a gradient
        raise ValueError(f"{name} must be an array: {error}") from error
