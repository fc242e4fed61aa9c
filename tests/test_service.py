"""A service that is killed at any place has reported what one that never stops reports."""

import json
from concurrent.futures import ThreadPoolExecutor
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
from madcluster.service.loop import history, mark, serve
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
    assert history(folder)["start"].tolist() == [alarm.start for alarm in expected]


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


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


REMEDY = r"begin in another folder, or move state, alarms\.jsonl and verdicts\.jsonl away together"


@pytest.mark.parametrize("left", ["alarms.jsonl", "verdicts.jsonl"])
def test_alarms_without_their_state_are_not_cut(series, detector, tmp_path, left):
    rows, threshold = (series.test, np.arange(ROWS)), detector.threshold_
    folder = tmp_path / "pump"
    serve([rows], detector, folder, alarms=OnlineAlarms(threshold))
    first = history(folder)["start"].iloc[0]
    mark(folder, first, "fault")
    (folder / "state").rename(tmp_path / "state")
    for name in {"alarms.jsonl", "verdicts.jsonl"} - {left}:
        (folder / name).rename(tmp_path / name)
    before = contents(folder)
    words = rf"pump has lines in {left} .* belong to a state that is gone\. Put the state back, "
    with pytest.raises(CheckpointError, match=words + REMEDY):
        serve([rows], detector, folder, alarms=OnlineAlarms(threshold))
    assert contents(folder) == before
    for path in (tmp_path / name for name in {"alarms.jsonl", "verdicts.jsonl", "state"} - {left}):
        path.rename(folder / path.name)
    serve([rows], detector, folder)  # as the message says
    assert history(folder)["verdict"].tolist()[0] == "fault"
    (folder / "away").mkdir()
    for name in ("state", "alarms.jsonl", "verdicts.jsonl"):
        (folder / name).rename(folder / "away" / name)
    serve([rows], detector, folder, alarms=OnlineAlarms(threshold))
    assert history(folder)["verdict"].isna().all()


def test_a_state_that_cannot_be_gone_on_with_is_left_as_it_is(series, detector, tmp_path):
    rows = [(series.test, np.arange(ROWS))]
    serve(rows, detector, tmp_path, alarms=OnlineAlarms(detector.threshold_))
    other = Mahalanobis(window=5, aggregate="last").fit(series.train[:200])
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match=rf"go on: .* of a detector with another .*{REMEDY}"):
        serve(rows, other, tmp_path)
    assert contents(tmp_path) == before
    (tmp_path / "state").write_bytes(before["state"][:-9])
    with pytest.raises(CheckpointError, match=rf"go on: .*state.* Put a copy .*{REMEDY}"):
        serve(rows, detector, tmp_path)
    (tmp_path / "state").write_bytes(before["state"])
    (tmp_path / "alarms.jsonl").unlink()
    with pytest.raises(CheckpointError, match=rf"holds 0 events, but the state .*{REMEDY}"):
        serve(rows, detector, tmp_path)
    assert contents(tmp_path) == {"state": before["state"]}


def test_a_service_that_is_killed_before_its_first_save_goes_on(series, detector, tmp_path):
    def killed():
        yield series.test[:200], np.arange(200)
        raise Killed

    def started(source, folder):
        return serve(source, detector, folder, alarms=OnlineAlarms(detector.threshold_, join=3))

    with pytest.raises(Killed):
        started(killed(), tmp_path / "one")
    assert len(reported(tmp_path / "one")) > 0
    assert Stream.load(tmp_path / "one" / "state", detector).seen == 0
    for name in ("one", "two"):
        stream = started([(series.test, np.arange(ROWS))], tmp_path / name)
        assert (stream.seen, stream.dropped) == (ROWS, 0)
    assert reported(tmp_path / "one") == reported(tmp_path / "two")
    assert Stream.load(tmp_path / "one" / "state", detector).seen == ROWS


def test_a_start_that_fails_leaves_no_state(series, detector, tmp_path):
    with pytest.raises(ValueError, match="rows need times"):
        serve([(series.test, None)], detector, tmp_path, alarms=OnlineAlarms(1.0))
    assert not (tmp_path / "state").exists()


def line(kind, start, stop, peak, score, reported):
    about = {"event": kind, "start": start, "stop": stop, "peak": peak, "score": score}
    return json.dumps({**about, "reported": reported}) + "\n"


LINES = (
    line("began", 3, 4, 3, 5.5, 4),
    line("began", 9, 10, 9, None, 9),
    line("ended", 3, 8, 5, 7.25, 10),
    line("ended", 9, 12, 9, None, 12),
    line("began", 20, 21, 20, 6.0, 20),
)


def test_the_history_is_a_row_for_each_alarm(tmp_path):
    (tmp_path / "alarms.jsonl").write_text("".join(LINES))
    found = history(tmp_path)
    columns = ["start", "stop", "peak", "score", "began", "ended", "verdict", "note"]
    assert found.columns.tolist() == columns
    assert found[["start", "stop", "peak"]].to_numpy().tolist() == [
        [3, 8, 5],
        [9, 12, 9],
        [20, 21, 20],
    ]
    assert found["score"].tolist()[::2] == [7.25, 6.0]
    assert found["score"].isna().tolist() == [False, True, False]
    assert found["began"].tolist() == [4, 9, 20]
    assert found["ended"].tolist()[:2] == [10, 12]
    assert found["ended"].isna().tolist() == [False, False, True]  # it is open
    assert found["verdict"].isna().all()


@pytest.mark.parametrize("zone", [None, "Europe/Vienna"])
def test_the_history_of_a_service_has_its_alarms_and_times(series, detector, tmp_path, zone):
    time = pd.date_range("2026-03-01", periods=ROWS, freq="min", tz=zone)
    frame = pd.DataFrame(series.test, time)
    threshold = detector.threshold_
    serve(
        ((frame[i : i + 1], None) for i in range(ROWS)),
        detector,
        tmp_path,
        alarms=OnlineAlarms(threshold),
    )
    found = history(tmp_path)
    expected = find_alarms(detector.decision_function(series.test), threshold)
    assert len(expected) > 2
    assert found["start"].tolist() == [alarm.start for alarm in expected]
    closed = found["ended"].notna()
    assert closed.sum() >= len(expected) - 1
    assert found["stop"][closed].tolist() == [a.stop for a in expected if a.stop < ROWS]
    times = time if zone is None else time.tz_convert("UTC")
    after = [alarm.start > 4 for alarm in expected]  # the first window is scored with its last row
    assert found["began"][after].tolist() == [
        times[a.start] for a, later in zip(expected, after, strict=True) if later
    ]
    assert found["ended"][closed].tolist() == [times[a.stop] for a in expected if a.stop < ROWS]
    assert found["began"].dtype == found["ended"].dtype


def test_a_service_without_alarms_has_a_history(series, detector, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"alarms\.jsonl: give the folder of a service"):
        history(tmp_path)
    serve([(series.test, np.arange(ROWS))], detector, tmp_path, alarms=OnlineAlarms(1e9))
    assert history(tmp_path).empty
    assert len(history(tmp_path).columns) == 8


def test_a_last_line_that_is_cut_is_none(tmp_path):
    path = tmp_path / "alarms.jsonl"
    for cut in range(len(LINES[-1])):
        path.write_text("".join(LINES[:-1]) + LINES[-1][:cut])
        assert history(tmp_path)["start"].tolist() == [3, 9]


@pytest.mark.parametrize(
    ("number", "text", "words"),
    [
        (2, "{", "Expecting property name"),
        (1, "[]\n", "list indices"),
        (2, line("stopped", 9, 10, 9, None, 9), "event must be one of"),
        (2, line("began", 3, 4, 3, 5.5, 4), "alarm of row 3 began out of order"),
        (1, line("ended", 3, 4, 3, 5.5, 4), "alarm of row 3 ended out of order"),
        (4, line("ended", 3, 8, 5, 7.25, 10), "alarm of row 3 ended out of order"),
        (3, line("ended", 3, 8, 8, 7.25, 10), "rows 3 … 8 with its peak in 8"),
        (2, line("began", 9, 10, 9, None, "nat"), "reported is no time"),
        (3, line("ended", 3, 8, 5, 7.25, "2026-03-01"), "time is of another kind"),
        (5, line("began", 20, 21, 20, 6.0, "2026-03-01"), "time is of another kind"),
        (3, line("ended", 3, 8, 5, float("nan"), 10), "score must be above -inf"),
        (2, line("began", 9, 10, 9, None, None), "reported must be above -inf"),
        (2, line("began", 9, 10, 9, None, "now then"), "Unknown datetime string"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, number, text, words):
    lines = [*LINES]
    lines[number - 1] = text.rstrip("\n") + "\n"
    (tmp_path / "alarms.jsonl").write_text("".join(lines))
    with pytest.raises(
        CheckpointError, match=rf"alarms\.jsonl is damaged in line {number}: .*{words}"
    ):
        history(tmp_path)


def test_the_last_verdict_of_an_alarm_counts(tmp_path):
    (tmp_path / "alarms.jsonl").write_text("".join(LINES))
    mark(tmp_path, 20, "fault", note="pump two")
    mark(tmp_path, 3, "fault")
    mark(tmp_path, np.int64(3), "false", note="it was cleaned")
    found = history(tmp_path)
    assert found["verdict"].isna().tolist() == [False, True, False]
    assert found["verdict"].tolist()[::2] == ["false", "fault"]
    assert found["note"].tolist()[::2] == ["it was cleaned", "pump two"]
    lines = [json.loads(text) for text in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    assert [said["start"] for said in lines] == [20, 3, 3]  # none is lost
    assert abs(pd.Timestamp(lines[0]["marked"]) - pd.Timestamp.now("UTC")) < pd.Timedelta("1min")


def test_a_verdict_of_no_alarm_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        mark(tmp_path, 3, "fault")
    (tmp_path / "alarms.jsonl").write_text("".join(LINES))
    with pytest.raises(ValueError, match=r"start must be the first row of an alarm in .*, got 4"):
        mark(tmp_path, 4, "fault")
    with pytest.raises(ValueError, match="verdict must be one of"):
        mark(tmp_path, 3, "wrong")
    with pytest.raises(ValueError, match="note must be one line"):
        mark(tmp_path, 3, "fault", note="two\nlines")
    assert not (tmp_path / "verdicts.jsonl").exists()


def test_a_verdict_that_was_cut_is_none_and_the_next_is_whole(tmp_path):
    (tmp_path / "alarms.jsonl").write_text("".join(LINES))
    mark(tmp_path, 3, "fault")
    path = tmp_path / "verdicts.jsonl"
    whole = path.read_text()
    path.write_text(whole + whole[:-5])
    assert history(tmp_path)["verdict"][0] == "fault"
    mark(tmp_path, 20, "false")
    assert path.read_text().startswith(whole)
    assert len(path.read_text().splitlines()) == 2
    path.write_text(whole.replace("fault", "maybe") + whole)
    with pytest.raises(
        CheckpointError, match=r"verdicts\.jsonl is damaged in line 1: verdict must"
    ):
        history(tmp_path)


def test_verdicts_that_are_written_at_once_are_all_there(tmp_path):
    lines = [line("began", i, i + 1, i, 5.0, i) for i in range(40)]
    (tmp_path / "alarms.jsonl").write_text("".join(lines))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda start: mark(tmp_path, start, "false"), range(40)))
    assert (history(tmp_path)["verdict"] == "false").all()
