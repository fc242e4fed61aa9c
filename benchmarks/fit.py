"""What a fit costs, beside the baselines: python benchmarks/fit.py

Runs every detector at its default settings on one SMD machine where $MADCLUSTER_DATA is set, else on
a synthetic plant of the same size, each in a process of its own. Writes book/results/fit.csv.
"""

from __future__ import annotations

import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd
import torch

from madcluster import MADCluster, evaluate, load, synthetic
from madcluster.data import Series
from madcluster.detectors import BASELINES
from madcluster.study.results import provenance, write_result

DETECTORS = {
    "MADCluster(deepsvdd)": lambda: MADCluster("deepsvdd"),
    "MADCluster(deepsvdd), again": lambda: MADCluster("deepsvdd"),
    "deepsvdd alone": lambda: MADCluster("deepsvdd", head=False),
} | {name: baseline for name, baseline in BASELINES.items() if name != "constant"}


def data() -> Series:
    if os.environ.get("MADCLUSTER_DATA"):
        return load("SMD", "machine-1-6")
    return synthetic(24_000, 24_000, 38, per_kind=6)


def run(name: str, threads: int) -> dict[str, object]:
    torch.set_num_threads(threads)
    series = data()
    started = time.perf_counter()
    detector = DETECTORS[name]().fit(series.train)
    fitted = time.perf_counter()
    scores = detector.decision_function(series.test)
    return {
        "detector": name,
        "series": series.name,
        "fit s": round(fitted - started, 1),
        "score s": round(time.perf_counter() - fitted, 1),
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "distinct scores": len(np.unique(scores)),
        "checksum": f"{scores.sum():.12g}",
        "average precision": round(evaluate(series.labels, scores)["aupr"], 4),
    }


def main() -> None:
    threads = os.cpu_count() or 1
    rows = []
    for name in DETECTORS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows.append(pool.submit(run, name, threads).result())
    table = pd.DataFrame(rows)
    pca = table.loc[table["detector"] == "pca_error", "fit s"].item()
    table["fit, times PCA"] = (table["fit s"] / max(pca, 0.1)).round()
    table["threads"] = threads
    print(table.to_string(index=False))
    write_result(table.assign(**provenance(threads=threads)), "fit")


if __name__ == "__main__":
    main()
