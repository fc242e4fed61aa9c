"""A head that foretells a row from the rows before it, and is scored by what it misses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from madcluster.arguments import check_number, check_whole
from madcluster.heads.base import BaseHead, Embed, Score, moments
from madcluster.heads.residuals import Residuals, inverse_root

__all__ = ["InnovationHead", "context"]


def context(x: Tensor, cut: Tensor) -> Tensor:
    """Windows that end before a row which is to be foretold; (b t c) → (b t c).

    Parameters
    ----------
    x : (b t c)
    cut : (b,) int
        The row is the last but so many, 0 for the last. It and all after it are left out, the rows
        before are moved to the end, and copies of the first row stand where they were.
    """
    b, t, _ = x.shape
    place = torch.arange(t, device=x.device) - 1 - cut[:, None]  # (b t)
    return x[torch.arange(b, device=x.device)[:, None], place.clamp_min(0)]


class InnovationHead(BaseHead):
    """The innovation of a row, e_t = x_t − A·(x_{t−p}, …, x_{t−1}, 1) − g(h_{t−1}), as its score.

    A vector autoregression of order p, to which the embedding of the rows before adds what is not
    linear in them. With Σ the covariance of e on the training rows, the loss is

        J = ½ log det Σ + ½ mean eᵀ Σ⁻¹ e,

    the negative log likelihood of Gaussian innovations but for constants, and the score is eᵀ Σ⁻¹ e.

    **h_{t−1} knows nothing of x_t.** Most embedders look to both sides, so an embedding of the window
    that ends in t will not do. It is that of the last step of another window, which ends in t − 1
    (`context`), so what an embedder does inside a window does not matter. It costs one window for each
    row that is foretold. In training that is one of the last `cuts` rows, drawn anew each time; scores
    are of the last row, and windows are taken at every row, as for `LinearAutoregression`.

    **A proper density.** Given the first rows, e_t is x_t less a function of the rows before. The map
    from rows to innovations is therefore triangular with ones on its diagonal, its determinant is 1,
    and J is a negative log likelihood of the rows for any A, any Σ and any g, however they came about.
    No network makes it small but one that foretells rows: where h is a constant, so is g.

    **No degenerate optimum.** g(h) = L₀ G (h − h₀) / w, with L₀L₀ᵀ the covariance of the linear
    innovations, shrunk by `inverse_root`, w the root mean square of h − h₀ at the start, and h₀ the
    embedding of a window that rests at the mean row. G is 0 at the start, where the head is the
    linear autoregression. A constant h leaves it that, whatever G has become: h − h₀ is 0, and Σ is
    taken anew (`Residuals`). J is bounded below, for no eigenvalue of L₀⁻¹ Σ L₀⁻ᵀ falls below 1e-6.
    A loss near that bound would be a perfect forecast of the training rows, and no collapse.

    A low J says that rows are foretold well, not that anomalies are ranked well.

    Parameters
    ----------
    d : int
        Embedding size.
    n_channels : int
        c.
    order : int
        p, rows that the linear part looks back at; to fit it takes (p·c + 1)² numbers.
    cuts : int
        Rows at the end of a window that are foretold in training, each from the rows before it. A
        window must hold `order + cuts` rows.
    alpha : float
        The ridge penalty of A, in units of the mean square of what is looked at, as that of
        `LinearAutoregression`.
    eps : float
        ε of the shrinkage of the linear innovations' covariance.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """

    reads_rows: ClassVar[bool] = True
    forecasts: ClassVar[bool] = True

    def __init__(
        self,
        d: int,
        n_channels: int,
        *,
        order: int = 10,
        cuts: int = 5,
        alpha: float = 1e-2,
        eps: float = 1e-4,
    ) -> None:
        super().__init__()
        self.d = d
        self.order, self.cuts = check_whole("order", order), check_whole("cuts", cuts)
        self.alpha = check_number("alpha", alpha, 0, ends="[)")
        self.eps = check_number("eps", eps, 0)
        c = n_channels
        self.gain = nn.Parameter(torch.zeros(c, d))  # G
        self.register_buffer("coefficients", torch.zeros(self.order * c + 1, c))  # Aᵀ
        self.register_buffer("whitening", torch.eye(c))  # L₀⁻ᵀ
        self.register_buffer("log_det", torch.zeros(()))  # of L₀L₀ᵀ
        self.register_buffer("middle", torch.zeros(c))  # the mean row
        self.register_buffer("width", torch.ones(()))  # w
        self.coefficients: Tensor
        self.whitening: Tensor
        self.log_det: Tensor
        self.middle: Tensor
        self.width: Tensor
        self.residuals = Residuals(c)

    def check_window(self, window: int) -> None:
        if window < self.order + self.cuts:
            raise ValueError(
                f"window must hold order + cuts = {self.order} + {self.cuts} rows for the head "
                f"'innovation', got {window}"
            )

    def linear(self, x: Tensor, cut: Tensor) -> Tensor:
        """L₀⁻¹ (x_t − A·past) of the last row but `cut` (b,); (b t c) → (b c)."""
        before, row = self._split(x, cut)
        forecast = before @ self.coefficients[:-1] + self.coefficients[-1]
        return (row - forecast) @ self.whitening

    def _split(self, x: Tensor, cut: Tensor) -> tuple[Tensor, Tensor]:
        """The p rows before a row, (b p·c), and that row, (b c)."""
        place = torch.arange(-self.order, 1, device=x.device) + (x.shape[1] - 1 - cut[:, None])
        rows = x[torch.arange(len(x), device=x.device)[:, None], place]  # (b p+1 c)
        return rows[:, :-1].flatten(1), rows[:, -1]

    def moved(self, x: Tensor, cut: Tensor, embed: Embed) -> Tensor:
        """h_{t−1} − h₀ for the last row but `cut` (b,); (b t c) → (b d)."""
        rest = self.middle.expand(1, *x.shape[1:])
        h = embed(torch.cat([context(x, cut), rest]))[:, -1]
        return h[:-1] - h[-1:]

    def innovations(self, x: Tensor, cut: Tensor, embed: Embed) -> Tensor:
        """L₀⁻¹ e of the last row but `cut` (b,); (b t c) → (b c)."""
        return self.linear(x, cut) - self.moved(x, cut, embed) / self.width @ self.gain.mT

    def read(self, x: Tensor, h: Tensor, embed: Embed) -> Tensor:
        """White innovations (b 1 c) of the last row; in training of one that is drawn."""
        cut = torch.zeros(len(x), dtype=torch.long)
        if self.training:
            cut = torch.randint(self.cuts, (len(x),))
        z: Tensor = self.residuals(self.innovations(x, cut.to(x.device), embed))
        return z[:, None]

    def read_last(self, x: Tensor, h: Tensor, embed: Embed) -> Tensor:
        """The same of the last rows of a series that have enough before them, (1 n c)."""
        n = max(0, min(h.shape[1] - 1, len(x) - self.order))
        if n == 0:
            return x.new_zeros(1, 0, x.shape[1])
        moved = h[0, h.shape[1] - 1 - n : -1] - embed(self.middle.expand_as(x))[0, -1]  # (n d)
        windows = x[len(x) - n - self.order :].unfold(0, self.order + 1, 1).mT  # (n p+1 c)
        linear = self.linear(windows, torch.zeros(n, dtype=torch.long, device=x.device))
        z: Tensor = self.residuals(linear - moved / self.width @ self.gain.mT)
        return z[None]

    def of_one_step(self) -> bool:
        """That of the step before it, and no other."""
        return True

    def losses(
        self, read: Tensor, x: Tensor, h: Tensor, embed: Embed
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        total = self.residuals.energy(read) + self.log_det / 2
        return total, {"energy": total, "innovation": read.square().sum(-1).mean()}

    def score(self, read: Tensor, name: Score) -> Tensor:
        return read.square().sum(-1)

    def prepare(self, batches: Iterable[Tensor], embed: Embed, epoch: int) -> None:
        """Before the first epoch fit the linear part, before every one take Σ from what is left."""
        if epoch > 0:
            self._refit(batches, embed)
            return
        self._fit_linear(batches)
        squares = [self.moved(x, cut, embed).square().mean() for x, cut in self._rows(batches, 1)]
        width = torch.stack(squares).mean().sqrt()
        self.width.copy_(torch.where(width > 0, width, 1.0))
        self.residuals.refit(
            lambda: (self.linear(x, cut) for x, cut in self._rows(batches)), first=True
        )

    def finish(self, batches: Iterable[Tensor], embed: Embed) -> None:
        self._refit(batches, embed)

    def _refit(self, batches: Iterable[Tensor], embed: Embed) -> None:
        def rows() -> Iterator[Tensor]:
            return (self.innovations(x, cut, embed) for x, cut in self._rows(batches))

        kept = list(rows())  # (n c), small: two passes of the embedder would cost more
        self.residuals.refit(lambda: kept)

    def _rows(
        self, batches: Iterable[Tensor], cuts: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Every batch once for each of the rows that are foretold in it."""
        for x in batches:
            for cut in range(self.cuts if cuts is None else cuts):
                yield x, torch.full((len(x),), cut, device=x.device)

    def _fit_linear(self, batches: Iterable[Tensor]) -> None:
        """A by least squares with an L2 penalty on all but the constant, L₀ from what is left."""
        c = len(self.middle)

        def joint() -> Iterator[Tensor]:
            """What is looked at, a 1, and the row, (n p·c + 1 + c) in float64."""
            for x, cut in self._rows(batches):
                before, row = self._split(x.double(), cut)
                yield torch.cat([before, torch.ones_like(row[:, :1]), row], 1)

        products, count = torch.zeros(()), 0
        for v in joint():
            products, count = v.mT @ v + products.to(v), count + len(v)
        own, other = products[:-c, :-c], products[:-c, -c:]
        penalty = self.alpha * own.diagonal()[:-1].mean().clamp_min(1e-12) * torch.ones_like(own[0])
        # without a penalty, what repeats itself would have no solution
        penalty = penalty.clamp_min(1e-12 * own.diagonal().mean())
        penalty[-1] = 0
        coefficients = torch.linalg.solve(own + penalty.diag(), other)
        _, covariance = moments(lambda: (v[:, -c:] - v[:, :-c] @ coefficients for v in joint()))
        root = inverse_root(covariance, self.eps)
        self.coefficients.copy_(coefficients)
        self.whitening.copy_(root.mT)
        self.log_det.copy_(-2 * root.diagonal().log().sum())
        self.middle.copy_(other[-1] / count)
