"""A choice by planted events: repeatable, without labels, and honest about what it rests on."""

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from madcluster.data import synthetic
from madcluster.data.planted import KINDS
from madcluster.detectors import (
    ConstantScore,
    LargestDeviation,
    MADCluster,
    Mahalanobis,
    NearestNeighbor,
    PCAError,
    RandomScore,
    choose,
    named,
)
from madcluster.detectors.choice import default_candidates

CHEAP = {"largest": LargestDeviation(smooth=20), "gaussian": Mahalanobis(smooth=20)}
ROWS = synthetic(n_train=1600, n_test=1000, seed=0).train


def test_the_better_one_is_taken_and_fitted_to_all_rows():
    found = choose(ROWS, CHEAP)
    assert found.name == "gaussian"
    assert len(found.detector.decision_scores_) == len(ROWS)
    assert found.detector.smooth == 20
    assert not hasattr(CHEAP["gaussian"], "n_features_in_")  # copies were fitted
    evidence = found.evidence
    assert evidence.index.tolist() == ["largest", "gaussian", "random"]
    np.testing.assert_allclose(evidence["mean"], evidence[list(KINDS)].mean(axis=1))
    np.testing.assert_allclose(
        evidence["behind"], evidence.loc["gaussian", "mean"] - evidence["mean"]
    )
    assert evidence.loc["gaussian", ["behind", "error"]].tolist() == [0, 0]
    assert evidence.loc["random", "mean"] < 0.5
    assert evidence["fault"].isna().all()


def test_the_same_seed_gives_the_same_evidence_and_another_does_not():
    first, second, other = (choose(ROWS, CHEAP, seed=seed).evidence for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"))
    assert not first["mean"].equals(other["mean"])


def test_of_equals_the_first_is_taken():
    twins = {"one": PCAError(smooth=20), "two": PCAError(smooth=20)}
    assert choose(ROWS, twins).name == "one"
    worse_first = {"none": ConstantScore(), **CHEAP}
    assert choose(ROWS, worse_first).name == "gaussian"


def test_names_of_columns_are_kept():
    frame = pd.DataFrame(ROWS, columns=[f"s{i}" for i in range(ROWS.shape[1])])
    assert choose(frame, CHEAP).detector.channels_ == tuple(frame.columns)


def test_one_that_cannot_be_fitted_is_named_and_left_out():
    found = choose(ROWS, {"long": NearestNeighbor(window=1500), **CHEAP})
    assert found.name == "gaussian"
    assert "window of 1500" in found.evidence.loc["long", "fault"]
    assert np.isnan(found.evidence.loc["long", "mean"])
    with pytest.raises(ValueError, match=r"no candidate can be fitted.*window of 1500"):
        choose(ROWS, {"long": NearestNeighbor(window=1500)})


def test_a_choice_that_sees_nothing_says_so():
    with pytest.warns(UserWarning, match="no better than a random score") as caught:
        choose(ROWS, {"chance": RandomScore(seed=5)})
    assert caught[0].filename == __file__


def test_only_the_last_rows_are_compared_on():
    changed = ROWS.copy()
    changed[:1000] += 100
    first, second = (choose(x, CHEAP, most_rows=600).evidence for x in (ROWS, changed))
    assert first["mean"].equals(second["mean"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"candidates": {}}, "candidates must be a mapping"),
        ({"candidates": {"a": "pca"}}, "candidates must be a mapping"),
        ({"candidates": [PCAError()]}, "candidates must be a mapping"),
        ({"candidates": PCAError()}, "candidates must be a mapping"),
        ({"candidates": [("a", PCAError())]}, "candidates must be a mapping"),
        ({"candidates": {"random": PCAError()}}, "must not have the name 'random'"),
        ({"candidates": {"a": PCAError(n_components=0)}}, "n_components"),
        ({"seed": -1}, "seed"),
        ({"kinds": ["spikes"]}, "kinds"),
        ({"most_rows": 10}, "most_rows"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_fitted(arguments, message):
    with pytest.raises(ValueError, match=message):
        choose(ROWS, **{"candidates": CHEAP, **arguments})


def test_the_kinds_can_be_given():
    found = choose(ROWS, CHEAP, kinds=["frozen", "spike"])
    assert found.evidence.columns[:3].tolist() == ["frozen", "spike", "mean"]


def test_a_detector_by_its_name():
    assert named("pca_error").smooth == 20
    assert named("mahalanobis", smooth="off", window=3).get_params()["smooth"] == "off"
    assert named("l2_norm").smooth == "off"  # no candidate
    network = named("usad", seed=4, epochs=1)
    assert (network.embedder, network.head, network.seed, network.epochs) == ("usad", True, 4, 1)
    assert named("isolation_forest", seed=3).seed == 3
    for wrong, arguments, words in (
        ("pca", {}, "detector must be one of random, .*deepant, .*drnn, got 'pca'"),
        ("pca_error", {"n": 1}, "pca_error has no argument 'n', but n_components"),
        ("pca_error", {"n_components": 0}, "n_components"),
    ):
        with pytest.raises(ValueError, match=words):
            named(wrong, **arguments)


def test_without_a_network_torch_is_not_needed():
    code = (
        "import sys; from madcluster.detectors import named; import numpy as np\n"
        "named('mahalanobis').fit(np.random.default_rng(0).normal(size=(300, 2)))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="199 rows, at least 200"):
        choose(ROWS[:199], CHEAP)


def test_the_default_candidates_end_with_the_network_and_smooth_alike():
    made = default_candidates(seed=3)
    assert list(made)[-1] == "madcluster"
    assert isinstance(made["madcluster"], MADCluster)
    assert made["madcluster"].seed == made["kmeans"].seed == 3
    assert {each.smooth for name, each in made.items() if name != "madcluster"} == {20}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = choose(ROWS, {name: made[name] for name in ("pca_error", "mahalanobis")})
    assert found.name in made
