"""Tables of one's own: read as meant, or refused with file, row and column."""

import gzip
import random
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts import script

from madcluster import from_csv
from madcluster.data import ClockWarning, ContaminationWarning, tables
from madcluster.data.tables import read_table

GOOD = "time,a,b,fault\n" + "".join(f"{i},{i / 2},{-i},{int(i >= 8)}\n" for i in range(10))


@pytest.fixture
def write(tmp_path):
    def write(content, name="plant.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_file_is_split_and_labeled(write):
    series = from_csv(write(GOOD), time="time", label="fault", train_fraction=0.6)
    assert series.name == "plant"
    assert series.channels == ("a", "b")
    assert series.train.shape == (6, 2)
    assert series.test[:, 0].tolist() == [3.0, 3.5, 4.0, 4.5]
    assert series.labels.tolist() == [False, False, True, True]
    assert series.time.tolist() == [6, 7, 8, 9]
    assert series.train_time.tolist() == [0, 1, 2, 3, 4, 5]
    assert series.test_frame.loc[8].to_dict() == {"a": 4.0, "b": -8.0}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_guessed(write, separator):
    series = from_csv(write(GOOD.replace(",", separator)), time="time", label="fault")
    assert series.channels == ("a", "b")


def test_two_files_dates_quotes_and_a_byte_order_mark(write):
    rows = "".join(f'"2026-01-0{i}T00:00:00",{i}\n' for i in range(1, 6))
    train, test = (
        write("\ufefft,x\n" + rows),
        write("t,x\r\n" + rows.replace("\n", "\r\n"), "test.csv"),
    )
    series = from_csv(train, test=test, time="t", name="mine")
    assert (series.name, series.train.shape, series.test.shape) == ("mine", (5, 1), (5, 1))
    assert str(series.time[1].date()) == "2026-01-02"
    assert series.train_frame.index.equals(series.time)
    assert not series.labels.any()


def test_summer_time_begins_and_ends_where_stamps_have_their_offset(write):
    stamps = ["2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00", "2026-10-25T02:30+01:00"]
    path = write("t,a\n" + "".join(f"{stamp},{i}\n" for i, stamp in enumerate(stamps)))
    index = read_table(path, time="t").index
    assert index.tz_convert(None).strftime("%H:%M").tolist() == ["00:30", "01:00", "01:30"]
    same = write("t,a\n2026-07-01T02:30+02:00,1\n2026-07-01T02:31+02:00,2\n")
    assert str(read_table(same, time="t").index[0]) == "2026-07-01 02:30:00+02:00"


def test_a_file_from_an_office_program(write):
    text = "Zeit;Fluß;Druck\n28.03.2026 23:59;1,5;0\n29.03.2026 00:00;;-2,25\n"
    text += "29.03.2026 00:01;n.a.;7\n29.03.2026 00:02;3;8\n"
    options = {"decimal": ",", "time_format": "%d.%m.%Y %H:%M", "na_values": ["n.a."]}
    path = write(text.encode("cp1252"))
    series = from_csv(path, time="Zeit", fill="ffill", encoding="cp1252", **options)
    assert series.channels == ("Fluß", "Druck")
    assert series.train.tolist() == [[1.5, 0.0], [1.5, -2.25]]
    assert str(series.time[0]) == "2026-03-29 00:01:00"
    assert series.filled == 2


@pytest.mark.parametrize(("fill", "expected"), [("ffill", 1.0), ("interpolate", 2.0)])
@pytest.mark.parametrize("hole", ["", "NaN", "n/a", "NULL"])
def test_missing_values_are_filled_when_asked(write, fill, expected, hole):
    path = write(f"a,b\n1,0\n{hole},0\n3,0\n4,0\n")
    series = from_csv(path, fill=fill, train_fraction=0.75)
    assert series.train[1, 0] == expected
    assert series.filled == 1
    with pytest.raises(ValueError, match=r"plant\.csv: row 3, column 'a' holds a missing value"):
        from_csv(path)


@pytest.mark.parametrize("fill", ["ffill", "interpolate"])
def test_no_test_value_is_filled_into_train(write, fill):
    text = "a\n0\nNaN\n{}\n20\n"
    low, high = (from_csv(write(text.format(value)), fill=fill) for value in (10, 99))
    assert low.train.tolist() == high.train.tolist() == [[0.0], [0.0]]
    with pytest.raises(ValueError, match="column 'a' holds no value"):
        from_csv(write("a\nNaN\nNaN\n10\n20\n"), fill=fill)


BAD = {
    "text": ("a,b\n1,2\n3,x\n", {}, r"plant\.csv: row 3, column 'b' holds 'x'"),
    "infinite": ("a,b\n1,2\ninf,4\n", {}, "row 3, column 'a' holds 'inf'"),
    "decimal comma": ("a;b\n1,5;2\n1;2\n", {}, "row 2, column 'a' holds '1,5'.*choose decimal"),
    "missing": ("a,b\n1,2\n3,\n", {}, "row 3, column 'b' holds a missing value"),
    "too long a row": ("a,b\n1,2\n3,4,5\n", {}, "row 3 has 3 columns, the header has 2"),
    "too short a row": ("a,b\n1,2\n3\n", {}, "row 3 has 1 columns, the header has 2"),
    "empty": ("", {}, r"plant\.csv is empty"),
    "blank": (" \n\n", {}, r"plant\.csv is empty"),
    "header only": ("a,b\n", {}, "has a header and no rows"),
    "repeated name": ("a,a\n1,2\n", {}, "names 'a' more than once"),
    "no time column": ("a,b\n1,2\n", {"time": "t"}, "has no column 't'; it has a, b"),
    "no label column": ("a,b\n1,2\n", {"label": "y"}, "has no column 'y'; it has a, b"),
    "label of 2": ("a,y\n1,0\n1,2\n", {"label": "y"}, "row 3, column 'y' holds 2.0, not 0 or 1"),
    "only labels": ("y\n1\n0\n", {"label": "y"}, "no sensor beside 'y'"),
    "only time": ("t\n1\n2\n", {"time": "t"}, "no column beside 't'"),
    "repeated time": ("t,a\n1,0\n1,0\n", {"time": "t"}, "row 3, column 't' repeats a time stamp"),
    "time goes back": ("t,a\n2,0\n1,0\n", {"time": "t"}, "row 3, column 't' goes back in time"),
    "infinite time": ("t,a\n1,0\ninf,0\n", {"time": "t"}, "row 3, column 't' holds 'inf'"),
    "a time zone in one row": (
        "t,a\n2026-01-01T00:00Z,1\n2026-01-01T02:00,2\n",
        {"time": "t"},
        "row 3, column 't' holds '2026-01-01T02:00', without the time zone that other rows have",
    ),
    "a clock set back": (
        "t,a\n2026-10-25 02:59,1\n2026-10-25 02:00,2\n",
        {"time": "t"},
        "row 3, column 't' goes back in time.*stamps need their time zone",
    ),
    "day first": (
        "t,a\n28.03.2026,1\n",
        {"time": "t"},
        "row 2, column 't' holds '28.03.2026', not a",
    ),
    "another form of date": (
        "t,a\n28.03.2026,1\n03/29/2026,2\n",
        {"time": "t", "time_format": "%d.%m.%Y"},
        r"row 3, column 't' holds '03/29/2026', not of the form '%d\.%m\.%Y'",
    ),
    "form of no date": (
        "t,a\n1,1\n2,2\n",
        {"time": "t", "time_format": "%Q"},
        "column 't' cannot be read with time_format '%Q'",
    ),
    "thousands": ("a;b\n1.234;2\n1,5;2\n", {"decimal": ","}, r"row 2, column 'a' holds '1\.234'"),
    "decimal": ("a\n1\n2\n", {"decimal": ";"}, "decimal must be '.' or ','"),
    "word for a missing value": (
        "a,b\n1,2\nBAD,4\n",
        {"na_values": ["bad"]},
        "row 3, column 'a' holds a missing value, .* choose fill",
    ),
    "another word": (
        "a\n1\nBAD\n2\n",
        {"fill": "ffill"},
        "row 3, column 'a' holds 'BAD', not a finite",
    ),
    "words as text": ("a\n1\n2\n", {"na_values": "BAD"}, "na_values must be a list of words"),
    "unknown encoding": ("a\n1\n2\n", {"encoding": "utf-99"}, "encoding 'utf-99' is unknown"),
    "label below a blank line": (
        "a,y\n1,1\n\n2,7\n",
        {"label": "y"},
        "row 4, column 'y' holds 7.0, not 0 or 1",
    ),
    "unknown fill, nothing to fill": ("a,b\n1,2\n3,4\n", {"fill": "mean"}, "fill must be 'ffill'"),
    "no time at all": ("t,a\n1,0\nnoon,0\n", {"time": "t"}, "row 3, column 't' holds 'noon'"),
    "bytes": (b"a,b\n1,\xff\xfe\n", {}, "is not UTF-8 text: byte 6 .* choose its encoding"),
    "UTF-16 without its mark": (
        "a,b\n1,2\n".encode("utf-16-le"),
        {"encoding": "utf-16"},
        "is not utf-16 text: .*; choose its encoding",
    ),
    "beyond float32": (
        "a,b\n1,2\n3,-1e39\n",
        {"fill": "ffill"},
        "row 3, column 'b' holds '-1e39', beyond what float32 holds; change its unit, or name it",
    ),
    "error of a spreadsheet": (
        "a,b\n1,2\n3,#N/A\n",
        {"fill": "ffill"},
        r"row 3, column 'b' holds '#N/A', .* mend it there, or .* na_values=\['#N/A'\]",
    ),
    "error of a spreadsheet in the label": (
        "a,y\n1,0\n3,#REF!\n",
        {"label": "y"},
        "row 3, column 'y' holds '#REF!', .*mend it there$",
    ),
    "thousands and a point": (
        'a,b\n"1,234.5",2\n',
        {},
        "row 2, column 'a' holds '1,234.5', .*parts thousands is not read: write",
    ),
    "millions": ('a,b\n"1,234,567",2\n', {}, "parts thousands is not read: write"),
    "thousands beside points": ('a,b\n"1,234",2\n987.5,2\n', {}, "parts thousands is not read"),
    "open quote": ('a,b\n1,"2\n', {}, "cannot be read"),
    "one row": ("a,b\n1,2\n", {}, "has 1 rows, too few to split"),
    "long separator": ("a,b\n1,2\n", {"separator": "::"}, "separator must be one character"),
    "fraction": ("a\n1\n2\n", {"train_fraction": 1.0}, "train_fraction must lie in"),
    "fill by magic": ("a\n1\n\n2,\n", {"fill": "mean"}, "fill must be 'ffill'"),
    "unknown fill": ("a,b\n1,\n2,1\n", {"fill": "mean"}, "fill must be 'ffill'"),
    "nothing to fill from": ("a,b\n1,\n2,\n", {"fill": "ffill"}, "column 'b' holds no value"),
    "fill by magic, no file": ("", {"fill": "mean"}, "fill must be 'ffill', 'interpolate' or None"),
    "index of pandas": (
        ",a,b\n0,1,2\n1,3,4\n",
        {},
        r"column 1 has no name.*to_csv\(index=False\).*time=''",
    ),
    "index that pandas named": (
        "Unnamed: 0,a\n0,1\n1,3\n",
        {},
        "column 1 has no name in the header",
    ),
    "index of R": ('"","a"\n"1",2\n"2",3\n', {}, "column 1 has no name in the header"),
    "separators at the ends": ("a,b,\n1,2,\n3,4,\n", {}, "column 3 has no name in the header"),
    "thousands, quoted": (
        'a,b\n"1,234",1\n"2,345",2\n',
        {},
        "row 2, column 'a' holds '1,234'.*but not if it parts thousands",
    ),
    "thousands and decimals": (
        "a;b\n1.234,5;1\n2;2\n",
        {"decimal": ","},
        r"row 2, column 'a' holds '1\.234,5'.*a number has no point",
    ),
    "points, said to be commas": (
        "a;b\n1;1.5\n2;2\n",
        {"decimal": ","},
        r"row 2, column 'b' holds '1\.5'.*a number has no point",
    ),
    "commas between columns and for decimals": (
        'a,b\n"1,234",1\n"2,345",2\n',
        {"decimal": ","},
        "decimal=',' takes them for decimals; give the separator",
    ),
    "a comma in the only name": ("p, bar\n1,5\n2,5\n", {"decimal": ","}, "give the separator"),
    "a column more by a comma": ("t,a\n1,1,5\n2,2,5\n", {}, "row 2 has 3 columns"),
    "thousands in time": (
        "t;a\n1.000;1,5\n2.000;2\n",
        {"decimal": ",", "time": "t"},
        r"row 2, column 't' holds '1\.000'",
    ),
    "UTF-16 as another encoding": (
        "a;b\n1;2\n25;4\n".encode("utf-16-le"),
        {"encoding": "cp1252"},
        "row 2 cannot be read: it holds null characters.*another encoding",
    ),
    "a number for a missing value": (
        "a\n-999.0\n2\n",
        {"na_values": ["-999"]},
        "row 2, column 'a' holds a missing value",
    ),
    "numbers as words": ("a\n1\n2\n", {"na_values": [-999]}, "na_values must be a list of words"),
    "truth": ("a\nTrue\nFalse\n", {}, "row 2, column 'a' holds 'True'"),
    "a row too short and one too long": (
        "a,b\n1,2\n3\n4,5,6\n",
        {"fill": "ffill"},
        "row 3 has 1 columns",
    ),
    "label that is missing": (
        "a,y\n1,0\n2,\n",
        {"label": "y"},
        "holds a missing value, not .*number$",
    ),
    "an empty header": ("\n0.0", {}, "row 2 has 1 columns, the header has 0"),
    "null byte": (b"a,b\n1,\x002\n", {}, r"row 2|cannot be read"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_refused(write, tmp_path, case, packed):
    content, arguments, message = BAD[case]
    content = content if isinstance(content, bytes) else content.encode()
    path = write(gzip.compress(content) if packed else content)
    with pytest.raises(ValueError, match=message):
        from_csv(path, **arguments)
    assert list(tmp_path.iterdir()) == [path]


def test_other_columns_in_the_test_file(write):
    train, test = write("a,b\n1,2\n"), write("a,c\n1,2\n", "test.csv")
    with pytest.raises(ValueError, match=r"has other columns than .*: b, c"):
        from_csv(train, test=test)
    with pytest.raises(FileNotFoundError, match="no table at"):
        from_csv(train, test="none.csv")


@given(st.lists(st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=2), min_size=1, max_size=20))
def test_numbers_survive_the_file(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_text("a,b\n" + "".join(f"{x!r},{y!r}\n" for x, y in rows))
    np.testing.assert_allclose(read_table(path).to_numpy(), rows)


def test_hints_are_followed_to_a_right_reading(write):
    """What an error proposes gives the numbers that were meant."""
    for text, hint, rows in (
        ("a\n1,5\n2,5\n", {"decimal": ","}, [[1.5], [2.5]]),
        ("p, bar;q\n1,5;2\n2,5;3\n", {"decimal": ","}, [[1.5, 2], [2.5, 3]]),
        ('a,b\n"1,5",2\n2,3\n', {"decimal": ",", "separator": ","}, [[1.5, 2], [2, 3]]),
        ("a;b\n-999,50;1\n2;3\n", {"decimal": ",", "na_values": ["-999,5"]}, [[np.nan, 1], [2, 3]]),
        ("a,b\n1,2\n#N/A,3\n", {"na_values": ["#N/A"]}, [[1, 2], [np.nan, 3]]),
        ("a,b\n1,2\n1e39,3\n", {"na_values": ["1e39"]}, [[1, 2], [np.nan, 3]]),
        ("\ufeffa;b\n1;2\n".encode(), {"encoding": "utf-8"}, [[1, 2]]),
        ("a;b\n1;2\n".encode("utf-16"), {"encoding": "utf-16"}, [[1, 2]]),
        (",a\n7,1\n9,2\n", {"time": ""}, [[1], [2]]),
    ):
        np.testing.assert_array_equal(
            read_table(write(text), missing=True, **hint).to_numpy(), rows
        )
    stamps = read_table(write("t;a\n0,5;1\n1,0;2\n"), time="t", decimal=",").index
    assert stamps.tolist() == [0.5, 1.0]
    assert read_table(write("a\n1\n")).columns.tolist() == ["a"]


def test_labeled_anomalies_in_the_train_split_are_named(write):
    text = "a,y\n" + "".join(f"{i % 17},{int(i in (7, 8, 15))}\n" for i in range(20))
    blank = text.replace("\n3,0\n", "\n\n3,0\n", 1)
    for content, row in ((text, 9), (blank, 10)):
        with pytest.warns(
            ContaminationWarning,
            match=rf"plant\.csv: 2 of the 10 rows .* labeled 1 in column 'y', the first is row {row}; "
            r".*train_fraction=0\.35",
        ):
            from_csv(write(content), label="y")
    path, later = write(text), write(text, "test.csv")
    with pytest.warns(
        ContaminationWarning, match="3 of the 20 rows.*take them out of it"
    ) as caught:
        series = from_csv(path, test=later, label="y")
    assert caught[0].filename == __file__
    assert series.labels.sum() == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what the warning proposes ends it
        assert from_csv(path, label="y", train_fraction=0.35).labels.sum() == 3


def told(path, **options):
    """The warnings of clocks."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from_csv(path, **options)
    assert all(w.category is ClockWarning and w.filename == __file__ for w in caught)
    return [str(w.message) for w in caught]


@pytest.mark.parametrize("step", [1, 60, 0.1, 1 / 3, 1e-4])
@pytest.mark.parametrize("start", [0, 1.7e9])
def test_a_column_that_counts_is_named_where_no_time_is_given(write, start, step):
    rows = [(start + step * i, i % 3) for i in range(30)]
    path = write("t,a\n" + "".join(f"{t!r},{a}\n" for t, a in rows))
    (message,) = told(path)
    assert "plant.csv: column 't' goes up by the same step" in message
    assert message.endswith("say time='t', or leave it out of the file")
    assert told(path, time="t") == []
    uneven = [(t + step * (i == 20) / 2, a) for i, (t, a) in enumerate(rows)]
    assert told(write("t,a\n" + "".join(f"{t!r},{a}\n" for t, a in uneven))) == []


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("time", True),
        ("Timestamp", True),
        ("DATE", True),
        ("epoch_ms", True),
        ("Unix time", True),
        ("timestamp_(min)", True),
        ("time [s]", True),
        ("cycle time", False),
        ("time to failure", False),
        ("timer", False),
        ("update", False),
        ("tempo", False),
    ],
)
def test_a_column_with_the_name_of_a_clock_is_named(write, name, is_one):
    values = [i * i for i in range(12)]  # no even steps, as where rows are missing
    path = write(f"{name},a\n" + "".join(f"{v},{v % 5}\n" for v in values))
    assert [f"column {name!r} has the name of a clock" in m for m in told(path)] == [True] * is_one


def test_what_is_no_clock_is_not_called_one(write):
    def table(column, n=12, name="t"):
        return write(f"{name},a\n" + "".join(f"{column(i)},{i % 3}\n" for i in range(n)))

    assert told(table(lambda i: 5)) == []
    assert told(table(lambda i: 5, name="time")) == []
    assert told(table(lambda i: i, n=9)) == []
    assert told(table(lambda i: -i)) == []
    assert told(table(lambda i: i // 2)) == []
    assert told(table(lambda i: i % 11)) == []
    assert told(table(lambda i: "" if i == 11 else i), fill="ffill") == []
    assert len(told(table(lambda i: i, n=10))) == 1
    y = write("a,y\n" + "".join(f"{i % 4},{int(i > 10)}\n" for i in range(12)))
    assert told(y, label="y") == []


def test_the_quick_way_and_the_strict_way_read_the_same(write, monkeypatch):
    """In blocks of a few cells: faults and gaps stand at the seams of blocks, too."""
    rng = random.Random(0)
    strange = [
        "",
        "NA",
        "nan",
        "x",
        "inf",
        "1e999",
        "1e39",
        "#N/A",
        "1,5",
        "True",
        "-999",
        '"1"',
        "1_0",
        " 4",
        "\0",
    ]
    simple, quick = ["1", "2.5", "-3", "1e3", "5.", "0"], tables._quick
    quoted = ['"1"', '"2.5"', '""', '"NA"', '"a""b"', '1"', '"1', '"1,2"', '" 3"', '"4" ', '"5\n"']
    monkeypatch.setattr(tables, "CELLS", 4)
    monkeypatch.setattr(tables, "BYTES", 5)
    taken = unquoted = 0
    for turn in range(600):
        if turn % 2:
            plain, odd = ["1", '"1"', '"-2.5"', '"1e3"'], quoted
        else:
            plain, odd = simple, strange
        c, share, end = rng.randint(1, 3), rng.choice([0, 0.1]), rng.choice(["\n", "\r\n", "\r"])
        names = [f'"{name}"' if turn % 2 and rng.random() < 0.5 else name for name in "abc"[:c]]
        rows = [",".join(names)]
        for _ in range(rng.randint(1, 9)):
            width = max(1, c + (rng.choice([-1, 1]) if rng.random() < 0.03 else 0))
            cells = [rng.choice(odd if rng.random() < share else plain) for _ in range(width)]
            rows.append(",".join(cells))
        content, packed = (end.join(rows) + rng.choice([end, ""])).encode(), turn % 3 == 0
        path = write(gzip.compress(content, 1) if packed else content)
        options = rng.choice([{}, {"missing": True}, {"missing": True, "na_values": ["-999"]}])
        found = []
        for way in (quick, lambda *_: None):
            monkeypatch.setattr(tables, "_quick", way)
            try:
                found.append(read_table(path, **options))
            except ValueError as error:
                found.append(str(error))
        if isinstance(found[0], str):
            assert found[0] == found[1]
        else:
            pd.testing.assert_frame_equal(*found)
            how = tables._Reading(None, None, True, None, ".", "utf-8", frozenset(), packed)
            was_quick = quick(path, how) is not None
            taken += was_quick and turn % 2
            unquoted += was_quick and not turn % 2
    assert min(taken, unquoted) > 50


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of a process is asked of Linux"
)
@pytest.mark.parametrize("kind", ["numbers", "missing", "quotes", "gzip", "parquet"])
def test_a_file_is_read_in_about_the_memory_of_pandas(write, tmp_path, kind):
    """Each in a process of its own; `benchmarks/tables.py` measures, and this leaves a margin."""
    tables = script("tables")
    file = own = tables.written(tmp_path, 150_000, 20, kind)
    small = write("a\n1\n2\n", "small.csv")
    if kind == "gzip":  # measured against the text that it holds
        own = write(gzip.compress(file.read_bytes(), 1), "table.csv.gz")
    elif kind == "parquet":
        pytest.importorskip("pyarrow")
        own = tmp_path / "table.parquet"
        pd.read_csv(file).to_parquet(own)
    pandas = tables.case("pandas", small, file, kind, 1)[1]
    if kind == "parquet":
        small = tmp_path / "small.parquet"
        pd.DataFrame({"a": [1, 2]}).to_parquet(small)
    ours = tables.case("from_csv", small, own, kind, 1)[1]
    assert pandas > 20, "MiB: the file does not dominate"
    assert ours < 1.7 * pandas
