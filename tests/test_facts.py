"""Facts of a series by hand, its thumbnail, and the committed ones against the data."""

import json

import numpy as np
import pytest

from madcluster import load, synthetic
from madcluster.data import Event, Series
from madcluster.study.facts import facts, liveliest, thumbnail
from madcluster.study.results import read_result


def small(**other):
    train = np.array([[0.0, 5.0, 0.0], [1.0, 5.0, 0.5], [0.0, 5.0, 1.0], [1.0, 5.0, 0.0]])
    test = np.array(
        [[0.0, 5.0, 0.5], [0.0, 5.0, 9.0], [1.0, 5.0, 0.5], [1.0, 5.0, 0.5], [0.0, 5.0, 0.5]]
    )
    return Series("small", train, test, [0, 1, 1, 0, 1], **other)


def test_facts_by_hand():
    row = facts(small())
    assert (row["train"], row["test"], row["channels"], row["anomalous"]) == (4, 5, 3, 3)
    assert json.loads(row["segments"]) == [[1, 3], [4, 5]]
    assert (row["constant"], row["binary"], row["first_constant"]) == (1, 1, False)
    assert row["changing"] == pytest.approx(4 / 12, abs=1e-4)
    assert row["outside"] == 0.2
    assert (row["largest_train"], row["largest_test"]) == (1, 1)
    assert json.loads(row["means"]) == [0.5, 5, 0.375]
    assert row["spread"] == pytest.approx((0.5 + 0 + np.std([0, 0.5, 1, 0])) / 3, abs=1e-4)
    assert row["unlisted"] is None


def test_listed_events_are_held_against_the_labels():
    assert facts(small(events=(Event("x", 1, 3), Event("x", 4, 5))))["unlisted"] == 0
    assert facts(small(events=(Event("x", 1, 4),)))["unlisted"] == 2


def test_equal_test_splits_have_one_digest_and_others_another():
    one, same, other = small(), small(), synthetic(n_train=100, n_test=4000)
    assert facts(one)["digest"] == facts(same)["digest"] != facts(other)["digest"]


def test_a_thumbnail_has_the_extremes_of_its_channels():
    series = synthetic(n_train=100, n_test=4000, seed=3)
    picture = thumbnail(series, n_channels=2, n_bins=50)
    assert len(picture) == 100
    for place, channel in enumerate(liveliest(series, 2)):
        part = picture[picture["channel"] == place]
        assert (part["low"].min(), part["high"].max()) == (0, 1)
        x = series.test[:, channel].astype(float)
        expected = (x[:80].max() - x.min()) / np.ptp(x)
        assert part["high"].iloc[0] == pytest.approx(expected, abs=0.006)
        assert (part["low"] <= part["high"]).all()


def test_a_thumbnail_of_few_rows_and_channels_has_no_more():
    picture = thumbnail(small(), n_channels=9, n_bins=100)
    assert picture.groupby("channel").size().to_list() == [5, 5, 5]
    resting = picture[picture["channel"] == 2]
    assert (resting[["low", "high"]] == 0).all(axis=None)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "all"])
def test_how_much_is_drawn_must_be_a_positive_whole_number(wrong):
    with pytest.raises(ValueError, match="n_bins must be a positive"):
        thumbnail(small(), n_bins=wrong)
    with pytest.raises(ValueError, match=r"^n must be a positive"):
        liveliest(small(), wrong)


@pytest.mark.parametrize("name", [("MSL", "M-6"), ("SMAP", "P-2"), ("SMD", "machine-1-3")])
def test_committed_facts_are_those_of_the_data(data_root, name):
    table = read_result("facts").set_index(["dataset", "entity"])
    row = facts(load(*name, data_root, fill="ffill"))
    for column, value in row.items():
        found = table.loc[name, column]
        if isinstance(value, str):
            assert found == value
        elif value is None:
            assert np.isnan(found)
        else:
            assert float(found) == pytest.approx(float(value), abs=1e-3)
