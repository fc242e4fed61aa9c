"""The pins, the conda file and what is installed say the same."""

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from conftest import what_was_not_tested

ROOT = Path(__file__).parents[1]


def pins(name):
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


PINS = pins("requirements.txt") | pins("requirements-no-deps.txt")


@pytest.mark.parametrize("package", PINS)
def test_what_is_installed_is_what_is_pinned(package):
    assert version(package).split("+")[0] == PINS[package]


def test_everything_the_package_needs_is_pinned():
    needed = {re.split(r"[><=!~; ]", line)[0] for line in requires("madcluster")}
    assert needed <= set(PINS)


def test_conda_installs_the_pins():
    text = (ROOT / "environment.yml").read_text()
    assert "-r requirements.txt" in text
    assert "python>=3.11,<3.14" in text
    assert "==" not in text


def python_for(*asked, path=None):
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    return subprocess.run(
        [str(ROOT / ".ci" / "python"), *asked], env=environment, capture_output=True, text=True
    )


def test_make_takes_the_python_that_it_is_told_and_says_which():
    found = python_for(sys.executable)
    assert found.returncode == 0
    assert found.stdout.strip() == sys.executable
    assert found.stderr.startswith(f"Python: Python {platform.python_version()} from ")


@pytest.mark.parametrize(
    ("name", "script", "reason"),
    [
        ("too-old", "echo 'is 3.8' >&2; exit 1", "too-old is 3.8"),
        ("broken", "echo 'pyenv: not found' >&2; exit 127", "broken pyenv: not found"),
        ("missing", None, "missing is not there"),
    ],
)
def test_make_refuses_what_cannot_work_in_one_line_with_the_remedy(name, script, reason, tmp_path):
    if script:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    found = python_for(name, path=f"{tmp_path}:/usr/bin:/bin")
    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr.count("\n") == 1
    assert f"({reason})" in found.stderr
    assert "make PYTHON=" in found.stderr


def test_make_finds_a_python_that_is_not_the_first(tmp_path):
    """A `python3` that is too old, as on an old system, and a newer one beside it."""
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    (tmp_path / "python3.13").symlink_to(sys.executable)
    found = python_for(path=f"{tmp_path}:/usr/bin:/bin")
    assert found.returncode == 0
    assert found.stdout.strip()


def test_what_was_skipped_is_said_in_one_line():
    reasons = ["Skipped: install chromium", "Skipped: install chromium", "Skipped: make book"]
    assert what_was_not_tested(reasons) == "Not tested: 2 (install chromium), 1 (make book)"
    assert what_was_not_tested([]) == ""


def test_hooks_use_the_installed_tools():
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    assert "rev:" not in text
    assert text.count("language: system") == text.count("- id:")
