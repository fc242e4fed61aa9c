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
solves them case by case for each pair of events. Here all are sums: predictions and events begin
and end at whole steps and zones at half steps, so :math:`d + \min(d, m)` is linear on every half
step, and :math:`d + \min(d, m_y)`, whose bends lie halfway between two such points, on every
quarter step. The integral of a linear function is its value at the midpoint times the length. So
precision is a mean over half steps, recall a mean over quarter steps, both exact, and one pass over
the series serves all zones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from madcluster.data import segments
from madcluster.metrics._check import labels_and_predictions

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
    return _affiliation(*labels_and_predictions(y_true, y_pred))


def _affiliation(labels: np.ndarray, predicted: np.ndarray) -> Affiliation:
    # all positions are counted in half steps: integers, so that no comparison can round
    events = 2 * segments(labels)  # (s 2)
    borders = np.concatenate([[0], (events[:-1, 1] + events[1:, 0]) // 2, [2 * len(labels)]])
    half_steps = np.flatnonzero(np.repeat(predicted, 2))
    if not len(half_steps):
        return Affiliation(precision=float("nan"), recall=0.0)
    zone_of = np.repeat(np.arange(len(events)), np.diff(borders))  # (2m,)
    precision = _precision(events, borders, half_steps, zone_of[half_steps])
    recall = _recall(events, borders, half_steps, len(zone_of))
    return Affiliation(precision=float(precision), recall=float(recall))


def _precision(
    events: np.ndarray, borders: np.ndarray, half_steps: np.ndarray, zone: np.ndarray
) -> float:
    """Mean over predicted half steps of a zone, then over zones that have some."""
    start, stop = events[:, 0], events[:, 1]  # (s,)
    size = np.diff(borders)
    margin = np.minimum(start - borders[:-1], borders[1:] - stop)
    middle = half_steps + 0.5
    distance = np.maximum(np.maximum(start[zone] - middle, middle - stop[zone]), 0)
    nearer = (stop - start)[zone] + distance + np.minimum(distance, margin[zone])
    chance = np.where(distance > 0, 1 - nearer / size[zone], 1.0)
    counts = np.bincount(zone, minlength=len(events))
    sums = np.bincount(zone, weights=chance, minlength=len(events))
    return float(np.mean(sums[counts > 0] / counts[counts > 0]))


def _recall(
    events: np.ndarray, borders: np.ndarray, half_steps: np.ndarray, n_half_steps: int
) -> float:
    """Mean over the quarter steps of an event, then over events."""
    lengths = events[:, 1] - events[:, 0]
    zone = np.repeat(np.arange(len(events)), lengths)  # of each anomalous half step
    within = np.repeat(events[:, 0] - np.cumsum(lengths) + lengths, lengths) + np.arange(len(zone))
    # the last predicted half step up to here, and the next one from here on
    following = np.searchsorted(half_steps, np.arange(n_half_steps))[within]
    here = half_steps[np.minimum(following, len(half_steps) - 1)] == within
    previous_end = half_steps[np.maximum(following - 1, 0)] + 1.0
    next_start = half_steps[np.minimum(following, len(half_steps) - 1)] + 0.0
    # a prediction of another zone does not count
    low, high = borders[zone], borders[zone + 1]
    previous_end[(following == 0) | (previous_end <= low)] = -np.inf
    next_start[(following == len(half_steps)) | (next_start >= high)] = np.inf
    chance = np.zeros(len(zone))
    for quarter in (0.25, 0.75):
        y = within + quarter
        distance = np.where(here, 0.0, np.minimum(y - previous_end, next_start - y))
        border = np.minimum(y - low, high - y)
        nearer = distance + np.minimum(distance, border)
        chance += np.where(np.isinf(distance), 0.0, 1 - nearer / (high - low)) / 2
    sums = np.bincount(zone, weights=chance, minlength=len(events))
    return np.mean(sums / lengths)
