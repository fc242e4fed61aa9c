"""What an import of the package brings along."""

import subprocess
import sys

import pytest

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
        "from madcluster.baselines import PCAError",
        "import madcluster.claims",
    ],
)
def test_metrics_and_data_do_without_torch(statement):
    assert "torch" not in loaded_by(statement)


def test_the_detector_brings_it():
    assert "torch" in loaded_by("from madcluster import MADCluster")


def test_names_are_those_of_their_homes():
    from madcluster.detector import MADCluster

    assert madcluster.MADCluster is MADCluster
    assert set(madcluster.__all__) <= set(dir(madcluster))


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'madclaster'"):
        madcluster.madclaster  # noqa: B018
