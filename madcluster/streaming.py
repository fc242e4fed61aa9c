"""Scores of rows as they come, in bounded memory."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from madcluster import checkpoint
from madcluster.checkpoint import CheckpointError
from madcluster.scoring import BLOCK, Aggregate, check_aggregate, rows_before

if TYPE_CHECKING:
    from madcluster.detector import MADCluster

__all__ = ["Stream"]

KIND, FORMAT = "madcluster.stream", 2  # of a file; one with a higher number is refused


class Stream:
    """Feed rows, one or many at a time, and get scores, **higher = more anomalous**.

    Parameters
    ----------
    detector : MADCluster
        Fitted. Its weights are used, not copied.
    aggregate : "last" or "mean", optional
        The detector's own by default. "last": a row has its score at once, that of the last step of the
        window that ends with it. "mean": a row has its score window − 1 rows later, when all windows
        that cover it have been seen. The scores are those of `decision_function` with that aggregate
        and `score_stride=1`, however the rows are cut. So a threshold must come from the same
        aggregate: fit with it.

    Attributes
    ----------
    seen : int
        Rows that came.
    scored : int
        Rows that have their score: those before this number. The first window − 1 rows wait for the
        first whole window.

    Examples
    --------
    >>> from madcluster import MADCluster, synthetic
    >>> series = synthetic(n_train=1000, n_test=1000, seed=0)
    >>> detector = MADCluster(epochs=1, stride=10, aggregate="last").fit(series.train)
    >>> stream = detector.stream()
    >>> len(stream.update(series.test[:99])), len(stream.update(series.test[99:100]))
    (0, 100)
    >>> alarm = stream.update(series.test[100:101]) > detector.threshold_
    >>> alarm.shape
    (1,)
    """

    def __init__(self, detector: MADCluster, *, aggregate: Aggregate | None = None) -> None:
        detector = detector.as_fitted
        aggregate = detector.aggregate if aggregate is None else aggregate
        check_aggregate(aggregate)
        self.detector, self.aggregate, self.window = detector, aggregate, detector.window
        self.channels = detector.channels_
        like = next(detector.model_.parameters())
        self._empty = torch.empty(0, len(self.channels), dtype=like.dtype, device=like.device)
        with torch.inference_mode():
            self._last_steps = detector.model_.last_steps() if aggregate == "last" else None
            self._reach = self.window - 1
            if self._last_steps is not None:
                self._reach = rows_before(self._last_steps, self._empty, self.window)
        self.seen = self.scored = 0
        self._rows = self._empty  # the last ones, at most window − 1
        self._sums = np.zeros(self.window)  # of scores of the rows that wait, for "mean"

    @torch.inference_mode()
    def update(self, rows: Any) -> np.ndarray:
        """Scores that have become known with some more rows; (n c), or one row (c,) → (…,) float64.

        Rows may be a DataFrame, and one row a Series by the names of the channels.

        Raises
        ------
        ValueError
            For values that are not finite numbers, or other channels. None of the rows is taken then.
        """
        if isinstance(rows, pd.Series):
            rows = rows.to_frame().T
        elif np.ndim(rows) == 1:
            rows = np.asarray(rows)[None]
        rows = self.detector._checked(rows, "rows")
        scores = [self._block(rows[i : i + BLOCK]) for i in range(0, len(rows), BLOCK)]
        return np.concatenate(scores)

    def _block(self, rows: np.ndarray) -> np.ndarray:
        new = torch.as_tensor(self.detector.scaler_.transform(rows)).to(self._empty)
        x = torch.cat([self._rows, new])
        first = self.seen < self.window <= self.seen + len(new)  # the first whole window ends here
        self.seen += len(new)
        self._rows = x[-(self.window - 1) :] if self.window > 1 else self._empty
        if self.seen < self.window:
            return np.empty(0)
        scores = self._last(x, len(new), first) if self.aggregate == "last" else self._mean(x)
        self.scored += len(scores)
        return scores

    def _score(self, x: Tensor) -> Tensor:
        """Scores of all windows of x; (m c) → (m − window + 1, t)."""
        windows = x.unfold(0, self.window, 1).transpose(1, 2)  # (b t c)
        parts = [self.detector.model_(batch).score for batch in windows.split(256)]
        return torch.cat(parts).double().cpu()

    def _last(self, x: Tensor, n: int, first: bool) -> np.ndarray:
        if first:  # the rows that waited take their scores in the first window
            head = self._score(x[: self.window])[0]
            rest = x[1:]
            tail = self._score(rest)[:, -1] if len(rest) >= self.window else head[:0]
            return torch.cat([head, tail]).numpy()
        if self._last_steps is None:
            return self._score(x)[:, -1].numpy()
        score = self._last_steps(x[-(self._reach + n) :]).score
        assert score is not None
        return score[0].double().cpu().numpy()

    def _mean(self, x: Tensor) -> np.ndarray:
        scores = self._score(x).numpy()
        final = np.empty(len(scores))
        for i, of_window in enumerate(scores):  # a window makes its first row final
            self._sums += of_window
            final[i] = self._sums[0] / min(self.scored + i + 1, self.window)
            self._sums = np.append(self._sums[1:], 0.0)
        return final

    def finish(self) -> np.ndarray:
        """Scores of the rows that still wait, when nothing more will come; "mean" only.

        They are means over the windows that cover a row, as at the end of `decision_function`.

        Raises
        ------
        ValueError
            If less than a window was seen.
        """
        if self.seen < self.window:
            raise ValueError(f"{self.seen} rows were seen, less than a window of {self.window}")
        left = self.seen - self.scored
        # a waiting row is in the windows from row − window + 1, or 0, to the last one that began
        counts = [
            min(row, self.seen - self.window) - max(0, row - self.window + 1) + 1
            for row in range(self.scored, self.seen)
        ]
        scores = self._sums[:left] / counts
        self.scored = self.seen
        return scores

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what the stream remembers to a safetensors file, whole or not at all."""
        tensors = {"rows": self._rows, "sums": torch.as_tensor(self._sums)}
        checkpoint.write(path, KIND, self._about(), tensors, version=FORMAT)

    def _about(self) -> dict[str, Any]:
        return {
            "aggregate": self.aggregate,
            "window": self.window,
            "channels": list(self.channels),
            "detector": _digest(self.detector),
            "seen": self.seen,
            "scored": self.scored,
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str], detector: MADCluster) -> Self:
        """Go on with a stream that `save` wrote, with the same detector.

        Raises
        ------
        CheckpointError
            If the file is damaged, of a newer format, or of another detector: another window, other
            channels, another scaler or other weights.
        FileNotFoundError
            If there is no such file.
        """
        about, tensors = checkpoint.read(path, KIND, version=FORMAT)
        try:
            stream = cls(detector, aggregate=about["aggregate"])
            expected = stream._about()
            for name in ("window", "channels"):
                if about[name] != expected[name]:
                    raise CheckpointError(
                        f"{path} has {name} {about[name]}, expected {expected[name]}"
                    )
            if about["detector"] != expected["detector"]:
                raise CheckpointError(
                    f"{path} is of a detector with another scaler or other weights"
                )
            stream.seen, stream.scored = int(about["seen"]), int(about["scored"])
            rows, sums = tensors["rows"], tensors["sums"]
            kept = min(stream.seen, stream.window - 1)
            if rows.shape != (kept, len(stream.channels)) or sums.shape != (stream.window,):
                raise CheckpointError(f"{path} holds rows of shape {tuple(rows.shape)}")
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} does not describe a stream: {error}") from error
        stream._rows, stream._sums = rows.to(stream._empty), sums.numpy().copy()
        return stream


def _digest(detector: MADCluster) -> str:
    """Of all that makes scores: what a stream remembers means nothing to another scaler or network."""
    settings = detector.scaler, detector.clip, detector.score
    found = hashlib.sha256(repr(settings).encode())
    for array in detector.scaler_.state().values():
        found.update(array.tobytes())
    for weight in detector.model_.state_dict().values():
        found.update(weight.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
