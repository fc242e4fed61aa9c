"""Is a network better trained or as it was drawn? Asked of the training rows, without a label."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from madcluster.arguments import check_seed
from madcluster.data.planted import KINDS, planted
from madcluster.detectors.choice import EVENTS, LEAST, PLANTS
from madcluster.metrics import vus_score

if TYPE_CHECKING:
    from madcluster.detectors.madcluster import MADCluster

__all__ = ["Trained", "trained_or_not"]

# what is planted -> the corruption that a head which learns by contrast may have been shown
LIKE = {"offset": "shift", "frozen": "freeze", "noise": "noise", "other time": "exchange"}
MOST = 10_000  # rows that are compared on


class Trained(NamedTuple):
    """What `trained_or_not` found.

    Attributes
    ----------
    trained : bool
        Whether to train.
    evidence : DataFrame
        A row for each kind of planted event: VUS-PR `trained` and `untrained`, as means over the
        plants, and the corruption that the training was `without`, None where there was none to leave
        out. Kinds that nothing could be said of are not among them.
    gain : float
        Mean over all plants of trained less untrained.
    error : float
        The standard error of that mean.
    """

    trained: bool
    evidence: pd.DataFrame
    gain: float
    error: float


def trained_or_not(detector: MADCluster, rows: np.ndarray, *, seed: int = 0) -> Trained:
    """Compare a network trained and untrained on planted events that its training knew nothing of.

    The first three quarters of the rows are fitted, and in copies of the last quarter events are
    planted, one kind a copy, as `choose` does. A training by contrast is shown corrupted windows, and
    an event of a kind that it was shown would say how well it has learned and nothing more. So the
    network is trained anew for each kind, without the corruption that is like it (an offset is like a
    shift, a frozen stretch like a freeze, noise like noise, a stretch of another time like an
    exchange), and judged on that kind alone. A head that learns from normal windows alone is trained
    once. The training wins if it gains more than one standard error, over kinds and plants, for
    without it a fit costs less.

    The evidence is about kinds of event that are few, and about rows like these. It says nothing about
    a fault of another kind.

    Parameters
    ----------
    detector : MADCluster
        Its arguments are used; it stays as it is.
    rows : (n c)
        Normal; of more than 10,000 the last are looked at.
    seed : int
        Of the plants.

    Raises
    ------
    ValueError
        If there are too few rows, or no kind of event of which the training was not shown the like.
    """
    check_seed(seed)
    rows = rows[-MOST:]
    cut = len(rows) * 3 // 4
    if len(rows) - cut < max(LEAST, detector.window) or cut < 2 * detector.window:
        least = 4 * max(LEAST, detector.window)
        raise ValueError(
            f"X has {len(rows)} rows, at least {least} are needed for train='auto' with a window of "
            f"{detector.window}"
        )
    shown = _shown(detector)
    without = {kind: LIKE.get(kind) for kind in KINDS}
    without = {kind: like if like in shown else None for kind, like in without.items()}
    judged = [kind for kind in KINDS if not shown or set(shown) - {without[kind]}]
    if not judged:
        raise ValueError(f"no kind of event is unlike what the head is shown, {shown}")
    plants = {
        (kind, i): planted(rows[cut:], np.random.default_rng([seed, i]), kinds=[kind], **EVENTS)
        for kind, i in product(judged, range(PLANTS))
    }

    def found(fitted: MADCluster, kind: str) -> list[float]:
        of_kind = [plants[kind, i] for i in range(PLANTS)]
        return [vus_score(labels, fitted.decision_function(x)).pr for x, labels in of_kind]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit to all rows will say it
        still = _fitted(detector, rows[:cut], train=False)
        untrained = np.array([found(still, kind) for kind in judged])  # (kinds, plants)
        trained = np.empty_like(untrained)
        for like in {without[kind] for kind in judged}:  # one at a time in memory
            fitted = _fitted(detector, rows[:cut], train=True, without=like)
            for i, kind in enumerate(judged):
                if without[kind] == like:
                    trained[i] = found(fitted, kind)
    gains = (trained - untrained).ravel()
    gain, error = float(gains.mean()), float(gains.std(ddof=1) / len(gains) ** 0.5)
    evidence = pd.DataFrame(
        {
            "trained": trained.mean(1),
            "untrained": untrained.mean(1),
            "without": pd.Series([without[kind] for kind in judged], judged, dtype=object),
        },
        index=judged,
    )
    return Trained(gain > error, evidence, gain, error)


def _shown(detector: MADCluster) -> tuple[str, ...]:
    """Corruptions that the head learns from; none for a head that learns from normal windows alone."""
    from madcluster.heads import CORRUPTIONS

    if detector.head != "contrastive":
        return ()
    kinds: Collection[str] = (detector.head_options or {}).get("kinds", CORRUPTIONS)
    return tuple(kinds)


def _fitted(
    detector: MADCluster, rows: np.ndarray, *, train: bool, without: str | None = None
) -> MADCluster:
    other = detector._unfitted().set_params(train=train)
    if without is not None:
        kinds = [kind for kind in _shown(detector) if kind != without]
        other.set_params(head_options={**(other.head_options or {}), "kinds": kinds})
    return other.fit(rows)
