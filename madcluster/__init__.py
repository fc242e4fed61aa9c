"""Deep one-class anomaly detection for multivariate time series."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from madcluster.data import from_csv, load, synthetic
    from madcluster.detectors.madcluster import MADCluster
    from madcluster.metrics import evaluate

__all__ = ["MADCluster", "__version__", "evaluate", "from_csv", "load", "synthetic"]
__version__ = version("madcluster")

# looked up on first use, so that `import madcluster.metrics` does without torch
_HOMES = {
    "MADCluster": "madcluster.detectors.madcluster",
    "evaluate": "madcluster.metrics",
    "from_csv": "madcluster.data",
    "load": "madcluster.data",
    "synthetic": "madcluster.data",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
