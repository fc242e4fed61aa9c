"""MADCluster as a detector: fit on normal data, score what follows."""

from __future__ import annotations

import copy
import math
import os
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import nn

from madcluster import checkpoint
from madcluster.alarms import Rule, quantile_threshold, threshold_of
from madcluster.baselines import Detector
from madcluster.checkpoint import CheckpointError
from madcluster.data import Scaler
from madcluster.data.series import ScalerKind
from madcluster.explain import Method, contributions
from madcluster.models import SCORES, Guard, Head, Objective, Score, Terms, build
from madcluster.scoring import (
    Aggregate,
    check_aggregate,
    score,
    window_starts,
)
from madcluster.streaming import Stream
from madcluster.training import Config, fit, resolve_device, seeded

__all__ = ["CheckpointError", "MADCluster"]

KIND, FORMAT = "madcluster", 2  # of the checkpoint; a file with a higher number is refused


class MADCluster(Detector):
    """Anomaly detector for multivariate time series (arXiv 2505.16223).

    Parameters
    ----------
    embedder : str or nn.Module
        A name in `madcluster.models.EMBEDDERS`, or a module (b t c) → (b t d). A module is copied:
        fitting leaves yours as it is.
    head : bool
        Put the MADCluster head on the embedder; False is the embedder alone.
    k : int
        Clusters of the head.
    objective : "one-class" or "soft-boundary"
    window, stride : int
        Length of a window and steps between training windows.
    score_stride : int, optional
        Steps between windows when scoring; `stride` by default.
    epochs, batch_size, lr, patience, validation
        See `madcluster.training.Config`.
    scaler : "minmax", "standard" or "none"
        Fitted on the train split.
    clip : float, optional
        Keep scaled values within this distance of the train range; see `madcluster.data.Scaler`.
    score : "head", "distance", "cluster", "mahalanobis", "embedder" or "product"
        See `madcluster.models.WithHead`. Without the head it is the embedder's own.
    nu : float
        Fraction of training steps outside the radius; for "soft-boundary" alone.
    threshold : float
        Where the learned threshold ν of the head starts.
    smoothing : float
        Label smoothing of the head's loss, in [0, 1/2].
    terms : "both", "distance" or "cluster"
        What the head trains on.
    outer_log : bool
        Train on the log of the head's loss, as the release does.
    guard : "none" or "variance-floor"
        Keep the embeddings of the head from collapsing; see `madcluster.models.Head`.
    aggregate : "mean" or "last"
        One score per step from all windows that cover it, or causally; see `madcluster.scoring`.
    contamination : float
        Share of training rows whose score lies above `threshold_`, which `predict` uses.
    seed : int
        On a CPU the same seed repeats a fit bit for bit.
    device : str
        "auto" is CUDA where present.
    options : dict, optional
        Further arguments of an embedder given by name, such as `{"d": 32}`.

    Attributes
    ----------
    model_ : Embedder
        The fitted network.
    history_ : History
        Its training, epoch by epoch.
    usual_, spread_ : (c,)
        Median and standard deviation of every scaled channel in the train split, 1 for a constant one;
        what `explain` compares with.
    decision_scores_ : (n,)
        Scores of the training rows.
    threshold_ : float
        Their (1 − contamination) quantile.

    Examples
    --------
    >>> from madcluster import MADCluster, synthetic
    >>> series = synthetic(n_train=1000, n_test=1000, seed=0)
    >>> detector = MADCluster(embedder="deepsvdd", epochs=1, stride=10).fit(series.train)
    >>> detector.decision_function(series.test).shape
    (1000,)
    """

    def __init__(
        self,
        embedder: str | nn.Module = "deepsvdd",
        *,
        head: bool = True,
        k: int = 1,
        objective: Objective = "one-class",
        window: int = 100,
        stride: int = 1,
        score_stride: int | None = None,
        epochs: int = 5,
        batch_size: int = 128,
        lr: float = 1e-3,
        lr_decay: float = 0.9,
        weight_decay: float = 1e-5,
        validation: float = 0.2,
        patience: int = 5,
        scaler: ScalerKind = "minmax",
        clip: float | None = None,
        score: Score = "head",
        nu: float = 0.01,
        threshold: float = 0.5,
        smoothing: float = 0.0,
        terms: Terms = "both",
        outer_log: bool = True,
        guard: Guard = "none",
        aggregate: Aggregate = "mean",
        contamination: float = 0.01,
        seed: int = 0,
        device: str = "auto",
        options: dict[str, Any] | None = None,
    ) -> None:
        self.embedder = embedder
        self.head = head
        self.k = k
        self.objective = objective
        self.window = window
        self.stride = stride
        self.score_stride = score_stride
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.lr_decay = lr_decay
        self.weight_decay = weight_decay
        self.validation = validation
        self.patience = patience
        self.scaler = scaler
        self.clip = clip
        self.score = score
        self.nu = nu
        self.threshold = threshold
        self.smoothing = smoothing
        self.terms = terms
        self.outer_log = outer_log
        self.guard = guard
        self.aggregate = aggregate
        self.contamination = contamination
        self.seed = seed
        self.device = device
        self.options = options

    def check(self) -> None:
        """Look at the arguments without any data.

        Raises
        ------
        ValueError
            If one is out of its range; the message names it. The options of an embedder are looked at
            when it is built.
        """
        self._config()
        Scaler(self.scaler, clip=self.clip)
        self._checked_score()
        with torch.device("meta"):  # no memory, and no number from the caller's random state
            Head(1, **self._of_head())
        check_aggregate(self.aggregate)
        quantile_threshold(np.zeros(1), self.contamination)
        if self.score_stride is not None:
            window_starts(self.window, window=self.window, stride=self.score_stride)

    def _of_head(self) -> dict[str, Any]:
        """Arguments that go to the head as they are."""
        names = "k", "objective", "nu", "threshold", "smoothing", "terms", "outer_log", "guard"
        return {name: getattr(self, name) for name in names}

    def _checked_score(self) -> Score:
        if self.score not in SCORES:
            raise ValueError(f"score must be one of {SCORES}, got {self.score!r}")
        return self.score

    def _config(self) -> Config:
        return Config(
            window=self.window,
            stride=self.stride,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            lr_decay=self.lr_decay,
            weight_decay=self.weight_decay,
            validation=self.validation,
            patience=self.patience,
            seed=self.seed,
            device=self.device,
        )

    def _build(self, embedder: str | nn.Module, n_channels: int) -> None:
        self._checked_score()
        with seeded(self.seed):  # initial weights
            self.model_ = build(
                embedder,
                n_channels=n_channels,
                window=self.window,
                head=self.head,
                **self._of_head(),
                score=self.score,
                options=self.options,
            )

    def _fit(self, x: np.ndarray, held_out: np.ndarray | None = None) -> None:
        """Learn from (n c); validate on `held_out` (m c), or on the tail of x."""
        self.check()
        config = self._config()
        if len(x) < self.window:
            raise ValueError(f"X has {len(x)} rows, less than a window of {self.window}")
        self.scaler_ = Scaler(self.scaler, clip=self.clip).fit(x)
        self._build(copy.deepcopy(self.embedder), x.shape[1])
        if held_out is not None:
            held_out = self.scaler_.transform(held_out)
        scaled = self.scaler_.transform(x)
        self.usual_ = np.median(scaled, axis=0)
        self.spread_ = np.where(np.ptp(scaled, axis=0) > 0, scaled.std(0), np.float32(1))
        self.history_ = fit(self.model_, scaled, config, held_out=held_out)

    def _score(self, x: np.ndarray) -> np.ndarray:
        stride = self.stride if self.score_stride is None else self.score_stride
        return score(
            self.model_,
            self.scaler_.transform(x),
            window=self.window,
            stride=1 if self.aggregate == "last" else stride,
            aggregate=self.aggregate,
        )

    def calibrate(self, rule: Rule, **arguments: Any) -> Self:
        """Choose `threshold_` anew from the scores of the training rows; no label is needed.

        Parameters
        ----------
        rule : "quantile", "peaks" or "budget"
            A quantile (`contamination`), the score that a normal row exceeds with a `probability`, or
            the lowest threshold within a budget of `alarms_per_day`; see `madcluster.alarms`.
        **arguments
            Those of the rule.

        Raises
        ------
        ValueError
            If the detector is not fitted, the rule is unknown, or an argument is out of its range.
        """
        self._check_fitted()
        self.threshold_ = threshold_of(self.decision_scores_, rule, **arguments)
        return self

    def explain(
        self, X: Any, start: int, stop: int, *, method: Method = "gradient"
    ) -> np.ndarray | pd.Series:
        """What every channel adds to the score of some rows; see `madcluster.explain.contributions`.

        Returns
        -------
        (c,), or a Series by the names of the columns if X is a DataFrame, the largest first.
        """
        found = contributions(self, X, start, stop, method=method)
        if not isinstance(X, pd.DataFrame):
            return found
        return pd.Series(found, index=X.columns, name="contribution").sort_values(ascending=False)

    def stream(self, *, aggregate: Aggregate | None = None) -> Stream:
        """Score rows as they come; see `madcluster.streaming.Stream`."""
        return Stream(self, aggregate=aggregate)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write tensors and plain JSON to one safetensors file, whole or not at all.

        With them go the versions of the software, and the number and names of the channels. A module of
        your own is not stored, only its weights: `load` is given the module again.
        """
        fitted = self.as_fitted
        params = {**fitted.get_params(deep=False), "device": "auto"}
        own_module = isinstance(fitted.embedder, nn.Module)
        if own_module:
            params["embedder"] = None
        tensors = {f"model.{k}": v for k, v in self.model_.state_dict().items()}
        for name, array in self.scaler_.state().items():
            tensors[f"scaler.{name}"] = torch.as_tensor(np.array(array))
        tensors["usual"] = torch.as_tensor(np.stack([self.usual_, self.spread_]))
        tensors["decision_scores"] = torch.as_tensor(self.decision_scores_)
        about = {
            "params": params,
            "n_features_in": self.n_features_in_,
            "channels": list(getattr(self, "feature_names_in_", ())),
            "threshold": self.threshold_,
        }
        checkpoint.write(path, KIND, about, tensors, version=FORMAT)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        embedder: nn.Module | None = None,
        device: str = "auto",
    ) -> Self:
        """Read a detector that `save` wrote; no code of the file is run.

        Parameters
        ----------
        path : file
        embedder : nn.Module, optional
            The module that was fitted, if it was one of your own; its weights are read from the file.

        Raises
        ------
        CheckpointError
            If the file is damaged, of another kind or of a newer format, or does not fit `embedder`.
        FileNotFoundError
            If there is no such file.
        """
        header, tensors = checkpoint.read(path, KIND, version=FORMAT)
        try:
            params = header["params"]
            if (params["embedder"] is None) != (embedder is not None):
                wants = "needs" if embedder is None else "does not take"
                raise CheckpointError(f"{path} {wants} an embedder of your own")
            detector = cls(
                **{**params, "embedder": embedder or params["embedder"], "device": device}
            )
            detector.check()
            detector.n_features_in_ = int(header["n_features_in"])
            if channels := header.get("channels"):  # absent where there were no names
                if not (isinstance(channels, list) and len(channels) == detector.n_features_in_):
                    raise ValueError(f"{channels} do not name {detector.n_features_in_} channels")
                detector.feature_names_in_ = np.array(
                    [str(name) for name in channels], dtype=object
                )
            detector.threshold_ = float(header["threshold"])
            detector.decision_scores_ = tensors.pop("decision_scores").numpy()
            detector.usual_, detector.spread_ = tensors.pop("usual").numpy()
            scaler = {
                name.removeprefix("scaler."): tensors.pop(name).numpy()
                for name in [name for name in tensors if name.startswith("scaler.")]
            }
            detector.scaler_ = Scaler.from_state(detector.scaler, detector.clip, scaler)
            of_channels = detector.usual_, detector.spread_, *scaler.values()
            if any(array.shape != (detector.n_features_in_,) for array in of_channels):
                raise ValueError(f"not every array is of {detector.n_features_in_} channels")
            if detector.decision_scores_.ndim != 1 or not math.isfinite(detector.threshold_):
                raise ValueError("its scores or its threshold are not numbers one by one")
            weights = {name.removeprefix("model."): value for name, value in tensors.items()}
            if embedder is None:  # names and shapes first: a changed number must not ask for memory
                with torch.device("meta"):
                    detector._build(detector.embedder, detector.n_features_in_)
                detector.model_.load_state_dict(weights, assign=True)
            detector._build(copy.deepcopy(detector.embedder), detector.n_features_in_)
            detector.model_.load_state_dict(weights)
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} does not describe a detector: {error}") from error
        detector.model_.to(resolve_device(device)).eval()
        detector._adopt(copy.copy(detector))
        return detector
