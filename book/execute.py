"""Stage the book and execute its notebooks with papermill.

    python book/execute.py _build/stage [--jobs 2] [--fast] [--only 02 03] [--all]

Everything Jupyter Book needs is copied to the stage, where each notebook lies executed in the place of
its output-free source. A notebook that was executed before is kept, as long as its source and all that
it may read are what they were; `--all` executes it again. Every notebook is tried; those that fail are
named at the end with the cell that did. Times and checked claims go into `book/execution_times.md` and
`book/claims.md`, which `book/status.md` includes; the parameters of all notebooks into
`book/parameter_tables.md`, which `book/parameters.md` includes. The functions to copy go into
`book/functions.md` (see `book/functions.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import functions
import nbformat
import torch
from papermill import inspect_notebook
from papermill.exceptions import PapermillExecutionError

from madcluster.files import whole_file
from madcluster.notebooks import run_notebook
from madcluster.study.claims import record
from madcluster.study.results import commit

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "madcluster",
    *("torch", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib", "statsmodels"),
    *("jupyter-book", "papermill", "ipykernel"),
)
MACHINE = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "MKL_ENABLE_INSTRUCTIONS",
    "OMP_NUM_THREADS",
)
WORDS_A_MINUTE = 150  # of text with formulas, and figures to look at


@dataclass
class Execution:
    """What there is to say of one executed notebook.

    name : of its file
    seconds : that it took
    claims : sentences that were checked in it
    fault : where and why it failed, or nothing
    remarks : what it wrote to stderr
    kept : from an earlier execution
    """

    name: str
    seconds: float = 0.0
    claims: list[str] = field(default_factory=list)
    fault: str = ""
    remarks: str = ""
    kept: bool = False


def in_words(seconds: float) -> str:
    """A time as one tells it: "under a minute", "about 3 minutes"."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return "under a minute"
    return "about a minute" if minutes == 1 else f"about {minutes} minutes"


def glued(name: str, value: str) -> nbformat.NotebookNode:
    """An output from which myst-nb takes a value for the text."""
    data, metadata = record(name, repr(value))
    return nbformat.v4.new_output("display_data", data, metadata=metadata)


def finish(notebook: nbformat.NotebookNode, seconds: float) -> list[str]:
    """Make an executed notebook a page's source; return the claims that were checked in it.

    What papermill adds is hidden, and the times of the first cell's text are glued.
    """
    claims = []
    notebook.metadata.pop("papermill", None)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    text = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for cell in code:
        cell.metadata.pop("papermill", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-cell")
        kept = []
        for output in cell.outputs:
            of_text = output.get("metadata", {}).get("scrapbook", {})
            if of_text.get("name") == "claim":
                claims.append(output.data[f"{of_text['mime_prefix']}text/plain"])
            else:
                kept.append(output)
        cell.outputs = kept
    to_read = max(5, 5 * round(len(text.split()) / WORDS_A_MINUTE / 5))
    code[0].outputs.append(glued("time_to_read", f"{to_read} minutes"))
    code[0].outputs.append(glued("time_to_run", in_words(seconds)))
    return claims


def execute(source: Path, target: Path, parameters: dict[str, object]) -> Execution:
    """Run one notebook for the book. What a failed one has done stays in its place, for a look."""
    done = Execution(source.name)
    started = time.perf_counter()
    try:
        run_notebook(source, target, parameters, cwd=source.parent)
    except PapermillExecutionError as error:
        cell = " ".join(error.source.split())[:100]
        done.fault = f"cell {error.cell_index} ({cell} …): {error.ename}: {error.evalue}"
    except Exception as error:  # a dead kernel, a full disk: the others go on
        done.fault = f"{type(error).__name__}: {error}"
    done.seconds = time.perf_counter() - started
    if done.fault:
        return done
    notebook = nbformat.read(target, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                done.remarks += output["text"]
    done.claims = finish(notebook, done.seconds)
    nbformat.write(notebook, target)
    return done


def read_by_notebooks() -> Iterator[tuple[str, str]]:
    """All that the outputs of a notebook may depend on beside its source: name and content or date."""
    for pattern in ("madcluster/**/*", "book/results/*", "book/*.py", "book/_static/*.csv"):
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(ROOT)), hashlib.sha256(path.read_bytes()).hexdigest()
    for package in PACKAGES[1:]:
        yield package, version(package)
    yield "python", platform.python_version()
    yield "machine", f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    for name in MACHINE:
        yield name, os.environ.get(name, "")
    data = os.environ.get("MADCLUSTER_DATA", "")
    yield "data", data
    for path in sorted(Path(data).rglob("*")) if data else []:
        yield str(path), f"{path.stat().st_size} {path.stat().st_mtime_ns}"


def fingerprint(things: object) -> str:
    return hashlib.sha256(json.dumps(things, sort_keys=True, default=str).encode()).hexdigest()


class Kept:
    """What was executed for this stage before, by fingerprint, in a folder beside it.

    An entry is written after its notebook, so that what was stopped half way is done again.
    """

    def __init__(self, stage: Path) -> None:
        self.folder = stage.with_name(f"{stage.name}.executed")

    def load(self, name: str, key: str, target: Path) -> Execution | None:
        record, notebook = self.folder / f"{name}.json", self.folder / name
        try:
            found = json.loads(record.read_text())
            if found.pop("key") != key:
                return None
            shutil.copy2(notebook, target)  # as old as it is: Sphinx reads what is newer
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Execution(**{**found, "kept": True})

    def store(self, done: Execution, key: str, target: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        record, notebook = self.folder / f"{done.name}.json", self.folder / done.name
        record.unlink(missing_ok=True)
        shutil.copy2(target, notebook)
        with whole_file(record) as part:
            part.write_text(json.dumps({**vars(done), "key": key}))


def quiet_kernels(stage: Path) -> None:
    """Keep ipykernel's remarks on its transport out of the pages."""
    profile = stage.with_name("ipython") / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text(
        "c = get_config()\nc.IPKernelApp.log_level = 40\n"
    )
    os.environ["IPYTHONDIR"] = str(profile.parent)


def safe_stage(stage: Path) -> Path:
    """The stage, which is emptied: only a folder below one that is named _build may be it."""
    stage = stage.resolve()
    if "_build" not in stage.parent.parts:
        sys.exit(f"{stage} would be emptied: a stage lies under a folder named _build")
    return stage


def prepare(stage: Path) -> None:
    """Empty the stage, and copy what is not a notebook."""
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, stage / name)
    no_notebooks = shutil.ignore_patterns("*.ipynb", "__pycache__", ".ipynb_checkpoints", "_runs")
    shutil.copytree(ROOT / "book", stage / "book", ignore=no_notebooks)
    functions.fill(stage / "book" / "functions.md")
    quiet_kernels(stage)


def execute_all(
    stage: Path,
    sources: list[Path],
    parameters: dict[str, object],
    *,
    jobs: int = 2,
    again: bool = False,
) -> list[Execution]:
    """Execute notebooks into a prepared stage, reporting each as it ends; in the order of sources."""
    kept = Kept(stage)
    common = [list(read_by_notebooks()), parameters, os.environ.get("MADCLUSTER_CLAIMS", "")]
    keys = {source: fingerprint([common, source.read_text()]) for source in sources}
    found: dict[Path, Execution] = {}
    for source in sources:
        target = stage / "book" / source.name
        done = None if again else kept.load(source.name, keys[source], target)
        if done is not None:
            found[source] = done
    if found:
        print(
            f"{len(found)} of {len(sources)} notebooks are kept as they were executed", flush=True
        )
    started = time.perf_counter()
    with ProcessPoolExecutor(jobs) as pool:
        runs = {
            pool.submit(execute, source, stage / "book" / source.name, parameters): source
            for source in sources
            if source not in found
        }
        for i, future in enumerate(as_completed(runs), 1):
            source = runs[future]
            done = found[source] = future.result()
            print(
                f"[{i}/{len(runs)} after {time.perf_counter() - started:4.0f} s] "
                f"{done.seconds:6.1f} s  {'FAILED ' if done.fault else ''}{done.name}",
                flush=True,
            )
            if done.remarks:
                print(f"{done.name}: stderr: {done.remarks}", file=sys.stderr)
            if not done.fault:
                kept.store(done, keys[source], stage / "book" / source.name)
    return [found[source] for source in sources]


def report(executions: list[Execution], jobs: int) -> str:
    """What the status page says of an execution."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    rows = [f"| [{e.name}]({e.name}) | {e.seconds:.0f} | {len(e.claims)} |" for e in executions]
    seconds = sum(e.seconds for e in executions)
    return "\n".join(
        [
            f"Commit `{commit()}`, on {machine}, vector instructions "
            f"{torch.backends.cpu.get_cpu_capability()}, {jobs} notebooks at a time. Python "
            f"{platform.python_version()}, {versions}.",
            "",
            "| notebook | seconds | claims checked |",
            "| --- | ---: | ---: |",
            *rows,
            f"| all, one after another | {seconds:.0f} | {sum(len(e.claims) for e in executions)} |",
            "",
        ]
    )


def list_of_claims(executions: list[Execution]) -> str:
    """The checked sentences, chapter by chapter, folded."""
    parts = []
    for done in executions:
        if done.claims:
            parts += [f":::{{dropdown}} {done.name}, {len(done.claims)} claims"]
            parts += [f"- {' '.join(claim.split())}" for claim in done.claims]
            parts += [":::", ""]
    return "\n".join(parts)


def parameter_tables(sources: list[Path]) -> str:
    """A table for every notebook that has parameters: name, type, default, and what its cell says.

    Papermill reads the cell, as `papermill --help-notebook` does; a default is what the whole cell
    makes of it, which may take two lines.
    """
    parts = []
    for source in sources:
        notebook = nbformat.read(source, as_version=4)
        tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
        if not tagged:
            continue
        values: dict[str, object] = {}
        exec(tagged[0].source, values)
        title = notebook.cells[0].source.splitlines()[0].lstrip("# ")
        parts += [f"## {title}", "", f"[`book/{source.name}`]({source.name})", ""]
        parts += ["| parameter | type | default | |", "| --- | --- | --- | --- |"]
        for name, known in inspect_notebook(str(source)).items():
            value, said = values[name], known["help"].replace("|", "\\|")
            default = repr(value).replace("|", "\\|")
            parts += [f"| `{name}` | {type(value).__name__} | `{default}` | {said} |"]
        parts += [""]
    return "\n".join(parts)


def strict(fast: bool) -> None:
    """Claims are of the chapters as they are; a short form of one need not bear them out."""
    os.environ["MADCLUSTER_CLAIMS"] = "" if fast else "strict"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--fast", action="store_true", help="run notebooks with FAST=True")
    parser.add_argument("--only", nargs="*", default=[""], help="notebooks whose names start so")
    parser.add_argument("--all", action="store_true", help="keep nothing that was executed before")
    arguments = parser.parse_args()
    stage = safe_stage(arguments.stage)
    sources = sorted({s for name in arguments.only for s in (ROOT / "book").glob(f"{name}*.ipynb")})
    if not sources:
        sys.exit(f"no notebook under book/ begins with {' or '.join(arguments.only)}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MADCLUSTER_PROGRESS", "0")
    strict(arguments.fast)
    prepare(stage)
    parameters: dict[str, object] = {"FAST": True} if arguments.fast else {}
    executions = execute_all(stage, sources, parameters, jobs=arguments.jobs, again=arguments.all)
    (stage / "book" / "execution_times.md").write_text(report(executions, arguments.jobs))
    (stage / "book" / "claims.md").write_text(list_of_claims(executions))
    (stage / "book" / "parameter_tables.md").write_text(parameter_tables(sources))
    failed = [done for done in executions if done.fault]
    for done in failed:
        print(f"\n{done.name}: {done.fault}", file=sys.stderr)
    if failed:
        names = ", ".join(done.name for done in failed)
        sys.exit(f"\n{len(failed)} of {len(executions)} notebooks failed: {names}")


if __name__ == "__main__":
    main()
