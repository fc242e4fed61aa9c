"""MADCluster as a detector: fit on normal data, score what follows."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import nn

from madcluster import scoring
from madcluster.aggregation import Aggregate, Smooth, window_starts
from madcluster.arguments import check_flag, check_one_of
from madcluster.data.series import ScalerKind
from madcluster.detectors.base import Detector
from madcluster.detectors.trained import Trained, trained_or_not
from madcluster.diagnostics import Certificate
from madcluster.heads import (
    HEADS,
    BaseHead,
    Guard,
    Objective,
    Score,
    Terms,
    WithHead,
    build,
    head_of,
)
from madcluster.heads.base import OF_ANY
from madcluster.models import EMBEDDERS, ONE_CLASS
from madcluster.models.base import windows_of
from madcluster.models.weights import arrays_of, check_clusters, check_infinite, restored
from madcluster.randomness import seeded
from madcluster.training import Config, Run, resolve_device, split_tail

__all__ = ["MADCluster"]

# arguments of the paper's head
OF_PAPER = (
    "k",
    "objective",
    "nu",
    "threshold",
    "label_smoothing",
    "terms",
    "outer_log",
    "guard",
)


class MADCluster(Detector):
    """Anomaly detector for multivariate time series (arXiv 2505.16223).

    Parameters
    ----------
    embedder : str or nn.Module
        A name in `madcluster.models.EMBEDDERS`, or a module (b t c) → (b t d). A module is copied:
        fitting leaves yours as it is.
    head : bool or str
        What is put on the embedder: a name in `madcluster.heads.HEADS`, which are "madcluster",
        "contrastive", "innovation" and "flow", or "none". True is the head of the paper, "madcluster",
        and False is "none", the embedder alone. A score of the innovation head is of the last row of a
        window, so it is causal for every `aggregate`, and windows are scored at every row.
    k : int
        Clusters of the paper's head. This and `objective`, `nu`, `threshold`, `label_smoothing`,
        `terms`, `outer_log` and `guard` are arguments of that head; others take `head_options`.
    objective : "one-class" or "soft-boundary"
    window : int
        Rows of a window.
    stride : int, optional
        Steps between training windows; a tenth of the window by default.
    score_stride : int, optional
        Steps between windows when scoring; as in training by default.
    epochs, batch_size, lr, lr_decay, patience, validation
        See `madcluster.training.Config`.
    weight_decay : float
        Added to the gradient of Adam, as in the release. Adam divides a gradient by its own size, so
        weights without any other, those of a channel that stays at 0 after scaling, shrink as fast by
        1e-5 as by 1e-3. 0 leaves them as drawn.
    train : bool or "auto"
        Without, the network stays as it was drawn, and all else is done as after a training. "auto"
        fits it both ways to a part of the rows and takes what finds planted events better that the
        training knew nothing of, see `madcluster.detectors.trained.trained_or_not`; it costs one
        training for each corruption that the contrastive head is shown, and one more.
    scaler : "minmax", "standard" or "none"
        Fitted on the train split.
    clip : float, optional
        Keep scaled values within this distance of the train range; see `madcluster.data.Scaler`.
    score_from : "head", "distance", "cluster", "mahalanobis", "embedder" or "product"
        See `madcluster.heads.WithHead`. Without a head it is the embedder's own.
    nu : float
        Fraction of training steps outside the radius; for "soft-boundary" alone.
    threshold : float
        Where the learned threshold ν of the head starts.
    label_smoothing : float
        Of the head's loss, in [0, 1/2].
    terms : "both", "distance" or "cluster"
        What the head trains on.
    outer_log : bool
        Train on the log of the head's loss, as the release does.
    guard : "none" or "variance-floor"
        Keep the embeddings of the head from collapsing; see `madcluster.heads.Head`.
    aggregate, smooth, contamination
        See `Detector`.
    seed : int
        On a CPU the same seed repeats a fit bit for bit.
    device : str
        "auto" is CUDA where present.
    options : dict, optional
        Further arguments of an embedder given by name, such as `{"d": 32}`.
    head_options : dict, optional
        Arguments of another head than the paper's, such as `{"eps": 1e-2}` for "contrastive".

    Attributes
    ----------
    model_ : Embedder
        The fitted network.
    history_ : History
        Its training, epoch by epoch.
    certificate_ : madcluster.diagnostics.Certificate or None
        For a head that is trained by contrast: whether the score tells held-out windows from corrupted
        copies, as no collapsed network does; see `madcluster.diagnostics.Certificate`. `fit` warns
        where it does not hold. The windows are of the tail that was kept for validation.
    trained_ : bool
        Whether the network was trained.
    trained_evidence_ : madcluster.detectors.trained.Trained or None
        For `train="auto"`, what that was decided by; a file does not keep it.
    decision_scores_, calibration_scores_, calibrated_on_, threshold_, labels_, median_, std_
        See `Detector`. The rows that thresholds come from are the tail that the fit kept for
        validation: its weights were not learned from them, but the best epoch was chosen by them.

    Examples
    --------
    >>> from madcluster import MADCluster, synthetic
    >>> series = synthetic(n_train=1000, n_test=1000, seed=0)
    >>> detector = MADCluster(embedder="deepsvdd", epochs=1, stride=10).fit(series.train)
    >>> detector.decision_function(series.test).shape
    (1000,)
    """

    _module = "embedder"
    _held_out: np.ndarray | None = None  # rows to validate on, where the tail is not to be kept
    trained_evidence_: Trained | None

    def __init__(
        self,
        embedder: str | nn.Module = "deepsvdd",
        *,
        head: bool | str = True,
        k: int = 1,
        objective: Objective = "one-class",
        window: int = 100,
        stride: int | None = None,
        score_stride: int | None = None,
        epochs: int = 10,
        batch_size: int = 32,
        lr: float = 1e-3,
        lr_decay: float = 0.9,
        weight_decay: float = 1e-5,
        validation: float = 0.2,
        patience: int = 5,
        train: bool | Literal["auto"] = True,
        scaler: ScalerKind = "minmax",
        clip: float | None = None,
        score_from: Score = "head",
        nu: float = 0.01,
        threshold: float = 0.5,
        label_smoothing: float = 0.0,
        terms: Terms = "both",
        outer_log: bool = True,
        guard: Guard = "none",
        aggregate: Aggregate = "mean",
        smooth: Smooth = "off",
        contamination: float = 0.01,
        seed: int = 0,
        device: str = "auto",
        options: dict[str, Any] | None = None,
        head_options: dict[str, Any] | None = None,
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
        self.train = train
        self.scaler = scaler
        self.clip = clip
        self.score_from = score_from
        self.nu = nu
        self.threshold = threshold
        self.label_smoothing = label_smoothing
        self.terms = terms
        self.outer_log = outer_log
        self.guard = guard
        self.aggregate = aggregate
        self.smooth = smooth
        self.contamination = contamination
        self.seed = seed
        self.device = device
        self.options = options
        self.head_options = head_options

    def check(self) -> None:
        """Look at the arguments without any data.

        Raises
        ------
        ValueError
            If one is out of its range; the message names it. The options of an embedder are looked at
            when it is built.
        """
        super().check()
        if isinstance(self.embedder, str):
            check_one_of("embedder", self.embedder, tuple(EMBEDDERS))
        elif not isinstance(self.embedder, nn.Module):
            raise ValueError(f"embedder must be a name or a torch.nn.Module, got {self.embedder!r}")
        options = {} if self.options is None else self.options
        if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
            raise ValueError(f"options must be a dict of names and values, got {self.options!r}")
        if options and not isinstance(self.embedder, str):
            raise ValueError("options are for embedders given by name")
        self._config()
        if not (isinstance(self.train, str) and self.train == "auto"):
            check_flag("train", self.train)
        check_one_of("score_from", self.score_from, get_args(Score))
        self._check_head()
        if self.score_stride is not None:
            window_starts(self.window, window=self.window, stride=self.score_stride)

    def _check_head(self) -> None:
        name, options = self._name_of_head(), self.head_options
        if options is not None and not isinstance(options, Mapping):
            raise ValueError(f"head_options must be a dict of names and values, got {options!r}")
        if name in ("madcluster", "none"):
            if options:
                raise ValueError(
                    f"head_options are for another head than the paper's, whose arguments stand by "
                    f"themselves, and head is {self.head!r}"
                )
        else:
            for each in OF_PAPER:
                default = inspect.signature(MADCluster).parameters[each].default
                if (given := getattr(self, each)) != default:
                    raise ValueError(
                        f"{each}={given!r} is for the head 'madcluster': {name!r} does not have it"
                    )
        made = head_of("madcluster", n_channels=1, options=self._of_paper())  # also without a head
        if name != "none":
            made = self._head(1)
        with torch.device("meta"):  # no memory, and no number from the caller's random state
            head = made(1)
        head.check_window(self.window)
        if self.score_from not in (*OF_ANY, *head.scores):
            raise ValueError(
                f"score_from must be one of {(*OF_ANY, *head.scores)} for the head {name!r}, got "
                f"{self.score_from!r}"
            )

    def _name_of_head(self) -> str:
        if isinstance(self.head, bool | np.bool_):
            return "madcluster" if self.head else "none"
        check_one_of("head", self.head, (*HEADS, "none", True, False))
        return self.head

    def _of_paper(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in OF_PAPER}

    def _head(self, n_channels: int) -> Callable[[int], BaseHead]:
        """A head for embeddings of some size."""
        name = self._name_of_head()
        options = self._of_paper() if name == "madcluster" else self.head_options
        return head_of(name, n_channels=n_channels, options=options)

    def _config(self, *, train: bool = True) -> Config:
        return Config(
            train=train,
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
        options = dict(self.options or {})
        if embedder in ONE_CLASS:
            options = {"objective": self.objective, "nu": self.nu, **options}
        with seeded(self.seed):  # initial weights
            self.model_ = build(
                embedder,
                n_channels=n_channels,
                window=self.window,
                head=None if self._name_of_head() == "none" else self._head(n_channels),
                score=self.score_from,
                options=options,
            )

    def _learn(self, rows: np.ndarray) -> None:
        self._decide(rows)
        super()._learn(rows)

    def _decide(self, rows: np.ndarray) -> None:
        """Whether the network is to be trained on the rows (n c)."""
        self.trained_evidence_ = None
        if self.train == "auto":
            self.trained_evidence_ = trained_or_not(self, rows, seed=self.seed)
        found = self.trained_evidence_
        self.trained_ = bool(self.train) if found is None else found.trained

    def _fit(self, z: np.ndarray) -> None:
        run = self._run(z)
        run.alone()
        self._trained(run)

    def _run(self, z: np.ndarray) -> Run:
        """The training of a new network on scaled rows (n c), not begun."""
        if self.k > len(z):
            raise ValueError(f"k must not exceed the {len(z)} rows of X, got {self.k}")
        held_out = None if self._held_out is None else self.scaler_.transform(self._held_out)
        self._build(copy.deepcopy(self.embedder), z.shape[1])
        return Run(self.model_, z, self._config(train=self.trained_), held_out=held_out)

    def _trained(self, run: Run) -> None:
        """Take over what a training has come to."""
        self.history_, self.certificate_ = run.history, None
        if isinstance(self.model_, WithHead):
            apart = windows_of(run.tail, self.window, self.window) if len(run.tail) else run.tail
            self.certificate_ = self.model_.certify(run.ordered.windows, apart)
        if self.certificate_ is not None:
            self.certificate_.warn()

    def fit_against(self, X: np.ndarray, held_out: np.ndarray) -> Self:
        """Learn from all rows of X (n c), and validate on others (m c), as the release does.

        For comparison alone: the detector that it returns can score, and has no threshold.
        """
        fresh = self._unfitted()
        fresh.check()
        fresh._held_out = held_out
        fresh._learn(X)
        del fresh._held_out
        fresh.n_features_in_ = X.shape[1]
        return fresh

    def _not_learned(self, rows: np.ndarray) -> tuple[np.ndarray, str]:
        """Scores of the tail that was kept for validation."""
        cut = split_tail(len(rows), window=self.window, fraction=self.validation, warn=False)
        if cut == len(rows):
            return self.decision_scores_, (
                f"all {len(rows)} training rows, which were learned: less than two windows"
            )
        return self._score(rows[cut:]), (
            f"the last {len(rows) - cut} of {len(rows)} training rows, by which the best epoch was "
            f"chosen and nothing was learned"
        )

    def scoring_stride(self) -> int:
        stride = self._config().stride if self.score_stride is None else self.score_stride
        assert stride is not None
        return stride

    def steps_scored(self) -> int:
        forecasts = isinstance(self.model_, WithHead) and self.model_.forecasts
        return 1 if forecasts else self.window

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return scoring.window_scores(self.model_, z, starts, window=self.window)

    def _scores(self, z: np.ndarray, *, learned: bool = False) -> np.ndarray:
        aggregate = self.aggregate_of(self.aggregate)
        return scoring.score(
            self.model_,
            z,
            window=self.window,
            stride=self.scoring_stride() if aggregate == "mean" else 1,
            aggregate=aggregate,
        )

    def last_scores(self, seen: int = 0) -> tuple[int, Callable[[np.ndarray], np.ndarray]] | None:
        return scoring.last_scores(self.model_, self.n_features_in_, window=self.window)

    def steps(self, n: int) -> scoring.Steps | None:
        return scoring.steps(self.model_, n, window=self.window)

    def input_gradients(self, z: np.ndarray, starts: np.ndarray, weights: np.ndarray) -> np.ndarray:
        like = next(self.model_.parameters())
        rows = torch.as_tensor(z, dtype=like.dtype, device=like.device)
        windows = windows_of(rows, self.window)[torch.as_tensor(starts, device=like.device)]
        windows = windows.clone().requires_grad_()  # (b t c)
        # cuDNN's recurrent layers have no gradient in eval mode
        with torch.backends.cudnn.flags(enabled=False):
            score = self.model_.scored(windows).score
            assert score is not None
            total = (score * torch.as_tensor(weights, device=like.device)).sum()
            (gradient,) = torch.autograd.grad(total, windows)
        return gradient.double().cpu().numpy()

    def _state(self) -> dict[str, np.ndarray]:
        return arrays_of(self.model_)

    def _check_state(self, state: Mapping[str, np.ndarray]) -> None:
        """An infinity may stand where a module of one's own has it, as in a causal mask."""
        infinite = any(np.isinf(array).any() for array in state.values())
        if isinstance(self.embedder, str) or not infinite:
            return super()._check_state(state)
        other = self._unfitted()
        other._build(copy.deepcopy(self.embedder), self.n_features_in_)
        check_infinite(state, other._state())

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        def made() -> nn.Module:
            self._build(copy.deepcopy(self.embedder), self.n_features_in_)
            return self.model_

        if self._name_of_head() == "madcluster":
            check_clusters(self.k, state)
        restored(made, state, trusted=not isinstance(self.embedder, str))
        self.model_.to(resolve_device(self.device)).eval()

    def _whole(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        about, arrays = super()._whole()
        about["trained"] = self.trained_
        if self.certificate_ is not None:
            about["certificate"] = self.certificate_._asdict()
        return about, arrays

    @classmethod
    def _from_whole(
        cls,
        path: object,
        about: Mapping[str, Any],
        arrays: dict[str, np.ndarray],
        given: Mapping[str, Any],
    ) -> Self:
        detector = super()._from_whole(path, about, arrays, given)
        # a file from before there was a choice holds a trained network
        trained, evidence = check_flag("trained", about.get("trained", True)), None
        for each in (detector, detector.as_fitted):
            each.trained_, each.trained_evidence_ = trained, evidence
        kept = about.get("certificate")
        detector.certificate_ = None if kept is None else Certificate.of(kept)
        detector.as_fitted.certificate_ = detector.certificate_
        return detector

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
            If the file is damaged, of another kind or of another format, or does not fit `embedder`.
        FileNotFoundError
            If there is no such file.
        """
        given: dict[str, Any] = {"device": device}
        if embedder is not None:
            given["embedder"] = embedder
        return cls._load(path, given)
