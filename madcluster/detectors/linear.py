"""Linear models of rows and of the rows before them."""

from __future__ import annotations

from typing import Literal

import numpy as np

from madcluster.aggregation import Aggregate, Smooth
from madcluster.arguments import check_number, check_whole
from madcluster.data import windows
from madcluster.data.series import ScalerKind
from madcluster.detectors.base import Detector
from madcluster.detectors.gaussian import whitening

__all__ = ["LinearAutoregression", "PCAError"]

ALPHAS = 1e-4, 1e-2, 1.0, 1e2  # tried for alpha="auto"
BLOCK = 4_000_000  # numbers at work at a time


class PCAError(Detector):
    """What the first principal components of the train split leave unexplained of a row.

    With one channel there is nothing to leave out but the deviation from its mean.

    Parameters
    ----------
    n_components : int
        Less where as many or fewer channels vary in the train split: one direction in which they do is
        left to be scored.
    scaler, aggregate, smooth, contamination
        See `Detector`.
    """

    _arrays = ("mean_", "components_")

    def __init__(
        self,
        *,
        n_components: int = 5,
        scaler: ScalerKind = "standard",
        aggregate: Aggregate = "mean",
        smooth: Smooth = "off",
        contamination: float = 0.01,
    ) -> None:
        self.n_components, self.scaler, self.aggregate = n_components, scaler, aggregate
        self.smooth, self.contamination = smooth, contamination

    def check(self) -> None:
        super().check()
        check_whole("n_components", self.n_components)

    def _fit(self, z: np.ndarray) -> None:
        varying = int((np.ptp(z, axis=0) > 0).sum())
        kept = min(self.n_components, max(varying - 1, 0), len(z))
        self.mean_ = z.mean(0, dtype=np.float64)
        self.components_ = np.empty((0, z.shape[1]))
        if kept:
            from sklearn.decomposition import PCA  # takes a while

            self.components_ = PCA(kept, svd_solver="full").fit(z).components_.astype(np.float64)

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        rest = z[starts].astype(np.float64) - self.mean_
        rest -= rest @ self.components_.T @ self.components_
        return np.linalg.norm(rest, axis=1, keepdims=True)


class LinearAutoregression(Detector):
    """Squared Mahalanobis distance of a row to what a linear function of the rows before it expects.

    A vector autoregression, fitted by least squares with an L2 penalty; its residuals are whitened by
    their covariance on the train split. The Gaussian of many rows jointly is a product of such
    conditional ones, so the mean of this score over a stretch stands to `Mahalanobis` of that stretch
    as near as rows further back than the window matter little. The score is of the last row alone; the
    first rows of a series have that of the first whole window.

    Parameters
    ----------
    window : int
        The row and those before it that are looked at, at least 2.
    alpha : float or "auto"
        The penalty, in units of the mean variance of what is looked at. "auto" tries four powers of
        ten and takes the one that forecasts the last fifth of the train split best from the rest.
    scaler, aggregate, smooth, contamination
        See `Detector`; `aggregate` says whether smoothing may look ahead, nothing else.
    """

    _arrays = ("coefficients_", "whitening_")

    def __init__(
        self,
        *,
        window: int = 11,
        alpha: float | Literal["auto"] = "auto",
        scaler: ScalerKind = "standard",
        aggregate: Aggregate = "mean",
        smooth: Smooth = "off",
        contamination: float = 0.01,
    ) -> None:
        self.window, self.alpha, self.scaler = window, alpha, scaler
        self.aggregate, self.smooth, self.contamination = aggregate, smooth, contamination

    def check(self) -> None:
        super().check()
        check_whole("window", self.window, 2)
        if not (isinstance(self.alpha, str) and self.alpha == "auto"):
            check_number("alpha", self.alpha, 0.0)

    def steps_scored(self) -> int:
        return 1

    def _split(self, z: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is looked at, with a 1 for the constant (b p·c + 1), and what is forecast (b c)."""
        vectors = windows(z, self.window)[starts].astype(np.float64)  # (b t c)
        before = vectors[:, :-1].reshape(len(starts), -1)
        return np.column_stack([before, np.ones(len(starts))]), vectors[:, -1]

    def _moments(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums over all windows of products of what is looked at: with itself, with what comes."""
        size = self.window * z.shape[1] + 1
        starts = np.arange(len(z) - self.window + 1)
        own, other = 0.0, 0.0
        for index in np.array_split(starts, max(1, len(starts) * size // BLOCK)):
            x, y = self._split(z, index)
            own, other = own + x.T @ x, other + x.T @ y
        return np.asarray(own), np.asarray(other)

    def _fit(self, z: np.ndarray) -> None:
        own, other = self._moments(z)
        alpha = self.alpha if not isinstance(self.alpha, str) else self._best(z)
        self.coefficients_ = _ridge(own, other, alpha)
        residuals = self._residuals(z, np.arange(len(z) - self.window + 1))
        self.whitening_ = whitening(residuals.T @ residuals / len(residuals))

    def _best(self, z: np.ndarray) -> float:
        cut = len(z) - max(self.window, len(z) // 5)
        if cut < self.window:
            return 1.0
        own, other = self._moments(z[:cut])
        later = np.arange(cut - self.window + 1, len(z) - self.window + 1)
        errors = []
        for alpha in ALPHAS:
            self.coefficients_ = _ridge(own, other, alpha)
            errors.append((self._residuals(z, later) ** 2).mean())
        return ALPHAS[int(np.argmin(errors))]

    def _residuals(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        size = self.window * z.shape[1]
        parts = []
        for index in np.array_split(starts, max(1, len(starts) * size // BLOCK)):
            x, y = self._split(z, index)
            parts.append(y - x @ self.coefficients_)
        return np.concatenate(parts)

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return ((self._residuals(z, starts) @ self.whitening_) ** 2).sum(1, keepdims=True)


def _ridge(own: np.ndarray, other: np.ndarray, alpha: float) -> np.ndarray:
    """Least squares with an L2 penalty on all but the constant, the last row; from moments."""
    penalty = np.full(len(own), alpha * max(np.trace(own[:-1, :-1]) / (len(own) - 1), 1e-12))
    penalty[-1] = 0.0
    return np.linalg.solve(own + np.diag(penalty), other)
