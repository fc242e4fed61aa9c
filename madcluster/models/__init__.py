"""Base Embedders: networks that make one embedding of every time step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from madcluster.models.anomaly_transformer import AnomalyTransformer
from madcluster.models.base import Embedder, Embedding, PlainEmbedder, as_embedder
from madcluster.models.beatgan import BeatGAN
from madcluster.models.dcdetector import DCdetector
from madcluster.models.deepant import DeepAnT
from madcluster.models.deepsvdd import DeepSVDD
from madcluster.models.drnn import DRNN
from madcluster.models.omnianomaly import OmniAnomaly
from madcluster.models.thoc import THOC
from madcluster.models.usad import USAD

__all__ = [
    "DRNN",
    "EMBEDDERS",
    "ONE_CLASS",
    "THOC",
    "USAD",
    "AnomalyTransformer",
    "BeatGAN",
    "DCdetector",
    "DeepAnT",
    "DeepSVDD",
    "Embedder",
    "Embedding",
    "OmniAnomaly",
    "PlainEmbedder",
    "as_embedder",
]


def _deepsvdd(n_channels: int, *, window: int, **options: Any) -> Embedder:
    return DeepSVDD(n_channels, **options)


# name -> function of n_channels, the keyword window, and options of its own
EMBEDDERS: dict[str, Callable[..., Embedder]] = {
    "deepsvdd": _deepsvdd,
    "usad": USAD,
    "beatgan": BeatGAN,
    "omnianomaly": OmniAnomaly,
    "thoc": THOC,
    "anomaly_transformer": AnomalyTransformer,
    "dcdetector": DCdetector,
    "deepant": DeepAnT,
    "drnn": DRNN,
}
# the own objective is that of Deep SVDD, which the head takes over: they take `objective` and `nu`
ONE_CLASS = ("deepsvdd", "drnn")
