"""One Gaussian of random features: a network that is never trained."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from madcluster.aggregation import Aggregate, Smooth
from madcluster.arguments import check_seed, check_whole
from madcluster.data import windows
from madcluster.data.series import ScalerKind
from madcluster.detectors.base import Detector
from madcluster.detectors.gaussian import whitening

__all__ = ["RandomFeatures"]

BLOCK = 4096  # rows at work at a time
SLOPE = 0.1  # of the leaky ReLU below 0
KERNEL = 3  # taps of a convolution


class RandomFeatures(Detector):
    """Squared Mahalanobis distance of random features of a row and of the rows before it.

    The features are those of dilated causal convolutions whose weights are drawn and never trained, in
    the manner of random kitchen sinks (Rahimi and Recht, NeurIPS 2008) and of ROCKET (Dempster et al.,
    2020): h₀ = W x, and layer i adds to h the leaky ReLU of a convolution of three taps that lie 2^i
    rows apart, without a bias. One Gaussian is fitted to them in closed form, so nothing can collapse,
    a refit is cheap, and a score is exact in a stream. A further linear layer would change nothing: the
    distance is invariant under it. Several networks are drawn, and the score is the geometric mean of
    their distances.

    Parameters
    ----------
    d : int
        Features of a network.
    n_layers : int
        With 4 a score is of 31 rows, 2^(n_layers + 1) − 1.
    n_draws : int
        Networks.
    seed : int
        Of their weights.
    scaler, aggregate, smooth, contamination
        See `Detector`.
    """

    _arrays = ("inlet_", "layers_", "mean_", "whitening_")

    def __init__(
        self,
        *,
        d: int = 64,
        n_layers: int = 4,
        n_draws: int = 4,
        seed: int = 0,
        scaler: ScalerKind = "standard",
        aggregate: Aggregate = "mean",
        smooth: Smooth = "off",
        contamination: float = 0.01,
    ) -> None:
        self.d, self.n_layers, self.n_draws, self.seed = d, n_layers, n_draws, seed
        self.scaler, self.aggregate, self.smooth = scaler, aggregate, smooth
        self.contamination = contamination

    @property
    def window(self) -> int:  # type: ignore[override]
        """Rows that a score is of."""
        return 1 + (KERNEL - 1) * (2**self.n_layers - 1)

    def check(self) -> None:
        for name in ("d", "n_layers", "n_draws"):
            check_whole(name, getattr(self, name))
        if self.n_layers > 12:  # a window of 8,191 rows
            raise ValueError(f"n_layers must be at most 12, got {self.n_layers}")
        check_seed(self.seed)
        super().check()

    def _fit(self, z: np.ndarray) -> None:
        rng, c = np.random.default_rng(self.seed), z.shape[1]
        # as a layer of torch begins: uniform, within one over the root of its inputs
        self.inlet_ = rng.uniform(-1, 1, (self.n_draws, c, self.d)) / c**0.5
        shape = (self.n_draws, self.n_layers, KERNEL, self.d, self.d)
        self.layers_ = rng.uniform(-1, 1, shape) / (KERNEL * self.d) ** 0.5
        n = len(z) - self.window + 1
        means, whitenings = [], []
        for draw in range(self.n_draws):
            mean = np.sum([h.sum(0) for h in self._blocks(z, draw)], axis=0) / n
            products = ((h - mean).T @ (h - mean) for h in self._blocks(z, draw))
            covariance: np.ndarray = sum(products, np.zeros((self.d, self.d))) / n
            means.append(mean)
            whitenings.append(whitening(covariance))
        self.mean_, self.whitening_ = np.array(means), np.array(whitenings)

    def _blocks(self, z: np.ndarray, draw: int) -> Iterator[np.ndarray]:
        """Features of all rows that end a window, (b d) each."""
        reach = self.window - 1
        for start in range(0, len(z) - reach, BLOCK):
            yield self._features(z[start : start + BLOCK + reach], draw)

    def _features(self, x: np.ndarray, draw: int) -> np.ndarray:
        """Of the rows that have enough before them; (… n c) → (… n − window + 1, d)."""
        h = x.astype(np.float64) @ self.inlet_[draw]
        for i, taps in enumerate(self.layers_[draw]):
            s = 2**i
            parts = h[..., : -2 * s, :], h[..., s:-s, :], h[..., 2 * s :, :]
            added = sum(part @ tap for part, tap in zip(parts, taps, strict=True))
            h = parts[-1] + np.maximum(added, SLOPE * added)
        return h

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        first, end = int(starts.min()), int(starts.max()) + 1
        if end - first <= len(starts) * self.window:  # they share most of their rows
            return self._distances(z[first : end - 1 + self.window])[starts - first, None]
        size = max(1, BLOCK // self.window)
        parts = np.array_split(starts, -(-len(starts) // size))
        return np.concatenate([self._distances(windows(z, self.window)[part]) for part in parts])

    def _distances(self, x: np.ndarray) -> np.ndarray:
        """Geometric mean over the networks; (… n c) → (… n − window + 1)."""
        total = np.zeros(())
        for draw, (mean, white) in enumerate(zip(self.mean_, self.whitening_, strict=True)):
            square = (((self._features(x, draw) - mean) @ white) ** 2).sum(-1)
            total = total + np.log(np.maximum(square, np.finfo(np.float64).tiny))
        found: np.ndarray = np.exp(total / self.n_draws)
        return found
