"""Image sets from the folders of MVTec AD and VisA, and images from a folder of one's own.

Neither data set comes with this package: the license of MVTec AD forbids it. `madcluster.data.fetch`
says where they are.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from madcluster.arguments import check_line, check_whole
from madcluster.data import MissingDataError
from madcluster.data.fetch import BY_HAND
from madcluster.images.sets import GOOD, ImageSet

__all__ = ["ImageFileError", "images_in", "read_image", "read_images", "read_mvtec", "read_visa"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MOST = 2**14  # pixels of a side that an image is brought to
SIZE = 256  # pixels of a side; what most papers on MVTec AD resize to


class ImageFileError(ValueError):
    """An image or a mask is damaged, or is not what it should be; the message names the file."""


def images_in(folder: str | os.PathLike[str]) -> list[Path]:
    """Image files right in a folder, by name: `.png .jpg .jpeg .bmp .tif .tiff`.

    Raises
    ------
    MissingDataError
        If there is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingDataError(f"there is no folder {folder}")
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    )
    if not found:
        raise MissingDataError(f"there is no image ({' '.join(SUFFIXES)}) in {folder}")
    return found


def read_image(path: str | os.PathLike[str], size: int | None = SIZE) -> np.ndarray:
    """An image file as (3 h w) float32 between 0 and 1.

    Parameters
    ----------
    path : file
        In gray or color, of 8 or 16 bits; of gray all three channels are the same. Transparency is
        left out. A photograph is turned as its camera says.
    size : int or None
        Pixels of each side after resizing, whatever the shape was; None leaves it.

    Raises
    ------
    ImageFileError
        If it is damaged or no image; 32-bit integers have no known white.
    FileNotFoundError
        If there is no such file.
    """
    if size is not None:
        check_whole("size", size, 1, MOST)
    return _resized(_opened(path), path, size)


def _opened(path: str | os.PathLike[str]) -> Image.Image:
    """The image, read to its end and turned as its camera says."""
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise
    # damaged files raise OSError, SyntaxError, ValueError, struct.error, zlib.error and others
    except Exception as error:
        raise ImageFileError(f"{path} is damaged or no image: {error}") from error


def _resized(image: Image.Image, path: object, size: int | None) -> np.ndarray:
    """(3 h w) float32 between 0 and 1."""
    if image.mode.startswith("I;16"):
        gray = Image.fromarray(np.asarray(image).astype(np.float32) / np.float32(65535))
        planes: Sequence[Image.Image] = [gray]
        white = 1.0
    elif image.mode in ("I", "F"):
        raise ImageFileError(
            f"{path} has pixels of 32 bits, for which nothing says what is white: save it with 8 or 16"
        )
    else:
        planes, white = image.convert("RGB").split(), 255.0
    if size is not None:
        planes = [plane.resize((size, size), Image.Resampling.BILINEAR) for plane in planes]
    values = np.stack([np.asarray(plane, dtype=np.float32) for plane in planes]) / np.float32(white)
    return np.broadcast_to(values, (3, *values.shape[1:])).clip(0, 1)


def read_images(
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], size: int | None = SIZE
) -> np.ndarray:
    """Image files, or all in a folder by name, as (n 3 h w) float32 between 0 and 1; see `read_image`.

    Raises
    ------
    ImageFileError
        If one is damaged or, with `size=None`, of another size than the first.
    MissingDataError
        If there is no folder, or no image.
    """
    files = images_in(paths) if isinstance(paths, str | os.PathLike) else list(paths)
    if not files:
        raise MissingDataError("paths names no image")
    images = []
    for path in files:
        images.append(read_image(path, size))
        if images[-1].shape != images[0].shape:
            raise ImageFileError(
                f"{path} has {images[-1].shape[1]} x {images[-1].shape[2]} pixels, the first image "
                f"{images[0].shape[1]} x {images[0].shape[2]}: give a size to bring them to"
            )
    return np.stack(images)


def _image_and_mask(
    path: Path, mask: Path | None, size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """(3 h w), and (h w) bool; without a mask file no pixel is marked."""
    opened = _opened(path)
    image = _resized(opened, path, size)
    if mask is None:
        return image, np.zeros(image.shape[1:], dtype=bool)
    marked = _opened(mask)
    if marked.size != opened.size:
        raise ImageFileError(
            f"{mask} has {marked.height} x {marked.width} pixels, its image {path} has "
            f"{opened.height} x {opened.width}"
        )
    values = np.asarray(marked.convert("RGB") if marked.mode == "P" else marked)
    if values.ndim == 3:  # transparency marks nothing
        values = values[..., : 1 if marked.mode == "LA" else 3].max(2)
    if not (values > 0).any():
        raise ImageFileError(f"{mask} marks no pixel, but {path} is an image of a defect")
    if size is None:
        return image, values > 0
    # a box covers every pixel that falls into it: no defect vanishes, however small
    covered = Image.fromarray((values > 0).astype(np.float32)).resize(
        (size, size), Image.Resampling.BOX
    )
    return image, np.asarray(covered) > 0


def _set(
    name: str,
    train: Sequence[Path],
    test: Sequence[tuple[Path, str, Path | None]],
    size: int | None,
) -> ImageSet:
    if size is not None:
        check_whole("size", size, 1, MOST)
    images: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    for path, _, mask in test:
        image, marked = _image_and_mask(path, mask, size)
        if images and image.shape != images[0].shape:
            raise ImageFileError(
                f"{path} has other sides than {test[0][0]}: give a size to bring them to"
            )
        images.append(image)
        masks.append(marked)
    kinds = tuple(kind for _, kind, _ in test)
    labels = np.array([kind != GOOD for kind in kinds])
    return ImageSet(
        name, read_images(train, size), np.stack(images), labels, kinds, np.stack(masks)
    )


def _check_class(root: Path, class_name: str, known: Sequence[str], where: str) -> None:
    """Raise a MissingDataError unless a class is among those that are there."""
    check_line("class_name", class_name)
    if class_name in known:
        return
    if not known:
        raise MissingDataError(f"{root} holds no class of {where}. {BY_HAND[where]}")
    near = get_close_matches(class_name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}"
    raise MissingDataError(f"{root} has no class {class_name!r} of {where}; {hint}")


def read_mvtec(
    root: str | os.PathLike[str], class_name: str, *, size: int | None = SIZE
) -> ImageSet:
    """One class of MVTec AD (Bergmann et al., IJCV 2021), or of another set with its layout.

    Parameters
    ----------
    root : folder
        With `<class>/train/good`, `<class>/test/good`, `<class>/test/<defect>` and
        `<class>/ground_truth/<defect>/<image>_mask.png` in it.
    class_name : str
        Such as "bottle".
    size : int or None
        Pixels of each side that images and masks are brought to. A pixel of a smaller mask is marked
        if it covers any that was, so that no defect vanishes.

    Raises
    ------
    MissingDataError
        If the class, one of its folders or a mask is not there.
    ImageFileError
        If an image or a mask is damaged, a mask has other sides than its image, or marks nothing.
    """
    root = Path(root)
    known = sorted(path.parent.name for path in root.glob("*/train") if path.is_dir())
    _check_class(root, class_name, known, "MVTec AD")
    folder = root / class_name
    if not (folder / "test").is_dir():
        raise MissingDataError(f"class {class_name!r} of MVTec AD has no folder {folder / 'test'}")
    test: list[tuple[Path, str, Path | None]] = []
    kinds = (path.name for path in (folder / "test").iterdir() if path.is_dir())
    for kind in sorted(name for name in kinds if not name.startswith(".")):
        for image in images_in(folder / "test" / kind):
            mask = None
            if kind != GOOD:
                mask = folder / "ground_truth" / kind / f"{image.stem}_mask.png"
                if not mask.is_file():
                    raise MissingDataError(
                        f"class {class_name!r} of MVTec AD has no mask {mask} for {image}"
                    )
            test.append((image, kind, mask))
    if not test:
        raise MissingDataError(
            f"class {class_name!r} of MVTec AD has no image in {folder / 'test'}"
        )
    return _set(f"mvtec/{class_name}", images_in(folder / "train" / GOOD), test, size)


def read_visa(
    root: str | os.PathLike[str], class_name: str, *, size: int | None = SIZE
) -> ImageSet:
    """One class of VisA (Zou et al., ECCV 2022) in its one-class split.

    Parameters
    ----------
    root : folder
        With `split_csv/1cls.csv` in it, whose columns object, split, label, image and mask name the
        files under the folder. Every defect has the kind "anomaly".
    class_name : str
        Such as "candle".
    size : int or None
        As for `read_mvtec`. In a mask every value but 0 marks a defect.

    Raises
    ------
    MissingDataError
        If the split, the class, an image or a mask is not there.
    ImageFileError
        If the split lacks a column or has an unknown word, and as for `read_mvtec`.
    """
    root = Path(root)
    split = root / "split_csv" / "1cls.csv"
    if not split.is_file():
        raise MissingDataError(f"there is no {split}. {BY_HAND['VisA']}")
    with split.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    lacking = sorted({"object", "split", "label", "image", "mask"} - set(reader.fieldnames or ()))
    if lacking:
        raise ImageFileError(f"{split} has no column {', '.join(lacking)}")
    _check_class(root, class_name, sorted({row["object"] for row in rows}), "VisA")
    train: list[Path] = []
    test: list[tuple[Path, str, Path | None]] = []
    for line, row in enumerate(rows, 2):
        if row["object"] != class_name:
            continue
        where = f"{split}, line {line}"
        if row["split"] not in ("train", "test") or row["label"] not in ("normal", "anomaly"):
            raise ImageFileError(
                f"{where}: split must be train or test and label normal or anomaly, got "
                f"{row['split']!r} and {row['label']!r}"
            )
        normal = row["label"] == "normal"
        image = root / row["image"]
        mask = None if normal else root / (row["mask"] or "")
        for path in (image, mask):
            if path is not None and not path.is_file():
                raise MissingDataError(
                    f"class {class_name!r} of VisA has no file {path}, named in {where}"
                )
        if row["split"] == "test":
            test.append((image, GOOD if normal else "anomaly", mask))
        elif normal:
            train.append(image)
        else:
            raise ImageFileError(f"{where}: {image} is an anomaly, but is in the split train")
    for name, found in (("train", train), ("test", test)):
        if not found:
            raise MissingDataError(f"class {class_name!r} of VisA has no {name} image in {split}")
    return _set(f"visa/{class_name}", train, test, size)
