"""Tables of one's own: read as meant, or refused with file, row and column."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madcluster import from_csv
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
    "open quote": ('a,b\n1,"2\n', {}, "cannot be read"),
    "one row": ("a,b\n1,2\n", {}, "has 1 rows, too few to split"),
    "long separator": ("a,b\n1,2\n", {"separator": "::"}, "separator must be one character"),
    "fraction": ("a\n1\n2\n", {"train_fraction": 1.0}, "train_fraction must lie in"),
    "fill by magic": ("a\n1\n\n2,\n", {"fill": "mean"}, "row 4 has 2 columns"),
    "unknown fill": ("a,b\n1,\n2,1\n", {"fill": "mean"}, "fill must be 'ffill'"),
    "nothing to fill from": ("a,b\n1,\n2,\n", {"fill": "ffill"}, "column 'b' holds no value"),
    "null byte": (b"a,b\n1,\x002\n", {}, r"row 2|cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_refused(write, tmp_path, case):
    content, arguments, message = BAD[case]
    path = write(content)
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
