"""From a model to one score per time step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from madcluster.models.base import Embedder, Embedding
from madcluster.training import flushed_denormals

__all__ = ["Aggregate", "score", "window_starts"]

Aggregate = Literal["mean", "last"]

BLOCK = 2048  # rows at work at a time, however many there are


def check_aggregate(aggregate: str) -> None:
    """Raise a ValueError unless it is one of `Aggregate`."""
    if aggregate not in get_args(Aggregate):
        raise ValueError(f"aggregate must be one of {get_args(Aggregate)}, got {aggregate!r}")


def window_starts(n: int, *, window: int, stride: int) -> np.ndarray:
    """First rows of windows that cover all n rows; the last one is moved to end with the series.

    Raises
    ------
    ValueError
        If `stride` is not an integer in 1 … window: rows between windows would have no score.
    """
    if not isinstance(stride, int | np.integer) or not 1 <= stride <= window:
        raise ValueError(
            f"the stride of scoring must be an integer in 1 … {window}, the window, got {stride!r}"
        )
    starts = np.arange(0, n - window + 1, stride)
    return starts if starts[-1] == n - window else np.append(starts, n - window)


def _checked(out: Embedding) -> Tensor:
    """The score of an embedding, (b t)."""
    if out.score is None:
        raise ValueError("the embedder has no score of its own: use it with head=True")
    return out.score


def rows_before(last_steps: Callable[[Tensor], Embedding], like: Tensor, window: int) -> int:
    """Rows that the score of a last step depends on beside its own; `like` is (… c)."""
    return window - _checked(last_steps(like.new_zeros(window, like.shape[-1]))).shape[1]


@flushed_denormals()
@torch.no_grad()
def score(
    model: Embedder,
    x: np.ndarray,
    *,
    window: int,
    stride: int = 1,
    aggregate: Aggregate = "mean",
    batch_size: int = 256,
) -> np.ndarray:
    """One score per time step, **higher = more anomalous**.

    Parameters
    ----------
    model : Embedder
        In eval mode, with a score (b t).
    x : (m c)
        The scaled series.
    stride : int
        Steps between windows. With "mean" every step is still covered.
    aggregate : "mean" or "last"
        "mean": the mean over the windows that cover a step, which looks up to window − 1 steps ahead.
        "last": causally, that of the last step of the window that ends there; needs stride 1. The
        first window − 1 steps, where no window ends, take their scores in the first window.

    Returns
    -------
    (m,) float64.

    Raises
    ------
    ValueError
        If the series is shorter than a window, the model has no score, or an argument is out of its
        range.
    """
    check_aggregate(aggregate)
    if x.ndim != 2 or len(x) < window:
        raise ValueError(
            f"series must be (m c) with at least one window of {window} rows, got shape {x.shape}"
        )
    if aggregate == "last" and stride != 1:
        raise ValueError(f"aggregate='last' needs stride 1, got {stride}")
    like = next(model.parameters())
    series = torch.as_tensor(np.array(x), dtype=like.dtype, device=like.device)
    windows = series.unfold(0, window, 1).transpose(1, 2)  # (b t c), a view
    if aggregate == "last" and (of_last_steps := model.last_steps()) is not None:
        reach = rows_before(of_last_steps, series, window)
        parts = [_checked(model(windows[:1]))[0]]
        for row in range(window, len(x), BLOCK):
            parts.append(_checked(of_last_steps(series[row - reach : row + BLOCK]))[0])
        return torch.cat(parts).double().cpu().numpy()
    starts = window_starts(len(x), window=window, stride=stride)
    total, count = np.zeros(len(x)), np.zeros(len(x))
    for index in np.array_split(starts, -(-len(starts) // batch_size)):
        out = model(windows[torch.as_tensor(index, device=like.device)])
        s = _checked(out).double().cpu().numpy()  # (b t)
        if aggregate == "mean":
            for step in range(window):  # no row repeats within one step
                total[index + step] += s[:, step]
                count[index + step] += 1
        else:
            total[index + window - 1], count[index + window - 1] = s[:, -1], 1
            if index[0] == 0:
                total[: window - 1], count[: window - 1] = s[0, :-1], 1
    return total / count
