"""Detectors that know next to nothing: what every other has to beat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from madcluster.aggregation import Aggregate, Smooth
from madcluster.arguments import check_seed, check_whole
from madcluster.data import windows
from madcluster.data.series import ScalerKind
from madcluster.detectors.base import Detector

__all__ = [
    "ConstantScore",
    "L2Norm",
    "LargestDeviation",
    "MovingVariance",
    "RandomScore",
    "SquaredDifference",
]


class RandomScore(Detector):
    """Uniform noise: the floor that every table needs."""

    def __init__(
        self,
        *,
        seed: int = 0,
        aggregate: Aggregate = "mean",
        smooth: Smooth = "off",
        contamination: float = 0.01,
    ) -> None:
        self.seed, self.aggregate, self.smooth = seed, aggregate, smooth
        self.contamination = contamination

    def check(self) -> None:
        super().check()
        check_seed(self.seed)

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return np.random.default_rng(self.seed).random(len(z))[starts, None]

    def _scores(self, z: np.ndarray, *, learned: bool = False) -> np.ndarray:
        return np.random.default_rng(self.seed).random(len(z))

    def last_scores(self, seen: int = 0) -> tuple[int, Callable[[np.ndarray], np.ndarray]] | None:
        generator = np.random.PCG64(self.seed).advance(seen)
        numbers = np.random.Generator(generator)
        return 0, lambda z: numbers.random(len(z))


class ConstantScore(Detector):
    """The same score everywhere: what a metric gives for knowing nothing."""

    def __init__(
        self,
        *,
        aggregate: Aggregate = "mean",
        smooth: Smooth = "off",
        contamination: float = 0.01,
    ) -> None:
        self.aggregate, self.smooth, self.contamination = aggregate, smooth, contamination

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return np.zeros((len(starts), 1))


class _OfRows(Detector):
    """Scores scaled rows, or short windows of them, and learns nothing but their scale."""

    def __init__(
        self,
        *,
        scaler: ScalerKind = "standard",
        aggregate: Aggregate = "mean",
        smooth: Smooth = "off",
        contamination: float = 0.01,
    ) -> None:
        self.scaler, self.aggregate, self.smooth = scaler, aggregate, smooth
        self.contamination = contamination


class L2Norm(_OfRows):
    """Euclidean norm of the standardized row (Sarfraz et al., ICML 2024)."""

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return np.linalg.norm(z[starts].astype(np.float64), axis=1, keepdims=True)


class LargestDeviation(_OfRows):
    """The largest of the channels' standardized deviations: the three-sigma rule of a control room."""

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return abs(z[starts]).max(1, keepdims=True).astype(np.float64)


class SquaredDifference(_OfRows):
    """Squared Euclidean distance of the standardized row to the one before it.

    The score is that of the later row; the first row of a series has that of the second.
    """

    window = 2

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        steps = z[starts + 1].astype(np.float64) - z[starts]
        return (steps**2).sum(1, keepdims=True)

    def steps_scored(self) -> int:
        return 1


class MovingVariance(Detector):
    """Variance of the standardized channels within a short window, summed over channels."""

    def __init__(
        self,
        *,
        window: int = 10,
        scaler: ScalerKind = "standard",
        aggregate: Aggregate = "mean",
        smooth: Smooth = "off",
        contamination: float = 0.01,
    ) -> None:
        self.window, self.scaler, self.aggregate = window, scaler, aggregate
        self.smooth, self.contamination = smooth, contamination

    def check(self) -> None:
        super().check()
        check_whole("window", self.window, 2)

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        of_windows = windows(z, self.window)[starts]  # (b t c)
        return of_windows.var(1, dtype=np.float64).sum(1, keepdims=True)
