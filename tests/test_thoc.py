"""THOC against its equations, one step, cluster and level after the other, in float64."""

import pytest
import torch
from torch.nn.functional import cosine_similarity

from madcluster.models import THOC


def literal(model, features, step):
    """Probabilities and outputs of the highest level for one step, and their score."""
    below, probability = [features[0][step]], [torch.ones(())]
    for level, centers in enumerate(model.centers):
        if level:
            weight = torch.cat(
                [model.hand_up[level - 1].weight, model.of_scale[level - 1].weight], 1
            )
            bias = model.of_scale[level - 1].bias
            below = [
                torch.relu(weight @ torch.cat([f, features[level][step]]) + bias) for f in below
            ]
        outputs = [torch.zeros(model.d).double() for _ in centers]
        onward = [torch.zeros(()).double() for _ in centers]
        for f, r in zip(below, probability, strict=True):
            similar = torch.stack([cosine_similarity(f, c, dim=0) for c in centers])
            p = torch.softmax(similar / model.temperature, 0)
            for j in range(len(centers)):
                outputs[j] = outputs[j] + p[j] * torch.relu(model.output[level](f))
                onward[j] = onward[j] + r * p[j]
        below, probability = outputs, onward
    distance = [1 - cosine_similarity(f, c, dim=0) for f, c in zip(below, centers, strict=True)]
    score = sum(r * far for r, far in zip(probability, distance, strict=True))
    h = sum(r * f for r, f in zip(probability, below, strict=True))
    return h, score


def test_equals_the_equations():
    torch.manual_seed(0)
    model = THOC(
        3, window=9, d=5, n_clusters=(4, 3, 2), temperature=0.3, orthogonality=0.7, forecast=0.2
    ).double()
    for center in model.centers:
        center.data += 0.3 * torch.randn_like(center)
    x = torch.randn(2, 9, 3, dtype=torch.float64)
    features = model.features(x)
    pairs = [[literal(model, [f[b] for f in features], t) for t in range(9)] for b in range(len(x))]
    h = torch.stack([torch.stack([one[0] for one in row]) for row in pairs])
    score = torch.stack([torch.stack([one[1] for one in row]) for row in pairs])
    overlap = sum((c @ c.T - torch.eye(len(c))).norm() ** 2 for c in model.centers) / 3
    forecast = sum(
        torch.nn.functional.mse_loss(model.predict[i](f[:, :-s]), x[:, s:])
        for i, (f, s) in enumerate(zip(features, (1, 2, 4), strict=True))
    )
    loss = score.mean() / 2 + 0.7 * overlap + 0.2 * forecast / 3
    ours = model(x)
    torch.testing.assert_close(ours.h, h, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(ours.score, score, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(ours.loss, loss, rtol=1e-8, atol=1e-8)
    parameters = list(model.parameters())
    for got, expected in zip(
        torch.autograd.grad(ours.loss, parameters),
        torch.autograd.grad(loss, parameters),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)


def test_probabilities_sum_to_one():
    model = THOC(3, window=20, d=8)
    probability, _ = model.cluster(model.features(torch.randn(4, 20, 3)))
    torch.testing.assert_close(probability.sum(-1), torch.ones(4, 20))


def test_no_step_looks_ahead():
    torch.manual_seed(0)
    model, x = THOC(3, window=20, d=8).eval(), torch.randn(1, 20, 3)
    changed = x.clone()
    changed[:, 12:] += 1
    torch.testing.assert_close(model(x).score[:, :12], model(changed).score[:, :12])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dilations": (1, 20, 21)}, "smaller than the window of 20 steps, got .1, 20, 21."),
        ({"dilations": ()}, "dilations must be positive"),
        ({"n_clusters": (6, 6)}, "one positive number for each of the 3 dilations, got .6, 6."),
        ({"n_clusters": (6, 0, 1)}, "n_clusters must give one positive number"),
        ({"temperature": 0}, "temperature must be positive, got 0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        THOC(3, window=20, **options)
