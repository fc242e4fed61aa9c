"""What a report and a fleet take: python benchmarks/report.py   -> report.csv

A plant of 20 sensors with 100,000 rows, as a CSV. `python -m madcluster report` as it is; the same with
a choice of seven detectors, with Deep SVDD and the head, and with the ensemble of seven; and
`fit_fleet` with a choice for each of four such machines, two at a time. Each in processes of its own,
one thread each: seconds by the clock, seconds of CPU, and the highest sum of the resident memory of its
processes, looked at twenty times a second; what they share counts for each. Measure on an idle machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil

from madcluster import synthetic
from madcluster.study.results import provenance, write_result

CHANNELS, ROWS, MACHINES = 20, 100_000, 4
FLEET = """
import sys
from madcluster.fleet import fit_fleet, tables_in
if __name__ == "__main__":
    machines = tables_in(sys.argv[1], time="minute")
    made = fit_fleet(machines, "choose", sys.argv[2], alarms_per_day=0.5, rows_per_day=1440, jobs=2)
    assert (made["fault"] == "").all(), made["fault"]
"""


def plant(path: Path, seed: int, per_kind: int) -> None:
    """A CSV whose second half has so many faults of each kind."""
    made = synthetic(ROWS // 2, ROWS // 2, CHANNELS, seed=seed, per_kind=per_kind)
    frame = pd.concat([made.train_frame, made.test_frame], ignore_index=True).round(5)
    frame.insert(0, "minute", pd.date_range("2026-01-01", periods=ROWS, freq="min"))
    frame.to_csv(path, index=False)


def measured(command: list[str]) -> dict[str, object]:
    """Clock, CPU and memory of a command and all the processes that it starts."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MADCLUSTER_PROGRESS": "0"}
    before, started = os.times(), time.perf_counter()
    most, largest = 0, 0
    with subprocess.Popen(command, env=environment) as process:
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            sizes = []
            try:
                for each in (tree, *tree.children(recursive=True)):
                    sizes.append(each.memory_info().rss)
            except psutil.NoSuchProcess:  # one has just ended
                continue
            most, largest = max(most, sum(sizes)), max(largest, *sizes)
            time.sleep(0.05)
    after = os.times()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    used = after.children_user + after.children_system
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(used - before.children_user - before.children_system, 1),
        "peak_mib": round(most / 2**20),
        "largest_process_mib": round(largest / 2**20),
    }


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        plant(folder / "plant.csv", 0, 20)
        (folder / "machines").mkdir()
        for seed in range(MACHINES):
            plant(folder / "machines" / f"machine {seed}.csv", seed, 0)
        report = [sys.executable, "-m", "madcluster", "report", str(folder / "plant.csv")]
        report += ["--time", "minute", "--out", str(folder / "out")]
        (folder / "fleet.py").write_text(FLEET)
        fleet = [sys.executable, str(folder / "fleet.py"), str(folder / "machines" / "*.csv")]
        cases = {
            "report": (1, report),
            "report, a choice": (1, [*report, "--detector", "choose"]),
            "report, Deep SVDD with the head": (1, [*report, "--detector", "deepsvdd"]),
            "report, the ensemble": (1, [*report, "--detector", "ensemble"]),
            "fleet, a choice each": (MACHINES, [*fleet, str(folder / "fleet")]),
        }
        for name, (machines, command) in cases.items():
            size = (folder / "plant.csv").stat().st_size / 2**20
            about = {"case": name, "machines": machines, "rows": ROWS, "channels": CHANNELS}
            rows.append(about | {"csv_mib": round(size, 1)} | measured(command))
            print(rows[-1], flush=True)
    write_result(pd.DataFrame(rows).assign(**provenance()), "report")


if __name__ == "__main__":
    main()
