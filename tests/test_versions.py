"""No version is lost, two are compared by hand, verdicts are used as far as they go."""

import json
import math
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from torch import nn

from madcluster import MADCluster, synthetic, versions
from madcluster.data.planted import planted
from madcluster.detectors import Detector, Mahalanobis, PCAError, RandomScore
from madcluster.metrics import vus_score
from madcluster.service.alarms import Alarm, OnlineAlarms, find_alarms
from madcluster.service.checkpoints import CheckpointError
from madcluster.service.loop import history, mark, serve
from madcluster.versions import Versions, compare, normal_rows, seen_rate


@pytest.fixture(scope="module")
def series():
    return synthetic(n_train=600, n_test=600, n_channels=3, kinds=("spike", "drift"), seed=0)


@pytest.fixture(scope="module")
def detector(series):
    return PCAError(contamination=0.05).fit(series.train)


class Channel(Detector):
    """A channel is the score."""

    def __init__(
        self, channel=0, window=1, scaler="none", aggregate="last", smooth="off", contamination=0.1
    ):
        self.channel, self.window, self.scaler = channel, window, scaler
        self.aggregate, self.smooth, self.contamination = aggregate, smooth, contamination

    def window_scores(self, z, starts):
        return z[starts[:, None] + np.arange(self.window), self.channel]


def of_channel(channel, threshold, **options):
    fitted = Channel(channel, **options).fit(np.arange(40.0).reshape(20, 2))
    fitted.threshold_ = threshold
    return fitted


# --- versions ---------------------------------------------------------------------------------------


def test_the_first_version_is_in_service_and_none_is_overwritten(series, detector, tmp_path):
    kept = Versions(tmp_path / "pump")
    assert (len(kept), list(kept), kept.current) == (0, [], None)
    assert kept.frame().empty
    assert kept.switches().empty
    assert kept.add(detector, "January") == 1
    other = Mahalanobis().fit(series.train)
    assert kept.add(other) == 2
    again = Versions(tmp_path / "pump")
    assert (len(again), list(again), again.current) == (2, [1, 2], 1)
    expected = detector.decision_function(series.test)
    assert np.array_equal(again.load().decision_function(series.test), expected)
    assert type(again.load(2)) is Mahalanobis


def test_what_is_said_of_a_version_is_what_its_detector_says(series, detector, tmp_path):
    kept = Versions(tmp_path)
    kept.add(detector, "January")
    kept.add(PCAError().fit(series.train[:300]))
    frame = kept.frame()
    assert frame.index.name == "number"
    assert frame["detector"].tolist() == ["PCAError", "PCAError"]
    assert frame["fitted_on"].tolist() == [detector.fitted_on_, "300 rows"]
    assert frame["calibrated_on"][1] == detector.calibrated_on_
    assert frame["threshold"][1] == detector.threshold_
    assert frame["note"].tolist() == ["January", ""]
    assert frame["in_service"].tolist() == [True, False]
    assert frame["fitted_at"][1] == pd.Timestamp(detector.fitted_at_)
    assert abs(frame["added"][2] - pd.Timestamp.now("UTC")) < pd.Timedelta("1min")


def test_a_switch_is_written_down_and_can_be_taken_back(detector, tmp_path):
    kept = Versions(tmp_path)
    kept.add(detector)
    kept.add(detector)
    kept.switch(2, "fewer alarms")
    assert kept.current == 2
    kept.switch(1, "it missed one")
    found = kept.switches()
    assert found["to"].tolist() == [1, 2, 1]
    assert found["from"].isna().tolist() == [True, False, False]
    assert found["from"][1:].tolist() == [1, 2]
    assert found["note"].tolist() == ["", "fewer alarms", "it missed one"]
    assert found["at"].is_monotonic_increasing


def test_a_wrong_number_or_note_is_named(detector, tmp_path):
    kept = Versions(tmp_path / "none")
    with pytest.raises(ValueError, match="no version in service: add a detector"):
        kept.load()
    with pytest.raises(ValueError, match="no version to switch to: add a detector first"):
        kept.switch(1)
    with pytest.raises(NotFittedError):
        kept.add(PCAError())
    assert not (tmp_path / "none").exists()
    kept.add(detector)
    with pytest.raises(ValueError, match=r"number must be that of a version, one of \[1\], got 2"):
        kept.load(2)
    with pytest.raises(ValueError, match="number must be a positive integer, got True"):
        kept.switch(True)
    with pytest.raises(ValueError, match="number 1 is the version in service already"):
        kept.switch(1)
    for write in (kept.switch, kept.add):
        with pytest.raises(ValueError, match="note must be one line of text"):
            write(1 if write == kept.switch else detector, "two\nlines")
    kept.add(detector)
    (tmp_path / "none" / "0002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"0002\.safetensors"):
        kept.switch(2)
    assert kept.current == 1
    assert kept.add(detector) == 3  # a number that was given is given to no other


def test_a_refit_is_a_version_that_is_not_in_service(series, detector, tmp_path):
    kept = Versions(tmp_path)
    with pytest.raises(ValueError, match="no version in service"):
        kept.refit(series.test)
    kept.add(detector)
    new = series.train[300:]
    assert kept.refit(new, note="February") == 2
    assert kept.current == 1
    expected = PCAError(contamination=0.05).fit(new)
    assert kept.load(2).threshold_ == expected.threshold_
    assert np.array_equal(kept.load(2).decision_scores_, expected.decision_scores_)
    assert kept.refit(new, "quantile", contamination=0.2) == 3
    assert kept.load(3).threshold_ == np.quantile(expected.calibration_scores_, 0.8)
    for arguments, words in (
        ((new[:, :2],), "X has 2 features"),
        ((new, "median"), "rule must be one of"),
    ):
        with pytest.raises(ValueError, match=words):
            kept.refit(*arguments)
    with pytest.raises(ValueError, match=r"\['contamination'\] are arguments of a rule"):
        kept.refit(new, contamination=0.2)
    assert list(kept) == [1, 2, 3]


def test_a_threshold_alone_is_a_version_too(series, detector, tmp_path):
    kept = Versions(tmp_path)
    kept.add(detector)
    kept.add(kept.load().calibrate("quantile", on=series.train[:200], contamination=0.5))
    frame = kept.frame()
    assert frame["fitted_at"][1] == frame["fitted_at"][2]
    assert "200 rows" in frame["calibrated_on"][2]
    scores = detector.decision_function(series.train[:200])
    assert frame["threshold"][2] == np.median(scores)


class Killed(BaseException):
    """Ends the process where it stands: nothing below catches it."""


@pytest.mark.parametrize("before", [0, 1])
def test_a_kill_between_file_and_entry_loses_nothing(detector, tmp_path, monkeypatch, before):
    kept = Versions(tmp_path)
    for _ in range(before):
        kept.add(detector)

    def killed(path):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(versions, "whole_file", killed)
        with pytest.raises(Killed):
            kept.add(detector, "lost")
    assert (tmp_path / f"{before + 1:04d}.safetensors").exists()
    assert list(kept) == list(range(1, before + 1))
    assert kept.add(detector, "again") == before + 2
    frame = kept.frame()
    assert frame["note"].tolist()[-2:] == ["taken up: its file had no entry", "again"]
    assert set(frame["threshold"]) == {detector.threshold_}
    assert kept.current == (1 if before else None)  # what was taken up is not put into service


KILLED = """
import os, signal, sys
from madcluster import versions
from madcluster.detectors import Detector
versions.whole_file = lambda path: os.kill(os.getpid(), signal.SIGKILL)
kept = versions.Versions(sys.argv[1])
kept.add(kept.load())
"""


def test_a_killed_process_holds_no_lock(detector, tmp_path):
    kept = Versions(tmp_path)
    kept.add(detector)
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)])
    assert process.returncode == -signal.SIGKILL
    kept.switch(2)
    assert kept.frame()["note"][2] == "taken up: its file had no entry"
    assert kept.current == 2


def test_versions_that_are_added_at_once_are_all_there(series, detector, tmp_path):
    def add(number):
        return number, Versions(tmp_path).add(detector, f"{number}")

    with ThreadPoolExecutor(4) as pool:
        found = dict(pool.map(add, range(12)))
    assert sorted(found.values()) == list(range(1, 13))
    notes = Versions(tmp_path).frame()["note"]
    assert {int(note): number for number, note in notes.items()} == found


def test_a_damaged_list_is_named_and_its_files_are_taken_up_again(detector, tmp_path):
    kept, path = Versions(tmp_path), tmp_path / "versions.json"
    kept.add(detector, "January")
    kept.add(detector)
    whole = path.read_text()
    damaged = {
        "cut": whole[:-9],
        "text": '"versions"',
        "format": whole.replace('"format": 1', '"format": 9'),
        "twice": whole.replace('"number": 2', '"number": 1'),
        "nowhere": whole.replace('"to": 1', '"to": 7'),
        "screen": whole.replace("January", "\\u001b[2J"),
        "date": whole.replace('"at": "2', '"at": "x'),
        "number": whole.replace('"threshold": ', '"threshold": "1'),
    }
    for name, text in damaged.items():
        assert text != whole, name
        path.write_text(text)
        for look in (kept.load, kept.frame, lambda: kept.add(detector), lambda: kept.switch(2)):
            with pytest.raises(CheckpointError, match=r"versions\.json is no list of versions: "):
                look()
    path.rename(tmp_path / "moved")
    kept.switch(2, "as before")
    assert (list(kept), kept.current) == ([1, 2], 2)
    assert kept.frame()["threshold"].tolist() == [detector.threshold_] * 2


def test_where_files_were_taken_up_none_is_in_service_until_a_switch(series, detector, tmp_path):
    kept = Versions(tmp_path)
    for _ in range(2):
        kept.add(detector)
    kept.switch(2)
    (tmp_path / "versions.json").rename(tmp_path / "moved")
    words = r"has no version in service: switch to one of \[1, 2\]"
    for look in (kept.load, lambda: kept.refit(series.train)):
        with pytest.raises(ValueError, match=words):
            look()
    assert kept.current is None
    new = Mahalanobis().fit(series.train)
    assert (kept.add(new, "never compared"), kept.add(new)) == (3, 4)
    assert kept.current is None
    assert kept.switches().empty
    assert not kept.frame()["in_service"].any()
    with pytest.raises(ValueError, match=r"no version in service: switch to one of \[1, 2, 3, 4\]"):
        kept.load()
    kept.switch(2, "as before")
    assert kept.current == 2
    assert type(kept.load()) is PCAError
    assert kept.switches()["from"].isna().tolist() == [True]
    assert kept.add(new) == 5
    assert kept.current == 2


@pytest.mark.parametrize("wrong", [None, "pump", PCAError, np.zeros(3)])
def test_what_is_no_detector_is_named(detector, tmp_path, wrong):
    with pytest.raises(ValueError, match="detector must be a fitted Detector, got"):
        Versions(tmp_path / "none").add(wrong)
    assert not (tmp_path / "none").exists()
    for name in ("old", "new"):
        pair = {"old": detector, "new": detector, name: wrong}
        with pytest.raises(ValueError, match=f"{name} must be a fitted Detector, got"):
            compare(**pair, X=np.zeros((9, 3)), rows_per_day=1)


def test_a_file_of_another_kind_is_named(detector, tmp_path):
    kept = Versions(tmp_path)
    kept.add(detector)
    (tmp_path / "0002.safetensors").write_text("no detector")
    with pytest.raises(
        CheckpointError, match=r"0002\.safetensors has no entry .* move it elsewhere"
    ):
        kept.add(detector)
    (tmp_path / "0002.safetensors").rename(tmp_path / "other.safetensors")
    assert kept.add(detector) == 2


def test_a_detector_of_ones_own_is_read_by_its_own_load(tmp_path):
    with pytest.raises(CheckpointError, match="holds a Channel, which is none of the detectors"):
        Versions(tmp_path).add(of_channel(1, 0.5))
    assert len(Versions(tmp_path)) == 0
    assert not list(tmp_path.glob("*.safetensors"))
    kept = Versions(tmp_path, read=Channel.load)
    assert kept.add(of_channel(1, 0.5)) == 1
    assert kept.load().threshold_ == 0.5


def test_a_network_of_ones_own_is_fitted_anew_from_its_start(series, tmp_path):
    network = nn.Linear(3, 4)
    quick = {"window": 20, "stride": 20, "epochs": 1}
    kept = Versions(tmp_path, read=lambda path: MADCluster.load(path, embedder=network))
    kept.add(MADCluster(network, **quick).fit(series.train))
    kept.refit(series.test)
    expected = MADCluster(network, **quick).fit(series.test)
    assert np.array_equal(kept.load(2).decision_scores_, expected.decision_scores_)


# --- old against new --------------------------------------------------------------------------------


OLD = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0]
NEW = [0, 0, 2, 2, 0, 0, 0, 2, 0, 0]


def test_two_detectors_are_compared_by_hand():
    X = np.column_stack([OLD, NEW]).astype(float)
    found = compare(of_channel(0, 0.5), of_channel(1, 1.0), X, rows_per_day=5)
    assert found.table.index.tolist() == ["old", "new"]
    assert found.table["threshold"].tolist() == [0.5, 1.0]
    assert found.table["above"].tolist() == [0.3, 0.3]
    assert found.table["alarms"].tolist() == [2, 2]
    assert found.table["alarms_a_day"].tolist() == [1.0, 1.0]
    assert found.table["without_score"].tolist() == [0, 0]
    shares = {"both": 0.1, "only_old": 0.2, "only_new": 0.2, "neither": 0.5}
    assert found.agreement.drop("rank_correlation").to_dict() == pytest.approx(shares)
    # three ones among ten: ranks 9 and 4, of which one coincides: (1 − 0.9)/(3 − 0.9)
    assert found.agreement["rank_correlation"] == pytest.approx(0.1 / 2.1)
    columns = ["start", "stop", "rows", "by", "old", "new", "old_score", "new_score"]
    assert found.alarms.columns.tolist() == columns
    assert found.alarms.to_numpy().tolist() == [
        [1, 4, 3, "both", 1, 1, 1, 2],
        [5, 6, 1, "only old", 1, 0, 1, 0],
        [7, 8, 1, "only new", 0, 1, 0, 2],
    ]
    assert found.planted is None


def test_alarms_that_touch_are_two_and_one_that_covers_two_is_one():
    X = np.column_stack([[1, 0, 1, 0, 1, 0], [1, 1, 1, 0, 0, 1]]).astype(float)
    time = pd.date_range("2026-03-01", periods=6, freq="min")
    found = compare(
        of_channel(0, 0.5), of_channel(1, 0.5), pd.DataFrame(X, time), rows_per_day=1440
    ).alarms
    assert found["by"].tolist() == ["both", "only old", "only new"]
    assert found[["old", "new"]].to_numpy().tolist() == [[2, 1], [1, 0], [0, 1]]
    assert found["start"].tolist() == [time[0], time[4], time[5]]
    assert found["end"].tolist() == [time[2], time[4], time[5]]


def test_no_alarms_are_a_table_and_a_constant_score_has_no_rank():
    X = np.column_stack([np.zeros(6), np.arange(6.0)])
    found = compare(of_channel(0, 9.0), of_channel(1, 9.0), X, rows_per_day=6)
    assert len(found.alarms) == 0
    assert found.agreement["neither"] == 1
    assert math.isnan(found.agreement["rank_correlation"])
    same = compare(of_channel(1, 4.0), of_channel(1, 4.0), X, rows_per_day=6)
    assert same.agreement["rank_correlation"] == 1
    assert same.alarms["by"].tolist() == ["both"]


def test_rows_without_a_score_are_counted_apart():
    frame = pd.DataFrame(np.column_stack([OLD, NEW]).astype(float), [*range(4), *range(9, 15)])
    old, new = of_channel(0, 0.5), of_channel(1, 1.0, window=5)
    found = compare(old, new, frame, rows_per_day=3, max_step=1.5)
    assert found.table["without_score"].tolist() == [0, 4]
    assert found.table["alarms"].tolist() == [2, 1]
    assert found.table["alarms_a_day"].tolist() == pytest.approx([2 / (10 / 3), 1 / (6 / 3)])
    shares = {"both": 0, "only_old": 1 / 6, "only_new": 1 / 6, "neither": 4 / 6}
    assert found.agreement.drop("rank_correlation").to_dict() == pytest.approx(shares)
    assert math.isnan(found.alarms["new_score"][0])
    with pytest.raises(ValueError, match="no row that both score"):
        compare(old, new, frame.iloc[[0, 1, 2, 3, 5]], rows_per_day=3, max_step=0.5)


def test_planted_events_tell_a_blind_detector_from_one_that_sees(series):
    blind, sees = RandomScore().fit(series.train), Mahalanobis(smooth=20).fit(series.train)
    options = {"rows_per_day": 100, "seed": 1}
    rows = series.train[:400]
    found = compare(blind, sees, rows, plants=2, **options).planted
    assert found.index.tolist() == ["spike", "offset", "frozen", "noise", "other time", "mean"]
    assert found.loc["mean", "difference"] > 3 * found.loc["mean", "error"] > 0
    assert np.allclose(found["new"] - found["old"], found["difference"])
    assert np.allclose(found.loc["mean", "new"], found["new"].iloc[:5].mean())
    by_hand = []
    for i in range(2):
        rng = np.random.default_rng([1, i])
        changed, labels = planted(rows, rng, kinds=["noise"], per_kind=2, sizes=(0.5, 2.0))
        by_hand.append(vus_score(labels, sees.decision_function(changed)).pr)
    assert found.loc["noise", "new"] == pytest.approx(np.mean(by_hand))
    same = compare(sees, sees, rows, plants=1, **options).planted
    assert (same["difference"] == 0).all()
    assert same["error"].iloc[:5].isna().all()
    frame = pd.DataFrame(rows).set_axis([*range(200), *range(300, 500)])
    frame = frame.drop(index=range(303, 310))  # three rows are less than a window
    window = of_channel(0, 9.0, window=4)
    two = compare(
        window, of_channel(1, 9.0), frame.iloc[:, :2], rows_per_day=9, max_step=1, plants=1
    )
    assert two.table["without_score"].tolist() == [3, 0]
    assert two.planted[["old", "new"]].notna().all(axis=None)


def test_other_channels_cannot_be_compared(series, detector):
    named = PCAError().fit(pd.DataFrame(series.train, columns=["a", "b", "c"]))
    other = PCAError().fit(pd.DataFrame(series.train, columns=["a", "b", "d"]))
    fewer = PCAError().fit(series.train[:, :2])
    compare(detector, named, series.test, rows_per_day=100)
    for new in (other, fewer):
        with pytest.raises(ValueError, match=r"new has the channels .* only detectors of the same"):
            compare(named, new, series.test, rows_per_day=100)
    for wrong in ({"rows_per_day": 0}, {"rows_per_day": 1, "plants": True}):
        with pytest.raises(ValueError, match=f"{[*wrong][-1]} must"):
            compare(detector, detector, series.test, **wrong)


# --- what was said of alarms ------------------------------------------------------------------------


def alarms_of(n):
    return [Alarm(10 * i, 10 * i + 2, 10 * i, 5.0) for i in range(n)]


def test_the_interval_is_that_of_the_tables():
    none = seen_rate(alarms_of(2), ["fault", "fault"], 1)
    assert (none.false, none.faults, none.unreviewed, none.low) == (0, 2, 0, 0)
    assert none.high == pytest.approx(3.68888, abs=1e-5)  # −ln 0.025
    three = seen_rate(alarms_of(3), ["false"] * 3, 1)
    assert (three.low, three.high) == pytest.approx((0.61867, 8.76727), abs=1e-5)
    halves = seen_rate(alarms_of(3), ["false"] * 3, 2)
    assert (halves.low, halves.high) == pytest.approx((0.61867 / 2, 8.76727 / 2), abs=1e-5)
    wider = seen_rate(alarms_of(3), ["false"] * 3, 1, confidence=0.9)
    assert (wider.low, wider.high) == pytest.approx((0.81769, 7.75366), abs=1e-5)


def test_alarms_that_nobody_has_looked_at_are_bounds():
    found = seen_rate(alarms_of(5), pd.Series(["false", None, "fault", np.nan, "false"]), 4)
    assert (found.false, found.faults, found.unreviewed) == (2, 1, 2)
    assert (found.least, found.most) == (0.5, 1.0)
    low = seen_rate(alarms_of(2), ["false"] * 2, 4).low
    high = seen_rate(alarms_of(4), ["false"] * 4, 4).high
    assert (found.low, found.high) == (low, high)


def test_a_promise_is_kept_broken_or_not_told_apart():
    three = alarms_of(3), ["false"] * 3, 1
    expected = {0: "more than promised", 0.6: "more than promised", 3: "as promised"}
    expected |= {8.7: "as promised", 8.8: "fewer than promised"}
    for promised, verdict in expected.items():
        assert seen_rate(*three, promised=promised).verdict == verdict
    assert seen_rate(*three).verdict == ""


def test_rows_without_a_score_are_no_false_alarms():
    alarms = [*alarms_of(1), Alarm(50, 60, 50, math.nan)]
    assert seen_rate(alarms, ["false", None], 1)[:3] == (1, 0, 0)


def test_what_is_no_verdict_is_named():
    with pytest.raises(ValueError, match="verdicts must be one for each of 2 alarms, got 1"):
        seen_rate(alarms_of(2), ["false"], 1)
    with pytest.raises(ValueError, match=r"verdicts must be one of .* got 'wrong'"):
        seen_rate(alarms_of(1), ["wrong"], 1)
    for wrong in (None, 3, "false"):
        with pytest.raises(
            ValueError, match="verdicts must be one for each of 2 alarms, None for one"
        ):
            seen_rate(alarms_of(2), wrong, 1)
        with pytest.raises(
            ValueError, match="verdicts must be one for each of 2 alarms, None for one"
        ):
            normal_rows(pd.DataFrame({"a": np.arange(20.0)}), alarms_of(2), wrong, 1)
    with pytest.raises(ValueError, match=r"verdicts must be one of .* got \['false'\]"):
        seen_rate(alarms_of(1), [["false"]], 1)
    for wrong in (None, 3, [1, 2]):
        with pytest.raises(ValueError, match="alarms must be a DataFrame or a list of Alarm, got"):
            seen_rate(wrong, ["false"], 1)
    with pytest.raises(ValueError, match="days must be positive"):
        seen_rate(alarms_of(1), ["false"], 0)
    with pytest.raises(ValueError, match="alarms must have the columns start, stop or end"):
        seen_rate(pd.DataFrame({"start": [1]}), ["false"], 1)


def test_faults_are_left_out_with_a_margin_and_false_alarms_stay():
    frame = pd.DataFrame({"a": np.arange(20.0)})
    alarms = [Alarm(2, 4, 2, 5.0), Alarm(8, 10, 8, 5.0), Alarm(14, 16, 14, math.nan)]
    found = normal_rows(frame, alarms, ["false", "fault", None], 2)
    assert found.index.tolist() == [*range(6), 12, 13, *range(16, 20)]
    assert normal_rows(frame, alarms, ["false"] * 3, 2).index.tolist() == [
        *range(14),
        *range(16, 20),
    ]
    everything = normal_rows(frame, [], [], 2)
    assert everything.equals(frame)


def test_every_alarm_of_the_span_needs_a_verdict_and_no_other():
    frame = pd.DataFrame({"a": np.arange(20.0)})
    with pytest.raises(ValueError, match="none for the alarm that starts at 10: look at every"):
        normal_rows(frame, alarms_of(4), ["false", None, None, None], 2)
    alarms = alarms_of(4)  # of rows 0, 10, 20 and 30 of a stream
    later = normal_rows(frame, alarms, [None, "fault", "false", None], 2, first=5)
    assert later.index.tolist() == [0, 1, 2, *range(9, 20)]
    near = normal_rows(frame, alarms, ["fault", "false", "false", None], 5, first=5)
    assert near.index.tolist() == list(range(2, 20))  # 5 rows from row 2 on: to row 6 of the stream
    with pytest.raises(ValueError, match="no row of frame is left"):
        normal_rows(frame, alarms, ["fault"] * 4, 9)


def test_alarms_by_time_are_found_in_a_span_of_it(series):
    time = pd.date_range("2026-03-01", periods=600, freq="min", tz="UTC")
    frame = pd.DataFrame(series.test, time)
    detector = Mahalanobis(window=5, aggregate="last").fit(series.train)
    scores = detector.decision_function(frame)
    detector.threshold_ = float(np.quantile(scores, 0.97))
    alarms = detector.alarms(frame)
    rows = find_alarms(scores, detector.threshold_)
    said = ["fault" if i % 2 else "false" for i in range(len(rows))]
    found = normal_rows(frame, alarms, said, 5)
    assert found.equals(normal_rows(frame, rows, said, 5))
    assert len(found) < 600
    half = normal_rows(frame[: rows[2].start], alarms, [*said[:2], *[None] * (len(rows) - 2)], 5)
    assert half.equals(found[: half.index[-1]])
    later = normal_rows(frame[rows[1].stop :], alarms, [None, None, *said[2:]], 5)
    assert later.index[0] == time[rows[1].stop]
    step = pd.Timedelta("90s")
    detector.calibrate("quantile", on=found, max_step=step, contamination=0.01)
    expected = detector.decision_function(found, max_step=step).dropna()
    assert detector.threshold_ == np.quantile(expected, 0.99)
    for index in (range(600), time.tz_localize(None)):
        with pytest.raises(ValueError, match="another kind of times than the index"):
            normal_rows(frame.set_axis(index), alarms, said, 5)
    with pytest.raises(ValueError, match="first is for alarms by rows"):
        normal_rows(frame, alarms, said, 5, first=3)


@pytest.mark.parametrize("verdict", ["fault", "false", None])
@pytest.mark.parametrize("dated", [False, True])
def test_an_alarm_that_lies_nowhere_is_named(dated, verdict):
    frame, last = pd.DataFrame({"a": np.arange(20.0)}), "end" if dated else "stop"
    nowhere, places = np.nan, [[2.0, 3.0, 5.0], [12.0, 13.0, 5.0]]
    if dated:
        time = pd.date_range("2026-03-01", periods=20, freq="min", tz="UTC")
        frame, nowhere = frame.set_axis(time), pd.NaT
        places = [[time[2], time[3], 5.0], [time[12], time[13], 5.0]]
    table = pd.DataFrame(places, columns=["start", last, "score"])
    whole = normal_rows(frame, table, ["fault", verdict or "false"], 1)
    assert len(whole) < 20  # also of rows that are whole numbers of float
    for name in ("start", last):
        lost = table.copy()
        lost.loc[1, name] = nowhere
        with pytest.raises(ValueError, match=rf"alarms has no {name} in row 1 \(start .*: give it"):
            normal_rows(frame, lost, ["fault", verdict], 1)
    back = table.copy()
    back.loc[1, ["start", last]] = back.loc[1, [last, "start"]].tolist()
    with pytest.raises(ValueError, match="alarms goes back in row 1: start"):
        normal_rows(frame, back, ["fault", verdict], 1)


@pytest.mark.parametrize("wrong", [2.5, np.inf, "2", pd.Timestamp("2026-03-01")])
def test_alarms_by_rows_are_whole_numbers(wrong):
    frame = pd.DataFrame({"a": np.arange(20.0)})
    table = pd.DataFrame({"start": [1, wrong], "stop": [3, 9], "score": [5.0, 5.0]})
    with pytest.raises(ValueError, match="alarms must have whole numbers in start, row 1 has"):
        normal_rows(frame, table, ["fault", "fault"], 1)


def test_a_frame_must_go_forward():
    frame = pd.DataFrame({"a": np.arange(3.0)})
    for index in ([0, 2, 1], [0, 1, 1], ["a", "b", "c"]):
        with pytest.raises(ValueError, match="index of dates or numbers that go forward"):
            normal_rows(frame.set_axis(index), [], [], 2)
    with pytest.raises(ValueError, match="frame must be a DataFrame, got a ndarray"):
        normal_rows(frame.to_numpy(), [], [], 2)


def test_from_a_service_to_a_new_threshold(tmp_path):
    frame = pd.DataFrame({"a": np.tile([0.0, 0.1, 0.2, 0.3], 10), "b": 0.0})
    frame.iloc[10:12, 0], frame.iloc[20, 0], frame.iloc[37:, 0] = 9.0, 2.0, 8.0
    detector = of_channel(0, 1.0)
    service = tmp_path / "service"
    serve([(frame.to_numpy(), np.arange(40))], detector, service, alarms=OnlineAlarms(1.0))
    for start, verdict in ((10, "fault"), (20, "false"), (37, "fault")):
        mark(service, start, verdict)
    found = history(service)
    assert found["ended"].isna().tolist() == [False, False, True]
    rows = normal_rows(frame, found, found["verdict"], margin=1)
    assert rows.index.tolist() == [*range(9), *range(13, 36)]  # the open one goes on to the end
    detector.calibrate("quantile", on=rows, max_step=1, contamination=1e-9)
    assert detector.threshold_ == pytest.approx(2.0)
    assert json.loads((service / "verdicts.jsonl").read_text().splitlines()[0])["start"] == 10
