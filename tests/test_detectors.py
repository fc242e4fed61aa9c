"""Detectors without a network against their definitions, and against chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis
from sklearn.metrics import auc, average_precision_score, precision_recall_curve

from madcluster import synthetic
from madcluster.detectors import (
    DETECTORS,
    L2Norm,
    Mahalanobis,
    NearestNeighbor,
    PCAError,
    RandomScore,
)
from madcluster.study.benchmark import entities_of, series_of

PLAIN = [name for name in DETECTORS if name != "madcluster"]


@pytest.fixture(scope="module")
def series():
    return synthetic(n_train=1500, n_test=2000, seed=0)


@pytest.mark.parametrize("name", PLAIN)
def test_one_finite_score_per_row(series, name):
    detector = DETECTORS[name]().fit(series.train)
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
    scores = DETECTORS[name]().fit(series.train).decision_function(series.test)
    assert average_precision_score(series.labels, scores) > 3 * series.labels.mean()


@pytest.mark.parametrize("name", PLAIN)
def test_bad_input(series, name):
    detector = DETECTORS[name]()
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
        detector = DETECTORS[name]().fit(np.asarray(series.train) + moved)
        scores = detector.decision_function(np.asarray(series.test) + moved)
        return average_precision_score(series.labels, scores)

    assert precision(offset) == pytest.approx(precision(0.0), abs=0.01)


@pytest.mark.parametrize("name", PLAIN)
def test_a_failed_refit_leaves_a_baseline_as_it_was(series, name, monkeypatch):
    detector = DETECTORS[name]().fit(series.train)
    expected = detector.decision_function(series.test)
    with monkeypatch.context() as patch:
        patch.setattr(DETECTORS[name], "_not_learned", lambda self, rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            detector.fit(series.train[:500])
    assert np.array_equal(detector.decision_function(series.test), expected)
