"""Base Embedders and the MADCluster head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from madcluster.models.anomaly_transformer import AnomalyTransformer
from madcluster.models.base import Embedder, Embedding, PlainEmbedder, as_embedder
from madcluster.models.beatgan import BeatGAN
from madcluster.models.contract import ContractError, check_embedder
from madcluster.models.dcdetector import DCdetector
from madcluster.models.deepsvdd import DeepSVDD
from madcluster.models.madcluster import SCORES, Guard, Head, Objective, Score, Terms, WithHead
from madcluster.models.omnianomaly import OmniAnomaly
from madcluster.models.thoc import THOC
from madcluster.models.usad import USAD

__all__ = [
    "EMBEDDERS",
    "SCORES",
    "THOC",
    "USAD",
    "AnomalyTransformer",
    "BeatGAN",
    "ContractError",
    "DCdetector",
    "DeepSVDD",
    "Embedder",
    "Embedding",
    "Guard",
    "Head",
    "Objective",
    "OmniAnomaly",
    "PlainEmbedder",
    "Score",
    "Terms",
    "WithHead",
    "as_embedder",
    "build",
    "check_embedder",
]


def _deepsvdd(n_channels: int, *, window: int, **options: Any) -> Embedder:
    return DeepSVDD(n_channels, **options)


def _without_objective(model: Callable[..., Embedder]) -> Callable[..., Embedder]:
    """For embedders that know neither the objective nor the fraction nu of Deep SVDD."""

    def make(n_channels: int, *, objective: Objective, nu: float, **options: Any) -> Embedder:
        return model(n_channels, **options)

    return make


# name -> function of n_channels and the keywords window, objective, nu and its own options
EMBEDDERS: dict[str, Callable[..., Embedder]] = {
    "deepsvdd": _deepsvdd,
    "usad": _without_objective(USAD),
    "beatgan": _without_objective(BeatGAN),
    "omnianomaly": _without_objective(OmniAnomaly),
    "thoc": _without_objective(THOC),
    "anomaly_transformer": _without_objective(AnomalyTransformer),
    "dcdetector": _without_objective(DCdetector),
}


def build(
    embedder: str | nn.Module,
    *,
    n_channels: int,
    window: int,
    head: bool = True,
    k: int = 1,
    objective: Objective = "one-class",
    nu: float = 0.01,
    threshold: float = 0.5,
    smoothing: float = 0.0,
    terms: Terms = "both",
    outer_log: bool = True,
    guard: Guard = "none",
    score: Score = "head",
    options: dict[str, Any] | None = None,
) -> Embedder:
    """An embedder by name, or a module that returns (b t d), with or without the head on.

    `options` go to the embedder that is named. Without the head, an embedder needs a loss of its own.

    Examples
    --------
    Any network with one embedding per time step will do:

    >>> import torch
    >>> class LSTM(torch.nn.Module):
    ...     def __init__(self, c, d):
    ...         super().__init__()
    ...         self.lstm = torch.nn.LSTM(c, d, batch_first=True)
    ...     def forward(self, x):            # (b t c)
    ...         return self.lstm(x)[0]       # (b t d)
    >>> model = build(LSTM(3, 16), n_channels=3, window=50)
    >>> h, loss, score, parts = model(torch.randn(8, 50, 3))
    >>> tuple(h.shape), tuple(score.shape), sorted(parts)
    ((8, 50, 16), (8, 50), ['cluster', 'distance', 'threshold'])
    """
    if isinstance(embedder, str):
        if embedder not in EMBEDDERS:
            raise ValueError(f"embedder must be one of {sorted(EMBEDDERS)}, got {embedder!r}")
        base = EMBEDDERS[embedder](
            n_channels, window=window, objective=objective, nu=nu, **(options or {})
        )
    else:
        if options:
            raise ValueError("options are for embedders given by name")
        base = as_embedder(embedder, n_channels=n_channels, window=window)
    if not head:
        return base
    top = Head(
        base.d,
        k=k,
        objective=objective,
        nu=nu,
        threshold=threshold,
        smoothing=smoothing,
        terms=terms,
        outer_log=outer_log,
        guard=guard,
    )
    return WithHead(base, top, score=score)
