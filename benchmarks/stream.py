"""Throughput and latency of streams: python benchmarks/stream.py   -> stream.csv

38 channels, aggregate "last", one thread: embedders as published with windows of 100 and the head, then
the detectors without a network. Rows come one at a time, in blocks, and one for each of 100 streams in
a `StreamGroup`; beside them `decision_function` of the same rows with the same scores and, for
networks, the plain way, every window through the network by itself. Memory is that of DeepSVDD over a
million rows. Measure on an idle machine. With --only the rows of other detectors stay as they are.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import pandas as pd
import torch

from madcluster import MADCluster
from madcluster.detectors import DETECTORS, Detector
from madcluster.models import EMBEDDERS
from madcluster.service.groups import StreamGroup
from madcluster.study.results import peak_memory, provenance, renew_result

CHANNELS, WINDOW = 38, 100
ROWS = 1_000_000
STREAMS = 100  # of a group


def fitted(name: str) -> Detector:
    """A detector whose weights are random: time does not depend on them."""
    if name in DETECTORS:
        x = np.random.default_rng(0).normal(size=(4000, CHANNELS))
        return DETECTORS[name](aggregate="last").fit(x)
    x = np.random.default_rng(0).normal(size=(260, CHANNELS))
    options = {"width": 512} if name == "usad" else None  # a billion weights as published
    detector = MADCluster(name, epochs=1, stride=50, aggregate="last", options=options)
    return detector.fit(x)


def plain(detector: MADCluster, rows: np.ndarray) -> float:
    """Rows per second when every window goes through the network by itself."""
    x = torch.as_tensor(detector.scaler_.transform(rows))
    started = time.perf_counter()
    with torch.inference_mode():
        for end in range(WINDOW, len(x)):
            detector.model_(x[None, end - WINDOW : end]).score[0, -1].item()
    return (len(x) - WINDOW) / (time.perf_counter() - started)


def together(detector: Detector, turns: int) -> float:
    """Rows per second of many streams that are given a row each at a time."""
    group = StreamGroup({str(i): detector.stream() for i in range(STREAMS)})
    rows = (
        np.random.default_rng(2).normal(size=(STREAMS, WINDOW + turns, CHANNELS)).astype(np.float32)
    )
    group.update({name: of_one[:WINDOW] for name, of_one in zip(group, rows, strict=True)})
    group.update(rows[:, WINDOW])  # fills their memories
    started = time.perf_counter()
    for turn in range(1, turns):
        group.update(rows[:, WINDOW + turn])
    return STREAMS * (turns - 1) / (time.perf_counter() - started)


def measured(name: str) -> dict[str, object]:
    detector = fitted(name)
    network = isinstance(detector, MADCluster)
    rows = np.random.default_rng(1).normal(size=(6000, CHANNELS)).astype(np.float32)
    stream = detector.stream()
    stream.update(rows[:WINDOW])
    stream.update(rows[0])  # fills a memory
    started = time.perf_counter()
    for row in rows[:10]:
        stream.update(row)
    quick = time.perf_counter() - started < 0.03
    one = []
    for row in rows[: 5000 if quick else 100]:
        started = time.perf_counter()
        stream.update(row)
        one.append(time.perf_counter() - started)
    # in turn, so that both see the machine in the same state
    block, blocks, batch = rows[: 6000 if quick else 300], [], []
    for _ in range(9 if quick else 2):
        started = time.perf_counter()
        stream.update(block)
        blocks.append(len(block) / (time.perf_counter() - started))
        started = time.perf_counter()
        detector.decision_function(block)
        batch.append(len(block) / (time.perf_counter() - started))
    way = plain(detector, rows[: WINDOW + (200 if quick else 50)]) if network else np.nan
    of_many = together(detector, 50 if quick else 3)
    return {
        "detector": name,
        "network": network,
        "rows/s, one at a time": round(len(one) / sum(one)),
        f"rows/s, {STREAMS} streams": round(of_many),
        "streams beside one": round(of_many * sum(one) / len(one), 1),
        "median ms": round(1e3 * statistics.median(one), 3),
        "p99 ms": round(1e3 * float(np.quantile(one, 0.99)), 3),
        "rows/s, in blocks": round(statistics.median(blocks)),
        "rows/s, batch": round(statistics.median(batch)),
        "batch's time over blocks'": round(statistics.median(blocks) / statistics.median(batch), 2),
        "rows/s, window by window": round(way, 0),
        "blocks beside that": round(statistics.median(blocks) / way, 1),
    }


def memory() -> dict[str, object]:
    """MiB by which the highest resident size grows over a million rows, after the first 10,000."""
    stream = fitted("deepsvdd").stream()
    rows = np.random.default_rng(1).normal(size=(1000, CHANNELS)).astype(np.float32)
    for _ in range(10):
        stream.update(rows)
    before = peak_memory()
    started = time.perf_counter()
    for _ in range(ROWS // 1000):
        stream.update(rows)
    seconds = time.perf_counter() - started
    grown = (peak_memory() - before) / 2**20
    return {"rows": stream.seen, "growth MiB": round(grown, 1), "rows/s": round(ROWS / seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    without = [name for name in DETECTORS if name != "madcluster"]
    parser.add_argument("--only", nargs="*", default=[*EMBEDDERS, *without])
    names = parser.parse_args().only
    torch.set_num_threads(1)
    grown = np.nan
    if "deepsvdd" in names:
        found = memory()  # first, while the process is small
        print(found)
        grown = found["growth MiB"]
    table = pd.DataFrame([measured(name) for name in names])
    of_deepsvdd = table["detector"] == "deepsvdd"
    table["growth over 1,000,000 rows MiB"] = np.where(of_deepsvdd, grown, np.nan)
    print(table.to_string(index=False))
    renew_result(table.assign(**provenance()), "stream", by="detector")


if __name__ == "__main__":
    main()
