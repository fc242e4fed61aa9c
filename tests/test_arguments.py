"""Wrong arguments are named, NumPy's numbers are numbers."""

import math
import warnings

import numpy as np
import pytest

from madcluster import MADCluster, diagnostics, evaluate, synthetic
from madcluster.arguments import (
    check_flag,
    check_line,
    check_number,
    check_one_of,
    check_scores,
    check_seed,
    check_whole,
    plain,
)
from madcluster.data import OutlierWarning, Scaler
from madcluster.detectors import PCAError
from madcluster.diagnostics import CollapseWarning


def test_a_line_is_text_that_can_be_seen():
    assert [check_line("note", text) for text in ("", "Änderung 2 → 3")] == ["", "Änderung 2 → 3"]
    for value in ("two\nlines", "\x1b[2J", None, 3, b"bytes"):
        with pytest.raises(ValueError, match="note must be one line of text, got"):
            check_line("note", value)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers(value):
    found = check_whole("n", value)
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize("value", [0, -1, 2.0, True, None, "3", math.nan])
def test_what_is_no_whole_number(value):
    with pytest.raises(ValueError, match="n must be a positive integer, got"):
        check_whole("n", value)


def test_the_least_is_named():
    assert check_whole("n", 0, 0) == 0
    with pytest.raises(ValueError, match="n must be an integer of at least 0"):
        check_whole("n", -1, 0)
    with pytest.raises(ValueError, match="n must be at least 2, got 1"):
        check_whole("n", 1, 2)


@pytest.mark.parametrize("value", [2**32, 2**64, 10**30, -1, 0.0, None])
def test_a_seed_is_one_that_all_generators_take(value):
    assert check_seed(np.uint32(2**32 - 1)) == 2**32 - 1
    with pytest.raises(ValueError, match="seed must be"):
        check_seed(value)


def test_what_no_size_can_be_is_refused():
    with pytest.raises(
        ValueError, match="n must be at most 2147483647, got 1000000000000000000000"
    ):
        check_whole("n", 10**30)


def test_plain_values_are_those_of_python_in_containers_of_their_own():
    inner = {"d": np.int64(8), "sizes": np.array([2, 5]), "shares": (np.float64(0.5), None)}
    found = plain([inner])
    assert found == [{"d": 8, "sizes": [2, 5], "shares": (0.5, None)}]
    assert type(found[0]["d"]) is type(found[0]["sizes"][0]) is int
    assert found[0] is not inner


@pytest.mark.parametrize("value", [0.5, 0, 1, np.float32(0.25), np.int64(1)])
def test_numbers(value):
    found = check_number("x", value, 0, 1, ends="[]")
    assert (found, type(found)) == (float(value), float)


@pytest.mark.parametrize(
    ("value", "low", "high", "ends", "message"),
    [
        (0, 0, 1, "()", r"x must lie in \(0, 1\), got 0"),
        (1, 0, 1, "[)", r"x must lie in \[0, 1\), got 1"),
        (math.nan, 0, 1, "[]", r"x must lie in \[0, 1\], got nan"),
        (0, 0, math.inf, "()", "x must be positive, got 0"),
        (-1, 0, math.inf, "[)", "x must not be negative, got -1"),
        (math.inf, 0, math.inf, "()", "x must be positive, got inf"),
        (2, 3, math.inf, "()", "x must be above 3, got 2"),
        (True, 0, 2, "()", "got True"),
        (None, 0, 2, "()", "got None"),
        ("1", 0, 2, "()", "got '1'"),
    ],
)
def test_what_is_no_number_there(value, low, high, ends, message):
    with pytest.raises(ValueError, match=message):
        check_number("x", value, low, high, ends=ends)


def test_names_and_flags():
    check_one_of("way", "a", ("a", "b"))
    for value in ("c", None, 1, ["a"]):
        with pytest.raises(ValueError, match="way must be one of"):
            check_one_of("way", value, ("a", "b"))
    assert check_flag("f", np.bool_(True)) is True
    for value in ("no", 0, 1, None):
        with pytest.raises(ValueError, match="f must be True or False"):
            check_flag("f", value)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"head": "no"}, "head"),
        ({"k": 2.5}, "k"),
        ({"window": None}, "window"),
        ({"epochs": True}, "epochs"),
        ({"lr": "fast"}, "lr"),
        ({"lr": np.inf}, "lr"),
        ({"smooth": 0}, "smooth"),
        ({"seed": -1}, "seed"),
        ({"contamination": None}, "contamination"),
        ({"score_from": None}, "score_from"),
        ({"outer_log": 1}, "outer_log"),
        ({"device": 0}, "device"),
    ],
    ids=str,
)
def test_a_detector_names_what_is_wrong(arguments, name):
    with pytest.raises(ValueError, match=rf"^{name} must"):
        MADCluster(**arguments).check()


def test_numbers_of_numpy_are_trained_with_and_saved(tmp_path):
    x = np.random.default_rng(0).normal(size=(300, 2))
    detector = MADCluster(
        window=np.int64(20),
        stride=np.int32(10),
        epochs=np.int64(1),
        lr=np.float32(1e-3),
        head=np.bool_(True),
        k=np.int64(1),
        seed=np.int64(3),
        smooth=np.int64(2),
        options={"d": np.int64(4)},
    ).fit(x)
    detector.save(tmp_path / "file")
    again = MADCluster.load(tmp_path / "file")
    np.testing.assert_array_equal(again.decision_function(x), detector.decision_function(x))


def test_scores_are_finite_and_of_one_dimension():
    found = check_scores("scores", [1, 2])
    assert (found.tolist(), found.dtype) == ([1.0, 2.0], np.dtype(np.float64))
    with pytest.raises(ValueError, match=r"scores holds inf in row 1"):
        check_scores("scores", [0.0, np.inf, np.nan])
    for wrong in ([], [[1.0]], 1.0):
        with pytest.raises(ValueError, match=r"must be .n,. and not empty, got shape"):
            check_scores("scores", wrong)
    assert len(check_scores("scores", [], least=0)) == 0
    assert np.isnan(check_scores("scores", [np.nan, 1.0], finite=False)[0])


PLANT = synthetic(n_train=600, n_test=500, n_channels=4, kinds=["spike"], per_kind=1, seed=0)
NEVER = {"alarms_per_day": 1e6, "rows_per_day": 10}


def glitch():
    x = np.ones((300, 2))
    x[7, 1] = 1e30
    return x


@pytest.mark.parametrize(
    ("category", "call"),
    [
        (OutlierWarning, lambda: PCAError().fit(glitch())),
        (OutlierWarning, lambda: Scaler().fit(glitch())),
        (UserWarning, lambda: evaluate([0, 1, 0, 1], [0, 1, 0, 0])),
        (UserWarning, lambda: PCAError().fit(np.eye(99)).calibrate("budget", **NEVER)),
        (UserWarning, lambda: MADCluster(epochs=1, window=9).fit(np.eye(12))),
        (CollapseWarning, lambda: MADCluster(epochs=1).fit(PLANT.train)),
    ],
)
def test_a_warning_names_the_line_that_called_the_package(category, call, monkeypatch):
    monkeypatch.setattr(diagnostics, "LEAST_RATIO", np.inf)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", category)
        call()
    found = [each for each in caught if each.category is category]
    assert found
    assert {each.filename for each in found} == {__file__}
