"""The detector from end to end: repeatable, saved and loaded, and clear about bad input."""

import contextlib
import inspect
import json
import os
import pickle
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import average_precision_score
from small import SMALL
from torch import nn

from madcluster import MADCluster, load, synthetic
from madcluster.detectors import DETECTORS
from madcluster.models import EMBEDDERS
from madcluster.service.checkpoints import CheckpointError
from madcluster.service.explanations import contributions
from madcluster.service.streams import Stream
from madcluster.training import NonFiniteLossError

QUICK = {"window": 20, "stride": 5, "epochs": 2, "options": {"d": 8}}


@pytest.fixture(scope="module")
def series():
    return synthetic(n_train=600, n_test=800, n_channels=4, seed=0)


@pytest.fixture(scope="module")
def fitted(series):
    return MADCluster(**QUICK).fit(series.train)


class LSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


def test_two_runs_with_one_seed_are_identical(series, fitted):
    again = MADCluster(**QUICK).fit(series.train)
    expected = fitted.decision_function(series.test)
    assert np.array_equal(expected, again.decision_function(series.test))
    other = MADCluster(**QUICK, seed=1).fit(series.train)
    assert not np.array_equal(expected, other.decision_function(series.test))


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_no_score_series_is_constant(series, embedder, head):
    detector = MADCluster(embedder, head=head, **QUICK).fit(series.train)
    scores = detector.decision_function(series.test)
    assert scores.shape == (800,)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 700


def test_it_finds_more_than_chance(series):
    options = {"window": 50, "stride": 2, "epochs": 5, "options": {"d": 32}}
    detector = MADCluster(**options).fit(series.train)
    precision = average_precision_score(series.labels, detector.decision_function(series.test))
    assert precision > 1.5 * series.labels.mean()


def test_predict_flags_the_share_asked_for(series):
    detector = MADCluster(**QUICK, contamination=0.05).fit(series.train)
    flagged = detector.calibration_scores_ > detector.threshold_
    assert flagged.mean() == pytest.approx(0.05, abs=0.01)
    assert len(flagged) == 120  # the tail kept for validation
    assert "the last 120 of 600 training rows" in detector.calibrated_on_
    assert set(detector.predict(series.test)) <= {0, 1}
    assert detector.decision_scores_.shape == (600,)


def dated(rows, start="2026-03-01"):
    index = pd.date_range(start, periods=len(rows), freq="min", name="minute")
    return pd.DataFrame(rows, index, columns=[f"sensor {i}" for i in range(rows.shape[1])])


def test_it_says_what_it_was_fitted_on_and_when(series, tmp_path):
    before = pd.Timestamp.now("UTC").floor("s")
    detector = DETECTORS["pca_error"]().fit(dated(series.train))
    detector.save(tmp_path / "model")
    found = DETECTORS["pca_error"].load(tmp_path / "model")
    words = "600 rows from 2026-03-01 00:00:00 to 2026-03-01 09:59:00"
    assert found.fitted_on_ == detector.fitted_on_ == words
    assert before <= pd.Timestamp(found.fitted_at_) <= pd.Timestamp.now("UTC")
    assert DETECTORS["pca_error"]().fit(series.train).fitted_on_ == "600 rows"
    odd = dated(series.train).set_axis(["\x1b[2J", *map(str, range(599))])
    DETECTORS["pca_error"]().fit(odd).save(tmp_path / "odd")
    assert DETECTORS["pca_error"].load(tmp_path / "odd").fitted_on_.isprintable()


def test_rows_out_of_the_order_of_time_are_refused(series):
    frame = dated(series.train)
    detector = DETECTORS["pca_error"]().fit(frame)
    for wrong, words in (
        (frame.iloc[[0, 2, 1, *range(3, 600)]], "row 2 is of 2026-03-01 00:01:00, after"),
        (frame.iloc[[0, 1, 1, *range(2, 600)]], "1 rows in all do not go forward"),
        (frame[::-1], "599 rows in all"),
    ):
        with pytest.raises(ValueError, match=words):
            detector.fit(wrong)
        with pytest.raises(ValueError, match=words):
            detector.decision_function(wrong)
    assert len(detector.fit(frame[::2]).decision_scores_) == 300


def test_a_threshold_can_come_from_later_rows(series, tmp_path):
    later = dated(synthetic(700, 1, 4, seed=0, per_kind=0).train, "2026-04-01")
    detector = DETECTORS["mahalanobis"]().fit(dated(series.train))
    old = detector.threshold_
    scores = detector.decision_function(later)
    detector.calibrate("quantile", on=later, contamination=0.02)
    assert detector.threshold_ == np.quantile(scores, 0.98) != old
    np.testing.assert_array_equal(detector.calibration_scores_, scores)
    assert "700 rows from 2026-04-01 00:00:00" in detector.calibrated_on_
    detector.save(tmp_path / "model")
    again = DETECTORS["mahalanobis"].load(tmp_path / "model")
    assert again.calibrated_on_ == detector.calibrated_on_
    assert again.threshold_ == detector.threshold_
    # a fault that was left out is a gap, and what is short between two is left out too
    normal = later.drop([*later.index[200:300], *later.index[305:310]])
    minute = pd.Timedelta("1min")
    detector.calibrate("quantile", on=normal, max_step=minute, contamination=0.02)
    assert len(detector.calibration_scores_) == 700 - 100 - 10
    parts = [detector.decision_function(later[a:b]) for a, b in ((0, 200), (310, 700))]
    np.testing.assert_allclose(detector.calibration_scores_, np.concatenate(parts))
    detector.calibrate("quantile", contamination=0.5)  # of the same scores
    assert len(detector.calibration_scores_) == 590


def test_a_calibration_that_fails_changes_nothing(series):
    detector = DETECTORS["mahalanobis"]().fit(series.train)
    before = detector.threshold_, detector.calibrated_on_, len(detector.calibration_scores_)
    for arguments in (
        {"on": series.test[:300], "contamination": 2},
        {"on": series.test[:300, :3], "contamination": 0.1},
        {"on": series.test[:3], "contamination": 0.1},
        {"on": dated(series.test[:3]), "max_step": 1, "contamination": 0.1},
        {"max_step": 1, "contamination": 0.1},
    ):
        with pytest.raises(ValueError, match=r"contamination|channels|rows|max_step|features"):
            detector.calibrate("quantile", **arguments)
        now = detector.threshold_, detector.calibrated_on_, len(detector.calibration_scores_)
        assert now == before


@pytest.mark.parametrize(
    ("rule", "arguments"),
    [
        ("quantile", {"contamination": 0.1}),
        ("peaks", {"probability": 0.01}),
        ("budget", {"alarms_per_day": 1, "rows_per_day": 1440}),
        ("conformal", {"probability": 0.1, "block": 2}),
    ],
)
def test_pieces_that_are_all_too_short_are_no_calibration(series, rule, arguments):
    detector = DETECTORS["mahalanobis"](window=5).fit(series.train)
    before = detector.threshold_
    pieces = dated(series.test[:300])
    pieces = pieces[np.arange(300) % 5 < 4]  # four rows and a gap, again and again
    step = pd.Timedelta("1min")
    with pytest.raises(
        ValueError,
        match=r"on has no row .* max_step, 0 days 00:01:00, .* window of 5; give longer pieces",
    ):
        detector.calibrate(rule, on=pieces, max_step=step, **arguments)
    assert detector.threshold_ == before


def test_a_row_without_a_score_is_no_normal_row(series, monkeypatch):
    detector = DETECTORS["pca_error"]().fit(series.train)
    scores = np.array([0.0, np.nan, np.inf, -np.inf, detector.threshold_])
    monkeypatch.setattr(type(detector), "_score", lambda self, rows: scores)
    assert detector.predict(series.test[:5]).tolist() == [0, 1, 1, 0, 0]


def test_aggregate_last_is_causal(series, fitted):
    detector = clone(fitted).set_params(aggregate="last").fit(series.train)
    changed = series.test.copy()
    changed[500:] = 0
    before, after = detector.decision_function(series.test), detector.decision_function(changed)
    np.testing.assert_allclose(before[:500], after[:500], rtol=1e-4, atol=1e-6)
    assert not np.allclose(before[500:], after[500:])


def test_frames_are_accepted(series, fitted):
    frame = pd.DataFrame(series.test, columns=series.channels)
    assert np.array_equal(fitted.decision_function(frame), fitted.decision_function(series.test))


def test_clone_and_parameters(fitted):
    copy = clone(fitted).set_params(epochs=7)
    assert copy.epochs == 7
    assert not hasattr(copy, "model_")
    assert copy.get_params()["window"] == 20


def test_fitting_leaves_the_callers_module_alone(series):
    module = LSTM()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    MADCluster(module, window=20, stride=5, epochs=1).fit(series.train)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize("scaler", ["minmax", "standard", "none"])
@pytest.mark.parametrize("score", ["head", "distance", "cluster"])
@pytest.mark.parametrize("k", [1, 3])
def test_save_and_load_give_the_same_scores(series, tmp_path, scaler, score, k):
    detector = MADCluster(**{**QUICK, "epochs": 1}, scaler=scaler, score_from=score, k=k)
    detector.fit(series.train).save(tmp_path / "model.safetensors")
    again = MADCluster.load(tmp_path / "model.safetensors")
    scores = detector.decision_function(series.test)
    assert np.array_equal(scores, again.decision_function(series.test))
    assert again.threshold_ == detector.threshold_
    assert np.array_equal(again.decision_scores_, detector.decision_scores_)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_save_and_load_a_module_of_ones_own(series, tmp_path):
    detector = MADCluster(LSTM(), window=20, stride=5, epochs=1).fit(series.train)
    detector.save(tmp_path / "own")
    again = MADCluster.load(tmp_path / "own", embedder=LSTM())
    assert np.array_equal(
        detector.decision_function(series.test), again.decision_function(series.test)
    )
    with pytest.raises(CheckpointError, match="needs a module of your own as embedder"):
        MADCluster.load(tmp_path / "own")
    with pytest.raises(CheckpointError, match="does not describe"):
        MADCluster.load(tmp_path / "own", embedder=nn.Linear(4, 3))


def rewrite(path, change):
    """Store a checkpoint again with another header."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["madcluster.detector"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header, tensors)
    save_file(tensors, path, metadata={"madcluster.detector": json.dumps(header)})


def rewrite_text(path, change):
    """The same with another header as text."""
    with safe_open(path, framework="pt") as file:
        text = file.metadata()["madcluster.detector"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata={"madcluster.detector": change(text)})


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "half a header": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"a": 1})),
    "text": lambda path: path.write_text("not a model, but long enough to hold a header"),
    "no metadata": lambda path: save_file({"x": torch.zeros(1)}, path),
    "newer": lambda path: rewrite(path, lambda h, t: h.update(format=99)),
    "other size": lambda path: rewrite(path, lambda h, t: h.update(n_features_in=9)),
    "a size beyond memory": lambda path: rewrite(path, lambda h, t: h.update(n_features_in=10**9)),
    "clusters beyond memory": lambda path: rewrite(path, lambda h, t: h["params"].update(k=10**9)),
    "width beyond memory": lambda path: rewrite(
        path, lambda h, t: h["params"].update(options={"d": 10**9})
    ),
    "scaler of another size": lambda path: rewrite(
        path, lambda h, t: t.update({"scaler.shift": torch.zeros(3, dtype=torch.float64)})
    ),
    "scores in two columns": lambda path: rewrite(
        path, lambda h, t: t.update(decision_scores=t["decision_scores"].reshape(-1, 2))
    ),
    "not a finite threshold": lambda path: rewrite(
        path, lambda h, t: h.update(threshold=float("nan"))
    ),
    "stride that leaves rows out": lambda path: rewrite(
        path, lambda h, t: h["params"].update(score_stride=0)
    ),
    "missing tensor": lambda path: rewrite(path, lambda h, t: t.pop("state.head.centers")),
    "unknown parameter": lambda path: rewrite(path, lambda h, t: h["params"].update(width=3)),
    "unknown embedder": lambda path: rewrite(path, lambda h, t: h["params"].update(embedder="x")),
    "a window beyond memory": lambda path: rewrite(
        path, lambda h, t: h["params"].update(window=10**9, stride=1)
    ),
    "weights that are no numbers": lambda path: rewrite(
        path, lambda h, t: t["state.head.centers"].fill_(float("nan"))
    ),
    "an infinite weight": lambda path: rewrite(
        path, lambda h, t: t["state.head.centers"].fill_(float("inf"))
    ),
    "an infinite number of channels": lambda path: rewrite(
        path, lambda h, t: h.update(n_features_in=float("inf"))
    ),
    "a threshold beyond floats": lambda path: rewrite(
        path, lambda h, t: h.update(threshold=10**400)
    ),
    "a list too deep": lambda path: rewrite_text(
        path, lambda text: text.replace('"threshold": ', '"deep": ' + "[" * 10**5, 1)
    ),
    "parameters that are a list": lambda path: rewrite(
        path, lambda h, t: h.update(params=["embedder"])
    ),
    "an embedder that is a number": lambda path: rewrite(
        path, lambda h, t: h["params"].update(embedder=5)
    ),
    "layers beyond patience": lambda path: rewrite(
        path, lambda h, t: h["params"].update(options={"d": 8, "n_layers": 10**7})
    ),
    "no scores to calibrate by": lambda path: rewrite(
        path, lambda h, t: t.update(calibration_scores=t["calibration_scores"][:0])
    ),
    "a channel without a scale": lambda path: rewrite(path, lambda h, t: t["scaler.scale"].zero_()),
    "words for a terminal": lambda path: rewrite(
        path, lambda h, t: h.update(calibrated_on="\x1b[2J")
    ),
    "no word on what it learned": lambda path: rewrite(path, lambda h, t: h.pop("fitted_on")),
    "a name for a terminal": lambda path: rewrite(path, lambda h, t: h.update(detector="\x1b[2J")),
    "another class": lambda path: rewrite(path, lambda h, t: h.update(detector="PCAError")),
    "no class": lambda path: rewrite(path, lambda h, t: h.pop("detector")),
    "no parameters": lambda path: rewrite(path, lambda h, t: h.pop("params")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_refused(fitted, tmp_path, damage):
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    DAMAGE[damage](path)
    began = time.monotonic()
    with pytest.raises(CheckpointError, match=r"model\.safetensors") as refusal:
        MADCluster.load(path)
    assert time.monotonic() - began < 5  # a second, on a machine that is busy
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize("name", EMBEDDERS)
def test_options_beyond_what_a_file_holds_are_refused_at_once(series, tmp_path, name):
    detector = MADCluster(name, window=20, stride=20, epochs=1, options=SMALL[name])
    path = tmp_path / "file"
    detector.fit(series.train).save(path)
    whole = path.read_bytes()
    for option, value in inspect.signature(EMBEDDERS[name]).parameters.items():
        if option in ("n_channels", "window", "options") or isinstance(value.default, str):
            continue
        for huge in (10**7, 10**30, [10**7], [1] * 10**5):
            path.write_bytes(whole)
            rewrite(path, lambda h, t, o=option, v=huge: h["params"]["options"].update({o: v}))
            began = time.monotonic()
            # an option that shapes nothing, such as a weight of the loss, may be anything
            with contextlib.suppress(CheckpointError):
                MADCluster.load(path)
            assert time.monotonic() - began < 5, (option, huge)


class Causal(LSTM):
    """A network with a mask of infinities."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.triu(torch.full((20, 20), -torch.inf), 1))

    def forward(self, x):
        return self.mask.softmax(-1).to(x.dtype) @ super().forward(x)


def test_infinities_that_a_module_had_are_saved_and_loaded(series, tmp_path):
    detector = MADCluster(Causal(), **QUICK | {"options": None}).fit(series.train)
    path = tmp_path / "file"
    detector.save(path)
    again = MADCluster.load(path, embedder=Causal())
    expected = detector.decision_function(series.test)
    assert np.array_equal(again.decision_function(series.test), expected)
    with pytest.raises(CheckpointError, match="infinite where the module"):
        MADCluster.load(path, embedder=LSTM())
    rewrite(path, lambda h, t: t["state.embedder.module.mask"].fill_(torch.inf))
    with pytest.raises(CheckpointError, match="mask is infinite where the module"):
        MADCluster.load(path, embedder=Causal())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_could_not_be_loaded_is_not_saved(series, tmp_path, value):
    detector = MADCluster(Causal(), **QUICK | {"options": None}).fit(series.train)
    with torch.no_grad():
        next(detector.model_.parameters()).flatten()[0] = value
    with pytest.raises(ValueError, match="finite"):
        detector.save(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_a_module_of_short_numbers_is_saved_exactly(series, tmp_path):
    def module():
        return LSTM().to(torch.bfloat16)

    detector = MADCluster(module(), **QUICK | {"options": None}).fit(series.train)
    detector.save(tmp_path / "file")
    again = MADCluster.load(tmp_path / "file", embedder=module())
    for name, weights in again.model_.state_dict().items():
        assert weights.dtype == detector.model_.state_dict()[name].dtype
        assert torch.equal(weights, detector.model_.state_dict()[name])


def test_an_option_that_is_changed_after_a_fit_does_not_change_what_was_fitted(series, tmp_path):
    options = {"d": 8}
    detector = MADCluster(**QUICK | {"options": options}).fit(series.train)
    expected = detector.decision_function(series.test)
    options["d"] = 16
    detector.save(tmp_path / "file")
    again = MADCluster.load(tmp_path / "file")
    assert np.array_equal(again.decision_function(series.test), expected)
    again.options["d"] = 16  # of one that was read, too
    again.save(tmp_path / "file")
    MADCluster.load(tmp_path / "file")


def test_a_saved_detector_has_the_mode_of_the_umask(fitted, tmp_path):
    before = os.umask(0o022)
    try:
        fitted.save(tmp_path / "file")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


@pytest.mark.parametrize("name", EMBEDDERS)
def test_options_may_be_numbers_of_numpy(series, name):
    options = {
        option: np.int64(value) if isinstance(value, int) else np.array(value)
        for option, value in SMALL[name].items()
    }
    detector = MADCluster(name, window=20, stride=20, epochs=1, options=options)
    assert np.isfinite(detector.fit(series.train).decision_scores_).all()


@pytest.mark.parametrize("number", [2, 99])
def test_a_file_of_another_format_says_what_wrote_it(fitted, tmp_path, number):
    path = tmp_path / "model"
    fitted.save(path)
    versions = {"madcluster": "7.0", "torch": "9.1"}
    rewrite(path, lambda h, t: h.update(format=number, versions=versions))
    words = rf"format {number}, written with madcluster 7\.0, torch 9\.1; .* reads format 4$"
    with pytest.raises(CheckpointError, match=words):
        MADCluster.load(path)


@pytest.fixture(scope="module")
def frames(series):
    names = ["inflow", "outflow", "level", "heat"]
    index = pd.date_range("2026-03-29 01:00", periods=len(series.test), freq="min", tz="UTC")
    return tuple(
        pd.DataFrame(rows, columns=names, index=index[: len(rows)])
        for rows in (series.train, series.test)
    )


def test_scores_keep_the_index_of_a_frame(frames, fitted):
    train, test = frames
    detector = MADCluster(**QUICK).fit(train)
    scores, labels = detector.decision_function(test), detector.predict(test)
    pd.testing.assert_index_equal(scores.index, test.index)
    pd.testing.assert_series_equal(labels == 1, scores > detector.threshold_, check_names=False)
    np.testing.assert_array_equal(scores, fitted.decision_function(test.to_numpy()))
    assert isinstance(detector.decision_function(test.to_numpy()), np.ndarray)


def test_names_of_channels_are_kept_and_others_are_refused(frames, tmp_path):
    train, test = frames
    path = tmp_path / "model"
    MADCluster(**QUICK).fit(train).save(path)
    detector = MADCluster.load(path)
    assert detector.channels_ == ("inflow", "outflow", "level", "heat")
    expected = detector.decision_function(test)
    stream = detector.stream(aggregate="last")
    for action in (detector.decision_function, stream.update, lambda x: detector.explain(x, 0, 30)):
        with pytest.raises(ValueError, match="must be in the same order"):
            action(test[["outflow", "inflow", "level", "heat"]])
        with pytest.raises(ValueError, match="Feature names unseen at fit time:\n- flow"):
            action(test.rename(columns={"inflow": "flow"}))
        with pytest.raises(ValueError, match="has 3 features"):
            action(test.to_numpy()[:, :3])
    assert stream.seen == 0
    broken = test.copy()
    broken.iloc[5, 2] = np.nan
    with pytest.raises(ValueError, match="NaN in row 5, channel level"):
        detector.decision_function(broken)
    assert detector.decision_function(test).equals(expected)


def test_a_stream_goes_on_with_the_same_channels_only(frames, series, tmp_path):
    train, test = frames
    named, plain = (MADCluster(**QUICK).fit(x) for x in (train, series.train))
    stream = named.stream()
    stream.update(test[:30])
    stream.save(tmp_path / "stream")
    again = Stream.load(tmp_path / "stream", named)
    np.testing.assert_array_equal(again.update(test[30:60]), stream.update(test[30:60]))
    with pytest.raises(CheckpointError, match=r"has channels \['inflow'.*expected \['0'"):
        Stream.load(tmp_path / "stream", plain)


def test_a_failed_fit_leaves_no_fitted_detector(series):
    detector = MADCluster(window=20, epochs=1)
    with pytest.raises(ValueError, match="less than a window"):
        detector.fit(series.train[:10])
    with pytest.raises(NotFittedError):
        detector.decision_function(series.test)


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        MADCluster.load(tmp_path / "none")


def test_a_failed_save_leaves_the_old_file_and_nothing_else(fitted, tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_text("before")

    def full(*arguments, **keywords):
        raise OSError("no space left on device")

    monkeypatch.setattr("madcluster.service.checkpoints.save", full)
    with pytest.raises(OSError, match="no space"):
        fitted.save(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def with_value(value):
    x = np.zeros((100, 4))
    x[7, 2] = value
    return x


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (with_value(np.nan), "NaN in row 7, channel 2"),
        (with_value(np.inf), "inf in row 7, channel 2"),
        (with_value(1e300), r"1e\+300 in row 7, channel 2"),
        (np.zeros(100), "2-D"),
        (np.zeros((0, 4)), "empty"),
        (np.zeros((10, 4)), "less than a window of 20|at least one window of 20"),
        ([["a", "b"]] * 30, "must be numbers"),
        ([[1.0, 2.0], [1.0]], "must be numbers"),
    ],
)
def test_bad_input_is_refused_by_fit(x, message):
    detector = MADCluster(**QUICK)
    with pytest.raises(ValueError, match=message):
        detector.fit(x)
    assert not hasattr(detector, "model_")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (with_value(np.nan), "NaN in row 7, channel 2"),
        (np.zeros((100, 3)), "X has 3 features, but MADCluster is expecting 4 features"),
        (np.zeros((19, 4)), "at least one window of 20"),
    ],
)
def test_bad_input_is_refused_by_decision_function(fitted, x, message):
    with pytest.raises(ValueError, match=message):
        fitted.decision_function(x)


@pytest.mark.parametrize("method", ["decision_function", "predict"])
def test_an_unfitted_detector_says_so(method):
    with pytest.raises(ValueError, match="not fitted"):
        getattr(MADCluster(), method)(np.zeros((200, 2)))
    with pytest.raises(ValueError, match="not fitted"):
        MADCluster().save("nowhere")


def test_clip_bounds_what_leaves_the_train_range_and_survives_a_file(series, tmp_path):
    wild = series.test.copy()
    wild[100:110] *= 1e6
    detector = MADCluster(clip=1.0, epochs=1, stride=20).fit(series.train)
    free = MADCluster(epochs=1, stride=20).fit(series.train)
    assert detector.decision_function(wild).max() < free.decision_function(wild).max()
    detector.save(tmp_path / "d.safetensors")
    again = MADCluster.load(tmp_path / "d.safetensors")
    np.testing.assert_array_equal(again.decision_function(wild), detector.decision_function(wild))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"terms": "all"}, "terms must be one of"),
        ({"label_smoothing": 0.6}, "label_smoothing must lie in"),
        ({"clip": -1}, "clip must be positive"),
        ({"score_from": "best"}, "score_from must be one of"),
        ({"k": 0}, "k must be a positive integer"),
        ({"stride": 200}, "stride must not exceed"),
        ({"score_stride": 0}, r"stride of scoring must be an integer in 1 … 100"),
        ({"score_stride": 101}, r"stride of scoring must be an integer in 1 … 100"),
        ({"aggregate": "max"}, "aggregate must be one of"),
        ({"embedder": 5}, "embedder must be a name or"),
        ({"embedder": "x"}, "embedder must be one of"),
        ({"options": 2.5}, "options must be a dict"),
        ({"options": {5: 1}}, "options must be a dict"),
        ({"embedder": nn.Linear(4, 4), "options": {"d": 8}}, "options are for embedders"),
        ({"seed": 2**32}, "seed must be at most"),
        ({"k": 10**30}, "k must be at most"),
        ({"contamination": 1.0}, r"contamination must lie in \(0, 1\)"),
    ],
)
def test_check_refuses_without_any_data(arguments, message):
    MADCluster().check()
    with pytest.raises(ValueError, match=message):
        MADCluster(**arguments).check()


def test_more_clusters_than_rows_are_refused_before_training(series):
    with pytest.raises(ValueError, match=r"k must not exceed the 600 rows of X, got 100000"):
        MADCluster(k=100_000).fit(series.train)


def test_a_bad_argument_is_refused_before_training(series):
    wrong = {"embedder": "x", "score_from": "x", "epochs": 0, "scaler": "x", "contamination": 2}
    for name, value in wrong.items():
        detector = MADCluster(**{**QUICK, name: value})
        with pytest.raises(ValueError, match=name if name != "scaler" else "x"):
            detector.fit(series.train)
        assert not hasattr(detector, "history_")


def test_a_fit_leaves_the_callers_random_state_alone(series):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    MADCluster(**QUICK).fit(series.train)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_constant_channel_and_a_constant_series_train(series):
    x = series.train.copy()
    x[:, 1] = 3.0
    assert np.isfinite(MADCluster(**QUICK).fit(x).decision_function(series.test)).all()
    flat = MADCluster(**QUICK).fit(np.zeros((200, 4)))
    assert np.isfinite(flat.decision_function(series.test)).all()


def test_one_real_machine(data_root):
    machine = load("SMD", "machine-1-6", data_root)
    detector = MADCluster(stride=20, epochs=1).fit(machine.train)
    scores = detector.decision_function(machine.test)
    assert scores.shape == machine.labels.shape
    assert len(np.unique(scores)) > 1000


def test_a_failed_refit_leaves_the_detector_as_it_was(series, fitted, monkeypatch):
    detector = MADCluster(**QUICK).fit(series.train)
    expected = detector.decision_function(series.test)
    for error in (NonFiniteLossError("nan"), KeyboardInterrupt()):

        def fails(*arguments, error=error, **keywords):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr("madcluster.training.Run.alone", fails)
            with pytest.raises(type(error)):
                detector.fit(series.train[:300])
        assert np.array_equal(detector.decision_function(series.test), expected)
        assert len(detector.decision_scores_) == len(series.train)


@pytest.mark.parametrize("change", [{"window": 30}, {"score_stride": 7}, {"aggregate": "last"}])
def test_parameters_count_from_the_next_fit_on(series, change, tmp_path):
    detector = MADCluster(**QUICK).fit(series.train)
    expected = detector.decision_function(series.test)
    stream = detector.stream(aggregate="last").update(series.test[:100])
    causes = contributions(detector, series.test, 100, 120)
    detector.set_params(**change)
    assert np.array_equal(detector.decision_function(series.test), expected)
    assert np.array_equal(Stream(detector, aggregate="last").update(series.test[:100]), stream)
    assert np.array_equal(contributions(detector, series.test, 100, 120), causes)
    detector.save(tmp_path / "detector.safetensors")
    loaded = MADCluster.load(tmp_path / "detector.safetensors")
    assert np.array_equal(loaded.decision_function(series.test), expected)
    asked = MADCluster(**{**QUICK, **change}).fit(series.train)
    again = detector.fit(series.train).decision_function(series.test)
    assert np.array_equal(again, asked.decision_function(series.test))
    assert not np.array_equal(again, expected)


@pytest.mark.parametrize("embedder", ["deepsvdd", "omnianomaly"])  # the second draws noise
def test_fits_in_threads_give_what_each_gives_alone(series, embedder):
    def scores(seed):
        detector = MADCluster(embedder, **{**QUICK, "epochs": 1}, seed=seed).fit(series.train)
        return detector.decision_function(series.test)

    alone = [scores(seed) for seed in range(4)]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(scores, range(4)))
    assert torch.equal(torch.rand(3), expected)  # the caller's generator stays as it was
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)


def test_everything_that_is_saved_can_be_loaded_by_another_process(series, tmp_path):
    for embedder in EMBEDDERS:
        for head in (True, False):
            detector = MADCluster(embedder, head=head, **{**QUICK, "epochs": 1})
            scores = detector.fit(series.train).decision_function(series.test)
            detector.save(tmp_path / f"{embedder}-{head}.safetensors")
            np.save(tmp_path / f"{embedder}-{head}.npy", scores)
    np.save(tmp_path / "x.npy", series.test)
    code = f"""
import numpy as np
from pathlib import Path
from madcluster import MADCluster
folder = Path({str(tmp_path)!r})
x = np.load(folder / "x.npy")
for file in sorted(folder.glob("*.safetensors")):
    scores = MADCluster.load(file).decision_function(x)
    print(file.stem, np.array_equal(scores, np.load(file.with_suffix(".npy"))))
"""
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = dict(line.split() for line in printed.splitlines())
    assert len(found) == 2 * len(EMBEDDERS)
    assert set(found.values()) == {"True"}


@pytest.mark.parametrize("offset", [1e6, 1e8, 1e10])
def test_an_offset_changes_no_ranking(series, offset):
    def precision(moved):
        detector = MADCluster(**QUICK).fit(np.asarray(series.train) + moved)
        scores = detector.decision_function(np.asarray(series.test) + moved)
        return average_precision_score(series.labels, scores)

    assert precision(offset) == pytest.approx(precision(0.0), abs=0.01)
