"""Does it pay to train many entities side by side?: python benchmarks/many.py [network …]

`fit_many` beside one fit after the other, in one process, for 1 to 64 entities: seconds of the
processor, their ratio, and how far the scores of later rows lie apart, as the largest difference
relative to the range. For the most entities also the memory that each way adds, in a process of its
own, and a control: how far scores move if the rows of a fit alone change by 1e-7 of themselves. Where
training carries rounding that far, it does so on any other machine too -> many.csv, where rows of
networks that are not asked for stay as they were.

The whole fit is measured, with scaling, scores of the training rows and threshold; only its steps
are batched. Entities have 8 channels and 1000 rows, windows of 100 rows, batches of 16 and 5 epochs,
the paper's head, one thread. Seconds of a processor say little of how long one waits where other work
shares the machine, and the ratios more.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from madcluster import MADCluster, synthetic
from madcluster.many import fit_many
from madcluster.study.benchmark import CPU_OPTIONS
from madcluster.study.results import peak_memory, provenance, renew_result

ENTITIES = 1, 4, 16, 64
# the widths of chapter 13, and narrower ones; the most entities of each
NETWORKS: dict[str, tuple[dict[str, Any], int]] = {
    "deepsvdd, d 8": ({"d": 8}, 64),
    "deepsvdd": (CPU_OPTIONS["deepsvdd"], 16),
    "usad, width 16": ({"width": 16, "d": 4}, 64),
    "usad": (CPU_OPTIONS["usad"], 16),
    "beatgan, d 8": ({"n_layers": 4, "d": 8}, 16),
    "beatgan": (CPU_OPTIONS["beatgan"], 4),
    "deepant, d 8": ({"d": 8, "width": 8}, 16),
    "deepant": (CPU_OPTIONS["deepant"], 16),
    "anomaly_transformer": (CPU_OPTIONS["anomaly_transformer"], 4),
    "dcdetector": (CPU_OPTIONS["dcdetector"], 4),
}
Fitted = dict[str, MADCluster]


def one_by_one(detector: MADCluster, rows: dict[str, np.ndarray]) -> Fitted:
    return {name: MADCluster(**detector.get_params()).fit(each) for name, each in rows.items()}


WAYS: dict[str, Callable[[MADCluster, dict[str, np.ndarray]], Fitted]] = {
    "one by one": one_by_one,
    "side by side": fit_many,
}


def made(network: str) -> MADCluster:
    options, _ = NETWORKS[network]
    return MADCluster(network.split(",")[0], options=options, epochs=5, batch_size=16, device="cpu")


def entities(n: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Rows to learn from and later ones."""
    series = {
        str(i): synthetic(n_train=1000, n_test=500, n_channels=8, kinds=("spike",), seed=i)
        for i in range(n)
    }
    train, test = ({i: getattr(s, of) for i, s in series.items()} for of in ("train", "test"))
    return train, test


def compared(network: str, n: int) -> dict[str, float]:
    detector, (rows, later) = made(network), entities(n)
    seconds, fitted = dict.fromkeys(WAYS, 0.0), {}
    rounds = max(1, 4 // n)
    for _ in range(rounds):
        for name, way in WAYS.items():
            started = time.process_time()
            fitted[name] = way(detector, rows)
            seconds[name] += (time.process_time() - started) / rounds
    one, many = seconds.values()
    found = {
        **{f"{name} s": round(value, 3) for name, value in seconds.items()},
        "ratio": round(one / many, 2),
        "largest difference": largest(*fitted.values(), later),
    }
    if n == NETWORKS[network][1]:
        draws = np.random.default_rng(0)
        moved = {
            name: each * (1 + 1e-7 * draws.standard_normal(each.shape))
            for name, each in rows.items()
        }
        others = one_by_one(detector, moved)
        found["largest by 1e-7"] = largest(fitted["one by one"], others, later)
    return found


def largest(fitted: Fitted, others: Fitted, later: dict[str, np.ndarray]) -> float:
    """Largest difference of scores relative to their range, of all entities."""
    apart = []
    for name, rows in later.items():
        scores = fitted[name].decision_function(rows)
        gap = scores - others[name].decision_function(rows)
        apart.append(np.abs(gap).max() / np.ptp(scores))
    return float(f"{max(apart):.1e}")


def peak(network: str, way: str) -> float:
    """MiB by which a fit of the most entities raises the highest resident size; for a fresh process."""
    quietly()
    detector, (rows, _) = made(network).set_params(epochs=1), entities(NETWORKS[network][1])
    WAYS[way](detector, {"0": rows["0"]})  # what the first call loads
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    fitted = WAYS[way](detector, rows)
    highest = peak_memory()
    assert len(fitted) == len(rows)
    return (highest - pages * resource.getpagesize()) / 2**20


def apart(network: str, way: str) -> float:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(peak, network, way).result()


def quietly() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # short trainings are warned of


def main(networks: Sequence[str]) -> None:
    quietly()
    for network in networks:
        found, most = [], NETWORKS[network][1]
        fit_many(made(network), entities(1)[0])
        for n in (n for n in ENTITIES if n <= most):
            row: dict[str, Any] = {"network": network, "entities": n, **compared(network, n)}
            row |= {f"{way} MiB": round(apart(network, way), 1) for way in WAYS if n == most}
            found.append(row)
            print(row, flush=True)
        renew_result(pd.DataFrame(found).assign(**provenance()), "many", by="network")


if __name__ == "__main__":
    main(sys.argv[1:] or list(NETWORKS))
