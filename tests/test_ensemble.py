"""The mean of log scores: by hand, in files and streams, and where it cannot be."""

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import nn

from madcluster import MADCluster, synthetic
from madcluster.detectors import (
    CheckpointError,
    ConstantScore,
    Detector,
    Ensemble,
    KMeansAD,
    L2Norm,
    LargestDeviation,
    Mahalanobis,
    NearestNeighbor,
    PCAError,
)
from madcluster.detectors.choice import default_candidates
from madcluster.detectors.ensemble import in_units, scale_of
from madcluster.service import checkpoints
from madcluster.service.streams import FORMAT, KIND, Stream


@pytest.fixture(scope="module")
def series():
    return synthetic(n_train=1200, n_test=800, n_channels=4, seed=0)


def few():
    return [PCAError(n_components=2, smooth=20), Mahalanobis(window=5), KMeansAD(n_clusters=4)]


@pytest.fixture(scope="module")
def ensemble(series):
    return Ensemble(few()).fit(series.train)


@pytest.mark.parametrize("aggregate", ["mean", "last", "window"])
def test_it_is_the_mean_of_standardized_log_scores(series, aggregate):
    ensemble = Ensemble(few(), aggregate=aggregate, smooth=3).fit(series.train)
    logs, held = [], []
    for detector in few():
        detector.set_params(aggregate=aggregate).fit(series.train)
        normal = np.log(detector.calibration_scores_)
        low, middle, high = np.quantile(normal, (0.25, 0.5, 0.75))
        raw = detector.decision_function(series.test).clip(detector.calibration_scores_.min())
        logs.append((np.log(raw) - middle) / (high - low))
        held.append((normal - middle) / (high - low))

    def mean_of_three(x):
        back = 1 if aggregate == "mean" else 2
        rows = (x[max(0, t - back) : t - back + 3] for t in range(len(x)))
        return np.array([each.mean() for each in rows])

    # the detectors of the ensemble learned rows that were standardized before
    found = ensemble.decision_function(series.test)
    np.testing.assert_allclose(found, mean_of_three(np.mean(logs, 0)), atol=2e-3)
    found = ensemble.calibration_scores_
    np.testing.assert_allclose(found, mean_of_three(np.mean(held, 0)), atol=2e-3)
    assert ensemble.calibrated_on_.startswith("all 1200 training rows, each block of a fifth")


def test_a_network_leaves_the_rows_that_it_has_not_learned(series):
    network = MADCluster(window=20, epochs=1, options={"d": 8})
    ensemble = Ensemble([PCAError(), network], contamination=0.05).fit(series.train)
    assert len(ensemble.calibration_scores_) == len(ensemble.members_[1].calibration_scores_) == 240
    words = ensemble.calibrated_on_
    assert words.startswith("the last 240 rows of what its detectors are calibrated on: all 1200")
    assert words.endswith("the best epoch was chosen and nothing was learned")
    assert (ensemble.calibration_scores_ > ensemble.threshold_).mean() == pytest.approx(0.05)


def test_the_default_is_all_that_choose_tries(series):
    ensemble = Ensemble(seed=3).fit(series.train)
    expected = [str(each) for each in default_candidates(3).values()]
    assert [str(each) for each in ensemble.members_] == expected
    assert Ensemble().window == ensemble.window == 100


def test_its_file_holds_whole_detectors(ensemble, series, tmp_path):
    ensemble.save(tmp_path / "ensemble")
    again = Detector.load(tmp_path / "ensemble")
    assert isinstance(again, Ensemble)
    for one, other in zip(again.members_, ensemble.members_, strict=True):
        assert str(one) == str(other)
        assert one.threshold_ == other.threshold_
        assert np.array_equal(one.decision_scores_, other.decision_scores_)
    found = again.decision_function(series.test)
    np.testing.assert_allclose(found, ensemble.decision_function(series.test))
    # a file of the old members would do: nothing is read from a default that may change
    assert [type(each) for each in again.detectors] == [type(each) for each in ensemble.members_]
    assert str(again.fit(series.train)) == str(ensemble)


@pytest.mark.parametrize(
    ("array", "change"),
    [
        ("state.spread", lambda x: 0 * x),
        ("state.least", lambda x: -x),
        ("state.middle", lambda x: x[:-1]),
        ("state.middle", lambda x: x.astype(np.float32)),
        ("members.0.scaler.scale", lambda x: 0 * x),
        ("members.1.state.mean", lambda x: x[:-1]),
        ("members.2.state.centers", lambda x: np.full_like(x, np.inf)),
        ("members.2.median", lambda x: np.full_like(x, np.inf)),
    ],
)
def test_a_damaged_file_is_refused(ensemble, tmp_path, array, change):
    path = tmp_path / "ensemble"
    ensemble.save(path)
    with safe_open(path, framework="numpy") as file:
        about = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    arrays[array] = np.ascontiguousarray(change(arrays[array]))
    save_file(arrays, path, metadata=about)
    with pytest.raises(CheckpointError):
        Detector.load(path)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 6)

    def forward(self, x):
        return self.layer(x)


def test_networks_of_ones_own_are_given_to_load(series, tmp_path):
    arguments = {"window": 10, "epochs": 1}
    mine = [MADCluster(Own(), **arguments), MADCluster(Own(), **arguments, k=2)]
    ensemble = Ensemble([PCAError(), *mine]).fit(series.train)
    ensemble.save(tmp_path / "ensemble")
    again = Ensemble.load(tmp_path / "ensemble", embedders=[Own(), Own()])
    found = again.decision_function(series.test)
    np.testing.assert_allclose(found, ensemble.decision_function(series.test), rtol=1e-5)
    for wrong in ([], [Own()]):
        with pytest.raises(CheckpointError, match="needs a module of your own as embedder"):
            Ensemble.load(tmp_path / "ensemble", embedders=wrong)
    with pytest.raises(CheckpointError, match="does not take 1 of the embedders"):
        Ensemble.load(tmp_path / "ensemble", embedders=[Own(), Own(), Own()])


def test_a_stream_is_of_its_detectors_alone(ensemble, series, tmp_path):
    stream = ensemble.stream()
    stream.update(series.test[:300])
    stream.save(tmp_path / "stream")
    other = Ensemble(few()[::-1]).fit(series.train)
    with pytest.raises(CheckpointError, match="is of a detector with"):
        Stream.load(tmp_path / "stream", other)
    # a threshold is not what makes scores
    moved = Ensemble(few()).fit(series.train).calibrate("quantile", contamination=0.2)
    again = Stream.load(tmp_path / "stream", moved)
    np.testing.assert_allclose(
        np.concatenate([again.update(series.test[300:]), again.finish()]),
        np.concatenate([stream.update(series.test[300:]), stream.finish()]),
    )


def at(name, value):
    return lambda about, arrays: about["piece"].update({name: value})


def without(name):
    return lambda about, arrays: arrays.pop(name)


@pytest.mark.parametrize(
    "change",
    [
        at("seen", 301),
        at("scored", -1),
        at("smoothed", 4),
        at("members", []),
        at("members", None),
        without("piece.waiting.1"),
        without("piece.members.2.rows"),
        lambda about, arrays: about["piece"]["members"][0].update(seen=299),
        lambda about, arrays: arrays.update({"piece.waiting.0": np.zeros(99, int)}),
        lambda about, arrays: arrays.update({"piece.scores": np.zeros((2, 1), int)}),
    ],
)
def test_a_stream_that_contradicts_itself_is_refused(ensemble, series, tmp_path, change):
    stream = ensemble.stream()
    stream.update(series.test[:300])
    stream.save(tmp_path / "stream")
    about, arrays = checkpoints.read(tmp_path / "stream", KIND, version=FORMAT)
    change(about, arrays)
    checkpoints.write(tmp_path / "stream", KIND, about, arrays, version=FORMAT)
    with pytest.raises(CheckpointError, match="does not describe a stream"):
        Stream.load(tmp_path / "stream", ensemble)


def test_a_stream_remembers_no_more_than_it_needs(ensemble, series):
    stream = ensemble.stream()
    for start in range(0, 800, 100):
        stream.update(series.test[start : start + 100])
        piece = stream._piece
        assert max(map(len, piece.waiting)) <= ensemble.window + 20
        assert piece.seen - piece.scored <= ensemble.window + 10


def test_an_occlusion_is_of_all_detectors(ensemble, series):
    test = series.test.copy()
    test[400:420, 2] += 8 * series.train[:, 2].std()
    for method in ("deviation", "occlusion"):
        found = ensemble.explain(test, 400, 420, method=method)
        assert found.argmax() == 2
    with pytest.raises(ValueError, match="has no gradient"):
        ensemble.explain(test, 400, 420, method="gradient")


@pytest.mark.parametrize(
    ("normal", "expected"),
    [
        (np.exp(np.arange(5.0)), (1.0, 2.0, 2.0)),
        (np.zeros(9), (1.0, 0.0, 1.0)),
        (np.full(9, np.e), (np.e, 1.0, 1.0)),
        (np.r_[np.zeros(3), np.exp([1.0, 2.0])], (np.e, 1.0, 0.4)),  # of more than half, the same
    ],
)
def test_the_scale_of_scores_that_hardly_vary(normal, expected):
    assert scale_of(normal) == pytest.approx(expected)
    assert in_units(np.zeros(1), *expected)[0] <= 0


def test_a_score_that_says_nothing_adds_nothing(series):
    alone = Ensemble([L2Norm()]).fit(series.train).decision_function(series.test)
    both = Ensemble([L2Norm(), ConstantScore()]).fit(series.train).decision_function(series.test)
    np.testing.assert_allclose(2 * both, alone)


class Below(LargestDeviation):
    def window_scores(self, z, starts):
        return super().window_scores(z, starts) - 1


@pytest.mark.parametrize(
    ("detectors", "message"),
    [
        ([], "detectors must be a list of detectors and not empty"),
        (PCAError(), "detectors must be a list of detectors"),
        ([PCAError(), "mahalanobis"], r"detectors\[1\] must be a detector, got 'mahalanobis'"),
        ([Ensemble([PCAError()])], r"detectors\[0\] is an ensemble"),
        ([PCAError(n_components=0)], r"detectors\[0\]: n_components must be"),
        ([PCAError(), Below()], r"detectors\[1\], Below: its scores must not be negative"),
        ([NearestNeighbor(window=2000)], "X has 1200 rows, less than a window of 2000"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(series, detectors, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(detectors).fit(series.train)
