"""Memory grows with the rows and not faster: peaks of processes of their own."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of a process is asked of Linux"
)


@pytest.fixture(scope="module")
def case():
    spec = importlib.util.spec_from_file_location("memory", ROOT / "benchmarks" / "memory.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.case


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("mahalanobis", "fit"),
        ("mahalanobis", "occlusion"),
        ("madcluster", "fit"),
        ("madcluster", "score"),
        ("madcluster", "gradient"),
    ],
)
def test_four_times_the_rows_take_no_more_than_four_times_the_memory(case, name, what):
    small, large = case(name, what, 10_000), case(name, what, 40_000)
    assert large > 1, "MiB: the rows are seen"
    assert large < 4 * small + 20, f"MiB: {small} and {large}"
