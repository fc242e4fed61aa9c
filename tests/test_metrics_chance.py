"""A score beside those that know nothing."""

import numpy as np
import pandas as pd
import pytest

from madcluster import synthetic
from madcluster.metrics import beside_chance, evaluate


@pytest.fixture(scope="module")
def labels():
    return synthetic(seed=0).labels


def test_the_score_is_that_of_evaluate_and_chance_that_of_random_scores(labels):
    score = np.random.default_rng(9).random(len(labels)) + labels
    table = beside_chance(labels, score, window=40, repeats=8, seed=3)
    assert table["score"].to_dict() == evaluate(labels, score, window=40)
    rng = np.random.default_rng(3)
    draws = pd.DataFrame(evaluate(labels, rng.random(len(labels)), window=40) for _ in range(8))
    pd.testing.assert_series_equal(table["chance"], draws.mean(), check_names=False)
    assert (table["low"] <= table["high"]).all()
    assert (table["score"] > table["high"])[["aupr", "roc_auc", "VUS_PR", "f1_score"]].all()


def test_known_levels(labels):
    table = beside_chance(labels, np.arange(len(labels), dtype=float))
    rate = labels.mean()
    assert table.loc["roc_auc", "chance"] == pytest.approx(0.5, abs=0.02)
    assert table.loc["aupr", "chance"] == pytest.approx(rate, abs=0.02)
    # flagging all is the best that a random score can do, but for luck
    assert table.loc["f1_score", "chance"] == pytest.approx(2 * rate / (1 + rate), abs=0.02)
    assert table.loc["VUS_PR", "chance"] > 1.3 * rate  # soft labels count more rows


def test_smooth_scores_scatter_more(labels):
    rough, smooth = (
        beside_chance(labels, np.arange(len(labels), dtype=float), smooth=each, seed=1)
        for each in ("off", 100)
    )
    width = (smooth["high"] - smooth["low"]) / (rough["high"] - rough["low"])
    assert width[["aupr", "roc_auc", "VUS_PR", "VUS_ROC"]].min() > 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats must be"),
        ({"smooth": 0}, "smooth must be"),
        ({"seed": -1}, "seed must be"),
        ({"window": -1}, "window"),
    ],
)
def test_wrong_arguments_are_named(labels, options, message):
    with pytest.raises(ValueError, match=message):
        beside_chance(labels, np.arange(len(labels), dtype=float), **options)
