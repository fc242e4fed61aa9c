"""Distances of short windows to those of the train split."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from madcluster.aggregation import Aggregate, Smooth
from madcluster.arguments import check_seed, check_whole
from madcluster.data import windows
from madcluster.data.series import ScalerKind
from madcluster.detectors.base import Detector

__all__ = ["KMeansAD", "NearestNeighbor"]


class NearestNeighbor(Detector):
    """Distance of a short window to the nearest window of the train split.

    Training rows are compared with windows that do not overlap their own.

    Parameters
    ----------
    window : int
    max_train : int
        Windows that are kept, at equal distances.
    scaler, aggregate, smooth, contamination
        See `Detector`.
    """

    _arrays = ("rows_", "known_")

    def __init__(
        self,
        *,
        window: int = 10,
        max_train: int = 20_000,
        scaler: ScalerKind = "standard",
        aggregate: Aggregate = "mean",
        smooth: Smooth = "off",
        contamination: float = 0.01,
    ) -> None:
        self.window, self.max_train, self.scaler = window, max_train, scaler
        self.aggregate, self.smooth, self.contamination = aggregate, smooth, contamination

    def check(self) -> None:
        super().check()
        check_whole("max_train", self.max_train)

    def _fit(self, z: np.ndarray) -> None:
        n = len(z) - self.window + 1
        self.rows_ = np.arange(0, n, -(-n // self.max_train))
        self.known_ = _vectors(z, self.rows_, self.window)
        self._index()

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        last = len(self.decision_scores_) - self.window
        steps = np.diff(self.rows_, prepend=-1, append=last + 1)
        if self.rows_.dtype.kind != "i" or self.rows_.ndim != 1 or not (steps > 0).all():
            raise ValueError(f"its windows do not begin in rows 0 to {last}, in order")
        if self.known_.shape != (len(self.rows_), self.window * self.n_features_in_):
            raise ValueError(f"its {len(self.rows_)} windows have the shape {self.known_.shape}")
        self._index()

    def _index(self) -> None:
        from sklearn.neighbors import NearestNeighbors  # takes a while

        self.index_ = NearestNeighbors(algorithm="brute").fit(self.known_)

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        distance, _ = self.index_.kneighbors(_vectors(z, starts, self.window), n_neighbors=1)
        return distance.astype(np.float64)

    def _train_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        own = min(2 * self.window, len(self.rows_))  # at most 2w − 1 windows overlap one's own
        distance, index = self.index_.kneighbors(_vectors(z, starts, self.window), n_neighbors=own)
        overlaps = np.abs(self.rows_[index] - starts[:, None]) < self.window
        first = np.argmin(overlaps, axis=1)  # nearest that does not overlap
        return distance[np.arange(len(index)), first][:, None].astype(np.float64)


class KMeansAD(Detector):
    """Distance of a short window to the nearest of k means of the train windows.

    Clusters of subsequences as a detector go back to Yairi et al. (i-SAIRAS 2001).

    Parameters
    ----------
    window : int
    n_clusters : int
        k; less where the train split has fewer windows.
    max_train : int
        Windows that the means are learned from, at equal distances.
    seed : int
        Of the first means.
    scaler, aggregate, smooth, contamination
        See `Detector`.
    """

    _arrays = ("centers_",)

    def __init__(
        self,
        *,
        window: int = 20,
        n_clusters: int = 20,
        max_train: int = 20_000,
        seed: int = 0,
        scaler: ScalerKind = "standard",
        aggregate: Aggregate = "mean",
        smooth: Smooth = "off",
        contamination: float = 0.01,
    ) -> None:
        self.window, self.n_clusters, self.max_train = window, n_clusters, max_train
        self.seed, self.scaler, self.aggregate = seed, scaler, aggregate
        self.smooth, self.contamination = smooth, contamination

    def check(self) -> None:
        super().check()
        check_whole("n_clusters", self.n_clusters)
        check_whole("max_train", self.max_train)
        check_seed(self.seed)

    def _fit(self, z: np.ndarray) -> None:
        n = len(z) - self.window + 1
        known = _vectors(z, np.arange(0, n, -(-n // self.max_train)), self.window)
        k = min(self.n_clusters, len(np.unique(known, axis=0)))
        from sklearn.cluster import KMeans  # takes a while

        means = KMeans(k, n_init=1, random_state=self.seed).fit(known.astype(np.float64))
        self.centers_ = means.cluster_centers_

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        vectors = _vectors(z, starts, self.window).astype(np.float64)
        # one center at a time: all differences at once would be k times as large
        squares = [((vectors - center) ** 2).sum(1) for center in self.centers_]
        return np.sqrt(np.min(squares, axis=0))[:, None]


def _vectors(z: np.ndarray, starts: np.ndarray, window: int) -> np.ndarray:
    """Windows as vectors, (b t·c)."""
    return windows(z, window)[starts].reshape(len(starts), -1)
