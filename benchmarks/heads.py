"""What a head costs beside the paper's: python benchmarks/heads.py

A training step of every head on the same embedder, in turns in one process, and the ratio to the step
of the paper's head; the same for scoring, beside the score "mahalanobis" of the paper's head; what the
end of a fit takes once, population and certificate; and the memory that a step adds, each in a process
of its own -> heads.csv

Windows of MSL's shape in batches of 16, the widths of chapter 13, one thread, medians. The ratios are
of one run; seconds are worth little where other work shares the machine.
"""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from madcluster.heads import HEADS, WithHead, build, head_of
from madcluster.models import Embedder
from madcluster.study.benchmark import CPU_OPTIONS
from madcluster.study.results import peak_memory, provenance, write_result

CHANNELS, WINDOW, BATCH = 55, 100, 16
TRAIN, HELD_OUT = 160, 5  # windows of a short channel of MSL
ROUNDS = 30
# narrow, wide, and one with attention
EMBEDDERS = {
    "deepsvdd": CPU_OPTIONS["deepsvdd"],
    "deepsvdd, d 256": {"d": 256},
    "anomaly_transformer": CPU_OPTIONS["anomaly_transformer"],
}


def rows(n: int) -> Tensor:
    """Windows (n t c) that follow a few hidden sines."""
    torch.manual_seed(0)
    steps = torch.arange(n * WINDOW).reshape(n, WINDOW, 1)
    hidden = torch.sin(steps / torch.linspace(3, 30, 5))
    return hidden @ torch.randn(5, CHANNELS) + 0.1 * torch.randn(n, WINDOW, CHANNELS)


def made(embedder: str, head: str, *, score: str = "head") -> Embedder:
    torch.manual_seed(0)
    model = build(
        embedder.split(",")[0],
        n_channels=CHANNELS,
        window=WINDOW,
        head=head_of(head, n_channels=CHANNELS),
        score=score,
        options=EMBEDDERS[embedder],
    )
    model.eval()
    model.prepare([rows(BATCH)], 0)
    return model


def step_of(model: Embedder, x: Tensor) -> Callable[[], None]:
    """One training step as `training.fit` takes it."""
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-4, amsgrad=True)

    def step() -> None:
        loss = model(x).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def score_of(model: Embedder, x: Tensor) -> Callable[[], None]:
    model.eval().finish([x])

    def score() -> None:
        with torch.no_grad():
            model.scored(x)

    return score


def in_turns(actions: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median seconds of every action, one after the other, round by round."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(-2, ROUNDS):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if turn >= 0:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) for name, each in times.items()}


def peak(embedder: str, head: str) -> float:
    """MiB by which two training steps raise the highest resident size; for a fresh process."""
    torch.set_num_threads(1)
    step = step_of(made(embedder, head), rows(BATCH))
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    step()
    step()
    return (peak_memory() - pages * resource.getpagesize()) / 2**20


def apart(embedder: str, head: str) -> float:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(peak, embedder, head).result()


def at_the_end(embedder: str, head: str) -> float:
    """Seconds of `finish` and the certificate, once after a fit."""
    model = made(embedder, head)
    assert isinstance(model, WithHead)
    train, held_out = rows(TRAIN), rows(HELD_OUT)
    started = time.perf_counter()
    model.eval().finish(train.split(BATCH))
    model.certify(train, held_out)
    return time.perf_counter() - started


def main() -> None:
    torch.set_num_threads(1)
    found, x = [], rows(BATCH)
    for embedder in EMBEDDERS:
        steps = in_turns({head: step_of(made(embedder, head), x) for head in HEADS})
        scorers = {head: score_of(made(embedder, head), x) for head in HEADS}
        white = score_of(made(embedder, "madcluster", score="mahalanobis"), x)
        scores = in_turns({**scorers, "white": white})
        for head in HEADS:
            found.append(
                {
                    "embedder": embedder,
                    "head": head,
                    "step s": round(steps[head], 5),
                    "step ratio": round(steps[head] / steps["madcluster"], 2),
                    "score s": round(scores[head], 5),
                    "score ratio": round(scores[head] / scores["white"], 2),
                    "end of fit s": round(at_the_end(embedder, head), 3),
                    "step MiB": round(apart(embedder, head), 1),
                }
            )
            print(found[-1], flush=True)
    write_result(pd.DataFrame(found).assign(**provenance()), "heads")


if __name__ == "__main__":
    main()
