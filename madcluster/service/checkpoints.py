"""Files of arrays and plain JSON: whole or not there, and reading one runs no code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from madcluster.files import whole_file

__all__ = ["FAULTS", "CheckpointError", "Saved", "as_bits", "from_bits", "read", "write"]

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


class Saved:
    """What is written to a file and read from it, whichever of a family it is.

    A subclass is an estimator of scikit-learn; it says what goes into its file (`_whole`) and how it
    is made from that (`_from_whole`). Arrays whose names begin with "state." may hold infinities.
    """

    _file: ClassVar[tuple[str, int]]  # kind and format; others are refused
    _module: ClassVar[str | None] = None  # a parameter that may be a module, which no file holds

    def _check_fitted(self) -> None:
        raise TypeError(f"{type(self).__name__} must define _check_fitted")

    def _whole(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """All that goes into a file: plain values with "detector" and "params", and arrays."""
        raise TypeError(f"{type(self).__name__} must define _whole")

    @classmethod
    def _from_whole(
        cls,
        path: object,
        about: Mapping[str, Any],
        arrays: dict[str, np.ndarray],
        given: Mapping[str, Any],
    ) -> Self:
        """One of what `_whole` gave, checked as far as that can be."""
        raise TypeError(f"{cls.__name__} must define _from_whole")

    @classmethod
    def _family(cls) -> Mapping[str, type[Saved]]:
        """The classes that a common base reads, by name."""
        return {}

    def _params(self) -> dict[str, Any]:
        """Parameters as they go into a file: without a device, and without a module of one's own."""
        params: dict[str, Any] = self.get_params(deep=False)  # type: ignore[attr-defined]
        if "device" in params:
            params["device"] = "auto"
        if self._module is not None and not isinstance(params[self._module], str):
            params[self._module] = None
        return params

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write arrays and plain JSON to one safetensors file, whole or not at all.

        With them go the versions of the software and what is needed to refuse other data: of a series
        number and names of the channels, and on which rows and when it was fitted and calibrated, of
        images their shape. A module of your own is not stored, only its weights: `load` is given the
        module again.

        Raises
        ------
        NotFittedError
            Before `fit`.
        TypeError
            If a parameter has no form in JSON.
        ValueError
            If what was learned is not finite everywhere; an infinity that a module of your own had
            before is as it should be.
        """
        self._check_fitted()
        about, arrays = self._whole()
        kind, version = self._file
        write(path, kind, about, arrays, version=version, infinite="state.")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a detector that `save` wrote; no code of the file is run.

        The common base, as `Detector`, reads any of its family, another class only its own.

        Raises
        ------
        CheckpointError
            If the file is damaged, of another kind or of another format.
        FileNotFoundError
            If there is no such file.
        """
        return cls._load(path, {})

    @classmethod
    def _load(cls, path: str | os.PathLike[str], given: Mapping[str, Any]) -> Self:
        """Read a detector; `given` parameters take the place of those in the file."""
        kind, version = cls._file
        about, arrays = read(path, kind, version=version, infinite="state.")
        try:
            found = cls._class_of(path, about["detector"])
            detector: Self = found._from_whole(path, about, arrays, given)
        except CheckpointError:
            raise
        except FAULTS as error:
            raise CheckpointError(f"{path} does not describe a detector: {error}") from error
        return detector

    @classmethod
    def _made(cls, path: object, params: Mapping[str, Any], given: Mapping[str, Any]) -> Self:
        if (name := cls._module) is not None and (params[name] is None) != (name in given):
            wants = "does not take" if name in given else "needs"
            raise CheckpointError(f"{path} {wants} a module of your own as {name}")
        return cls(**{**params, **given})

    @classmethod
    def _class_of(cls, path: object, name: object) -> Any:
        """The class that a file names: this one, or any of its family if this is their base."""
        family = cls._family()
        of_base = [each for each in family.values() if issubclass(each, cls) and each is not cls]
        if not of_base or cls in family.values():
            if name != cls.__name__:
                raise CheckpointError(f"{path} holds a {name}, not a {cls.__name__}")
            return cls
        found = next((each for each in of_base if each.__name__ == name), None)
        if found is None:
            raise CheckpointError(
                f"{path} holds a {name}, which is none of the detectors here, {sorted(family)}"
            )
        return found


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
