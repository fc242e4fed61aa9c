"""What is in the data, for those who do not have it: python benchmarks/facts.py

Needs $MADCLUSTER_DATA. A row of numbers for every entity -> facts.csv, and one small picture of each
data set, of the entity that comes first of those with more than two moving channels in the test split
-> thumbnails.csv.gz
"""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from madcluster import load
from madcluster.study.benchmark import available
from madcluster.study.facts import facts, thumbnail
from madcluster.study.results import provenance, write_result

DATASETS = ("MSL", "SMAP", "SMD", "PSM", "PSM_excerpt")


def main() -> None:
    if not os.environ.get("MADCLUSTER_DATA"):
        print("nothing to do: set MADCLUSTER_DATA to a folder with MSL, SMAP, SMD and PSM")
        return
    rows, pictures = [], {}
    for dataset, entity in available(DATASETS):
        series = load(dataset, entity, fill="ffill")
        rows.append({"dataset": dataset, "entity": entity, **facts(series)})
        if dataset not in pictures and (np.ptp(series.test, axis=0) > 0).sum() > 2:
            pictures[dataset] = thumbnail(series).assign(dataset=dataset, entity=entity)
    about = provenance(("numpy", "pandas"))
    print(write_result(pd.DataFrame(rows).assign(**about), "facts"))
    print(write_result(pd.concat(pictures.values()).assign(**about), "thumbnails", compress=True))


if __name__ == "__main__":
    main()
