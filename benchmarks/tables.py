"""Time and peak memory of from_csv beside pandas: python benchmarks/tables.py   -> tables.csv

Files of random numbers with six decimals, one thread, each reading in a process of its own, the file
in the system's cache. Memory is the peak of the resident size above that of the same process with its
imports done; Linux tells it. pandas reads numbers and leaves time stamps as text, which from_csv reads
and checks. Time is that of the processor, the shortest of two, which others on the machine change
little.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from madcluster.study.results import provenance, write_result

SIZES = (200_000, 40), (1_000_000, 10)
KINDS = "numbers", "time", "missing", "quotes"
REPEATS = 2
CASE = """
import json, sys, time
import pandas as pd
from madcluster import from_csv

def mebibytes(key):
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(key)).split()[1]) / 1024

reader, small, file, kind = sys.argv[1:]
options = {"time": "t"} if kind == "time" else {"fill": "ffill"} if kind == "missing" else {}
from_csv(small)  # what is imported late
before = mebibytes("VmRSS")
started = time.process_time()
table = pd.read_csv(file) if reader == "pandas" else from_csv(file, **options)
seconds = time.process_time() - started
print(json.dumps([seconds, mebibytes("VmHWM") - before]))
"""


def written(folder: Path, rows: int, channels: int, kind: str) -> Path:
    """A file of random numbers, with what its kind says."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(rows, channels)).round(6)
    if kind == "missing":
        values[rng.random(values.shape) < 0.01] = np.nan
    frame = pd.DataFrame(values, columns=[f"sensor {i}" for i in range(channels)])
    if kind == "time":
        frame.insert(0, "t", pd.date_range("2026-01-01", periods=rows, freq="s"))
    path = folder / "table.csv"
    quoting = csv.QUOTE_ALL if kind == "quotes" else csv.QUOTE_MINIMAL
    frame.to_csv(path, index=False, quoting=quoting)
    return path


def case(reader: str, small: Path, file: Path, kind: str, repeats: int) -> tuple[float, float]:
    """Shortest time of the processor in seconds and median peak in MiB of some processes."""
    command = [sys.executable, "-c", CASE, reader, str(small), str(file), kind]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = []
    for _ in range(repeats):
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found.append(json.loads(done.stdout))
    seconds, peak = np.array(found).T
    return float(seconds.min()), float(np.median(peak))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    repeats = parser.parse_args().repeats
    found = []
    with tempfile.TemporaryDirectory() as name:
        small = Path(name) / "small.csv"
        small.write_text("a\n1\n2\n")
        for rows, channels in SIZES:
            for kind in KINDS:
                file = written(Path(name), rows, channels, kind)
                s, mib = case("pandas", small, file, kind, repeats)
                our_s, our_mib = case("from_csv", small, file, kind, repeats)
                row = {"rows": rows, "channels": channels, "file": kind}
                row |= {"file_mib": round(file.stat().st_size / 2**20, 1)}
                row |= {"pandas_s": round(s, 2), "from_csv_s": round(our_s, 2)}
                row |= {"pandas_peak_mib": round(mib, 1), "from_csv_peak_mib": round(our_mib, 1)}
                row |= {"time_ratio": round(our_s / s, 2), "memory_ratio": round(our_mib / mib, 2)}
                found.append(row)
                print(*row.values(), flush=True)
    table = pd.DataFrame(found)
    print(table.to_string(index=False))
    write_result(table.assign(**provenance(("numpy", "pandas"))), "tables")


if __name__ == "__main__":
    main()
