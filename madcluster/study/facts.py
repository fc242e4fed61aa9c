"""What is in a series, in one row of numbers, and small enough to draw without it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pandas as pd

from madcluster.arguments import check_whole
from madcluster.data import Series

__all__ = ["facts", "liveliest", "thumbnail"]


def liveliest(series: Series, n: int = 4) -> np.ndarray:
    """Channels of the test split that move most: standard deviation over range, the largest first.

    Parameters
    ----------
    series : Series
    n : how many, at most all

    Returns
    -------
    (n,) numbers of channels.

    Examples
    --------
    >>> from madcluster import synthetic
    >>> len(liveliest(synthetic(n_train=200, n_test=4000), n=3))
    3
    """
    n = check_whole("n", n)
    test = series.test.astype(float)
    moves = test.std(0) / (np.ptp(test, axis=0) + 1e-9)
    return np.argsort(-moves, kind="stable")[:n]  # equal ones by number, on any processor


def facts(series: Series) -> dict[str, Any]:
    """Lengths, labels and channels of a series, as plain numbers and text for a table.

    Returns
    -------
    train, test, channels, anomalous : rows, channels, and anomalous rows of the test split
    segments : first and last row but one of every anomalous segment, as JSON
    constant, binary : channels that do not move in train; that move between 0 and 1 only
    first_constant : whether channel 0, which is the telemetry in MSL and SMAP, rests in train
    changing : share of rows of test at which a channel changes, mean over channels
    outside : share of rows of test that leave the range of train in some channel
    largest_train, largest_test : largest absolute value of channel 0
    filled : missing values that the reader filled
    unlisted : rows in which the listed events and the labels differ; None without events
    means, spread : mean of each channel in train, as JSON, and the mean standard deviation
    digest : of the test split, to find those that are equal

    Examples
    --------
    >>> from madcluster import synthetic
    >>> row = facts(synthetic(n_train=300, n_test=4000))
    >>> row["train"], row["test"], row["channels"]
    (300, 4000, 8)
    """
    train, test = series.train.astype(float), series.test.astype(float)
    resting = np.ptp(train, axis=0) == 0
    binary = np.isin(train, (0, 1)).all(0) & ~resting
    outside = ((test < train.min(0)) | (test > train.max(0))).any(1)
    listed = np.zeros(len(series.labels), dtype=bool)
    for event in series.events:
        listed[event.start : event.stop] = True
    return {
        "train": len(train),
        "test": len(test),
        "channels": series.n_channels,
        "anomalous": int(series.labels.sum()),
        "segments": json.dumps(series.segments.tolist()),
        "constant": int(resting.sum()),
        "binary": int(binary.sum()),
        "first_constant": bool(resting[0]),
        "changing": round(float((np.diff(test, axis=0) != 0).mean()), 4),
        "outside": round(float(outside.mean()), 4),
        "largest_train": round(float(np.abs(train[:, 0]).max()), 4),
        "largest_test": round(float(np.abs(test[:, 0]).max()), 4),
        "filled": series.filled,
        "unlisted": int((listed != series.labels).sum()) if series.events else None,
        "means": json.dumps(train.mean(0).round(4).tolist()),
        "spread": round(float(train.std(0).mean()), 4),
        "digest": hashlib.sha256(series.test.tobytes()).hexdigest()[:12],
    }


def thumbnail(series: Series, *, n_channels: int = 4, n_bins: int = 200) -> pd.DataFrame:
    """The liveliest channels of the test split, each as lowest and highest value of bins of rows.

    Parameters
    ----------
    series : Series
    n_channels : int
        How many channels, at most all.
    n_bins : int
        Bins of about equally many rows, at most one a row.

    Returns
    -------
    channel (its place among the liveliest), row (the first of the bin), low and high, each channel in
    its own range of [0, 1] to two digits; a channel that does not move is 0.

    Raises
    ------
    ValueError
        If `n_channels` or `n_bins` is not a positive whole number.
    """
    n_bins = min(check_whole("n_bins", n_bins), len(series.test))
    starts = np.arange(n_bins) * len(series.test) // n_bins
    parts = []
    for place, channel in enumerate(liveliest(series, n_channels)):
        x = series.test[:, channel].astype(float)
        x = (x - x.min()) / (np.ptp(x) or 1)
        low, high = np.minimum.reduceat(x, starts), np.maximum.reduceat(x, starts)
        parts.append(
            pd.DataFrame(
                {"channel": place, "row": starts, "low": low.round(2), "high": high.round(2)}
            )
        )
    return pd.concat(parts, ignore_index=True)
