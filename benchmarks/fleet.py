"""A model for each machine, or one for all? python benchmarks/fleet.py   (needs $MADCLUSTER_DATA)

The 19 servers of SMD that are at hand have the same 38 channels. Each gets a detector of its own, and
then one detector learns all of them and each gets a threshold of its own.

The protocol, written before the first run:

- Three ways, each with all rows of the train splits. "own": `fit_fleet`, the model learns all rows of
  its machine, and the threshold is from blocks that were left out in turn. "own, last quarter held
  out": `fit_shared` of one machine alone, which learns the first three quarters and takes its threshold
  from the last. "shared": `fit_shared` of all machines, the same with the three quarters of all. The
  first two tell what the other threshold and the rows not learned do; the last two differ in nothing
  but whose rows were learned.
- Mahalanobis, PCAError and LinearAutoregression, each with its defaults and smooth=20. No network, for
  its cost. Nothing is random.
- Primary: VUS-PR on the test split, shared less own, the server as the sample: the mean with its
  bootstrap interval, and Wilcoxon's test with Holm's correction for three detectors.
- Secondary: alarms a day on normal rows of the test split, as a share of those promised, 1 a day of
  1,440 rows, alarms with at most 10 rows between them counted as one. Normal are the rows that are
  further than 100 rows from any labeled one, in stretches of at least 100. The share of servers with at
  most three times what was promised, and the share of their rows above the threshold, for one endless
  alarm is few alarms.
- Labels say which rows are normal and give VUS-PR; they choose nothing.

Written after that run and before its own: a network, MADCluster with its defaults and seed 0, which was
left out for its cost at first. The same three ways and the same measures, tested by itself.

A row per detector, server and way -> fleet.csv. It can be stopped: the fleets lie under _runs/fleet.
"""

from __future__ import annotations

import argparse
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from madcluster import MADCluster
from madcluster.data import segments
from madcluster.detectors import Detector, LinearAutoregression, Mahalanobis, PCAError
from madcluster.fleet import fit_fleet, fit_shared, load_fleet
from madcluster.metrics import vus_score
from madcluster.service.alarms import find_alarms
from madcluster.study.benchmark import available, series_of
from madcluster.study.results import once, provenance, write_result
from madcluster.study.statistics import compare, paired_differences

RUNS = Path(__file__).parents[1] / "_runs" / "fleet"
DATASET = "SMD"
DETECTORS = (
    Mahalanobis(smooth=20),
    PCAError(smooth=20),
    LinearAutoregression(smooth=20),
    MADCluster(),
)
OWN, HELD, SHARED = "own", "own, last quarter held out", "shared"
BUDGET = {"alarms_per_day": 1.0, "rows_per_day": 1440, "join": 10}
MARGIN = 100  # rows about a labeled one that are not counted as normal


def train(name: str) -> np.ndarray:
    return series_of(DATASET, name).train


def fitted(way: str, detector: Detector, names: list[str], jobs: int) -> dict[str, Detector]:
    """A detector for each server, fitted one way."""
    machines = {name: partial(train, name) for name in names}
    folder = RUNS / type(detector).__name__ / way.replace(", ", "_").replace(" ", "_")
    if way == OWN:
        fit_fleet(machines, detector, folder, jobs=jobs, **BUDGET)
    elif way == SHARED:
        fit_shared(machines, detector, folder, jobs=jobs, **BUDGET)
    else:
        found = {}
        for name, rows in machines.items():
            fit_shared({name: rows}, detector, folder / name, **BUDGET)
            found |= load_fleet(folder / name)
        return found
    return dict(load_fleet(folder))


def measured(name: str, detector: Detector) -> dict[str, object]:
    """What a detector does on the test split of a server."""
    series = series_of(DATASET, name)
    scores = np.asarray(detector.decision_function(series.test))
    near = np.convolve(series.labels, np.ones(2 * MARGIN + 1), "same") > 0.5
    stretches = segments(~near)
    parts = [scores[a:b] for a, b in stretches if b - a >= MARGIN]
    normal = np.concatenate(parts)
    alarms = sum(len(find_alarms(part, detector.threshold_, join=BUDGET["join"])) for part in parts)
    seen = alarms * BUDGET["rows_per_day"] / len(normal)
    return {
        "vus_pr": round(vus_score(series.labels, scores).pr, 4),
        "threshold": detector.threshold_,
        "normal_rows": len(normal),
        "seen_of_promised": round(seen / BUDGET["alarms_per_day"], 3),
        "rows_above": round(float((normal > detector.threshold_).mean()), 5),
        "learned": detector.fitted_on_,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    jobs = parser.parse_args().jobs
    names = [name for _, name in available([DATASET])]
    if not names:
        return
    warnings.simplefilter("ignore")
    rows = []
    for detector in DETECTORS:
        kind = type(detector).__name__
        for way in (OWN, HELD, SHARED):
            detectors = fitted(way, detector, names, jobs)
            for name in names:
                path = RUNS / kind / f"{way}_{name}.json"
                about = {"dataset": DATASET, "entity": name, "detector": kind, "way": way}
                rows.append(about | once(path, partial(measured, name, detectors[name])))
            print(kind, way, flush=True)
    table = pd.DataFrame(rows).assign(seed=0)
    table["kept"] = table["seen_of_promised"] <= 3
    print(
        table.pivot_table(["vus_pr", "kept", "rows_above"], "detector", "way")
        .round(3)
        .T.to_string()
    )
    print(table.pivot_table("seen_of_promised", "detector", "way", aggfunc="median").round(2))
    for pair in ((OWN, SHARED), (HELD, SHARED), (OWN, HELD)):
        for metric in ("vus_pr", "seen_of_promised"):
            print(f"\n{metric}: {pair[1]} less {pair[0]}")
            differences = paired_differences(
                table, metric, between="way", pair=pair, within=["detector"]
            )
            network = differences["detector"] == "MADCluster"
            for part in (differences[~network], differences[network]):
                print(compare(part, by=["detector"]).round(4).to_string())
    write_result(table.drop(columns=["kept", "seed"]).assign(**provenance()), "fleet")


if __name__ == "__main__":
    main()
