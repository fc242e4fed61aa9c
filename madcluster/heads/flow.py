"""A head that makes windows Gaussian by an invertible map, and scores by the distance from a center."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d

from madcluster.arguments import check_number, check_whole
from madcluster.heads.base import BaseHead, Embed, Score, moments
from madcluster.heads.residuals import Residuals, inverse_root

__all__ = ["FlowHead"]

BOUND = 3.0  # standard deviations, the most that an embedder is shown


class FlowHead(BaseHead):
    """‖z_t‖² of a uniformly scaling flow z = S^(−1/2) f_K ∘ … ∘ f_1(W(x − m)) of the window.

    A flow whose Jacobian determinant is the same for all windows: its negative log likelihood is, but
    for that constant, a squared distance from a center, as the loss of Deep SVDD, which it keeps from
    collapsing ("On Uniformly Scaling Flows", 2510.09452; additive couplings: Dinh et al., NICE, 2014).
    The loss is that likelihood for each step of a window of t rows,

        L = (½ E‖z‖² + (t/2) log det S − log|det W|) / t,

    and the score of a step is ‖z_t‖² of the c entries that stand for it; m takes the place of a center.

    **The start is a Gaussian.** C is the covariance of r = `rows` consecutive rows, shrunk, C = LLᵀ,
    and F = L⁻¹ (`inverse_root`), lower triangular in time. The first r rows of a window are whitened
    by F, every row after them by the last c rows of F, which read it and the r − 1 rows before it. So
    W is lower triangular and log|det W| a sum of logarithms of its diagonal. For t = r the sum of the
    scores is the squared Mahalanobis distance of the window; for t > r it is that of the Gaussian
    whose rows depend on no more than r − 1 rows before them, and no covariance of t·c numbers is ever
    needed.

    **How any embedder takes part.** The entries of a white window are colored like a checkerboard, by
    step + channel. A coupling leaves one color a as it is and adds to the other, b, a function of the
    first:

        f_k(z)_a = z_a,    f_k(z)_b = z_b + [G_k (h(β(z_a)) − h(0)) / w_k]_b.

    The embedder sees a window in which b is 0, and it may look at any step of it to make that of any
    other. Nothing is asked of it: ∂f_k/∂z is [[I, 0], [∗, I]] in the order (a, b), with determinant 1
    whatever h is, and the inverse takes away what was added, for z_a is still there. f_1 moves one
    color, f_2 the other, and so on; each costs one embedding of the window.

    **It is never constant.** z is a bijection of x for any weights, and a constant h, also one that
    knows where a step stands, gives h(β(z_a)) − h(0) = 0: the Gaussian of the start, exactly, for S
    is taken anew from the training windows (`Residuals`). β(z) = 3 tanh(z/3) shows the embedder no more
    than three standard deviations, so for a continuous h what couplings add is bounded: no anomaly is
    brought back from afar, and the score grows without limit with ‖W(x − m)‖. w_k is the root mean
    square of that difference at the start, and G_k is 0 there.

    Parameters
    ----------
    d : int
        Embedding size.
    n_channels : int
        c.
    rows : int
        r, at most the window. F has (r·c)² numbers.
    couplings : int
        K.
    eps : float
        ε of the shrinkage of C.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """

    reads_rows: ClassVar[bool] = True

    def __init__(
        self,
        d: int,
        n_channels: int,
        *,
        rows: int = 10,
        couplings: int = 2,
        eps: float = 1e-4,
    ) -> None:
        super().__init__()
        self.d, self.c = d, n_channels
        self.rows, self.couplings = check_whole("rows", rows), check_whole("couplings", couplings)
        self.eps = check_number("eps", eps, 0)
        self.gains = nn.Parameter(torch.zeros(self.couplings, self.c, d))  # G
        self.register_buffer("mean", torch.zeros(self.rows * self.c))  # m, of r rows
        self.register_buffer("filters", torch.eye(self.rows * self.c))  # F
        self.register_buffer("widths", torch.ones(self.couplings))  # w
        self.mean: Tensor
        self.filters: Tensor
        self.widths: Tensor
        self.residuals = Residuals(self.c)

    def check_window(self, window: int) -> None:
        if window < self.rows:
            raise ValueError(
                f"window must hold rows = {self.rows} for the head 'flow', got {window}"
            )

    def white(self, x: Tensor) -> Tensor:
        """W(x − m); (b t c) → (b t c)."""
        r, c = self.rows, self.c
        first = (x[:, :r].flatten(1) - self.mean) @ self.filters.mT  # (b r·c)
        last = self.filters[-c:]  # (c r·c)
        # a convolution, for r copies of the rows would cost memory
        after = conv1d(x[:, 1:].mT, last.view(c, r, c).mT) if x.shape[1] > r else x[:, r:].mT
        return torch.cat([first.view(len(x), r, c), after.mT - last @ self.mean], 1)

    def log_det(self, window: int) -> Tensor:
        """log|det W|, ()."""
        diagonal = self.filters.diagonal().log()
        return diagonal.sum() + (window - self.rows) * diagonal[-self.c :].sum()

    def kept(self, z: Tensor, k: int) -> Tensor:
        """Which entries of windows the coupling k leaves as they are, (t c) bool."""
        steps, channels = (torch.arange(n, device=z.device) for n in z.shape[1:])
        return (steps[:, None] + channels + k) % 2 == 0

    def moved(self, z: Tensor, k: int, embed: Embed) -> Tensor:
        """h(β(z_a)) − h(0) of the coupling k; (b t c) → (b t d)."""
        seen = self.kept(z, k) * BOUND * torch.tanh(z / BOUND)
        h = embed(torch.cat([seen, torch.zeros_like(z[:1])]))
        return h[:-1] - h[-1:]

    def added(self, z: Tensor, k: int, embed: Embed) -> Tensor:
        """What the coupling k adds to z, a function of `kept` alone that is 0 there; (b t c)."""
        shift = self.moved(z, k, embed) / self.widths[k] @ self.gains[k].mT
        return torch.where(self.kept(z, k), 0, shift)

    def coupled(self, z: Tensor, embed: Embed) -> Tensor:
        """f_K ∘ … ∘ f_1; (b t c) → (b t c)."""
        for k in range(self.couplings):
            z = z + self.added(z, k, embed)
        return z

    def read(self, x: Tensor, h: Tensor, embed: Embed) -> Tensor:
        """z, (b t c)."""
        z: Tensor = self.residuals(self.coupled(self.white(x), embed))
        return z

    def losses(
        self, read: Tensor, x: Tensor, h: Tensor, embed: Embed
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        t = x.shape[1]
        total = self.residuals.energy(read) - self.log_det(t) / t
        return total, {"energy": total, "square": read.square().sum(-1).mean()}

    def score(self, read: Tensor, name: Score) -> Tensor:
        return read.square().sum(-1)

    def prepare(self, batches: Iterable[Tensor], embed: Embed, epoch: int) -> None:
        """Before the first epoch fit the Gaussian, before every one take S from what is left."""
        if epoch > 0:
            self._refit(batches, embed)
            return
        mean, covariance = moments(
            lambda: (
                x.unfold(1, self.rows, 1).mT.reshape(-1, self.rows * self.c).double()
                for x in batches
            )
        )
        self.mean.copy_(mean)
        self.filters.copy_(inverse_root(covariance, self.eps))
        for k in range(self.couplings):
            squares = [self.moved(self.white(x), k, embed).square().mean() for x in batches]
            width = torch.stack(squares).mean().sqrt()
            self.widths[k] = torch.where(width > 0, width, 1.0)
        self.residuals.refit(lambda: (self.white(x).flatten(0, 1) for x in batches), first=True)

    def finish(self, batches: Iterable[Tensor], embed: Embed) -> None:
        self._refit(batches, embed)

    def _refit(self, batches: Iterable[Tensor], embed: Embed) -> None:
        def rows() -> Iterator[Tensor]:
            return (self.coupled(self.white(x), embed).flatten(0, 1) for x in batches)

        self.residuals.refit(rows)
