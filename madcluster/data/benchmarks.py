"""MSL, SMAP, SMD and PSM, read from their official files.

| data set | files |
| --- | --- |
| MSL, SMAP | `<set>/train|test/<channel>.npy`, `<set>/labeled_anomalies.csv` |
| SMD | `SMD/train|test|test_label|interpretation_label/<machine>.txt` |
| PSM | `PSM/train.csv`, `PSM/test.csv`, `PSM/test_label.csv` |

`PSM_excerpt` is a short piece of PSM's test split in the layout of PSM; it is not PSM.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from platformdirs import user_cache_path

from madcluster.data.series import Event, Series
from madcluster.data.synthetic import synthetic
from madcluster.data.tables import Fill, check_fill, fill_missing, read_table

__all__ = ["DATASETS", "MissingDataError", "data_root", "entities", "load", "official_files"]

DATASETS = ("MSL", "SMAP", "SMD", "PSM")
NASA = ("MSL", "SMAP")
ONE_ENTITY = ("PSM", "PSM_excerpt")
N_CHANNELS = {"MSL": 55, "SMAP": 25, "SMD": 38, "PSM": 25, "PSM_excerpt": 25}
LABELS = "labeled_anomalies.csv"


class MissingDataError(FileNotFoundError):
    """A file of a data set is not there; the message says how to get it."""


def official_files() -> dict[str, tuple[int, str]]:
    """Size in bytes and SHA-256 of every official file, by its name."""
    with Path(__file__).with_name("official_sha256.csv").open(newline="") as file:
        return {row["file"]: (int(row["bytes"]), row["sha256"]) for row in csv.DictReader(file)}


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Folder of the data sets: the argument, else `$MADCLUSTER_DATA`, else the user's cache."""
    return Path(root or os.environ.get("MADCLUSTER_DATA") or user_cache_path("madcluster"))


def _existing(path: Path, dataset: str) -> Path:
    if not path.exists() and dataset == "PSM_excerpt":
        raise MissingDataError(
            f"{path} is missing, and cannot be fetched: PSM_excerpt is not published. "
            f"Set MADCLUSTER_DATA or root to where you have it, or use PSM"
        )
    if not path.exists():
        archive = ", archive='nasa.zip'" if dataset in NASA else ""
        raise MissingDataError(
            f"{path} is missing. If you have the data elsewhere, set MADCLUSTER_DATA or root; else "
            f"fetch it:  python -c \"from madcluster.data import fetch; fetch('{dataset}'{archive})\""
        )
    return path


def _checked_dataset(dataset: str) -> None:
    known = (*DATASETS, "PSM_excerpt", "synthetic")
    if dataset not in known:
        raise ValueError(f"dataset must be one of {known}, got {dataset!r}")


def entities(dataset: str, root: str | os.PathLike[str] | None = None) -> list[str]:
    """Labeled entities of a data set whose files all lie under `root`, sorted.

    Raises
    ------
    MissingDataError
        If there is none.
    ValueError
        If the data set is unknown.
    """
    _checked_dataset(dataset)
    if dataset == "synthetic":
        return [dataset]
    folder = data_root(root) / dataset
    if dataset in ONE_ENTITY:
        _existing(folder / "test.csv", dataset)
        return [dataset]
    if dataset in NASA:
        table = nasa_labels(_existing(folder / LABELS, dataset))
        names = [name for name, (craft, *_) in table.items() if craft == dataset]
        parts, ending = ["train", "test"], "npy"
    else:
        names = [path.stem for path in _existing(folder / "test", dataset).glob("*.txt")]
        parts, ending = ["train", "test", "test_label", "interpretation_label"], "txt"
    names = [n for n in names if all((folder / p / f"{n}.{ending}").exists() for p in parts)]
    if not names:
        _existing(folder / "test" / "any entity", dataset)
    return sorted(names)


def load(
    dataset: str,
    entity: str | None = None,
    root: str | os.PathLike[str] | None = None,
    *,
    fill: Fill | Literal["zero"] | None = None,
) -> Series:
    """One entity of a benchmark.

    Parameters
    ----------
    dataset : "MSL", "SMAP", "SMD", "PSM", "PSM_excerpt" or "synthetic"
    entity : such as "machine-1-6"; not needed for PSM and "synthetic"
    root : folder of the data sets; see `data_root`
    fill : how to fill missing values, which PSM's train split has. Their number is kept in
        `Series.filled`. None refuses them. "zero" puts 0 in their place, as the code published with
        the paper does, for comparison with it alone.

    Raises
    ------
    MissingDataError
        If a file is not there; the message says how to get it.
    ValueError
        If a name or `fill` is unknown, naming those there are, or a file is damaged, naming file, row
        and column.
    """
    if fill != "zero":
        check_fill(fill)
    known = entities(dataset, root)
    if entity is None and dataset in (*ONE_ENTITY, "synthetic"):
        entity = dataset
    if entity not in known:
        near = get_close_matches(str(entity), known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}"
        raise ValueError(f"{dataset} has no entity {entity!r}; {hint}")
    if dataset == "synthetic":
        return synthetic()
    folder = data_root(root) / dataset
    if dataset in NASA:
        return _nasa(dataset, entity, folder)
    if dataset == "SMD":
        return _smd(entity, folder)
    return _psm(dataset, folder, fill)


# --- MSL and SMAP ---------------------------------------------------------------------------------


def nasa_labels(path: Path) -> dict[str, tuple[str, int, list[Event]]]:
    """Spacecraft, length of the test split and events of every channel.

    A channel that stands in two rows (P-2) has the union of both. Both ends of a sequence in the
    file are anomalous rows.

    Raises
    ------
    ValueError
        If the file is not the official table. An older one has indices that are 250 lower and fits
        none of the arrays in circulation.
    """
    content = path.read_bytes().replace(b"\r\n", b"\n")
    size, expected = official_files()[f"MSL_SMAP/{LABELS}"]
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(
            f"{path} is not the official label table of {size} bytes. An older one of 3,969 bytes, "
            f"with indices 250 lower and one row for P-2, does not fit the arrays. Delete it and "
            f"call fetch('MSL', archive=…) or fetch('SMAP', archive=…)"
        )
    table: dict[str, tuple[str, int, list[Event]]] = {}
    for row in csv.DictReader(content.decode().splitlines()):
        kinds = row["class"].strip("[]").split(", ")
        events = [
            Event(kind, first, last + 1)
            for kind, (first, last) in zip(kinds, json.loads(row["anomaly_sequences"]), strict=True)
        ]
        *_, known = table.get(row["chan_id"], ("", 0, []))
        table[row["chan_id"]] = (row["spacecraft"], int(row["num_values"]), known + events)
    return table


def _npy(path: Path, dataset: str) -> np.ndarray:
    """A float array of the data set's width; pickled objects are never read."""
    try:
        x = np.load(_existing(path, dataset), allow_pickle=False)
    except MissingDataError:
        raise
    except Exception as error:  # NumPy reads a header as Python text and may fail as that does
        raise ValueError(f"{path} is not a whole .npy array of numbers: {error}") from error
    width = N_CHANNELS[dataset]
    if not isinstance(x, np.ndarray) or x.ndim != 2 or x.shape[1] != width:
        shape = getattr(x, "shape", type(x).__name__)
        raise ValueError(f"{path} must hold (rows, {width}), got {shape}")
    return x


def _nasa(dataset: str, entity: str, folder: Path) -> Series:
    _, length, events = nasa_labels(folder / LABELS)[entity]
    train, test = (_npy(folder / split / f"{entity}.npy", dataset) for split in ("train", "test"))
    if len(test) != length:
        raise ValueError(
            f"{dataset}/{entity}: the label table speaks of {length} test rows, the array has "
            f"{len(test)}"
        )
    labels = np.zeros(length, dtype=bool)
    for event in events:
        labels[event.start : event.stop] = True
    channels = ("telemetry", *(f"command {i}" for i in range(1, N_CHANNELS[dataset])))
    ordered = tuple(sorted(events, key=lambda event: event.start))
    return Series(f"{dataset}/{entity}", train, test, labels, channels, ordered)


# --- SMD ------------------------------------------------------------------------------------------


def _numbers(path: Path, dataset: str, width: int) -> np.ndarray:
    """Comma-separated numbers without a header, (rows, width)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # NumPy only warns of an empty file
            x = np.loadtxt(_existing(path, dataset), delimiter=",", ndmin=2, comments=None)
    except (ValueError, UserWarning) as error:
        raise ValueError(f"{path}: {_first_fault(path, width) or error}") from error
    if x.shape[1] != width:
        raise ValueError(f"{path}: {_first_fault(path, width)}")
    return x


def _first_fault(path: Path, width: int) -> str | None:
    """The first line that is not `width` numbers, in words."""
    lines = path.read_text(errors="replace").splitlines()
    if not lines:
        return "the file is empty"
    for number, line in enumerate(lines, start=1):
        cells = line.split(",")
        if len(cells) != width:
            return f"row {number} has {len(cells)} columns, expected {width}"
        for column, cell in enumerate(cells, start=1):
            try:
                float(cell)
            except ValueError:
                return f"row {number}, column {column} holds {cell!r}, not a number"
    return None


def _smd(entity: str, folder: Path) -> Series:
    width = N_CHANNELS["SMD"]
    train, test = (
        _numbers(folder / split / f"{entity}.txt", "SMD", width) for split in ("train", "test")
    )
    labels = _numbers(folder / "test_label" / f"{entity}.txt", "SMD", 1)[:, 0]
    events = smd_root_causes(folder / "interpretation_label" / f"{entity}.txt")
    return Series(f"SMD/{entity}", train, test, labels, events=events)


def smd_root_causes(path: Path) -> tuple[Event, ...]:
    """Channels behind each incident of a machine, as published.

    A line reads `first-last:channel,…`. Against the labels, `last` is the first row *after* the
    incident, and channels are counted from 1; here they count from 0.
    """
    events = []
    for number, line in enumerate(_existing(path, "SMD").read_text().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rows, _, channels = line.partition(":")
            start, stop = (int(i) for i in rows.split("-"))
            causes = tuple(int(channel) - 1 for channel in channels.split(","))
            if min(causes) < 0 or not start < stop:
                raise ValueError
        except ValueError as error:
            raise ValueError(
                f"{path}: row {number} is not 'first-last:channel,…': {line!r}"
            ) from error
        events.append(Event("incident", start, stop, causes))
    return tuple(events)


# --- PSM ------------------------------------------------------------------------------------------


def _psm(dataset: str, folder: Path, fill: Fill | Literal["zero"] | None) -> Series:
    time = "timestamp_(min)"
    splits, filled = [], 0
    for split in ("train", "test"):
        frame = read_table(_existing(folder / f"{split}.csv", dataset), time=time, missing=True)
        if fill == "zero":
            n, frame = int(frame.isna().to_numpy().sum()), frame.fillna(0.0)
        else:
            frame, n = fill_missing(frame, fill, folder / f"{split}.csv")
        splits.append(frame)
        filled += n
    train, test = splits
    marks = read_table(_existing(folder / "test_label.csv", dataset), time=time)
    if list(marks.columns) != ["label"] or not marks.index.equals(test.index):
        raise ValueError(f"{folder / 'test_label.csv'} does not have the time stamps of test.csv")
    if list(train.columns) != list(test.columns):
        raise ValueError(f"{folder}: train.csv and test.csv have different columns")
    before: pd.Index = train.index
    index: pd.Index = test.index
    return Series(
        dataset,
        train.to_numpy(),
        test.to_numpy(),
        marks["label"].to_numpy(),
        tuple(train.columns),
        time=index,
        filled=filled,
        train_time=before,
    )
