"""Figures of the book: one palette, one style, a few helpers."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from madcluster.data import Series, segments
from madcluster.study.statistics import Ranks

__all__ = [
    "ANOMALY",
    "BASELINE",
    "CENTER",
    "MADCLUSTER",
    "SCORE",
    "SIGNAL",
    "THRESHOLD",
    "Sliders",
    "plot_differences",
    "plot_ranks",
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
    """Use the book's style for all figures that follow; in a notebook, at twice the pixels."""
    plt.style.use(Path(__file__).with_name("book.mplstyle"))
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina")


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


def plot_differences(compared: pd.DataFrame, label: str, *, ax: Axes | None = None) -> Axes:
    """Mean differences with their intervals, one line each; a table of `statistics.compare`.

    Filled where the interval leaves out zero.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(6.5, 0.8 + 0.28 * len(compared)))
    for place, (_, row) in enumerate(compared[::-1].iterrows()):
        clear = row["lower"] > 0 or row["upper"] < 0
        ax.plot([row["lower"], row["upper"]], [place, place], color=MADCLUSTER, lw=1.5)
        fill = MADCLUSTER if clear else "white"
        ax.plot(row["mean"], place, "o", color=MADCLUSTER, markerfacecolor=fill)
    names = [
        " ".join(map(str, n)) if isinstance(n, tuple) else str(n) for n in compared.index[::-1]
    ]
    ax.set_yticks(range(len(names)), names)
    ax.axvline(0, color=SCORE, lw=0.8)
    ax.set_xlabel(label)
    ax.margins(y=0.08)
    return ax


def plot_ranks(ranks: Ranks) -> Figure:
    """Critical-difference diagram: mean ranks, and bars over those that are not told apart."""
    mean, n = ranks.mean, len(ranks.mean)
    rows = (n + 1) // 2
    groups: list[tuple[float, float]] = []
    for first in mean:
        last = max(r for r in mean if r - first <= ranks.critical_difference)
        if last > first and not any(a <= first and last <= b for a, b in groups):
            groups.append((first, last))
    fig, ax = plt.subplots(figsize=(6.5, 1.0 + 0.2 * (rows + len(groups))))
    low, high = np.floor(mean.min()), np.ceil(mean.max())
    top = 0.5 + 0.5 * len(groups)
    for place, (name, rank) in enumerate(mean.items()):
        best = place < rows
        depth = top + 0.9 * (place if best else n - 1 - place) + 0.5
        end = low - 0.1 if best else high + 0.1
        ax.plot([rank, rank, end], [0, depth, depth], color=SCORE, lw=0.8, clip_on=False)
        side = "right" if best else "left"
        ax.text(end, depth, f" {name} ", ha=side, va="center", fontsize=8)
    for level, (first, last) in enumerate(groups):
        ax.plot([first - 0.03, last + 0.03], [0.5 + 0.5 * level] * 2, color=SIGNAL, lw=3)
    ax.plot([low, low + ranks.critical_difference], [-2, -2], color=THRESHOLD, lw=2, clip_on=False)
    note = f"critical difference {ranks.critical_difference:.2f} ({ranks.entities} entities)"
    ax.text(low + ranks.critical_difference, -2, f"  {note}", va="center", fontsize=8)
    ax.set_ylim(top + 0.9 * rows, -0.01)
    ax.set_xlim(low, high)
    ax.xaxis.set_ticks_position("top")
    ax.set_xticks(np.arange(low, high + 1))
    ax.set_yticks([])
    for side in ("left", "right", "bottom"):
        ax.spines[side].set_visible(False)
    ax.spines["top"].set_visible(True)
    return fig


@dataclass(frozen=True)
class Sliders:
    """A figure with sliders: an output of a cell that `book/_static/sliders.js` draws in a page.

    Parameters
    ----------
    figure : str
        Of the script: "threshold", "delay", "smoothing" or "shrink".
    values : mapping
        What the figure shows: names, numbers, and lists or arrays of them. Numbers are written with
        four digits, and must be finite.
    otherwise : str
        A sentence for where no script runs: JupyterLab, a reader of EPUB, paper.
    """

    figure: str
    values: Mapping[str, Any]
    otherwise: str

    def __repr__(self) -> str:
        return self.otherwise

    def _repr_html_(self) -> str:
        numbers = json.dumps(_plain(self.values), allow_nan=False, separators=(",", ":"))
        closed = numbers.replace("</", r"<\/")  # would end the script
        return (
            f'<div class="sliders" data-figure="{escape(self.figure)}"><p>{escape(self.otherwise)}</p>'
            f'<script type="application/json">{closed}</script></div>'
        )


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, str):
        return value
    if np.ndim(value):
        return [_plain(each) for each in value]
    number = np.asarray(value).item()
    return float(f"{number:.4g}") if isinstance(number, float) else int(number)
