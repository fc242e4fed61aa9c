"""Months in service: versions of a detector, old beside new, and what may be learned from verdicts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import product
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
from scipy.stats import chi2, spearmanr
from sklearn.base import clone

from madcluster.arguments import check_line, check_number, check_one_of, check_seed, check_whole
from madcluster.data.planted import KINDS, planted
from madcluster.detectors.base import Detector
from madcluster.detectors.choice import EVENTS
from madcluster.files import locked, whole_file
from madcluster.metrics import vus_score
from madcluster.service.alarms import Alarm, Rule, as_frame, find_alarms
from madcluster.service.checkpoints import FAULTS, CheckpointError
from madcluster.service.loop import Verdict
from madcluster.service.streams import MaxStep

__all__ = ["Comparison", "SeenRate", "Versions", "compare", "normal_rows", "seen_rate"]

LIST, LOCK, FORMAT = "versions.json", "versions.lock", 1  # in the folder; another format is refused
ABOUT = (
    "number",
    "added",
    "detector",
    "fitted_on",
    "fitted_at",
    "calibrated_on",
    "threshold",
    "note",
)
SWITCH = ("at", "from", "to", "note")
FAR = 2**40  # rows, more than any margin


class Versions:
    """A folder of a detector's versions, of which one is in service; none is ever overwritten.

    Every version is a file that `Detector.save` writes: `0001.safetensors`, `0002.safetensors`, … What
    is said of them stands in `versions.json`: when each was added, its class, on what and when it was
    fitted and calibrated, its threshold, a note, and when which one was put into service. A new span, a
    new threshold or another class each make a version, so the old ones can be compared with and gone
    back to::

        versions = Versions("pump")
        versions.add(detector, "January")
        number = versions.refit(february, "budget", alarms_per_day=1, rows_per_day=1440)
        compare(versions.load(), versions.load(number), march, rows_per_day=1440).table
        versions.switch(number, "fewer alarms after the overhaul")

        calibrated = versions.load().calibrate("quantile", on=march, contamination=0.001)
        versions.add(calibrated, "the threshold alone")

    Several processes may use one folder: who writes waits for the others (`madcluster.files.locked`),
    and each look reads what the others wrote. A process that is killed between the file of a version
    and its entry leaves a file without an entry. The next `add`, `refit` or `switch` takes it up, with
    a note that says so and without putting it into service; nothing is thrown away. So where
    `versions.json` is lost or damaged it may be moved away: the files are taken up again, and only
    notes and switches are gone. Only the first version of all goes into service by itself: where files
    were taken up and nobody has said which one serves, none does until `switch`.

    A service does not follow by itself. Its saved stream is of one detector and keeps the threshold
    with which it was begun, so a version is served with a folder of its own; see
    `madcluster.service.loop.serve`.

    Parameters
    ----------
    folder : path
        Made with the first version.
    read : function of a path
        Reads the file of a version. `Detector.load` by default, which knows the detectors of this
        package; a detector of your own has its own `load`, and one with a network of your own is given
        it, as in `lambda path: MADCluster.load(path, embedder=network)`.

    Raises
    ------
    CheckpointError
        By every method, if `versions.json` is damaged or of another format.

    Examples
    --------
    >>> import tempfile
    >>> from madcluster import synthetic
    >>> from madcluster.detectors import PCAError
    >>> series = synthetic(seed=0)
    >>> versions = Versions(tempfile.mkdtemp())
    >>> versions.add(PCAError().fit(series.train[:2000]), "the first weeks")
    1
    >>> versions.refit(series.train[2000:], note="after the overhaul")
    2
    >>> list(versions), versions.current
    ([1, 2], 1)
    >>> versions.switch(2)
    >>> versions.load().fitted_on_ == versions.frame().loc[2, "fitted_on"]
    True
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        read: Callable[[Path], Detector] = Detector.load,
    ) -> None:
        self.folder, self.read = Path(folder), read

    def __len__(self) -> int:
        return len(self._listed()["versions"])

    def __iter__(self) -> Iterator[int]:
        """The numbers of the versions, in their order."""
        return iter([about["number"] for about in self._listed()["versions"]])

    @property
    def current(self) -> int | None:
        """The number of the version in service.

        None before the first, and where files were taken up until `switch` says which one serves.
        """
        return _in_service(self._listed())

    def frame(self) -> pd.DataFrame:
        """What is said of each version, by its `number`.

        The columns are `added` (UTC), `detector`, its class, `fitted_on`, `fitted_at` (UTC),
        `calibrated_on`, `threshold`, `note` and `in_service`.
        """
        listed = self._listed()
        frame = pd.DataFrame(listed["versions"], columns=list(ABOUT)).set_index("number")
        for name in ("added", "fitted_at"):
            frame[name] = pd.to_datetime(frame[name], utc=True)
        return frame.assign(in_service=frame.index == _in_service(listed))

    def switches(self) -> pd.DataFrame:
        """When which version was put into service, the latest last.

        The columns are `at` (UTC), `from`, missing for the first, `to` and `note`.
        """
        frame = pd.DataFrame(self._listed()["switches"], columns=list(SWITCH))
        frame["at"] = pd.to_datetime(frame["at"], utc=True)
        return frame.astype({"from": "Int64", "to": "int64"})

    def add(self, detector: Detector, note: str = "") -> int:
        """Keep a detector as a version of its own; the first one in the folder is put into service.

        Parameters
        ----------
        detector : Detector
            Fitted.
        note : str
            One line.

        Returns
        -------
        The number of the version.

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        TypeError, ValueError
            If it is no detector or cannot be saved, see `Detector.save`, or the note is more than one
            line.
        CheckpointError
            If `read` cannot read what was saved: then it is no version.
        """
        _check_detector("detector", detector).as_fitted  # noqa: B018  # before there is a folder
        check_line("note", note)
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / LOCK):
            listed = self._with_files()
            number = 1 + max((about["number"] for about in listed["versions"]), default=0)
            first = not listed["versions"]  # and no file was taken up, of which one may have served
            path = self._path(number)
            detector.save(path)
            try:
                self.read(path)  # what could not be put into service is found now
            except BaseException:
                path.unlink()
                raise
            listed["versions"].append(_about(number, _now(), detector, note))
            if first:
                listed["switches"].append(_switch(None, number, note))
            self._write(listed)
        return number

    def load(self, number: int | None = None) -> Detector:
        """Read a version, by default the one in service.

        Raises
        ------
        ValueError
            If there is none of that number, or none in service.
        CheckpointError, FileNotFoundError
            If its file is damaged or gone.
        """
        listed = self._listed()
        if number is None:
            number = _in_service(listed)
        if number is None:
            numbers = sorted({*(about["number"] for about in listed["versions"]), *self._files()})
            remedy = f"switch to one of {numbers}" if numbers else "add a detector"
            raise ValueError(f"{self.folder} has no version in service: {remedy}")
        return self.read(self._path(_checked_number(number, listed)))

    def switch(self, number: int, note: str = "") -> None:
        """Put another version into service.

        Parameters
        ----------
        number : int
        note : str
            Why, in one line.

        Raises
        ------
        ValueError
            If there is none of that number, it is in service, or the note is more than one line.
        CheckpointError, FileNotFoundError
            If its file is damaged or gone: the one in service stays.
        """
        check_line("note", note)
        if not self.folder.is_dir():
            raise ValueError(f"{self.folder} has no version to switch to: add a detector first")
        with locked(self.folder / LOCK):
            listed = self._with_files()
            number, before = _checked_number(number, listed), _in_service(listed)
            if before == number:
                raise ValueError(f"number {number} is the version in service already")
            self.read(self._path(number))
            listed["switches"].append(_switch(before, number, note))
            self._write(listed)

    def refit(self, X: Any, rule: Rule | None = None, *, note: str = "", **arguments: Any) -> int:
        """Fit a new detector of the same class and parameters as the one in service, and add it.

        It is not put into service: `compare` it first, on rows that neither has learned. A file does
        not know by which rule its threshold was chosen. So the new threshold is the quantile by
        `contamination`, as after every fit, unless a rule is given.

        Parameters
        ----------
        X : (n c)
            Normal rows of the same channels, in the order of time and without gaps.
        rule, **arguments
            Of `Detector.calibrate`.
        note : str
            One line.

        Returns
        -------
        The number of the version.

        Raises
        ------
        ValueError
            If no version is in service; as `Detector.fit`, for other channels, and as
            `Detector.calibrate`. Nothing is added then.
        """
        check_line("note", note)
        if rule is None and arguments:
            raise ValueError(f"{sorted(arguments)} are arguments of a rule: give rule, too")
        old = self.load()
        old.checked(X)
        new = clone(old).fit(X)
        if rule is not None:
            new.calibrate(rule, **arguments)
        return self.add(new, note)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:04d}.safetensors"

    def _listed(self) -> dict[str, Any]:
        """What `versions.json` says."""
        path = self.folder / LIST
        if not path.exists():
            return {"format": FORMAT, "versions": [], "switches": []}
        try:
            listed = json.loads(path.read_text(encoding="utf-8"))
            if listed["format"] != FORMAT:
                raise ValueError(f"it has format {listed['format']!r}, expected {FORMAT}")
            _check_listed(listed)
        except FAULTS as error:
            raise CheckpointError(
                f"{path} is no list of versions: {error}. Put a copy in its place, or move it away "
                f"and switch to the version that is to serve: the files are taken up again"
            ) from error
        return {name: listed[name] for name in ("format", "versions", "switches")}

    def _with_files(self) -> dict[str, Any]:
        """The same, with entries for files that have none; under the lock, so none is being written."""
        listed = self._listed()
        known = {about["number"] for about in listed["versions"]}
        for number in self._files():
            if number in known:
                continue
            path = self._path(number)
            added = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
            try:
                detector = self.read(path)
            except CheckpointError as error:
                raise CheckpointError(
                    f"{path} has no entry in {LIST} and cannot be read, move it elsewhere: {error}"
                ) from error
            note = "taken up: its file had no entry"
            listed["versions"].append(_about(number, added, detector, note))
        listed["versions"].sort(key=lambda about: about["number"])
        return listed

    def _files(self) -> list[int]:
        """Numbers of the versions that have a file, in no order."""
        stems = [path.stem for path in self.folder.glob("*.safetensors")]
        numbers = {stem: int(stem) for stem in stems if stem.isdecimal()}
        return [n for stem, n in numbers.items() if n > 0 and self._path(n).stem == stem]

    def _write(self, listed: dict[str, Any]) -> None:
        with whole_file(self.folder / LIST) as part:
            part.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _about(number: int, added: str, detector: Detector, note: str) -> dict[str, Any]:
    values = (
        number,
        added,
        type(detector).__name__,
        detector.fitted_on_,
        detector.fitted_at_,
        detector.calibrated_on_,
        float(detector.threshold_),
        note,
    )
    return dict(zip(ABOUT, values, strict=True))


def _switch(before: int | None, after: int, note: str) -> dict[str, Any]:
    return dict(zip(SWITCH, (_now(), before, after, note), strict=True))


def _in_service(listed: dict[str, Any]) -> int | None:
    return listed["switches"][-1]["to"] if listed["switches"] else None


def _checked_number(number: object, listed: dict[str, Any]) -> int:
    numbers = [about["number"] for about in listed["versions"]]
    found = check_whole("number", number)
    if found not in numbers:
        raise ValueError(f"number must be that of a version, one of {numbers}, got {number!r}")
    return found


def _check_listed(listed: dict[str, Any]) -> None:
    """Raise one of `FAULTS` for what `_write` has not written."""
    numbers = []
    for about in listed["versions"]:
        numbers.append(check_whole("number", about["number"]))
        for name in ("detector", "fitted_on", "calibrated_on", "note"):
            check_line(name, about[name])
        for name in ("added", "fitted_at"):
            datetime.fromisoformat(about[name])
        check_number("threshold", about["threshold"], -math.inf)
    if numbers != sorted(set(numbers)):
        raise ValueError(f"its numbers {numbers} are not in order")
    before = None
    for switch in listed["switches"]:
        datetime.fromisoformat(switch["at"])
        check_line("note", switch["note"])
        if switch["from"] != before or switch["to"] not in numbers:
            raise ValueError(f"it switches from {switch['from']!r} to {switch['to']!r}")
        before = switch["to"]


# --- old against new ------------------------------------------------------------------------------


class Comparison(NamedTuple):
    """What `compare` found.

    Attributes
    ----------
    table : DataFrame
        A row for "old" and one for "new": `threshold`; `above`, the share of its scored rows above it;
        `alarms`, and `alarms_a_day` of scored rows; `without_score`, rows.
    agreement : Series
        Of the rows that both score, the share in an alarm of `both`, `only_old`, `only_new` or
        `neither`; `rank_correlation`, that of Spearman between the scores, NaN where one is constant.
    alarms : DataFrame
        Alarms that share rows are one here: `start`, `stop` (`end` for a DataFrame) and `rows`; `by`,
        which is "both", "only old" or "only new"; how many each raised, `old` and `new`, and the
        highest score of each there, `old_score` and `new_score`.
    planted : DataFrame or None
        A row per kind of planted event, and the `mean`: VUS-PR of `old` and `new`, their `difference`,
        new − old, and its standard `error` over copies, NaN for one copy.
    """

    table: pd.DataFrame
    agreement: pd.Series
    alarms: pd.DataFrame
    planted: pd.DataFrame | None


def compare(
    old: Detector,
    new: Detector,
    X: Any,
    *,
    rows_per_day: float,
    max_step: MaxStep | None = None,
    min_length: int = 1,
    join: int = 0,
    cooldown: int = 0,
    plants: int = 0,
    seed: int = 0,
) -> Comparison:
    """Two detectors on the same rows, before one takes the place of the other.

    What it can decide: how many alarms the new one will raise on rows like these, which of them the old
    one raises too, and which are to be looked at, those of only one. With `plants`, which of the two
    finds events of five known kinds better, in copies of these rows.

    What it cannot: which alarms are right, for there is no label. Fewer alarms may be fewer false ones
    or more faults that are missed; little agreement says that the two differ, and not which is wrong.
    The planted events say nothing about a fault of another kind. A detector is more at ease on rows
    that it has learned, so X should be of neither; and a threshold that was calibrated on X has the
    alarms there that it was chosen for.

    Parameters
    ----------
    old, new : Detector
        Fitted, with the same channels.
    X : (m c)
        Rows in the order of time, mostly normal, learned by neither.
    rows_per_day : float
        1,440 where there is a row a minute.
    max_step : number or Timedelta, optional
        As for `Detector.decision_function`.
    min_length, join, cooldown : int
        As for `madcluster.service.alarms.find_alarms`. There is no `release`, which is in the units of
        one detector's scores.
    plants : int
        Copies of X with planted events of each kind (`madcluster.data.planted.planted`); none for 0. A
        row without a score counts as the least anomalous there.
    seed : int
        Of the plants.

    Raises
    ------
    NotFittedError
        If one is not fitted.
    ValueError
        If one is no detector, the channels differ, an argument is out of its range, X is too short, or
        no row has a score by both.
    """
    _check_channels(_check_detector("old", old), _check_detector("new", new))
    rows_per_day = check_number("rows_per_day", rows_per_day, 0)
    plants, seed = check_whole("plants", plants, 0), check_seed(seed)
    index = X.index if isinstance(X, pd.DataFrame) else None
    detectors = {"old": old, "new": new}
    scores = {
        name: np.asarray(each.decision_function(X, max_step=max_step))
        for name, each in detectors.items()
    }
    known = np.isfinite(scores["old"]) & np.isfinite(scores["new"])
    if not known.any():
        raise ValueError("X has no row that both score: its pieces are shorter than their windows")
    lines, found, inside = {}, {}, {}
    for name, values in scores.items():
        threshold = detectors[name].threshold_
        raised = find_alarms(values, threshold, min_length=min_length, join=join, cooldown=cooldown)
        found[name] = [alarm for alarm in raised if alarm.scored]
        inside[name] = np.zeros(len(values), bool)
        for alarm in found[name]:
            inside[name][alarm.start : alarm.stop] = True
        scored = np.isfinite(values)
        lines[name] = {
            "threshold": threshold,
            "above": (values[scored] > threshold).mean(),
            "alarms": len(found[name]),
            "alarms_a_day": len(found[name]) / (scored.sum() / rows_per_day),
            "without_score": int((~scored).sum()),
        }
    a, b = inside["old"][known], inside["new"][known]
    agreement = {
        "both": (a & b).mean(),
        "only_old": (a & ~b).mean(),
        "only_new": (~a & b).mean(),
        "neither": (~a & ~b).mean(),
        "rank_correlation": _rank_correlation(scores["old"][known], scores["new"][known]),
    }
    return Comparison(
        pd.DataFrame(list(lines.values()), list(lines)),
        pd.Series(agreement, name="agreement"),
        _together(found["old"], found["new"], scores, index),
        _on_planted(detectors, X, max_step, plants, seed) if plants else None,
    )


def _check_detector(name: str, value: object) -> Detector:
    if not isinstance(value, Detector):
        raise ValueError(f"{name} must be a fitted Detector, got {value!r:.100}")
    return value


def _check_channels(old: Detector, new: Detector) -> None:
    """Refuse other channels; those without names may be any of the same number."""
    named = all(hasattr(each.as_fitted, "feature_names_in_") for each in (old, new))
    mine, others = old.channels_, new.channels_
    if len(mine) != len(others) or (named and mine != others):
        raise ValueError(
            f"new has the channels {others}, but old has {mine}: only detectors of the same channels "
            f"can be compared"
        )


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(spearmanr(a, b).statistic)


def _together(
    old: list[Alarm], new: list[Alarm], scores: dict[str, np.ndarray], index: pd.Index | None
) -> pd.DataFrame:
    """Alarms of both in one table, those that share rows as one."""
    events: list[list[int]] = []  # start, stop, alarms of old, alarms of new
    every = [(*a[:2], 1, 0) for a in old] + [(*a[:2], 0, 1) for a in new]
    for start, stop, of_old, of_new in sorted(every):
        if events and start < events[-1][1]:
            last = events[-1]
            events[-1] = [last[0], max(last[1], stop), last[2] + of_old, last[3] + of_new]
        else:
            events.append([start, stop, of_old, of_new])
    table = np.array(events, dtype=np.int64).reshape(-1, 4)
    frame = pd.DataFrame(
        {
            "start": table[:, 0],
            "stop": table[:, 1],
            "rows": table[:, 1] - table[:, 0],
            "by": np.select([table[:, 3] == 0, table[:, 2] == 0], ["only old", "only new"], "both"),
            "old": table[:, 2],
            "new": table[:, 3],
            **{
                f"{name}_score": np.array([_highest(values[a:b]) for a, b in table[:, :2]], float)
                for name, values in scores.items()
            },
        }
    )
    if index is None:
        return frame
    frame["start"], frame["stop"] = index[table[:, 0]], index[table[:, 1] - 1]
    return frame.rename(columns={"stop": "end"})


def _highest(scores: np.ndarray) -> float:
    known = scores[np.isfinite(scores)]
    return float(known.max()) if len(known) else math.nan


def _on_planted(
    detectors: dict[str, Detector], X: Any, max_step: MaxStep | None, plants: int, seed: int
) -> pd.DataFrame:
    """VUS-PR on every kind of planted event, and the difference."""
    rows = detectors["old"].checked(X)
    found: dict[str, list[float]] = {"old": [], "new": []}
    for kind, i in product(KINDS, range(plants)):
        changed, labels = planted(rows, np.random.default_rng([seed, i]), kinds=[kind], **EVENTS)
        copy = pd.DataFrame(changed, X.index, X.columns) if isinstance(X, pd.DataFrame) else changed
        for name, each in detectors.items():
            scores = np.asarray(each.decision_function(copy, max_step=max_step))
            known = np.isfinite(scores)
            scores = np.where(known, scores, scores[known].min())
            found[name].append(vus_score(labels, scores).pr)
    frame = pd.DataFrame(found, index=np.repeat(KINDS, plants))
    frame["difference"] = frame["new"] - frame["old"]
    by_kind = frame.groupby(level=0, sort=False)
    table = by_kind.mean()
    table["error"] = by_kind["difference"].std() / plants**0.5
    error = frame["difference"].std() / len(frame) ** 0.5
    table.loc["mean"] = [*frame.mean(), error]
    return table


# --- what was said of alarms ----------------------------------------------------------------------


class SeenRate(NamedTuple):
    """What `seen_rate` found.

    Attributes
    ----------
    false, faults, unreviewed : int
        Alarms.
    days : float
    least, most : float
        False alarms a day, if all that nobody has looked at are faults, or all are false.
    low, high : float
        The exact interval of the rate behind them.
    promised : float or None
    verdict : str
        "as promised" where the interval holds the promise, "more than promised" where it lies above,
        "fewer than promised" where it lies below; "" without a promise.
    """

    false: int
    faults: int
    unreviewed: int
    days: float
    least: float
    most: float
    low: float
    high: float
    promised: float | None
    verdict: str


def seen_rate(
    alarms: pd.DataFrame | Sequence[Alarm],
    verdicts: Sequence[Verdict | None] | pd.Series,
    days: float,
    *,
    promised: float | None = None,
    confidence: float = 0.95,
) -> SeenRate:
    """False alarms a day as they were seen, with an interval, beside what was promised.

    The interval is the exact one of a Poisson rate (Garwood, 1936). Where nobody has looked at some
    alarms, it reaches from the lower end as if all of these were faults to the upper one as if all
    were false: it holds for whatever they turn out to be. Alarms of rows without a score are left out:
    they say that nothing is known, which is true.

    What is assumed: false alarms come independently of each other, at one rate. Where one cause raises
    many in a row the interval is too narrow; then join them, or count causes.

    Parameters
    ----------
    alarms : DataFrame or list of Alarm
        All of the span, also those that nobody has looked at: of `history`, `Detector.alarms` or
        `find_alarms`.
    verdicts : one for each alarm
        "fault", "false", or None where nobody has looked.
    days : float
        Days of the span, without those in faults.
    promised : float, optional
        False alarms a day, such as the `alarms_per_day` of a budget.
    confidence : float
        In (0, 1).

    Raises
    ------
    ValueError
        If an argument is out of its range, or there is not one verdict for each alarm.

    Examples
    --------
    >>> alarms = [Alarm(0, 2, 0, 5.0), Alarm(9, 12, 10, 7.0)]
    >>> found = seen_rate(alarms, ["false", "false"], 10, promised=1)
    >>> found.most, round(found.high, 2), found.verdict
    (0.2, 0.72, 'fewer than promised')
    """
    days = check_number("days", days, 0)
    tail = (1 - check_number("confidence", confidence, 0, 1)) / 2
    if promised is not None:
        promised = check_number("promised", promised, 0, ends="[)")
    alarms = _as_table(alarms)
    said = _checked_verdicts(verdicts, len(alarms))
    said = [s for s, scored in zip(said, alarms["score"].notna(), strict=True) if scored]
    false, faults, unreviewed = said.count("false"), said.count("fault"), said.count(None)
    most = false + unreviewed
    low = chi2.ppf(tail, 2 * false) / 2 / days if false else 0.0
    high = chi2.isf(tail, 2 * most + 2) / 2 / days
    verdict = "" if promised is None else "as promised"
    if promised is not None and not low <= promised <= high:
        verdict = "more than promised" if promised < low else "fewer than promised"
    return SeenRate(
        false,
        faults,
        unreviewed,
        days,
        false / days,
        most / days,
        float(low),
        float(high),
        promised,
        verdict,
    )


def normal_rows(
    frame: pd.DataFrame,
    alarms: pd.DataFrame | Sequence[Alarm],
    verdicts: Sequence[Verdict | None] | pd.Series,
    margin: int,
    *,
    first: int = 0,
) -> pd.DataFrame:
    """The rows of a span without its confirmed faults: what a threshold may be chosen from anew.

    If the detector has not learned the span, they are later normal rows, with the false alarms among
    them in the share in which they come::

        rows = normal_rows(frame, alarms, verdicts, margin=detector.window)
        detector.calibrate("budget", on=rows, max_step=step, alarms_per_day=1, rows_per_day=1440)

    The `max_step` is needed: where rows were left out there is a gap, which no window may reach across.

    Every alarm of the span must have been looked at. An alarm without a verdict may be a fault, which
    would raise the threshold until it passes for normal. The false alarms alone will not do either:
    they are the highest scores of normal rows, and a quantile of these is far too high. And what raised
    no alarm was looked at by nobody: a fault that was missed stays in, and makes the threshold higher
    than it should be. So these rows serve a threshold, which a few rows hardly move, sooner than a fit.

    Parameters
    ----------
    frame : (n c)
        All rows of the span, by their times: dates or numbers that go forward.
    alarms : DataFrame or list of Alarm
        All of the span; others are left out. `start` and `end` of `Detector.alarms` are values of the
        index, `start` and `stop` are rows. One of `history` that is open goes on to the end.
    verdicts : one for each alarm
        "fault", "false", or None where nobody has looked. Rows without a score (an alarm whose score is
        NaN) are left out with or without a verdict.
    margin : int
        Rows on each side of a fault that are left out with it: at least a window, for scores so near
        are of its rows too, and more where a fault begins before it is seen.
    first : int
        The number of the first row where alarms are by rows, such as those of a stream that has run
        for longer.

    Returns
    -------
    The rows that are left, (m c), with their index.

    Raises
    ------
    ValueError
        If an alarm of the span has no verdict, or any alarm no start or no end, or one before its
        start; the first is named. If an argument is out of its range, the index does not go forward, or
        no row is left.

    Examples
    --------
    >>> frame = pd.DataFrame({"a": range(10)})
    >>> alarms = find_alarms([0, 9, 0, 0, 0, 9, 9, 0, 0, 0], 5)
    >>> normal_rows(frame, alarms, ["false", "fault"], margin=1).index.tolist()
    [0, 1, 2, 3, 8, 9]
    """
    margin, first = check_whole("margin", margin, 0), check_whole("first", first, 0)
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"frame must be a DataFrame, got a {type(frame).__name__}")
    index, n = frame.index, len(frame)
    timed = isinstance(index, pd.DatetimeIndex) or index.dtype.kind in "iuf"
    if not (timed and index.is_monotonic_increasing and index.is_unique):
        raise ValueError("frame must have an index of dates or numbers that go forward")
    alarms = _as_table(alarms)
    said = _checked_verdicts(verdicts, len(alarms))
    _check_placed(alarms)
    starts, stops = _rows_of(alarms, index, first)
    keep = np.ones(n, bool)
    for i, (start, stop, scored) in enumerate(
        zip(starts, stops, alarms["score"].notna(), strict=True)
    ):
        wide = margin if scored or said[i] == "fault" else 0
        if stop + wide <= 0 or start - wide >= n:
            continue
        if scored and said[i] is None:
            raise ValueError(
                f"verdicts has none for the alarm that starts at {alarms['start'].iloc[i]}: look at "
                f"every alarm of the span, or give a span without it"
            )
        if said[i] == "fault" or not scored:
            keep[max(0, start - wide) : max(0, stop + wide)] = False
    if not keep.any():
        raise ValueError("no row of frame is left: give a longer span, or a smaller margin")
    return frame[keep]


def _as_table(alarms: pd.DataFrame | Sequence[Alarm]) -> pd.DataFrame:
    if not isinstance(alarms, pd.DataFrame):
        try:
            return as_frame([Alarm(*alarm) for alarm in alarms])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"alarms must be a DataFrame or a list of Alarm, got {alarms!r:.100}"
            ) from error
    absent = [name for name in ("start", "score") if name not in alarms.columns]
    if absent or not {"stop", "end"} & set(alarms.columns):
        raise ValueError(
            f"alarms must have the columns start, stop or end, and score, got {list(alarms.columns)}"
        )
    return alarms


def _checked_verdicts(verdicts: Any, n: int) -> list[str | None]:
    """One for each alarm, None for those that nobody has looked at."""
    if isinstance(verdicts, str) or not isinstance(verdicts, Iterable):
        raise ValueError(
            f"verdicts must be one for each of {n} alarms, None for one that nobody has looked at, got "
            f"{verdicts!r}"
        )
    said = [None if pd.api.types.is_scalar(v) and pd.isna(v) else v for v in verdicts]
    if len(said) != n:
        raise ValueError(f"verdicts must be one for each of {n} alarms, got {len(said)}")
    for verdict in said:
        if verdict is not None:
            check_one_of("verdicts", verdict, get_args(Verdict))
    return said


def _check_placed(alarms: pd.DataFrame) -> None:
    """Refuse an alarm that lies nowhere: it would be left out, and its rows pass for normal."""
    last = "end" if "end" in alarms.columns else "stop"
    starts, stops = alarms["start"], alarms[last]
    for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        for name, value in (("start", start), (last, stop)):
            if pd.isna(value):
                raise ValueError(
                    f"alarms has no {name} in row {i} (start {start}, {last} {stop}): give it, or "
                    f"leave the alarm out with its verdict"
                )
            if last == "stop" and (not isinstance(value, Real) or value % 1 != 0):
                raise ValueError(f"alarms must have whole numbers in {name}, row {i} has {value!r}")
        try:
            back = stop < start if last == "end" else stop <= start
        except TypeError as error:
            raise ValueError(f"alarms has {start!r} and {stop!r} in row {i}: {error}") from error
        if back:
            raise ValueError(f"alarms goes back in row {i}: start {start}, {last} {stop}")


def _rows_of(alarms: pd.DataFrame, index: pd.Index, first: int) -> tuple[list[int], list[int]]:
    """First rows of alarms in a frame, and those after their last; they may lie outside of it."""
    if "end" in alarms.columns:
        if first:
            raise ValueError("first is for alarms by rows, and these are by the index of the frame")
        with suppress(TypeError):
            starts = index.searchsorted(alarms["start"], side="left")
            stops = index.searchsorted(alarms["end"], side="right")
            # how many rows lie between the frame and what is outside of it, nobody knows
            starts = np.where(starts == len(index), FAR, starts)
            stops = np.where(stops == 0, -FAR, stops)
            return starts.tolist(), stops.tolist()
        raise ValueError("alarms have another kind of times than the index of frame")
    starts, stops = alarms["start"] - first, alarms["stop"] - first
    if "ended" in alarms.columns:  # an open alarm is not known to have stopped
        stops = stops.where(alarms["ended"].notna(), np.maximum(stops, len(index)))
    return starts.astype(int).tolist(), stops.astype(int).tolist()
