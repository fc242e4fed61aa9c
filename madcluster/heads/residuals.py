"""Residuals in units of their own covariance: what the heads with a density share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from madcluster.heads.base import moments

__all__ = ["Residuals", "inverse_root"]

LEAST = 1e-6  # of a variance that was 1 at the start


def inverse_root(covariance: Tensor, eps: float) -> Tensor:
    """F, lower triangular, with FᵀF = Σ_ε⁻¹ and Σ_ε = Σ + ε (tr Σ / d) I; (d d) → (d d).

    The shrinkage keeps a direction in which nothing varies from deciding alone. Row i of F reads the
    first i entries of a vector, for it is the inverse of a Cholesky factor.

    Parameters
    ----------
    covariance : (d d)
        Σ, in float64. Without any variance at all, Σ_ε is ε I.
    eps : float
        ε.
    """
    eye = torch.eye(len(covariance)).to(covariance)
    mean = covariance.diagonal().mean()
    factor = torch.linalg.cholesky(covariance + eps * torch.where(mean > 0, mean, 1.0) * eye)
    return torch.linalg.solve_triangular(factor, eye, upper=False)


class Residuals(nn.Module):
    """z = S^(−1/2) (u − m) for rows u (… c) that were white before anything was learned.

    What is learned makes residuals smaller, in some directions more than in others, and the density
    must follow. So their mean and covariance are taken anew from the training rows before every epoch
    and after the last. With mean m₀ and covariance S₀ at the start, m = mean − m₀ and S = cov + I − S₀.
    Hence m = 0 and S = I exactly at the start and for as long as nothing has been learned, and I − S₀,
    what the shrinkage had added, stays. But for that addition this is the minimum of the negative log
    likelihood over m and S for fixed residuals; the optimizer lowers it for fixed m and S. No
    eigenvalue of S falls below 1e-6.

    Parameters
    ----------
    c : int
        Size of a row.
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(c))
        self.register_buffer("root", torch.eye(c))  # S^(−1/2)
        self.register_buffer("log_det", torch.zeros(()))  # of S
        # needed while training alone: checkpoints hold what scoring needs
        self.register_buffer("first_mean", torch.zeros(c, dtype=torch.float64), persistent=False)
        self.register_buffer("first", torch.eye(c, dtype=torch.float64), persistent=False)
        self.mean: Tensor
        self.root: Tensor
        self.log_det: Tensor
        self.first_mean: Tensor
        self.first: Tensor

    def forward(self, u: Tensor) -> Tensor:
        """(… c) → (… c)."""
        z: Tensor = (u - self.mean) @ self.root
        return z

    def energy(self, z: Tensor) -> Tensor:
        """½ mean ‖z‖² + ½ log det S of rows (… c): their negative log likelihood but for constants."""
        return (z.square().sum(-1).mean() + self.log_det) / 2

    @torch.no_grad()
    def refit(self, rows: Callable[[], Iterable[Tensor]], *, first: bool = False) -> None:
        """Take m and S from rows u.

        Parameters
        ----------
        rows : function
            Goes through all of them, (n c) each; it is called twice.
        first : bool
            They are those of the start.
        """
        mean, covariance = moments(lambda: (u.double() for u in rows()))
        if first:
            self.first_mean, self.first = mean, covariance
        eye = torch.eye(len(mean)).to(covariance)
        values, vectors = torch.linalg.eigh(eye + (covariance - self.first.to(covariance)))
        values = values.clamp_min(LEAST)
        self.mean.copy_(mean - self.first_mean.to(mean))
        self.root.copy_(vectors / values.sqrt() @ vectors.mT)
        self.log_det.copy_(values.log().sum())
