"""Point adjustment, and what knows nothing: python benchmarks/adjusted.py -> adjusted.csv

The first version of the paper reports F1 after point adjustment, as its public reviews quote it: D-RNN
on MSL 81.24 without and 94.84 with the head, USAD on PSM 73.21 and 89.86. Here is what noise,
untrained and trained networks and simple detectors have on the same data by the same measure.

The protocol, written before the runs, after a look at one draw of noise and one Gaussian on MSL:

- MSL (27 channels) and SMAP (54) as in the papers that adjust: the channels' rows one after the other
  are one series, with one detector and one threshold for all. PSM is the excerpt that is here.
- "random": independent draws, 200 seeds. "constant": a score that is 1 for every row, with noise of a
  millionth; 50 seeds.
- Networks with the head, D-RNN, Deep SVDD and USAD, by `cpu_settings` (a stride of 10), trained and
  with a learning rate at which no weight moves; and without the head, trained. Seeds 0, 1 and 2.
- `mahalanobis`, `pca_error`, `l2_norm` by their defaults.
- Two thresholds. "best": that with the highest adjusted F1, by the test labels. "ratio": 1 % of the
  scores of train and test rows together are flagged, as the code of Anomaly Transformer has it for
  MSL, SMAP and PSM. For noise 1 % of the test rows.
- Beside them: F1 without adjustment at the best threshold of its own, and VUS-PR.

It can be stopped: what is done lies under _runs/adjusted; `--only` takes some of the data sets, and
`--write` writes the methods that are whole. Needs $MADCLUSTER_DATA.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from madcluster import MADCluster
from madcluster.data import Series
from madcluster.detectors import Detector, L2Norm, Mahalanobis, PCAError
from madcluster.metrics import (
    best_f1_score,
    best_point_adjusted_f1_score,
    point_adjusted_f1_score,
    vus_score,
)
from madcluster.progress import quiet
from madcluster.study.benchmark import available, cpu_settings, series_of
from madcluster.study.results import commit, once, provenance, renew_result

RUNS = Path(__file__).parents[1] / "_runs" / "adjusted"
DATASETS = ("MSL", "SMAP", "PSM_excerpt")
NETWORKS = ("drnn", "deepsvdd", "usad")
SIMPLE: dict[str, Callable[[], Detector]] = {
    "mahalanobis": Mahalanobis,
    "pca_error": PCAError,
    "l2_norm": L2Norm,
}
VARIANTS = ("without", "with head", "untrained")
NOISE = {"random": 200, "constant": 50}  # seeds
UNTRAINED = {"lr": 1e-12, "epochs": 1}  # no weight of single precision moves
RATIO = 0.01  # flagged


def joined(dataset: str) -> Series:
    """All channels of a data set, one after the other."""
    parts = [series_of(*each) for each in available([dataset])]
    train, test, labels = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("train", "test", "labels")
    )
    return Series(train=train, test=test, labels=labels, name=dataset)


def measured(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float]:
    """Adjusted and plain F1, and VUS-PR, of scores (m,)."""
    return {
        "adjusted_best": best_point_adjusted_f1_score(labels, scores).f1,
        "adjusted_ratio": point_adjusted_f1_score(labels, scores > threshold),
        "f1_best": best_f1_score(labels, scores).f1,
        "vus_pr": vus_score(labels, scores).pr,
    }


def noise(dataset: str, kind: str, seed: int) -> list[dict[str, object]]:
    """A score that knows nothing of the rows."""
    labels = joined(dataset).labels
    rng = np.random.default_rng([seed, list(NOISE).index(kind)])
    draws = rng.random(len(labels))
    scores = draws if kind == "random" else 1 + 1e-6 * draws
    found = measured(labels, scores, float(np.quantile(scores, 1 - RATIO)))
    return [_row(dataset, kind, "", seed, found)]


def fitted(dataset: str, name: str, variant: str, seed: int) -> list[dict[str, object]]:
    """A detector that learned all train rows."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    series = joined(dataset)
    if name in SIMPLE:
        detector = SIMPLE[name]()
    else:
        settings = cpu_settings(dataset, name) | (UNTRAINED if variant == "untrained" else {})
        detector = MADCluster(name, head=variant != "without", seed=seed, **settings)
    with quiet():
        detector.fit(series.train)
        scores = detector.decision_function(series.test)
    both = np.concatenate([detector.decision_scores_, scores])
    found = measured(series.labels, scores, float(np.quantile(both, 1 - RATIO)))
    row = _row(dataset, name, variant, seed, found)
    print(*row.values(), flush=True)
    return [row]


def _row(
    dataset: str, name: str, variant: str, seed: int, found: dict[str, float]
) -> dict[str, object]:
    about = {"dataset": dataset, "method": name, "variant": variant, "seed": seed}
    return about | {key: round(value, 5) for key, value in found.items()} | {"commit": commit()}


def tasks(datasets: Sequence[str]) -> pd.DataFrame:
    """Every run: its group, of one data set, method and variant, its file, and how to do it."""
    rows: list[tuple[str, Path, Callable[[], list[dict[str, object]]]]] = []

    def add(make: Callable[..., list[dict[str, object]]], *about: str, seeds: int) -> None:
        group = " ".join(about).strip()
        for seed in range(seeds):
            path = RUNS / f"{group} {seed}.json".replace(" ", "_")
            rows.append((group, path, partial(make, *about, seed)))

    for dataset in datasets:
        for kind, seeds in NOISE.items():
            add(noise, dataset, kind, seeds=seeds)
        for name in SIMPLE:
            add(fitted, dataset, name, "", seeds=1)
        for name in NETWORKS:
            for variant in VARIANTS:
                add(fitted, dataset, name, variant, seeds=3)
    return pd.DataFrame(rows, columns=["group", "path", "make"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=DATASETS, default=DATASETS)
    parser.add_argument("--write", action="store_true", help="no run; the groups that are whole")
    arguments = parser.parse_args()
    todo = tasks(arguments.only)
    if arguments.write:
        there = todo["path"].map(Path.exists).groupby(todo["group"]).transform("all")
        todo = todo[there]
    found = Parallel(arguments.jobs, batch_size=1)(
        delayed(once)(path, make) for path, make in zip(todo["path"], todo["make"], strict=True)
    )
    groups = todo["group"].repeat([len(part) for part in found]).to_numpy()
    table = pd.DataFrame([row for part in found for row in part]).assign(group=groups)
    columns = ["adjusted_best", "adjusted_ratio", "f1_best", "vus_pr"]
    print(table.groupby("group", sort=False)[columns].mean().round(3).to_string())
    renew_result(table.assign(**provenance()), "adjusted", by="group")


if __name__ == "__main__":
    main()
