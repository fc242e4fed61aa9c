"""Trained or untrained, decided by planted events that the training knew nothing of."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from madcluster import MADCluster, synthetic
from madcluster.data.planted import KINDS, planted
from madcluster.detectors import Detector
from madcluster.detectors.choice import EVENTS
from madcluster.detectors.trained import LIKE, trained_or_not
from madcluster.heads import CORRUPTIONS
from madcluster.metrics import vus_score

pytestmark = pytest.mark.filterwarnings("ignore::madcluster.diagnostics.CollapseWarning")
QUICK = {"window": 20, "stride": 10, "epochs": 1, "options": {"d": 6}}


@pytest.fixture(scope="module")
def rows():
    return synthetic(n_train=800, n_test=400, n_channels=3, per_kind=1, seed=0).train


class Blind(nn.Module):
    """Sees next to nothing before it is trained: noise drowns the rows."""

    def __init__(self):
        super().__init__()
        self.open = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        rough = torch.sin(1e6 * x.sum(-1, keepdim=True) + torch.arange(3))
        return rough + (1e3 * self.open) * x


class Fragile(nn.Module):
    """Sees the rows until a weight moves."""

    def __init__(self):
        super().__init__()
        self.moved = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return torch.where(self.moved == 0, x, 0 * x) + self.moved * torch.ones_like(x).cumsum(1)


@pytest.mark.parametrize(("embedder", "trained"), [(Blind, True), (Fragile, False)])
def test_it_takes_what_finds_more(rows, embedder, trained, tmp_path):
    detector = MADCluster(embedder(), head="contrastive", train="auto", lr=0.1, window=20, epochs=1)
    detector.fit(rows)
    found = detector.trained_evidence_
    assert detector.trained_ is found.trained is trained
    assert (found.gain > found.error) is trained
    by_hand = detector.set_params(train=trained)
    expected = MADCluster(**by_hand.get_params()).fit(rows).decision_function(rows)
    detector.set_params(train="auto")
    np.testing.assert_array_equal(detector.decision_function(rows), expected)
    detector.save(tmp_path / "file")
    again = MADCluster.load(tmp_path / "file", embedder=embedder())
    assert (again.trained_, again.as_fitted.trained_) == (trained, trained)
    assert again.trained_evidence_ is None
    again.save(tmp_path / "again")
    assert MADCluster.load(tmp_path / "again", embedder=embedder()).trained_ is trained


def test_the_evidence_is_of_trainings_without_the_like(rows):
    detector = MADCluster(head="contrastive", **QUICK)
    found = trained_or_not(detector, rows, seed=3)
    assert found.evidence.index.tolist() == list(KINDS)
    assert set(LIKE.values()) == set(CORRUPTIONS)
    assert found.evidence["without"].to_dict() == {kind: LIKE.get(kind) for kind in KINDS}
    cut = 600
    for kind in ("spike", "offset"):
        kinds = [each for each in CORRUPTIONS if each != LIKE.get(kind)]
        for column, arguments in (
            ("trained", {"head_options": {"kinds": kinds}}),
            ("untrained", {"train": False}),
        ):
            fitted = MADCluster(head="contrastive", **QUICK, **arguments).fit(rows[:cut])
            scores = []
            for i in range(3):
                rng = np.random.default_rng([3, i])
                x, labels = planted(rows[cut:], rng, kinds=[kind], **EVENTS)
                scores.append(vus_score(labels, fitted.decision_function(x)).pr)
            assert found.evidence.loc[kind, column] == pytest.approx(np.mean(scores))
    means = found.evidence[["trained", "untrained"]].astype(float).mean()
    assert found.gain == pytest.approx(means["trained"] - means["untrained"])
    assert not hasattr(detector, "model_")


def test_a_kind_that_nothing_could_be_said_of_is_left_out(rows):
    few = {"head_options": {"kinds": ["shift"]}}
    found = trained_or_not(MADCluster(head="contrastive", **QUICK, **few), rows)
    assert found.evidence.index.tolist() == [kind for kind in KINDS if kind != "offset"]
    assert found.evidence["without"].isna().all()


def test_a_head_that_is_shown_no_corruption_is_trained_once(rows, monkeypatch):
    fits = []
    plain = MADCluster._fit
    monkeypatch.setattr(
        MADCluster, "_fit", lambda self, z: (fits.append(self.train), plain(self, z))
    )
    detector = MADCluster(head="madcluster", train="auto", **QUICK).fit(rows)
    assert fits == [False, True, "auto"]
    assert detector.trained_evidence_.evidence["without"].isna().all()


@pytest.mark.parametrize("head", ["contrastive", "innovation", "flow", True])
def test_an_untrained_network_is_that_which_was_drawn(rows, head, tmp_path):
    few = {**QUICK, "head": head}
    still = MADCluster(train=False, **few).fit(rows)
    slow = MADCluster(lr=1e-12, weight_decay=0.0, **few).fit(rows)
    assert still.trained_ is False
    assert slow.trained_ is True
    assert still.trained_evidence_ is None
    expected = slow.decision_function(rows)
    np.testing.assert_allclose(still.decision_function(rows), expected, rtol=1e-3, atol=1e-6)
    still.save(tmp_path / "file")
    assert Detector.load(tmp_path / "file").trained_ is False


@pytest.mark.parametrize("train", ["yes", 1, None])
def test_another_word_is_refused(train):
    with pytest.raises(ValueError, match="train must be True or False"):
        MADCluster(train=train).check()


def test_too_few_rows_are_refused_before_any_fit(rows):
    detector = MADCluster(head="contrastive", train="auto", **QUICK)
    with pytest.raises(
        ValueError, match="X has 150 rows, at least 200 are needed for train='auto'"
    ):
        detector.fit(rows[:150])
    assert not hasattr(detector, "trained_")
    with warnings.catch_warnings(), pytest.raises(ValueError, match="seed must be"):
        trained_or_not(detector, rows, seed=-1)
