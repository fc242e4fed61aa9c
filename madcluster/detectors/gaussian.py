"""One Gaussian for normal data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np

from madcluster.aggregation import Aggregate, Smooth
from madcluster.arguments import check_one_of
from madcluster.data import windows
from madcluster.data.series import ScalerKind
from madcluster.detectors.base import Detector

__all__ = ["Covariance", "Mahalanobis", "whitening"]

Covariance = Literal["empirical", "oas"]
BLOCK = 4_000_000  # numbers at work at a time


def whitening(covariance: np.ndarray) -> np.ndarray:
    """W with W Wᵀ = Σ⁻¹; (d d) → (d d).

    No direction is given less than a millionth of the largest variance, or it would decide alone.
    """
    values, vectors = np.linalg.eigh(covariance)
    # the root keeps the square finite where nothing varies
    least = max(1e-6 * values[-1], np.finfo(np.float32).tiny ** 0.5)
    return vectors / np.sqrt(np.maximum(values, least))


class Mahalanobis(Detector):
    """Squared Mahalanobis distance of a short window to the windows of the train split.

    The T² statistic (Hotelling, 1947) of `window` rows as one vector: one Gaussian for normal data,
    with no network. As for the score of that name of `MADCluster`, no direction is given less than a
    millionth of the largest variance. Memory grows with the square of `window` times channels, and not
    with rows.

    Parameters
    ----------
    window : int
        Rows of one vector.
    covariance : "empirical" or "oas"
        "oas" shrinks it toward a multiple of the identity by the rule of Chen et al. (IEEE TSP 2010),
        for trains with few windows for their `window` times channels; with "empirical" the scores of
        such a train come out far too low. The rule takes windows for independent, which overlapping
        ones are not, so it shrinks too little rather than too much.
    scaler, aggregate, smooth, contamination
        See `Detector`.
    """

    _arrays = ("mean_", "whitening_")

    def __init__(
        self,
        *,
        window: int = 10,
        covariance: Covariance = "empirical",
        scaler: ScalerKind = "standard",
        aggregate: Aggregate = "mean",
        smooth: Smooth = "off",
        contamination: float = 0.01,
    ) -> None:
        self.window, self.covariance, self.scaler = window, covariance, scaler
        self.aggregate, self.smooth, self.contamination = aggregate, smooth, contamination

    def check(self) -> None:
        super().check()
        check_one_of("covariance", self.covariance, get_args(Covariance))

    def _blocks(self, z: np.ndarray) -> Iterator[np.ndarray]:
        """Vectors of all windows, (b t·c) float64 each."""
        of_windows = windows(z, self.window)  # (b t c), a view
        for start in range(0, len(of_windows), size := max(1, BLOCK // of_windows[0].size)):
            block = of_windows[start : start + size]
            yield block.reshape(len(block), -1).astype(np.float64)

    def _fit(self, z: np.ndarray) -> None:
        n = len(z) - self.window + 1
        self.mean_ = sum(block.sum(0) for block in self._blocks(z)) / n
        products = ((b := block - self.mean_).T @ b for block in self._blocks(z))
        covariance = np.asarray(sum(products)) / n
        if self.covariance == "oas":
            covariance = _shrunk(covariance, n)
        self.whitening_ = whitening(covariance)

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        vectors = windows(z, self.window)[starts].reshape(len(starts), -1)
        return (((vectors - self.mean_) @ self.whitening_) ** 2).sum(1, keepdims=True)


def _shrunk(covariance: np.ndarray, n: int) -> np.ndarray:
    """Oracle approximating shrinkage, from the covariance (d d) of n vectors alone.

    `sklearn.covariance.oas` does the same for vectors that are all in memory.
    """
    d = len(covariance)
    mean = np.trace(covariance) / d
    square = (covariance**2).mean()
    divisor = (n + 1) * (square - mean**2 / d)
    share = 1.0 if divisor <= 0 else min((square + mean**2) / divisor, 1.0)
    return (1 - share) * covariance + share * mean * np.eye(d)
