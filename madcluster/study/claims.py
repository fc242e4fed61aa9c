"""What a chapter says of its outputs: numbers in prose from cells, and sentences that the build checks.

A notebook glues a number under a name and its text shows it by the role ``{glue:text}`name:.2f```. A
sentence that compares, such as "the first ranks better", stands beside a `claim` of what it says.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["ClaimError", "claim", "glue", "in_words", "record"]

# how myst-nb, and scrapbook before it, keep a value for the text in a cell's outputs
RECORD = "application/papermill.record/"


class ClaimError(AssertionError):
    """A sentence of the book contradicts the output that it stands beside."""


def record(name: str, value: str) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Data and metadata of an output that keeps a value for the text; nothing of it is shown."""
    return {f"{RECORD}text/plain": value}, {"scrapbook": {"name": name, "mime_prefix": RECORD}}


def _keep(name: str, value: str) -> None:
    """Keep a value in the outputs of this cell, where there is a notebook."""
    if "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None:
        return
    from IPython.display import display

    data, metadata = record(name, value)
    display(data, raw=True, metadata=metadata)


def glue(values: Mapping[str, float | str] | None = None, /, **named: float | str) -> None:
    """Keep numbers or words under names, for the text of the same notebook.

    In the text, ``{glue:text}`name``` shows a value as it is, ``{glue:text}`name:.2f``` in that format.
    Outside a notebook nothing happens.

    Parameters
    ----------
    values, **named
        Names and values: numbers of Python, NumPy or PyTorch, or words.

    Raises
    ------
    TypeError
        If a value is neither a word nor one number.
    ValueError
        If a number is not finite: "nan" in a sentence helps nobody. If words have markup, for they are
        shown letter by letter.
    """
    for name, value in {**(values or {}), **named}.items():
        if isinstance(value, str):
            if set(value) & set("*`{}"):
                raise ValueError(f"{name} must be words without markup, got {value!r}")
            _keep(name, repr(value))
            continue
        number = np.asarray(value)
        if number.shape != () or number.dtype.kind not in "iuf":
            raise TypeError(f"{name} must be a number or a word, got {value!r}")
        if not np.isfinite(number):
            raise ValueError(f"{name} is {value}")
        _keep(name, repr(number.item()))


def claim(sentence: str, holds: Any) -> None:
    """Check what the text says of an output.

    Where the book is built (``MADCLUSTER_CLAIMS=strict``, which `book/execute.py` sets), a sentence
    that does not hold stops the build. Elsewhere, after a change of a parameter, the reader is told.

    Parameters
    ----------
    sentence : str
        The claim in words, such as "the first ranks better on every plant".
    holds : bool or array of bool
        All of it must be true. An empty array is no evidence.

    Raises
    ------
    ClaimError
        If it does not hold, in the build.
    TypeError
        If `holds` is not of truth values.
    """
    found = np.asarray(holds)
    if found.dtype != bool:
        raise TypeError(f"a claim is true or false, got {holds!r} for {sentence!r}")
    if found.size and found.all():
        _keep("claim", sentence)
        return
    where = "" if found.shape == () else f" ({np.count_nonzero(found)} of {found.size})"
    if os.environ.get("MADCLUSTER_CLAIMS") == "strict":
        raise ClaimError(f"the text says: {sentence}. The output does not{where}")
    print(f"Not so with these parameters{where}: {sentence}.")


def in_words(names: Sequence[str], *, none: str = "none") -> str:
    """Names as a sentence lists them.

    Examples
    --------
    >>> in_words(["THOC", "USAD", "BeatGAN"]), in_words([])
    ('THOC, USAD and BeatGAN', 'none')
    """
    if not names:
        return none
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
