"""Streams give the scores of `decision_function`, however the rows are cut."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SMALL

from madcluster import MADCluster, synthetic
from madcluster.service.checkpoints import CheckpointError
from madcluster.service.streams import Stream

QUICK = {"epochs": 1, "stride": 10, "score_stride": 1, "window": 20, "batch_size": 32}


@pytest.fixture(scope="module")
def series():
    kinds = ("spike", "level_shift")
    return synthetic(n_train=400, n_test=300, n_channels=4, kinds=kinds, per_kind=1, seed=0)


@pytest.fixture(scope="module")
def fitted(series):
    def fit(embedder="deepsvdd", **options):
        arguments = {**QUICK, "options": SMALL.get(embedder), **options}
        return MADCluster(embedder, **arguments).fit(series.train)

    return fit


@pytest.fixture(scope="module")
def causal(fitted):
    return fitted(aggregate="last")


@pytest.fixture(scope="module")
def mean(fitted):
    return fitted(aggregate="mean")


def cut(rows, places):
    places = sorted({p for p in places if 0 < p < len(rows)})
    return np.split(rows, places)


def fed(stream, rows, places=()):
    return np.concatenate([stream.update(part) for part in cut(rows, places)])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=40))
def test_causal_scores_are_those_of_the_batch_however_the_rows_are_cut(series, causal, places):
    expected = causal.decision_function(series.test)
    found = fed(causal.stream(), series.test, places)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=40))
def test_means_are_those_of_the_batch_with_a_delay(series, mean, places):
    stream = mean.stream()
    found = fed(stream, series.test, places)
    assert len(found) == stream.scored == len(series.test) - QUICK["window"] + 1
    found = np.append(found, stream.finish())
    np.testing.assert_allclose(found, mean.decision_function(series.test), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("embedder", SMALL)
@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("aggregate", ["last", "mean"])
def test_every_embedder_streams(series, fitted, embedder, head, aggregate):
    detector = fitted(embedder, head=head, aggregate=aggregate)
    stream = detector.stream()
    found = fed(stream, series.test[:80], [1, 19, 20, 21, 50])
    if aggregate == "mean":
        found = np.append(found, stream.finish())
    expected = detector.decision_function(series.test[:80])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_layers", [1, 2, 4])
@pytest.mark.parametrize("objective", ["one-class", "soft-boundary"])
@pytest.mark.parametrize("score", ["head", "distance", "cluster", "mahalanobis"])
def test_one_pass_over_last_steps_is_window_by_window(series, fitted, n_layers, objective, score):
    detector = fitted(
        objective=objective, score_from=score, window=40, options={"d": 6, "n_layers": n_layers}
    )
    model = detector.model_.double()
    x = torch.tensor(series.test[:120]).double()
    windows = x.unfold(0, 40, 1).transpose(1, 2)
    with torch.no_grad():
        expected = model(windows)
        found = model.last_steps()(x)
    n = len(windows)
    torch.testing.assert_close(found.h[0, -n:], expected.h[:, -1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.score[0, -n:], expected.score[:, -1], rtol=1e-9, atol=1e-9)


def test_more_clusters_look_at_the_whole_window(series, fitted):
    detector = fitted(k=3, aggregate="last")
    assert detector.model_.last_steps() is None
    found = fed(detector.stream(), series.test[:60], [30])
    np.testing.assert_allclose(
        found, detector.decision_function(series.test[:60]), rtol=1e-5, atol=1e-6
    )


def test_one_row_may_be_given_as_it_is(series, causal):
    stream = causal.stream()
    stream.update(series.test[:50])
    assert stream.update(series.test[50]).shape == (1,)
    assert (stream.seen, stream.scored) == (51, 51)


def test_rows_of_a_frame_are_checked_by_name(series, causal):
    names = ["inflow", "outflow", "level", "heat"]
    frame = pd.DataFrame(series.test, columns=names)
    detector = MADCluster(**QUICK, options={"d": 8}, aggregate="last")
    stream = detector.fit(pd.DataFrame(series.train, columns=names)).stream()
    stream.update(frame[:50])
    for row in (frame.iloc[50, ::-1], frame.iloc[50, :3]):
        with pytest.raises(ValueError, match="feature names should match"):
            stream.update(row)
    assert stream.seen == 50
    found = np.concatenate([stream.update(frame.iloc[50]), stream.update(frame[51:60])])
    expected = detector.decision_function(frame[:60])[50:]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_block_larger_than_the_work_in_hand_is_the_same(series, causal, monkeypatch):
    expected = fed(causal.stream(), series.test)
    monkeypatch.setattr("madcluster.service.streams.BLOCK", 7)
    np.testing.assert_allclose(fed(causal.stream(), series.test), expected, rtol=1e-5)


def test_memory_holds_a_window_and_no_more(series, causal):
    stream = causal.stream()
    for _ in range(5):
        stream.update(series.test)
    assert stream._rows.shape == (QUICK["window"] - 1, 4)
    assert stream._rows.base is None


@pytest.mark.parametrize("aggregate", ["last", "mean"])
@pytest.mark.parametrize("place", [5, 19, 20, 150])
def test_a_stream_goes_on_from_a_file(series, fitted, tmp_path, aggregate, place):
    detector = fitted(aggregate=aggregate)
    whole, first = detector.stream(), detector.stream()
    expected = fed(whole, series.test, [place])
    begun = first.update(series.test[:place])
    first.save(tmp_path / "state")
    detector.save(tmp_path / "detector")
    second = Stream.load(tmp_path / "state", MADCluster.load(tmp_path / "detector"))
    found = np.concatenate([begun, second.update(series.test[place:])])
    np.testing.assert_array_equal(found, expected)
    assert not list(tmp_path.glob("*.part"))


def test_a_stream_of_another_detector_is_refused(series, fitted, causal, tmp_path):
    stream = causal.stream()
    stream.update(series.test[:30])
    stream.save(tmp_path / "state")
    with pytest.raises(CheckpointError, match="has window 20, expected 30"):
        Stream.load(tmp_path / "state", fitted(window=30))
    for other in ({"seed": 1}, {"scaler": "standard"}, {"clip": 2.0}, {"score_from": "distance"}):
        with pytest.raises(CheckpointError, match="another scaler or other weights"):
            Stream.load(tmp_path / "state", fitted(aggregate="last", **other))
    again = fitted(aggregate="last").calibrate("quantile", contamination=0.1)
    assert Stream.load(tmp_path / "state", again).seen == 30
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Stream.load(tmp_path / "other", causal)


@pytest.mark.parametrize("damage", [b"", b"\x00" * 64, b"{}"])
def test_a_damaged_file_is_refused(causal, tmp_path, damage):
    (tmp_path / "state").write_bytes(damage)
    with pytest.raises(CheckpointError, match="not a whole file of kind"):
        Stream.load(tmp_path / "state", causal)


def test_a_checkpoint_is_no_stream(causal, tmp_path):
    causal.save(tmp_path / "detector")
    with pytest.raises(CheckpointError, match="not a whole file of kind"):
        Stream.load(tmp_path / "detector", causal)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 3)), "rows has 3 features, but MADCluster is expecting 4"),
        (np.array([[1, 2, np.nan, 4]]), "rows holds NaN in row 0, channel 2"),
        (np.zeros((0, 4)), "rows is empty"),
    ],
)
def test_bad_rows_are_refused_and_none_is_taken(series, causal, rows, message):
    stream = causal.stream()
    stream.update(series.test[:30])
    with pytest.raises(ValueError, match=message):
        stream.update(rows)
    assert stream.seen == 30


def test_arguments_are_checked(causal):
    with pytest.raises(ValueError, match="not fitted"):
        MADCluster().stream()
    with pytest.raises(ValueError, match="aggregate must be one of"):
        causal.stream(aggregate="median")
    with pytest.raises(ValueError, match="less than a window"):
        causal.stream(aggregate="mean").finish()
