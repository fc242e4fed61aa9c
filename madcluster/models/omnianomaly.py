"""OmniAnomaly (Su et al., KDD 2019): a variational autoencoder whose latent variables form a chain.

Inference reads the window with a GRU; the latent z_t depends on the features of step t and on z_{t−1}
(*stochastic variable connection*), and passes planar flows, so that its posterior need not be Gaussian.
Generation reads the latents with another GRU and gives every step a Gaussian for its channels. The
prior of the latents is a linear Gaussian state space model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from madcluster.models.base import Embedder, Embedding

__all__ = ["OmniAnomaly", "PlanarFlow", "RandomWalkPrior", "normal_log_density"]

EPSILON = 1e-4  # added to all standard deviations, as in the authors' code


def normal_log_density(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log N(x; mean, std²), each entry by itself."""
    return -0.5 * (((x - mean) / std).square() + math.log(2 * math.pi)) - std.log()


class PlanarFlow(nn.Module):
    """z + û·tanh(w·z + b), invertible (Rezende and Mohamed, ICML 2015, §4.1 and appendix A.1)."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.w, self.u = nn.Parameter(0.1 * torch.randn(d)), nn.Parameter(0.1 * torch.randn(d))
        self.b = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(… d) → (… d), and the logarithm of the determinant of the Jacobian (…)."""
        product = self.w @ self.u
        # w·û > −1 makes the map invertible
        u = self.u + (softplus(product) - 1 - product) * self.w / (self.w @ self.w)
        bent = torch.tanh(z @ self.w + self.b)
        return z + bent[..., None] * u, torch.log1p((1 - bent.square()) * (self.w @ u))


class RandomWalkPrior(nn.Module):
    """Latents seen with unit noise on a walk with unit steps that starts at N(0, 1).

    The state space model with identity matrices of the authors' code. Each dimension of z_1 … z_t is
    then jointly normal with covariance min(i, j) + [i = j], so that no filter has to run.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        steps = torch.arange(1.0, window + 1)
        covariance = torch.minimum(steps[:, None], steps) + torch.eye(window)
        factor = torch.linalg.cholesky(covariance.double())
        whiten = torch.linalg.solve_triangular(factor, torch.eye(window).double(), upper=False)
        self.register_buffer("whiten", whiten.to(steps.dtype), persistent=False)
        self.register_buffer("log_scale", factor.diagonal().log().to(steps.dtype), persistent=False)
        self.whiten: Tensor
        self.log_scale: Tensor

    def log_density(self, z: Tensor) -> Tensor:
        """Of every step given those before it; (b t d) → (b t)."""
        white = self.whiten @ z
        normal = -0.5 * (white.square() + math.log(2 * math.pi)) - self.log_scale[:, None]
        return normal.sum(-1)


class OmniAnomaly(Embedder):
    """Reconstruction probability of a recurrent variational autoencoder.

    Parameters
    ----------
    n_channels, window : int
        c and t of the input.
    d : int
        Units of both GRUs and of the dense layers after them; 500 as published.
    n_latent, n_flows : int
        As published: 3 and 20.

    Notes
    -----
    Loss: the negative evidence lower bound (paper, §3.3) with one sample, as a mean over steps,
    log q(z|x) − log p(z) − log p(x|z). Score of a step: −log p(x_t|z), summed over channels. In eval
    mode z is the flow of the posterior's mean, so that scores repeat; the authors average over samples.

    Embedding: the features of the inference network, of which the posterior's mean and scale are linear
    functions (and of z_{t−1}). With three latents the posterior's mean itself would be a narrow
    embedding.
    """

    def __init__(
        self, n_channels: int, *, window: int, d: int = 500, n_latent: int = 3, n_flows: int = 20
    ) -> None:
        super().__init__()
        if n_latent < 1 or n_flows < 0:
            raise ValueError(
                f"n_latent must be positive and n_flows not negative, got {n_latent} and {n_flows}"
            )
        self.d, self.window, self.n_latent = d, window, n_latent
        self.inference = nn.GRU(n_channels, d, batch_first=True)
        self.features = self._dense(d)
        self.mean, self.scale = (nn.Linear(d + n_latent, n_latent) for _ in range(2))
        self.flows = nn.ModuleList(PlanarFlow(n_latent) for _ in range(n_flows))
        self.prior = RandomWalkPrior(window)
        self.generation = nn.GRU(n_latent, d, batch_first=True)
        self.reading = self._dense(d)
        self.channel_mean, self.channel_scale = (nn.Linear(d, n_channels) for _ in range(2))

    @staticmethod
    def _dense(d: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU())

    def infer(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (b t e) before the flows, drawn one after the other, and their log density (b t)."""
        # what the features add to every step at once; only the part of z_{t−1} needs the loop
        means = h @ self.mean.weight[:, : self.d].T + self.mean.bias  # (b t e)
        scales = h @ self.scale.weight[:, : self.d].T + self.scale.bias
        from_mean, from_scale = (layer.weight[:, self.d :].T for layer in (self.mean, self.scale))
        noise = torch.randn_like(means) if self.training else torch.zeros_like(means)
        z, latents, widths = torch.zeros_like(means[:, 0]), [], []
        for step in range(h.shape[1]):
            std = softplus(scales[:, step] + z @ from_scale) + EPSILON
            z = means[:, step] + z @ from_mean + std * noise[:, step]
            latents.append(z)
            widths.append(std)
        # (z − mean) / std is the noise, so the density needs no loop
        density = normal_log_density(noise, torch.zeros_like(noise), torch.ones_like(noise))
        return torch.stack(latents, 1), (density - torch.stack(widths, 1).log()).sum(-1)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features (b t d), latents after the flows (b t e), and their log density (b t)."""
        if x.shape[1] != self.window:
            raise ValueError(f"expected windows of {self.window} steps, got {x.shape[1]}")
        h = self.features(self.inference(x)[0])
        z, density = self.infer(h)  # (b t e), (b t)
        for flow in cast(Iterable[PlanarFlow], self.flows):
            z, log_determinant = flow(z)
            density = density - log_determinant
        return h, z, density

    def generate(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of every value given the latents; (b t e) → two (b t c)."""
        reading = self.reading(self.generation(z)[0])
        return self.channel_mean(reading), softplus(self.channel_scale(reading)) + EPSILON

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of every value of x; (b t c) → two (b t c)."""
        return self.generate(self.posterior(x)[1])

    def forward(self, x: Tensor) -> Embedding:
        h, z, posterior = self.posterior(x)
        mean, std = self.generate(z)
        likelihood = normal_log_density(x, mean, std).sum(-1)  # (b t)
        divergence = posterior - self.prior.log_density(z)
        parts = {"likelihood": likelihood.mean().detach(), "divergence": divergence.mean().detach()}
        return Embedding(h, (divergence - likelihood).mean(), -likelihood, parts)
