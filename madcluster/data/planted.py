"""Anomalies that one plants oneself, in rows that are normal: what can be compared without a label."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from madcluster.arguments import check_number, check_whole
from madcluster.data.series import checked_rows, names_of

__all__ = ["KINDS", "check_kinds", "planted"]

# kind -> length of an event in rows
LENGTHS = {"spike": 3, "offset": 40, "frozen": 60, "noise": 60, "other time": 60}
KINDS = tuple(LENGTHS)


def check_kinds(kinds: Sequence[str]) -> Sequence[str]:
    """The kinds, if each can be planted.

    Raises
    ------
    ValueError
        If there are none, or one is unknown.
    """
    many = isinstance(kinds, Collection) and not isinstance(
        kinds, str
    )  # one word is no list of them
    unknown = [kind for kind in kinds if kind not in KINDS] if many else [kinds]
    if unknown or not len(kinds):
        raise ValueError(f"kinds must be a list of some of {KINDS}, got {unknown or kinds}")
    return kinds


def planted(
    rows: Any,
    rng: np.random.Generator,
    *,
    kinds: Sequence[str] = KINDS,
    per_kind: int = 2,
    sizes: tuple[float, float] = (1.5, 3.0),
) -> tuple[np.ndarray, np.ndarray]:
    """Rows with anomalies of known kinds, each in one or two channels that vary.

    - "spike": a few rows far off, by twice the size of the event
    - "offset": a stretch moved by its size
    - "frozen": a stretch that repeats its first value
    - "noise": a stretch with noise added, with half the size as its standard deviation
    - "other time": a stretch that is replaced by another of the same channel

    Not every event can be seen: a stretch that is frozen while it was constant is as it was.

    Parameters
    ----------
    rows : (n c)
        Normal, an array or a DataFrame; they are not changed.
    rng : numpy.random.Generator
        Of places, channels and sizes.
    kinds : which kinds to plant
    per_kind : int
        Events of each kind. They lie in equal parts of the rows, in random order.
    sizes : (float, float)
        Between these an event has its size, in standard deviations of the channel.

    Returns
    -------
    rows : (n c)
        An array: float32 as it was, and all else as float64.
    labels : (n,) bool
        True in an event.

    Raises
    ------
    ValueError
        If rows are no table of finite numbers, rng is no generator, a kind is unknown, sizes are not
        two positive numbers in order, or there are less than two rows for each event.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rows, labels = planted(rng.normal(size=(1000, 3)), rng, kinds=["offset"])
    >>> int(labels.sum())
    80
    """
    check_kinds(kinds)
    check_whole("per_kind", per_kind)
    _check_sizes(sizes)
    if not isinstance(rng, np.random.Generator):
        raise ValueError(
            f"rng must be a generator, such as numpy.random.default_rng(0), got {rng!r}"
        )
    rows = checked_rows(rows, "rows", names_of(rows)).copy()
    labels = np.zeros(len(rows), dtype=bool)
    order = rng.permutation([*kinds] * per_kind)
    slot = len(rows) // len(order)
    if slot < 2:
        raise ValueError(f"{len(order)} events need {2 * len(order)} rows, got {len(rows)}")
    varies = np.flatnonzero(np.ptp(rows, axis=0) > 0)
    if not len(varies):
        varies = np.arange(rows.shape[1])
    spread = np.where(rows.std(0) > 0, rows.std(0), 1.0)
    for i, kind in enumerate(order):
        length = min(LENGTHS[str(kind)], slot // 2)
        start = i * slot + int(rng.integers(0, slot - length))
        at = slice(start, start + length)
        for channel in rng.choice(varies, min(2, len(varies)), replace=False):
            size = rng.choice([-1, 1]) * rng.uniform(*sizes) * spread[channel]
            if kind in ("spike", "offset"):
                rows[at, channel] += size * (2 if kind == "spike" else 1)
            elif kind == "frozen":
                rows[at, channel] = rows[start, channel]
            elif kind == "noise":
                rows[at, channel] += rng.normal(0, abs(size) / 2, length)
            else:
                other = int(rng.integers(0, len(rows) - length))
                rows[at, channel] = rows[other : other + length, channel]
        labels[at] = True
    return rows, labels


def _check_sizes(sizes: Any) -> None:
    """Raise a ValueError unless they are two positive numbers in order."""
    try:
        low, high = (check_number("size", size, 0) for size in sizes)
        if low > high:
            raise ValueError("they are not in order")
    except (TypeError, ValueError) as error:
        raise ValueError(f"sizes must be two positive numbers in order, got {sizes!r}") from error
