"""From a model to one score per time step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from madcluster.aggregation import Aggregate, aggregated, check_aggregate
from madcluster.models.base import Embedder, Embedding, Memory, windows_of
from madcluster.training import flushed_denormals

__all__ = ["Steps", "checked_score", "last_scores", "score", "steps", "window_scores"]

BLOCK = 2048  # rows at work at a time, however many there are
BATCH = 256  # windows


def checked_score(out: Embedding) -> Tensor:
    """The score of an embedding, (b t).

    Raises
    ------
    ValueError
        If it has none.
    """
    if out.score is None:
        raise ValueError("the embedder has no score of its own: use it with head=True")
    return out.score


def _series(model: Embedder, x: np.ndarray) -> Tensor:
    """A series (m c) as the model's weights are: their type, on their device."""
    like = next(model.parameters())
    return torch.as_tensor(np.array(x), dtype=like.dtype, device=like.device)


@flushed_denormals()
@torch.no_grad()
def window_scores(model: Embedder, x: np.ndarray, starts: np.ndarray, *, window: int) -> np.ndarray:
    """Scores of some windows of a series, step by step; (m c), first rows (b,) → (b t) float64."""
    windows = windows_of(_series(model, x), window)  # (b t c)
    parts = [
        checked_score(model.scored(windows[torch.as_tensor(index, device=windows.device)]))
        .double()
        .cpu()
        for index in np.array_split(starts, -(-len(starts) // BATCH))
    ]
    return torch.cat(parts).numpy()


def last_scores(
    model: Embedder, n_channels: int, *, window: int
) -> tuple[int, Callable[[np.ndarray], np.ndarray]] | None:
    """Causal scores in one pass, where the model has `last_steps` and a window holds all they see.

    Returns
    -------
    How many rows before it the score of a row needs, and a function of rows (r + n c) → the scores (n,)
    of the last n.
    """
    with torch.no_grad():
        of_last_steps = model.last_steps()
        if of_last_steps is None:
            return None
        shape = np.zeros((window, n_channels), np.float32)
        reach = window - checked_score(of_last_steps(_series(model, shape))).shape[1]
        if reach == window:  # a last step would see rows before its window
            return None

    @flushed_denormals()
    @torch.no_grad()
    def scores(x: np.ndarray) -> np.ndarray:
        return checked_score(of_last_steps(_series(model, x)))[0].double().cpu().numpy()

    return reach, scores


class Steps:
    """Causal scores of n series, row by row: `last_scores` where one row comes at a time.

    Attributes
    ----------
    reach : int
        Rows before it that the score of a row needs.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory, self.reach = memory, memory.reach

    @flushed_denormals()
    @np.errstate(over="ignore", invalid="ignore")  # as torch, which says nothing of either
    def scores(self, series: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Scores of the next row of some series.

        Parameters
        ----------
        series : (s,)
            Their numbers, 0 … n − 1, each once.
        x : (s c)
            Scaled rows.

        Returns
        -------
        (s,) float64. Those of the first `reach` rows of a series mean nothing; its memory begins anew
        with as many others.
        """
        _, found = self.memory.step(series, x)
        assert found is not None  # `steps` has looked
        return found


def steps(model: Embedder, n: int, *, window: int) -> Steps | None:
    """Scores of n series row by row, where the model has a `memory` that a window holds.

    It is for float32 and float64, and its weights are those of now.
    """
    if next(model.parameters()).dtype not in (torch.float32, torch.float64):
        return None
    memory = model.memory(n)
    return None if memory is None or memory.reach >= window else Steps(memory)


@flushed_denormals()
@torch.no_grad()
def score(
    model: Embedder,
    x: np.ndarray,
    *,
    window: int,
    stride: int = 1,
    aggregate: Aggregate = "mean",
    batch_size: int = BATCH,
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
    aggregate : "mean", "last" or "window"
        "mean": the mean over the windows that cover a step, which looks up to window − 1 steps ahead.
        "last", "window": causally, that of the last step, or the mean of all steps, of the window that
        ends there; both need stride 1. The first window − 1 steps, where no window ends, take their
        scores from the first window.

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
    if aggregate != "mean" and stride != 1:
        raise ValueError(f"aggregate={aggregate!r} needs stride 1, got {stride}")
    if aggregate == "last" and (shortcut := last_scores(model, x.shape[1], window=window)):
        reach, last = shortcut
        parts = [window_scores(model, x[:window], np.zeros(1, int), window=window)[0]]
        parts += [last(x[row - reach : row + BLOCK]) for row in range(window, len(x), BLOCK)]
        return np.concatenate(parts)
    windows = windows_of(_series(model, x), window)  # (b t c)

    def of_windows(index: np.ndarray) -> np.ndarray:
        batch = windows[torch.as_tensor(index, device=windows.device)]
        return checked_score(model.scored(batch)).double().cpu().numpy()

    return aggregated(
        of_windows,
        len(x),
        window=window,
        stride=stride,
        aggregate=aggregate,
        batch_size=batch_size,
    )
