"""Tables of sensors: read strictly, with errors that name file, row and column.

Rows are counted as in an editor: the header is row 1.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from madcluster.data.series import Series

__all__ = ["Fill", "fill_missing", "from_csv", "read_table"]

Fill = Literal["ffill", "interpolate"]
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
OFFSET = r":\d\d.*?(Z|[+-]\d\d(?::?\d\d)?)$"  # from UTC, after the time of day
POINT_AND_COMMA = {ord("."): ",", ord(","): "."}


def _rows(
    path: Path, separator: str | None, encoding: str
) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, cells and line numbers of a file whose rows all have the width of its header."""
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}")
    try:
        text = path.read_text(encoding=encoding)
    except LookupError as error:
        raise ValueError(f"encoding {encoding!r} is unknown") from error
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding == "utf-8-sig" else encoding
        raise ValueError(
            f"{path} is not {name} text: byte {error.start} cannot be read; choose its encoding"
        ) from error
    if not text.strip():
        raise ValueError(f"{path} is empty")
    if separator is None:
        first = text.split("\n", 1)[0]
        separator = max(",;\t|", key=first.count)
    elif len(separator) != 1:
        raise ValueError(f"separator must be one character, got {separator!r}")
    reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True)
    rows, numbers = [], []
    try:
        header = [name.strip() for name in next(reader)]
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise ValueError(
                    f"{path}: row {reader.line_num} has {len(row)} columns, the header has "
                    f"{len(header)}"
                )
            rows.append(row)
            numbers.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(f"{path}: row {reader.line_num} cannot be read: {error}") from error
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ValueError(
            f"{path}: the header names {', '.join(map(repr, repeated))} more than once"
        )
    if not rows:
        raise ValueError(f"{path} has a header and no rows")
    return header, rows, numbers


def _quick(
    path: Path, separator: str | None, encoding: str, time: str | None
) -> tuple[pd.DataFrame, pd.Series | None] | None:
    """Numbers and stamps of a file in which nothing is unusual, by pandas' own parser; else None.

    What is unusual is for `_rows`, which is strict, names the cell that is wrong, and takes many times
    as long: quotes, empty lines, other line ends, ragged rows, repeated names, text, no finite number.
    """
    lines, last = 0, b""
    try:
        with path.open("rb") as file:
            first = file.readline()
            for block in itertools.chain([first], iter(lambda: file.read(1 << 20), b"")):
                if b'"' in block or b"\n\n" in last + block or b"\r" in block:
                    return None
                lines, last = lines + block.count(b"\n"), block[-1:]
        header = first.decode(encoding).rstrip("\n")
        separator = max(",;\t|", key=header.count) if separator is None else separator
        names = [name.strip() for name in header.split(separator)]
        if len(set(names)) < len(names) or (time is not None and time not in names):
            return None
        with warnings.catch_warnings():
            # rows with more cells than the header would be cut
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                sep=separator,
                encoding=encoding,
                header=0,
                names=names,
                index_col=False,
                dtype={name: str if name == time else np.float64 for name in names},
                keep_default_na=False,
                skip_blank_lines=False,
            )
    except (OSError, LookupError, ValueError, pd.errors.ParserWarning):  # _rows will say what it is
        return None
    stamps = None if time is None else frame.pop(time)
    whole = len(frame) == lines + (last != b"\n") - 1 and not frame.empty
    finite = all(np.isfinite(values.to_numpy()).all() for _, values in frame.items())
    return (frame, stamps) if whole and finite else None


def _numeric(
    cells: pd.Series,
    path: Path,
    numbers: Sequence[int],
    *,
    missing: bool,
    decimal: str,
    absent: frozenset[str],
) -> np.ndarray:
    """A column as float64; missing cells become NaN where they are allowed."""
    # with a decimal comma, a point could only part thousands: it is left to be refused
    text = cells if decimal == "." else cells.str.translate(POINT_AND_COMMA)
    values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values)
    if missing and bad.any():
        bad &= ~cells.str.strip().str.lower().isin(absent).to_numpy(dtype=bool)
    if bad.any():
        row = int(np.argmax(bad))
        cell = cells.iloc[row]
        what, hint = repr(cell), ""
        if cell.strip().lower() in absent:
            what, hint = "a missing value", "; choose fill='ffill' or 'interpolate'"
        elif decimal == "." and re.fullmatch(r"\s*[+-]?\d+,\d+\s*", cell):
            hint = "; choose decimal=','"
        raise ValueError(
            f"{path}: row {numbers[row]}, column {cells.name!r} holds {what}, not a finite "
            f"number{hint}"
        )
    return values


def _dates(
    cells: pd.Series, path: Path, numbers: Sequence[int], time_format: str | None
) -> pd.Series:
    """Dates, or NaT where there is none; in UTC if their offsets differ, as with summer time."""
    offsets = cells.str.strip().str.extract(OFFSET, expand=False)
    without = offsets.isna().to_numpy(dtype=bool)
    if without.any() and not without.all():
        row = int(np.argmax(without))
        raise ValueError(
            f"{path}: row {numbers[row]}, column {cells.name!r} holds {cells.iloc[row]!r}, without the "
            f"time zone that other rows have"
        )
    style = time_format or "ISO8601"
    try:
        return pd.to_datetime(cells, errors="coerce", format=style, utc=len(offsets.unique()) > 1)
    except ValueError as error:
        raise ValueError(
            f"{path}: column {cells.name!r} cannot be read with time_format {style!r}: {error}"
        ) from error


def _time_index(
    cells: pd.Series, path: Path, numbers: Sequence[int], time_format: str | None
) -> pd.Index:
    """Time stamps, as numbers or as dates; increasing, each once."""
    if time_format is not None:
        values, kind = _dates(cells, path, numbers, time_format), f"of the form {time_format!r}"
    else:
        values, kind = pd.to_numeric(cells, errors="coerce"), "a number or an ISO 8601 date"
        if values.isna().any():
            dates = _dates(cells, path, numbers, None)
            values = min(values, dates, key=lambda v: v.isna().sum())
    no_time = values.isin([np.inf, -np.inf]) | values.isna()
    if no_time.any():
        row = int(np.argmax(no_time.to_numpy()))
        raise ValueError(
            f"{path}: row {numbers[row]}, column {cells.name!r} holds {cells.iloc[row]!r}, not {kind}"
        )
    index = pd.Index(values, name=str(cells.name))
    for fault, wrong in (
        ("repeats a time stamp", index.duplicated()),
        ("goes back in time", np.r_[False, index[1:] < index[:-1]]),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"{path}: row {numbers[row]}, column {cells.name!r} {fault}: {cells.iloc[row]!r}; "
                f"where a clock is set back, stamps need their time zone"
            )
    return index


def read_table(
    path: str | os.PathLike[str],
    *,
    time: str | None = None,
    label: str | None = None,
    missing: bool = False,
    separator: str | None = None,
    decimal: Literal[".", ","] = ".",
    encoding: str = "utf-8-sig",
    time_format: str | None = None,
    na_values: Sequence[str] = (),
) -> pd.DataFrame:
    """A table of finite numbers with a header, as float64, indexed by its time stamps.

    Parameters
    ----------
    path : text file
    time : name of the column of time stamps, numbers or ISO 8601 dates; where their offsets from UTC
        differ, as with summer time, the index is in UTC
    label : name of a column that must hold 0 or 1
    missing : let missing values through as NaN
    separator : guessed from the header if not given
    decimal : "." or ","; no thousands separators
    encoding : such as "cp1252"; UTF-8 by default
    time_format : of dates that are not ISO 8601, such as "%d.%m.%Y %H:%M"
    na_values : further words for a missing value, such as "BAD"

    Raises
    ------
    ValueError
        Naming file, row and column, for text in a number column, infinities, missing values, ragged
        rows, repeated names, and time stamps that repeat or go back.
    """
    path = Path(path)
    if decimal not in (".", ","):
        raise ValueError(f"decimal must be '.' or ',', got {decimal!r}")
    if isinstance(na_values, str):
        raise ValueError(f"na_values must be a list of words, got {na_values!r}")
    if decimal == "." and (quick := _quick(path, separator, encoding, time)) is not None:
        frame, stamps = quick
        _check_labels(frame, label, path, range(2, len(frame) + 2))
        if stamps is not None:
            frame.index = _time_index(stamps, path, range(2, len(frame) + 2), time_format)
        return frame
    header, rows, numbers = _rows(path, separator, encoding)
    if time is not None and time not in header:
        raise ValueError(f"{path} has no column {time!r}; it has {', '.join(header)}")
    text = pd.DataFrame(rows, columns=header, dtype=str)
    names = [name for name in header if name != time]
    if not names:
        raise ValueError(f"{path} has no column beside {time!r}")
    absent = MISSING | {word.strip().lower() for word in na_values}
    options: dict[str, Any] = {"missing": missing, "decimal": decimal, "absent": absent}
    columns = {name: _numeric(text[name], path, numbers, **options) for name in names}
    frame = pd.DataFrame(columns)
    _check_labels(frame, label, path, numbers)
    if time is not None:
        frame.index = _time_index(text[time], path, numbers, time_format)
    return frame


def _check_labels(
    frame: pd.DataFrame, label: str | None, path: Path, numbers: Sequence[int]
) -> None:
    """Look at the column of labels, if there is to be one."""
    if label is None:
        return
    if label not in frame:
        raise ValueError(f"{path} has no column {label!r}; it has {', '.join(frame.columns)}")
    values = frame[label].to_numpy()
    wrong = ~np.isin(values, (0, 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{path}: row {numbers[row]}, column {label!r} holds {values[row]}, not 0 or 1"
        )


def fill_missing(frame: pd.DataFrame, fill: Fill | None, path: Path) -> tuple[pd.DataFrame, int]:
    """Fill missing values the way that was asked for, and count them.

    "ffill" repeats the last value, "interpolate" draws a line between neighbors; either takes the
    first known value for what comes before it.

    Raises
    ------
    ValueError
        If there is a missing value and `fill` is None, or a column holds nothing else.
    """
    if fill not in ("ffill", "interpolate", None):
        raise ValueError(f"fill must be 'ffill', 'interpolate' or None, got {fill!r}")
    holes = frame.isna().to_numpy()
    n = int(holes.sum())
    if not n:
        return frame, 0
    if fill is None:
        row, column = np.argwhere(holes)[0]
        raise ValueError(
            f"{path}: row {row + 2}, column {frame.columns[column]!r} is missing ({n} such values); "
            f"choose fill='ffill' or 'interpolate'"
        )
    if holes.all(0).any():
        name = frame.columns[int(np.argmax(holes.all(0)))]
        raise ValueError(f"{path}: column {name!r} holds no value at all")
    values = frame.reset_index(drop=True)
    values = values.ffill() if fill == "ffill" else values.interpolate()
    return values.bfill().set_axis(frame.index), n


def from_csv(
    path: str | os.PathLike[str],
    *,
    test: str | os.PathLike[str] | None = None,
    time: str | None = None,
    label: str | None = None,
    train_fraction: float = 0.5,
    fill: Fill | None = None,
    name: str | None = None,
    **reading: Any,
) -> Series:
    """A series from a file of one's own: a header, one row a time step, one column a sensor.

    Parameters
    ----------
    path : the whole series, or its train split if `test` is given
    test : a second file with the same columns
    time : name of the column of time stamps
    label : name of the column of labels, 0 or 1; without it no row counts as anomalous
    train_fraction : share of the rows, from the start, that are taken as normal
    fill : how to fill missing values, in each split by itself; None refuses them
    name : of the series; the file's by default
    **reading
        `separator`, `decimal`, `encoding`, `time_format` and `na_values`; see
        `madcluster.data.tables.read_table`.

    Raises
    ------
    ValueError
        Naming file, row and column of what is wrong.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "plant.csv"
    >>> rows = "\\n".join(f"{i},{i % 7},{i % 5}" for i in range(100))
    >>> _ = file.write_text("minute,pressure,flow\\n" + rows)
    >>> from_csv(file, time="minute", train_fraction=0.6)
    Series('plant', train (60, 2), test (40, 2), 0.00% anomalous in 0 segments)
    """
    path = Path(path)

    def read(file: Path) -> tuple[pd.DataFrame, np.ndarray]:
        missing = fill is not None
        frame = read_table(file, time=time, label=label, missing=missing, **reading)
        marks = np.zeros(len(frame))
        if label is not None:
            marks = frame.pop(label).to_numpy()
            if frame.empty:
                raise ValueError(f"{file} has no sensor beside {label!r}")
        return frame, marks

    frame, marks = read(path)
    if test is not None:
        later, marks = read(Path(test))
        if list(later.columns) != list(frame.columns):
            odd = sorted(set(later.columns) ^ set(frame.columns))
            raise ValueError(
                f"{test} has other columns than {path}: {', '.join(odd) or 'their order'}"
            )
    else:
        if not 0 < train_fraction < 1:
            raise ValueError(f"train_fraction must lie in (0, 1), got {train_fraction}")
        cut = round(train_fraction * len(frame))
        if not 0 < cut < len(frame):
            raise ValueError(f"{path} has {len(frame)} rows, too few to split at {train_fraction}")
        later, marks, frame = frame[cut:], marks[cut:], frame[:cut]
    # each split by itself: no value of the test split may reach the train split
    frame, filled = fill_missing(frame, fill, path)
    later, more = fill_missing(later, fill, Path(test or path))
    channels, stamps = tuple(frame.columns), later.index if time is not None else None
    # nobody else holds these rows, so the series need not copy them
    train, rows = _frozen(frame), _frozen(later)
    del frame, later
    return Series(
        name or path.stem, train, rows, marks, channels, time=stamps, filled=filled + more
    )


def _frozen(frame: pd.DataFrame) -> np.ndarray:
    """The values of a frame, (n c), read-only and in memory of their own."""
    values = np.empty(frame.shape)
    for i, (_, column) in enumerate(frame.items()):
        values[:, i] = column
    values.flags.writeable = False
    return values
