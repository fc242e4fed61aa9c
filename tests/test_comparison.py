"""The primary tests against differences by hand, on tables in which the effects are known."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from madcluster.detectors import DETECTORS
from madcluster.models import EMBEDDERS
from madcluster.study.benchmark import AGGREGATES, OF_VIEWS, SMOOTHS, view_name
from madcluster.study.comparison import (
    SIMPLE,
    common,
    complete,
    differences,
    in_prose,
    listed,
    method_names,
    primary,
    scores,
)
from madcluster.study.statistics import compare

NETWORKS = ("deepsvdd", "usad")
VIEWS = list(product(AGGREGATES, SMOOTHS))


def level(embedder, head, variant):
    """What a method has without smoothing; the head adds .2 to one network and nothing to the other."""
    if embedder in NETWORKS:
        added = 0.2 * (embedder == "deepsvdd") + 0.1 * (variant == "default") if head else 0
        return 0.3 + added
    return {"mahalanobis": 0.45, "ensemble": 0.6}.get(embedder, 0.25)


def of_view(aggregate, smooth):
    return 0.05 * (smooth == 20) - 0.03 * (aggregate != "mean")


def table(n=14, noise=0.005, seed=0):
    rng = np.random.default_rng(seed)
    methods = [(name, head, "default") for name in NETWORKS for head in (False, True)]
    methods += [(name, True, "untrained") for name in NETWORKS]
    methods += [(name, False, "default") for name in ("l2_norm", "ensemble", *SIMPLE)]
    methods += [("mahalanobis", False, "window=1"), ("ensemble", False, "last")]
    rows = []
    for entity, (embedder, head, variant) in product(range(n), methods):
        for turn in range(2 if embedder in NETWORKS and entity < 4 else 1):
            about = {"dataset": "x", "entity": f"e{entity:02}", "seed": turn}
            about |= {"embedder": embedder, "head": head, "variant": variant}
            value = level(embedder, head, variant) + entity / 100
            views = VIEWS
            if embedder == "ensemble":
                views = [("last" if variant == "last" else "mean", smooth) for smooth in SMOOTHS]
            for aggregate, smooth in views:
                found = value + of_view(aggregate, smooth) + noise * rng.standard_normal()
                about |= {view_name(metric, aggregate, smooth): found for metric in OF_VIEWS}
            rows.append(about)
    return pd.DataFrame(rows)


def test_names_say_embedder_head_and_variant():
    names = set(method_names(table(n=1)))
    assert {"deepsvdd", "usad + head", "usad + head, untrained", "mahalanobis, window=1"} <= names
    assert not any("default" in name for name in names)


def test_another_head_has_its_name_also_where_a_file_made_text_of_it():
    heads = ["True", "False", "contrastive", True, False]
    runs = pd.DataFrame({"embedder": "usad", "head": heads, "variant": "default"})
    expected = ["usad + head", "usad", "usad + contrastive", "usad + head", "usad"]
    assert list(method_names(runs)) == expected
    assert in_prose("usad + contrastive, untrained") == "USAD with the contrastive head, untrained"
    both = "random features and contrast in one"
    assert in_prose("ensemble, random + contrast") == both


def test_differences_are_of_the_entities_that_have_both():
    wide = scores(table())
    pair = ("deepsvdd + head", "deepsvdd")
    wide.loc[("x", "e00"), "usad"] = np.nan
    found = differences(wide, {"a": pair, "b": ("usad", "kmeans"), "c": pair[::-1]})
    assert list(found.index) == ["a", "b", "c"]
    assert list(found["entities"]) == [14, 13, 14]
    assert found.loc["a", "mean"] == pytest.approx((wide[pair[0]] - wide[pair[1]]).mean())
    assert list(found["verdict"]) == ["more", "more", "less"]
    with pytest.raises(ValueError, match="no method \\['nobody'\\]"):
        differences(wide, {"a": ("nobody", "usad")})
    with pytest.raises(ValueError, match="a: no entity has both"):
        differences(wide.assign(empty=np.nan), {"a": ("empty", "usad")})


def test_scores_are_means_over_seeds_of_one_view():
    runs = table()
    wide = scores(runs, aggregate="last", smooth=80)
    mine = runs[(runs["embedder"] == "usad") & ~runs["head"] & (runs["entity"] == "e02")]
    assert len(mine) == 2
    expected = mine[view_name("VUS_PR", "last", 80)].mean()
    assert wide.loc[("x", "e02"), "usad"] == pytest.approx(expected)
    assert wide.shape == (14, runs.pipe(method_names).nunique() - 1)  # two fits of one ensemble


@pytest.mark.parametrize(("aggregate", "variant"), [("mean", "default"), ("last", "last")])
def test_an_ensemble_is_not_smoothed_twice(aggregate, variant):
    runs = table()
    mine = runs[(runs["embedder"] == "ensemble") & (runs["variant"] == variant)]
    expected = mine.set_index("entity")[view_name("VUS_PR", aggregate, "off")]
    found = scores(runs, aggregate=aggregate, smooth=20)["ensemble"].droplevel("dataset")
    pd.testing.assert_series_equal(found, expected, check_names=False)


def test_an_ensemble_that_was_not_fitted_for_a_view_is_missing():
    assert "ensemble" not in scores(table(), aggregate="window", smooth=20)


def test_primary_tests_are_those_of_the_protocol():
    found = primary(table())
    assert found.groupby("question", sort=False).size().to_dict() == {
        "head": 2,
        "training": 2,
        "cost": 5,
        "smoothing": 3,
        "looking ahead": 1,
        "several": 1,
    }
    assert (found["entities"] == 14).all()


def test_primary_finds_the_effects_that_are_there():
    found = primary(table())
    assert found.loc[("head", "deepsvdd"), "mean"] == pytest.approx(0.3, abs=0.01)
    assert found.loc[("head", "usad"), "mean"] == pytest.approx(0.1, abs=0.01)
    assert found.loc["training"]["mean"].to_numpy() == pytest.approx(0.1, abs=0.01)
    assert found.loc["smoothing"]["mean"].to_numpy() == pytest.approx(0.05, abs=0.01)
    assert found.loc["looking ahead"]["mean"].item() == pytest.approx(0.03, abs=0.01)
    assert found.loc["several"]["mean"].item() == pytest.approx(0.10, abs=0.01)
    assert (found["verdict"] == "more").all()


def test_one_holm_over_all_questions():
    found = primary(table(noise=0.3))
    order = np.sort(found["p"])
    smallest = order[0] * len(found)
    assert found["p_holm"].min() == pytest.approx(min(smallest, 1))
    assert (found["verdict"] == "open").sum() > len(found) / 2  # all but noise


def test_a_verdict_needs_interval_and_test():
    runs = table()
    columns = [view_name("VUS_PR", *view) for view in VIEWS]
    mine = (runs["embedder"] == "usad") & runs["head"] & (runs["variant"] == "default")
    runs.loc[mine, columns] -= 0.5
    found = primary(runs)
    assert found.loc[("head", "usad"), "verdict"] == "less"
    few = runs[runs["entity"] < "e04"]  # the smallest p that a signed-rank test of four has is 1/8
    assert (primary(few)["verdict"] == "open").all()


def test_a_failed_run_leaves_its_entity_out_of_its_differences_alone():
    runs = table()
    columns = [view_name("VUS_PR", *view) for view in VIEWS]
    runs.loc[(runs["embedder"] == "kmeans") & (runs["entity"] == "e05"), columns] = np.nan
    found = primary(runs)
    assert found.loc[("cost", "kmeans"), "entities"] == 13
    assert found.drop([("cost", "kmeans")])["entities"].eq(14).all()


def test_the_mean_and_the_interval_are_those_of_the_entities():
    runs = table(noise=0.1)
    wide = scores(runs)
    gap = (wide["deepsvdd + head"] - wide["kmeans"]).rename("difference").reset_index()
    alone = compare(gap.assign(question="cost", of="kmeans", seed=0), by=("question", "of"))
    columns = ["entities", "better", "worse", "mean", "lower", "upper", "p"]
    pd.testing.assert_frame_equal(primary(runs).loc[alone.index, columns], alone[columns])


def test_complete_keeps_entities_that_every_method_has_seen():
    runs = table()
    missing = (runs["embedder"] == "kmeans") & (runs["entity"] == "e05")
    left = complete(runs[~missing])
    assert set(runs["entity"]) - set(left["entity"]) == {"e05"}
    assert len(left) == (runs["entity"] != "e05").sum()
    failed = runs.assign(status=np.where(missing, "failed", "done"))
    assert len(complete(failed)) == len(runs)
    seeds = runs[~missing | (runs["seed"] > 0)]
    assert "e05" not in set(complete(seeds)["entity"])


def test_complete_of_several_data_sets_tells_their_entities_apart():
    both = pd.concat([table(), table().assign(dataset="y")])
    missing = (both["dataset"] == "y") & (both["entity"] == "e01") & (both["embedder"] == "usad")
    left = complete(both[~missing])
    assert "e01" in set(left[left["dataset"] == "x"]["entity"])
    assert "e01" not in set(left[left["dataset"] == "y"]["entity"])


def test_common_keeps_the_methods_that_have_seen_the_same_entities():
    wide = scores(table())
    wide.loc[("x", "e03"), ["usad", "deepsvdd + head"]] = np.nan
    wide.loc[("x", "e04"), "kmeans"] = np.nan
    wide["constant"] = 0.1
    left = common(wide)
    assert set(wide.index) - set(left.index) == {("x", "e03")}
    assert set(wide.columns) - set(left.columns) == {"kmeans", "constant"}
    assert left.notna().all(axis=None)
    with pytest.raises(ValueError, match="no method 'thoc'"):
        common(wide, "thoc")


def test_verdicts_are_listed_as_a_sentence_has_them():
    found = primary(table())
    assert listed(found, "head", "more") == "Deep SVDD and USAD"
    assert listed(found, "head", "less", none="no network") == "no network"
    with pytest.raises(ValueError, match="no question 'heads'"):
        listed(found, "heads", "more")
    with pytest.raises(ValueError, match="verdict must be"):
        listed(found, "head", "better")


def test_every_method_has_a_name_in_prose():
    for name in {*EMBEDDERS, *DETECTORS} - {"madcluster"}:
        assert in_prose(name) != name
        assert "_" not in in_prose(name)
        assert "_" not in in_prose(f"{name} + head")
    assert in_prose("usad + head, untrained") == "USAD with the head, untrained"
    assert in_prose("kmeans, min-max") == "k-means on min-max rows"


def test_what_is_missing_is_named():
    runs = table()
    with pytest.raises(ValueError, match="no run of 'kmeans'"):
        primary(runs[runs["embedder"] != "kmeans"])
    with pytest.raises(ValueError, match=r"no view .*VUS_PR@last,80"):
        scores(runs.drop(columns=view_name("VUS_PR", "last", 80)), aggregate="last", smooth=80)
