"""Measured tables of the book: small CSV files under book/results/, each written by one command."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from madcluster.files import whole_file

__all__ = [
    "MissingResultError",
    "commit",
    "once",
    "peak_memory",
    "provenance",
    "read_result",
    "renew_result",
    "write_result",
]

PACKAGE = Path(__file__).resolve().parents[1]
_ABOVE = PACKAGE.parent
# the tables belong to the book, which is not installed: then those of a checkout one works in
FOLDER = (_ABOVE if (_ABOVE / "pyproject.toml").exists() else Path.cwd()) / "book" / "results"


class MissingResultError(FileNotFoundError):
    """A table that no command has written yet."""


def peak_memory() -> int:
    """Bytes that this process has held at its highest; Linux alone.

    `resource.getrusage` has another number, `ru_maxrss`: a process inherits it from its parent, so a
    fresh one, started by a larger, shows that one's.

    Raises
    ------
    OSError
        Where there is no /proc.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


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


def renew_result(frame: pd.DataFrame, name: str, *, by: str, folder: Path = FOLDER) -> Path:
    """Write `name`.csv with these rows in place of those that have the same value in the column `by`.

    Rows of other values stay as they were measured, each with its own machine and versions; new ones
    come last.
    """
    try:
        old = read_result(name, folder=folder)
    except MissingResultError:
        return write_result(frame, name, folder=folder)
    new = dict(iter(frame.groupby(by, sort=False)))
    parts = [new.pop(value, rows) for value, rows in old.groupby(by, sort=False)]
    return write_result(pd.concat([*parts, *new.values()]), name, folder=folder)


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


def once(path: Path, make: Callable[[], Any]) -> Any:
    """What `make` gives, as JSON has it: from the file if it is there, else made and written to it.

    So a study that was stopped goes on where it was. Remove the file where the code has changed.
    """
    if not path.exists():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.write_text(json.dumps(made))
    return json.loads(path.read_text())


def commit(folder: Path = PACKAGE) -> str:
    """The code of the package: the commit of its checkout where that says all.

    A checkout that was changed since has a + and a digest of the package's files behind its commit; a
    package without a checkout has its version, a + and the digest. So two states never share a name.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        # a repository that only lies around an installed package says nothing of it
        git("ls-files", "--error-unmatch", "__init__.py")
        changed = git("status", "--porcelain", "--", ".")
        head = git("rev-parse", "--short=12", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return f"{version('madcluster')}+{_digest(folder)}"
    return f"{head}+{_digest(folder)}" if changed else head


def _digest(folder: Path) -> str:
    """Of names and contents of all files but those that Python writes itself."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            found.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
            found.update(content)
    return found.hexdigest()[:12]
