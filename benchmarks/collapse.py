"""Which training keeps embeddings apart? python benchmarks/collapse.py [part] [--jobs 2]

Every way of training is run with three embedders on five series with ten seeds, on a short budget:
the last 6,000 train rows, about 240 windows of 32 steps, 8 epochs at a learning rate of 2e-3. Runs
that are finished are skipped, so the study can be stopped and started at will: each leaves one small
file under _build/collapse/, written under another name first. When all are there, they become
book/results/collapse.csv. Needs $MADCLUSTER_DATA with SMD, MSL and SMAP; takes about half an hour.

Fixed before the first run
--------------------------
Series: the plant `synthetic(seed=0)`, and of SMD, MSL and SMAP the first entities by name with at
least 2,000 train rows, two of SMD and one each of the others.

Measure of collapse: `variance_ratio`, total variance of the embeddings of held-out windows (the tail
of the train split), relative to that before the first step.

Criterion. A guard *holds* if

1. its variance ratio is at least 0.1 in every run, and
2. its VUS-PR is not worse than that of the paper's loss: the lower end of the 95 % interval of the
   mean paired difference is above -0.02. The interval is a bootstrap over cells (embedder, series) and
   over seeds within cells.

Choice. No guard, constant or seed is chosen by a test label. Of several guards that meet (1), the one
with the best mean average precision on *planted* events in the tail of the train split is taken, and
(2) is asked of that one. A floor is set at half of the standard deviation at the start, a quarter of
the variance, which leaves room above 0.1; its weight of 10 follows from the bound in book/guards.

Added when seed 0 and part of 1 had been seen: the floors rank worse by the paper's score, but not
by a Mahalanobis distance, which every run computes beside it. A pair of guard and score is therefore
put to the same criterion, against the paper's loss with the paper's score, on ten seeds that were not
seen then, 2 to 11; the guard is again the one with the best planted events, ranked by that score.

The paper's loss here is the package's: log mean(D + L), the log being the released code's. A guard acts
on training: to multiply finished embeddings by a constant raises their variance and changes no ranking
by distance, so it does not count. A pilot with a seed outside the study looked at no test label. The
budget was then shortened twice after trial runs, one of which printed three test scores, and
the package's floor was moved from single dimensions to the total variance by the planted events while
the study ran. The criterion was not changed.

Centers and losses: python benchmarks/collapse.py questions   -> questions.csv
--------------------------------------------------------------------------------
What reviewers of the paper's first version asked of its two parts. Written before the first run, after
the table above had been seen:

Series: the plant, and of SMD, MSL and SMAP the first four entities by name with at least 2,000 train
rows, the two, one and one of above among them. All three embedders, seeds 0 and 1, the budget of above.

- Centers, each with the paper's loss D + L: a parameter at the common rate ("paper"), at ten times and
  at a tenth of it, a moving average, the mean of the embeddings of train before every epoch, fixed, and
  after DASVDD (Hojjati and Armanfard 2024): the network learns from nine batches while the center is
  held, the center from the tenth while the network is held.
- Losses in the place of L, each with the distance and a free center: the One-directed Adaptive loss
  with a learned ("paper") and with a constant threshold of a half, binary cross-entropy of q against
  its hard label q >= 1/2 and against that label smoothed by .01, (1 - q)^2, 1 - q, and none.

Score: D plus what was trained beside it. Primary: VUS-PR, each less "paper", paired by series after the
mean over embedders and seeds: the mean with its bootstrap interval, and Wilcoxon's test with Holm's
correction over the 12 others. Beside it the variance ratio, below .1 counted as collapsed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from madcluster import evaluate, load, loss, synthetic
from madcluster.data import Scaler, Series, entities
from madcluster.diagnostics import CollapseWarning, Monitor
from madcluster.files import whole_file
from madcluster.heads import Head, WithHead
from madcluster.heads.base import Embed
from madcluster.heads.head import Assignment, variance_floor
from madcluster.metrics import average_precision_score
from madcluster.models import THOC, DeepSVDD, Embedder, Embedding, as_embedder
from madcluster.randomness import seeded
from madcluster.scoring import score
from madcluster.study.results import provenance, write_result
from madcluster.training import Batches, Config, fit, split_tail

FOLDER = Path(__file__).parents[1] / "_build" / "collapse"
SEEDS = range(10)
MORE = range(10, 12)  # for the paper's loss and the guards that hold the ratio
REAL = {"SMD": 2, "MSL": 1, "SMAP": 1}  # entities of each, by name
LEAST_ROWS = 2_000
ROWS, WINDOW, WINDOWS, EPOCHS, BATCH, D = 6_000, 32, 240, 8, 16, 16
FLOOR, WEIGHT = 0.5, 10.0
FLOORS = ("hinge on std", "floor on log std", "floor on log std, no log", "floor on log variance")


class GRU(nn.Module):
    """A recurrent layer and a linear one, both with bias: it can represent any constant."""

    def __init__(self, n_channels: int, d: int) -> None:
        super().__init__()
        self.gru = nn.GRU(n_channels, d, batch_first=True)
        self.out = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(x)[0])


EMBEDDERS = {
    "deepsvdd": lambda c: DeepSVDD(c, d=D, n_layers=3),
    "gru": lambda c: as_embedder(GRU(c, D), n_channels=c, window=WINDOW),
    "thoc": lambda c: THOC(c, window=WINDOW, d=D, dilations=(4,), n_clusters=(6,)),
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way of training; the defaults are the paper's loss as the package has it."""

    terms: Literal["both", "distance"] = "both"
    center: Literal["free", "fixed", "average", "epoch mean", "alternating"] = "free"
    rate: float = 1.0  # of a free center, in units of the common one
    threshold: Literal["bounded", "raw", "constant"] = "bounded"
    cluster: Literal["paper", "released", "bce", "smoothed bce", "square", "cosine"] = "paper"
    outer_log: bool = True
    guard: Literal["none", "hinge", "log", "total", "shuffled"] = "none"
    norm: Literal["none", "sphere", "batch"] = "none"
    bias: bool = True
    epochs: int = EPOCHS


VARIANTS = {
    "untrained": Variant(epochs=0),
    "fixed center": Variant(terms="distance", center="fixed", outer_log=False),
    "free center": Variant(terms="distance", outer_log=False),
    "paper": Variant(),
    "paper, fixed center": Variant(center="fixed"),
    "paper, moving average": Variant(center="average"),
    "paper, raw threshold": Variant(threshold="raw"),
    "paper, no log": Variant(outer_log=False),
    "released": Variant(cluster="released", threshold="raw"),
    "bias-free": Variant(bias=False),
    "fixed norm": Variant(norm="sphere"),
    "batch norm": Variant(norm="batch"),
    "hinge on std": Variant(guard="hinge"),
    "floor on log std": Variant(guard="log"),
    "floor on log std, no log": Variant(guard="log", outer_log=False),
    "floor on log variance": Variant(guard="total"),
    "floor on shuffled": Variant(guard="shuffled"),
}
QUESTIONS = {
    "paper": VARIANTS["paper"],
    "center: ten times the rate": Variant(rate=10.0),
    "center: a tenth of the rate": Variant(rate=0.1),
    "center: moving average": VARIANTS["paper, moving average"],
    "center: mean before every epoch": Variant(center="epoch mean"),
    "center: fixed": VARIANTS["paper, fixed center"],
    "center: alternating": Variant(center="alternating"),
    "loss: constant threshold": Variant(threshold="constant"),
    "loss: cross-entropy": Variant(cluster="bce", threshold="constant"),
    "loss: smoothed cross-entropy": Variant(cluster="smoothed bce", threshold="constant"),
    "loss: (1 - q)^2": Variant(cluster="square", threshold="constant"),
    "loss: 1 - q": Variant(cluster="cosine", threshold="constant"),
    "loss: none": Variant(terms="distance"),
}
MORE_REAL = {"SMD": 4, "MSL": 4, "SMAP": 4}
EVERY = 10  # batches: of that many, an alternating center learns from the last


class Normed(Embedder):
    """Embeddings on a sphere of fixed radius, or standardized by the batch."""

    def __init__(self, inner: Embedder, norm: str) -> None:
        super().__init__()
        self.inner, self.norm, self.d = inner, norm, inner.d
        self.replaced_by_head = inner.replaced_by_head
        self.batch = nn.BatchNorm1d(inner.d, affine=False)
        self.register_buffer("radius", torch.ones(()))
        self.radius: Tensor

    def forward(self, x: Tensor) -> Embedding:
        out = self.inner(x)
        if self.norm == "sphere":
            return out._replace(h=self.radius * nn.functional.normalize(out.h, dim=-1))
        return out._replace(h=self.batch(out.h.mT).mT)

    @torch.no_grad()
    def prepare(self, batches: Iterable[Tensor], epoch: int) -> None:
        self.inner.prepare(batches, epoch)
        if epoch == 0:
            h = torch.cat([self.inner(x).h.flatten(0, 1) for x in batches])
            self.radius.copy_(h.square().sum(-1).mean().sqrt())
            self.batch.running_mean.copy_(h.mean(0))
            self.batch.running_var.copy_(h.var(0))


def floor_of_each(h: Tensor, start: Tensor) -> Tensor:
    """The floor on every dimension, weighted by its share in the variances `start` (d,)."""
    live = start > 1e-8 * start.amax()
    variance = h.flatten(0, -2)[:, live].var(0, correction=0)
    variance = variance.clamp_min(torch.finfo(h.dtype).tiny)
    share = start[live] / start[live].sum()
    missing = torch.relu(math.log(FLOOR) - (variance / start[live]).log() / 2)
    return WEIGHT * (share * missing).sum()


class StudyHead(Head):
    """The head with everything that the study changes about it."""

    def __init__(self, d: int, variant: Variant) -> None:
        super().__init__(d, outer_log=variant.outer_log)
        self.variant = variant
        self.centers.requires_grad_(variant.center in ("free", "alternating"))
        self.register_buffer("placed", torch.zeros_like(self.centers))
        self.placed: Tensor
        self.batch = 0  # seen in training
        if variant.threshold == "raw":
            nn.init.constant_(self.theta, 0.5)
        if variant.threshold == "constant":
            self.theta.requires_grad_(False)

    def place(self, batches: Iterable[Tensor]) -> None:
        h = torch.cat([batch.flatten(0, -2) for batch in batches])
        super().place([h])
        self.placed.copy_(self.centers)
        self.each = h.var(0, correction=0)  # (d,)

    def prepare(self, batches: Iterable[Tensor], embed: Embed, epoch: int) -> None:
        if epoch > 0 and self.variant.center == "epoch mean":
            h = torch.cat([embed(x).flatten(0, -2) for x in batches])
            self.centers.copy_(h.mean(0)[None])
            return
        super().prepare(batches, embed, epoch)

    def anchors(self) -> Tensor:
        """The centers (1 d). Adam's steps do not see a factor of the gradient, so this is a rate."""
        if self.variant.rate == 1:
            return self.centers
        return self.placed + self.variant.rate * (self.centers - self.placed)

    @property
    def threshold(self) -> Tensor | None:
        return self.theta if self.variant.threshold == "raw" else super().threshold

    def _cluster(self, q: Tensor) -> Tensor:
        """L of the paper, or the released one: p = 1 smoothed to .99, so f1 for every q, and −log q."""
        nu = self.threshold
        kind = self.variant.cluster
        if kind == "paper":
            return loss.one_directed_adaptive(q, nu)
        if kind in ("square", "cosine"):
            return (1 - q).square() if kind == "square" else 1 - q
        if kind in ("bce", "smoothed bce"):
            target = (q.detach() >= nu).to(q.dtype)
            if kind == "smoothed bce":
                target = 0.99 * target + 0.01 * (1 - target)
            inside = q.clamp(1e-6, 1 - 1e-6)
            return nn.functional.binary_cross_entropy(inside, target, reduction="none")
        q = q.clamp_min(torch.finfo(q.dtype).tiny)
        s = -torch.expm1((1 - nu) * nu.log()) / (1 - nu)
        gap = (s * (1 - q)).clamp_max(1 - torch.finfo(q.dtype).eps)
        return -0.99 * torch.log1p(-gap) - 0.01 * (1 - nu) * q.log() - q.log()

    def penalty(self, h: Tensor) -> Tensor | None:
        guard = self.variant.guard
        if guard in ("none", "shuffled") or not self.training:
            return None
        if guard == "total":
            return variance_floor(h, self.start, floor=FLOOR, weight=WEIGHT)
        if guard == "log":
            return floor_of_each(h, self.each)
        # VICReg's, with the start as its unit
        live = self.each > 1e-8 * self.each.amax()
        variance = h.flatten(0, 1).var(0, correction=0)
        std = (variance[live] / self.each[live] + 1e-4).sqrt()
        return WEIGHT * torch.relu(FLOOR - std).mean()

    def forward(self, h: Tensor) -> Assignment:
        if self.training and self.variant.center == "average":
            with torch.no_grad():
                self.centers.lerp_(h.mean((0, 1))[None], 0.01)
        centers = self.anchors()
        if self.training and self.variant.center == "alternating":
            self.batch += 1
            turn = self.batch % EVERY == 0  # of the center
            h, centers = (h.detach(), centers) if turn else (h, centers.detach())
        distance = loss.distance_mapping(h, centers).squeeze(-1)
        q = loss.cosine_assignment(h, centers)
        cluster = self._cluster(q).squeeze(-1)
        if self.variant.terms == "distance":
            cluster = torch.zeros_like(cluster)
        return Assignment(distance, q, cluster)


def shuffled(x: Tensor) -> Tensor:
    """Windows (b t c) in which every channel comes from another window: normal values, no relations."""
    b, _, c = x.shape
    shift = 1 + torch.arange(c, device=x.device) % max(b - 1, 1)  # (c,), the same in every call
    index = (torch.arange(b, device=x.device)[:, None] + shift) % b  # (b c)
    return x.gather(0, index[:, None, :].expand_as(x))


class Contrasted(WithHead):
    """The floor is put under the embeddings of shuffled windows; those of normal ones may shrink."""

    def forward(self, x: Tensor) -> Embedding:
        out = super().forward(x)
        if not self.training or len(x) < 2:
            return out
        h = self.embedder(shuffled(x)).h
        return out._replace(loss=out.loss + floor_of_each(h, self.each_shuffled))

    @torch.no_grad()
    def prepare(self, batches: Iterable[Tensor], epoch: int) -> None:
        super().prepare(batches, epoch)
        if epoch == 0:
            h = torch.cat([self.embedder(shuffled(x)).h.flatten(0, 1) for x in batches])
            self.each_shuffled = h.var(0, correction=0)


@dataclass(frozen=True)
class Run:
    dataset: str
    entity: str
    embedder: str
    variant: str
    seed: int

    def path(self, folder: Path) -> Path:
        name = "_".join(map(str, asdict(self).values())).replace(" ", "-").replace(",", "")
        return folder / f"{name}.json"


def series_of_the_study(real: Mapping[str, int] = REAL) -> list[tuple[str, str]]:
    """(dataset, entity), by the rule at the top."""
    chosen = [("synthetic", "0")]
    for dataset, n in real.items():
        long = (
            e for e in sorted(entities(dataset)) if len(_series(dataset, e).train) >= LEAST_ROWS
        )
        chosen += [(dataset, next(long)) for _ in range(n)]
    return chosen


def grid(
    series: Sequence[tuple[str, str]], seeds: Iterable[int] = SEEDS, more: Iterable[int] = MORE
) -> list[Run]:
    """All runs, seed by seed, so that a study that is stopped has whole seeds.

    Deep SVDD's network has no bias that could be taken away.
    """
    return [
        Run(dataset, entity, embedder, variant, seed)
        for several, variants in ((seeds, tuple(VARIANTS)), (more, ("paper", *FLOORS)))
        for seed in several
        for dataset, entity in series
        for embedder in EMBEDDERS
        for variant in variants
        if not (embedder == "deepsvdd" and variant == "bias-free")
    ]


def questions(series: Sequence[tuple[str, str]]) -> list[Run]:
    """All runs on centers and losses, seed by seed."""
    return [
        Run(dataset, entity, embedder, variant, seed)
        for seed in range(2)
        for dataset, entity in series
        for embedder in EMBEDDERS
        for variant in QUESTIONS
    ]


@cache
def _series(dataset: str, entity: str) -> Series:
    return synthetic(seed=int(entity)) if dataset == "synthetic" else load(dataset, entity)


def planted(x: np.ndarray, scale: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n c) with an event of ten rows in every slot of 60, and labels (n,).

    An event moves a quarter of the channels that vary in train: by an offset of three of their
    standard deviations `scale` (c,), by noise of that size, or by holding their first value plus one.
    """
    rng = np.random.default_rng(seed)
    x, labels = x.copy(), np.zeros(len(x), dtype=bool)
    varying = np.flatnonzero(scale > 0)
    for i, first in enumerate(range(0, len(x) - 59, 60)):
        rows = np.arange(10) + first + rng.integers(5, 45)
        channels = rng.choice(varying, max(1, len(varying) // 4), replace=False)
        at, unit = np.ix_(rows, channels), scale[channels]
        if i % 3 == 0:
            x[at] += 3 * unit * rng.choice([-1, 1], len(channels))
        elif i % 3 == 1:
            x[at] += 3 * unit * rng.normal(size=(10, len(channels)))
        else:
            x[at] = x[rows[0], channels] + unit
        labels[rows] = True
    return x, labels


class Mahalanobis(Embedder):
    """A model scored by the distance of h from the train windows, in units of their covariance.

    It does not see scale: any invertible linear map of h gives the same score.
    """

    def __init__(self, model: WithHead, train: Batches) -> None:
        super().__init__()
        self.model, self.d = model, model.d
        with torch.no_grad():
            h = torch.cat([model(x).h.flatten(0, 1) for x in train]).double()
        self.mean, cov = h.mean(0), h.T.cov()
        values, vectors = torch.linalg.eigh(cov)
        self.whiten = vectors / values.clamp_min(1e-6 * values[-1] + 1e-300).sqrt()

    def forward(self, x: Tensor) -> Embedding:
        h = self.model(x).h
        return Embedding(h, None, ((h.double() - self.mean) @ self.whiten).square().sum(-1))


def model_of(embedder: str, variant: Variant, n_channels: int, seed: int) -> WithHead:
    with seeded(seed):
        base = EMBEDDERS[embedder](n_channels)
        if not variant.bias:
            for name, parameter in base.named_parameters():
                if "bias" in name:
                    nn.init.zeros_(parameter).requires_grad_(False)
        if variant.norm != "none":
            base = Normed(base, variant.norm)
        kind = Contrasted if variant.guard == "shuffled" else WithHead
        return kind(base, StudyHead(base.d, variant))


def run(one: Run) -> dict[str, Any]:
    """Train, measure and score; one row of the table."""
    started = time.perf_counter()
    series, variant = _series(one.dataset, one.entity), (VARIANTS | QUESTIONS)[one.variant]
    scaler = Scaler("minmax").fit(series.train)
    train, test = scaler.transform(series.train)[-ROWS:], scaler.transform(series.test)
    config = Config(
        window=WINDOW,
        stride=min(WINDOW, max(1, len(train) // WINDOWS)),
        epochs=max(1, variant.epochs),
        batch_size=BATCH,
        lr=2e-3,
        seed=one.seed,
        device="cpu",
    )
    model = model_of(one.embedder, variant, series.n_channels, one.seed)
    cut = split_tail(len(train), window=WINDOW, fraction=config.validation)
    rows = torch.as_tensor(train)
    batches = Batches(rows[:cut], window=WINDOW, stride=config.stride, batch_size=BATCH)
    if variant.epochs:
        history = fit(model, train, config)
        kept = history.epochs[history.best_epoch]
        epochs = len(history.epochs)
    else:
        model.eval().prepare(batches, 0)
        held = Batches(rows[cut:], window=WINDOW, stride=config.stride, batch_size=BATCH)
        kept, epochs = Monitor(model, held.sample(64)).row(), 0
    with torch.no_grad():
        held = Batches(rows[cut:], window=WINDOW, stride=config.stride, batch_size=BATCH).sample(64)
        order = torch.randperm(len(held), generator=torch.Generator().manual_seed(one.seed))
        mixed, normal = (
            loss.distance_mapping(model.embedder(x).h, model.head.anchors()).mean().item()
            for x in (shuffled(held[order]), held)
        )
    tail, marks = planted(train[cut:], train[:cut].std(0), one.seed)
    steps = max(10, len(test) // 1000)
    on_tail = score(model, tail, window=WINDOW, stride=10)
    found = evaluate(series.labels, score(model, test, window=WINDOW, stride=steps))
    other = Mahalanobis(model, batches)
    on_tail_other = score(other, tail, window=WINDOW, stride=10)
    found_other = evaluate(series.labels, score(other, test, window=WINDOW, stride=steps))
    measured = {
        "variance_ratio": kept["variance_ratio"],
        "effective_rank": kept["effective_rank"],
        "distinct_scores": kept["distinct_scores"],
        "center_distance": kept["center_distance"],
        "contrast": mixed / normal if normal > 0 else math.nan,
        "threshold": model.head.threshold.item(),
        "tail_ap": average_precision_score(marks, on_tail),
        "VUS_PR": found["VUS_PR"],
        "tail_ap_mahalanobis": average_precision_score(marks, on_tail_other),
        "VUS_PR_mahalanobis": found_other["VUS_PR"],
        "VUS_ROC": found["VUS_ROC"],
        "aupr": found["aupr"],
        "roc_auc": found["roc_auc"],
        "seconds": time.perf_counter() - started,
    }
    return {
        **asdict(one),
        "epochs": epochs,
        **{name: float(f"{value:.4g}") for name, value in measured.items()},
        **provenance(("torch",), seed=one.seed),
    }


def run_and_keep(one: Run, folder: Path) -> None:
    """Run, and write the row whole or not at all."""
    row = run(one)
    with whole_file(one.path(folder)) as part:
        part.write_text(json.dumps(row))


def _alone() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", CollapseWarning)  # it is what the study is about


def run_all(runs: Sequence[Run], folder: Path, *, jobs: int) -> int:
    """Run what has no file yet; returns how many that were. One job stays in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [one for one in runs if not one.path(folder).exists()]
    if jobs == 1:
        for one in missing:
            run_and_keep(one, folder)
        return len(missing)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_alone) as pool:
        waiting = [pool.submit(run_and_keep, one, folder) for one in missing]
        for i, done in enumerate(as_completed(waiting), 1):
            done.result()
            if i % 100 == 0 or i == len(missing):
                print(f"{i} of {len(missing)}", flush=True)
    return len(missing)


def collect(runs: Sequence[Run], folder: Path) -> pd.DataFrame:
    """One row per run, in the order of the grid."""
    return pd.DataFrame([json.loads(one.path(folder).read_text()) for one in runs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=("guards", "questions"), default="guards")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    if not os.environ.get("MADCLUSTER_DATA"):
        print("skipped: set MADCLUSTER_DATA to a folder with SMD, MSL and SMAP")
        return
    if arguments.jobs == 1:
        _alone()
    if arguments.part == "questions":
        runs, table = questions(series_of_the_study(MORE_REAL)), "questions"
    else:
        runs, table = grid(series_of_the_study()), "collapse"
    print(f"{len(runs)} runs, {run_all(runs, FOLDER, jobs=arguments.jobs)} of them new")
    write_result(collect(runs, FOLDER), table)


if __name__ == "__main__":
    main()
