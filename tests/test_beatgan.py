"""BeatGAN against the two players' losses written out, in float64."""

import pytest
import torch
from torch.nn.functional import mse_loss

from madcluster.models import BeatGAN


def model_and_batch(window=21):
    torch.manual_seed(0)
    model = BeatGAN(3, window=window, d=4, n_latent=5, weight=0.5).double()
    return model, torch.randn(6, window, 3, dtype=torch.float64)


def gradients(value, *modules):
    parameters = [p for module in modules for p in module.parameters()]
    return torch.autograd.grad(value, parameters, retain_graph=True)


def test_every_player_gets_the_gradient_of_its_own_loss():
    model, x = model_and_batch()
    ours = model.train()(x).loss
    real = x.mT
    fake = model.last(model.decoder(model.encoder(real)))
    matching = mse_loss(model.features(fake), model.features(real))
    generator = mse_loss(fake, real) + 0.5 * matching
    yes, no = (torch.sigmoid(model.judge(model.features(y))) for y in (real, fake))
    discriminator = -(yes.log().mean() + (1 - no).log().mean())
    torch.testing.assert_close(ours, generator + discriminator)
    for modules, loss in (
        ((model.encoder, model.decoder, model.last), generator),
        ((model.features, model.judge), discriminator),
    ):
        for got, expected in zip(gradients(ours, *modules), gradients(loss, *modules), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-12)


def test_score_and_eval_loss_are_the_error_of_the_reconstruction():
    model, x = model_and_batch()
    model.eval()
    error = (model.reconstruct(x) - x).square().mean(-1)
    torch.testing.assert_close(model(x).score, error)
    torch.testing.assert_close(model(x).loss, error.mean())


@pytest.mark.parametrize("window", [20, 21])
def test_a_step_is_embedded_by_what_its_reconstruction_reads(window):
    # output step t of the last layer and embedding t depend on the same positions of the maps
    model, _ = model_and_batch(window)
    length = window // 2
    last = model.last.weight.new_zeros(window, length)
    for position in range(length):
        maps = torch.zeros(1, 4, length).double()
        maps[..., position] = 1
        last[:, position] = model.last(maps)[0].abs().sum(0)
    embedding = torch.nn.functional.interpolate(
        torch.eye(length).double()[None], window, mode="linear"
    )[0].T
    if window % 2 == 0:
        assert torch.equal(last > 0, embedding > 0)
    else:
        assert ((last > 0).int() - (embedding > 0).int()).abs().sum() <= length
    assert (embedding.argmax(1) - torch.arange(window) / 2).abs().max() <= 1


@pytest.mark.parametrize(("window", "depth"), [(4, 1), (7, 1), (8, 2), (32, 4), (64, 5), (200, 5)])
def test_as_many_layers_as_the_window_allows(window, depth):
    model = BeatGAN(2, window=window, d=2, n_latent=3).eval()
    convolutions = [m for m in model.features if isinstance(m, torch.nn.Conv1d)]
    assert len(convolutions) == depth
    assert model(torch.zeros(1, window, 2)).score.shape == (1, window)


def test_batch_of_one_trains():
    model = BeatGAN(2, window=32, d=2)
    assert torch.isfinite(model.train()(torch.randn(1, 32, 2)).loss)


def test_bad_arguments():
    with pytest.raises(ValueError, match="window must have at least 4 steps, got 3"):
        BeatGAN(3, window=3)
    with pytest.raises(ValueError, match="n_layers and n_latent must be positive, got 0 and 50"):
        BeatGAN(3, window=8, n_layers=0)
    with pytest.raises(ValueError, match="expected windows of 8 steps, got 9"):
        BeatGAN(3, window=8, d=2)(torch.zeros(1, 9, 3))
