"""Many runs, one small file each: stopped at any moment, a benchmark goes on where it was.

runs = grid(["MSL"], ["deepsvdd", "pca_error"], seeds=range(3), settings=cpu_settings)
table = run_all(runs, "results", jobs=2)
summary(table)
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import logging
import math
import os
import platform
import re
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError

from madcluster.aggregation import Aggregate, Smooth, beginning, ends, smoothed
from madcluster.arguments import check_flag, check_one_of, check_seed, check_whole, outside, plain
from madcluster.data import MissingDataError, Series, entities, load, synthetic, windows
from madcluster.detectors import DETECTORS, Detector, named
from madcluster.detectors.madcluster import MADCluster
from madcluster.files import whole_file
from madcluster.heads import HEADS, Head, WithHead
from madcluster.metrics import evaluate
from madcluster.models import EMBEDDERS
from madcluster.models.base import windows_of
from madcluster.progress import quiet
from madcluster.randomness import seeded
from madcluster.service.alarms import events_at_budget, quantile_threshold
from madcluster.study import as_released
from madcluster.study.results import commit

__all__ = [
    "DATASETS",
    "EMBEDDER_NAMES",
    "ForeignResultWarning",
    "OtherCodeWarning",
    "Protocol",
    "Run",
    "available",
    "collect",
    "cpu_settings",
    "entities_of",
    "execute",
    "grid",
    "raw_scores",
    "released_settings",
    "restore",
    "run_all",
    "run_of",
    "series_of",
    "summary",
    "view_name",
    "views",
]

log = logging.getLogger(__name__)

FORMAT = 1  # of a result file
Protocol = Literal["honest", "release"]
DATASETS = ("synthetic", "MSL", "SMAP", "SMD", "PSM", "PSM_excerpt")
RELEASED = "dcdetector_released"  # the released wiring, see `madcluster.study.as_released`
OF_WIRING = (
    "objective",
    "nu",
    "threshold",
    "label_smoothing",
    "outer_log",
)  # not of a bare network
PLAIN = tuple(
    name for name in DETECTORS if name != "madcluster"
)  # without an embedder of their own
EMBEDDER_NAMES = (*EMBEDDERS, RELEASED, *PLAIN)
METRICS = tuple(evaluate([0, 0, 1], [0.0, 1.0, 2.0]))
Views = Literal["none", "own", "all"]
Filling = Literal["ffill", "interpolate", "zero"]
FILLINGS: tuple[Filling, ...] = get_args(Filling)
AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)
SMOOTHS: tuple[Smooth, ...] = ("off", 20, 80)
OF_TRAINING = (  # of a network; the last two of a head that has a certificate
    "parameters",
    "epochs",
    "best_epoch",
    "variance_ratio",
    "effective_rank",
    "threshold",
    "certificate",
    "certificate_limit",
)
OF_VIEWS = ("VUS_PR", "VUS_ROC", "aupr", "f1_score", "found", "delay")


class ForeignResultWarning(UserWarning):
    """A file in the folder of results is damaged or belongs to something else; it is not used."""


class OtherCodeWarning(UserWarning):
    """Results in the folder were made by other code than this, and are kept."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One detector, fitted on one entity with one seed.

    Attributes
    ----------
    dataset, entity : str
        As `series_of` takes them.
    embedder : str
        A Base Embedder, another of `madcluster.detectors.DETECTORS`, or "dcdetector_released".
    head : bool or str
        For a Base Embedder: a name in `madcluster.heads.HEADS`. The head of the paper, "madcluster", is
        kept as True, and "none" as False, so a run has one key however it was asked for.
    seed : int
    protocol : "honest" or "release"
        "honest": one label per step, validation on the tail of train, metrics of the raw score.
        "release": one label per window at its first step, validation on the test split, range metrics
        of thresholded scores; see `madcluster.study.as_released`.
    fill : "ffill", "interpolate", "zero" or None
        As `madcluster.load` takes it: PSM has missing values in its train split.
    views : "none", "own" or "all"
        Measure the same fit with other smoothing too, by the aggregate that the settings name or by all
        three; see `views`. For the honest protocol.
    variant : str
        A name for the settings, for tables.
    settings : dict
        Further arguments of `MADCluster`, or of the other detector. The detectors of an ensemble are
        dicts, with the `name` that `madcluster.detectors.named` takes and arguments: they have the seed
        of the run.

    Raises
    ------
    ValueError
        If a value is not one of the allowed ones, or a setting is unknown; the message names both.
    """

    dataset: str
    entity: str
    embedder: str
    head: bool | str = False
    seed: int = 0
    protocol: Protocol = "honest"
    fill: Filling | None = None
    views: Views = "none"
    variant: str = "default"
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_one_of("dataset", self.dataset, DATASETS)
        check_one_of("embedder", self.embedder, EMBEDDER_NAMES)
        object.__setattr__(self, "head", named_head(self.head))
        check_one_of("protocol", self.protocol, get_args(Protocol))
        if self.fill is not None:
            check_one_of("fill", self.fill, FILLINGS)
        check_one_of("views", self.views, get_args(Views))
        if self.views != "none" and self.protocol != "honest":
            raise ValueError(f"the protocol {self.protocol!r} has no views")
        if self.views == "all" and self.embedder == "ensemble":
            raise ValueError("an ensemble has views of its own aggregate alone")
        if self.head and self.embedder in PLAIN:
            raise ValueError(f"{self.embedder} takes no head")
        if isinstance(self.head, str) and self.embedder == RELEASED:
            raise ValueError(f"{self.embedder} takes the paper's head alone, got {self.head!r}")
        if self.dataset == "synthetic":
            check_one_of("entity", self.entity, entities_of(self.dataset))
        known = _settings(self.embedder)
        if unknown := set(self.settings) - known:
            raise ValueError(
                f"unknown settings {sorted(unknown)} for {self.embedder}: choose from {sorted(known)}"
            )
        object.__setattr__(self, "seed", check_seed(self.seed))
        try:  # as a file holds them, so that a row of a table leads back to an equal run
            settings = json.loads(_canonical(plain(self.settings)))
        except TypeError as error:
            raise ValueError(f"settings must be plain values: {error}") from error
        object.__setattr__(self, "settings", settings)
        if self.embedder in PLAIN:
            _plain(self.embedder, settings, self.seed).check()
        else:
            MADCluster(head=self.head, seed=self.seed, **settings).check()

    @property
    def key(self) -> str:
        """Name of its file: readable, and different for runs that differ in anything."""
        digest = hashlib.sha256(_canonical(asdict(self)).encode()).hexdigest()[:12]
        head = f"+{self.head}" if isinstance(self.head, str) else "+head" if self.head else ""
        name = f"{self.dataset}_{self.entity}_{self.embedder}{head}_{self.variant}_{self.protocol}"
        return re.sub(r"[^\w.+-]", "-", f"{name}_s{self.seed}_{digest}")


def named_head(value: object) -> bool | str:
    """A head as a run names it, also from a table, where True may have become text."""
    if isinstance(value, str):
        named: dict[str, bool] = {"True": True, "madcluster": True, "False": False, "none": False}
        if value in named:
            return named[value]
        check_one_of("head", value, (*HEADS, "none"))
        return value
    return check_flag("head", value)


@lru_cache
def _settings(embedder: str) -> frozenset[str]:
    """Arguments of a detector that a run does not name itself."""
    kind = DETECTORS[embedder] if embedder in PLAIN else MADCluster
    named = {"embedder", "head", "seed"}
    if embedder == RELEASED:  # it has one center, one score and no guard
        named |= {"k", "terms", "guard", "score_from", "aggregate", "smooth", "head_options"}
    return frozenset(inspect.signature(kind).parameters) - named


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


# --- what is to be run ----------------------------------------------------------------------------


def entities_of(dataset: str, root: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Names of the series in a data set; "synthetic" has four plants made on the spot."""
    check_one_of("dataset", dataset, DATASETS)
    if dataset == "synthetic":
        return tuple(f"plant-{i}" for i in range(4))
    return tuple(entities(dataset, root))


def available(datasets: Iterable[str]) -> list[tuple[str, str]]:
    """Data set and entity of all that is there; a data set that is not is named in a printed line."""
    found: list[tuple[str, str]] = []
    for dataset in datasets:
        try:
            found += [(dataset, entity) for entity in entities_of(dataset)]
        except MissingDataError as error:
            print(f"without {dataset}: {error}")
    return found


def series_of(
    dataset: str,
    entity: str,
    root: str | os.PathLike[str] | None = None,
    *,
    fill: Filling | None = None,
) -> Series:
    """A series by data set and entity, as `madcluster.load`, or a synthetic plant."""
    if dataset != "synthetic":
        return load(dataset, entity, root, fill=fill)
    check_one_of("entity", entity, entities_of(dataset))
    return synthetic(n_train=2000, n_test=2000, seed=int(entity.removeprefix("plant-")))


def grid(
    datasets: Sequence[str],
    embedders: Sequence[str],
    *,
    entities: Mapping[str, Sequence[str]] | None = None,
    heads: Sequence[bool | str] = (False, True),
    seeds: Iterable[int] = (0,),
    protocol: Protocol = "honest",
    fill: Filling | None = None,
    views: Views = "none",
    variant: str = "default",
    settings: Mapping[str, Any] | Callable[[str, str], Mapping[str, Any]] | None = None,
    root: str | os.PathLike[str] | None = None,
) -> list[Run]:
    """All combinations, seed by seed, so that a whole table is there early.

    Parameters
    ----------
    datasets, embedders
        Names; a detector without an embedder counts as one without head.
    heads : sequence of bool or str
        See `Run`.
    entities : mapping, optional
        Data set → entities. All of a data set that is not named.
    settings : mapping or function of (data set, embedder), optional
        Further arguments of the detectors; those without an embedder take those that they know.

    Raises
    ------
    ValueError
        For names that do not exist, with those that do; for an empty grid.
    """
    chosen = {}
    for dataset in datasets:
        there = entities_of(dataset, root)
        chosen[dataset] = list((entities or {}).get(dataset, there))
        for entity in chosen[dataset]:
            check_one_of(f"entity of {dataset}", entity, there)
    runs = []
    for seed in seeds:
        for dataset in datasets:
            for embedder in embedders:
                check_one_of("embedder", embedder, EMBEDDER_NAMES)
                given = settings(dataset, embedder) if callable(settings) else settings or {}
                if embedder in PLAIN:
                    given = {name: given[name] for name in given if name in _settings(embedder)}
                for head in heads if embedder not in PLAIN else (False,):
                    runs += [
                        Run(
                            dataset=dataset,
                            entity=entity,
                            embedder=embedder,
                            head=head,
                            seed=seed,
                            protocol=protocol,
                            fill=fill,
                            views=views,
                            variant=variant,
                            settings=given,
                        )
                        for entity in chosen[dataset]
                    ]
    if not runs:
        raise ValueError(
            "the grid is empty: datasets, embedders, heads and seeds need a value each"
        )
    return runs


# Widths for two cores without a GPU, by the pilot (`python benchmarks/grid.py pilot`); published ones
# are the defaults of the embedders. DeepSVDD and DeepAnT are small as they are. DeepAnT, and D-RNN with
# the width of THOC, came after the pilot. The pilot had USAD at width 256 and DCdetector with three
# layers; for their cost alone both were then made smaller.
CPU_OPTIONS: dict[str, dict[str, Any]] = {
    "deepsvdd": {},
    "usad": {"width": 128},
    "beatgan": {"n_layers": 4},
    "omnianomaly": {"d": 64, "n_flows": 5},
    "thoc": {"d": 32},
    "anomaly_transformer": {"d": 64, "d_ff": 64, "n_heads": 2, "n_layers": 2},
    "dcdetector": {"d": 64, "n_layers": 1},
    "deepant": {},
    "drnn": {"d": 32},
    RELEASED: {"d": 64, "n_layers": 1},
}


def cpu_settings(dataset: str, embedder: str) -> dict[str, Any]:
    """The short protocol of chapter 13: narrow networks, and windows at a distance.

    SMD's series are ten times as long as the others, so its windows are taken five times as far apart.
    """
    if embedder in PLAIN:
        return {}
    stride = 50 if dataset == "SMD" else 10
    return {
        "stride": stride,
        "epochs": 10,
        "batch_size": 16,
        "lr": 1e-3,
        "options": CPU_OPTIONS[embedder],
    }


def released_settings(dataset: str, embedder: str) -> dict[str, Any]:
    """The settings of the released `run_all`, published ones; hours on two cores for one entity.

    For DCdetector and the released wiring the widths are those of the release too; other embedders have
    those of their own papers, which are the defaults.
    """
    if embedder in PLAIN:
        return {}
    wide = {"d": 256, "n_heads": 1, "n_layers": 3, "patch_sizes": [2, 5, 10]}
    settings: dict[str, Any] = {
        "window": 100,
        "stride": 1,
        "batch_size": 128,
        "epochs": 30,
        "patience": 5,
        "lr": 1e-4,
        "lr_decay": 0.9,
        "weight_decay": 1e-5,
        "threshold": 0.5,
        "nu": 0.01,
        "label_smoothing": 0.01,
        "scaler": "minmax",
    }
    return settings | ({"options": wide} if embedder in ("dcdetector", RELEASED) else {})


# --- one run --------------------------------------------------------------------------------------


def execute(run: Run, root: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Fit and score, without any file.

    Returns
    -------
    A row: dataset, entity, embedder, head, seed, protocol; the 11 metrics of `evaluate`; what the data,
    the training and the score were; cost; variant and settings. Seconds are those of the CPU that the
    process used.
    """
    series = series_of(run.dataset, run.entity, root, fill=run.fill)
    detector = _detector(run, series.train.shape[1])
    honest, of_views = run.protocol == "honest", {}
    started = time.process_time(), time.perf_counter()
    if honest or not isinstance(detector, MADCluster):
        detector.fit(series.train)
    else:
        detector = detector.fit_against(series.train, series.test)
    fitted = time.process_time()
    if honest:
        scores = detector.decision_function(series.test)
        found = evaluate(series.labels, scores)
    else:
        scores = _window_scores(detector, series.test, _window(run))
        found = as_released.evaluate(series.labels, scores, window=_window(run))
    scored = time.process_time(), time.perf_counter()
    if run.views != "none":
        raw = raw_scores(detector, series.test, AGGREGATES if run.views == "all" else ())
        of_views = _views(series.labels, raw) | {"scores": _digest(raw)}
    return {
        "dataset": run.dataset,
        "entity": run.entity,
        "embedder": run.embedder,
        "head": run.head,
        "seed": run.seed,
        "protocol": run.protocol,
        **{name: _number(found[name]) for name in METRICS},
        "f1_train_quantile": _f1_of_train_quantile(detector, series, scores) if honest else None,
        "anomalous": _number(series.anomaly_ratio),
        "n_train": len(series.train),
        "n_test": len(series.test),
        "n_channels": series.train.shape[1],
        "distinct_scores": len(np.unique(scores)),
        **_training(detector),
        **_cosines(detector, series.test),
        "fit_seconds": _number(fitted - started[0]),
        "score_seconds": _number(scored[0] - fitted),
        "wall_seconds": _number(scored[1] - started[1]),
        **of_views,
        "fill": run.fill,
        "views": run.views,
        "variant": run.variant,
        "settings": _canonical(dict(run.settings)),
    }


def raw_scores(
    detector: Detector, x: np.ndarray, aggregates: Sequence[Aggregate] = ()
) -> dict[Aggregate, np.ndarray]:
    """Scores of a series before smoothing, by each aggregate, of one fit.

    Parameters
    ----------
    detector : Detector
        Fitted; for its own aggregate alone, that of an ensemble, or what smooths by itself.
    x : (m c)
    aggregates : by which; its own where there are none
    """
    fitted = detector.as_fitted
    z = fitted.scaler_.transform(fitted.checked(x))
    if not aggregates:
        return {fitted.aggregate: fitted._scores(z)}
    found: dict[Aggregate, np.ndarray] = {}
    if "mean" in aggregates:
        other = copy.copy(fitted)
        other.aggregate = "mean"
        found["mean"] = other._scores(z)
    # one pass for both: the windows of a network cost the most
    causal = [aggregate for aggregate in aggregates if aggregate != "mean"]
    found |= {aggregate: np.empty(len(z)) for aggregate in causal}
    window = fitted.window
    for start in range(0, len(z) - window + 1, 1024):
        starts = np.arange(start, min(start + 1024, len(z) - window + 1))
        of_windows = fitted.window_scores(z, starts)
        for aggregate in causal:
            found[aggregate][starts + window - 1] = ends(of_windows, aggregate)
            if start == 0:
                head = beginning(of_windows[0], window, aggregate)
                found[aggregate][: window - 1] = head
    return found


def _views(labels: np.ndarray, raw: Mapping[Aggregate, np.ndarray]) -> dict[str, float | None]:
    """Metrics of scores smoothed in each way, by `view_name`.

    Events are found, and late, at one false alarm per 1,440 normal rows, further than 100 rows from any
    event; alarms with at most ten rows between them are one.
    """
    found: dict[str, float | None] = {}
    for (aggregate, scores), smooth in product(raw.items(), SMOOTHS):
        values = smoothed(scores, smooth, causal=aggregate != "mean")
        of_rows = evaluate(labels, values)
        events = events_at_budget(
            values, labels, alarms_per_day=1, rows_per_day=1440, margin=100, join=10
        )
        measured = {**of_rows, "found": events.share, "delay": events.delay}
        for metric in OF_VIEWS:
            found[view_name(metric, aggregate, smooth)] = _number(measured[metric], digits=4)
    return found


def view_name(metric: str, aggregate: Aggregate, smooth: Smooth) -> str:
    """The column of a view."""
    return f"{metric}@{aggregate},{smooth}"


def views(table: pd.DataFrame) -> pd.DataFrame:
    """A table of runs, a row for each of their views.

    Returns
    -------
    The columns of the runs that say which they are, `aggregate`, `smooth` ("off", "20" or "80") and the
    metrics of `OF_VIEWS`. For a score of one row "last", "window" and "mean" differ by nothing but the
    rows that smoothing looks at.
    """
    about = [f.name for f in fields(Run) if f.name not in ("views", "fill")]
    parts = []
    for aggregate, smooth in product(AGGREGATES, SMOOTHS):
        columns = {view_name(metric, aggregate, smooth): metric for metric in OF_VIEWS}
        if not set(columns) <= set(table):
            continue
        part = table[[*about, *columns]].rename(columns=columns).dropna(subset=["VUS_PR"])
        parts.append(part.assign(aggregate=aggregate, smooth=str(smooth)))
    return pd.concat(parts, ignore_index=True)


def _digest(raw: Mapping[Aggregate, np.ndarray]) -> str:
    """Of scores as float32: whether two runs agree to the last digit that means anything."""
    found = hashlib.sha256()
    for scores in raw.values():
        found.update(scores.astype(np.float32).tobytes())
    return found.hexdigest()[:12]


def _number(value: float, *, digits: int = 6) -> float | None:
    """So many digits; what is no number is none in the file."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _detector(run: Run, n_channels: int) -> Detector:
    settings = dict(run.settings)
    if run.embedder in PLAIN:
        return _plain(run.embedder, settings, run.seed)
    if run.embedder != RELEASED:
        return MADCluster(run.embedder, head=run.head, seed=run.seed, **settings)
    of_wiring = {name: settings[name] for name in OF_WIRING if name in settings}
    of_detector = {name: each for name, each in settings.items() if name not in OF_WIRING}
    if "label_smoothing" in of_wiring:
        of_wiring["smoothing"] = of_wiring.pop("label_smoothing")
    with seeded(run.seed):  # initial weights
        model = as_released.ReleasedWiring(
            n_channels,
            window=_window(run),
            head=bool(run.head),
            **of_wiring | (of_detector.pop("options", None) or {}),
        )
    return MADCluster(model, head=False, seed=run.seed, **of_detector)


def _plain(name: str, settings: Mapping[str, Any], seed: int) -> Detector:
    """An unfitted detector without an embedder of its own."""
    arguments = dict(settings)
    if isinstance(members := arguments.get("detectors"), list):
        if not all(isinstance(each, Mapping) and "name" in each for each in members):
            raise ValueError(f"detectors must be dicts with a name, got {members!r}")
        arguments["detectors"] = [named(**{"seed": seed, **each}) for each in members]
    if "seed" in inspect.signature(DETECTORS[name]).parameters:
        arguments["seed"] = seed
    return DETECTORS[name](**arguments)


def _window(run: Run) -> int:
    return int(run.settings.get("window", 100)) if run.embedder not in PLAIN else 100


def _window_scores(detector: Detector, x: np.ndarray, window: int) -> np.ndarray:
    """One score per window, at its first step; (m c) → (m − window + 1,)."""
    if not isinstance(detector, MADCluster):
        return windows(detector.decision_function(x)[:, None], window).mean((1, 2))
    scaled = detector.scaler_.transform(x)
    return as_released.window_scores(
        detector.model_, scaled, window=window, stride=detector.scoring_stride()
    )


def _training(detector: Detector) -> dict[str, Any]:
    """What a network's training was; none of it for a baseline."""
    if not isinstance(detector, MADCluster):
        return dict.fromkeys(OF_TRAINING)
    certificate = detector.certificate_
    best = detector.history_.epochs[detector.history_.best_epoch]
    values = (
        sum(p.numel() for p in detector.model_.parameters()),
        len(detector.history_.epochs),
        detector.history_.best_epoch,
        _number(best.get("variance_ratio", math.nan)),
        _number(best.get("effective_rank", math.nan)),
        _number(best.get("threshold", math.nan)),
        None if certificate is None or certificate.loss is None else _number(certificate.loss),
        None if certificate is None else _number(certificate.limit),
    )
    return dict(zip(OF_TRAINING, values, strict=True))


@torch.no_grad()
def _cosines(detector: Detector, x: np.ndarray) -> dict[str, Any]:
    """How near the clustering loss of a head with one cluster is to the cosine distance s·(1 − q).

    Over all steps of the windows of x (m c) that scores are means over: the smallest q, the share of q
    below the threshold, and of the ratio L / (s·(1 − q)) less 1 the median and the largest. Rounding
    decides the ratio where 1 − q is below 1e-4; these steps have no part in it.
    """
    names = ("least_q", "below_threshold", "cosine_gap", "largest_cosine_gap")
    model = detector.model_ if isinstance(detector, MADCluster) else None
    if not isinstance(model, WithHead) or not isinstance(model.head, Head):
        return dict.fromkeys(names)
    if model.head.threshold is None:
        return dict.fromkeys(names)
    like, window = next(model.parameters()), detector.window
    rows = torch.as_tensor(detector.scaler_.transform(x), dtype=like.dtype, device=like.device)
    nu = model.head.threshold.double()
    slope = -torch.expm1((1 - nu) * nu.log()) / (1 - nu)
    all_q, gaps = [], []
    for batch in windows_of(rows, window, detector.scoring_stride()).split(256):
        found = model.head(model.embedder(batch).h)
        q = found.q.squeeze(-1).flatten().double()
        far = 1 - q > 1e-4
        gaps.append(found.cluster.flatten().double()[far] / (slope * (1 - q[far])) - 1)
        all_q.append(q)
    q, gap = torch.cat(all_q), torch.cat(gaps)
    values = (
        q.min().item(),
        (q < nu).double().mean().item(),
        gap.median().item() if len(gap) else 0.0,
        gap.max().item() if len(gap) else 0.0,
    )
    return {name: _number(value) for name, value in zip(names, values, strict=True)}


def _f1_of_train_quantile(detector: Detector, series: Series, scores: np.ndarray) -> float | None:
    """F1 at a threshold that no label has chosen."""
    predicted = scores > quantile_threshold(detector.decision_scores_, detector.contamination)
    both = int((predicted & series.labels).sum())
    return _number(2 * both / (int(predicted.sum()) + int(series.labels.sum())))


# --- many runs ------------------------------------------------------------------------------------


def _path(folder: Path, run: Run) -> Path:
    return folder / f"{run.key}.json"


def _write(record: dict[str, Any], path: Path) -> None:
    """Whole or not at all; a checksum tells what a full disk or a crash has left of it."""
    content = _canonical(record)
    digest = hashlib.sha256(content.encode()).hexdigest()
    with whole_file(path) as part:
        part.write_text(f"{digest}\n{content}\n", encoding="utf-8")


def _read(path: Path, run: Run) -> dict[str, Any] | None:
    """The record of a run; None, with a warning, if the file is anything else."""
    try:
        digest, content = path.read_text(encoding="utf-8").split("\n", 1)
        content = content.removesuffix("\n")
        if hashlib.sha256(content.encode()).hexdigest() != digest:
            raise ValueError("its checksum is wrong")
        record = json.loads(content)
        if record["format"] != FORMAT or record["run"] != json.loads(_canonical(asdict(run))):
            raise ValueError("it belongs to another run or version")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        warnings.warn(
            f"{path} is not used, the run is done again: {error}",
            ForeignResultWarning,
            stacklevel=outside(),
        )
        return None
    return record


def _record(run: Run, source: str) -> dict[str, Any]:
    """What every file of a result begins with."""
    return {"format": FORMAT, "run": json.loads(_canonical(asdict(run))), "commit": source}


def _made_by(record: Mapping[str, Any]) -> str:
    """The commit whose code wrote a record, also where the run failed."""
    return str(record.get("commit") or (record.get("row") or {}).get("commit") or "unknown")


def _attempt(run: Run, root: str | os.PathLike[str] | None, source: str) -> dict[str, Any]:
    """The record of a run, also of one that fails."""
    record = _record(run, source)
    with _alone():
        try:
            row = execute(run, root) | {"commit": source, **_provenance()}
            return record | {"status": "done", "row": row}
        except Exception as error:
            last = traceback.format_exception(error)[-3:]
            text = f"{type(error).__name__}: {error}"
            return record | {"status": "failed", "error": text, "traceback": "".join(last)}


class _Alone:
    """One thread and no warning for a run, also where runs overlap in threads of one process.

    The filters of warnings and the number of threads that torch gives to new ones belong to the whole
    process: the first run that begins changes them, and the last that ends puts them back.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._outside = threading.Lock(), 0, ExitStack()
        self._threads = 1  # of torch, before

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._threads = torch.get_num_threads()
                self._outside.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")  # a collapse is in the row
            torch.set_num_threads(1)
        try:
            with quiet():
                yield
        finally:
            with self._lock:
                torch.set_num_threads(self._threads)
                self._inside -= 1
                if not self._inside:
                    self._outside.close()


_alone = _Alone()


@lru_cache
def _provenance() -> dict[str, str]:
    packages = ", ".join(f"{name} {version(name)}" for name in ("madcluster", "torch", "numpy"))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "versions": f"Python {platform.python_version()}, {packages}",
        "machine": f"{platform.system()} {device}, {_processor()}, {os.cpu_count()} cores, "
        "1 thread per run",
    }


def _processor() -> str:
    """Its model, and the kernels that torch takes on it: the last digits of a training hang on both."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else 'processor'} with {torch.backends.cpu.get_cpu_capability()}"


def run_all(
    runs: Sequence[Run],
    out: str | os.PathLike[str],
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    retry: bool = False,
    renew: bool = False,
    root: str | os.PathLike[str] | None = None,
    report: Callable[[str], None] = log.info,
) -> pd.DataFrame:
    """Do what is not done yet, and return the rows of all.

    Parameters
    ----------
    runs : sequence of Run
    out : folder
        One file per run. Files of finished runs are used; damaged and foreign ones are reported and
        written anew. Whatever stops the call, runs whose file is there are not lost.
    jobs : int
        Processes on this machine, one thread each. They share a GPU where there is one.
    scheduler : str, optional
        Address of a Dask scheduler, such as "tcp://host:8786": runs go to its workers, which need the
        package and the data. Results come back here; no common disk is needed.
    retry : bool
        Do failed runs again. Otherwise they stay failed, with their error.
    renew : bool
        Do runs again, finished or failed, whose file was written by other code of the package than
        this. Otherwise they are kept, with a warning.
    root : folder, optional
        Where the data sets lie; see `madcluster.load`.
    report : function of a line of text
        Told now and then how far it is.

    Returns
    -------
    A row per run, in the order of `runs`, as `collect` gives it.

    Raises
    ------
    RuntimeError
        If worker processes die again and again without finishing a run.
    ImportError
        If a scheduler is named and `distributed` is not installed.

    Warns
    -----
    OtherCodeWarning
        If results are kept that other code has made: how many, and by which.
    ForeignResultWarning
        If a file is damaged or belongs to something else.
    """
    jobs = check_whole("jobs", jobs)
    if scheduler is not None:
        _client()  # before any work
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    todo = {run.key: run for run in runs}  # each once
    source, others = commit(), Counter[str]()
    for key, run in list(todo.items()):
        record = _read(_path(folder, run), run)
        if record is None or (retry and record["status"] == "failed"):
            continue
        made_by = _made_by(record)
        if made_by != source:
            others[made_by] += 1
            if renew:
                continue
        del todo[key]
    if others and not renew:
        by = ", ".join(f"{number} by {made_by}" for made_by, number in others.most_common())
        warnings.warn(
            f"{others.total()} of {len(runs)} results in {folder} are kept that other code than "
            f"{source} has made: {by}. run_all(…, renew=True) does them again",
            OtherCodeWarning,
            stacklevel=outside(),
        )
    if todo:
        _work(list(todo.values()), folder, jobs, scheduler, root, report)
    return collect(runs, folder)


def _work(
    todo: list[Run],
    folder: Path,
    jobs: int,
    scheduler: str | None,
    root: str | os.PathLike[str] | None,
    report: Callable[[str], None],
) -> None:
    started, n, source = time.monotonic(), len(todo), commit()
    every = max(1, n // 20)
    failed = 0
    while todo:
        left = {run.key: run for run in todo}
        try:
            with _workers(scheduler):
                records = Parallel(jobs, batch_size=1, return_as="generator_unordered")(
                    delayed(_attempt)(run, root, source) for run in todo
                )
                for record in records:
                    run = left.pop(Run(**record["run"]).key)
                    _write(record, _path(folder, run))
                    if record["status"] == "failed":
                        failed += 1
                        report(f"{run.key} failed: {record['error']}")
                    done = n - len(left)
                    if done % every == 0 or not left:
                        seconds = time.monotonic() - started
                        report(f"{done} of {n} runs in {seconds:.0f} s, {failed} failed")
        except TerminatedWorkerError as error:
            if len(left) == len(todo):
                raise RuntimeError(
                    f"worker processes die and no run gets done ({len(left)} are left, first "
                    f"{todo[0].key}): take fewer jobs if memory is short, then call again"
                ) from error
            report(f"a worker process died; {len(left)} runs go on")
        todo = list(left.values())


@contextmanager
def _workers(scheduler: str | None) -> Iterator[None]:
    if scheduler is None:
        yield
        return
    with _client()(scheduler), parallel_config(backend="dask"):
        yield


def _client() -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "a scheduler needs distributed: python -m pip install distributed"
        ) from error
    return Client


def collect(runs: Sequence[Run], out: str | os.PathLike[str]) -> pd.DataFrame:
    """Rows of the runs that have a file, without running anything.

    Finished rows are those of `execute` with `commit`, `versions` and `machine`; the columns `status`
    ("done" or "failed") and `error` come last. A failed run has no metrics, but a `commit`.
    """
    rows = []
    for run in runs:
        record = _read(_path(Path(out), run), run)
        if record is None:
            continue
        name = {f.name: getattr(run, f.name) for f in fields(run)}
        row = record.get("row") or name | {
            "settings": _canonical(dict(run.settings)),
            "commit": _made_by(record),
        }
        rows.append(row | {"status": record["status"], "error": record.get("error")})
    return pd.DataFrame(rows)


def restore(table: pd.DataFrame, out: str | os.PathLike[str]) -> int:
    """Write the files of a table's finished rows where there are none, to go on from it elsewhere.

    Returns
    -------
    How many were written.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for row in table[table["status"] == "done"].to_dict("records"):
        run = run_of(row)
        if _path(folder, run).exists():
            continue
        values = {name: None if pd.isna(value) else value for name, value in row.items()}
        for name in ("status", "error"):
            values.pop(name)
        record = _record(run, values.get("commit") or "unknown")
        _write(record | {"status": "done", "row": values}, _path(folder, run))
        written += 1
    return written


def run_of(row: Mapping[str, Any]) -> Run:
    """The run that a row of a table came from; `execute` it to have the row again."""
    names = [f.name for f in fields(Run) if f.name != "settings"]
    values = {name: row[name] for name in names if name in row}  # old tables lack some
    values = {name: None if pd.isna(value) else value for name, value in values.items()}
    values |= {"head": named_head(row["head"]), "seed": int(row["seed"])}
    return Run(**values, settings=json.loads(row["settings"]))


def summary(
    table: pd.DataFrame, *, by: Sequence[str] = ("dataset", "embedder", "head")
) -> pd.DataFrame:
    """Means over entities, each entity a mean over its seeds; failed runs are counted, not averaged.

    Returns
    -------
    Index `by`; the 11 metrics, `fit_seconds`, `entities`, `seeds` (the least of any entity), `failed`.
    A group of which all failed has no means, 0 entities and its failures.
    """
    by = list(by)
    columns = [*METRICS, "fit_seconds"]
    done = table[table["status"] == "done"]
    of_entity = done.groupby([*by, "entity"])[columns].mean()
    result = of_entity.groupby(by).mean()
    seeds = done.groupby([*by, "entity"])["seed"].nunique().groupby(by)
    failed = table["status"].eq("failed").groupby([table[name] for name in by]).sum()
    counts = pd.DataFrame({"entities": seeds.size(), "seeds": seeds.min(), "failed": failed})
    # a group of which nothing is done has no means, and is there
    return result.join(counts.fillna(0).astype(int), how="right")
