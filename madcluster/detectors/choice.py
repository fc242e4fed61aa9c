"""Which detector for these rows? Chosen without a label, by anomalies that one plants oneself."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from inspect import signature
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone

from madcluster.arguments import check_seed, check_whole, outside
from madcluster.data.planted import KINDS, check_kinds, planted
from madcluster.data.series import checked_rows, names_of
from madcluster.detectors.base import Detector
from madcluster.detectors.floors import RandomScore
from madcluster.metrics import vus_score

__all__ = ["Choice", "choose", "default_candidates", "named"]

SMOOTH = 20  # rows
SMOOTHED = (  # the cheapest first
    "largest_deviation",
    "pca_error",
    "linear_autoregression",
    "mahalanobis",
    "kmeans",
    "nearest_neighbor",
)
FLOOR = "random"  # the row of a random score
PLANTS = 3  # of each kind
EVENTS: dict[str, Any] = {"per_kind": 2, "sizes": (0.5, 2.0)}  # larger ones all candidates find
LEAST = 50  # rows of a plant


class Choice(NamedTuple):
    """What `choose` found.

    Attributes
    ----------
    name : str
        Of the candidate.
    detector : Detector
        A copy of it, fitted to all rows.
    evidence : DataFrame
        A row per candidate, in their order, and one for a random score: VUS-PR on the planted events
        of each kind, `mean` over kinds, `behind` the best and the `error` of that difference, `seconds`
        that fit and scores took, and the `fault` of one that could not be tried.
    """

    name: str
    detector: Detector
    evidence: pd.DataFrame


def default_candidates(seed: int = 0) -> dict[str, Detector]:
    """What `choose` tries where it is not told: the cheapest first.

    All scores are means over some rows: those of the network over its windows, the others over 20.
    """
    return {name: named(name, seed=seed) for name in (*SMOOTHED, "madcluster")}


def named(name: str, *, seed: int = 0, **arguments: Any) -> Detector:
    """An unfitted detector by its name.

    Parameters
    ----------
    name : str
        One of `default_candidates`, which smooth; another of `madcluster.detectors.DETECTORS`; or an
        embedder of `madcluster.models.EMBEDDERS`, with the head.
    seed : int
        If it takes one.
    **arguments
        Of its class.

    Raises
    ------
    ValueError
        For an unknown name, or an argument that is unknown or out of its range.

    Examples
    --------
    >>> named("mahalanobis", window=5)
    Mahalanobis(smooth=20, window=5)
    """
    from madcluster.detectors import DETECTORS

    if name in DETECTORS:
        kind: Any = DETECTORS[name]  # without a network, torch is not needed
        if name in SMOOTHED:
            arguments = {"smooth": SMOOTH, **arguments}
    else:
        from madcluster.models import EMBEDDERS

        if name not in EMBEDDERS:
            names = ", ".join([*DETECTORS, *EMBEDDERS])
            raise ValueError(f"detector must be one of {names}, got {name!r}")
        kind = DETECTORS["madcluster"]
        arguments = {"embedder": name, **arguments}
    known = list(signature(kind).parameters)
    for each in arguments:
        if each not in known:
            raise ValueError(f"{name} has no argument {each!r}, but {', '.join(known)}")
    if "seed" in known:
        arguments.setdefault("seed", seed)
    detector: Detector = kind(**arguments)
    detector.check()
    return detector


def choose(
    X: Any,
    candidates: Mapping[str, Detector] | None = None,
    *,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    most_rows: int = 10_000,
) -> Choice:
    """Fit the candidate that finds planted anomalies best, or one that costs less and is level with it.

    Every candidate is fitted to the first three quarters of the rows. In copies of the last quarter
    anomalies of known kinds are planted, one kind a copy, and the candidates are ranked by their VUS-PR
    there, averaged over kinds. Taken is the first candidate that is no more than one standard error
    behind the best, the error being that of their difference over kinds and copies. So the order of the
    candidates matters: the cheapest first. In the end it is fitted to all rows.

    The evidence is about these kinds of anomaly, in rows like these and in sensors drawn at random. It
    says nothing about a fault of another kind, and its values are not those that a real fault will
    have. On the public entities the choice was hardly better than a candidate drawn at random (chapter
    15, `benchmarks/choice.py`): choose by it where faults will look like what is planted. Otherwise
    take `Ensemble`, the mean of all candidates.

    Parameters
    ----------
    X : (n c)
        Normal rows, an array or a DataFrame.
    candidates : mapping of name to Detector, optional
        Not fitted; copies are. Those of `madcluster.detectors.choice.default_candidates` by default.
    kinds : sequence of str
        What is planted, of `madcluster.data.planted.KINDS`.
    seed : int
        Of the plants, and of the default candidates.
    most_rows : int
        No more than these, the last ones, are compared on; the fit in the end is to all.

    Raises
    ------
    ValueError
        If X is not a table of finite numbers or too short, an argument is of another kind, or no
        candidate can be fitted.

    Warns
    -----
    UserWarning
        If the chosen one finds the planted events no better than a random score does.

    Examples
    --------
    >>> from madcluster import synthetic
    >>> from madcluster.detectors import Mahalanobis, PCAError, choose
    >>> rows = synthetic(seed=0).train
    >>> found = choose(rows, {"pca": PCAError(smooth=20), "gaussian": Mahalanobis(smooth=20)})
    >>> found.name, found.detector.n_features_in_
    ('gaussian', 8)
    >>> found.evidence.index.tolist()
    ['pca', 'gaussian', 'random']
    """
    seed, most_rows = check_seed(seed), check_whole("most_rows", most_rows, 4 * LEAST)
    given = default_candidates(seed) if candidates is None else candidates
    tried = dict(given) if isinstance(given, Mapping) else {}
    if not tried or not all(isinstance(each, Detector) for each in tried.values()):
        raise ValueError(
            'candidates must be a mapping of names to detectors, such as {"pca": PCAError()}, and not '
            "empty"
        )
    if FLOOR in tried:
        raise ValueError(f"candidates must not have the name {FLOOR!r}, that of the random score")
    for each in tried.values():
        each.check()
    rows = checked_rows(X, "X", names_of(X))[-most_rows:]
    if len(rows) < 4 * LEAST:
        raise ValueError(f"X has {len(rows)} rows, at least {4 * LEAST} are needed to choose by")
    cut = len(rows) * 3 // 4
    plants = [
        (kind, *planted(rows[cut:], np.random.default_rng([seed, i]), kinds=[kind], **EVENTS))
        for kind, i in product(check_kinds(kinds), range(PLANTS))
    ]
    found, faults, seconds = {}, {}, {}
    for name, each in {**tried, FLOOR: RandomScore(seed=seed)}.items():
        started = time.perf_counter()
        try:
            found[name] = _measured(clone(each), rows[:cut], plants)
        except (ValueError, FloatingPointError) as error:
            found[name], faults[name] = np.full(len(plants), np.nan), str(error)
        seconds[name] = time.perf_counter() - started
    scores = pd.DataFrame(found, index=[kind for kind, *_ in plants])  # plants by candidates
    means = scores.mean()
    if means.drop(FLOOR).isna().all():
        raise ValueError(f"no candidate can be fitted: {faults}")
    best = means.drop(FLOOR).idxmax()
    behind = scores.rsub(scores[best], axis=0)
    evidence = pd.DataFrame(
        {
            **scores.groupby(level=0, sort=False).mean().T,
            "mean": means,
            "behind": behind.mean(),
            "error": behind.std() / len(plants) ** 0.5,
            "seconds": seconds,
            "fault": pd.Series(faults, dtype=object),
        },
    ).reindex(scores.columns)
    level = evidence["behind"] <= evidence["error"]
    chosen = next(name for name in tried if level[name])  # of the best, both are 0
    if level[FLOOR]:
        warnings.warn(
            f"{chosen} finds the planted events no better than a random score does",
            stacklevel=outside(),
        )
    return Choice(chosen, clone(tried[chosen]).fit(X), evidence)


def _measured(
    detector: Detector, rows: np.ndarray, plants: list[tuple[str, np.ndarray, np.ndarray]]
) -> np.ndarray:
    """VUS-PR on each plant of a detector that has learned the rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit to all rows will say it
        detector.fit(rows)
        return np.array(
            [vus_score(labels, detector.decision_function(plant)).pr for _, plant, labels in plants]
        )
