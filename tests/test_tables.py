"""Tables that people bring: columns of another kind, order or name are never scored silently wrong."""

import numpy as np
import pandas as pd
import pytest

from madcluster.detectors import PCAError

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(200, 3)) * [1, 10, 100]


def frame(columns=("a", "b", "c")):
    return pd.DataFrame(VALUES, columns=columns)


@pytest.mark.parametrize(
    "columns",
    [
        ["a", "b", "c"],
        [3, 1, 2],
        pd.MultiIndex.from_tuples([("x", "a"), ("x", "b"), ("y", "a")]),
    ],
    ids=["text", "integers", "levels"],
)
def test_columns_in_another_order_are_refused(columns):
    known = frame(columns)
    detector = PCAError(n_components=1).fit(known)
    scores = detector.decision_function(known)
    np.testing.assert_array_equal(scores, detector.decision_function(VALUES))
    moved = known.iloc[:, [1, 0, 2]]
    with pytest.raises(ValueError, match=r"names should match|were learned"):
        detector.decision_function(moved)


class Foreign:
    """A table of another library, as far as one looks at it: names, a shape, and an array."""

    def __init__(self, values, columns):
        self.values, self.columns, self.shape = values, columns, values.shape

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def __getitem__(self, name):
        return self.values[:, list(self.columns).index(name)]


class Arrow(Foreign):
    """One like Arrow's, whose `columns` are what is in them."""

    def __init__(self, values, names):
        super().__init__(values, names)
        self.column_names, self.columns = names, list(values.T)

    def __getitem__(self, name):
        return self.columns[self.column_names.index(name)]


class Dated(Foreign):
    """One like polars', whose array of dates and numbers is of numbers."""

    def __getitem__(self, name):
        return (
            np.datetime64("2026-01-01") + np.arange(len(self)) if name == "a" else self.values[:, 1]
        )


@pytest.mark.parametrize(
    "dates",
    [
        Dated(VALUES, ["a", "b", "c"]),
        pd.DataFrame({"a": [np.datetime64("2026-01-01")] * 50, "b": range(50)}, dtype=object),
        np.array([[pd.Timedelta(1), 1.0]] * 50, dtype=object),
        [[np.datetime64("2026-01-01"), 1.0]] * 50,
    ],
    ids=["table", "frame", "array", "list"],
)
def test_dates_are_no_numbers_wherever_they_hide(dates):
    with pytest.raises(ValueError, match="must be numbers"):
        PCAError().fit(dates)


@pytest.mark.parametrize(
    ("learned", "scored"),
    [
        ([0, 1, 2], [2, 1, 0]),
        ([2, 0, 1], [0, 1, 2]),
        ([10, 20, 30], [0, 1, 2]),
        ([0, 1, 2], [10, 20, 30]),
    ],
)
def test_numbers_are_names_where_they_are_not_counted(learned, scored):
    detector = PCAError(n_components=1).fit(frame(learned))
    np.testing.assert_array_equal(
        detector.decision_function(frame(learned)), detector.decision_function(VALUES)
    )
    with pytest.raises(ValueError, match="were learned"):
        detector.decision_function(frame(scored))


def test_a_table_of_arrow_has_its_names():
    detector = PCAError(n_components=1).fit(frame())
    np.testing.assert_array_equal(
        detector.decision_function(Arrow(VALUES, ["a", "b", "c"])),
        detector.decision_function(frame()),
    )
    with pytest.raises(ValueError, match=r"\('b', 'a', 'c'\), but"):
        detector.decision_function(Arrow(VALUES, ["b", "a", "c"]))


def test_a_list_of_masked_rows_is_masked():
    rows = [np.ma.array(row, mask=[False, i == 7, False]) for i, row in enumerate(VALUES)]
    with pytest.raises(ValueError, match="NaN in row 7, channel 1"):
        PCAError().fit(rows)


def test_a_table_of_another_library_keeps_its_names():
    known = Foreign(VALUES, ["a", "b", "c"])
    detector = PCAError(n_components=1).fit(known)
    assert detector.channels_ == ("a", "b", "c")
    np.testing.assert_array_equal(
        detector.decision_function(known), detector.decision_function(frame())
    )
    with pytest.raises(ValueError, match="were learned"):
        detector.decision_function(Foreign(VALUES, ["b", "a", "c"]))
    with pytest.raises(ValueError, match="more than one column 'a'"):
        PCAError().fit(Foreign(VALUES, ["a", "b", "a"]))


def test_columns_that_nobody_named_are_taken_in_their_order():
    detector = PCAError(n_components=1).fit(pd.DataFrame(VALUES))
    np.testing.assert_array_equal(
        detector.decision_function(pd.DataFrame(VALUES)), detector.decision_function(VALUES)
    )


def test_a_name_twice_is_refused_before_training(monkeypatch):
    monkeypatch.setattr(PCAError, "_learn", lambda self, rows: 1 / 0)
    with pytest.raises(ValueError, match="more than one column 'a'"):
        PCAError().fit(frame(["a", "b", "a"]))


def test_names_of_two_types_are_refused_before_training(monkeypatch):
    monkeypatch.setattr(PCAError, "_learn", lambda self, rows: 1 / 0)
    with pytest.raises(TypeError, match="names"):
        PCAError().fit(frame(["a", 1, "c"]))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.Series(["1.5"] * 200), "column 'b' is of type|text among them"),
        (pd.Series(["x"] * 200, dtype="category"), "column 'b' is of type category"),
        (pd.date_range("2024", periods=200), "column 'b' is of type datetime64"),
        (pd.Series([1, pd.NA] * 100, dtype="Int64"), "NaN in row 1, channel b"),
        (pd.Series([1.0, None] * 100, dtype=object), "NaN in row 1, channel b"),
    ],
    ids=["text", "category", "time", "missing", "None"],
)
def test_what_is_no_number_is_named(column, message):
    with pytest.raises(ValueError, match=message):
        PCAError().fit(frame().assign(b=np.asarray(column) if column is None else column))


def test_whole_numbers_that_may_be_missing_are_numbers():
    whole = frame().round().astype("Int64")
    expected = PCAError(n_components=1).fit(whole.astype(float)).decision_scores_
    np.testing.assert_array_equal(PCAError(n_components=1).fit(whole).decision_scores_, expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([["1", "2"]] * 200), "must be numbers"),
        (np.full((200, 2), np.datetime64("2024")), "must be numbers"),
        (np.array([[1.0, "2"]] * 200, dtype=object), r"there is '2' among them"),
        (np.ma.masked_greater(VALUES, 150.0), r"NaN in row \d+, channel 2"),
    ],
    ids=["text", "time", "objects", "masked"],
)
def test_arrays_of_something_else_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        PCAError().fit(values)
