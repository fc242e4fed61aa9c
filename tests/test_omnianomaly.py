"""OmniAnomaly against torch.distributions, a Kalman filter and autograd's Jacobian, in float64."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal
from torch.func import jacrev, vmap

from madcluster.models import OmniAnomaly
from madcluster.models.omnianomaly import EPSILON, PlanarFlow, RandomWalkPrior, normal_log_density


def model_and_batch():
    torch.manual_seed(0)
    model = OmniAnomaly(3, window=7, d=6, n_latent=2, n_flows=3).double()
    return model, torch.randn(4, 7, 3).double()


def test_normal_log_density():
    x, mean, std = torch.randn(3, 5).double(), torch.randn(5).double(), torch.rand(5).double()
    torch.testing.assert_close(normal_log_density(x, mean, std), Normal(mean, std).log_prob(x))


@pytest.mark.parametrize("scale", [0.1, 1, 5])
def test_planar_flow_is_invertible_and_knows_its_jacobian(scale):
    torch.manual_seed(1)
    flow = PlanarFlow(3).double()
    flow.u.data.copy_(-scale * flow.w * 10)
    z = torch.randn(20, 3).double()
    _, log_determinant = flow(z)
    jacobian = vmap(jacrev(lambda one: flow(one)[0]))(z)
    assert (torch.linalg.det(jacobian) > 0).all()
    torch.testing.assert_close(log_determinant, torch.linalg.det(jacobian).log())


def test_the_prior_equals_a_kalman_filter():
    torch.manual_seed(2)
    z, prior = torch.randn(2, 9, 1).double(), RandomWalkPrior(9).double()
    expected = torch.zeros(2, 9).double()
    for b in range(2):
        mean, variance = 0.0, 1.0
        for t in range(9):
            std = torch.tensor(math.sqrt(variance + 1)).double()
            expected[b, t] = Normal(mean, std).log_prob(z[b, t, 0])
            gain = variance / (variance + 1)
            mean, variance = mean + gain * (z[b, t, 0] - mean), (1 - gain) * variance + 1
    # the package's buffers were rounded to float32 before the test made them double
    torch.testing.assert_close(prior.log_density(z), expected, rtol=1e-5, atol=1e-5)
    steps = torch.arange(1.0, 10).double()
    whole = MultivariateNormal(
        torch.zeros(9).double(), torch.minimum(steps[:, None], steps) + torch.eye(9).double()
    )
    torch.testing.assert_close(
        prior.log_density(z).sum(1), whole.log_prob(z[..., 0]), rtol=1e-5, atol=1e-5
    )


def literal(model, x, noise):
    """Bound and score of one window (t c) by the equations, step after step."""
    h = model.features(model.inference(x[None])[0])[0]
    previous, z, density = torch.zeros(2).double(), [], 0.0
    for t in range(len(x)):
        both = torch.cat([h[t], previous])
        mean = model.mean(both)
        std = torch.log(1 + model.scale(both).exp()) + EPSILON
        previous = mean + std * noise[t]
        z.append(previous)
        density = density + Normal(mean, std).log_prob(previous).sum()
    z = torch.stack(z)
    for flow in model.flows:
        jacobian = vmap(jacrev(lambda one, flow=flow: flow(one)[0]))(z)
        density = density - torch.linalg.slogdet(jacobian)[1].sum()
        z = flow(z)[0]
    reading = model.reading(model.generation(z[None])[0])[0]
    std = torch.log(1 + model.channel_scale(reading).exp()) + EPSILON
    likelihood = Normal(model.channel_mean(reading), std).log_prob(x).sum(-1)
    bound = likelihood.sum() + model.prior.log_density(z[None]).sum() - density
    return -bound / len(x), -likelihood


def test_loss_equals_the_bound_in_training():
    model, x = model_and_batch()
    torch.manual_seed(3)
    loss = model.train()(x).loss
    torch.manual_seed(3)
    noise = torch.randn(4, 7, 2, dtype=torch.float64)
    expected = torch.stack([literal(model, *pair)[0] for pair in zip(x, noise, strict=True)]).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-8, atol=1e-8)


def test_score_equals_the_reconstruction_probability_of_the_mean():
    model, x = model_and_batch()
    still = torch.zeros(7, 2).double()
    expected = torch.stack([literal(model, one, still)[1] for one in x])
    torch.testing.assert_close(model.eval()(x).score, expected, rtol=1e-8, atol=1e-8)


def test_the_score_is_the_probability_of_the_reconstruction():
    model, x = model_and_batch()
    mean, std = model.eval().reconstruct(x)
    torch.testing.assert_close(-Normal(mean, std).log_prob(x).sum(-1), model(x).score)


def test_training_draws_and_eval_does_not():
    model, x = model_and_batch()
    assert not torch.equal(model.train()(x).score, model(x).score)
    assert torch.equal(model.eval()(x).score, model(x).score)


def test_bad_arguments():
    with pytest.raises(ValueError, match="n_latent must be positive"):
        OmniAnomaly(3, window=7, n_latent=0)
    with pytest.raises(ValueError, match="expected windows of 7 steps, got 8"):
        OmniAnomaly(3, window=7, d=4)(torch.zeros(1, 8, 3))
