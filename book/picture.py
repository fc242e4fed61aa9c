"""Draw the picture of the README and of the first page, and the cover: python book/picture.py

What the book found, in little: on a plant, what smoothing does to a score; and every method of the
comparison of chapter 13 on real collections, before and after the same smoothing. None is picked.
"""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import SubFigure

from madcluster import MADCluster, evaluate, synthetic
from madcluster.detectors import Mahalanobis, PCAError
from madcluster.models import EMBEDDERS
from madcluster.study import plots
from madcluster.study.claims import claim
from madcluster.study.comparison import common, scores
from madcluster.study.results import read_result

KINDS = {  # of methods: color, marker
    "no network": (plots.BASELINE, "^"),
    "untrained, with the head": (plots.CENTER, "D"),
    "network": (plots.SIGNAL, "o"),
    "network with the head": (plots.MADCLUSTER, "s"),
}
SENSORS = (3, 5, 7)


def plant(fig: SubFigure) -> None:
    """Some sensors, and three scores with their average precisions."""
    series = synthetic(seed=0)
    scored = (
        ("Deep SVDD with the head", "network with the head", MADCluster("deepsvdd")),
        ("PCA error of a row", "no network", PCAError()),
        ("the same, smoothed by 20 rows", "no network", PCAError(smooth=20)),
    )
    axes = fig.subplots(6, 1, sharex=True, height_ratios=[1, 1, 1, 1.6, 1.6, 1.6])
    for channel, ax in zip(SENSORS, axes, strict=False):
        ax.plot(series.test[:, channel], color="0.5", lw=0.5)
        ax.set_ylabel(series.channels[channel], rotation=0, ha="right", va="center", fontsize=8)
    precisions = []
    for (name, kind, detector), ax in zip(scored, axes[3:], strict=True):
        values = detector.fit(series.train).decision_function(series.test)
        ax.plot(values, color=KINDS[kind][0], lw=0.8)
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        precisions.append(evaluate(series.labels, values)["aupr"])
        found = f"AP {precisions[-1]:.2f}"
        ax.text(1.01, 0.5, found, transform=ax.transAxes, va="center", fontsize=8)
    claim("one row is behind the network", precisions[1] < precisions[0] - 0.03)
    claim("smoothed it is level with it or ahead", precisions[2] > precisions[0] - 0.03)
    for ax in axes:
        plots.shade(ax, series.labels)
        ax.set_yticks([])
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.tick_params(bottom=False)
    axes[-1].set_xlim(0, len(series.test))
    fig.suptitle("A synthetic plant: sensors, and three scores", fontsize=9, x=0.01, ha="left")


def kind_of(method: str) -> str:
    """Of a method, by its name in the comparison."""
    if method.split(" + ")[0].split(",")[0] not in EMBEDDERS:
        return "no network"
    if "untrained" in method:
        return "untrained, with the head"
    return "network with the head" if "+ head" in method else "network"


def collections(fig: SubFigure) -> None:
    """Every method as a mark at its mean VUS-PR over the series of a collection."""
    data = read_result("comparison")
    smoothed, raw = (common(scores(data, smooth=smooth)) for smooth in (20, "off"))
    axes, leaders = fig.subplots(1, 3, sharey=True), set()
    for ax, name in zip(axes, ("MSL", "SMAP", "SMD"), strict=True):
        means, before = smoothed.loc[name].mean(), raw.loc[name].mean()
        ax.axvline(means["random"], color="0.5", ls=":", lw=1)
        means = means.drop("random").sort_values()
        for method, value in means.items():
            kind = kind_of(method)
            color, marker = KINDS[kind]
            place = list(KINDS).index(kind)
            ax.plot(before[method], place - 0.17, marker, color=color, ms=4, mfc="none", mew=0.7)
            ax.plot(value, place + 0.17, marker, color=color, ms=5, alpha=0.7, mew=0)
        ax.set_title(f"{name}, {len(smoothed.loc[name])} series", fontsize=8)
        ax.set(xlim=(0, 0.75), ylim=(len(KINDS) - 0.5, -0.5), xlabel="mean VUS-PR")
        leaders.add(kind)  # of the last, which is the highest
    claim("no kind leads on all three collections", len(leaders) > 1)
    axes[0].set_yticks(range(len(KINDS)), list(KINDS), fontsize=8)
    fig.suptitle(
        "Real collections: a mark for each method, unsmoothed (hollow) and smoothed by 20 rows",
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
    fig = plt.figure(figsize=(6.5, 5.6))
    grid = fig.add_gridspec(2, 1, height_ratios=[1.45, 1], hspace=0.04)
    plant(fig.add_subfigure(grid[0]))
    collections(fig.add_subfigure(grid[1]))
    folder = Path(__file__).with_name("_static")
    fig.savefig(folder / "first_page.png")
    # on a ground of its own, as the README is also read in the dark
    fig.savefig(folder / "overview.png", facecolor="white")
    cover().savefig(folder.with_name("_epub") / "cover.png", dpi=200, bbox_inches=None)


if __name__ == "__main__":
    main()
