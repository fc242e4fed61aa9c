"""Metrics against `vus` 0.0.6, scikit-learn and their definitions written out, on generated cases."""

import numpy as np
import oracles
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from vus.affiliation.generics import convert_vector_to_events
from vus.affiliation.metrics import pr_from_events
from vus.utils.metrics import metricor

from madcluster.metrics import (
    affiliation_precision_recall,
    average_precision_score,
    best_f1_score,
    best_point_adjusted_f1_score,
    evaluate,
    point_adjusted_f1_score,
    range_auc_score,
    roc_auc_score,
    soft_labels,
    vus_score,
)

GRADER = metricor()
RELEASE = [
    *("precision", "recall", "f1_score", "aupr", "roc_auc"),
    *("R_AUC_ROC", "R_AUC_PR", "VUS_ROC", "VUS_PR"),
    *("Affiliation_Precision", "Affiliation_Recall"),
]


@st.composite
def runs(draw, n, most=6):
    """Flags (n,) made of runs, which may touch, overlap and reach either end."""
    flags = np.zeros(n, dtype=int)
    for _ in range(draw(st.integers(1, most))):
        start = draw(st.integers(0, n - 1))
        flags[start : start + draw(st.integers(1, 12))] = 1
    return flags


@st.composite
def cases(draw):
    n = draw(st.integers(3, 90))
    labels = draw(runs(n))
    assume(not labels.all())
    levels = draw(st.sampled_from([3, 5, 1000]))  # few levels: many ties
    scores = np.array(draw(st.lists(st.integers(0, levels), min_size=n, max_size=n)), float)
    assume(len(np.unique(scores)) > 2)
    return labels, scores


@settings(max_examples=120)
@given(cases(), st.integers(0, 30))
def test_vus_equals_vus(case, window):
    labels, scores = case
    assume(window // 2 < len(labels))
    *_, roc, pr = GRADER.RangeAUC_volume_opt(labels.astype(float), scores, window)
    assert vus_score(labels, scores, max_window=window) == pytest.approx((roc, pr), abs=1e-9)


@settings(max_examples=120)
@given(cases(), st.integers(0, 200))
def test_range_auc_equals_vus(case, window):
    labels, scores = case
    found = GRADER.RangeAUC(labels.astype(float), scores, window=window, plot_ROC=True)
    expected = (found[0], found[1])
    assert range_auc_score(labels, scores, window=window) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=200)
@given(st.data(), st.integers(2, 90))
def test_affiliation_equals_vus(data, n):
    labels, predicted = data.draw(runs(n)), data.draw(runs(n, most=9))
    assume(not labels.all())
    events = [convert_vector_to_events(flags) for flags in (predicted, labels)]
    found = pr_from_events(*events, (0, n))
    expected = (found["Affiliation_Precision"], found["Affiliation_Recall"])
    assert affiliation_precision_recall(labels, predicted) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60)
@given(cases(), st.integers(0, 12), st.integers(2, 40))
def test_vus_is_its_definition(case, window, n_thresholds):
    labels, scores = case
    got = vus_score(labels, scores, max_window=window, n_thresholds=n_thresholds)
    assert got == pytest.approx(oracles.vus(labels, scores, window, n_thresholds), abs=1e-9)


TWO_EVENTS = np.array([1, 0, 0, 0, 1]), np.array([5.0, 4, 3, 2, 1])  # the second is found late


@settings(max_examples=100)
@example(TWO_EVENTS, 0, 5)
@given(cases(), st.integers(0, 12) | st.integers(0, 300), st.integers(2, 40))
def test_range_auc_is_its_definition(case, window, n_thresholds):
    labels, scores = case
    got = range_auc_score(labels, scores, window=window, n_thresholds=n_thresholds)
    expected = oracles.range_auc(labels, scores, window, n_thresholds)
    assert got == pytest.approx(expected, abs=1e-9)


@given(cases(), st.integers(0, 40))
def test_soft_labels_are_their_definition(case, window):
    labels, _ = case
    expected = oracles.soft_label(labels, window)
    np.testing.assert_allclose(soft_labels(labels.astype(bool), window), expected)


@settings(max_examples=100)
@given(st.data(), st.integers(2, 50))
def test_affiliation_is_its_definition(data, n):
    labels, predicted = data.draw(runs(n)), data.draw(runs(n, most=9))
    assume(not labels.all())
    expected = oracles.affiliation(labels, predicted)
    assert affiliation_precision_recall(labels, predicted) == pytest.approx(expected, abs=1e-9)


@given(st.data(), st.integers(2, 60), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_point_adjustment_is_its_definition(data, n, k):
    labels, predicted = data.draw(runs(n)), data.draw(runs(n))
    assume(not labels.all())
    expected = oracles.point_adjusted_f1(labels, predicted, k)
    assert point_adjusted_f1_score(labels, predicted, k=k) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:.*distinct value")
@given(st.data(), st.integers(2, 60), st.integers(1, 8))
def test_the_best_adjusted_f1_is_that_of_the_best_threshold(data, n, most):
    labels = data.draw(runs(n))
    assume(not labels.all())
    scores = np.array(data.draw(st.lists(st.integers(0, most), min_size=n, max_size=n)), float)
    levels = [-np.inf, *np.unique(scores)[:-1]]
    of_level = {level: oracles.point_adjusted_f1(labels, scores > level) for level in levels}
    best = best_point_adjusted_f1_score(labels, scores)
    assert best.f1 == pytest.approx(max(of_level.values()))
    # an event below its maximum is no threshold of its own, so the one that is given may lie between
    assert oracles.point_adjusted_f1(labels, scores > best.threshold) == pytest.approx(best.f1)


def test_windows_by_parts_and_all_at_once_are_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    labels, scores = np.repeat(rng.random(150) < 0.2, 4), rng.normal(size=600)
    *_, roc, pr = GRADER.RangeAUC_volume_opt(labels.astype(float), scores, 160)
    assert vus_score(labels, scores, max_window=160) == pytest.approx((roc, pr), abs=1e-9)
    monkeypatch.setattr("madcluster.metrics.ranges.CACHED", 1)
    assert vus_score(labels, scores, max_window=160) == pytest.approx((roc, pr), abs=1e-9)


def test_runs_by_parts_and_all_at_once_are_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    labels, predicted = rng.random((2, 300)) < 0.2
    expected = oracles.affiliation(labels, predicted)
    monkeypatch.setattr("madcluster.metrics.affiliation.CACHED", 7)
    assert affiliation_precision_recall(labels, predicted) == pytest.approx(expected, abs=1e-9)


@given(cases(), st.integers(0, 30))
def test_evaluate_is_every_metric_by_itself(case, window):
    labels, scores = case
    found = evaluate(labels, scores, window=window)
    best = best_f1_score(labels, scores)
    at_best = affiliation_precision_recall(labels, scores > best.threshold)
    ranges = range_auc_score(labels, scores, window=window)
    volumes = vus_score(labels, scores, max_window=window)
    pointwise = average_precision_score(labels, scores), roc_auc_score(labels, scores)
    alone = [best.precision, best.recall, best.f1, *pointwise, *ranges, *volumes, *at_best]
    assert [*found.values()] == pytest.approx(alone)


def test_evaluate_has_the_eleven_keys_of_the_release():
    rng = np.random.default_rng(0)
    labels, scores = rng.random(500) < 0.1, rng.random(500)
    found = evaluate(labels, scores)
    assert list(found) == RELEASE
    assert all(isinstance(value, float) for value in found.values())
    fixed = evaluate(labels, scores, threshold=0.5)
    assert fixed["recall"] == np.mean(scores[labels] >= 0.5)
    assert fixed["VUS_PR"] == found["VUS_PR"]


def test_a_prediction_in_place_of_a_score_warns():
    with pytest.warns(UserWarning, match="distinct value"):
        vus_score([0, 1, 0, 0], [0, 1, 0, 1], max_window=2)
