"""Shared fixtures."""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("madcluster", deadline=None)  # shared machines pause at will
settings.load_profile("madcluster")


@pytest.fixture(scope="session")
def data_root():
    """Folder of the real data, or a skip."""
    root = os.environ.get("MADCLUSTER_DATA")
    if not root:
        pytest.skip("set MADCLUSTER_DATA to a folder of the real data: see README.md")
    return Path(root)


def what_was_not_tested(reasons):
    """One line for all skipped tests: how many, and how to have them run; nothing if there are none."""
    counted = Counter(reason.removeprefix("Skipped: ") for reason in reasons)
    parts = [f"{n} ({reason})" for reason, n in counted.most_common()]
    return f"Not tested: {', '.join(parts)}" if parts else ""


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)]
    if line := what_was_not_tested(reasons):
        terminalreporter.write_line(line, yellow=True)
