"""Detectors: fit on normal data, score what follows; one interface for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from madcluster.contract import ContractError
from madcluster.detectors.base import CheckpointError, Detector
from madcluster.detectors.choice import Choice, choose, named
from madcluster.detectors.contract import check_detector
from madcluster.detectors.ensemble import Ensemble
from madcluster.detectors.features import RandomFeatures
from madcluster.detectors.floors import (
    ConstantScore,
    L2Norm,
    LargestDeviation,
    MovingVariance,
    RandomScore,
    SquaredDifference,
)
from madcluster.detectors.forest import IsolationForest
from madcluster.detectors.gaussian import Mahalanobis
from madcluster.detectors.linear import LinearAutoregression, PCAError
from madcluster.detectors.neighbors import KMeansAD, NearestNeighbor

if TYPE_CHECKING:
    from madcluster.detectors.madcluster import MADCluster

__all__ = [
    "BASELINES",
    "DETECTORS",
    "CheckpointError",
    "Choice",
    "ConstantScore",
    "ContractError",
    "Detector",
    "Ensemble",
    "IsolationForest",
    "KMeansAD",
    "L2Norm",
    "LargestDeviation",
    "LinearAutoregression",
    "MADCluster",
    "Mahalanobis",
    "MovingVariance",
    "NearestNeighbor",
    "PCAError",
    "RandomFeatures",
    "RandomScore",
    "SquaredDifference",
    "check_detector",
    "choose",
    "named",
]

# with rows in the tables of the book; a deep detector that does not beat these on a series has not
# earned its cost there
BASELINES: dict[str, type[Detector]] = {
    "random": RandomScore,
    "constant": ConstantScore,
    "l2_norm": L2Norm,
    "pca_error": PCAError,
    "mahalanobis": Mahalanobis,
    "nearest_neighbor": NearestNeighbor,
}


class _Detectors(Mapping[str, "type[Detector]"]):
    """By name; torch is imported when the first network is asked for."""

    _here: Mapping[str, type[Detector]] = {
        **BASELINES,
        "largest_deviation": LargestDeviation,
        "squared_difference": SquaredDifference,
        "moving_variance": MovingVariance,
        "linear_autoregression": LinearAutoregression,
        "kmeans": KMeansAD,
        "isolation_forest": IsolationForest,
        "random_features": RandomFeatures,
        "ensemble": Ensemble,
    }

    def __getitem__(self, name: str) -> type[Detector]:
        return self._here[name] if name != "madcluster" else __getattr__("MADCluster")

    def __iter__(self) -> Iterator[str]:
        yield from self._here
        yield "madcluster"

    def __len__(self) -> int:
        return len(self._here) + 1


DETECTORS: Mapping[str, type[Detector]] = _Detectors()


def __getattr__(name: str) -> Any:
    if name == "MADCluster":
        return import_module("madcluster.detectors.madcluster").MADCluster
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
