"""The synthetic plant: repeatable, labeled where it is broken, and hard for a single channel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from madcluster.data import KINDS, synthetic
from madcluster.detectors import PCAError


def test_the_same_seed_gives_the_same_bytes():
    first, second, other = synthetic(seed=3), synthetic(seed=3), synthetic(seed=4)
    assert first.train.tobytes() == second.train.tobytes()
    assert first.test.tobytes() == second.test.tobytes()
    assert first.events == second.events
    assert first.test.tobytes() != other.test.tobytes()


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.sampled_from([2, 3, 8, 20]), st.integers(1, 3))
def test_events_are_the_labels_and_lie_apart(seed, n_channels, per_kind):
    series = synthetic(50, 2000, n_channels, seed=seed, per_kind=per_kind)
    labels = np.zeros(2000, dtype=int)
    for event in series.events:
        labels[event.start : event.stop] += 1
        assert all(0 <= channel < n_channels for channel in event.channels)
    assert labels.max() == 1
    assert np.array_equal(labels == 1, series.labels)
    assert len(series.segments) == len(series.events) == per_kind * len(KINDS)
    for kind in KINDS:
        assert len(series.events_of(kind)) == per_kind


def test_an_event_changes_its_channels_and_no_others():
    for kind in KINDS:
        clean = synthetic(50, 600, seed=1, kinds=[kind], per_kind=0)
        broken = synthetic(50, 600, seed=1, kinds=[kind], per_kind=1)
        changed = np.argwhere(np.abs(clean.test - broken.test).max(0) > 0).ravel()
        (event,) = broken.events
        assert tuple(changed) == event.channels
        rows = np.flatnonzero(np.abs(clean.test - broken.test).max(1) > 0)
        assert event.start <= rows.min() <= rows.max() < event.stop


def test_a_broken_correlation_keeps_the_range_of_its_channel():
    clean = synthetic(seed=2, kinds=["correlation"], per_kind=0)
    broken = synthetic(seed=2, kinds=["correlation"])
    for event in broken.events_of("correlation"):
        for channel in event.channels:
            stretch = broken.test[event.start : event.stop, channel]
            assert clean.test[:, channel].min() - 0.3 < stretch.min()
            assert stretch.max() < clean.test[:, channel].max() + 0.3


def test_contamination_touches_train_only():
    clean, dirty = synthetic(seed=0), synthetic(seed=0, contamination=1)
    assert not np.array_equal(clean.train, dirty.train)
    assert clean.train.shape == dirty.train.shape


def test_channels_together_tell_more_than_each_alone():
    series = synthetic(seed=0)
    joint = PCAError().fit(series.train).decision_function(series.test)
    alone = np.abs((series.test - series.train.mean(0)) / series.train.std(0)).max(1)
    both = [average_precision_score(series.labels, score) for score in (joint, alone)]
    assert both[0] > both[1] + 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kinds": ["spike", "glitch"]}, r"some of \('spike', .*'correlation'\), got \['glitch'\]"),
        ({"kinds": "spike"}, r"must be a list of some of .*, got \['spike'\]"),
        ({"per_kind": -1}, "per_kind must not be negative"),
        ({"contamination": -1}, "contamination must not be negative"),
        ({"n_channels": 1}, "n_channels must be at least 2"),
        ({"n_train": 0}, "n_train must be positive"),
        ({"n_test": 300}, "events need a split of at least 800 rows, got 300"),
        ({"noise": -0.1}, "noise must not be negative"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        synthetic(**arguments)
