"""Stride, epochs and batch of MADCluster(), chosen on train data alone: python benchmarks/defaults.py

The protocol, written before the first run:

- Of every entity the train split, at most its first 10,000 rows. Three quarters are fitted (the fit
  keeps a fifth of them for validation), and anomalies are planted in the last quarter: spikes, offsets,
  frozen sensors, noise, and stretches of another time, two of each, in one or two channels that vary
  there. No test split and no label is looked at.
- Settings: windows at strides of 1 to 50, for a number of epochs and a size of batch each; all else is
  `MADCluster()`, scored at a stride of 10. One seed of the network, two plants.
- What is chosen: the cheapest setting, by CPU time summed over entities, whose mean VUS-PR of the
  plants is at most .02 below the highest mean. The entity is the sample.
- For the warning of a collapse: the variance ratio of every fit, and the VUS-PR of its plants less that
  of a detector of the same entity that was hardly trained (one epoch at a learning rate of 1e-12).

-> defaults.csv, a row per entity and setting. It can be stopped: entities that are done lie under
_runs/defaults. Needs $MADCLUSTER_DATA for more than the synthetic plant.
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from madcluster.data.planted import planted
from madcluster.detectors import MADCluster
from madcluster.metrics import vus_score
from madcluster.study.benchmark import available, series_of
from madcluster.study.results import once, provenance, write_result

RUNS = Path(__file__).parents[1] / "_runs" / "defaults"
ENTITIES = {"synthetic": 1, "MSL": 4, "SMAP": 4, "SMD": 3, "PSM_excerpt": 1}  # at equal distances
ROWS = 10_000
SETTINGS = (  # stride, epochs, batch size
    (1, 1, 128),
    (1, 5, 128),
    (5, 5, 128),
    (5, 10, 128),
    (10, 5, 128),
    (10, 10, 128),
    (10, 20, 128),
    (10, 5, 32),
    (10, 10, 32),
    (10, 20, 32),
    (25, 10, 32),
    (25, 20, 32),
    (50, 20, 32),
)


def entity(dataset: str, name: str) -> list[dict[str, object]]:
    """A row per setting."""
    torch.set_num_threads(1)
    train = series_of(dataset, name).train[:ROWS]
    cut = len(train) * 3 // 4
    plants = [planted(train[cut:], np.random.default_rng(seed)) for seed in range(2)]

    def measured(**arguments: object) -> dict[str, object]:
        started = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say is in the columns
            detector = MADCluster(device="cpu", score_stride=10, **arguments).fit(train[:cut])  # type: ignore[arg-type]
        seconds = time.process_time() - started
        kept = detector.history_.epochs[detector.history_.best_epoch]
        scores = [vus_score(labels, detector.decision_function(rows)).pr for rows, labels in plants]
        return {
            "vus_pr": round(float(np.mean(scores)), 4),
            "variance_ratio": float(f"{kept['variance_ratio']:.3g}"),
            "effective_rank": round(kept["effective_rank"], 2),
            "best_epoch": detector.history_.best_epoch,
            "seconds": round(seconds, 2),
        }

    start = measured(stride=50, epochs=1, lr=1e-12)
    rows = []
    for stride, epochs, batch_size in SETTINGS:
        about = {"dataset": dataset, "entity": name, "train_rows": cut}
        setting = {"stride": stride, "epochs": epochs, "batch_size": batch_size}
        rows.append(about | setting | measured(**setting) | {"untrained": start["vus_pr"]})
        print(*rows[-1].values(), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    jobs = parser.parse_args().jobs
    tasks = []
    for dataset, many in ENTITIES.items():
        there = available([dataset])
        places = np.linspace(0, len(there) - 1, many if there else 0).round().astype(int)
        tasks += [there[i] for i in places]
    tables = Parallel(jobs)(
        delayed(once)(RUNS / f"{dataset}_{name}.json", partial(entity, dataset, name))
        for dataset, name in tasks
    )
    rows = [row for found in tables for row in found]
    table = pd.DataFrame(rows)
    by = table.groupby(["stride", "epochs", "batch_size"])
    means = by.agg(
        vus_pr=("vus_pr", "mean"), seconds=("seconds", "sum"), ratio=("variance_ratio", "median")
    )
    print(means.round(3))
    good = means[means["vus_pr"] >= means["vus_pr"].max() - 0.02]
    print("chosen: stride, epochs, batch size", good["seconds"].idxmin())
    gain = table["vus_pr"] - table["untrained"]
    bins = pd.cut(table["variance_ratio"], [0, 1e-4, 1e-3, 1e-2, 1e-1, 1, np.inf])
    print(gain.groupby(bins, observed=True).agg(["count", "mean", "min"]).round(3))
    write_result(table.assign(**provenance()), "defaults")


if __name__ == "__main__":
    main()
