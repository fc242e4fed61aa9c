"""What every detector can do: all that needs only scores is written here, once."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Self, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import validate_data

from madcluster.aggregation import (
    BATCH,
    Aggregate,
    Smooth,
    aggregated,
    check_aggregate,
    check_smooth,
    smoothed,
)
from madcluster.arguments import check_whole, plain
from madcluster.data import Scaler
from madcluster.data.series import ScalerKind, checked_rows, names_of, without_glitches
from madcluster.service.alarms import (
    Alarm,
    Rule,
    as_frame,
    find_alarms,
    quantile_threshold,
    threshold_of,
)
from madcluster.service.checkpoints import CheckpointError, Saved
from madcluster.service.explanations import Method, contributions
from madcluster.service.streams import Lane, MaxStep, Piece, Scoring, Steps, Stream, pieces

__all__ = ["CheckpointError", "Detector"]

KIND, FORMAT = "madcluster.detector", 4  # of a file; another is refused
BLOCK = 2**18  # numbers in the windows at work at a time: what stays in the cache
BLOCKS = 5  # of the train split, left out in turn


class Detector(Saved, BaseEstimator):
    """Fit on normal data, score new data; **higher = more anomalous**, one score per row.

    Data is an array or a DataFrame (n c). After a DataFrame with names, other DataFrames must have the
    same columns in the same order; an array is taken in that order. Scores of a DataFrame are a
    Series with its index.

    A subclass says how to fit (`_fit`), what score a window has (`window_scores`), and which arrays
    hold what it learned (`_state`, `_restore`); smoothing, thresholds, alarms, explanations, streams
    and files are the same for all. `madcluster.detectors.check_detector` tries one of your own.

    Parameters
    ----------
    scaler : "minmax", "standard" or "none"
        Fitted on the train split.
    aggregate : "mean", "last" or "window"
        From windows to rows: the mean over all windows that cover a row, which looks ahead, or
        causally; see the table of `madcluster.aggregation`.
    smooth : int or "off"
        Rows that a score is a mean over: those about a row for "mean", otherwise those that
        end with it.
    contamination : float
        Share of rows above `threshold_`, which `predict` uses, in (0, 1).

    Attributes
    ----------
    n_features_in_ : int
        Channels.
    feature_names_in_ : (c,)
        Their names, where `fit` was given a DataFrame with columns of text.
    median_, std_ : (c,)
        Median and standard deviation of every scaled channel in the train split, 1 for a constant one;
        what `explain` compares with.
    decision_scores_ : (n,)
        Scores of the training rows.
    calibration_scores_ : (r,)
        Scores of normal rows that the detector has not learned, from which thresholds are chosen.
    calibrated_on_ : str
        Which rows these are, in words.
    fitted_on_ : str
        How many rows `fit` was given and, of a DataFrame, from where to where its index goes.
    fitted_at_ : str
        When, in UTC (ISO 8601).
    threshold_ : float
        The (1 − contamination) quantile of `calibration_scores_`, or what `calibrate` chose.
    labels_ : (n,)
        1 where a training row lies above it, else 0; the habit of PyOD.
    """

    scaler: ScalerKind = "none"
    clip: float | None = None
    window: int = 1  # rows that a score of its own is of
    aggregate: Aggregate = "mean"
    smooth: Smooth = "off"
    contamination: float
    calibration_scores_: np.ndarray
    calibrated_on_: str
    _fitted: Self  # a copy with the parameters that were fitted; absent before

    _file = KIND, FORMAT
    # which of what is learned goes into a file as it is
    _arrays: ClassVar[tuple[str, ...]] = ()

    # an argument of ours, and nothing that scikit-learn's meta-estimators would pass on
    __metadata_request__decision_function: ClassVar[dict[str, str]] = {"max_step": UNUSED}
    __metadata_request__predict: ClassVar[dict[str, str]] = {"max_step": UNUSED}

    # --- what a detector knows alone --------------------------------------------------------------

    def check(self) -> None:
        """Look at the arguments without any data.

        Raises
        ------
        ValueError
            If one is out of its range; the message names it.
        """
        Scaler(self.scaler, clip=self.clip)
        check_aggregate(self.aggregate)
        check_smooth(self.smooth)
        check_whole("window", self.window)
        quantile_threshold(np.zeros(1), self.contamination)

    def _fit(self, z: np.ndarray) -> None:
        """Learn from the scaled train split (n c)."""

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Scores of windows of the scaled series.

        Parameters
        ----------
        z : (m c)
        starts : (b,)
            First rows of the windows.

        Returns
        -------
        (b t) with one score for each step, or (b 1) with one for the whole window.
        """
        raise TypeError(f"{type(self).__name__} must define window_scores")

    def _train_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The same for windows of the split that was learned from."""
        return self.window_scores(z, starts)

    def steps_scored(self) -> int:
        """Steps at the end of a window that its score is of: all, but for a forecast of the last."""
        return self.window

    def last_scores(self, seen: int = 0) -> tuple[int, Callable[[np.ndarray], np.ndarray]] | None:
        """A shorter way to causal scores than window by window, if there is one.

        Parameters
        ----------
        seen : int
            Rows that came before the first.

        Returns
        -------
        How many rows before it the score of a row needs, and a function of scaled rows (r + n c) → the
        scores (n,) of the last n.
        """
        return None

    def steps(self, n: int) -> Steps | None:
        """What scores n series row by row with a memory for each, if there is such a thing.

        The scores are those of `last_scores` up to rounding.
        """
        return None

    def input_gradients(self, z: np.ndarray, starts: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Gradient of the weighted sum of scores by the windows; weights (b t) → (b t c).

        Raises
        ------
        ValueError
            If the score has none.
        """
        raise ValueError(
            f"the score of {type(self).__name__} has no gradient: choose method 'deviation' or "
            f"'occlusion'"
        )

    def scoring_stride(self) -> int:
        """Rows from one window to the next where scores are means over windows."""
        return 1

    def _state(self) -> dict[str, np.ndarray]:
        """What `_fit` learned, as arrays."""
        return {name.strip("_"): np.asarray(getattr(self, name)) for name in self._arrays}

    def _check_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Raise a ValueError for an infinity in what is to be saved, or was read."""
        for name, array in state.items():
            if np.isinf(array).any():
                raise ValueError(f"{name} is infinite somewhere")

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take it over from a file.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it does not fit.
        """
        for name in self._arrays:
            setattr(self, name, state[name.strip("_")])

    # --- fit and score ----------------------------------------------------------------------------

    @property
    def labels_(self) -> np.ndarray:
        """1 where a training row lies above the threshold, else 0; (n,)."""
        self._check_fitted()
        return (self.decision_scores_ > self.threshold_).astype(int)

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from normal data, (n c); `y` is ignored.

        All or nothing: a fit that fails or is interrupted leaves the detector as it was. What is
        changed by `set_params` afterwards counts from the next fit on, and not before.

        Raises
        ------
        ValueError
            If an argument is out of its range, or the data is not a table of finite numbers; the
            message names the argument, or row and channel. For a DataFrame whose index is of dates that
            repeat or go back: its rows are not in order.
        """
        self.check()
        fresh, rows = self._begun(X)
        fresh._learn(rows)
        fresh._complete(X, rows)
        self._adopt(fresh)
        return self

    def _begun(self, X: Any) -> tuple[Self, np.ndarray]:
        """A copy that knows the channels of X and nothing else, and the rows (n c) to learn from."""
        _check_time(X)
        rows = without_glitches(checked_rows(X, "X", names_of(X)))
        fresh = self._unfitted()
        fresh._meet(X, rows.shape[1])
        return fresh, rows

    def _complete(self, X: Any, rows: np.ndarray) -> None:
        """What a fit adds to what was learned: scores of the rows (n c), and the threshold."""
        z = self.scaler_.transform(rows)
        self.decision_scores_ = self._smoothed(self._scores(z, learned=True))
        self.calibration_scores_, self.calibrated_on_ = self._not_learned(rows)
        self.threshold_ = quantile_threshold(self.calibration_scores_, self.contamination)
        self.fitted_on_ = _span(X, len(rows))
        self.fitted_at_ = datetime.now(UTC).isoformat(timespec="seconds")

    def _meet(self, X: Any, n_channels: int) -> None:
        """Remember number and names of the channels."""
        names = names_of(X)
        validate_data(self, X, reset=True, skip_check_array=True)  # as scikit-learn has them
        self.n_features_in_ = n_channels
        if names is not None and not _is_counted(X):  # also where they are no text
            self.feature_names_in_ = np.array(names, dtype=object)

    def _learn(self, rows: np.ndarray) -> None:
        """Scale the rows (n c), and learn from them."""
        self._fit(self._scaled(rows))

    def _scaled(self, rows: np.ndarray) -> np.ndarray:
        """Learn how the rows are scaled, and scale them; (n c) → (n c)."""
        if len(rows) < self.window:
            raise ValueError(f"X has {len(rows)} rows, less than a window of {self.window}")
        self.scaler_ = Scaler(self.scaler, clip=self.clip).fit(rows)
        z = self.scaler_.transform(rows)
        self.median_ = np.median(z, axis=0)
        self.std_ = np.where(np.ptp(z, axis=0) > 0, z.std(0, dtype=np.float64), 1.0)
        return z

    def _not_learned(self, rows: np.ndarray) -> tuple[np.ndarray, str]:
        """Scores of training rows by detectors that have not learned them, and which rows these are.

        Blocks are left out in turn; the rest is learned as one series, so that up to window − 1 of its
        windows are of rows that do not follow each other.
        """
        cuts = np.linspace(0, len(rows), BLOCKS + 1).astype(int)
        if np.diff(cuts).min() < 2 * self.window:
            return self.decision_scores_, (
                f"all {len(rows)} training rows, which were learned: fewer than {2 * BLOCKS} windows"
            )
        parts = []
        for start, stop in pairwise(cuts):
            other = self._unfitted()
            other._learn(np.delete(rows, np.s_[start:stop], axis=0))
            parts.append(other._score(rows[start:stop]))
        return np.concatenate(parts), (
            f"all {len(rows)} training rows, each block of a fifth scored by a detector that learned "
            f"the other four"
        )

    def _unfitted(self) -> Self:
        """A copy with the same parameters, and nothing that a fit has left."""
        fresh = self._copy()
        for name in [name for name in vars(fresh) if name == "_fitted" or _is_fitted(name)]:
            delattr(fresh, name)
        return fresh

    def _copy(self) -> Self:
        """A copy with parameters of its own: arrays and modules alone are shared."""
        other = copy.copy(self)
        for name, value in self.get_params(deep=False).items():
            if not isinstance(value, np.ndarray):
                setattr(other, name, plain(value))
        return other

    def _adopt(self, fitted: Self) -> None:
        """Take over what another has learned, in place of one's own."""
        kept = {name: value for name, value in vars(self).items() if not _is_fitted(name)}
        learned = {name: value for name, value in vars(fitted).items() if _is_fitted(name)}
        self.__dict__ = {**kept, **learned, "_fitted": fitted}

    @property
    def as_fitted(self) -> Self:
        """The detector with the parameters that were fitted, whatever `set_params` has changed since.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        self._check_fitted()
        fitted: Self = vars(self).get("_fitted", self)  # the copy itself has none
        return fitted

    @property
    def channels_(self) -> tuple[str, ...]:
        """Names of the channels, or their numbers."""
        self._check_fitted()
        return tuple(getattr(self, "feature_names_in_", map(str, range(self.n_features_in_))))

    def checked(self, X: Any, where: str = "X", *, missing: bool = False) -> np.ndarray:
        """Finite rows (m c) of the channels that were learned; with `missing`, NaN where there is none.

        Raises
        ------
        ValueError
            If they are not; the message begins with `where`.
        NotFittedError
            Before `fit`.
        """
        self._check_fitted()
        names = names_of(X)
        if names is not None:
            self._check_names(X, names, where)
        rows = checked_rows(X, where, names, missing=missing)
        if rows.shape[1] != self.n_features_in_:
            raise ValueError(
                f"{where} has {rows.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        return rows

    def _check_names(self, X: Any, names: tuple[str, ...], where: str) -> None:
        """Refuse other columns than those that were learned, and the same in another order.

        A frame whose columns nobody has named, so that they are 0, 1, 2 …, is taken as an array is,
        unless numbers are the names that were learned.
        """
        known = tuple(getattr(self, "feature_names_in_", ()))
        numbered = all(map(str.isdecimal, known or names))
        if not numbered and (not known or _is_counted(X)):
            return
        if known and isinstance(X, pd.DataFrame) and all(isinstance(n, str) for n in X.columns):
            validate_data(self, X, reset=False, skip_check_array=True)  # in its words
        expected = known or tuple(map(str, range(self.n_features_in_)))
        if names != expected and len(names) == len(expected):
            raise ValueError(f"{where} has the columns {names}, but {expected} were learned")

    def aggregate_of(self, aggregate: Aggregate) -> Aggregate:
        """How windows make rows: as asked, but the score of a forecast is of its last step alone."""
        return aggregate if self.steps_scored() == self.window else "last"

    def _scores(self, z: np.ndarray, *, learned: bool = False) -> np.ndarray:
        """Scores before smoothing, of a series or of the one that was learned; (m c) → (m,)."""
        return aggregated(
            partial(self._train_scores if learned else self.window_scores, z),
            len(z),
            window=self.window,
            stride=1 if self.aggregate != "mean" else self.scoring_stride(),
            aggregate=self.aggregate_of(self.aggregate),
            batch_size=max(BATCH, BLOCK // (self.window * z.shape[1])),
        )

    def _smoothed(self, scores: np.ndarray) -> np.ndarray:
        return smoothed(scores, self.smooth, causal=self.aggregate != "mean")

    def _score(self, rows: np.ndarray) -> np.ndarray:
        """Score a series; (m c) → (m,)."""
        return self._smoothed(self._scores(self.scaler_.transform(rows)))

    @overload
    def decision_function(
        self, X: pd.DataFrame, *, max_step: MaxStep | None = ...
    ) -> pd.Series: ...
    @overload
    def decision_function(  # type: ignore[overload-cannot-match]  # pandas has no types here
        self, X: ArrayLike, *, max_step: MaxStep | None = ...
    ) -> np.ndarray: ...
    def decision_function(
        self, X: Any, *, max_step: MaxStep | None = None
    ) -> np.ndarray | pd.Series:
        """Score of every row; (m c) → (m,) float64.

        Parameters
        ----------
        X : (m c)
        max_step : number or Timedelta, optional
            If it is given, X is a DataFrame whose index is the time of its rows, and a longer step from
            one row to the next is a gap. What lies between gaps is scored as a series of its own, so
            that no window reaches across one; rows of less than a window have no score, but NaN. A
            `Stream` with the same `max_step` gives the same scores.

        Raises
        ------
        ValueError
            As `fit`, and for other channels than those that were learned.
        NotFittedError
            Before `fit`.
        """
        rows, fitted = self.checked(X), self.as_fitted
        _check_time(X)
        if max_step is None or len(rows) < fitted.window:  # too short, which is refused
            return _like(X, fitted._score(rows), "score")
        if not isinstance(X, pd.DataFrame):
            raise ValueError("max_step needs a DataFrame whose index is the time of its rows")
        scores = np.full(len(rows), np.nan)
        for start, stop in pieces(X.index, max_step):
            if stop - start >= fitted.window:
                scores[start:stop] = fitted._score(rows[start:stop])
        return _like(X, scores, "score")

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_features_in_"):
            raise NotFittedError(f"{type(self).__name__} is not fitted: call fit first")

    @overload
    def predict(self, X: pd.DataFrame, *, max_step: MaxStep | None = ...) -> pd.Series: ...
    @overload
    def predict(  # type: ignore[overload-cannot-match]
        self, X: ArrayLike, *, max_step: MaxStep | None = ...
    ) -> np.ndarray: ...
    def predict(self, X: Any, *, max_step: MaxStep | None = None) -> np.ndarray | pd.Series:
        """1 where the score is above `threshold_` or is none (NaN), else 0; (m c) → (m,) int.

        `max_step` is that of `decision_function`.
        """
        scores = np.asarray(self.decision_function(X, max_step=max_step))
        return _like(X, (~(scores <= self.threshold_)).astype(int), "anomaly")

    # --- in service -------------------------------------------------------------------------------

    def calibrate(
        self, rule: Rule, *, on: Any = None, max_step: MaxStep | None = None, **arguments: Any
    ) -> Self:
        """Choose `threshold_` anew from `calibration_scores_`; no label is needed.

        All or nothing, as `fit`.

        Parameters
        ----------
        rule : "quantile", "peaks", "budget" or "conformal"
            A quantile (`contamination`), the score that a normal row exceeds with a `probability`, the
            lowest threshold within a budget of `alarms_per_day`, or the score that a block of rows
            exceeds with a `probability`; see `madcluster.service.alarms`.
        on : (m c), optional
            Later normal rows, whose scores become the `calibration_scores_`: a threshold ages before a
            detector does. What is known to be no normal row must not be among them, and all else must
            be: false alarms alone would be a sample of high scores.
        max_step : number or Timedelta, optional
            As for `decision_function`, for `on`: where rows were left out, there is a gap. Rows in
            pieces of less than a window are left out too.
        **arguments
            Those of the rule.

        Raises
        ------
        ValueError
            If the detector is not fitted, the rule is unknown, or an argument is out of its range; for
            rows that cannot be scored, and where none has a score because all pieces are too short.

        Warns
        -----
        UserWarning
            If a budget does not bind; see `madcluster.service.alarms.budget_threshold`.
        """
        self._check_fitted()
        scores, words = self.calibration_scores_, self.calibrated_on_
        if on is not None:
            scores = np.asarray(self.decision_function(on, max_step=max_step))
            scores = scores[~np.isnan(scores)]
            if not len(scores):
                raise ValueError(
                    f"on has no row with a score: where a step above max_step, {max_step}, is a gap, "
                    f"all pieces are shorter than a window of {self.as_fitted.window}; give longer "
                    f"pieces or a larger max_step"
                )
            words = f"{_span(on, len(scores))}, which came later and were not learned"
        elif max_step is not None:
            raise ValueError("max_step is for rows that are given as on")
        self.threshold_ = threshold_of(scores, rule, **arguments)
        self.calibration_scores_, self.calibrated_on_ = scores, words
        return self

    def alarms(
        self, X: Any, *, max_step: MaxStep | None = None, reasons: int = 0, **options: Any
    ) -> pd.DataFrame:
        """Alarms above `threshold_`, one row each.

        Parameters
        ----------
        X : (m c)
        max_step : number or Timedelta, optional
            As for `decision_function`.
        reasons : int
            So many channels are named for each alarm, those that `explain` puts first.
        **options
            `release`, `min_length`, `join` and `cooldown` of `madcluster.service.alarms.find_alarms`.

        Returns
        -------
        Rows `start` … `stop` − 1, their number, and the row and value of the highest score; for a
        DataFrame, `start`, `end` and `peak` are values of its index. With `reasons` a column of that
        name, text; for rows without a score it is empty.
        """
        check_whole("reasons", reasons, 0)
        scores = self.decision_function(X, max_step=max_step)
        found = find_alarms(scores, self.threshold_, **options)
        frame = as_frame(found, X.index if isinstance(X, pd.DataFrame) else None)
        if reasons:
            named = [", ".join(names) for names in self.reasons(X, found, reasons)]
            frame["reasons"] = pd.Series(named, dtype=object)
        return frame

    def reasons(self, X: Any, alarms: Sequence[Alarm], most: int = 3) -> list[tuple[str, ...]]:
        """The channels that `explain` puts first for each alarm, the first the most.

        Parameters
        ----------
        X : (m c)
        alarms : sequence of Alarm
            Of `madcluster.service.alarms.find_alarms` on the scores of X.
        most : int
            Channels to name.

        Returns
        -------
        Their names, at most so many; none for rows without a score.
        """
        check_whole("most", most)
        rows, window = self.checked(X), self.as_fitted.window
        found: list[tuple[str, ...]] = []
        for alarm in alarms:
            if not alarm.scored:
                found.append(())
                continue
            first = min(max(0, alarm.start - window), max(0, len(rows) - window))
            part = rows[first : alarm.stop + window]  # and not all rows, once for each alarm
            added = self.explain(part, alarm.start - first, alarm.stop - first)
            found.append(tuple(self.channels_[i] for i in np.argsort(-added)[:most]))
        return found

    @overload
    def explain(
        self, X: pd.DataFrame, start: int, stop: int, *, method: Method = ...
    ) -> pd.Series: ...
    @overload
    def explain(  # type: ignore[overload-cannot-match]
        self, X: ArrayLike, start: int, stop: int, *, method: Method = ...
    ) -> np.ndarray: ...
    def explain(
        self, X: Any, start: int, stop: int, *, method: Method = "deviation"
    ) -> np.ndarray | pd.Series:
        """What every channel adds to the score of some rows.

        See `madcluster.service.explanations.contributions`.

        Returns
        -------
        (c,), or a Series by the names of the columns if X is a DataFrame, the largest first.
        """
        found = contributions(self, X, start, stop, method=method)
        if not isinstance(X, pd.DataFrame):
            return found
        return pd.Series(found, index=X.columns, name="contribution").sort_values(ascending=False)

    def stream(self, **options: Any) -> Stream:
        """Score rows as they come; the options are those of `madcluster.service.streams.Stream`."""
        return Stream(self, **options)

    def piece(self, aggregate: Aggregate, lane: Lane | None = None) -> Scoring:
        """What a stream feeds with scaled rows that follow each other; a `lane` is the stream's own."""
        return Piece(self, aggregate, Lane(self) if lane is None else lane)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """All that makes scores: parameters as plain values, and what was learned as arrays."""
        fitted = self.as_fitted
        arrays = {f"state.{name}": array for name, array in fitted._state().items()}
        for name, array in fitted.scaler_.state().items():
            arrays[f"scaler.{name}"] = np.asarray(array)
        return {"detector": type(self).__name__, "params": fitted._params()}, arrays

    def _whole(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """All that goes into a file."""
        about, arrays = self.as_fitted.state()
        self.as_fitted._check_state(_under("state.", arrays))
        if not math.isfinite(self.threshold_):
            raise ValueError(f"threshold_ is {self.threshold_}")
        about |= {
            "n_features_in": self.n_features_in_,
            "channels": list(getattr(self, "feature_names_in_", ())),
            "threshold": self.threshold_,
            **{name: getattr(self, f"{name}_") for name in _WORDS},
        }
        for name in _SCORES + _OF_CHANNELS:
            arrays[name.strip("_")] = getattr(self, name)
        return about, arrays

    @classmethod
    def _from_whole(
        cls,
        path: object,
        about: Mapping[str, Any],
        arrays: dict[str, np.ndarray],
        given: Mapping[str, Any],
    ) -> Self:
        """A detector from what `_whole` gave, checked as far as that can be."""
        detector = cls._made(path, about["params"], given)
        detector.check()
        n_channels = check_whole("n_features_in", about["n_features_in"])
        detector.n_features_in_ = n_channels
        if channels := about.get("channels"):  # absent where there were no names
            if not (isinstance(channels, list) and len(channels) == n_channels):
                raise ValueError(f"{channels} do not name {n_channels} channels")
            detector.feature_names_in_ = np.array([str(n) for n in channels], dtype=object)
        detector.threshold_ = float(about["threshold"])
        for name in _WORDS:
            if not (words := about[name]).isprintable():
                raise ValueError(f"{name} is {words!r}")
            setattr(detector, f"{name}_", words)
        for name in _SCORES + _OF_CHANNELS:
            setattr(detector, name, arrays.pop(name.strip("_")))
        scaler = _under("scaler.", arrays)
        detector.scaler_ = Scaler.from_state(detector.scaler, detector.clip, scaler)
        of_channels = *(getattr(detector, n) for n in _OF_CHANNELS), *scaler.values()
        if any(array.shape != (n_channels,) for array in of_channels):
            raise ValueError(f"not every array is of {n_channels} channels")
        for scores in (getattr(detector, n) for n in _SCORES):
            if scores.ndim != 1 or not len(scores) or scores.dtype.kind != "f":
                raise ValueError("its scores are not numbers one by one")
        if not all((spread > 0).all() for spread in (detector.std_, scaler["scale"])):
            raise ValueError("a channel has no scale")
        if detector.window > len(detector.decision_scores_):
            raise ValueError(f"a window of {detector.window} is longer than what was learned")
        if not math.isfinite(detector.threshold_):
            raise ValueError(f"its threshold is {detector.threshold_}")
        state = _under("state.", arrays)
        detector._check_state(state)
        detector._restore(state)
        least = np.zeros((detector.window, n_channels), np.float32)
        detector.window_scores(least, np.zeros(1, int))  # arrays that do not fit show here
        detector._adopt(detector._copy())
        return detector

    @classmethod
    def _family(cls) -> Mapping[str, type[Saved]]:
        from madcluster.detectors import DETECTORS

        return DETECTORS


_SCORES = "decision_scores_", "calibration_scores_"
_OF_CHANNELS = "median_", "std_"
_WORDS = "calibrated_on", "fitted_on", "fitted_at"


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _is_fitted(attribute: str) -> bool:
    """Whether `fit` sets it, by the habit of scikit-learn."""
    return attribute.endswith("_") and not attribute.startswith("_")


def _is_counted(X: Any) -> bool:
    """Whether the columns are 0, 1, 2 …, which pandas gives where nobody has named them."""
    return isinstance(X, pd.DataFrame) and list(X.columns) == list(range(X.shape[1]))


def _check_time(X: Any) -> None:
    """Refuse dates that repeat or go back, as the readers of files do."""
    index = getattr(X, "index", None)
    if not isinstance(index, pd.DatetimeIndex) or (
        index.is_monotonic_increasing and index.is_unique
    ):
        return
    forward = np.append(True, index[1:] > index[:-1])
    row = int(np.argmin(forward))
    raise ValueError(
        f"X is not in the order of time: row {row} is of {index[row]}, after {index[row - 1]}; "
        f"{(~forward).sum()} rows in all do not go forward. Sort by X.sort_index(), drop what repeats"
    )


def _span(X: Any, n: int) -> str:
    """So many rows, and where the index of a DataFrame begins and ends unless it only counts them."""
    if not isinstance(X, pd.DataFrame) or isinstance(X.index, pd.RangeIndex):
        return f"{n} rows"
    ends = (str(X.index[i]) for i in (0, -1))
    first, last = (end if end.isprintable() else ascii(end) for end in ends)
    return f"{n} rows from {first} to {last}"


def _like(X: Any, values: np.ndarray, name: str) -> np.ndarray | pd.Series:
    """With the index of X, if it is a DataFrame."""
    return pd.Series(values, X.index, name=name) if isinstance(X, pd.DataFrame) else values
