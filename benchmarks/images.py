"""Does the head help on images? python benchmarks/images.py   -> images.csv

The protocol, written before the first run:

- Sets: `madcluster.images.textures`, brick, grass and gravel, three seeds each, difficulty 0, images of
  128 pixels: 32 to learn from, 20 good ones and 10 of each of six kinds of defect to judge by. A seed
  is of images, defects, weights and training at once.
- Three networks with and without the head, as `ImageMADCluster` has them, 15 epochs, all else as it is
  by default; with the head the score is "head", without it the network's own.
- The bars: distance to a center, PaDiM per position, PaDiM with one Gaussian for all positions, and
  PatchCore, each on features of ImageNet and on random weights.
- Nothing is chosen by a label here: the best epoch is that of the loss on train images that are held
  out. While the code was written, methods were tried on seed 0 at other settings, so seed 0 is not
  unseen; what followed from it is that features have two maps and not three, and weights in the
  loss of the network that learns from planted defects.
- A row per set, method and kind of defect, which is judged with the good images alone, and one for all
  kinds together: the four metrics of `madcluster.images.evaluate` with chance beside each. The score of
  an image is its highest pixel; image_auroc_mean has the mean of its pixels instead.
- Primary: the difference that the head makes to image AUROC and to AUPRO over all kinds, network by
  network, paired by set, with the interval of a t-test over the nine sets. They are of three
  photographs, cut at other places: an interval over them says nothing of a fourth texture. Secondary:
  by kind.
- The network that learns from planted defects is trained on "cut-paste" and "texture exchange", which
  come from the code that makes the test images: rows of these two kinds have seen = True for it.

Written after that run, and before its own: with the head the training is another one and so is the
score. A third variant, "with head, own score", trains with the head and scores by what the network
alone would say, so that the two can be told apart. It takes no part in the primary comparison.

It can be stopped: what is done lies under _runs/images, and runs of the committed images.csv are not
done again. Their rows keep the commit, machine and versions that they were measured with; remove rows
of the table where code that they depend on has changed. Seconds are of one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from madcluster.images import (
    GOOD,
    KINDS,
    TEXTURES,
    CenterDistance,
    ImageMADCluster,
    PaDiM,
    PatchCore,
    PlantedRealNet,
    evaluate,
    image_scores,
    textures,
)
from madcluster.images.detectors import ImageDetector
from madcluster.metrics import roc_auc_score
from madcluster.study.results import (
    MissingResultError,
    commit,
    once,
    peak_memory,
    provenance,
    read_result,
    write_result,
)

RUNS = Path(__file__).parents[1] / "_runs" / "images"
SEEDS = range(3)
EPOCHS = 15
ALL = "all kinds"
BARS: dict[str, Callable[..., ImageDetector]] = {
    "center": CenterDistance,
    "padim": PaDiM,
    "padim, shared": partial(PaDiM, shared=True),
    "patchcore": PatchCore,
}
NETWORKS = ("pyramidflow", "rd4ad", "planted_realnet")
VARIANTS: dict[str, dict[str, Any]] = {
    "without": {"head": False},
    "with head": {"head": True},
    "with head, own score": {"head": True, "score": "embedder"},
}
Method = tuple[str, str]  # name, and one of these or the weights of the features


def methods() -> dict[Method, Callable[[int], ImageDetector]]:
    """Every method by name and variant, as a function of the seed."""
    found: dict[Method, Callable[[int], ImageDetector]] = {}
    for name, bar in BARS.items():
        for weights in ("imagenet", "random"):
            found[name, weights] = lambda seed, bar=bar, weights=weights: bar(
                features=weights, seed=seed, device="cpu"
            )
    for name in NETWORKS:
        for variant, arguments in VARIANTS.items():
            found[name, variant] = lambda seed, name=name, arguments=arguments: ImageMADCluster(
                name, **arguments, epochs=EPOCHS, seed=seed, device="cpu"
            )
    return found


def run(texture: str, seed: int, method: Method) -> list[dict[str, object]]:
    """A row per kind of defect, and one for all."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    images = textures(
        texture, n_train=32, n_good=20, per_kind=10, size=128, difficulty=0.0, seed=seed
    )
    detector = methods()[method](seed)
    started = time.process_time()
    detector.fit(images.train)
    fitted = time.process_time()
    maps = detector.maps(images.test)
    scored = time.process_time()
    seen = PlantedRealNet().kinds if method[0] == "planted_realnet" else ()
    rows = []
    for kind in (ALL, *KINDS):
        kept = np.array([kind == ALL or k in (GOOD, kind) for k in images.kinds])
        labels, masks, of_kept = images.labels[kept], images.masks[kept], maps[kept]
        found = evaluate(labels, image_scores(of_kept), masks, of_kept)
        rows.append(
            {"texture": texture, "seed": seed, "method": method[0], "variant": method[1]}
            | {"kind": kind, "seen": kind in seen}
            | {name: round(value, 4) for name, value in found.items()}
            | {
                "image_auroc_mean": round(roc_auc_score(labels, of_kept.mean((1, 2))), 4),
                "false_alarms": round(
                    float(detector.predict(images.test[~images.labels]).mean()), 4
                )
                if kind == ALL
                else None,
                "fit_seconds": round(fitted - started, 2),
                "score_seconds": round(scored - fitted, 2),
                "peak_gib": round(peak_memory() / 2**30, 2),
                "commit": commit(),
            }
            | provenance(("torch", "numpy", "scikit-image", "efficientnet-lite-pytorch"))
        )
    print(*rows[0].values(), flush=True)
    return rows


def path_of(texture: str, seed: int, method: Method) -> Path:
    """File of a run's rows."""
    name = "_".join((texture, str(seed), *method)).replace(" ", "-").replace(",", "")
    return RUNS / f"{name}.json"


def restore(table: pd.DataFrame) -> None:
    """Write the files of a table's runs where there are none, each row as it was measured."""

    def rows(of_run: pd.DataFrame) -> list[dict[str, object]]:
        return of_run.astype(object).where(of_run.notna(), None).to_dict("records")

    for (texture, seed, *method), of_run in table.groupby(
        ["texture", "seed", "method", "variant"], sort=False
    ):
        if sorted(of_run["kind"]) == sorted((ALL, *KINDS)):  # no part of a run
            once(path_of(texture, seed, tuple(method)), partial(rows, of_run))


def differences(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """What the head adds, a row per network: mean over sets and interval of a t-test (95 %)."""
    of_all = table[(table["kind"] == ALL) & table["method"].isin(NETWORKS)]
    wide = of_all.pivot_table(metric, ["texture", "seed"], ["method", "variant"])
    rows = {}
    for name in NETWORKS:
        added = (wide[name, "with head"] - wide[name, "without"]).dropna()
        low, high = stats.ttest_1samp(added, 0).confidence_interval(0.95)
        rows[name] = {"mean": added.mean(), "low": low, "high": high, "sets": len(added)}
    return pd.DataFrame(rows).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    seeds = parser.parse_args().seeds
    with contextlib.suppress(MissingResultError):
        restore(read_result("images"))
    rows = []
    for seed in seeds:
        for texture in TEXTURES:
            for method in methods():
                rows += once(path_of(texture, seed, method), partial(run, texture, seed, method))
    table = pd.DataFrame(rows)
    metrics = ["image_auroc", "image_auroc_mean", "pixel_auroc", "pixel_ap", "aupro"]
    of_all = table[table["kind"] == ALL]
    print(of_all.groupby(["method", "variant"])[metrics].mean().round(3))
    for metric in ("image_auroc", "aupro"):
        print(metric, differences(table, metric).round(3), sep="\n")
    write_result(table, "images")


if __name__ == "__main__":
    main()
