"""The pins, the conda file and what is installed say the same."""

import re
from importlib.metadata import requires, version
from pathlib import Path

import pytest

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
    assert "python=3.11" in text
    assert "==" not in text


def test_hooks_use_the_installed_tools():
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    assert "rev:" not in text
    assert text.count("language: system") == text.count("- id:")
