"""Numbers that see a collapse: known spectra, invariances, and what a training records and says."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from madcluster.diagnostics import (
    CollapseWarning,
    Monitor,
    effective_rank,
    spread,
    total_variance,
    variance_ratio,
)
from madcluster.heads import build
from madcluster.models import Embedder, Embedding
from madcluster.training import Config, fit

seeds = st.integers(0, 2**31)


def cloud(seed=0, n=60, d=5, dtype=torch.float64):
    return torch.randn(4, n, d, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def with_spectrum(eigenvalues):
    """Embeddings (1 n d) whose covariance has exactly these eigenvalues, in a turned basis."""
    d = len(eigenvalues)
    axes = torch.diag(torch.tensor(eigenvalues, dtype=torch.float64) * d).sqrt()
    turn, _ = torch.linalg.qr(cloud(3)[0, :d, :d])
    return (torch.cat([axes, -axes]) @ turn)[None]


@pytest.mark.parametrize(
    ("eigenvalues", "rank"),
    [
        ([1.0, 1, 1, 1], 4),
        ([2.0, 2, 0, 0], 2),
        ([7.0, 0, 0], 1),
        ([0.5, 0.25, 0.25], math.exp(0.5 * math.log(2) + 0.5 * math.log(4))),
        ([1e-20, 1e-20, 0, 0, 0], 2),
    ],
)
def test_effective_rank_of_a_known_spectrum(eigenvalues, rank):
    h = with_spectrum(eigenvalues)
    assert effective_rank(h) == pytest.approx(rank, rel=1e-5)
    assert total_variance(h) == pytest.approx(sum(eigenvalues), rel=1e-9)


@given(seeds, st.floats(1e-12, 1e12), st.floats(-100, 100))
def test_scale_and_place(seed, alpha, shift):
    h = cloud(seed)
    moved = alpha * (h + shift)
    assert effective_rank(moved) == pytest.approx(effective_rank(h), rel=1e-6)
    assert variance_ratio(moved, h) == pytest.approx(alpha**2, rel=1e-6)
    assert variance_ratio(moved, alpha * h) == pytest.approx(1, rel=1e-6)


@given(seeds)
def test_rotation_and_order_change_nothing(seed):
    h = cloud(seed)
    turn, _ = torch.linalg.qr(cloud(seed + 1)[0, :5])
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    for other in (h @ turn, h[:, order]):
        assert effective_rank(other) == pytest.approx(effective_rank(h), rel=1e-9)
        assert total_variance(other) == pytest.approx(total_variance(h), rel=1e-9)


@given(seeds, st.integers(1, 5))
def test_effective_rank_lies_between_one_and_the_rank(seed, r):
    h = cloud(seed)[..., :r] @ cloud(seed + 1)[0, :r]
    assert 1 <= effective_rank(h) <= r + 1e-6


def test_total_variance_by_hand():
    h = cloud()
    np.testing.assert_allclose(total_variance(h), h.numpy().reshape(-1, 5).var(0).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 3.0, -1e-3])
def test_a_constant_has_no_variance_and_no_rank(dtype, value):
    h = torch.full((2, 30, 4), value, dtype=dtype)
    h[0, 0] *= 1 + torch.finfo(dtype).eps  # the last bit is rounding, not information
    assert total_variance(h) == 0
    assert effective_rank(h) == 0
    assert variance_ratio(h, cloud(d=4)) == 0
    assert math.isnan(variance_ratio(cloud(d=4), h))


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.zeros(0, 4), torch.zeros(2, 0, 4)])
@pytest.mark.parametrize("measure", [total_variance, effective_rank])
def test_bad_shapes_are_refused(measure, bad):
    with pytest.raises(ValueError, match="embeddings must be"):
        measure(bad)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="NaN or infinite"):
        effective_rank(torch.tensor([[1.0, bad], [0.0, 1.0]]))


# --- in a training --------------------------------------------------------------------------------


class Shrinking(Embedder):
    """h = scale(epoch) · x, scored by its distance to 0; the loss falls with it."""

    replaced_by_head = True

    def __init__(self, scales, flat=False):
        super().__init__()
        self.scales, self.d, self.flat = scales, 3, flat
        self.weight = nn.Parameter(torch.ones(()))
        self.register_buffer("scale", torch.ones(()))
        self.steps = 0

    def prepare(self, batches, epoch):
        self.epoch = epoch

    def forward(self, x):
        if self.training:
            self.scale.fill_(self.scales[self.epoch])
        h = self.scale * x
        if self.flat and self.scale != 1:
            h = h.mean(-1, keepdim=True).expand_as(h)
        score = h.square().sum(-1)
        return Embedding(h, score.mean() + 0 * self.weight, score)

    def anchors(self):
        return torch.zeros(1, 3)


def series(n=300, c=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, c)).astype(np.float32)


def trained(scales, **options):
    config = Config(window=20, stride=5, epochs=len(scales))
    return fit(Shrinking(scales, **options), series(), config)


def test_history_holds_the_numbers_of_held_out_windows():
    frame = trained([0.9, 0.5, 0.1]).frame()
    assert frame["variance_ratio"].to_list() == pytest.approx([0.81, 0.25, 0.01], rel=1e-5)
    assert frame["effective_rank"].std() < 1e-3
    held = series()[240:]
    windows = np.lib.stride_tricks.sliding_window_view(held, 20, axis=0)[::5].swapaxes(1, 2)
    assert frame["center_distance"][2] == pytest.approx(
        (0.01 * windows**2).sum(-1).mean(), rel=1e-4
    )
    assert frame["distinct_scores"].eq(len(np.unique(held, axis=0))).all()


def test_no_warning_without_a_collapse():
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        trained([0.5, 0.2])


@pytest.mark.parametrize(
    ("scales", "options", "message"),
    [
        ([0.5, 1e-3], {}, r"variance ratio is 1\.0e-06 \(below 5e-03\)"),
        ([0.5, 0.0], {}, r"variance ratio is 0.0e\+00.*1 scores are distinct"),
        ([0.9, 0.8], {"flat": True}, r"effective rank is 1.00, at the start it was 2\.9"),
    ],
)
def test_a_collapse_is_said_in_words(scales, options, message):
    with pytest.warns(CollapseWarning, match=message) as caught:
        trained(scales, **options)
    assert "fewer epochs" in str(caught[0].message)
    assert caught[0].filename == __file__  # points at the call of fit, not into the package


def test_the_weights_that_are_kept_decide():
    """The collapse of a late epoch that is not kept is no one's concern."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        history = trained([0.5, 0.5])
        history.epochs[0]["variance_ratio"] = 0.0
    assert history.best_epoch == 1


@pytest.mark.parametrize("name", ["deepsvdd", "usad", "omnianomaly", "thoc"])
def test_looking_does_not_change_a_training(name, monkeypatch):
    """omnianomaly draws noise in every forward pass."""
    states = []
    for watched in (True, False):
        if not watched:
            monkeypatch.setattr(Monitor, "__init__", lambda self, *_: None)
            monkeypatch.setattr(Monitor, "row", lambda self: {})
            monkeypatch.setattr(Monitor, "warn", lambda *_, **__: None)
        torch.manual_seed(0)
        model = build(name, n_channels=3, window=20, options={"d": 4})
        fit(model, series(), Config(window=20, stride=5, epochs=2))
        states.append(model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_spread_keeps_mode_and_random_state():
    torch.manual_seed(0)
    model = build("omnianomaly", n_channels=3, window=20, options={"d": 4}).train()
    state = torch.get_rng_state()
    got = spread(model, torch.randn(4, 20, 3, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert got.center_distance > 0


def test_a_model_without_score_or_center():
    model = build(nn.Linear(3, 4), n_channels=3, window=20, head=None)
    got = spread(model, torch.randn(2, 20, 3))
    assert got.distinct_scores is None
    assert got.center_distance is None
    assert set(Monitor(model, torch.randn(2, 20, 3)).row()) == {"variance_ratio", "effective_rank"}


def test_constant_data_have_no_ratio_and_no_warning():
    model = build("deepsvdd", n_channels=3, window=20, options={"d": 4})
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        history = fit(model, np.ones((200, 3), dtype=np.float32), Config(window=20, epochs=1))
    assert math.isnan(history.epochs[0]["variance_ratio"])
