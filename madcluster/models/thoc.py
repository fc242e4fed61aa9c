"""THOC (Shen et al., NeurIPS 2020): clusters of clusters over features at several time scales.

A dilated recurrent network gives features of every step at every scale. Level by level they are
assigned to centers, softly, by cosine similarity: level 1 takes the finest features, and every level
above takes what the clusters below it make, fused with the features of its own scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import normalize, relu

from madcluster.models.base import Embedder, Embedding
from madcluster.models.layers import DilatedStack

__all__ = ["THOC"]


def length(x: Tensor) -> Tensor:
    """‖x‖, and never 0; (… d) → (… 1). A product is divided by it, which is smaller than x itself."""
    return vector_norm(x, dim=-1, keepdim=True).clamp_min(1e-12)


class THOC(Embedder):
    """Distance to many centers on many scales, with a forecast that keeps the features alive.

    Parameters
    ----------
    n_channels, window : int
        c and t of the input.
    d : int
        Units of every recurrent layer and of every center; 128 gives the size in Table 2 of the
        MADCluster paper.
    dilations : sequence of int
        One layer and one level for each; they grow and are smaller than the window.
    n_clusters : sequence of int
        Centers of each level, the finest first.
    temperature : float
        τ of the assignment.
    orthogonality, forecast : float
        λ of the two additional losses.

    Raises
    ------
    ValueError
        If the two sequences differ in length or hold a number that is not possible.

    Notes
    -----
    Level l, with f̄_i what the i-th cluster below hands up, c_j its centers and f the features of its
    scale (paper, §3.1): assignment P_ij = softmax_j(cos(f̄_i, c_j) / τ), probability of the cluster
    R_j = Σ_i R_i·P_ij, output f̂_j = Σ_i P_ij·relu(W·f̄_i + b), handed up as MLP([f̂_j; f]).

    Loss (§3.2, §3.3): Σ_j R_j·(1 − cos(f̂_j, c_j)) / k at the highest level, plus λ·‖CᵀC − I‖² as a mean
    over levels, plus λ times the error of linear forecasts of x_{t+s} from the features of dilation
    s. The paper takes the first of these at the last step of a window, here all steps count.
    Squared errors are means.

    Score of a step: Σ_j R_j·(1 − cos(f̂_j, c_j)).

    Embedding: Σ_j R_j·f̂_j of the highest level, on which all levels and centers act.
    """

    def __init__(
        self,
        n_channels: int,
        *,
        window: int,
        d: int = 128,
        dilations: Sequence[int] = (1, 2, 4),
        n_clusters: Sequence[int] = (6, 6, 6),
        temperature: float = 1.0,
        orthogonality: float = 1.0,
        forecast: float = 1.0,
    ) -> None:
        super().__init__()
        self.scales = DilatedStack(n_channels, d, dilations, window=window)
        if len(n_clusters) != len(dilations) or any(k < 1 for k in n_clusters):
            raise ValueError(
                f"n_clusters must give one positive number for each of the {len(dilations)} "
                f"dilations, got {list(n_clusters)}"
            )
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.d, self.temperature = d, temperature
        self.orthogonality, self.forecast = orthogonality, forecast
        self.centers = nn.ParameterList(
            nn.Parameter(nn.init.orthogonal_(torch.empty(k, d))) for k in n_clusters
        )
        self.output = nn.ModuleList(nn.Linear(d, d) for _ in dilations)
        # the two halves of the layer over [f̂; f]: the second is the same for all clusters of a step
        self.hand_up = nn.ModuleList(nn.Linear(d, d, bias=False) for _ in dilations[1:])
        self.of_scale = nn.ModuleList(nn.Linear(d, d) for _ in dilations[1:])
        self.predict = nn.ModuleList(nn.Linear(d, n_channels) for _ in dilations)

    def features(self, x: Tensor) -> list[Tensor]:
        """Of every step on every scale, the finest first; each (b t d)."""
        return self.scales(x)

    def cluster(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Probabilities R (b t k) and outputs f̂ (b t k d) of the clusters of the highest level."""
        state = rearrange(features[0], "b t d -> b t 1 d")
        probability = torch.ones_like(state[..., 0])  # (b t 1)
        for level, (center, output) in enumerate(zip(self.centers, self.output, strict=True)):
            if level:
                own = rearrange(self.of_scale[level - 1](features[level]), "b t d -> b t 1 d")
                state = relu(self.hand_up[level - 1](state) + own)
            similarity = state @ normalize(center, dim=-1).mT / length(state)
            assignment = (similarity / self.temperature).softmax(-1)  # (b t i k)
            probability = torch.einsum("bti,btik->btk", probability, assignment)
            state = assignment.mT @ relu(output(state))
        return probability, state

    def forecast_error(self, x: Tensor, features: list[Tensor]) -> Tensor:
        """Mean squared error of the forecasts, as a mean over scales."""
        errors = [
            (predict(f[:, :-s]) - x[:, s:]).square().mean()
            for predict, f, s in zip(self.predict, features, self.scales.dilations, strict=True)
        ]
        return torch.stack(errors).mean()

    def overlap(self) -> Tensor:
        """‖CᵀC − I‖² as a mean over levels: how far the centers are from orthonormal."""
        gram = [center @ center.mT for center in self.centers]
        return torch.stack([(g - torch.eye(len(g)).to(g)).square().sum() for g in gram]).mean()

    def forward(self, x: Tensor) -> Embedding:
        features = self.features(x)
        probability, state = self.cluster(features)
        center = normalize(self.centers[-1], dim=-1)
        distance = 1 - (state * center).sum(-1) / length(state)[..., 0]  # (b t k)
        score = (probability * distance).sum(-1)  # (b t)
        parts = {
            "distance": score.mean() / distance.shape[-1],
            "overlap": self.overlap(),
            "forecast": self.forecast_error(x, features),
        }
        loss = (
            parts["distance"]
            + self.orthogonality * parts["overlap"]
            + self.forecast * parts["forecast"]
        )
        h = torch.einsum("btk,btkd->btd", probability, state)
        return Embedding(h, loss, score, {name: part.detach() for name, part in parts.items()})
