"""What every head can do, and an embedder with a head on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn

from madcluster.diagnostics import Certificate
from madcluster.models.base import Embedder, Embedding, Memory, array_of

__all__ = ["SCORES", "BaseHead", "Embed", "Score", "WithHead", "moments", "population"]

Score = Literal["head", "distance", "cluster", "mahalanobis", "embedder", "product"]
SCORES: tuple[Score, ...] = get_args(Score)
OF_ANY: tuple[Score, ...] = "head", "mahalanobis", "embedder", "product"  # whatever the head
Embed: TypeAlias = Callable[[Tensor], Tensor]  # windows (b t c) → embeddings (b t d)


class BaseHead(nn.Module):
    """What is put on an embedder: a loss of a batch, and a score of every step.

    `WithHead` joins the two. A subclass sets `d`, and says what it reads in a batch (`read`), what is
    trained (`losses`) and what the score is (`score`); the rest has nothing to do by default.

    Attributes
    ----------
    d : int
        Size of an embedding.
    scores : tuple of Score
        What it can be scored by beside "mahalanobis", "embedder" and "product", which any head has.
    own_score : Score
        What "head" stands for.
    reads_rows : bool
        True where it reads the rows of a window and not the embeddings alone: it then takes
        `n_channels`.
    forecasts : bool
        True where its own score is of the last row of a window, which it foretells from the rows
        before. Such a score is (b 1), and windows are taken at every row.
    """

    d: int
    scores: ClassVar[tuple[Score, ...]] = ()
    own_score: ClassVar[Score] = "head"
    reads_rows: ClassVar[bool] = False
    forecasts: ClassVar[bool] = False

    def check_window(self, window: int) -> None:
        """Raise a ValueError if windows of so many rows are too short for it."""

    def read(self, x: Tensor, h: Tensor, embed: Embed) -> Any:
        """What loss and score are both made of.

        Parameters
        ----------
        x : (b t c)
            Windows.
        h : (b t d)
            Their embeddings.
        embed : function
            Embeds further windows.
        """
        return h

    def losses(
        self, read: Any, x: Tensor, h: Tensor, embed: Embed
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The training loss of a batch, (), and scalars for the training log by name."""
        raise TypeError(f"{type(self).__name__} must define losses(read, x, h, embed)")

    def score(self, read: Any, name: Score) -> Tensor:
        """One of `scores`, (b t) or of a forecast (b 1), higher = more anomalous."""
        raise ValueError(f"{type(self).__name__} has no score {name!r}")

    def of_one_step(self) -> bool:
        """Whether the score of a step needs embeddings of last steps alone, one for each row."""
        return not self.reads_rows

    def read_last(self, x: Tensor, h: Tensor, embed: Embed) -> Any:
        """What `read` gives, for the last steps of the windows that end in a series.

        Parameters
        ----------
        x : (m c)
            Rows in order.
        h : (1 n d)
            The embeddings of the last n rows, each as the last step of a window that ends there.
        embed : function
            Embeds further rows in that way; (m c) → (1 n d).
        """
        return self.read(x[None], h, embed)

    def score_of_steps(self, name: Score) -> Callable[[np.ndarray], np.ndarray] | None:
        """One of `scores` as a function of embeddings (s d), float64 → (s,), with NumPy.

        It is `score` of `read` with the weights as they are now, for rows that come one at a time: see
        `madcluster.models.base.Memory`. None where there is none, and rows then take another way. A
        subclass of another head that changes `score` or `read` defines it anew.
        """
        return None

    def prepare(self, batches: Iterable[Tensor], embed: Embed, epoch: int) -> None:
        """Look at the training windows before an epoch (0, 1, …); without gradients."""

    def finish(self, batches: Iterable[Tensor], embed: Embed) -> None:
        """Look at the training windows after the best weights are back; without gradients."""

    def certify(self, model: WithHead, seen: Tensor, held_out: Tensor) -> Certificate | None:
        """See `WithHead.certify`."""
        return None

    def no_decay(self) -> list[nn.Parameter]:
        """Parameters that take no weight decay and no decay of the learning rate."""
        return []

    def anchors(self) -> Tensor | None:
        """Points (k d) that the training draws embeddings to; None where there are none."""
        return None


def moments(batches: Callable[[], Iterable[Tensor]]) -> tuple[Tensor, Tensor]:
    """Mean (d) and covariance (d d) of vectors (n d).

    Parameters
    ----------
    batches : function
        Goes through them, in float64; it is called twice, for squares about the mean lose no digits.
    """
    sums, counts = zip(*((v.sum(0), len(v)) for v in batches()), strict=True)
    mean = torch.stack(sums).sum(0) / sum(counts)
    products = torch.zeros_like(mean).diag()
    for v in batches():
        products += (v - mean).mT @ (v - mean)
    return mean, products / sum(counts)


def population(
    batches: Callable[[], Iterable[Tensor]],
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d), and eigenvalues (d) and eigenvectors (d d) of the covariance, of vectors (n d).

    Parameters
    ----------
    batches : function
        See `moments`.
    """
    mean, covariance = moments(batches)
    values, vectors = torch.linalg.eigh(covariance)
    return mean, values, vectors


class WithHead(Embedder):
    """An embedder and a head, trained together.

    The loss is the head's, plus the embedder's own unless the head replaces it. The score of a step
    is named by `score`:

    - "head": that of the head. Of the paper's head it is L(q, ν) + ‖h − c‖², or KL(p‖q) + ‖h − c‖² for
      k > 1 (appendix, by analogy for k = 1)
    - "distance", "cluster": one of the two terms alone, of that head
    - "mahalanobis": (h − m)ᵀ Σ⁻¹ (h − m) with the mean and covariance of the training embeddings, taken
      after training (Lee et al., NeurIPS 2018, for features of a classifier). It does not see scale, so
      variation that a guard keeps is no noise in it
    - "embedder": the embedder's own
    - "product": the embedder's own times that of "head"
    """

    def __init__(self, embedder: Embedder, head: BaseHead, *, score: Score = "head") -> None:
        super().__init__()
        if embedder.d != head.d:
            raise ValueError(f"head expects embeddings of size {head.d}, embedder has {embedder.d}")
        if score not in SCORES:
            raise ValueError(f"score must be one of {SCORES}, got {score!r}")
        if score not in (*OF_ANY, *head.scores):
            raise ValueError(
                f"score must be one of {(*OF_ANY, *head.scores)} for {type(head).__name__}, got "
                f"{score!r}"
            )
        self.d, self.embedder, self.head, self.score = embedder.d, embedder, head, score
        if "mahalanobis" in self._scores():
            self.register_buffer("mean", torch.zeros(self.d))
            self.register_buffer("whitening", torch.eye(self.d))
            self.mean: Tensor
            self.whitening: Tensor
        like = next(embedder.parameters(), None)
        if like is not None:  # a network in double precision has a head in double precision
            self.to(like.dtype)

    def _scores(self) -> tuple[Score, ...]:
        """What the score is made of: "product" is one of two."""
        own = self.head.own_score
        return {"head": (own,), "product": ("embedder", own)}.get(self.score, (self.score,))

    @property
    def forecasts(self) -> bool:
        """Whether the score is of the last row of a window alone; see `BaseHead`."""
        return self.head.forecasts and self.head.own_score in self._scores()

    def embed(self, x: Tensor) -> Tensor:
        """Embeddings of windows; (b t c) → (b t d)."""
        return self.embedder(x).h

    def forward(self, x: Tensor) -> Embedding:
        inner = self.embedder(x)
        read = self.head.read(x, inner.h, self.embed)
        total, parts = self.head.losses(read, x, inner.h, self.embed)
        if inner.loss is not None and not self.embedder.replaced_by_head:
            parts = {**parts, "embedder": inner.loss}
            total = total + inner.loss
        parts = {name: value.detach() for name, value in parts.items()}
        score = self._score(inner, read).expand(inner.h.shape[:2])
        return Embedding(inner.h, total, score, {**inner.parts, **parts})

    def scored(self, x: Tensor) -> Embedding:
        inner = self.embedder(x)
        read = self.head.read(x, inner.h, self.embed)
        return Embedding(inner.h, score=self._score(inner, read).expand(inner.h.shape[:2]))

    def last_steps(self) -> Callable[[Tensor], Embedding] | None:
        """See `Embedder.last_steps`. Where the head needs more than last steps' embeddings: None."""
        of_embedder = self.embedder.last_steps() if self.head.of_one_step() else None
        if of_embedder is None:
            return None

        def embed(x: Tensor) -> Tensor:
            return of_embedder(x).h

        def last(x: Tensor) -> Embedding:
            inner = of_embedder(x)
            score = self._score(inner, self.head.read_last(x, inner.h, embed))
            return Embedding(_last(inner.h, score.shape[1]), score=score)

        return last

    def memory(self, n: int) -> Memory | None:
        """See `Embedder.memory`. None where the embedder or the head has none."""
        of_embedder = self.embedder.memory(n) if self.head.of_one_step() else None
        if of_embedder is None:
            return None
        others = [name for name in self._scores() if name != "embedder"]
        found = [
            self._mahalanobis_of_steps()
            if name == "mahalanobis"
            else self.head.score_of_steps(name)
            for name in others
        ]
        parts = [part for part in found if part is not None]
        if len(parts) < len(others):
            return None
        return _Memory(of_embedder, parts, "embedder" in self._scores())

    def _mahalanobis_of_steps(self) -> Callable[[np.ndarray], np.ndarray]:
        mean, whitening = array_of(self.mean.double()), array_of(self.whitening.double())

        def score(h: np.ndarray) -> np.ndarray:  # (s d)
            white = (h - mean) @ whitening
            found: np.ndarray = np.vecdot(white, white)
            return found

        return score

    def _score(self, inner: Embedding, read: Any) -> Tensor:
        total: Tensor | None = None
        for name in self._scores():
            if name == "embedder":
                part = inner.score
                if part is None:
                    raise ValueError(
                        f"score={self.score!r} needs an embedder with a score of its own; choose "
                        f"'head' or 'mahalanobis'"
                    )
            elif name == "mahalanobis":
                part = self._mahalanobis(inner.h)
            else:
                part = self.head.score(read, name)
            if total is not None:  # a forecast has fewer steps, and only the last ones
                n = min(total.shape[1], part.shape[1])
                part = _last(total, n) * _last(part, n)
            total = part
        assert total is not None
        return total

    def _mahalanobis(self, h: Tensor) -> Tensor:
        """Squared distance of embeddings (… d) from the training ones."""
        if "whitening" not in self._buffers:
            raise ValueError("score='mahalanobis' must be asked for before training")
        return ((h - self.mean) @ self.whitening).square().sum(-1)

    @torch.no_grad()
    def prepare(self, batches: Iterable[Tensor], epoch: int) -> None:
        self.embedder.prepare(batches, epoch)
        self.head.prepare(batches, self.embed, epoch)

    @torch.no_grad()
    def finish(self, batches: Iterable[Tensor]) -> None:
        self.embedder.finish(batches)
        self.head.finish(batches, self.embed)
        if "mahalanobis" not in self._scores():
            return
        # embeddings of all steps of a batch, (n d)
        mean, values, vectors = population(
            lambda: (self.embed(x).flatten(0, 1).double() for x in batches)
        )
        # a direction with next to no variance would decide alone; the root keeps the square finite
        least = max(1e-6 * values[-1].item(), torch.finfo(self.mean.dtype).tiny ** 0.5)
        self.mean.copy_(mean)
        self.whitening.copy_(vectors / values.clamp_min(least).sqrt())

    @torch.no_grad()
    def certify(self, seen: Tensor, held_out: Tensor) -> Certificate | None:
        """Does the score tell normal windows from corrupted ones, where nothing was learned?

        Parameters
        ----------
        seen : (b t c)
            Windows of the training.
        held_out : (m t c)
            Others, which do not overlap; there may be none.

        Returns
        -------
        None for a head that has no certificate: only `ContrastiveHead` trains what one is of.
        """
        return self.head.certify(self, seen, held_out)

    def no_decay(self) -> list[nn.Parameter]:
        return self.head.no_decay() + self.embedder.no_decay()

    def anchors(self) -> Tensor | None:
        return self.head.anchors()


def _last(steps: Tensor, n: int) -> Tensor:
    """The last n of steps; (b t …) → (b n …)."""
    return steps[:, steps.shape[1] - n :]


class _Memory:
    """That of an embedder, with the scores of a head; see `WithHead.memory`."""

    def __init__(
        self,
        embedder: Memory,
        parts: list[Callable[[np.ndarray], np.ndarray]],
        with_embedder: bool,
    ) -> None:
        self.embedder, self.parts, self.with_embedder = embedder, parts, with_embedder
        self.reach = embedder.reach

    def step(self, series: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        h, total = self.embedder.step(series, x)
        if not self.with_embedder:
            total = None
        elif total is None:
            return h, None
        if self.parts:
            wide = h.astype(np.float64)  # of a few numbers: digits cost nothing
            for part in self.parts:
                total = part(wide) if total is None else total * part(wide)
        return h, total
