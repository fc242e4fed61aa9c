"""Do the tests notice a change? Mutants of the method and of the metrics: make mutants

Every mutant is one small change of one module: an operator, a comparison, a number, a condition, a
loop, a decorator (all by cosmic-ray), and by `calls` below a keyword argument left out, a call replaced
by what it was given, a statement left out. It counts as killed if one test of its part fails, or if
they take four times as long as without it. Annotations and the text of errors are not changed.

Nothing is written into the package: each mutant is imported by a process of its own, forked from one
that has torch and the test modules' other imports loaded, so that a mutant costs about as long as the
first test that fails on it. Tests run from the shortest to the longest; those that are long and repeat
what others hold, or that ask a peer for the numbers of a definition that is also written out here, are
left out. Hypothesis draws the same examples every time.

What was judged is kept in _runs/mutants.jsonl, so that a run that was stopped goes on; after a change
of the tests, `--again` judges anew those that survived. `--show` prints them. Of a part with more
than `--most` mutants a seeded sample is taken, of which a smaller one is the beginning. The mutants in
benchmarks/mutants_equivalent.csv change nothing that a caller could see, and are no part of the score.
Writes book/results/mutants.csv.
"""

from __future__ import annotations

import argparse
import ast
import csv
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, settings

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "_runs" / "mutants.jsonl"
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.csv")
SEED = 0
# where `make mutants` installs cosmic-ray; behind all else, so that it replaces nothing
sys.path.append(str(ROOT / "_build" / "mutants"))

FILES = {
    "loss": ["loss"],
    "head": ["heads.head", "heads.base"],
    "training": ["training"],
    "scoring": ["scoring", "aggregation"],
    "metrics": [f"metrics{n}" for n in ("", "._check", ".affiliation", ".pointwise", ".ranges")],
}
TESTS = {
    "loss": ["tests/test_loss.py", "madcluster/loss.py"],
    "head": ["tests/test_guard.py", "tests/test_models.py", "tests/test_training.py"],
    "training": ["tests/test_training.py", "tests/test_diagnostics.py"],
    "scoring": [f"tests/test_{n}.py" for n in ("scoring", "aggregation", "training")],
    "metrics": [*(f"tests/test_metrics_{n}.py" for n in ("oracles", "pointwise", "pitfalls"))],
}
TESTS["metrics"].append("madcluster/metrics")
LAST = ("one_pass_over_last_steps_is_window_by_window", "more_clusters_look_at_the_whole_window")
TESTS["head"] += [f"tests/test_streaming.py::test_{name}" for name in LAST]
LEFT_OUT = (
    *("10_000_steps", "dcdetector", "discrepancies", "mask_of_a_dropout"),
    *("equals_vus", "the_oracle_itself", "a_net_that_collapses"),
)

BINARY = {"Add": "Sub", "Sub": "Add", "Mul": "Div", "Div": "Mul", "FloorDiv": "Div", "Mod": "Mul"}
BINARY |= {"Pow": "Mul", "BitAnd": "BitOr", "BitOr": "BitAnd"}
COMPARISON = {"Eq": ["NotEq"], "NotEq": ["Eq"], "Is": ["IsNot"], "IsNot": ["Is"]}
COMPARISON |= {"Lt": ["LtE", "GtE"], "LtE": ["Lt", "Gt"], "Gt": ["GtE", "LtE"], "GtE": ["Gt", "Lt"]}
OPERATORS = [
    *(f"ReplaceBinaryOperator_{a}_{b}" for a, b in BINARY.items()),
    *(f"ReplaceComparisonOperator_{a}_{b}" for a, several in COMPARISON.items() for b in several),
    *(f"ReplaceUnaryOperator_Delete_{name}" for name in ("USub", "Invert", "Not")),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue"),
    *("ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop"),
    *("NumberReplacer", "RemoveDecorator", "ExceptionReplacer"),
]
# without what costs more than the tests: other plugins, rewritten asserts, a collection of garbage
OPTIONS = ["-x", "--tb=no", "--assert=plain", "-p", "_hypothesis_pytestplugin"]
OPTIONS += [f"-pno:{name}" for name in ("cacheprovider", "unraisableexception", "threadexception")]

Place = tuple[int, int]  # line from 1, column from 0


class Mutant(NamedTuple):
    module: str
    operator: str
    line: int
    before: str  # the changed line or call
    after: str
    source: str

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.module}\n{self.source}".encode()).hexdigest()[:16]


Site = tuple[Place, Callable[[], Mutant]]


# --- what is changed ------------------------------------------------------------------------------


def calls(source: str) -> Iterator[tuple[str, ast.AST, ast.AST | None]]:
    """(operator, node, what takes its place; None for nothing)."""
    tree = ast.parse(source)
    modules = {a.asname or a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for i in range(len(node.keywords)):
                fewer = node.keywords[:i] + node.keywords[i + 1 :]
                yield "KeywordLeftOut", node, ast.Call(node.func, node.args, fewer)
            root = node.func
            while isinstance(root, ast.Attribute | ast.Call):
                root = root.func if isinstance(root, ast.Call) else root.value
            function = isinstance(root, ast.Name) and root.id in modules | {"self", "loss"}
            if isinstance(node.func, ast.Attribute) and not function:
                yield "CallToItsObject", node, node.func.value
            elif node.args and not isinstance(node.args[0], ast.Starred):
                yield "CallToItsArgument", node, node.args[0]
        elif (
            (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
            or isinstance(node, ast.AugAssign)
            or (isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name))
        ):
            yield "StatementLeftOut", node, None


def by_calls(module: str, source: str) -> Iterator[Site]:
    lines = source.encode().splitlines(keepends=True)
    starts = [sum(map(len, lines[:i])) for i in range(len(lines))]
    for operator, node, new in calls(source):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        text = "pass" if new is None else f"({ast.unparse(new)})"
        mutated = (source.encode()[:begin] + text.encode() + source.encode()[end:]).decode()
        place = node.lineno, len(lines[node.lineno - 1][: node.col_offset].decode())
        after = text if new is None else text[1:-1]
        mutant = Mutant(module, operator, node.lineno, ast.unparse(node), after, mutated)
        yield place, lambda mutant=mutant: mutant


def by_cosmic_ray(module: str, source: str) -> Iterator[Site]:
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    def mutant(name: str, occurrence: int, line: int) -> Mutant:
        mutated = mutate_code(source, get_operator(f"core/{name}")(), occurrence)
        pair = source.splitlines(), mutated.splitlines()
        line = next((i for i, (a, b) in enumerate(zip(*pair, strict=False)) if a != b), line - 1)
        texts = (" ".join(lines[line].split()) for lines in pair)
        return Mutant(module, name, line + 1, *texts, mutated)

    nodes = list(ast_nodes(get_ast(source)))
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        places = [at for node in nodes for at, _ in operator.mutation_positions(node)]
        for occurrence, place in enumerate(places):
            yield place, partial(mutant, name, occurrence, place[0])


def left_alone(source: str) -> list[tuple[Place, Place]]:
    """Annotations, and what is raised or warned."""
    found = []
    for node in ast.walk(ast.parse(source)):
        parts = [getattr(node, name, None) for name in ("annotation", "returns")]
        if isinstance(node, ast.Raise):
            parts.append(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
            parts += node.args + node.keywords
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
            parts.append(node.value if ast.unparse(node.value).startswith("Literal") else None)
        lines = source.splitlines()
        for part in parts:
            if part is not None:
                a = len(lines[part.lineno - 1].encode()[: part.col_offset].decode())
                b = len(lines[part.end_lineno - 1].encode()[: part.end_col_offset].decode())
                found.append(((part.lineno, a), (part.end_lineno, b)))
    return found


def sites(module: str) -> list[Callable[[], Mutant]]:
    source = path_of(module).read_text()
    kept = left_alone(source)
    found = [*by_cosmic_ray(module, source), *by_calls(module, source)]
    return [build for place, build in found if not any(a <= place < b for a, b in kept)]


def path_of(module: str) -> Path:
    path = ROOT / "madcluster" / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


# --- one run of the tests, in a process of its own ------------------------------------------------


class Swap(importlib.abc.MetaPathFinder):
    """Import one module from another source than its file's."""

    def __init__(self, module: str, source: str) -> None:
        self.name, self.path, self.source = f"madcluster.{module}", path_of(module), source

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        finder, path = self, str(self.path)

        class Loader(importlib.machinery.SourceFileLoader):
            def get_code(self, _: str) -> object:
                return compile(finder.source, path, "exec")

        return importlib.util.spec_from_file_location(
            name, path, loader=Loader(name, path),
            submodule_search_locations=[str(self.path.parent)] * (self.path.stem == "__init__") or None,
        )  # fmt: skip


class Plugin:
    """Same examples every time; short tests first; who failed, and how long all took."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds, self.before, self.failed = {}, seconds, ""

    def pytest_sessionstart(self) -> None:
        settings.register_profile(
            "mutants",
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if not any(name in item.nodeid for name in LEFT_OUT)]
        items.sort(key=lambda item: self.before.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed = f"import of {report.nodeid}"


def forked(work: Callable[[], dict], *, timeout: float) -> dict | None:
    """What `work` returns in a process of its own; None if it takes too long."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_DATA, (8 * 2**30,) * 2)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        try:
            os.write(write, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    until = time.monotonic() + timeout
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
        time.sleep(0.02)
    with os.fdopen(read) as stream:
        return json.loads(stream.read() or "null") if time.monotonic() <= until else None


def tested(part: str, mutant: Mutant | None, seconds: dict[str, float]) -> Callable[[], dict]:
    def work() -> dict:
        if mutant is not None:
            sys.meta_path.insert(0, Swap(mutant.module, mutant.source))
        plugin = Plugin(seconds)
        code = pytest.main([*OPTIONS, *TESTS[part]], plugins=[plugin])
        return {"code": int(code), "failed": plugin.failed, "seconds": plugin.seconds}

    return work


def preload(parts: list[str]) -> None:
    """Import what the tests import, and forget the package and the tests."""
    for file in sorted({name for part in parts for name in TESTS[part]}):
        if file.startswith("tests/"):
            importlib.import_module(Path(file.split("::")[0]).stem)
    for name in list(sys.modules):
        local = name.split(".")[0]
        if local in {"madcluster", "oracles", "small"} or local.startswith("test_"):
            del sys.modules[name]


# --- all of them ----------------------------------------------------------------------------------


def chosen(part: str, most: int) -> tuple[list[Mutant], int]:
    """A sample, of which a smaller one is the beginning, and how many there are."""
    every = [site for module in FILES[part] for site in sites(module)]
    order = random.Random(SEED).sample(every, len(every))
    several = {mutant.key: mutant for mutant in (build() for build in order[:most])}
    return sorted(several.values(), key=lambda m: (m.module, m.line)), len(every)


def judge(part: str, todo: list[Mutant], fates: dict[str, dict]) -> None:
    started = time.monotonic()
    before = forked(tested(part, None, {}), timeout=1200)
    if before is None or before["code"]:
        raise SystemExit(f"{part}: the tests fail without a mutant: {before}")
    limit, started = 4 * (time.monotonic() - started) + 10, time.monotonic()
    for i, mutant in enumerate(todo):
        got = forked(tested(part, mutant, before["seconds"]), timeout=limit)
        fate = "timeout" if got is None else "killed" if got["code"] else "survived"
        row = mutant._asdict() | {"key": mutant.key, "fate": fate}
        row |= {"by": got["failed"] if got and got["code"] else ""}
        del row["source"]
        fates[mutant.key] = row
        with KEPT.open("a") as file:
            file.write(json.dumps(row) + "\n")
        left = (time.monotonic() - started) / (i + 1) * (len(todo) - i - 1) / 60
        print(f"{part} {i + 1}/{len(todo)}, {left:.0f} min left: {fate}", flush=True)


def known() -> tuple[dict[str, dict], set[tuple[str, str, str]]]:
    """What was judged before, by key, and what is known to change nothing."""
    fates, equivalent = {}, set()
    if KEPT.exists():
        fates = {row["key"]: row for row in map(json.loads, KEPT.read_text().splitlines())}
    if EQUIVALENT.exists():
        with EQUIVALENT.open() as file:
            equivalent = {(r["module"], r["before"], r["after"]) for r in csv.DictReader(file)}
    return fates, equivalent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(FILES), help=", ".join(FILES))
    parser.add_argument("--most", type=int, default=24, help="mutants of a part")
    parser.add_argument("--again", action="store_true", help="judge anew those that survived")
    parser.add_argument("--show", action="store_true", help="judge none, print those that survived")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "book")]
    sys.path.append(str(ROOT / "_runs" / "tools"))
    KEPT.parent.mkdir(exist_ok=True)
    fates, equivalent = known()
    if not arguments.show:
        preload(arguments.parts)

    rows = []
    for part in arguments.parts:
        several, n = chosen(part, arguments.most)
        same = [m for m in several if (m.module, m.before, m.after) in equivalent]
        several = [m for m in several if m not in same]
        open_ = {None, "survived"} if arguments.again else {None}
        todo = [m for m in several if fates.get(m.key, {}).get("fate") in open_]
        if todo and not arguments.show:
            judge(part, todo, fates)
        several = [m for m in several if m.key in fates]
        fate = [fates[m.key]["fate"] for m in several]
        for m in several:
            if fates[m.key]["fate"] == "survived":
                print(f"{m.module}:{m.line} {m.operator}\n  - {m.before}\n  + {m.after}")
        row = {"module": part, "mutants": len(several) + len(same), "sampled_of": n}
        row |= {name: fate.count(name) for name in ("killed", "timeout", "survived")}
        caught = 1 - row["survived"] / max(len(several), 1)
        rows.append(row | {"equivalent": len(same), "score": round(caught, 3)})
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    if not arguments.show and set(arguments.parts) == set(FILES):
        from madcluster.study.results import provenance, write_result

        origin = provenance(["torch", "numpy", "cosmic_ray", "hypothesis", "pytest"], seed=SEED)
        write_result(table.assign(**origin), "mutants")


if __name__ == "__main__":
    main()
