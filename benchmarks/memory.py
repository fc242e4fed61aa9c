"""Peak memory of fit, scores and explanations against the rows: python benchmarks/memory.py

Every detector on 10 channels, each case in a process of its own, one thread; Linux only. What is
reported is the peak resident memory above that of the same process with its imports done, its rows made
and a small detector fitted. So a column that grows by more than its rows do is memory that somebody
holds.
-> memory.csv; with --only the rows of the other detectors stay as they are
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pandas as pd

from madcluster.study.results import provenance, renew_result

ROWS = 10_000, 40_000, 160_000
CHANNELS = 10
# the time of a nearest neighbor grows with rows times what it knows
MOST = {"nearest_neighbor": 40_000, "ensemble": 40_000}
CASE = """
import json, re, sys
from pathlib import Path
import numpy as np
from madcluster.detectors import DETECTORS

name, what, rows, channels = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
arguments = {"epochs": 1, "stride": 50, "score_stride": 10} if name == "madcluster" else {}
rng = np.random.default_rng(0)
train = rng.normal(size=(rows if what == "fit" else 4000, channels)).astype(np.float32)
test = rng.normal(size=(rows, channels)).astype(np.float32)
detector = DETECTORS[name](**arguments)
small = DETECTORS[name](**arguments).fit(train[:1500])
small.decision_function(test[:1500])
if what != "fit":
    detector.fit(train)

def peak():
    # of this process alone; what getrusage says is inherited from the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

before = peak()
if what == "fit":
    detector.fit(train)
elif what == "score":
    detector.decision_function(test)
else:
    detector.explain(test, 0, rows, method=what)
print(json.dumps(peak() - before))
"""


def case(name: str, what: str, rows: int) -> float:
    """MiB that a case takes at its peak."""
    command = [sys.executable, "-c", CASE, name, what, str(rows), str(CHANNELS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    from madcluster.detectors import DETECTORS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[*DETECTORS])
    found = []
    for name in parser.parse_args().only:
        for what in ("fit", "score", "occlusion", *(["gradient"] * (name == "madcluster"))):
            for rows in ROWS:
                if rows > MOST.get(name, rows):
                    continue
                row = {"detector": name, "what": what, "rows": rows}
                found.append(row | {"peak_mib": round(case(name, what, rows), 1)})
                print(*found[-1].values(), flush=True)
    table = pd.DataFrame(found)
    table["rows_mib"] = (table["rows"] * CHANNELS * 4 / 2**20).round(2)
    print(table.pivot_table("peak_mib", ["detector", "what"], "rows"))
    renew_result(table.assign(**provenance()), "memory", by="detector")


if __name__ == "__main__":
    main()
