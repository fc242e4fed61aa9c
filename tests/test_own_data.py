"""What chapter 15 says happens to data that changes, happens: a test for every row of its table."""

import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from madcluster import MADCluster, from_csv, synthetic
from madcluster.data import ClockWarning, ContaminationWarning
from madcluster.detectors import PCAError
from madcluster.service.alarms import OnlineAlarms
from madcluster.service.loop import serve

CHAPTER = Path(__file__).parents[1] / "book" / "15_your_own_data.ipynb"
NAMES = ["inflow", "outflow", "pressure", "pump"]


@pytest.fixture(scope="module")
def frames():
    """Normal rows of a plant: three sensors that move together and a pump that is on or off."""
    plant = synthetic(n_train=4000, n_test=800, n_channels=3, kinds=("spike",), seed=0).train
    rows = np.column_stack([plant, np.arange(4000) % 60 < 20])
    frame = pd.DataFrame(rows, columns=NAMES)
    return frame[:2500], frame[2500:].reset_index(drop=True)


@pytest.fixture(scope="module")
def detector(frames):
    settings = {"window": 50, "stride": 5, "epochs": 4, "batch_size": 32, "score_stride": 1}
    return MADCluster(**settings, options={"d": 16}).fit(frames[0])


def share(detector, frame):
    """Of rows above the threshold."""
    return float((detector.decision_function(frame) > detector.threshold_).mean())


def missing(detector, frames, tmp_path):
    holes = frames[1].copy()
    holes.loc[7, "pressure"] = np.nan
    for action in (detector.decision_function, detector.stream().update):
        with pytest.raises(ValueError, match="NaN in row 7, channel pressure"):
            action(holes)
    holes.to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(ValueError, match="row 9, column 'pressure' holds a missing value"):
        from_csv(tmp_path / "x.csv")
    assert from_csv(tmp_path / "x.csv", fill="ffill").filled == 1
    masked, held = detector.stream(missing="mask"), detector.stream(missing="hold", max_hold=0)
    for stream, without in (
        (masked, 0),
        (held, 8),
    ):  # row 7, and those before it, less than a window
        stream.update(holes)
        stream.finish()
        assert (stream.filled, stream.unscored) == (1 - bool(without), without)


def word(detector, frames, tmp_path):
    text = frames[1].astype(object)
    text.loc[7, "pressure"] = "BAD"
    text.to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(ValueError, match="row 9, column 'pressure' holds 'BAD'"):
        from_csv(tmp_path / "x.csv", fill="ffill")
    assert from_csv(tmp_path / "x.csv", fill="ffill", na_values=["BAD"]).filled == 1


def unnamed(detector, frames, tmp_path):
    frames[1].to_csv(tmp_path / "x.csv")
    with pytest.raises(ValueError, match="column 1 has no name"):
        from_csv(tmp_path / "x.csv")
    series = from_csv(tmp_path / "x.csv", time="")
    assert series.channels == tuple(NAMES)
    assert series.time.tolist() == frames[1].index[len(series.train) :].tolist()


def counted(detector, frames, tmp_path):
    frames[1].assign(row=np.arange(len(frames[1]))).to_csv(tmp_path / "x.csv", index=False)
    with pytest.warns(ClockWarning, match="column 'row' goes up by the same step"):
        assert from_csv(tmp_path / "x.csv").channels == (*NAMES, "row")
    assert from_csv(tmp_path / "x.csv", time="row").channels == tuple(NAMES)


def labeled(detector, frames, tmp_path):
    fault = np.arange(len(frames[1])) % 500 == 499
    frames[1].assign(fault=fault.astype(int)).to_csv(tmp_path / "x.csv", index=False)
    with pytest.warns(ContaminationWarning, match="1 of the 750 rows .* the first is row 501"):
        series = from_csv(tmp_path / "x.csv", label="fault")
    np.testing.assert_array_equal(series.train, frames[1][:750].to_numpy())


def unordered(detector, frames, tmp_path):
    stamps = pd.date_range("2026-03-01", periods=len(frames[1]), freq="min")
    mixed = frames[1].set_index(stamps).iloc[[1, 0, *range(2, len(stamps))]]
    words = "row 1 is of 2026-03-01 00:00:00, after 2026-03-01 00:01:00"
    for action in (detector.decision_function, MADCluster(**detector.get_params()).fit):
        with pytest.raises(ValueError, match=words):
            action(mixed)
    mixed.to_csv(tmp_path / "x.csv", index_label="t")
    with pytest.raises(ValueError, match="row 3, column 't' goes back in time"):
        from_csv(tmp_path / "x.csv", time="t")
    stream = detector.stream(late="drop")
    stream.update(mixed)
    assert stream.dropped == 1


def irregular(detector, frames, tmp_path):
    stamps = pd.date_range("2026-03-01", periods=len(frames[1]), freq="min")
    kept = np.r_[0:900, 1000 : len(stamps)]  # a gap of 100 minutes
    frame = frames[1].assign(t=stamps).iloc[kept]
    frame.to_csv(tmp_path / "x.csv", index=False)
    series = from_csv(tmp_path / "x.csv", time="t")
    assert len(series.time) == len(series.test) == len(kept) / 2
    assert pd.Series(series.time).diff().max() == pd.Timedelta(minutes=101)
    frame.iloc[[1, 0, *range(2, len(frame))]].to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(ValueError, match="row 3, column 't' goes back in time"):
        from_csv(tmp_path / "x.csv", time="t")
    frame = frame.set_index("t")
    minute = pd.Timedelta(minutes=1)
    stream = detector.stream(max_step=minute)
    streamed = np.append(stream.update(frame), stream.finish())
    apart, across = (detector.decision_function(frame, max_step=s) for s in (minute, None))
    np.testing.assert_allclose(streamed, apart, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(apart[900:], detector.decision_function(frame[900:]), rtol=1e-4)
    assert abs(apart - across)[850:950].max() > 1e-3 * across.median()


def late(detector, frames, tmp_path):
    stamps = pd.date_range("2026-03-01", periods=len(frames[1]), freq="min")
    rows = frames[1].set_index(stamps)
    stream = detector.stream(late="drop")
    stream.update(rows[:60])
    stream.update(rows[50:70])
    assert (stream.seen, stream.dropped) == (70, 10)
    stream = detector.stream()
    stream.update(rows[:60])
    with pytest.raises(ValueError, match="rows are late: row 0 is of 2026-03-01 00:50:00"):
        stream.update(rows[50:70])


def killed(detector, frames, tmp_path):
    """Anywhere, and beside a broker: tests/test_service.py and tests/test_broker.py."""
    rows = frames[1].set_index(pd.date_range("2026-03-01", periods=len(frames[1]), freq="min"))
    options = {"aggregate": "last", "every": 100}
    for cuts in (((0, 350), (300, 1500)), ((0, 1500),)):
        folder = tmp_path / str(len(cuts))
        for start, stop in cuts:
            source = [(rows[i : i + 50], None) for i in range(start, stop, 50)]
            alarms = OnlineAlarms(detector.threshold_)
            serve(source, detector, folder, alarms=alarms, **options)
    ended = [
        [
            line
            for line in map(json.loads, path.read_text().splitlines())
            if line["event"] == "ended"
        ]
        for path in sorted(tmp_path.glob("*/alarms.jsonl"))
    ]
    assert ended[0] == ended[1] != []


def clock(detector, frames, tmp_path):
    stamps = pd.date_range("2026-10-24 22:00", periods=len(frames[1]), freq="min", tz="UTC")
    local = stamps.tz_convert("Europe/Berlin")
    for form, refused in (("%Y-%m-%d %H:%M", "repeats a time stamp"), ("%Y-%m-%d %H:%M%z", "")):
        frames[1].assign(t=local.strftime(form)).to_csv(tmp_path / "x.csv", index=False)
        if refused:
            with pytest.raises(ValueError, match=refused):
                from_csv(tmp_path / "x.csv", time="t")
        else:
            assert from_csv(tmp_path / "x.csv", time="t").time.equals(
                pd.Index(stamps[len(stamps) // 2 :], name="t")
            )


def constant(detector, frames, tmp_path):
    train, later = (frame.assign(spare=3.0) for frame in frames)
    settings = detector.get_params()
    with_spare = MADCluster(**settings).fit(train)
    usual = share(with_spare, later)
    assert usual < 0.2
    awake = later.assign(spare=5.0)
    assert share(with_spare, awake) > 0.9
    assert with_spare.explain(awake, 100, 200, method="deviation").index[0] == "spare"
    assert with_spare.explain(awake, 100, 200, method="deviation")["spare"] == pytest.approx(2)


def binary(detector, frames, tmp_path):
    scaled = detector.scaler_.transform(frames[1].to_numpy())
    assert set(np.unique(scaled[:, 3])) == {0, 1}
    stuck = frames[1].assign(pump=1.0)  # seen by the score, which rises or falls
    usual, found = (detector.decision_function(frame) for frame in (frames[1], stuck))
    assert abs(np.log(found / usual)).mean() > 0.05


def unit(detector, frames, tmp_path):
    kilopascal = frames[1].assign(pressure=frames[1]["pressure"] * 100)
    assert share(detector, kilopascal) > 0.95
    for method in ("gradient", "occlusion", "deviation"):
        assert detector.explain(kilopascal, 200, 300, method=method).index[0] == "pressure"


def far(detector, frames, tmp_path):
    wild = frames[1].copy()
    wild.loc[300:309, "inflow"] = 1e6
    clipped = MADCluster(**{**detector.get_params(), "clip": 1.0}).fit(frames[0])
    assert detector.decision_function(wild).max() > 10 * clipped.decision_function(wild).max()
    assert clipped.decision_function(wild)[300:310].min() > clipped.threshold_


def channels(detector, frames, tmp_path):
    later = frames[1]
    for changed, message in (
        (later.assign(level=0.0), "Feature names unseen at fit time:\n- level"),
        (later.drop(columns="pump"), "Feature names seen at fit time, yet now missing:\n- pump"),
        (later[NAMES[::-1]], "must be in the same order"),
        (later.to_numpy()[:, :3], "has 3 features"),
    ):
        for action in (detector.decision_function, detector.stream().update):
            with pytest.raises(ValueError, match=message):
                action(changed)


def drift(detector, frames, tmp_path):
    held_out = np.median(detector.decision_scores_[-500:])
    later = frames[1]
    slow = later.assign(
        inflow=later["inflow"] + np.linspace(0, 1.5, len(later)) * frames[0]["inflow"].std()
    )
    above = [
        [
            float((part > held_out).mean())
            for part in np.array_split(detector.decision_function(x), 3)
        ]
        for x in (later, slow)
    ]
    assert all(0.3 < value < 0.7 for value in above[0])
    assert above[1][2] > 0.75
    assert share(detector, slow) < 0.5


ROWS = {
    "a value is missing": missing,
    "a cell holds a word": word,
    "a column counts the rows, or is a clock, and nobody said so": counted,
    "a column has no name, such as an index that pandas wrote": unnamed,
    "anomalies are labeled in the normal part": labeled,
    "rows are not in time order": unordered,
    "time stamps are irregular": irregular,
    "rows come late or again": late,
    "the service is killed": killed,
    "clocks change": clock,
    "a sensor is constant in the normal part": constant,
    "a sensor is binary": binary,
    "a unit changes (bar to kPa)": unit,
    "values leave the train range by far": far,
    "a sensor is added, lost or moved": channels,
    "the process drifts": drift,
}


def test_every_row_of_the_table_has_a_test():
    text = "\n".join(cell.source for cell in nbformat.read(CHAPTER, as_version=4).cells)
    table = text.split("## What happens when")[1].split("## ")[0]
    rows = re.findall(r"^\| (.+?) \| .+ \|$", table, re.MULTILINE)[2:]
    assert rows == list(ROWS)


def test_frames_of_a_series_keep_channels_and_times(frames, tmp_path):
    stamps = pd.date_range("2026-03-01", periods=len(frames[1]), freq="min")
    frames[1].assign(minute=stamps).to_csv(tmp_path / "x.csv", index=False)
    series = from_csv(tmp_path / "x.csv", time="minute")
    detector = PCAError().fit(series.train_frame)
    np.testing.assert_allclose(
        detector.decision_function(series.test_frame),
        PCAError().fit(series.train).decision_function(series.test),
    )
    alarms = detector.alarms(series.test_frame)
    assert len(alarms)
    assert alarms["start"].isin(series.time).all()
    later = series.test_frame
    for changed in (later[sorted(later)[::-1]], later.rename(columns={"pump": "fan"})):
        with pytest.raises(ValueError, match=r"feature names should match|same order"):
            detector.decision_function(changed)


@pytest.mark.parametrize("row", ROWS)
def test_it_happens(row, detector, frames, tmp_path):
    ROWS[row](detector, frames, tmp_path)
