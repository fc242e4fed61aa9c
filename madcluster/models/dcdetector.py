"""DCdetector (Yang et al., KDD 2023), without attention maps of window × window.

Two views of every channel of a window are compared. The *patch-wise* view attends between patches,
the *in-patch* view between the positions inside a patch. For patches of p steps and n = L / p
patches the first map A is (n n) and the second B is (p p); the paper repeats both to (L L),

    S[i, j] = A[i // p, j // p],    T[i, j] = B[i mod p, j mod p],

and takes KL divergences between their rows. A row of S holds each entry of a row of A p times, and a
row of T each entry of a row of B n times, in such an order that every pair of entries meets exactly
once. A sum over j of f(S) · g(T) is therefore the product of a sum over A and a sum over B, and no
(L L) map is needed. The means over channels are taken before, on the small maps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

from madcluster.models.base import Embedder, Embedding
from madcluster.models.layers import (
    TokenEmbedding,
    circular_neighbors,
    instance_normalize,
    positional_encoding,
    reverse_gradient,
)

__all__ = ["DCdetector", "discrepancies"]

EPSILON = 1e-4  # added inside both logarithms by the authors' code


def discrepancies(patch_wise: Tensor, in_patch: Tensor) -> tuple[Tensor, Tensor]:
    """KL(S‖T̄) and KL(T̄‖S) for every step of a window, S and T as in the module's docstring.

    T̄ is T with rows that sum to one. S is taken as the authors' code has it, with rows that sum to
    p, and the logarithms are of x + 1e-4.

    Parameters
    ----------
    patch_wise : (… n n), rows that sum to one
    in_patch : (… p p), rows that sum to one

    Returns
    -------
    Two (… t), t = n·p.
    """
    n, p = patch_wise.shape[-1], in_patch.shape[-1]
    a, b = patch_wise, in_patch / n  # b: entries of T̄
    log_a, log_b = (a + EPSILON).log(), (b + EPSILON).log()
    # Σ_j over a row: each entry of a stands p times, each of b n times, each pair once
    row_a, row_b = a.sum(-1), b.sum(-1)  # (… n), (… p)
    self_a, self_b = (a * log_a).sum(-1), (b * log_b).sum(-1)
    cross_a, cross_b = log_a.sum(-1), log_b.sum(-1)

    def outer(left: Tensor, right: Tensor) -> Tensor:
        return (left[..., :, None] * right[..., None, :]).flatten(-2)

    one_n, one_p = torch.ones_like(row_a), torch.ones_like(row_b)
    forward = outer(p * self_a, one_p) - outer(row_a, cross_b)
    backward = outer(one_n, n * self_b) - outer(cross_a, row_b)
    return forward, backward


class View(nn.Module):
    """Tokens of one view at one patch size, kept as the raw values f that they cover.

    width : values in one token; n_tokens : tokens in a window.
    """

    def __init__(self, width: int, n_tokens: int, d: int) -> None:
        super().__init__()
        self.embed = nn.Linear(
            3 * width, d, bias=False
        )  # circular convolution, written as a matrix
        nn.init.kaiming_normal_(self.embed.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.register_buffer("position", positional_encoding(n_tokens, d), persistent=False)
        self.position: Tensor


class Attention(nn.Module):
    """Queries, keys, values and output of one layer, shared by all views and patch sizes."""

    def __init__(self, d: int, *, n_heads: int) -> None:
        super().__init__()
        self.d, self.n_heads = d, n_heads
        self.query = nn.Linear(d, d)
        self.key = nn.Linear(d, d, bias=False)  # a bias of the key adds the same to a whole row
        self.value, self.out = nn.Linear(d, d), nn.Linear(d, d)

    def map(self, f: Tensor, view: View) -> Tensor:
        """Attention between the tokens of a view; f (b c n w) → (b c g n n), rows that sum to one."""

        def heads(x: Tensor) -> Tensor:
            return rearrange(x, "n (g e) -> g n e", g=self.n_heads)

        w = view.embed.weight.T  # (w d)
        query_f, key_f = heads(w @ self.query.weight.T), heads(self.key(w))  # (g w e)
        query_p, key_p = heads(self.query(view.position)), heads(self.key(view.position))  # (g n e)
        f = f.unsqueeze(2)  # (b c 1 n w)
        left = f @ (query_f @ key_f.mT) + query_p @ key_f.mT  # (b c g n w)
        scores = left @ f.mT + f @ (query_f @ key_p.mT) + query_p @ key_p.mT  # (b c g n n)
        return (scores / math.sqrt(self.d / self.n_heads)).softmax(-1)

    def attend(self, tokens: Tensor, patch_wise: Tensor, in_patch: Tensor) -> Tensor:
        """Mean of both views' attention output; (b t d), (b g n n), (b g p p) → (b t d).

        A row of S is constant over a patch, so it acts on the mean of a patch, and a row of T̄ on the
        mean over patches of one position.
        """
        p = in_patch.shape[-1]
        v = rearrange(self.value(tokens), "b (n p) (g e) -> b g n p e", p=p, g=self.n_heads)
        of_patches = patch_wise @ v.mean(3)  # (b g n e)
        of_positions = in_patch @ v.mean(2)  # (b g p e)
        both = (of_patches.unsqueeze(3) + of_positions.unsqueeze(2)) / 2  # (b g n p e)
        return self.out(rearrange(both, "b g n p e -> b (n p) (g e)"))


class DCdetector(Embedder):
    """Dual attention, trained so that the two views of a normal window agree.

    Parameters
    ----------
    n_channels, window : int
        c and t of the input.
    d, n_heads, n_layers : int
        As published: 256, 1, 3. The layers stand side by side, each reads the same tokens.
    patch_sizes : sequence of int, optional
        Each must divide the window. Default: 2, 5 and 10, where they divide it.

    Raises
    ------
    ValueError
        If a patch size does not divide the window, or none of the default ones does.

    Notes
    -----
    Score of a step (paper, §3.5): KL(S‖T̄) + KL(T̄‖S), summed over patch sizes and layers. The authors'
    code takes a softmax of its negative over the window; MADCluster's release then averages over the
    same window, which makes it a constant. Neither is done here.

    Loss (paper, §3.4): the same sum with either side detached, once with each sign. Its value is 0 by
    construction; the gradient draws the in-patch maps to the patch-wise ones and drives the patch-wise
    ones away.

    Embedding: the paper uses the maps alone; its code computes values and an output projection and
    drops them. Here h is what a transformer layer would return, the tokens plus the attention output
    averaged over layers, patch sizes and views. So the head's gradient reaches queries and keys.
    MADCluster's release clusters the tokens, which share no parameter with the maps.

    A token of the in-patch view holds one position of every patch, as the paper and the repetition of
    B have it; the authors' code cuts contiguous pieces.
    """

    def __init__(
        self,
        n_channels: int,
        *,
        window: int,
        d: int = 256,
        n_heads: int = 1,
        n_layers: int = 3,
        patch_sizes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if patch_sizes is None:
            patch_sizes = [p for p in (2, 5, 10) if window % p == 0]
        if not patch_sizes or any(not 1 < p < window or window % p for p in patch_sizes):
            divisors = [p for p in range(2, window) if window % p == 0]
            raise ValueError(
                f"patch_sizes must divide the window of {window} steps, got {list(patch_sizes)}; "
                f"possible sizes: {divisors or 'none, choose another window'}"
            )
        if d % n_heads:
            raise ValueError(f"n_heads must divide d: got {n_heads} and {d}")
        self.d, self.window, self.patch_sizes = d, window, tuple(patch_sizes)
        self.tokens = TokenEmbedding(n_channels, d, length=window)
        self.patch_views = nn.ModuleList(View(p, window // p, d) for p in self.patch_sizes)
        self.position_views = nn.ModuleList(View(window // p, p, d) for p in self.patch_sizes)
        self.layers = nn.ModuleList(Attention(d, n_heads=n_heads) for _ in range(n_layers))

    def maps(self, x: Tensor) -> Iterator[tuple[Attention, Tensor, Tensor]]:
        """Layer, patch-wise (b g n n) and in-patch map (b g p p), for all patch sizes and layers.

        `x` is normalized, (b t c). The means over channels are already taken.
        """
        # nn.ModuleList forgets the type of what it holds
        patch_views = cast(Iterable[View], self.patch_views)
        position_views = cast(Iterable[View], self.position_views)
        layers = cast(Iterable[Attention], self.layers)
        for p, of_patches, of_positions in zip(
            self.patch_sizes, patch_views, position_views, strict=True
        ):
            f_patches = circular_neighbors(rearrange(x, "b (n p) c -> b c n p", p=p))
            f_positions = circular_neighbors(rearrange(x, "b (n p) c -> b c p n", p=p))
            for layer in layers:
                yield (
                    layer,
                    layer.map(f_patches, of_patches).mean(1),
                    layer.map(f_positions, of_positions).mean(1),
                )

    def forward(self, x: Tensor) -> Embedding:
        if x.shape[1] != self.window:
            raise ValueError(f"expected windows of {self.window} steps, got {x.shape[1]}")
        x = instance_normalize(x)
        tokens = self.tokens(x)  # (b t d)
        attended, score, game = torch.zeros_like(tokens), x.new_zeros(x.shape[:2]), x.new_zeros(())
        n_maps = len(self.patch_sizes) * len(self.layers)
        for layer, patch_wise, in_patch in self.maps(x):
            attended = attended + layer.attend(tokens, patch_wise, in_patch) / n_maps
            # value of the map, gradient turned round: one KL plays both sides of the game
            both = discrepancies(reverse_gradient(patch_wise), in_patch)
            discrepancy = torch.stack(both).sum(0)  # (b g t)
            score = score + discrepancy.detach().mean(1)
            game = game + discrepancy.mean() / n_maps
        return Embedding(
            tokens + attended,
            game - game.detach(),
            score,
            {"discrepancy": game.detach()},
        )
