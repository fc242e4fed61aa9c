"""Why does the head change what a network finds? python benchmarks/images_embeddings.py
                                                            -> images_embeddings.csv

images.csv says that what the head adds to RD4AD and to the network with planted defects, or takes from
them, is due to the score and not to the training: trained with the head, both find by their own score
what they find without it. Then the question is what an embedding knows of a defect. The protocol,
written before the first run:

- Sets and networks as in benchmarks/images.py, two of the networks: RD4AD, which the head harms, and
  the one with planted defects, which it helps. After PyramidFlow the own score is a distance of the
  embedding already.
- Three trainings of each: none (one epoch at a rate at which no weight moves), alone, with the head.
- Three scores of each of these, with the center and the covariance of its train embeddings:
  "distance" ‖h − m‖², "mahalanobis", and "embedder", the own one. If a defect is not in the embedding,
  neither of the first two finds it; if it is there among directions that vary by themselves, the
  second does. If the training alone is enough for that, it is not the head's doing.
- Beside them the variance of the embeddings of good test images relative to that without training, and
  their effective rank: whether they have collapsed.
- Over all kinds of defects; a row per set, network, training and score. Nothing is chosen by it.

It can be stopped: what is done lies under _runs/images_embeddings.
"""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from madcluster.diagnostics import effective_rank
from madcluster.heads import Head, Score, WithHead
from madcluster.images import TEXTURES, ImageMADCluster, evaluate, image_scores, textures
from madcluster.study.results import commit, once, provenance, write_result

RUNS = Path(__file__).parents[1] / "_runs" / "images_embeddings"
SEEDS = range(3)
NETWORKS = ("rd4ad", "planted_realnet")
TRAININGS = {
    "none": {"head": False, "epochs": 1, "lr": 1e-12},
    "alone": {"head": False, "epochs": 15},
    "with head": {"head": True, "epochs": 15},
}
SCORES: tuple[Score, ...] = ("distance", "mahalanobis", "embedder")


def run(texture: str, seed: int, network: str) -> list[dict[str, object]]:
    """Rows of all trainings and scores."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    images = textures(
        texture, n_train=32, n_good=20, per_kind=10, size=128, difficulty=0.0, seed=seed
    )
    good = torch.as_tensor(images.test[~images.labels])
    rows: list[dict[str, object]] = []
    for training, options in TRAININGS.items():
        detector = ImageMADCluster(network, **options, seed=seed, device="cpu").fit(images.train)
        base = detector.model_
        base = base.embedder if isinstance(base, WithHead) else base
        model = WithHead(base, Head(base.d), score="mahalanobis").eval()
        batches = torch.as_tensor(images.train).split(16)
        with torch.no_grad():
            model.head.place(model.embedder(x).h for x in batches)
            model.finish(batches)
            h = base(good).h  # (b t d)
        variance = float(h.flatten(0, -2).var(0, correction=0).sum())
        if training == "none":
            start = variance
        detector.model_ = model
        for score in SCORES:
            model.score = score
            maps = detector.maps(images.test)
            found = evaluate(images.labels, image_scores(maps), images.masks, maps)
            rows.append(
                {"texture": texture, "seed": seed, "network": network, "training": training}
                | {"score": score}
                | {name: round(value, 4) for name, value in found.items()}
                | {
                    "variance_ratio": float(f"{variance / start:.4g}"),
                    "effective_rank": round(effective_rank(h), 2),
                    "commit": commit(),
                }
                | provenance(("torch", "numpy", "scikit-image", "efficientnet-lite-pytorch"))
            )
            print(texture, seed, network, training, score, rows[-1]["aupro"], flush=True)
    return rows


def main() -> None:
    rows = []
    for seed in SEEDS:
        for texture in TEXTURES:
            for network in NETWORKS:
                path = RUNS / f"{texture}_{seed}_{network}.json"
                rows += once(path, partial(run, texture, seed, network))
    table = pd.DataFrame(rows)
    columns = ["image_auroc", "aupro", "variance_ratio", "effective_rank"]
    print(table.groupby(["network", "training", "score"])[columns].mean().round(3).to_string())
    write_result(table, "images_embeddings")


if __name__ == "__main__":
    main()
