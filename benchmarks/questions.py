"""What reviewers of the paper's first version asked: python benchmarks/questions.py [part …] [--jobs 2]

`collapse.py questions` has centers and losses; here are seven more. The protocol, written before the
first run of each part; the tables of chapters 13 and 14 had been seen. Of spread, sensitivity,
attached and tables one or two pieces had been tried before, to see whether they work and how long
they take; 128 Fourier features in place of 256 came of that.

readings   "Applied to a network with a loss of its own": the head's loss added to that one, or put in
           its place? USAD, BeatGAN, OmniAnomaly, Anomaly Transformer and DCdetector with the paper's
           head, by `cpu_settings`, seeds 0 and 1, on the 25 entities of chapter 14. Score: the head's,
           smoothed by 20 rows. Primary: VUS-PR, replaced less kept, for each of the five, paired by
           entity after the mean over seeds, with Holm's correction over five.
           -> questions_readings.csv.gz
modes      "Several modes of normal data: is one center enough?" Synthetic plants 0 to 3 that go
           through one, two or three regimes in stretches of 500 rows, alike in train and test; Deep
           SVDD with k = 1 ... 5, its head's score and the Mahalanobis score, seeds 0 and 1. Primary:
           VUS-PR of k less k = 1 with the head's score, for each number of regimes, the plant as the
           sample. With four plants no test can be significant: intervals, no verdict.
           And on the 25 entities of chapter 14: the number of components (1 to 6) of a Gaussian
           mixture that has the lowest BIC on the first principal components of the train split, to set
           beside the gain of k > 1 in knobs.csv.gz. -> questions_modes.csv.gz, questions_regimes.csv.gz
small      "Anomalies that leave the cluster only slightly?" Four plants, and four entities each of MSL,
           SMAP and SMD, at equal distances in the names of those with 2,000 train rows. Detectors learn
           the first three quarters of the train split; in the last, events of one kind and one size are
           planted: spikes, offsets and noise of 0.25, 0.5, 1, 2 and 4 standard deviations, and frozen
           stretches and stretches of another time, which have no size; three draws each. Deep SVDD
           alone, with the head, and with it untrained; PCA error, the Gaussian of ten rows and random
           features; all smoothed by 20 rows, seeds 0 to 2 (1 and 2 were added after a look at 0).
           Measured: the share of events found at one false alarm in 1,440 normal rows, and VUS-PR.
           Primary: the head less none, and the head less the Gaussian, at 1 standard deviation, in
           VUS-PR, the mean over kinds with a size, paired by series, Holm over two. ->
           questions_small.csv.gz
spread     "82.4 % of the normal embeddings within 3 sigma of the center: is that good?" Four entities
           each of MSL, SMAP and SMD as in `small`, all nine embedders with the head, and Deep SVDD
           without, by `cpu_settings`, seeds 0 and 1. Of the held-out tail of train, before training and
           after: the share of steps within 3 sigma of the center for four meanings of sigma (`Sigmas`),
           the same of a Gaussian with the mean and covariance of these embeddings, and of the normal
           and the anomalous steps of test by the sigma of the tail. Before every epoch: the threshold,
           how far the center has come from its start, and the norm of the embedder's weights. No
           primary comparison; shares of anomalous steps use test labels. -> questions_spread.csv.gz
sensitivity "And the settings that were not tried?" Deep SVDD with the head by `cpu_settings` on the 25
           entities of chapter 14, seeds 0 to 2: weight of the clustering term beside the distance .1
           and 10 (in training; the score stays D + L), weight decay 0 and .001, soft boundary with
           quantiles .01, .1 and .5, label smoothing .01 and .1, a center that starts at random or at a
           hundredth of the mean, a threshold that learns at a tenth of the rate or at ten times it.
           Score smoothed by 20 rows. Primary: VUS-PR, each less the default, paired by entity after the
           mean over seeds, Holm over the 13 (12 stood here, miscounted). ->
           questions_sensitivity.csv.gz
attached   "Can LOF, OC-SVM, Isolation Forest or VAR carry the head?" They have no embedding to train.
           What can be done in their place: a linear map of ten lagged rows (the features of a VAR) and
           random Fourier features of ten lagged rows (the kernel map of an OC-SVM or SVDD, its width
           the median distance of train) as Base Embedders, with the head, trained and untrained, by the
           settings of Deep SVDD, seeds 0 to 2, on the 25 entities; the isolation forest beside them.
           Smoothed by 20 rows. Primary: trained less untrained of both, Holm over two. The kernel map
           has no weights: there training moves the center and the threshold alone. ->
           questions_attached.csv.gz
tables     "Other kinds of data?" A table is a series with windows of one row. Three of scikit-learn's
           own data sets: one class is normal (benign; each of ten digits; each of three wines), and
           every other row of it is train; test is the rest and all other classes. Deep SVDD with the
           head, without, and untrained, PCA error, the Gaussian of one row, the nearest neighbor and
           the isolation forest; seeds 0 to 2 where something is drawn. Average precision and AUC.
           Primary: the head less none, paired by class after the mean over seeds. ->
           questions_tables.csv.gz

It can be stopped: what is done lies under _runs/questions. Needs $MADCLUSTER_DATA.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grid
import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from madcluster import MADCluster
from madcluster.data import Scaler, synthetic
from madcluster.data.planted import planted
from madcluster.detectors import DETECTORS, Detector
from madcluster.diagnostics import effective_rank
from madcluster.heads import Head
from madcluster.heads.base import BaseHead, Embed
from madcluster.heads.head import Assignment
from madcluster.metrics import average_precision_score, roc_auc_score, vus_score
from madcluster.models import EMBEDDERS
from madcluster.models.base import windows_of
from madcluster.progress import quiet
from madcluster.randomness import seeded
from madcluster.service.alarms import events_at_budget
from madcluster.study.benchmark import cpu_settings, entities_of, series_of
from madcluster.study.results import commit, once, provenance, write_result
from madcluster.training import split_tail

RUNS = Path(__file__).parents[1] / "_runs" / "questions"
WITH_OWN_LOSS = ("usad", "beatgan", "omnianomaly", "anomaly_transformer", "dcdetector")
REGIMES, CLUSTERS, PLANTS, STRETCH = (1, 2, 3), (1, 2, 3, 4, 5), 4, 500
SIZED, UNSIZED = ("spike", "offset", "noise"), ("frozen", "other time")
LEAST_ROWS = 2000
SIZES, DRAWS = (0.25, 0.5, 1.0, 2.0, 4.0), 3
Row = dict[str, Any]


def found(labels: np.ndarray, scores: np.ndarray) -> Row:
    """VUS-PR, and the share of events at one false alarm in 1,440 normal rows."""
    events = events_at_budget(
        scores, labels, alarms_per_day=1, rows_per_day=1440, margin=100, join=10
    )
    return {
        "vus_pr": round(vus_score(labels, scores).pr, 4),
        "found": round(events.share, 4),
    }


def of_chapter_14() -> Iterator[tuple[str, str]]:
    """(dataset, entity) of the 25."""
    for dataset, entities in grid.chosen(grid.FEWER).items():
        for entity in entities:
            yield dataset, entity


# --- readings -------------------------------------------------------------------------------------


def reading(dataset: str, entity: str, name: str, replaced: bool, seed: int) -> list[Row]:
    """One network with the head, its own loss kept or replaced."""
    series = series_of(dataset, entity)
    settings = cpu_settings(dataset, name)
    options = settings.pop("options")
    with seeded(seed):
        embedder = EMBEDDERS[name](series.n_channels, window=100, **options)
    embedder.replaced_by_head = replaced
    detector = MADCluster(embedder, smooth=20, seed=seed, **settings).fit(series.train)
    history = detector.history_.epochs[detector.history_.best_epoch]
    about = {
        "dataset": dataset,
        "entity": entity,
        "embedder": name,
        "own_loss": "replaced" if replaced else "kept",
        "seed": seed,
        "variance_ratio": round(history["variance_ratio"], 5),
    }
    return [about | found(series.labels, detector.decision_function(series.test))]


def readings() -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    for seed in range(2):
        for dataset, entity in of_chapter_14():
            for name in WITH_OWN_LOSS:
                for replaced in (False, True):
                    what = "replaced" if replaced else "kept"
                    key = f"{dataset}_{entity}_{name}_{what}_s{seed}"
                    yield key, partial(reading, dataset, entity, name, replaced, seed)


# --- modes ----------------------------------------------------------------------------------------


def with_regimes(rows: np.ndarray, regimes: int, seed: int) -> np.ndarray:
    """Rows (n c) that go through regimes in turn, in stretches of 500 rows.

    In each regime but the first the channels rest three standard deviations away from where they were,
    in directions that are drawn once for a plant.
    """
    rng = np.random.default_rng(seed)
    shifts = rng.normal(size=(regimes, rows.shape[1]))
    shifts *= 3 / np.sqrt(np.square(shifts).mean(1, keepdims=True))
    shifts[0] = 0
    turn = np.arange(len(rows)) // STRETCH % regimes
    return rows + shifts[turn] * rows.std(0)


def mode(plant: int, regimes: int, k: int, seed: int) -> list[Row]:
    """One number of clusters on a plant with so many regimes, by both scores."""
    series = synthetic(n_train=6000, n_test=6000, seed=plant)
    train, test = (with_regimes(x, regimes, plant) for x in (series.train, series.test))
    rows = []
    for score in ("head", "mahalanobis"):
        detector = MADCluster(k=k, score_from=score, smooth=20, seed=seed).fit(train)
        about = {"plant": plant, "regimes": regimes, "k": k, "seed": seed, "score": score}
        rows.append(about | found(series.labels, detector.decision_function(test)))
    return rows


def modes() -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    for seed in range(2):
        for plant in range(PLANTS):
            for regimes in REGIMES:
                for k in CLUSTERS:
                    key = f"plant-{plant}_regimes-{regimes}_k-{k}_s{seed}"
                    yield key, partial(mode, plant, regimes, k, seed)


def components(x: np.ndarray, most: int = 6) -> int:
    """Components of the Gaussian mixture of rows (n c) with the lowest BIC.

    Of every tenth row and the first principal components that hold 95 % of the variance, eight at most.
    """
    x = Scaler("standard").fit(x).transform(x)[::10].astype(float)
    varying = x[:, np.ptp(x, axis=0) > 0]
    if not varying.size:
        return 1
    projected = PCA(min(8, *varying.shape), random_state=0).fit(varying)
    n = 1 + int((np.cumsum(projected.explained_variance_ratio_) < 0.95).sum())
    z = projected.transform(varying)[:, : min(n, 8)]
    counts = range(1, min(most, len(z) // 10) + 1)
    fits = [GaussianMixture(m, random_state=0, reg_covar=1e-3).fit(z) for m in counts]
    return 1 + int(np.argmin([fit.bic(z) for fit in fits]))


def regime(dataset: str, entity: str) -> list[Row]:
    train = series_of(dataset, entity).train
    return [
        {"dataset": dataset, "entity": entity, "train": len(train), "regimes": components(train)}
    ]


def regimes() -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    for dataset, entity in of_chapter_14():
        yield f"{dataset}_{entity}_regimes", partial(regime, dataset, entity)


# --- small deviations -----------------------------------------------------------------------------


def detectors(dataset: str, seed: int) -> dict[str, Detector]:
    """By name; with seed 0 also those of which nothing is drawn."""
    network = cpu_settings(dataset, "deepsvdd") | {"smooth": 20, "seed": seed}
    made: dict[str, Detector] = {
        "deepsvdd": MADCluster(head=False, **network),
        "deepsvdd + head": MADCluster(**network),
        "deepsvdd + head, untrained": MADCluster(**network | grid.UNTRAINED),
        "random_features": DETECTORS["random_features"](smooth=20, seed=seed),
    }
    if seed == 0:
        made |= {name: DETECTORS[name](smooth=20) for name in ("pca_error", "mahalanobis")}
    return made


def plantings() -> Iterator[tuple[str, float | None, int]]:
    """Kind, size and draw."""
    for draw in range(DRAWS):
        for kind in SIZED:
            for size in SIZES:
                yield kind, size, draw
        for kind in UNSIZED:
            yield kind, None, draw


def deviation(dataset: str, entity: str, seed: int) -> list[Row]:
    """All detectors on all plantings in the last quarter of one train split."""
    train = series_of(dataset, entity).train
    cut = 3 * len(train) // 4
    tail, rows = train[cut:], []
    fitted = {name: each.fit(train[:cut]) for name, each in detectors(dataset, seed).items()}
    per_kind = max(1, len(tail) // 400)
    for kind, size, draw in plantings():
        sizes = (size, size) if size else (1.0, 1.0)
        rng = np.random.default_rng([draw, (*SIZED, *UNSIZED).index(kind)])
        x, labels = planted(tail, rng, kinds=[kind], per_kind=per_kind, sizes=sizes)
        about = {"dataset": dataset, "entity": entity, "kind": kind, "size": size, "draw": draw}
        about |= {"events": per_kind, "seed": seed}
        for name, detector in fitted.items():
            rows.append(about | {"detector": name} | found(labels, detector.decision_function(x)))
    return rows


def long_enough(dataset: str, n: int) -> list[tuple[str, str]]:
    """Entities with room for events and for normal rows in the last quarter of their train split."""
    names = [e for e in entities_of(dataset) if len(series_of(dataset, e).train) >= LEAST_ROWS]
    return [(dataset, entity) for entity in grid.spread(names, n)]


def small() -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    series = [("synthetic", f"plant-{i}") for i in range(4)]
    for dataset in ("MSL", "SMAP", "SMD"):
        series += long_enough(dataset, 4)
    for seed in range(3):
        for dataset, entity in series:
            key = f"{dataset}_{entity}_small_s{seed}"
            yield key, partial(deviation, dataset, entity, seed)


# --- spread ---------------------------------------------------------------------------------------


class Watched(Head):
    """The paper's head, which notes before every epoch where threshold, center and weights are."""

    def __init__(self, d: int) -> None:
        super().__init__(d)
        self.notes: list[tuple[float, Tensor, float]] = []

    def watch(self, embedder: nn.Module) -> None:
        self.watched = (embedder,)  # a tuple, or its weights would be those of the head

    def prepare(self, batches: Iterable[Tensor], embed: Embed, epoch: int) -> None:
        super().prepare(batches, embed, epoch)
        assert self.threshold is not None
        norm = torch.cat([p.flatten() for p in self.watched[0].parameters()]).norm().item()
        self.notes.append((self.threshold.item(), self.centers[0].clone(), norm))


class Watching(MADCluster):
    def _head(self, n_channels: int) -> Callable[[int], BaseHead]:
        return Watched

    def _build(self, embedder: str | nn.Module, n_channels: int) -> None:
        super()._build(embedder, n_channels)
        if self.head:
            self.model_.head.watch(self.model_.embedder)


class Sigmas:
    """Which embeddings (n d) lie within 3 sigma of a center (d,), for four meanings of sigma.

    per dimension  the root mean square of the distance, divided by sqrt(d): sigma of one coordinate
    distance       the root mean square of the distance itself; at least 8/9 by Markov's inequality
    deviation      the mean distance and three of its standard deviations
    plane          as the first, of the first two principal components, as in a picture
    """

    def __init__(self, h: np.ndarray, center: np.ndarray) -> None:
        self.center = center
        self.plane = np.linalg.svd(h - h.mean(0), full_matrices=False)[2][:2].T  # (d 2)
        squared, flat = self._squared(h)
        distance = np.sqrt(squared)
        self.limits = {
            "per dimension": 9 * squared.mean() / h.shape[1],
            "distance": 9 * squared.mean(),
            "deviation": (distance.mean() + 3 * distance.std()) ** 2,
            "plane": 9 * flat.mean() / self.plane.shape[1],
        }

    def _squared(self, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gap = h - self.center
        return np.vecdot(gap, gap), np.square(gap @ self.plane).sum(1)

    def shares(self, h: np.ndarray) -> dict[str, float]:
        if not len(h):
            return dict.fromkeys(self.limits, math.nan)
        squared, flat = self._squared(h)
        return {
            name: round(float(np.mean((flat if name == "plane" else squared) <= limit)), 4)
            for name, limit in self.limits.items()
        }


@torch.no_grad()
def embedded(model: nn.Module, rows: np.ndarray) -> np.ndarray:
    """Embeddings (n t d) in float64 of windows of 100 rows that do not overlap."""
    windows = windows_of(torch.as_tensor(rows, dtype=torch.float32), 100, 100)
    with seeded(0):  # some draw noise
        return torch.cat([model(x).h for x in windows.split(64)]).double().numpy()


def within(detector: MADCluster, train: np.ndarray, test: np.ndarray, labels: np.ndarray) -> Row:
    """Shares of the tail, of a Gaussian like it, and of the normal and anomalous steps of test."""
    z = detector.scaler_.transform(train)
    tail = z[split_tail(len(z), window=100, fraction=detector.validation) :]
    h = embedded(detector.model_, tail)
    flat = h.reshape(-1, h.shape[-1])
    sigmas = Sigmas(flat, detector.model_.anchors()[0].detach().double().numpy())
    rng = np.random.default_rng(0)
    gaussian = rng.multivariate_normal(flat.mean(0), np.cov(flat.T), 10_000, method="eigh")
    of_test = embedded(detector.model_, detector.scaler_.transform(test))
    marks = labels[: of_test[..., 0].size].reshape(of_test.shape[:2])
    found = {"d": flat.shape[1], "effective_rank": round(effective_rank(torch.tensor(flat)), 3)}
    for who, those in (
        ("tail", flat),
        ("gaussian", gaussian),
        ("normal", of_test[~marks]),
        ("anomalous", of_test[marks]),
    ):
        found |= {f"{who}, {name}": share for name, share in sigmas.shares(those).items()}
    return found


def path_of(head: Watched) -> Row:
    """The notes of a training, as lists."""
    thresholds, centers, norms = zip(*head.notes, strict=True)
    start = centers[0]
    moved = [((center - start).norm() / start.norm()).item() for center in centers]
    lists = {"threshold_path": thresholds, "center_path": moved, "norm_path": norms}
    return {name: json.dumps([round(v, 5) for v in values]) for name, values in lists.items()}


def spread(dataset: str, entity: str, name: str, head: bool, seed: int) -> list[Row]:
    """One network before training and after."""
    series, rows = series_of(dataset, entity), []
    for train in (False, True):
        detector = Watching(
            name, head=head, train=train, seed=seed, **cpu_settings(dataset, name)
        ).fit(series.train)
        about = {"dataset": dataset, "entity": entity, "embedder": name, "head": head}
        about |= {"seed": seed, "trained": train}
        row = about | within(detector, series.train, series.test, series.labels)
        kept = detector.history_.epochs[detector.history_.best_epoch]
        row |= {"variance_ratio": round(kept["variance_ratio"], 5), "best_epoch": kept["epoch"]}
        if head and train:
            row |= path_of(detector.model_.head)
        rows.append(row)
    return rows


def spreads() -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    several = [each for dataset in ("MSL", "SMAP", "SMD") for each in long_enough(dataset, 4)]
    for seed in range(2):
        for dataset, entity in several:
            for name, head in [(name, True) for name in EMBEDDERS] + [("deepsvdd", False)]:
                key = f"{dataset}_{entity}_{name}_{'head' if head else 'plain'}_spread_s{seed}"
                yield key, partial(spread, dataset, entity, name, head, seed)


# --- sensitivity ----------------------------------------------------------------------------------


class Varied(Head):
    """The paper's head: its second term weighed, its threshold at a rate, its center from a start."""

    def __init__(self, d: int, *, weight: float = 1, rate: float = 1, start: str = "mean") -> None:
        super().__init__(d)
        self.weight, self.rate, self.center_from = weight, rate, start

    @property
    def threshold(self) -> Tensor | None:
        """From one half. Adam's steps do not see a factor of the gradient, so this is a rate."""
        assert self.theta is not None
        return (self.rate * self.theta).sigmoid()

    def objective_of(self, a: Assignment) -> Tensor:
        return super().objective_of(a._replace(cluster=self.weight * a.cluster))

    @torch.no_grad()
    def place(self, batches: Iterable[Tensor]) -> None:
        super().place(batches)
        if self.center_from == "random":
            self.centers.normal_()
        elif self.center_from == "near zero":
            self.centers.mul_(0.01)


class Sensitive(MADCluster):
    """With a head that takes what the package's does not."""

    varied: Row

    def _head(self, n_channels: int) -> Callable[[int], BaseHead]:
        return partial(Varied, **self.varied)


OF_HEAD: dict[str, Row] = {
    "weight of L .1": {"weight": 0.1},
    "weight of L 10": {"weight": 10.0},
    "center from a random start": {"start": "random"},
    "center from near zero": {"start": "near zero"},
    "rate of the threshold .1": {"rate": 0.1},
    "rate of the threshold 10": {"rate": 10.0},
}
OF_FIT: dict[str, Row] = {
    "default": {},
    "weight decay 0": {"weight_decay": 0.0},
    "weight decay .001": {"weight_decay": 1e-3},
    "soft boundary, quantile .01": {"objective": "soft-boundary", "nu": 0.01},
    "soft boundary, quantile .1": {"objective": "soft-boundary", "nu": 0.1},
    "soft boundary, quantile .5": {"objective": "soft-boundary", "nu": 0.5},
    "label smoothing .01": {"label_smoothing": 0.01},
    "label smoothing .1": {"label_smoothing": 0.1},
}


def sensitivity(dataset: str, entity: str, setting: str, seed: int) -> list[Row]:
    series = series_of(dataset, entity)
    settings = cpu_settings(dataset, "deepsvdd") | {"smooth": 20, "seed": seed}
    if setting in OF_HEAD:
        detector = Sensitive(**settings)
        detector.varied = OF_HEAD[setting]
        detector.fit(series.train)
    else:
        detector = MADCluster(**settings | OF_FIT[setting]).fit(series.train)
    kept = detector.history_.epochs[detector.history_.best_epoch]
    about = {"dataset": dataset, "entity": entity, "setting": setting, "seed": seed}
    about |= {"threshold": round(kept["threshold"], 5)}
    about |= {"variance_ratio": round(kept["variance_ratio"], 5)}
    return [about | found(series.labels, detector.decision_function(series.test))]


def sensitivities() -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    for seed in range(3):
        for dataset, entity in of_chapter_14():
            for setting in (*OF_FIT, *OF_HEAD):
                key = f"{dataset}_{entity}_{setting}_s{seed}".replace(" ", "-").replace(",", "")
                yield key, partial(sensitivity, dataset, entity, setting, seed)


# --- what stands in the place of a method without a network ---------------------------------------


class LaggedLinear(nn.Module):
    """(b t c) -> (b t d): a linear map of ten lagged rows, the features of a vector autoregression."""

    def __init__(self, n_channels: int, d: int = 32, lags: int = 10) -> None:
        super().__init__()
        self.lags, self.map = lags, nn.Conv1d(n_channels, d, lags, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(nn.functional.pad(x.mT, (self.lags - 1, 0), "replicate")).mT


class RandomFourier(LaggedLinear):
    """(b t c) -> (b t d): random Fourier features of ten lagged rows, which are never trained.

    Their inner products are near exp(-||x - y||^2 / 2 width^2) (Rahimi and Recht 2007), so the distance
    to a center in the middle is that of a kernel SVDD whose weights are all alike.
    """

    def __init__(self, n_channels: int, width: float, d: int = 128, lags: int = 10) -> None:
        super().__init__(n_channels, d, lags)
        nn.init.normal_(self.map.requires_grad_(False).weight, std=1 / width)
        self.register_buffer("phase", 2 * torch.pi * torch.rand(d))
        self.scale = math.sqrt(2 / d)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (super().forward(x) + self.phase).cos()


def median_distance(z: np.ndarray, lags: int = 10, most: int = 500) -> float:
    """Median distance of two windows of so many rows, by some of them; 1 if all are alike."""
    windows = np.lib.stride_tricks.sliding_window_view(z, lags, axis=0).reshape(
        -1, z[0].size * lags
    )
    some = windows[:: max(1, len(windows) // most)]
    gaps = np.linalg.norm(some[:, None] - some[None], axis=-1)[np.triu_indices(len(some), 1)]
    gaps = gaps[gaps > 1e-9]
    return float(np.median(gaps)) if gaps.size else 1.0


def attach(dataset: str, entity: str, name: str, seed: int) -> list[Row]:
    series, rows = series_of(dataset, entity), []
    about = {"dataset": dataset, "entity": entity, "method": name, "seed": seed}
    if name == "isolation forest":
        forest = DETECTORS["isolation_forest"](smooth=20, seed=seed).fit(series.train)
        return [about | found(series.labels, forest.decision_function(series.test))]
    settings = cpu_settings(dataset, "deepsvdd") | {"smooth": 20, "seed": seed}
    del settings["options"]
    with seeded(seed):
        if name == "lagged linear":
            embedder: nn.Module = LaggedLinear(series.n_channels)
        else:
            z = Scaler("minmax").fit(series.train).transform(series.train)
            embedder = RandomFourier(series.n_channels, median_distance(z))
    for train in (False, True):
        detector = MADCluster(embedder, train=train, **settings).fit(series.train)
        row = about | {"trained": train}
        rows.append(row | found(series.labels, detector.decision_function(series.test)))
    return rows


def attached() -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    for seed in range(3):
        for dataset, entity in of_chapter_14():
            for name in ("lagged linear", "random Fourier", "isolation forest"):
                key = f"{dataset}_{entity}_{name.replace(' ', '-')}_s{seed}"
                yield key, partial(attach, dataset, entity, name, seed)


# --- tables ---------------------------------------------------------------------------------------

TABLES = {
    "breast cancer": (datasets.load_breast_cancer, (1,)),  # benign
    "digits": (datasets.load_digits, tuple(range(10))),
    "wine": (datasets.load_wine, (0, 1, 2)),
}


def of_a_table(seed: int) -> dict[str, Detector]:
    """By name; all windows of one row. So few rows are seen more often than those of a series."""
    network: Row = {"window": 1, "stride": 1, "batch_size": 16, "epochs": 30, "seed": seed}
    network |= {"options": {"d": 32}}
    made: dict[str, Detector] = {
        "deepsvdd": MADCluster(head=False, **network),
        "deepsvdd + head": MADCluster(**network),
        "deepsvdd + head, untrained": MADCluster(train=False, **network),
        "isolation_forest": DETECTORS["isolation_forest"](seed=seed),
    }
    if seed == 0:  # of which nothing is drawn
        made["pca_error"] = DETECTORS["pca_error"]()
        made["mahalanobis"] = DETECTORS["mahalanobis"](window=1)
        made["nearest_neighbor"] = DETECTORS["nearest_neighbor"](window=1)
    return made


def table(name: str, normal: int, seed: int) -> list[Row]:
    """One class against the others."""
    read, _ = TABLES[name]
    x, y = read(return_X_y=True)
    inside = x[y == normal]
    train, test = inside[::2], np.concatenate([inside[1::2], x[y != normal]])
    labels = np.arange(len(test)) >= len(inside[1::2])
    rows = []
    for method, detector in of_a_table(seed).items():
        scores = detector.fit(train).decision_function(test)
        measured = {
            "aupr": round(average_precision_score(labels, scores), 4),
            "roc_auc": round(roc_auc_score(labels, scores), 4),
        }
        about = {"table": name, "normal": normal, "method": method, "seed": seed}
        about |= {"train": len(train), "test": len(test), "anomalous": round(labels.mean(), 4)}
        rows.append(about | measured)
    return rows


def tables() -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    for seed in range(3):
        for name, (_, classes) in TABLES.items():
            for normal in classes:
                key = f"{name.replace(' ', '-')}_{normal}_table_s{seed}"
                yield key, partial(table, name, normal, seed)


PARTS = {
    "regimes": regimes,
    "modes": modes,
    "small": small,
    "tables": tables,
    "attached": attached,
    "spread": spreads,
    "sensitivity": sensitivities,
    "readings": readings,
}


def kept(key: str, make: Callable[[], list[Row]]) -> list[Row]:
    """Rows of one piece, from its file where it is done."""
    torch.set_num_threads(1)

    def made() -> list[Row]:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            rows = make()
        return [row | {"commit": commit()} | provenance() for row in rows]

    return once(RUNS / f"{key}.json", made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="*", default=list(PARTS))
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    if unknown := set(arguments.part) - set(PARTS):
        sys.exit(f"unknown part {sorted(unknown)}: choose from {', '.join(PARTS)}")
    if not os.environ.get("MADCLUSTER_DATA"):
        print("nothing to do: set MADCLUSTER_DATA to a folder with MSL, SMAP and SMD")
        return
    for part in arguments.part:
        pieces = list(PARTS[part]())
        done = Parallel(arguments.jobs, return_as="generator")(
            delayed(kept)(key, make) for key, make in pieces
        )
        rows = []
        for n, of_piece in enumerate(done, 1):
            rows += of_piece
            if n % 10 == 0 or n == len(pieces):
                print(f"{part}: {n} of {len(pieces)}", flush=True)
        print(write_result(pd.DataFrame(rows), f"questions_{part}", compress=True))


if __name__ == "__main__":
    main()
