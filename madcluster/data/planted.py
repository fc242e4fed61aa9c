"""Anomalies that one plants oneself, in rows that are normal: what can be compared without a label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from madcluster.arguments import check_whole

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
    unknown = [kinds] if isinstance(kinds, str) else sorted(set(kinds) - set(KINDS))
    if unknown or not len(kinds):  # one word is no list of them
        raise ValueError(f"kinds must be a list of some of {KINDS}, got {unknown or kinds}")
    return kinds


def planted(
    rows: np.ndarray,
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
        Normal; they are not changed.
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
    labels : (n,) bool
        True in an event.

    Raises
    ------
    ValueError
        For an unknown kind, sizes that are not positive and in order, or less than two rows for each
        event.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rows, labels = planted(rng.normal(size=(1000, 3)), rng, kinds=["offset"])
    >>> int(labels.sum())
    80
    """
    check_kinds(kinds)
    check_whole("per_kind", per_kind)
    if not 0 < sizes[0] <= sizes[1] < np.inf:
        raise ValueError(f"sizes must be two positive numbers in order, got {sizes}")
    rows, labels = rows.copy(), np.zeros(len(rows), dtype=bool)
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
