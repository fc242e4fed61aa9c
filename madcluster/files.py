"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

__all__ = ["whole_file"]


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends without an error.

    Whoever reads `path` meanwhile finds what was there before, or nothing, but no half of a file; if
    the block fails or the process dies, `path` is as it was. A link is followed and stays a link; a
    file that is replaced keeps its mode, a new one has that of the umask.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with whole_file(folder / "numbers.txt") as part:
    ...     _ = part.write_text("1 2 3")
    >>> [file.name for file in folder.iterdir()], (folder / "numbers.txt").read_text()
    (['numbers.txt'], '1 2 3')
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # less the umask
    try:
        yield part
        if target.exists():
            part.chmod(stat.S_IMODE(target.stat().st_mode))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
