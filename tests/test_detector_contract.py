"""All detectors keep what one promises, and the check finds what does not."""

import numpy as np
import pytest
import torch
from small import SMALL
from torch import nn

from madcluster import MADCluster
from madcluster.detectors import (
    DETECTORS,
    ContractError,
    Detector,
    Ensemble,
    LinearAutoregression,
    NearestNeighbor,
    PCAError,
    RandomScore,
    check_detector,
)
from madcluster.models import EMBEDDERS

PLAIN = [name for name in DETECTORS if name != "madcluster"]
FEW = {
    "isolation_forest": {"n_trees": 5},
    "kmeans": {"window": 8, "n_clusters": 4},
    "random_features": {"d": 12, "n_layers": 2, "n_draws": 2},
    "ensemble": {  # with what makes streams wait differently: windows, forecasts, means of rows
        "detectors": [PCAError(smooth=4), LinearAutoregression(window=5), NearestNeighbor(window=8)]
    },
}


@pytest.mark.parametrize("name", PLAIN)
def test_without_a_network(name):
    check_detector(DETECTORS[name](**FEW.get(name, {})))


@pytest.mark.parametrize("head", [True, False], ids=["head", "alone"])
@pytest.mark.parametrize("name", EMBEDDERS)
def test_with_a_network(name, head):
    check_detector(network(name, head=head))


def network(name, **arguments):
    return MADCluster(
        name, window=20, stride=10, epochs=1, batch_size=32, options=SMALL[name], **arguments
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"k": 2},
        {"objective": "soft-boundary"},
        {"score_from": "mahalanobis"},
        {"scaler": "standard", "clip": 2.0},
        {"head": "contrastive"},
        {"head": "innovation"},
        {"head": "flow"},
    ],
    ids=str,
)
def test_with_another_head(arguments):
    check_detector(network("deepsvdd", **arguments))


def test_an_ensemble_with_networks():
    networks = [network("deepsvdd"), network("usad", head=False), network("deepant", smooth=3)]
    check_detector(Ensemble([*networks, PCAError()], smooth=2))


class Recurrent(nn.Module):
    """A network of one's own, for any number of channels."""

    def __init__(self, double=False):
        super().__init__()
        self.layer = nn.LSTM(1, 6, batch_first=True)
        if double:
            self.double()

    def forward(self, x):
        return self.layer(x.mean(-1, keepdim=True))[0]


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
def test_with_a_network_of_ones_own(double):
    torch.manual_seed(0)
    check_detector(MADCluster(Recurrent(double), window=20, stride=10, epochs=1, batch_size=32))


def test_one_channel_is_enough():
    check_detector(PCAError(), n_channels=1)


class Broken(PCAError):
    """One promise at a time."""


class Careless(Broken):
    def window_scores(self, z, starts):
        return np.full((len(starts), 1), np.nan)


class Forgetful(Broken):
    def _state(self):
        return {**super()._state(), "mean": self.mean_ + 1}


class Restless(Broken):
    def _fit(self, z):
        super()._fit(z)
        self.mean_ = self.mean_ + np.random.default_rng().random()


class Global(Broken):
    """Scores by what the whole series is like, which a stream cannot know."""

    def window_scores(self, z, starts):
        return super().window_scores(z, starts) / (1e-9 + abs(z).max())


class Narrow(Broken):
    def _fit(self, z):
        if z.shape[1] > 3:
            raise ValueError("three channels at most")
        super()._fit(z)


class Cast(Broken):
    def checked(self, X, where="X", *, missing=False):
        rounded = np.asarray(X, np.float32).astype(np.float64)
        return super().checked(rounded, where, missing=missing)


@pytest.mark.parametrize(
    ("detector", "promise"),
    [
        (Careless, "finite"),
        (Forgetful, "a file must keep the scores"),
        (Restless, "must repeat the fit"),
        (Global, "a stream must give the scores of a batch"),
        (Cast, "offset"),
    ],
)
def test_a_broken_promise_is_named(detector, promise):
    with pytest.raises(ContractError, match=promise):
        check_detector(detector())


def test_many_channels_are_tried():
    with pytest.raises(ValueError, match="three channels at most"):
        check_detector(Narrow())


def test_the_names_are_there():
    assert DETECTORS["random"] is RandomScore
    assert DETECTORS["madcluster"] is MADCluster
    assert len(DETECTORS) == len(list(DETECTORS))
    assert all(issubclass(each, Detector) for each in DETECTORS.values())
    with pytest.raises(KeyError):
        DETECTORS["deep"]


def test_a_file_of_any_detector_is_read_by_the_base(tmp_path):
    x = np.random.default_rng(0).normal(size=(200, 3))
    PCAError(n_components=2).fit(x).save(tmp_path / "file")
    again = Detector.load(tmp_path / "file")
    assert type(again) is PCAError
    assert again.n_components == 2
    with pytest.raises(ValueError, match="file holds a PCAError, not a MADCluster"):
        MADCluster.load(tmp_path / "file")
