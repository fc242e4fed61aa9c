"""A service that is killed at any place has reported what one that never stops reports."""

import json
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madcluster import synthetic
from madcluster.detectors import Mahalanobis
from madcluster.service.alarms import OnlineAlarms, find_alarms
from madcluster.service.checkpoints import CheckpointError
from madcluster.service.loop import serve
from madcluster.service.streams import Stream

ROWS = 400


@pytest.fixture(scope="module")
def series():
    return synthetic(n_train=400, n_test=ROWS, n_channels=4, kinds=("spike", "drift"), seed=0)


@pytest.fixture(scope="module")
def detector(series):
    return Mahalanobis(window=5, aggregate="last", contamination=0.05).fit(series.train)


class Killed(BaseException):
    """Ends the service where it stands: nothing below catches it."""


class Broker:
    """Gives again all rows since the last save, and some from before."""

    def __init__(self, rows, blocks, again):
        self.rows, self.blocks, self.again = rows, blocks, again
        self.safe = self.given = 0

    def saved(self):
        self.safe = self.given

    def messages(self, until):
        """Blocks of rows with their numbers as times; killed before row `until`."""
        self.given, i = max(0, self.safe - self.again), 0
        while self.given < len(self.rows):
            if self.given >= until:
                raise Killed
            stop = self.given + self.blocks[i % len(self.blocks)]
            rows = self.rows[self.given : stop]
            self.given, i = self.given + len(rows), i + 1
            yield rows, np.arange(self.given - len(rows), self.given)
            yield None, None


def reported(folder):
    return [json.loads(line) for line in (folder / "alarms.jsonl").read_text().splitlines()]


@settings(max_examples=25, deadline=None)
@given(
    blocks=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    kills=st.lists(st.tuples(st.integers(0, ROWS), st.booleans()), max_size=5),
    again=st.integers(0, 30),
    every=st.integers(1, 100),
)
def test_killed_anywhere_nothing_is_lost_and_nothing_comes_twice(
    series, detector, tmp_path_factory, blocks, kills, again, every
):
    folder, broker = tmp_path_factory.mktemp("service"), Broker(series.test, blocks, again)

    def started(until, before_the_state=False):
        options = {"join": 3, "cooldown": 4, "min_length": 2}
        with pytest.MonkeyPatch.context() as patch:
            if before_the_state:  # the events are written, and it is killed before they are counted

                def killed(stream, path):
                    raise Killed

                patch.setattr(Stream, "save", killed)
            return serve(
                broker.messages(until),
                detector,
                folder,
                every=every,
                saved=broker.saved,
                alarms=OnlineAlarms(detector.threshold_, **options),
            )

    for kill in kills:
        with suppress(Killed):
            started(*kill)
    stream = started(2 * ROWS)
    assert (stream.seen, stream.time, stream.alarms.seen) == (ROWS, ROWS - 1, ROWS)
    lines = reported(folder)
    assert len(lines) == stream.alarms.reported > 0
    scores = detector.decision_function(series.test)
    expected = find_alarms(scores, detector.threshold_, join=3, cooldown=4, min_length=2)
    stream.finish()
    last = [event.alarm for event in stream.events if event.kind == "ended"]
    ended = [line for line in lines if line["event"] == "ended"]
    assert [(e["start"], e["stop"], e["peak"]) for e in ended] + [a[:3] for a in last] == [
        alarm[:3] for alarm in expected
    ]
    assert [line["start"] for line in lines if line["event"] == "began"] == [
        alarm.start for alarm in expected
    ]


def test_events_are_lines_of_json_with_times(series, detector, tmp_path):
    time = pd.date_range("2026-03-01", periods=ROWS, freq="min", tz="Europe/Vienna")
    frame = pd.DataFrame(series.test, time)
    frame.iloc[50, 1] = np.nan
    options = {"missing": "hold", "max_hold": 0, "max_step": pd.Timedelta("1min")}
    alarms = OnlineAlarms(1e9)
    stream = serve([(frame, None)], detector, tmp_path, alarms=alarms, **options)
    began, _ = reported(tmp_path)
    assert began == {
        "event": "began",
        "start": 50,
        "stop": 51,
        "peak": 50,
        "score": None,
        "reported": "2026-03-01 05:39:00+00:00",
    }
    assert stream.time == time[-1]


def test_a_service_says_what_it_needs(series, detector, tmp_path):
    rows = [(series.test, np.arange(ROWS))]
    with pytest.raises(ValueError, match="a service needs alarms"):
        serve(rows, detector, tmp_path / "a")
    alarms = OnlineAlarms(detector.threshold_)
    with pytest.raises(ValueError, match="rows need times, by which"):
        serve([(series.test, None)], detector, tmp_path / "b", alarms=alarms)
    with pytest.raises(ValueError, match="every must be a positive integer"):
        serve(rows, detector, tmp_path / "c", alarms=alarms, every=0)
    serve(rows, detector, tmp_path / "d", alarms=OnlineAlarms(detector.threshold_))
    (tmp_path / "d" / "alarms.jsonl").write_text("")
    with pytest.raises(CheckpointError, match=r"holds 0 events, but the state .* has reported"):
        serve(rows, detector, tmp_path / "d")
