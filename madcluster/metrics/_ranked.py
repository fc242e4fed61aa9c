"""What all metrics of a score need of it, found once: its values in order, and those of the hits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from madcluster.data import segments

__all__ = ["CACHED", "Levels", "Ranked", "levels_of", "ranked"]

# numbers of one array that is worked on over and over, so that it stays in a fast cache
CACHED = 2**14


class Ranked(NamedTuple):
    """Labels and scores, checked, and what a sort gives of them.

    Values are sorted, not indices: that takes a third of the time, and no metric asks which step has
    a rank.
    """

    labels: np.ndarray  # (m,) bool
    scores: np.ndarray  # (m,) float64
    bounds: np.ndarray  # (s 2), anomalous segments, half-open
    ascending: np.ndarray  # (m,), all scores in order
    hits: np.ndarray  # (p,), those of anomalous steps in order

    def highest(self) -> np.ndarray:
        """The highest score of every segment, (s,)."""
        lengths = self.bounds[:, 1] - self.bounds[:, 0]
        return np.maximum.reduceat(self.scores[self.labels], np.cumsum(lengths) - lengths)


class Levels(NamedTuple):
    """The distinct scores of anomalous steps, from the highest on, as thresholds score >= level.

    Between two of them a lower threshold finds nothing more and raises more alarms, so they are all
    thresholds that recall and the best F1 depend on.
    """

    level: np.ndarray  # (l,)
    found: np.ndarray  # (l,), anomalous steps of this score
    tp: np.ndarray  # (l,), anomalous steps from the level on
    n_predicted: np.ndarray  # (l,), all steps from it on


def ranked(labels: np.ndarray, scores: np.ndarray) -> Ranked:
    """Sort once; labels (m,) bool and scores (m,) float64, as the checks return them."""
    return Ranked(labels, scores, segments(labels), np.sort(scores), np.sort(scores[labels]))


def levels_of(ascending: np.ndarray, hits: np.ndarray) -> Levels:
    """Levels of scores (m,) and those of anomalous steps (p,), both in ascending order."""
    first = np.concatenate([[0], np.flatnonzero(hits[1:] != hits[:-1]) + 1])  # of every level
    level = hits[first]
    found = np.concatenate([first[1:] - first[:-1], [len(hits) - first[-1]]])
    # keys in ascending order: each search begins where the last one ended
    n_predicted = len(ascending) - np.searchsorted(ascending, level)
    return Levels(level[::-1], found[::-1], (len(hits) - first)[::-1], n_predicted[::-1])
