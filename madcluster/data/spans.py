"""Several files as one table, how its rows follow each other, and where in time a part of it ends."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from madcluster.data.tables import read_table

__all__ = ["files_of", "read_tables", "rows_before", "rows_per_day", "usual_step"]

DAY = pd.Timedelta(hours=24)


def read_tables(
    pattern: str | os.PathLike[str], *, time: str | None = None, **reading: Any
) -> tuple[pd.DataFrame, list[Path]]:
    """A table from one file, or from several with the same columns, one after another.

    Parameters
    ----------
    pattern : path, or a pattern such as ``2026-*.csv``
        A file of exactly this name is taken as it is. Files that match are taken in the order of their
        names, where 2 comes before 10.
    time, **reading
        As for `madcluster.data.tables.read_table`.

    Returns
    -------
    The table, and the files in their order. Without `time` its rows are counted from 0.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        As `read_table`; if a file has other columns than the first, or begins before the last ends.
    """
    files = files_of(pattern)
    frames: list[pd.DataFrame] = []
    for file in files:
        frame = read_table(file, time=time, **reading)
        if frames and list(frame) != list(frames[0]):
            odd = sorted(set(frame) ^ set(frames[0]))
            raise ValueError(
                f"{file} has other columns than {files[0]}: {', '.join(odd) or 'their order'}"
            )
        if frames and time is not None:
            before, after = frames[-1].index, frame.index
            if before.dtype != after.dtype:
                raise ValueError(
                    f"{file} has times of type {after.dtype}, {files[0]} of {before.dtype}"
                )
            if not after[0] > before[-1]:
                raise ValueError(
                    f"{file} begins at {after[0]}, not later than {before[-1]}, where "
                    f"{files[len(frames) - 1]} ends: files are taken in the order of their names"
                )
        frames.append(frame)
    if len(frames) == 1:
        return frames[0], files
    return pd.concat(frames, ignore_index=time is None), files


def files_of(pattern: str | os.PathLike[str]) -> list[Path]:
    """A file of exactly this name, or those that match it as a pattern; 2 comes before 10.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    pattern = os.fspath(pattern)
    found = [pattern] if os.path.isfile(pattern) else filter(os.path.isfile, glob.glob(pattern))
    files = sorted(map(Path, found), key=_natural)
    if not files:
        raise FileNotFoundError(f"no table at {pattern}")
    return files


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """A key by which 2 comes before 10."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def usual_step(index: pd.Index) -> Any:
    """The median time from one row to the next: a Timedelta, or a number where times are numbers.

    Raises
    ------
    ValueError
        If there are fewer than two rows, or times do not go forward.
    """
    if len(index) < 2:
        raise ValueError(f"{len(index)} rows have no step in time")
    forward = np.asarray(index[1:] > index[:-1])
    if not forward.all():
        row = int(np.argmin(forward))
        raise ValueError(
            f"its times must go forward: row {row + 1} is of {index[row + 1]}, not later than "
            f"{index[row]} before it"
        )
    return pd.Series(index).diff().median()


def rows_per_day(index: pd.Index) -> float:
    """Rows in 24 hours, by the usual step of dates.

    Raises
    ------
    ValueError
        If they are no dates, or as `usual_step`.
    """
    if not isinstance(index, pd.DatetimeIndex):
        raise ValueError("its rows have no dates, and rows_per_day is not given")
    return float(DAY / usual_step(index))


def rows_before(index: pd.Index, where: float | str) -> int:
    """How many rows come before a place.

    Parameters
    ----------
    index : of the rows, going forward
    where : a share of the rows, a number in (0, 1); or a time: text or a Timestamp for dates, a number
        or its text where times are numbers

    Raises
    ------
    ValueError
        If it is no such place, or one of the parts is empty.
    """
    number = where if isinstance(where, int | float) and not isinstance(where, bool) else None
    if number is not None and 0 < number < 1:
        n = round(number * len(index))
    elif isinstance(index, pd.DatetimeIndex):
        stamp = pd.NaT if number is not None else pd.to_datetime(where, errors="coerce")
        if not isinstance(stamp, pd.Timestamp):
            raise ValueError(f"{where!r} is neither a share in (0, 1) nor a date")
        if index.tz is None and stamp.tz is not None:
            raise ValueError(f"{where!r} has a time zone, and the times of the rows have none")
        if index.tz is not None:  # a stamp without a zone is meant in that of the rows
            stamp = stamp.tz_localize(index.tz) if stamp.tz is None else stamp
        n = int((index < stamp).sum())
    else:
        try:
            n = int((index < float(where)).sum())
        except ValueError:
            raise ValueError(f"{where!r} is neither a share in (0, 1) nor a number") from None
    if not 0 < n < len(index):
        raise ValueError(
            f"{where!r} leaves {n} of {len(index)} rows before it; they go from {index[0]} to "
            f"{index[-1]}"
        )
    return n
