r"""Affiliation: precision and recall in time, each judged against chance (Huet et al., KDD 2022).

The series, read as the interval [0, N), is cut at the midpoints between events: every event
J = [a, b) has a zone E of the times that are nearer to it than to its neighbors. Within a zone,

- the precision of a predicted time x is the chance that a random time of E is *at least as far* from
  J as x is: 1 within J, else :math:`1 - (|J| + d + \min(d, m)) / |E|`, where d is its distance from J
  and m the smaller of the two margins between J and E;
- the recall of an anomalous time y is the chance that a random time of E is *at least as far* from y
  as the nearest prediction in the zone is: :math:`1 - (d + \min(d, m_y)) / |E|`, where d is that
  distance and :math:`m_y` the distance from y to the border of E.

Precision is the mean over predicted times of a zone, then over the zones with a prediction; recall
is the mean over anomalous times of an event, 0 where its zone has no prediction, then over all
events.

**The fast form.** Times are continuous, so the means are integrals. The reference implementation
solves them case by case for each pair of events. Here each run of predictions, cut where a zone ends,
is one term of precision, and each gap between two of them one term of recall:

- from J to a distance d the integral of the cost :math:`|J| + d + \min(d, m)` is
  :math:`|J| d + d^2/2 + \min(d, m) (d - \min(d, m)/2)`;
- within a gap of length g between two predictions a time is nearer to one of them than to the border
  of E, so the cost is twice the distance, and its integral up to t is :math:`t^2` in the first half
  and :math:`g^2/2 - (g - t)^2` in the second; in a gap that ends at a border of E the cost stays at g
  from its middle on, for there :math:`d + m_y = g`, and the integral is :math:`g t - g^2/4`.

The work grows with runs and events, and with the series only where they are looked for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from madcluster.data import segments
from madcluster.metrics._check import labels_and_predictions
from madcluster.metrics._ranked import CACHED

__all__ = ["Affiliation", "affiliation_precision_recall"]


class Affiliation(NamedTuple):
    """Mean precision over the zones with a prediction, mean recall over all events."""

    precision: float
    recall: float


def affiliation_precision_recall(y_true: ArrayLike, y_pred: ArrayLike) -> Affiliation:
    """Affiliation precision and recall of a prediction (Huet et al., KDD 2022).

    Takes predictions, never scores. The floor of precision is not 0: flags at random reach 0.5 and
    more, the longer an event is beside its zone, with a recall near 1 where they are dense. Print
    that of a random score beside results.

    Parameters
    ----------
    y_true, y_pred : (m,)
        Labels and predictions of 0 and 1.

    Returns
    -------
    Affiliation
        Precision is NaN, and recall 0, where nothing is predicted.

    Raises
    ------
    ValueError
        For bad labels, see `madcluster.metrics`, or if `y_pred` is not a prediction of 0 and 1.

    Examples
    --------
    >>> affiliation_precision_recall([0, 0, 0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0])
    Affiliation(precision=0.8125, recall=0.9375)
    """
    labels, predicted = labels_and_predictions(y_true, y_pred)
    return _affiliation(segments(labels), predicted)


def _affiliation(bounds: np.ndarray, predicted: np.ndarray) -> Affiliation:
    """Of events (s 2), half-open, and predictions (m,) bool."""
    # all positions are counted in half steps, so that no comparison can round
    events, runs = 2.0 * bounds, 2.0 * segments(predicted)
    if not len(runs):
        return Affiliation(precision=float("nan"), recall=0.0)
    inner = (events[:-1, 1] + events[1:, 0]) / 2  # a half step
    borders = np.concatenate([[0.0], inner, [2.0 * len(predicted)]])
    starts, stops = _cut(runs, inner)
    first = np.searchsorted(starts, borders)  # of the runs of each zone, (s + 1,)
    precision = _precision(events, borders, starts, stops, first)
    recall = _recall(events, borders, starts, stops, first)
    return Affiliation(precision=precision, recall=recall)


def _cut(runs: np.ndarray, borders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and stops of runs (r 2), cut at the borders that lie within one."""
    starts, stops = runs.T
    after = np.searchsorted(starts, borders)  # the first run that starts at a border or after it
    within = np.flatnonzero((after > 0) & (stops[after - 1] > borders))
    after, borders = after[within], borders[within]
    return np.insert(starts, after, borders), np.insert(stops, after - 1, borders)


def _precision(
    events: np.ndarray,
    borders: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    first: np.ndarray,
) -> float:
    """Mean over predicted times of a zone, then over zones that have some."""
    a, b = events.T  # (s,) each
    size, n_runs = np.diff(borders), np.diff(first)
    margin = np.minimum(a - borders[:-1], borders[1:] - b)
    begin, end, length, most = (np.repeat(of, n_runs) for of in (a, b, b - a, margin))

    def cost_up_to(time: np.ndarray, part: slice) -> np.ndarray:
        """From the event to a time, negative before it: a run costs the difference of its ends."""
        after = time[part] - end[part]
        distance = np.maximum(begin[part] - time[part], after)
        np.maximum(distance, 0, out=distance)
        both = np.minimum(distance, most[part])
        cost = distance / 2
        cost += both
        cost += length[part]
        cost *= distance
        both *= both
        both /= 2
        cost -= both
        return np.negative(cost, out=cost, where=after < 0)

    cost = np.empty(len(starts))
    for low in range(0, len(starts), CACHED):
        part = slice(low, low + CACHED)
        np.subtract(cost_up_to(stops, part), cost_up_to(starts, part), out=cost[part])
    some = n_runs > 0
    costs = np.add.reduceat(cost, first[:-1][some])
    times = np.add.reduceat(stops - starts, first[:-1][some])
    return float(np.mean(1 - costs / size[some] / times))


def _recall(
    events: np.ndarray,
    borders: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    first: np.ndarray,
) -> float:
    """Mean over the times of an event, 0 where its zone has no prediction, then over events."""
    n_runs = np.diff(first)
    some = np.flatnonzero(n_runs)
    # the gap before every run, and behind the last run of every zone
    begin = np.concatenate([[0.0], stops[:-1], stops[first[1:][some] - 1]])
    begin[first[:-1][some]] = borders[:-1][some]
    end = np.concatenate([starts, borders[1:][some]])
    zone = np.concatenate([np.repeat(np.arange(len(events)), n_runs), some])
    a, b = events.T
    at = np.flatnonzero((end > a[zone]) & (begin < b[zone]) & (end > begin))
    begin, end, zone = begin[at], end[at], zone[at]
    leading = begin == borders[zone]
    edge = leading | (end == borders[zone + 1])
    low, high = np.maximum(begin, a[zone]), np.minimum(end, b[zone])
    # seen from the prediction, which of a leading gap is its end
    near = np.where(leading, end - high, low - begin)
    far = near + high - low
    gap = end - begin

    def cost_up_to(t: np.ndarray) -> np.ndarray:
        behind = np.where(edge, gap * t - gap**2 / 4, gap**2 / 2 - (gap - t) ** 2)
        return np.where(2 * t <= gap, t**2, behind)

    cost = np.bincount(zone, weights=cost_up_to(far) - cost_up_to(near), minlength=len(events))
    recall = 1 - cost / np.diff(borders) / (b - a)
    return float(np.sum(recall[some]) / len(events))
