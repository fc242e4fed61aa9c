"""The heads by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from typing import Any

from madcluster.arguments import check_one_of, plain
from madcluster.heads.base import BaseHead
from madcluster.heads.contrastive import ContrastiveHead
from madcluster.heads.flow import FlowHead
from madcluster.heads.head import Head
from madcluster.heads.innovation import InnovationHead

__all__ = ["HEADS", "head_of"]

HEADS: dict[str, type[BaseHead]] = {
    "madcluster": Head,
    "contrastive": ContrastiveHead,
    "innovation": InnovationHead,
    "flow": FlowHead,
}


def head_of(
    name: str, *, n_channels: int, options: Mapping[str, Any] | None = None
) -> Callable[[int], BaseHead]:
    """What makes a head for embeddings of some size, by its name.

    Parameters
    ----------
    name : str
        Of `HEADS`.
    n_channels : int
        c of the windows, for a head that reads their rows.
    options : mapping, optional
        Further arguments of the head.

    Raises
    ------
    ValueError
        For an unknown name, or an option that this head does not have. Values are looked at when the
        head is made.

    Examples
    --------
    >>> head_of("contrastive", n_channels=3, options={"eps": 0.01})(64).eps
    0.01
    """
    check_one_of("head", name, tuple(HEADS))
    kind, options = HEADS[name], dict(plain(options or {}))
    known = set(signature(kind).parameters) - {"d", "n_channels"}
    if unknown := sorted(set(options) - known):
        raise ValueError(f"the head {name!r} has no option {unknown}: choose from {sorted(known)}")
    if kind.reads_rows:
        options["n_channels"] = n_channels
    return partial(kind, **options)
