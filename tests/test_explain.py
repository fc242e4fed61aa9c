"""Contributions of channels to a score, on models whose answer is known."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import comb
from small import SMALL
from torch import nn

from madcluster import MADCluster, synthetic
from madcluster.data import Event
from madcluster.models import EMBEDDERS, Embedder, Embedding
from madcluster.service.explanations import contributions, hit_rates, random_hit_rates


class Weighted(Embedder):
    """Score Σ_c w_c·x_c²: what a channel adds is known."""

    d = 4

    def __init__(self, power=2):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 0.0, 3.0, 0.5]))
        self.power = power

    def forward(self, x):
        score = (self.w.detach() * x**self.power).sum(-1)
        return Embedding(x * self.w, (self.w - 1).square().sum(), score)


@pytest.fixture(scope="module")
def plain():
    rng = np.random.default_rng(0)
    train = rng.normal(size=(300, 4))
    arguments = {"head": False, "window": 20, "stride": 10, "epochs": 1, "scaler": "none"}
    detector = MADCluster(Weighted(), lr=1e-9, **arguments).fit(train)
    detector.as_fitted.median_ = np.zeros(4, np.float32)
    linear = MADCluster(Weighted(1), lr=1e-9, **arguments).fit(train)
    return detector, linear, rng.normal(size=(200, 4))


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (60, 80), (0, 200), (199, 200), (95, 96)])
def test_occlusion_is_what_the_channel_adds(plain, start, stop):
    detector, _, x = plain
    found = contributions(detector, x, start, stop, method="occlusion", stride=1)
    assert found[1] == 0
    assert np.argmax(found) == 2 or stop - start < 5
    if stop - start == 1:  # one row is a mean of itself
        np.testing.assert_allclose(found, [1, 0, 3, 0.5] * x[start] ** 2, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_exact_for_a_linear_score(plain):
    _, linear, x = plain
    by_gradient = contributions(linear, x, 50, 70, method="gradient")
    by_occlusion = contributions(linear, x, 50, 70, method="occlusion")
    np.testing.assert_allclose(by_gradient, by_occlusion, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["occlusion", "gradient", "deviation"])
def test_a_spike_is_found_in_its_channel(method):
    series = synthetic(n_train=1500, n_test=900, n_channels=6, kinds=("spike",), seed=1)
    detector = MADCluster(epochs=5, stride=10, batch_size=16, window=50).fit(series.train)
    x = series.test.copy()
    x[400:404, 3] += 8
    found = contributions(detector, x, 400, 404, method=method)
    assert np.argmax(found) == 3


def test_a_deviation_is_in_standard_deviations_and_a_constant_channel_in_its_own_units():
    train = np.random.default_rng(0).normal(size=(400, 2)) * [10, 0] + [5, 7]
    detector = MADCluster(epochs=1, window=20, stride=10).fit(train)
    x = np.full((40, 2), [np.median(train[:, 0]), 7.0])
    x[10:12] += [30, 2]
    found = contributions(detector, x, 10, 12, method="deviation")
    np.testing.assert_allclose(found, [30 / train[:, 0].std(), 2], rtol=1e-4)


def test_a_frame_gives_names_and_a_file_keeps_what_is_usual(tmp_path):
    series = synthetic(n_train=800, n_test=900, n_channels=4, seed=0)
    frame = pd.DataFrame(series.test, columns=["a", "b", "c", "d"])
    detector = MADCluster(epochs=1, stride=20).fit(series.train)
    found = detector.explain(frame, 300, 320)
    assert set(found.index) == set("abcd")
    assert found.is_monotonic_decreasing
    detector.save(tmp_path / "d")
    again = MADCluster.load(tmp_path / "d").explain(series.test, 300, 320)
    np.testing.assert_allclose(again, found[["a", "b", "c", "d"]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, 5), "do not lie in x"),
        ((-1, 5), "do not lie in x"),
        ((190, 201), "do not lie in x, which has 200"),
    ],
)
def test_rows_must_lie_in_the_series(plain, arguments, message):
    detector, _, x = plain
    with pytest.raises(ValueError, match=message):
        contributions(detector, x, *arguments)


def test_an_unknown_method_or_no_fit_is_refused(plain):
    detector, _, x = plain
    with pytest.raises(ValueError, match="method must be one of"):
        contributions(detector, x, 0, 1, method="shap")
    with pytest.raises(ValueError, match="not fitted"):
        MADCluster().explain(x, 0, 1)


def test_hit_rates_by_hand():
    events = [Event("x", 0, 1, (2,)), Event("x", 0, 1, (0, 3))]
    ranked = [np.array([3.0, 2, 1, 0]), np.array([0.0, 9, 1, 5])]
    hits = hit_rates(ranked, events, k=(1, 2, 3))
    assert {k: v.tolist() for k, v in hits.items()} == {1: [0, 0], 2: [0, 1], 3: [1, 1]}
    with pytest.raises(ValueError, match="names no channel"):
        hit_rates(ranked, [events[0], Event("x", 0, 1)])
    with pytest.raises(ValueError, match="2 rankings for 1 events"):
        hit_rates(ranked, events[:1])


@pytest.mark.parametrize("m", [1, 3, 10])
def test_the_random_floor_is_hypergeometric_and_what_random_rankings_get(m):
    events = [Event("x", 0, 1, tuple(range(m)))]
    found = random_hit_rates(12, events, k=(1, 3, 5))
    for k, value in found.items():
        assert value[0] == pytest.approx(1 - comb(12 - m, k) / comb(12, k))
    rng = np.random.default_rng(0)
    many = hit_rates([rng.random(12) for _ in range(4000)], events * 4000)
    for k, hits in many.items():
        assert hits.mean() == pytest.approx(found[k][0], abs=0.03)


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_every_network_is_explained_and_batches_change_nothing(embedder, head, monkeypatch):
    series = synthetic(n_train=300, n_test=800, n_channels=3, seed=0)
    quick = {"window": 20, "stride": 10, "epochs": 1, "options": SMALL[embedder]}
    detector = MADCluster(embedder, head=head, **quick).fit(series.train)
    found = {}
    for size in (64, 3):
        monkeypatch.setattr("madcluster.service.explanations.BATCH", size)
        for method in ("gradient", "occlusion"):
            found[method, size] = contributions(detector, series.test, 40, 140, method=method)
    for method in ("gradient", "occlusion"):
        assert np.isfinite(found[method, 64]).all()
        assert np.ptp(found[method, 64]) > 0
        # sums of about a hundred float32 scores, in another order
        scale = np.abs(found[method, 64]).max()
        np.testing.assert_allclose(found[method, 3], found[method, 64], atol=1e-3 * scale)
