"""The runs of chapters 13 and 14: python benchmarks/grid.py [part …] [--jobs 2]

They need $MADCLUSTER_DATA with MSL, SMAP, SMD and PSM_excerpt.

Stopped at any moment it goes on where it was; the table of a part is written from what is there.
Parts, in this order by default:

pilot      how the loss on held-out train rows falls, and what it costs -> pilot.csv.gz
main       all embedders with and without head, and the baselines, on all entities, seed 0; four
           baselines again on rows that are scaled as for the networks; seeds 1 and 2 on all of
           MSL, 8 machines of SMD and 16 channels of SMAP -> benchmark.csv.gz
release    the same on MSL by the release's protocol, with the released wiring
           -> benchmark_release.csv.gz
components distance, clustering, both; as published with DeepSVDD -> knobs.csv.gz
clusters   k = 1 ... 10 -> knobs.csv.gz
knobs      one setting at a time -> knobs.csv.gz
untrained  the scores of a network that has learned nothing -> knobs.csv.gz
start      all embedders with the head before any training, on the entities and seeds of main,
           by two scores; the second also after training, on the entities below -> start.csv.gz

comparison everything by the protocol of book/results/protocol.md: all embedders with and without
           head and all other detectors, on all entities, with the same choices of smoothing, causal and
           centered; then seeds 1 and 2 -> comparison.csv.gz

heads      by book/results/protocol_heads.md: the contrastive head trained and untrained, simple
           detectors, random features and both together, on all entities, three seeds, and last the
           innovation and the flow head, a network that is trained where that helps on planted
           events, and other settings on SMD; not among the parts that are run by default
           -> heads_study.csv.gz

The four of knobs.csv.gz are on 9 channels of MSL, 8 of SMAP and 8 machines of SMD.

    python benchmarks/grid.py comparison --only drnn    does a part's runs of one network first
    python benchmarks/grid.py row benchmark 17          does row 17 of a table again and prints both

Entities were chosen before any result of theirs: sorted by name, at equal distances.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed

from madcluster import MADCluster
from madcluster.detectors import BASELINES, DETECTORS
from madcluster.models import EMBEDDERS
from madcluster.study.benchmark import (
    METRICS,
    PLAIN,
    RELEASED,
    Run,
    collect,
    cpu_settings,
    entities_of,
    execute,
    grid,
    restore,
    run_all,
    run_of,
    series_of,
)
from madcluster.study.results import MissingResultError, provenance, read_result, write_result

RUNS = Path(__file__).parents[1] / "_runs"  # one small file each; not in git
DATASETS = ("MSL", "SMAP", "SMD", "PSM_excerpt")
ALL = (*EMBEDDERS, *BASELINES)
# by themselves they standardize
SCALED = ("l2_norm", "pca_error", "mahalanobis", "nearest_neighbor")
SEEDS = {"MSL": 27, "SMD": 8, "SMAP": 16}  # entities with three seeds
# half as many for the settings, for the time it takes
FEWER = {"MSL": 9, "SMD": 8, "SMAP": 8}


def spread(names: Sequence[str], n: int) -> list[str]:
    """n of the sorted names at equal distances."""
    return [sorted(names)[i * len(names) // n] for i in range(n)]


def chosen(counts: Mapping[str, int]) -> dict[str, list[str]]:
    return {dataset: spread(entities_of(dataset), n) for dataset, n in counts.items()}


def train_only(run: Run) -> list[dict[str, Any]]:
    """Epochs of a training; the test split is not looked at."""
    torch.set_num_threads(1)
    series = series_of(run.dataset, run.entity)
    detector = MADCluster(run.embedder, head=run.head, seed=run.seed, **run.settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.fit(series.train)
    return [
        {
            "dataset": run.dataset,
            "entity": run.entity,
            "embedder": run.embedder,
            "head": run.head,
            "batch": run.settings["batch_size"],
            "options": json.dumps(run.settings["options"]),
            "epoch": row["epoch"],
            "validation": float(f"{row['validation']:.5g}"),
            "seconds": round(row["seconds"], 3),
        }
        for row in detector.history_.epochs
    ]


def pilot(jobs: int) -> None:
    """Twenty epochs on the first entity of three data sets, in batches of 16 and 64."""

    def settings(batch: int) -> Callable[[str, str], dict[str, Any]]:
        longer = {"epochs": 20, "patience": 20, "batch_size": batch}
        return lambda dataset, embedder: cpu_settings(dataset, embedder) | longer

    first = {dataset: entities_of(dataset)[:1] for dataset in DATASETS[:3]}
    runs = [
        run
        for batch in (16, 64)
        for run in grid(list(first), list(EMBEDDERS), entities=first, settings=settings(batch))
    ]
    rows = Parallel(jobs)(delayed(train_only)(run) for run in runs)
    table = pd.DataFrame([row for part in rows for row in part])
    write_result(table.assign(**provenance()), "pilot", compress=True)


def main_runs() -> list[Run]:
    """The chosen entities first, so that a balanced table is there early."""
    repeated = [name for name in ALL if name in EMBEDDERS or name == "random"]
    few = chosen(SEEDS)
    first = grid([*SEEDS, "PSM_excerpt"], ALL, entities=few, settings=cpu_settings)
    every = grid(DATASETS, ALL, settings=cpu_settings)
    every += grid(DATASETS, SCALED, variant="min-max", settings={"scaler": "minmax"})
    seeds = grid(list(SEEDS), repeated, entities=few, seeds=(1, 2), settings=cpu_settings)
    return list({run.key: run for run in first + every + seeds}.values())


def release_runs() -> list[Run]:
    runs = grid(["MSL"], [*ALL, RELEASED], protocol="release", settings=cpu_settings)
    minmax = {"scaler": "minmax"}
    return runs + grid(["MSL"], SCALED, protocol="release", variant="min-max", settings=minmax)


def deepsvdd(variant: str, heads: Sequence[bool] = (True,), **changes: Any) -> list[Run]:
    """DeepSVDD with other settings than those of the benchmark, on a few entities."""

    def settings(dataset: str, embedder: str) -> Mapping[str, Any]:
        new = {**cpu_settings(dataset, embedder), **changes}
        return {**new, "stride": min(new["stride"], new.get("window", 100))}

    return grid(
        list(FEWER),
        ["deepsvdd"],
        entities=chosen(FEWER),
        heads=heads,
        variant=variant,
        settings=settings,
    )


def components() -> list[Run]:
    runs = deepsvdd("fixed center", heads=(False,))
    for terms, score in (("distance", "distance"), ("cluster", "cluster"), ("both", "head")):
        runs += deepsvdd(f"terms={terms}", terms=terms, score=score)
    return runs


def clusters() -> list[Run]:
    return [run for k in range(1, 11) for run in deepsvdd(f"k={k}", k=k)]


KNOBS: dict[str, Sequence[object]] = {
    "threshold": (0.1, 0.3, 0.7, 0.9),
    "label_smoothing": (0.01, 0.1),
    "window": (25, 50, 200),
    "score_from": ("distance", "cluster", "mahalanobis"),
    "scaler": ("standard",),
    "clip": (1.0, 4.0),
    "outer_log": (False,),
    "objective": ("soft-boundary",),
}


def knobs() -> list[Run]:
    runs = deepsvdd("default", heads=(False, True))
    for name, values in KNOBS.items():
        heads = (False, True) if name in ("window", "scaler", "clip") else (True,)
        for value in values:
            runs += deepsvdd(f"{name}={value}", heads=heads, **{name: value})
    return runs


# a learning rate at which no weight moves, and the center stays at the mean
UNTRAINED: dict[str, Any] = {"lr": 1e-12, "epochs": 1}


def untrained() -> list[Run]:
    return [
        run
        for score in ("distance", "cluster", "mahalanobis")
        for run in deepsvdd(f"untrained, score={score}", score=score, **UNTRAINED)
    ]


def start() -> list[Run]:
    def part(
        variant: str,
        counts: Mapping[str, int] | None = None,
        seeds: Sequence[int] = (0,),
        **changes: Any,
    ) -> list[Run]:
        """All entities, or as many of each data set as `counts` says."""

        def settings(dataset: str, embedder: str) -> Mapping[str, Any]:
            return {**cpu_settings(dataset, embedder), **changes}

        return grid(
            list(counts or DATASETS),
            list(EMBEDDERS),
            entities=chosen(counts or {}),
            heads=(True,),
            seeds=seeds,
            variant=variant,
            settings=settings,
        )

    raw = {"variant": "untrained, score=head", "score_from": "head", **UNTRAINED}
    white = {"variant": "untrained, score=mahalanobis", "score_from": "mahalanobis", **UNTRAINED}
    return [
        *part(**raw),
        *part(**white),
        *part(counts=SEEDS, seeds=(1, 2), **raw),
        *part(counts=SEEDS, seeds=(1, 2), **white),
        *part("score=mahalanobis", FEWER, score="mahalanobis"),
    ]


def comparison() -> list[Run]:
    """By book/results/protocol.md: what its questions on one network and on none need comes first."""
    plain = [name for name in PLAIN if name != "ensemble"]
    scaled = [name for name in plain if "scaler" in signature(DETECTORS[name]).parameters]
    drawn = [name for name in plain if "seed" in signature(DETECTORS[name]).parameters]

    def untrained_settings(dataset: str, embedder: str) -> dict[str, Any]:
        return {**cpu_settings(dataset, embedder), **UNTRAINED}

    def networks(dataset: str, entity: str, names: Sequence[str]) -> list[Run]:
        every = partial(grid, [dataset], names, entities={dataset: [entity]})
        still = {"heads": (True,), "variant": "untrained", "settings": untrained_settings}
        return every(views="all", settings=cpu_settings) + every(views="own", **still)

    def simple(dataset: str, entity: str) -> list[Run]:
        every = partial(grid, [dataset], entities={dataset: [entity]})
        one_row = {"variant": "window=1", "settings": {"window": 1}}
        runs = every(plain, views="all") + every(["mahalanobis"], views="all", **one_row)
        return runs + every(["ensemble"], views="own")

    def beside(dataset: str, entity: str) -> list[Run]:
        every = partial(grid, [dataset], entities={dataset: [entity]})
        minmax, long, last = {"scaler": "minmax"}, {"window": 40}, {"aggregate": "last"}
        runs = every(scaled, views="all", variant="min-max", settings=minmax)
        runs += every(["mahalanobis"], views="all", variant="window=40", settings=long)
        return runs + every(["ensemble"], views="own", variant="last", settings=last)

    few = chosen(SEEDS) | {"PSM_excerpt": list(entities_of("PSM_excerpt"))}
    rest = {d: [e for e in entities_of(d) if e not in few.get(d, ())] for d in DATASETS}
    names = [
        (dataset, entity)
        for each in (few, rest)
        for _, dataset, entity in sorted(  # as large a part of each data set at any time
            ((i + 0.5) / len(entities), dataset, entity)
            for dataset, entities in each.items()
            for i, entity in enumerate(entities)
        )
    ]
    others = [name for name in EMBEDDERS if name != "deepsvdd"]
    runs = [run for each in names for run in simple(*each) + networks(*each, ["deepsvdd"])]
    runs += [run for each in names for run in networks(*each, others)]
    runs += [run for each in names for run in beside(*each)]
    more = partial(grid, list(SEEDS), entities=few, seeds=(1, 2))
    runs += more(drawn, views="all") + more(list(EMBEDDERS), views="own", settings=cpu_settings)
    return list({run.key: run for run in runs}.values())


LOST = ("SMD",)  # the data set on which a Gaussian is ahead of them
# what the networks of the study of heads have otherwise than that Gaussian
SERVERS: dict[str, dict[str, Any]] = {
    "scaler=standard": {"scaler": "standard"},
    "d=128": {"options": {"d": 128}},
    "scaler=standard, d=128": {"scaler": "standard", "options": {"d": 128}},
}


def heads() -> list[Run]:
    """By book/results/protocol_heads.md; what the primary comparisons need comes first."""

    def still(dataset: str, embedder: str) -> dict[str, Any]:
        return {**cpu_settings(dataset, embedder), **UNTRAINED}

    def undecided(dataset: str, embedder: str) -> dict[str, Any]:
        return {**cpu_settings(dataset, embedder), "train": "auto"}

    def together(dataset: str) -> dict[str, Any]:
        contrast = {"name": "deepsvdd", "head": "contrastive", "smooth": 20}
        contrast |= cpu_settings(dataset, "deepsvdd")
        return {"detectors": [{"name": "random_features", "smooth": 20}, contrast]}

    def of(embedders: Sequence[str], seeds: Sequence[int]) -> list[Run]:
        every = partial(grid, DATASETS, embedders, heads=("contrastive",), seeds=seeds, views="own")
        return every(settings=cpu_settings) + every(variant="untrained", settings=still)

    seeds = (0, 1, 2)
    runs = of(["deepsvdd"], seeds)
    simple = ["pca_error", "nearest_neighbor", "kmeans", "linear_autoregression"]
    runs += grid(DATASETS, simple, views="all")  # as in the comparison, and done once for both
    long = {"window": 40}
    runs += grid(DATASETS, ["mahalanobis"], views="all", variant="window=40", settings=long)
    runs += grid(DATASETS, ["random_features"], seeds=seeds, views="all")
    for dataset in DATASETS:
        both = {"variant": "random + contrast", "settings": together(dataset)}
        runs += grid([dataset], ["ensemble"], seeds=seeds, views="own", **both)
    paper = partial(grid, DATASETS, heads=(True,), settings=cpu_settings)
    runs += paper(["deepsvdd"], views="all") + paper(["deepsvdd"], seeds=seeds[1:], views="own")
    rest = [name for name in EMBEDDERS if name != "deepsvdd"]
    for seed in seeds:
        runs += of(rest, (seed,))
    # added later, and secondary; untrained they are the same for every seed
    dense = partial(grid, DATASETS, ["deepsvdd"], heads=("innovation", "flow"), views="own")
    runs += dense(variant="untrained", settings=still) + dense(seeds=seeds, settings=cpu_settings)
    # and whether to train, decided on the rows of train
    decided = {"variant": "train=auto", "settings": undecided}
    runs += grid(DATASETS, ["deepsvdd"], heads=("contrastive",), views="own", **decided)
    # and why servers are lost; found with their test labels
    for name, changes in SERVERS.items():
        every = partial(grid, LOST, ["deepsvdd"], heads=("contrastive",), views="own")
        for suffix, more in (("", {}), (", untrained", UNTRAINED)):
            settings = {**cpu_settings(*LOST, "deepsvdd"), **changes, **more}
            runs += every(variant=name + suffix, settings=settings)
    return list({run.key: run for run in runs}.values())


PARTS = {
    "comparison": (comparison, "comparison"),
    "main": (main_runs, "benchmark"),
    "release": (release_runs, "benchmark_release"),
    "components": (components, "knobs"),
    "clusters": (clusters, "knobs"),
    "knobs": (knobs, "knobs"),
    "untrained": (untrained, "knobs"),
    "start": (start, "start"),
    "heads": (heads, "heads_study"),
}
ON_DEMAND = ("heads",)


def write(name: str) -> pd.DataFrame:
    """A table of the book from the files that are there."""
    runs = {
        run.key: run for make, table in PARTS.values() if table == name for run in make()
    }  # each once
    table = collect(list(runs.values()), RUNS)
    write_result(table, name, compress=True)
    share = len(table) / len(runs)
    print(f"{name}: {len(table)} of {len(runs)} runs ({share:.0%})", flush=True)
    return table


def again(name: str, number: int) -> None:
    """Do a row of a table once more."""
    row = read_result(name).iloc[number]
    new = execute(run_of(row))
    both = pd.DataFrame({"table": row[list(METRICS)], "again": {m: new[m] for m in METRICS}})
    print(row[["dataset", "entity", "embedder", "head", "seed", "protocol", "variant"]].to_string())
    print(both.to_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "part", nargs="*", default=[each for each in PARTS if each not in ON_DEMAND]
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[], help="networks or detectors, by name")
    parser.add_argument("--variant", nargs="+", default=[], help="of these settings, by name")
    arguments = parser.parse_args()
    if not os.environ.get("MADCLUSTER_DATA"):
        print("nothing to do: set MADCLUSTER_DATA to a folder with MSL, SMAP, SMD and PSM_excerpt")
        return
    if arguments.part[0] == "row":
        again(arguments.part[1], int(arguments.part[2]))
        return
    if unknown := set(arguments.part) - {"pilot", *PARTS}:
        sys.exit(f"unknown part {sorted(unknown)}: choose from pilot, {', '.join(PARTS)}")
    if unknown := set(arguments.only) - {*EMBEDDERS, *PLAIN, RELEASED}:
        sys.exit(f"unknown name {sorted(unknown)}: choose from {', '.join((*EMBEDDERS, *PLAIN))}")
    for name in dict.fromkeys(table for _, table in PARTS.values()):
        with contextlib.suppress(MissingResultError):
            restore(read_result(name), RUNS)  # go on from the committed table
    for part in arguments.part:
        if part == "pilot":
            pilot(arguments.jobs)
            continue
        make, table = PARTS[part]
        started = time.monotonic()
        runs = [run for run in make() if not arguments.only or run.embedder in arguments.only]
        if unknown := set(arguments.variant) - {run.variant for run in runs}:
            sys.exit(f"{part} has no variant {sorted(unknown)}")
        runs = [run for run in runs if not arguments.variant or run.variant in arguments.variant]
        run_all(runs, RUNS, jobs=arguments.jobs, report=lambda line: print(line, flush=True))
        print(f"{part}: {time.monotonic() - started:.0f} s", flush=True)
        write(table)


if __name__ == "__main__":
    main()
