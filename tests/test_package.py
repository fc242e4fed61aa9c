"""What an import of the package brings along."""

import subprocess
import sys
from graphlib import CycleError

import pytest
import rooms

import madcluster


def loaded_by(statement):
    """Modules that are there after a statement in a fresh process."""
    code = f"import sys; {statement}; print(*sys.modules)"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.parametrize(
    "statement",
    [
        "import madcluster",
        "import madcluster.metrics",
        "import madcluster.data",
        "from madcluster import evaluate, synthetic",
        "from madcluster.detectors import PCAError",
        "import madcluster.fleet",
        "from madcluster.images import evaluate, textures",
        "import madcluster.study.claims",
    ],
)
def test_metrics_and_data_do_without_torch(statement):
    assert "torch" not in loaded_by(statement)


def test_the_detector_brings_it():
    assert "torch" in loaded_by("from madcluster import MADCluster")


def test_names_are_those_of_their_homes():
    from madcluster.detectors.madcluster import MADCluster

    assert madcluster.MADCluster is MADCluster
    assert set(madcluster.__all__) <= set(dir(madcluster))


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'madclaster'"):
        madcluster.madclaster  # noqa: B018


def test_no_room_imports_what_lies_above_it():
    uses = rooms.rooms()
    height = {room: i for i, floor in enumerate(rooms.floors(uses)) for room in floor}
    assert all(height[other] < height[room] for room in uses for other in uses[room])
    assert not [room for room, others in uses.items() if "study" in others]
    assert {"data", "models", "heads", "detectors", "service", "study"} <= set(uses)


def test_a_circle_is_found(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("def f():\n    from package.b import g\n")
    (package / "b.py").write_text("import package.a\n")
    uses = rooms.rooms(package)
    assert uses == {"a": {"b"}, "b": {"a"}}
    with pytest.raises(CycleError):
        rooms.floors(uses)


def test_the_page_shows_the_rooms_as_they_are():
    shown = rooms.BLOCK.search(rooms.PAGE.read_text(encoding="utf-8"))
    assert shown is not None
    assert shown[2] == rooms.picture(rooms.rooms()), "run: python book/rooms.py"
