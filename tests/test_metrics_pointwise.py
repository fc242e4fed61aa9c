"""Point-wise metrics against a threshold sweep written out, and what they refuse."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as sk

from madcluster.metrics import (
    average_precision_score,
    best_f1_score,
    best_point_adjusted_f1_score,
    roc_auc_score,
)
from madcluster.service.alarms import find_alarms

cases = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40)


def both_classes(case):
    labels, scores = (np.array(v) for v in zip(*case, strict=True))
    assume(labels.any() and not labels.all() and len(np.unique(scores)) > 2)
    return labels, scores.astype(float)


@given(cases)
def test_best_f1_is_the_best_of_all_thresholds(case):
    labels, scores = both_classes(case)
    sweep = {t: sk.f1_score(labels, scores >= t) for t in np.unique(scores)}
    best = best_f1_score(labels, scores)
    assert best.f1 == pytest.approx(max(sweep.values()))
    predicted = scores > best.threshold
    rows = np.zeros(len(scores), dtype=bool)
    for alarm in find_alarms(scores, best.threshold):  # the same rows, by the same comparison
        rows[alarm.start : alarm.stop] = True
    np.testing.assert_array_equal(rows, predicted)
    assert best.f1 == pytest.approx(sk.f1_score(labels, predicted))
    assert best.precision == pytest.approx(sk.precision_score(labels, predicted))
    assert best.recall == pytest.approx(sk.recall_score(labels, predicted))


@given(cases)
def test_areas_do_not_depend_on_the_scale_of_the_score(case):
    labels, scores = both_classes(case)
    for metric in (average_precision_score, roc_auc_score):
        assert metric(labels, scores) == pytest.approx(metric(labels, np.exp(scores)))


@given(cases)
def test_roc_auc_is_the_share_of_pairs_in_order(case):
    labels, scores = both_classes(case)
    gaps = scores[labels][:, None] - scores[~labels][None]
    expected = np.mean((gaps > 0) + 0.5 * (gaps == 0))
    assert roc_auc_score(labels, scores) == pytest.approx(expected)


@given(cases)
def test_areas_are_those_of_scikit_learn(case):
    labels, scores = both_classes(case)
    assert roc_auc_score(labels, scores) == pytest.approx(sk.roc_auc_score(labels, scores))
    expected = sk.average_precision_score(labels, scores)
    assert average_precision_score(labels, scores) == pytest.approx(expected)


def test_a_random_score_is_at_the_base_rate():
    rng = np.random.default_rng(0)
    labels = rng.random(20_000) < 0.1
    assert average_precision_score(labels, rng.random(20_000)) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    "metric",
    [
        best_f1_score,
        best_point_adjusted_f1_score,
        average_precision_score,
        roc_auc_score,
    ],
)
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.1, np.nan], "y_score must be finite, row 1"),
        ([0, 1], [np.inf, 0.1], "y_score must be finite, row 0"),
        ([0, 1, 1], [0.1, 0.2], "y_true has 3 values, y_score 2"),
        ([0, 0], [0.1, 0.2], "both classes"),
        ([1, 1], [0.1, 0.2], "both classes"),
        ([0, 2], [0.1, 0.2], "row 1 is 2"),
        ([[0, 1]], [[0.1, 0.2]], "must be 1-D"),
        ([], [], "empty"),
    ],
)
def test_nonsense_is_refused(metric, labels, scores, message):
    with pytest.raises(ValueError, match=message):
        metric(labels, scores)
