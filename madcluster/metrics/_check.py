"""What every metric asks of its arguments, in one place."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike

from madcluster.arguments import outside

__all__ = ["labels_and_predictions", "labels_and_scores", "positive_count"]


def labels_and_scores(y_true: ArrayLike, y_score: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Labels as bool (m,) and scores as float64 (m,).

    Raises
    ------
    ValueError
        If one is not 1-D, empty or of another length, if labels are not 0 or 1 or of one class only,
        or if a score is not a number, NaN or infinite.

    Warns
    -----
    UserWarning
        If the score has two values or fewer: it ranks nothing within them, and areas under curves
        of a prediction are not those of the score behind it.
    """
    labels = _binary("y_true", y_true)
    scores = _vector("y_score", y_score, np.float64)
    _same_length(labels, "y_score", scores)
    _both_classes(labels)
    finite = np.isfinite(scores)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(f"y_score must be finite, row {row} is {scores[row]}")
    distinct = _up_to_three_values(scores)
    if distinct <= 2:
        warnings.warn(
            f"y_score has only {distinct} distinct value{'s' * (distinct > 1)}: "
            "this looks like a prediction or a constant, not a score",
            UserWarning,
            stacklevel=outside(),
        )
    return labels, scores


def labels_and_predictions(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions, both as bool (m,).

    Raises
    ------
    ValueError
        As `labels_and_scores`; also if `y_pred` holds anything but 0 and 1, such as scores.
    """
    labels = _binary("y_true", y_true)
    predicted = _binary("y_pred", y_pred, hint="; threshold the score first")
    _same_length(labels, "y_pred", predicted)
    _both_classes(labels)
    return labels, predicted


def positive_count(name: str, value: int, *, least: int) -> int:
    """`value` as an int, or a ValueError with its name if it is below `least` or no integer."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def _vector(name: str, values: ArrayLike, dtype: type | None = None) -> np.ndarray:
    try:
        vector = np.asarray(values)
        if np.iscomplexobj(vector):
            raise TypeError("complex values have no order")
        vector = vector if dtype is None else vector.astype(dtype, copy=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers: {error}") from None
    if vector.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got shape {vector.shape}")
    if not len(vector):
        raise ValueError(f"{name} is empty")
    return vector


def _binary(name: str, values: ArrayLike, hint: str = "") -> np.ndarray:
    vector = _vector(name, values)
    if vector.dtype == bool:
        return vector
    ones = vector == 1
    zeros = vector == 0
    if np.count_nonzero(ones) + np.count_nonzero(zeros) < len(vector):
        row = int(np.argmin(ones | zeros))
        raise ValueError(f"{name} must be 0 or 1, row {row} is {vector[row]}{hint}")
    return ones


def _same_length(labels: np.ndarray, name: str, values: np.ndarray) -> None:
    if len(labels) != len(values):
        raise ValueError(f"y_true has {len(labels)} values, {name} {len(values)}")


def _both_classes(labels: np.ndarray) -> None:
    if labels.all() or not labels.any():
        raise ValueError(f"y_true must hold both classes, all are {int(labels[0])}")


def _up_to_three_values(scores: np.ndarray) -> int:
    """Number of distinct values, counted up to three without a sort."""
    if len(np.unique(scores[:64])) > 2:  # nearly always, and then nothing more is read
        return 3
    others = scores[scores != scores[0]]
    if not len(others):
        return 1
    return 3 if (others != others[0]).any() else 2
