"""Files that are whole or not there.

A power cut counts too: the content is on the disk (`fsync`) before the name leads to it, which costs
some milliseconds a file. The folder is not waited for, so the name may still lead to the old file after
a power cut, which is whole. What a killed process has left beside a file is swept when that file is
written again; a lock, which ends with its process, tells it from what another one is writing now. Where
there are no such locks it is swept when it is a day old.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked", "whole_file"]

DAY = 24 * 60 * 60


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends without an error.

    Whoever reads `path` meanwhile finds what was there before, or nothing, but no half of a file; if
    the block fails, the process dies or the power goes, `path` is as it was. A link is followed and
    stays a link; a file that is replaced keeps its mode, a new one has that of the umask, also where
    the block puts a file of its own in the place of the one that it was given.

    Raises
    ------
    OSError
        If no file can be written there, such as FileNotFoundError if there is no folder for it and
        IsADirectoryError if `path` is a folder; it names `path`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with whole_file(folder / "numbers.txt") as part:
    ...     _ = part.write_text("1 2 3")
    >>> [file.name for file in folder.iterdir()], (folder / "numbers.txt").read_text()
    (['numbers.txt'], '1 2 3')
    """
    target, name = Path(os.path.realpath(path)), os.fspath(path)
    if target.is_dir():
        raise IsADirectoryError(
            errno.EISDIR, "a folder is no file to write, give another name", name
        )
    try:
        part, held = _begun(target)
    except OSError as error:  # it names a hidden file, which nobody knows
        words = error.strerror
        if isinstance(error, FileNotFoundError):
            words = "there is no folder for it, make one first"
        raise OSError(error.errno, words, name) from None  # Python picks the class by the number
    try:
        _sweep(target)
        mode = stat.S_IMODE(os.fstat(held).st_mode)
        yield part
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        part.chmod(stat.S_IMODE(target.stat().st_mode) if target.exists() else mode)
        part.replace(target)
    finally:
        os.close(held)
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let no other thread or process into a block like this one; wait for the one that is in it.

    The lock is that of a file, made if it is not there, which stays. It ends with its process, also
    where that is killed. Where there are no such locks, as on Windows and some network disks, nobody
    waits: then it is the caller's part that one process writes at a time.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with locked(folder / "lock"):
    ...     (folder / "lock").exists()
    True
    """
    held = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)  # less the umask
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # some network disks have no locks
                fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _begun(target: Path) -> tuple[Path, int]:
    """A new file beside the target, and the descriptor that holds its lock."""
    while True:
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
        held = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)  # less the umask
        if fcntl is not None:
            with contextlib.suppress(OSError):  # some network disks have no locks
                fcntl.flock(held, fcntl.LOCK_EX)
        if part.exists():  # or another process has swept it before it was locked
            return part, held
        os.close(held)


def _sweep(target: Path) -> None:
    """Remove what killed processes have left of the same target."""
    for part in target.parent.glob(f".{glob.escape(target.name)}.{'[0-9a-f]' * 32}.part"):
        with contextlib.suppress(OSError):  # gone, another's, or locked by who writes it
            if fcntl is None:
                if time.time() - part.stat().st_mtime > DAY:
                    part.unlink()
                continue
            descriptor = os.open(part, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
            finally:
                os.close(descriptor)
