"""Which channels raise a score: what an engineer asks of an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, Self, get_args

import numpy as np

from madcluster.aggregation import window_starts
from madcluster.data import Scaler
from madcluster.data.series import Event

__all__ = ["Method", "contributions", "hit_rates", "random_hit_rates"]

Method = Literal["deviation", "occlusion", "gradient"]

BATCH = 64  # windows at work at a time


class Explained(Protocol):
    """What an explanation knows of a detector; every `madcluster.detectors.Detector` has it."""

    window: int
    scaler_: Scaler
    median_: np.ndarray
    std_: np.ndarray

    @property
    def as_fitted(self) -> Self: ...
    def checked(self, X: Any, where: str) -> np.ndarray: ...
    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray: ...
    def steps_scored(self) -> int: ...
    def input_gradients(
        self, z: np.ndarray, starts: np.ndarray, weights: np.ndarray
    ) -> np.ndarray: ...


def contributions(
    detector: Explained,
    x: np.ndarray,
    start: int,
    stop: int,
    *,
    method: Method = "deviation",
    stride: int | None = None,
) -> np.ndarray:
    """What every channel adds to the mean score of rows start … stop − 1.

    Parameters
    ----------
    detector : Detector
        Fitted.
    x : (m c)
        The series that holds the rows; at least a window.
    start, stop : int
        Rows of an alarm.
    method : "deviation", "occlusion" or "gradient"
        "deviation": the mean of ``|x − median| / σ`` over the rows. It knows nothing of the score, yet
        names SMD's known root causes more often than the other two (chapter 15).
        "occlusion": the fall of the mean score when the channel is held at its median of the train
        split, in all windows that cover the rows. It needs c + 1 passes and no gradient.
        "gradient": Σ_t ∂s/∂x_t · (x_t − median), a first-order guess of the same from one pass back;
        for networks.
    stride : int, optional
        Steps between the windows that are looked at; a tenth of a window by default.

    Returns
    -------
    (c,) in units of the score, or of σ. Positive: the channel makes the rows more anomalous. They need
    not add up to the score, for channels act together. The score is that before smoothing.

    Raises
    ------
    ValueError
        If the detector is not fitted, the rows do not lie in x, or the method is unknown or not one of
        this detector.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {get_args(Method)}, got {method!r}")
    detector = detector.as_fitted
    x = detector.checked(x, "x")
    if not 0 <= start < stop <= len(x):
        raise ValueError(f"rows {start} … {stop} do not lie in x, which has {len(x)}")
    window = detector.window
    if len(x) < window:
        raise ValueError(f"x has {len(x)} rows, less than a window of {window}")
    if method == "deviation":
        scaled = detector.scaler_.transform(x[start:stop])
        return (abs(scaled - detector.median_) / detector.std_).mean(0, dtype=np.float64)
    first, last = max(0, start - window + 1), min(len(x), stop + window - 1)
    if last - first < window:  # an alarm at the edge of a short series
        first, last = max(0, last - window), min(len(x), max(0, last - window) + window)
    rows = detector.scaler_.transform(x[first:last])
    scored = detector.steps_scored()  # the last ones of a window
    stride = min(stride or max(1, window // 10), scored)
    starts = window_starts(len(rows), window=window, stride=stride)
    step = starts[:, None] + np.arange(window)  # (b t), rows of x[first:]
    inside = (step >= start - first) & (step < stop - first)
    inside[:, : window - scored] = False
    if not inside.any():  # the first rows of a series, which only whole windows score
        inside = (step >= start - first) & (step < stop - first)
    found = np.zeros(rows.shape[1])
    # one batch at a time, or an alarm of a day would hold all its windows at once
    for at in np.array_split(np.arange(len(starts)), -(-len(starts) // BATCH)):
        index, wanted = starts[at], inside[at]
        if method == "gradient":
            slopes = detector.input_gradients(rows, index, wanted)  # (b t c)
            found += (slopes * (rows[step[at]] - detector.median_)).sum((0, 1), dtype=np.float64)
            continue
        whole = (detector.window_scores(rows, index) * wanted).sum()
        for channel, value in enumerate(detector.median_):
            held = rows.copy()
            held[:, channel] = value
            found[channel] += whole - (detector.window_scores(held, index) * wanted).sum()
    return found / inside.sum()


def hit_rates(
    ranked: Sequence[np.ndarray], events: Sequence[Event], *, k: Sequence[int] = (1, 3, 5)
) -> dict[int, np.ndarray]:
    """Whether a known cause is among the first k channels, for every event.

    Parameters
    ----------
    ranked : one (c,) per event
        Contributions, or any score per channel; higher = more likely the cause.
    events : with their `channels`
    k : ranks to look at

    Returns
    -------
    k → (n,) of 0 and 1.

    Raises
    ------
    ValueError
        If the numbers differ, or an event names no channel.
    """
    if len(ranked) != len(events):
        raise ValueError(f"{len(ranked)} rankings for {len(events)} events")
    for number, event in enumerate(events):
        if not event.channels:
            raise ValueError(f"event {number} names no channel")
    hits: dict[int, np.ndarray] = {}
    for size in k:
        tops = (np.argsort(-scores, kind="stable")[:size] for scores in ranked)
        hits[size] = np.array(
            [
                float(bool(set(top.tolist()) & set(event.channels)))
                for top, event in zip(tops, events, strict=True)
            ]
        )
    return hits


def random_hit_rates(
    n_channels: int, events: Sequence[Event], *, k: Sequence[int] = (1, 3, 5)
) -> dict[int, np.ndarray]:
    """The same in expectation for channels in a random order: the floor of such a table.

    With m causes among c channels, 1 − C(c − m, k) / C(c, k).
    """
    found: dict[int, np.ndarray] = {}
    for size in k:
        misses = []
        for event in events:
            others = n_channels - len(event.channels)
            factors = [(others - i) / (n_channels - i) for i in range(min(size, n_channels))]
            misses.append(float(np.prod(np.maximum(factors, 0))))
        found[size] = 1 - np.array(misses)
    return found
