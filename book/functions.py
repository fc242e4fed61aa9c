"""Functions to copy, each with all that it needs: what fills the page book/functions.md.

The page says of each what it is, and a comment names it, its test and its row in the table
`book/results/functions.csv`:

    <!-- copy: madcluster.loss.log_mean; test: tests/test_loss.py::test_name; speed: log_mean -->

On the stage (`book/execute.py`) the source, as it is in the package, takes the place of the comment,
below the functions of the package that it calls and the constants and imports that they use.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import sys
import textwrap
from pathlib import Path

import pandas as pd

from madcluster.study.results import read_result

ROOT = Path(__file__).resolve().parents[1]
PLACE = re.compile(r"<!-- copy: ([\w., ]+); test: ([\w/.]+)::(\w+); speed: (\w+) -->")


def source_of(thing: object) -> str:
    """Its lines in the package, at the margin."""
    return textwrap.dedent(inspect.getsource(thing)).rstrip()  # type: ignore[arg-type]


class Parts:
    """What a block of code is made of, found from the functions that it is for.

    imports : lines
    constants : lines, by their names
    definitions : sources, by the names of functions and classes, each below those that it calls
    """

    def __init__(self, *things: object) -> None:
        self.imports: set[str] = set()
        self.constants: dict[str, str] = {}
        self.definitions: dict[str, str] = {}
        for thing in things:
            self._add(thing)

    def _add(self, thing: object) -> None:
        name = thing.__name__  # type: ignore[attr-defined]
        if name in self.definitions:
            return
        source, module = source_of(thing), sys.modules[thing.__module__]
        self.definitions[name] = source  # against circles
        used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    local = alias.asname or alias.name
                    if local in used:
                        self._bring(node, alias, getattr(module, local, None))
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                if node.targets[0].id in used:
                    self.constants[node.targets[0].id] = ast.unparse(node)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in used - {name}:
                self._add(getattr(module, node.name))
        del self.definitions[name]
        self.definitions[name] = source  # below what it calls

    def _bring(self, node: ast.Import | ast.ImportFrom, alias: ast.alias, thing: object) -> None:
        """An import; what is imported from the package itself is copied."""
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("madcluster"):
            if inspect.isfunction(thing) or inspect.isclass(thing):
                self._add(thing)
            else:
                self._constant(str(node.module), alias)
            return
        one = ast.Import([alias])
        if isinstance(node, ast.ImportFrom):
            one = ast.ImportFrom(node.module, [alias], 0)  # type: ignore[assignment]
        self.imports.add(ast.unparse(one))

    def _constant(self, module: str, alias: ast.alias) -> None:
        """A constant of another module of the package, by the name that it has here.

        Raises
        ------
        ValueError
            If that module does not say in one line what it is.
        """
        for node in ast.parse(inspect.getsource(sys.modules[module])).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == alias.name:
                name = alias.asname or alias.name
                self.constants[name] = f"{name} = {ast.unparse(node.value)}"
                return
        raise ValueError(f"{module} has no constant {alias.name}")

    def block(self) -> str:
        """All of it as one file."""
        plain = sorted(line for line in self.imports if line.startswith("import"))
        parts = ["from __future__ import annotations", "\n".join([*plain, *self._grouped()])]
        parts += ["\n".join(self.constants.values())] if self.constants else []
        return "\n\n".join(parts) + "\n\n\n" + "\n\n\n".join(self.definitions.values()) + "\n"

    def _grouped(self) -> list[str]:
        """One line for all that comes from one module."""
        together: dict[str, list[str]] = {}
        for line in sorted(self.imports):
            if match := re.match(r"from (\S+) import (.*)", line):
                together.setdefault(match[1], []).append(match[2])
        return [f"from {module} import {', '.join(names)}" for module, names in together.items()]


def block(names: list[str]) -> str:
    """Code that runs by itself, for functions of the package; a method is given alone.

    Raises
    ------
    ValueError
        If a name is not one of the package.
    """
    things = []
    for name in names:
        try:
            things.append(pkgutil.resolve_name(name))
        except (ImportError, AttributeError):
            raise ValueError(f"{name} is not in the package") from None
    if len(things) == 1 and "." in things[0].__qualname__:
        return source_of(things[0]) + "\n"
    return Parts(*things).block()


def filled(match: re.Match[str], times: pd.DataFrame) -> str:
    """What stands in the place of a comment: the code, its test, its time.

    Raises
    ------
    ValueError
        If the function, its test or its time is not there.
    """
    names, file, test, row = match.groups()
    path = ROOT / file
    if not path.exists() or f"def {test}(" not in path.read_text():
        raise ValueError(f"{file} has no {test}")
    if row not in times.index:
        raise ValueError(f"the table of times has no {row}: python benchmarks/functions_speed.py")
    code = block(names.split(", "))
    time = times.loc[row]
    return (
        f"Test: `{file}::{test}`. Time: {time['ms']:.3g} ms for {time['input']}.\n\n"
        f"````{{code-block}} python\n{code}````"
    )


def fill(page: Path) -> None:
    """Put the source in the place of every comment of a page."""
    times = read_result("functions").set_index("function")
    text = PLACE.sub(lambda match: filled(match, times), page.read_text())
    if "<!-- copy:" in text:
        at = text.index("<!-- copy:")
        raise ValueError(f"{page.name}: not as it should be: {text[at : at + 80]}")
    page.write_text(text)
