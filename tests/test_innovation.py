"""The innovation head: a proper density, the linear autoregression where nothing is learned."""

import inspect
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SMALL
from torch import nn
from torch.distributions import MultivariateNormal

from madcluster import MADCluster, synthetic
from madcluster.detectors import Ensemble, LinearAutoregression, Mahalanobis
from madcluster.heads import InnovationHead, WithHead, build
from madcluster.heads.innovation import context
from madcluster.models import EMBEDDERS, Embedder, Embedding

pytestmark = pytest.mark.filterwarnings("ignore::madcluster.diagnostics.CollapseWarning")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Constant(nn.Module):
    """An embedder that knows, at most, where a step stands."""

    def __init__(self, c=3, d=4, clocked=False):
        super().__init__()
        self.bias, self.clocked = nn.Parameter(torch.ones(d)), clocked

    def forward(self, x):
        clock = torch.linspace(1, 2, x.shape[1], dtype=x.dtype)[:, None] if self.clocked else 1
        return (self.bias * clock).expand(*x.shape[:2], -1)


def prepared(embedder="deepsvdd", c=2, window=16, x=None, seed=0, **options):
    """In float64 and eval mode, with a g that is not 0 and the covariance that belongs to it."""
    torch.manual_seed(seed)
    head = partial(InnovationHead, n_channels=c, **options)
    small = SMALL.get(embedder) if isinstance(embedder, str) else None
    model = build(embedder, n_channels=c, window=window, head=head, options=small)
    model.double().eval()
    x = normal(60, window, c, seed=seed).cumsum(1) if x is None else x
    model.prepare([x], 0)
    with torch.no_grad():
        model.head.gain.copy_(0.3 * normal(*model.head.gain.shape, seed=seed + 1))
    model.finish([x])
    return model, x


@pytest.fixture(scope="module")
def series():
    return synthetic(n_train=400, n_test=400, n_channels=3, per_kind=1, seed=0)


def test_the_window_before_a_row_by_hand():
    x = torch.arange(5.0)[None, :, None].repeat(3, 1, 1)
    found = context(x, torch.tensor([0, 1, 4]))[..., 0]
    assert found.tolist() == [[0, 0, 1, 2, 3], [0, 0, 0, 1, 2], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_the_forecast_of_a_row_knows_neither_it_nor_what_follows(embedder):
    """The map from rows to innovations is triangular with ones on its diagonal."""
    model, x = prepared(embedder, window=20, order=3, cuts=4)
    head, row = model.head, x[:1].clone().requires_grad_()
    for cut in (0, 3):
        white = head.innovations(row, torch.tensor([cut]), model.embed)[0]  # (c,)
        e = torch.linalg.solve(head.whitening.mT, white)
        slopes = torch.stack([torch.autograd.grad(v, row, retain_graph=True)[0][0] for v in e])
        at = 19 - cut
        torch.testing.assert_close(slopes[:, at], torch.eye(2).double())
        assert not slopes[:, at + 1 :].any()
        assert slopes[:, : at - 3].any()  # beyond the order: the embedder takes part


def test_it_starts_at_the_linear_autoregression(series):
    options = {"order": 5, "cuts": 1, "alpha": 0.01, "eps": 1e-9}
    few = {"window": 6, "stride": 1, "epochs": 1, "scaler": "none"}
    head = MADCluster(head="innovation", head_options=options, lr=1e-12, options={"d": 4}, **few)
    linear = LinearAutoregression(window=6, alpha=0.01, scaler="none").fit(series.train[:320])
    expected = linear.decision_function(series.test)
    found = head.fit(series.train).decision_function(series.test)  # a fifth is kept to validate
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("clocked", [False, True])
def test_a_constant_embedding_gives_back_the_linear_autoregression(series, clocked):
    head = MADCluster(
        Constant(clocked=clocked),
        head="innovation",
        head_options={"order": 5, "cuts": 1, "eps": 1e-9},
        window=6,
        stride=1,
        epochs=2,
        lr=0.1,
        scaler="none",
    )
    head.fit(series.train)
    linear = LinearAutoregression(window=6, alpha=0.01, scaler="none").fit(series.train[:320])
    expected = linear.decision_function(series.test)
    np.testing.assert_allclose(head.decision_function(series.test), expected, rtol=1e-3, atol=1e-3)
    torch.nn.init.normal_(head.model_.head.gain)  # whatever else is learned
    np.testing.assert_allclose(head.decision_function(series.test), expected, rtol=1e-3, atol=1e-3)


def test_the_loss_is_the_negative_log_likelihood_of_a_gaussian():
    model, x = prepared(order=3, cuts=2, eps=0.01)
    head, last = model.head, torch.zeros(len(x), dtype=torch.long)
    back = torch.linalg.inv(head.whitening).mT  # L₀
    middle = x[:, -1] - head.innovations(x, last, model.embed) @ back.mT
    middle = middle + back @ head.residuals.mean
    covariance = back @ torch.linalg.inv(head.residuals.root @ head.residuals.root) @ back.mT
    law = MultivariateNormal(middle.detach(), covariance)
    expected = -law.log_prob(x[:, -1]).mean() - np.log(2 * np.pi)  # c / 2 times log 2π
    torch.testing.assert_close(model(x).loss, expected)
    gap = x[:, -1] - middle
    score = (gap @ torch.linalg.inv(covariance) * gap).sum(1)
    torch.testing.assert_close(model.scored(x).score[:, -1], score)


def test_the_covariance_is_that_of_all_rows_that_are_foretold():
    model, x = prepared(order=3, cuts=2)
    head = model.head
    both = [head.innovations(x, torch.full((len(x),), k), model.embed) for k in range(2)]
    u = torch.cat(both).detach()
    start = torch.cat([head.linear(x, torch.full((len(x),), k)) for k in range(2)])
    s = torch.eye(2) + u.T.cov(correction=0) - start.T.cov(correction=0)
    torch.testing.assert_close(torch.linalg.inv(head.residuals.root @ head.residuals.root), s)
    torch.testing.assert_close(head.residuals.mean, u.mean(0) - start.mean(0))


@given(seed=st.integers(0, 2**31), exponent=st.floats(-3, 3))
@settings(max_examples=15)
def test_the_linear_part_sees_neither_units_nor_place(seed, exponent):
    """Without a penalty any affine map of the rows, with one a rotation and a scale of them."""
    x, c = normal(60, 8, 2, seed=seed).cumsum(1), 2
    q = torch.linalg.qr(normal(c, c, seed=seed + 1)).Q
    b = q + 0.3 * normal(c, c, seed=seed + 2)
    for alpha, of, v in ((0.0, b, normal(c, seed=seed + 3)), (0.1, q, torch.zeros(c))):
        if torch.linalg.cond(of) > 50:
            continue
        found = []
        for rows in (x, 10**exponent * (x @ of.mT + v)):
            head = InnovationHead(3, c, order=2, cuts=1, alpha=alpha, eps=1e-9).double().eval()
            head.prepare([rows], lambda w: w.new_zeros(*w.shape[:2], 3), 0)
            found.append(head.linear(rows, torch.zeros(60, dtype=torch.long)).square().sum(1))
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_differences():
    model, x = prepared(order=2, cuts=1, window=8)
    x, weight = x[:3], model.embedder.outlet.weight

    def loss(gain, outlet, rows):
        with torch.no_grad():
            model.head.gain.copy_(gain)
        head = model.head
        h = torch.func.functional_call(
            model.embedder,
            {"outlet.weight": outlet},
            torch.cat(
                [context(rows, torch.zeros(3, dtype=torch.long)), head.middle.expand(1, 8, 2)]
            ),
        ).h[:, -1]
        moved = (h[:-1] - h[-1:]) / head.width @ gain.mT
        z = head.residuals(head.linear(rows, torch.zeros(3, dtype=torch.long)) - moved)
        return head.residuals.energy(z)

    gain = model.head.gain.detach().clone().requires_grad_()
    outlet = weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, (gain, outlet, x.clone().requires_grad_()))
    # and the head's own are these
    found = torch.autograd.grad(model(x).loss, [model.head.gain, weight])
    expected = torch.autograd.grad(loss(gain, outlet, x) + model.head.log_det / 2, [gain, outlet])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("embedder", ["deepsvdd", "deepant"])
def test_one_pass_over_a_series_gives_what_its_windows_give(series, embedder):
    detector = MADCluster(
        embedder, head="innovation", window=20, stride=10, epochs=2, options=SMALL[embedder]
    ).fit(series.train)
    assert detector.last_scores() is not None
    z = detector.scaler_.transform(series.test)
    windows = detector.window_scores(z, np.arange(381))
    assert (windows == windows[:, :1]).all()
    found = detector.decision_function(series.test)
    np.testing.assert_allclose(found[19:], windows[:, -1], rtol=1e-4, atol=1e-4)
    assert (found[:19] == found[19]).all()
    causal = detector.set_params(aggregate="last").fit(series.train)
    np.testing.assert_array_equal(causal.decision_function(series.test), found)
    assert detector.model_.head.gain.any()


class Twice(Embedder):
    """With a score of its own."""

    def __init__(self):
        super().__init__()
        self.d, self.layer = 4, nn.Linear(3, 4)

    def forward(self, x):
        return Embedding(self.layer(x), score=1 + x.square().sum(-1))


def test_scores_beside_its_own(series):
    few = {"head": "innovation", "window": 20, "stride": 10, "epochs": 1}
    white = MADCluster("deepsvdd", score_from="mahalanobis", options={"d": 4}, **few)
    assert white.fit(series.train).steps_scored() == 20
    product = MADCluster(Twice(), score_from="product", **few).fit(series.train)
    assert product.steps_scored() == 1
    z = torch.as_tensor(product.scaler_.transform(series.test))[None, :20]
    model = product.model_
    read = model.head.read(z, model.embed(z), model.embed)
    expected = model.embedder(z).score[:, -1:] * model.head.score(read, "head")
    torch.testing.assert_close(model.scored(z).score, expected.expand(1, 20))


@pytest.mark.parametrize("aggregate", ["mean", "last"])
def test_an_ensemble_takes_it_beside_others(series, aggregate):
    few = {"window": 20, "stride": 10, "epochs": 1, "options": {"d": 4}}
    members = [MADCluster(head=head, **few) for head in ("innovation", "flow")]
    ensemble = Ensemble([*members, Mahalanobis(window=5)], aggregate=aggregate).fit(series.train)
    scores = ensemble.decision_function(series.test)
    stream = ensemble.stream()
    parts = [stream.update(rows) for rows in np.split(series.test, [7, 60, 61])]
    found = np.concatenate([*parts, stream.finish()])
    np.testing.assert_allclose(found, scores, rtol=1e-3, atol=1e-3)
    assert len(np.unique(scores)) > 300


def test_it_learns_what_is_not_linear():
    """Rows of which no linear function foretells anything: each is the tent of the row before."""
    rng, rows = np.random.default_rng(0), np.zeros((800, 1))
    for i in range(1, 800):
        rows[i] = 1 - 1.9 * abs(rows[i - 1]) + 0.02 * rng.normal()
    detector = MADCluster(
        head="innovation",
        head_options={"order": 2, "cuts": 2},
        window=12,
        stride=2,
        epochs=8,
        lr=1e-2,
        options={"d": 16},
    ).fit(rows)
    losses = detector.history_.frame()["validation"]
    start = MADCluster(**{**detector.get_params(), "lr": 1e-12, "epochs": 1}).fit(rows)
    assert losses.min() < start.history_.frame()["validation"].min() - 0.5


def test_in_training_a_row_is_drawn():
    model, x = prepared(order=3, cuts=4)
    first = model.head.innovations(x[:1], torch.tensor([0]), model.embed)
    assert torch.equal(model.head.read(x[:1], None, model.embed)[:, 0], model.head.residuals(first))
    model.train()
    many = x[:1].expand(200, -1, -1)
    drawn = model.head.read(many, None, model.embed)[:, 0]
    assert len(drawn.detach().numpy().round(9).tolist()) == 200
    assert len({tuple(row) for row in drawn.detach().numpy().round(9).tolist()}) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 14}, r"window must hold order \+ cuts = 10 \+ 5 rows .*got 14"),
        ({"head_options": {"order": 0}}, "order must be a positive integer"),
        ({"head_options": {"cuts": 1.5}}, "cuts must be a positive integer"),
        ({"head_options": {"alpha": -1}}, "alpha must not be negative"),
        ({"head_options": {"eps": 0}}, "eps must be positive"),
        ({"head_options": {"n_channels": 2}}, "no option"),
        ({"score_from": "distance"}, "score_from must be one of"),
    ],
)
def test_what_is_wrong_is_refused_before_the_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        MADCluster(**{"head": "innovation", **arguments}).check()


def test_a_window_that_is_too_short_is_refused_by_build():
    with pytest.raises(ValueError, match="window must hold"):
        build("deepsvdd", n_channels=2, window=9, head=partial(InnovationHead, n_channels=2))
    model = build("deepsvdd", n_channels=2, window=15, head=partial(InnovationHead, n_channels=2))
    assert isinstance(model, WithHead)
    assert model.forecasts
    assert set(inspect.signature(InnovationHead).parameters) == {
        *("d", "n_channels", "order", "cuts", "alpha", "eps")
    }
