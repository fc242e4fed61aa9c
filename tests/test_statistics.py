"""Paired differences, intervals and ranks against scipy, statsmodels and hand-made tables."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon
from statsmodels.stats.multitest import multipletests

from madcluster.study.statistics import (
    by_data_set,
    compare,
    interval,
    mean_ranks,
    paired_differences,
)


def rows(effects, *, seeds=2, noise=0.01, seed=0):
    """A table in which the head adds effects[embedder] to every entity."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        [
            {
                "dataset": "x",
                "entity": f"e{entity}",
                "embedder": embedder,
                "head": head,
                "seed": s,
                "VUS_PR": 0.3 + entity / 50 + head * effect + noise * rng.standard_normal(),
            }
            for embedder, effect in effects.items()
            for entity in range(12)
            for s in range(seeds)
            for head in (False, True)
        ]
    )


def test_differences_are_paired_by_entity_and_seed():
    table = rows({"a": 0.1}, noise=0)
    found = paired_differences(table, "VUS_PR")
    assert len(found) == 24
    np.testing.assert_allclose(found["difference"], 0.1)


def test_a_pair_with_a_failed_half_is_left_out():
    table = rows({"a": 0.1})
    table.loc[3, "VUS_PR"] = np.nan
    assert len(paired_differences(table, "VUS_PR")) == 23
    assert len(paired_differences(table.drop(index=3), "VUS_PR")) == 23


def test_two_rows_for_one_place_are_refused():
    table = rows({"a": 0.1})
    with pytest.raises(ValueError, match="more than one row"):
        paired_differences(pd.concat([table, table]), "VUS_PR")


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="VUS_ROC"):
        paired_differences(rows({"a": 0.1}), "VUS_ROC")


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng, hits = np.random.default_rng(1), 0
    for _ in range(200):
        effects = 0.5 + rng.standard_normal(40)
        frame = pd.DataFrame({"entity": range(40), "seed": 0, "difference": effects})
        _, lower, upper = interval(frame, n=500)
        hits += lower <= 0.5 <= upper
    assert 180 <= hits <= 199


def test_the_interval_weighs_entities_alike_whatever_their_seeds():
    frame = pd.DataFrame(
        {
            "entity": ["a"] * 9 + ["b"],
            "seed": [*range(9), 0],
            "difference": [1.0] * 9 + [0.0],
        }
    )
    mean, lower, upper = interval(frame)
    assert (mean, lower, upper) == (0.5, 0.0, 1.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 8), st.integers(0, 1000))
def test_the_interval_lies_in_the_range_of_the_data(n_seeds, n_entities, seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "entity": np.repeat(np.arange(n_entities), n_seeds),
            "seed": np.tile(np.arange(n_seeds), n_entities),
            "difference": rng.standard_normal(n_entities * n_seeds),
        }
    )
    mean, lower, upper = interval(frame, n=200)
    assert frame["difference"].min() - 1e-12 <= lower <= upper <= frame["difference"].max() + 1e-12
    assert mean == pytest.approx(frame["difference"].mean())


def test_compare_is_wilcoxon_with_holm():
    differences = paired_differences(rows({"a": 0.1, "b": 0.0, "c": -0.02}), "VUS_PR")
    found = compare(differences)
    for embedder in "abc":
        of_entity = (
            differences[differences["embedder"] == embedder].groupby("entity")["difference"].mean()
        )
        assert found.loc[embedder, "p"] == pytest.approx(
            wilcoxon(of_entity, zero_method="zsplit").pvalue
        )
    np.testing.assert_allclose(found["p_holm"], multipletests(found["p"], method="holm")[1])
    assert found.loc["a", "lower"] > 0 > found.loc["c", "upper"]
    assert found.loc["a", "better"] == 12


def test_no_difference_at_all_has_p_of_one():
    found = compare(paired_differences(rows({"a": 0.0}, noise=0), "VUS_PR"))
    assert found.loc["a", "p_holm"] == 1


def test_a_triangle_by_data_set_is_an_interval_without_zero():
    names = [("A", "gru"), ("B", "gru"), ("A", "usad")]
    compared = pd.DataFrame(
        {"mean": [0.1, -0.2, 0.05], "lower": [0.05, -0.3, 0.0], "upper": [0.2, -0.1, 0.1]},
        index=pd.MultiIndex.from_tuples(names, names=["dataset", "embedder"]),
    )
    table = by_data_set(compared)
    assert table.loc["gru"].to_dict() == {"A": "+0.100 ▲", "B": "-0.200 ▼"}
    assert table.loc["usad", "A"] == "+0.050"
    assert pd.isna(table.loc["usad", "B"])
    with pytest.raises(ValueError, match="by 'dataset' and one name more, got \\['embedder'\\]"):
        by_data_set(compared.droplevel("dataset"))


def test_mean_ranks_are_scipys_and_demsars_critical_difference():
    scores = pd.DataFrame(np.random.default_rng(0).random((14, 4)), columns=list("abcd"))
    found = mean_ranks(scores)
    expected = rankdata(-scores.to_numpy(), axis=1).mean(0)
    np.testing.assert_allclose(found.mean[list("abcd")], expected)
    # Demšar 2006, table 5a: q = 2.569 for four methods
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)


def test_ranks_of_one_method_are_refused():
    with pytest.raises(ValueError, match="two methods"):
        mean_ranks(pd.DataFrame({"a": [1.0, 2.0]}))
