"""D-RNN against its equations, one layer and one step after the other, in float64."""

import pytest
import torch

from madcluster import MADCluster
from madcluster.heads import build
from madcluster.models import DRNN, THOC, DeepSVDD
from madcluster.models.deepsvdd import away_from_zero

WINDOW = 13


def model_and_batch(*, b=4, **options):
    torch.manual_seed(0)
    model = DRNN(3, window=WINDOW, d=5, **options).double()
    return model, torch.randn(b, WINDOW, 3).double()


def cell(gru, x, before):
    """A gated recurrent unit by its equations (Cho et al. 2014); (c,), (d,) → (d,)."""
    of_input = gru.weight_ih_l0 @ x + gru.bias_ih_l0
    of_state = gru.weight_hh_l0 @ before + gru.bias_hh_l0
    (r_in, z_in, n_in), (r_of, z_of, n_of) = of_input.chunk(3), of_state.chunk(3)
    reset, update = torch.sigmoid(r_in + r_of), torch.sigmoid(z_in + z_of)
    return (1 - update) * torch.tanh(n_in + reset * n_of) + update * before


def literal(model, window):
    """States of the last layer of one window (t c), step by step; (t d)."""
    below = list(window)
    for layer in model.layers:
        states = []
        for t, x in enumerate(below):
            ago = t - layer.dilation
            before = states[ago] if ago >= 0 else torch.zeros(model.d).double()
            states.append(cell(layer.gru, x, before))
        below = states
    return torch.stack(below)


@pytest.mark.parametrize("dilations", [(1,), (1, 2, 4), (1, 3), (1, 12)])
@pytest.mark.parametrize("objective", ["one-class", "soft-boundary"])
def test_equals_the_equations(objective, dilations):
    model, x = model_and_batch(objective=objective, nu=0.25, dilations=dilations)
    model.prepare([x[:3], x[3:]], 0)
    h = torch.stack([literal(model, window) for window in x])
    center = away_from_zero(h.detach().mean((0, 1)))
    torch.testing.assert_close(model.center, center)
    distance = (h - center).square().sum(-1)
    score, loss = distance, distance.mean()
    if objective == "soft-boundary":
        ordered = distance.detach().flatten().sort().values
        torch.testing.assert_close(model.squared_radius, ordered[38])  # 39 of 52 lie within
        radius = ordered[
            38:40
        ].mean()  # on no step: there rounding decides whether it has a gradient
        model.squared_radius.copy_(radius)
        score = distance - radius
        loss = (radius + score.relu() / 0.25).mean()
    ours = model(x)
    torch.testing.assert_close(ours.h, h)
    torch.testing.assert_close(ours.score, score)
    torch.testing.assert_close(ours.loss, loss)
    parameters = list(model.parameters())
    for got, expected in zip(
        torch.autograd.grad(ours.loss, parameters),
        torch.autograd.grad(loss, parameters),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)


def test_its_embedding_is_the_coarsest_scale_of_thoc():
    model, x = model_and_batch()
    thoc = THOC(3, window=WINDOW, d=5).double()
    model.layers.load_state_dict(thoc.scales.state_dict())
    assert torch.equal(model.embed(x), thoc.features(x)[-1])


@pytest.mark.parametrize("dilations", [(1, 2, 4), (1, 12)])
def test_an_embedding_sees_every_row_before_it_and_none_after(dilations):
    model, x = model_and_batch(b=1, dilations=dilations)
    x.requires_grad_()
    for t in (0, 5, WINDOW - 1):
        (gradient,) = torch.autograd.grad(model(x).score[0, t], x)
        seen = gradient[0].abs().sum(-1).nonzero().flatten().tolist()
        assert seen == list(range(t + 1))


def test_it_goes_window_by_window_for_a_last_step_sees_where_the_window_begins():
    model, x = model_and_batch()
    assert model.last_steps() is None
    assert not torch.allclose(model.embed(x)[:, -1], model.embed(x[:, 1:])[:, -1])


def test_the_center_stays_where_it_was_before_the_first_epoch():
    model, x = model_and_batch()
    model.prepare([x], 0)
    center = model.center.clone()
    model.prepare([x + 1], 1)
    assert torch.equal(model.center, center)
    assert torch.equal(model.anchors(), center[None])
    assert not any(p is model.center for p in model.parameters())


def test_the_head_takes_the_place_of_its_loss():
    torch.manual_seed(0)
    both, x = build("drnn", n_channels=3, window=20, options={"d": 5}), torch.randn(2, 20, 3)
    found = both(x)
    expected = both.head.objective_of(both.head(both.embedder(x).h))
    torch.testing.assert_close(found.loss, expected)
    assert "embedder" not in found.parts


@pytest.mark.parametrize("name", ["drnn", "deepsvdd"])
def test_alone_it_has_the_objective_of_the_detector(name):
    rows = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).numpy()
    settings = {"window": 20, "stride": 10, "epochs": 1, "options": {"d": 5}}
    found = MADCluster(name, head=False, objective="soft-boundary", nu=0.3, **settings).fit(rows)
    assert isinstance(found.model_, (DRNN, DeepSVDD))
    assert (found.model_.objective, found.model_.nu) == ("soft-boundary", 0.3)
    assert found.model_.squared_radius > 0


def test_it_learns_to_lie_near_its_center():
    torch.manual_seed(0)
    model = DRNN(1, window=30, d=8)
    start = torch.arange(0, 6.28, 0.2)
    x = torch.sin(start[:, None] + 0.5 * torch.arange(30.0))[..., None]  # (b t 1)
    model.prepare([x], 0)
    before = model(x).loss.item()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(x).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model(x).loss < 0.3 * before


def test_sizes_are_those_of_the_layers_of_thoc_by_default():
    model, thoc = DRNN(38, window=100), THOC(38, window=100)
    assert (model.d, model.layers.dilations) == (thoc.d, thoc.scales.dilations)
    sizes = [3 * 128 * (n + 128 + 2) for n in (38, 128, 128)]
    assert sum(p.numel() for p in model.parameters()) == sum(sizes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dilations": (1, 20)}, "smaller than the window of 20 steps, got .1, 20."),
        ({"dilations": ()}, "dilations must be positive, grow"),
        ({"dilations": (2, 4)}, "dilations must begin with 1, got .2, 4."),
        ({"objective": "two-class"}, "objective must be 'one-class' or 'soft-boundary'"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        DRNN(3, window=20, **options)
