"""Textures that another package ships, and defects of named kinds planted in them, with exact masks."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from madcluster.arguments import check_number, check_one_of, check_seed, check_whole
from madcluster.images.sets import GOOD, ImageSet, checked_images

__all__ = ["KINDS", "TEXTURES", "planted", "texture", "textures"]

KINDS = (
    "scratch",
    "spot",
    "cut-paste",
    "missing patch",
    "contamination",
    "texture exchange",
)
TEXTURES = ("brick", "grass", "gravel")
LEAST = 16  # pixels of a side: in less no defect finds its place
SPLIT = 320  # columns of a texture that train images are cut from; test images from the others


def texture(name: str) -> np.ndarray:
    """A photograph of a surface, (512 512) float32 between 0 and 1; do not write into it.

    The three come with the wheel of scikit-image: "Bricks25" and "Gravel04" of CC0Textures, and
    "Grass 01" of linolafett on DeviantArt, all CC0. Nothing is downloaded.

    Raises
    ------
    ValueError
        If the name is none of `TEXTURES`.
    ModuleNotFoundError
        If scikit-image is not installed.
    """
    check_one_of("name", name, TEXTURES)  # before the cache, which takes only what can be hashed
    return _photograph(name)


@cache
def _photograph(name: str) -> np.ndarray:
    # the file alone: in a notebook skimage.data warns of a missing progress widget
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(
            "textures come with scikit-image: pip install 'madcluster[images]'"
        )
    with Image.open(Path(package.origin).parent / "data" / f"{name}.png") as photograph:
        surface = np.asarray(photograph, dtype=np.float32) / 255
    surface.setflags(write=False)
    return surface


def planted(
    image: np.ndarray,
    kind: str,
    rng: np.random.Generator,
    *,
    difficulty: float = 0.3,
    other: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """An image with one defect, and where it is.

    - "scratch": a thin bent line, brighter or darker
    - "spot": an ellipse, brighter or darker
    - "cut-paste": a rectangle that shows another part of the image, turned by a quarter (after
      CutPaste, Li et al., CVPR 2021)
    - "missing patch": a rectangle filled with its mean
    - "contamination": a group of small specks, each brighter or darker
    - "texture exchange": a blob that shows another image

    Parameters
    ----------
    image : (c h w)
        Normal, between 0 and 1; it is not changed. Sides are at least 16.
    kind : str
        One of `KINDS`.
    rng : numpy.random.Generator
        Of place, shape and shade.
    difficulty : float
        In [0, 1). A pixel of the defect is (1 − difficulty) of the defect and difficulty of what was
        there, so 0 is the plainest and close to 1 nothing can be seen. Size and shape do not depend
        on it.
    other : (c h w), optional
        For "texture exchange": what shows. Without any it is the image itself, upside down.

    Returns
    -------
    image : (c h w) float32
        Outside of the mask every pixel is as it was.
    mask : (h w) bool
        The shape of the defect. Some of its pixels may have the value that they had.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    check_one_of("kind", kind, KINDS)
    _check_difficulty(difficulty)
    if not isinstance(rng, np.random.Generator):
        raise ValueError(
            f"rng must be a generator, such as numpy.random.default_rng(0), got {rng!r}"
        )
    image = checked_images(np.asarray(image)[None], "image")[0]
    _, h, w = image.shape
    if min(h, w) < LEAST:
        raise ValueError(f"image must have sides of at least {LEAST} pixels, got {h} x {w}")
    if kind == "scratch":
        mask = _line(h, w, rng)
        new = _shaded(image, rng)
    elif kind == "spot":
        mask = _ellipse(h, w, rng)
        new = _shaded(image, rng)
    elif kind == "contamination":
        mask = _specks(h, w, rng)
        new = _shaded(image, rng, rng.uniform(0.6, 1.0, (h, w)))
    elif kind == "texture exchange":
        mask = _blob(h, w, rng)
        new = (
            image[:, ::-1] if other is None else checked_images(np.asarray(other)[None], "other")[0]
        )
        if new.shape != image.shape:
            raise ValueError(f"other must be {image.shape} as the image is, got {new.shape}")
    else:
        side = max(4, int(min(h, w) * rng.uniform(0.1, 0.25)))
        top, left = int(rng.integers(0, h - side + 1)), int(rng.integers(0, w - side + 1))
        at = np.s_[:, top : top + side, left : left + side]
        mask = np.zeros((h, w), dtype=bool)
        mask[at[1:]] = True
        new = image.copy()
        if kind == "missing patch":
            new[at] = image[at].mean((1, 2), keepdims=True)
        else:
            y, x = int(rng.integers(0, h - side + 1)), int(rng.integers(0, w - side + 1))
            new[at] = np.rot90(image[:, y : y + side, x : x + side], axes=(1, 2))
    mixed = np.float32(difficulty) * image + np.float32(1 - difficulty) * new
    return np.where(mask, mixed, image).clip(0, 1).astype(np.float32), mask


def textures(
    name: str = "brick",
    *,
    n_train: int = 32,
    n_good: int = 20,
    per_kind: int = 5,
    kinds: Sequence[str] = KINDS,
    size: int = 128,
    difficulty: float = 0.3,
    light: float = 0.05,
    seed: int = 0,
) -> ImageSet:
    """Pieces of one texture, with planted defects in some of those to judge by.

    Train images are cut from the left 320 columns of the texture, test images from the other 192, so
    no test pixel was learned. Pieces of one split overlap each other: test images are no
    independent sample, and a second seed cuts the same surface at other places.

    Parameters
    ----------
    name : "brick", "grass" or "gravel"
    n_train, n_good : int
        Images to learn from, and normal ones to judge by.
    per_kind : int
        Images of each kind of defect.
    kinds : sequence of str
        See `planted`; what a "texture exchange" shows is one of the other textures.
    size : int
        Pixels of a side, at most 192.
    difficulty : float
        See `planted`.
    light : float
        Every image is multiplied by a number within 1 ± light, so that brightness alone says little.
    seed : int
        The same seed gives the same bytes.

    Returns
    -------
    ImageSet
        With one channel.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> found = textures("gravel", n_train=4, n_good=2, per_kind=1, size=64)
    >>> found.train.shape, found.kinds[:4]
    ((4, 1, 64, 64), ('good', 'good', 'scratch', 'spot'))
    """
    check_one_of("name", name, TEXTURES)
    for argument, value in (("n_train", n_train), ("n_good", n_good), ("per_kind", per_kind)):
        check_whole(argument, value)
    check_whole("size", size, LEAST, 512 - SPLIT)
    check_number("light", light, 0, 1, ends="[)")
    _check_difficulty(difficulty)
    kinds = checked_kinds(kinds)
    rng = np.random.default_rng(check_seed(seed))

    def piece(of: str, left: int, right: int) -> np.ndarray:
        """A square from between two columns, (1 size size)."""
        y = int(rng.integers(0, 512 - size + 1))
        x = int(rng.integers(left, right - size + 1))
        cut = texture(of)[y : y + size, x : x + size]
        return (cut * np.float32(1 + rng.uniform(-light, light))).clip(0, 1)[None]

    train = np.stack([piece(name, 0, SPLIT) for _ in range(n_train)])
    of_kinds = [GOOD] * n_good + [kind for kind in kinds for _ in range(per_kind)]
    test, masks = [], []
    for kind in of_kinds:
        image, mask = piece(name, SPLIT, 512), np.zeros((size, size), dtype=bool)
        if kind != GOOD:
            others = [each for each in TEXTURES if each != name]
            other = piece(str(rng.choice(others)), 0, 512)
            image, mask = planted(image, kind, rng, difficulty=difficulty, other=other)
        test.append(image)
        masks.append(mask)
    labels = np.array([kind != GOOD for kind in of_kinds])
    named = f"{name}/{seed}"
    return ImageSet(named, train, np.stack(test), labels, tuple(of_kinds), np.stack(masks))


def checked_kinds(kinds: object) -> tuple[str, ...]:
    """Some of `KINDS`, one or more, in an order: that of a set is another in every process.

    Raises
    ------
    ValueError
        If they are anything else.
    """
    if isinstance(kinds, str | Set) or not isinstance(kinds, Collection) or not len(kinds):
        raise ValueError(f"kinds must be a list of some of {KINDS}, got {kinds!r}")
    for kind in kinds:
        check_one_of("kinds", kind, KINDS)
    return tuple(map(str, kinds))


def _check_difficulty(difficulty: float) -> None:
    check_number("difficulty", difficulty, 0, 1, ends="[)")


def _shaded(
    image: np.ndarray, rng: np.random.Generator, share: np.ndarray | float = 0.8
) -> np.ndarray:
    """The image a share of the way to white or to black, whichever the dice say."""
    shade = np.float32(rng.choice([0.0, 1.0]))
    return image + np.asarray(share, dtype=np.float32) * (shade - image)


def _grid(h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (h 1) and columns (1 w)."""
    y, x = np.ogrid[:h, :w]
    return y, x


def _line(h: int, w: int, rng: np.random.Generator) -> np.ndarray:
    """A line with one bend, one to three pixels wide; (h w)."""
    length = min(h, w) * rng.uniform(0.3, 0.7)
    angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6)
    t = np.linspace(0, 1, 4 * max(h, w))
    turn = angle + bend * t
    y, x = np.cumsum(np.sin(turn)), np.cumsum(np.cos(turn))
    y, x = (length / len(t) * (v - v.min()) for v in (y, x))
    y = y + rng.uniform(0, max(0.0, h - 1 - y.max()))
    x = x + rng.uniform(0, max(0.0, w - 1 - x.max()))
    mask = np.zeros((h, w), dtype=bool)
    mask[y.round().astype(int).clip(0, h - 1), x.round().astype(int).clip(0, w - 1)] = True
    width = int(rng.integers(0, 3))
    return mask if width == 0 else ndimage.binary_dilation(mask, np.ones((width + 1, width + 1)))


def _ellipse(h: int, w: int, rng: np.random.Generator) -> np.ndarray:
    """An ellipse in any direction, wholly inside; (h w)."""
    side = min(h, w)
    a, b = side * rng.uniform(0.05, 0.12), side * rng.uniform(0.05, 0.12)
    reach = max(a, b)
    cy, cx = rng.uniform(reach, h - 1 - reach), rng.uniform(reach, w - 1 - reach)
    angle = rng.uniform(0, np.pi)
    y, x = _grid(h, w)
    u = (y - cy) * np.cos(angle) + (x - cx) * np.sin(angle)
    v = (x - cx) * np.cos(angle) - (y - cy) * np.sin(angle)
    inside = (u / a) ** 2 + (v / b) ** 2 <= 1
    inside[round(cy), round(cx)] = True  # also where it is narrower than a pixel
    return np.asarray(inside)


def _specks(h: int, w: int, rng: np.random.Generator) -> np.ndarray:
    """Six to sixteen small discs about one place; (h w)."""
    side = min(h, w)
    y, x = _grid(h, w)
    cy, cx = rng.uniform(0.2 * h, 0.8 * h), rng.uniform(0.2 * w, 0.8 * w)
    mask = np.zeros((h, w), dtype=bool)
    for _ in range(int(rng.integers(6, 17))):
        py = np.clip(rng.normal(cy, 0.08 * side), 0, h - 1)
        px = np.clip(rng.normal(cx, 0.08 * side), 0, w - 1)
        mask |= (y - py) ** 2 + (x - px) ** 2 <= rng.uniform(1.0, max(1.5, 0.02 * side)) ** 2
    return mask


def _blob(h: int, w: int, rng: np.random.Generator) -> np.ndarray:
    """A closed shape with a wavy edge; (h w)."""
    side = min(h, w)
    reach = side * rng.uniform(0.08, 0.15)
    cy, cx = (
        rng.uniform(1.4 * reach, h - 1 - 1.4 * reach),
        rng.uniform(1.4 * reach, w - 1 - 1.4 * reach),
    )
    y, x = _grid(h, w)
    angle = np.arctan2(y - cy, x - cx)
    waves = sum(
        rng.uniform(-0.15, 0.15) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3)
    )
    return np.asarray(np.hypot(y - cy, x - cx) <= reach * (1 + waves))
