"""Detectors that need no network, with the interface of `MADCluster`.

A deep detector that does not beat these on a series has not earned its cost there.
"""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import validate_data

from madcluster.alarms import quantile_threshold
from madcluster.data import Scaler, windows
from madcluster.data.series import ScalerKind, checked_rows

__all__ = [
    "BASELINES",
    "ConstantScore",
    "Detector",
    "L2Norm",
    "Mahalanobis",
    "NearestNeighbor",
    "PCAError",
    "RandomScore",
]


class Detector(BaseEstimator):
    """Fit on normal data, score new data; **higher = more anomalous**, one score per row.

    Data is an array or a DataFrame (n c). After a DataFrame with names, other DataFrames must have the
    same columns in the same order; an array is taken in that order. Scores of a DataFrame are a
    Series with its index.

    Attributes
    ----------
    n_features_in_ : int
        Channels.
    feature_names_in_ : (c,)
        Their names, where `fit` was given a DataFrame with columns of text.
    decision_scores_ : (n,)
        Scores of the training rows.
    threshold_ : float
        Their (1 − contamination) quantile.
    labels_ : (n,)
        1 where a training row lies above it, else 0; the habit of PyOD.
    """

    contamination: float
    _fitted: Self  # a copy with the parameters that were fitted; absent before

    def _fit(self, x: np.ndarray) -> None:
        """Learn from the train split (n c)."""

    def _score(self, x: np.ndarray) -> np.ndarray:
        """Score a series (m c) → (m,)."""
        raise TypeError(f"{type(self).__name__} must define _score")

    def _score_train(self, x: np.ndarray) -> np.ndarray:
        """Score the split that was learned from (n c) → (n,)."""
        return self._score(x)

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
            If the data is not a table of finite numbers; the message names row and channel.
        """
        rows = checked_rows(X, "X", _names(X))
        fresh = self._unfitted()
        fresh._fit(rows)
        validate_data(fresh, X, reset=True, skip_check_array=True)  # number and names of channels
        fresh.decision_scores_ = fresh._score_train(rows)
        fresh.threshold_ = quantile_threshold(fresh.decision_scores_, fresh.contamination)
        self._adopt(fresh)
        return self

    def _unfitted(self) -> Self:
        """A copy with the same parameters, and nothing that a fit has left."""
        fresh = copy.copy(self)
        for name in [name for name in vars(fresh) if name == "_fitted" or _is_fitted(name)]:
            delattr(fresh, name)
        return fresh

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

    def _checked(self, X: Any, where: str = "X") -> np.ndarray:
        """Finite rows (m c) of the channels that were learned."""
        self._check_fitted()
        if _names(X) is not None and hasattr(self, "feature_names_in_"):
            validate_data(self, X, reset=False, skip_check_array=True)
        rows = checked_rows(X, where, _names(X))
        if rows.shape[1] != self.n_features_in_:
            raise ValueError(
                f"{where} has {rows.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        return rows

    def decision_function(self, X: Any) -> np.ndarray | pd.Series:
        """Score of every row; (m c) → (m,) float64.

        Raises
        ------
        ValueError
            As `fit`, and for other channels than those that were learned.
        NotFittedError
            Before `fit`.
        """
        rows = self._checked(X)
        return _like(X, self.as_fitted._score(rows), "score")

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_features_in_"):
            raise NotFittedError(f"{type(self).__name__} is not fitted: call fit first")

    def predict(self, X: Any) -> np.ndarray | pd.Series:
        """1 where the score is above `threshold_`, else 0; (m c) → (m,) int."""
        rows = self._checked(X)
        scores = self.as_fitted._score(rows)
        return _like(X, (scores > self.threshold_).astype(int), "anomaly")


def _is_fitted(attribute: str) -> bool:
    """Whether `fit` sets it, by the habit of scikit-learn."""
    return attribute.endswith("_") and not attribute.startswith("_")


def _names(X: Any) -> tuple[str, ...] | None:
    """Of the columns, if X is a DataFrame."""
    return tuple(map(str, X.columns)) if isinstance(X, pd.DataFrame) else None


def _like(X: Any, values: np.ndarray, name: str) -> np.ndarray | pd.Series:
    """With the index of X, if it is a DataFrame."""
    return pd.Series(values, X.index, name=name) if isinstance(X, pd.DataFrame) else values


class RandomScore(Detector):
    """Uniform noise: the floor that every table needs."""

    def __init__(self, *, seed: int = 0, contamination: float = 0.01) -> None:
        self.seed, self.contamination = seed, contamination

    def _score(self, x: np.ndarray) -> np.ndarray:
        return np.random.default_rng(self.seed).random(len(x))


class ConstantScore(Detector):
    """The same score everywhere: what a metric gives for knowing nothing."""

    def __init__(self, *, contamination: float = 0.01) -> None:
        self.contamination = contamination

    def _score(self, x: np.ndarray) -> np.ndarray:
        return np.zeros(len(x))


class L2Norm(Detector):
    """Euclidean norm of the standardized row (Sarfraz et al., ICML 2024)."""

    def __init__(self, *, scaler: ScalerKind = "standard", contamination: float = 0.01) -> None:
        self.scaler, self.contamination = scaler, contamination

    def _fit(self, x: np.ndarray) -> None:
        self.scaler_ = Scaler(self.scaler).fit(x)

    def _score(self, x: np.ndarray) -> np.ndarray:
        return np.linalg.norm(self.scaler_.transform(x).astype(np.float64), axis=1)


class PCAError(Detector):
    """What the first principal components of the train split leave unexplained of a row."""

    def __init__(
        self, *, n_components: int = 5, scaler: ScalerKind = "standard", contamination: float = 0.01
    ) -> None:
        self.n_components, self.scaler, self.contamination = n_components, scaler, contamination

    def _fit(self, x: np.ndarray) -> None:
        self.scaler_ = Scaler(self.scaler).fit(x)
        n_components = max(1, min(self.n_components, x.shape[1] - 1, len(x)))
        self.pca_ = PCA(n_components, svd_solver="full").fit(self.scaler_.transform(x))

    def _score(self, x: np.ndarray) -> np.ndarray:
        z = self.scaler_.transform(x).astype(np.float64)
        back = self.pca_.inverse_transform(self.pca_.transform(z))
        return np.linalg.norm(z - back, axis=1)


class _OfWindows(Detector):
    """Scores short windows; that of a row is the mean over the windows that cover it."""

    window: int

    def _embed(self, x: np.ndarray) -> np.ndarray:
        return windows(self.scaler_.transform(x), self.window).reshape(len(x) - self.window + 1, -1)

    def _spread(self, of_windows: np.ndarray) -> np.ndarray:
        """Scores of windows → mean over the windows that cover a row."""
        ones = np.ones(self.window)
        return np.convolve(of_windows, ones) / np.convolve(np.ones(len(of_windows)), ones)


class Mahalanobis(_OfWindows):
    """Squared Mahalanobis distance of a short window to the windows of the train split.

    The T² statistic (Hotelling, 1947) of `window` rows as one vector: one Gaussian for normal data,
    with no network. A row's score is the mean over the windows that cover it. As for the score of
    that name of `MADCluster`, no direction is given less than a millionth of the largest variance.
    Where train has fewer windows than `window` times channels, scores of train come out too low.
    All windows are held at once: memory grows with rows times `window` times channels.
    """

    def __init__(
        self, *, window: int = 10, scaler: ScalerKind = "standard", contamination: float = 0.01
    ) -> None:
        self.window, self.scaler, self.contamination = window, scaler, contamination

    def _fit(self, x: np.ndarray) -> None:
        self.scaler_ = Scaler(self.scaler).fit(x)
        normal = EmpiricalCovariance(store_precision=False).fit(self._embed(x).astype(np.float64))
        self.mean_ = normal.location_
        values, vectors = np.linalg.eigh(normal.covariance_)
        # the root keeps the square finite where nothing varies
        least = max(1e-6 * values[-1], np.finfo(np.float32).tiny ** 0.5)
        self.whitening_ = vectors / np.sqrt(np.maximum(values, least))

    def _score(self, x: np.ndarray) -> np.ndarray:
        return self._spread((((self._embed(x) - self.mean_) @ self.whitening_) ** 2).sum(1))


class NearestNeighbor(_OfWindows):
    """Distance of a short window to the nearest window of the train split.

    A row's score is the mean over the windows that cover it. Training rows are compared with
    windows that do not overlap their own.
    """

    def __init__(
        self,
        *,
        window: int = 10,
        max_train: int = 20_000,
        scaler: ScalerKind = "standard",
        contamination: float = 0.01,
    ) -> None:
        self.window, self.max_train = window, max_train
        self.scaler, self.contamination = scaler, contamination

    def _fit(self, x: np.ndarray) -> None:
        self.scaler_ = Scaler(self.scaler).fit(x)
        known = self._embed(x)
        self.rows_ = np.arange(0, len(known), -(-len(known) // self.max_train))
        self.index_ = NearestNeighbors(algorithm="brute").fit(known[self.rows_])

    def _score(self, x: np.ndarray) -> np.ndarray:
        distance, _ = self.index_.kneighbors(self._embed(x), n_neighbors=1)
        return self._spread(distance[:, 0])

    def _score_train(self, x: np.ndarray) -> np.ndarray:
        own = min(2 * self.window, len(self.rows_))  # at most 2w − 1 windows overlap one's own
        distance, index = self.index_.kneighbors(self._embed(x), n_neighbors=own)
        overlaps = np.abs(self.rows_[index] - np.arange(len(index))[:, None]) < self.window
        first = np.argmin(overlaps, axis=1)  # nearest that does not overlap
        return self._spread(distance[np.arange(len(index)), first])


BASELINES: dict[str, type[Detector]] = {
    "random": RandomScore,
    "constant": ConstantScore,
    "l2_norm": L2Norm,
    "pca_error": PCAError,
    "mahalanobis": Mahalanobis,
    "nearest_neighbor": NearestNeighbor,
}
