"""The primary tests of a comparison, and the tables around them.

The protocol is book/results/protocol.md: an entity is the sample, seeds are averaged within it, all
scores are smoothed alike, and Holm's correction is over all primary tests together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from madcluster.aggregation import Aggregate, Smooth
from madcluster.study.benchmark import PLAIN, named_head, view_name
from madcluster.study.claims import in_words
from madcluster.study.statistics import compare, verdicts

__all__ = [
    "common",
    "complete",
    "differences",
    "in_prose",
    "listed",
    "method_names",
    "primary",
    "scores",
]

TRAINED = "deepsvdd + head"  # the default of the package
SIMPLE = ("mahalanobis", "linear_autoregression", "pca_error", "nearest_neighbor", "kmeans")
OF_ONE_ROW = ("l2_norm", "pca_error", "mahalanobis, window=1")
ENTITY = ["dataset", "entity"]
Side = tuple[str, Aggregate, Smooth]  # method, aggregate and smoothing
IN_PROSE = {  # names of methods, as a sentence has them
    "deepsvdd": "Deep SVDD",
    "usad": "USAD",
    "beatgan": "BeatGAN",
    "omnianomaly": "OmniAnomaly",
    "thoc": "THOC",
    "anomaly_transformer": "Anomaly Transformer",
    "dcdetector": "DCdetector",
    "deepant": "DeepAnT",
    "drnn": "D-RNN",
    "mahalanobis": "the Gaussian of ten rows",
    "mahalanobis, window=1": "the Gaussian of one row",
    "mahalanobis, window=40": "the Gaussian of forty rows",
    "linear_autoregression": "the linear autoregression",
    "pca_error": "PCA error",
    "l2_norm": "the L2 norm",
    "nearest_neighbor": "the nearest neighbor",
    "kmeans": "k-means",
    "random_features": "random features",
    "ensemble": "the ensemble",
    "isolation_forest": "the isolation forest",
    "largest_deviation": "the largest deviation",
    "moving_variance": "the moving variance",
    "squared_difference": "the squared difference",
    "ensemble, random + contrast": "random features and contrast in one",
    "random": "a random score",
    "constant": "a constant",
}


def method_names(table: pd.DataFrame) -> pd.Series:
    """Embedder, head and variant of every run as one name.

    Parameters
    ----------
    table : rows of `madcluster.study.benchmark`

    Examples
    --------
    >>> runs = {"embedder": ["usad", "kmeans"], "head": [True, False], "variant": ["default"] * 2}
    >>> list(method_names(pd.DataFrame(runs)))
    ['usad + head', 'kmeans']

    A head of another name than the paper's has it there, as in "usad + contrastive".
    """
    given = {value: named_head(value) for value in table["head"].unique()}
    words: dict[bool | str, str] = {False: "", True: " + head"}
    head = table["head"].map({v: words.get(name, f" + {name}") for v, name in given.items()})
    variant = np.where(table["variant"] == "default", "", ", " + table["variant"])
    return (table["embedder"] + head + variant).rename("method")


def in_prose(method: str) -> str:
    """A method's name as a sentence has it; one that is not known there stays as it is.

    Examples
    --------
    >>> in_prose("deepsvdd + head"), in_prose("pca_error, min-max")
    ('Deep SVDD with the head', 'PCA error on min-max rows')
    """
    if method in IN_PROSE:
        return IN_PROSE[method]
    name, head, rest = method.partition(" + head")
    if head:
        return f"{IN_PROSE.get(name, name)} with the head{rest}"
    name, other, rest = method.partition(" + ")
    if other and name in IN_PROSE:
        head, comma, rest = rest.partition(", ")
        return f"{IN_PROSE[name]} with the {head} head{comma}{rest}"
    name, _, variant = method.partition(", ")
    variant = {"": "", "min-max": " on min-max rows"}.get(variant, f", {variant}")
    return IN_PROSE.get(name, name) + variant


def complete(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the entities that every method of the table has seen with seed 0.

    Means over the entities that happen to be done would compare methods on different data. A run that
    failed counts as seen: its entity is missing for its method alone.

    Parameters
    ----------
    table : rows of `madcluster.study.benchmark`, some of them still to be run
    """
    first = table[table["seed"] == 0]
    seen = method_names(first).groupby([first["dataset"], first["entity"]]).nunique()
    whole = seen.index[seen == method_names(first).nunique()]
    return table[pd.MultiIndex.from_frame(table[ENTITY]).isin(whole)]


def common(wide: pd.DataFrame, method: str = TRAINED) -> pd.DataFrame:
    """The entities that one method has seen, and of the other methods those that have seen them all.

    So a mean over the rows compares methods on the same data while some of the runs are still to be
    done. A constant score, which ranks nothing, is left out.

    Parameters
    ----------
    wide : of `scores`
    method : one of its columns; by default Deep SVDD with the head

    Raises
    ------
    ValueError
        If there is no such method.
    """
    if method not in wide:
        raise ValueError(f"there is no method {method!r}")
    rows = wide.dropna(subset=[method]).dropna(axis=1)
    return rows.drop(columns="constant", errors="ignore")


def listed(found: pd.DataFrame, question: str, verdict: str, *, none: str = "none") -> str:
    """Those of a question that have one verdict, as a sentence lists them.

    Parameters
    ----------
    found : of `primary`
    question : "head", "training", "cost", "smoothing" and so on, as in its index
    verdict : "more", "less" or "open"

    Raises
    ------
    ValueError
        If there is no such question or verdict.
    """
    if question not in found.index.get_level_values("question"):
        raise ValueError(f"there is no question {question!r}")
    if verdict not in ("more", "less", "open"):
        raise ValueError(f"verdict must be 'more', 'less' or 'open', got {verdict!r}")
    of_question = found.loc[question]
    names = of_question.index[of_question["verdict"] == verdict]
    return in_words([in_prose(str(name)) for name in names], none=none)


def scores(
    table: pd.DataFrame,
    metric: str = "VUS_PR",
    *,
    aggregate: Aggregate = "mean",
    smooth: Smooth = 20,
) -> pd.DataFrame:
    """One metric of one view: entities in rows, methods in columns, means over seeds.

    An ensemble has smoothed its members already, so its own score is taken without more.

    Parameters
    ----------
    table : rows of `madcluster.study.benchmark` with views
    metric : one of `madcluster.study.benchmark.OF_VIEWS`
    aggregate, smooth : the view, see `madcluster.study.benchmark.views`

    Returns
    -------
    Index dataset and entity; a failed run, or a view that was not taken, is missing.

    Raises
    ------
    ValueError
        If the table has no such view.
    """
    column, alone = view_name(metric, aggregate, smooth), view_name(metric, aggregate, "off")
    if missing := {column, alone} - set(table.columns):
        raise ValueError(f"the table has no view {sorted(missing)}")
    values = table[column].where(table["embedder"] != "ensemble", table[alone])
    names = method_names(table)
    if aggregate != "mean":  # the causal ensemble is a fit of its own
        causal = names == f"ensemble, {aggregate}"
        names = names.mask(names == "ensemble", "").mask(causal, "ensemble")
    rows = table[[*ENTITY]].assign(method=names, value=values)
    rows = rows[rows["method"] != ""]
    return rows.pivot_table("value", ENTITY, "method")


def differences(wide: pd.DataFrame, pairs: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """One method less another, paired by entity, for several pairs at once.

    Parameters
    ----------
    wide : of `scores`
    pairs : mapping
        Of a name to two methods, the second of which is taken off the first.

    Returns
    -------
    Index the names, in their order; what `madcluster.study.statistics.compare` says of the entities
    that have both, with Holm's correction over all pairs, and the verdict of `verdicts`.

    Raises
    ------
    ValueError
        If a method is not there, or a pair has no entity.
    """
    parts = []
    for name, (one, other) in pairs.items():
        if missing := {one, other} - set(wide.columns):
            raise ValueError(f"there is no method {sorted(missing)}")
        gap = (wide[one] - wide[other]).dropna().rename("difference").reset_index()
        if gap.empty:
            raise ValueError(f"{name}: no entity has both {one!r} and {other!r}")
        parts.append(gap.assign(of=name, seed=0))
    found = compare(pd.concat(parts, ignore_index=True), by=("of",)).loc[list(pairs)]
    return found.assign(verdict=verdicts(found))


def primary(table: pd.DataFrame, metric: str = "VUS_PR") -> pd.DataFrame:
    """All primary tests of the protocol at once, with Holm's correction over all of them.

    Parameters
    ----------
    table : rows of the comparison
    metric : VUS-PR is the primary one; others show how far an answer depends on it

    Returns
    -------
    Index question and "of", in the order of the protocol; entities, better, worse, mean, lower, upper,
    p, p_holm, and the verdict of `madcluster.study.statistics.verdicts`.

    Raises
    ------
    ValueError
        If a method of a test is not in the table.
    """
    views: dict[tuple[Aggregate, Smooth], pd.DataFrame] = {}

    def values(side: Side) -> pd.Series:
        method, aggregate, smooth = side
        if (aggregate, smooth) not in views:
            views[aggregate, smooth] = scores(table, metric, aggregate=aggregate, smooth=smooth)
        if method not in views[aggregate, smooth]:
            raise ValueError(f"the table has no run of {method!r}")
        return views[aggregate, smooth][method]

    parts, order = [], []
    for question, name, one, other in _tests(table):
        gap = (values(one) - values(other)).dropna().rename("difference").reset_index()
        parts.append(gap.assign(question=question, of=name, seed=0))
        order.append((question, name))
    found = compare(pd.concat(parts, ignore_index=True), by=("question", "of")).loc[order]
    return found.assign(verdict=verdicts(found))


def _tests(table: pd.DataFrame) -> Iterator[tuple[str, str, Side, Side]]:
    """Question, name, and the two sides of every primary test."""
    networks = sorted(set(table["embedder"]) - set(PLAIN))
    for name in networks:
        yield "head", name, (f"{name} + head", "mean", 20), (name, "mean", 20)
    for name in networks:
        untrained = f"{name} + head, untrained"
        yield "training", name, (f"{name} + head", "mean", 20), (untrained, "mean", 20)
    for name in SIMPLE:
        yield "cost", name, (TRAINED, "mean", 20), (name, "mean", 20)
    for name in OF_ONE_ROW:
        yield "smoothing", name, (name, "mean", 20), (name, "mean", "off")
    yield "looking ahead", TRAINED, (TRAINED, "mean", 20), (TRAINED, "last", 20)
    yield "several", "ensemble", ("ensemble", "mean", "off"), ("mahalanobis", "mean", 20)
