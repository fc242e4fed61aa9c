"""The equations of MADCluster, one function each (arXiv 2505.16223).

Shapes use one alphabet: `b` window, `t` time step, `d` embedding size, `k` cluster. Every function
is differentiable, keeps the dtype of its input and moves no data between devices.

The paper's learned threshold ν is called `threshold`; the soft-boundary fraction of Deep SVDD, also
written ν in its paper, is called `nu`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.linalg import vecdot
from torch.nn.functional import cosine_similarity

BLOCK = 2**17  # numbers of a block that fits a cache

__all__ = [
    "cluster_divergence",
    "cosine_assignment",
    "distance_and_cosine",
    "distance_mapping",
    "log_mean",
    "one_directed_adaptive",
    "radius",
    "soft_boundary",
    "student_t_assignment",
    "target_distribution",
]


def distance_mapping(h: Tensor, centers: Tensor) -> Tensor:
    """Squared distance of every embedding to every center, ‖h − c‖².

    Parameters
    ----------
    h : (b t d)
    centers : (k d)

    Returns
    -------
    (b t k), squared units of `h`. The difference is taken before the square: the expanded form
    ‖h‖² − 2h·c + ‖c‖² loses all digits when the embeddings are close to the center.
    """
    return (h.unsqueeze(-2) - centers).square().sum(-1)  # (b t k)


def radius(squared_distance: Tensor, nu: float) -> Tensor:
    """R², the (1 − nu) quantile of the squared distances of the training data.

    Of all steps, a fraction `nu` lies outside (Deep SVDD, Ruff et al. 2018, §3.3).

    Raises
    ------
    ValueError
        If `nu` is not in (0, 1) or there is no distance.
    """
    if not 0 < nu < 1:
        raise ValueError(f"nu must lie in (0, 1), got {nu}")
    if squared_distance.numel() == 0:
        raise ValueError("squared_distance is empty: no quantile can be taken")
    values = squared_distance.detach().flatten()
    # torch.quantile refuses more than 2**24 values; kthvalue has no such limit
    rank = min(values.numel(), max(1, round((1 - nu) * values.numel())))
    return values.kthvalue(rank).values


def soft_boundary(squared_distance: Tensor, squared_radius: Tensor, nu: float) -> Tensor:
    """R² + max(0, ‖h − c‖² − R²) / nu, elementwise (Deep SVDD, eq. 3)."""
    return squared_radius + torch.relu(squared_distance - squared_radius) / nu


def cosine_assignment(h: Tensor, centers: Tensor) -> Tensor:
    """q = (1 + cos(h, c)) / 2 in [0, 1], the similarity used for k = 1.

    Parameters
    ----------
    h : (b t d)
    centers : (k d)

    Returns
    -------
    (b t k). A zero embedding has cosine 0 and q = 1/2, with a finite gradient.
    """
    cosine = cosine_similarity(h.unsqueeze(-2), centers, dim=-1, eps=1e-8)  # (b t k)
    return ((1 + cosine) / 2).clamp(0, 1)  # rounding can leave [-1, 1] by one unit


class _Products(torch.autograd.Function):
    """‖h − c‖², h·c and ‖h‖² for embeddings (n d) and one center (d), as (3 n).

    One pass over h each way, in blocks: autograd would write (n d) about ten times.
    """

    @staticmethod
    def forward(h: Tensor, center: Tensor) -> Tensor:
        return _products(h, center)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        """One after the other: a pass over all of them would not stay in a cache."""
        h, center = stacked(info.batch_size, in_dims, inputs)
        return torch.stack([_Products.apply(*each) for each in zip(h, center, strict=True)]), 0

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor]:
        h, center = ctx.saved_tensors  # type: ignore[attr-defined]
        grad_h, grad_center = torch.empty_like(h), torch.zeros_like(center)
        blocks = (cache_blocks(x, h.shape[1]) for x in (h, grad.T, grad_h))
        for rows, weights, out in zip(*blocks, strict=True):
            distance, product, norm = weights.T
            torch.sub(rows, center, out=out)
            grad_center += product @ rows - 2 * distance @ out
            out.mul_(2 * distance[:, None]).addcmul_(rows, 2 * norm[:, None])
            out.addr_(product, center)
        return grad_h, grad_center


def _products(h: Tensor, center: Tensor) -> Tensor:
    values = []
    for rows in cache_blocks(h, h.shape[1]):
        offset = rows - center
        products = vecdot(offset, offset), rows @ center, vecdot(rows, rows)
        values.append(torch.stack(products))
    return torch.cat(values, 1)


def stacked(n: int, in_dims: tuple[int | None, ...], inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """What `torch.func.vmap` hands to a function of autograd, each with its n layers first."""
    return [
        x.expand(n, *x.shape) if dim is None else x.movedim(dim, 0)
        for dim, x in zip(in_dims, inputs, strict=True)
    ]


def cache_blocks(x: Tensor, width: int) -> tuple[Tensor, ...]:
    """Rows in pieces that fit a cache of the CPU; all of them at once elsewhere."""
    return x.split(max(1, BLOCK // width)) if x.device.type == "cpu" else (x,)


def distance_and_cosine(h: Tensor, center: Tensor) -> tuple[Tensor, Tensor]:
    """`distance_mapping` and `cosine_assignment` to one center, from one pass over the embeddings.

    Parameters
    ----------
    h : (b t d)
    center : (1 d)

    Returns
    -------
    ‖h − c‖² and q, both (b t), as the two functions give them. They can be differentiated once.
    """
    products = _Products.apply if torch.is_grad_enabled() else _products
    values = products(h.flatten(0, -2), center[0])
    distance, product, squared = values.unflatten(1, h.shape[:-1])  # (b t)
    # norms below 1e-8 count as that, so a zero embedding has cosine 0 and a finite gradient
    length = squared.clamp_min(1e-16).sqrt() * center.square().sum().clamp_min(1e-16).sqrt()
    return distance, ((1 + product / length) / 2).clamp(0, 1)


def student_t_assignment(h: Tensor, centers: Tensor) -> Tensor:
    """q_tj = (1 + ‖h_t − c_j‖²)⁻¹ / Σ_j (…), the assignment used for k > 1.

    Parameters
    ----------
    h : (b t d)
    centers : (k d)

    Returns
    -------
    (b t k), summing to one over k. For k = 1 it is identically 1.
    """
    similarity = 1 / (1 + distance_mapping(h, centers))
    return similarity / similarity.sum(-1, keepdim=True)  # (b t k)


def target_distribution(q: Tensor) -> Tensor:
    """p_tj = (q_tj² / Σ_t q_tj) / Σ_j (q_tj² / Σ_t q_tj): the sharpened target, without gradient.

    Parameters
    ----------
    q : (b t k), summing to one over k. The sum over t runs over one window.

    Returns
    -------
    (b t k), summing to one over k. For k = 1 it is identically 1: nothing is learned from it.
    """
    q = q.detach()
    weight = q.square() / q.sum(-2, keepdim=True)
    return weight / weight.sum(-1, keepdim=True)


def cluster_divergence(q: Tensor) -> Tensor:
    """Σ_j p_j log(p_j / q_j) for every step, with p = `target_distribution(q)`; (b t k) → (b t)."""
    p = target_distribution(q)
    tiny = torch.finfo(q.dtype).tiny
    return -(torch.special.entr(p) + p * q.clamp_min(tiny).log()).sum(-1)


def one_directed_adaptive(
    q: Tensor, threshold: Tensor | float, *, smoothing: float = 0.0
) -> Tensor:
    """One-directed Adaptive loss L(q, ν), elementwise.

    The paper writes L = −[p·log f1 + (1 − p)·log f2] with the hard label p = 1[q ≥ ν],
    f1 = 1 − s·(1 − q), s = (1 − ν^(1−ν)) / (1 − ν) and f2 = q^(1−ν). f1 is the chord of the concave
    f2 from q = ν to q = 1, so the smaller of the two is always the one that p selects and

        L = max(−log f1, −log f2).

    No branch and no label is needed; L is continuous, decreases in q and in ν, and is convex in q
    (proved in chapter 6, and certified by `madcluster.study.certificate`).

    Parameters
    ----------
    q : any shape, values in [0, 1]
    threshold : broadcastable to `q`, values in (0, 1)
    smoothing : float
        σ in [0, 1/2]: the label becomes (1 − σ)·p + σ·(1 − p), and the loss (1 − σ) times the larger
        term plus σ times the smaller one. The release smooths by 0.01.

    Returns
    -------
    Same shape as `q`, non-negative and finite, as is its gradient. q below the smallest normal number
    counts as that; a threshold that is not inside (0, 1) in the dtype of `q`, such as 1 - 1e-9 in
    float32, counts as the nearest number that is.

    Notes
    -----
    s is computed as −expm1((1 − ν)·log ν) / (1 − ν): in float32 the plain form has lost half of its
    digits at 1 − ν = 2e-4 and all of them at 1e-4. Below ν = 1/2 it is 1 − r with
    r = ν·expm1(−ν·log ν) / (1 − ν), for ∂s/∂ν vanishes at ν → 0 and would be lost beside 1.

    Where both terms are equal, as at q = 1, the gradient is that of f1, whose label p is 1 there.

    Examples
    --------
    >>> import torch
    >>> one_directed_adaptive(torch.tensor([0.2, 0.5, 1.0]), 0.5)
    tensor([0.8047, 0.3466, 0.0000])
    """
    number = torch.finfo(q.dtype)
    nu = torch.as_tensor(threshold, dtype=q.dtype, device=q.device)
    nu = nu.clamp(number.tiny, 1 - number.eps / 2)
    q = q.clamp_min(number.tiny)
    rest, log_nu = 1 - nu, nu.log()
    r = nu * torch.expm1(-nu * log_nu) / rest  # 1 − s, to all digits where it is small
    s = torch.where(nu < 0.5, 1 - r, -torch.expm1(rest * log_nu) / rest)
    gap = s * (1 - q)  # 1 − f1
    # log1p keeps f1 near 1, the sum of two positive terms keeps it near 0
    above = torch.where(gap < 0.5, -torch.log1p(-gap.clamp_max(0.5)), -(r + s * q).log())
    below = -rest * q.log()  # −log f2
    hard = torch.where(above >= below, above, below)  # torch.maximum halves the gradient at a tie
    return hard if smoothing == 0 else hard - smoothing * (above - below).abs()


def log_mean(loss: Tensor) -> Tensor:
    """log of the mean of a non-negative loss; the outer log of the release's objective.

    Its gradient is that of the mean divided by the mean: the pull never weakens, however small the
    loss. A mean of zero gives the log of the smallest normal number and no gradient.
    """
    return loss.mean().clamp_min(torch.finfo(loss.dtype).tiny).log()
