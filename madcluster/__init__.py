"""Deep one-class anomaly detection for multivariate time series."""

from importlib.metadata import version

from madcluster.data import synthetic
from madcluster.detector import MADCluster


__all__ = ["MADCluster", "__version__", "synthetic"]
__version__ = version("madcluster")
