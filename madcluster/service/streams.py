"""Scores of rows as they come, in bounded memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeAlias, get_args

import numpy as np
import pandas as pd

from madcluster.aggregation import Aggregate, Smoother, beginning, check_aggregate, ends
from madcluster.arguments import check_number, check_one_of, check_whole
from madcluster.data import Scaler
from madcluster.service import checkpoints
from madcluster.service.alarms import AlarmEvent, OnlineAlarms
from madcluster.service.checkpoints import CheckpointError, as_bits, from_bits

__all__ = [
    "Asking",
    "Lane",
    "Late",
    "MaxStep",
    "Missing",
    "OfRow",
    "OfWindows",
    "Piece",
    "Scoring",
    "Steps",
    "Stream",
    "pieces",
]

KIND, FORMAT = "madcluster.stream", 5  # of a file; another is refused
BLOCK = 2048  # rows at work at a time, however many come at once
NEEDS_TIMES = "rows need times: give time, or a DataFrame with them as its index"
FEW = 4  # so many rows take less time one after another, where a network can, than together

Missing = Literal["refuse", "hold", "mask"]
Late = Literal["refuse", "drop"]
MaxStep: TypeAlias = float | timedelta | np.timedelta64  # a Timedelta of pandas is a timedelta


class Steps(Protocol):
    """Causal scores of several series row by row, as `madcluster.scoring.Steps` gives them."""

    reach: int  # rows that a memory begins with

    def scores(self, series: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Scores of the next row of some series; their numbers (s,) and rows (s c) → (s,)."""
        ...


class OfWindows(NamedTuple):
    """A question of a stream: what scores do these windows have? The answer is (b t) or (b 1)."""

    detector: Scores
    z: np.ndarray  # (m c), scaled rows
    starts: np.ndarray  # (b,), first rows of the windows

    @property
    def whom(self) -> object:
        """Who answers it."""
        return self.detector

    @property
    def size(self) -> int:
        """How much it adds to what is at work."""
        return len(self.starts)

    def answer(self) -> np.ndarray:
        """By itself."""
        return self.detector.window_scores(self.z, self.starts)

    @staticmethod
    def answers(asks: Sequence[Any]) -> list[np.ndarray]:
        """Of several such: their rows one after another, as if they were of one series."""
        begin = np.cumsum([0, *(len(ask.z) for ask in asks[:-1])])
        starts = [ask.starts + at for ask, at in zip(asks, begin, strict=True)]
        z = np.concatenate([ask.z for ask in asks])
        of_windows = asks[0].detector.window_scores(z, np.concatenate(starts))
        return np.split(of_windows, np.cumsum([ask.size for ask in asks[:-1]]))


class OfRow(NamedTuple):
    """A question of a stream: what score does its next row have? The answer is (1,)."""

    steps: Steps
    series: int  # its number
    row: np.ndarray  # (c,), scaled

    @property
    def whom(self) -> object:
        """Who answers it."""
        return self.steps

    @property
    def size(self) -> int:
        """How much it adds to what is at work."""
        return 1

    def answer(self) -> np.ndarray:
        """By itself."""
        return self.steps.scores(np.array([self.series]), self.row[None])

    @staticmethod
    def answers(asks: Sequence[Any]) -> list[np.ndarray]:
        """Of several such: one step of as many series."""
        series, rows = np.array([ask.series for ask in asks]), np.array([ask.row for ask in asks])
        return list(asks[0].steps.scores(series, rows)[:, None])


Ask: TypeAlias = OfWindows | OfRow
# asks for scores of windows and rows, and returns those of the stream: who feeds one stream answers
# each question by itself, who feeds many together those of all at once
Asking: TypeAlias = Generator[Ask, np.ndarray, np.ndarray]


class Lane:
    """The memory of one stream among those of others that one `Steps` keeps, or alone.

    Parameters
    ----------
    detector : Detector
        What makes the `Steps`, when the first row comes that needs it.
    """

    def __init__(self, detector: Scores) -> None:
        self.detector, self.series = detector, 0
        self.at: tuple[object, int] | None = None  # the piece in it, and how many of its rows
        self._steps: Steps | None = None
        self._made = False

    @property
    def steps(self) -> Steps | None:
        """None where the detector has no way from row to row."""
        if not self._made:
            self.move(self.detector.steps(1), 0)
        return self._steps

    def move(self, steps: Steps | None, series: int) -> None:
        """Be remembered elsewhere, from the next row on."""
        self._steps, self.series, self.at, self._made = steps, series, None, True


class Scoring(Protocol):
    """What a stream knows of the scores of a piece: rows that follow each other without a gap."""

    seen: int  # rows
    scored: int  # of these, rows whose score is known

    def update(self, z: np.ndarray) -> Asking:
        """Scores that have become known with some more scaled rows; (n c) → (k,)."""
        ...

    def finish(self) -> Asking:
        """Scores of the rows that still wait; NaN for those of less than a window."""
        ...

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What is remembered, as plain JSON and arrays."""
        ...

    def restore(self, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from it; a ValueError if that does not fit together."""
        ...


class Scores(Protocol):
    """What a stream knows of a detector; every `madcluster.detectors.Detector` has it."""

    window: int
    aggregate: Aggregate
    smooth: Any
    scaler_: Scaler
    median_: np.ndarray
    channels_: tuple[str, ...]

    @property
    def as_fitted(self) -> Self: ...
    def checked(self, X: Any, where: str, *, missing: bool = False) -> np.ndarray: ...
    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray: ...
    def last_scores(
        self, seen: int = 0
    ) -> tuple[int, Callable[[np.ndarray], np.ndarray]] | None: ...
    def aggregate_of(self, aggregate: Aggregate) -> Aggregate: ...
    def scoring_stride(self) -> int: ...
    def steps(self, n: int) -> Steps | None: ...
    def piece(self, aggregate: Aggregate, lane: Lane | None = None) -> Scoring: ...
    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]: ...


class Clocked(NamedTuple):
    """Times of rows that can be taken."""

    kind: str
    last: float  # the latest
    late: np.ndarray  # (n,) bool, not later than a row before: they are left out
    gap: np.ndarray  # (n,) bool, too long a time before them


class Stream:
    """Feed rows, one or many at a time, and get scores, **higher = more anomalous**.

    How the rows are cut changes scores by the rounding of float32 alone: of one row, a network that
    can (`madcluster.models.base.Memory`) computes what is new, and of many it multiplies larger
    matrices. Many streams cost less together, in a `madcluster.service.groups.StreamGroup`.

    Rows follow each other in pieces. A piece ends where time makes too long a step, and at a row that
    cannot be scored; no window and no mean over scores reaches across its end, and each piece has the
    scores that `decision_function` would give it alone. Without any of that all rows are one piece.

    Parameters
    ----------
    detector : Detector
        Fitted. Its weights are used, not copied, unless a network remembers rows: then they are copied
        when the first row comes alone.
    aggregate : "last", "window" or "mean", optional
        The detector's own by default. "last" and "window": a row has its score at once, from the window
        that ends with it and, if the detector smooths, from the scores before. "mean": a row has its
        score later, when all windows that cover it have been seen, and the rows after it that it is
        smoothed with; see the table of `madcluster.aggregation`. The scores are those of
        `decision_function` with that aggregate, however the rows are cut. So a threshold must come from
        the same aggregate: fit with it.
    missing : "refuse", "hold" or "mask"
        What is done where a value is missing: NaN, None, infinite, or beyond what float32 holds.
        "refuse" raises a ValueError. "hold" puts the last value of that channel there, in at most
        `max_hold` rows one after another; a row where that is not enough cannot be scored. "mask" puts
        the median of the channel in the train split there, for as long as it takes, so that it counts
        as nothing unusual; a row without any value cannot be scored.
    max_hold : int
        Rows that a value is held for; with 0, a row with a missing value cannot be scored.
    max_step : number or Timedelta, optional
        The longest time from one row to the next that is no gap, such as one and a half steps of the
        clock. If it is given, all rows need times.
    late : "refuse" or "drop"
        What is done with a row whose time is not later than that of the row before. "refuse" raises a
        ValueError. "drop" leaves the row out and counts it; so rows may be sent twice.
    alarms : OnlineAlarms, optional
        Is fed with the scores, and saved and loaded with the stream.

    Attributes
    ----------
    seen : int
        Rows that were taken. Alarms count these, from 0.
    scored : int
        Rows that are done with: `update` has returned their score, or NaN, for all before this number.
        In every piece the first window − 1 rows wait for its first whole window.
    unscored : int
        Of these, rows without a score: those that cannot be scored, and those of a piece shorter than a
        window. Their score is NaN, which is no number below a threshold: compare with care.
    dropped : int
        Rows that came late and were left out.
    filled : int
        Values that were held or masked.
    gaps : int
        Steps in time that were longer than `max_step`.
    marked : (k,) bool
        Which of the scores that were returned last are of rows with held or masked values.
    events : list of AlarmEvent
        What became certain with the scores that were returned last.

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

    def __init__(
        self,
        detector: Scores,
        *,
        aggregate: Aggregate | None = None,
        missing: Missing = "refuse",
        max_hold: int = 10,
        max_step: MaxStep | None = None,
        late: Late = "refuse",
        alarms: OnlineAlarms | None = None,
    ) -> None:
        detector = detector.as_fitted
        check_aggregate(detector.aggregate if aggregate is None else aggregate)
        check_one_of("missing", missing, get_args(Missing))
        check_one_of("late", late, get_args(Late))
        self.detector, self.window = detector, detector.window
        self.aggregate: Aggregate = detector.aggregate if aggregate is None else aggregate
        self.channels = detector.channels_
        self.missing, self.late, self.alarms = missing, late, alarms
        self.max_hold = check_whole("max_hold", max_hold, 0)
        self.max_step = None if max_step is None else _checked_step(max_step)
        self.seen = self.scored = self.unscored = 0
        self.dropped = self.filled = self.gaps = 0
        self.events: list[AlarmEvent] = []
        self.marked = np.zeros(0, bool)
        self._known = frozenset(self.channels)
        self._digest: str | None = None
        self._time: tuple[str, float] | None = None  # of the last row: its kind, and a number
        self.lane = Lane(detector)
        self._piece = detector.piece(self.aggregate, self.lane)
        self._marks = np.zeros(0, bool)  # of the rows that wait
        self._last = np.zeros(len(self.channels), np.float32)  # scaled values to hold
        self._held = self._unknown()  # rows in which each was held

    def _unknown(self) -> np.ndarray:
        """As if every value had been held for too long: there is none to hold."""
        return np.full(len(self.channels), self.max_hold)

    @property
    def time(self) -> Any:
        """Of the row taken last: a number, or a Timestamp, in UTC if it had a zone; None before."""
        if self._time is None or self._time[0] == KINDS[0]:
            return self._time and self._time[1]
        return pd.Timestamp(self._time[1], tz="UTC" if self._time[0] == KINDS[2] else None)

    # --- rows in -----------------------------------------------------------------------------------

    def update(self, rows: Any, time: Any = None) -> np.ndarray:
        """Scores that have become known with some more rows.

        Parameters
        ----------
        rows : (n c), or one row (c,)
            An array, a DataFrame, or dicts by the names of the channels in any order, where a name that
            is absent is a missing value; one row also as a Series or a dict. None, [] or a table
            without rows is a poll that brought nothing.
        time : (n,) dates or numbers, or one of them, optional
            When the rows were measured. By default the index of a DataFrame if it is one of dates, or
            if there is a `max_step`.

        Returns
        -------
        (k,) float64 for rows `scored` − k … `scored` − 1, NaN where a row has no score.

        Raises
        ------
        ValueError
            For values that are no numbers, or missing or late and so refused; for other channels; for
            times that are absent though there is a `max_step`, or of another kind than before. None of
            the rows is taken then.
        """
        return answered(self.taking(*self.examined(rows, time)))

    def examined(self, rows: Any, time: Any = None) -> tuple[np.ndarray, Clocked | None]:
        """What `update` refuses or takes: scaled rows (n c), NaN for a missing value, and times."""
        if _is_empty(rows):
            return np.empty((0, len(self.channels)), np.float32), None
        if time is None:
            time = self._times_of(rows)
        x = self.detector.checked(self._table(rows), "rows", missing=self.missing != "refuse")
        clocked = None if time is None else self.clocked(time, len(x))
        return self.detector.scaler_.transform(x), clocked

    def clocked_row(self, time: Any) -> Clocked | None:
        """Of one row; None where there is no time and none is needed."""
        if time is not None:
            return self.clocked(time, 1)
        if self.max_step is not None:
            raise ValueError(NEEDS_TIMES)
        return None

    def taking(self, z: np.ndarray, clocked: Clocked | None) -> Asking:
        """Take rows that were examined; what it returns is what `update` does."""
        if clocked is None and self.missing == "refuse":  # nothing can end a piece
            self.seen += len(z)
            scores = (yield from self._piece.update(z)) if len(z) else np.empty(0)
            return self._out(scores)
        gap = np.zeros(len(z), bool)
        if clocked is not None:
            self._time = clocked.kind, clocked.last
            self.dropped += int(clocked.late.sum())
            self.gaps += int(clocked.gap.sum())
            z, gap = z[~clocked.late], clocked.gap[~clocked.late]
        usable, put = np.ones(len(z), bool), np.zeros(len(z), bool)
        if self.missing != "refuse":
            usable, put = self._complete(z, gap)
        self.seen += len(z)
        if self.missing != "refuse":
            self._marks = np.append(self._marks, put)
        scores = yield from self._by_piece(z, gap, usable)
        return self._out(scores)

    def _times_of(self, rows: Any) -> pd.Index | None:
        if isinstance(rows, pd.Series):
            rows = rows.to_frame().T
        dated = isinstance(rows, pd.DataFrame) and isinstance(rows.index, pd.DatetimeIndex)
        if isinstance(rows, pd.DataFrame) and (dated or self.max_step is not None):
            return rows.index
        if self.max_step is not None:
            raise ValueError(NEEDS_TIMES)
        return None

    def _table(self, rows: Any) -> Any:
        """Two-dimensional, and dicts in the order of the channels."""
        if isinstance(rows, np.ndarray):  # first, for it is the quick case
            return rows[None] if rows.ndim == 1 else rows
        if isinstance(rows, Mapping):
            rows = [rows]
        if isinstance(rows, list | tuple) and isinstance(rows[0], Mapping):
            return np.array([self._values(i, row) for i, row in enumerate(rows)])
        if isinstance(rows, pd.Series):
            return rows.to_frame().T
        return np.asarray(rows)[None] if np.ndim(rows) == 1 else rows

    def _values(self, i: int, row: Any) -> list[Any]:
        if not isinstance(row, Mapping):
            raise ValueError(f"rows holds dicts, but row {i} is of type {type(row).__name__}")
        if not row.keys() <= self._known:
            row = {str(name): value for name, value in row.items()}
            for name in row.keys() - self._known:
                raise ValueError(f"rows has {name!r} in row {i}, which is none of {self.channels}")
        if self.missing == "refuse":
            for name in self._known - row.keys():
                raise ValueError(f"rows has no {name!r} in row {i}")
        return [row.get(name) for name in self.channels]

    def clocked(self, time: Any, n: int) -> Clocked:
        """The times of n rows, beside that of the row before them; or what is wrong with them."""
        kind, numbers = _clock(time)
        if numbers.shape != (n,):
            raise ValueError(f"time has shape {numbers.shape} for {n} rows")
        wanted = self._time or self.max_step
        if wanted is not None and kind.split()[0] != wanted[0].split()[0]:
            raise ValueError(f"time holds {kind}, expected {wanted[0]}")
        if self._time is not None and kind != self._time[0]:
            raise ValueError(f"time holds {kind}, but {self._time[0]} came before")
        first = self._time is None
        since = numbers if self._time is None else np.append(self._time[1], numbers)
        highest = np.maximum.accumulate(since)
        late = since[1:] <= highest[:-1]
        gap = np.zeros(len(late), bool)
        if self.max_step is not None:
            gap = np.diff(highest) > self.max_step[1]
        if first:
            late, gap = np.append(False, late), np.append(False, gap)
        if late.any() and self.late == "refuse":
            row = int(np.argmax(late))
            raise ValueError(
                f"rows are late: row {row} is of {_shown(kind, numbers[row])}, not later than "
                f"{_shown(kind, highest[row - first])} before it ({late.sum()} such rows in all)"
            )
        return Clocked(kind, highest[-1].item(), late, gap)

    def _complete(self, z: np.ndarray, gap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Put values where they are missing; → rows that can be scored, and those with such values."""
        absent = np.isnan(z)
        usable, put = np.ones(len(z), bool), absent.any(1)
        if self.missing == "mask":
            usable = ~absent.all(1)
            z[absent] = np.broadcast_to(self.detector.median_, z.shape)[absent]
        elif not put.any() and len(z):
            self._last, self._held = z[-1].copy(), np.zeros_like(self._held)
        elif len(z):
            for i, here in enumerate(absent):
                held = self._unknown() if gap[i] else self._held
                self._held = np.where(here, held + 1, 0)
                self._last = z[i] = np.where(here, self._last, z[i])
                usable[i] = (self._held <= self.max_hold).all()
        put &= usable
        self.filled += int(absent[put].sum())
        return usable, put

    # --- scores out --------------------------------------------------------------------------------

    def _by_piece(self, z: np.ndarray, gap: np.ndarray, usable: np.ndarray) -> Asking:
        """Scores that have become known, where pieces end and begin among the rows."""
        ended = np.append(True, gap[1:] | (usable[1:] != usable[:-1]))
        found = []
        for start, stop in pairwise([*np.flatnonzero(ended), len(z)]) if len(z) else ():
            if gap[start] or not usable[start]:
                found.append((yield from self._end_piece()))
            if usable[start]:
                found.append((yield from self._piece.update(z[start:stop])))
            else:
                found.append(np.full(stop - start, np.nan))
        return np.concatenate(found) if found else np.empty(0)

    def _end_piece(self) -> Asking:
        piece = self._piece
        if not piece.seen:
            return np.empty(0)
        self._piece = self.detector.piece(self.aggregate, self.lane)
        return (yield from piece.finish())

    def _out(self, scores: np.ndarray, *, last: bool = False) -> np.ndarray:
        """Count the scores, and feed the alarms with them."""
        n = len(scores)
        self.scored += n
        if not np.isfinite(scores).all():
            self.unscored += n - int(np.isfinite(scores).sum())
        self.marked, self._marks = (
            (self._marks[:n], self._marks[n:])
            if len(self._marks)
            else (np.zeros(n, bool), self._marks)
        )
        if self.alarms is not None:
            self.events = self.alarms.update(scores)
            if last:
                self.events += self.alarms.finish()
        return scores

    def finish(self) -> np.ndarray:
        """Scores of the rows that still wait, when nothing more will come; alarms end too.

        They are means over what covers a row, as at the end of `decision_function`. No row waits for
        "last" and "window", except in a piece that is shorter than a window; these rows have no score.
        Nothing can be fed afterwards.

        Raises
        ------
        ValueError
            If less than a window was seen.
        """
        self.check_finish()
        return answered(self.finishing())

    def check_finish(self) -> None:
        """Raise the ValueError of `finish`."""
        if self.seen < self.window:
            raise ValueError(f"{self.seen} rows were seen, less than a window of {self.window}")

    def finishing(self) -> Asking:
        """What it returns is what `finish` does."""
        scores = yield from self._end_piece()
        return self._out(scores, last=True)

    # --- files -------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what it remembers, with its alarms, to a safetensors file, whole or not at all."""
        piece, remembered = self._piece.state()
        about = {
            **self._about(),
            **{name: getattr(self, name) for name in _COUNTS},
            "missing": self.missing,
            "max_hold": self.max_hold,
            "max_step": self.max_step,
            "late": self.late,
            "time": self._time,
            "alarms": None if self.alarms is None else self.alarms.state(),
            "piece": piece,
        }
        arrays = {
            **{f"piece.{name}": array for name, array in remembered.items()},
            "marks": self._marks,
            "last": self._last,
            "held": self._held,
        }
        checkpoints.write(path, KIND, about, arrays, version=FORMAT)

    def _about(self) -> dict[str, Any]:
        """What a file must have in common with the stream that goes on from it."""
        if self._digest is None:
            self._digest = _digest(self.detector)
        return {
            "aggregate": self.aggregate,
            "window": self.window,
            "channels": list(self.channels),
            "detector": self._digest,
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str], detector: Scores) -> Self:
        """Go on with a stream that `save` wrote, with the same detector and options.

        Raises
        ------
        CheckpointError
            If the file is damaged, of another format, or of another detector: another window, other
            channels, another scaler or other weights.
        FileNotFoundError
            If there is no such file.
        """
        about, arrays = checkpoints.read(path, KIND, version=FORMAT)
        try:
            options = {name: about[name] for name in ("aggregate", "missing", "max_hold", "late")}
            if about["alarms"] is not None:
                options["alarms"] = OnlineAlarms.from_state(about["alarms"])
            stream = cls(detector, **options)
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
            stream._restore(about, arrays)
        except CheckpointError:
            raise
        except checkpoints.FAULTS as error:
            raise CheckpointError(f"{path} does not describe a stream: {error}") from error
        return stream

    def _restore(self, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        for name in _COUNTS:
            setattr(self, name, check_whole(name, about[name], 0))
        for name in ("max_step", "time"):
            if about[name] is not None:
                kind, number = about[name]
                check_one_of(name, kind, KINDS)
                check_number(name, number, -(2.0**63), 2.0**63)
                setattr(self, "_time" if name == "time" else name, (kind, number))
        remembered = {name: array for name, array in arrays.items() if name.startswith("piece.")}
        self._piece.restore(
            about["piece"], {n.removeprefix("piece."): array for n, array in remembered.items()}
        )
        waiting = self.seen - self.scored
        if self._piece.seen - self._piece.scored != waiting:
            raise ValueError(f"{waiting} rows wait, its piece says otherwise")
        marks, last, held = arrays["marks"], arrays["last"], arrays["held"]
        shape = (len(self.channels),)
        if marks.shape not in ((0,), (waiting,)) or last.shape != shape or held.shape != shape:
            raise ValueError("what is held and marked has another shape")
        self._marks, self._last = marks.astype(bool), last.astype(np.float32)
        self._held = held.astype(int)


_COUNTS = "seen", "scored", "unscored", "dropped", "filled", "gaps"


class Piece:
    """Scores of rows that follow each other without a gap, from the windows of one detector."""

    def __init__(self, detector: Scores, aggregate: Aggregate, lane: Lane) -> None:
        self.detector, self.window, self.lane = detector, detector.window, lane
        # of one row, all are the same
        self._of_windows = "last" if self.window == 1 else detector.aggregate_of(aggregate)
        self.seen = self.scored = 0
        self._find_shortcut()
        self.made = 0  # rows whose score before smoothing is known
        mean = self._of_windows == "mean"
        self.stride = detector.scoring_stride() if mean else 1
        # the last window, which ends with the series, begins where no other does
        self._most = self.window - (self.stride == 1)
        # the last rows, at most so many, with room for as many others after them
        self._kept, self._stop = np.empty((2 * self._most, len(detector.channels_)), np.float32), 0
        self.sums = np.zeros(self.window)  # of scores of the rows from `made` on, for "mean"
        self.smoother = Smoother(detector.smooth, causal=aggregate != "mean")

    def _find_shortcut(self) -> None:
        last = self._of_windows == "last"
        self._shortcut = self.detector.last_scores(self.seen) if last else None

    @property
    def rows(self) -> np.ndarray:
        """The last rows, scaled, which later windows have in common with earlier ones."""
        return self._kept[max(0, self._stop - self._most) : self._stop]

    def _keep(self, new: np.ndarray) -> None:
        if len(new) >= self._most:
            self._kept[: self._most], self._stop = new[len(new) - self._most :], self._most
            return
        if self._stop + len(new) > len(self._kept):  # to the front, once in a window
            self._kept[: self._most], self._stop = self.rows, self._most
        self._kept[self._stop : self._stop + len(new)] = new
        self._stop += len(new)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What is remembered, as plain JSON and arrays."""
        about = {"seen": self.seen, "made": self.made, "smoothed": self.smoother.before}
        kept = {"sums": as_bits(self.sums), "scores": as_bits(self.smoother.kept)}
        return about, {"rows": self.rows, **kept}

    def restore(self, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from it.

        Raises
        ------
        KeyError, TypeError, ValueError
            If that does not fit together.
        """
        seen, made, before = (check_whole(n, about[n], 0) for n in ("seen", "made", "smoothed"))
        rows, (sums, scores) = arrays["rows"], (from_bits(arrays[n]) for n in ("sums", "scores"))
        kept = min(seen, self._most)
        if rows.shape != (kept, self._kept.shape[1]) or sums.shape != (self.window,):
            raise ValueError(f"it holds rows of shape {rows.shape}")
        if scores.ndim != 1 or not 0 <= len(scores) - before <= made <= seen:
            raise ValueError(f"it holds scores of shape {scores.shape}")
        self.seen, self.made, self.scored = seen, made, made - (len(scores) - before)
        self.smoother.kept, self.smoother.before = scores, before
        self._find_shortcut()
        self._keep(rows.astype(np.float32))
        self.sums = sums.copy()

    def update(self, z: np.ndarray) -> Asking:
        """Scores that have become known with some more scaled rows; (n c) → (k,)."""
        if len(z) <= BLOCK:
            return self._smooth((yield from self._block(z)))
        made = []
        for i in range(0, len(z), BLOCK):
            made.append((yield from self._block(z[i : i + BLOCK])))
        return self._smooth(np.concatenate(made))

    def _smooth(self, made: np.ndarray, *, last: bool = False) -> np.ndarray:
        scores = self.smoother.update(made, last=last)
        self.scored += len(scores)
        return scores

    def _block(self, new: np.ndarray) -> Asking:
        # what came before may be in a memory
        known = len(new) <= FEW and self.lane.at == (self, self.seen)
        x = new if known else np.concatenate([self.rows, new])
        first = self.seen < self.window <= self.seen + len(new)  # the first whole window ends here
        self.seen += len(new)
        self._keep(new)
        if self.seen < self.window:
            return np.empty(0)
        mean = self._of_windows == "mean"
        of_rows = yield from (self._mean if mean else self._ends)(x, len(new), first)
        self.made += len(of_rows)
        return of_rows

    def _ends(self, x: np.ndarray, n: int, first: bool) -> Asking:
        if self._shortcut is None or (first and self.window > 1):
            starts = np.arange(len(x) - self.window + 1)
            of_windows = yield OfWindows(self.detector, x, starts)
            found = ends(of_windows, self._of_windows)
            if first:  # the rows that waited take their scores from the first window
                found = np.append(beginning(of_windows[0], self.window, self._of_windows), found)
            return found
        if n <= FEW and (steps := self.lane.steps) is not None:
            return (yield from self._row_by_row(x, n, steps))
        reach, last_scores = self._shortcut
        return last_scores(x[len(x) - reach - n :])

    def _row_by_row(self, x: np.ndarray, n: int, steps: Steps) -> Asking:
        """Scores of the last n rows of x; what is remembered depends on the rows alone, to the bit."""
        lane, found = self.lane, []
        known = lane.at == (self, self.seen - n)
        lane.at = None  # until all is done
        for row in x[len(x) - n - (0 if known else steps.reach) :]:
            found.append((yield OfRow(steps, lane.series, row)))
        lane.at = self, self.seen
        return found[0] if len(found) == 1 else np.concatenate(found[-n:])

    def _mean(self, x: np.ndarray, n: int, first: bool) -> Asking:
        """Scores of the rows that no window to come covers; the last n rows of x are new."""
        end = self.seen - self.window + 1  # of the rows in which a whole window begins
        starts = np.arange(-(-max(0, end - n) // self.stride) * self.stride, end, self.stride)
        # a series that ends here would have a window more, from row end − 1 on
        final = end if (end - 1) % self.stride == 0 else end - 1
        sums = np.zeros(max(0, final - self.made) + self.window)
        sums[: self.window] = self.sums
        if len(starts):
            of_windows = yield OfWindows(self.detector, x, starts - (self.seen - len(x)))
            for at, of_window in zip((starts - self.made).tolist(), of_windows, strict=True):
                sums[at : at + self.window] += of_window
        rows = np.arange(self.made, final)
        self.sums = sums[len(rows) :][: self.window].copy()
        return sums[: len(rows)] / self._counts(rows)

    def _counts(self, rows: np.ndarray) -> np.ndarray:
        """Windows that cover rows (n,), without one from elsewhere at the end; → (n,)."""
        last = (self.seen - self.window) // self.stride
        first = -(-np.maximum(rows - self.window + 1, 0) // self.stride)
        return np.minimum(rows // self.stride, last) - first + 1

    def finish(self) -> Asking:
        """Scores of the rows that still wait; NaN for those of less than a window."""
        if self.seen < self.window:
            return np.full(self.seen, np.nan)
        rows = np.arange(self.made, self.seen)
        counts = self._counts(rows)
        if len(rows) and (self.seen - self.window) % self.stride:
            counts += 1
            of_windows = yield OfWindows(self.detector, self.rows, np.zeros(1, int))
            self.sums += of_windows[0]
        self.made = self.seen
        return self._smooth(self.sums[: len(rows)] / counts, last=True)


def answered(asking: Asking) -> np.ndarray:
    """What it returns, with each of its questions answered by itself."""
    try:
        ask = next(asking)
        while True:
            ask = asking.send(ask.answer())
    except StopIteration as done:
        found: np.ndarray = done.value
        return found


def answers(asks: Sequence[Ask]) -> list[np.ndarray]:
    """The answers to questions of several streams, those to one detector together.

    They go together up to `BLOCK` windows at a time. What a detector says of a window does not depend
    on the rows around it.
    """
    found: dict[int, np.ndarray] = {}
    alike: dict[int, list[int]] = {}  # numbers of questions that go together, by whom they go to
    room: dict[int, int] = {}
    every = []
    for i, ask in enumerate(asks):
        whom = id(ask.whom)
        if room.get(whom, 0) < ask.size:
            alike[whom], room[whom] = [], BLOCK
            every.append(alike[whom])
        alike[whom].append(i)
        room[whom] -= ask.size
    for numbers in every:
        first = asks[numbers[0]]
        of_these = first.answers([asks[i] for i in numbers]) if numbers[1:] else [first.answer()]
        found.update(zip(numbers, of_these, strict=True))
    return [found[i] for i in range(len(asks))]


def pieces(time: Any, max_step: MaxStep) -> list[tuple[int, int]]:
    """Rows start … stop − 1 that follow each other without a gap.

    Parameters
    ----------
    time : (n,) dates or numbers
    max_step : number or Timedelta
        As for `Stream`: a longer time from one row to the next is a gap.

    Raises
    ------
    ValueError
        If a time is not later than the one before, or dates come with a number, or numbers with a
        Timedelta.

    Examples
    --------
    >>> pieces([0, 1, 2, 60, 61], max_step=1.5)
    [(0, 3), (3, 5)]
    """
    (kind, numbers), (wanted, longest) = _clock(time), _checked_step(max_step)
    if kind.split()[0] != wanted:
        raise ValueError(f"time holds {kind}, expected {wanted}")
    steps = np.diff(numbers)
    if not (steps > 0).all():
        row = int(np.argmin(steps > 0)) + 1
        raise ValueError(
            f"time must go forward: row {row} is of {_shown(kind, numbers[row])}, "
            f"not later than {_shown(kind, numbers[row - 1])} before it"
        )
    cuts = (np.flatnonzero(steps > longest) + 1).tolist()
    return list(pairwise([0, *cuts, len(numbers)]))


KINDS = "numbers", "dates", "dates with a zone"


def _clock(time: Any) -> tuple[str, np.ndarray]:
    """The kind of some times, and numbers in their order: nanoseconds for dates; (n,)."""
    if not isinstance(time, pd.Index):
        values = np.asarray(time)
        values = values[None] if values.ndim == 0 else values
        if values.dtype.kind in "iuf":
            time = values
        else:
            time = pd.Index(values.tolist() if values.dtype == object else values)
    if isinstance(time, pd.DatetimeIndex):
        if time.hasnans:
            raise ValueError("time holds a date that is missing")
        return KINDS[1 + (time.tz is not None)], time.as_unit("ns").asi8
    numbers = np.asarray(time)
    if numbers.dtype.kind not in "iuf":
        raise ValueError(f"time must hold dates or numbers, got {numbers.dtype}")
    if not np.isfinite(numbers).all():
        raise ValueError("time holds a number that is not finite")
    return KINDS[0], numbers.astype(np.int64 if numbers.dtype.kind in "iu" else np.float64)


def _checked_step(max_step: MaxStep) -> tuple[str, float]:
    if isinstance(max_step, timedelta | np.timedelta64):  # one of pandas is the former
        step = pd.Timedelta(max_step)
        if not step > pd.Timedelta(0):
            raise ValueError(f"max_step must be positive, got {max_step!r}")
        return KINDS[1], step.as_unit("ns").value
    return KINDS[0], check_number("max_step", max_step, 0)


def _shown(kind: str, number: float) -> str:
    return str(number if kind == KINDS[0] else pd.Timestamp(int(number)))


def _is_empty(rows: Any) -> bool:
    if isinstance(rows, list | tuple):
        return not rows
    return rows is None or getattr(rows, "shape", ())[:1] == (0,)


def _digest(detector: Scores) -> str:
    """Of all that makes scores: what a stream remembers means nothing to another scaler or network."""
    about, arrays = detector.state()
    found = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for name in sorted(arrays):
        found.update(name.encode())
        found.update(np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()
