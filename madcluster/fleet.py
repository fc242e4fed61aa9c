"""Many machines: a detector for each, or one model for all of a kind; in parallel, and resumable::

    machines = tables_in("normal/*.csv", time="time")
    fit_fleet(machines, "choose", "detectors", alarms_per_day=0.5, jobs=4)
    load_fleet("detectors")["pump-3"].alarms(rows_of_today)

A folder holds what a fleet is: `<name>.safetensors` for each machine, `<name>.json` beside it with what
the summary says of it, and the summary of all as `summary.csv` and as a page, `summary.html`.
"""

from __future__ import annotations

import copy
import glob
import hashlib
import inspect
import json
import os
import time
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, Literal, NamedTuple

import joblib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from sklearn.base import clone

from madcluster.arguments import check_number, check_whole, plain
from madcluster.data.series import checked_rows, names_of
from madcluster.data.spans import files_of, rows_per_day
from madcluster.data.tables import read_table
from madcluster.detectors import CheckpointError, Detector, choose
from madcluster.detectors.base import FORMAT
from madcluster.files import whole_file
from madcluster.progress import progress, quiet
from madcluster.service.alarms import budget_threshold, find_alarms

__all__ = ["Fleet", "fit_fleet", "fit_shared", "load_fleet", "split_by", "tables_in"]

SUMMARY = "summary"  # .csv and .html in the folder of a fleet
SHARED = ".shared"  # the model before it is calibrated; no machine has a name that begins so
LOOSE = "does not bind"  # in the warning of a budget
FORBIDDEN = '/\\:*?"<>|'  # in names of files, here or on another system
LONGEST = 200  # bytes of a name: 255 are a file's, some of them go to its ending
COLUMNS: dict[str, str] = {  # of a summary, and their headings on its page
    "rows": "Rows",
    "channels": "Channels",
    "detector": "Detector",
    "threshold": "Threshold",
    "promised_per_day": "Alarms a day, promised",
    "seen_per_day": "Alarms a day, seen",
    "binds": "Budget binds",
    "calibrated_on": "Calibrated on",
    "seconds": "Seconds",
    "fault": "Fault",
    "remarks": "Remarks",
}
KINDS = {  # of the columns, with a value for none
    "rows": "Int64",
    "channels": "Int64",
    "threshold": "float64",
    "promised_per_day": "float64",
    "seen_per_day": "float64",
    "binds": "boolean",
    "seconds": "float64",
}


class _Plan(NamedTuple):
    """What is the same for all machines."""

    folder: Path
    budget: dict[str, Any]  # arguments of `budget_threshold`
    rows_per_day: float | None
    settings: str  # a digest of all that a detector depends on beside its rows


class _Own(NamedTuple):
    """How to make the detector of one machine: fit it to all rows, calibrate on those left out."""

    detector: Detector | Literal["choose"]

    def __call__(self, rows: Any) -> tuple[Detector, Any]:
        """A fitted detector, and later rows to calibrate it on, if there are any."""
        if isinstance(self.detector, str):
            return choose(rows).detector, None
        return clone(self.detector).fit(rows), None


class _Part(NamedTuple):
    """The same by a shared model, of which rows start … stop − 1 are the machine's."""

    shared: Detector
    start: int
    stop: int

    def __call__(self, rows: Any) -> tuple[Detector, Any]:
        mine = copy.copy(self.shared)
        # in the file of a machine is nothing that grows with the number of machines
        mine.decision_scores_ = self.shared.decision_scores_[self.start : self.stop]
        return mine, rows[self.stop - self.start :]


def fit_fleet(
    machines: Mapping[str, Any],
    detector: Detector | Literal["choose"],
    folder: str | os.PathLike[str],
    *,
    alarms_per_day: float,
    rows_per_day: float | None = None,
    jobs: int = 1,
    **counting: Any,
) -> pd.DataFrame:
    """Fit, calibrate and save a detector for each machine, and write one summary of all.

    The threshold of each is the lowest within the budget of false alarms, on rows that it has not
    learned (`Detector.calibrate("budget", …)`).

    A call that was stopped goes on where it was. The rows of a machine are read again, and if its files
    are whole and were made of the same rows with the same settings, it is not fitted again; otherwise
    it is, and what was there goes first. A machine that fails is named in the summary with its error
    and has no files afterwards; the others go on. The next call tries it again.

    Parameters
    ----------
    machines : mapping of name to rows
        Normal rows (n c): a DataFrame, an array, the path of a table, or a function without arguments
        that returns a DataFrame or an array, which is called when its turn comes. See `tables_in` and
        `split_by`. Names become names of files.
    detector : Detector or "choose"
        Not fitted; copies are. "choose" takes for each machine the one that finds planted anomalies
        best; see `madcluster.detectors.choose`.
    folder : path
        Made if it is not there. A fleet has one of its own.
    alarms_per_day : float
        False alarms of one machine that are acceptable.
    rows_per_day : float, optional
        1,440 where there is a row a minute. If it is not given, rows are DataFrames indexed by dates,
        and the usual step of a machine says it: the median.
    jobs : int
        Processes, each with one thread, also of torch; 1 is this process with the threads it has.
    **counting
        `max_share`, `min_length` and `join` of `madcluster.service.alarms.budget_threshold`.

    Returns
    -------
    DataFrame
        The summary, a row per machine, the worst first: those with a fault, those whose budget does
        not bind, then those with the most alarms. Columns: `rows`, `channels`, `detector` (its class),
        `threshold`; `promised_per_day`, the budget; `seen_per_day`, the alarms in each half of the rows
        that were not learned at the threshold of the other half, so on rows that did not choose it;
        `binds`, whether more alarms than the budget could have been had; `calibrated_on`, `seconds`;
        `fault`, the error of a machine that failed; `remarks`, the warnings of its worker. `fault` and
        `remarks` are empty where there are none.

    Raises
    ------
    ValueError
        Before anything is fitted: if there are no machines, a name is no name of a file or that of
        another machine on a disk that knows no upper case, an argument is out of its range, or
        `rows_per_day` is needed for rows that are given as they are; the message names the machine.

    Examples
    --------
    >>> import tempfile
    >>> from madcluster import synthetic
    >>> from madcluster.detectors import PCAError
    >>> machines = {f"pump-{i}": synthetic(n_train=800, seed=i).train for i in range(2)}
    >>> folder = tempfile.mkdtemp()
    >>> budget = {"alarms_per_day": 2, "rows_per_day": 200}
    >>> summary = fit_fleet(machines, PCAError(smooth=20), folder, **budget)
    >>> summary["rows"].sort_index().to_dict()
    {'pump-0': 800, 'pump-1': 800}
    >>> load_fleet(folder)["pump-1"].calibrated_on_[:21]
    'all 800 training rows'
    """
    if not (isinstance(detector, Detector) or (isinstance(detector, str) and detector == "choose")):
        raise ValueError(f"detector must be a Detector or 'choose', got {detector!r}")
    plan = _planned("own", machines, detector, folder, alarms_per_day, rows_per_day, jobs, counting)
    tasks = (
        delayed(_machine)(plan, name, source, _Own(detector)) for name, source in machines.items()
    )
    return _worked(plan, tasks, list(machines), jobs)


def fit_shared(
    machines: Mapping[str, Any],
    detector: Detector,
    folder: str | os.PathLike[str],
    *,
    alarms_per_day: float,
    rows_per_day: float | None = None,
    jobs: int = 1,
    **counting: Any,
) -> pd.DataFrame:
    """Fit one detector to machines of a kind, and save for each a copy with a threshold of its own.

    The detector learns the first three quarters of every machine's rows, put one after another as one
    series: at each seam, window − 1 windows are of rows of two machines. Each copy is calibrated on the
    last quarter of the machine's rows by `Detector.calibrate("budget", on=…)`. Its `decision_scores_`
    are those of the machine's own rows.

    There is one scaler, that of all rows. So a level of a channel at which one machine runs is normal
    for all of them; where machines differ by an offset that says nothing, take it out before. On the
    servers of SMD, own models and shared ones are not told apart by their VUS-PR: some servers gain
    much by what the others have shown, others lose as much (`benchmarks/fleet.py`).

    Files, summary and the way to go on are those of `fit_fleet`. The model is kept as
    `.shared.safetensors` too, so that a call that was stopped does not fit it again. As it has learned
    all machines, other rows of one are another model for all. A machine whose rows cannot be read, or
    are not finite numbers, is no part of it and has a fault.

    Parameters
    ----------
    machines, folder, alarms_per_day, rows_per_day, jobs, **counting
        As for `fit_fleet`; all rows are in memory at once. `jobs` is for what comes after the fit.
    detector : Detector
        Not fitted; a copy is.

    Returns
    -------
    As `fit_fleet`; `seconds` do not include the fit.

    Raises
    ------
    ValueError
        As `fit_fleet`; if machines have other channels than the first, with the name of the first of
        them and what differs; if no machine has rows to learn from, or the detector cannot be fitted.

    Examples
    --------
    >>> import tempfile
    >>> from madcluster import synthetic
    >>> from madcluster.detectors import PCAError
    >>> rows = synthetic(n_train=1600, seed=0).train
    >>> machines, folder = {"left": rows[:800], "right": rows[800:]}, tempfile.mkdtemp()
    >>> budget = {"alarms_per_day": 2, "rows_per_day": 200}
    >>> _ = fit_shared(machines, PCAError(smooth=20), folder, **budget)
    >>> fleet = load_fleet(folder)
    >>> fleet["left"].fitted_on_, fleet["right"].fitted_on_
    ('1200 rows', '1200 rows')
    >>> fleet["right"].calibrated_on_
    '200 rows, which came later and were not learned'
    """
    if not isinstance(detector, Detector):
        raise ValueError(
            f"detector must be a Detector, got {detector!r}; choose one by the rows of a machine that "
            f"is typical of its kind, with madcluster.detectors.choose"
        )
    plan = _planned(
        "shared", machines, detector, folder, alarms_per_day, rows_per_day, jobs, counting
    )
    rows, faults = {}, {}
    for name, source in progress(machines.items(), "reading", total=len(machines)):
        try:
            these = _rows_of(source)
            checked_rows(these, "X", names_of(these))  # one with a NaN must not end it for all
            rows[name] = these
        except Exception as error:
            faults[name] = _words(error)
    if not rows:
        raise ValueError(f"no machine has rows to learn from: {faults}")
    _check_channels(rows)
    plan = plan._replace(
        settings=joblib.hash([plan.settings, *((name, _digest(rows[name])) for name in rows)])
    )
    stops = np.cumsum([len(each) * 3 // 4 for each in rows.values()]).tolist()
    parts = dict(zip(rows, zip([0, *stops], stops, strict=False), strict=True))
    shared = _shared(plan, detector, rows)
    tasks = (
        delayed(_machine)(plan, name, each, _Part(shared, *parts[name]))
        for name, each in rows.items()
    )
    return _worked(plan, tasks, list(machines), jobs, faults)


def _planned(
    way: str,
    machines: Mapping[str, Any],
    detector: Detector | Literal["choose"],
    folder: str | os.PathLike[str],
    alarms_per_day: float,
    rows_per_day: float | None,
    jobs: int,
    counting: dict[str, Any],
) -> _Plan:
    """Look at all arguments without reading or fitting anything."""
    if not isinstance(machines, Mapping) or not machines:
        raise ValueError("machines must be a mapping of names to rows, and not empty")
    _check_names(machines)
    check_whole("jobs", jobs)
    if isinstance(detector, Detector):
        detector.check()
        made_by = [type(detector).__name__, plain(detector.get_params(deep=False))]
    else:
        made_by = [detector]
    budget: dict[str, Any] = {
        "alarms_per_day": check_number("alarms_per_day", alarms_per_day, 0, ends="[)")
    }
    budget |= plain(counting)
    if rows_per_day is not None:
        rows_per_day = check_number("rows_per_day", rows_per_day, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing binds where there are no rows yet
        budget_threshold(np.zeros(1), rows_per_day=1, **budget)
    for name, source in machines.items():
        if rows_per_day is None and not callable(source):
            try:
                _rows_per_day(source)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
    settings = joblib.hash([FORMAT, way, made_by, budget, rows_per_day])
    return _Plan(Path(folder), budget, rows_per_day, settings)


def _check_names(names: Iterable[Any]) -> None:
    """Refuse what is no name of a file, or the same as another on some disks."""
    known: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"the name of a machine must be text, got {name!r}: use str({name!r})")
        wrong = (
            not name
            or not name.isprintable()
            or name.strip(" .") != name
            or any(c in FORBIDDEN for c in name)
            or len(name.encode()) > LONGEST
        )
        if wrong:
            raise ValueError(
                f"{name!r} is no name of a file: it must not be empty, longer than {LONGEST} bytes, "
                f"begin or end with a dot or a space, or hold what is not visible or one of {FORBIDDEN}"
            )
        other = known.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            raise ValueError(f"{name!r} and {other!r} may be the same file: rename one of them")


# --- one machine ----------------------------------------------------------------------------------


def _machine(
    plan: _Plan, name: str, source: Any, make: Callable[[Any], tuple[Detector, Any]]
) -> tuple[str, dict[str, Any]]:
    """A row of the summary, also of a machine that fails."""
    started = time.perf_counter()
    row: dict[str, Any] = {"fault": ""}
    with warnings.catch_warnings(record=True) as caught, quiet():
        warnings.simplefilter("always")
        try:
            rows = _rows_of(source)
            row |= {"rows": len(rows), "promised_per_day": plan.budget["alarms_per_day"]}
            digest = joblib.hash([plan.settings, _digest(rows)])
            kept = _kept(plan.folder, name, digest)
            if kept is not None:
                return name, kept
            _forget(plan.folder, name)
            per_day = _rows_per_day(rows) if plan.rows_per_day is None else plan.rows_per_day
            budget = {"rows_per_day": per_day, **plan.budget}
            detector, later = make(rows)
            detector.calibrate("budget", on=later, **budget)
            found = row | {
                "channels": detector.n_features_in_,
                "detector": type(detector).__name__,
                "threshold": detector.threshold_,
                "seen_per_day": _seen_per_day(detector.calibration_scores_, budget),
                "binds": not any(LOOSE in remark for remark in _remarks(caught)),
                "calibrated_on": detector.calibrated_on_,
                "seconds": round(time.perf_counter() - started, 3),
                "remarks": "; ".join(_remarks(caught)),
            }
            _keep(plan.folder, name, digest, detector, found)
            return name, found
        except Exception as error:
            _forget(plan.folder, name)
            row |= {"fault": _words(error), "remarks": "; ".join(_remarks(caught))}
            row["seconds"] = round(time.perf_counter() - started, 3)
    return name, row


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _remarks(caught: list[warnings.WarningMessage]) -> list[str]:
    """What was warned of, each once; not what libraries tell their programmers."""
    return list(
        dict.fromkeys(
            str(each.message)
            for each in caught
            if issubclass(each.category, UserWarning | RuntimeWarning)
        )
    )


def _rows_of(source: Any) -> pd.DataFrame | np.ndarray:
    if isinstance(source, str | os.PathLike):
        source = read_table(source)
    elif callable(source):
        source = source()
    return source if isinstance(source, pd.DataFrame) else np.asarray(source)


def _rows_per_day(rows: Any) -> float:
    """From the usual step of rows that have dates."""
    index = getattr(rows, "index", None)
    if not isinstance(index, pd.DatetimeIndex) or len(index) < 2:
        raise ValueError(
            "rows_per_day is needed, for its rows have no dates: give it, or a DataFrame indexed by "
            "dates, or files with time=… by tables_in"
        )
    return rows_per_day(index)


def _digest(rows: pd.DataFrame | np.ndarray) -> str:
    """Of values, names and index."""
    if not isinstance(rows, pd.DataFrame):
        return str(joblib.hash(rows))
    names = [list(map(str, rows.columns)), list(map(str, rows.dtypes))]
    return str(joblib.hash([names, pd.util.hash_pandas_object(rows).to_numpy()]))


def _seen_per_day(scores: np.ndarray, budget: Mapping[str, Any]) -> float:
    """False alarms a day in each half of the scores, at the threshold of the other half."""
    if len(scores) < 2:
        return float("nan")
    first, second = np.array_split(scores, 2)
    counting = {name: budget[name] for name in ("min_length", "join") if name in budget}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is said of all scores
        seen = sum(
            len(find_alarms(these, budget_threshold(others, **budget), **counting))
            for these, others in ((first, second), (second, first))
        )
    return seen * budget["rows_per_day"] / len(scores)


# --- its files ------------------------------------------------------------------------------------


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.safetensors", folder / f"{name}.json"


def _keep(folder: Path, name: str, digest: str, detector: Detector, row: dict[str, Any]) -> None:
    """Save a detector, and then what is said of it: the second file says that the first is whole."""
    path, about = _files(folder, name)
    detector.save(path)
    record = {"settings": digest, "sha256": _sha256(path), "summary": plain(row)}
    with whole_file(about) as part:
        part.write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")


def _kept(folder: Path, name: str, digest: str) -> dict[str, Any] | None:
    """What is said of a detector whose file is whole and made with these settings; else None."""
    path, about = _files(folder, name)
    try:
        record = json.loads(about.read_text(encoding="utf-8"))
        if record["settings"] == digest and record["sha256"] == _sha256(path):
            return dict(record["summary"])
    except (OSError, ValueError, LookupError, TypeError):
        pass  # no file, or half of one
    return None


def _forget(folder: Path, name: str) -> None:
    for path in reversed(_files(folder, name)):
        path.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- one model for all ----------------------------------------------------------------------------


def _check_channels(machines: Mapping[str, Any]) -> None:
    """Refuse machines whose channels are not those of the first."""
    known = next(iter(machines))
    before = _channels(machines[known])
    for name, rows in machines.items():
        here = _channels(rows)
        if here == before:
            continue
        how = [
            f"{words} {', '.join(each for each in some if each not in more)}"
            for words, some, more in ((f"{name} has", here, before), (f"{known} has", before, here))
            if set(some) - set(more)
        ]
        raise ValueError(
            f"{name} has other channels than {known}: {'; '.join(how) or 'their order'}; a model is "
            f"shared by machines with the same channels in the same order"
        )


def _channels(rows: pd.DataFrame | np.ndarray) -> tuple[str, ...]:
    """Names of the columns; those of an array are its numbers in brackets, which frames do not have."""
    return names_of(rows) or tuple(f"[{i}]" for i in range(rows.shape[1]))


def _shared(plan: _Plan, detector: Detector, rows: Mapping[str, Any]) -> Detector:
    """The model of all machines, from its file if that is whole."""
    if _kept(plan.folder, SHARED, plan.settings) is not None:
        try:
            return type(detector).load(_files(plan.folder, SHARED)[0])
        except CheckpointError:
            pass  # a network of one's own is not in it: the fit gives the same
    _forget(plan.folder, SHARED)
    parts = [each[: len(each) * 3 // 4] for each in rows.values()]
    if isinstance(parts[0], pd.DataFrame):
        model = clone(detector).fit(pd.concat(parts, ignore_index=True))
    else:
        model = clone(detector).fit(np.concatenate(parts))
    plan.folder.mkdir(parents=True, exist_ok=True)
    _keep(plan.folder, SHARED, plan.settings, model, {"machines": list(rows)})
    return model


# --- all machines ---------------------------------------------------------------------------------


def _worked(
    plan: _Plan,
    tasks: Iterator[Any],
    names: list[str],
    jobs: int,
    faults: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Do the tasks, and write what came of them."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    for ending in ("csv", "html"):  # until all is done, there is no fleet
        (plan.folder / f"{SUMMARY}.{ending}").unlink(missing_ok=True)
    rows: dict[str, dict[str, Any]] = {}
    for name, fault in (faults or {}).items():
        _forget(plan.folder, name)
        rows[name] = {"fault": fault}
    with parallel_config("loky", inner_max_num_threads=1):
        found = Parallel(jobs, batch_size=1, return_as="generator_unordered")(tasks)
        rows |= dict(progress(found, "machines", total=len(names) - len(rows)))
    table = pd.DataFrame([rows[name] for name in names], pd.Index(names, name="machine", dtype=str))
    table = table.reindex(columns=[*COLUMNS]).astype(KINDS)
    for column in set(COLUMNS) - set(KINDS):
        table[column] = table[column].astype(object).where(table[column].notna(), "")
    table = table.iloc[
        np.lexsort(
            (
                -table["seen_per_day"].fillna(0).to_numpy(),
                table["binds"].fillna(True).to_numpy(dtype=bool),
                (table["fault"] == "").to_numpy(dtype=bool),
            )
        )
    ]
    with whole_file(plan.folder / f"{SUMMARY}.csv") as part:
        part.write_bytes(table.to_csv(lineterminator="\n").encode())
    with whole_file(plan.folder / f"{SUMMARY}.html") as part:
        part.write_text(_page(table), encoding="utf-8")
    return table


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Machines</title><style>
body {{ font-family: sans-serif; margin: 2em; max-width: 75em; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: 0.3em 0.6em; border-bottom: 1px solid #ccc; text-align: left; vertical-align: top; }}
tr.fault {{ background: #fbd9d3; }} tr.loose {{ background: #fdf0c8; }}
</style></head><body>
<h1>Machines</h1>
<p>{counts}</p>
<p>A detector looks at the sensors of its machine and raises an alarm where its score is above the
threshold. <b>Promised</b> is how many false alarms a day were asked for at most. <b>Seen</b> is how
many there were a day in normal rows by which neither the detector nor, for this count, the threshold
was made: a number far above the promise says that the normal rows of the machine differ among
themselves. Where the budget <b>does not bind</b>, there are fewer alarms than were asked for, and no
useful threshold gives more.</p>
<table><thead><tr>{head}</tr></thead><tbody>
{body}
</tbody></table>
</body></html>
"""


def _page(table: pd.DataFrame) -> str:
    """The summary for readers, in one file; what came from outside is escaped."""
    fault, loose = table["fault"] != "", ~table["binds"].fillna(True).astype(bool)
    counts = (
        f"Machines: {len(table)}. Without a detector, for a fault: {int(fault.sum())} (red). With a "
        f"budget that does not bind: {int(loose.sum())} (yellow)."
    )
    lines = []
    for row, is_fault, is_loose in zip(
        table.reset_index().to_dict("records"), fault, loose, strict=True
    ):
        kind = "fault" if is_fault else "loose" if is_loose else "fine"
        cells = "".join(f"<td>{escape(_cell(row[name]))}</td>" for name in ("machine", *COLUMNS))
        lines.append(f'<tr class="{kind}">{cells}</tr>')
    head = "".join(f"<th>{escape(words)}</th>" for words in ("Machine", *COLUMNS.values()))
    return PAGE.format(counts=counts, head=head, body="\n".join(lines))


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Fleet(Mapping[str, Detector]):
    """Detectors by the names of their machines; each is read when it is first asked for.

    A machine that could not be fitted is none of them: to ask for it is a KeyError with its fault.
    `load_fleet` makes it.

    Attributes
    ----------
    folder : Path
    summary : DataFrame
        As `fit_fleet` returned it.
    """

    def __init__(
        self, folder: Path, summary: pd.DataFrame, load: Callable[[Path], Detector]
    ) -> None:
        self.folder, self.summary = folder, summary
        self._load, self._read = load, dict[str, Detector]()

    def __getitem__(self, name: str) -> Detector:
        if name not in self._read:
            if name not in self.summary.index:
                raise KeyError(name)
            if fault := self.summary.loc[name, "fault"]:
                raise KeyError(f"{name} has no detector: {fault}")
            self._read[name] = self._load(_files(self.folder, name)[0])
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.summary.index[self.summary["fault"] == ""])

    def __len__(self) -> int:
        return int((self.summary["fault"] == "").sum())


def load_fleet(
    folder: str | os.PathLike[str], *, load: Callable[[Path], Detector] = Detector.load
) -> Fleet:
    """The detectors of a folder that `fit_fleet` or `fit_shared` has written.

    Parameters
    ----------
    folder : path
    load : function of a path
        That of a class of your own, such as `MyDetector.load`, or
        `partial(MADCluster.load, embedder=my_network)`.

    Returns
    -------
    Mapping of name to Detector, in the order of the summary, which is its attribute `summary`. The
    file of a detector is read, and damage found, when it is first asked for.

    Raises
    ------
    FileNotFoundError
        If there is no summary: the folder is another, or a call that makes it was stopped.
    ValueError
        If the summary is none, or names what is no name of a file.
    """
    path = Path(folder) / f"{SUMMARY}.csv"
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}: if fit_fleet or fit_shared was stopped, call it again"
        )
    try:
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(["machine", *COLUMNS], "str") | KINDS,
            keep_default_na=False,  # a machine may have the name NA
            na_values={name: [""] for name in KINDS},
        )
        table = table.set_index("machine")[[*COLUMNS]]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is no summary of a fleet: {error}") from error
    _check_names(table.index)
    return Fleet(Path(folder), table, load)


# --- where rows come from -------------------------------------------------------------------------


def split_by(frame: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """The rows of each machine, from a table with a column that says whose they are.

    Parameters
    ----------
    frame : (n c + 1)
    column : name of the column, such as "machine"

    Returns
    -------
    dict
        Frames (n_i c) without the column, by its values as text, in the order in which they come first;
        the order of rows and their index are kept. Whole numbers have no decimals: 3.0 becomes "3".

    Raises
    ------
    ValueError
        If there is no such column or no other, a row has no machine, or two values become one name.

    Examples
    --------
    >>> frame = pd.DataFrame({"machine": ["b", "a", "b"], "flow": [1.0, 2.0, 3.0]})
    >>> {name: rows["flow"].tolist() for name, rows in split_by(frame, "machine").items()}
    {'b': [1.0, 3.0], 'a': [2.0]}
    """
    if column not in frame.columns:
        raise ValueError(f"there is no column {column!r}; there are {', '.join(map(str, frame))}")
    if frame.shape[1] < 2:
        raise ValueError(f"there is no column beside {column!r}")
    if len(absent := np.flatnonzero(frame[column].isna())):
        raise ValueError(
            f"row {absent[0]} has no value in column {column!r} ({len(absent)} such rows in all): "
            f"say whose they are, or leave them out"
        )
    found: dict[str, pd.DataFrame] = {}
    for value, rows in frame.groupby(column, sort=False, observed=True):
        whole = isinstance(value, float) and value.is_integer()
        name = str(int(value)) if whole else str(value)
        if name in found:
            raise ValueError(f"two values of column {column!r} become the name {name!r}")
        found[name] = rows.drop(columns=column)
    return found


def tables_in(
    where: str | os.PathLike[str], **reading: Any
) -> dict[str, Callable[[], pd.DataFrame]]:
    """Files of machines, each read when its turn comes.

    Parameters
    ----------
    where : folder, whose `.csv` files are taken, or a pattern such as ``normal/*.txt``
    **reading
        Of `madcluster.data.tables.read_table`, such as `time`, `separator` and `decimal`, but not
        `label`: these are normal rows.

    Returns
    -------
    Names of the files without their ending, in order, to functions that read them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If two files have one name, as in two folders.
    TypeError
        If an argument is none of `read_table`.
    """
    if "label" in reading:
        raise TypeError("label is for rows that are not all normal: leave those out of the files")
    inspect.signature(read_table).bind("", **reading)  # before anything is read
    if os.path.isdir(where):
        where = os.path.join(glob.escape(os.fspath(where)), "*.csv")
    paths = files_of(where)
    found: dict[str, Callable[[], pd.DataFrame]] = {}
    for path in paths:
        if path.stem in found:
            raise ValueError(f"two files have the name {path.stem!r}, the second is {path}")
        found[path.stem] = partial(read_table, path, **reading)
    return found
