"""Deep one-class anomaly detection for multivariate time series."""

from importlib.metadata import version

from madcluster.data import from_csv, load, synthetic
from madcluster.detector import MADCluster
from madcluster.metrics import evaluate

__all__ = ["MADCluster", "__version__", "evaluate", "from_csv", "load", "synthetic"]
__version__ = version("madcluster")
