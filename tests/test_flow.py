"""The flow head: a bijection of constant volume, one Gaussian where nothing is learned."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SMALL
from test_innovation import Constant, normal
from torch.distributions import MultivariateNormal

from madcluster import MADCluster, synthetic
from madcluster.detectors import Mahalanobis
from madcluster.heads import FlowHead, build
from madcluster.models import EMBEDDERS

pytestmark = pytest.mark.filterwarnings("ignore::madcluster.diagnostics.CollapseWarning")


def prepared(embedder="deepsvdd", c=2, window=8, gain=0.5, x=None, seed=0, **options):
    """In float64 and eval mode, with couplings that add something."""
    torch.manual_seed(seed)
    head = partial(FlowHead, n_channels=c, **options)
    small = SMALL.get(embedder) if isinstance(embedder, str) else None
    model = build(embedder, n_channels=c, window=window, head=head, options=small)
    model.double().eval()
    x = normal(60, window, c, seed=seed).cumsum(1) if x is None else x
    model.prepare([x[:20], x[20:]], 0)
    with torch.no_grad():
        model.head.gains.copy_(gain * normal(*model.head.gains.shape, seed=seed + 1))
    model.finish([x[:20], x[20:]])
    return model, x


@pytest.fixture(scope="module")
def series():
    return synthetic(n_train=400, n_test=400, n_channels=3, per_kind=1, seed=0)


@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_its_volume_is_the_same_everywhere_and_it_can_be_undone(embedder):
    model, x = prepared(embedder, window=20, rows=4)
    head = model.head

    def flow(flat):
        return head.read(flat.view(1, 20, 2), None, model.embed).flatten()

    expected = head.log_det(20) - 20 / 2 * head.residuals.log_det
    for window in (x[0], 5 * x[1] + 3):
        jacobian = torch.autograd.functional.jacobian(flow, window.flatten())
        sign, log = torch.linalg.slogdet(jacobian)
        assert sign == 1
        torch.testing.assert_close(log, expected)
    white = head.white(x)
    z = head.coupled(white, model.embed)
    assert (z - white).abs().max() > 0.1
    for k in reversed(range(head.couplings)):
        z = z - head.added(z, k, model.embed)
    torch.testing.assert_close(z, white)


def test_it_starts_at_the_gaussian_of_the_window(series):
    few = {"window": 6, "stride": 1, "epochs": 1, "scaler": "none", "aggregate": "window"}
    options = {"rows": 6, "eps": 1e-9}
    head = MADCluster(head="flow", head_options=options, lr=1e-12, options={"d": 4}, **few)
    gaussian = Mahalanobis(window=6, scaler="none", aggregate="window").fit(series.train[:320])
    found = head.fit(series.train).decision_function(series.test)  # of a step, as a mean
    expected = gaussian.decision_function(series.test)
    np.testing.assert_allclose(6 * found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("clocked", [False, True])
def test_a_constant_embedding_gives_back_the_gaussian(series, clocked):
    head = MADCluster(
        Constant(clocked=clocked),
        head="flow",
        head_options={"rows": 6, "eps": 1e-9},
        window=6,
        stride=1,
        epochs=2,
        lr=0.1,
        scaler="none",
        aggregate="window",
    )
    head.fit(series.train)
    gaussian = Mahalanobis(window=6, scaler="none", aggregate="window").fit(series.train[:320])
    expected = gaussian.decision_function(series.test)
    found = 6 * head.decision_function(series.test)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    torch.nn.init.normal_(head.model_.head.gains)  # whatever else is learned
    np.testing.assert_array_equal(6 * head.decision_function(series.test), found)


def test_the_loss_of_a_long_window_is_that_of_a_gaussian_with_a_short_memory():
    """Of r rows together, and of every later row given the r − 1 before it."""
    model, x = prepared(gain=0.0, rows=3, window=7, eps=0.01)
    head, c = model.head, 2
    vectors = x.unfold(1, 3, 1).mT.reshape(-1, 6)
    torch.testing.assert_close(head.mean, vectors.mean(0))
    covariance = vectors.T.cov(correction=0)
    covariance = covariance + 0.01 * covariance.trace() / 6 * torch.eye(6)
    total = -MultivariateNormal(head.mean, covariance).log_prob(x[:, :3].flatten(1))  # (b,)
    past, now = slice(0, 4), slice(4, 6)
    slope = covariance[now, past] @ torch.linalg.inv(covariance[past, past])
    rest = covariance[now, now] - slope @ covariance[past, now]
    scores = []
    for start in range(1, 5):
        v = x[:, start : start + 3].flatten(1) - head.mean
        gap = v[:, now] - v[:, past] @ slope.mT
        total = total - MultivariateNormal(torch.zeros(2).double(), rest).log_prob(gap)
        scores.append((gap @ torch.linalg.inv(rest) * gap).sum(1))
    expected = total.mean() / 7 - c / 2 * np.log(2 * np.pi)
    torch.testing.assert_close(model(x).loss, expected)
    torch.testing.assert_close(model.scored(x).score[:, 3:], torch.stack(scores, 1))


def test_the_loss_is_that_of_the_map_with_couplings_too():
    model, x = prepared(rows=3, window=6)
    z = model.head.read(x, None, model.embed)
    law = MultivariateNormal(torch.zeros(12).double(), torch.eye(12).double())
    jacobian = torch.autograd.functional.jacobian(
        lambda v: model.head.read(v.view(1, 6, 2), None, model.embed).flatten(), x[0].flatten()
    )
    log_density = law.log_prob(z.flatten(1)) + torch.linalg.slogdet(jacobian).logabsdet
    expected = -log_density.mean() / 6 - np.log(2 * np.pi)
    torch.testing.assert_close(model(x).loss, expected)


@given(t=st.integers(1, 9), c=st.integers(1, 4))
@settings(max_examples=20)
def test_two_couplings_move_every_entry_once(t, c):
    head, z = FlowHead(3, c), torch.zeros(1, t, c)
    assert (head.kept(z, 0) ^ head.kept(z, 1)).all()
    assert torch.equal(head.kept(z, 0), head.kept(z, 2))
    if t > 1:  # neighbors in time have different colors
        assert (head.kept(z, 0)[1:] ^ head.kept(z, 0)[:-1]).all()


def test_no_anomaly_is_brought_back_from_afar():
    model, x = prepared(gain=5.0, rows=3)
    head = model.head
    direction = head.white(x)
    for k in range(2):
        near, far = (head.added(size * direction, k, model.embed) for size in (1e6, 1e10))
        torch.testing.assert_close(near, far)
    # what has been added before comes to nothing beside it
    scores = [model.scored(x * size).score.sum(1) for size in (1e3, 1e6)]
    ratio = scores[1] / scores[0]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 1e6), rtol=0.2, atol=0)


@given(seed=st.integers(0, 2**31), exponent=st.floats(-3, 3), eps=st.sampled_from([1e-4, 0.1]))
@settings(max_examples=15)
def test_the_gaussian_does_not_see_scale_rotation_and_place(seed, exponent, eps):
    x, c = normal(60, 6, 2, seed=seed).cumsum(1), 2
    q = torch.linalg.qr(normal(c, c, seed=seed + 1)).Q
    found = []
    for rows in (x, 10**exponent * (x @ q.mT + normal(c, seed=seed + 2))):
        head = FlowHead(3, c, rows=4, eps=eps).double().eval()
        head.prepare([rows], lambda w: w.new_zeros(*w.shape[:2], 3), 0)
        found.append(head.white(rows).square().sum(-1))
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-6)


def test_gradients_are_those_of_differences():
    model, x = prepared(rows=2, window=5)
    h, x = model.head, x[:2].clone().requires_grad_()
    names = [name for name, _ in model.named_parameters()]
    assert "head.gains" in names

    def loss(rows, *weights):
        given = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(model, given, rows).loss

    weights = [p.detach().clone().requires_grad_() for p in model.parameters()]
    assert torch.autograd.gradcheck(loss, (x, *weights), fast_mode=True)
    assert h.gains.grad is None


def test_it_learns_what_is_not_linear():
    """Two channels without correlation, one of which is a function of the other."""
    rng = np.random.default_rng(0)
    u = rng.normal(size=1500)
    rows = np.stack([u, u**2 + 0.1 * rng.normal(size=1500)], 1)
    few = {"window": 8, "stride": 4, "options": {"d": 16}, "scaler": "standard"}
    few |= {"head": "flow", "head_options": {"rows": 2}}
    trained = MADCluster(**few, epochs=8, lr=1e-2).fit(rows)
    start = MADCluster(**few, epochs=1, lr=1e-12).fit(rows)
    losses = [each.history_.frame()["validation"].min() for each in (trained, start)]
    assert losses[0] < losses[1] - 0.1
    # neither value of the row is far off, both together are
    odd = rows[:400].copy()
    odd[200] = [1.8, 0.5]
    scores = [each.decision_function(odd) for each in (trained, start)]
    ranks = [(s[200] > s).mean() for s in scores]
    assert ranks[0] > ranks[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 9}, "window must hold rows = 10 for the head 'flow', got 9"),
        ({"head_options": {"rows": 0}}, "rows must be a positive integer"),
        ({"head_options": {"couplings": True}}, "couplings must be a positive integer"),
        ({"head_options": {"eps": -1}}, "eps must be positive"),
        ({"head_options": {"order": 2}}, "no option"),
        ({"score_from": "cluster"}, "score_from must be one of"),
    ],
)
def test_what_is_wrong_is_refused_before_the_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        MADCluster(**{"head": "flow", **arguments}).check()


def test_a_window_that_is_too_short_is_refused_by_build():
    with pytest.raises(ValueError, match="window must hold"):
        build("deepsvdd", n_channels=2, window=9, head=partial(FlowHead, n_channels=2))
