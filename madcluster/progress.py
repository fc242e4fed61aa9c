"""Progress as one line of text, quiet where nobody watches."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

__all__ = ["progress"]


def progress(iterable: Iterable[Any], description: str, **options: Any) -> tqdm:
    """Wrap an iterable in a text progress bar on stderr.

    `MADCLUSTER_PROGRESS` decides: "0" is silent, "1" always shows; unset, it shows on a terminal.
    """
    wish = os.environ.get("MADCLUSTER_PROGRESS", "")
    shown = wish == "1" or (wish != "0" and sys.stderr.isatty())
    return tqdm(iterable, desc=description, disable=not shown, file=sys.stderr, **options)
