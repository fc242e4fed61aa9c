"""What a file is, by its first bytes: text, gzip or parquet, or what cannot be read as a table here."""

from __future__ import annotations

import codecs
import gzip
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast

__all__ = ["Kind", "kind_of"]

Kind = Literal["text", "gzip", "parquet"]
HEAD = 512  # bytes, by which the kind is told; a tar archive is known by those from 257
GZIP = b"\x1f\x8b"
PARQUET = rb"PAR1[\0-\x08\x0e-\x1f]"  # a header of text that begins so goes on with what is printed
OTHERS = (
    (
        rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an Excel workbook (.xls) or another Office document",
        "save the sheet as CSV",
    ),
    (rb"SQLite format 3\0", "an SQLite database", "export its table as CSV"),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file", "write its table as CSV or parquet"),
    (rb"MATLAB \d", "a MATLAB file", "write its table as CSV by writetable"),
    (
        rb"ARROW1\0|FEA1\0",
        "a Feather (Arrow) file",
        "write it as parquet, by pandas.read_feather(…).to_parquet(…)",
    ),
    (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", "packed by bzip2", "unpack it by bunzip2"),
    (rb"\xfd7zXZ\0", "packed by xz", "unpack it by unxz"),
    (rb"\x28\xb5\x2f\xfd", "packed by zstd", "unpack it by unzstd"),
    (rb".{257}ustar", "a tar archive", "unpack it and give one of its files"),
    # a header can begin with [bar], but not with what follows a bracket in JSON
    (
        rb"(\xef\xbb\xbf)?\s*(\{\s*[\"}]|\[\s*([\"\[{\]]|-?\d[^\]]*[,\n]))",
        "JSON",
        "write its table as CSV, such as by pandas.read_json(…).to_csv(…, index=False)",
    ),
)
WIDE = (  # the longer mark first: it begins with the shorter
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@contextmanager
def opened(path: Path, packed: bool = False) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked if it is `packed` by gzip.

    Raises
    ------
    ValueError
        While it is read, if what is packed was cut off or damaged.
    """
    with gzip.open(path) if packed else path.open("rb") as file:
        try:
            yield cast(IO[bytes], file)
        except EOFError as error:
            raise ValueError(f"{path} is gzip that was cut off: copy it anew") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is gzip that is damaged ({error}): copy it anew") from error


def kind_of(path: Path, encoding: str) -> Kind:
    """What kind of table a file is, whatever its name.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is of a kind that is not read, such as a workbook, with a remedy; if it is text in UTF-16
        or UTF-32 by its byte order mark, and `encoding` is another; if it is gzip that is cut off or
        damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}")
    with opened(path) as file:
        head = file.read(HEAD)
        packed = head.startswith(GZIP)
        if not packed:
            if re.match(PARQUET, head):
                return "parquet"
            _refuse(path, head, file, encoding, "is")
            return "text"
    with opened(path, packed=True) as file:
        head = file.read(HEAD)
        if head.startswith(GZIP) or re.match(PARQUET, head):
            what = "parquet" if head.startswith(b"P") else "gzip"
            raise ValueError(f"{path} is gzip of {what}, not of text: unpack it by gunzip")
        _refuse(path, head, file, encoding, "is gzip; what it holds is")
    return "gzip"


def _refuse(path: Path, head: bytes, file: IO[bytes], encoding: str, verb: str) -> None:
    """An error for what is neither text in this encoding nor anything else that is read."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        if _holds_a_workbook(file):
            raise ValueError(f"{path} {verb} an Excel workbook, not text: save the sheet as CSV")
        raise ValueError(
            f"{path} {verb} a zip archive, not text: unpack it and give one of its files"
        )
    for mark, name in WIDE:
        if head.startswith(mark):
            try:
                family = codecs.lookup(encoding).name[:6]
            except LookupError:  # which the reader of text will name
                return
            if family not in ("utf-16", "utf-32"):
                raise ValueError(f"{path} {verb} text in {name.upper()}: choose encoding={name!r}")
            return
    for pattern, what, remedy in OTHERS:
        if re.match(pattern, head, re.DOTALL):
            raise ValueError(f"{path} {verb} {what}, not a table of text: {remedy}")


def _holds_a_workbook(file: IO[bytes]) -> bool:
    """Whether a zip archive is one of Excel."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.startswith("xl/") for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return False


class ParquetTable(NamedTuple):
    """A parquet file that is open: its columns, and which of them were the index of a frame."""

    names: list[str]  # of the columns, in their order
    levels: frozenset[str]  # those of names that were the index of a frame of pandas
    ranges: dict[str, range]  # indexes that are not stored, for they only count; "" has no name
    n_rows: int
    file: Any  # pyarrow.parquet.ParquetFile

    def parts(self) -> Iterator[tuple[int, int, Any]]:
        """Place of a column, first row, and an Arrow array of its values from there on.

        One column of a group of rows is in memory at a time: rows would take several times as much.
        """
        row = 0
        for group in range(self.file.num_row_groups):
            end = row + self.file.metadata.row_group(group).num_rows
            for place, name in enumerate(self.file.schema_arrow.names):
                at = row
                # to ask for "a" brings "a.b" as well
                for array in self.file.read_row_group(group, columns=[name]).column(name).chunks:
                    yield place, at, array
                    at += len(array)
                if at != end:
                    raise OSError(
                        f"column {name!r} has {at - row} rows where {end - row} should be"
                    )
            row = end
        if row != self.n_rows:
            raise OSError(f"it has {row} rows where {self.n_rows} should be")


@contextmanager
def parquet_table(path: Path) -> Iterator[ParquetTable]:
    """A parquet file, open.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    ValueError
        If the file is damaged, also while it is read.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f"{path} is parquet; to read it needs pyarrow: python -m pip install pyarrow"
        ) from error
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            try:
                table = _table(file)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise OSError("what pandas noted of its index is not understood") from error
            yield table
    except (pyarrow.ArrowException, OSError) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(f"{path} is parquet that cannot be read: {first}") from error


def _table(file: Any) -> ParquetTable:
    """What the schema says, and what pandas wrote beside it about the index."""
    schema, n_rows = file.schema_arrow, file.metadata.num_rows
    names = [name.strip() for name in schema.names]
    about = schema.pandas_metadata or {}
    said = {column.get("field_name"): column.get("name") for column in about.get("columns", [])}
    levels, ranges = set(), {}
    for level in about.get("index_columns", []):
        if isinstance(level, dict):
            counted = range(level["start"], level["stop"], level["step"])
            if len(counted) == n_rows:  # others have taken rows out, and left the note as it was
                ranges[level["name"] or ""] = counted
        elif level in schema.names:
            place = schema.names.index(level)
            names[place] = said.get(level) or ""
            levels.add(names[place])
    return ParquetTable(names, frozenset(levels), ranges, n_rows, file)
