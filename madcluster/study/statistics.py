"""What a table of runs says beyond seeds and entities.

Entities are the sample; seeds are repetitions within an entity. Differences are paired: the same
entity, the same seed, the same settings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata, studentized_range, wilcoxon

__all__ = [
    "Ranks",
    "by_data_set",
    "compare",
    "interval",
    "mean_ranks",
    "paired_differences",
    "verdicts",
]


def paired_differences(
    table: pd.DataFrame,
    metric: str,
    *,
    between: str = "head",
    pair: tuple[object, object] = (False, True),
    within: Sequence[str] = ("dataset", "embedder"),
) -> pd.DataFrame:
    """Second minus first of a pair, for every entity and seed that has both.

    Parameters
    ----------
    table : rows of `madcluster.study.benchmark`
    metric : name of its column
    between : the column that tells the two apart
    pair : its two values
    within : what the two must share beside entity and seed

    Returns
    -------
    Columns `within`, entity, seed, difference. Pairs of which one failed are left out.

    Raises
    ------
    ValueError
        If a column is missing, or a pair is there twice.
    """
    keys = [*within, "entity", "seed"]
    if missing := {*keys, between, metric} - set(table.columns):
        raise ValueError(f"the table has no column {sorted(missing)}")
    of_pair = table[table[between].isin(pair)].dropna(subset=[metric])
    if of_pair.duplicated([*keys, between]).any():
        raise ValueError(f"more than one row for the same {keys} and {between}: add to `within`")
    wide = of_pair.pivot_table(index=keys, columns=between, values=metric)
    wide = wide.reindex(columns=list(pair)).dropna()
    return (wide[pair[1]] - wide[pair[0]]).rename("difference").reset_index()


def interval(
    differences: pd.DataFrame, *, level: float = 0.95, n: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean over entities, and its percentile bootstrap interval; seeds are resampled in entities.

    Parameters
    ----------
    differences : columns entity, seed and difference

    Returns
    -------
    mean, lower, upper. The mean gives each entity the same weight, however many seeds it has.
    """
    if differences.empty:
        raise ValueError("there are no differences")
    names = [name for name in ("dataset", "entity") if name in differences]
    groups = [g.to_numpy() for _, g in differences.groupby(names)["difference"]]
    rng = np.random.default_rng(seed)
    size = max(map(len, groups))
    values = np.array([np.resize(g, size) for g in groups])  # (entity, seed), repeated to one width
    counts = np.array([len(g) for g in groups])
    chosen = rng.integers(len(groups), size=(n, len(groups)))  # entities of every resample
    total = np.zeros((n, len(groups)))
    for turn in range(size):  # as many seeds as the entity has, drawn anew
        seeds = (rng.random(chosen.shape) * counts[chosen]).astype(int)
        total += np.where(turn < counts[chosen], values[chosen, seeds], 0)
    means = (total / counts[chosen]).mean(1)
    lower, upper = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(np.mean([g.mean() for g in groups])), float(lower), float(upper)


def compare(
    differences: pd.DataFrame, *, by: Sequence[str] = ("embedder",), level: float = 0.95
) -> pd.DataFrame:
    """Mean difference of each group with its interval, and Wilcoxon's signed-rank test with Holm.

    The test has one value per entity, the mean over its seeds; the ranks of zero differences are
    split between the signs. `p_holm` is adjusted for all groups of the table.

    Returns
    -------
    Index `by`; entities, better, worse (numbers of entities), mean, lower, upper, p, p_holm.
    """
    names, rows = [], []
    for name, group in differences.groupby(list(by)):
        keys = [k for k in ("dataset", "entity") if k in group]
        of_entity = group.groupby(keys)["difference"].mean().to_numpy()
        mean, lower, upper = interval(group, level=level)
        test = wilcoxon(of_entity, zero_method="zsplit") if np.any(of_entity) else None
        names.append(name)
        rows.append(
            {
                "entities": len(of_entity),
                "better": int((of_entity > 0).sum()),
                "worse": int((of_entity < 0).sum()),
                "mean": mean,
                "lower": lower,
                "upper": upper,
                "p": 1.0 if test is None else float(test.pvalue),
            }
        )
    index = pd.DataFrame(names, columns=list(by))
    result = pd.concat([index, pd.DataFrame(rows)], axis=1).set_index(list(by))
    return result.assign(p_holm=_holm(result["p"].to_numpy()))


def _holm(p: np.ndarray) -> np.ndarray:
    """Holm's correction (Scandinavian Journal of Statistics, 1979): the smallest of m times m, the next
    times m − 1 … and none below one before it."""
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    return corrected


def verdicts(compared: pd.DataFrame) -> pd.Series:
    """What a table of `compare` decides.

    Returns
    -------
    "more" or "less" where the interval leaves zero out and p after Holm is below .05, else "open".

    Examples
    --------
    >>> found = pd.DataFrame({"lower": [0.1, 0.1], "upper": [0.3, 0.3], "p_holm": [0.01, 0.2]})
    >>> list(verdicts(found))
    ['more', 'open']
    """
    sure = compared["p_holm"] < 0.05
    more, less = sure & (compared["lower"] > 0), sure & (compared["upper"] < 0)
    names = np.select([more, less], ["more", "less"], "open")
    return pd.Series(names, compared.index, name="verdict")


class Ranks(NamedTuple):
    """Mean ranks of methods over entities, best (1) first."""

    mean: pd.Series
    entities: int
    critical_difference: float


def by_data_set(compared: pd.DataFrame) -> pd.DataFrame:
    """Means of a table of `compare` as text, a column for each data set.

    ▲ and ▼ mark an interval without zero.

    Parameters
    ----------
    compared : of `compare` by "dataset" and one name more, which becomes the index

    Raises
    ------
    ValueError
        If it was made by other names.
    """
    names = list(compared.index.names)
    if len(names) != 2 or "dataset" not in names:
        raise ValueError(f"compared must be by 'dataset' and one name more, got {names}")
    (other,) = set(names) - {"dataset"}
    signs = (compared["lower"] > 0).astype(int) - (compared["upper"] < 0).astype(int)
    text = compared["mean"].map("{:+.3f}".format) + signs.map({1: " ▲", -1: " ▼", 0: ""})
    return text.reset_index(name="text").pivot_table("text", other, "dataset", aggfunc="first")


def mean_ranks(scores: pd.DataFrame, *, alpha: float = 0.05) -> Ranks:
    """Ranks within every entity and the critical difference of Nemenyi's test (Demšar, JMLR 2006).

    Parameters
    ----------
    scores : (entities, methods), higher = better; an entity with a missing value is left out.

    Two methods whose mean ranks differ by less than the critical difference are not told apart.
    """
    scores = scores.dropna()
    n, k = scores.shape
    if n < 2 or k < 2:
        raise ValueError(f"ranks need two entities and two methods at least, got {n} and {k}")
    ranks = pd.DataFrame(rankdata(-scores.to_numpy(), axis=1), columns=scores.columns)
    q = studentized_range.ppf(1 - alpha, k, np.inf) / math.sqrt(2)
    return Ranks(ranks.mean().sort_values(), n, float(q * math.sqrt(k * (k + 1) / (6 * n))))
