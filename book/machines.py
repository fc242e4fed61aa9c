"""Run notebooks and tests as other processors would: python book/machines.py [--machine NAME …]

    python book/machines.py --machine default --only 02 03 04 --no-tests

PyTorch, oneDNN and MKL choose their kernels by what the processor can do, and another number of threads
adds in another order. Told to use less, they give the digits of another machine. Prints a table,
chapter by machine, and writes it to `_build/machines.csv`; ends non-zero where anything failed. NumPy's
own kernels, and processors that can do more than this one, cannot be emulated so.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import torch

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "_build" / "machines"
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
SSE = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
}
MACHINES: dict[str, dict[str, str]] = {
    f"{name}{'' if threads == 1 else f', {threads} threads'}": {
        **environment,
        "OMP_NUM_THREADS": str(threads),
    }
    for threads in (1, 2)
    for name, environment in (("own", {}), ("avx2", AVX2), ("default", SSE))
}
# what needs no second processor: pages, packaging, and the notebooks, which are run themselves
SKIPPED = ("tests/browser", "tests/test_book.py", "tests/test_env.py", "tests/test_prose.py")
RESULT = re.compile(r"^\[\d+/\d+ after .*?\] +([\d.]+) s  (FAILED )?(\S+)$")


def environment(machine: str) -> dict[str, str]:
    """The variables of a process there: those of this one, but for what makes a machine."""
    made = {name for settings in MACHINES.values() for name in settings}
    kept = {name: value for name, value in os.environ.items() if name not in made}
    return {**kept, **MACHINES[machine], "MADCLUSTER_PROGRESS": "0"}


def capability(machine: str) -> str:
    """Vector instructions that PyTorch then uses."""
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment(machine),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def notebooks(machine: str, only: list[str], jobs: int) -> dict[str, str]:
    """Execute the notebooks whose names start so; by name, the seconds or "failed"."""
    place = OUT / re.sub(r"\W+", "-", machine)
    command = [sys.executable, str(ROOT / "book" / "execute.py"), str(place), "--all"]
    command += ["--jobs", str(jobs), "--only", *only]
    found: dict[str, str] = {}
    with subprocess.Popen(
        command, env=environment(machine), stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout or ():
            print(f"{machine}: {line}", end="", flush=True)
            if match := RESULT.match(line):
                found[match[3]] = "failed" if match[2] else f"{float(match[1]):.0f} s"
    if process.returncode and "failed" not in found.values():
        found["notebooks"] = "failed"
    return found


def tests(machine: str, jobs: int) -> str:
    """Run the tests; what pytest says at its end."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        str(jobs),
        "--no-header",
        "-p",
        "no:cacheprovider",
    ]
    command += [f"--ignore={path}" for path in SKIPPED]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(machine), capture_output=True, text=True
    )
    lines = done.stdout.strip().splitlines() or ["nothing"]
    if done.returncode:
        print(done.stdout[-5000:], done.stderr[-2000:], file=sys.stderr)
    last = next((line for line in reversed(lines) if " passed" in line or "error" in line), "")
    return f"failed: {last}" if done.returncode else re.sub(r" in .*", "", last).strip("= ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machine", nargs="*", default=[*MACHINES], choices=[*MACHINES])
    parser.add_argument("--only", nargs="*", default=[""], help="notebooks whose names start so")
    parser.add_argument("--no-tests", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    table: dict[str, dict[str, str]] = {}
    started = time.perf_counter()
    for i, machine in enumerate(arguments.machine):
        # threads of one process take the place of processes
        jobs = max(1, arguments.jobs // int(MACHINES[machine]["OMP_NUM_THREADS"]))
        print(
            f"machine {i + 1} of {len(arguments.machine)}, {machine}: {capability(machine)}, "
            f"after {time.perf_counter() - started:.0f} s",
            flush=True,
        )
        column = table[machine] = {"vector instructions": capability(machine)}
        column.update(notebooks(machine, arguments.only, jobs))
        if not arguments.no_tests:
            column["tests"] = tests(machine, jobs)
        found = pd.DataFrame(table)
        OUT.mkdir(parents=True, exist_ok=True)
        found.to_csv(OUT.with_suffix(".csv"))
    print(f"\nthis machine: {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores\n")
    print(found.to_string())
    failed = found.apply(lambda column: column.str.startswith("failed")).to_numpy()
    if failed.any():
        sys.exit(f"{failed.sum()} failed")


if __name__ == "__main__":
    main()
