"""Shared fixtures."""

import os
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
        pytest.skip("set MADCLUSTER_DATA to run tests on real data")
    return Path(root)
