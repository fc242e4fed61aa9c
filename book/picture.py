"""Draw the picture of the README and of the first page, and the cover: python book/picture.py

What the book found, in little: scores on a plant, which is easy for a network, and every method of the
committed runs on the collections of chapter 13. None is picked.
"""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import SubFigure

from madcluster import MADCluster, evaluate, synthetic
from madcluster.detectors import Mahalanobis
from madcluster.models import EMBEDDERS
from madcluster.study import plots
from madcluster.study.claims import claim
from madcluster.study.results import read_result

KINDS = {  # of methods: color, marker
    "network": (plots.SIGNAL, "o"),
    "network + head": (plots.MADCLUSTER, "s"),
    "no network": (plots.BASELINE, "^"),
}
SENSORS = (3, 5, 7)


def plant(fig: SubFigure) -> None:
    """Some sensors, and two scores with their average precisions."""
    series = synthetic(seed=0)
    scores = (
        ("Deep SVDD + head", "network + head", MADCluster("deepsvdd", stride=5)),
        ("one Gaussian", "no network", Mahalanobis()),
    )
    axes = fig.subplots(5, 1, sharex=True, height_ratios=[1, 1, 1, 1.6, 1.6])
    for channel, ax in zip(SENSORS, axes, strict=False):
        ax.plot(series.test[:, channel], color="0.5", lw=0.5)
        ax.set_ylabel(series.channels[channel], rotation=0, ha="right", va="center", fontsize=8)
    for (name, kind, detector), ax in zip(scores, axes[3:], strict=True):
        values = detector.fit(series.train).decision_function(series.test)
        ax.plot(values, color=KINDS[kind][0], lw=0.8)
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        found = f"AP {evaluate(series.labels, values)['aupr']:.2f}"
        ax.text(1.01, 0.5, found, transform=ax.transAxes, va="center", fontsize=8)
    for ax in axes:
        plots.shade(ax, series.labels)
        ax.set_yticks([])
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.tick_params(bottom=False)
    axes[-1].set_xlim(0, len(series.test))
    fig.suptitle("A synthetic plant: sensors, and two scores", fontsize=9, x=0.01, ha="left")


def collections(fig: SubFigure) -> None:
    """Every method as a mark at its mean VUS-PR over the series of a collection."""
    method, series = ["embedder", "head", "variant"], ["dataset", "entity"]
    runs = read_result("benchmark").query("status == 'done'")
    methods = (
        runs[runs["seed"] == 0].groupby(series)[method].apply(lambda of: len(of.drop_duplicates()))
    )
    whole = methods[methods == methods.max()].index  # series that every method has seen
    of_series = runs.groupby([*series, *method])["VUS_PR"].mean()  # over seeds
    axes, leaders = fig.subplots(1, 3, sharey=True), set()
    for ax, name in zip(axes, ("MSL", "SMAP", "SMD"), strict=True):
        entities = [entity for dataset, entity in whole if dataset == name]
        means = of_series[name].loc[entities].groupby(method).mean()
        ax.axvline(means["random"].iloc[0], color="0.5", ls=":", lw=1)
        means = means.drop(["random", "constant"]).sort_values()
        for (embedder, head, _), value in means.items():
            kind = "no network" if embedder not in EMBEDDERS else "network + head"
            kind = "network" if embedder in EMBEDDERS and not head else kind
            color, marker = KINDS[kind]
            ax.plot(value, list(KINDS).index(kind), marker, color=color, ms=5, alpha=0.7, mew=0)
        ax.set_title(f"{name}, {len(entities)} series", fontsize=8)
        ax.set(xlim=(0, 0.6), ylim=(2.5, -0.5), xlabel="mean VUS-PR")
        leaders.add(kind)  # of the last, which is the highest
    claim("no kind leads on all three collections", len(leaders) > 1)
    axes[0].set_yticks(range(3), list(KINDS), fontsize=8)
    fig.suptitle(
        "Real collections: every method of chapter 13 (dotted: a random score)",
        **{"fontsize": 9, "x": 0.01, "ha": "left"},
    )


def cover() -> plt.Figure:
    """Of the EPUB: the title, and sensors above the score that rises where they are wrong."""
    series = synthetic(seed=0)
    score = Mahalanobis().fit(series.train).decision_function(series.test)
    rows = slice(1800, 4000)
    fig = plt.figure(figsize=(6, 8), facecolor="white", layout="none")
    fig.text(0.1, 0.88, "Deep one-class\nanomaly detection", fontsize=30, va="top", weight="bold")
    fig.text(0.1, 0.71, "An executable book,\nand the package it stands on", fontsize=15, va="top")
    fig.text(0.1, 0.07, "madcluster", fontsize=15)
    lines = [(series.test[rows, channel], "0.45") for channel in SENSORS]
    lines.append((score[rows], plots.MADCLUSTER))
    for place, (values, color) in enumerate(lines):
        ax = fig.add_axes((0.0, 0.48 - 0.1 * place, 1.0, 0.09))
        ax.plot(values, color=color, lw=1)
        plots.shade(ax, series.labels[rows])
        ax.set(xlim=(0, len(values)))
        ax.axis("off")
    return fig


def main() -> None:
    plots.use_style()
    fig = plt.figure(figsize=(6.5, 4.8))
    grid = fig.add_gridspec(2, 1, height_ratios=[1.5, 1], hspace=0.04)
    plant(fig.add_subfigure(grid[0]))
    collections(fig.add_subfigure(grid[1]))
    folder = Path(__file__).with_name("_static")
    fig.savefig(folder / "first_page.png")
    # on a ground of its own, as the README is also read in the dark
    fig.savefig(folder / "overview.png", facecolor="white")
    cover().savefig(folder.with_name("_epub") / "cover.png", dpi=200, bbox_inches=None)


if __name__ == "__main__":
    main()
