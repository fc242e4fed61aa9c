"""Measured tables of the book: small CSV files under book/results/, each written by one command."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd

__all__ = ["MissingResultError", "provenance", "read_result", "write_result"]

FOLDER = Path(__file__).parents[1] / "book" / "results"


class MissingResultError(FileNotFoundError):
    """A table that no command has written yet."""


def provenance(
    packages: Sequence[str] = ("torch", "numpy"), *, threads: int = 1, seed: int = 0
) -> dict[str, str]:
    """What a number depends on beside the code: two columns, `machine` and `versions`."""
    cores = os.cpu_count()
    of_packages = ", ".join(f"{name} {version(name)}" for name in ("madcluster", *packages))
    return {
        "machine": f"{platform.system()} {platform.machine()}, {cores} cores, {threads} thread(s)",
        "versions": f"Python {platform.python_version()}, {of_packages}, seed {seed}",
    }


def write_result(frame: pd.DataFrame, name: str, *, folder: Path = FOLDER) -> Path:
    """Write `name`.csv, under another name first, so that a half-written table is never read."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            frame.to_csv(file, index=False, lineterminator="\n")
        Path(temporary).chmod(0o644)
        target = folder / f"{name}.csv"
        Path(temporary).replace(target)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return target


def read_result(name: str, *, folder: Path = FOLDER) -> pd.DataFrame:
    """A table of the book, as it was last measured.

    Raises
    ------
    MissingResultError
        If there is no such table, as where the package is installed without the book.
    """
    path = folder / f"{name}.csv"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.csv"))) or "none"
        raise MissingResultError(f"no table {name!r} under {folder}; there are: {there}")
    return pd.read_csv(path)
