"""Short runs on real entities: python benchmarks/detect.py [part …]   (needs $MADCLUSTER_DATA)

Parts, both of them by default, each a table under book/results/:

seven    all embedders (seven when the table was made) as published, alone and with the head, on the
         first SMD machine and MSL channel, stride 10, three epochs -> seven.csv
dropout  DCdetector (d 64) with and without its dropouts, stride 20, five epochs in batches of 16, two
         seeds, on the first four channels of MSL and of SMAP -> dropout.csv

Two processes of one thread each. Times are CPU seconds; the last line of each part is its wall time.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pandas as pd
import torch

from madcluster import MADCluster, evaluate, load
from madcluster.data import entities
from madcluster.models import EMBEDDERS
from madcluster.study.results import provenance, write_result


def run(labels: dict[str, object], dataset: str, entity: str, options: dict[str, Any]) -> dict:
    """Fit on an entity, score its test split; `labels` go into the row as they are."""
    torch.set_num_threads(1)
    series = load(dataset, entity)
    detector = MADCluster(**{"stride": 10, "batch_size": 128, **options})
    started = time.process_time()
    detector.fit(series.train)
    fitted = time.process_time()
    scores = detector.decision_function(series.test)
    scored = time.process_time()
    found = evaluate(series.labels, scores)
    return {
        "dataset": dataset,
        "entity": entity,
        **labels,
        "seed": detector.seed,
        "anomalous": round(series.anomaly_ratio, 4),
        "average precision": round(found["aupr"], 4),
        "VUS-PR": round(found["VUS_PR"], 4),
        "fit CPU s": round(fitted - started, 1),
        "score CPU s": round(scored - fitted, 1),
    }


def seven() -> list[tuple[dict[str, object], str, str, dict[str, Any]]]:
    return [
        (
            {"embedder": name, "head": head},
            dataset,
            entity,
            {"embedder": name, "head": head, "epochs": 3},
        )
        for (dataset, entity), head, name in itertools.product(
            [(name, entities(name)[0]) for name in ("SMD", "MSL")], (False, True), EMBEDDERS
        )
    ]


def dropout() -> list[tuple[dict[str, object], str, str, dict[str, Any]]]:
    chosen = [
        (dataset, entity)
        for dataset, n in (("MSL", 4), ("SMAP", 4))
        for entity in entities(dataset)[:n]
    ]
    shares = {
        "none": {},
        "attention": {"attention_dropout": 0.1},
        "both": {"attention_dropout": 0.1, "embedding_dropout": 0.1},
    }
    return [
        (
            {"dropout": name, "head": head},
            dataset,
            entity,
            {
                "embedder": "dcdetector",
                "head": head,
                "epochs": 5,
                "stride": 20,
                "batch_size": 16,
                "seed": seed,
                "options": {"d": 64, **shares[name]},
            },
        )
        for seed, name, head, (dataset, entity) in itertools.product(
            range(2), shares, (False, True), chosen
        )
    ]


PARTS = {"seven": seven, "dropout": dropout}


def main() -> None:
    chosen = sys.argv[1:] or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        sys.exit(f"unknown part {sorted(unknown)}: choose from {list(PARTS)}")
    if not os.environ.get("MADCLUSTER_DATA"):
        print("nothing to do: set MADCLUSTER_DATA to a folder with SMD, MSL and SMAP")
        return
    for part in chosen:
        started, rows = time.perf_counter(), []
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            for future in [pool.submit(run, *arguments) for arguments in PARTS[part]()]:
                rows.append(future.result())
                print(rows[-1], flush=True)
        table = pd.DataFrame(rows).assign(**provenance())
        write_result(table, part)
        print(f"{part}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
