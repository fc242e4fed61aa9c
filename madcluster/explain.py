"""Which channels raise a score: what an engineer asks of an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from madcluster.data.series import Event
from madcluster.scoring import window_starts

if TYPE_CHECKING:
    from madcluster.detector import MADCluster

__all__ = ["Method", "contributions", "hit_rates", "random_hit_rates"]

Method = Literal["gradient", "occlusion", "deviation"]

BATCH = 64  # windows at work at a time


def contributions(
    detector: MADCluster,
    x: np.ndarray,
    start: int,
    stop: int,
    *,
    method: Method = "gradient",
    stride: int | None = None,
) -> np.ndarray:
    """What every channel adds to the mean score of rows start … stop − 1.

    Parameters
    ----------
    detector : MADCluster
        Fitted.
    x : (m c)
        The series that holds the rows; at least a window.
    start, stop : int
        Rows of an alarm.
    method : "gradient", "occlusion" or "deviation"
        "occlusion": the fall of the mean score when the channel is held at its median of the train
        split, in all windows that cover the rows. It needs c + 1 passes and no gradient.
        "gradient": Σ_t ∂s/∂x_t · (x_t − median), a first-order guess of the same from one pass back.
        "deviation": the mean of ``|x − median| / σ`` over the rows. It knows nothing of the score, yet
        names SMD's known root causes more often than the other two (chapter 15).
    stride : int, optional
        Steps between the windows that are looked at; a tenth of a window by default.

    Returns
    -------
    (c,) in units of the score, or of σ. Positive: the channel makes the rows more anomalous. They need
    not add up to the score, for channels act together.

    Raises
    ------
    ValueError
        If the detector is not fitted, the rows do not lie in x, or the method is unknown.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {get_args(Method)}, got {method!r}")
    detector = detector.as_fitted
    x = detector._checked(x, "x")
    if not 0 <= start < stop <= len(x):
        raise ValueError(f"rows {start} … {stop} do not lie in x, which has {len(x)}")
    window = detector.window
    if len(x) < window:
        raise ValueError(f"x has {len(x)} rows, less than a window of {window}")
    if method == "deviation":
        scaled = detector.scaler_.transform(x[start:stop])
        return (abs(scaled - detector.usual_) / detector.spread_).mean(0, dtype=np.float64)
    first, last = max(0, start - window + 1), min(len(x), stop + window - 1)
    if last - first < window:  # an alarm at the edge of a short series
        first, last = max(0, last - window), min(len(x), max(0, last - window) + window)
    model = detector.model_
    like = next(model.parameters())
    rows = torch.as_tensor(detector.scaler_.transform(x[first:last])).to(like)
    usual = torch.as_tensor(detector.usual_).to(like)  # (c,)
    starts = window_starts(len(rows), window=window, stride=stride or max(1, window // 10))
    step = torch.as_tensor(starts)[:, None] + torch.arange(window)  # (b t), rows of x[first:]
    inside = ((step >= start - first) & (step < stop - first)).to(like.device)
    step = step.to(like.device)
    batches = list(zip(step.split(BATCH), inside.split(BATCH), strict=True))

    def total_score(windows: Tensor, wanted: Tensor) -> Tensor:
        score = model(windows).score
        assert score is not None
        return (score * wanted).sum()

    found = torch.zeros(len(usual), dtype=torch.float64, device=like.device)
    if method == "gradient":
        # one batch at a time, or an alarm of a day would hold the graphs of all its windows
        for index, wanted in batches:
            windows = rows[index].requires_grad_()  # (b t c)
            # cuDNN's recurrent layers have no gradient in eval mode
            with torch.backends.cudnn.flags(enabled=False):
                (gradient,) = torch.autograd.grad(total_score(windows, wanted), windows)
            found += (gradient * (windows.detach() - usual)).sum((0, 1))
        return (found / inside.sum()).cpu().numpy()
    with torch.no_grad():
        for index, wanted in batches:
            windows = rows[index]
            whole = total_score(windows, wanted)
            for channel, value in enumerate(usual):
                occluded = windows.clone()
                occluded[..., channel] = value
                found[channel] += whole - total_score(occluded, wanted)
    return (found / inside.sum()).cpu().numpy()


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
