"""Tables of sensors: read strictly, with errors that name file, row and column.

Rows of text are counted as in an editor: the header is row 1. Those of parquet, which has no header
among its rows, are counted as in pandas: the first is row 0.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
import re
import reprlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from madcluster.arguments import outside
from madcluster.data.formats import kind_of, opened, parquet_table
from madcluster.data.series import Series

__all__ = [
    "ClockWarning",
    "ContaminationWarning",
    "Fill",
    "check_fill",
    "fill_missing",
    "from_csv",
    "read_table",
]

Fill = Literal["ffill", "interpolate"]
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
OFFSET = r":\d\d.*?(Z|[+-]\d\d(?::?\d\d)?)\s*$"  # from UTC, after the time of day
UNNAMED = r"(Unnamed: \d+)?"  # the second is what pandas calls a column without a name
CELLS = 1 << 20  # that are read at a time
BYTES = 1 << 20  # that are looked at together
POINT_AND_COMMA = {ord("."): ",", ord(","): "."}
MOST = float(np.finfo(np.float32).max)  # no sensor reads more
UTF8 = "utf-8-sig"
FEW = 10  # rows, of which fewer do not say whether a column is a clock
UNEVEN = 1e-3  # of its step, that a clock may be off by
CLOCK = (  # "time", "Unix time", "epoch_ms" or "timestamp (min)", but not "cycle time"
    r"((unix|utc|local)[ _-]?)?(date|time|date[ _-]?time|time[ _-]?stamp|epoch)"
    r"([ _-]?(utc|local|s|sec|seconds?|ms|us|ns|min|minutes?|h|hours?))?([ _-]?[(\[].*[)\]])?"
)


class ClockWarning(UserWarning):
    """A column that goes up as a clock or an index does, or has the name of one, became a sensor."""


class ContaminationWarning(UserWarning):
    """Rows that a file labels as anomalous lie in its train split, which is learned as normal."""


class _Table(NamedTuple):
    """A file as it was read: numbers, time stamps as they are written, and where each row stands."""

    names: list[str]  # of the columns of rows
    rows: np.ndarray  # (n c) float64
    stamps: pd.Series | None
    numbers: Sequence[int]  # of the rows in an editor


class _Reading(NamedTuple):
    """How to read a file; see `read_table`."""

    time: str | None
    label: str | None
    missing: bool
    separator: str | None
    decimal: str
    encoding: str
    absent: frozenset[str]  # words for a missing value, in lower case
    packed: bool = False  # by gzip
    time_format: str | None = None

    @property
    def sentinels(self) -> list[float]:
        """Words for a missing value that are numbers, such as -999, however a cell writes them."""
        words = (
            word.translate(POINT_AND_COMMA if self.decimal == "," else {}) for word in self.absent
        )
        found = pd.to_numeric(pd.Series([*words], dtype=object), errors="coerce")
        return [float(value) for value in found if np.isfinite(value)]

    def separator_of(self, header: str, path: Path) -> str:
        """The separator that was given, or the most frequent one of the header."""
        if self.separator is not None:
            return self.separator
        separator = max(",;\t|" if self.decimal == "." else ";\t|", key=header.count)
        if self.decimal == "," and separator not in header and "," in header:
            raise ValueError(
                f"{path}: the header has commas between its names, and decimal=',' takes them for "
                f"decimals; give the separator"
            )
        return separator


def _quick(path: Path, how: _Reading) -> _Table | None:
    """A file in which nothing is unusual, by pandas' own parser and in little memory; else None.

    What is unusual is for `_strict`, which names the cell that is wrong, and takes many times as long:
    quotes around a separator or in a cell, empty lines, ragged rows, names that repeat or are none,
    text, no finite number, one beyond float32.
    """
    try:
        with opened(path, how.packed) as file:
            first = file.readline()
            header = first.decode(how.encoding).rstrip("\r\n").removeprefix("\ufeff")
            separator = how.separator_of(header, path)
            mark = separator.encode("ascii")
            if len(mark) != 1:
                return None
            names = [re.sub('^"(.*)"$', r"\1", name).strip() for name in header.split(separator)]
            lines = marks = returns = ends = 0
            last, inside = b"", False
            for block in itertools.chain([first], iter(lambda: file.read(BYTES), b"")):
                seam = last + block if len(names) == 1 or first.endswith(b"\r\n") else b""
                if b"\0" in block or b"\n\n" in seam or b"\n\r" in seam:
                    return None
                codes = np.frombuffer(block, dtype=np.uint8)
                if inside or b'"' in block or last == b'"':
                    goes_on = _quoted(codes, mark, last, inside)
                    if goes_on is None:
                        return None
                    inside = goes_on
                lines += int(np.count_nonzero(codes == ord("\n")))
                marks += int(np.count_nonzero(codes == ord(mark)))
                returns += int(np.count_nonzero(codes == ord("\r")))
                ends += seam.count(b"\r\n")
                last = block[-1:]
        n = lines + (last != b"\n") - 1
        # of rows that are too short or empty, pandas says nothing: the separators are counted
        whole = n > 0 and not inside and marks == (n + 1) * (len(names) - 1)
        if not whole or returns not in (0, lines) or returns != ends:
            return None
        if _fault(names, path, how.time):
            return None
        sensors = [name for name in names if name != how.time]
        words = {form for word in how.absent for form in (word, word.upper(), word.title())}
        values, stamps, row = np.empty((n, len(sensors))), [], 0
        with warnings.catch_warnings():
            # rows with more cells than the header would be cut
            warnings.simplefilter("error", pd.errors.ParserWarning)
            with pd.read_csv(
                path,
                sep=separator,
                encoding=how.encoding,
                compression="gzip" if how.packed else None,  # whatever its name says
                decimal=how.decimal,
                header=0,
                names=names,
                index_col=False,
                dtype={} if how.time is None else {how.time: object},  # quicker than str
                na_values={name: [*words, "NaN"] for name in sensors} if how.missing else None,
                keep_default_na=False,
                skip_blank_lines=False,
                chunksize=CELLS // len(names) + 1,
            ) as chunks:
                for chunk in chunks:
                    if how.time is not None:
                        stamps.append(chunk.pop(how.time))
                    if any(kind.kind not in "iuf" for kind in chunk.dtypes):  # text, or truth
                        return None
                    part = values[row : row + len(chunk)]
                    part[:] = chunk.to_numpy()
                    part[np.isin(part, how.sentinels)] = np.nan
                    if not (_usable(part) | (how.missing & np.isnan(part))).all():
                        return None
                    row += len(chunk)
    except (OSError, LookupError, ValueError, pd.errors.ParserWarning):
        return None  # _strict will say what it is
    if row != n:
        return None
    return _Table(sensors, values, pd.concat(stamps) if stamps else None, range(2, n + 2))


def _quoted(codes: np.ndarray, mark: bytes, last: bytes, inside: bool) -> bool | None:
    """Whether a block of bytes (n,) ends inside quotes; None if they do anything but enclose a cell.

    `last` is the byte before the block, and `inside` whether it was inside quotes.
    """
    quotes = codes == ord('"')
    open_ = np.bitwise_xor.accumulate(quotes) ^ inside  # behind each byte
    is_edge = np.zeros(256, dtype=bool)
    is_edge[np.frombuffer(mark + b"\r\n", dtype=np.uint8)] = True
    edge = codes == mark[0]  # many times as quick as to look each byte up
    edge |= codes == ord("\n")
    edge |= codes == ord("\r")
    if (edge & open_).any():  # a separator or the end of a line is in a cell
        return None
    after_edge = np.append(not last or is_edge[ord(last)], edge[:-1])
    after_closing = np.append(last == b'"' and not inside, (quotes & ~open_)[:-1])
    if (quotes & open_ & ~after_edge).any() or (after_closing & ~edge).any():
        return None
    return bool(open_[-1])


def _fault(names: list[str], path: Path, time: str | None) -> str | None:
    """What is wrong with the names of the columns, in words."""
    for place, name in enumerate(names, start=1):
        if name != time and re.fullmatch(UNNAMED, name):
            return (
                f"{path}: column {place} has no name in the header; name it, leave it out (an index of "
                f"pandas by to_csv(index=False)), or say time={name!r} if it holds the time stamps"
            )
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        return f"{path}: the header names {', '.join(map(repr, repeated))} more than once"
    if time is not None and time not in names:
        return f"{path} has no column {time!r}; it has {', '.join(names)}"
    if names == [time]:
        return f"{path} has no column beside {time!r}"
    return None


def _usable(values: np.ndarray) -> np.ndarray:
    """Where there is a number that float32 can hold."""
    return (values >= -MOST) & (values <= MOST)


def _lines(path: Path, encoding: str, packed: bool) -> list[str]:
    """The lines of a text file with their ends."""
    try:
        with opened(path, packed) as file, io.TextIOWrapper(file, encoding=encoding) as words:
            text = words.read()
    except LookupError as error:
        raise ValueError(f"encoding {encoding!r} is unknown") from error
    except UnicodeError as error:
        name = "UTF-8" if encoding == UTF8 else encoding
        where = str(error)  # such as a byte order mark that is missing
        if isinstance(error, UnicodeDecodeError):
            where = f"byte {error.start} cannot be read"
        raise ValueError(f"{path} is not {name} text: {where}; choose its encoding") from error
    if not text.strip():
        raise ValueError(f"{path} is empty")
    return text.removeprefix("\ufeff").splitlines(keepends=True)


def _strict(path: Path, how: _Reading) -> _Table:
    """A file whose rows all have the width of its header, or an error that says where it goes wrong."""
    lines = _lines(path, how.encoding, how.packed)
    separator = how.separator_of(lines[0], path)
    if len(separator) != 1:
        raise ValueError(f"separator must be one character, got {separator!r}")
    reader = csv.reader(lines, delimiter=separator, strict=True)
    names: list[str] = []
    numbers: list[int] = []
    stamps: list[str] = []
    parts: list[np.ndarray] = []

    def rows() -> Iterator[list[str]]:
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise ValueError(
                    f"{path}: row {reader.line_num} has {len(row)} columns, the header has "
                    f"{len(names)}"
                )
            if any("\0" in cell for cell in row):
                raise ValueError(
                    f"{path}: row {reader.line_num} cannot be read: it holds null characters, as text "
                    f"does that is read in another encoding than its own"
                )
            numbers.append(reader.line_num)
            yield row

    try:
        names += [name.strip() for name in next(reader)]
        if fault := _fault(names, path, how.time):
            raise ValueError(fault)
        cells = rows()
        while block := [*itertools.islice(cells, CELLS // max(1, len(names)) + 1)]:
            places = numbers[-len(block) :]
            columns = dict(zip(names, zip(*block, strict=True), strict=True))
            if how.time is not None:
                stamps += columns.pop(how.time)
            part = np.empty((len(block), len(columns)))
            for i, (name, column) in enumerate(columns.items()):
                part[:, i] = _numeric(pd.Series(column, name=name, dtype=object), path, places, how)
            parts.append(part)
    except csv.Error as error:
        raise ValueError(f"{path}: row {reader.line_num} cannot be read: {error}") from error
    if not parts:
        raise ValueError(f"{path} has a header and no rows")
    sensors = [name for name in names if name != how.time]
    times = None if how.time is None else pd.Series(stamps, name=how.time, dtype=str)
    return _Table(sensors, np.concatenate(parts), times, numbers)


MISSES = "a missing value, not a finite number"
FILL_IT = "; choose fill='ffill' or 'interpolate'"
BEYOND = "beyond what float32 holds"
NAME_IT = "; change its unit, or name it in na_values if it stands for a missing value"


def _numeric(cells: pd.Series, path: Path, numbers: Sequence[int], how: _Reading) -> np.ndarray:
    """A column as float64; missing cells become NaN where they are allowed."""
    # with a decimal comma, a point could only part thousands: it is left to be refused
    text = cells if how.decimal == "." else cells.str.translate(POINT_AND_COMMA)
    values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, copy=True)
    gone = np.isin(values, how.sentinels)
    odd = np.flatnonzero(gone | ~_usable(values))
    known = gone[odd] | cells.iloc[odd].str.strip().str.lower().isin(how.absent).to_numpy(
        dtype=bool
    )
    bad = odd if not how.missing else odd[~known]
    if len(bad):
        row = int(bad[0])
        cell = cells.iloc[row]
        what, hint = f"{cell!r}, not a finite number", ""
        if known[odd == row].any():
            what = MISSES
            if cells.name != how.label:  # nobody can fill in what an expert says
                hint = FILL_IT
        elif np.isfinite(values[row]):
            what, hint = f"{cell!r}, {BEYOND}", NAME_IT
        elif re.fullmatch(r"\s*#[\w/]+[!?]?\s*", cell):
            hint = "; it is an error of a spreadsheet: mend it there"
            if cells.name != how.label:
                hint += f", or take it as missing by na_values=[{cell.strip()!r}] and fill"
        elif how.decimal == "," and "." in cell:
            hint = "; with decimal=',' a number has no point"
        elif re.fullmatch(r"\s*[+-]?\d{1,3}(,\d{3})+(\.\d*)?\s*", cell) and (
            re.search(r",.*[,.]", cell) or cells.str.contains(".", regex=False).any()
        ):
            hint = "; a comma that parts thousands is not read: write the file without"
        elif re.fullmatch(r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*", cell):
            hint = (
                "; choose decimal=',' if its comma begins decimals, but not if it parts thousands"
            )
        elif how.decimal == "." and re.fullmatch(r"\s*[+-]?\d+,\d+\s*", cell):
            hint = "; choose decimal=','"
        raise ValueError(f"{path}: row {numbers[row]}, column {cells.name!r} holds {what}{hint}")
    values[odd] = np.nan
    return values


def _dates(
    cells: pd.Series, path: Path, numbers: Sequence[int], time_format: str | None
) -> pd.Series:
    """Dates, or NaT where there is none; in UTC if their offsets differ, as with summer time."""
    style = time_format or "ISO8601"
    with contextlib.suppress(ValueError):  # nearly always all are dates of one offset, or of none
        return pd.to_datetime(cells, format=style)
    offsets: list[str | None] = [None]
    texts = cells.to_numpy(dtype=object)
    if re.search(OFFSET, "\n".join(texts), re.MULTILINE):  # many times as quick as cell by cell
        found = (re.search(OFFSET, text) for text in texts)
        offsets = [match and match[1] for match in found]
    without = np.array([offset is None for offset in offsets])
    if without.any() and not without.all():
        row = int(np.argmax(without))
        raise ValueError(
            f"{path}: row {numbers[row]}, column {cells.name!r} holds {cells.iloc[row]!r}, without the "
            f"time zone that other rows have"
        )
    try:
        return pd.to_datetime(cells, errors="coerce", format=style, utc=len({*offsets}) > 1)
    except ValueError as error:
        raise ValueError(
            f"{path}: column {cells.name!r} cannot be read with time_format {style!r}: {error}"
        ) from error


def _time_index(
    cells: pd.Series,
    path: Path,
    numbers: Sequence[int],
    time_format: str | None,
    decimal: str,
) -> pd.Index:
    """Time stamps, as numbers or as dates; increasing, each once."""
    if not pd.api.types.is_string_dtype(cells):
        values, kind = cells, "a number or a date"  # parquet says which
    elif time_format is not None:
        values, kind = _dates(cells, path, numbers, time_format), f"of the form {time_format!r}"
    else:
        text = cells if decimal == "." else cells.str.translate(POINT_AND_COMMA)
        kind = "a number or an ISO 8601 date"
        ways = (
            lambda: pd.to_numeric(text, errors="coerce"),
            lambda: _dates(cells, path, numbers, None),
        )
        # the first cell says which it is: a long column is read once
        values = ways[int(pd.to_numeric(text[:1], errors="coerce").isna().any())]()
        if values.isna().any():
            values = min((way() for way in ways), key=lambda v: v.isna().sum())
    no_time = values.isin([np.inf, -np.inf]) | values.isna()
    if no_time.any():
        row = int(np.argmax(no_time.to_numpy()))
        raise ValueError(
            f"{path}: row {numbers[row]}, column {cells.name!r} holds {str(cells.iloc[row])!r}, not "
            f"{kind}"
        )
    index = pd.Index(values, name=str(cells.name))
    for fault, wrong in (
        ("repeats a time stamp", index.duplicated()),
        ("goes back in time", np.r_[False, index[1:] < index[:-1]]),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"{path}: row {numbers[row]}, column {cells.name!r} {fault}: "
                f"{str(cells.iloc[row])!r}; where a clock is set back, stamps need their time zone"
            )
    return index


def _parquet(path: Path, how: _Reading) -> _Table:
    """A parquet file, column by column, with the checks of text.

    What pandas wrote as the index of a frame is no sensor: it is `time`, or it is refused, but for one
    without a name that only counts.
    """
    for option, value, usual in (
        ("separator", how.separator, None),
        ("decimal", how.decimal, "."),
        ("encoding", how.encoding, UTF8),
    ):
        if value != usual:
            raise ValueError(f"{option} is for text, and {path} is parquet: leave it out")
    with parquet_table(path) as table:
        names, n = table.names, table.n_rows
        counted = table.ranges.get(how.time) if how.time is not None else None
        for name in (*table.levels, *filter(None, table.ranges)):
            if name != how.time:
                raise ValueError(
                    f"{path}: the index {name!r} of the frame is no sensor; say time={name!r} if it "
                    f"holds the time stamps, or leave it out by to_parquet(index=False)"
                )
        if fault := _fault(names if counted is None else [*names, str(how.time)], path, how.time):
            raise ValueError(fault)
        if not names:
            raise ValueError(f"{path} has no column")
        if not n:
            raise ValueError(f"{path} has columns and no rows")
        sensors = [name for name in names if name != how.time]
        values, stamps = np.empty((n, len(sensors))), []
        for place, row, array in table.parts():
            name = names[place]
            if name == how.time:
                stamps.append(_stamps(array, path, row, how))
            else:
                found = _values(array, name, path, row, how)
                values[row : row + len(found), sensors.index(name)] = found
    times = None
    if counted is not None:
        times = pd.Series(np.asarray(counted), name=how.time)
    elif stamps:
        times = pd.concat(stamps, ignore_index=True).rename(how.time)
    if (
        how.time_format is not None
        and times is not None
        and not pd.api.types.is_string_dtype(times)
    ):
        raise ValueError(
            f"time_format is for time stamps that are text, and column {how.time!r} of {path} holds "
            f"{times.dtype}: leave it out"
        )
    return _Table(sensors, values, times, range(n))


def _values(column: Any, name: str, path: Path, first: int, how: _Reading) -> np.ndarray:
    """A part of a column of parquet, from row `first` on, as float64; missing values become NaN."""
    from pyarrow import float64, types

    kind, where = column.type, f"column {name!r} holds"
    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    if not numeric and not types.is_boolean(kind) and column.null_count < len(column):
        row = int(np.argmax(column.is_valid().to_numpy(zero_copy_only=False)))
        cell = column[row].as_py()
        shown = reprlib.repr(cell) if isinstance(cell, str) else str(cell)[:40]
        hint = f"; say time={name!r} if it is the time" if types.is_temporal(kind) else ""
        raise ValueError(
            f"{path}: row {first + row}, {where} {shown} of type {kind}, not a finite number{hint}"
        )
    if column.null_count == len(column):
        values = np.full(len(column), np.nan)
    else:
        values = column.cast(float64(), safe=False).to_numpy(zero_copy_only=False)
    gone = np.isin(values, how.sentinels) | np.isnan(values)
    bad = ~(gone | _usable(values)) | (gone & (not how.missing))
    if bad.any():
        row = int(np.argmax(bad))
        what, hint = f"{values[row]}, not a finite number", ""
        if gone[row]:
            what, hint = MISSES, "" if name == how.label else FILL_IT
        elif np.isfinite(values[row]):
            what, hint = f"{values[row]}, {BEYOND}", NAME_IT
        raise ValueError(f"{path}: row {first + row}, {where} {what}{hint}")
    return np.where(gone, np.nan, values)


def _stamps(column: Any, path: Path, first: int, how: _Reading) -> pd.Series:
    """Time stamps of parquet, from row `first` on: dates, numbers, or text."""
    from pyarrow import float64, timestamp, types

    kind = column.type
    if types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if types.is_string(kind) or types.is_large_string(kind):
        return pd.Series(column.fill_null("").to_pylist(), dtype=str)
    if types.is_date(kind):
        column = column.cast(timestamp("ms"))
    elif types.is_decimal(kind):
        column = column.cast(float64(), safe=False)
    elif not (types.is_timestamp(kind) or types.is_integer(kind) or types.is_floating(kind)):
        raise ValueError(
            f"{path}: row {first}, column {how.time!r} holds {column[0].as_py()} of type {kind}, "
            f"neither a number nor a date; write it as one of them"
        )
    return column.to_pandas()


def read_table(
    path: str | os.PathLike[str],
    *,
    time: str | None = None,
    label: str | None = None,
    missing: bool = False,
    separator: str | None = None,
    decimal: Literal[".", ","] = ".",
    encoding: str = UTF8,
    time_format: str | None = None,
    na_values: Sequence[str] = (),
) -> pd.DataFrame:
    """A table of finite numbers with a header, as float64, indexed by its time stamps.

    Parameters
    ----------
    path : text, also packed by gzip, or parquet
        Told by its first bytes, whatever its name. Parquet needs pyarrow; its columns hold numbers or
        booleans, which are 0 and 1. The index of a frame that pandas wrote there can be `time`, and is
        refused as a sensor; one without a name that only counts is left out.
    time : name of the column of time stamps, numbers or ISO 8601 dates, "" for a column without a
        name; where their offsets from UTC differ, as with summer time, the index is in UTC
    label : name of a column that must hold 0 or 1
    missing : let missing values through as NaN
    separator : guessed from the header if not given; never a comma where that is decimal
    decimal : "." or ","; no thousands separators
    encoding : such as "cp1252"; UTF-8 by default
    time_format : of dates that are not ISO 8601, such as "%d.%m.%Y %H:%M"
    na_values : further words for a missing value, such as "BAD"; one that is a number, such as
        "-999", stands for every way to write it

    For parquet, `separator`, `decimal` and `encoding` are refused, and so is `time_format`, but for
    time stamps that are text. Of `na_values` those that are numbers count: no cell can hold another.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        For parquet, if pyarrow is not installed.
    ValueError
        Naming file, row and column, for text in a number column, infinities, numbers beyond float32,
        missing values, ragged rows, names that repeat or are none, and time stamps that repeat or go
        back. Rows of text are counted from 1, which is the header, those of parquet from 0. Naming the
        file and what it is, for one of another kind, such as a workbook, and for one that is damaged.

    Warns
    -----
    ClockWarning
        Without `time`, for a column that goes up as a clock or an index does, or has the name of one.
    """
    table, index = _read(
        Path(path), time, label, missing, separator, decimal, encoding, time_format, na_values
    )
    _look_for_clocks(table, Path(path), time)
    return pd.DataFrame(table.rows, columns=table.names, index=index, copy=False)


def _read(
    path: Path,
    time: str | None = None,
    label: str | None = None,
    missing: bool = False,
    separator: str | None = None,
    decimal: str = ".",
    encoding: str = UTF8,
    time_format: str | None = None,
    na_values: Sequence[str] = (),
) -> tuple[_Table, pd.Index | None]:
    """What `read_table` reads, before it is a frame: a frame would hold its rows a second time."""
    if decimal not in (".", ","):
        raise ValueError(f"decimal must be '.' or ',', got {decimal!r}")
    if isinstance(na_values, str) or not all(isinstance(word, str) for word in na_values):
        raise ValueError(f"na_values must be a list of words, got {na_values!r}")
    absent = MISSING | {word.strip().lower() for word in na_values}
    kind = kind_of(path, encoding)
    how = _Reading(
        time, label, missing, separator, decimal, encoding, absent, kind == "gzip", time_format
    )
    table = _parquet(path, how) if kind == "parquet" else _quick(path, how) or _strict(path, how)
    _check_labels(table, label, path)
    if table.stamps is None:
        return table, None
    return table, _time_index(table.stamps, path, table.numbers, time_format, decimal)


def _check_labels(table: _Table, label: str | None, path: Path) -> None:
    """Look at the column of labels, if there is to be one."""
    if label is None:
        return
    if label not in table.names:
        raise ValueError(f"{path} has no column {label!r}; it has {', '.join(table.names)}")
    values = table.rows[:, table.names.index(label)]
    wrong = ~np.isin(values, (0, 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{path}: row {table.numbers[row]}, column {label!r} holds {values[row]}, not 0 or 1"
        )


def check_fill(fill: str | None) -> None:
    """Refuse another way to fill than those there are, before anything is read."""
    if fill not in (*get_args(Fill), None):
        raise ValueError(f"fill must be 'ffill', 'interpolate' or None, got {fill!r}")


def fill_missing(frame: pd.DataFrame, fill: Fill | None, path: Path) -> tuple[pd.DataFrame, int]:
    """Fill missing values the way that was asked for, and count them.

    "ffill" repeats the last value, "interpolate" draws a line between neighbors; either takes the
    first known value for what comes before it.

    Raises
    ------
    ValueError
        If there is a missing value and `fill` is None, or a column holds nothing else.
    """
    check_fill(fill)
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
        Text, also packed by gzip, or parquet, which needs pyarrow.
    test : a second file with the same columns
    time : name of the column of time stamps; "" for a column without a name, such as the index of a
        frame that pandas wrote. Any other column without a name is refused: it is no sensor
    label : name of the column of labels, 0 or 1; without it no row counts as anomalous
    train_fraction : share of the rows, from the start, that are taken as normal
    fill : how to fill missing values, in each split by itself; None refuses them
    name : of the series; the file's by default, without its ending
    **reading
        `separator`, `decimal`, `encoding`, `time_format` and `na_values`; see
        `madcluster.data.tables.read_table`.

    Returns
    -------
    The series; `time` and `train_time` hold its time stamps, so its frames are indexed by them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        For parquet, if pyarrow is not installed.
    ValueError
        Naming file, row and column of what is wrong.

    Warns
    -----
    ClockWarning
        If `time` is not given and a column of at least 10 rows goes up by the same step from each row
        to the next, as an index or seconds since 1970 do, or has a name such as "timestamp" or "date":
        it would be a sensor.
    ContaminationWarning
        If rows of the train split are labeled 1, with their number, the first of them, and a remedy:
        a detector would learn them as normal.

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
    check_fill(fill)

    def read(file: Path) -> tuple[_Table, pd.Index | None, np.ndarray]:
        table, index = _read(file, time, label, fill is not None, **reading)
        names, values = table.names, table.rows
        marks = np.zeros(len(values), dtype=bool)
        if label is not None:
            place = names.index(label)
            marks = values[:, place] == 1
            names = names[:place] + names[place + 1 :]
            if not names:
                raise ValueError(f"{file} has no sensor beside {label!r}")
            values = np.delete(values, place, axis=1)
        # nobody else holds these rows: the series takes parts of them as they are
        values.flags.writeable = False
        return table._replace(names=names, rows=values), index, marks

    table, before, marks = read(path)
    _look_for_clocks(table, path, time)
    if test is not None:
        later, index, marks_later = read(Path(test))
        train, rows = table.rows, later.rows
        if later.names != table.names:
            odd = sorted(set(later.names) ^ set(table.names))
            raise ValueError(
                f"{test} has other columns than {path}: {', '.join(odd) or 'their order'}"
            )
        remedy = "take them out of it"
    else:
        n = len(table.rows)
        if not 0 < train_fraction < 1:
            raise ValueError(f"train_fraction must lie in (0, 1), got {train_fraction}")
        cut = round(train_fraction * n)
        if not 0 < cut < n:
            raise ValueError(f"{path} has {n} rows, too few to split at {train_fraction}")
        train, rows = table.rows[:cut], table.rows[cut:]
        marks, marks_later = marks[:cut], marks[cut:]
        before, index = (None, None) if before is None else (before[:cut], before[cut:])
        remedy = "give normal rows in a file of their own, and this one as test"
        largest = np.floor(1000 * np.argmax(marks) / n) / 1000
        if largest * n >= 1:
            remedy = f"end the train split before it, with train_fraction={largest:g}, or {remedy}"
    if marks.any():
        row = table.numbers[int(np.argmax(marks))]
        warnings.warn(
            f"{path}: {int(marks.sum())} of the {len(marks)} rows of the train split are labeled 1 in "
            f"column {label!r}, the first is row {row}; they are learned as normal: {remedy}",
            ContaminationWarning,
            stacklevel=outside(),
        )
    # each split by itself: no value of the test split may reach the train split
    train, filled = _filled(train, table.names, fill, path)
    rows, more = _filled(rows, table.names, fill, Path(test or path))
    return Series(
        name or Path(path.stem if path.suffix.lower() == ".gz" else path).stem,
        train,
        rows,
        marks_later,
        tuple(table.names),
        time=index,
        filled=filled + more,
        train_time=before,
    )


def _look_for_clocks(table: _Table, path: Path, time: str | None) -> None:
    """Warn of columns that are a clock or an index, where none was named as such."""
    if time is not None:
        return
    for column, reason in _clocks(table):
        warnings.warn(
            f"{path}: column {column!r} {reason}, and is taken as a sensor: say time={column!r}, or "
            f"leave it out of the file",
            ClockWarning,
            stacklevel=outside(),
        )


def _clocks(table: _Table) -> Iterator[tuple[str, str]]:
    """Columns that are a clock or an index, and how that is seen; of few rows nothing can be said."""
    if len(table.rows) < FEW:
        return
    for name, column in zip(table.names, table.rows.T, strict=True):
        if _even(column[:FEW]) and _even(column):
            yield name, "goes up by the same step from row to row, as a clock or an index does"
        elif re.fullmatch(CLOCK, name, re.IGNORECASE) and (column != column[0]).any():
            yield name, "has the name of a clock"


def _even(values: np.ndarray) -> bool:
    """Whether numbers go up by the same step, as far as they are exact; NaN does not."""
    steps = np.diff(values)
    step = (values[-1] - values[0]) / len(steps)
    slack = UNEVEN * step + 4 * np.spacing(np.abs(values).max())
    return bool(steps.min() > 0 and (np.abs(steps - step) <= slack).all())


def _filled(
    values: np.ndarray, names: list[str], fill: Fill | None, path: Path
) -> tuple[np.ndarray, int]:
    """The rows of a split without its missing values, and how many it had."""
    frame, n = fill_missing(pd.DataFrame(values, columns=names, copy=False), fill, path)
    return (frame.to_numpy(), n) if n else (values, 0)
