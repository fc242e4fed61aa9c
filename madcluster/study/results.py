"""Measured tables of the book: small CSV files under book/results/, each written by one command."""

from __future__ import annotations

import gzip
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from madcluster.files import whole_file

__all__ = ["MissingResultError", "commit", "provenance", "read_result", "write_result"]

_ABOVE = Path(__file__).resolve().parents[2]
# the tables belong to the book, which is not installed: then those of a checkout one works in
FOLDER = (_ABOVE if (_ABOVE / "pyproject.toml").exists() else Path.cwd()) / "book" / "results"


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


def write_result(
    frame: pd.DataFrame, name: str, *, compress: bool = False, folder: Path = FOLDER
) -> Path:
    """Write `name`.csv, or `name`.csv.gz, under another name first: no half of a table is ever read.

    The same table always gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = frame.to_csv(index=False, lineterminator="\n").encode()
    target = folder / (f"{name}.csv.gz" if compress else f"{name}.csv")
    with whole_file(target) as part:
        part.write_bytes(gzip.compress(content, mtime=0) if compress else content)
    return target


def read_result(name: str, *, folder: Path = FOLDER) -> pd.DataFrame:
    """A table of the book, as it was last measured.

    Raises
    ------
    MissingResultError
        If there is no such table, as where the package is installed without the book.
    """
    for path in (folder / f"{name}.csv", folder / f"{name}.csv.gz"):
        if path.exists():
            return pd.read_csv(path)
    there = ", ".join(sorted(p.name.split(".")[0] for p in folder.glob("*.csv*"))) or "none"
    raise MissingResultError(f"no table {name!r} under {folder}; there are: {there}")


def commit() -> str:
    """Commit of the package's checkout, with a + where the package was changed since, or "unknown"."""
    folder = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
