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
L·T·(N + S) operations for S segments. Four observations take the products apart.

1. A step counts at threshold t from one t on: its *bucket*, the first threshold not above its
   score. What is needed at all thresholds is one histogram over buckets and one cumulative sum.
2. Within its buffer a soft label depends on the distance only, and :math:`\sqrt{1 - d/w} \ge 0.707`
   for :math:`d \le w/2`: two buffers that overlap always clip to 1. So a normal step has just two
   numbers, the distances :math:`d_1 \le d_2` to the nearest and the second nearest segment, and its
   label is 0 for :math:`h < d_1`, the root of :math:`d_1` for :math:`d_1 \le h < d_2`, and 1 for
   :math:`d_2 \le h`.
3. All segments share a table `single` of counts over (:math:`d_1` × bucket). For window w the
   credit in the buffers is a vector of roots times the first h rows, summed over buckets. When h
   reaches the :math:`d_2` of a step, the step leaves the table and joins the histogram `double` of
   full credits; every step does so at most once.
4. Existence needs the first bucket within each merged segment. From h − 1 to h a segment grows by
   two steps and may merge, so its minimum is updated by two look-ups; merged segments are one from
   then on.

One sort, O(N) for distances and histograms, O(S·L) for existence and O(L²·T) for the products
remain.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from madcluster.data import segments
from madcluster.metrics._check import labels_and_scores, positive_count

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
    return _range_auc(*labels_and_scores(y_true, y_score), window, n_thresholds)


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
    return _vus(*labels_and_scores(y_true, y_score), max_window, n_thresholds)


def soft_labels(labels: np.ndarray, window: int) -> np.ndarray:
    """Labels (m,) bool with a fading buffer of window // 2 steps around each segment, (m,) in [0, 1].

    >>> soft_labels(np.array([False, False, True, False]), 2).round(3).tolist()
    [0.0, 0.707, 1.0, 0.707]
    """
    half = window // 2
    steps, nearest, second = _distances(labels, half)
    soft = labels.astype(np.float64)
    soft[steps] = np.where(second <= half, 1.0, np.sqrt(1 - nearest / max(window, 1)))
    return soft


def _range_auc(labels: np.ndarray, scores: np.ndarray, window: int, n_thresholds: int) -> RangeAUC:
    bucket, n_predicted = _buckets(scores, n_thresholds)
    soft = soft_labels(labels, window)
    inside = soft > 0
    # runs of positive labels: buffers merge as soon as they touch
    runs = segments(inside)
    offsets = np.cumsum(runs[:, 1] - runs[:, 0])[:-1]
    first = np.minimum.reduceat(bucket[inside], np.concatenate([[0], offsets]))
    existence = _cumulative(first, n_thresholds) / len(runs)  # (t,)

    tp = np.cumsum(np.bincount(bucket, weights=soft, minlength=n_thresholds))  # (t,)
    positives = (np.count_nonzero(labels) + soft.sum()) / 2
    tpr = np.minimum(tp / positives, 1) * existence
    fpr = (n_predicted - tp) / (len(labels) - positives)
    precision = np.concatenate([[1.0], tp / n_predicted])
    pr = np.diff(tpr, prepend=0) @ (precision[1:] + precision[:-1]) / 2
    return RangeAUC(roc=float(_roc_area(tpr, fpr)), pr=float(pr))


def _vus(labels: np.ndarray, scores: np.ndarray, max_window: int, n_thresholds: int) -> VUS:
    bucket, n_predicted = _buckets(scores, n_thresholds)
    hard = _cumulative(bucket[labels], n_thresholds)  # (t,)
    windows = np.arange(max_window + 1)  # (w,)
    buffer = _buffer_credit(labels, bucket, max_window, n_thresholds)  # (w t)
    existence = _existence(labels, bucket, max_window // 2, n_thresholds)[windows // 2]  # (w t)

    tp = hard + buffer
    positives = hard[-1] + buffer / 2
    tpr = np.minimum(tp / positives, 1) * existence
    fpr = (n_predicted - tp) / (len(labels) - positives)
    pr = np.sum(np.diff(tpr, prepend=0) * tp / n_predicted, axis=-1)
    return VUS(roc=float(_roc_area(tpr, fpr).mean()), pr=float(pr.mean()))


def _buckets(scores: np.ndarray, n_thresholds: int) -> tuple[np.ndarray, np.ndarray]:
    """First threshold that predicts each step (m,), and the number that each predicts (t,)."""
    ascending = np.sort(scores)
    ranks = np.linspace(0, len(scores) - 1, n_thresholds).astype(int)
    thresholds = ascending[::-1][ranks]
    n_predicted = len(scores) - np.searchsorted(ascending, thresholds)
    # the count of rising thresholds not above a score, seen from the top, is its first threshold
    rising = np.searchsorted(thresholds[::-1], scores, side="right")
    return n_thresholds - rising, n_predicted


def _cumulative(bucket: np.ndarray, n_thresholds: int) -> np.ndarray:
    """How many are predicted at each threshold; (any,) → (t,)."""
    return np.cumsum(np.bincount(bucket, minlength=n_thresholds))


def _distances(labels: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal steps within reach of a segment, and how far the nearest and second nearest are."""
    bounds = segments(labels)
    far = len(labels) + reach + 1
    last = np.concatenate([[-far, -far], bounds[:, 1] - 1])  # of the segments on the left
    first = np.concatenate([bounds[:, 0], [2 * far, 2 * far]])  # of those on the right
    steps = np.flatnonzero(~labels)
    gaps = np.diff(np.concatenate([[0], bounds.ravel(), [len(labels)]]))[::2]
    gap = np.repeat(np.arange(len(gaps)), gaps)  # g segments lie left of gap g
    nearest = np.minimum(steps - last[gap + 1], first[gap] - steps)
    near = nearest <= reach
    steps, gap, nearest = steps[near], gap[near], nearest[near]
    # the second nearest: the other neighbor, or the one behind the nearest
    left, right = steps - last[gap + 1], first[gap] - steps
    behind = np.minimum(steps - last[gap], first[gap + 1] - steps)
    return steps, nearest, np.minimum(np.maximum(left, right), behind)


def _buffer_credit(
    labels: np.ndarray, bucket: np.ndarray, max_window: int, n_thresholds: int
) -> np.ndarray:
    """Soft hits outside the segments, for every window and threshold (w t)."""
    reach = max_window // 2
    steps, nearest, second = _distances(labels, reach)
    bucket = bucket[steps]
    cells = (nearest - 1) * n_thresholds + bucket
    single = np.bincount(cells, minlength=reach * n_thresholds).astype(np.float64)
    double = np.zeros(n_thresholds)
    # steps in the order in which a second buffer reaches them
    order = np.argsort(second, kind="stable")
    order = order[: np.count_nonzero(second <= reach)]
    reached = np.searchsorted(second[order], np.arange(reach + 2))

    credit = np.zeros((max_window + 1, n_thresholds))
    distance = np.arange(1, reach + 1)
    for half in range(1, reach + 1):
        twice = order[reached[half] : reached[half + 1]]
        if len(twice):
            np.subtract.at(single, cells[twice], 1)
            double += np.bincount(bucket[twice], minlength=n_thresholds)
        windows = np.arange(2 * half, min(2 * half + 1, max_window) + 1)
        roots = np.sqrt(1 - distance[:half] / windows[:, None])  # (w d)
        table = single[: half * n_thresholds].reshape(half, n_thresholds)  # (d t)
        credit[windows] = roots @ table + double
    return np.cumsum(credit, axis=1)


def _existence(labels: np.ndarray, bucket: np.ndarray, reach: int, n_thresholds: int) -> np.ndarray:
    """Share of merged segments with a prediction, for buffers 0…reach and thresholds (h t)."""
    start, stop = segments(labels).T  # (s,) each
    inside = np.concatenate([[0], np.cumsum(stop - start)[:-1]])
    first = np.minimum.reduceat(bucket[labels], inside)  # (s,)
    last = stop - 1
    existence = np.empty((reach + 1, n_thresholds))
    for half in range(reach + 1):
        left, right = np.maximum(start - half, 0), np.minimum(last + half, len(labels) - 1)
        first = np.minimum(first, np.minimum(bucket[left], bucket[right]))
        apart = start[1:] - last[:-1] > 2 * half
        if not apart.all():
            heads = np.flatnonzero(np.concatenate([[True], apart]))
            first = np.minimum.reduceat(first, heads)
            start, last = start[heads], last[np.append(heads[1:] - 1, -1)]
        existence[half] = _cumulative(first, n_thresholds) / len(first)
    return existence


def _roc_area(tpr: np.ndarray, fpr: np.ndarray) -> np.ndarray:
    """Trapezoids under (… t) points from (0, 0) to (1, 1)."""
    ends = np.zeros((*tpr.shape[:-1], 1)), np.ones((*tpr.shape[:-1], 1))
    tpr, fpr = (np.concatenate([ends[0], rate, ends[1]], axis=-1) for rate in (tpr, fpr))
    return np.trapezoid(tpr, fpr, axis=-1)
