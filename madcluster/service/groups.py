"""Streams that are fed together, so that those of one detector share its work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from madcluster.service.streams import Ask, Asking, Clocked, Stream, answers

__all__ = ["StreamGroup"]


class StreamGroup(Mapping[str, Stream]):
    """Feed many streams at once; those of one detector go through its network as one batch.

    Each keeps what it is: its policy, pieces, counts and alarms, and it can be saved and loaded alone.
    Scores are those of each stream alone up to rounding: sums of a batch are taken in another order.
    What is shared is the work of a network: see the cost of a batch in `benchmarks/stream.py`.

    Parameters
    ----------
    streams : mapping of name to Stream
        Such as `{name: detector.stream() for name in names}`; also of several detectors, where those of
        one detector object share a batch. From then on the group keeps the memory of all of them, so
        none may be in two groups, nor be fed in two threads at a time.

    Raises
    ------
    ValueError
        If there is no stream, something else is among them, or one is there twice.

    Examples
    --------
    >>> from madcluster import MADCluster, synthetic
    >>> series = synthetic(n_train=1000, n_test=1000, seed=0)
    >>> detector = MADCluster(epochs=1, stride=10, aggregate="last").fit(series.train)
    >>> group = StreamGroup({name: detector.stream() for name in ("left", "right")})
    >>> _ = group.update({"left": series.test[:200], "right": series.test[200:400]})
    >>> scores = group.update(series.test[[200, 400]])  # a row for each
    >>> {name: of_one.shape for name, of_one in scores.items()}
    {'left': (1,), 'right': (1,)}
    >>> group["right"].seen
    201
    """

    def __init__(self, streams: Mapping[str, Stream]) -> None:
        self._streams = dict(streams)
        if not self._streams:
            raise ValueError("streams is empty")
        for name, stream in self._streams.items():
            if not isinstance(stream, Stream):
                raise ValueError(f"streams must hold Stream objects, but {name!r} is {stream!r}")
        every = list(self._streams.values())
        if len({id(stream) for stream in every}) < len(every):
            raise ValueError("streams holds one stream under two names")
        of_detectors: dict[int, list[Stream]] = {}
        for stream in every:
            of_detectors.setdefault(id(stream.detector), []).append(stream)
        for members in of_detectors.values():
            steps = members[0].detector.steps(len(members))
            for i, stream in enumerate(members):
                stream.lane.move(steps, i)
        # rows of all can be looked at as one table
        alike = {(id(stream.detector), stream.missing == "refuse") for stream in every}
        self._one_table = len(alike) == 1

    def __getitem__(self, name: str) -> Stream:
        return self._streams[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._streams)

    def __len__(self) -> int:
        return len(self._streams)

    def update(self, rows: Any, time: Any = None) -> dict[str, np.ndarray]:
        """Scores that have become known with some more rows.

        Parameters
        ----------
        rows : mapping of name to rows, or (s c)
            What `Stream.update` takes, by the names of the streams, of which any may be absent; or an
            array with one row for each stream, in their order.
        time : mapping of name to times, (s,) or one time, optional
            For a mapping of rows, the times of each stream by its name. For an array, one for each row,
            or one for all.

        Returns
        -------
        What `Stream.update` returns, by the names of the streams that were given rows.

        Raises
        ------
        ValueError
            As `Stream.update`, with the name of the stream, and for a name that is none of theirs. No
            stream has taken any row then.
        """
        if isinstance(rows, np.ndarray):
            examined = self._of_table(rows, time)
        else:
            examined = self._by_name(rows, time)
        return _together({name: self[name].taking(*of_one) for name, of_one in examined.items()})

    def _of_table(
        self, rows: np.ndarray, time: Any
    ) -> dict[str, tuple[np.ndarray, Clocked | None]]:
        if rows.ndim != 2 or len(rows) != len(self):
            raise ValueError(
                f"rows must be (s c) with one row for each of {len(self)} streams, got {rows.shape}"
            )
        times = _times(time, len(self))
        if not self._one_table:
            return self._by_name(
                dict(zip(self, rows, strict=True)),
                None if times is None else dict(zip(self, times, strict=True)),
            )
        first = next(iter(self.values()))
        x = first.detector.checked(rows, "rows", missing=first.missing != "refuse")
        z, found = first.detector.scaler_.transform(x), {}
        for i, (name, stream) in enumerate(self.items()):
            with _named(name):
                clocked = stream.clocked_row(None if times is None else times[i])
            found[name] = z[i : i + 1], clocked
        return found

    def _by_name(
        self, rows: Any, time: Mapping[str, Any] | None
    ) -> dict[str, tuple[np.ndarray, Clocked | None]]:
        if not isinstance(rows, Mapping):
            raise ValueError(
                f"rows must be a mapping of names to rows, or an array (s c), got "
                f"{type(rows).__name__}"
            )
        if time is not None and not isinstance(time, Mapping):
            raise ValueError("time must be a mapping of names to times, as rows is one of names")
        for what, given in (("rows", rows), ("time", time or {})):
            for name in given:
                if name not in self._streams:
                    raise ValueError(f"{what} has {name!r}, which is no name of a stream")
        found = {}
        for name, of_one in rows.items():
            with _named(name):
                found[name] = self[name].examined(of_one, None if time is None else time.get(name))
        return found

    def finish(self) -> dict[str, np.ndarray]:
        """What `Stream.finish` returns, by name.

        Raises
        ------
        ValueError
            If one has seen less than a window, with its name. None is finished then.
        """
        for name, stream in self.items():
            with _named(name):
                stream.check_finish()
        return _together({name: stream.finishing() for name, stream in self.items()})


class _named:
    """A ValueError says of which stream it is."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, _: object) -> None:
        if isinstance(error, ValueError):
            raise ValueError(f"stream {self.name!r}: {error}") from error


def _times(time: Any, n: int) -> Any:
    """One for each of n rows, or None."""
    if time is None or (np.ndim(time) > 0 and len(time) == n):
        return time
    if np.ndim(time) > 0 or isinstance(time, Mapping):
        raise ValueError(f"time must be one for each of {n} rows, or one for all")
    return [time] * n


def _together(askings: Mapping[str, Asking]) -> dict[str, np.ndarray]:
    """What each returns, in the order of their names; in every round all questions are answered."""
    found: dict[str, np.ndarray] = {}
    asks: dict[str, Ask] = {}

    def go_on(name: str, answer: np.ndarray | None) -> None:
        try:
            # the first is sent None, as for every generator
            asks[name] = askings[name].send(answer)  # type: ignore[arg-type]
        except StopIteration as done:
            found[name] = done.value

    for name in askings:
        go_on(name, None)
    while asks:
        names, given = list(asks), answers(list(asks.values()))
        asks.clear()
        for name, answer in zip(names, given, strict=True):
            go_on(name, answer)
    return {name: found[name] for name in askings}
