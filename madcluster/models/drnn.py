"""D-RNN: a dilated recurrent network (Chang et al., NeurIPS 2017) with the objective of Deep SVDD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from madcluster.models.deepsvdd import OneClass
from madcluster.models.layers import DilatedStack

__all__ = ["DRNN"]


class DRNN(OneClass):
    """Recurrent layers that skip, trained to end near a center that stays where it began.

    Parameters
    ----------
    n_channels, window : int
        c and t of the input.
    d : int
        Units of every layer; the embedding is the state of the last one.
    dilations : sequence of int
        One layer for each: the state that it goes on from is that many steps old. They begin with 1,
        grow, and are smaller than the window.
    objective, nu
        See `madcluster.models.deepsvdd.OneClass`.

    Raises
    ------
    ValueError
        For dilations that are not possible, or an unknown objective.

    Notes
    -----
    The first version of the MADCluster paper built on this network, as its public reviews describe it;
    they do not give sizes, nor what it was trained on and scored by alone. Here these are the objective
    and the score of Deep SVDD on its last states; the head takes their place. The defaults are those
    of `THOC`, which shares the layers: it is this network with a hierarchy of centers on all of them
    and forecasts, in place of one center on the last.

    In a layer of dilation s the state at t is made from that of the layer below at t, or the row, and
    from its own at t − s, with zeros before the window. Where the smallest dilation is greater than 1 a
    state would not see the row before it, which is what the fusing layer of Chang et al. is for; here
    the first is 1 and there is none. Their cell is one of several, here the GRU. No step looks ahead.

    Biases and bounded units make a constant embedding easy to learn (Ruff et al. 2018, propositions 2
    and 3), and the distance alone asks for one.
    """

    def __init__(
        self,
        n_channels: int,
        *,
        window: int,
        d: int = 128,
        dilations: Sequence[int] = (1, 2, 4),
        objective: Literal["one-class", "soft-boundary"] = "one-class",
        nu: float = 0.01,
    ) -> None:
        super().__init__(d, objective, nu)
        self.layers = DilatedStack(n_channels, d, dilations, window=window)
        if dilations[0] != 1:
            raise ValueError(f"dilations must begin with 1, got {list(dilations)}")

    def embed(self, x: Tensor) -> Tensor:
        return self.layers(x)[-1]
