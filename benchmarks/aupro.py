"""AUPRO beside pyaupro: OMP_NUM_THREADS=1 python benchmarks/aupro.py   -> aupro.csv

Maps of 256 x 256 pixels, half of them with two defects, float32 scores without ties up to rounding; one
thread, and both in turn in one run, so that both see the machine in the same state. Seconds are of the
processor, which other work on the machine does not lengthen. The values are compared. pyaupro is
exact too where it is not given a number of thresholds.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import pandas as pd
import torch
from pyaupro import PerRegionOverlap, auc_compute

from madcluster.images import aupro
from madcluster.study.results import provenance, write_result

SIDE, LIMIT, REPEATS = 256, 0.3, 5


def case(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks and maps, (n 256 256)."""
    rng = np.random.default_rng(0)
    masks = np.zeros((n, SIDE, SIDE), dtype=bool)
    masks[n // 2 :, 100:130, 60:90] = True
    masks[n // 2 :, 200:205, 10:40] = True
    return masks, rng.random(masks.shape, np.float32) + masks.astype(np.float32) * np.float32(0.5)


def peer(masks: np.ndarray, maps: np.ndarray) -> float:
    metric = PerRegionOverlap(thresholds=None)
    metric.update(torch.as_tensor(maps), torch.as_tensor(masks).long())
    return float(auc_compute(*metric.compute(), limit=LIMIT))


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for n in (10, 100):
        masks, maps = case(n)
        times: dict[str, list[float]] = {"ours": [], "pyaupro": []}
        values = {}
        for _ in range(REPEATS):
            for name, call in (("ours", aupro), ("pyaupro", peer)):
                started = time.process_time()
                values[name] = call(masks, maps)
                times[name].append(time.process_time() - started)
        ours, theirs = (statistics.median(each) for each in times.values())
        rows.append(
            {
                "maps": n,
                "seconds": round(ours, 3),
                "pyaupro, seconds": round(theirs, 3),
                "ratio": round(theirs / ours, 2),
                "difference": abs(values["ours"] - values["pyaupro"]),
            }
        )
        print(rows[-1], flush=True)
    write_result(pd.DataFrame(rows).assign(**provenance(("torch", "numpy", "pyaupro"))), "aupro")


if __name__ == "__main__":
    main()
