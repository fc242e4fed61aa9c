"""Planted anomalies: repeatable, labeled where they are, of the kind and size that was asked for."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madcluster.data.planted import KINDS, LENGTHS, planted


def normal(n=2000, c=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, c))


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(20, 3000), st.integers(1, 5), st.integers(1, 3))
def test_rows_change_where_the_labels_say_and_nowhere_else(seed, n, c, per_kind):
    rows = normal(max(n, 2 * per_kind * len(KINDS)), c, seed)
    before = rows.copy()
    made, labels = planted(rows, np.random.default_rng(seed), per_kind=per_kind)
    assert np.array_equal(rows, before)
    assert made.shape == rows.shape
    assert np.array_equal(made[~labels], rows[~labels])
    again, _ = planted(rows, np.random.default_rng(seed), per_kind=per_kind)
    assert np.array_equal(made, again)


@pytest.mark.parametrize("kind", KINDS)
def test_events_of_a_kind_have_its_length_and_leave_most_channels(kind):
    rows = normal()
    made, labels = planted(rows, np.random.default_rng(1), kinds=[kind], per_kind=3)
    assert labels.sum() == 3 * LENGTHS[kind]
    for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(labels.astype(int))) + 1):
        assert (made[part] != rows[part]).any(0).sum() == (2 if labels[part[0]] else 0)


def test_an_offset_has_its_size_and_a_spike_twice_that():
    rows = normal()
    for kind, factor in (("offset", 1), ("spike", 2)):
        made, labels = planted(rows, np.random.default_rng(2), kinds=[kind], sizes=(2, 2))
        moved = np.abs((made - rows)[labels] / rows.std(0))
        np.testing.assert_allclose(moved[moved > 0], 2 * factor)


def test_a_frozen_stretch_stays_at_its_first_value():
    rows = normal()
    made, labels = planted(rows, np.random.default_rng(3), kinds=["frozen"], per_kind=1)
    held = made[labels]
    assert (np.ptp(held, axis=0) == 0).sum() == 2
    assert np.array_equal(held[0], rows[labels][0])


def test_constant_channels_are_left_alone_unless_there_is_no_other():
    rows = normal()
    rows[:, 1:] = 3.0
    made, _ = planted(rows, np.random.default_rng(4))
    assert np.array_equal(made[:, 1:], rows[:, 1:])
    made, _ = planted(np.full((500, 2), 3.0), np.random.default_rng(4), kinds=["offset"])
    assert (made != 3.0).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": "spike"}, "kinds must be a list"),
        ({"kinds": []}, "kinds must be a list"),
        ({"kinds": ["spikes"]}, "spikes"),
        ({"per_kind": 0}, "per_kind must be a positive integer"),
        ({"sizes": (2, 1)}, "sizes must be"),
        ({"sizes": (0, 1)}, "sizes must be"),
        ({"sizes": 3}, "sizes must be two positive numbers in order, got 3"),
        ({"sizes": (1, 2, 3)}, "sizes must be"),
        ({"sizes": (1,)}, "sizes must be"),
        ({"sizes": ("a", "b")}, "sizes must be"),
        ({"sizes": (1, np.inf)}, "sizes must be"),
        ({"sizes": (1, np.nan)}, "sizes must be"),
        ({"kinds": None}, "kinds must be a list"),
        ({"kinds": [["spike"]]}, "kinds must be a list"),
        ({"per_kind": 200}, "1000 events need 2000 rows, got 100"),
    ],
)
def test_what_cannot_be_planted_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        planted(normal(100), np.random.default_rng(0), **options)


def with_one(value):
    rows = normal(100)
    rows[7, 2] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (with_one(np.nan), "rows holds NaN in row 7, channel 2"),
        (with_one(np.inf), "rows holds inf in row 7, channel 2"),
        (pd.DataFrame(with_one(np.nan), columns=[*"abcd"]), "rows holds NaN in row 7, channel c"),
        (normal(100)[:, 0], "rows must be 2-D"),
        (normal(100)[:, :0], "rows is empty"),
        (normal(100).astype(str), "rows must be numbers"),
        (None, "rows must be"),
    ],
)
def test_rows_that_are_no_table_of_finite_numbers_are_named(rows, message):
    with pytest.raises(ValueError, match=message):
        planted(rows, np.random.default_rng(0))


@pytest.mark.parametrize("rng", [0, None, np.random.RandomState(0)])
def test_what_is_no_generator_is_refused(rng):
    with pytest.raises(
        ValueError, match=r"rng must be a generator, such as numpy\.random\.default"
    ):
        planted(normal(100), rng)


def test_integers_truth_values_and_frames_are_planted_in_as_float64():
    whole = np.random.default_rng(0).integers(0, 9, (500, 3))
    expected, labels = planted(whole.astype(float), np.random.default_rng(1))
    for rows in (whole, pd.DataFrame(whole, columns=[*"abc"]), whole.tolist()):
        made, marked = planted(rows, np.random.default_rng(1))
        assert (type(made), made.dtype) == (np.ndarray, np.float64)
        assert np.array_equal(made, expected)
        assert np.array_equal(marked, labels)
    assert (made % 1 != 0).any()  # no size was cut to an integer
    true = whole > 4
    made, _ = planted(true, np.random.default_rng(1))
    assert np.array_equal(made, planted(true.astype(float), np.random.default_rng(1))[0])
    frozen = normal(500)
    frozen.flags.writeable = False
    assert planted(frozen, np.random.default_rng(1))[0].flags.writeable


@pytest.mark.parametrize(
    ("kind", "expected"), [(np.float32, "90df5d15c3d927c7"), (np.float64, "6dc96e02984e21dc")]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_of_float_keep_their_bytes(kind, expected, order):
    rng = np.random.default_rng(0)
    rows = np.array(rng.integers(0, 9, (500, 3)) / 8, dtype=kind, order=order)
    made, labels = planted(rows, np.random.default_rng(1), kinds=["frozen", "other time"])
    assert made.dtype == kind
    # what is only moved is the same on every processor
    assert hashlib.sha256(made.tobytes() + labels.tobytes()).hexdigest()[:16] == expected
