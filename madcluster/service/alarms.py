"""From scores to alarms, without a label: three ways to a threshold, and what counts as one alarm."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.ndimage import grey_closing, grey_opening, maximum_filter1d
from scipy.stats import genpareto

from madcluster.arguments import check_number, check_one_of, check_scores, check_whole, outside
from madcluster.data.series import segments

__all__ = [
    "Alarm",
    "AlarmEvent",
    "Found",
    "OnlineAlarms",
    "Rule",
    "budget_threshold",
    "conformal_threshold",
    "events_at_budget",
    "find_alarms",
    "peaks_threshold",
    "quantile_threshold",
]

Rule = Literal["quantile", "peaks", "budget", "conformal"]


class Alarm(NamedTuple):
    """Rows start … stop − 1, and the highest of their scores.

    Where no score could be had, the rows are an alarm of their own kind: its score is NaN.
    """

    start: int
    stop: int
    peak: int  # row of the highest score
    score: float

    @property
    def scored(self) -> bool:
        """Whether it is of scores that are high, and not of rows without a score."""
        return not math.isnan(self.score)


class AlarmEvent(NamedTuple):
    """What `OnlineAlarms` reports."""

    kind: Literal["began", "ended"]
    alarm: Alarm  # "began": as far as it is known; "ended": the whole


def _check_lengths(min_length: int, join: int, cooldown: int = 0) -> None:
    check_whole("min_length", min_length)
    check_whole("join", join, 0)
    check_whole("cooldown", cooldown, 0)


def _checked_release(threshold: float, release: float | None) -> float:
    release = threshold if release is None else release
    if not release <= threshold:
        raise ValueError(f"release must not be above the threshold {threshold}, got {release}")
    return release


def find_alarms(
    scores: ArrayLike,
    threshold: float,
    *,
    release: float | None = None,
    min_length: int = 1,
    join: int = 0,
    cooldown: int = 0,
) -> list[Alarm]:
    """Alarms in a series of scores.

    An alarm begins where a score exceeds `threshold` and lasts as long as scores stay above `release`
    (hysteresis): a score that trembles about the threshold is one alarm, not twenty.

    A score that is not finite is none: nothing is known of its row, which therefore is not above the
    release. So that it does not pass for normal, rows without a score in a row are an alarm of their
    own kind, whose score is NaN. The options are for scores and change nothing about these.

    Parameters
    ----------
    scores : (n,)
    threshold : float
    release : float, optional
        Not above `threshold`, which is the default.
    min_length : int
        Shorter alarms are dropped.
    join : int
        Alarms with at most this many rows between them are one; done before short ones are dropped.
    cooldown : int
        In this many rows after the `stop` of an alarm none begins. What is above the threshold there
        and stays above the release is an alarm from the first row after them that exceeds the
        threshold: a fault that lasts is reported late, but it is reported. Alarms that were dropped
        have no cooldown.

    Returns
    -------
    In the order of their beginnings.

    Raises
    ------
    ValueError
        If there are no scores, or an argument is out of its range.

    Examples
    --------
    >>> [alarm[:2] for alarm in find_alarms([0, 5, 3, 5, 0, 0, 5], 4, release=2)]
    [(1, 4), (6, 7)]
    >>> find_alarms([0, np.nan, np.nan, 5], 4)[0]
    Alarm(start=1, stop=3, peak=1, score=nan)
    """
    values = check_scores("scores", scores, finite=False)
    release = _checked_release(threshold, release)
    _check_lengths(min_length, join, cooldown)
    known = np.isfinite(values)
    values = np.where(known, values, -np.inf)
    above = segments(known & (values > release))  # (k 2)
    if join and len(above):
        gap = above[1:, 0] - above[:-1, 1] > join
        above = np.stack([above[np.append(True, gap), 0], above[np.append(gap, True), 1]], axis=1)
    found, ready = [], 0  # the first row in which an alarm may begin
    for low, stop in above:
        rows = values[max(low, ready) : stop]
        if not len(rows) or not rows.max() > threshold:
            continue
        start = int(stop - len(rows) + np.argmax(rows > threshold))
        if stop - start >= min_length:
            peak = int(stop - len(rows) + np.argmax(rows))
            found.append(Alarm(start, int(stop), peak, float(values[peak])))
            ready = stop + cooldown
    found += [
        Alarm(int(start), int(stop), int(start), math.nan) for start, stop in segments(~known)
    ]
    return sorted(found, key=lambda alarm: alarm.start)


class OnlineAlarms:
    """`find_alarms` for scores that come one or many at a time, however they are cut.

    It keeps the alarm that is open and no score. `Stream` takes one, feeds it and saves it with its own
    state.

    Parameters
    ----------
    threshold, release, min_length, join, cooldown
        As for `find_alarms`; the alarms that ended are the same.

    Attributes
    ----------
    seen : int
        Scores that came.
    reported : int
        Events that were reported. A service that writes them down knows by it, after a restart, which
        of them this state has already reported.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> alarms = OnlineAlarms(4, release=2, min_length=2)
    >>> alarms.update([0, 5])  # may still be too short
    []
    >>> alarms.update([3])
    [AlarmEvent(kind='began', alarm=Alarm(start=1, stop=3, peak=1, score=5.0))]
    >>> alarms.update([7, 0])
    [AlarmEvent(kind='ended', alarm=Alarm(start=1, stop=4, peak=3, score=7.0))]
    """

    def __init__(
        self,
        threshold: float,
        *,
        release: float | None = None,
        min_length: int = 1,
        join: int = 0,
        cooldown: int = 0,
    ) -> None:
        self.threshold = check_number("threshold", threshold, -math.inf)
        self.release = float(_checked_release(self.threshold, release))
        _check_lengths(min_length, join, cooldown)
        self.min_length, self.join, self.cooldown = int(min_length), int(join), int(cooldown)
        self.seen = self.reported = 0
        self._ready = 0  # the first row in which an alarm may begin
        self._open: Alarm | None = None  # of scores; reported once it is long enough
        self._since: int | None = None  # the first of the rows without a score

    def update(self, scores: ArrayLike) -> list[AlarmEvent]:
        """What has become certain with some more scores; (n,), also none.

        "began" comes as soon as `find_alarms` would have the alarm whatever follows: with its
        `min_length`-th row. "ended" comes with the first row that can no longer be joined, `join` rows
        after the last one. So events of high scores and of missing ones may be out of order by `join`
        rows.

        Raises
        ------
        ValueError
            If scores are not (n,).
        """
        values = check_scores("scores", scores, least=0, finite=False)
        quiet = self._open is None and self._since is None
        if quiet and np.isfinite(values).all() and not (values > self.threshold).any():
            self.seen += len(values)  # nearly always
            return []
        events: list[AlarmEvent] = []
        for value in values.tolist():
            self._row(value, events)
            self.seen += 1
        self.reported += len(events)
        return events

    def _row(self, value: float, events: list[AlarmEvent]) -> None:
        row, known, alarm = self.seen, math.isfinite(value), self._open
        if not known and self._since is None:
            self._since = row
            events.append(AlarmEvent("began", Alarm(row, row + 1, row, math.nan)))
        elif known:
            self._know(events)
        if alarm is None:
            if known and value > self.threshold and row >= self._ready:
                self._open = Alarm(row, row + 1, row, value)
                self._begin(events, 0)
        elif known and value > self.release:
            higher = value > alarm.score
            self._open = alarm._replace(
                stop=row + 1,
                peak=row if higher else alarm.peak,
                score=value if higher else alarm.score,
            )
            self._begin(events, alarm.stop - alarm.start)
        elif row + 1 - alarm.stop > self.join:
            self._close(events)

    def _begin(self, events: list[AlarmEvent], before: int) -> None:
        """Report the open alarm if it is long enough now and was not with the rows before."""
        assert self._open is not None
        if before < self.min_length <= self._open.stop - self._open.start:
            events.append(AlarmEvent("began", self._open))

    def _close(self, events: list[AlarmEvent]) -> None:
        alarm, self._open = self._open, None
        if alarm is not None and alarm.stop - alarm.start >= self.min_length:
            self._ready = alarm.stop + self.cooldown
            events.append(AlarmEvent("ended", alarm))

    def _know(self, events: list[AlarmEvent]) -> None:
        """End the rows without a score."""
        if self._since is not None:
            alarm = Alarm(self._since, self.seen, self._since, math.nan)
            events.append(AlarmEvent("ended", alarm))
            self._since = None

    def finish(self) -> list[AlarmEvent]:
        """End what is open, as at the end of a series, when no more scores will come."""
        events: list[AlarmEvent] = []
        self._close(events)
        self._know(events)
        self.reported += len(events)
        return events

    def state(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return {
            "threshold": self.threshold,
            "release": self.release,
            "min_length": self.min_length,
            "join": self.join,
            "cooldown": self.cooldown,
            "seen": self.seen,
            "reported": self.reported,
            "ready": self._ready,
            "open": self._open,
            "since": self._since,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Go on from what `state` returned, also after it was written as JSON.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is no such state.
        """
        options = ("release", "min_length", "join", "cooldown")
        alarms = cls(state["threshold"], **{name: state[name] for name in options})
        alarms.seen, alarms.reported, alarms._ready = (
            check_whole(name, state[name], 0) for name in ("seen", "reported", "ready")
        )
        if state["open"] is not None:
            start, stop, peak = (check_whole("open", value, 0) for value in state["open"][:3])
            score = check_number("open", state["open"][3], alarms.threshold)
            if not start <= peak < stop <= alarms.seen:
                raise ValueError(f"an open alarm of rows {start} … {stop} in {alarms.seen}")
            alarms._open = Alarm(start, stop, peak, score)
        if state["since"] is not None:
            alarms._since = check_whole("since", state["since"], 0)
        return alarms


def quantile_threshold(scores: ArrayLike, contamination: float) -> float:
    """The (1 − contamination) quantile of scores of normal rows; an alarm is a score above it.

    Raises
    ------
    ValueError
        If `contamination` is not in (0, 1).
    """
    contamination = check_number("contamination", contamination, 0, 1)
    return float(np.quantile(np.asarray(scores), 1 - contamination))


def peaks_threshold(
    scores: ArrayLike, probability: float = 1e-4, *, initial: float | None = None
) -> float:
    """The score that a normal row exceeds with a given probability, also beyond all that were seen.

    Peaks over threshold (Siffer et al., KDD 2017, eq. 1): scores above their `initial` quantile are
    fitted by a generalized Pareto distribution, whose tail is followed to `probability`.

    Parameters
    ----------
    scores : (n,)
        Of normal data, such as `calibration_scores_`.
    probability : float
        In (0, 1 − initial).
    initial : float, optional
        Quantile where the tail begins: 0.98, as in the paper, or so much lower that twenty scores lie
        above it.

    Raises
    ------
    ValueError
        If an argument is out of its range, or fewer than ten different scores lie in the tail.
    """
    values = check_scores("scores", scores)
    if initial is None:
        initial = max(min(0.98, 1 - 20 / len(values)), 1e-3)
    if not 0 < initial < 1:
        raise ValueError(f"initial must lie in (0, 1), got {initial}")
    if not 0 < probability < 1 - initial:
        raise ValueError(f"probability must lie in (0, {1 - initial:.3g}), got {probability}")
    start = np.quantile(values, initial)
    excess = values[values > start] - start
    if len(np.unique(excess)) < 10:
        raise ValueError(
            f"{len(np.unique(excess))} different scores lie above their {initial:.3g} quantile, "
            f"at least 10 are needed: give more rows or a lower initial"
        )
    # in units of the mean excess, so that the fit does not depend on the scale of the scores
    unit = excess.mean()
    shape, _, scale = genpareto.fit(excess / unit, floc=0)
    share = len(excess) / len(values)
    return float(start + unit * genpareto.isf(probability / share, shape, scale=scale))


def conformal_threshold(scores: ArrayLike, probability: float = 0.05, *, block: int) -> float:
    """The score that a block of later normal rows exceeds with at most a given probability.

    Split conformal prediction on blocks: neighboring rows are not independent, blocks of them are more
    nearly so. Of the highest scores of B blocks, the one of rank ⌈(1 − probability)(B + 1)⌉ is taken.

    What is guaranteed: if the blocks of `scores` and a later normal block are exchangeable, as they are
    where the process does not change and one block says next to nothing of another, and the detector
    has not learned these rows, the probability that any of its rows exceeds the threshold is at most
    `probability`, over the draw of all blocks. What is not: anything about one given stretch of data,
    about rows that follow each other across the blocks' ends, or after a drift.

    Parameters
    ----------
    scores : (n,)
        Of normal rows that were not learned, such as `calibration_scores_`.
    probability : float
        In (0, 1).
    block : int
        Rows of a block, such as those of a day or a shift. Rows that do not fill one are left out, at
        the beginning.

    Raises
    ------
    ValueError
        If an argument is out of its range, or there are too few blocks for that probability.
    """
    values = check_scores("scores", scores)
    probability = check_number("probability", probability, 0, 1)
    block = check_whole("block", block)
    n = len(values) // block
    rank = math.ceil((1 - probability) * (n + 1) - 1e-9)
    if rank > n:
        need = math.ceil(1 / probability - 1 - 1e-9)
        raise ValueError(
            f"{len(values)} rows are {n} blocks of {block}; a probability of {probability:g} needs "
            f"{need}: give more rows, shorter blocks or a higher probability"
        )
    peaks = values[len(values) - n * block :].reshape(n, block).max(1)
    return float(np.sort(peaks)[rank - 1])


def budget_threshold(
    scores: ArrayLike,
    alarms_per_day: float,
    rows_per_day: float,
    *,
    max_share: float = 0.05,
    min_length: int = 1,
    join: int = 0,
) -> float:
    """The lowest threshold down to which there are no more alarms than a budget, on normal data.

    Further down alarms merge, so that there are fewer of them again and most rows are in one. That is
    not what a budget is for: a threshold is only taken while few rows are in alarm, and where the
    budget is not used up until then, the one with the most alarms, with a warning.

    Parameters
    ----------
    scores : (n,)
        Of normal data, such as `calibration_scores_`: every alarm there is a false one.
    alarms_per_day : float
        False alarms that are acceptable; 0 for none.
    rows_per_day : float
        1,440 where there is a row a minute.
    max_share : float
        In (0, 1]: no more than this share of the rows may be in alarm.
    min_length, join : int
        As for `find_alarms`, by which the alarms are to be counted.

    Returns
    -------
    float
        One of the scores.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Warns
    -----
    UserWarning
        If the budget does not bind: no threshold with few enough rows in alarm has more alarms.
    """
    values = check_scores("scores", scores)
    max_share = check_number("max_share", max_share, 0, 1, ends="(]")
    if not alarms_per_day >= 0:
        raise ValueError(f"alarms_per_day must not be negative, got {alarms_per_day}")
    if not rows_per_day > 0:
        raise ValueError(f"rows_per_day must be positive, got {rows_per_day}")
    _check_lengths(min_length, join)
    days = len(values) / rows_per_day
    candidates = np.unique(values)[::-1]
    counts, rows = _counts(values, candidates, min_length, join)
    over = counts > alarms_per_day * days
    # the first is the highest score, above which nothing is
    few = int(np.argmax(np.append(over | (rows > max_share * len(values)), True)))
    if few < len(candidates) and over[few]:
        return float(candidates[few - 1])
    most = few - 1 - int(np.argmax(counts[:few][::-1]))
    warnings.warn(
        f"the budget of {alarms_per_day:g} alarms a day does not bind: with at most {max_share:.3g} of "
        f"the rows in alarm there are {counts[most] / days:.3g} a day, at this threshold, and not more",
        stacklevel=outside(),
    )
    return float(candidates[most])


def _counts(
    values: np.ndarray, thresholds: np.ndarray, min_length: int, join: int
) -> tuple[np.ndarray, np.ndarray]:
    """Alarms, and rows in them, at every threshold; values (n,), thresholds (k,) → (k,), (k,).

    To join runs above a threshold over short gaps and to drop short runs are a closing and an opening
    of the rows above it. Both commute with the threshold (flat morphology; Serra, 1982), so they are
    done once, on the scores. Then a rise from a to b begins an alarm at every threshold in [a, b).
    """
    ends = join + min_length  # outside of the series nothing is above
    padded = np.pad(values, ends, constant_values=-np.inf)
    if join:
        padded = grey_closing(padded, join + 1)
    if min_length > 1:
        padded = grey_opening(padded, min_length)
    before, after = padded[:-1], padded[1:]
    rises = after > before
    begun = np.searchsorted(np.sort(before[rises]), thresholds, side="right")
    over = np.searchsorted(np.sort(after[rises]), thresholds, side="right")
    in_alarm = len(padded) - np.searchsorted(np.sort(padded), thresholds, side="right")
    return begun - over, in_alarm


RULES = {
    "quantile": quantile_threshold,
    "peaks": peaks_threshold,
    "budget": budget_threshold,
    "conformal": conformal_threshold,
}


def threshold_of(scores: ArrayLike, rule: Rule, **kwargs: Any) -> float:
    """A threshold by the name of its rule."""
    check_one_of("rule", rule, tuple(RULES))
    return RULES[rule](scores, **kwargs)  # type: ignore[operator]


def false_alarms_per_day(
    scores: ArrayLike, labels: ArrayLike, threshold: float, rows_per_day: float, **kwargs: Any
) -> float:
    """Alarms that touch no anomalous row, per day of normal rows; for a look back with labels.

    Rows without a score are no false alarms: it is true that nothing is known of them.
    """
    truth = np.asarray(labels, dtype=bool)
    alarms = [alarm for alarm in find_alarms(scores, threshold, **kwargs) if alarm.scored]
    wrong = sum(not truth[a.start : a.stop].any() for a in alarms)
    return wrong / max((~truth).sum() / rows_per_day, np.finfo(float).tiny)


class Found(NamedTuple):
    """What `events_at_budget` found.

    Attributes
    ----------
    share : of the events with a row above the threshold
    delay : rows from the beginning of a found event to its first row above, the median; NaN for none
    threshold : that keeps the budget
    """

    share: float
    delay: float
    threshold: float


def events_at_budget(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    alarms_per_day: float,
    rows_per_day: float,
    margin: int = 0,
    join: int = 0,
) -> Found:
    """How many events are found, and how late, at a rate of false alarms; for a look back with labels.

    The threshold is that of `budget_threshold` on the normal rows: an oracle's, for nobody knows them
    before. Where scores look ahead the delay is not what an operator waits; take causal ones.

    Parameters
    ----------
    scores, labels : (m,)
        Labels of 0 and 1; an event is a run of rows with 1.
    alarms_per_day, rows_per_day, join
        See `budget_threshold`; a day is one of normal rows.
    margin : int
        Rows on either side of an event that are not counted as normal: a score that sees many rows
        rises there for a good reason.

    Raises
    ------
    ValueError
        If labels are of another length, or there is no event or no normal row.

    Examples
    --------
    >>> scores, labels = np.array([0, 3, 0, 1, 4, 4, 0, 2, 2]), np.array([0, 0, 0, 1, 1, 1, 0, 1, 0])
    >>> events_at_budget(scores, labels, alarms_per_day=0, rows_per_day=1, margin=1)
    Found(share=0.5, delay=1.0, threshold=3.0)
    """
    values, truth = check_scores("scores", scores), np.asarray(labels, dtype=bool)
    if truth.shape != values.shape:
        raise ValueError(f"labels has shape {truth.shape}, expected {values.shape}")
    events = segments(truth)
    width = 2 * check_whole("margin", margin, 0) + 1
    normal = ~maximum_filter1d(truth, width, mode="constant")
    if not len(events) or not normal.any():
        raise ValueError(f"labels has {len(events)} events and {normal.sum()} normal rows")
    # where no row is normal nothing is above any threshold
    held = np.where(normal, values, values.min())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a score of few values that cannot use the budget up
        threshold = budget_threshold(held, alarms_per_day * normal.mean(), rows_per_day, join=join)
    above = [np.flatnonzero(values[start:stop] > threshold) for start, stop in events]
    first = [each[0] for each in above if len(each)]
    delay = float(np.median(first)) if first else math.nan
    return Found(len(first) / len(events), delay, threshold)


def as_frame(alarms: list[Alarm], index: pd.Index | None = None) -> pd.DataFrame:
    """Alarms as a table; with an index of the rows, start, end and peak are its values.

    No alarms are a table of the same columns and types.
    """
    starts, stops, peaks = (
        np.array([alarm[i] for alarm in alarms], dtype=np.int64) for i in range(3)
    )
    scores = np.array([alarm.score for alarm in alarms], dtype=np.float64)
    columns = {
        "start": starts,
        "stop": stops,
        "rows": stops - starts,
        "peak": peaks,
        "score": scores,
    }
    frame = pd.DataFrame(columns)
    if index is None:
        return frame
    frame["start"], frame["stop"], frame["peak"] = index[starts], index[stops - 1], index[peaks]
    return frame.rename(columns={"stop": "end"})
