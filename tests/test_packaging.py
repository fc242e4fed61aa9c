"""What is packed is whole: the source has its tests and what they read, the wheel works elsewhere."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""


def python(*arguments, cwd, path=""):
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    if "tests/test_packaging.py" not in names:
        pytest.skip("test the packing in a checkout")
    return names


@pytest.fixture(scope="module")
def source(tracked, tmp_path_factory):
    """The unpacked source distribution; built from a copy, for a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("source")
    for name in tracked:
        (folder / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "copy" / name).write_bytes((ROOT / name).read_bytes())
    archive = python("-c", BUILD, "build_sdist", folder, cwd=folder / "copy").split()[-1]
    with tarfile.open(folder / archive) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


@pytest.fixture(scope="module")
def installed(source, tmp_path_factory):
    """A folder with what the wheel holds, built from the source distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = python("-c", BUILD, "build_wheel", folder, cwd=source).split()[-1]
    with zipfile.ZipFile(folder / wheel) as packed:
        packed.extractall(folder / "site")
    return folder / "site"


def test_the_source_holds_all_that_is_tracked(source, tracked):
    assert not [name for name in tracked if not (source / name).exists() and name != ".gitignore"]


def test_the_wheel_holds_the_package_and_nothing_else(installed, tracked):
    packed = {path.relative_to(installed) for path in installed.rglob("*") if path.is_file()}
    of_package = {Path(name) for name in tracked if name.startswith("madcluster/")}
    assert {path for path in packed if not path.parts[0].endswith(".dist-info")} == of_package


def test_the_tests_of_the_source_are_found(source, installed):
    listed = python("-m", "pytest", "--co", "-p", "no:cacheprovider", cwd=source, path=installed)
    found = set(re.findall(r"^tests/(\w+\.py)(?:::|: )", listed, re.MULTILINE))
    assert found == {path.name for path in (ROOT / "tests").glob("test_*.py")}


def test_the_example_of_the_readme_runs_far_from_the_source(installed, tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = next(c for c in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "from_csv" in c)
    where = f"import madcluster; assert madcluster.__file__.startswith({str(installed)!r})\n"
    assert "peak" in python("-c", where + code, cwd=tmp_path, path=installed)
