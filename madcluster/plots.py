"""Figures of the book: one palette, one style, a few helpers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from madcluster.data import Series, segments

__all__ = [
    "ANOMALY",
    "BASELINE",
    "CENTER",
    "MADCLUSTER",
    "SCORE",
    "SIGNAL",
    "THRESHOLD",
    "plot_scores",
    "plot_series",
    "shade",
    "use_style",
]

# Okabe and Ito's colors, safe for color-blind readers; one meaning each through the book
SIGNAL = "#0072B2"
SCORE = "#000000"
ANOMALY = "#D55E00"
THRESHOLD = "#CC79A7"
CENTER = "#E69F00"
BASELINE = "#56B4E9"
MADCLUSTER = "#009E73"


def use_style() -> None:
    """Use the book's style for all figures that follow."""
    plt.style.use(Path(__file__).with_name("book.mplstyle"))


def shade(ax: Axes, labels: np.ndarray, *, offset: int = 0, color: str = ANOMALY) -> None:
    """A light vertical band for every anomalous segment; labels (m,) bool."""
    for start, stop in segments(labels):
        # a segment of one step would be a band of no width
        ax.axvspan(
            offset + start - 0.5, offset + stop - 0.5, color=color, alpha=0.15, lw=0.8, zorder=0
        )


def plot_series(
    series: Series, channels: Sequence[int] | None = None, *, rows: slice = slice(None)
) -> Figure:
    """Channels of the test split above each other, anomalies as bands."""
    channels = range(series.test.shape[1]) if channels is None else channels
    time = np.arange(len(series.test))[rows]
    height = 0.6 + 0.45 * len(channels)
    fig, axes = plt.subplots(len(channels), 1, sharex=True, figsize=(6.5, height), squeeze=False)
    for ax, channel in zip(axes[:, 0], channels, strict=True):
        ax.plot(time, series.test[rows, channel], color=SIGNAL, lw=0.7)
        shade(ax, series.labels[rows], offset=int(time[0]))
        ax.set_ylabel(series.channels[channel], rotation=0, ha="right", va="center", fontsize=8)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.spines["bottom"].set_visible(ax is axes[-1, 0])
        ax.tick_params(bottom=ax is axes[-1, 0])
    axes[-1, 0].set_xlabel("time step")
    axes[-1, 0].set_xlim(time[0], time[-1])
    return fig


def plot_scores(
    scores: Mapping[str, np.ndarray], labels: np.ndarray, *, threshold: float | None = None
) -> Figure:
    """Scores (m,) above each other, by name; each on its own axis of [0, 99.9 % quantile]."""
    fig, axes = plt.subplots(
        len(scores), 1, sharex=True, figsize=(6.5, 0.6 + 0.8 * len(scores)), squeeze=False
    )
    for ax, (name, values) in zip(axes[:, 0], scores.items(), strict=True):
        ax.plot(values, color=SCORE, lw=0.7)
        shade(ax, labels)
        low, high = np.quantile(values, [0, 0.999])
        if high > low:
            ax.set_ylim(low - 0.02 * (high - low), low + 1.1 * (high - low))
        if threshold is not None:
            ax.axhline(threshold, color=THRESHOLD, ls="--", lw=1)
        ax.set_title(name)
        ax.set_ylabel("score")
        ax.set_yticks([])
    axes[-1, 0].set_xlabel("time step")
    axes[-1, 0].set_xlim(0, len(labels) - 1)
    return fig
