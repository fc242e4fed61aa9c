"""Detectors without a network against their definitions, and against chance."""

from inspect import signature

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import oas
from sklearn.ensemble import IsolationForest as SklearnForest
from sklearn.metrics import auc, average_precision_score, precision_recall_curve

from madcluster import synthetic
from madcluster.detectors import (
    DETECTORS,
    CheckpointError,
    Detector,
    IsolationForest,
    KMeansAD,
    L2Norm,
    LargestDeviation,
    LinearAutoregression,
    Mahalanobis,
    MovingVariance,
    NearestNeighbor,
    PCAError,
    RandomFeatures,
    RandomScore,
    SquaredDifference,
)
from madcluster.study.benchmark import entities_of, series_of

PLAIN = [name for name in DETECTORS if name != "madcluster"]
# its default has a network
FEW = {"ensemble": {"detectors": [PCAError(smooth=5), Mahalanobis(window=3)]}}


def made(name, **arguments):
    return DETECTORS[name](**FEW.get(name, {}), **arguments)


@pytest.fixture(scope="module")
def series():
    return synthetic(n_train=1500, n_test=2000, seed=0)


@pytest.mark.parametrize("name", PLAIN)
def test_one_finite_score_per_row(series, name):
    detector = made(name).fit(series.train)
    scores = detector.decision_function(series.test)
    assert scores.shape == (2000,)
    assert np.isfinite(scores).all()
    assert np.unique(scores).size > 1000 or name == "constant"
    # the threshold is of scores that detectors gave which had not learned these rows
    assert (detector.calibration_scores_ > detector.threshold_).mean() <= 0.011
    assert detector.predict(series.train).mean() <= 0.03


def test_a_random_score_is_at_the_base_rate(series):
    found = [
        average_precision_score(
            series.labels, RandomScore(seed=s).fit(series.train).decision_function(series.test)
        )
        for s in range(20)
    ]
    assert np.mean(found) == pytest.approx(series.labels.mean(), abs=0.02)


def test_l2_norm_by_hand(series):
    z = (series.test - series.train.mean(0)) / series.train.std(0)
    got = L2Norm().fit(series.train).decision_function(series.test)
    np.testing.assert_allclose(got, np.linalg.norm(z, axis=1), rtol=1e-4)


def test_pca_error_by_hand(series):
    mean, std = series.train.mean(0), series.train.std(0)
    train, test = (series.train - mean) / std, (series.test - mean) / std
    kept = np.linalg.svd(train - train.mean(0), full_matrices=False)[2][:3]
    rest = (test - train.mean(0)) @ (np.eye(test.shape[1]) - kept.T @ kept)
    got = PCAError(n_components=3).fit(series.train).decision_function(series.test)
    np.testing.assert_allclose(got, np.linalg.norm(rest, axis=1), rtol=1e-3, atol=1e-4)


def test_random_features_by_hand():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(300, 3)), rng.normal(size=(40, 3))
    detector = RandomFeatures(d=5, n_layers=2, n_draws=2, scaler="none", aggregate="last")
    detector.fit(train)
    assert detector.window == 7

    def feature(x, t, draw):
        """Of row t, by the definition of a layer, row by row."""

        def layer(i, t):
            if i < 0:
                return x[t] @ detector.inlet_[draw]
            taps = detector.layers_[draw, i]
            added = sum(layer(i - 1, t - (2 - j) * 2**i) @ taps[j] for j in range(3))
            return layer(i - 1, t) + np.where(added > 0, added, 0.1 * added)

        return layer(1, t)

    logs = []
    for draw in range(2):
        known = np.array([feature(train, t, draw) for t in range(6, 300)])
        inverse, mean = np.linalg.inv(np.cov(known.T, bias=True)), known.mean(0)
        of_rows = [feature(test, t, draw) - mean for t in range(6, 40)]
        logs.append([np.log(h @ inverse @ h) for h in of_rows])
    expected = np.exp(np.mean(logs, axis=0))
    found = detector.decision_function(test)
    np.testing.assert_allclose(found[6:], expected, rtol=1e-6)
    np.testing.assert_allclose(found[:6], expected[0], rtol=1e-6)
    for starts in (np.array([3, 20, 7]), np.array([33, 0]), np.array([5])):  # near, and far apart
        apart = detector.window_scores(test, starts)[:, 0]
        np.testing.assert_allclose(apart, expected[starts], rtol=1e-6)


def test_random_features_do_not_see_how_they_are_mixed():
    rng = np.random.default_rng(1)
    train, test = rng.normal(size=(300, 2)), rng.normal(size=(50, 2))
    detector = RandomFeatures(d=6, n_layers=1, n_draws=1).fit(train)
    scores = detector.decision_function(test)
    mix = rng.normal(size=(6, 6))
    z = detector.scaler_.transform(train)
    known = np.concatenate([h @ mix for h in detector._blocks(z, 0)])
    new = np.concatenate([h @ mix for h in detector._blocks(detector.scaler_.transform(test), 0)])
    inverse = np.linalg.inv(np.cov(known.T, bias=True))
    squares = [(h - known.mean(0)) @ inverse @ (h - known.mean(0)) for h in new]
    assert scores[10:40] == pytest.approx(spread(np.array(squares), 3)[10:40], rel=1e-5)


@pytest.mark.parametrize("name", ["d", "n_layers", "n_draws"])
def test_sizes_of_random_features_are_checked(name):
    with pytest.raises(ValueError, match=name):
        RandomFeatures(**{name: 0}).check()
    with pytest.raises(ValueError, match="n_layers must be at most 12"):
        RandomFeatures(n_layers=13).check()


def test_pca_leaves_something_to_score_where_few_channels_vary():
    rng = np.random.default_rng(0)
    train, test = np.zeros((400, 9)), np.zeros((50, 9))
    train[:, :3], test[:, :3] = rng.normal(size=(400, 3)), rng.normal(size=(50, 3))
    detector = PCAError().fit(train)  # five components by default
    assert detector.components_.shape == (2, 9)
    known, new = ((x[:, :3] - train[:, :3].mean(0)) / train[:, :3].std(0) for x in (train, test))
    last = np.linalg.svd(known, full_matrices=False)[2][2]
    np.testing.assert_allclose(detector.decision_function(test), abs(new @ last), atol=1e-4)
    test[7, 8] = 3.0  # a channel that never moved
    assert detector.decision_function(test)[7] > 2.9


def test_nearest_neighbor_by_hand():
    rng = np.random.default_rng(0)
    train, test = rng.random((40, 2)), rng.random((25, 2))
    detector = NearestNeighbor(window=4, scaler="none").fit(train)

    def embed(x):
        return np.array([x[i : i + 4].ravel() for i in range(len(x) - 3)])

    def spread(d, n):
        return [np.mean([d[j] for j in range(i - 3, i + 1) if 0 <= j < len(d)]) for i in range(n)]

    pairs = np.linalg.norm(embed(test)[:, None] - embed(train)[None], axis=2)
    expected = spread(pairs.min(1), 25)
    np.testing.assert_allclose(detector.decision_function(test), expected, rtol=1e-5)

    own = np.linalg.norm(embed(train)[:, None] - embed(train)[None], axis=2)
    index = np.arange(len(own))
    own[np.abs(index[:, None] - index) < 4] = np.inf
    np.testing.assert_allclose(detector.decision_scores_, spread(own.min(1), 40), rtol=1e-4)


def test_mahalanobis_by_hand():
    rng = np.random.default_rng(0)
    train, test = rng.random((200, 2)), rng.random((25, 2))
    detector = Mahalanobis(window=3, scaler="none").fit(train)
    known, new = (
        np.array([x[i : i + 3].ravel() for i in range(len(x) - 2)]) for x in (train, test)
    )
    inverse = np.linalg.inv(np.cov(known.T, bias=True))
    of_windows = [mahalanobis(w, known.mean(0), inverse) ** 2 for w in new]
    expected = [np.mean(of_windows[max(0, i - 2) : i + 1]) for i in range(25)]
    np.testing.assert_allclose(detector.decision_function(test), expected, rtol=1e-4)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 5))
def test_mahalanobis_does_not_depend_on_how_channels_are_mixed(seed, c, window):
    rng = np.random.default_rng(seed)
    train, test = rng.normal(size=(300, c)), rng.normal(size=(40, c))
    mix = np.linalg.qr(rng.normal(size=(c, c)))[0] * rng.uniform(0.5, 2, c)
    plain, mixed = (
        Mahalanobis(window=window, scaler="none").fit(train @ m).decision_function(test @ m)
        for m in (np.eye(c), mix)
    )
    np.testing.assert_allclose(mixed, plain, rtol=1e-3)


def test_mahalanobis_of_rows_that_never_varied():
    detector = Mahalanobis(scaler="none").fit(np.ones((50, 2)))
    test = np.ones((20, 2))
    test[12] = 2
    scores = detector.decision_function(test)
    assert np.isfinite(scores).all()
    assert (scores[3:] > 0).all()  # the windows that hold row 12 begin at row 3
    assert (scores[:3] == 0).all()


@pytest.mark.parametrize("name", ["pca_error", "mahalanobis", "nearest_neighbor"])
def test_good_baselines_beat_chance(series, name):
    scores = made(name).fit(series.train).decision_function(series.test)
    assert average_precision_score(series.labels, scores) > 3 * series.labels.mean()


@pytest.mark.parametrize("name", PLAIN)
def test_bad_input(series, name):
    detector = made(name)
    with pytest.raises(ValueError, match="not fitted"):
        detector.decision_function(series.test)
    with pytest.raises(ValueError, match="NaN in row 0"):
        detector.fit(np.full((100, 2), np.nan))
    detector.fit(series.train)
    with pytest.raises(ValueError, match=r"X has 2 features, but .* is expecting"):
        detector.decision_function(series.test[:, :2])


@pytest.mark.parametrize(("dataset", "f1", "area"), [("MSL", 0.395, 0.305), ("SMAP", 0.351, 0.253)])
def test_l2_norm_as_published_elsewhere(data_root, dataset, f1, area):
    """Outputs in a notebook of Sarfraz et al. (ICML 2024); their area is by trapezoids."""
    found = []
    for entity in entities_of(dataset, data_root):
        series = series_of(dataset, entity, data_root)
        scores = L2Norm(scaler="minmax").fit(series.train).decision_function(series.test)
        precision, recall, _ = precision_recall_curve(series.labels, scores)
        best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
        found.append((best, auc(recall, precision)))
    assert np.mean(found, axis=0) == pytest.approx([f1, area], abs=0.0015)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("offset", [1e6, 1e8, 1e10])
def test_an_offset_changes_no_ranking(series, name, offset):
    def precision(moved):
        detector = made(name).fit(np.asarray(series.train) + moved)
        scores = detector.decision_function(np.asarray(series.test) + moved)
        return average_precision_score(series.labels, scores)

    assert precision(offset) == pytest.approx(precision(0.0), abs=0.01)


@pytest.mark.parametrize("name", PLAIN)
def test_a_failed_refit_leaves_a_baseline_as_it_was(series, name, monkeypatch):
    detector = made(name).fit(series.train)
    expected = detector.decision_function(series.test)
    with monkeypatch.context() as patch:
        patch.setattr(DETECTORS[name], "_not_learned", lambda self, rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            detector.fit(series.train[:500])
    assert np.array_equal(detector.decision_function(series.test), expected)


# --- against their definitions, row by row --------------------------------------------------------

RNG = np.random.default_rng(1)
TRAIN, TEST = RNG.normal(size=(300, 3)), 1.5 * RNG.normal(size=(60, 3))


def vectors(x, window):
    return np.array([x[i : i + window].ravel() for i in range(len(x) - window + 1)])


def spread(of_windows, window):
    """Mean over the windows that cover a row."""
    n = len(of_windows) + window - 1
    covering = ([*range(max(0, i - window + 1), min(i, len(of_windows) - 1) + 1)] for i in range(n))
    return [np.mean([of_windows[j] for j in windows]) for windows in covering]


def test_deviation_difference_and_variance_by_hand():
    found = LargestDeviation().fit(TRAIN).decision_function(TEST)
    z = (TEST - TRAIN.mean(0)) / TRAIN.std(0)
    np.testing.assert_allclose(found, abs(z).max(1), rtol=1e-5)
    steps = (np.diff(z, axis=0) ** 2).sum(1)
    found = SquaredDifference().fit(TRAIN).decision_function(TEST)
    np.testing.assert_allclose(found, np.append(steps[0], steps), rtol=1e-4)
    variances = [z[i : i + 5].var(0).sum() for i in range(len(z) - 4)]
    found = MovingVariance(window=5).fit(TRAIN).decision_function(TEST)
    np.testing.assert_allclose(found, spread(variances, 5), rtol=1e-4)


def test_k_means_by_hand():
    detector = KMeansAD(window=4, n_clusters=3, scaler="none").fit(TRAIN)
    gaps = np.linalg.norm(vectors(TEST, 4)[:, None] - detector.centers_[None], axis=2).min(1)
    np.testing.assert_allclose(detector.decision_function(TEST), spread(gaps, 4), rtol=1e-5)
    known = vectors(TRAIN, 4)
    nearest = np.linalg.norm(known[:, None] - detector.centers_[None], axis=2).argmin(1)
    means = [known[nearest == k].mean(0) for k in range(3)]
    np.testing.assert_allclose(detector.centers_, means, atol=0.05)  # where Lloyd's steps end


def test_an_isolation_forest_is_that_of_scikit_learn():
    for sample in (16, 256, 10_000):
        detector = IsolationForest(n_trees=20, sample=sample, scaler="none").fit(TRAIN)
        theirs = SklearnForest(n_estimators=20, max_samples=min(sample, len(TRAIN)), random_state=0)
        expected = -theirs.fit(TRAIN.astype(np.float32)).score_samples(TEST.astype(np.float32))
        np.testing.assert_allclose(detector.decision_function(TEST), expected, rtol=1e-9)


def test_shrinkage_is_that_of_scikit_learn():
    few = TRAIN[:20]  # 16 windows for 15 numbers
    detector = Mahalanobis(window=5, covariance="oas", scaler="none").fit(few)
    known, new = vectors(few, 5), vectors(TEST, 5)
    covariance, share = oas(known)
    assert 0.1 < share < 1
    gaps = new - known.mean(0)
    expected = np.einsum("bi,ij,bj->b", gaps, np.linalg.inv(covariance), gaps)
    np.testing.assert_allclose(detector.decision_function(TEST), spread(expected, 5), rtol=1e-3)
    learned = Mahalanobis(window=5, scaler="none").fit(few)
    # without it, rows that were learned seem far more usual than others
    gap = [
        np.mean(d.decision_function(TEST)) / d.decision_scores_.mean() for d in (detector, learned)
    ]
    assert gap[0] < gap[1]


def test_an_autoregression_by_hand():
    rng = np.random.default_rng(0)
    x = np.zeros((900, 2))
    for t in range(1, len(x)):
        x[t] = x[t - 1] @ [[0.7, 0.2], [-0.3, 0.5]] + 0.1 * rng.normal(size=2)
    train, test = x[:600], x[600:]
    detector = LinearAutoregression(window=3, alpha=1e-9, scaler="none").fit(train)

    def split(rows):
        past = np.c_[rows[:-2], rows[1:-1], np.ones(len(rows) - 2)]
        return past, rows[2:]

    past, now = split(train)
    weights = np.linalg.lstsq(past, now, rcond=None)[0]
    residuals = now - past @ weights
    inverse = np.linalg.inv(residuals.T @ residuals / len(residuals))
    later, new = split(test)
    gaps = new - later @ weights
    expected = np.einsum("bi,ij,bj->b", gaps, inverse, gaps)
    found = detector.decision_function(test)
    np.testing.assert_allclose(found[2:], expected, rtol=1e-3)
    np.testing.assert_array_equal(found[:2], found[2])  # no window ends there
    assert expected.mean() == pytest.approx(
        2, rel=0.2
    )  # a row like those of train, in two channels
    np.testing.assert_allclose(detector.coefficients_[2:4], [[0.7, 0.2], [-0.3, 0.5]], atol=0.1)


def test_the_penalty_is_chosen_by_what_forecasts_best():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(150, 12))  # nothing to forecast: the largest is best
    coefficients = LinearAutoregression(window=8).fit(noise).coefficients_
    free = LinearAutoregression(window=8, alpha=1e-4).fit(noise).coefficients_
    assert abs(coefficients[:-1]).max() < 0.2 * abs(free[:-1]).max()


def changed(path, **arrays):
    """A saved detector with other arrays."""
    with safe_open(path, framework="numpy") as file:
        about = file.metadata()
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, change in arrays.items():
        found[f"state.{name}"] = change(found[f"state.{name}"])
    save_file(found, path, metadata=about)


def put(value, where=(0, 0)):
    def change(array):
        array = array.copy()
        array[where] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("isolation_forest", {"left": put(1), "right": put(1, (0, 1))}),
        ("isolation_forest", {"left": put(0, (0, 1)), "right": put(0, (0, 1))}),
        ("isolation_forest", {"right": put(10**6)}),
        ("isolation_forest", {"left": put(-1)}),
        ("isolation_forest", {"channel": put(-1)}),
        ("isolation_forest", {"cut": lambda cut: cut[:, :-1]}),
        ("isolation_forest", {"left": lambda left: left.astype(float)}),
        ("nearest_neighbor", {"rows": put(-1, 0)}),
        ("nearest_neighbor", {"rows": put(2**62, -1)}),
        ("nearest_neighbor", {"rows": lambda rows: rows[::-1].copy()}),
        ("nearest_neighbor", {"rows": lambda rows: rows[:-1]}),
    ],
)
def test_a_damaged_file_of_a_detector_without_a_network_is_refused(series, tmp_path, name, arrays):
    few = {"isolation_forest": {"n_trees": 3}}.get(name, {})
    path = tmp_path / "file"
    DETECTORS[name](**few).fit(series.train).save(path)
    changed(path)
    Detector.load(path)
    changed(path, **arrays)
    with pytest.raises(CheckpointError, match="does not describe a detector"):
        Detector.load(path)


@pytest.mark.parametrize("name", [name for name in DETECTORS if name != "madcluster"])
def test_a_number_of_channels_is_a_number_of_channels(series, tmp_path, name):
    path = tmp_path / "file"
    made(name).fit(series.train[:300]).save(path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    for value in ("1e400", "2.5", "[]", "true"):
        number = f'\\"n_features_in\\": {series.train.shape[1]}'.encode()
        header = content[8 : 8 + size].replace(number, number[:-1] + value.encode())
        path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
        with pytest.raises(CheckpointError, match="n_features_in must be"):
            Detector.load(path)


@pytest.mark.parametrize(
    "name", [n for n, d in DETECTORS.items() if "seed" in signature(d).parameters]
)
def test_a_seed_is_checked_before_a_fit(name):
    with pytest.raises(ValueError, match="seed must be at most"):
        DETECTORS[name](seed=2**32).check()
