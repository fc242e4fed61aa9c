"""Progress as one line of text, quiet where nobody watches."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

__all__ = ["progress", "quiet"]

_quiet = ContextVar("quiet", default=False)  # of a thread, unlike the environment


def progress(iterable: Iterable[Any], description: str, **options: Any) -> tqdm:
    """Wrap an iterable in a text progress bar on stderr.

    `MADCLUSTER_PROGRESS` decides: "0" is silent, "1" always shows; unset, it shows on a terminal.
    """
    wish = os.environ.get("MADCLUSTER_PROGRESS", "")
    shown = not _quiet.get() and (wish == "1" or (wish != "0" and sys.stderr.isatty()))
    return tqdm(iterable, desc=description, disable=not shown, file=sys.stderr, **options)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No bar in this thread, whatever the environment says."""
    before = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(before)
