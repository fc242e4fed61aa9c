"""DeepAnT (Munir et al., IEEE Access 2019): a small convolutional network foretells the next row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import relu

from madcluster.models.base import Embedder, Embedding

__all__ = ["DeepAnT"]

LEAST = 10  # rows that both convolutions and poolings see together


def _pool(maps: Tensor, step: int) -> Tensor:
    """The greater of every map and itself `step` rows before; (b d t) → (b d t − step)."""
    return torch.maximum(maps[..., step:], maps[..., :-step])


class DeepAnT(Embedder):
    """A forecast of every row from the rows before it; what it misses by is the score.

    Parameters
    ----------
    n_channels, window : int
        c and t of the input; at least two steps.
    d : int
        Units of the dense layer, 40 in TSB-AD; the embedding.
    width : int
        Kernels of each convolution; 32 as published.
    history : int
        The receptive field: h_t sees rows t − history + 1 … t, and the forecast of a row is made from
        `history` rows before it. Both convolutions and poolings see 10 together, every further unit in
        time of the dense layer adds 4, so it is one of 10, 14, 18, …; 46 is the most that fits into
        the 50 of TSB-AD.

    Notes
    -----
    The network of the paper: a convolution (of width 3, as in TSB-AD), ReLU, the maximum of two
    neighbors, the same again, and a dense layer on what is left of the history. There the poolings
    halve the length, and the network runs anew for each window. Here nothing is halved; the second
    convolution and its pooling look 2 rows apart and the dense layer looks 4 apart, which gives the
    same numbers for all steps in one pass. Rows before a window are copies of its first row: as far as
    the network knows, nothing had changed.

    Loss: the mean squared error of the forecasts. Score of a step: the squared error of the forecast
    that was made from h_{t−1}, as a mean over channels. The first step has no row before it: it takes
    the score of the second, and no part in the loss. A learned constant in place of a forecast would
    miss by the spread of the series, which is no error of forecasting, and where windows are averaged
    it would show as a comb, with the stride as its period.

    Biases and ReLUs make a constant embedding easy to learn, which is what the head asks for; against
    it stands the loss of the forecasts alone, which is added to that of the head.

    Other than in the paper: the dense layer ends in a ReLU and a linear layer follows, as in TSB-AD's
    ``CNN``, so that there is an embedding to put a head on; the paper goes to the forecast at once. The
    loss is squared, as in TSB-AD, and not absolute, and the score is not the root of a sum but a mean
    of squares, which ranks the steps alike. One step is foretold, all channels at once. TSB-AD's
    averages of the maps over the history, its dropout of 0.25, and its reading of (t c) as (c t)
    without a transposition are left out.
    """

    def __init__(
        self, n_channels: int, *, window: int, d: int = 40, width: int = 32, history: int = 46
    ) -> None:
        super().__init__()
        if window < 2:
            raise ValueError(f"window must have at least 2 steps, got {window}")
        if width < 1:
            raise ValueError(f"width must be positive, got {width}")
        if history < LEAST or (history - LEAST) % 4:
            raise ValueError(f"history must be one of 10, 14, 18, …, got {history}")
        self.d, self.window, self.history = d, window, history
        self.first = nn.Conv1d(n_channels, width, 3)
        self.second = nn.Conv1d(width, width, 3, dilation=2)
        self.dense = nn.Conv1d(width, d, (history - LEAST) // 4 + 1, dilation=4)
        self.predict = nn.Linear(d, n_channels)

    def embed(self, x: Tensor) -> Tensor:
        """Of every row with a whole history; (b m c) → (b m − history + 1 d)."""
        maps = _pool(relu(self.first(rearrange(x, "b m c -> b c m"))), 1)
        maps = _pool(relu(self.second(maps)), 2)
        return rearrange(relu(self.dense(maps)), "b d t -> b t d")

    def padded(self, x: Tensor) -> Tensor:
        """A window after history − 1 copies of its first row."""
        return torch.cat([x[:, :1].expand(-1, self.history - 1, -1), x], 1)

    def forecast(self, x: Tensor) -> Tensor:
        """Rows 1, 2, … of every window, each from those before it; (b t c) → (b t − 1 c)."""
        return self.predict(self.embed(self.padded(x[:, :-1])))

    def forward(self, x: Tensor) -> Embedding:
        if x.shape[1] != self.window:
            raise ValueError(f"expected windows of {self.window} steps, got {x.shape[1]}")
        h = self.embed(self.padded(x))
        error = (self.predict(h[:, :-1]) - x[:, 1:]).square().mean(-1)  # (b t−1)
        loss = error.mean()
        score = torch.cat([error[:, :1], error], 1)
        return Embedding(h, loss, score, {"forecast": loss.detach()})

    def last_steps(self) -> Callable[[Tensor], Embedding] | None:
        """See `Embedder.last_steps`. None where a window does not hold a history and the next row."""
        if self.window <= self.history:
            return None

        def last(x: Tensor) -> Embedding:
            h = self.embed(x[None])  # (1 n+1 d)
            error = (self.predict(h[:, :-1]) - x[None, self.history :]).square().mean(-1)
            return Embedding(h[:, 1:], score=error)

        return last
