"""False drifts, and found ones: python benchmarks/drift.py   (needs $MADCLUSTER_DATA)

The scores that PCAError and Mahalanobis give to the rows of every train split, each fifth scored by a
detector that learned the other four, are cut into blocks. The first half of them stands for the normal
rows, the second for what came later. Nobody labeled a change there. The same blocks in a random order
are exchangeable whatever the data, so of those at most `ALPHA` may be called a drift. What is found
beyond that in their own order is what the test does not promise: neighboring blocks that are alike,
and changes of the process. And whether anything can be found: the random order once more, with the
later scores moved up by the distance from the median of the first half to its 90 % quantile.
One row per entity, detector and size of block -> drift.csv. The blocks of 1,440 rows are the days of
SMD.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from madcluster import load
from madcluster.data import OutlierWarning
from madcluster.detectors import Detector, Mahalanobis, PCAError
from madcluster.service.drift import LEAST, DriftMonitor
from madcluster.study.benchmark import available
from madcluster.study.results import provenance, write_result

DATASETS = "MSL", "SMAP", "SMD", "PSM_excerpt"
BLOCKS = 20, 100, 500, 1440
ALPHA = 0.05


def found(blocks: np.ndarray) -> bool:
    """Whether the second half of some blocks of scores (n block) is called a drift from the first."""
    half = len(blocks) // 2
    monitor = DriftMonitor(blocks[:half].ravel(), block=blocks.shape[1], alpha=ALPHA)
    monitor.update(blocks[half:].ravel())
    return monitor.drifted


def measured(detector: Detector, train: np.ndarray) -> list[dict[str, object]]:
    scores = detector.fit(train).calibration_scores_
    rows = []
    for block in BLOCKS:
        n = len(scores) // block
        if n < 2 * LEAST:
            continue
        blocks = scores[: n * block].reshape(n, block)
        order = np.random.default_rng(0).permutation(n)
        about = {"detector": type(detector).__name__, "block": block, "blocks": n}
        mixed = blocks[order]
        moved = mixed.copy()
        moved[n // 2 :] += np.quantile(mixed[: n // 2], 0.9) - np.median(mixed[: n // 2])
        cases = {"as_it_came": blocks, "shuffled": mixed, "moved": moved}
        rows.append(about | {name: found(case) for name, case in cases.items()})
    return rows


def main() -> None:
    warnings.simplefilter("ignore", OutlierWarning)
    rows = []
    for dataset, name in available(DATASETS):
        train = load(dataset, name).train
        for detector in (PCAError(), Mahalanobis()):
            about = {"dataset": dataset, "entity": name}
            rows += [about | row for row in measured(detector, train)]
        print(dataset, name, flush=True)
    table = pd.DataFrame(rows)
    share = table.groupby(["detector", "dataset", "block"])[["as_it_came", "shuffled", "moved"]]
    print(share.agg(["mean", "count"]).round(3).to_string())
    write_result(table.assign(**provenance()), "drift")


if __name__ == "__main__":
    main()
