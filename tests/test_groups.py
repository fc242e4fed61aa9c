"""Streams that are fed together are each as if they were alone."""

import numpy as np
import pandas as pd
import pytest

from madcluster import MADCluster, synthetic
from madcluster.detectors import Ensemble, Mahalanobis, PCAError, RandomScore
from madcluster.service import streams
from madcluster.service.alarms import OnlineAlarms
from madcluster.service.groups import StreamGroup
from madcluster.service.streams import Stream

NAMES = ("north", "south", "west")
MINUTE = pd.Timedelta("1min")


@pytest.fixture(scope="module")
def series():
    return synthetic(n_train=400, n_test=300, n_channels=4, kinds=("spike",), per_kind=1, seed=0)


@pytest.fixture(scope="module")
def network(series):
    options = {"epochs": 1, "stride": 10, "window": 20, "options": {"d": 4, "n_layers": 2}}
    return MADCluster(**options, aggregate="last").fit(series.train)


@pytest.fixture(scope="module")
def detectors(series, network):
    made = [
        Mahalanobis(window=6),
        Mahalanobis(window=6, smooth=5),
        Mahalanobis(window=6, aggregate="window"),
        RandomScore(aggregate="last"),
        Ensemble((PCAError(), Mahalanobis(window=4))),
    ]
    return [network, *(detector.fit(series.train) for detector in made)]


def compare(found, expected):
    np.testing.assert_allclose(
        np.concatenate(found), np.concatenate(expected), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", range(6))
def test_each_is_as_alone(series, detectors, kind):
    detector = detectors[kind]
    group = StreamGroup({name: detector.stream() for name in NAMES})
    alone = {name: detector.stream() for name in NAMES}
    found, expected = ({name: [] for name in NAMES} for _ in range(2))
    generator = np.random.default_rng(0)
    for turn in range(60):
        if turn % 3:  # a row for each
            table = series.test[generator.integers(0, 300, 3)]
            given = dict(zip(NAMES, table[:, None], strict=True))
            scores = group.update(table)
        else:  # some rows for some
            start = generator.integers(0, 200, 3)
            given = {
                name: series.test[s : s + n]
                for name, s, n in zip(NAMES, start, generator.integers(0, 40, 3), strict=True)
                if n % 4
            }
            scores = group.update(given)
        assert list(scores) == list(given)
        for name, rows in given.items():
            found[name].append(scores[name])
            expected[name].append(alone[name].update(rows))
    for name, scores in group.finish().items():
        found[name].append(scores)
        expected[name].append(alone[name].finish())
        compare(found[name], expected[name])
        counts = [(each.seen, each.scored, each.unscored) for each in (group[name], alone[name])]
        assert counts[0] == counts[1]


def test_policies_gaps_and_alarms_are_each_ones_own(series, network):
    frames = {}
    for i, name in enumerate(NAMES):
        x = series.test[: 100 + i].astype(float)
        x[30 + i : 34, i] = np.nan
        steps = np.ones(len(x))
        steps[60 + i] = 90
        frames[name] = pd.DataFrame(x, pd.Timestamp("2026-03-01") + np.cumsum(steps) * MINUTE)

    def made():
        return {
            name: network.stream(
                missing=missing,
                max_hold=2,
                max_step=MINUTE,
                alarms=OnlineAlarms(network.threshold_),
                late="drop",
            )
            for name, missing in zip(NAMES, ("hold", "mask", "hold"), strict=True)
        }

    group, alone = StreamGroup(made()), made()
    found, expected = ({name: [] for name in NAMES} for _ in range(2))
    for row in range(100):
        rows = np.array([frame.to_numpy()[row] for frame in frames.values()])
        times = [frame.index[row] for frame in frames.values()]
        for name, scores in group.update(rows, times).items():
            found[name].append(scores)
            expected[name].append(alone[name].update(frames[name].iloc[[row]]))
            events = [
                [(event.kind, event.alarm.start, event.alarm.stop) for event in each[name].events]
                for each in (group, alone)
            ]
            assert events[0] == events[1]
            np.testing.assert_array_equal(group[name].marked, alone[name].marked)
    for name in NAMES:
        compare(found[name], expected[name])
        one, other = group[name], alone[name]
        assert (one.gaps, one.filled, one.unscored) == (1, other.filled, other.unscored)
    late = {name: frame.iloc[[50]] for name, frame in frames.items()}
    assert all(len(scores) == 0 for scores in group.update(late).values())
    assert [stream.dropped for stream in group.values()] == [1, 1, 1]


def test_windows_of_all_are_one_batch(series, detectors, monkeypatch):
    detector = detectors[1].as_fitted
    group = StreamGroup({str(i): detector.stream() for i in range(10)})
    group.update(dict.fromkeys(group, series.test[:20]))
    asked = []
    of_windows = detector.window_scores

    def counted(z, starts):
        asked.append(len(starts))
        return of_windows(z, starts)

    monkeypatch.setattr(detector, "window_scores", counted)
    group.update(series.test[:10])
    assert asked == [10]
    monkeypatch.setattr(streams, "BLOCK", 4)
    group.update(series.test[:10])
    assert asked == [10, 4, 4, 2]


def test_rows_of_all_are_one_step(series, network, monkeypatch):
    group = StreamGroup({str(i): network.stream() for i in range(10)})
    group.update({name: series.test[i : i + 30] for i, name in enumerate(group)})
    group.update(series.test[30:40])
    steps = group["0"].lane.steps
    asked = []
    of_rows = steps.scores

    def counted(numbers, x):
        asked.append(len(numbers))
        return of_rows(numbers, x)

    monkeypatch.setattr(steps, "scores", counted)
    scores = group.update(series.test[31:41])
    assert asked == [10]
    for i, found in enumerate(scores.values()):
        rows = series.test[i : i + 32].copy()
        rows[30:] = series.test[30 + i], series.test[31 + i]
        np.testing.assert_allclose(found, network.decision_function(rows)[-1:], rtol=1e-5)


def test_several_detectors_in_one_group(series, detectors):
    made = dict(zip("abcdef", detectors, strict=True))
    group = StreamGroup({name: each.stream() for name, each in made.items()})
    group.update(dict.fromkeys(group, series.test[:50]))
    table = group.update(np.repeat(series.test[50:51], 6, 0))
    for name, each in made.items():
        alone = each.stream()
        alone.update(series.test[:50])
        np.testing.assert_allclose(table[name], alone.update(series.test[50]), rtol=1e-5)


def test_one_of_a_group_goes_on_from_a_file(series, network, tmp_path):
    group = StreamGroup({name: network.stream() for name in NAMES})
    for row in series.test[:40]:
        group.update(np.repeat(row[None], 3, 0))
    group["south"].save(tmp_path / "state")
    again = StreamGroup({**group, "south": Stream.load(tmp_path / "state", network)})
    for row in series.test[40:60]:
        scores = again.update(np.repeat(row[None], 3, 0))
        np.testing.assert_allclose(scores["south"], scores["north"], rtol=1e-6)
    assert {stream.seen for stream in again.values()} == {60}


@pytest.mark.parametrize(
    ("rows", "time", "message"),
    [
        ({"north": np.zeros(4), "east": np.zeros(4)}, None, "'east', which is no name of a stream"),
        ({"north": np.zeros(4), "south": np.zeros(3)}, None, "stream 'south': rows has 3 features"),
        ({"north": np.zeros(4)}, {"east": 1}, "time has 'east'"),
        ({"north": np.zeros(4)}, [1], "time must be a mapping"),
        ([np.zeros(4)] * 3, None, r"rows must be a mapping of names to rows, or an array \(s c\)"),
        (np.zeros((2, 4)), None, r"one row for each of 3 streams, got \(2, 4\)"),
        (np.zeros((3, 5)), None, "rows has 5 features"),
        (np.full((3, 4), np.nan), None, "rows holds NaN in row 0"),
        (np.zeros((3, 4)), [1, 2], "time must be one for each of 3 rows"),
        (np.zeros((3, 4)), [9, 9, 1], "stream 'west': rows are late"),
    ],
)
def test_what_is_refused_is_taken_by_none(series, network, rows, time, message):
    group = StreamGroup({name: network.stream() for name in NAMES})
    group.update(dict.fromkeys(NAMES, series.test[:30]), dict.fromkeys(NAMES, np.arange(-25, 5)))
    with pytest.raises(ValueError, match=message):
        group.update(rows, time)
    assert [(stream.seen, stream.time) for stream in group.values()] == [(30, 4)] * 3


def test_what_is_no_group_is_refused(network):
    stream = network.stream(max_step=1)
    with pytest.raises(ValueError, match="streams is empty"):
        StreamGroup({})
    with pytest.raises(ValueError, match="'a' is 5"):
        StreamGroup({"a": 5})
    with pytest.raises(ValueError, match="one stream under two names"):
        StreamGroup({"a": stream, "b": stream})
    group = StreamGroup({"a": stream})
    with pytest.raises(ValueError, match="stream 'a': rows need times"):
        group.update(np.zeros((1, 4)))
    with pytest.raises(ValueError, match="stream 'a': 0 rows were seen, less than a window"):
        group.finish()
    assert len(group.update(np.zeros((1, 4)), 7)["a"]) == 0
    assert stream.time == 7
