"""Seconds until the package is there: python benchmarks/start.py   -> start_up.csv

Every command runs in a process of its own, in turns; the first turn fills the caches of the disk and
does not count. Seconds are those of the processor, in the process and those that it starts: what else
the machine does hardly changes them. Beside `import torch` stands what a detector rests on: torch,
pandas, and scikit-learn's base class, which alone brings scipy.stats. `import madcluster` loads none of
them before a name is used.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys

import pandas as pd

from madcluster.arguments import check_whole
from madcluster.study.results import provenance, write_result

TORCH = "import torch"
BELOW = "import torch, pandas, sklearn.base"
STATEMENTS = (
    "pass",
    "import madcluster",
    TORCH,
    BELOW,
    "from madcluster import MADCluster",
)
HELP = "python -m madcluster --help"


def seconds(arguments: list[str]) -> float:
    """Of the processor, for a process of this interpreter from its start to its end."""
    before = of_children()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return of_children() - before


def of_children() -> float:
    """Seconds of the processor that all processes took which were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(turns: int) -> pd.DataFrame:
    """Median seconds of every command, and how many times those of the two beside it that is."""
    commands = {statement: ["-c", statement] for statement in STATEMENTS}
    commands[HELP] = HELP.split()[1:]
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(1 + turns):
        for name, arguments in commands.items():
            found[name].append(seconds(arguments))
    medians = {name: statistics.median(times[1:]) for name, times in found.items()}
    return pd.DataFrame(
        {
            "command": list(medians),
            "seconds": [round(each, 3) for each in medians.values()],
            "beside torch": [round(each / medians[TORCH], 3) for each in medians.values()],
            "beside what it rests on": [
                round(each / medians[BELOW], 3) for each in medians.values()
            ],
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    turns = check_whole("--turns", parser.parse_args().turns)
    table = measured(turns).assign(turns=turns)
    print(table.to_string(index=False))
    write_result(table.assign(**provenance()), "start_up")


if __name__ == "__main__":
    main()
