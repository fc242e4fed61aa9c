"""Image detectors in files: what is read scores as what was saved, and damage is named."""

import json

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from madcluster.images import (
    NETWORKS,
    CenterDistance,
    FeatureMaps,
    ImageMADCluster,
    PaDiM,
    PatchCore,
    textures,
)
from madcluster.images.detectors import FeatureDetector, ImageDetector
from madcluster.models.base import Embedding
from madcluster.service import checkpoints
from madcluster.service.checkpoints import CheckpointError

KIND, FORMAT = ImageDetector._file
SHORT = {"epochs": 1, "batch_size": 4, "device": "cpu"}
SCORES = ("head", "distance", "cluster", "mahalanobis", "embedder", "product")


def convolution():
    return nn.Sequential(
        nn.Conv2d(1, 6, 8, 8, bias=False), nn.LeakyReLU(0.1), nn.Conv2d(6, 6, 1, bias=False)
    )


class Own(FeatureMaps):
    """With a loss and a score of its own."""

    def forward(self, x):
        h = super().forward(x).h
        return Embedding(h, h.square().mean(), h.square().sum(-1))


FAMILY = {
    "center": lambda: CenterDistance(device="cpu"),
    "padim": lambda: PaDiM(n_features=20, device="cpu"),
    "padim, shared": lambda: PaDiM(shared=True, features="random", seed=3, device="cpu"),
    "patchcore": lambda: PatchCore(coreset=0.2, validation=0.3, device="cpu"),
    **{
        f"{name}, alone": lambda name=name: ImageMADCluster(name, head=False, **SHORT)
        for name in NETWORKS
    },
    **{
        f"{name}, {score}": lambda name=name, score=score: ImageMADCluster(
            name, score=score, **SHORT
        )
        for name in NETWORKS
        for score in SCORES
    },
    "k = 2": lambda: ImageMADCluster("pyramidflow", k=2, seed=5, **SHORT),
}
OWN = {
    "module": (lambda: ImageMADCluster(convolution(), **SHORT), "network"),
    "module, k = 3": (lambda: ImageMADCluster(convolution(), k=3, **SHORT), "network"),
    "module, alone": (
        lambda: ImageMADCluster(Own(convolution(), 6, 8), head=False, **SHORT),
        "network",
    ),
    "features": (lambda: PatchCore(features=convolution(), device="cpu"), "features"),
    "features without weights": (
        lambda: PaDiM(features=nn.AvgPool2d(8), device="cpu"),
        "features",
    ),
}


@pytest.fixture(scope="module")
def gravel():
    return textures("gravel", n_train=6, n_good=2, per_kind=1, kinds=["spot"], size=32, seed=1)


def check_same(fitted, read, images):
    np.testing.assert_array_equal(read.maps(images), fitted.maps(images))
    np.testing.assert_array_equal(read.decision_function(images), fitted.decision_function(images))
    np.testing.assert_array_equal(read.predict(images), fitted.predict(images))
    np.testing.assert_array_equal(read.calibration_scores_, fitted.calibration_scores_)
    assert (read.threshold_, read.shape_) == (fitted.threshold_, fitted.shape_)


@pytest.mark.parametrize("name", FAMILY)
def test_what_is_read_scores_bit_for_bit_as_what_was_saved(gravel, tmp_path, name):
    fitted = FAMILY[name]().fit(gravel.train)
    path = tmp_path / "detector"
    fitted.save(path)
    for by in (type(fitted), ImageDetector):
        read = by.load(path, device="cpu")
        assert type(read) is type(fitted)
        assert read.get_params() == fitted.get_params()
        check_same(fitted, read, gravel.test)
    first = path.read_bytes()
    read.save(path)
    assert path.read_bytes() == first
    refit = read.fit(gravel.train)
    np.testing.assert_array_equal(refit.maps(gravel.test), fitted.maps(gravel.test))


@pytest.mark.parametrize("name", OWN)
def test_a_module_of_ones_own_is_given_again(gravel, tmp_path, name):
    torch.manual_seed(0)
    make, argument = OWN[name]
    fitted = make().fit(gravel.train)
    path = tmp_path / "detector"
    fitted.save(path)
    with pytest.raises(CheckpointError, match=f"needs a module of your own as {argument}"):
        ImageDetector.load(path)
    other = make()  # with other weights, where it has any
    module = getattr(other, argument)
    before = [p.clone() for p in module.parameters()]
    read = type(fitted).load(path, device="cpu", **{argument: module})
    check_same(fitted, read, gravel.test)
    assert all(torch.equal(p, q) for p, q in zip(before, module.parameters(), strict=True))
    with pytest.raises(CheckpointError):
        type(fitted).load(path, device="cpu", **{argument: nn.Conv2d(1, 5, 4, 4)})


def test_a_module_is_not_taken_where_none_was_given(gravel, tmp_path):
    PatchCore(device="cpu").fit(gravel.train).save(tmp_path / "detector")
    with pytest.raises(CheckpointError, match="does not take a module of your own as features"):
        PatchCore.load(tmp_path / "detector", features=convolution())


def test_a_class_reads_only_its_own(gravel, tmp_path):
    path = tmp_path / "detector"
    CenterDistance(device="cpu").fit(gravel.train).save(path)
    assert isinstance(FeatureDetector.load(path), CenterDistance)
    with pytest.raises(CheckpointError, match="holds a CenterDistance, not a PaDiM"):
        PaDiM.load(path)
    rewrite(path, lambda about, _: about.update(detector="Nobody"))
    with pytest.raises(CheckpointError, match="none of the detectors here"):
        ImageDetector.load(path)


def test_nothing_is_saved_before_a_fit(tmp_path):
    with pytest.raises(NotFittedError):
        PatchCore().save(tmp_path / "detector")
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="there is no file"):
        ImageDetector.load(tmp_path / "detector")


def test_parameters_go_into_the_file_as_they_were_fitted(gravel, tmp_path):
    fitted = ImageMADCluster("pyramidflow", **SHORT).fit(gravel.train)
    before = fitted.maps(gravel.test)
    fitted.set_params(network="rd4ad", k=4, head=False, device="cuda:7")
    np.testing.assert_array_equal(fitted.maps(gravel.test), before)
    fitted.save(tmp_path / "detector")
    read = ImageMADCluster.load(tmp_path / "detector", device="cpu")
    assert (read.network, read.k, read.head) == ("pyramidflow", 1, True)
    np.testing.assert_array_equal(read.maps(gravel.test), before)


def test_an_infinity_of_ones_own_module_stays(gravel, tmp_path):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = convolution()
            self.register_buffer("mask", torch.full((2,), -torch.inf))

        def forward(self, x):
            return self.inner(x)

    path = tmp_path / "detector"
    fitted = ImageMADCluster(Masked(), **SHORT).fit(gravel.train)
    fitted.save(path)
    check_same(fitted, ImageMADCluster.load(path, network=Masked(), device="cpu"), gravel.test)
    with torch.no_grad():
        fitted.model_.head.centers.fill_(torch.inf)
    with pytest.raises(ValueError, match=r"head\.centers is infinite"):
        fitted.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def rewrite(path, change):
    about, arrays = checkpoints.read(path, KIND, version=FORMAT)
    about = {name: value for name, value in about.items() if name not in ("format", "versions")}
    change(about, arrays)
    checkpoints.write(path, KIND, about, arrays, version=FORMAT, infinite="state.")


def digits(content):
    """The header's first shape with another number in it."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    name = next(name for name in header if name != "__metadata__")
    header[name]["shape"] = [3, *header[name]["shape"]]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


DAMAGED = {
    "empty": lambda p: p.write_bytes(b""),
    "half": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "text": lambda p: p.write_text("no detector, but long enough to hold a header"),
    "another shape in the header": lambda p: p.write_bytes(digits(p.read_bytes())),
    "another kind": lambda p: checkpoints.write(p, "madcluster.detector", {}, {}, version=4),
    "another format": lambda p: checkpoints.write(p, KIND, {}, {}, version=FORMAT + 1),
    "no parameters": lambda p: rewrite(p, lambda about, _: about.pop("params")),
    "an unknown parameter": lambda p: rewrite(p, lambda about, _: about["params"].update(x=1)),
    "a wrong parameter": lambda p: rewrite(
        p, lambda about, _: about["params"].update(validation=2)
    ),
    "no threshold": lambda p: rewrite(p, lambda about, _: about.pop("threshold")),
    "a threshold of text": lambda p: rewrite(p, lambda about, _: about.update(threshold="1")),
    "no shape": lambda p: rewrite(p, lambda about, _: about.pop("shape")),
    "a shape of two": lambda p: rewrite(p, lambda about, _: about.update(shape=[32, 32])),
    "other channels": lambda p: rewrite(p, lambda about, _: about.update(shape=[2, 32, 32])),
    "sides that do not fit": lambda p: rewrite(p, lambda about, _: about.update(shape=[1, 33, 32])),
    "far too large a side": lambda p: rewrite(
        p, lambda about, _: about.update(shape=[1, 2**30, 2**30])
    ),
    "no scores": lambda p: rewrite(p, lambda _, arrays: arrays.pop("calibration_scores")),
    "scores of integers": lambda p: rewrite(
        p, lambda _, arrays: arrays.update(calibration_scores=np.arange(3))
    ),
    "an array is missing": lambda p: rewrite(p, lambda _, arrays: arrays.pop(learned(arrays)[-1])),
    "an array is infinite": lambda p: rewrite(p, infinite),
    "an array has another shape": lambda p: rewrite(p, longer),
}


def learned(arrays):
    return [
        n for n, a in arrays.items() if n.startswith("state.") and a.ndim and a.dtype.kind == "f"
    ]


def infinite(_, arrays):
    name = learned(arrays)[-1]
    arrays[name] = np.full_like(arrays[name], np.inf)


def longer(_, arrays):
    name = learned(arrays)[-1]
    arrays[name] = np.stack([arrays[name]] * 2)


@pytest.fixture(scope="module", params=["center", "padim", "patchcore", "pyramidflow, head"])
def saved(request, gravel, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "detector"
    FAMILY[request.param]().fit(gravel.train).save(path)
    return path.read_bytes()


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_refused_with_its_name(saved, tmp_path, damage):
    path = tmp_path / "detector"
    path.write_bytes(saved)
    DAMAGED[damage](path)
    with pytest.raises(CheckpointError, match=str(path)):
        ImageDetector.load(path, device="cpu")


@pytest.mark.parametrize("side", [1, 10**9])
def test_more_clusters_than_there_are_centers_ask_for_no_memory(gravel, tmp_path, side):
    path = tmp_path / "detector"
    ImageMADCluster(convolution(), k=2, **SHORT).fit(gravel.train).save(path)
    rewrite(path, lambda about, _: about["params"].update(k=side))
    with pytest.raises(CheckpointError, match=f"it has 2 centers, not {side}"):
        ImageMADCluster.load(path, network=convolution())


def test_gaussians_of_positions_are_not_taken_for_one(gravel, tmp_path):
    path = tmp_path / "detector"
    PaDiM(n_features=4, device="cpu").fit(gravel.train).save(path)

    def cut(_, arrays):
        for name in ("state.means", "state.whitening"):
            arrays[name] = arrays[name][:1]

    rewrite(path, cut)
    with pytest.raises(CheckpointError, match="1 Gaussians for 16 positions"):
        PaDiM.load(path)
