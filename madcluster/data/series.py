"""A multivariate series with a normal train split, cut to windows and brought to one scale."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from scipy.sparse import issparse

from madcluster.arguments import check_number, check_one_of, outside

__all__ = [
    "Event",
    "OutlierWarning",
    "Scaler",
    "Series",
    "checked_rows",
    "segments",
    "windows",
    "without_glitches",
]


class Event(NamedTuple):
    """What is known of one anomaly beyond its rows."""

    kind: str
    start: int  # first row
    stop: int  # first row after it
    channels: tuple[int, ...] = ()  # counted from 0; empty where nobody said which


def segments(labels: np.ndarray) -> np.ndarray:
    """Runs of true labels as half-open rows; (m,) → (s 2).

    >>> segments([0, 1, 1, 0, 1]).tolist()
    [[1, 3], [4, 5]]
    """
    flags = np.asarray(labels, dtype=bool)
    if not len(flags):
        return np.empty((0, 2), dtype=np.int64)
    turns = np.flatnonzero(flags[1:] != flags[:-1]) + 1
    begin, end = np.zeros(int(flags[0]), turns.dtype), np.full(int(flags[-1]), len(flags))
    return np.concatenate([begin, turns, end]).reshape(-1, 2)


def windows(x: np.ndarray, length: int, stride: int = 1) -> np.ndarray:
    """All windows of a series, as a read-only view; (n c) → (b t c).

    Raises
    ------
    ValueError
        If `x` is not 2-D or shorter than a window, or a number is not a positive integer.
    """
    for name, value in (("length", length), ("stride", stride)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")
    if x.ndim != 2:
        raise ValueError(f"x must be 2-D (rows, channels), got shape {x.shape}")
    if len(x) < length:
        raise ValueError(f"x has {len(x)} rows, less than a window of {length}")
    return sliding_window_view(x, length, axis=0)[::stride].swapaxes(1, 2)  # (b t c)


TIMES = datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64
MOST = np.finfo(np.float32).max  # no sensor reads more
NO_NUMBERS = str, bytes, *TIMES, pd.Period, pd.Interval  # though some would become one


def checked_rows(
    x: Any, where: str, channels: tuple[str, ...] | None = None, *, missing: bool = False
) -> np.ndarray:
    """Finite rows (n c), read-only, or a ValueError that says what is wrong with them.

    With `missing`, a value that is not finite, or beyond float32, is not refused and becomes NaN.

    float32 stays what it is, all else becomes float64: a channel with a large offset has its digits
    behind those of float32, and must be scaled before anything is cast.
    """
    # of an array of floats nothing can be wrong but its shape and values
    if type(x) is not np.ndarray or x.dtype.kind != "f":
        x = _as_array(x, where)
    kind = np.float32 if x.dtype == np.float32 else np.float64
    owner = x if x.base is None else x.base
    # nobody can change it: no copy
    frozen = isinstance(owner, np.ndarray) and not (x.flags.writeable or owner.flags.writeable)
    x = x.astype(kind, copy=not frozen)
    if x.ndim != 2:
        hint = ". Reshape your data: one row is x[None], one channel x[:, None]"
        raise ValueError(
            f"{where} must be 2-D (rows, channels), got shape {x.shape}{hint if x.ndim == 1 else ''}"
        )
    if 0 in x.shape:
        raise ValueError(f"{where} is empty: shape {x.shape}")
    if channels is not None and x.shape[1] != len(channels):
        raise ValueError(f"{where} has {x.shape[1]} channels, expected {len(channels)}")
    fits = np.abs(x) <= MOST
    if fits.all():
        pass
    elif missing:
        x = np.where(fits, x, np.nan)
    else:
        bad = np.argwhere(~fits)
        row, channel = (int(i) for i in bad[0])
        name = channel if channels is None else channels[channel]
        raise ValueError(
            f"{where} holds {str(x[row, channel]).replace('nan', 'NaN')} in row {row}, channel {name} "
            f"({len(bad)} such values in all)"
        )
    x.flags.writeable = False
    return x


def _as_array(x: Any, where: str) -> np.ndarray:
    """A table of another kind than an array of floats as one of numbers, of any shape."""
    if issparse(x):
        raise ValueError(f"{where} is sparse; dense rows are needed, such as {where}.toarray()")
    names = names_of(x)
    if names is not None and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{where} has more than one column {twice!r}")
    if isinstance(x, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in x):
        x = np.ma.array(x)
    if isinstance(x, np.ma.MaskedArray):
        # a masked value is a missing one
        x = np.where(np.ma.getmaskarray(x), np.nan, np.asarray(x, dtype=np.float64))
    if isinstance(x, pd.DataFrame):
        x = _numbers(x, where)
    elif names is not None:  # other libraries make numbers of dates beside numbers
        x = _numbers(pd.DataFrame({name: np.asarray(x[name]) for name in names}), where)
    try:
        x = np.asarray(x)
        if np.iscomplexobj(x):
            raise ValueError("Complex data not supported")
        if x.dtype.kind in "USmM":
            raise ValueError(f"they are of type {x.dtype}")
        if x.dtype.kind == "O":
            odd = next((value for value in x.flat if isinstance(value, NO_NUMBERS)), None)
            if odd is not None:
                raise ValueError(f"there is {odd!r} among them")
        return x if x.dtype.kind in "fiub" else x.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} must be numbers: {error}") from error


def names_of(table: Any) -> tuple[str, ...] | None:
    """Of the columns, if it is a DataFrame, of pandas or of another library."""
    # the `columns` of Arrow are what is in them
    columns = getattr(table, "column_names", getattr(table, "columns", None))
    return None if columns is None or callable(columns) else tuple(map(str, columns))


def _numbers(frame: pd.DataFrame, where: str) -> np.ndarray:
    """The values of a table whose columns hold numbers; pd.NA becomes NaN."""
    for name, kind in frame.dtypes.items():
        if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_object_dtype(kind)):
            raise ValueError(f"{where} must be numbers: column {name!r} is of type {kind}")
    if any(pd.api.types.is_extension_array_dtype(kind) for kind in frame.dtypes):
        return frame.to_numpy(dtype=np.float64, na_value=np.nan)
    return frame.to_numpy()


@dataclass(frozen=True, eq=False)
class Series:
    """A normal train split and a labeled test split of the same channels.

    Parameters
    ----------
    name : str
        Such as "SMD/machine-1-6"; every error begins with it.
    train : (n c), test : (m c)
        Stored read-only, float32 as it is and all else as float64.
    labels : (m,)
        True where a row of the test split is anomalous.
    channels : names of the channels; by default their numbers.
    events : what is known of single anomalies, by kind.
    time : (m,), optional time stamps of the test split.
    filled : int
        Missing values that a reader was asked to fill.
    train_time : (n,), optional time stamps of the train split.

    Raises
    ------
    ValueError
        For NaN, infinities, empty splits, unequal channels, and labels, events or time stamps that do
        not fit, naming the series, split, row and channel.

    Examples
    --------
    >>> normal, later = np.zeros((3, 2)), np.ones((2, 2))
    >>> days = pd.date_range("2026-03-01", periods=2)
    >>> series = Series("plant", normal, later, [0, 1], ("flow", "level"), time=days)
    >>> series.test_frame
                flow  level
    2026-03-01   1.0    1.0
    2026-03-02   1.0    1.0
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    channels: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    time: pd.Index | None = None
    filled: int = 0
    train_time: pd.Index | None = None

    def __post_init__(self) -> None:
        channels = tuple(str(c) for c in self.channels) or None
        train = checked_rows(self.train, f"{self.name}: train", channels)
        channels = channels or tuple(str(i) for i in range(train.shape[1]))
        test = checked_rows(self.test, f"{self.name}: test", channels)
        labels = np.asarray(self.labels)
        if labels.shape != (len(test),):
            raise ValueError(
                f"{self.name}: labels have shape {labels.shape}, the test split has "
                f"{len(test)} rows"
            )
        wrong = np.flatnonzero(~np.isin(labels, (0, 1)))
        if len(wrong):
            raise ValueError(
                f"{self.name}: labels must be 0 or 1, row {wrong[0]} is {labels[wrong[0]]}"
            )
        for split, stamps, rows in (("train", self.train_time, train), ("test", self.time, test)):
            if stamps is not None and len(stamps) != len(rows):
                raise ValueError(
                    f"{self.name}: {split} has {len(stamps)} time stamps for {len(rows)} rows"
                )
        for event in self.events:
            inside = 0 <= event.start < event.stop <= len(test)
            if not inside or not all(0 <= c < len(channels) for c in event.channels):
                raise ValueError(
                    f"{self.name}: {event} does not fit {len(test)} rows and {len(channels)} channels"
                )
        labels = labels.astype(bool)
        labels.flags.writeable = False
        values = {"train": train, "test": test, "labels": labels, "channels": channels}
        for field, value in values.items():
            object.__setattr__(self, field, value)

    def __repr__(self) -> str:
        return (
            f"Series({self.name!r}, train {self.train.shape}, test {self.test.shape}, "
            f"{self.anomaly_ratio:.2%} anomalous in {len(self.segments)} segments)"
        )

    @property
    def n_channels(self) -> int:
        """Channels of a row."""
        return len(self.channels)

    @property
    def train_frame(self) -> pd.DataFrame:
        """The train split with the names of its channels, and its time stamps as the index; (n c).

        A detector that was fitted on it refuses channels of other names or in another order. It holds
        the rows of the series themselves: what is to be changed is a copy of it.
        """
        return self._frame(self.train, self.train_time)

    @property
    def test_frame(self) -> pd.DataFrame:
        """The test split with the names of its channels, and its time stamps as the index; (m c).

        Without time stamps the rows are counted from 0. See `train_frame`.
        """
        return self._frame(self.test, self.time)

    def _frame(self, rows: np.ndarray, stamps: pd.Index | None) -> pd.DataFrame:
        return pd.DataFrame(rows, columns=[*self.channels], index=stamps, copy=False)

    @property
    def anomaly_ratio(self) -> float:
        """Share of anomalous rows in the test split."""
        return float(self.labels.mean())

    @property
    def segments(self) -> np.ndarray:
        """Anomalous segments of the test split, half-open, (s 2)."""
        return segments(self.labels)

    def events_of(self, kind: str) -> list[Event]:
        """Events of one kind, in order.

        Raises
        ------
        ValueError
            If the series has none of that kind.
        """
        found = [event for event in self.events if event.kind == kind]
        if not found:
            kinds = sorted({event.kind for event in self.events})
            raise ValueError(f"{self.name} has no event of kind {kind!r}, only {kinds}")
        return found


ScalerKind = Literal["minmax", "standard", "none"]

LARGEST = 1e6  # of scaled values
STRETCH = 1e6  # of a range beyond its inner rows, before it is called a glitch


class OutlierWarning(UserWarning):
    """A few values of the train split stretch the range of a channel beyond all use."""


def without_glitches(x: np.ndarray) -> np.ndarray:
    """The values (n c) with those of glitches cut to the range of the inner rows of their channel.

    Inner rows are all but a thousandth, and at least one, at either end of the order. A glitch
    stretches their range more than a millionfold; where they are constant, it is a million million
    times as far from them as from 0, or from 1 if they are nearer to 0.

    Warns
    -----
    OutlierWarning
        For every channel that has one.
    """
    if len(x) < 10:  # too few to tell what is inner
        return x
    cut = max(1, len(x) // 1000)
    low, high = np.partition(x, (cut, len(x) - 1 - cut), axis=0)[[cut, len(x) - 1 - cut]]
    inner = high.astype(np.float64) - low
    usual = np.where(inner > 0, inner * STRETCH, np.maximum(np.abs(low), 1) * STRETCH**2)
    stretched = np.flatnonzero(x.max(0).astype(np.float64) - x.min(0) > usual)
    if not len(stretched):
        return x
    x = x.copy()
    for channel in stretched:
        values = x[:, channel]
        row = int(np.argmax(np.abs(values - np.median(values))))
        warnings.warn(
            f"channel {channel} is {values[row]:.3g} in row {row} of train, more than a millionfold "
            f"beyond nearly all other rows: it is cut to those",
            OutlierWarning,
            stacklevel=outside(),
        )
        x[:, channel] = values.clip(low[channel], high[channel])
    return x


class Scaler:
    """Bring every channel to one scale, learned from the train split alone.

    "minmax" maps the train split to [0, 1], "standard" to mean 0 and variance 1, "none" leaves it.
    A channel that is constant in train becomes 0 there. If it moves later, its deviation from the
    constant is kept in its own units: a channel that wakes up must not vanish. Scaling is done in
    float64, so that a large offset costs nothing. Scaled values are kept within a million of 0, for
    squares of them must stay finite; "none" keeps what float32 can hold.

    If a few values in train stretch the range of a channel more than a millionfold beyond the inner
    99.8 % of its rows, the channel is scaled by those, with an `OutlierWarning`: by the range of one
    glitch, all that it measures would be 0. See `without_glitches`.

    Parameters
    ----------
    kind : "minmax", "standard" or "none"
    clip : float, optional
        Keep what lies outside the train range within this distance of it, in scaled units: for
        "minmax" in [−clip, 1 + clip], otherwise in [−clip, clip].
    """

    def __init__(self, kind: ScalerKind = "minmax", *, clip: float | None = None) -> None:
        check_one_of("scaler", kind, get_args(ScalerKind))
        self.kind = kind
        self.clip = None if clip is None else check_number("clip", clip, 0, ends="(]")
        self.shift: np.ndarray | None = None  # (c,) float64
        self.scale: np.ndarray | None = None  # (c,) float64

    def fit(self, x: np.ndarray) -> Self:
        """Learn shift and scale of every channel; (n c)."""
        if x.ndim != 2 or 0 in x.shape:
            raise ValueError(f"x must be 2-D (rows, channels) and not empty, got shape {x.shape}")
        x = x.astype(np.float64)
        if self.kind != "none":
            x = without_glitches(x)
        low, high = x.min(0), x.max(0)
        if self.kind == "minmax":
            self.shift, scale = low, high - low
        elif self.kind == "standard":
            self.shift, scale = np.where(low == high, low, x.mean(0)), x.std(0)
        else:
            self.shift, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
        constant = (low == high) & (self.kind != "none")
        self.scale = np.where(constant | (scale == 0), 1.0, scale)
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """(n c) → (n c) float32.

        Raises
        ------
        ValueError
            If it was not fitted, or on another number of channels.
        """
        if self.shift is None or self.scale is None:
            raise ValueError("the scaler is not fitted: call fit with the train split first")
        if x.ndim != 2 or x.shape[1] != len(self.shift):
            raise ValueError(
                f"x has shape {x.shape}, the scaler was fitted on {len(self.shift)} channels"
            )
        z = (x - self.shift) / self.scale
        if self.clip is not None:
            z = z.clip(-self.clip, self.clip + (self.kind == "minmax"))
        limit = np.finfo(np.float32).max if self.kind == "none" else LARGEST
        return z.clip(-limit, limit).astype(np.float32)

    def fit_transform(self, x: np.ndarray) -> np.ndarray:
        """`fit` and `transform` of the same split."""
        return self.fit(x).transform(x)

    def state(self) -> dict[str, np.ndarray]:
        """What `fit` learned, as arrays."""
        if self.shift is None or self.scale is None:
            raise ValueError("the scaler is not fitted: call fit with the train split first")
        return {"shift": self.shift, "scale": self.scale}

    @classmethod
    def from_state(
        cls, kind: ScalerKind, clip: float | None, state: Mapping[str, np.ndarray]
    ) -> Self:
        """A fitted scaler from what `state` returned."""
        scaler = cls(kind, clip=clip)
        scaler.shift, scaler.scale = np.asarray(state["shift"]), np.asarray(state["scale"])
        return scaler
