"""What the functions to copy cost: python benchmarks/functions_speed.py

Each on one input of a usual size, one thread, the median of repeated calls -> functions.csv, which the
page book/functions.md shows. Seconds are worth little where other work shares the machine: no other
should run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from madcluster import loss, metrics
from madcluster.heads import Head
from madcluster.heads.contrastive import contrast, shrunk_distance
from madcluster.models.dcdetector import discrepancies
from madcluster.study.results import provenance, write_result
from madcluster.study.statistics import interval

BATCH, WINDOW, D, STEPS = 128, 100, 64, 10_000
SECONDS, LEAST = 0.5, 5  # of calls, for each


def cases() -> dict[str, tuple[str, Callable[[], object]]]:
    """Function → its input in words, and a call."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    h, other = torch.randn(2, BATCH, WINDOW, D)
    head, q = Head(D), torch.rand(BATCH, WINDOW)
    labels = np.repeat(rng.random(STEPS // 50) < 0.1, 50)
    scores = rng.random(STEPS)
    flags = scores > 0.99
    a = torch.rand(BATCH, 20, 20).softmax(-1)
    b = torch.rand(BATCH, 5, 5).softmax(-1)
    differences = pd.DataFrame(
        {
            "entity": np.repeat(np.arange(27), 5),
            "seed": np.tile(np.arange(5), 27),
            "difference": rng.normal(size=135),
        }
    )
    border, changed = torch.tensor(4.0), q < 0.2

    def by_contrast() -> object:
        distance, _ = shrunk_distance(h, 1e-3)
        u, of_other = (torch.log(distance(y) + 0.01) for y in (h, other))
        return contrast(u, of_other, border, changed).mean()

    embeddings = f"{BATCH} windows of {WINDOW} steps, embeddings of size {D}"
    series = f"{STEPS:,} steps"
    return {
        "one_directed_adaptive": (
            f"{BATCH * WINDOW:,} similarities",
            lambda: loss.one_directed_adaptive(q, 0.5),
        ),
        "distance_and_cosine": (embeddings, lambda: loss.distance_and_cosine(h, head.centers)),
        "head": (embeddings, lambda: head(h)),
        "contrast": (f"twice {embeddings}", by_contrast),
        "discrepancies": (
            f"{BATCH} maps of {WINDOW} steps in patches of 5",
            lambda: discrepancies(a, b),
        ),
        "vus": (f"{series}, windows up to 100", lambda: metrics.vus_score(labels, scores)),
        "affiliation": (series, lambda: metrics.affiliation_precision_recall(labels, flags)),
        "point_adjusted_f1": (series, lambda: metrics.point_adjusted_f1_score(labels, flags)),
        "best_f1": (series, lambda: metrics.best_f1_score(labels, scores)),
        "interval": ("27 entities with 5 seeds, 10,000 resamples", lambda: interval(differences)),
    }


def milliseconds(call: Callable[[], object], seconds: float = SECONDS) -> float:
    """Median of calls that take about so long together."""
    call()
    times: list[float] = []
    while len(times) < LEAST or sum(times) < seconds:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    with torch.no_grad():
        for name, (size, call) in cases().items():
            rows.append({"function": name, "input": size, "ms": round(milliseconds(call), 4)})
            print(rows[-1], flush=True)
    frame = pd.DataFrame(rows).assign(**provenance(("torch", "numpy", "scikit-learn")))
    write_result(frame, "functions")


if __name__ == "__main__":
    main()
