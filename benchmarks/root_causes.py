"""Do contributions name the known causes? python benchmarks/root_causes.py   (needs $MADCLUSTER_DATA)

SMD says which channels caused each incident. DeepSVDD with the head by the short protocol of chapter
13, one seed, on every machine that is there; channels of every incident ranked by occlusion, by
gradient, and by the plain deviation of the raw channels, beside the expectation of a random order.
One row per incident and ranking -> root_causes.csv.gz
"""

from __future__ import annotations

import os
import time

import pandas as pd
import torch
from joblib import Parallel, delayed

from madcluster import MADCluster, load
from madcluster.service.explanations import contributions, hit_rates, random_hit_rates
from madcluster.study.benchmark import cpu_settings, entities_of
from madcluster.study.results import provenance, write_result

K = (1, 3, 5)


def machine(entity: str) -> list[dict[str, object]]:
    """One row per incident of a machine and way of ranking."""
    torch.set_num_threads(1)
    series = load("SMD", entity)
    events = [event for event in series.events if event.channels]
    detector = MADCluster("deepsvdd", **cpu_settings("SMD", "deepsvdd")).fit(series.train)
    ways: dict[str, list] = {"occlusion": [], "gradient": [], "deviation": []}
    seconds = dict.fromkeys(ways, 0.0)
    for event in events:
        for way, rankings in ways.items():
            started = time.process_time()
            rankings.append(
                contributions(detector, series.test, event.start, event.stop, method=way)
            )
            seconds[way] += time.process_time() - started
    found = {way: hit_rates(rankings, events, k=K) for way, rankings in ways.items()}
    found["random"] = random_hit_rates(series.n_channels, events, k=K)
    return [
        {
            "entity": entity,
            "incident": number,
            "rows": event.stop - event.start,
            "causes": len(event.channels),
            "ranking": way,
            **{f"hit@{k}": round(float(hits[k][number]), 4) for k in K},
            "seconds": round(seconds.get(way, 0.0) / len(events), 3),
            "seed": detector.seed,
        }
        for way, hits in found.items()
        for number, event in enumerate(events)
    ]


def main() -> None:
    if not os.environ.get("MADCLUSTER_DATA"):
        print("nothing to do: set MADCLUSTER_DATA to a folder with SMD")
        return
    tables = Parallel(2)(delayed(machine)(entity) for entity in entities_of("SMD"))
    table = pd.DataFrame([row for rows in tables for row in rows])
    columns = [*(f"hit@{k}" for k in K), "seconds"]
    print(table.groupby("ranking")[columns].mean().round(3))
    print(table.groupby("ranking").size())
    write_result(table.assign(**provenance()), "root_causes", compress=True)


if __name__ == "__main__":
    main()
