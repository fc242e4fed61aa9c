"""The classes of the page on other libraries, run inside them; skipped where one is not installed.

How to install them stands on the page.
"""

import re
import sys
import types
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from madcluster import MADCluster, synthetic
from madcluster.metrics import average_precision_score

PAGE = Path(__file__).parents[1] / "book" / "other_libraries.md"
QUICK = {"window": 20, "epochs": 1, "stride": 5, "options": {"d": 8}}


def of_page(label, needs):
    """A module of all that the code under a label of the page defines, or a skip."""
    if find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed; book/{PAGE.name} says how")
    section = PAGE.read_text().split(f"({label})=\n")[1].split("\n(other-")[0]
    module = types.ModuleType(label.replace("-", "_"))
    sys.modules[module.__name__] = module  # where pickle looks for a class
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(compile(block, f"{PAGE.name}, {label}", "exec"), vars(module))
    return module


def test_the_page_names_the_versions_that_are_installed():
    tried = dict(
        re.findall(r"^\| \[([\w-]+)\]\(.*?\) \| ([\d.]+) \|", PAGE.read_text(), re.MULTILINE)
    )
    assert set(tried) == {"PyOD", "TSB-AD", "aeon"}
    there = {}
    for name in tried:
        try:
            there[name] = version(name)
        except PackageNotFoundError:
            continue
    if not there:
        pytest.skip("none of the three is installed")
    assert there == {name: tried[name] for name in there}


# PyOD: what its tests ask of every detector


@pytest.fixture(scope="module")
def pyod():
    return of_page("other-pyod", "pyod")


@pytest.fixture(scope="module")
def data(pyod):
    """Train, test and their labels, from PyOD's own generator of series."""
    from pyod.utils.data import generate_ts_data

    options = {"n_channels": 3, "contamination": 0.05, "anomaly_type": "both"}
    return generate_ts_data(n_train=500, n_test=300, random_state=42, **options)


@pytest.fixture(scope="module")
def detector(pyod, data):
    return pyod.PyODSeries(MADCluster(**QUICK), contamination=0.1).fit(data[0])


def test_pyod_example(pyod):
    assert pyod.probability.shape == (1000,)
    assert 0 <= pyod.probability.min() < pyod.probability.max() <= 1
    assert pyod.detector.labels_.mean() == pytest.approx(0.05, abs=0.002)


def test_pyod_takes_it_for_a_detector(pyod, detector):
    from pyod.models.base import BaseDetector
    from pyod.utils.utility import check_detector

    check_detector(detector)
    assert isinstance(detector, BaseDetector)
    with pytest.raises(ValueError, match="contamination"):
        pyod.PyODSeries(MADCluster(), contamination=0.7)


def test_pyod_attributes(detector, data):
    assert len(detector.decision_scores_) == len(detector.labels_) == len(data[0])
    assert detector.labels_.mean() == pytest.approx(0.1, abs=0.002)
    assert np.isfinite([detector.threshold_, detector._mu, detector._sigma]).all()
    expected = detector.decision_scores_ > detector.threshold_
    np.testing.assert_array_equal(detector.labels_, expected)


def test_pyod_scores_and_labels(detector, data):
    scores = detector.decision_function(data[1])
    assert scores.shape == data[3].shape
    assert roc_auc_score(data[3], scores) >= 0.8
    np.testing.assert_array_equal(detector.predict(data[1]), scores > detector.threshold_)


@pytest.mark.parametrize("method", ["linear", "unify"])
def test_pyod_probabilities(detector, data, method):
    both = detector.predict_proba(data[1], method=method, return_confidence=True)
    assert [values.shape for values in both] == [(300, 2), (300,)]
    assert all(0 <= values.min() < values.max() <= 1 for values in both)
    with pytest.raises(ValueError, match="not a valid probability"):
        detector.predict_proba(data[1], method="something")


def test_pyod_confidence_and_rejection(detector, data):
    labels, confidence = detector.predict(data[1], return_confidence=True)
    assert set(labels) == {0, 1}
    assert 0 <= confidence.min() < confidence.max() <= 1
    rejected, rates = detector.predict_with_rejection(data[1], return_stats=True, c_r=0.1)
    assert set(rejected) <= {-2, 0, 1}
    assert all(0 <= rate <= 1 for rate in rates)


@pytest.mark.parametrize("normalized", [False, True])
def test_pyod_ranks(detector, data, normalized):
    scores = detector.decision_function(data[1])
    ranks = detector._predict_rank(data[1], normalized=normalized)
    below = scores < detector.decision_scores_.max()
    assert below.sum() > 200
    assert 0 <= ranks.min() < ranks.max() <= (1 if normalized else len(data[0]))
    assert (ranks[~below] == ranks.max()).all()
    places = abs(rankdata(ranks[below]) - rankdata(scores[below]))
    assert places.max() <= 3


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
def test_pyod_fit_predict(detector, data, capsys):
    again = clone(detector)
    np.testing.assert_array_equal(again.fit_predict(data[0]), detector.labels_)
    for scoring in ("roc_auc_score", "prc_n_score"):
        assert 0 <= again.fit_predict_score(data[1], data[3], scoring=scoring) <= 1
    with pytest.raises(NotImplementedError):
        again.fit_predict_score(data[1], data[3], scoring="something")


def test_pyod_parameters(detector):
    copy = clone(detector).set_params(contamination=0.2, detector__window=30)
    assert copy.get_params()["detector__window"] == copy.detector.window == 30
    assert not hasattr(copy, "detector_")
    assert "MADCluster" in repr(copy)


def test_pyod_other_input(pyod, detector, data):
    frame = pd.DataFrame(data[1], index=pd.date_range("2026-01-01", periods=300, freq="min"))
    np.testing.assert_array_equal(detector.predict(frame), detector.predict(data[1]))
    one = pyod.PyODSeries(MADCluster(**QUICK))
    with pytest.raises(ValueError, match=r"one channel x\[:, None\]"):
        one.fit(data[0][:, 0])
    assert len(one.fit(data[0][:, :1]).labels_) == 500
    with pytest.raises(ValueError, match="less than a window of 20"):
        one.fit(data[0][:10])


# TSB-AD: the steps of benchmark_exp/Run_Custom_Detector.py


@pytest.fixture(scope="module")
def tsb():
    return of_page("other-tsb-ad", "TSB_AD")


@pytest.fixture(scope="module", params=[1, 4], ids=["TSB-AD-U", "TSB-AD-M"])
def file(request, tmp_path_factory):
    """A series as TSB-AD stores it: channels, `Label`, and the rows to train on in the name."""
    series = synthetic(n_train=800, n_test=800, n_channels=4, seed=0)
    rows = np.concatenate([series.train, series.test])[:, : request.param]
    frame = pd.DataFrame(rows, columns=[f"Data{i}" for i in range(request.param)])
    frame["Label"] = np.concatenate([np.zeros(800, int), series.labels.astype(int)])
    path = tmp_path_factory.mktemp("tsb") / "001_Plant_id_1_Facility_tr_800_1st_850.csv"
    frame.to_csv(path, index=False)
    return path


def test_tsb_ad_protocol(tsb, file):
    from TSB_AD.evaluation.metrics import get_metrics
    from TSB_AD.utils.slidingWindows import find_length_rank

    frame = pd.read_csv(file).dropna()
    data = frame.iloc[:, :-1].to_numpy(dtype=float)
    label = frame["Label"].astype(int).to_numpy()
    length = find_length_rank(data, rank=1)
    train = data[: int(file.stem.split("_")[-3])]

    output = tsb.run_Custom_AD_Semisupervised(train, data, HP=QUICK)
    pred = output > output.mean() + 3 * output.std()
    found = get_metrics(output, label, slidingWindow=length, pred=pred)

    assert output.shape == label.shape
    assert (output.min(), output.max()) == pytest.approx((0, 1))
    assert np.isfinite(list(found.values())).all()
    assert found["AUC-ROC"] == pytest.approx(roc_auc_score(label, output), abs=1e-6)
    assert found["AUC-PR"] == pytest.approx(average_precision_score(label, output), abs=1e-6)
    assert found["AUC-PR"] > 1.2 * label.mean()


def test_tsb_ad_calls_it_by_name(tsb, file):
    from TSB_AD import model_wrapper

    data = pd.read_csv(file).iloc[:, :-1].to_numpy(dtype=float)
    assert "MADCluster" in model_wrapper.Semisupervise_AD_Pool
    output = model_wrapper.run_Semisupervise_AD("MADCluster", data[:800], data, HP=QUICK)
    expected = tsb.run_Custom_AD_Semisupervised(data[:800], data, HP=QUICK)
    np.testing.assert_array_equal(output, expected)


def test_tsb_ad_fits_and_scores_the_same_rows(tsb, file):
    data = pd.read_csv(file).iloc[:, :-1].to_numpy(dtype=float)
    found = tsb.Custom_AD(QUICK).fit(data)
    assert found.decision_scores_.shape == (1600,)
    np.testing.assert_array_equal(found.decision_function(data), found.decision_scores_)


# aeon


@pytest.fixture(scope="module")
def aeon():
    return of_page("other-aeon", "aeon")


def test_aeon_example(aeon):
    own = clone(aeon.detector.detector).fit(aeon.series.train)
    expected = own.decision_function(aeon.series.test)
    np.testing.assert_allclose(aeon.scores, expected, rtol=1e-5, atol=1e-6)


def test_aeon_either_axis_and_frames(aeon):
    series = synthetic(n_train=800, n_test=800, n_channels=3, seed=0)
    detector = aeon.AeonSeries(MADCluster(**QUICK)).fit(series.train.T)
    expected = detector.predict(series.test, axis=0)
    assert expected.shape == (800,)
    for rows, axis in ((series.test.T, 1), (pd.DataFrame(series.test), 0)):
        np.testing.assert_array_equal(detector.predict(rows, axis=axis), expected)
    with pytest.raises(ValueError, match="has 4 features"):
        detector.predict(np.zeros((100, 4)), axis=0)


def test_aeon_checks(aeon):
    from aeon.testing.estimator_checking import check_estimator

    found = check_estimator(aeon.AeonSeries)
    assert {name: result for name, result in found.items() if result != "PASSED"} == {}
    assert len(found) > 15
