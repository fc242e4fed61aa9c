"""Several detectors as one: the mean of their scores on a scale that they share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import clone

from madcluster.aggregation import Aggregate, Smooth, Smoother, aggregated, window_starts
from madcluster.arguments import check_seed, check_whole
from madcluster.data.series import ScalerKind
from madcluster.detectors.base import Detector
from madcluster.detectors.choice import default_candidates
from madcluster.service.checkpoints import CheckpointError, as_bits, from_bits
from madcluster.service.streams import Asking, Lane, Scoring

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Ensemble", "in_units", "scale_of"]


class Ensemble(Detector):
    """Mean of the log scores of several detectors, each in units of its own normal rows.

    Scores of different detectors have different units, and laws as different as those of a distance
    and of its square. Of the log of each the median is subtracted, and what is left is divided by the
    interquartile range, both of the scores of normal rows that the detector has not learned, its
    `calibration_scores_`; where these hardly vary, by their standard deviation. A score below the
    smallest positive one of these rows counts as that one. The mean over the detectors is the score,
    which may be negative.

    On the public entities of chapter 15 the mean over `choose`'s candidates ranks ahead of the one that
    `choose` takes (`benchmarks/choice.py`).

    Parameters
    ----------
    detectors : sequence of Detector, optional
        Not fitted; copies are. Those of `madcluster.detectors.choice.default_candidates` by default,
        six of which need no network. They keep what smoothing they have.
    seed : int
        Of the default ones.
    aggregate : "mean", "last" or "window"
        Of all detectors, in place of what each has.
    smooth, contamination
        See `Detector`; the mean of log scores is smoothed.

    Attributes
    ----------
    members_ : list of Detector
        The fitted detectors. They learned rows that were standardized here first.
    least_, middle_, spread_ : (k,)
        Of each, the smallest score that counts, and median and interquartile range of the log scores.

    Examples
    --------
    >>> from madcluster import synthetic
    >>> from madcluster.detectors import Ensemble, Mahalanobis, PCAError
    >>> series = synthetic(seed=0)
    >>> ensemble = Ensemble([PCAError(smooth=20), Mahalanobis(smooth=20)]).fit(series.train)
    >>> ensemble.decision_function(series.test).shape
    (4000,)
    """

    _arrays = ("least_", "middle_", "spread_")
    scaler: ScalerKind = "standard"  # float64 rows far from 0 become float32 rows near it
    members_: list[Detector]

    def __init__(
        self,
        detectors: Sequence[Detector] | None = None,
        *,
        seed: int = 0,
        aggregate: Aggregate = "mean",
        smooth: Smooth = "off",
        contamination: float = 0.01,
    ) -> None:
        self.detectors, self.seed = detectors, seed
        self.aggregate, self.smooth, self.contamination = aggregate, smooth, contamination

    def _given(self) -> list[Detector]:
        if self.detectors is None:
            return list(default_candidates(check_seed(self.seed)).values())
        return list(self.detectors)

    @property
    def window(self) -> int:  # type: ignore[override]
        """The longest of its detectors."""
        return max(each.window for each in vars(self).get("members_") or self._given())

    def check(self) -> None:
        check_seed(self.seed)
        given = self.detectors
        if given is not None and not (isinstance(given, list | tuple) and given):
            raise ValueError(f"detectors must be a list of detectors and not empty, got {given!r}")
        for i, each in enumerate(given or ()):
            if not isinstance(each, Detector):
                raise ValueError(f"detectors[{i}] must be a detector, got {each!r}")
            if isinstance(each, Ensemble):
                raise ValueError(
                    f"detectors[{i}] is an ensemble: its scores are logarithms already"
                )
            try:
                each.check()
            except ValueError as error:
                raise ValueError(f"detectors[{i}]: {error}") from error
        super().check()

    def _fit(self, z: np.ndarray) -> None:
        members, scales = [], []
        for i, each in enumerate(self._given()):
            try:
                member = clone(each).set_params(aggregate=self.aggregate).fit(z).as_fitted
                scales.append(scale_of(member.calibration_scores_))
            except ValueError as error:
                raise ValueError(f"detectors[{i}], {type(each).__name__}: {error}") from error
            members.append(member)
        self.members_ = members
        self.least_, self.middle_, self.spread_ = np.array(scales).T

    def _not_learned(self, rows: np.ndarray) -> tuple[np.ndarray, str]:
        """Of the last rows, for which every detector has such scores."""
        many = min(len(each.calibration_scores_) for each in self.members_)
        joint = self.joint([each.calibration_scores_[-many:] for each in self.members_])
        words = "; ".join(dict.fromkeys(each.calibrated_on_ for each in self.members_))
        if many < len(rows):
            words = f"the last {many} rows of what its detectors are calibrated on: {words}"
        return self._smoothed(joint), words

    def joint(self, scores: Iterable[np.ndarray]) -> np.ndarray:
        """Mean over the detectors of their scores, in those units."""
        scales = zip(scores, self.least_, self.middle_, self.spread_, strict=True)
        found: np.ndarray = np.sum([in_units(*each) for each in scales], axis=0)
        return found / len(self.members_)

    def _scores(self, z: np.ndarray, *, learned: bool = False) -> np.ndarray:
        return self.joint(
            each.decision_scores_ if learned else each._score(z) for each in self.members_
        )

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Scores of the steps of windows as if each were a series, without smoothing; (b t)."""
        return self.joint(_of_longer(each, z, starts, self.window) for each in self.members_)

    def piece(self, aggregate: Aggregate, lane: Lane | None = None) -> Scoring:
        return _Joint(self, aggregate)  # its members have lanes of their own

    # --- files ------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        about, arrays = super().state()
        states = [each.state() for each in self.as_fitted.members_]
        about["members"] = [member for member, _ in states]
        return about, arrays | _numbered(of_member for _, of_member in states)

    def _params(self) -> dict[str, Any]:
        """Without the detectors, which are there as members."""
        return {name: each for name, each in super()._params().items() if name != "detectors"}

    def _whole(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        about, arrays = super()._whole()
        wholes = [each._whole() for each in self.as_fitted.members_]
        about["members"] = [member for member, _ in wholes]
        return about, arrays | _numbered(of_member for _, of_member in wholes)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        embedders: Sequence[nn.Module] = (),
        device: str = "auto",
    ) -> Self:
        """Read an ensemble that `save` wrote; no code of the file is run.

        Parameters
        ----------
        path : file
        embedders : sequence of nn.Module
            The modules that were fitted, of those of its detectors that have one of your own, in order.
        device : str
            Of its networks.

        Raises
        ------
        CheckpointError
            If the file is damaged, of another kind or of another format, or does not fit `embedders`.
        FileNotFoundError
            If there is no such file.
        """
        return cls._load(path, {"embedders": tuple(embedders), "device": device})

    @classmethod
    def _from_whole(
        cls,
        path: object,
        about: Mapping[str, Any],
        arrays: dict[str, np.ndarray],
        given: Mapping[str, Any],
    ) -> Self:
        modules, members = list(given.get("embedders", ())), []
        for i, each in enumerate(about["members"]):
            kind = Detector._class_of(path, each["detector"])
            own: dict[str, Any] = {}
            if "device" in each["params"]:
                own["device"] = given.get("device", "auto")
            if modules and each["params"].get("embedder", "") is None:
                own["embedder"] = modules.pop(0)
            members.append(kind._from_whole(path, each, _of_member(arrays, i), own))
        if modules:
            raise CheckpointError(f"{path} does not take {len(modules)} of the embedders")
        if len({each.n_features_in_ for each in members} | {about["n_features_in"]}) != 1:
            raise ValueError("its detectors are of other channels")
        params = {**about["params"], "detectors": members}
        return super()._from_whole(path, {**about, "params": params}, arrays, {})

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        self.members_ = self._given()
        for scale in (self.least_, self.middle_, self.spread_):
            if scale.shape != (len(self.members_),) or scale.dtype != np.float64:
                raise ValueError(f"{len(self.members_)} detectors have scales of {scale.shape}")
        if not (np.append(self.least_, self.spread_) > 0).all():
            raise ValueError("a scale is not positive")


def scale_of(normal: np.ndarray) -> tuple[float, float, float]:
    """The scale of a detector, from its scores of normal rows.

    Parameters
    ----------
    normal : (r,)
        Scores of normal rows that the detector has not learned.

    Returns
    -------
    The smallest score that counts, and median and interquartile range of the log scores.

    Raises
    ------
    ValueError
        If a score is negative.
    """
    if normal.min() < 0:
        raise ValueError(f"its scores must not be negative to have a logarithm, got {normal.min()}")
    least = normal[normal > 0].min(initial=normal.max() or 1.0)
    logs = np.log(np.maximum(normal, least))
    low, middle, high = np.quantile(logs, (0.25, 0.5, 0.75))
    tiny = 1e-9  # what rounding leaves of scores that are all the same
    spread = next((each for each in (high - low, logs.std()) if each > tiny), 1.0)
    return float(least), float(middle), float(spread)


def in_units(scores: np.ndarray, least: float, middle: float, spread: float) -> np.ndarray:
    """Log scores on a scale of `scale_of`, of any shape."""
    found: np.ndarray = (np.log(np.maximum(scores, least)) - middle) / spread
    return found


def _of_longer(detector: Detector, z: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Scores of steps of stretches of a series from their windows, without smoothing; (b length)."""
    z, window = detector.scaler_.transform(z), detector.window
    aggregate = detector.aggregate_of(detector.aggregate)
    stride = detector.scoring_stride() if aggregate == "mean" else 1
    inner = window_starts(length, window=window, stride=stride)
    rows, place = np.unique(starts[:, None] + inner, return_inverse=True)
    of_windows = detector.window_scores(z, rows)[place.reshape(len(starts), len(inner))]  # (b m t)

    def of_steps(scores: np.ndarray) -> np.ndarray:  # (m t)
        return aggregated(
            lambda index: scores[np.searchsorted(inner, index)],
            length,
            window=window,
            stride=stride,
            aggregate=aggregate,
        )

    return np.array([of_steps(scores) for scores in of_windows])


def _numbered(of_members: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {
        f"members.{i}.{name}": array
        for i, arrays in enumerate(of_members)
        for name, array in arrays.items()
    }


def _of_member(arrays: Mapping[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    prefix = f"members.{i}."
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


class _Joint:
    """Scores of rows that follow each other without a gap, from all detectors of an ensemble.

    A score waits until every detector has one for its row.
    """

    def __init__(self, ensemble: Ensemble, aggregate: Aggregate) -> None:
        self.ensemble, self.parts = ensemble, [m.piece(aggregate) for m in ensemble.members_]
        self.waiting = [np.empty(0) for _ in self.parts]  # scores that not all detectors have yet
        self.smoother = Smoother(ensemble.smooth, causal=aggregate != "mean")
        self.seen = self.scored = 0

    def update(self, z: np.ndarray) -> Asking:
        """Scores that have become known with some more scaled rows; (n c) → (k,)."""
        self.seen += len(z)
        found = []
        for part, each in zip(self.parts, self.ensemble.members_, strict=True):
            scores = yield from part.update(each.scaler_.transform(z))
            found.append(scores)
        return self._join(found)

    def finish(self) -> Asking:
        """Scores of the rows that still wait; NaN for those of less than a window."""
        if self.seen < self.ensemble.window:
            return np.full(self.seen, np.nan)
        found = []
        for part in self.parts:
            scores = yield from part.finish()
            found.append(scores)
        return self._join(found, last=True)

    def _join(self, found: list[np.ndarray], *, last: bool = False) -> np.ndarray:
        for i, scores in enumerate(found):
            self.waiting[i] = np.append(self.waiting[i], scores)
        many = min(map(len, self.waiting))
        joint = self.ensemble.joint(each[:many] for each in self.waiting)
        self.waiting = [each[many:] for each in self.waiting]
        scores = self.smoother.update(joint, last=last)
        self.scored += len(scores)
        return scores

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What is remembered, as plain JSON and arrays."""
        states = [part.state() for part in self.parts]
        about = {
            "seen": self.seen,
            "scored": self.scored,
            "smoothed": self.smoother.before,
            "members": [member for member, _ in states],
        }
        arrays = {f"waiting.{i}": as_bits(each) for i, each in enumerate(self.waiting)}
        arrays["scores"] = as_bits(self.smoother.kept)
        return about, arrays | _numbered(of_member for _, of_member in states)

    def restore(self, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from it.

        Raises
        ------
        KeyError, TypeError, ValueError
            If that does not fit together.
        """
        seen, scored, before = (check_whole(n, about[n], 0) for n in ("seen", "scored", "smoothed"))
        scores = from_bits(arrays["scores"])
        made = scored + len(scores) - before  # before smoothing
        if scores.ndim != 1 or not before <= len(scores) <= made + before or scored > seen:
            raise ValueError(f"it holds scores of shape {scores.shape}")
        for i, (part, member) in enumerate(zip(self.parts, about["members"], strict=True)):
            part.restore(member, _of_member(arrays, i))
            self.waiting[i] = from_bits(arrays[f"waiting.{i}"])
            if part.seen != seen or self.waiting[i].shape != (part.scored - made,):
                raise ValueError(f"detector {i} has seen other rows")
        self.seen, self.scored = seen, scored
        self.smoother.kept, self.smoother.before = scores, before
