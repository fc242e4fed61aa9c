r"""Range-AUC and VUS: areas under curves that give credit for being almost there.

The idea is that of Paparrizos et al. (VLDB 2022), whose VUS integrates Range-AUC curves over windows.
Definitions here are those of `vus` 0.0.6, a variant of it. Other releases give other numbers, so
state the definition and the window beside a value.

**Soft labels.** Every anomalous segment gets a buffer of :math:`h = \lfloor w/2 \rfloor` steps on
both sides. Step :math:`i`, at distance :math:`d_k(i)` from segment :math:`k`, has the label

.. math:: \ell_w(i) = \min\Big(1,\; y_i + \sum_k \sqrt{1 - d_k(i)/w}\;[1 \le d_k(i) \le h]\Big).

**Curves.** The thresholds are the sorted scores at T evenly spaced ranks. At threshold t, with
:math:`n_t` predicted steps, :math:`TP = \sum \ell_w \cdot pred` and :math:`P = \sum y`,

.. math:: TPR = E \min(TP/P', 1), \quad FPR = (n_t - TP)/(N - P'), \quad precision = TP/n_t,

where the existence E is the share of buffered segments, merged where they meet, that hold a
prediction. Range-AUC and VUS differ in P', in the rule that merges and in the integral of precision
over recall: see `range_auc_score` and `vus_score`. A Range-AUC is therefore no slice of a VUS.

**The fast form.** Written down literally, VUS visits every step for every threshold and window:
L·T·(N + S) operations for S segments. Five observations take the products apart.

1. A step counts at threshold t from one t on: its *bucket*, the first threshold not above its
   score. What is needed at all thresholds is one histogram over buckets and one cumulative sum.
2. The thresholds, and how many steps each predicts, follow from the scores in ascending order. No
   step needs its place in that order, so values are sorted, not indices.
3. Only steps that lie in a buffer need a bucket, and of a segment its highest score: far fewer than
   the steps of the series, which are not visited one by one at all.
4. Within its buffer a soft label depends on the distance only, and :math:`\sqrt{1 - d/w} \ge 0.707`
   for :math:`d \le w/2`: two buffers that overlap always clip to 1. So a normal step has just two
   numbers, the distances :math:`d_1 \le d_2` to the nearest and the second nearest segment, and its
   label is 0 for :math:`h < d_1`, the root of :math:`d_1` for :math:`d_1 \le h < d_2`, and 1 for
   :math:`d_2 \le h`. All segments share a table of counts over (:math:`d_1` × bucket), and the credit
   in the buffers of all windows is one product of matrices, roots times table. Where h reaches the
   :math:`d_2` of steps, they leave the table and join a histogram of full credits, and the product
   for longer windows is another.
5. A buffered segment that has not merged holds no steps but those that are nearest to it. Existence
   for all windows is then a running minimum of buckets over the distance, and a minimum over
   neighbors that have merged.

One sort of values, O(N) for comparisons, O(S·L) for the steps in buffers and O(L²·T) for the products
remain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from madcluster.data import segments
from madcluster.metrics._check import labels_and_scores, positive_count
from madcluster.metrics._ranked import CACHED, Ranked, ranked

__all__ = ["VUS", "RangeAUC", "range_auc_score", "soft_labels", "vus_score"]


class RangeAUC(NamedTuple):
    """Areas under the range-based curves for one window."""

    roc: float
    pr: float


class VUS(NamedTuple):
    """The variant of `vus` 0.0.6: means over the windows 0…max_window of areas under its curves."""

    roc: float
    pr: float


def range_auc_score(
    y_true: ArrayLike, y_score: ArrayLike, *, window: int = 100, n_thresholds: int = 250
) -> RangeAUC:
    """Areas under the range-based ROC and precision-recall curves (`vus` 0.0.6, ``RangeAUC``).

    P' = (P + Σ ℓ)/2 for all thresholds; buffered segments merge where they touch; precision is
    integrated over recall by trapezoids from (0, 1). Neither 0.5 nor the base rate is the value of
    a worthless score, and a score equal to the labels stays well below 1: print both beside
    results.

    Parameters
    ----------
    y_true, y_score : (m,)
        Labels of 0 and 1; finite scores, higher = more anomalous.
    window : int
        Twice the length of a buffer, in steps. 0 leaves the labels hard. It may exceed the series.
    n_thresholds : int
        Ranks at which the curves are evaluated, at least 2.

    Raises
    ------
    ValueError
        For bad labels or scores, see `madcluster.metrics`, or a bad number.

    Examples
    --------
    >>> auc = range_auc_score([0, 0, 0, 1, 1, 0, 0, 0], [1, 2, 3, 8, 7, 6, 5, 4], window=2)
    >>> round(auc.roc, 4), round(auc.pr, 4)
    (0.9928, 0.9872)
    """
    window = positive_count("window", window, least=0)
    n_thresholds = positive_count("n_thresholds", n_thresholds, least=2)
    return _range_auc(
        _around(ranked(*labels_and_scores(y_true, y_score)), window, n_thresholds), window
    )


def vus_score(
    y_true: ArrayLike, y_score: ArrayLike, *, max_window: int = 100, n_thresholds: int = 250
) -> VUS:
    """Volumes under the ROC and precision-recall surfaces over windows (`vus` 0.0.6, ``opt``).

    The mean over w = 0…max_window of the area, where P' = P + (TP − TP₀)/2 depends on the
    threshold, TP₀ being the hits on hard labels; buffered segments merge where they overlap; and
    precision is integrated over recall by steps. The volume grows with `max_window` and, near 1,
    with `n_thresholds`: fix and report both.

    Parameters
    ----------
    y_true, y_score : (m,)
        Labels of 0 and 1; finite scores, higher = more anomalous.
    max_window : int
        The longest window, in steps. It may exceed the series.
    n_thresholds : int
        Ranks at which the curves are evaluated, at least 2.

    Raises
    ------
    ValueError
        For bad labels or scores, see `madcluster.metrics`, or a bad number.

    Examples
    --------
    >>> vus = vus_score([0, 0, 0, 1, 1, 0, 0, 0], [1, 2, 3, 8, 7, 6, 5, 4], max_window=2)
    >>> round(vus.roc, 4), round(vus.pr, 4)
    (1.0, 1.0)
    """
    max_window = positive_count("max_window", max_window, least=0)
    n_thresholds = positive_count("n_thresholds", n_thresholds, least=2)
    return _vus(
        _around(ranked(*labels_and_scores(y_true, y_score)), max_window, n_thresholds), max_window
    )


def soft_labels(labels: np.ndarray, window: int) -> np.ndarray:
    """Labels (m,) bool with a fading buffer of window // 2 steps around each segment, (m,) in [0, 1].

    >>> soft_labels(np.array([False, False, True, False]), 2).round(3).tolist()
    [0.0, 0.707, 1.0, 0.707]
    """
    half = window // 2
    near = _near(segments(labels), len(labels), half)
    soft = labels.astype(np.float64)
    soft[near.steps] = _credit(near, window)
    return soft


def _range_auc(around: _Around, window: int) -> RangeAUC:
    half, n_thresholds = window // 2, len(around.rising)
    credit = _credit(around.near, window)

    # buffers merge as soon as they touch
    heads = np.flatnonzero(np.concatenate([[True], around.gaps > 2 * half + 1]))
    first = around.first.copy()  # (s,)
    np.minimum.at(first, around.near.owner, around.bucket)
    first = np.minimum.reduceat(first, heads)
    existence = np.cumsum(np.bincount(first, minlength=n_thresholds)) / len(heads)  # (t,)

    buffer = np.bincount(around.bucket, weights=credit, minlength=n_thresholds)
    tp = around.hits + np.cumsum(buffer)  # (t,)
    positives = around.hits[-1] + credit.sum() / 2
    tpr = np.minimum(tp / positives, 1) * existence
    fpr = (around.n_predicted - tp) / (around.n_predicted[-1] - positives)
    precision = np.concatenate([[1.0], tp / around.n_predicted])
    risen = np.concatenate([tpr[:1], tpr[1:] - tpr[:-1]])
    pr = risen @ (precision[1:] + precision[:-1]) / 2
    return RangeAUC(roc=_roc_areas(tpr[None], fpr[None]), pr=float(pr))


def _vus(around: _Around, max_window: int) -> VUS:
    existence = _existence(around, max_window // 2)  # (h t)
    # P' = P + (TP − TP₀)/2, its part that is the same for all windows, and N less that
    n_true = around.hits[-1] - around.hits / 2
    n_false = around.n_predicted[-1] - n_true
    roc, pr = 0.0, 0.0
    for windows, tp in _soft_hits(around, max_window):  # (w t)
        half = tp / 2
        tpr = half + n_true
        np.divide(tp, tpr, out=tpr)
        np.minimum(tpr, 1, out=tpr)
        tpr *= existence[windows // 2]
        fpr = around.n_predicted - tp
        fpr /= np.subtract(n_false, half, out=half)
        roc += _roc_areas(tpr, fpr)
        tp /= around.n_predicted  # the precision
        pr += float(np.vdot(tp, tpr)) - _neighbors(tp, tpr)
    return VUS(roc=roc / (max_window + 1), pr=pr / (max_window + 1))


class _Around(NamedTuple):
    """What both areas need of a ranking: thresholds from the highest on, and steps near segments."""

    rising: np.ndarray  # (t,), the thresholds, the lowest first
    n_predicted: np.ndarray  # (t,), steps that each predicts
    hits: np.ndarray  # (t,), anomalous ones
    first: np.ndarray  # (s,), the first bucket within each segment
    gaps: np.ndarray  # (s − 1,), between them
    near: _Near
    bucket: np.ndarray  # (i,), of the near steps


def _around(rank: Ranked, window: int, n_thresholds: int) -> _Around:
    n, n_true = len(rank.ascending), len(rank.hits)
    ranks = np.linspace(0, n - 1, n_thresholds).astype(int)
    rising = rank.ascending[n - 1 - ranks[::-1]]
    near = _near(rank.bounds, n, window // 2)
    return _Around(
        rising,
        n - np.searchsorted(rank.ascending, rising)[::-1],
        n_true - np.searchsorted(rank.hits, rising)[::-1],
        _buckets(rank.highest(), rising),
        _gaps(rank.bounds),
        near,
        _buckets(rank.scores[near.steps], rising),
    )


def _buckets(scores: np.ndarray, rising: np.ndarray) -> np.ndarray:
    """First threshold, from the highest on, that predicts each score; none is below the lowest."""
    # a few searches for thresholds in sorted scores, not one for every score in any order
    order = np.argsort(scores)
    begins = np.append(np.searchsorted(scores[order], rising), len(scores))
    bucket = np.empty(len(scores), dtype=np.int64)
    bucket[order] = np.repeat(np.arange(len(rising))[::-1], begins[1:] - begins[:-1])
    return bucket


class _Near(NamedTuple):
    """The normal steps in the buffers of segments, each with the segment that is nearest."""

    steps: np.ndarray  # (i,)
    owner: np.ndarray  # (i,)
    nearest: np.ndarray  # (i,), the distance to it
    second: np.ndarray  # (i,), the distance to the second nearest


def _near(bounds: np.ndarray, n: int, reach: int) -> _Near:
    """Of every gap the half that is nearer to a segment, as far as `reach`."""
    start, last = bounds[:, 0], bounds[:, 1] - 1  # (s,)
    gaps, far = _gaps(bounds), 2 * (n + reach)
    right = np.append(gaps // 2, n - 1 - last[-1])  # the middle of a gap belongs to its left
    left = start[:1], (gaps - 1) // 2
    sides = np.minimum(np.concatenate([right, *left]), reach)  # steps of every side, (2s,)
    side = np.repeat(np.arange(len(sides)), sides)
    owner = np.repeat(np.tile(np.arange(len(start)), 2), sides)
    nearest = np.arange(1, len(side) + 1) - np.repeat(np.cumsum(sides) - sides, sides)
    origin = np.concatenate([last, start])
    steps = origin[side] + np.where(side < len(start), nearest, -nearest)
    # the second nearest: the one across the gap, or the one behind the nearest
    across = np.concatenate([gaps, [far, far], gaps])
    behind = np.concatenate([[far], last[1:] - last[:-1], start[1:] - start[:-1], [far]])
    second = np.minimum(across[side] - nearest, behind[side] + nearest)
    return _Near(steps, owner, nearest, second)


def _gaps(bounds: np.ndarray) -> np.ndarray:
    """From the last step of a segment to the first of the next, (s − 1,)."""
    return bounds[1:, 0] - bounds[:-1, 1] + 1


def _credit(near: _Near, window: int) -> np.ndarray:
    """Soft labels of the steps near segments, (i,)."""
    return np.where(near.second <= window // 2, 1.0, np.sqrt(1 - near.nearest / max(window, 1)))


def _soft_hits(around: _Around, max_window: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Σ ℓ_w·pred at every threshold, (w t), for a few windows (w,) at a time.

    So all that is computed of them stays in a fast cache.
    """
    near, n_thresholds = around.near, len(around.rising)
    reach, most = max_window // 2, max(1, CACHED // n_thresholds)
    cells = near.nearest * n_thresholds + around.bucket
    single = np.bincount(cells, minlength=(reach + 1) * n_thresholds).astype(np.float64)
    counts = single.reshape(reach + 1, n_thresholds)
    table = np.cumsum(counts, axis=1)  # (d t)
    table[0] = around.hits  # at distance 0, and all that has a full credit later
    distance = np.arange(reach + 1)

    # steps in the order in which a second buffer reaches them
    twice = np.flatnonzero(near.second <= reach)
    twice = twice[np.argsort(near.second[twice], kind="stable")]
    changes, begins = np.unique(near.second[twice], return_index=True)
    done = 0
    for until, reached in zip(
        [*(2 * changes), max_window + 1], np.split(twice, begins), strict=True
    ):
        if len(reached):
            np.subtract.at(single, cells[reached], 1)
            rows = np.unique(near.nearest[reached])
            table[rows] = np.cumsum(counts[rows], axis=1)
            table[0] += np.cumsum(np.bincount(around.bucket[reached], minlength=n_thresholds))
        for low in range(done, until, most):
            windows = np.arange(low, min(low + most, until))
            half = windows[-1] // 2 + 1
            share = 1 - distance[:half] / np.maximum(windows, 1)[:, None]
            share[distance[:half] > (windows // 2)[:, None]] = 0
            yield windows, np.sqrt(share, out=share) @ table[:half]
        done = until


def _existence(around: _Around, reach: int) -> np.ndarray:
    """Share of merged segments with a prediction, for buffers 0…reach and thresholds (h t)."""
    near, n_segments, n_thresholds = around.near, len(around.first), len(around.rising)
    least = np.full((reach + 1, n_segments), n_thresholds)  # (h s)
    least[0] = around.first
    np.minimum.at(least.ravel(), near.nearest * n_segments + near.owner, around.bucket)
    np.minimum.accumulate(least, axis=0, out=least)
    heads = np.ones((reach + 1, n_segments), dtype=bool)
    heads[:, 1:] = around.gaps > 2 * np.arange(reach + 1)[:, None]
    n_groups = heads.sum(axis=1)  # (h,)
    cells = np.repeat(np.arange(reach + 1) * n_thresholds, n_groups)
    cells += np.minimum.reduceat(least.ravel(), np.flatnonzero(heads))
    found = np.bincount(cells, minlength=(reach + 1) * n_thresholds)
    found = np.cumsum(found.reshape(reach + 1, n_thresholds), axis=1)
    return found / n_groups[:, None]


def _roc_areas(tpr: np.ndarray, fpr: np.ndarray) -> float:
    """Sum over rows (w t) of the trapezoids under their points, from (0, 0) to (1, 1)."""
    # Σ (x_t − x_{t−1}) (y_t + y_{t−1}), where the products within cancel but for the ends
    within = _neighbors(fpr, tpr) - _neighbors(tpr, fpr)
    last = (1 - fpr[:, -1]) * (1 + tpr[:, -1]) + fpr[:, -1] * tpr[:, -1]
    return float(within + last.sum()) / 2


def _neighbors(x: np.ndarray, y: np.ndarray) -> float:
    """Σ x_t y_{t−1} within every row (w t)."""
    # all rows as one vector, less the products that reach from a row into the next
    return float(np.vdot(x.ravel()[1:], y.ravel()[:-1]) - np.vdot(x[1:, 0], y[:-1, -1]))
