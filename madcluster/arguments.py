"""Arguments that are wrong are refused by name, before the expensive part."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "check_flag",
    "check_line",
    "check_number",
    "check_one_of",
    "check_scores",
    "check_seed",
    "check_whole",
    "outside",
    "plain",
]

MOST = 2**31 - 1  # what sizes and counts are stored in, here or in a library below


def check_whole(name: str, value: object, least: int = 1, most: int = MOST) -> int:
    """The integer, also from NumPy; a bool is none.

    Raises
    ------
    ValueError
        If it is no integer, below `least` or above `most`.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        kind = {0: "an integer of at least 0", 1: "a positive integer"}.get(
            least, f"at least {least}"
        )
        raise ValueError(f"{name} must be {kind}, got {value!r}")
    if value > most:
        raise ValueError(f"{name} must be at most {most}, got {value!r}")
    return int(value)


def check_seed(value: object) -> int:
    """The integer from 0 to 2³² − 1: what the generators of torch, NumPy and scikit-learn all take.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    return check_whole("seed", value, 0, 2**32 - 1)


def check_number(
    name: str, value: object, low: float, high: float = math.inf, *, ends: str = "()"
) -> float:
    """The number between two others, also from NumPy.

    `ends` says whether these belong to what is allowed, "[" or "]", or not, "(" or ")".

    Raises
    ------
    ValueError
        If it is no number, or not in the interval; NaN is in none.
    """
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if real:
        number = float(value)  # type: ignore[arg-type]
        above = number >= low if ends[0] == "[" else number > low
        below = number <= high if ends[1] == "]" else number < high
        if above and below:
            return number
    if high == math.inf:
        words = {("[", 0.0): "not be negative", ("(", 0.0): "be positive"}
        wanted = words.get((ends[0], float(low)), f"be above {low:g}")
    else:
        wanted = f"lie in {ends[0]}{low:g}, {high:g}{ends[1]}"
    raise ValueError(f"{name} must {wanted}, got {value!r}")


def check_one_of(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise a ValueError unless the value is among those that are allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {tuple(allowed)}, got {value!r}")


def check_flag(name: str, value: object) -> bool:
    """The truth value, also from NumPy.

    Raises
    ------
    ValueError
        If it is anything else, such as the text "no", which Python counts as true.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_line(name: str, value: object) -> str:
    """The text, one line of visible characters; it may be empty.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{name} must be one line of text, got {value!r}")
    return value


def check_scores(
    name: str, scores: ArrayLike, *, least: int = 1, finite: bool = True
) -> np.ndarray:
    """Scores (n,) as float64, without `finite` also those that are none.

    Raises
    ------
    ValueError
        If they are of another shape, fewer than `least`, or with `finite` one is not.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or len(values) < least:
        wanted = "(n,) and not empty" if least else "(n,)"
        raise ValueError(f"{name} must be {wanted}, got shape {values.shape}")
    if finite and not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise ValueError(f"{name} holds {values[row]} in row {row}")
    return values


def plain(value: Any) -> Any:
    """The same without NumPy's numbers and arrays, in containers of its own.

    Mappings, lists and tuples are copied with all that is in them; a module, or whatever else is in
    them, stays the one that it is.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {plain(name): plain(inner) for name, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return value


def outside() -> int:
    """The `stacklevel` by which a warning names the line that called the package, however deep."""
    level, frame = 1, sys._getframe(1)
    within = "madcluster", "contextlib"  # which stands between where a context or decorator is ours
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] in within:
        level, frame = level + 1, frame.f_back
    return level
