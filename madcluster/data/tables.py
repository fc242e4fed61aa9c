"""Tables of sensors: read strictly, with errors that name file, row and column.

Rows are counted as in an editor: the header is row 1.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from madcluster.arguments import outside
from madcluster.data.series import Series

__all__ = [
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
    text, no finite number.
    """
    try:
        with path.open("rb") as file:
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
                decimal=how.decimal,
                header=0,
                names=names,
                index_col=False,
                dtype={} if how.time is None else {how.time: str},
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
                    if not (np.isfinite(part) | (how.missing & np.isnan(part))).all():
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
    edge = is_edge[codes]
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


def _lines(path: Path, encoding: str) -> list[str]:
    """The lines of a text file with their ends."""
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
    return text.removeprefix("\ufeff").splitlines(keepends=True)


def _strict(path: Path, how: _Reading) -> _Table:
    """A file whose rows all have the width of its header, or an error that says where it goes wrong."""
    lines = _lines(path, how.encoding)
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


def _numeric(cells: pd.Series, path: Path, numbers: Sequence[int], how: _Reading) -> np.ndarray:
    """A column as float64; missing cells become NaN where they are allowed."""
    # with a decimal comma, a point could only part thousands: it is left to be refused
    text = cells if how.decimal == "." else cells.str.translate(POINT_AND_COMMA)
    values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, copy=True)
    gone = np.isin(values, how.sentinels)
    odd = np.flatnonzero(gone | ~np.isfinite(values))
    known = gone[odd] | cells.iloc[odd].str.strip().str.lower().isin(how.absent).to_numpy(
        dtype=bool
    )
    values[odd] = np.nan
    bad = odd if not how.missing else odd[~known]
    if len(bad):
        row = int(bad[0])
        cell = cells.iloc[row]
        what, hint = repr(cell), ""
        if known[odd == row].any():
            what = "a missing value"
            if cells.name != how.label:  # nobody can fill in what an expert says
                hint = "; choose fill='ffill' or 'interpolate'"
        elif how.decimal == "," and "." in cell:
            hint = "; with decimal=',' a number has no point"
        elif re.fullmatch(r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*", cell):
            hint = (
                "; choose decimal=',' if its comma begins decimals, but not if it parts thousands"
            )
        elif how.decimal == "." and re.fullmatch(r"\s*[+-]?\d+,\d+\s*", cell):
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
    style = time_format or "ISO8601"
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
    if time_format is not None:
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

    Raises
    ------
    ValueError
        Naming file, row and column, for text in a number column, infinities, missing values, ragged
        rows, names that repeat or are none, and time stamps that repeat or go back.
    """
    table, index = _read(
        Path(path), time, label, missing, separator, decimal, encoding, time_format, na_values
    )
    return pd.DataFrame(table.rows, columns=table.names, index=index, copy=False)


def _read(
    path: Path,
    time: str | None = None,
    label: str | None = None,
    missing: bool = False,
    separator: str | None = None,
    decimal: str = ".",
    encoding: str = "utf-8-sig",
    time_format: str | None = None,
    na_values: Sequence[str] = (),
) -> tuple[_Table, pd.Index | None]:
    """What `read_table` reads, before it is a frame: a frame would hold its rows a second time."""
    if decimal not in (".", ","):
        raise ValueError(f"decimal must be '.' or ',', got {decimal!r}")
    if isinstance(na_values, str) or not all(isinstance(word, str) for word in na_values):
        raise ValueError(f"na_values must be a list of words, got {na_values!r}")
    absent = MISSING | {word.strip().lower() for word in na_values}
    how = _Reading(time, label, missing, separator, decimal, encoding, absent)
    table = _quick(path, how) or _strict(path, how)
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
    test : a second file with the same columns
    time : name of the column of time stamps; "" for a column without a name, such as the index of a
        frame that pandas wrote. Any other column without a name is refused: it is no sensor
    label : name of the column of labels, 0 or 1; without it no row counts as anomalous
    train_fraction : share of the rows, from the start, that are taken as normal
    fill : how to fill missing values, in each split by itself; None refuses them
    name : of the series; the file's by default
    **reading
        `separator`, `decimal`, `encoding`, `time_format` and `na_values`; see
        `madcluster.data.tables.read_table`.

    Returns
    -------
    The series; `time` and `train_time` hold its time stamps, so its frames are indexed by them.

    Raises
    ------
    ValueError
        Naming file, row and column of what is wrong.

    Warns
    -----
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
        name or path.stem,
        train,
        rows,
        marks_later,
        tuple(table.names),
        time=index,
        filled=filled + more,
        train_time=before,
    )


def _filled(
    values: np.ndarray, names: list[str], fill: Fill | None, path: Path
) -> tuple[np.ndarray, int]:
    """The rows of a split without its missing values, and how many it had."""
    frame, n = fill_missing(pd.DataFrame(values, columns=names, copy=False), fill, path)
    return (frame.to_numpy(), n) if n else (values, 0)
