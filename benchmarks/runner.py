"""What the runner of benchmarks costs, and what a second process saves: python benchmarks/runner.py

The same runs three ways in turns: a plain loop of `execute`, `run_all` with one process and with two.
Measure on an idle machine.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable

import pandas as pd
import torch

from madcluster.study.benchmark import execute, grid, run_all
from madcluster.study.results import provenance, write_result

ROUNDS = 3


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def main() -> None:
    torch.set_num_threads(1)
    runs = grid(
        ["synthetic"],
        ["deepsvdd"],
        seeds=range(2),
        settings={"epochs": 10, "stride": 10, "batch_size": 16},
    )

    def kept(jobs: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            run_all(runs, folder, jobs=jobs)

    ways: dict[str, Callable[[], object]] = {
        "loop s": lambda: [execute(run) for run in runs],
        "one process s": lambda: kept(1),
        "two processes s": lambda: kept(2),
    }
    kept(2)  # the workers start once a session
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            times[name].append(seconds(way))
    loop, one, two = times.values()
    row = {name: round(statistics.median(values), 2) for name, values in times.items()}
    row |= {
        "runs": len(runs),
        "overhead of the runner %": round(
            100 * (statistics.median(b / a for a, b in zip(loop, one, strict=True)) - 1), 1
        ),
        "two beside one": round(statistics.median(a / b for a, b in zip(one, two, strict=True)), 2),
    }
    table = pd.DataFrame([row])
    print(table.to_string(index=False))
    write_result(table.assign(**provenance()), "runner")


if __name__ == "__main__":
    main()
