"""Several files as one table, and where in time its parts end."""

import numpy as np
import pandas as pd
import pytest

from madcluster.data.spans import read_tables, rows_before, rows_per_day, usual_step
from madcluster.data.tables import ClockWarning

DATES = pd.date_range("2026-03-01", periods=48, freq="h", name="time")


def written(folder, name, index=DATES, columns=("a", "b")):
    rows = np.random.default_rng(len(name)).normal(size=(len(index), len(columns)))
    pd.DataFrame(rows, index, columns=list(columns)).to_csv(folder / name)
    return folder / name


def test_files_come_in_the_order_of_their_numbers(tmp_path):
    for day in (10, 2, 9):
        written(tmp_path, f"day-{day}.csv", DATES + pd.Timedelta(f"{day * 2} D"))
    frame, files = read_tables(tmp_path / "day-*.csv", time="time")
    assert [file.name for file in files] == ["day-2.csv", "day-9.csv", "day-10.csv"]
    assert frame.index.is_monotonic_increasing
    assert len(frame) == 144
    # without times the rows are counted, and a column of them would be seen
    for day in (2, 9, 10):
        written(tmp_path, f"day-{day}.csv", pd.RangeIndex(30, name="row"))
    with pytest.warns(ClockWarning, match="column 'row' goes up") as caught:
        frame, _ = read_tables(tmp_path / "day-*.csv")
    assert len(caught) == 3
    assert frame.index.tolist() == list(range(90))


def test_a_file_of_exactly_this_name_is_no_pattern(tmp_path):
    written(tmp_path, "pump[1].csv")
    written(tmp_path, "pump1.csv")
    _, files = read_tables(tmp_path / "pump[1].csv", time="time")
    assert [file.name for file in files] == ["pump[1].csv"]
    with pytest.raises(FileNotFoundError, match=r"no table at .*pump2"):
        read_tables(tmp_path / "pump2*.csv")


def test_files_that_do_not_fit_together_are_named(tmp_path):
    written(tmp_path, "1.csv")
    written(tmp_path, "2.csv", DATES[-1:] + pd.Timedelta("1h"), ("a", "B"))
    with pytest.raises(ValueError, match=r"2\.csv has other columns than .*1\.csv: B, b"):
        read_tables(tmp_path / "*.csv", time="time")
    written(tmp_path, "2.csv", DATES + pd.Timedelta("20h"))
    with pytest.raises(ValueError, match=r"2\.csv begins at 2026-03-01 20:00:00, not later than"):
        read_tables(tmp_path / "*.csv", time="time")
    written(tmp_path, "2.csv", pd.Index(range(100, 130), name="time"))
    with pytest.raises(ValueError, match=r"2\.csv has times of type int64"):
        read_tables(tmp_path / "*.csv", time="time")


def test_the_usual_step_is_the_median_and_no_jitter_changes_it():
    rng = np.random.default_rng(0)
    seconds = pd.date_range("2026", periods=1000, freq="s")
    jittered = seconds + pd.to_timedelta(rng.uniform(-0.2, 0.2, 1000), unit="s")
    assert rows_per_day(seconds) == 86_400
    assert rows_per_day(jittered) == pytest.approx(86_400, rel=0.02)
    assert usual_step(DATES.delete([5, 6, 7])) == pd.Timedelta("1h")
    assert usual_step(pd.Index([0, 2, 4, 9])) == 2
    assert rows_per_day(DATES.tz_localize("Europe/Berlin")) == 24
    with pytest.raises(ValueError, match="no dates"):
        rows_per_day(pd.Index([0, 2, 4]))
    with pytest.raises(ValueError, match="row 2 is of 1, not later than 2 before it"):
        usual_step(pd.Index([0, 2, 1]))
    with pytest.raises(ValueError, match="1 rows have no step"):
        usual_step(pd.Index([0]))


@pytest.mark.parametrize(
    ("index", "where", "n"),
    [
        (DATES, 0.5, 24),
        (DATES, "2026-03-02", 24),
        (DATES, "20260302", 24),
        (DATES, pd.Timestamp("2026-03-01 01:00"), 1),
        (DATES.tz_localize("UTC"), "2026-03-02T01:00+01:00", 24),
        (DATES.tz_localize("Europe/Berlin"), "2026-03-02", 24),
        (pd.RangeIndex(100), 0.25, 25),
        (pd.RangeIndex(100), 50, 50),
        (pd.RangeIndex(100), "50", 50),
    ],
)
def test_where_a_part_ends(index, where, n):
    assert rows_before(index, where) == n


@pytest.mark.parametrize(
    ("index", "where", "message"),
    [
        (DATES, 50, "50 is neither a share in"),
        (DATES, "soon", "'soon' is neither a share in"),
        (DATES, "2026-03-02T00:00+01:00", "has a time zone"),
        (DATES, "2027-01-01", "leaves 48 of 48 rows before it; they go from 2026-03-01 00:00:00"),
        (pd.RangeIndex(100), 0, "leaves 0 of 100 rows"),
        (pd.RangeIndex(100), "noon", "'noon' is neither a share in"),
        (pd.RangeIndex(100), 0.001, "leaves 0 of 100 rows"),
    ],
)
def test_a_place_that_is_none_is_refused(index, where, message):
    with pytest.raises(ValueError, match=message):
        rows_before(index, where)
