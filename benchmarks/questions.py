"""What reviewers of the paper's first version asked: python benchmarks/questions.py [part …] [--jobs 2]

`collapse.py questions` has centers and losses; here are three more. The protocol, written before the
first run; the tables of chapters 13 and 14 had been seen.

readings   "Applied to a network with a loss of its own": the head's loss added to that one, or put in
           its place? USAD, BeatGAN, OmniAnomaly, Anomaly Transformer and DCdetector with the paper's
           head, by `cpu_settings`, seed 0, on the 25 entities of chapter 14. Score: the head's,
           smoothed by 20 rows. Primary: VUS-PR, replaced less kept, for each of the five, paired by
           entity, with Holm's correction over five. -> questions_readings.csv
modes      "Several modes of normal data: is one center enough?" Synthetic plants 0 to 3 that go
           through one, two or three regimes in stretches of 500 rows, alike in train and test; Deep
           SVDD with k = 1 ... 5, its head's score and the Mahalanobis score, seeds 0 and 1. Primary:
           VUS-PR of k less k = 1 with the head's score, for each number of regimes, the plant as the
           sample. With four plants no test can be significant: intervals, no verdict.
           And on the 25 entities of chapter 14: the number of components (1 to 6) of a Gaussian
           mixture that has the lowest BIC on the first principal components of the train split, to set
           beside the gain of k > 1 in knobs.csv.gz. -> questions_modes.csv, questions_regimes.csv
small      "Anomalies that leave the cluster only slightly?" Four plants, and four entities each of MSL,
           SMAP and SMD, at equal distances in the names of those with 2,000 train rows. Detectors
           learn the first three quarters of the train split; in the last, events of one kind and one
           size are planted: spikes, offsets and noise of 0.25, 0.5, 1, 2 and 4 standard deviations, and
           frozen stretches and stretches of another time, which have no size; three draws each. Deep
           SVDD alone, with the head, and with it untrained; PCA error, the Gaussian of ten rows and
           random features; all smoothed by 20 rows, seed 0. Measured: the share of events found at one
           false alarm in 1,440 normal rows, and VUS-PR. Primary: the head less none, and the head less
           the Gaussian, at 1 standard deviation, in VUS-PR, the mean over kinds with a size, paired by
           series, Holm over two. -> questions_small.csv

It can be stopped: what is done lies under _runs/questions. Needs $MADCLUSTER_DATA.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grid
import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from madcluster import MADCluster
from madcluster.data import Scaler, planted, synthetic
from madcluster.detectors import DETECTORS, Detector
from madcluster.metrics import vus_score
from madcluster.models import EMBEDDERS
from madcluster.progress import quiet
from madcluster.randomness import seeded
from madcluster.service.alarms import events_at_budget
from madcluster.study.benchmark import cpu_settings, entities_of, series_of
from madcluster.study.results import commit, once, provenance, write_result

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


# --- readings -------------------------------------------------------------------------------------


def reading(dataset: str, entity: str, name: str, replaced: bool) -> list[Row]:
    """One network with the head, its own loss kept or replaced."""
    series = series_of(dataset, entity)
    settings = cpu_settings(dataset, name)
    options = settings.pop("options")
    with seeded(0):
        embedder = EMBEDDERS[name](series.n_channels, window=100, **options)
    embedder.replaced_by_head = replaced
    detector = MADCluster(embedder, smooth=20, seed=0, **settings).fit(series.train)
    history = detector.history_.epochs[detector.history_.best_epoch]
    about = {
        "dataset": dataset,
        "entity": entity,
        "embedder": name,
        "own_loss": "replaced" if replaced else "kept",
        "seed": 0,
        "variance_ratio": round(history["variance_ratio"], 5),
    }
    return [about | found(series.labels, detector.decision_function(series.test))]


def readings() -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    for dataset, entities in grid.chosen(grid.FEWER).items():
        for entity in entities:
            for name in WITH_OWN_LOSS:
                for replaced in (False, True):
                    key = f"{dataset}_{entity}_{name}_{'replaced' if replaced else 'kept'}"
                    yield key, partial(reading, dataset, entity, name, replaced)


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
    for dataset, entities in grid.chosen(grid.FEWER).items():
        for entity in entities:
            yield f"{dataset}_{entity}_regimes", partial(regime, dataset, entity)


# --- small deviations -----------------------------------------------------------------------------


def detectors(dataset: str) -> dict[str, Detector]:
    network = cpu_settings(dataset, "deepsvdd") | {"smooth": 20, "seed": 0}
    return {
        "deepsvdd": MADCluster(head=False, **network),
        "deepsvdd + head": MADCluster(**network),
        "deepsvdd + head, untrained": MADCluster(**network | grid.UNTRAINED),
        "pca_error": DETECTORS["pca_error"](smooth=20),
        "mahalanobis": DETECTORS["mahalanobis"](smooth=20),
        "random_features": DETECTORS["random_features"](smooth=20, seed=0),
    }


def plantings() -> Iterator[tuple[str, float | None, int]]:
    """Kind, size and draw."""
    for draw in range(DRAWS):
        for kind in SIZED:
            for size in SIZES:
                yield kind, size, draw
        for kind in UNSIZED:
            yield kind, None, draw


def deviation(dataset: str, entity: str) -> list[Row]:
    """All detectors on all plantings in the last quarter of one train split."""
    train = series_of(dataset, entity).train
    cut = 3 * len(train) // 4
    tail, rows = train[cut:], []
    fitted = {name: each.fit(train[:cut]) for name, each in detectors(dataset).items()}
    per_kind = max(1, len(tail) // 400)
    for kind, size, draw in plantings():
        sizes = (size, size) if size else (1.0, 1.0)
        rng = np.random.default_rng([draw, (*SIZED, *UNSIZED).index(kind)])
        x, labels = planted(tail, rng, kinds=[kind], per_kind=per_kind, sizes=sizes)
        about = {"dataset": dataset, "entity": entity, "kind": kind, "size": size, "draw": draw}
        about |= {"events": per_kind, "seed": 0}
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
    for dataset, entity in series:
        yield f"{dataset}_{entity}_small", partial(deviation, dataset, entity)


PARTS = {"readings": readings, "modes": modes, "regimes": regimes, "small": small}


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
        print(write_result(pd.DataFrame(rows), f"questions_{part}"))


if __name__ == "__main__":
    main()
