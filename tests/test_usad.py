"""USAD against the two players' losses written out, in float64."""

import pytest
import torch

from madcluster.models import USAD


def model_and_batch(epoch=2):
    torch.manual_seed(0)
    model = USAD(3, window=10, d=4, width=16).double()
    model.prepare([], epoch)
    return model, torch.randn(5, 10, 3).double()


def players(model, x):
    """Losses of AE1 and AE2 (paper, algorithm 1), and the two reconstructions."""
    flat, n = x.flatten(1), model.epoch
    once = model.decoder(model.encoder(flat))
    other = model.critic(model.encoder(flat))
    twice = model.critic(model.encoder(once))
    first, second, game = ((y - flat).square().mean() for y in (once, other, twice))
    return first / n + (1 - 1 / n) * game, second / n - (1 - 1 / n) * game, once, twice


def gradients(value, parameters):
    return torch.autograd.grad(value, list(parameters), retain_graph=True)


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_every_part_gets_the_gradient_of_its_players(epoch):
    model, x = model_and_batch(epoch)
    ours = model(x).loss
    first, second, *_ = players(model, x)
    for part, loss in (
        (model.decoder, first),
        (model.critic, second),
        (model.encoder, first + second),
    ):
        for got, expected in zip(
            gradients(ours, part.parameters()), gradients(loss, part.parameters()), strict=True
        ):
            torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(ours, first + second)


def test_score_of_a_step():
    model, x = model_and_batch()
    model.eval()
    *_, once, twice = players(model, x)
    first, second = ((y.view(x.shape) - x).square().mean(-1) for y in (once, twice))
    torch.testing.assert_close(model(x).score, (first + second) / 2)
    assert torch.equal(model(x).score, model.train()(x).score)


def test_the_reconstruction_is_that_of_the_first_autoencoder():
    model, x = model_and_batch()
    *_, once, _ = players(model, x)
    torch.testing.assert_close(model.reconstruct(x), once.view(x.shape))


def test_validation_does_not_improve_by_the_count_of_epochs():
    model, x = model_and_batch()
    model.eval()
    before = model(x).loss
    model.prepare([], 9)
    assert torch.equal(model(x).loss, before)


def test_the_epoch_is_part_of_the_state():
    model, _ = model_and_batch(epoch=4)
    other, _ = model_and_batch(epoch=0)
    other.load_state_dict(model.state_dict())
    assert other.epoch == 5


def test_sizes_as_published_and_narrower():
    published, narrow = USAD(55, window=100, d=100), USAD(55, window=100, d=100, width=512)
    sizes = [layer.out_features for layer in published.encoder[0] if hasattr(layer, "out_features")]
    assert sizes == [2750, 1375, 10_000]
    assert sum(p.numel() for p in narrow.parameters()) < sum(
        p.numel() for p in published.parameters()
    )


def test_bounded_decoders_stay_in_the_unit_interval():
    model, x = model_and_batch()
    out = model.reconstruct(100 * x)
    assert out.min() >= 0
    assert out.max() <= 1
    free = USAD(3, window=10, d=4, width=16, bounded=False).double()
    assert free.reconstruct(100 * x).abs().max() > 1


def test_bad_arguments():
    with pytest.raises(ValueError, match="width must be positive, got 0"):
        USAD(3, window=10, width=0)
    with pytest.raises(ValueError, match="expected windows of 10 steps, got 9"):
        USAD(3, window=10)(torch.zeros(1, 9, 3))
