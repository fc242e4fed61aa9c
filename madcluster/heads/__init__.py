"""Heads: what is put on an embedder, to train it and to score by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from madcluster.arguments import plain
from madcluster.contract import ContractError
from madcluster.heads.base import SCORES, BaseHead, Score, WithHead
from madcluster.heads.contract import check_embedder
from madcluster.heads.contrastive import ContrastiveHead
from madcluster.heads.corruption import CORRUPTIONS
from madcluster.heads.flow import FlowHead
from madcluster.heads.head import Guard, Head, Objective, Terms
from madcluster.heads.innovation import InnovationHead
from madcluster.heads.registry import HEADS, head_of
from madcluster.models import EMBEDDERS, Embedder, as_embedder

__all__ = [
    "CORRUPTIONS",
    "HEADS",
    "SCORES",
    "BaseHead",
    "ContractError",
    "ContrastiveHead",
    "FlowHead",
    "Guard",
    "Head",
    "InnovationHead",
    "Objective",
    "Score",
    "Terms",
    "WithHead",
    "build",
    "check_embedder",
    "head_of",
]


def build(
    embedder: str | nn.Module,
    *,
    n_channels: int,
    window: int,
    head: Callable[[int], BaseHead] | None = Head,
    score: Score = "head",
    options: dict[str, Any] | None = None,
) -> Embedder:
    """An embedder by name, or a module that returns (b t d), with or without a head on.

    Parameters
    ----------
    embedder : str or nn.Module
        A name in `madcluster.models.EMBEDDERS`, or a module (b t c) → (b t d).
    n_channels, window : int
        c and t.
    head : function of d, or None
        Makes a head for embeddings of that size: `Head`, `functools.partial(Head, k=2)`, or what
        `head_of` gives for a name. Without one an embedder needs a loss of its own.
    score : Score
        See `WithHead`.
    options : dict, optional
        Further arguments of the embedder that is named.

    Raises
    ------
    ValueError
        For an unknown name, options of a module, a module that does not return (b t d), or a window
        that is too short for the head.

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
        base = EMBEDDERS[embedder](n_channels, window=window, **plain(options or {}))
    else:
        if options:
            raise ValueError("options are for embedders given by name")
        base = as_embedder(embedder, n_channels=n_channels, window=window)
    if head is None:
        return base
    made = head(base.d)
    made.check_window(window)
    return WithHead(base, made, score=score)
