"""The variance floor: its value by hand, the bound proved of it, and a net that would collapse."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from madcluster import MADCluster, synthetic
from madcluster.diagnostics import variance_ratio
from madcluster.heads import Head, WithHead, build
from madcluster.heads.head import variance_floor
from madcluster.models import DeepSVDD, Embedding

FLOOR, WEIGHT = 0.5, 10.0


def cloud(seed=0, d=6):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(d, generator=generator, dtype=torch.float64) + 0.1
    return 1 + scale * torch.randn(4, 50, d, generator=generator, dtype=torch.float64)


def variance(h):
    return h.flatten(0, -2).var(0, correction=0).sum()


def test_by_hand():
    h = torch.tensor([[[-1.0, -2.0], [1.0, 2.0]]])  # standard deviations 1 and 2: variance 5
    for start, ratio in ((80.0, 1 / 16), (45.0, 1 / 9)):
        expected = 10 * math.log(0.5 / math.sqrt(ratio))
        assert variance_floor(h, torch.tensor(start)).item() == pytest.approx(expected, rel=1e-6)


def test_nothing_is_charged_above_the_floor():
    h = cloud()
    start = variance(h)
    for scale in (0.51, 1.0, 100.0):
        assert variance_floor(scale * h, start) == 0
    assert variance_floor(0.49 * h, start) > 0


@given(st.integers(0, 1000), st.floats(1e-30, 0.4))
def test_it_grows_by_its_weight_for_every_factor_e(seed, alpha):
    h = cloud(seed)
    start = variance(h)
    step = variance_floor(alpha * h / math.e, start) - variance_floor(alpha * h, start)
    assert step.item() == pytest.approx(WEIGHT, rel=1e-6)


def test_it_is_the_same_in_every_basis_and_place():
    h = 0.1 * cloud()
    turn, _ = torch.linalg.qr(cloud(1)[0, :6])
    start = variance(cloud())
    torch.testing.assert_close(variance_floor(7 + h @ turn, start), variance_floor(h, start))


def test_without_variance_at_the_start_there_is_no_floor():
    for h in (cloud(), torch.zeros(2, 5, 3)):
        assert variance_floor(h, torch.tensor(0.0)) == 0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_has_a_finite_price_and_gradient(value):
    h = torch.full((2, 5, 3), value, requires_grad=True)
    price = variance_floor(h, torch.tensor(3.0))
    price.backward()
    assert torch.isfinite(price)
    assert price > 100
    assert torch.isfinite(h.grad).all()


def objective(head, h, start):
    """The training loss with the floor, and what the theorem of the book says of it."""
    head.start.copy_(start)
    value = head.train().objective_of(head(h)) + head.penalty(h)
    ratio = variance(h) / start
    return value, (math.log(FLOOR) - ratio.log() / 2).clamp_min(0)


@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(-12, 2))
@example(0, 0, -0.7)  # the loss is below that at the start, and the floor is just broken
def test_the_bound(seed, other, log_alpha):
    """J ≥ log V₀ + 2 log γ + (λ − 2)·shortfall, and J ≤ J₀ bounds the variance ratio from below."""
    before, after = cloud(seed), math.exp(log_alpha) * cloud(other)
    start = variance(before)
    head = Head(6, guard="variance-floor").double()
    with torch.no_grad():
        head.centers.copy_(before.mean((0, 1))[None])
        j0, _ = objective(head, before, start)
        head.centers.copy_(after.mean((0, 1))[None])
        j, short = objective(head, after, start)
    least = math.log(start) + 2 * math.log(FLOOR)
    assert j >= least + (WEIGHT - 2) * short - 1e-9
    gap = (j0 - least).item()
    ratio = variance_ratio(after, before)
    if j <= j0:
        assert ratio >= FLOOR**2 * math.exp(-2 * gap / (WEIGHT - 2)) - 1e-9


def test_the_bound_needs_a_weight_above_two():
    """Shrinking (h, c) together pays without the guard and below λ = 2, and does not above."""
    h, head = cloud(), Head(6).double()
    start = variance(h)

    def value(alpha, weight):
        with torch.no_grad():
            head.centers.copy_(alpha * h.mean((0, 1))[None])
            a = head(alpha * h)
            # L does not change with α: only the distance is left
            distance = (a.distance.mean()).log()
        return (distance + variance_floor(alpha * h, start, weight=weight)).item()

    for weight in (0.0, 1.9):
        assert value(1e-4, weight) < value(1e-2, weight) < value(0.5, weight)
    assert value(1e-4, 2.1) > value(1e-2, 2.1) > value(0.5, 2.1)


@pytest.mark.parametrize("outer_log", [True, False])
def test_a_net_that_collapses_without_it_does_not_with_it(outer_log):
    ratios = {}
    x = torch.randn(32, 20, 3, generator=torch.Generator().manual_seed(0))
    for guard in ("none", "variance-floor"):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 8))  # with bias
        model = build(
            net, n_channels=3, window=20, head=partial(Head, guard=guard, outer_log=outer_log)
        )
        before = model(x).h.detach()
        model.prepare([x], 0)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(300):
            value = model(x).loss
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        ratios[guard] = variance_ratio(model(x).h, before)
    assert ratios["none"] < 0.02
    assert ratios["variance-floor"] > 0.2


def test_it_is_part_of_training_alone():
    x = torch.randn(6, 20, 3)
    values = {}
    for guard in ("none", "variance-floor"):
        torch.manual_seed(0)
        model = WithHead(DeepSVDD(3, d=8), Head(8, guard=guard))
        model.prepare([x], 0)
        with torch.no_grad():
            model.embedder.outlet.weight *= 1e-3
        values[guard] = [model.train()(x).loss.item(), model.eval()(x).loss.item()]
        names = list(model.state_dict())
        assert sum(p.numel() for p in model.head.parameters()) == 9
    assert values["none"][0] == values["none"][1] == values["variance-floor"][1]
    assert values["variance-floor"][0] > values["none"][0] + 10
    assert "head.start" not in names


def test_without_a_start_nothing_is_charged():
    head, h = Head(4, guard="variance-floor"), torch.randn(2, 5, 4)
    assert head.penalty(1e-6 * h) == 0
    assert head.eval().penalty(1e-6 * h) is None


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("objective", ["one-class", "soft-boundary"])
def test_it_goes_with_every_objective(k, objective):
    series = synthetic(600, 1000, 3, per_kind=1, seed=0)
    detector = MADCluster(
        window=20, stride=5, epochs=1, k=k, objective=objective, guard="variance-floor"
    )
    detector.fit(series.train)
    assert "guard" in detector.history_.frame()
    assert np.isfinite(detector.decision_scores_).all()


def test_an_unknown_guard_is_refused():
    with pytest.raises(ValueError, match="guard must be one of"):
        Head(4, guard="ceiling")


def test_a_checkpoint_from_before_the_guard_loads(tmp_path):
    series = synthetic(600, 1000, 3, per_kind=1, seed=0)
    detector = MADCluster(window=20, stride=5, epochs=1, guard="variance-floor").fit(series.train)
    detector.save(tmp_path / "new")
    again = MADCluster.load(tmp_path / "new")
    assert again.guard == "variance-floor"
    with safe_open(tmp_path / "new", framework="pt") as file:
        header = json.loads(file.metadata()["madcluster.detector"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del header["params"]["guard"]
    save_file(tensors, tmp_path / "old", metadata={"madcluster.detector": json.dumps(header)})
    old = MADCluster.load(tmp_path / "old")
    for other in (again, old):
        np.testing.assert_array_equal(
            other.decision_function(series.test), detector.decision_function(series.test)
        )


# --- a score that does not see scale --------------------------------------------------------------


def scored(transform=None):
    torch.manual_seed(0)
    model = build("deepsvdd", n_channels=3, window=20, score="mahalanobis", options={"d": 4})
    x = torch.randn(40, 20, 3, generator=torch.Generator().manual_seed(1))
    model.prepare([x], 0)
    if transform is not None:
        with torch.no_grad():
            weight = model.embedder.outlet.weight
            weight.copy_((transform @ weight[..., 0])[..., None])
    model.eval().finish([x[:10], x[10:]])
    return model, x


def test_mahalanobis_by_hand():
    model, x = scored()
    h = model(x).h.detach().flatten(0, 1).double()
    gap = h - h.mean(0)
    expected = (gap @ torch.linalg.inv(h.T.cov(correction=0)) * gap).sum(-1).view(40, 20)
    torch.testing.assert_close(model(x).score.double(), expected, rtol=1e-4, atol=1e-4)
    assert model(x).score.mean().item() == pytest.approx(4, rel=1e-4)


def test_mahalanobis_of_a_direction_with_next_to_no_variance_by_hand():
    """It counts as if it had a millionth of the largest."""
    model, x = scored(torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0])))
    h = model(x).h.detach().flatten(0, 1).double()
    largest = torch.linalg.eigvalsh(h.T.cov(correction=0))[-1]
    step = model.mean + torch.tensor([0.0, 0.0, 0.0, 1e-2])
    inner = Embedding(step[None, None])
    got = model._score(inner, model.head(inner.h))
    assert got.item() == pytest.approx(1e-4 / (1e-6 * largest.item()), rel=1e-3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_mahalanobis_does_not_see_an_invertible_map(scale):
    transform = scale * (torch.eye(4) + torch.triu(torch.ones(4, 4), 1))
    model, x = scored()
    other, _ = scored(transform)
    torch.testing.assert_close(other(x).score, model(x).score, rtol=1e-2, atol=1e-2)


def test_mahalanobis_of_embeddings_without_variance_is_finite():
    model, x = scored(torch.zeros(4, 4))
    assert torch.isfinite(model(x).score).all()


def test_mahalanobis_of_a_step_far_from_constant_training_rows_is_finite():
    model, x = scored()
    model.finish([torch.ones_like(x)])
    assert torch.isfinite(model(1e3 * x).score).all()
    assert model(x).score.min() > model(torch.ones_like(x)).score.max()


def test_mahalanobis_must_be_asked_for_before_training():
    model = build("deepsvdd", n_channels=3, window=20, options={"d": 4})
    model.score = "mahalanobis"
    with pytest.raises(ValueError, match="before training"):
        model(torch.randn(2, 20, 3))


def test_a_detector_with_floor_and_mahalanobis_is_saved_whole(tmp_path):
    series = synthetic(600, 1000, 3, per_kind=1, seed=0)
    detector = MADCluster(
        window=20, stride=5, epochs=1, guard="variance-floor", score_from="mahalanobis"
    )
    before = detector.fit(series.train).decision_function(series.test)
    detector.save(tmp_path / "one")
    after = MADCluster.load(tmp_path / "one").decision_function(series.test)
    np.testing.assert_array_equal(before, after)
    assert sum(p.numel() for p in detector.model_.head.parameters()) == detector.model_.d + 1
