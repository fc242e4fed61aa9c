"""Stage the book and execute its notebooks with papermill.

    python book/execute.py _build/stage [--jobs 2] [--fast] [--only 02]

Everything Jupyter Book needs is copied to the stage, where each notebook lies executed in the place of
its output-free source. The times go into `book/execution_times.md`, which `book/status.md` includes.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import nbformat
import papermill
from jupyter_client import AsyncKernelManager

from madcluster.results import commit

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "madcluster",
    *("torch", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib", "statsmodels"),
    *("jupyter-book", "papermill", "ipykernel"),
)


class SocketFileKernelManager(AsyncKernelManager):
    """Kernels that talk through files: two that start at once can be given the same TCP port."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        folder = tempfile.mkdtemp(prefix="kernel-")
        super().__init__(*arguments, transport="ipc", ip=f"{folder}/ipc", **keywords)


def run(source: Path, target: Path, parameters: dict[str, object], *, cwd: Path) -> None:
    """Execute a notebook, or raise what its cell raised."""
    papermill.execute_notebook(
        source,
        target,
        parameters,
        cwd=cwd,
        progress_bar=False,
        log_output=False,
        kernel_manager_class=SocketFileKernelManager,
    )


def execute(source: Path, target: Path, parameters: dict[str, object]) -> tuple[str, float]:
    """Run one notebook for the book; return its name and seconds."""
    started = time.perf_counter()
    run(source, target, parameters, cwd=source.parent)
    notebook = nbformat.read(target, as_version=4)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-cell")
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                print(f"{source.name}: stderr: {output['text']}", file=sys.stderr)
    nbformat.write(notebook, target)
    return source.name, time.perf_counter() - started


def quiet_kernels(stage: Path) -> None:
    """Keep ipykernel's remarks on its transport out of the pages."""
    profile = stage.with_name("ipython") / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text(
        "c = get_config()\nc.IPKernelApp.log_level = 40\n"
    )
    os.environ["IPYTHONDIR"] = str(profile.parent)


def report(seconds: dict[str, float], jobs: int) -> str:
    """What the status page says of an execution."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    rows = [f"| [{name}]({name}) | {time_taken:.0f} |" for name, time_taken in seconds.items()]
    return "\n".join(
        [
            f"Commit `{commit()}`, on {machine}, {jobs} notebooks at a time. Python "
            f"{platform.python_version()}, {versions}.",
            "",
            "| notebook | seconds |",
            "| --- | ---: |",
            *rows,
            f"| all, one after another | {sum(seconds.values()):.0f} |",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--fast", action="store_true", help="run notebooks with FAST=True")
    parser.add_argument("--only", default="", help="notebooks whose name starts so")
    arguments = parser.parse_args()
    stage = arguments.stage.resolve()

    shutil.rmtree(stage, ignore_errors=True)
    for name in ("_config.yml", "_toc.yml"):
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, stage / name)
    no_notebooks = shutil.ignore_patterns("*.ipynb", "__pycache__", ".ipynb_checkpoints", "_runs")
    shutil.copytree(ROOT / "book", stage / "book", ignore=no_notebooks)
    quiet_kernels(stage)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MADCLUSTER_PROGRESS", "0")

    sources = sorted((ROOT / "book").glob(f"{arguments.only}*.ipynb"))
    parameters: dict[str, object] = {"FAST": True} if arguments.fast else {}
    seconds: dict[str, float] = {}
    with ProcessPoolExecutor(arguments.jobs) as pool:
        runs = [pool.submit(execute, s, stage / "book" / s.name, parameters) for s in sources]
        for run in runs:
            name, time_taken = run.result()
            seconds[name] = time_taken
            print(f"{time_taken:6.1f} s  {name}", flush=True)
    (stage / "book" / "execution_times.md").write_text(report(seconds, arguments.jobs))


if __name__ == "__main__":
    main()
