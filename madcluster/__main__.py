"""The command line: python -m madcluster fit | score | alarms | report | stream

A thin layer over the library. Tables are CSV, CSV in gzip, or parquet, from a file or from standard
input as `-`; results go to standard output unless `--out` names a file. It ends with 0, with 2 and a
line on standard error for wrong input, and with 130 where it was interrupted.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import csv
import json
import logging
import math
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from madcluster.files import whole_file

if TYPE_CHECKING:
    import pandas as pd

    from madcluster.detectors import Detector

__all__ = ["main"]

REPORT = Path(__file__).with_name("report.ipynb")
INTERRUPTED = 130  # exit status


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = argparse.ArgumentParser(
        prog="python -m madcluster",
        description="Anomaly detection in multivariate time series, from a file to alarms.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    reading = argparse.ArgumentParser(add_help=False)
    of_files = reading.add_argument_group("how to read a table")
    of_files.add_argument("--time", metavar="COLUMN", help="column of time stamps")
    of_files.add_argument("--label", metavar="COLUMN", help="column of 0 and 1; it is no sensor")
    of_files.add_argument("--fill", choices=("ffill", "interpolate"), help="fill missing values")
    of_files.add_argument("--separator", help="guessed from the header if not given")
    of_files.add_argument("--decimal", choices=(".", ","), help="decimal mark")
    of_files.add_argument("--encoding", help="such as cp1252; UTF-8 by default")
    of_files.add_argument(
        "--time-format", help="of dates that are not ISO 8601: %%d.%%m.%%Y %%H:%%M"
    )
    of_files.add_argument("--na-value", action="append", help="a further word for a missing value")

    budget = argparse.ArgumentParser(add_help=False)
    of_alarms = budget.add_argument_group("what counts as an alarm")
    of_alarms.add_argument("--min-length", type=int, default=2, help="rows (default: 2)")
    of_alarms.add_argument("--join", type=int, default=10, help="rows between alarms (default: 10)")

    normal = argparse.ArgumentParser(add_help=False)
    of_fit = normal.add_argument_group("which detector, and its threshold")
    of_fit.add_argument(
        "--detector",
        default="mahalanobis",
        help="of madcluster.detectors.DETECTORS, such as ensemble, the mean of seven; an embedder; or "
        "choose (default: mahalanobis)",
    )
    of_fit.add_argument(
        "--alarms-per-day", type=float, default=0.5, help="false ones (default: .5)"
    )
    of_fit.add_argument("--rows-per-day", type=float, help="taken from the time stamps by default")
    of_fit.add_argument("--seed", type=int, default=0)

    fit = commands.add_parser(
        "fit",
        parents=[reading, normal, budget],
        help="learn from normal rows, and save a detector",
        description="Learn from normal rows, choose a threshold, and save a detector.",
    )
    fit.add_argument("file", help="table of normal rows; - is standard input")
    fit.add_argument("--out", required=True, help="the detector, a .safetensors file")
    fit.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of the detector, such as epochs=5",
    )

    score = commands.add_parser(
        "score",
        parents=[reading],
        help="a score for each row",
        description="Score the rows of a table; higher is more anomalous.",
    )
    alarms = commands.add_parser(
        "alarms",
        parents=[reading, budget],
        help="alarms with their reasons",
        description="Find alarms above the detector's threshold, with the sensors that raised them.",
    )
    alarms.add_argument("--reasons", type=int, default=3, help="sensors to name (default: 3)")
    alarms.add_argument("--cooldown", type=int, default=0, help="rows after an alarm (default: 0)")
    alarms.add_argument("--release", type=float, help="an alarm ends below this score")
    for each in (score, alarms):
        each.add_argument("file", help="table; - is standard input")
        each.add_argument("model", help="a detector that fit or report saved")
        each.add_argument("--out", help="a CSV file; standard output by default")
        each.add_argument("--max-step", help="a longer step in time is a gap, such as 90s")

    report = commands.add_parser(
        "report",
        parents=[reading, normal, budget],
        help="a page on a file: detector, threshold, alarms, drift",
        description="Write report.html, detector.safetensors and alarms.csv into a folder.",
    )
    report.add_argument("file", help="table, or several by a quoted pattern; the first part normal")
    report.add_argument("--out", required=True, help="folder")
    report.add_argument("--train-fraction", type=float, default=0.5, help="normal (default: .5)")
    report.add_argument("--train-until", help="a time: rows before it are normal")

    stream = commands.add_parser(
        "stream",
        parents=[budget],
        help="alarms of rows as they come on standard input",
        description="Read CSV rows from standard input, the names first, and write what happens to "
        "standard output as it does, one JSON object a line.",
    )
    stream.add_argument("model", help="a detector that fit or report saved")
    stream.add_argument("--time", metavar="COLUMN", help="column of time stamps")
    stream.add_argument("--missing", choices=("refuse", "hold", "mask"), default="hold")
    stream.add_argument("--max-step", help="a longer step in time is a gap, such as 90s")
    stream.add_argument(
        "--late",
        choices=("refuse", "drop"),
        help="rows not later than the one before (default: refuse; with --state: drop)",
    )
    stream.add_argument("--scores", action="store_true", help="write every score, too")
    stream.add_argument(
        "--state", metavar="FOLDER", help="go on after a kill: the source must send rows again"
    )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    options = parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            _check(options)
            COMMANDS[options.command](options)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        if isinstance(error, BrokenPipeError):  # whoever reads has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        _say(error)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _say(what: object) -> None:
    """One line on standard error."""
    print("madcluster:", " ".join(str(what).split()), file=sys.stderr)


def _warn(
    message: object, category: type[Warning], filename: str, *_: object, **__: object
) -> None:
    """A warning that is meant for who called, and none of another library about itself."""
    if issubclass(category, UserWarning):
        _say(f"warning: {message}")


def _check(options: argparse.Namespace) -> None:
    """Look at what argparse does not, before anything is read."""
    given = vars(options)
    if given.get("label") and given["label"] == given.get("time"):
        raise ValueError("--time and --label name the same column")
    if options.command == "score" or options.command == "alarms":
        _step(options.max_step)
    if options.command == "report":
        if not (options.time or options.rows_per_day):
            raise ValueError("give --time, or --rows-per-day: alarms are counted by the day")
        if not 0 < options.train_fraction < 1:
            raise ValueError(f"--train-fraction must lie in (0, 1), got {options.train_fraction}")
    out = given.get("out")
    if out is not None and options.command == "report":
        if Path(out).exists() and not Path(out).is_dir():
            raise ValueError(f"--out {out} is a file; a report needs a folder")
    elif out is not None and (Path(out).is_dir() or not Path(out).absolute().parent.is_dir()):
        raise ValueError(f"--out {out} is no file in a folder that is there")
    if out is None and "out" in given and sys.stdout is None:
        raise ValueError("standard output is closed: give --out")


# --- tables -------------------------------------------------------------------------------------------


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `read_table` beside time, label and missing."""
    given = {
        "separator": options.separator,
        "decimal": options.decimal,
        "encoding": options.encoding,
        "time_format": options.time_format,
        "na_values": options.na_value,
    }
    return {name: value for name, value in given.items() if value is not None}


@contextlib.contextmanager
def _path(file: str) -> Iterator[Path]:
    """The path of a table, also of one that comes on standard input."""
    if file != "-":
        yield Path(file)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        with path.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        try:
            yield path
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), "standard input")) from error


def _table(options: argparse.Namespace) -> pd.DataFrame:
    """The sensors of a table, filled as asked for, indexed by time."""
    from madcluster.data.tables import fill_missing, read_table

    with _path(options.file) as path:
        frame = read_table(
            path,
            time=options.time,
            label=options.label,
            missing=options.fill is not None,
            **_reading(options),
        )
        if options.label:
            marks = frame.pop(options.label)
            if options.command == "fit" and marks.any():
                _say(
                    f"warning: {int(marks.sum())} rows are labeled 1 in column {options.label!r}, the "
                    f"first at {marks.idxmax()}; they are learned as normal: take them out"
                )
        return fill_missing(frame, options.fill, path)[0]


def _step(text: str | None) -> Any:
    """A time step in words, or a number where times are numbers."""
    import pandas as pd

    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        try:
            return pd.Timedelta(text)
        except ValueError:
            raise ValueError(
                f"--max-step {text!r} is neither a number nor like 90s or 5min"
            ) from None


def _write(frame: pd.DataFrame, out: str | None, **options: Any) -> None:
    if out is None:
        frame.to_csv(sys.stdout, **options)
        sys.stdout.flush()
        return
    with whole_file(out) as part:
        frame.to_csv(part, **options)


# --- commands -----------------------------------------------------------------------------------------


def _detector(name: str, seed: int, settings: Sequence[str]) -> Detector:
    """An unfitted detector by its name."""
    from madcluster.detectors import named

    arguments: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting!r} has no =, as in epochs=5")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[key] = value  # a word
    return named(name, seed=seed, **arguments)


def _fit(options: argparse.Namespace) -> None:
    import pandas as pd

    from madcluster.data.spans import rows_per_day
    from madcluster.detectors import choose

    detector = None
    if options.detector != "choose":
        detector = _detector(options.detector, options.seed, options.set)
    elif options.set:
        raise ValueError("--set needs a --detector whose argument it is")
    frame = _table(options)
    if options.rows_per_day is None and not isinstance(frame.index, pd.DatetimeIndex):
        raise ValueError("give --rows-per-day, or --time with a column of dates")
    per_day = options.rows_per_day or rows_per_day(frame.index)
    if detector is None:
        name, detector, evidence = choose(frame, seed=options.seed)
        print(evidence.iloc[:, :6].round(2).to_string(), file=sys.stderr)
        print(f"{name} is taken", file=sys.stderr)
    else:
        detector.fit(frame)
    detector.calibrate(
        "budget",
        alarms_per_day=options.alarms_per_day,
        rows_per_day=per_day,
        min_length=options.min_length,
        join=options.join,
    )
    detector.save(options.out)
    print(
        f"{options.out}: {type(detector).__name__} of {detector.fitted_on_}; threshold "
        f"{detector.threshold_:.6g} from {detector.calibrated_on_}",
        file=sys.stderr,
    )


def _of(detector: Detector, frame: pd.DataFrame, file: str) -> pd.DataFrame:
    """The table, if its columns are those that were learned, in their order."""
    known, names = list(detector.channels_), list(frame)
    if names != known and hasattr(detector, "feature_names_in_"):
        odd = [f"no {name!r}" for name in known if name not in names]
        odd += [f"{name!r} in excess" for name in names if name not in known]
        place = f"{names} for {known}"
        raise ValueError(
            f"{'standard input' if file == '-' else file} has other columns than were learned: "
            f"{', '.join(odd) or f'another order, {place}'}"
        )
    return frame


def _score(options: argparse.Namespace) -> None:
    from madcluster.detectors import Detector

    detector = Detector.load(options.model)
    frame = _of(detector, _table(options), options.file)
    scores = detector.decision_function(frame, max_step=_step(options.max_step))
    _write(scores.to_frame(), options.out, index=options.time is not None)


def _alarms(options: argparse.Namespace) -> None:
    from madcluster.detectors import Detector

    detector = Detector.load(options.model)
    found = detector.alarms(
        _of(detector, _table(options), options.file),
        max_step=_step(options.max_step),
        reasons=options.reasons,
        release=options.release,
        min_length=options.min_length,
        join=options.join,
        cooldown=options.cooldown,
    )
    _write(found, options.out, index=False)


def _report(options: argparse.Namespace) -> None:
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from madcluster.notebooks import run_notebook, write_page

    folder = Path(options.out)
    with _path(options.file) as path, tempfile.TemporaryDirectory() as work:
        parameters = {
            "FILES": os.path.abspath(path),
            "NAME": "standard input" if options.file == "-" else options.file,
            "TIME": options.time or "",
            "LABEL": options.label or "",
            "TRAIN": options.train_until or options.train_fraction,
            "FILL": options.fill or "",
            "READING": _reading(options),
            "ROWS_PER_DAY": options.rows_per_day or 0,
            "DETECTOR": options.detector,
            "ALARMS_PER_DAY": options.alarms_per_day,
            "MIN_LENGTH": options.min_length,
            "JOIN": options.join,
            "OUT": str(folder.resolve()),
            "SEED": options.seed,
        }
        page = Path(work) / "report.ipynb"
        progress = os.environ.get("MADCLUSTER_PROGRESS") != "0" and sys.stderr.isatty()
        try:
            run_notebook(REPORT, page, parameters, progress=progress)
        except PapermillExecutionError as error:
            raise ValueError(error.evalue) from error
        except DeadKernelError as error:
            said = " ".join(getattr(error, "__notes__", ()))
            raise OSError(
                f"the process of the report died, which a lack of memory does: {said}"
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        title = "standard input" if options.file == "-" else Path(options.file).name
        write_page(page, folder / "report.html", title=f"Report on {title}")
    print(f"{folder / 'report.html'}", file=sys.stderr)


def _stream(options: argparse.Namespace) -> None:
    from madcluster.detectors import Detector
    from madcluster.service.alarms import OnlineAlarms
    from madcluster.service.loop import serve
    from madcluster.service.streams import Stream

    if options.state and options.scores:
        raise ValueError("--scores and --state do not go together: a state keeps alarms alone")
    if options.state and not options.time:
        raise ValueError("--state needs --time, by which rows that come twice are known")
    detector = Detector.load(options.model)
    watch = OnlineAlarms(detector.threshold_, min_length=options.min_length, join=options.join)
    policy: dict[str, Any] = {
        "missing": options.missing,
        "max_step": _step(options.max_step),
        "late": options.late or ("drop" if options.state else "refuse"),
        "alarms": watch,
    }
    rows = _Rows(options.time, detector.channels_)
    try:
        if options.state:
            stream = serve(rows, detector, options.state, **policy)
        else:
            stream = Stream(detector, **policy)
            for row, time in rows:
                _tell(stream, stream.update(row, time), options.scores)
            _tell(stream, stream.finish(), options.scores)
    except ValueError as error:
        where = f"standard input: row {rows.line}: " if rows.line > 1 else ""
        raise ValueError(f"{where}{error}") from error
    if stream.dropped:
        _say(
            f"warning: {stream.dropped} rows came late and were left out; the latest time was "
            f"{stream.time}"
        )


def _tell(stream: Any, scores: Any, every: bool) -> None:
    """Write what has become known, at once."""
    from madcluster.service.loop import line_of

    if every:
        first = stream.scored - len(scores)
        for row, score in enumerate(scores.tolist(), first):
            print(json.dumps({"row": row, "score": None if math.isnan(score) else score}))
    for event in stream.events:
        sys.stdout.write(line_of(event, stream.time))
    if every or stream.events:
        sys.stdout.flush()


class _Rows:
    """Rows of a CSV on standard input as they come, with their times."""

    def __init__(self, time: str | None, channels: Sequence[str]) -> None:
        self.time, self.channels = time, channels
        self.line = 0  # as in an editor: the header is 1

    def __iter__(self) -> Iterator[tuple[dict[str, float], Any]]:
        lines = csv.reader(sys.stdin, strict=True)
        try:
            names = [name.strip() for name in next(lines, [])]
            wanted = [*self.channels, *([self.time] if self.time else [])]
            for name in wanted:
                if names.count(name) != 1:
                    many = "more than one" if name in names else "no"
                    raise ValueError(f"it has {many} column {name!r}, but {', '.join(names)}")
            places = [names.index(name) for name in wanted]
            for cells in lines:
                self.line = lines.line_num
                if not cells:
                    continue
                if len(cells) != len(names):
                    raise ValueError(f"it has {len(cells)} columns, the header has {len(names)}")
                row = {
                    names[i]: self._number(names[i], cells[i])
                    for i in places
                    if names[i] != self.time
                }
                yield row, self._stamp(cells[places[-1]]) if self.time else None
        except csv.Error as error:
            self.line = lines.line_num
            raise ValueError(f"it cannot be read: {error}") from error

    def _number(self, name: str, cell: str) -> float:
        from madcluster.data.tables import MISSING

        cell = cell.strip()
        if cell.lower() in MISSING:
            return math.nan
        try:
            if "_" not in cell:  # which Python reads, and no other
                return float(cell)
        except ValueError:
            pass
        raise ValueError(f"column {name!r} holds {cell!r}, not a number")

    def _stamp(self, cell: str) -> Any:
        import pandas as pd

        with contextlib.suppress(ValueError):
            return float(cell)
        stamp = pd.to_datetime(cell, format="ISO8601", errors="coerce")
        if stamp is pd.NaT:
            raise ValueError(
                f"column {self.time!r} holds {cell!r}, not a number or an ISO 8601 date"
            )
        return stamp


COMMANDS = {
    "fit": _fit,
    "score": _score,
    "alarms": _alarms,
    "report": _report,
    "stream": _stream,
}

if __name__ == "__main__":
    status = main()
    if status == INTERRUPTED:
        logging.disable()  # what was cut off would say so, task by task
    sys.exit(status)
