"""Memory grows with the rows and not faster: peaks of processes of their own."""

from pathlib import Path

import pytest
from scripts import script

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of a process is asked of Linux"
)


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
def test_four_times_the_rows_take_no_more_than_four_times_the_memory(name, what):
    small, large = (script("memory").case(name, what, rows) for rows in (10_000, 40_000))
    assert large > 1, "MiB: the rows are seen"
    # what allocators keep differs by some 20 MiB from one process to the next; one layer of a network
    # for all windows of the larger case at once would be 98 MiB
    assert large < 4 * small + 40, f"MiB: {small} and {large}"
