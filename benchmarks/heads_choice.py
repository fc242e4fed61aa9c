"""Which head, chosen on rows of train? python benchmarks/heads_choice.py   -> heads_choice.csv

Part of the study of book/results/protocol_heads.md, and written there before its first run: `choose`
with four candidates of that study, the cheapest first, on every public entity at hand. It sees the
train split alone. Test scores of the candidates are those of `heads_study.csv.gz`, for their settings
are the same; only the evidence is taken here.

A row per entity and candidate. It can be stopped: entities that are done lie under _runs/heads_choice.
Needs $MADCLUSTER_DATA.
"""

from __future__ import annotations

import argparse
import warnings
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from joblib import Parallel, delayed

from madcluster import MADCluster
from madcluster.detectors import Detector, Mahalanobis, RandomFeatures, choose
from madcluster.study.benchmark import available, cpu_settings, series_of
from madcluster.study.results import once, provenance, write_result

RUNS = Path(__file__).parents[1] / "_runs" / "heads_choice"
DATASETS = ("MSL", "SMAP", "SMD", "PSM_excerpt")
SMOOTH = 20  # rows, of every score in the study


def candidates(dataset: str) -> dict[str, Detector]:
    """Names as in the study, the cheapest first."""
    network = partial(MADCluster, head="contrastive", **cpu_settings(dataset, "deepsvdd"))
    return {
        "mahalanobis, window=40": Mahalanobis(window=40, smooth=SMOOTH),
        "random_features": RandomFeatures(smooth=SMOOTH),
        "deepsvdd + contrastive, untrained": network(train=False, smooth=SMOOTH),
        "deepsvdd + contrastive": network(smooth=SMOOTH),
    }


def entity(dataset: str, name: str) -> list[dict[str, object]]:
    """A row per candidate."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tried = candidates(dataset)
    found = choose(series_of(dataset, name).train, tried)
    print(dataset, name, found.name, flush=True)
    rows = found.evidence.loc[list(tried), ["mean", "behind", "error", "seconds", "fault"]]
    rows = rows.rename_axis("candidate").reset_index().rename(columns={"mean": "evidence"})
    rows = rows.round({"evidence": 4, "behind": 4, "error": 4, "seconds": 2})
    rows.insert(0, "entity", name)
    rows.insert(0, "dataset", dataset)
    rows = rows.assign(chosen=rows["candidate"] == found.name)
    return rows.astype(object).where(rows.notna(), None).to_dict("records")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    tasks = available(DATASETS)
    found = Parallel(parser.parse_args().jobs)(
        delayed(once)(RUNS / f"{dataset}_{name}.json", partial(entity, dataset, name))
        for dataset, name in tasks
    )
    table = pd.DataFrame([row for rows in found for row in rows])
    print(table[table["chosen"]].groupby("dataset")["candidate"].value_counts())
    write_result(table.assign(**provenance()), "heads_choice")


if __name__ == "__main__":
    main()
