"""Other people's split and numbers: python benchmarks/leaderboard.py   -> leaderboard.csv

TSB-AD (Liu and Paparrizos, NeurIPS 2024) publishes the VUS-PR of 23 methods on every file of its
multivariate part. Its files of MSL, SMAP and SMD are cuts of the official *test* splits: a method
learns the first rows, a quarter of them or as many as end 100 rows before the first anomaly, at least
500, and is scored on all rows, those that it learned among them. Unsupervised methods learn all rows,
anomalies included. The longest window of VUS is the period of the first channel, by its
autocorrelation.

The protocol, written before the first run:

- A file is one of ours where length, first anomalous row and number of anomalous rows of a test split
  agree. Files that have no such series here are named and left out, of their means too.
- Ours learn the same rows and are scored on all, as theirs: every detector of `DETECTORS` without an
  embedder by its defaults, seed 0, and again with its scores averaged over 20 rows; all embedders
  with and without the head, the widths of `CPU_OPTIONS`, everything else by default.
- Published hyperparameters were tuned by its authors on other files of the same data sets; ours are
  what they are everywhere else in this book, which has seen the test labels of these entities before.
- Their numbers are read from their table and not made again. That the cut, the window and the metric
  are the same is checked by the files' own facts, and once by hand: their KMeansAD, run on five of
  these cuts with two seeds, gives the published number of each up to the seed.

    python benchmarks/leaderboard.py published FOLDER    reads the published table from a checkout of
                                                         TheDatumOrg/TSB-AD -> leaderboard_published.csv

It can be stopped: what is done lies under _runs/leaderboard. Needs $MADCLUSTER_DATA.
"""

from __future__ import annotations

import argparse
import re
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from scipy.signal import argrelmax
from statsmodels.tsa.stattools import acf

from madcluster import MADCluster
from madcluster.aggregation import smoothed
from madcluster.detectors import DETECTORS, Detector
from madcluster.metrics import vus_score
from madcluster.models import EMBEDDERS
from madcluster.progress import quiet
from madcluster.study.benchmark import CPU_OPTIONS, PLAIN, available, series_of
from madcluster.study.results import once, provenance, read_result, write_result

RUNS = Path(__file__).parents[1] / "_runs" / "leaderboard"
DATASETS = ("MSL", "SMAP", "SMD")
TABLE = "benchmark_exp/benchmark_eval_results/multi_mergedTable_VUS-PR.csv"
NAME = re.compile(r"\d+_([A-Z]+)_id_\d+_\w+_tr_(\d+)_1st_(\d+)\.csv")
FACTS = ["ts_len", "anomaly_len", "num_anomaly", "avg_anomaly_len", "anomaly_ratio"]
OTHERS = [*FACTS, "point_anomaly", "seq_anomaly"]  # columns that are no method
WINDOW, LONGEST = 125, 300  # rows: where there is no period, and the longest that is looked for


def publish(folder: Path) -> None:
    """The published values of the data sets that are here, and what their files are."""
    table = pd.read_csv(folder / TABLE)
    names = table["file"].str.extract(NAME)
    table.insert(1, "dataset", names[0])
    table.insert(2, "train_rows", names[1].astype("Int64"))
    table.insert(3, "first", names[2].astype("Int64"))
    table = table[table["dataset"].isin(DATASETS)].rename(
        columns={"ts_len": "rows", "anomaly_len": "anomalous"}
    )
    methods = [name for name in table if name not in (*OTHERS, "rows", "anomalous")]
    kept = table[[*methods[:4], "rows", "anomalous", *methods[4:]]]
    kept = kept.round(dict.fromkeys(methods[4:], 4))
    kept = kept.assign(source=f"TheDatumOrg/TSB-AD, {TABLE}", **provenance())
    write_result(kept, "leaderboard_published")


def matched() -> pd.DataFrame:
    """Each published file with the entity that it is a cut of, or none."""
    facts = []
    for dataset, entity in available(DATASETS):
        labels = series_of(dataset, entity).labels
        facts.append((dataset, entity, len(labels), int(np.argmax(labels)), int(labels.sum())))
    ours = pd.DataFrame(facts, columns=["dataset", "entity", "rows", "first", "anomalous"])
    keys = ["dataset", "rows", "first", "anomalous"]
    ours = ours.drop_duplicates(keys, keep=False)  # two that look alike tell nothing apart
    return read_result("leaderboard_published").merge(ours, how="left", validate="one_to_one")


def period(x: np.ndarray) -> int:
    """The longest window of VUS for a channel (n,), as TSB-AD's `find_length_rank` has it."""
    correlation = acf(x[:20_000], nlags=400, fft=True)[3:]
    peaks = argrelmax(correlation)[0]
    if not len(peaks):
        return WINDOW
    best = int(peaks[np.argsort(correlation[peaks])[-1]])
    return best + 3 if 3 <= best <= LONGEST else WINDOW


def methods() -> Iterator[tuple[str, Detector]]:
    for name in PLAIN:
        yield name, DETECTORS[name]()
    for name in EMBEDDERS:
        for head in (False, True):
            network = MADCluster(name, head=head, options=CPU_OPTIONS[name])
            yield f"{name} with the head" if head else name, network


def measured(row: dict[str, object], name: str, detector: Detector) -> list[dict[str, object]]:
    """A row without smoothing, and one with."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    series = series_of(str(row["dataset"]), str(row["entity"]))
    x, labels = np.asarray(series.test), series.labels
    window = period(x[:, 0].astype(float))
    about = {key: row[key] for key in ("file", "dataset", "entity")} | {"method": name}
    started = time.process_time()
    try:
        with quiet():
            scores = detector.fit(x[: int(str(row["train_rows"]))]).decision_function(x)
    except (ValueError, FloatingPointError) as error:
        print(row["file"], name, error, flush=True)
        return [about | {"smooth": "off", "vus_pr": None, "window": window, "fault": str(error)}]
    seconds = round(time.process_time() - started, 2)
    found = []
    for smooth in ("off", 20):
        value = vus_score(labels, smoothed(scores, smooth, causal=False), max_window=window).pr
        found.append(about | {"smooth": str(smooth), "vus_pr": round(value, 4), "window": window})
        found[-1] |= {"seconds": seconds, "fault": None}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("published", nargs="*", help="published FOLDER")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.published:
        publish(Path(arguments.published[-1]))
        return
    table = matched()
    lost = table[table["entity"].isna()]
    print("not here:", *lost["file"].str.split("_").str[:4].str.join("_"))
    rows = table.dropna(subset=["entity"]).to_dict("records")
    print(len(rows), "of", len(table), "files", flush=True)
    tasks = [(row, name, detector) for name, detector in methods() for row in rows]
    found = Parallel(arguments.jobs, batch_size=1)(
        delayed(once)(
            RUNS / f"{row['dataset']}_{row['entity']}_{name.replace(' ', '-')}.json",
            partial(measured, row, name, detector),
        )
        for row, name, detector in tasks
    )
    result = pd.DataFrame([each for part in found for each in part])
    wide = result.pivot_table("vus_pr", ["method", "smooth"], "dataset", margins=True)
    print(wide.round(3).to_string())
    write_result(result.assign(**provenance()), "leaderboard")


if __name__ == "__main__":
    main()
