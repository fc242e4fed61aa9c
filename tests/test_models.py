"""Every embedder and every head keeps the contract that training and scoring rely on."""

import math
from functools import partial

import pytest
import torch
from einops import rearrange, repeat
from hypothesis import given
from hypothesis import strategies as st
from sklearn import cluster
from small import SMALL
from torch import nn

from madcluster import loss
from madcluster.heads import Head, WithHead, build
from madcluster.heads import head as head_module
from madcluster.models import (
    EMBEDDERS,
    ONE_CLASS,
    DCdetector,
    DeepSVDD,
    Embedder,
    Embedding,
    as_embedder,
    dcdetector,
)
from madcluster.models.dcdetector import EPSILON, discrepancies
from madcluster.models.deepsvdd import OneClass, away_from_zero
from madcluster.models.layers import TokenEmbedding, instance_normalize


def make(name, head=True, n_channels=3, window=20, **options):
    torch.manual_seed(0)
    score = options.pop("score", "head")
    own = {key: options[key] for key in ("objective", "nu") if key in options}
    return build(
        name,
        n_channels=n_channels,
        window=window,
        head=partial(Head, **options) if head else None,
        score=score,
        options=SMALL[name] | (own if name in ONE_CLASS else {}),
    )


def batch(b=6, t=20, c=3):
    return torch.randn(b, t, c, generator=torch.Generator().manual_seed(1))


def test_head_has_d_plus_one_parameters():
    assert sum(p.numel() for p in Head(64).parameters()) == 65
    assert sum(p.numel() for p in Head(64, k=3).parameters()) == 3 * 64


def test_head_by_hand():
    head, h = Head(4), torch.randn(2, 5, 4)
    a = head(h)
    q = (1 + nn.functional.cosine_similarity(h, head.centers, dim=-1)) / 2
    torch.testing.assert_close(a.distance, (h - head.centers).square().sum(-1))
    torch.testing.assert_close(a.q.squeeze(-1), q)
    torch.testing.assert_close(a.cluster, loss.one_directed_adaptive(q, head.threshold))
    torch.testing.assert_close(head.objective_of(a), (a.distance + a.cluster).mean().log())


def test_head_of_several_clusters_by_hand():
    head, h = Head(4, k=3), torch.randn(2, 5, 4)
    a = head(h)
    distance = torch.cdist(h, head.centers.expand(2, 3, 4)).square()
    q = 1 / (1 + distance) / (1 / (1 + distance)).sum(-1, keepdim=True)
    torch.testing.assert_close(a.distance, distance.amin(-1))
    torch.testing.assert_close(a.q, q)
    torch.testing.assert_close(a.cluster, loss.cluster_divergence(q))


@pytest.mark.parametrize("outer_log", [True, False])
def test_the_soft_boundary_of_a_head_by_hand(outer_log):
    head, h = Head(4, objective="soft-boundary", nu=0.2, outer_log=outer_log), torch.randn(2, 5, 4)
    head.squared_radius.fill_(3.0)
    a = head(h)
    outside = 3 + (a.distance - 3).clamp_min(0) / 0.2
    expected = (outside + a.cluster).mean()
    got = head.objective_of(a)
    torch.testing.assert_close(got, expected.log() if outer_log else expected)


class Own(Embedder):
    """An embedder with a loss of 3 and a parameter without decay."""

    def __init__(self, replaced=False):
        super().__init__()
        self.d, self.replaced_by_head = 3, replaced
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return Embedding(self.weight * x, torch.tensor(3.0), parts={"own": torch.tensor(7.0)})

    def no_decay(self):
        return [self.weight]


@pytest.mark.parametrize("replaced", [True, False])
def test_the_loss_of_head_and_embedder_is_their_sum_or_the_heads(replaced):
    model, x = WithHead(Own(replaced), Head(3)), batch()
    out = model(x)
    a = model.head(x)
    expected = model.head.objective_of(a) + (0 if replaced else 3)
    torch.testing.assert_close(out.loss, expected)
    means = {"distance": a.distance.mean(), "cluster": a.cluster.mean()}
    means |= {"threshold": model.head.threshold, "own": torch.tensor(7.0)}
    means |= {} if replaced else {"embedder": torch.tensor(3.0)}
    assert out.parts.keys() == means.keys()
    for name, value in means.items():
        torch.testing.assert_close(out.parts[name], value)
        assert not out.parts[name].requires_grad


@pytest.mark.parametrize("k", [1, 2])
def test_threshold_and_the_embedders_own_take_no_decay(k):
    model = WithHead(Own(), Head(3, k=k))
    expected = [model.head.theta, model.embedder.weight] if k == 1 else [model.embedder.weight]
    assert [id(p) for p in model.no_decay()] == [id(p) for p in expected]


def test_the_first_center_is_the_mean_of_every_tenth_step_of_all_windows():
    model, x = make("deepsvdd"), batch(b=7) + 2
    h = model.embedder(x).h.detach()[:, ::10].flatten(0, 1)
    model.prepare([x[:4], x[4:]], 0)
    torch.testing.assert_close(model.head.centers[0], away_from_zero(h.mean(0)))
    torch.testing.assert_close(model.head.start, h.var(0, correction=0).sum())


def test_k_means_sees_a_part_of_many_embeddings_from_first_to_last(monkeypatch):
    seen = []

    class Spy(cluster.KMeans):
        def fit(self, x):
            seen.extend(x[:, 0].tolist())
            return super().fit(x)

    monkeypatch.setattr(cluster, "KMeans", Spy)
    monkeypatch.setattr(head_module, "MOST", 4)
    Head(1, k=2).place(torch.arange(30.0)[:, None].split(3))
    assert seen == [0, 8, 14, 18, 24, 27]


def test_the_clusters_start_the_same_after_the_same_seed():
    h, centers = torch.randn(60, 2), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        head = Head(2, k=5)
        head.place([h])
        centers.append(head.centers.detach())
    assert torch.equal(centers[0], centers[1])
    assert not torch.equal(centers[0], centers[2])


def test_the_threshold_stays_inside_after_10_000_steps():
    head = Head(2, threshold=0.5)
    q = torch.rand(64, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(10_000):
        value = loss.one_directed_adaptive(q, head.threshold).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert head.threshold.item() > 0.9  # it has moved
    assert 0 < head.threshold.item() < 1


@pytest.mark.parametrize("theta", [-1e4, -100.0, 100.0, 1e4])
def test_the_threshold_stays_inside_where_the_sigmoid_saturates(theta):
    head = Head(2)
    nn.init.constant_(head.theta, theta)
    assert 0 < head.threshold.item() < 1
    value = loss.one_directed_adaptive(torch.tensor([0.0, 0.3, 1.0]), head.threshold)
    assert torch.isfinite(value).all()


@pytest.mark.parametrize("start", [0.01, 0.5, 0.9, 0.999])
def test_the_threshold_starts_where_asked(start):
    assert Head(2, threshold=start).threshold.item() == pytest.approx(start, abs=1e-6)


def test_more_clusters_find_separate_groups():
    torch.manual_seed(0)
    groups = torch.tensor([[0.0, 5.0], [5.0, 0.0], [-5.0, -5.0]])
    h = groups.repeat_interleave(50, 0) + 0.1 * torch.randn(150, 2)
    head = Head(2, k=3)
    head.place([h])
    assert head(h[None]).distance.max() < 1
    assert head.threshold is None


def test_soft_boundary_radius_is_the_quantile_of_the_training_distances():
    model, x = make("deepsvdd", objective="soft-boundary", nu=0.1), batch(b=20)
    model.prepare([x[:10], x[10:]], 0)
    distance = model.head(model.embedder(x).h).distance
    outside = (distance > model.head.squared_radius).float().mean().item()
    assert outside == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("head", [True, False])
def test_the_radius_is_taken_anew_before_every_epoch_and_the_center_is_not(head):
    model, x = make("deepsvdd", head, objective="soft-boundary", nu=0.1), batch(b=20)
    of = model.head if head else model
    model.prepare([x], 0)
    center = model.anchors().clone()
    for epoch in (1, 2):
        with torch.no_grad():
            (model.embedder if head else model).outlet.weight.mul_(2)
            distance = loss.distance_mapping(model(x).h, center)
        model.prepare([x], epoch)
        torch.testing.assert_close(of.squared_radius, loss.radius(distance, 0.1))
        assert torch.equal(model.anchors(), center)


@pytest.mark.parametrize("objective", ["one-class", "soft-boundary"])
def test_deepsvdd_center_is_the_mean_and_stays(objective):
    model, x = make("deepsvdd", head=False, objective=objective), batch()
    model.prepare([x[:2], x[2:]], 0)
    expected = away_from_zero(model.embed(x).mean((0, 1)))
    torch.testing.assert_close(model.center, expected, rtol=1e-4, atol=1e-5)
    model.prepare([x + 1], 1)
    torch.testing.assert_close(model.center, expected, rtol=1e-4, atol=1e-5)
    assert not any(p is model.center for p in model.parameters())


def test_deepsvdd_maps_zero_to_zero():
    assert not DeepSVDD(3, d=8)(torch.zeros(1, 20, 3)).h.any()


def test_away_from_zero():
    got = away_from_zero(torch.tensor([0.0, -0.01, 0.5, -3.0]))
    torch.testing.assert_close(got, torch.tensor([0.1, -0.1, 0.5, -3.0]))


@given(st.lists(st.integers(-30, 30), min_size=3, max_size=3))
def test_the_center_of_a_head_starts_at_the_mean_and_off_zero(percent):
    mean, spread = torch.tensor(percent) / 100, torch.tensor([[1.0], [-3.0], [2.0]])
    head = Head(3)
    head.place([mean + spread])
    torch.testing.assert_close(head.centers[0], away_from_zero(mean), rtol=0, atol=1e-6)
    assert head.centers.abs().min() > 0.099


@pytest.mark.parametrize("score", ["head", "distance", "cluster", "embedder", "product"])
def test_score_choices(score):
    model, x = make("dcdetector", score=score), batch()
    model.prepare([x], 0)
    a, own = model.head(model.embedder(x).h), model.embedder(x).score
    expected = {
        "head": a.distance + a.cluster,
        "distance": a.distance,
        "cluster": a.cluster,
        "embedder": own,
        "product": own * (a.distance + a.cluster),
    }
    torch.testing.assert_close(model(x).score, expected[score])


def test_those_with_the_objective_of_deep_svdd_are_listed():
    made = {name: make(name, head=False) for name in EMBEDDERS}
    assert [name for name, model in made.items() if isinstance(model, OneClass)] == [*ONE_CLASS]
    assert [name for name, model in made.items() if model.replaced_by_head] == [*ONE_CLASS]


def test_head_replaces_the_own_loss_of_deepsvdd_and_joins_that_of_dcdetector():
    assert "embedder" not in make("deepsvdd")(batch()).parts
    assert "embedder" in make("dcdetector")(batch()).parts


# --- DCdetector against the form that builds (L L) maps -------------------------------------------


def materialized(patch_wise, in_patch):
    n, p = patch_wise.shape[-1], in_patch.shape[-1]
    s = repeat(patch_wise, "... i j -> ... (i p) (j q)", p=p, q=p)
    t = repeat(in_patch, "... i j -> ... (m i) (n j)", m=n, n=n)
    t = t / t.sum(-1, keepdim=True)

    def kl(x, y):
        return (x * ((x + EPSILON).log() - (y + EPSILON).log())).sum(-1)

    return kl(s, t), kl(t, s)


@pytest.mark.parametrize(("n", "p"), [(5, 4), (10, 2), (2, 10), (3, 3)])
def test_discrepancies_equal_the_materialized_form_in_value_and_gradient(n, p):
    torch.manual_seed(0)
    logits = [torch.randn(2, m, m).double().requires_grad_() for m in (n, p)]
    results = []
    for form in (discrepancies, materialized):
        forward, backward = form(*(x.softmax(-1) for x in logits))
        weights = torch.linspace(1, 2, n * p).double()
        gradients = torch.autograd.grad((weights * (forward + 3 * backward)).sum(), logits)
        results.append((forward, backward, *gradients))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def mask_by_value(x, share):
    """A mask that is read off the values: the same in any order of computation."""
    return ((x.detach() * 1e3).remainder(1) >= share).to(x)


def by_value(x, share):
    return x * mask_by_value(x, share) / (1 - share)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.0])
def test_the_mask_of_a_dropout_leaves_out_its_share(share):
    torch.manual_seed(0)
    found = dcdetector.mask(torch.empty(1001, 101), share)
    assert found.shape == (1001, 101)
    assert set(found.unique().tolist()) <= {0.0, 1.0}
    assert (found == 0).float().mean().item() == pytest.approx(share, abs=0.005)
    # neighbors come from the same draw: they must not go together
    pairs = (found[:, :-1] == 0) & (found[:, 1:] == 0)
    assert pairs.float().mean().item() == pytest.approx(share**2, abs=0.005)


def literal_maps(model, x):
    """Every token projected, one (b c) attention after the other; means over channels."""
    x, maps = instance_normalize(x), []
    for p, of_patches, of_positions in zip(
        model.patch_sizes, model.patch_views, model.position_views, strict=True
    ):
        for layer in model.layers:
            for view, pattern in (
                (of_patches, "b (n p) c -> b c n p"),
                (of_positions, "b (n p) c -> b c p n"),
            ):
                f = rearrange(x, pattern, p=p)
                f = torch.cat([f.roll(1, -2), f, f.roll(-1, -2)], -1)
                tokens = view.embed(f) + view.position
                if model.embedding_dropout:
                    tokens = by_value(tokens, model.embedding_dropout)
                q, k = (
                    rearrange(part(tokens), "b c n (g e) -> b c g n e", g=model.n_heads)
                    for part in (layer.query, layer.key)
                )
                attention = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
                if model.attention_dropout:
                    attention = by_value(attention, model.attention_dropout)
                maps.append(attention.mean(1))
    return list(zip(maps[::2], maps[1::2], strict=True))


def literal_dcdetector(model, x):
    """The authors' computation: (L L) maps, four terms with detached twins."""
    series_loss = prior_loss = score = 0.0
    maps = literal_maps(model, x)
    for s, t in maps:
        prior_loss = prior_loss + sum(materialized(s.detach(), t)).mean()
        series_loss = series_loss - sum(materialized(s, t.detach())).mean()
        score = score + sum(materialized(s, t)).mean(1)
    return (prior_loss + series_loss) / len(maps), score


@pytest.mark.parametrize("n_heads", [1, 2])
@pytest.mark.parametrize(
    "dropouts",
    [
        {},
        {"attention_dropout": 0.1},
        {"embedding_dropout": 0.1, "attention_dropout": 0.1},
    ],
    ids=["none", "attention", "both"],
)
def test_dcdetector_equals_the_literal_form(n_heads, dropouts, monkeypatch):
    monkeypatch.setattr(dcdetector, "mask", mask_by_value)
    torch.manual_seed(0)
    model = DCdetector(3, window=20, d=8, n_layers=2, n_heads=n_heads, **dropouts).double()
    x = batch().double()
    value, score = literal_dcdetector(model, x)
    out = model(x)
    torch.testing.assert_close(out.loss, value, rtol=0, atol=1e-12)
    torch.testing.assert_close(out.score, score, rtol=1e-8, atol=1e-10)
    parameters = [p for n, p in model.named_parameters() if "layers" in n or "embed" in n]
    ours = torch.autograd.grad(out.loss, parameters)
    theirs = torch.autograd.grad(value, parameters)
    for g1, g2 in zip(ours, theirs, strict=True):
        torch.testing.assert_close(g1, g2, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("block", [1, 500, 10**9])
def test_dcdetector_does_not_depend_on_the_block(block, monkeypatch):
    model, x = make("dcdetector", head=False).double(), batch().double()
    expected = model(x)
    monkeypatch.setattr(dcdetector, "BLOCK", block)
    torch.testing.assert_close(model(x).score, expected.score, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model(x).h, expected.h, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_heads", [1, 2])
def test_dcdetector_attention_output_equals_the_literal_form(n_heads):
    torch.manual_seed(0)
    model, x = DCdetector(3, window=20, d=8, n_layers=2, n_heads=n_heads).double(), batch().double()
    tokens, attended = model.tokens(instance_normalize(x)), 0.0
    literal = literal_maps(model, x)
    for s, t in literal:
        n, p = s.shape[-1], t.shape[-1]
        s = repeat(s, "b g i j -> b g (i p) (j q)", p=p, q=p) / p
        t = repeat(t, "b g i j -> b g (m i) (k j)", m=n, k=n) / n
        v = rearrange(tokens, "b t (g e) -> b g t e", g=n_heads)
        attended = attended + rearrange((s + t) / 2 @ v, "b g t e -> b t (g e)")
    expected = tokens + model.out(attended / len(literal))
    torch.testing.assert_close(model(x).h, expected)


def test_dcdetector_drops_in_training_alone():
    torch.manual_seed(0)
    x = batch()
    model = DCdetector(3, window=20, d=8, embedding_dropout=0.1, attention_dropout=0.1)
    assert not torch.equal(model(x).score, model(x).score)
    plain = DCdetector(3, window=20, d=8).eval()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(x).score, plain(x).score)


def test_dcdetector_stays_finite_where_dropout_takes_whole_rows():
    torch.manual_seed(0)
    model = DCdetector(1, window=20, d=8, attention_dropout=0.9)
    out = model(batch(c=1))
    out.loss.backward()
    assert torch.isfinite(out.score).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_token_embedding_is_circular():
    embedding = TokenEmbedding(2, 6, length=10).double()
    x = torch.randn(1, 10, 2).double()
    rolled = embedding(x.roll(3, 1)) - embedding.position
    torch.testing.assert_close(rolled, (embedding(x) - embedding.position).roll(3, 1))


def test_dcdetectors_game_moves_though_its_value_is_zero():
    model, x = make("dcdetector", head=False), batch(b=32)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    discrepancy = []
    for _ in range(30):
        out = model(x)
        assert out.loss.item() == 0
        discrepancy.append(out.parts["discrepancy"].item())
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    assert abs(discrepancy[-1] - discrepancy[0]) > 0.01


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embedder": "svdd"}, "embedder must be one of"),
        ({"score": "best"}, "score must be one of"),
        ({"window": 37, "embedder": "dcdetector"}, "patch_sizes must divide"),
        ({"embedder": "dcdetector", "options": {"patch_sizes": [3]}}, "patch_sizes must divide"),
        ({"embedder": "dcdetector", "options": {"attention_dropout": 1.0}}, "attention_dropout"),
        ({"embedder": "dcdetector", "options": {"embedding_dropout": -0.1}}, "embedding_dropout"),
        ({"embedder": nn.Linear(3, 4), "options": {"d": 3}}, "options are for embedders"),
    ],
)
def test_bad_arguments(arguments, message):
    arguments = {"embedder": "deepsvdd", "n_channels": 3, "window": 20, **arguments}
    with pytest.raises(ValueError, match=message):
        build(arguments.pop("embedder"), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k must be a positive integer"),
        ({"k": 2.5}, "k must be a positive integer"),
        ({"k": True}, "k must be a positive integer"),
        ({"objective": "two-class"}, "objective must be"),
        ({"threshold": 1.0}, "threshold must lie in"),
        ({"threshold": math.nan}, "threshold must lie in"),
        ({"threshold": None}, "threshold must lie in"),
        ({"threshold": 1e-9}, "threshold must not lie so close"),
        ({"nu": 0.0}, "nu must lie in"),
        ({"nu": 1.0}, "nu must lie in"),
        ({"threshold": 0.0}, "threshold must lie in"),
        ({"terms": "neither"}, "terms must be one of"),
        ({"guard": None}, "guard must be one of"),
        ({"outer_log": "no"}, "outer_log must be True or False"),
        ({"label_smoothing": -0.1}, "label_smoothing must lie in"),
        ({"label_smoothing": 0.6}, "label_smoothing must lie in"),
    ],
)
def test_bad_arguments_of_a_head(arguments, message):
    with pytest.raises(ValueError, match=message):
        Head(4, **arguments)


class Last(nn.Module):
    def forward(self, x):
        return x[:, -1]


class Whole(nn.Module):
    def forward(self, x):
        return x.long()


@pytest.mark.parametrize(
    ("module", "message"), [(Last(), "one embedding per time step"), (Whole(), "floating point")]
)
def test_a_module_that_does_not_embed_steps_is_refused(module, message):
    with pytest.raises(ValueError, match=message):
        as_embedder(module, n_channels=3, window=20)


def test_sizes_of_embedder_and_head_must_agree():
    with pytest.raises(ValueError, match="size 4"):
        WithHead(DeepSVDD(3, d=8), Head(4))


def test_product_needs_an_own_score():
    model = build(nn.Linear(3, 4), n_channels=3, window=20, score="product")
    with pytest.raises(ValueError, match="score of its own"):
        model(batch())


def test_dcdetector_refuses_another_window():
    with pytest.raises(ValueError, match="windows of 20"):
        make("dcdetector", head=False)(batch(t=30))


def test_a_threshold_at_the_very_end_is_refused():
    for threshold in (head_module.MARGIN, 1 - head_module.MARGIN):
        with pytest.raises(ValueError, match="must not lie so close"):
            Head(4, threshold=threshold)


def test_finishing_a_head_finishes_its_embedder(monkeypatch):
    model, seen = make("deepsvdd"), []
    monkeypatch.setattr(model.embedder, "finish", seen.append)
    batches = [batch()]
    model.finish(batches)
    assert seen == [batches]


@pytest.mark.parametrize(("device", "pieces"), [("cpu", 16), ("meta", 1)])
def test_only_a_cpu_is_fed_in_pieces_of_its_cache(device, pieces, monkeypatch):
    monkeypatch.setattr(dcdetector, "BLOCK", 1)
    f = torch.zeros(16, 3, 5, 4, device=device)
    a, c = torch.zeros(1, 4, 4, device=device), torch.zeros(1, 4, device=device)
    scores, calls = dcdetector.TokenScores(a, c), []

    def embed(x):
        calls.append(len(x))
        return x

    assert dcdetector.mean_map(scores, f, embed=embed).shape == (16, 1, 5, 5)
    assert calls == [16 * 3 // pieces] * pieces
