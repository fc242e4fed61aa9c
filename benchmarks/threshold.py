"""The learned threshold over training on real data, bounded and raw: python benchmarks/threshold.py

Trains the head on Deep SVDD's embedder through the package's own `fit`, on one entity of SMD, MSL and
SMAP each (needs $MADCLUSTER_DATA), with ν = sigmoid(θ) as in the package and with ν itself as the
parameter, on the mean of the loss and on its logarithm. Writes book/results/threshold.csv.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from madcluster import load, loss
from madcluster.data import Scaler
from madcluster.heads import Head, WithHead
from madcluster.heads.head import Assignment
from madcluster.models import DeepSVDD
from madcluster.models.base import Embedding
from madcluster.study.results import provenance, write_result
from madcluster.training import Config, fit

ENTITIES = (("SMD", "machine-1-6"), ("MSL", "C-1"), ("SMAP", "P-1"))
D = 32
STEPS = 1_500  # of the optimizer, about; the number of epochs follows from the length of the series

ROWS = 50  # of a run that are kept


class RawHead(Head):
    """A head whose threshold is a free number, as a plain reading of the paper has it."""

    def __init__(self, d: int, *, outer_log: bool, threshold: float = 0.5) -> None:
        super().__init__(d, outer_log=outer_log)
        self.theta = nn.Parameter(torch.tensor(threshold))

    @property
    def threshold(self) -> Tensor | None:
        return self.theta

    def forward(self, h: Tensor) -> Assignment:
        distance = loss.distance_mapping(h, self.centers).amin(-1)  # (b t)
        q = loss.cosine_assignment(h, self.centers)  # (b t 1)
        nu = self.theta
        # from ν = 1 on no q lies above ν, and what is left of the paper's loss is −log f2
        value = loss.one_directed_adaptive(q, nu) if nu < 1 else (nu - 1) * q.log()
        return Assignment(distance, q, value.squeeze(-1))


class Watched(WithHead):
    """Report how far the steps are from the center's direction, and how hard they are pulled."""

    def forward(self, x: Tensor) -> Embedding:
        out = super().forward(x)
        with torch.enable_grad():
            q = self.head(out.h.detach()).q.detach().requires_grad_()
            nu = self.head.threshold.detach()
            value = loss.one_directed_adaptive(q, nu) if nu < 1 else (nu - 1) * q.log()
            (by_q,) = torch.autograd.grad(value.mean(), q)
        parts = {"gap": (1 - q).mean().detach(), "pull": -by_q.sum()}  # the mean of −∂L/∂q
        return out._replace(parts={**out.parts, **parts})


def run(dataset: str, entity: str, kind: str, objective: str) -> pd.DataFrame:
    series = load(dataset, entity)
    x = Scaler("minmax").fit_transform(series.train)
    torch.manual_seed(0)
    head = (RawHead if kind == "raw" else Head)(D, outer_log=objective == "log of the mean")
    model = Watched(DeepSVDD(series.n_channels, d=D), head)
    per_epoch = max(1, round(0.8 * len(x) / 5 / 64))
    epochs = round(STEPS / per_epoch)
    config = Config(
        stride=5,
        epochs=epochs,
        batch_size=64,
        lr=1e-3,
        lr_decay=0.98,
        patience=epochs,
        device="cpu",
    )
    started = time.perf_counter()
    history = fit(model, x, config).frame()
    print(f"{entity} {kind} {objective}: {time.perf_counter() - started:.0f} s", flush=True)
    history["step"] = (history.index + 1) * per_epoch
    history = history.iloc[np.unique(np.linspace(0, epochs - 1, ROWS).round().astype(int))]
    columns = ["step", "threshold", "distance", "cluster", "gap", "pull"]
    names = {"dataset": dataset, "entity": entity, "threshold is": kind, "objective": objective}
    table = history[columns].reset_index()
    return pd.concat([pd.DataFrame([names] * len(table)), table], axis=1)


def main() -> None:
    torch.set_num_threads(1)
    table = pd.concat(
        run(dataset, entity, kind, objective)
        for dataset, entity in ENTITIES
        for objective in ("mean", "log of the mean")
        for kind in ("bounded", "raw")
    )
    write_result(table.assign(**provenance()).round(8), "threshold")


if __name__ == "__main__":
    main()
