"""The traps of evaluation, one test each: an error, a warning, or a value that must be known."""

import warnings

import numpy as np
import pytest
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
    vus_score,
)
from madcluster.service.alarms import find_alarms

RANKED = [
    best_f1_score,
    best_point_adjusted_f1_score,
    average_precision_score,
    roc_auc_score,
    range_auc_score,
    vus_score,
    evaluate,
]


def events(n=4000, length=20, count=10, seed=0):
    """Labels of `count` events of `length` steps, at base rate count · length / n."""
    labels = np.zeros(n, dtype=bool)
    for start in np.linspace(50, n - length - 50, count).astype(int):
        labels[start : start + length] = True
    return labels, np.random.default_rng(seed)


def test_flags_of_any_type_give_the_same_numbers():
    """`vus` wraps round on uint8 and raises on bool."""
    labels, _ = events()
    with pytest.warns(UserWarning, match="2 distinct values"):
        found = [
            vus_score(labels.astype(t), labels.astype(t)) for t in (bool, np.uint8, float, int)
        ]
    assert len(set(found)) == 1


def test_a_constant_score_has_a_value_far_from_the_base_rate():
    labels, _ = events()
    with pytest.warns(UserWarning, match="1 distinct value"):
        constant = range_auc_score(labels, np.zeros(len(labels)))
    assert labels.mean() == 0.05
    assert constant.pr > 0.5


def test_a_random_score_is_not_at_one_half_and_the_base_rate():
    labels, rng = events()
    found = np.mean([vus_score(labels, rng.random(len(labels))) for _ in range(20)], axis=0)
    assert found[0] > 0.55
    assert found[1] > 1.2 * labels.mean()


def test_a_score_equal_to_the_labels():
    labels, _ = events()
    with pytest.warns(UserWarning, match="2 distinct values"):
        hard = vus_score(labels, labels, max_window=0)
    with pytest.warns(UserWarning, match="2 distinct values"):
        perfect = range_auc_score(labels, labels)
    assert hard == pytest.approx((1, 1))
    assert 0.5 < perfect.roc < 0.95
    assert 0.5 < perfect.pr < 0.95


def test_thresholds_bound_vus_pr_and_it_grows_with_the_window():
    labels, rng = events()
    scores = labels + 0.01 * rng.random(len(labels))
    by_thresholds = [vus_score(labels, scores, n_thresholds=t).pr for t in (10, 50, 250)]
    assert by_thresholds == sorted(by_thresholds)
    assert by_thresholds[0] < 0.8
    assert by_thresholds[-1] > 0.9
    noisy = labels + rng.normal(0, 1, len(labels))
    by_window = [vus_score(labels, noisy, max_window=w).pr for w in (0, 50, 100, 400)]
    assert by_window == sorted(by_window)


@pytest.mark.parametrize("metric", RANKED)
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1, 0], [0.1, np.nan, 0.3], "y_score must be finite, row 1"),
        ([0, 1, 0], [0.1, 0.2, -np.inf], "y_score must be finite, row 2"),
        ([0, 1, 0], [0.1, 0.2], "y_true has 3 values, y_score 2"),
        ([0, 0, 0], [0.1, 0.2, 0.3], "both classes"),
        ([1, 1, 1], [0.1, 0.2, 0.3], "both classes"),
        ([[0, 1]], [[0.1, 0.2]], "must be 1-D"),
        ([], [], "empty"),
        ([0, 1, 3], [0.1, 0.2, 0.3], "row 2 is 3"),
        ([0, 1, 0], ["a", "b", "c"], "y_score must be numbers"),
    ],
)
def test_nonsense_is_refused_by_name(metric, labels, scores, message):
    with pytest.raises(ValueError, match=message):
        metric(labels, scores)


@pytest.mark.parametrize("metric", RANKED)
def test_a_prediction_in_place_of_a_score_warns(metric):
    with pytest.warns(UserWarning, match="looks like a prediction"):
        metric([0, 1, 0, 0], [0, 1, 1, 0])


@pytest.mark.parametrize("metric", RANKED)
def test_a_score_of_three_values_does_not_warn(metric):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric([0, 1, 0, 0], [0, 1, 2, 0])


def test_affiliation_takes_predictions_only():
    with pytest.raises(ValueError, match="y_pred must be 0 or 1"):
        affiliation_precision_recall([0, 1, 0], [0.2, 0.9, 0.4])
    with pytest.raises(ValueError, match="both classes"):
        affiliation_precision_recall([0, 0, 0], [0, 1, 0])
    nothing = affiliation_precision_recall([0, 1, 0], [0, 0, 0])
    assert np.isnan(nothing.precision)
    assert nothing.recall == 0


def test_the_floors_of_affiliation():
    labels, rng = events()
    ones = affiliation_precision_recall(labels, np.ones(len(labels)))
    assert ones.recall == 1
    assert 0.5 < ones.precision < 0.6
    flags = affiliation_precision_recall(labels, rng.random(len(labels)) < 0.01)
    assert 2 * flags.precision * flags.recall / (flags.precision + flags.recall) > 0.55


def test_point_adjustment_lifts_random_flags():
    labels, rng = events(length=100)
    flags = rng.random(len(labels)) < 0.05
    assert point_adjusted_f1_score(labels, flags) > 0.8
    assert point_adjusted_f1_score(labels, flags, k=0.5) < 0.2
    with pytest.raises(ValueError, match="k is a share"):
        point_adjusted_f1_score(labels, flags, k=50)


def test_the_best_threshold_on_test_labels_is_at_least_as_good_as_any():
    labels, rng = events()
    scores = labels + rng.normal(0, 1, len(labels))
    fixed = evaluate(labels, scores, threshold=float(np.quantile(scores, 0.95)))
    assert best_f1_score(labels, scores).f1 >= fixed["f1_score"]


@pytest.mark.parametrize("window", [0, 1, 2, 10, 1000])
@pytest.mark.parametrize(
    "labels", [[1, 0, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0, 1, 1, 0], [1, 1, 1, 0]]
)
def test_tiny_series_and_long_windows(labels, window):
    scores = np.arange(len(labels), dtype=float)
    assert np.isfinite(vus_score(labels, scores, max_window=window)).all()
    assert np.isfinite(range_auc_score(labels, scores, window=window)).all()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"max_window": -1}, "max_window"),
        ({"max_window": 1.5}, "max_window"),
        ({"max_window": True}, "max_window"),
        ({"n_thresholds": 1}, "n_thresholds"),
    ],
)
def test_bad_numbers_are_refused(arguments, name):
    with pytest.raises(ValueError, match=name):
        vus_score([0, 1, 0], [0.1, 0.3, 0.2], **arguments)


def test_bad_windows_are_refused():
    for metric in (range_auc_score, evaluate):
        with pytest.raises(ValueError, match="window must be an integer of at least 0, got -1"):
            metric([0, 1, 0], [0.1, 0.3, 0.2], window=-1)
    with pytest.raises(ValueError, match="n_thresholds must be an integer of at least 2"):
        range_auc_score([0, 1, 0], [0.1, 0.3, 0.2], n_thresholds=1)


def test_least_numbers_and_those_of_numpy_are_taken():
    labels, scores = [0, 1, 0], [0.1, 0.3, 0.2]
    assert vus_score(labels, scores, max_window=np.int64(0), n_thresholds=2) == (1, 1)
    assert range_auc_score(labels, scores, window=np.int64(0), n_thresholds=2) == (1, 1)


def test_complex_scores_and_a_threshold_of_nan_are_refused():
    with pytest.raises(ValueError, match="complex values have no order"):
        roc_auc_score([0, 1, 0], [1j, 2.0, 3.0])
    with pytest.raises(ValueError, match="threshold is NaN"):
        evaluate([0, 1, 0], [0.1, 0.3, 0.2], threshold=float("nan"))


def test_evaluate_by_hand():
    """Three of four steps are predicted, one of two events is among them."""
    labels, scores = [0, 1, 0, 1], [0.5, 0.9, 0.7, 0.1]
    found = evaluate(labels, scores, threshold=0.4)
    expected = {"precision": 1 / 3, "recall": 1 / 2, "f1_score": 2 / 5}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["aupr"] == average_precision_score(labels, scores)
    assert found["roc_auc"] == roc_auc_score(labels, scores)
    for name, pair in (("R_AUC", range_auc_score), ("VUS", vus_score)):
        assert (found[f"{name}_ROC"], found[f"{name}_PR"]) == pair(labels, scores)
    best = best_f1_score(labels, scores)
    oracle = evaluate(labels, scores)
    assert oracle["f1_score"] == best.f1
    assert (oracle["precision"], oracle["recall"]) == (best.precision, best.recall)
    predicted = [1, 1, 1, 0]
    pair = affiliation_precision_recall(labels, predicted)
    assert (found["Affiliation_Precision"], found["Affiliation_Recall"]) == pair
    nothing = evaluate(labels, scores, threshold=2.0)
    assert (nothing["precision"], nothing["recall"], nothing["f1_score"]) == (0, 0, 0)


def test_of_equally_good_thresholds_the_highest_is_taken():
    assert best_f1_score([1, 0, 0, 1], [4.0, 3, 2, 1]) == (2 / 3, 1.0, 0.5, 3.0)


def test_where_all_rows_are_predicted_the_threshold_is_below_all():
    best = best_f1_score([0, 1, 1, 1], [4.0, 3, 2, 1])
    assert (best.threshold, best.recall) == (-np.inf, 1.0)
    assert len(find_alarms([4.0, 3, 2, 1], best.threshold)) == 1


def test_the_oracle_itself_wraps_round_on_small_integers():
    """Why labels and scores are converted first: the trap is real."""
    labels, _ = events()
    grader = metricor()
    *_, good, _ = grader.RangeAUC_volume_opt(labels.astype(float), labels.astype(float), 10)
    *_, bad, _ = grader.RangeAUC_volume_opt(labels.astype(np.uint8), labels.astype(np.uint8), 10)
    assert abs(good - bad) > 0.1
