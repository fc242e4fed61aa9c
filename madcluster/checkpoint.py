"""Files of tensors and plain JSON: whole or not there, and reading one runs no code."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

__all__ = ["CheckpointError", "read", "write"]


class CheckpointError(ValueError):
    """A file is not one that this version can read."""


def write(
    path: str | os.PathLike[str],
    kind: str,
    about: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    version: int,
) -> None:
    """Write a safetensors file under another name, and rename it when it is whole.

    Parameters
    ----------
    path : file, replaced if it is there
    kind : what the file holds; `read` must ask for the same.
    about : plain JSON that describes the tensors
    tensors : by name
    version : of the layout of `about` and `tensors`
    """
    header = {
        "format": version,
        "versions": {name: version_of(name) for name in ("madcluster", "torch")},
        **about,
    }
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    try:
        stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(stored, temporary, metadata={kind: json.dumps(header)})
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read(
    path: str | os.PathLike[str], kind: str, *, version: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `write` was given as `about`, with "format" and "versions", and the tensors.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If it is damaged, of another kind, or of a format above `version`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[kind])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole file of kind {kind!r}: {error}") from error
    found = about.get("format") if isinstance(about, dict) else None
    if not isinstance(found, int):
        raise CheckpointError(f"{path} does not say which format it has")
    if found > version:
        raise CheckpointError(
            f"{path} has format {found}, written with {_words(about.get('versions'))}; "
            f"this is madcluster {version_of('madcluster')}, which reads formats up to {version}"
        )
    return about, tensors


def _words(versions: Any) -> str:
    if not isinstance(versions, dict) or not versions:
        return "unknown versions"
    return ", ".join(f"{name} {number}" for name, number in versions.items())
