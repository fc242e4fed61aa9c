"""Images of one kind of thing: normal ones to learn from, and new ones with labels and masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from madcluster.arguments import check_line

__all__ = ["GOOD", "ImageSet", "checked_images"]

GOOD = "good"  # the kind of a normal image


def checked_images(images: object, name: str, *, channels: int | None = None) -> np.ndarray:
    """Images (n c h w) as float32 between 0 and 1.

    Parameters
    ----------
    images : (n c h w)
        Numbers between 0 and 1, or uint8, of which 255 becomes 1.
    name : str
        What an error calls them.
    channels : int, optional
        c that they must have.

    Raises
    ------
    ValueError
        If they are of another shape or type, there are none, or one has a value outside of [0, 1];
        it says which.
    """
    try:
        values = np.asarray(images)
    except ValueError as error:  # a list of images of several sizes
        raise ValueError(f"{name} must be images of one shape, (n c h w): {error}") from error
    if np.ma.is_masked(images):
        raise ValueError(f"{name} must not be masked: what lies behind the mask is no image")
    if values.ndim != 4 or 0 in values.shape:
        raise ValueError(f"{name} must be images (n c h w) and not empty, got shape {values.shape}")
    if channels is not None and values.shape[1] != channels:
        raise ValueError(f"{name} must have {channels} channels, got {values.shape[1]}")
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values, dtype=np.float32) / np.float32(255)
    if values.dtype.kind != "f":
        raise ValueError(f"{name} must be floating point or uint8, got {values.dtype}")
    for i, image in enumerate(values):  # one at a time: no mask as large as all of them
        if not (image.min() >= 0 and image.max() <= 1):  # NaN is in none
            raise ValueError(f"{name} must lie between 0 and 1, image {i} does not")
    # in one order: sums over another one are rounded otherwise
    return np.ascontiguousarray(values, dtype=np.float32)


@dataclass(frozen=True, eq=False)  # as a set of arrays, it is equal to itself alone
class ImageSet:
    """Normal images to learn from, and images to judge by; one set for each kind of thing.

    Attributes
    ----------
    name : str
        Such as "mvtec/bottle".
    train : (n c h w) float32
        Normal images, between 0 and 1.
    test : (m c h w) float32
    labels : (m,) bool
        True for an image with a defect.
    kinds : (m,) text
        Name of the defect, "good" for none.
    masks : (m h w) bool
        True for a pixel of a defect.

    Raises
    ------
    ValueError
        If the arrays do not fit each other, images are not finite numbers between 0 and 1, or labels,
        kinds and masks contradict each other; it names the set, the array and the image.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    kinds: tuple[str, ...]
    masks: np.ndarray

    def __post_init__(self) -> None:
        check_line("name", self.name)
        for split in ("train", "test"):
            images = checked_images(getattr(self, split), f"{self.name}: {split}")
            object.__setattr__(self, split, images)
        for kind in self.kinds:
            check_line(f"{self.name}: a kind", kind)
        object.__setattr__(self, "kinds", tuple(map(str, self.kinds)))  # also from NumPy
        if self.train.shape[1:] != self.test.shape[1:]:
            raise ValueError(
                f"{self.name}: images of train are {self.train.shape[1:]}, of test "
                f"{self.test.shape[1:]}"
            )
        m, _, h, w = self.test.shape
        for array, shape in (("labels", (m,)), ("masks", (m, h, w))):
            value = np.asarray(getattr(self, array))
            if value.shape != shape or value.dtype != bool:
                raise ValueError(
                    f"{self.name}: {array} must be {shape} of bool, got {value.shape} of "
                    f"{value.dtype}"
                )
            object.__setattr__(self, array, value)
        if len(self.kinds) != m:
            raise ValueError(f"{self.name}: kinds must be {m} names, got {len(self.kinds)}")
        marked = np.asarray(self.masks.any((1, 2)))
        for i, (label, kind) in enumerate(zip(self.labels, self.kinds, strict=True)):
            if not label == (kind != GOOD) == marked[i]:
                raise ValueError(
                    f"{self.name}: test image {i} has the label {int(label)}, the kind {kind!r} and "
                    f"{int(self.masks[i].sum())} pixels marked in its mask, which contradict each "
                    f"other"
                )

    def of_kind(self, *kinds: str) -> ImageSet:
        """The same with the good test images and the defects of these kinds alone.

        Raises
        ------
        ValueError
            If a kind is not there; it says which are.
        """
        known = sorted(set(self.kinds) - {GOOD})
        unknown = [kind for kind in kinds if kind not in known]
        if unknown or not kinds:
            raise ValueError(f"{self.name} has defects of the kinds {known}, got {unknown}")
        kept = np.array([kind in (GOOD, *kinds) for kind in self.kinds])
        return ImageSet(
            self.name,
            self.train,
            self.test[kept],
            self.labels[kept],
            tuple(kind for kind in self.kinds if kind in (GOOD, *kinds)),
            self.masks[kept],
        )
