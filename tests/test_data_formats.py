"""What a file is is told by its bytes: gzip and parquet are read as text is, others are named."""

import datetime
import gzip
import io
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from madcluster import from_csv
from madcluster.data import tables
from madcluster.data.formats import kind_of
from madcluster.data.tables import read_table

N = 12
FRAME = pd.DataFrame({"a": np.arange(N) % 5 * 1.5, "b": np.arange(N) % 3})
MINUTES = pd.date_range("2026-03-01", periods=N, freq="min", name="t")


def archive(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for name in names:
            packed.writestr(name, "x")
    return content.getvalue()


@pytest.fixture
def write(tmp_path):
    def write(content, name="plant.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def parquet(tmp_path):
    pytest.importorskip("pyarrow")

    def parquet(frame, **options):
        frame.to_parquet(tmp_path / "plant.parquet", **options)
        return tmp_path / "plant.parquet"

    return parquet


# --- kinds ----------------------------------------------------------------------------------------

OTHERS = {
    "plant.xlsx": (
        archive("[Content_Types].xml", "xl/workbook.xml"),
        "an Excel workbook, not text: save the sheet as CSV",
    ),
    "plant.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "an Excel workbook"),
    "plant.zip": (archive("plant.csv"), "a zip archive, not text: unpack it"),
    "cut.zip": (archive("plant.csv")[:40], "a zip archive, not text: unpack it"),
    "empty.zip": (archive(), "a zip archive"),
    "plant.db": (b"SQLite format 3\0" + bytes(600), "an SQLite database"),
    "plant.h5": (b"\x89HDF\r\n\x1a\n" + bytes(600), "an HDF5 file"),
    "plant.mat": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64", "a MATLAB file"),
    "plant.feather": (b"ARROW1\0\0" + bytes(600), "a Feather .* write it as parquet"),
    "old.feather": (b"FEA1\0\0\0\0" + bytes(600), "a Feather"),
    "plant.csv.bz2": (b"BZh91AY&SY" + bytes(20), "packed by bzip2.* bunzip2"),
    "plant.csv.xz": (b"\xfd7zXZ\0" + bytes(20), "packed by xz.* unxz"),
    "plant.csv.zst": (b"\x28\xb5\x2f\xfd" + bytes(20), "packed by zstd.* unzstd"),
    "plant.tar": (b"plant.csv".ljust(257, b"\0") + b"ustar\0" + bytes(600), "a tar archive"),
    "object.json": ('{"a": [1, 2]}', "JSON"),
    "spaced.json": ('\ufeff\n{\n  "a": [1, 2]\n}', "JSON"),
    "records.json": ('[{"a": 1}, {"a": 2}]', "JSON"),
    "rows.json": ("[[1, 2], [3, 4]]", "JSON"),
    "numbers.json": ("[-1.5, 2]", "JSON"),
    "lines.json": ("[\n1,\n2\n]", "JSON"),
    "utf16.csv": ("a,b\n1,2\n".encode("utf-16"), "text in UTF-16: choose encoding='utf-16'"),
    "big.csv": (
        b"\xfe\xff" + "a,b\n".encode("utf-16-be"),
        "text in UTF-16: choose encoding='utf-16'",
    ),
    "utf32.csv": ("a,b\n1,2\n".encode("utf-32"), "text in UTF-32: choose encoding='utf-32'"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("packed", [False, True])
def test_files_of_other_kinds_are_named_for_what_they_are(write, name, packed):
    content, message = OTHERS[name]
    content = content if isinstance(content, bytes) else content.encode()
    path = write(gzip.compress(content) if packed else content, name)
    with pytest.raises(ValueError, match=f"{name} is (gzip; what it holds is )?{message}"):
        read_table(path)


@pytest.mark.parametrize(
    "header", ["[bar],[K]", "[1],[2]", "{a},b", "PAR1,PAR2", "ARROW1,b", "FEA1,b", "BZh9,b", "PK,b"]
)
def test_a_header_that_only_looks_like_another_kind_is_read(write, header):
    path = write(f"{header}\n1,2\n")
    assert kind_of(path, "utf-8-sig") == "text"
    assert read_table(path).to_numpy().tolist() == [[1, 2]]


def test_text_in_wide_characters_is_read_in_its_encoding(write):
    for encoding in ("utf-16", "UTF_16", "utf-32"):
        path = write("a,b\n1,2\n".encode(encoding))
        assert read_table(path, encoding=encoding).to_numpy().tolist() == [[1, 2]]


# --- gzip -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plant.csv.gz", "plant.csv"])
def test_gzip_is_read_as_the_text_that_it_holds(write, name):
    text = "t,a\n" + "".join(f"{i},{i % 3}\n" for i in range(1000))
    half = text.index("\n500,") + 1
    parts = [gzip.compress(part.encode()) for part in (text[:half], text[half:])]  # as logs grow
    series = from_csv(write(b"".join(parts), name), time="t")
    plain = from_csv(write(text, "plain.csv.gz"), time="t")  # whatever its name says
    assert (series.name, plain.name) == ("plant", "plain")
    np.testing.assert_array_equal(series.train, plain.train)
    np.testing.assert_array_equal(series.test, plain.test)
    assert series.time.tolist() == [*range(500, 1000)]


def test_gzip_takes_the_quick_way_and_the_strict_way(write, monkeypatch):
    plain, quoted = b"a;b\n1,5;2\n\n3;4\n", b"a;b\n1,5;2\n3;4\n"
    how = tables._Reading(None, None, False, None, ",", "utf-8-sig", tables.MISSING, packed=True)
    path = write(gzip.compress(quoted))
    assert tables._quick(path, how).rows.tolist() == [[1.5, 2], [3, 4]]
    path = write(gzip.compress(plain))  # an empty line is for the strict way
    assert tables._quick(path, how) is None
    assert read_table(path, decimal=",").to_numpy().tolist() == [[1.5, 2], [3, 4]]
    path = write(gzip.compress("a,é\n1,2\n3,x\n".encode("cp1252")))
    with pytest.raises(ValueError, match="row 3, column 'é' holds 'x'"):
        read_table(path, encoding="cp1252")


def test_gzip_that_is_cut_off_or_damaged_says_so(write):
    rng = np.random.default_rng(0)
    text = "a,b\n" + "".join(f"{x},{y}\n" for x, y in rng.normal(size=(3000, 2)))
    whole = gzip.compress(text.encode())
    for n in (3, 12, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        with pytest.raises(ValueError, match=r"plant\.csv is gzip that was cut off: copy it anew"):
            read_table(write(whole[:n]))
    for place in (len(whole) // 2, -6, -2):  # what is packed, its checksum, its length
        damaged = bytearray(whole)
        damaged[place] ^= 255
        with pytest.raises(
            ValueError, match=r"plant\.csv is gzip that is damaged .*: copy it anew"
        ):
            read_table(write(bytes(damaged)))
    with pytest.raises(ValueError, match="is gzip of gzip, not of text: unpack it"):
        read_table(write(gzip.compress(whole)))


# --- parquet --------------------------------------------------------------------------------------


def test_parquet_is_read_as_the_text_of_the_same_table(parquet, tmp_path):
    frame = FRAME.assign(t=MINUTES, y=(np.arange(N) > 8).astype(int))
    path, text = parquet(frame), tmp_path / "plant.csv"
    frame.to_csv(text, index=False)
    series, same = (from_csv(file, time="t", label="y") for file in (path, text))
    assert (series.name, series.channels) == ("plant", ("a", "b"))
    np.testing.assert_array_equal(series.train, same.train)
    np.testing.assert_array_equal(series.test, same.test)
    np.testing.assert_array_equal(series.labels, same.labels)
    assert (series.time == same.time).all()
    assert (series.train_time == same.train_time).all()
    pd.testing.assert_frame_equal(read_table(parquet(FRAME)), FRAME.astype(float))
    path = path.rename(tmp_path / "plant.dat")
    assert kind_of(path, "utf-8-sig") == "parquet"


def test_parquet_is_read_in_groups_with_rows_from_0(parquet):
    few = {"row_group_size": 5}
    pd.testing.assert_frame_equal(read_table(parquet(FRAME, **few)), FRAME.astype(float))
    index = read_table(parquet(FRAME.set_index(MINUTES), **few), time="t").index
    assert (index == MINUTES).all()
    path = parquet(FRAME.assign(a=np.where(np.arange(N) == 7, np.inf, 0)), **few)
    with pytest.raises(ValueError, match=r"plant\.parquet: row 7, column 'a' holds inf, not a"):
        read_table(path)


@pytest.mark.parametrize(
    "index",
    [
        MINUTES,
        MINUTES.tz_localize("Europe/Berlin"),
        pd.RangeIndex(5, 5 + 2 * N, 2, name="t"),
        pd.Index(np.arange(N) * 2.5, name="t"),
        pd.Index([datetime.date(2026, 3, i + 1) for i in range(N)], name="t"),
        pd.Index([f"2026-03-{i + 1:02d}" for i in range(N)], name="t"),
    ],
    ids=["dates", "time zone", "range", "numbers", "days", "text"],
)
def test_the_index_that_pandas_wrote_is_the_time_or_is_refused(parquet, index):
    path = parquet(FRAME.set_index(index))
    read = read_table(path, time="t")
    assert read.columns.tolist() == ["a", "b"]
    wanted = index if index.dtype.kind in "iufM" else pd.to_datetime(index)
    assert read.index.name == "t"
    assert (read.index == wanted).all()
    with pytest.raises(ValueError, match="the index 't' of the frame is no sensor; say time='t'"):
        read_table(path)


def test_an_index_without_a_name(parquet):
    assert list(read_table(parquet(FRAME[3:]))) == ["a", "b"]  # it only counts
    assert read_table(parquet(FRAME[3:]), time="").index.tolist() == [*range(3, N)]
    dated = FRAME.set_index(MINUTES.rename(None))
    assert (read_table(parquet(dated), time="").index == MINUTES).all()
    for frame in (dated, FRAME.iloc[[1, 5, 3]]):
        with pytest.raises(ValueError, match=r"index '' of the frame .*to_parquet\(index=False\)"):
            read_table(parquet(frame))
    assert list(read_table(parquet(dated, index=False))) == ["a", "b"]


def test_parquet_that_has_lost_rows_since_pandas_wrote_it(parquet):
    from pyarrow import parquet as pq

    path = parquet(FRAME.set_index(pd.RangeIndex(N, name="t")))
    pq.write_table(pq.read_table(path).slice(2, 4), path)
    assert len(read_table(path)) == 4  # its note of a range is no longer true
    with pytest.raises(ValueError, match="has no column 't'"):
        read_table(path, time="t")


def test_numbers_and_missing_values_of_parquet(parquet):
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], dtype="Int32"),
            "half": np.array([0.5, np.nan, 1.5], dtype=np.float32),
            "on": [True, False, True],
            "spare": [None, None, None],
            "odd": [-999.0, 2, 3],
            "with.point": [7, 8, 9],
            "with": [4, 5, 6],
        }
    )
    path = parquet(frame)
    found = read_table(path, missing=True, na_values=["-999", "BAD"])
    nan = np.nan
    rows = [[1, 0.5, 1, nan, nan, 7, 4], [nan, nan, 0, nan, 2, 8, 5], [3, 1.5, 1, nan, 3, 9, 6]]
    np.testing.assert_array_equal(found.to_numpy(), rows)
    assert found.columns.tolist() == list(frame)
    holed = frame[["whole", "half"]]
    with pytest.raises(ValueError, match=r"row 1, column 'whole' holds a missing value, .*fill="):
        from_csv(parquet(holed))
    assert from_csv(parquet(holed), fill="ffill", train_fraction=0.7).filled == 2
    labels = FRAME.assign(y=np.arange(N) > 8)
    assert from_csv(parquet(labels), label="y").labels.tolist() == [False] * 3 + [True] * 3


def changed(column, row, value):
    frame = FRAME.assign(t=MINUTES).astype({column: object} if isinstance(value, str) else {})
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (FRAME.assign(b="x"), {}, "row 0, column 'b' holds 'x' of type .*string, not a finite"),
        (FRAME.assign(b=[None, "x"] * 6), {}, "row 1, column 'b' holds 'x'"),
        (FRAME.assign(b=[[1]] * N), {}, r"row 0, column 'b' holds \[1\] of type list"),
        (
            FRAME.assign(d=MINUTES),
            {},
            "row 0, column 'd' holds 2026.*say time='d' if it is the time",
        ),
        (changed("a", 3, -np.inf), {"time": "t"}, "row 3, column 'a' holds -inf, not a finite"),
        (
            changed("a", 3, 1e39),
            {"time": "t", "missing": True},
            r"row 3, column 'a' holds 1e\+39, beyond what float32 holds; change its unit",
        ),
        (changed("t", 3, pd.NaT), {"time": "t"}, "row 3, column 't' holds 'NaT', not a number or"),
        (changed("t", 3, MINUTES[2]), {"time": "t"}, "row 3, column 't' repeats a time stamp"),
        (changed("t", 3, MINUTES[0] - MINUTES.freq), {"time": "t"}, "row 3, .*goes back in time"),
        (FRAME.assign(t=[99, *range(N - 1)]), {"time": "t"}, "row 1, column 't' goes back in time"),
        (
            FRAME.assign(t=[None, "x"] * 6),
            {"time": "t"},
            "row 0, column 't' holds '', not a number",
        ),
        (
            FRAME.assign(t=pd.to_timedelta(np.arange(N), unit="s")),
            {"time": "t"},
            "row 0, column 't' holds 0:00:00 of type duration.*, neither a number nor a date",
        ),
        (FRAME, {"time": "t"}, "has no column 't'; it has a, b"),
        (FRAME[["a"]], {"time": "a"}, "has no column beside 'a'"),
        (FRAME, {"label": "b"}, "row 2, column 'b' holds 2.0, not 0 or 1"),
        (FRAME.rename(columns={"a": "Unnamed: 0"}), {}, "column 1 has no name"),
        (FRAME[:0], {}, "has columns and no rows"),
        (FRAME[[]], {}, "has no column"),
        (
            FRAME,
            {"separator": ","},
            "separator is for text, and .*parquet is parquet: leave it out",
        ),
        (FRAME, {"decimal": ","}, "decimal is for text"),
        (FRAME, {"encoding": "cp1252"}, "encoding is for text"),
        (
            FRAME.assign(t=MINUTES),
            {"time": "t", "time_format": "%Y"},
            "time_format is for time stamps that are text, and column 't' .* holds datetime64",
        ),
    ],
)
def test_bad_parquet_is_refused(parquet, frame, options, message):
    with pytest.raises(ValueError, match=message):
        read_table(parquet(frame), **options)


def test_time_stamps_of_parquet_that_are_text_have_a_format(parquet):
    frame = FRAME.assign(t=MINUTES.strftime("%d.%m.%Y %H:%M"))
    index = read_table(parquet(frame), time="t", time_format="%d.%m.%Y %H:%M").index
    assert (index == MINUTES).all()
    coded = FRAME.assign(t=pd.Categorical(MINUTES.astype(str)))
    assert (read_table(parquet(coded), time="t").index == MINUTES).all()


def test_names_that_repeat_in_parquet_are_refused(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    columns = [pa.array([1, 2]), pa.array([1, 2])]
    path = tmp_path / "plant.parquet"
    pq.write_table(pa.Table.from_arrays(columns, names=["a", "a"]), path)
    with pytest.raises(ValueError, match="names 'a' more than once"):
        read_table(path)


def test_parquet_that_is_damaged_says_so(parquet, tmp_path):
    whole = parquet(FRAME).read_bytes()
    path = tmp_path / "plant.parquet"
    for content in (whole[:-40], whole[:5], whole[:4] + bytes(len(whole) - 8) + whole[-4:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"plant\.parquet is parquet that cannot be read: "):
            read_table(path)
    path.write_bytes(gzip.compress(whole))
    with pytest.raises(ValueError, match="is gzip of parquet, not of text: unpack it"):
        read_table(path)


def test_parquet_without_pyarrow_says_how_to_get_it(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="needs pyarrow: python -m pip install pyarrow"):
        read_table(write(b"PAR1\x15\x04PAR1", "plant.parquet"))
