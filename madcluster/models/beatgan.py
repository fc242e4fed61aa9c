"""BeatGAN (Zhou et al., IJCAI 2019): a convolutional autoencoder with a discriminator beside it."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from madcluster.models.base import Embedder, Embedding
from madcluster.models.layers import frozen

__all__ = ["BeatGAN"]


def halvings(window: int, most: int) -> list[int]:
    """Lengths from the window down, each half of the one before; no more than `most`, none below 2."""
    lengths = [window]
    while len(lengths) <= most and lengths[-1] >= 4:
        lengths.append(lengths[-1] // 2)
    return lengths


def _down(n_channels: int, width: int, n_layers: int) -> nn.Sequential:
    """Strided convolutions of width 4 that halve the length and double the maps."""
    layers: list[nn.Module] = []
    for i in range(n_layers):
        maps = n_channels if i == 0 else width * 2 ** (i - 1)
        layers.append(nn.Conv1d(maps, width * 2**i, 4, 2, 1, bias=False))
        layers += ([nn.BatchNorm1d(width * 2**i)] if i else []) + [nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)


class BeatGAN(Embedder):
    """Reconstruction by an autoencoder whose output a discriminator shall not tell from data.

    Parameters
    ----------
    n_channels, window : int
        c and t of the input; at least four steps.
    d : int
        Maps of the first convolution; 32 as published, doubled by every layer that follows.
    n_latent : int
        Size of the latent vector of a window; 50 as published.
    n_layers : int
        Convolutions that halve the length; 5 as published, fewer where less than two steps would be
        left.
    weight : float
        λ of the feature matching; 1 in the authors' code for ECG.

    Notes
    -----
    The generator G minimizes ‖x − G(x)‖² + λ·‖f(x) − f(G(x))‖², with f the features of the
    discriminator D before its last layer, and D minimizes −log D(x) − log(1 − D(G(x))) (paper, §3.2,
    *pairwise feature matching*). Squares are means. The authors' code takes one step of each in turn;
    here both are one step on the sum, with D frozen in the loss of G and G(x) detached in the loss of
    D. In eval mode the loss is the squared error alone: what is matched are features of a discriminator
    that changes with every epoch, so that two epochs could not be compared.

    Score of a step (paper, §3.4): the squared error, as a mean over channels.

    The decoder ends linearly, not in a tanh, so that input need not lie in [−1, 1].

    Embedding: the maps that the last layer of the decoder reads. They have half the length of the
    window; a step of its output depends on the two that are nearest, and the embedding interpolates
    linearly between the same two. The latent vector itself is one for all steps of a window.
    """

    def __init__(
        self,
        n_channels: int,
        *,
        window: int,
        d: int = 32,
        n_latent: int = 50,
        n_layers: int = 5,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        if window < 4:
            raise ValueError(f"window must have at least 4 steps, got {window}")
        if n_layers < 1 or n_latent < 1:
            raise ValueError(
                f"n_layers and n_latent must be positive, got {n_layers} and {n_latent}"
            )
        self.d, self.window, self.weight = d, window, weight
        lengths = halvings(window, n_layers)
        depth, last = len(lengths) - 1, lengths[-1]
        widest = d * 2 ** (depth - 1)
        self.encoder = nn.Sequential(
            _down(n_channels, d, depth), nn.Conv1d(widest, n_latent, last, bias=False)
        )
        up: list[nn.Module] = [
            nn.ConvTranspose1d(n_latent, widest, last, bias=False),
            nn.BatchNorm1d(widest),
            nn.ReLU(),
        ]
        for i in range(depth - 1, 0, -1):
            maps = d * 2 ** (i - 1)
            odd = lengths[i] % 2
            up += [
                nn.ConvTranspose1d(2 * maps, maps, 4, 2, 1, output_padding=odd, bias=False),
                nn.BatchNorm1d(maps),
                nn.ReLU(),
            ]
        self.decoder = nn.Sequential(*up)
        self.last = nn.ConvTranspose1d(
            d, n_channels, 4, 2, 1, output_padding=window % 2, bias=False
        )
        self.features = _down(n_channels, d, depth)
        self.judge = nn.Conv1d(widest, 1, last, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                nn.init.xavier_normal_(module.weight)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Output of the generator; (b t c) → (b t c)."""
        real = rearrange(x, "b t c -> b c t")
        return rearrange(self.last(self.decoder(self.encoder(real))), "b c t -> b t c")

    def forward(self, x: Tensor) -> Embedding:
        if x.shape[1] != self.window:
            raise ValueError(f"expected windows of {self.window} steps, got {x.shape[1]}")
        real = rearrange(x, "b t c -> b c t")
        maps = self.decoder(self.encoder(real))  # (b d t/2)
        fake = self.last(maps)  # (b c t)
        error = (fake - real).square().mean(1)  # (b t)
        loss = error.mean()
        parts = {"reconstruction": loss.detach()}
        if self.training:
            of_real = self.features(real)
            matching = (frozen(self.features, fake) - of_real.detach()).square().mean()
            parts["matching"] = matching.detach()
            logits = (self.judge(of_real), self.judge(self.features(fake.detach())))
            discrimination = sum(
                binary_cross_entropy_with_logits(logit, torch.full_like(logit, label))
                for logit, label in zip(logits, (1, 0), strict=True)
            )
            loss = loss + self.weight * matching + discrimination
        h = rearrange(interpolate(maps, self.window, mode="linear"), "b d t -> b t d")
        return Embedding(h, loss, error, parts)
