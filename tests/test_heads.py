"""Heads by name: what each promises, through the same fit, score, save, stream and explain."""

import inspect
import json
import math
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from small import SMALL
from torch import nn

from madcluster import MADCluster, synthetic
from madcluster.__main__ import main
from madcluster.detectors import CheckpointError, Detector, named
from madcluster.diagnostics import Certificate, CollapseWarning
from madcluster.heads import (
    HEADS,
    BaseHead,
    ContrastiveHead,
    Head,
    WithHead,
    build,
    check_embedder,
    head_of,
)
from madcluster.heads.base import population
from madcluster.heads.contrastive import contrast, shrunk_distance
from madcluster.heads.corruption import CORRUPTIONS, corrupted
from madcluster.models import EMBEDDERS, Embedder, Embedding

QUICK = {"window": 20, "stride": 10, "epochs": 1, "batch_size": 32}
OTHERS = [name for name in HEADS if name != "madcluster"]
BOUND = 2 * math.log(2)
# one epoch on a few rows is not always enough for a certificate, which is not the point of all tests
pytestmark = pytest.mark.filterwarnings("ignore::madcluster.diagnostics.CollapseWarning")


@pytest.fixture(scope="module")
def series():
    return synthetic(n_train=400, n_test=400, n_channels=3, per_kind=1, seed=0)


def network(embedder="deepsvdd", head="contrastive", **arguments):
    options = SMALL.get(embedder) if isinstance(embedder, str) else None
    return MADCluster(embedder, head=head, options=options, **{**QUICK, **arguments})


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- names and arguments --------------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "name"), [(True, "madcluster"), (False, "none")])
def test_true_and_false_keep_their_meaning(series, flag, name):
    one, other = (network(head=head).fit(series.train) for head in (flag, name))
    expected = one.decision_function(series.test)
    np.testing.assert_array_equal(other.decision_function(series.test), expected)
    assert isinstance(one.model_, WithHead) is flag
    assert one.certificate_ is other.certificate_ is None


def test_the_paper_s_head_is_the_default_and_its_file_keeps_its_form(series, tmp_path):
    detector = network(head=True).fit(series.train)
    assert MADCluster().head is True
    assert type(detector.model_.head) is Head
    detector.save(tmp_path / "file")
    with safe_open(tmp_path / "file", "np") as file:
        names = {name for name in file.keys() if "state.head" in name}  # noqa: SIM118
        about = json.loads(file.metadata()["madcluster.detector"])
    assert names == {"state.head.centers", "state.head.theta", "state.head.squared_radius"}
    assert about["params"]["head"] is True
    assert "certificate" not in about


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "svdd"}, "head must be one of.*'madcluster', 'contrastive'.*'none'.*got 'svdd'"),
        ({"head": 1}, "head must be one of"),
        ({"k": 2}, "k=2 is for the head 'madcluster': 'contrastive' does not have it"),
        ({"guard": "variance-floor"}, "guard='variance-floor' is for the head 'madcluster'"),
        ({"outer_log": False}, "outer_log=False is for"),
        ({"objective": "soft-boundary"}, "objective='soft-boundary' is for"),
        ({"score_from": "distance"}, "score_from must be one of.*'mahalanobis'.*got 'distance'"),
        ({"score_from": "x"}, "score_from must be one of"),
        ({"head_options": {"k": 2}}, r"no option \['k'\]: choose from \['delta', 'eps', 'kinds'\]"),
        ({"head_options": {"eps": 0}}, "eps must be positive"),
        ({"head_options": {"delta": -1}}, "delta must be positive"),
        ({"head_options": {"kinds": ()}}, "kinds must be some of"),
        ({"head_options": {"kinds": "shift"}}, "kinds must be some of"),
        ({"head_options": {"kinds": ["spike"]}}, "kinds must be some of.*exchange"),
        ({"head_options": [1]}, "head_options must be a dict"),
        ({"head": True, "head_options": {"k": 2}}, "head_options are for another head"),
        ({"head": False, "head_options": {"eps": 1}}, "head_options are for another head"),
    ],
)
def test_what_a_head_does_not_know_is_refused_before_the_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        MADCluster(**{"head": "contrastive", **arguments}).check()


def test_the_arguments_of_the_paper_s_head_are_those_that_others_refuse():
    from madcluster.detectors.madcluster import OF_PAPER

    assert set(OF_PAPER) == set(inspect.signature(Head).parameters) - {"d"}


def test_a_head_must_say_what_it_trains_on():
    class Silent(BaseHead):
        d = 3

    model = WithHead(build(nn.Linear(2, 3), n_channels=2, window=4, head=None), Silent())
    with pytest.raises(TypeError, match="Silent must define losses"):
        model(torch.zeros(1, 4, 2))
    with pytest.raises(ValueError, match="Silent has no score 'head'"):
        model.scored(torch.zeros(1, 4, 2))
    with pytest.raises(ValueError, match=r"score must be one of.*for Silent, got 'cluster'"):
        WithHead(model.embedder, Silent(), score="cluster")
    assert model.certify(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2)) is None
    assert model.anchors() is None


# --- embedder × head ------------------------------------------------------------------------------


@pytest.mark.parametrize("head", OTHERS)
@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_every_embedder_takes_every_head(series, embedder, head, tmp_path):
    detector = network(embedder, head, aggregate="last").fit(series.train)
    scores = detector.decision_function(series.test)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 300
    detector.save(tmp_path / "file")
    again = Detector.load(tmp_path / "file")
    np.testing.assert_array_equal(again.decision_function(series.test), scores)
    assert again.certificate_ == detector.certificate_
    refit = network(embedder, head, aggregate="last").fit(series.test).fit(series.train)
    np.testing.assert_array_equal(refit.decision_function(series.test), scores)
    if head == "contrastive":
        assert detector.certificate_.windows == 4  # of 20 rows, in the fifth that was kept
        assert math.isfinite(detector.certificate_.limit)
    stream = again.stream()
    parts = [stream.update(rows) for rows in np.split(series.test, [1, 40, 43, 200])]
    found = np.concatenate([*parts, stream.finish()])
    np.testing.assert_allclose(found, scores, rtol=2e-4, atol=2e-4 * scores.max())
    for method in ("deviation", "gradient"):
        added = detector.explain(series.test, 100, 110, method=method)
        assert added.shape == (3,)
        assert np.isfinite(added).all()
        assert added.any()


@pytest.mark.parametrize("head", OTHERS)
@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_the_contract_of_embedders(embedder, head):
    def make(c, t):
        return build(embedder, n_channels=c, window=t, head=None, options=SMALL[embedder])

    check_embedder(make, head=head)


def test_the_contract_of_embedders_refuses_an_unknown_head():
    with pytest.raises(ValueError, match="head must be one of"):
        check_embedder(lambda c, t: nn.Linear(c, 3), head="none")


def test_scoring_makes_no_corrupted_windows(series, monkeypatch):
    """A score costs what the Mahalanobis score of any head does."""
    detector = network().fit(series.train)
    calls = []
    model = detector.model_
    monkeypatch.setattr(
        model.embedder,
        "forward",
        lambda x, f=model.embedder.forward: (calls.append(len(x)), f(x))[1],
    )
    detector.decision_function(series.test)
    windows = len(range(0, 381, 10))
    assert sum(calls) == windows


def test_it_is_the_mahalanobis_score(series):
    one = network().fit(series.train)
    other = network(score_from="mahalanobis").fit(series.train)
    expected = one.decision_function(series.test)
    np.testing.assert_array_equal(other.decision_function(series.test), expected)
    h = torch.cat(
        [
            one.model_.embed(x)
            for x in torch.as_tensor(one.scaler_.transform(series.train))[:320]
            .unfold(0, 20, 10)
            .mT.split(8)
        ]
    )
    h = h.flatten(0, 1).detach().double()
    z = torch.as_tensor(one.scaler_.transform(series.test))[None, :20]
    gap = one.model_.embed(z)[0].detach().double() - h.mean(0)
    by_hand = (gap @ torch.linalg.inv(h.T.cov(correction=0)) * gap).sum(-1)
    torch.testing.assert_close(
        one.model_.scored(z).score[0].double(), by_hand, rtol=1e-3, atol=1e-3
    )


def test_the_product_of_two_scores(series):
    detector = network("usad", score_from="product").fit(series.train)
    x = torch.as_tensor(detector.scaler_.transform(series.test))[None, :20]
    inner = detector.model_.embedder(x)
    expected = inner.score * detector.model_._mahalanobis(inner.h)
    torch.testing.assert_close(detector.model_.scored(x).score, expected)


def test_the_command_line_takes_a_head(series, tmp_path):
    path = tmp_path / "rows.csv"
    np.savetxt(path, series.train, delimiter=",", header="a,b,c", comments="")
    command = ["fit", str(path), "--out", str(tmp_path / "model"), "--detector", "deepsvdd"]
    command += ["--rows-per-day", "1440"]
    for name in ("head=contrastive", "epochs=1", "window=20", "head_options={'eps': .01}"):
        command += ["--set", name]
    assert main(command) == 0
    detector = Detector.load(tmp_path / "model")
    assert (detector.head, detector.model_.head.eps) == ("contrastive", 0.01)
    assert isinstance(detector.certificate_, Certificate)
    assert main([*command, "--set", "k=2"]) == 2
    assert named("deepsvdd", head="contrastive").head == "contrastive"


# --- corrupted windows ----------------------------------------------------------------------------


@given(
    b=st.integers(1, 6),
    t=st.integers(1, 12),
    c=st.integers(1, 5),
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(CORRUPTIONS),
)
@settings(max_examples=60)
def test_a_corruption_is_one_segment_of_some_channels_in_each_window(b, t, c, seed, kind):
    x = normal(b, t, c, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    out, changed = corrupted(x, [kind], generator=generator)
    assert out.shape == x.shape
    assert torch.equal(changed, (out != x).any(-1))
    assert torch.isfinite(out).all()
    for was, now in zip(x, out, strict=True):
        channels = (now != was).any(0)
        rows = (now != was).any(1).nonzero().flatten()
        if len(rows) == 0:
            assert kind in ("freeze", "exchange")
            continue
        span = slice(int(rows[0]), int(rows[-1]) + 1)
        gap = (now - was)[span][:, channels]
        spread = x.flatten(0, 1).std(0, correction=0)[channels]
        if kind == "shift":
            torch.testing.assert_close(gap, gap[:1].expand_as(gap))
            if b * t > 1:
                assert ((gap.abs() / spread) > 0.499).all()
                assert ((gap.abs() / spread) < 3.001).all()
        elif kind == "freeze":
            held = now[span][:, channels]
            assert (held == was[int(rows[0]) - 1, channels]).all()
        elif kind == "exchange":
            for channel in channels.nonzero().flatten():
                assert torch.isin(now[:, channel], x[..., channel]).all()


def test_exchanged_values_come_from_other_windows():
    x = torch.arange(5.0)[:, None, None].expand(5, 8, 3).contiguous()
    out, changed = corrupted(x, ["exchange"], generator=torch.Generator().manual_seed(0))
    inside = out != x
    assert inside.any(2).equal(changed)
    assert changed.any(1).all()  # so never from the window itself


def test_channels_that_never_vary_are_left_alone_while_others_do():
    x = normal(64, 10, 4)
    x[..., 2] = 1.0
    out, _ = corrupted(x, generator=torch.Generator().manual_seed(0))
    assert torch.equal(out[..., 2], x[..., 2])
    assert (out != x).flatten(0, 1).any(0)[[0, 1, 3]].all()
    still = torch.zeros(64, 10, 4)
    out, _ = corrupted(still, ["shift"], generator=torch.Generator().manual_seed(0))
    assert (out != 0).flatten(0, 1).any(0).all()
    assert out.abs().max() <= 3


def test_kinds_and_lengths_are_drawn_evenly():
    x = normal(4000, 16, 2)
    out, changed = corrupted(x, ["shift", "noise"], generator=torch.Generator().manual_seed(0))
    lengths = changed.sum(1)
    assert 0.25 < (lengths <= 4).double().mean() - (lengths <= 1).double().mean() < 0.75
    gap = torch.where(changed[..., None], out - x, torch.nan)
    several = lengths > 2
    of_one_size = torch.tensor(
        [bool((g[~g.isnan().any(1)].std(0, correction=0) < 1e-9).all()) for g in gap[several]]
    )
    assert of_one_size.double().mean().item() == pytest.approx(0.5, abs=0.05)


def test_corruptions_are_those_of_the_generator():
    x = normal(4, 10, 3)
    one, two = (corrupted(x, generator=torch.Generator().manual_seed(1))[0] for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, corrupted(x, generator=torch.Generator().manual_seed(2))[0])


# --- what is proved of the contrastive head -------------------------------------------------------


@given(
    seed=st.integers(0, 2**31),
    d=st.integers(1, 8),
    n=st.integers(2, 40),
    exponent=st.floats(-6, 6),
    negative=st.booleans(),
    eps=st.sampled_from([1e-4, 1e-3, 0.1, 1.0]),
)
@settings(max_examples=80)
def test_the_distance_does_not_see_scale_rotation_and_place(seed, d, n, exponent, negative, eps):
    h, y = normal(n, d, seed=seed), normal(5, d, seed=seed + 1)
    q = torch.linalg.qr(normal(d, d, seed=seed + 2)).Q
    a = (-1 if negative else 1) * 10**exponent
    v = abs(a) * normal(d, seed=seed + 3)

    def moved(z):
        return a * z @ q.T + v

    (one, mean), (other, other_mean) = (shrunk_distance(z, eps) for z in (h, moved(h)))
    torch.testing.assert_close(other(moved(y)), one(y), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(other_mean, mean, rtol=1e-6, atol=1e-8)


@given(
    seed=st.integers(0, 2**31),
    d=st.integers(1, 8),
    n=st.integers(1, 40),
    exponent=st.floats(-6, 6),
    rank=st.integers(0, 8),
    eps=st.sampled_from([1e-4, 1e-3, 0.1, 1.0]),
)
@settings(max_examples=80)
def test_the_mean_distance_of_normal_steps_is_a_trace_and_at_most_d(
    seed, d, n, exponent, rank, eps
):
    rank = min(rank, d)
    h = 10**exponent * normal(n, rank, seed=seed) @ normal(rank, d, seed=seed + 1)
    distance, mean = shrunk_distance(h, eps)
    covariance = h.T.cov(correction=0).reshape(d, d)
    if covariance.trace() > 0:
        shrunk = covariance + eps * covariance.trace() / d * torch.eye(d)
        torch.testing.assert_close(
            mean, torch.trace(torch.linalg.solve(shrunk, covariance)), rtol=1e-5, atol=1e-9
        )
    torch.testing.assert_close(distance(h).mean(), mean, rtol=1e-6, atol=1e-9)
    assert mean <= d
    assert mean >= 0


@given(
    seed=st.integers(0, 2**31),
    border=st.floats(-50, 50),
    scale=st.floats(0, 30),
    b=st.integers(1, 5),
    t=st.integers(1, 9),
)
@settings(max_examples=80)
def test_a_score_of_one_law_has_a_loss_of_at_least_two_log_two(seed, border, scale, b, t):
    u = scale * normal(b, t, seed=seed)
    changed = normal(b, t, seed=seed + 1) > 0
    found = contrast(u, u, torch.tensor(border, dtype=torch.float64), changed)
    assert (found >= BOUND - 1e-12).all()
    at_best = contrast(0 * u, 0 * u, torch.tensor(0.0, dtype=torch.float64), changed)
    torch.testing.assert_close(at_best, torch.full_like(at_best, BOUND))


def test_the_contrast_of_a_window_by_hand():
    u, other = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[3.0, 4.0, 5.0]])
    changed = torch.tensor([[False, True, True]])
    found = contrast(u, other, torch.tensor(1.5), changed)

    def plus(v):
        return math.log1p(math.exp(v))

    expected = (plus(-0.5) + plus(-2.5) + plus(0.5) + plus(-3.5)) / 2
    assert found.item() == pytest.approx(expected, rel=1e-6)
    none = contrast(u, other, torch.tensor(1.5), torch.zeros(1, 3, dtype=torch.bool))
    whole = contrast(u, other, torch.tensor(1.5), torch.ones(1, 3, dtype=torch.bool))
    assert torch.equal(none, whole)


class Constant(nn.Module):
    """Where a collapse ends: the same embedding for every step."""

    def __init__(self, c=3, d=4, clocked=False):
        super().__init__()
        self.bias, self.clocked = nn.Parameter(torch.ones(d)), clocked

    def forward(self, x):
        h = self.bias.expand(*x.shape[:2], -1)
        if self.clocked:  # it knows where a step stands, and nothing of the rows
            h = h * torch.linspace(1, 2, x.shape[1], dtype=x.dtype)[:, None].pow(2)
        return h


@pytest.mark.parametrize("clocked", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_constant_embedding_has_a_loss_of_at_least_two_log_two(clocked, training):
    model = build(Constant(clocked=clocked), n_channels=3, window=16, head=ContrastiveHead).train(
        training
    )
    x = normal(8, 16, 3, dtype=torch.float32)
    model.prepare([x], 0)
    out = model(x)
    assert out.loss.item() >= BOUND - 1e-5
    out.loss.backward()
    assert torch.isfinite(model.embedder.module.bias.grad).all()


def test_shrinking_all_embeddings_leaves_loss_and_gradient_direction_alone():
    torch.manual_seed(0)
    model = build("deepsvdd", n_channels=3, window=16, head=ContrastiveHead, options={"d": 6})
    model.double().eval()
    x = normal(8, 16, 3)
    before = model(x).loss
    with torch.no_grad():
        model.embedder.outlet.weight.mul_(1e-3)
    torch.testing.assert_close(model(x).loss, before)
    (gradient,) = torch.autograd.grad(model(x).loss, model.embedder.outlet.weight)
    along = (gradient * model.embedder.outlet.weight).sum()  # of a change of scale
    assert abs(along.item()) < 1e-9


def test_gradients_are_those_of_differences():
    h = normal(3, 5, 4).requires_grad_()
    y = normal(2, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda h, y: shrunk_distance(h, 1e-2)[0](y), (h, y))


def test_the_border_starts_at_the_mean_distance():
    model = build("deepsvdd", n_channels=3, window=16, head=ContrastiveHead, options={"d": 6})
    x = normal(40, 16, 3, dtype=torch.float32)
    model.prepare([x[:20], x[20:]], 0)
    h = model.embed(x)[:, ::10].flatten(0, 1).detach()
    expected = math.log(shrunk_distance(h, 1e-3)[1].item() + 1e-2)
    assert model.head.border.item() == pytest.approx(expected, rel=1e-4)
    assert [p is model.head.border for p in model.no_decay()] == [True]
    model.prepare([10 * x], 1)
    assert model.head.border.item() == pytest.approx(expected, rel=1e-4)


def test_population_by_hand():
    h = normal(30, 4) + 5
    mean, values, vectors = population(lambda: iter(h.split(7)))
    torch.testing.assert_close(mean, h.mean(0))
    torch.testing.assert_close(vectors * values @ vectors.T, h.T.cov(correction=0))


# --- the certificate ------------------------------------------------------------------------------


def test_a_trained_network_is_certified_and_a_file_keeps_it(series, tmp_path):
    rows = synthetic(n_train=1500, n_test=400, n_channels=3, per_kind=1, seed=0).train
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        detector = network(epochs=5, stride=5).fit(rows)
    found = detector.certificate_
    assert found.windows == 15  # of 20 rows, in the fifth that was kept
    assert found.holds
    assert 0 < found.loss < found.limit < found.bound == pytest.approx(BOUND)
    assert network(epochs=5, stride=5).fit(rows).certificate_ == found
    detector.save(tmp_path / "file")
    again = MADCluster.load(tmp_path / "file")
    assert again.certificate_ == again.as_fitted.certificate_ == found
    again.save(tmp_path / "again")
    assert MADCluster.load(tmp_path / "again").certificate_ == found


@pytest.mark.parametrize("clocked", [False, True])
def test_a_collapse_that_is_constructed_is_refused(series, clocked):
    with pytest.warns(CollapseWarning, match="nothing certifies .* not below 2 log 2 = 1.386"):
        detector = network(Constant(clocked=clocked)).fit(series.train)
    assert not detector.certificate_.holds
    assert detector.certificate_.loss >= BOUND - 1e-9


@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_an_embedder_that_no_row_reaches_is_refused(series, embedder):
    module = build(embedder, n_channels=3, window=20, head=None, options=SMALL[embedder])
    with torch.no_grad():
        for weights in module.parameters():
            if weights.ndim > 1:  # biases stay, and the directions of a planar flow: none may be 0
                weights.zero_()
    with pytest.warns(CollapseWarning, match="nothing certifies"):
        detector = network(module, lr=1e-12).fit(series.train)
    assert detector.certificate_.windows == 4
    assert detector.certificate_.loss >= BOUND - 1e-9
    assert not detector.certificate_.holds


class Centered(Embedder):
    """Its encoder has shrunk onto a center: what is left of the rows is below rounding."""

    def __init__(self):
        super().__init__()
        self.d = 4
        self.encoder = nn.Linear(3, 4)
        self.center = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return Embedding(self.center + 1e-9 * self.encoder(x))


def test_a_network_that_is_a_center_alone_is_refused(series):
    with pytest.warns(CollapseWarning, match="nothing certifies"):
        detector = network(Centered()).fit(series.train)
    assert not detector.certificate_.holds


def test_noise_that_knows_nothing_is_refused():
    """Embeddings that differ, and by nothing that a corruption would change."""

    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 4)

        def forward(self, x):
            rough = torch.sin(1e6 * x.sum(-1, keepdim=True))  # as good as random numbers
            return self.layer(rough) + 0.1 * torch.sin(1e6 * x[..., :1] + torch.arange(4))

    torch.manual_seed(0)
    rows = np.random.default_rng(0).normal(size=(2000, 3))
    with pytest.warns(CollapseWarning):
        detector = network(Blind(), lr=1e-12, scaler="none").fit(rows)
    assert detector.certificate_.limit > BOUND


class Likelihood(Embedder):
    """Its own score is negative on most steps, and far larger on rows that are none of the train."""

    def __init__(self):
        super().__init__()
        self.d = 4
        self.layer = nn.Linear(3, 4)

    def forward(self, x):
        return Embedding(self.layer(x), score=x.square().sum(-1) - 100)


@pytest.mark.parametrize("score_from", ["embedder", "product"])
def test_a_negative_score_of_the_embedder_has_a_finite_certificate(series, score_from):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        detector = network(Likelihood(), score_from=score_from).fit(series.train)
    assert (detector.decision_scores_ < 0).any()
    assert math.isfinite(detector.certificate_.loss)
    assert math.isfinite(detector.certificate_.limit)


def test_without_held_out_windows_nothing_is_certified():
    rows = np.random.default_rng(0).normal(size=(30, 3))
    with (
        pytest.warns(UserWarning, match="no tail is kept"),
        pytest.warns(CollapseWarning, match="on 0 held-out windows"),
    ):
        detector = network(stride=1).fit(rows)
    assert detector.certificate_ == Certificate(None, None, 0)
    assert detector.certificate_.limit == math.inf
    assert not Certificate(0.5, None, 1).holds


def test_a_fit_against_other_rows_is_certified_on_these(series):
    detector = network().fit_against(series.train, series.test)
    assert detector.certificate_.windows == 20


def test_the_limit_is_that_of_student_s_t():
    found = Certificate(1.0, 0.1, 5)
    assert found.limit == pytest.approx(1 + 2.131846786 * 0.1)  # tables: t, 4 degrees, 95 %
    assert found.holds
    assert not Certificate(1.3, 0.1, 5).holds


@pytest.mark.parametrize(
    "values",
    [
        {"loss": "low", "error": 0.1, "windows": 3},
        {"loss": 0.1, "error": -0.1, "windows": 3},
        {"loss": float("nan"), "error": 0.1, "windows": 3},
        {"loss": 0.1, "error": 0.1, "windows": 1.5},
        {"loss": 0.1},
        [0.1, 0.1, 3],
    ],
    ids=str,
)
def test_a_file_with_another_certificate_is_refused(series, tmp_path, values, monkeypatch):
    detector = network().fit(series.train)
    monkeypatch.setattr(Certificate, "_asdict", lambda self: values)
    detector.save(tmp_path / "file")
    with pytest.raises(CheckpointError):
        MADCluster.load(tmp_path / "file")


def test_head_of_gives_what_build_takes():
    model = build("deepsvdd", n_channels=3, window=8, head=head_of("madcluster", n_channels=3))
    assert isinstance(model.head, Head)
    k = head_of("madcluster", n_channels=3, options={"k": 2})
    assert isinstance(k, partial)
    assert k(4).k == 2
