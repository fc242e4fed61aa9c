"""DCdetector's discrepancy against maps of window x window: python benchmarks/discrepancy.py

One thread, both forms in one run, alternating; prints medians and the ratio, and writes
book/results/discrepancy.csv. The plain form projects every token and repeats both maps to (L L).
"""

from __future__ import annotations

import math
import statistics
import time

import pandas as pd
import torch
from einops import rearrange, repeat
from torch import Tensor

from madcluster.models import DCdetector
from madcluster.models.dcdetector import EPSILON
from madcluster.models.layers import circular_neighbors, instance_normalize
from madcluster.results import provenance, write_result


def materialized(model: DCdetector, x: Tensor) -> Tensor:
    """The loss of a batch, with all tokens and (L L) maps built."""
    x = instance_normalize(x)
    total = x.new_zeros(())
    views = zip(model.patch_sizes, model.patch_views, model.position_views, strict=True)
    for p, of_patches, of_positions in views:
        n = model.window // p
        for layer in model.layers:
            maps = []
            for view, pattern in (
                (of_patches, "b (n p) c -> (b c) n p"),
                (of_positions, "b (n p) c -> (b c) p n"),
            ):
                f = circular_neighbors(rearrange(x, pattern, p=p))
                tokens = view.embed(f) + view.position
                scores = layer.query(tokens) @ layer.key(tokens).mT / math.sqrt(model.d)
                maps.append(scores.softmax(-1))
            s = repeat(maps[0], "b i j -> b (i p) (j q)", p=p, q=p)
            t = repeat(maps[1], "b i j -> b (m i) (n j)", m=n, n=n)
            s, t = (rearrange(v, "(b c) i j -> b c i j", b=len(x)).mean(1) for v in (s, t))
            t = t / t.sum(-1, keepdim=True)
            for a, b, sign in ((s.detach(), t, 1), (s, t.detach(), -1)):
                for left, right in ((a, b), (b, a)):
                    kl = left * ((left + EPSILON).log() - (right + EPSILON).log())
                    total = total + sign * kl.sum(-1).mean()
    return total


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for channels, batch, d in ((8, 16, 64), (38, 16, 64), (38, 16, 256)):
        torch.manual_seed(0)
        model, x = DCdetector(channels, window=100, d=d), torch.randn(batch, 100, channels)
        times: dict[str, list[float]] = {"materialized": [], "factored": []}
        for _ in range(4):
            for name in times:
                started = time.perf_counter()
                loss = materialized(model, x) if name == "materialized" else model(x).loss
                loss.backward()
                model.zero_grad()
                times[name].append(time.perf_counter() - started)
        plain, ours = (statistics.median(v[1:]) for v in times.values())  # the first warms up
        rows.append(
            {
                "channels": channels,
                "batch": batch,
                "d": d,
                "materialized s": round(plain, 3),
                "factored s": round(ours, 3),
                "ratio": round(plain / ours, 1),
            }
        )
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    write_result(table.assign(**provenance()), "discrepancy")


if __name__ == "__main__":
    main()
