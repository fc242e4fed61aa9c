"""Has the process changed since the detector was fitted? A test with a stated error, not a look."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.signal import find_peaks

from madcluster.arguments import check_flag, check_number, check_scores, check_seed, check_whole

__all__ = ["Drift", "DriftMonitor", "find_period"]

BETS = np.array([-1.0, 0.0, 1.0])  # on small p-values, on none, on large ones
JUMP = 0.01  # of the wealth that is spread anew over the bets after each block
LEAST = 3  # blocks of normal rows


class Drift(NamedTuple):
    """What is known after a block of rows."""

    stop: int  # rows that were seen when the block was full
    level: float  # share of the normal scores below the block's median; about 1/2 without a drift
    p_value: float  # small where its median is higher than those before, near 1 where it is lower
    wealth: float  # of the martingale: at least 1/alpha is a drift
    drifted: bool  # now or before


class DriftMonitor:
    """Test whether blocks of new rows are like those of normal rows, as often as there is a new one.

    The p-value of a block is the rank of its median among those of all blocks before it, with ties
    broken at random. If blocks are exchangeable, these p-values are independent and uniform, and a bet
    against that wins nothing in the long run: the wealth of the *simple jumper* (Vovk et al., COPA
    2021), which bets on high and on low levels, is a martingale that starts at 1. By Ville's inequality
    it ever reaches 1/alpha with a probability of at most alpha, however long it is watched.

    What is guaranteed: at most that probability of a false drift, if blocks are exchangeable. Blocks of
    parts of a day are not where the process has a daily cycle; whole periods are more nearly so: see
    `find_period`. What is not: how soon a drift is found, and what it means. A third of the wealth
    bets on high levels, and grows by less than half a block: nothing is found before
    log(3/alpha)/log(3/2) blocks, 15 for the default, however many normal ones there are. With few of
    them it takes longer, for new blocks are compared with one another too: of blocks at a new level
    that lasts, above all before, it takes 23 in the mean with 15 normal blocks, and 68 with 5.
    `possible` says it beforehand. A fault that lasts is a drift too.

    Parameters
    ----------
    normal : (n,)
        Scores of normal rows that were not learned, such as `calibration_scores_`.
    block : int
        Rows of a block: best a whole number of periods.
    alpha : float
        Probability of ever finding a drift where there is none, in (0, 1).
    seed : int
        Of the ties.

    Attributes
    ----------
    seen : int
        Rows in whole blocks that came.
    drifted : bool
        Whether the wealth ever was 1/alpha or more.

    Raises
    ------
    ValueError
        For scores that are not finite, an argument out of its range, or less than three blocks.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> monitor = DriftMonitor(rng.normal(size=2000), block=100)
    >>> bool(monitor.update(rng.normal(size=1000))["drifted"].any())
    False
    >>> bool(monitor.update(rng.normal(2, size=4000))["drifted"].any())
    True
    """

    def __init__(
        self, normal: ArrayLike, *, block: int, alpha: float = 0.01, seed: int = 0
    ) -> None:
        values = check_scores("normal", normal)
        self.block = check_whole("block", block)
        self.alpha = check_number("alpha", alpha, 0, 1)
        n = len(values) // self.block
        if n < LEAST:
            raise ValueError(
                f"normal has {len(values)} scores, {n} blocks of {self.block}: at least {LEAST} are "
                f"needed"
            )
        self._normal = np.sort(values)
        whole = values[len(values) - n * self.block :].reshape(n, self.block)
        # a rank among the normal rows would not do: the normal blocks are part of those themselves
        self._medians = np.median(whole, axis=1).tolist()
        self._bets = np.full(len(BETS), 1 / len(BETS))
        self._rng = np.random.default_rng(check_seed(seed))
        self._rest = np.empty(0)
        self.seen, self.drifted = 0, False

    @property
    def wealth(self) -> float:
        """Of the martingale, 1 at the start; 1/alpha or more is a drift."""
        return float(self._bets.sum())

    def update(self, scores: ArrayLike) -> pd.DataFrame:
        """Take some more scores (m,), in order, cut as they come.

        Returns
        -------
        A row, with the columns of `Drift`, for every block that they filled.

        Raises
        ------
        ValueError
            For scores that are not finite; none of them is taken then.
        """
        values = np.concatenate([self._rest, check_scores("scores", scores, least=0)])
        found = []
        while len(values) >= self.block:
            self.seen += self.block
            found.append(self._take(float(np.median(values[: self.block]))))
            values = values[self.block :]
        self._rest = values
        kinds = {"stop": int, "level": float, "p_value": float, "wealth": float, "drifted": bool}
        return pd.DataFrame(found, columns=list(kinds)).astype(kinds)

    def possible(self, blocks: int, *, lasts: bool = False) -> bool:
        """Whether a drift would be found within some more blocks, each of them higher than all before.

        It is computed from the wealth as it is, with each p-value at its mean, which gives the mean of
        the wealth exactly: a test that is lucky with its p-values is quicker, one that is not is
        slower. After n blocks the p-value of a block above all of them is uniform up to 1/(1 + n). The
        monitor stays as it is, and of ties there are none.

        Parameters
        ----------
        blocks : int
            From now on.
        lasts : bool
            The blocks are higher than all that came until now, but like one another, as after a step to
            a new level. This takes longer: the k-th has a p-value that is uniform up to k/(1 + n).

        Returns
        -------
        Whether the mean of the wealth is 1/alpha or more after one of these blocks; True where a drift
        was found already.

        Examples
        --------
        >>> monitor = DriftMonitor(np.random.default_rng(0).normal(size=1500), block=100)
        >>> monitor.possible(20), monitor.possible(20, lasts=True), monitor.possible(23, lasts=True)
        (True, False, True)
        """
        blocks, lasts = check_whole("blocks", blocks, 0), check_flag("lasts", lasts)
        bets, n = self._bets, len(self._medians)
        for k in range(blocks):
            if self.drifted or bets.sum() >= 1 / self.alpha:
                return True
            bets = _after(bets, (1 + k if lasts else 1) / (1 + n + k) / 2)
        return self.drifted or bool(bets.sum() >= 1 / self.alpha)

    def _take(self, median: float) -> Drift:
        before = np.array(self._medians)
        ties = 1 + (before == median).sum()
        p = float(((before > median).sum() + self._rng.uniform() * ties) / (1 + len(before)))
        self._medians.append(median)
        self._bets = _after(self._bets, p)
        self.drifted = self.drifted or self.wealth >= 1 / self.alpha
        level = float(np.searchsorted(self._normal, median) / len(self._normal))
        return Drift(self.seen, level, p, self.wealth, self.drifted)


def _after(bets: np.ndarray, p: float) -> np.ndarray:
    """The wealth on each bet after one more p-value."""
    spread = (1 - JUMP) * bets + JUMP * bets.sum() / len(BETS)
    return spread * (1 + BETS * (p - 0.5))


def find_period(rows: ArrayLike, *, longest: int | None = None) -> int | None:
    """Rows after which a series repeats itself, or None where no cycle stands out.

    The place of the highest peak of the autocorrelation, in the mean over channels that vary; of peaks
    within a tenth of the highest, the first. A day of a row a minute is 1,440.

    Parameters
    ----------
    rows : (n,) or (n c)
        Of a normal stretch, three periods long or longer.
    longest : int, optional
        No longer period is looked for; a third of the rows by default.

    Examples
    --------
    >>> hours = np.arange(24 * 30)
    >>> find_period(np.sin(2 * np.pi * hours / 24))
    24
    """
    values = np.asarray(rows, dtype=np.float64)
    values = values.reshape(len(values), -1)
    values = values[:, np.ptp(values, axis=0) > 0]
    longest = len(values) // 3 if longest is None else check_whole("longest", longest)
    if not values.shape[1] or longest < 2:
        return None
    mean = _autocorrelation(values)[: longest + 1].mean(1)
    # the estimate shrinks with the lag, since fewer pairs of rows are that far apart
    mean *= len(values) / (len(values) - np.arange(len(mean)))
    peaks, about = find_peaks(mean, height=0.2, prominence=0.2)
    if not len(peaks):
        return None
    return int(peaks[np.argmax(about["peak_heights"] >= 0.9 * about["peak_heights"].max())])


def _autocorrelation(values: np.ndarray) -> np.ndarray:
    """Of every channel with itself, by lag, with the same divisor for all lags; (n c) → (n c)."""
    n = len(values)
    around = np.fft.rfft(values - values.mean(0), n=2 * n, axis=0)  # zeros behind: no lag wraps
    products = np.fft.irfft(np.abs(around) ** 2, n=2 * n, axis=0)[:n]
    return products / products[0]
