"""USAD (Audibert et al., KDD 2020): two autoencoders with one encoder, trained against each other."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn

from madcluster.models.base import Embedder, Embedding
from madcluster.models.layers import frozen

__all__ = ["USAD"]


def _layers(sizes: list[int]) -> nn.Sequential:
    """Linear layers through these sizes, with ReLU between them."""
    layers: list[nn.Module] = []
    for i, (size, following) in enumerate(pairwise(sizes)):
        layers += [nn.Linear(size, following)] + ([nn.ReLU()] if i < len(sizes) - 2 else [])
    return nn.Sequential(*layers)


class USAD(Embedder):
    """An autoencoder AE₁ that shall fool a second one, AE₂, which shall tell its output from data.

    Parameters
    ----------
    n_channels, window : int
        c and t of the input. All layers see the whole window at once.
    d : int
        Latent units for each step: the latent vector of a window has t·d.
    width : int, optional
        No hidden layer is wider. The authors' code takes a half and a quarter of the t·c inputs, which
        is hundreds of millions of parameters for wide windows; None does the same.
    alpha, beta : float
        Weights of the two errors in the score, α + β = 1 in the paper.
    bounded : bool
        End both decoders in a sigmoid, as in the authors' code, for input scaled to [0, 1]. Without it
        AE₂ gains without limit by rebuilding AE₁'s output ever worse, and training diverges.

    Notes
    -----
    With n = 1, 2, … the epoch, AE₁ minimizes ‖x − AE₁(x)‖²/n + (1 − 1/n)·‖x − AE₂(AE₁(x))‖², and AE₂
    minimizes ‖x − AE₂(x)‖²/n − (1 − 1/n)·‖x − AE₂(AE₁(x))‖² (paper, algorithm 1). The authors' code
    takes one step of each in turn; here both are one step on their sum, with each side's decoder
    frozen in the other's loss. On the shared encoder the two adversarial terms are then equal and
    opposite: it learns from the two reconstructions alone, ever more slowly as n grows.

    In eval mode the loss is the sum of the two reconstruction errors without the weight 1/n, for
    otherwise validation would improve by the mere count of epochs.

    From n = 3 on the game outweighs the reconstruction, and n counts epochs: what is to be rebuilt has
    to be learned in the steps of the first two. Sigmoids start at 1/2, far from channels that lie at 0
    or 1, so with about ten steps an epoch (five of six channels of MSL that were tried, at stride 10)
    the error stays well above that of a constant row; a stride of 2 brought it to about that.

    Score (algorithm 2): α·‖x − AE₁(x)‖² + β·‖x − AE₂(AE₁(x))‖², here for each step, as a mean
    over channels.

    Embedding: the latent vector, cut into t pieces of d. All layers of the encoder act on it.
    """

    def __init__(
        self,
        n_channels: int,
        *,
        window: int,
        d: int = 16,
        width: int | None = None,
        alpha: float = 0.5,
        beta: float = 0.5,
        bounded: bool = True,
    ) -> None:
        super().__init__()
        if width is not None and width < 1:
            raise ValueError(f"width must be positive, got {width}")
        n_inputs = window * n_channels
        half, quarter = (max(min(n_inputs // part, width or n_inputs), 1) for part in (2, 4))
        sizes = [n_inputs, half, quarter, window * d]
        self.d, self.window, self.alpha, self.beta = d, window, alpha, beta
        self.encoder = nn.Sequential(_layers(sizes), nn.ReLU())
        last = nn.Sigmoid if bounded else nn.Identity
        self.decoder = nn.Sequential(_layers(sizes[::-1]), last())
        self.critic = nn.Sequential(_layers(sizes[::-1]), last())  # the decoder of AE₂
        self.register_buffer("epoch", torch.ones(()))
        self.epoch: Tensor

    def reconstruct(self, x: Tensor) -> Tensor:
        """Output of AE₁; (b t c) → (b t c)."""
        flat = self.decoder(self.encoder(rearrange(x, "b t c -> b (t c)")))
        return rearrange(flat, "b (t c) -> b t c", t=self.window)

    def forward(self, x: Tensor) -> Embedding:
        if x.shape[1] != self.window:
            raise ValueError(f"expected windows of {self.window} steps, got {x.shape[1]}")
        flat = rearrange(x, "b t c -> b (t c)")
        z = self.encoder(flat)
        once = self.decoder(z)
        reconstruction = (once - flat).square().mean() + (self.critic(z) - flat).square().mean()
        if self.training:
            # the encoder's two adversarial gradients cancel: it is frozen in both terms
            for_decoder = frozen(self.critic, frozen(self.encoder, self.decoder(z.detach())))
            for_critic = self.critic(self.encoder(once).detach())
            game = (for_decoder - flat).square().mean() - (for_critic - flat).square().mean()
            loss = reconstruction / self.epoch + (1 - 1 / self.epoch) * game
            twice = for_critic.detach()
        else:
            loss, twice = reconstruction, self.critic(self.encoder(once))
        first, second = (
            rearrange((y - flat).square(), "b (t c) -> b t c", t=self.window).mean(-1)
            for y in (once, twice)
        )
        h = rearrange(z, "b (t d) -> b t d", t=self.window)
        parts = {"reconstruction": reconstruction.detach() / 2}
        return Embedding(h, loss, self.alpha * first + self.beta * second, parts)

    @torch.no_grad()
    def prepare(self, batches: Iterable[Tensor], epoch: int) -> None:
        self.epoch.fill_(epoch + 1)
