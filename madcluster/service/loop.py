"""A service that scores rows as they come, and after a kill goes on without loss or repetition.

Its alarms can be read as a table, and marked by who has looked at them.
"""

from __future__ import annotations

import copy
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from madcluster.arguments import check_line, check_number, check_one_of, check_whole
from madcluster.files import locked
from madcluster.service.alarms import AlarmEvent
from madcluster.service.checkpoints import FAULTS, CheckpointError
from madcluster.service.streams import Scores, Stream

__all__ = ["Verdict", "history", "line_of", "mark", "serve"]

STATE, EVENTS, VERDICTS = "state", "alarms.jsonl", "verdicts.jsonl"  # in the folder of a service
ELSEWHERE = (  # what can be done where they do not belong together
    f"begin in another folder, or move {STATE}, {EVENTS} and {VERDICTS} away together"
)

Verdict = Literal["fault", "false"]


def serve(
    source: Iterable[tuple[Any, Any]],
    detector: Scores,
    folder: str | os.PathLike[str],
    *,
    every: int = 1000,
    saved: Callable[[], object] = lambda: None,
    **options: Any,
) -> Stream:
    """Score all rows of a source, write what its alarms report, and save the state now and then.

    The events go to `alarms.jsonl` in the folder, one JSON object a line; the state goes to `state`. A
    state says how many events it has reported, and a start cuts off those after them, so what comes
    twice is written once. A first state is there before the first event: where there are events or
    verdicts and no state, it is lost, and the start is refused. What has to be repeated is the source's
    part: it must give again, after a restart, all rows since `saved` was last called, as a broker does
    with messages that nobody has acknowledged. Rows that the state knows are then late, and dropped. So
    nothing is lost and nothing comes twice where the process is killed, wherever that is; a computer
    that loses its power may lose files that its disk has not got yet.

    Parameters
    ----------
    source : iterable of (rows, time)
        As for `Stream.update`. A source that has nothing at the moment may give (None, None): then what
        is not saved yet is saved.
    detector : Detector
        Fitted; the same at every start.
    folder : path
        Made if it is not there. A service has one of its own.
    every : int
        Rows after which the state is saved.
    saved : function
        Called after each save: what came until then will not be needed again.
    **options
        Of `Stream`, with `alarms`; rows that come late are dropped. A state goes on with the options
        that it was begun with.

    Returns
    -------
    The stream, when the source has ended; its state is saved. `finish` may follow, or another start.

    Raises
    ------
    ValueError
        If there are no alarms in the options, or rows have no times.
    CheckpointError
        If there is a state, and it is damaged or of another detector, or `alarms.jsonl` is not its own;
        if there is none, but events or verdicts of one that is gone. Nothing in the folder is changed
        then.
    """
    every, folder = check_whole("every", every), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stream, begun = _begun(folder, detector, options)
    if stream.alarms is None:
        raise ValueError("a service needs alarms, such as alarms=OnlineAlarms(detector.threshold_)")
    _cut(folder / EVENTS, stream.alarms.reported)
    with open(folder / EVENTS, "a", encoding="utf-8") as events:

        def save() -> None:
            nonlocal begun
            events.flush()  # before the state, which counts them
            stream.save(folder / STATE)
            begun = None
            saved()

        done = stream.seen + stream.dropped
        for rows, time in source:
            stream.update(rows, time)
            came = stream.seen + stream.dropped
            if came > done and stream.time is None:
                raise ValueError("rows need times, by which those that come twice are known")
            if begun is not None and stream.events:
                begun.save(folder / STATE)  # events are never without a state
                begun = None
            events.writelines(line_of(event, stream.time) for event in stream.events)
            if came >= done + every or (rows is None and came > done):
                save()
                done = came
        save()
    return stream


def _begun(folder: Path, detector: Scores, options: dict[str, Any]) -> tuple[Stream, Stream | None]:
    """The stream, and where there is no state yet a second one that stays as it is without rows."""
    path = folder / STATE
    if path.exists():
        try:
            return Stream.load(path, detector), None
        except CheckpointError as error:
            raise CheckpointError(
                f"{folder} cannot go on: {error.args[0][:200]}. Put a copy in its place, or go on with "
                f"its detector; otherwise {ELSEWHERE}"
            ) from error
    for name in (EVENTS, VERDICTS):
        if (folder / name).exists() and (folder / name).stat().st_size:
            raise CheckpointError(
                f"{folder} has lines in {name} and no {STATE}: its alarms belong to a state that is "
                f"gone. Put the state back, {ELSEWHERE}"
            )
    options = {"late": "drop", **options}
    stream = Stream(detector, **options)
    # alarms change with the stream that they are given to
    return stream, Stream(detector, **{**options, "alarms": copy.copy(stream.alarms)})


def line_of(event: AlarmEvent, time: Any) -> str:
    """An event as JSON; `reported` is the time of the row that came last, a score of NaN is null."""
    alarm = event.alarm
    about = {"event": event.kind, **alarm._asdict(), "score": alarm.score if alarm.scored else None}
    return json.dumps({**about, "reported": time}, default=str) + "\n"


def _cut(path: Path, lines: int) -> None:
    """Leave the first lines of a file, and nothing after them; no file is one without lines."""
    with open(path, "r+b") if path.exists() else io.BytesIO() as file:
        for line in range(lines):
            if not file.readline().endswith(b"\n"):
                raise CheckpointError(
                    f"{path} holds {line} events, but the state beside it has reported {lines}. Put a "
                    f"copy in its place, {ELSEWHERE}"
                )
        file.truncate(file.tell())


def history(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """The alarms that `serve` has reported, and what was said of them, one row each.

    It may be read while the service runs. A last line that was cut, by a kill or because the rest of it
    is not on the disk yet, is no line.

    Parameters
    ----------
    folder : path
        That of `serve`.

    Returns
    -------
    In the order in which they began, with the columns

    - `start`, `stop`, `peak`: rows, counted by the stream from 0; `score`, NaN for rows without one.
      Of an alarm that is open, as far as they were known when it began
    - `began`, `ended`: the time of the row with which that was reported, a number or a Timestamp, in
      UTC if the rows' times had a zone; an alarm that is open has no `ended`
    - `verdict`, `note`: those that `mark` wrote last, None where nobody has

    Raises
    ------
    FileNotFoundError
        If no service has run there.
    CheckpointError
        If another line than the last is damaged; the message names it.
    """
    path, found = Path(folder) / EVENTS, dict[int, dict[str, Any]]()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: give the folder of a service")
    clock = None
    for number, line in _whole_lines(path):
        with _in_words(path, number):
            event = json.loads(line)
            kind, alarm = _read(event)
            time = _time(event["reported"])
            if clock not in (None, _clock(time)):
                raise ValueError("its time is of another kind than the first")
            clock = _clock(time)
            known = found.get(alarm["start"])
            if kind == "began" and known is None:
                found[alarm["start"]] = {**alarm, "began": time, "ended": None}
            elif kind == "ended" and known is not None and known["ended"] is None:
                known |= {**alarm, "ended": time}
            else:
                raise ValueError(f"the alarm of row {alarm['start']} {kind} out of order")
    said = _verdicts(Path(folder) / VERDICTS)
    rows = list(found.values())
    columns = {
        name: np.array([row[name] for row in rows], dtype)
        for name, dtype in (("start", int), ("stop", int), ("peak", int), ("score", float))
    }
    dated = clock is not None and clock[0] is pd.Timestamp
    began = pd.Series([row["began"] for row in rows], dtype=None if dated else float)
    ended = pd.Series([row["ended"] for row in rows], dtype=began.dtype)
    words = {
        name: pd.Series([said.get(row["start"], {}).get(name) for row in rows], dtype=object)
        for name in ("verdict", "note")
    }
    return pd.DataFrame({**columns, "began": began, "ended": ended, **words})


def mark(folder: str | os.PathLike[str], start: int, verdict: Verdict, *, note: str = "") -> None:
    """Write down what an alarm was; who has looked at it says so.

    The verdicts go to `verdicts.jsonl` in the folder of the service, one JSON object a line, with the
    time in UTC. All are kept, and the last one of an alarm counts. The service knows nothing of them:
    what they can be used for is in `madcluster.versions`.

    Parameters
    ----------
    folder : path
        That of `serve`.
    start : int
        The alarm's first row, as in `history`.
    verdict : "fault" or "false"
        Something was wrong with the plant or a sensor, or nothing was.
    note : str
        One line.

    Raises
    ------
    FileNotFoundError
        If no service has run there.
    ValueError
        If there is no such alarm, or the verdict is another one.
    CheckpointError
        If `alarms.jsonl` is damaged.
    """
    check_one_of("verdict", verdict, get_args(Verdict))
    start, folder = check_whole("start", start, 0), Path(folder)
    if start not in history(folder)["start"].to_numpy():
        raise ValueError(
            f"start must be the first row of an alarm in {folder / EVENTS}, got {start}"
        )
    about = {"start": start, "verdict": verdict, "note": check_line("note", note)}
    line = json.dumps({**about, "marked": datetime.now(UTC).isoformat(timespec="seconds")})
    with locked(folder / VERDICTS), open(folder / VERDICTS, "r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)  # what a killed process has left of its line
        file.seek(0, os.SEEK_END)
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def _read(event: Any) -> tuple[str, dict[str, Any]]:
    """The kind of an event, and the alarm."""
    check_one_of("event", event["event"], ("began", "ended"))
    start, stop, peak = (check_whole(name, event[name], 0) for name in ("start", "stop", "peak"))
    if not start <= peak < stop:
        raise ValueError(f"an alarm of rows {start} … {stop} with its peak in {peak}")
    score = event["score"]
    score = math.nan if score is None else check_number("score", score, -math.inf)
    return event["event"], {"start": start, "stop": stop, "peak": peak, "score": score}


def _time(value: Any) -> Any:
    """A number or a Timestamp, as `_line` wrote it."""
    if not isinstance(value, str):
        return check_number("reported", value, -math.inf)
    time = pd.Timestamp(value)
    if not isinstance(time, pd.Timestamp):
        raise ValueError(f"reported is no time, but {value!r}")
    return time


def _clock(time: Any) -> tuple[type, bool]:
    """Its kind: a number, or a Timestamp with or without a zone."""
    return type(time), getattr(time, "tz", None) is not None


def _verdicts(path: Path) -> dict[int, dict[str, str]]:
    """The last verdict and note of every alarm, by its first row."""
    found = {}
    for number, line in _whole_lines(path) if path.exists() else ():
        with _in_words(path, number):
            about = json.loads(line)
            check_one_of("verdict", about["verdict"], get_args(Verdict))
            said = {"verdict": about["verdict"], "note": check_line("note", about["note"])}
            found[check_whole("start", about["start"], 0)] = said
    return found


def _whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines from 1 on, but for one at the end that has no end."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                yield number, line


@contextmanager
def _in_words(path: Path, line: int) -> Iterator[None]:
    try:
        yield
    except FAULTS as error:
        raise CheckpointError(
            f"{path} is damaged in line {line}: {error}; put a copy in its place"
        ) from error
