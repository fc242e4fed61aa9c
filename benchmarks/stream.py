"""Throughput and latency of streams: python benchmarks/stream.py   -> stream.csv

38 channels, windows of 100, aggregate "last", one thread, embedders as published with the head. Rows
come one at a time, and in blocks of 1,000; beside them the plain way, every window through the network
by itself, and `decision_function` of the same rows with the same scores. Memory is that of DeepSVDD
over a million rows. Measure on an idle machine.
"""

from __future__ import annotations

import resource
import statistics
import time

import numpy as np
import pandas as pd
import torch

from madcluster import MADCluster
from madcluster.models import EMBEDDERS
from madcluster.study.results import provenance, write_result

CHANNELS, WINDOW = 38, 100
ROWS = 1_000_000


def fitted(embedder: str) -> MADCluster:
    """A detector whose weights are random: time does not depend on them."""
    x = np.random.default_rng(0).normal(size=(260, CHANNELS))
    options = {"width": 512} if embedder == "usad" else None  # a billion weights as published
    detector = MADCluster(embedder, epochs=1, stride=50, aggregate="last", options=options)
    return detector.fit(x)


def plain(detector: MADCluster, rows: np.ndarray) -> float:
    """Rows per second when every window goes through the network by itself."""
    x = torch.as_tensor(detector.scaler_.transform(rows))
    started = time.perf_counter()
    with torch.inference_mode():
        for end in range(WINDOW, len(x)):
            detector.model_(x[None, end - WINDOW : end]).score[0, -1].item()
    return (len(x) - WINDOW) / (time.perf_counter() - started)


def measured(embedder: str) -> dict[str, object]:
    detector = fitted(embedder)
    quick = detector.model_.last_steps() is not None
    rows = np.random.default_rng(1).normal(size=(6000, CHANNELS)).astype(np.float32)
    stream = detector.stream()
    stream.update(rows[:WINDOW])
    one = []
    for row in rows[: 5000 if quick else 300]:
        started = time.perf_counter()
        stream.update(row)
        one.append(time.perf_counter() - started)
    blocks = []
    for _ in range(20 if quick else 1):
        started = time.perf_counter()
        stream.update(rows[:1000])
        blocks.append(1000 / (time.perf_counter() - started))
    batch = []
    for _ in range(5 if quick else 1):
        started = time.perf_counter()
        detector.decision_function(rows[: 6000 if quick else 1000])
        batch.append((6000 if quick else 1000) / (time.perf_counter() - started))
    way = plain(detector, rows[: WINDOW + 200])
    return {
        "embedder": embedder,
        "rows/s, one at a time": round(len(one) / sum(one)),
        "median ms": round(1e3 * statistics.median(one), 3),
        "p99 ms": round(1e3 * float(np.quantile(one, 0.99)), 3),
        "rows/s, blocks of 1,000": round(statistics.median(blocks)),
        "rows/s, batch": round(statistics.median(batch)),
        "batch's time over blocks'": round(statistics.median(blocks) / statistics.median(batch), 2),
        "rows/s, window by window": round(way),
        "blocks beside that": round(statistics.median(blocks) / way, 1),
    }


def memory() -> dict[str, object]:
    """MiB by which the highest resident size grows over a million rows, after the first 10,000."""
    stream = fitted("deepsvdd").stream()
    rows = np.random.default_rng(1).normal(size=(1000, CHANNELS)).astype(np.float32)
    for _ in range(10):
        stream.update(rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    for _ in range(ROWS // 1000):
        stream.update(rows)
    seconds = time.perf_counter() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"rows": stream.seen, "growth MiB": round(grown, 1), "rows/s": round(ROWS / seconds)}


def main() -> None:
    torch.set_num_threads(1)
    found = memory()  # first, while the process is small
    print(found)
    table = pd.DataFrame([measured(name) for name in EMBEDDERS])
    table["growth over 1,000,000 rows MiB"] = np.where(
        table["embedder"] == "deepsvdd", found["growth MiB"], np.nan
    )
    print(table.to_string(index=False))
    write_result(table.assign(**provenance()), "stream")


if __name__ == "__main__":
    main()
