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
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

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
BLOCK = 2**19  # numbers in work at a time: memory that stays in the cache and is not asked for anew
DEVICE_BLOCK = 2**26  # of a GPU, which small pieces would leave idle; 256 MiB of float32


def discrepancies(patch_wise: Tensor, in_patch: Tensor) -> tuple[Tensor, Tensor]:
    """KL(S‖T̄) and KL(T̄‖S) for every step of a window, S and T as in the module's docstring.

    T̄ is T with rows that sum to one. S is taken as the authors' code has it, with rows that sum to
    p, and the logarithms are of x + 1e-4.

    Parameters
    ----------
    patch_wise : (… n n), rows that sum to one
    in_patch : (… p p), rows that sum to one

    After dropout the rows of neither need to sum to one; those of T̄ still do.

    Returns
    -------
    Two (… t), t = n·p.
    """
    n, p = patch_wise.shape[-1], in_patch.shape[-1]
    eps = torch.finfo(in_patch.dtype).eps  # dropout can take a whole row
    a = patch_wise
    b = in_patch / (n * in_patch.sum(-1, keepdim=True).clamp_min(eps))  # entries of T̄
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
        # a circular convolution of width 3, written as a matrix
        self.embed = nn.Linear(3 * width, d, bias=False)
        nn.init.kaiming_normal_(self.embed.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.register_buffer("position", positional_encoding(n_tokens, d), persistent=False)
        self.position: Tensor


class Attention(nn.Module):
    """Queries and keys of one layer, shared by all views and patch sizes."""

    def __init__(self, d: int, *, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(d, d)
        self.key = nn.Linear(d, d, bias=False)  # a bias of the key adds the same to a whole row

    def heads(self, x: Tensor) -> Tensor:
        """Rows (n d) of queries or keys, apart by head; (g n e)."""
        return rearrange(x, "n (g e) -> g n e", g=self.n_heads)

    def folded(self, basis: Tensor, position: Tensor) -> FoldedScores:
        """Scores of tokens f·basis + position as a function of f; (w d), (n d)."""
        scale = math.sqrt(basis.shape[-1] / self.n_heads)
        query_f = self.heads(basis @ self.query.weight.T / scale)
        query_p = self.heads(self.query(position) / scale)
        key_f, key_p = self.heads(self.key(basis)), self.heads(self.key(position))
        return FoldedScores(
            query_f @ key_f.mT, query_f @ key_p.mT, query_p @ key_f.mT, query_p @ key_p.mT
        )

    def of_tokens(self) -> TokenScores:
        """Scores as a function of the tokens themselves."""
        scale = math.sqrt(len(self.query.weight) / self.n_heads)
        query, key = self.heads(self.query.weight.T / scale), self.heads(self.key.weight.T)
        bias = rearrange(self.query.bias / scale, "(g e) -> g e 1", g=self.n_heads)
        return TokenScores(query @ key.mT, (key @ bias).squeeze(-1))


# Both kinds of scores put keys first, (s n g n): a softmax along the last axis is slow for short rows.
# One matrix product serves all tokens: a batched one would hold a copy of the matrix for each.


class FoldedScores(NamedTuple):
    """What queries i and keys j of some heads have in common, before the values f are known.

    A score is f_i·A·f_j + f_i·B_j + C_i·f_j + D_ij.
    """

    a: Tensor  # (g w w)
    b: Tensor  # (g w n)
    c: Tensor  # (g n w)
    d: Tensor  # (g n n)

    def __call__(self, f: Tensor) -> Tensor:
        """(s n w) → (s n g n)."""
        n, w = f.shape[1:]
        # sums in place: nobody else holds what a product has made
        of_key = f @ rearrange(self.a, "g v w -> w (g v)")  # (s n (g v))
        of_key.add_(rearrange(self.b, "g w j -> j (g w)").contiguous())
        rest = f @ rearrange(self.c, "g i w -> w (g i)")  # (s n (g i))
        rest.add_(rearrange(self.d, "g i j -> j (g i)").contiguous())
        of_key, rest = (x.view(len(f), -1, last) for x, last in ((of_key, w), (rest, n)))
        # into a view in place: autograd would copy it both ways
        add = Tensor.baddbmm if torch.is_grad_enabled() else Tensor.baddbmm_
        return add(rest, of_key, f.mT).unflatten(1, (n, -1))


class TokenScores(NamedTuple):
    """The same for tokens x of which nothing is known: x_i·A·x_j + c·x_j."""

    a: Tensor  # (g d d)
    c: Tensor  # (g d)

    def __call__(self, x: Tensor) -> Tensor:
        """(s n d) → (s n g n)."""
        return cast(Tensor, _TokenScores.apply(x, self.a, self.c))


class _TokenScores(torch.autograd.Function):
    """`TokenScores`, whose backward pass adds up the gradient of x in place.

    Autograd would write one gradient of the size of x for each of its four uses, and add them.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, a: Tensor, c: Tensor) -> Tensor:
        rows = x.flatten(0, 1)
        of_key = (rows @ a.flatten(0, 1).T).view(len(x), -1, x.shape[-1])  # (s (n g) d)
        rest = (rows @ c.T).view(len(x), -1, 1)
        ctx.save_for_backward(x, a, c, of_key)
        return torch.baddbmm(rest, of_key, x.mT).unflatten(1, (-1, len(a)))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, a, c, of_key = ctx.saved_tensors  # type: ignore[attr-defined]
        rows, grad = x.flatten(0, 1), grad.flatten(1, 2)  # ((s n) d), (s (n g) n)
        grad_x = grad.mT @ of_key
        of_rest = grad.sum(-1).view(len(rows), -1)  # ((s n) g)
        of_a = (grad @ x).view(len(rows), -1)  # ((s n) (g d))
        grad_x.flatten(0, 1).addmm_(of_rest, c).addmm_(of_a, a.flatten(0, 1))
        grad_a = rows.T @ of_a  # this way round, for a product of its transpose is slower
        return grad_x, grad_a.T.unflatten(0, a.shape[:2]), of_rest.T @ rows


def mask(x: Tensor, share: float) -> Tensor:
    """0 for a share of the values and 1 for the others; dropout divides by 1 − share as well.

    Each value is decided by 16 random bits, four of one draw, so that the share is a multiple of 2⁻¹⁶.
    `functional.dropout` draws a floating point number for each, which takes several times as long.
    """
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    bits = draws.random_(-(2**63), None).view(torch.int16)[: x.numel()].view(x.shape)
    return bits.to(x.dtype).ge_(round(share * 2**16) - 2**15)


def mean_map(
    scores: FoldedScores | TokenScores,
    f: Tensor,
    dropout: float = 0.0,
    embed: Callable[[Tensor], Tensor] = lambda f: f,
) -> Tensor:
    """Attention of all heads as a mean over channels; (b c n w) → (b g n n).

    `embed` makes of values (s n w) what the scores are a function of.
    """
    c, n = f.shape[1:3]
    size = c * n * len(scores.a) * max(n, scores.a.shape[-1])  # of one window at work
    maps = []
    at_work = BLOCK if f.device.type == "cpu" else DEVICE_BLOCK
    for block in f.split(max(1, at_work // size)):
        attention = scores(embed(block.flatten(0, 1))).flatten(2).softmax(1)
        if dropout:
            attention = attention * mask(attention, dropout)
        mean = attention.unflatten(0, (-1, c)).mean(1) / (1 - dropout)
        maps.append(rearrange(mean, "b j (g i) -> b g i j", i=n))
    return torch.cat(maps)


class Maps(NamedTuple):
    """The two maps of one patch size p, of all layers and heads g, n = t / p."""

    patch_wise: Tensor  # (b g n n)
    in_patch: Tensor  # (b g p p)


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
    embedding_dropout, attention_dropout : float
        Shares of the tokens' values and of the attention that training leaves out; 0 in the authors'
        code, 0.1 for both in MADCluster's release. The first costs most of the speed: a token that
        has lost values is no longer a linear function of the few that it covers.

    Raises
    ------
    ValueError
        If a patch size does not divide the window, or none of the default ones does; if `n_heads` does
        not divide `d`; if a dropout is not in [0, 1).

    Notes
    -----
    Score of a step (paper, §3.5): KL(S‖T̄) + KL(T̄‖S), summed over patch sizes and layers. The authors'
    code takes a softmax of its negative over the window; MADCluster's release then averages over the
    same window, which makes it a constant. Neither is done here.

    Loss (paper, §3.4): the same sum with either side detached, once with each sign. Its value is 0 by
    construction; the gradient draws the in-patch maps to the patch-wise ones and drives the patch-wise
    ones away.

    Embedding: the paper uses the maps alone; its code computes values and an output projection and
    drops them. Here h is what a transformer layer would return: the tokens plus a projection of the
    attention over them, a mean over layers, patch sizes and views. So the head's gradient reaches
    queries and keys. The tokens are their own values, for of a value and an output projection with
    nothing between them one is enough. MADCluster's release clusters the tokens alone, which share no
    parameter with the maps.

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
        embedding_dropout: float = 0.0,
        attention_dropout: float = 0.0,
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
        for name, share in (
            ("embedding_dropout", embedding_dropout),
            ("attention_dropout", attention_dropout),
        ):
            if not 0 <= share < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {share}")
        self.d, self.window, self.patch_sizes = d, window, tuple(patch_sizes)
        self.n_heads, self.n_layers = n_heads, n_layers
        self.embedding_dropout, self.attention_dropout = embedding_dropout, attention_dropout
        self.tokens = TokenEmbedding(n_channels, d, length=window)
        self.patch_views = nn.ModuleList(View(p, window // p, d) for p in self.patch_sizes)
        self.position_views = nn.ModuleList(View(window // p, p, d) for p in self.patch_sizes)
        self.layers = nn.ModuleList(Attention(d, n_heads=n_heads) for _ in range(n_layers))
        self.out = nn.Linear(d, d, bias=False)
        steps = torch.arange(window)
        groups = [
            group[:, None] == torch.arange(n)  # no look at values: also on the meta device
            for p in self.patch_sizes
            for group, n in ((steps // p, window // p), (steps % p, p))
        ]
        one_hot = torch.cat(groups, 1).to(self.out.weight.dtype)  # (t, Σ n + p)
        self.register_buffer("repeat", one_hot, persistent=False)
        self.register_buffer("average", (one_hot / one_hot.sum(0)).T.contiguous(), persistent=False)
        self.repeat: Tensor
        self.average: Tensor

    def map(self, x: Tensor, view: View, pattern: str, p: int) -> Tensor:
        """Attention of all layers and heads in one view of x (b t c), mean over channels; (b g n n)."""
        layers = cast(Iterable[Attention], self.layers)  # nn.ModuleList forgets what it holds
        f = circular_neighbors(rearrange(x, pattern, p=p)).contiguous()  # (b c n w)
        dropout = self.attention_dropout if self.training else 0.0
        if not (self.training and self.embedding_dropout):
            basis, position = view.embed.weight.T, view.position
            parts = zip(*(layer.folded(basis, position) for layer in layers), strict=True)
            return mean_map(FoldedScores(*map(torch.cat, parts)), f, dropout)
        parts = zip(*(layer.of_tokens() for layer in layers), strict=True)
        kept = 1 - self.embedding_dropout
        a, c = map(torch.cat, parts)

        def tokens(f: Tensor) -> Tensor:
            x = view.embed(f).add_(view.position)  # in place: nobody else holds it
            return x.mul_(mask(x, self.embedding_dropout))

        return mean_map(TokenScores(a / kept**2, c / kept), f, dropout, tokens)

    def maps(self, x: Tensor) -> list[Maps]:
        """The maps of all layers and heads, one pair for each patch size; x (b t c) as it is read.

        Every channel of a window is normalized first; the means over channels are already taken.
        """
        x = instance_normalize(x)
        patch_views = cast(Iterable[View], self.patch_views)
        position_views = cast(Iterable[View], self.position_views)
        return [
            Maps(
                self.map(x, of_patches, "b (n p) c -> b c n p", p),
                self.map(x, of_positions, "b (n p) c -> b c p n", p),
            )
            for p, of_patches, of_positions in zip(
                self.patch_sizes, patch_views, position_views, strict=True
            )
        ]

    def discrepancy(self, maps: Sequence[Maps]) -> Tensor:
        """KL(S‖T̄) + KL(T̄‖S) of every step, summed over patch sizes; (b g t).

        In training the gradient on the patch-wise maps is turned round: so one KL plays both sides of
        the game. In eval mode it is that of the score.
        """
        turned = reverse_gradient if self.training else nn.Identity()
        both = [discrepancies(turned(a), b) for a, b in maps]
        return torch.stack([forward + backward for forward, backward in both]).sum(0)

    def attend(self, tokens: Tensor, maps: Sequence[Maps]) -> Tensor:
        """Tokens plus the attention over them, a mean over layers, patch sizes and views; (b t d).

        A row of S is constant over a patch, so it acts on the mean of a patch, and a row of T̄ on the
        mean over patches of one position. Both are projected before they are repeated.
        """
        views = [m for pair in maps for m in pair]
        means = (self.average @ tokens).split([m.shape[-1] for m in views], 1)
        attended = []
        for attention, mean in zip(views, means, strict=True):
            of_heads = rearrange(attention, "b (l g) i j -> l b g i j", g=self.n_heads).mean(0)
            values = rearrange(mean, "b j (g e) -> b g j e", g=self.n_heads)
            attended.append(rearrange(of_heads @ values, "b g i e -> b i (g e)"))
        # a repetition is the transpose of a mean, but for the scale
        return tokens + self.repeat @ self.out(torch.cat(attended, 1)) / len(views)

    def forward(self, x: Tensor) -> Embedding:
        if x.shape[1] != self.window:
            raise ValueError(f"expected windows of {self.window} steps, got {x.shape[1]}")
        maps = self.maps(x)
        tokens = self.tokens(instance_normalize(x))  # (b t d)
        if self.training and self.embedding_dropout:
            tokens = tokens * mask(tokens, self.embedding_dropout) / (1 - self.embedding_dropout)
        discrepancy = self.discrepancy(maps)  # (b g t)
        game = discrepancy.mean() / len(maps)
        of_score = discrepancy.detach() if self.training else discrepancy
        return Embedding(
            self.attend(tokens, maps),
            game - game.detach(),
            of_score.sum(1) / self.n_heads,
            {"discrepancy": game.detach()},
        )
