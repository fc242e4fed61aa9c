"""Three networks for images: what all promise, and the equations of each."""

import numpy as np
import pytest
import torch
from torch import nn

from madcluster.heads import Head, WithHead
from madcluster.images import (
    NETWORKS,
    RD4AD,
    ImageMADCluster,
    PlantedRealNet,
    PyramidFlow,
    evaluate,
    textures,
)
from madcluster.images.embedders import grid_of
from madcluster.images.pyramidflow import Coupling, laplacian_pyramid
from madcluster.training import Config, fit

FROZEN = ("teacher.", "features.")
# what does not make h: the student after the bottleneck, and the last layer of the judge
BESIDE = {"rd4ad": ("to_",), "planted_realnet": ("verdict.",), "pyramidflow": ()}
X = torch.rand(4, 1, 32, 48, generator=torch.Generator().manual_seed(0))


def made(name, *, head=False, seed=0):
    torch.manual_seed(seed)
    base = NETWORKS[name](1)
    return WithHead(base, Head(base.d)) if head else base


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_and_values(name, head):
    model = made(name, head=head)
    model.prepare([X], 0)
    out = model(X)
    h, w = grid_of(model, X)
    assert out.h.shape == (4, h * w, model.d)
    assert out.score.shape == (4, h * w)
    assert out.loss.shape == ()
    for value in (out.h, out.loss, out.score, *out.parts.values()):
        assert torch.isfinite(value).all()
    out.loss.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_is_scored_as_if_it_were_alone(name):
    model = made(name, head=True)
    model.prepare([X], 0)
    model.eval()
    with torch.no_grad():
        together, again = model(X), model(X)
        assert torch.equal(together.score, again.score)
        alone = torch.cat([model(x[None]).score for x in X])
        torch.testing.assert_close(together.score, alone, rtol=1e-3, atol=1e-4)
        other = made(name, head=True, seed=1).eval()
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(X).score, together.score)
    assert together.score.std() > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_of_the_head_reaches_all_that_makes_h(name):
    model = made(name, head=True)
    model.prepare([X], 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(2):  # the last layer of a coupling begins at zero
        optimizer.zero_grad()
        model.head.objective_of(model.head(model.embedder(X).h)).backward()
        optimizer.step()
    silent = {
        key
        for key, p in model.embedder.named_parameters()
        if (p.grad is None or not p.grad.any()) and not key.startswith(FROZEN)
    }
    assert all(key.startswith(BESIDE[name]) for key in silent)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_lowers_the_loss_and_leaves_what_is_frozen(name):
    model = made(name)
    frozen = {k: p.clone() for k, p in model.state_dict().items() if k.startswith(FROZEN)}
    x = np.random.default_rng(0).random((12, 1, 32, 32), dtype=np.float32)
    history = fit(model, x, Config(epochs=4, batch_size=4, device="cpu")).frame()
    assert history["train"].iloc[-1] < history["train"].iloc[0]
    after = model.state_dict()
    assert all(torch.equal(after[k], p) for k, p in frozen.items())


@pytest.mark.parametrize("name", NETWORKS)
def test_sides_that_do_not_fit_are_refused_before_the_training(name):
    with pytest.raises(ValueError, match="must be multiples of"):
        ImageMADCluster(name, device="cpu").fit(np.zeros((4, 1, 36, 42), np.float32))


def test_one_position_has_no_variance_to_train_on():
    x = np.random.default_rng(0).random((6, 1, 16, 16), np.float32)
    with pytest.raises(ValueError, match="two positions of 16 x 16 pixels or more in a batch"):
        ImageMADCluster("rd4ad", batch_size=1, epochs=1, device="cpu").fit(x)
    assert ImageMADCluster("rd4ad", batch_size=2, epochs=1, device="cpu").fit(x[1:]).threshold_ > 0


# --- PyramidFlow


def test_a_pyramid_is_put_together_again():
    levels = laplacian_pyramid(X, 4)
    assert [tuple(level.shape[2:]) for level in levels] == [(32, 48), (16, 24), (8, 12), (4, 6)]
    x = levels[-1]
    for level in reversed(levels[:-1]):
        x = level + x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(x, X)
    # the mean of four pixels is what is left
    torch.testing.assert_close(levels[-1], nn.functional.avg_pool2d(X, 8))


def stirred(module, seed=0):
    """With weights away from zero, where a coupling only rotates."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return module.double()


def test_images_come_back_from_the_latent_pyramid():
    model = stirred(PyramidFlow(1, width=8))
    x = X.double()
    model.prepare([x], 0)
    latent = model.latent(x)
    assert (latent[0] - model.pyramid(x)[0]).abs().max() > 0.1
    # the rotations are orthogonal to the digits of float32
    torch.testing.assert_close(model.image(latent), x, rtol=1e-4, atol=1e-4)


def test_a_coupling_keeps_volumes():
    coupling = stirred(Coupling(2, 4))
    generator = torch.Generator().manual_seed(1)
    shapes = [(2, 4, 4), (2, 2, 2), (2, 1, 1)]
    flat = torch.randn(42, generator=generator, dtype=torch.float64)

    def of_flat(v):
        parts = v.split([32, 8, 2])
        levels = [p.reshape(1, *shape) for p, shape in zip(parts, shapes, strict=True)]
        return torch.cat([level.flatten() for level in coupling(levels)])

    jacobian = torch.autograd.functional.jacobian(of_flat, flat)
    assert (jacobian - torch.eye(42)).abs().max() > 0.1
    assert torch.linalg.slogdet(jacobian).logabsdet.item() == pytest.approx(0, abs=1e-6)


def test_the_score_is_the_square_of_the_latent_pyramid():
    model = PyramidFlow(1)
    model.prepare([X], 0)
    out = model(X)
    fine, middle, coarse = model.latent(X)
    at = (0, slice(None), 5, 7)  # row 5, column 7 of the stride of 4
    expected = fine[0, :, 10:12, 14:16].square().sum() + middle[at].square().sum()
    expected = expected + coarse[0, :, 2, 3].square().sum()
    torch.testing.assert_close(out.score[0, 5 * 12 + 7], expected)
    torch.testing.assert_close(out.loss, out.score.mean())
    levels = zip(model.pyramid(X), model.spread, strict=True)
    assert [float((z / s).square().mean()) for z, s in levels] == pytest.approx([1, 1, 1], abs=1e-4)


# --- RD4AD


def test_the_loss_compares_directions_of_teacher_and_student():
    torch.manual_seed(0)
    model = RD4AD(d=8).eval()
    levels = model.teacher.levels(X)
    h, student = model.rebuilt(levels)
    assert h.shape == (4, 8, 2, 3)
    out = model(X)
    expected, fine = 0, None
    for t, s in zip(levels, student, strict=True):
        cosine = (t * s).sum(1) / (t.norm(dim=1) * s.norm(dim=1))
        expected = expected + (1 - cosine).mean()
        fine = 1 - cosine if fine is None else fine
    torch.testing.assert_close(out.loss, expected, rtol=1e-4, atol=1e-5)
    assert out.h.shape == (4, 4 * 6, 8)
    # a student that rebuilds all has no loss and no score
    model.rebuilt = lambda maps: (h, [2 * m for m in maps])
    perfect = model(X)
    assert perfect.loss.item() == pytest.approx(0, abs=1e-5)
    assert perfect.score.abs().max() < 1e-4


# --- PlantedRealNet


def test_defects_are_planted_in_training_alone():
    torch.manual_seed(0)
    model = PlantedRealNet(kinds=["spot"])
    model.prepare([X], 0)
    planted = []
    before = model.spoiled
    model.spoiled = lambda x: planted.append(before(x)) or planted[-1]
    model.train()
    assert set(model(X).parts) == {"rebuilding", "judging"}
    ((new, mask),) = planted
    assert mask.shape == (4, 1, 32, 48)
    assert mask.flatten(1).sum(1).min() > 0
    torch.testing.assert_close(new[mask.expand_as(new) == 0], X[mask.expand_as(X) == 0])
    assert (new != X).any((1, 2, 3)).all()
    model.eval()
    assert not model(X).parts
    assert len(planted) == 1


def test_what_is_planted_repeats_with_the_seed():
    model = PlantedRealNet()
    torch.manual_seed(3)
    first = model.spoiled(X)
    torch.manual_seed(3)
    again = model.spoiled(X)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], model.spoiled(X)[0])


def test_h_is_of_the_good_image_and_features_are_scaled():
    torch.manual_seed(0)
    model = PlantedRealNet()
    model.prepare([X[:2], X[2:]], 0)
    maps = model.scaled(X)
    torch.testing.assert_close(maps.mean((0, 2, 3)), torch.zeros(64), rtol=0, atol=1e-4)
    assert (maps.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-3
    torch.testing.assert_close(model.train()(X).h, model.eval()(X).h)


@pytest.mark.parametrize("kinds", ["spot", [], ["hole"], None, {"spot", "scratch"}])
def test_kinds_that_cannot_be_planted_are_refused(kinds):
    with pytest.raises(ValueError, match="kinds must be"):
        PlantedRealNet(kinds=kinds)


@pytest.mark.parametrize("name", ["pyramidflow", "rd4ad"])
def test_plain_spots_on_brick_are_found(name):
    found = textures(
        "brick", n_train=12, n_good=6, per_kind=3, kinds=["spot"], size=64, difficulty=0
    )
    detector = ImageMADCluster(name, epochs=5, batch_size=4, score="embedder", device="cpu")
    maps = detector.fit(found.train).maps(found.test)
    of_pixels = evaluate(found.labels, maps.max((1, 2)), found.masks, maps)
    assert of_pixels["pixel_auroc"] > 0.8
