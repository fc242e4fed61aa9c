"""Files of arrays and plain JSON: whole or not there, and reading one runs no code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from madcluster.files import whole_file

__all__ = ["FAULTS", "CheckpointError", "as_bits", "from_bits", "read", "write"]

# what Python raises where a file holds something else than was expected, from a number too large to a
# list too deep
FAULTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


MOST = 500  # characters of a message


class CheckpointError(ValueError):
    """A file is not one that this version can read.

    Its message is one line of visible characters, whatever the file holds: a terminal does as it is
    told by others.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
        super().__init__(shown if len(shown) <= MOST else f"{shown[:MOST]} …")


def write(
    path: str | os.PathLike[str],
    kind: str,
    about: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    *,
    version: int,
    infinite: str = "",
) -> None:
    """Write a safetensors file, whole or not at all; see `madcluster.files.whole_file`.

    Parameters
    ----------
    path : file, replaced if it is there
    kind : what the file holds; `read` must ask for the same.
    about : plain JSON that describes the arrays; NumPy's scalars are written as numbers
    arrays : by name
    version : of the layout of `about` and `arrays`
    infinite : arrays with this in their names may hold infinities

    Raises
    ------
    TypeError
        If `about` holds something that JSON has no form for.
    ValueError
        If an array holds a number that `read` would refuse.
    """
    for name, array in arrays.items():
        _check_finite(name, array, infinite)
    versions = {}
    for name in ("madcluster", "numpy", "torch"):
        try:
            versions[name] = version_of(name)
        except PackageNotFoundError:  # a detector without a network needs no torch
            continue
    header = json.dumps({"format": version, "versions": versions, **about}, default=_plain)
    stored = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with whole_file(path) as part:
        part.write_bytes(save(stored, metadata={kind: header}))


def _plain(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be saved as JSON")


def _check_finite(name: str, array: np.ndarray, infinite: str) -> None:
    """Raise a ValueError for a NaN, and for an infinity where none may be."""
    if array.dtype.kind not in "fc" or np.isfinite(array).all():
        return
    if not (infinite and infinite in name) or np.isnan(array).any():
        raise ValueError(f"{name} is not finite everywhere")


def read(
    path: str | os.PathLike[str], kind: str, *, version: int, infinite: str = ""
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `write` was given as `about`, with "format" and "versions", and the arrays.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If it is damaged, of another kind, not of format `version`, or holds a NaN or an infinity;
        arrays with `infinite` in their names may hold infinities.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})[kind])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (*FAULTS, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a whole file of kind {kind!r}: {error}") from error
    found = about.get("format") if isinstance(about, dict) else None
    if not isinstance(found, int):
        raise CheckpointError(f"{path} does not say which format it has")
    if found != version:
        raise CheckpointError(
            f"{path} has format {found}, written with {_words(about.get('versions'))}; "
            f"this is madcluster {version_of('madcluster')}, which reads format {version}"
        )
    try:
        for name, array in arrays.items():
            _check_finite(name, array, infinite)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return about, arrays


def as_bits(scores: np.ndarray) -> np.ndarray:
    """Scores as integers: a file must hold finite numbers, and a score may be none."""
    return np.ascontiguousarray(scores, dtype=np.float64).view(np.int64)


def from_bits(kept: np.ndarray) -> np.ndarray:
    """Scores from `as_bits`."""
    if kept.dtype != np.int64:
        raise ValueError(f"scores are kept as {kept.dtype}")
    return kept.view(np.float64)


def _words(versions: Any) -> str:
    if not isinstance(versions, dict) or not versions:
        return "unknown versions"
    return ", ".join(f"{name} {number}" for name, number in versions.items())
