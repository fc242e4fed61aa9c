"""scikit-learn's checks of an estimator, as far as they make sense for a series."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from madcluster import MADCluster, synthetic
from madcluster.detectors import (
    IsolationForest,
    KMeansAD,
    L2Norm,
    LargestDeviation,
    LinearAutoregression,
    Mahalanobis,
    MovingVariance,
    NearestNeighbor,
    PCAError,
    SquaredDifference,
)

WINDOWS = "a row's score depends on the rows around it: order and neighbors are the point"
WORDS = "refused with a ValueError as all bad input, in our words"
EXPECTED = {
    "check_dtype_object": WORDS,
    "check_estimators_empty_data_messages": WORDS,
    "check_fit2d_1sample": WORDS,
}
OF_SERIES = {
    "check_methods_sample_order_invariance": WINDOWS,
    "check_methods_subset_invariance": WINDOWS,
}


@pytest.mark.parametrize(
    ("detector", "expected"),
    [
        (
            MADCluster(window=5, epochs=1, batch_size=64, options={"d": 4}),
            OF_SERIES,
        ),
        (L2Norm(), {}),
        (LargestDeviation(), {}),
        (PCAError(), {}),
        (IsolationForest(n_trees=5), {}),
        (SquaredDifference(), OF_SERIES),
        (MovingVariance(window=3), OF_SERIES),
        (Mahalanobis(window=3), OF_SERIES),
        (LinearAutoregression(window=3), OF_SERIES),
        (NearestNeighbor(window=3), OF_SERIES),
        (KMeansAD(window=3, n_clusters=3), OF_SERIES),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_checks_of_scikit_learn(detector, expected):
    results = check_estimator(detector, on_fail=None, on_skip=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    unexpected = {name: error for name, error in failed.items() if name not in EXPECTED | expected}
    assert unexpected == {}
    assert set(expected) <= set(failed), "no longer fails: take it off the list"


def test_the_page_names_the_checks_that_fail():
    page = Path(__file__).parents[1] / "book" / "other_libraries.md"
    section = page.read_text().split("## scikit-learn")[1].split("## ")[0]
    assert set(re.findall(r"`(check_\w+_\w+)`", section)) == {*EXPECTED, *OF_SERIES}


def test_the_habits_of_pyod():
    series = synthetic(n_train=800, n_test=900, n_channels=4, seed=0)
    detector = MADCluster(epochs=1, stride=20, contamination=0.05).fit(series.train)
    assert detector.decision_scores_.shape == detector.labels_.shape == (800,)
    np.testing.assert_array_equal(detector.labels_, detector.decision_scores_ > detector.threshold_)
    flagged = detector.calibration_scores_ > detector.threshold_
    assert flagged.mean() == pytest.approx(0.05, abs=0.01)
    np.testing.assert_array_equal(
        detector.predict(series.test), detector.decision_function(series.test) > detector.threshold_
    )


def test_parameters_can_be_read_set_and_cloned():
    detector = MADCluster(window=50).set_params(epochs=2, options={"d": 8})
    assert clone(detector).get_params() == detector.get_params()
    with pytest.raises(ValueError, match="Invalid parameter 'epoch'"):
        detector.set_params(epoch=3)


def test_a_search_over_settings_and_a_pipeline_run():
    series = synthetic(n_train=400, n_test=400, n_channels=3, per_kind=1, seed=0)

    def usual(detector, x, y=None):
        return -float(np.mean(detector.decision_function(x)))

    for detector, grid in (
        (PCAError(), {"n_components": [1, 2]}),
        (MADCluster(window=20, stride=10, epochs=1), {"score_from": ["head", "distance"]}),
    ):
        search = GridSearchCV(detector, grid, scoring=usual, cv=2, error_score="raise")
        assert np.isfinite(search.fit(series.train).cv_results_["mean_test_score"]).all()
        steps = Pipeline([("scale", StandardScaler()), ("detect", clone(detector))])
        assert steps.fit(series.train).decision_function(series.test).shape == (400,)
