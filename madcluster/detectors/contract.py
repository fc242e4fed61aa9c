"""What services and studies rely on in a detector, as one check to run on your own."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from madcluster.contract import ContractError, require
from madcluster.detectors.base import Detector

__all__ = ["check_detector"]

CUTS = (1, 40, 3, 200)  # rows that a stream gets at a time, in turn


def _same(a: Any, b: Any, promise: str, *, rtol: float = 1e-4) -> None:
    """Equal up to the rounding of float32 sums in another order, in units of the largest score."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    close = a.shape == b.shape and np.allclose(
        a, b, rtol=rtol, atol=rtol * max(1e-12, float(np.abs(a).max(initial=0)))
    )
    if not close:
        gap = f", {np.abs(a - b).max():.3g} apart" if a.shape == b.shape else ""
        raise ContractError(f"{promise}: {a.shape} and {b.shape}{gap}")


def data(n: int, c: int, seed: int) -> np.ndarray:
    """Rows of sines with noise, (n c) float64."""
    rng = np.random.default_rng(seed)
    t = np.arange(n)[:, None] + rng.uniform(0, 50, c)
    return np.sin(t / rng.uniform(3, 15, c)) + 0.1 * rng.normal(size=(n, c))


def check_detector(detector: Detector, *, n_channels: int = 3, seed: int = 0) -> None:
    """Try all that a detector promises, on a small series.

    Parameters
    ----------
    detector : Detector
        With the parameters to try; it is not changed. Choose a short window and few epochs.
    n_channels : int
        c of the series.
    seed : int
        Of the rows.

    Raises
    ------
    ContractError
        Naming the promise that is broken: one finite score per row; a fit repeats itself, also in
        threads and as a clone; a failed fit and changed parameters leave a fitted detector as it is;
        copies, pickles and files give the same scores, files also in a process of its own, where no
        module of your own is needed; streams give the scores of a batch however they are cut, and go on
        from a file; smoothing, causal scores, explanations, alarms and thresholds have their form;
        float64, the order of memory and a large offset of a channel change nothing; one channel and
        many will do; wrong data, rows out of the order of time and a wrong threshold rule are refused.
    """
    n = max(600, 12 * detector.window)
    train, test = data(n, n_channels, seed), data(n // 2, n_channels, seed + 1)
    test[100:110] += 3.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short trainings collapse and warn, which is not the point
        fitted = clone(detector).fit(train)
        scores = fitted.decision_function(test)
        _form(fitted, train, test, scores)
        _repeats(detector, train, test, scores)
        _keeps(fitted, train, test, scores)
        _in_files(fitted, test, scores)
        for aggregate in ("mean", "last", "window"):
            for smooth in ("off", 4):
                _streams(detector, aggregate, smooth, train, test)
        _serves(fitted, test)
        _numbers(detector, train, test, scores)
        for channels in {1, 7} - {n_channels}:
            few, later = data(n, channels, seed), data(n // 2, channels, seed + 1)
            found = clone(detector).fit(few).decision_function(later)
            require(np.isfinite(found).all(), f"scores of {channels} channel(s) must be finite")
        _refuses(detector, fitted, train)


def _form(fitted: Detector, train: np.ndarray, test: np.ndarray, scores: Any) -> None:
    require(scores.shape == (len(test),), f"one score per row, got {scores.shape}")
    require(scores.dtype == np.float64, f"scores must be float64, got {scores.dtype}")
    require(np.isfinite(scores).all(), "scores must be finite")
    own = fitted.decision_scores_
    require(own.shape == (len(train),) and np.isfinite(own).all(), "decision_scores_ must be (n,)")
    held = fitted.calibration_scores_
    require(held.ndim == 1 and np.isfinite(held).all(), "calibration_scores_ must be (r,)")
    require(bool(fitted.calibrated_on_), "calibrated_on_ must say which rows these are")
    flagged = fitted.predict(test)
    require(set(np.unique(flagged)) <= {0, 1}, "predict must give 0 and 1")
    require((flagged == (scores > fitted.threshold_)).all(), "predict is score above threshold")
    frame = pd.DataFrame(test, index=pd.date_range("2024", periods=len(test), freq="min"))
    found: Any = fitted.decision_function(frame)
    require(found.index.equals(frame.index), "scores of a DataFrame must have its index")
    _same(found, scores, "a DataFrame must give the scores of its values")


def _repeats(detector: Detector, train: np.ndarray, test: np.ndarray, scores: Any) -> None:
    def again(_: int) -> np.ndarray:
        return np.asarray(clone(detector).fit(train).decision_function(test))

    _same(again(0), scores, "a clone must repeat the fit", rtol=0)
    # warnings are caught for the whole process, not for a thread
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(again, range(3)):
            _same(found, scores, "a fit must repeat itself beside others in threads", rtol=0)
    twice = clone(detector).fit(test).fit(train)
    _same(twice.decision_function(test), scores, "a refit must be as a first fit", rtol=0)


def _keeps(fitted: Detector, train: np.ndarray, test: np.ndarray, scores: Any) -> None:
    mine = copy.deepcopy(fitted)
    broken = train.copy()
    broken[5, 0] = np.nan
    for bad in (broken, train[:, 0], train[:0]):
        try:
            mine.fit(bad)
        except ValueError:
            pass
        else:
            raise ContractError("a NaN, one dimension and no rows must be refused by fit")
    _same(mine.decision_function(test), scores, "a failed fit must change nothing", rtol=0)
    mine.set_params(contamination=0.2)
    _same(mine.decision_function(test), scores, "set_params must wait for the next fit", rtol=0)
    require(mine.threshold_ == fitted.threshold_, "set_params must not move the threshold")
    for name, other in (("deepcopy", mine), ("pickle", pickle.loads(pickle.dumps(fitted)))):
        _same(other.decision_function(test), scores, f"{name} must keep the scores", rtol=0)


def _in_files(fitted: Detector, test: np.ndarray, scores: Any) -> None:
    params = fitted.get_params(deep=False)
    own = params.get("embedder")
    given = {} if own is None or isinstance(own, str) else {"embedder": own}
    with tempfile.TemporaryDirectory() as folder:
        path, rows, found = (Path(folder) / name for name in ("detector", "rows.npy", "found.npy"))
        fitted.save(path)
        again = type(fitted).load(path, **given)
        _same(again.decision_function(test), scores, "a file must keep the scores")
        require(again.threshold_ == fitted.threshold_, "a file must keep the threshold")
        for name in ("fitted_on_", "fitted_at_", "calibrated_on_"):
            kept = getattr(again, name) == getattr(fitted, name)
            require(kept, f"a file must keep {name}")
        _same(again.decision_scores_, fitted.decision_scores_, "a file must keep decision_scores_")
        _same(again.stream().update(test), fitted.stream().update(test), "and the stream")
        again.save(path)
        _same(type(fitted).load(path, **given).decision_function(test), scores, "a file of a file")
        if given or type(fitted).__module__.split(".")[0] != "madcluster":
            return  # another process does not know the class
        np.save(rows, test)
        code = (
            "import sys, numpy as np\nfrom madcluster.detectors import Detector\n"
            "path, rows, found = sys.argv[1:]\n"
            "np.save(found, Detector.load(path).decision_function(np.load(rows)))"
        )
        command = [sys.executable, "-c", code, str(path), str(rows), str(found)]
        done = subprocess.run(command, capture_output=True, text=True)
        require(done.returncode == 0, f"a file must load in another process: {done.stderr}")
        _same(np.load(found), scores, "a file must keep the scores in another process")


def _streams(
    detector: Detector, aggregate: str, smooth: object, train: np.ndarray, test: np.ndarray
) -> None:
    one = clone(detector).set_params(aggregate=aggregate, smooth=smooth)
    one.fit(train)
    batch = one.decision_function(test)
    words = f"with aggregate={aggregate!r} and smooth={smooth!r}"
    require(np.isfinite(batch).all(), f"scores must be finite {words}")
    stream, parts, row = one.stream(), [], 0
    with tempfile.TemporaryDirectory() as folder:
        for i in range(len(test)):
            if row >= len(test):
                break
            parts.append(stream.update(test[row : row + CUTS[i % len(CUTS)]]))
            row += CUTS[i % len(CUTS)]
            if i == 2:
                stream.save(Path(folder) / "stream")
                stream = type(stream).load(Path(folder) / "stream", one)
        if aggregate != "mean":
            require(stream.scored == len(test), f"no row may wait {words}")
            cut = len(test) - 7
            _same(one.decision_function(test[:cut]), batch[:cut], f"no row may look ahead {words}")
        parts.append(stream.finish())
    _same(np.concatenate(parts), batch, f"a stream must give the scores of a batch {words}")


def _serves(fitted: Detector, test: np.ndarray) -> None:
    for method in ("deviation", "occlusion"):
        found = fitted.explain(test, 100, 110, method=method)
        good = found.shape == (test.shape[1],) and np.isfinite(found).all()
        require(good, f"explain by {method} must give one finite number per channel")
    mine = copy.deepcopy(fitted)
    rules: Iterable[tuple[str, dict[str, Any]]] = (
        ("quantile", {"contamination": 0.05}),
        ("budget", {"alarms_per_day": 1, "rows_per_day": 100}),
        ("conformal", {"probability": 0.5, "block": 20}),
    )
    for rule, arguments in rules:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a budget that few rows do not use up
            mine.calibrate(rule, **arguments)  # type: ignore[arg-type]
        require(np.isfinite(mine.threshold_), f"calibrate by {rule} must give a number")
    mine.calibrate("quantile", on=test, contamination=0.05)
    held = mine.calibration_scores_
    _same(
        held, fitted.decision_function(test), "scores of later rows must be those to calibrate by"
    )
    require(
        mine.threshold_ == np.quantile(held, 0.95), "and the threshold must be chosen from them"
    )
    alarms = mine.alarms(test, reasons=2)
    columns = list(alarms.columns)
    require(columns[:2] == ["start", "stop"], f"alarms must be a table, got {columns}")
    named = {name for reasons in alarms["reasons"] for name in reasons.split(", ")}
    require(named <= set(mine.channels_), f"reasons must be names of channels, got {named}")
    index = pd.date_range("2024", periods=len(test), freq="min")[::-1]
    try:
        mine.decision_function(pd.DataFrame(test, index))
    except ValueError:
        return
    raise ContractError("rows that are not in the order of time must be refused")


def _numbers(detector: Detector, train: np.ndarray, test: np.ndarray, scores: Any) -> None:
    def found(change: Any) -> np.ndarray:
        return np.asarray(clone(detector).fit(change(train)).decision_function(change(test)))

    _same(found(np.asfortranarray), scores, "the order of memory must not matter")
    single = found(lambda x: x.astype(np.float32))
    _same(single, scores, "float32 rows must give nearly the same", rtol=0.05)
    if detector.scaler != "none":
        for offset in (1e6, 1e8):
            moved = found(lambda x, offset=offset: x + offset)
            order = np.corrcoef(moved, scores)[0, 1] if scores.std() > 0 else 1.0
            require(
                order > 0.99, f"an offset of {offset:g} must not change the scores: {order:.3f}"
            )


def _refuses(detector: Detector, fitted: Detector, train: np.ndarray) -> None:
    for name, value in (("aggregate", "max"), ("smooth", 0), ("contamination", 2.0)):
        try:
            clone(detector).set_params(**{name: value}).fit(train)
        except ValueError as error:
            require(name in str(error), f"the error for {name} must name it, got: {error}")
        else:
            raise ContractError(f"{name}={value!r} must be refused")
    for bad in (train[:, :-1], np.c_[train, train[:, :1]]):
        try:
            fitted.decision_function(bad)
        except ValueError:
            continue
        raise ContractError("another number of channels must be refused")
