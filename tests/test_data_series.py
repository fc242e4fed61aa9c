"""Series, scaler and windows: what they keep and what they refuse."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from madcluster.data import Event, OutlierWarning, Scaler, Series, segments, windows
from madcluster.data.series import checked_rows, without_glitches

numbers = arrays(
    np.float32,
    st.tuples(st.integers(1, 30), st.integers(1, 5)),
    elements=st.floats(-1e6, 1e6, width=32),
)


def make(train=None, test=None, labels=None, **rest):
    train = np.zeros((5, 2)) if train is None else train
    test = np.zeros((4, 2)) if test is None else test
    labels = [0, 1, 1, 0] if labels is None else labels
    return Series("plant/7", train, test, labels, **rest)


def test_rows_that_nobody_can_change_are_not_copied():
    rows = np.arange(20.0).reshape(10, 2).copy()
    view = rows[:5]
    view.flags.writeable = False  # its owner can still be written to
    assert not np.shares_memory(checked_rows(view, "x"), rows)
    rows.flags.writeable = False
    assert np.shares_memory(checked_rows(rows[:5], "x"), rows)


def test_series_holds_read_only_rows():
    series = make(train=np.zeros((5, 2), dtype=np.float32))
    assert series.train.dtype == np.float32
    assert series.test.dtype == np.float64
    assert series.labels.dtype == bool
    assert series.channels == ("0", "1")
    assert series.anomaly_ratio == 0.5
    assert series.segments.tolist() == [[1, 3]]
    for array in (series.train, series.test, series.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert "50.00% anomalous in 1 segments" in repr(series)


def test_frames_name_the_channels_and_the_times():
    days = pd.date_range("2026-03-01", periods=9)
    names = ("flow", "level")
    series = make(np.arange(10.0).reshape(5, 2), channels=names, time=days[5:], train_time=days[:5])
    assert tuple(series.train_frame) == tuple(series.test_frame) == names
    assert series.train_frame.loc["2026-03-02"].tolist() == [2.0, 3.0]
    assert series.train_frame.index.equals(days[:5])
    assert series.test_frame.index.equals(days[5:])
    assert np.shares_memory(series.train_frame.to_numpy(), series.train)
    frame = series.train_frame.copy()
    frame.iloc[0, 0] = 7
    assert series.train[0, 0] == 0
    plain = make(train=np.zeros((5, 2), dtype=np.float32))
    assert plain.train_frame.index.tolist() == [0, 1, 2, 3, 4]
    assert plain.train_frame.columns.tolist() == ["0", "1"]
    assert (plain.train_frame.dtypes == np.float32).all()


def with_value(shape, value):
    x = np.zeros(shape)
    x[3, 1] = value
    return x


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": with_value((5, 2), np.nan)}, "plant/7: train holds NaN in row 3, channel 1"),
        ({"test": with_value((4, 2), -np.inf)}, "plant/7: test holds -inf in row 3, channel 1"),
        ({"test": with_value((4, 2), 1e39)}, r"test holds 1e\+39 in row 3, channel 1"),
        ({"train": np.zeros((0, 2))}, "train is empty"),
        ({"train": np.zeros(5)}, "train must be 2-D"),
        ({"train": [["a", "b"]]}, "train must be numbers"),
        ({"test": np.zeros((4, 3))}, "test has 3 channels, expected 2"),
        ({"channels": ("a", "b", "c")}, "train has 2 channels, expected 3"),
        ({"labels": [0, 1]}, r"labels have shape \(2,\), the test split has 4 rows"),
        ({"labels": [0, 1, 2, 0]}, "labels must be 0 or 1, row 2 is 2"),
        ({"labels": [0, 1, np.nan, 0]}, "labels must be 0 or 1, row 2 is nan"),
        ({"time": [1, 2]}, "test has 2 time stamps for 4 rows"),
        ({"train_time": [1, 2]}, "train has 2 time stamps for 5 rows"),
        ({"events": (Event("spike", 3, 5),)}, "does not fit 4 rows"),
        ({"events": (Event("spike", 2, 2),)}, "does not fit 4 rows"),
        ({"events": (Event("spike", 1, 2, (2,)),)}, "and 2 channels"),
    ],
)
def test_series_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_channel_names_stand_in_errors():
    with pytest.raises(ValueError, match="row 3, channel flow"):
        make(train=with_value((5, 2), np.nan), channels=("pressure", "flow"))


def test_events_are_found_by_kind():
    series = make(events=(Event("spike", 1, 2), Event("drift", 2, 3)))
    assert series.events_of("drift") == [Event("drift", 2, 3)]
    with pytest.raises(ValueError, match="no event of kind 'shift'"):
        series.events_of("shift")


@given(arrays(bool, st.integers(1, 50)))
def test_segments_rebuild_the_labels(labels):
    rebuilt = np.zeros_like(labels)
    ends = -1
    for start, stop in segments(labels):
        assert ends < start < stop  # apart and in order
        rebuilt[start:stop], ends = True, stop
    assert np.array_equal(rebuilt, labels)


@given(numbers, st.integers(1, 10), st.integers(1, 5))
def test_windows_are_a_view_of_the_rows(x, length, stride):
    if len(x) < length:
        with pytest.raises(ValueError, match=f"has {len(x)} rows, less than a window of {length}"):
            windows(x, length, stride)
        return
    w = windows(x, length, stride)
    expected = [x[i : i + length] for i in range(0, len(x) - length + 1, stride)]
    assert np.array_equal(w, expected)
    assert np.shares_memory(w, x)
    assert not w.flags.writeable


@pytest.mark.parametrize(
    ("x", "length", "stride", "message"),
    [
        (np.zeros(5), 2, 1, "2-D"),
        (np.zeros((5, 1)), 0, 1, "length must be a positive integer"),
        (np.zeros((5, 1)), 2.0, 1, "length must be a positive integer"),
        (np.zeros((5, 1)), 2, -1, "stride must be a positive integer"),
        (np.zeros((5, 1)), 2, True, "stride must be a positive integer"),
    ],
)
def test_windows_refuse(x, length, stride, message):
    with pytest.raises(ValueError, match=message):
        windows(x, length, stride)


def has_glitch(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutlierWarning)
        return without_glitches(x) is not x


@given(numbers)
def test_minmax_maps_train_into_0_1(x):
    assume(not has_glitch(x))
    z = Scaler("minmax").fit_transform(x)
    assert z.dtype == np.float32
    assert (z >= 0).all()
    assert (z <= 1).all()
    constant = (x == x[0]).all(0)
    assert (z[:, constant] == 0).all()
    assert (z[:, ~constant].max(0) == 1).all() if (~constant).any() else True


@given(numbers)
def test_standard_has_mean_0_and_variance_1(x):
    assume(not has_glitch(x))
    z = Scaler("standard").fit_transform(x).astype(np.float64)
    moving = np.ptp(x, axis=0) > 1e-3 * np.abs(x).max(0)
    np.testing.assert_allclose(z[:, moving].mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(z[:, moving].std(0), 1, atol=1e-3)
    assert (z[:, (x == x[0]).all(0)] == 0).all()
    assert np.isfinite(z).all()


@pytest.mark.parametrize("kind", ["minmax", "standard"])
def test_a_constant_channel_is_0_in_train_and_keeps_its_deviation_later(kind):
    scaler = Scaler(kind).fit(np.array([[7.0, 1.0], [7.0, 3.0]]))
    later = scaler.transform(np.array([[7.0, 1.0], [9.5, 1.0]]))
    assert later[:, 0].tolist() == [0.0, 2.5]


def test_only_train_is_learned_from_and_clip_bounds_the_rest():
    x, later = np.array([[0.0], [10.0]]), np.array([[20.0], [-20.0], [5.0]])
    assert Scaler("minmax").fit(x).transform(later)[:, 0].tolist() == [2.0, -2.0, 0.5]
    assert Scaler("minmax", clip=0.5).fit(x).transform(later)[:, 0].tolist() == [1.5, -0.5, 0.5]
    assert Scaler("none").fit(x).transform(later)[:, 0].tolist() == [20.0, -20.0, 5.0]


def test_extreme_ranges_stay_finite():
    x = np.array([[-3e38, 0.0], [3e38, 1e-45]], dtype=np.float32)
    for kind in ("minmax", "standard", "none"):
        assert np.isfinite(Scaler(kind).fit_transform(x)).all()


@pytest.mark.parametrize("kind", ["minmax", "standard"])
@pytest.mark.parametrize("offset", [1e6, -1e8, 1e10])
def test_an_offset_costs_no_digits(kind, offset):
    x = np.random.default_rng(0).normal(size=(200, 3))
    scaler, moved = Scaler(kind).fit(x), Scaler(kind).fit(x + offset)
    np.testing.assert_allclose(moved.transform(x + offset), scaler.transform(x), atol=1e-5)


@pytest.mark.parametrize("kind", ["minmax", "standard"])
def test_one_glitch_in_train_silences_no_channel(kind):
    x = np.random.default_rng(0).normal(size=(5000, 2))
    x[7, 1] = 1e20
    with pytest.warns(OutlierWarning, match=r"channel 1 is 1e\+20 in row 7"):
        scaler = Scaler(kind).fit(x)
    z = scaler.transform(x)
    assert np.median(np.abs(np.diff(z[:, 1]))) > 0.5 * np.median(np.abs(np.diff(z[:, 0])))
    assert z[7, 1] == 1e6
    assert np.isfinite(np.square(z)).all()


@pytest.mark.parametrize("level", [0.0, 250.0])
def test_rare_values_of_a_channel_that_rests_are_no_glitch(level):
    x = np.full((5000, 1), level)
    x[::1000] = 5e8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Scaler("minmax").fit_transform(x).max() == 1
    x[7] = 1e20
    with pytest.warns(OutlierWarning, match=r"channel 0 is 1e\+20 in row 7"):
        scaler = Scaler("minmax").fit(x)
    assert (scaler.shift, scaler.scale) == (level, 5e8 - level)


@pytest.mark.parametrize("n", [10, 900, 1000, 1001, 5000])
@pytest.mark.parametrize("glitch", [1e20, -3.4e38])
def test_a_glitch_is_found_among_few_rows_too(n, glitch):
    x = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    x[n // 2, 1] = glitch
    with pytest.warns(OutlierWarning, match=f"channel 1 is .* in row {n // 2}"):
        cut = without_glitches(x)
    inner = np.delete(x[:, 1], n // 2)
    assert inner.min() <= cut[:, 1].min() <= cut[:, 1].max() <= inner.max()
    np.testing.assert_array_equal(cut[:, 0], x[:, 0])
    assert x[n // 2, 1] == np.float32(glitch)  # of the caller's rows none is changed


def test_state_rebuilds_a_scaler():
    x = np.random.default_rng(0).random((20, 3))
    scaler = Scaler("standard", clip=2.0).fit(x)
    again = Scaler.from_state("standard", 2.0, scaler.state())
    assert np.array_equal(scaler.transform(x), again.transform(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Scaler("robust"), "scaler must be one of"),
        (lambda: Scaler(clip=0.0), "clip must be positive"),
        (lambda: Scaler().transform(np.zeros((2, 2))), "not fitted"),
        (lambda: Scaler().state(), "not fitted"),
        (lambda: Scaler().fit(np.zeros((0, 2))), "not empty"),
        (lambda: Scaler().fit(np.ones((2, 2))).transform(np.ones((2, 3))), "fitted on 2 channels"),
    ],
)
def test_scaler_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
