"""From scores of windows to one score per row: aggregation and smoothing, the same for every detector.

What a row's score has seen, with windows of w rows and a mean over s rows:

==================  =======================================  ==========================  ============
aggregate, smooth   the score of row t                       rows seen                   delay
==================  =======================================  ==========================  ============
"mean", "off"       mean over all windows that cover t       t − w + 1 … t + w − 1       w − 1
"last", "off"       of the last step of the window up to t   t − w + 1 … t               0
"window", "off"     mean of the window up to t               t − w + 1 … t               0
"mean", s           and the mean over s rows about t         s / 2 more to each side     w − 1 + s / 2
the others, s       and the mean over the s rows up to t     s − 1 more before           0
==================  =======================================  ==========================  ============

"mean" costs one pass over all windows, or over every n-th with a stride of n, and then the delay is one
row more, for the last window ends with the series; the other two need every window, unless the detector
knows a shorter way. Where there is no delay, a rise of the score that lasts
is still seen late: a mean over s rows needs about s/2 of them to rise half way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from madcluster.arguments import check_one_of

__all__ = ["Aggregate", "Smooth", "Smoother", "aggregated", "smoothed", "window_starts"]

Aggregate = Literal["mean", "last", "window"]
Smooth = int | Literal["off"]

BATCH = 256  # windows at work at a time, however many there are


def check_aggregate(aggregate: str) -> None:
    """Raise a ValueError unless it is one of `Aggregate`."""
    check_one_of("aggregate", aggregate, get_args(Aggregate))


def check_smooth(smooth: Smooth) -> int:
    """The number of rows that a smoothed score is a mean of: 1 for "off".

    Raises
    ------
    ValueError
        If it is neither "off" nor a positive integer.
    """
    if isinstance(smooth, str) and smooth == "off":
        return 1
    if isinstance(smooth, bool) or not isinstance(smooth, int | np.integer) or smooth < 1:
        raise ValueError(f"smooth must be 'off' or a positive number of rows, got {smooth!r}")
    return int(smooth)


def window_starts(n: int, *, window: int, stride: int) -> np.ndarray:
    """First rows of windows that cover all n rows; the last one is moved to end with the series.

    Raises
    ------
    ValueError
        If `stride` is not an integer in 1 … window: rows between windows would have no score.
    """
    if (
        isinstance(stride, bool)
        or not isinstance(stride, int | np.integer)
        or not 1 <= stride <= window
    ):
        raise ValueError(
            f"the stride of scoring must be an integer in 1 … {window}, the window, got {stride!r}"
        )
    starts = np.arange(0, n - window + 1, stride)
    return starts if starts[-1] == n - window else np.append(starts, n - window)


def aggregated(
    of_windows: Callable[[np.ndarray], np.ndarray],
    n: int,
    *,
    window: int,
    stride: int = 1,
    aggregate: Aggregate = "mean",
    batch_size: int = BATCH,
) -> np.ndarray:
    """One score per row from the scores of windows.

    Parameters
    ----------
    of_windows : function
        First rows of some windows (b,) → their scores, (b t) with one for each of their steps, or
        (b 1) with one for the whole.
    n : int
        Rows of the series, at least a window.
    aggregate : "mean", "last" or "window"
        See the table of this module. Where a window has one score, "last" is "window". The first
        window − 1 rows, where no window ends, take their scores from the first window.

    Returns
    -------
    (n,) float64.

    Raises
    ------
    ValueError
        If an argument is out of its range, or the series is shorter than a window.
    """
    check_aggregate(aggregate)
    if n < window:
        raise ValueError(f"the series has {n} rows, less than a window of {window}")
    if aggregate != "mean" and stride != 1:
        raise ValueError(f"aggregate={aggregate!r} needs stride 1, got {stride}")
    starts = window_starts(n, window=window, stride=stride)
    total, count = np.zeros(n), np.zeros(n)
    for index in np.array_split(starts, -(-len(starts) // batch_size)):
        s = of_windows(index)
        if aggregate == "mean":
            for step in range(window):  # no row repeats within one step
                total[index + step] += s[:, step if s.shape[1] > 1 else 0]
                count[index + step] += 1
            continue
        total[index + window - 1] = ends(s, aggregate)
        if index[0] == 0:
            total[: window - 1] = beginning(s[0], window, aggregate)
    return total / count if aggregate == "mean" else total


def ends(s: np.ndarray, aggregate: Aggregate) -> np.ndarray:
    """Causal scores of the rows in which windows end; (b t) → (b,)."""
    return s.mean(1) if aggregate == "window" else s[:, -1]


def beginning(s: np.ndarray, window: int, aggregate: Aggregate) -> np.ndarray:
    """Causal scores of the rows before the first window ends, from its own (t,) → (window − 1,)."""
    return np.full(window - 1, s.mean()) if aggregate == "window" or len(s) == 1 else s[:-1]


def smoothed(scores: np.ndarray, smooth: Smooth, *, causal: bool) -> np.ndarray:
    """Mean over some rows; (n,) → (n,).

    Parameters
    ----------
    smooth : int or "off"
        Rows of the mean. At the ends of the series, over those that are there.
    causal : bool
        The rows that end with this one, or those about it.

    Raises
    ------
    ValueError
        If `smooth` is neither "off" nor a positive integer.
    """
    rows = min(check_smooth(smooth), 2 * len(scores))
    if rows == 1 or not len(scores):
        return scores
    after = 0 if causal else (rows - 1) // 2
    place = np.arange(after, after + len(scores))  # of the last row of each mean, or beyond the end
    counts = np.minimum(place, len(scores) - 1) - np.maximum(place - rows, -1)
    return _running_sums(scores, rows)[place] / counts


def _running_sums(x: np.ndarray, rows: int) -> np.ndarray:
    """Sums of up to so many numbers in a row, by the place of the last; (n,) → (n + rows − 1,).

    From the sums that grow from and to the ends of blocks of that length. Nothing is subtracted, so a
    huge number leaves no trace in the sums without it, as it would in differences of a running sum.
    """
    blocks = np.zeros(
        (-(-(len(x) + rows - 1) // rows) + 1, rows)
    )  # the first stands before all rows
    blocks.flat[rows : rows + len(x)] = x
    to_here = blocks.cumsum(1).ravel()
    from_here = np.append(blocks[:, ::-1].cumsum(1)[:, ::-1].ravel(), 0.0)
    last = np.arange(rows, 2 * rows + len(x) - 1)
    # a sum begins in the block before that of its end, if it is not a block by itself
    whole = (last + 1) % rows == 0
    return to_here[last] + np.where(whole, 0.0, from_here[last - rows + 1])


class Smoother:
    """`smoothed` for scores that come one or many at a time, however they are cut."""

    def __init__(self, smooth: Smooth, *, causal: bool) -> None:
        self.rows = check_smooth(smooth)
        self.after = 0 if causal else (self.rows - 1) // 2
        self.kept = np.empty(0)  # the scores that later means need
        self.before = 0  # of these, how many are done

    def update(self, scores: np.ndarray, *, last: bool = False) -> np.ndarray:
        """Means that have become known with some more scores; all the rest with `last`."""
        if self.rows == 1:
            return scores
        kept = np.concatenate([self.kept, scores])
        stop = len(kept) if last else max(self.before, len(kept) - self.after)
        found = smoothed(kept, self.rows, causal=self.after == 0)[self.before : stop]
        begin = max(0, stop - (self.rows - 1 - self.after))
        self.kept, self.before = kept[begin:], stop - begin
        return found
