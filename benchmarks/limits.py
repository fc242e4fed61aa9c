"""How far every path is from what this machine can do: python benchmarks/limits.py [part …]

Parts, all of them by default; each renews its own rows of book/results/limits.csv, an embedder as soon
as it is measured:

metrics      every metric against one np.argsort of as many scores, for 28k, 88k and 430k rows
embedders    training step and inference of every embedder, with and without the head,
             against the products of matrices and the bytes that they cannot do without
growth       metrics by rows -> limits_growth.csv; embedders.py has networks by window and channels

    python benchmarks/limits.py embedders --only usad thoc     # some of them
    python benchmarks/limits.py metrics --to limits_before     # another table

What a path cannot go below, its floor, is measured in the same process in turns with the path. The
floor of a network is the larger of two times:

- its multiply-adds, counted as the operations come, each at the rate that a plain product of its own
  shape reaches here (a convolution is the product of its unfolded input and its kernel);
- the bytes that must move whatever the code: parameters, gradients and the state of Adam in a step,
  parameters alone in inference, and the windows; at the rate of a copy.

Beside it stands what the operations as written would take, one after the other, each the larger of
its product and of the bytes that it reads and writes, at the rate of a copy of that size: between it
and the floor lies what fewer operations would save, and above it what calling them costs.

One thread. Times are CPU seconds, the best of several, so that other work on the machine counts little.
Memory is the highest resident size of a process of its own above that before the first call; Linux.
Networks are as published, on 32 windows of MSL's shape. All parts take about five minutes.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from embedders import MSL_CHANNELS, WINDOW, published, train
from metrics import case, flags
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from madcluster import metrics as of_scores
from madcluster.models import EMBEDDERS, Embedder
from madcluster.study.results import peak_memory, provenance, renew_result

ROWS = 28_000, 88_000, 430_000
BATCH = 32
Action = Callable[[], object]


def best(actions: dict[str, Action], *, rounds: int, least: float = 0.0) -> dict[str, float]:
    """CPU seconds of every action, the best of `rounds` in turns; short ones repeated for `least` s."""
    found, repeats = dict.fromkeys(actions, math.inf), dict.fromkeys(actions, 1)
    for turn in range(-1, rounds):
        for name, action in actions.items():
            started = time.process_time()
            for _ in range(repeats[name]):
                action()
            each = (time.process_time() - started) / repeats[name]
            if turn < 0:  # a warm-up, which says how often
                repeats[name] = max(1, math.ceil(least / max(each, 1e-7)))
            else:
                found[name] = min(found[name], each)
    return found


def apart(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a process of its own, a copy of this one, which has computed nothing yet."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(function, *arguments).result()


def peak(make: Callable[..., dict[str, Action]], which: str, *arguments: object) -> float:
    """MiB by which an action, repeated once, raises the resident size of a fresh process."""
    action = make(*arguments)[which]
    Path("/proc/self/clear_refs").write_text("5")  # the highest size begins anew
    before = _highest()
    action()
    action()
    return round(_highest() - before, 1)


def _highest() -> float:
    return peak_memory() / 2**20


# --- metrics --------------------------------------------------------------------------------------


def metrics_of(n: int) -> dict[str, Action]:
    """Every metric on a series of n rows, and what it is measured against."""
    labels, scores = case(n, max(n // 1000, 2))
    predicted = flags(n, n * 13 // 88)
    hard = labels.astype(bool)
    of_prediction = ("affiliation_precision_recall", "point_adjusted_f1_score")
    of_score = (
        *("best_f1_score", "best_point_adjusted_f1_score", "average_precision_score"),
        *("roc_auc_score", "range_auc_score", "vus_score", "evaluate"),
    )
    return {
        "argsort": lambda: np.argsort(scores),
        "sort": lambda: np.sort(scores),
        "copy": lambda: scores.copy(),
        "soft_labels": lambda: of_scores.soft_labels(hard, 100),
        **{m: lambda m=m: getattr(of_scores, m)(labels, predicted) for m in of_prediction},
        **{m: lambda m=m: getattr(of_scores, m)(labels, scores) for m in of_score},
    }


def metric_seconds(n: int) -> dict[str, float]:
    return best(metrics_of(n), rounds=15, least=0.01)


Rows = list[dict[str, object]]


def metrics_rows(only: Iterable[str]) -> Iterator[Rows]:
    yield [row for n in ROWS for row in metrics_at(n, only)]


def metrics_at(n: int, only: Iterable[str]) -> Iterator[dict[str, object]]:
    seconds = apart(metric_seconds, n)
    for metric in seconds:
        if metric in ("argsort", "sort", "copy") or (only and metric not in only):
            continue
        yield {
            "path": metric,
            "what": f"{n} rows",
            "floor": "argsort",
            "floor ms": _ms(seconds["argsort"]),
            "path ms": _ms(seconds[metric]),
            "ratio": _short(seconds[metric] / seconds["argsort"]),
            "sort ms": _ms(seconds["sort"]),
            "copy ms": _ms(seconds["copy"]),
            "peak MiB": apart(peak, metrics_of, metric, n),
        }


# --- embedders ------------------------------------------------------------------------------------

Shape = tuple[int, int, int, int]  # of a product: how many, rows, inner size, columns


class Operations(TorchDispatchMode):
    """Multiply-adds by shape of the product, and bytes read and written, of all that runs within.

    Attributes
    ----------
    multiply_adds : Counter
        Of a Shape, as torch's counter has them (half of its operations).
    each : Counter
        How often an operation of this Shape or None, multiply-adds and bytes came.
    """

    def __init__(self) -> None:
        super().__init__()
        self.multiply_adds: Counter[Shape] = Counter()
        self.each: Counter[tuple[Shape | None, int, int]] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        shape, count = None, 0
        if packet in flop_registry:
            count = flop_registry[packet](*args, **(kwargs or {}), out_val=out) // 2
            shape = product_of(packet, args, out)
            self.multiply_adds[shape] += count
        moved = bytes_of(func, [*tree_leaves(args), *tree_leaves(kwargs)], tree_leaves(out))
        if count or moved:
            self.each[shape, count, moved] += 1
        return out


def product_of(packet: Any, args: tuple[Any, ...], out: Any) -> Shape:
    """The plain product that does the work of an operation."""
    name = packet.__name__
    if name in ("mm", "addmm"):
        a, b = args[-2:]
        return (1, a.shape[0], a.shape[1], b.shape[1])
    if name in ("bmm", "baddbmm"):
        a, b = args[-2:]
        return (a.shape[0], a.shape[1], a.shape[2], b.shape[2])
    if name not in ("convolution", "convolution_backward"):
        raise LookupError(f"no product is known that does the work of {name}")
    backward = name == "convolution_backward"
    made = args[0] if backward else out
    x, kernel = args[1:3] if backward else args[:2]
    transposed, groups = args[7 if backward else 6], args[9 if backward else 8]
    at = x if transposed else made  # (b c *space): where the kernel is laid on
    steps = at.shape[0] * math.prod(at.shape[2:])
    return (groups, steps, kernel[0].numel(), kernel.shape[0] // groups)


def bytes_of(func: Any, read: list[object], made: list[object]) -> int:
    """Bytes that an operation reads and writes; none for a view, or for memory that it only takes."""
    if func.is_view or func.__name__.startswith(("empty", "new_empty", "detach", "_unsafe_view")):
        return 0
    tensors = [t for t in (*read, *made) if isinstance(t, Tensor)]
    return sum(min(t.numel() * t.element_size(), t.untyped_storage().nbytes()) for t in tensors)


def product(shape: Shape) -> Action:
    many, m, k, n = shape
    if many == 1:
        a, b = torch.randn(m, k), torch.randn(k, n)
        return lambda: torch.mm(a, b)
    a, b = torch.randn(many, m, k), torch.randn(many, k, n)
    return lambda: torch.bmm(a, b)


COPIES = {2**power: torch.ones(2**power // 4) for power in range(12, 28, 3)}  # bytes → floats


def copy_of(x: Tensor) -> Action:
    to = torch.empty_like(x)
    return lambda: to.copy_(x)


def paths(name: str, head: bool) -> dict[str, Action]:
    torch.manual_seed(0)
    x = torch.randn(BATCH, WINDOW, MSL_CHANNELS)
    learning, known = published(name, head=head), published(name, head=head).eval()

    def scores() -> None:
        with torch.no_grad():
            known.scored(x)

    return {"step": train(learning, x), "inference": scores}


def least_bytes(model: Embedder, what: str) -> int:
    """Bytes that no code could spare: see the head of this file.

    In a step every parameter is read forth and back, its gradient is written and read, and Adam reads
    and writes it, two moments and their largest: 12 times its size.
    """
    parameters = 4 * sum(p.numel() for p in model.parameters())
    windows = 4 * BATCH * WINDOW * MSL_CHANNELS
    return (12 if what == "step" else 1) * parameters + windows


def roofline(name: str, head: bool) -> dict[str, dict[str, object]]:
    """Both paths of an embedder and their floors, in turns."""
    actions = paths(name, head)
    done: dict[str, Operations] = {}
    for what, action in actions.items():
        action()  # the optimizer has its state from the first step on
        with Operations() as done[what]:
            action()
    shapes = {s for operations in done.values() for s in operations.multiply_adds}
    products = best({str(s): product(s) for s in shapes}, rounds=3, least=0.005)
    copies = best({str(size): copy_of(x) for size, x in COPIES.items()}, rounds=3, least=0.005)
    seconds = best(actions, rounds=2)
    rates = {s: math.prod(s) / products[str(s)] for s in shapes}
    model = published(name, head=head)
    return {
        what: _row(done[what], seconds[what], least_bytes(model, what), rates, copies)
        for what in actions
    }


def _row(
    done: Operations, path: float, least: int, rates: dict[Shape, float], copies: dict[str, float]
) -> dict[str, object]:
    def copied(moved: int) -> float:
        """Seconds; a copy of half as many bytes moves as many."""
        sizes = [size for size in COPIES if 2 * size <= moved] or [min(COPIES)]
        return moved * copies[str(sizes[-1])] / (2 * sizes[-1])

    in_products = sum(count / rates[shape] for shape, count in done.multiply_adds.items())
    as_written = sum(
        times * max(count / rates[shape] if shape else 0.0, copied(moved))
        for (shape, count, moved), times in done.each.items()
    )
    floor, total = max(in_products, copied(least)), sum(done.multiply_adds.values())
    return {
        "floor": "products" if in_products >= copied(least) else "bytes",
        "floor ms": _ms(floor),
        "path ms": _ms(path),
        "ratio": _short(path / floor),
        "products ms": _ms(in_products),
        "bytes ms": _ms(copied(least)),
        "as written ms": _ms(as_written),
        "ratio to as written": _short(path / as_written),
        "operations": sum(done.each.values()),
        "multiply-adds": total,
        "GFLOP/s of products": _short(2e-9 * total / in_products),
        "GFLOP/s at best": _short(2e-9 * max(rates.values())),
        "MiB at least": _short(least / 2**20),
        "MiB as written": _short(
            sum(moved * times for (_, _, moved), times in done.each.items()) / 2**20
        ),
    }


def embedders_rows(only: Iterable[str]) -> Iterator[Rows]:
    for name in EMBEDDERS:
        if only and name not in only:
            continue
        rows = []
        for head in (False, True):
            for what, row in apart(roofline, name, head).items():
                path = {"path": name, "what": what, "head": head}
                rows.append(path | row | {"peak MiB": apart(peak, paths, what, name, head)})
        yield rows


# --- growth by rows -------------------------------------------------------------------------------


def metric_growth(n: int) -> dict[str, float]:
    return best(metrics_of(n), rounds=7, least=0.005)


def growth_rows(only: Iterable[str]) -> Iterator[Rows]:
    yield [
        {"path": metric, "rows": n, "ms": _ms(seconds)}
        for n in (2**power for power in range(10, 21, 2))
        for metric, seconds in apart(metric_growth, n).items()
        if not only or metric in only
    ]


def _ms(seconds: float) -> float:
    return float(f"{1000 * seconds:.4g}")


def _short(value: float) -> float:
    return float(f"{value:.3g}")


PARTS = {"metrics": metrics_rows, "embedders": embedders_rows, "growth": growth_rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", default=[*PARTS], metavar="part")
    parser.add_argument("--only", nargs="*", default=[], help="names of metrics and embedders")
    parser.add_argument("--to", default="limits", help="name of the table")
    arguments = parser.parse_args()
    if unknown := {*arguments.parts} - {*PARTS}:
        parser.error(f"unknown part {sorted(unknown)}: choose from {[*PARTS]}")
    if unknown := {*arguments.only} - {*EMBEDDERS, *metrics_of(ROWS[0])}:
        parser.error(f"unknown path {sorted(unknown)}")
    torch.set_num_threads(1)
    for part in arguments.parts:
        name = "limits_growth" if part == "growth" else arguments.to
        found = []
        for rows in PARTS[part](arguments.only):
            if rows:
                found.append(pd.DataFrame(rows).assign(**provenance()))
                renew_result(found[-1], name, by="path")
                print(pd.DataFrame(rows).iloc[:, :8].to_string(index=False), flush=True)
        if part != "growth":
            worst = pd.concat(found).sort_values("ratio", ascending=False).head(5)
            print("farthest from their floor:", worst.iloc[:, :7].to_string(index=False), sep="\n")


if __name__ == "__main__":
    main()
