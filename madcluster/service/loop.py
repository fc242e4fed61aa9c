"""A service that scores rows as they come, and after a kill goes on without loss or repetition."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from madcluster.arguments import check_whole
from madcluster.service.alarms import AlarmEvent
from madcluster.service.checkpoints import CheckpointError
from madcluster.service.streams import Scores, Stream

__all__ = ["line_of", "serve"]

STATE, EVENTS = "state", "alarms.jsonl"  # in the folder of a service


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
    twice is written once. What has to be repeated is the source's part: it must give again, after a
    restart, all rows since `saved` was last called, as a broker does with messages that nobody has
    acknowledged. Rows that the state knows are then late, and dropped. So nothing is lost and nothing
    comes twice where the process is killed, wherever that is; a computer that loses its power may lose
    files that its disk has not got yet.

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
        If there is a state, and it is damaged or of another detector, or `alarms.jsonl` is not its own.
    """
    every, folder = check_whole("every", every), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / STATE).exists():
        stream = Stream.load(folder / STATE, detector)
    else:
        stream = Stream(detector, **{"late": "drop", **options})
    if stream.alarms is None:
        raise ValueError("a service needs alarms, such as alarms=OnlineAlarms(detector.threshold_)")
    _cut(folder / EVENTS, stream.alarms.reported)
    with open(folder / EVENTS, "a", encoding="utf-8") as events:

        def save() -> None:
            events.flush()  # before the state, which counts them
            stream.save(folder / STATE)
            saved()

        done = stream.seen + stream.dropped
        for rows, time in source:
            stream.update(rows, time)
            came = stream.seen + stream.dropped
            if came > done and stream.time is None:
                raise ValueError("rows need times, by which those that come twice are known")
            events.writelines(line_of(event, stream.time) for event in stream.events)
            if came >= done + every or (rows is None and came > done):
                save()
                done = came
        save()
    return stream


def line_of(event: AlarmEvent, time: Any) -> str:
    """An event as JSON; `reported` is the time of the row that came last, a score of NaN is null."""
    alarm = event.alarm
    about = {"event": event.kind, **alarm._asdict(), "score": alarm.score if alarm.scored else None}
    return json.dumps({**about, "reported": time}, default=str) + "\n"


def _cut(path: Path, lines: int) -> None:
    """Leave the first lines of a file, and nothing after them."""
    path.touch()
    with open(path, "r+b") as file:
        for line in range(lines):
            if not file.readline().endswith(b"\n"):
                raise CheckpointError(
                    f"{path} holds {line} events, but the state beside it has reported {lines}"
                )
        file.truncate(file.tell())
