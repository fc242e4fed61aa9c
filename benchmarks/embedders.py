"""What the paper's seven embedders cost, with and without head: python benchmarks/embedders.py [part …]

Parts, all of them by default, each a table under book/results/:

cost         training step, inference, peak memory, parameters and MACs of all seven as published, on
             windows of MSL's shape, alone and with the head, in turns; beside the MADCluster paper's
             Table 2 (appendix) -> embedders.csv
discrepancy  DCdetector against the form that builds (L L) maps, in turns in one process
             -> discrepancy.csv
growth       training step by window length and by channels -> embedders_growth.csv
denormals    a training, with denormal numbers and with zeros in their place
             -> embedders_denormals.csv

One thread, on a machine that does nothing else. Times are medians; the memory of a step is the highest
resident size of a fresh process less that before the first step.
"""

from __future__ import annotations

import copy
import gc
import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from madcluster import synthetic
from madcluster.data import Scaler, windows
from madcluster.heads import Head, WithHead, build
from madcluster.models import DCdetector, Embedder
from madcluster.models.dcdetector import EPSILON
from madcluster.models.layers import instance_normalize
from madcluster.study.results import peak_memory, provenance, write_result

MSL_CHANNELS, WINDOW, BATCH = 55, 100, 128

# appendix of arXiv 2505.16223, Table 2: multiply-accumulates and parameters
PUBLISHED = {
    "deepsvdd": (31.81e6, 311.55e3),
    "usad": (427.36e6, 256.26e6),
    "beatgan": (10.22e9, 185.85e6),
    "omnianomaly": (35.44e6, 350.72e3),
    "thoc": (69.42e6, 390.78e3),
    "anomaly_transformer": (485.23e6, 4.86e6),
    "dcdetector": (1.189e9, 912.18e3),
}


def train(model: Embedder, x: Tensor) -> Callable[[], None]:
    """One training step as `training.fit` takes it."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, amsgrad=True)

    def step() -> None:
        loss = model(x).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def train_head(model: WithHead, x: Tensor) -> Callable[[], None]:
    """What the head adds to a step: its loss, the gradient that it adds to that of h, its update."""
    with torch.no_grad():
        h = model.embedder(x).h
    h = h.detach().requires_grad_()
    h.grad = torch.zeros_like(h)
    optimizer = torch.optim.Adam(model.head.parameters(), lr=1e-4, amsgrad=True)

    def step() -> None:
        loss = model.head.objective_of(model.head(h))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def score(model: Embedder, x: Tensor) -> Callable[[], None]:
    """Inference on a batch."""

    def infer() -> None:
        with torch.no_grad():
            model(x)

    return infer


def in_turns(
    actions: dict[str, Callable[[], None]], *, rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of every action, one after the other, round by round."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(-warm_up, rounds):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if turn >= 0:
                times[name].append(time.perf_counter() - started)
    return times


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak(action: Callable[[], None]) -> float:
    """MiB by which an action, repeated once, raises the highest resident size of a fresh process."""
    gc.collect()
    before = resident()
    action()
    action()
    return (peak_memory() - before) / 2**20


def apart(function: Callable[..., dict[str, object]], *arguments: object) -> dict[str, object]:
    """Call a function in a process of its own, which inherits the environment of this moment."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_single_threaded, function, arguments).result()


def _single_threaded(
    function: Callable[..., dict[str, object]], arguments: tuple[object, ...]
) -> dict[str, object]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return function(*arguments)


# --- cost of all seven ----------------------------------------------------------------------------


def published(name: str, *, head: bool) -> Embedder:
    return build(name, n_channels=MSL_CHANNELS, window=WINDOW, head=Head if head else None)


def macs(model: Embedder, x: Tensor) -> float:
    """Multiply-accumulates of the forward pass: half of torch's count of operations.

    The model is of no use for training afterwards.
    """
    model.requires_grad_(False)  # the counter hooks into gradients, which views of weights break
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() / 2


def cost(name: str) -> dict[str, object]:
    """Times of one embedder, alone and with the head in turns."""
    x = torch.randn(BATCH, WINDOW, MSL_CHANNELS)
    alone, with_head = published(name, head=False), published(name, head=True)
    assert isinstance(with_head, WithHead)
    steps = in_turns(
        {
            "alone": train(alone, x),
            "both": train(with_head, x),
            # by itself, for it is less than what one step differs from the next
            "head": train_head(with_head, x),
        },
        rounds=7,
    )
    seconds = {name: statistics.median(times) for name, times in steps.items()}
    alone.eval(), with_head.eval()
    inference = in_turns({"alone": score(alone, x), "head": score(with_head, x)}, rounds=5)
    parameters = [sum(p.numel() for p in m.parameters()) for m in (alone, with_head)]
    return {
        "embedder": name,
        "parameters": parameters[0],
        "parameters of the head": parameters[1] - parameters[0],
        "parameters, published": int(PUBLISHED[name][1]),
        "MACs per window": int(macs(alone, x[:1])),
        "MACs, published": int(PUBLISHED[name][0]),
        "step s": round(seconds["alone"], 4),
        "step with head s": round(seconds["both"], 4),
        "head s": round(seconds["head"], 4),
        "head %": round(100 * seconds["head"] / seconds["alone"], 1),
        "inference s": round(statistics.median(inference["alone"]), 4),
        "inference with head s": round(statistics.median(inference["head"]), 4),
    }


def step_memory(name: str) -> dict[str, object]:
    x = torch.randn(BATCH, WINDOW, MSL_CHANNELS)
    return {"peak MiB": round(peak(train(published(name, head=False), x)))}


def costs() -> None:
    rows = []
    for name in PUBLISHED:
        rows.append(apart(cost, name) | apart(step_memory, name))
        print(rows[-1], flush=True)
    save(rows, "embedders")


# --- DCdetector's discrepancy against (L L) maps --------------------------------------------------


def kl(p: Tensor, q: Tensor) -> Tensor:
    """As the authors' code has it, which normalizes the second argument anew in every term."""
    return (p * ((p + EPSILON).log() - (q + EPSILON).log())).sum(-1)


def materialized_maps(model: DCdetector, x: Tensor, tokens: Tensor) -> list[tuple[Tensor, Tensor]]:
    """All tokens projected one by one, values that nothing reads, both maps repeated to (L L)."""
    x, maps = instance_normalize(x), []
    training = model.training
    for p, of_patches, of_positions in zip(
        model.patch_sizes, model.patch_views, model.position_views, strict=True
    ):
        n = model.window // p
        views = []
        for view, pattern in (
            (of_patches, "b (n p) c -> (b c) n p"),
            (of_positions, "b (n p) c -> (b c) p n"),
        ):
            f = rearrange(x, pattern, p=p)
            f = torch.cat([f.roll(1, -2), f, f.roll(-1, -2)], -1)
            embedded = view.embed(f) + view.position
            views.append(functional.dropout(embedded, model.embedding_dropout, training))
        for layer in model.layers:
            model.out(tokens)  # the authors' value projection, of the same size
            attention = []
            for v in views:
                scores = layer.query(v) @ layer.key(v).mT / math.sqrt(model.d)
                attention.append(
                    functional.dropout(scores.softmax(-1), model.attention_dropout, training)
                )
            s = repeat(attention[0], "b i j -> b (i p) (j q)", p=p, q=p)
            t = repeat(attention[1], "b i j -> b (m i) (n j)", m=n, n=n)
            s, t = (rearrange(v, "(b c) i j -> b c i j", b=len(x)).mean(1) for v in (s, t))
            maps.append((s, t))
    return maps


def materialized_loss(model: DCdetector, x: Tensor) -> Tensor:
    """Four terms with detached twins, mean over maps."""
    maps = materialized_maps(model, x, model.tokens(instance_normalize(x)))
    total = x.new_zeros(())
    for s, t in maps:
        for a, b, sign in ((s.detach(), t, 1), (s, t.detach(), -1)):
            total = total + sign * kl(a, b / b.sum(-1, keepdim=True)).mean()
            total = total + sign * kl(b / b.sum(-1, keepdim=True), a).mean()
    return total / len(maps)


def materialized_score(model: DCdetector, x: Tensor) -> Tensor:
    """Both directions, summed over maps."""
    maps = materialized_maps(model, x, model.tokens(instance_normalize(x)))
    normalized = ((s, t / t.sum(-1, keepdim=True)) for s, t in maps)
    return torch.stack([kl(s, t) + kl(t, s) for s, t in normalized]).sum(0)


def dcdetector_pair(dropouts: dict[str, float]) -> tuple[DCdetector, Tensor]:
    return DCdetector(38, window=WINDOW, **dropouts), torch.randn(BATCH, WINDOW, 38)


def backward(loss: Callable[[], Tensor], model: DCdetector) -> Callable[[], None]:
    def step() -> None:
        loss().backward()
        model.zero_grad()

    return step


def no_grad(action: Callable[[], object]) -> Callable[[], None]:
    def infer() -> None:
        with torch.no_grad():
            action()

    return infer


def discrepancy_times(dropouts: dict[str, float], rounds: int) -> dict[str, object]:
    model, x = dcdetector_pair(dropouts)
    if not dropouts:  # the two forms must agree before their times mean anything
        torch.testing.assert_close(
            materialized_score(model, x[:4]), model(x[:4]).score, rtol=1e-3, atol=1e-4
        )
    steps = in_turns(
        {
            "materialized": backward(lambda: materialized_loss(model, x), model),
            "factored": backward(lambda: model(x).loss, model),
        },
        rounds=rounds,
    )
    ratios = [a / b for a, b in zip(steps["materialized"], steps["factored"], strict=True)]
    row: dict[str, object] = {
        "embedding dropout": dropouts.get("embedding_dropout", 0.0),
        "attention dropout": dropouts.get("attention_dropout", 0.0),
        "step, materialized s": round(statistics.median(steps["materialized"]), 2),
        "step, factored s": round(statistics.median(steps["factored"]), 3),
        "step ratio": round(statistics.median(ratios), 1),
    }
    if dropouts:
        return row
    model.eval()
    inference = in_turns(
        {
            "materialized": no_grad(lambda: materialized_score(model, x)),
            "factored": no_grad(lambda: model.discrepancy(model.maps(x))),
            "with h": no_grad(lambda: model(x)),
        },
        rounds=2 * rounds,
    )
    median = {name: statistics.median(values) for name, values in inference.items()}
    return row | {
        "inference, materialized s": round(median["materialized"], 3),
        "inference, factored s": round(median["factored"], 3),
        "inference ratio": round(median["materialized"] / median["factored"], 1),
        "inference with h s": round(median["with h"], 3),
        "ratio with h": round(median["materialized"] / median["with h"], 1),
    }


def discrepancy_memory(form: str) -> dict[str, object]:
    model, x = dcdetector_pair({})
    loss = {"materialized": lambda: materialized_loss(model, x), "factored": lambda: model(x).loss}
    return {f"peak, {form} MiB": round(peak(backward(loss[form], model)))}


# glibc gives large blocks back to the system and asks for them anew, page by page; or it keeps them
MEMORY = {
    "given back": {},
    "kept": {"MALLOC_MMAP_THRESHOLD_": str(10**9), "MALLOC_TRIM_THRESHOLD_": str(2 * 10**9)},
}


def discrepancies() -> None:
    rows = []
    none: dict[str, float] = {}
    attention = {"attention_dropout": 0.1}
    both = {"embedding_dropout": 0.1, **attention}
    for memory, dropouts in (
        ("given back", none),
        ("given back", attention),
        ("given back", both),
        ("kept", none),
        ("kept", both),
    ):
        for name in MEMORY["kept"]:
            os.environ.pop(name, None)
        os.environ |= MEMORY[memory]
        row = apart(discrepancy_times, dropouts, 3)
        if not dropouts and memory == "given back":
            row |= apart(discrepancy_memory, "materialized")
            row |= apart(discrepancy_memory, "factored")
        shape = {"channels": 38, "window": WINDOW, "batch": BATCH}
        rows.append({"freed memory": memory, **shape, **row})
        print(rows[-1], flush=True)
    save(rows, "discrepancy")


# --- growth ---------------------------------------------------------------------------------------

# as published but for USAD, whose layers would have a billion parameters for 1,000 steps
OPTIONS: dict[str, dict[str, object]] = {"usad": {"width": 512}}


def step_time(name: str, window: int, channels: int, batch: int) -> dict[str, object]:
    options = dict(OPTIONS.get(name, {}))
    if name == "dcdetector":  # as many patches in a long window as in a short one
        options["patch_sizes"] = [window // n for n in (50, 20, 10)]
    model = build(name, n_channels=channels, window=window, head=None, options=options)
    x = torch.randn(batch, window, channels)
    times = in_turns({"step": train(model, x)}, rounds=5)["step"]
    return {
        "embedder": name,
        "window": window,
        "channels": channels,
        "batch": batch,
        "step s": round(statistics.median(times), 4),
    }


def growth() -> None:
    rows = []
    for name in PUBLISHED:
        sizes = [(window, 38, 4) for window in (100, 200, 500, 1000)]
        sizes += [(WINDOW, channels, 16) for channels in (1, 8, 32, 128)]
        for window, channels, batch in sizes:
            varied = "window" if batch == 4 else "channels"
            rows.append({"varied": varied, **apart(step_time, name, window, channels, batch)})
            print(rows[-1], flush=True)
    save(rows, "embedders_growth")


# --- denormal numbers -----------------------------------------------------------------------------


def late_steps(name: str) -> dict[str, object]:
    """Both ways in turns, after thirty steps: untrained networks have no denormal numbers yet."""
    plant = synthetic(3000, 1000, 38, seed=0).train
    x = torch.as_tensor(windows(Scaler().fit(plant).transform(plant), WINDOW, 10).copy())
    model = build(name, n_channels=38, window=WINDOW, options=OPTIONS.get(name, {}))

    def training(model: Embedder, *, flush: bool) -> Callable[[], None]:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, amsgrad=True)

        def step() -> None:
            torch.set_flush_denormal(flush)
            loss = model(x[torch.randperm(len(x))[:32]]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    early = training(model, flush=False)
    for _ in range(30):
        early()
    ways = {"denormals": False, "zeros": True}
    copies = {way: training(copy.deepcopy(model), flush=flush) for way, flush in ways.items()}
    times = in_turns(copies, rounds=10)
    ratios = [a / b for a, b in zip(*times.values(), strict=True)]
    seconds = {f"step s, {way}": round(statistics.median(times[way]), 4) for way in ways}
    return {"embedder": name, **seconds, "ratio": round(statistics.median(ratios), 2)}


def denormals() -> None:
    rows = []
    for name in PUBLISHED:
        rows.append(apart(late_steps, name))
        print(rows[-1], flush=True)
    save(rows, "embedders_denormals")


def save(rows: list[dict[str, object]], name: str) -> None:
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    write_result(table.assign(**provenance()), name)


PARTS = {"cost": costs, "discrepancy": discrepancies, "growth": growth, "denormals": denormals}


def main() -> None:
    chosen = sys.argv[1:] or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        sys.exit(f"unknown part {sorted(unknown)}: choose from {list(PARTS)}")
    for part in chosen:
        PARTS[part]()


if __name__ == "__main__":
    main()
