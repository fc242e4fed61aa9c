"""Does a choice by planted events choose well? python benchmarks/choice.py   -> choice.csv

The protocol, written before the first run:

- Every public entity at hand. `choose` sees the train split alone, and nothing else is told to it: its
  own candidates, seed 0.
- Then every candidate is fitted to the whole train split and scored by VUS-PR on the test split, whose
  labels are used for nothing but this number.
- Regret of a choice is the highest VUS-PR among the candidates, which nobody could know, less that of
  the one chosen. Primary: the regret of `choose`, and its difference in VUS-PR from each candidate
  taken always, with the entity as the sample. Secondary: the same where the best mean is taken and
  nothing is said for the cheaper one.
- Two ensembles, as a mean of log scores, each less the median and divided by the interquartile range of
  its detector's calibration scores: of all candidates, and of the three with the best evidence. One is
  offered to users only if its difference from `choose` has an interval above 0.

Written after the first run, which offered the one of all: it is `madcluster.detectors.Ensemble`, whose
units these are now. They differ from those of the first run where the interquartile range is nearly 0.
A third ensemble, of the six candidates without a network, shows what the network adds to it; it takes
no part in any decision.

A row per entity and candidate. It can be stopped: entities that are done lie under _runs/choice. Needs
$MADCLUSTER_DATA for more than the synthetic plants.
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

from madcluster.detectors import choose
from madcluster.detectors.choice import default_candidates
from madcluster.detectors.ensemble import in_units, scale_of
from madcluster.metrics import vus_score
from madcluster.study.benchmark import available, series_of
from madcluster.study.results import once, provenance, write_result

RUNS = Path(__file__).parents[1] / "_runs" / "choice"
DATASETS = ("synthetic", "MSL", "SMAP", "SMD", "PSM_excerpt")
ENSEMBLES = "ensemble of all", "ensemble of three", "ensemble without the network"


def entity(dataset: str, name: str) -> list[dict[str, object]]:
    """A row per candidate and ensemble."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    series = series_of(dataset, name)
    started = time.process_time()
    found = choose(series.train)
    choosing = time.process_time() - started
    about = {"dataset": dataset, "entity": name, "train_rows": len(series.train)}
    evidence = found.evidence.drop(index="random")
    rows, logs = [], {}
    for candidate, detector in default_candidates().items():
        started = time.process_time()
        try:
            scores = detector.fit(series.train).decision_function(series.test)
        except (ValueError, FloatingPointError) as error:
            print(dataset, name, candidate, error, flush=True)
            continue
        rows.append(
            about
            | {
                "candidate": candidate,
                "evidence": round(evidence["mean"][candidate], 4),
                "chosen": candidate == found.name,
                "vus_pr": round(vus_score(series.labels, scores).pr, 4),
                "seconds": round(time.process_time() - started, 2),
            }
        )
        logs[candidate] = in_units(scores, *scale_of(detector.calibration_scores_))
    ranked = [name for name in evidence["mean"].sort_values().index[::-1] if name in logs]
    parts = ranked, ranked[:3], [name for name in ranked if name != "madcluster"]
    for ensemble, names in zip(ENSEMBLES, parts, strict=True):
        mean = np.mean([logs[name] for name in names], axis=0)
        rows.append(
            about
            | {"candidate": ensemble, "vus_pr": round(vus_score(series.labels, mean).pr, 4)}
            | {"chosen": False, "seconds": round(choosing, 2)}
        )
    print(*rows[0].values(), "chosen:", found.name, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    tasks = available(DATASETS)
    found = Parallel(parser.parse_args().jobs)(
        delayed(once)(RUNS / f"{dataset}_{name}.json", partial(entity, dataset, name))
        for dataset, name in tasks
    )
    table = pd.DataFrame([row for rows in found for row in rows])
    real = table[table["dataset"] != "synthetic"]
    print(real.pivot_table("vus_pr", "candidate", "dataset", margins=True).round(3))
    print(real[real["chosen"]].groupby("dataset")["vus_pr"].agg(["mean", "size"]).round(3))
    write_result(table.assign(**provenance()), "choice")


if __name__ == "__main__":
    main()
