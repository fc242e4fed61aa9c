"""The rooms of the package and which imports which, from the code itself: python book/rooms.py

Writes the picture into `book/package.md`. A room is a folder or a module right under `madcluster`; an
arrow that closes a circle is an error. `tests/test_package.py` fails where the page shows another one.
"""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "madcluster"
PAGE = Path(__file__).with_name("package.md")
BLOCK = re.compile(r"(<!-- rooms -->\n```text\n)(.*?)(```)", re.DOTALL)


def rooms(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Room → rooms that its code imports, wherever in a file that is done."""
    found: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        uses = found.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            parts = [name.split(".") for name in names if name.startswith(f"{package.name}.")]
            uses.update(part[1] for part in parts)
    for room, uses in found.items():
        found[room] = (uses & set(found)) - {room}
    return found


def floors(uses: dict[str, set[str]]) -> list[list[str]]:
    """Rooms by height: each imports from the floors below its own only.

    Raises
    ------
    graphlib.CycleError
        If rooms import each other in a circle.
    """
    height: dict[str, int] = {}
    for room in TopologicalSorter(uses).static_order():
        height[room] = 1 + max((height[other] for other in uses[room]), default=-1)
    top = max(height.values())
    return [sorted(r for r, h in height.items() if h == i) for i in range(top + 1)]


def picture(uses: dict[str, set[str]]) -> str:
    """One line for each room, the highest floor first; what is reached through another is left out."""
    lines = []
    for i, floor in reversed(list(enumerate(floors(uses)))):
        for room in floor:
            below = uses[room] - {far for near in uses[room] for far in _reached(near, uses)}
            arrow = f"-> {' '.join(sorted(below))}" if below else ""
            lines.append(f"{i}  {room:<12} {arrow}".rstrip())
    return "\n".join(lines) + "\n"


def _reached(room: str, uses: dict[str, set[str]]) -> set[str]:
    return uses[room].union(*(_reached(other, uses) for other in uses[room]))


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BLOCK.sub(lambda m: m[1] + picture(rooms()) + m[3], text), encoding="utf-8")
    print(picture(rooms()), end="")
