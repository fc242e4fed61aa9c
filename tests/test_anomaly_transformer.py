"""Anomaly Transformer against its equations written out, step by step, in float64."""

import math

import pytest
import torch

from madcluster.models import AnomalyTransformer
from madcluster.models.anomaly_transformer import (
    EPSILON,
    association_discrepancy,
    discrepancy_of_width,
    gaussian_association,
)


def model_and_batch(**options):
    torch.manual_seed(0)
    model = AnomalyTransformer(3, window=12, d=8, n_heads=2, n_layers=2, d_ff=16, **options)
    return model.double(), torch.randn(4, 12, 3).double()


def divergence(p, q):
    return (p * ((p + EPSILON).log() - (q + EPSILON).log())).sum(-1)


def literal(model, x):
    """Reconstruction (b t c), and the associations (g t t) of each layer and item, by loops."""
    h, pairs = model.tokens(x), []
    for layer in model.layers:
        rows = []
        for item in h:
            query, key, value = layer.query(item), layer.key(item), layer.value(item)  # (t d)
            heads = []
            for g in range(2):
                part = slice(4 * g, 4 * g + 4)
                series = torch.softmax(query[:, part] @ key[:, part].T / math.sqrt(4), -1)
                width = 3 ** (torch.sigmoid(5 * layer.width(item)[:, g]) + 1e-5) - 1
                gauss = torch.stack(
                    [
                        torch.stack(
                            [
                                torch.exp(-((i - j) ** 2) / (2 * width[i] ** 2))
                                / (math.sqrt(2 * math.pi) * width[i])
                                for j in range(12)
                            ]
                        )
                        for i in range(12)
                    ]
                )
                prior = gauss / gauss.sum(-1, keepdim=True)
                pairs.append((prior, series))
                heads.append(series @ value[:, part])
            item = layer.norm(item + layer.out(torch.cat(heads, -1)))
            hidden = torch.nn.functional.gelu(layer.up(item))
            rows.append(layer.last_norm(item + layer.down(hidden)))
        h = torch.stack(rows)
    return model.decode(model.norm(h)), pairs


def test_gaussian_association_equals_the_density_normalized():
    width = torch.tensor([0.3, 1.0, 1.9]).double()
    expected = torch.stack(
        [torch.exp(-((torch.arange(3) - i) ** 2) / (2 * w**2)) for i, w in enumerate(width)]
    )
    expected = expected / expected.sum(-1, keepdim=True)
    torch.testing.assert_close(gaussian_association(width), expected)


def test_discrepancy_is_the_symmetrized_divergence_and_zero_for_equals():
    p, s = torch.rand(2, 5, 5).double().softmax(-1)
    torch.testing.assert_close(association_discrepancy(p, s), divergence(p, s) + divergence(s, p))
    assert association_discrepancy(p, p).abs().max() == 0


def test_discrepancy_of_width_equals_the_one_of_its_map_in_value_and_gradient(monkeypatch):
    monkeypatch.setattr("madcluster.loss.BLOCK", 2 * 7 * 7)  # two maps at a time
    torch.manual_seed(0)
    width = (0.05 + 3 * torch.rand(3, 3, 7).double()).requires_grad_()
    series = torch.randn(3, 3, 7, 7).double().mul(3).softmax(-1).requires_grad_()
    weight = torch.randn(3, 3, 7).double()
    values = [
        discrepancy_of_width(width, series),
        association_discrepancy(gaussian_association(width), series),
    ]
    torch.testing.assert_close(*values, rtol=1e-12, atol=1e-12)
    grads = [torch.autograd.grad((weight * v).sum(), (width, series)) for v in values]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        assert discrepancy_of_width(width, series).equal(values[0])


def test_loss_and_gradients_equal_the_two_phases():
    model, x = model_and_batch()
    model(x).loss.backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    reconstruction, pairs = literal(model, x)
    error = (x - reconstruction).square().mean()

    def discrepancy(p, s):
        return (divergence(p, s) + divergence(s, p)).mean() / len(pairs)

    minimize = error + 3 * sum(discrepancy(p, s.detach()) for p, s in pairs)
    maximize = error - 3 * sum(discrepancy(p.detach(), s) for p, s in pairs)
    (minimize + maximize).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(ours[name], p.grad, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(model(x).loss, minimize + maximize)


def test_score_equals_equation_6():
    model, x = model_and_batch(temperature=2.0)
    reconstruction, pairs = literal(model, x)
    # pairs run over layers, items and heads
    each = torch.stack([divergence(p, s) + divergence(s, p) for p, s in pairs]).view(2, 4, 2, 12)
    weight = torch.softmax(-2.0 * each.mean((0, 2)), -1)
    expected = weight * (x - reconstruction).square().mean(-1)
    torch.testing.assert_close(model(x).score, expected, rtol=1e-8, atol=1e-10)


def test_the_prior_moves_towards_the_series_when_it_alone_is_trained():
    model, x = model_and_batch()
    widths = [p for name, p in model.named_parameters() if "width" in name]
    optimizer = torch.optim.Adam(widths, lr=0.02)
    values = []
    for _ in range(40):
        out = model(x)
        values.append(out.parts["discrepancy"].item())
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    assert values[-1] < values[0]


def test_bad_arguments():
    with pytest.raises(ValueError, match="n_heads must divide d"):
        AnomalyTransformer(3, window=12, d=10, n_heads=4)
    with pytest.raises(ValueError, match="expected windows of 12 steps, got 11"):
        AnomalyTransformer(3, window=12, d=8)(torch.zeros(1, 11, 3))
