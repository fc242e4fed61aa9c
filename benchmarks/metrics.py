"""Our metrics beside `vus` 0.0.6 and scikit-learn: python benchmarks/metrics.py [metric …]

One thread, one run, CPU seconds, the best of several, so that other work on the machine counts little.
Peers alternate with ours on the same input, and every value is compared. Peak memory is NumPy's own,
above the inputs. `evaluate` is timed on all SMAP and SMD tests in a row where $MADCLUSTER_DATA is set,
else on a series of that length. Takes about four minutes, nearly all of them `vus`. Writes
book/results/metrics_cost.csv, and metrics_growth.csv for the log-log figure; with names of metrics
their rows of the first table alone.
"""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from sklearn import metrics as sklearn_metrics
from vus.affiliation.generics import convert_vector_to_events
from vus.affiliation.metrics import pr_from_events
from vus.utils.metrics import metricor

from madcluster import evaluate, load
from madcluster.data import entities
from madcluster.detectors import L2Norm
from madcluster.metrics import (
    affiliation_precision_recall,
    range_auc_score,
    vus_score,
)
from madcluster.study.results import provenance, renew_result, write_result

SIZES = (2_000, 28_000, 88_000, 430_000)
PEER = metricor()


def case(n: int, n_segments: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) with 5 % anomalous steps in equal parts, scores (n,) that find half of them."""
    rng = np.random.default_rng(seed)
    length = max(n // 20 // n_segments, 1)
    labels = np.zeros(n)
    for start in np.linspace(0, n - length, n_segments).astype(int):
        labels[start : start + length] = 1
    return labels, rng.normal(size=n) + labels * rng.random(n)


def flags(n: int, n_events: int, seed: int = 0) -> np.ndarray:
    """Predictions (n,) of single steps that do not touch, `n_events` of them."""
    rng = np.random.default_rng(seed)
    predicted = np.zeros(n)
    predicted[2 * rng.choice(n // 2, n_events, replace=False)] = 1
    return predicted


def seconds(call: Callable[[], object], *, repeats: int) -> float:
    """CPU time of a call, the best of several."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return min(times)


def peak(call: Callable[[], object]) -> float:
    """MiB that a call holds at most, above what was there before."""
    tracemalloc.start()
    call()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 2**20


Pair = tuple[str, str, Callable[[], object], Callable[[], object]]


def pairs(n: int) -> Iterator[Pair]:
    """What is timed on a series of n steps: metric, peer, our call, the peer's call."""
    labels, scores = case(n, max(n // 1000, 2))
    predicted = flags(n, n * 13 // 88)

    def affiliation_of_vus() -> tuple[float, float]:
        true, found = convert_vector_to_events(labels), convert_vector_to_events(predicted)
        result = pr_from_events(found, true, (0, n))
        return result["Affiliation_Precision"], result["Affiliation_Recall"]

    yield (
        "vus_score",
        "vus",
        lambda: vus_score(labels, scores),
        lambda: PEER.RangeAUC_volume_opt(labels, scores, 100)[-2:],
    )
    yield (
        "range_auc_score",
        "vus",
        lambda: range_auc_score(labels, scores),
        lambda: [PEER.RangeAUC(labels, scores, 100, plot_ROC=True)[i] for i in (0, 1)],
    )
    yield (
        "affiliation_precision_recall",
        "vus",
        lambda: affiliation_precision_recall(labels, predicted),
        affiliation_of_vus,
    )
    yield (
        "evaluate",
        "scikit-learn, AP and AUC alone",
        lambda: evaluate(labels, scores),
        lambda: (
            sklearn_metrics.average_precision_score(labels, scores),
            sklearn_metrics.roc_auc_score(labels, scores),
        ),
    )


def compare(n: int, only: Sequence[str]) -> Iterator[dict[str, object]]:
    for metric, peer, ours, theirs in pairs(n):
        if only and metric not in only:
            continue
        started = time.process_time()
        reference = theirs()
        once = time.process_time() - started
        if peer == "vus":  # equal values, or the times mean nothing
            np.testing.assert_allclose(tuple(ours()), reference, atol=1e-9)
        plain = once if once > 1 else seconds(theirs, repeats=5)
        fast = seconds(ours, repeats=9)
        yield {
            "metric": metric,
            "steps": n,
            "ours ms": round(1000 * fast, 2),
            "peer": peer,
            "peer ms": round(1000 * plain, 1),
            "times faster": float(f"{plain / fast:.3g}"),
            "peak MiB": round(peak(ours), 1),
        }


def pooled() -> tuple[str, np.ndarray, np.ndarray]:
    """The longest real series there is: all tests of SMAP and SMD in a row, scored by their norm."""
    if not os.environ.get("MADCLUSTER_DATA"):
        return ("generated", *case(886_000, 180))
    series = [load(dataset, name) for dataset in ("SMAP", "SMD") for name in entities(dataset)]
    scores = [L2Norm().fit(one.train).decision_function(one.test) for one in series]
    return "SMAP and SMD", np.concatenate([s.labels for s in series]), np.concatenate(scores)


def growth() -> Iterator[dict[str, object]]:
    """Our time as one of steps, segments, windows grows, the other two fixed."""
    base = {"steps": 64_000, "segments": 64, "windows": 100}
    values = {
        "steps": [1000 * 2**i for i in range(11)],
        "segments": [2**i for i in range(2, 12)],
        "windows": [25 * 2**i for i in range(6)],
    }
    for factor, several in values.items():
        for value in several:
            at = base | {factor: value}
            labels, scores = case(at["steps"], at["segments"])
            ours = seconds(
                lambda y=labels, s=scores, w=at["windows"]: vus_score(y, s, max_window=w), repeats=7
            )
            yield {"factor": factor, **at, "vus_score ms": round(1000 * ours, 3)}


def main() -> None:
    only, origin = sys.argv[1:], provenance(["numpy", "vus", "scikit-learn"])
    if unknown := set(only) - {metric for metric, *_ in pairs(SIZES[0])}:
        sys.exit(f"unknown metric {sorted(unknown)}")
    rows = [row for n in SIZES for row in compare(n, only)]
    if only:
        print(pd.DataFrame(rows).to_string(index=False, na_rep=""))
        renew_result(pd.DataFrame(rows).assign(**origin), "metrics_cost", by="metric")
        return
    name, labels, scores = pooled()
    rows.append(
        {
            "metric": f"evaluate, {name} pooled",
            "steps": len(labels),
            "ours ms": round(1000 * seconds(lambda: evaluate(labels, scores), repeats=3), 1),
            "peak MiB": round(peak(lambda: evaluate(labels, scores)), 1),
        }
    )
    cost, slopes = pd.DataFrame(rows), pd.DataFrame(growth())
    print(cost.to_string(index=False, na_rep=""))
    print(slopes.to_string(index=False))
    write_result(cost.assign(**origin), "metrics_cost")
    write_result(slopes.assign(**origin), "metrics_growth")


if __name__ == "__main__":
    main()
