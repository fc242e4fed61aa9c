"""Draw the picture of the README and of the first page: python book/picture.py"""

from pathlib import Path

import matplotlib.pyplot as plt

from madcluster import MADCluster, plots, synthetic


def main() -> None:
    plots.use_style()
    series = synthetic(seed=0)
    detector = MADCluster("deepsvdd", stride=5).fit(series.train)
    scores = detector.decision_function(series.test)
    fig, axes = plt.subplots(5, 1, sharex=True, figsize=(6.5, 3.4), height_ratios=[1, 1, 1, 1, 2.2])
    for channel, ax in enumerate(axes[:4]):
        ax.plot(series.test[:, channel], color=plots.SIGNAL, lw=0.6)
        ax.set_ylabel(series.channels[channel], rotation=0, ha="right", va="center", fontsize=8)
    axes[4].plot(scores, color=plots.SCORE, lw=0.8)
    axes[4].axhline(detector.threshold_, color=plots.THRESHOLD, ls="--", lw=1)
    axes[4].set_ylabel("score", rotation=0, ha="right", va="center")
    for ax in axes:
        plots.shade(ax, series.labels)
        ax.set_yticks([])
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.tick_params(bottom=ax is axes[4])
    axes[4].set(xlabel="time step", xlim=(0, len(scores)))
    folder = Path(__file__).with_name("_static")
    fig.savefig(folder / "first_page.png")
    # on a ground of its own, as the README is also read in the dark
    fig.savefig(folder / "overview.png", facecolor="white")


if __name__ == "__main__":
    main()
