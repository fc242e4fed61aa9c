"""Scores of rows as they come, in bounded memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd

from madcluster.aggregation import Aggregate, Smoother, beginning, check_aggregate, ends
from madcluster.data import Scaler
from madcluster.service import checkpoints
from madcluster.service.checkpoints import CheckpointError

__all__ = ["Stream"]

KIND, FORMAT = "madcluster.stream", 3  # of a file; one with a higher number is refused
BLOCK = 2048  # rows at work at a time, however many come at once


class Scores(Protocol):
    """What a stream knows of a detector; every `madcluster.detectors.Detector` has it."""

    window: int
    aggregate: Aggregate
    smooth: Any
    scaler_: Scaler
    channels_: tuple[str, ...]

    @property
    def as_fitted(self) -> Self: ...
    def checked(self, X: Any, where: str) -> np.ndarray: ...
    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray: ...
    def last_scores(
        self, seen: int = 0
    ) -> tuple[int, Callable[[np.ndarray], np.ndarray]] | None: ...
    def aggregate_of(self, aggregate: Aggregate) -> Aggregate: ...
    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]: ...


class Stream:
    """Feed rows, one or many at a time, and get scores, **higher = more anomalous**.

    Parameters
    ----------
    detector : Detector
        Fitted. Its weights are used, not copied.
    aggregate : "last", "window" or "mean", optional
        The detector's own by default. "last" and "window": a row has its score at once, from the window
        that ends with it and, if the detector smooths, from the scores before. "mean": a row has its
        score later, when all windows that cover it have been seen, and the rows after it that it is
        smoothed with; see the table of `madcluster.aggregation`. The scores are those of
        `decision_function` with that aggregate and every window, however the rows are cut. So a
        threshold must come from the same aggregate: fit with it.

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

    def __init__(self, detector: Scores, *, aggregate: Aggregate | None = None) -> None:
        detector = detector.as_fitted
        check_aggregate(detector.aggregate if aggregate is None else aggregate)
        self.detector, self.window = detector, detector.window
        self.aggregate: Aggregate = detector.aggregate if aggregate is None else aggregate
        # of one row, all are the same
        self._of_windows = "last" if self.window == 1 else detector.aggregate_of(self.aggregate)
        self.channels = detector.channels_
        self.seen = self.scored = 0
        self._find_shortcut()
        self._made = 0  # rows whose score before smoothing is known
        self._rows = np.empty((0, len(self.channels)), np.float32)  # scaled; at most window − 1
        self._sums = np.zeros(self.window)  # of scores of the rows that wait, for "mean"
        self._smoother = Smoother(detector.smooth, causal=self.aggregate != "mean")

    def _find_shortcut(self) -> None:
        last = self._of_windows == "last"
        self._shortcut = self.detector.last_scores(self.seen) if last else None

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
        rows = self.detector.checked(rows, "rows")
        made = [self._block(rows[i : i + BLOCK]) for i in range(0, len(rows), BLOCK)]
        return self._smooth(np.concatenate(made))

    def _smooth(self, made: np.ndarray, *, last: bool = False) -> np.ndarray:
        self._made += len(made)
        scores = self._smoother.update(made, last=last)
        self.scored += len(scores)
        return scores

    def _block(self, rows: np.ndarray) -> np.ndarray:
        new = self.detector.scaler_.transform(rows)
        x = np.concatenate([self._rows, new])
        first = self.seen < self.window <= self.seen + len(new)  # the first whole window ends here
        self.seen += len(new)
        self._rows = x[len(x) - min(len(x), self.window - 1) :].copy()
        if self.seen < self.window:
            return np.empty(0)
        return self._mean(x) if self._of_windows == "mean" else self._ends(x, len(new), first)

    def _score(self, x: np.ndarray) -> np.ndarray:
        """Scores of all windows of x; (m c) → (m − window + 1, t)."""
        return self.detector.window_scores(x, np.arange(len(x) - self.window + 1))

    def _ends(self, x: np.ndarray, n: int, first: bool) -> np.ndarray:
        if self._shortcut is None or (first and self.window > 1):
            of_windows = self._score(x)
            found = ends(of_windows, self._of_windows)
            if first:  # the rows that waited take their scores from the first window
                found = np.append(beginning(of_windows[0], self.window, self._of_windows), found)
            return found
        reach, last_scores = self._shortcut
        return last_scores(x[len(x) - reach - n :])

    def _mean(self, x: np.ndarray) -> np.ndarray:
        scores = self._score(x)
        final = np.empty(len(scores))
        for i, of_window in enumerate(scores):  # a window makes its first row final
            self._sums += of_window
            final[i] = self._sums[0] / min(self._made + i + 1, self.window)
            self._sums = np.append(self._sums[1:], 0.0)
        return final

    def finish(self) -> np.ndarray:
        """Scores of the rows that still wait, when nothing more will come.

        They are means over what covers a row, as at the end of `decision_function`. No row waits for
        "last" and "window". Nothing can be fed afterwards.

        Raises
        ------
        ValueError
            If less than a window was seen.
        """
        if self.seen < self.window:
            raise ValueError(f"{self.seen} rows were seen, less than a window of {self.window}")
        left = self.seen - self._made
        # a waiting row is in the windows from row − window + 1, or 0, to the last one that began
        counts = [
            min(row, self.seen - self.window) - max(0, row - self.window + 1) + 1
            for row in range(self._made, self.seen)
        ]
        return self._smooth(self._sums[:left] / counts, last=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what the stream remembers to a safetensors file, whole or not at all."""
        arrays: dict[str, np.ndarray] = {
            "rows": self._rows,
            "sums": self._sums,
            "scores": self._smoother.kept,
        }
        checkpoints.write(path, KIND, self._about(), arrays, version=FORMAT)

    def _about(self) -> dict[str, Any]:
        return {
            "aggregate": self.aggregate,
            "window": self.window,
            "channels": list(self.channels),
            "detector": _digest(self.detector),
            "seen": self.seen,
            "made": self._made,
            "scored": self.scored,
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str], detector: Scores) -> Self:
        """Go on with a stream that `save` wrote, with the same detector.

        Raises
        ------
        CheckpointError
            If the file is damaged, of a newer format, or of another detector: another window, other
            channels, another scaler or other weights.
        FileNotFoundError
            If there is no such file.
        """
        about, arrays = checkpoints.read(path, KIND, version=FORMAT)
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
            stream.seen, stream._made = int(about["seen"]), int(about["made"])
            stream.scored = int(about["scored"])
            rows, sums, scores = arrays["rows"], arrays["sums"], arrays["scores"]
            kept = min(stream.seen, stream.window - 1)
            if rows.shape != (kept, len(stream.channels)) or sums.shape != (stream.window,):
                raise CheckpointError(f"{path} holds rows of shape {rows.shape}")
            smoother = stream._smoother
            smoother.kept, smoother.before = scores, len(scores) - (stream._made - stream.scored)
            if scores.ndim != 1 or not 0 <= smoother.before <= len(scores):
                raise CheckpointError(f"{path} holds scores of shape {scores.shape}")
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} does not describe a stream: {error}") from error
        stream._find_shortcut()
        stream._rows, stream._sums = rows.astype(np.float32), sums.copy()
        return stream


def _digest(detector: Scores) -> str:
    """Of all that makes scores: what a stream remembers means nothing to another scaler or network."""
    about, arrays = detector.state()
    found = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for name in sorted(arrays):
        found.update(name.encode())
        found.update(np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()
