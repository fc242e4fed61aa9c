"""Detectors of defects: fit on good images, then a score for each pixel and one for each image."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self, cast, get_args

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn
from torch.nn.functional import interpolate

from madcluster.arguments import (
    check_flag,
    check_number,
    check_one_of,
    check_seed,
    check_whole,
)
from madcluster.detectors.gaussian import whitening
from madcluster.heads import SCORES, Head, Score, WithHead
from madcluster.images.embedders import (
    ImageEmbedder,
    as_image_embedder,
    called,
    check_embedder,
    grid_of,
    positions,
)
from madcluster.images.features import Features, Weights
from madcluster.images.metrics import image_scores
from madcluster.images.pyramidflow import PyramidFlow
from madcluster.images.rd4ad import RD4AD
from madcluster.images.realnet import PlantedRealNet
from madcluster.images.sets import checked_images
from madcluster.models.base import Embedder
from madcluster.models.weights import arrays_of, check_clusters, check_infinite, restored
from madcluster.randomness import seeded
from madcluster.scoring import checked_score
from madcluster.service.alarms import quantile_threshold
from madcluster.service.checkpoints import Saved
from madcluster.training import Config, fit, flushed_denormals, resolve_device, split_tail

__all__ = [
    "NETWORKS",
    "CenterDistance",
    "FeatureDetector",
    "ImageDetector",
    "ImageMADCluster",
    "PaDiM",
    "PatchCore",
    "coreset",
]

# by name, each from the number of channels of an image
NETWORKS: dict[str, Callable[[int], ImageEmbedder]] = {
    "pyramidflow": PyramidFlow,
    "rd4ad": lambda _: RD4AD(),
    "planted_realnet": lambda _: PlantedRealNet(),
}
BATCH = 16  # images at work at a time
BLOCK = 2**24  # distances at work at a time
NETWORK = "network."  # names of weights of features in a file begin so


class ImageDetector(Saved, BaseEstimator):
    """Fit on good images; **higher = more anomalous**, a score for each pixel and one for each image.

    Images are (n c h w), float between 0 and 1 or uint8. The tail of the train images is not
    learned: `threshold_` is chosen from its scores, without a label.

    A subclass says how to fit (`_fit`), what score every position has (`_grid_scores`), and which
    tensors hold what it learned (`_arrays`).

    Parameters
    ----------
    validation : float
        Share of the train images that are kept for the threshold, in (0, 1).
    contamination : float
        Share of good images above the threshold, in (0, 1).

    Attributes
    ----------
    shape_ : (c, h, w)
        Of an image.
    calibration_scores_ : (r,)
        Scores of the train images that were not learned.
    threshold_ : float
        Their (1 − contamination) quantile. Of few images it is about their highest score.
    """

    validation: float
    contamination: float

    _file = "madcluster.images.detector", 1
    _arrays: ClassVar[tuple[str, ...]] = ()  # which of what is learned goes into a file as it is
    _of_fit: dict[str, Any]  # parameters as they were fitted, for a file

    def check(self) -> None:
        """Look at the arguments without any image.

        Raises
        ------
        ValueError
            If one is out of its range; the message names it.
        """
        check_number("validation", self.validation, 0, 1)
        check_number("contamination", self.contamination, 0, 1)

    def _fit(self, x: np.ndarray, held_out: np.ndarray) -> None:
        """Learn from images (n c h w); a network may validate on those that are held out."""
        raise TypeError(f"{type(self).__name__} must define _fit")

    def _grid_scores(self, x: Tensor) -> Tensor:
        """Scores of positions; (b c h w) → (b h' w')."""
        raise TypeError(f"{type(self).__name__} must define _grid_scores")

    def _like(self) -> Tensor:
        """A tensor of the kind of numbers and on the device that images are brought to."""
        return torch.empty(0)

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from good images (n c h w), two or more; `y` is ignored.

        All or nothing: a fit that fails leaves the detector as it was. What is changed by `set_params`
        afterwards counts from the next fit on, and not before.

        Raises
        ------
        ValueError
            If an argument is out of its range, or these are no images between 0 and 1.
        """
        self.check()
        x = checked_images(X, "X")
        if len(x) < 2:
            raise ValueError("X must hold two images or more: one is kept for the threshold")
        cut = split_tail(len(x), window=1, fraction=self.validation)
        fresh = copy.copy(self)
        for name in [name for name in vars(fresh) if name.endswith("_")]:  # of another fit
            delattr(fresh, name)
        fresh.shape_ = x.shape[1:]
        fresh._fit(x[:cut], x[cut:])
        fresh.calibration_scores_ = fresh.decision_function(x[cut:])
        fresh.threshold_ = quantile_threshold(fresh.calibration_scores_, fresh.contamination)
        fresh._of_fit = fresh._params()
        self.__dict__ = fresh.__dict__
        return self

    @flushed_denormals()
    @torch.no_grad()
    def maps(self, X: Any) -> np.ndarray:
        """Score of every pixel, (m c h w) → (m h w) float32: those of positions, bilinear between them.

        Raises
        ------
        ValueError
            If the images are of another shape than those that were learned.
        NotFittedError
            Before `fit`.
        """
        self._check_fitted()
        x = checked_images(X, "X")
        if x.shape[1:] != self.shape_:
            raise ValueError(
                f"X has images of {x.shape[1:]}, those that were learned are {self.shape_}"
            )
        found = []
        for batch in _batches(x, self._like()):
            scores = self._grid_scores(batch)[:, None]  # (b 1 h' w')
            large = interpolate(scores, size=self.shape_[1:], mode="bilinear")
            found.append(large[:, 0].float().cpu().numpy())
        return np.concatenate(found)

    def _check_fitted(self) -> None:
        if not hasattr(self, "shape_"):
            raise NotFittedError(f"{type(self).__name__} is not fitted: call fit first")

    def decision_function(self, X: Any) -> np.ndarray:
        """Score of every image, the highest of its pixels; (m c h w) → (m,) float32."""
        return image_scores(self.maps(X))

    def predict(self, X: Any) -> np.ndarray:
        """1 where the score of an image is above `threshold_`, else 0; (m c h w) → (m,) int."""
        return (self.decision_function(X) > self.threshold_).astype(int)

    # --- files: `save` and `load` are those of detectors of series ---------------------------------

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str = "auto") -> Self:
        """Read a detector that `save` wrote; no code of the file is run.

        `ImageDetector.load` reads any, that of a class only its own.

        Parameters
        ----------
        path : file
        device : str
            Of its network.

        Raises
        ------
        CheckpointError
            If the file is damaged, of another kind or of another format, or was fitted with a module of
            your own: the class takes that.
        FileNotFoundError
            If there is no such file.
        """
        return cls._load(path, {"device": device})

    @classmethod
    def _family(cls) -> Mapping[str, type[Saved]]:
        return {each.__name__: each for each in (CenterDistance, ImageMADCluster, PaDiM, PatchCore)}

    @classmethod
    def _made(cls, path: object, params: Mapping[str, Any], given: Mapping[str, Any]) -> Self:
        if "device" not in params:  # as of a class that has no network
            given = {name: value for name, value in given.items() if name != "device"}
        return super()._made(path, params, given)

    def _state(self) -> dict[str, np.ndarray]:
        """What `_fit` learned, as arrays."""
        return {
            n.strip("_"): np.asarray(torch.as_tensor(getattr(self, n)).cpu()) for n in self._arrays
        }

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take it over from a file.

        Raises
        ------
        KeyError, RuntimeError, TypeError, ValueError
            If it does not fit.
        """
        for name in self._arrays:
            array = torch.as_tensor(state[name.strip("_")])
            setattr(self, name, array.to(self._like().device))

    def _given(self) -> dict[str, np.ndarray]:
        """Weights of a module of one's own before any training, by the names of `_state`."""
        return {}

    def _check_state(self, state: Mapping[str, np.ndarray]) -> None:
        if any(np.isinf(array).any() for array in state.values()):
            check_infinite(state, self._given())

    def _whole(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        state = self._state()
        self._check_state(state)
        about = {
            "detector": type(self).__name__,
            "params": self._of_fit,
            "shape": list(self.shape_),
            "threshold": self.threshold_,
        }
        arrays = {f"state.{name}": array for name, array in state.items()}
        return about, arrays | {"calibration_scores": self.calibration_scores_}

    @classmethod
    def _from_whole(
        cls,
        path: object,
        about: Mapping[str, Any],
        arrays: dict[str, np.ndarray],
        given: Mapping[str, Any],
    ) -> Self:
        detector = cls._made(path, about["params"], given)
        detector.check()
        c, h, w = (check_whole("shape", side) for side in about["shape"])
        detector.shape_ = (c, h, w)
        detector.threshold_ = check_number("threshold", about["threshold"], -np.inf)
        scores = arrays.pop("calibration_scores")
        if scores.ndim != 1 or not len(scores) or scores.dtype.kind != "f":
            raise ValueError("its scores are not numbers one by one")
        detector.calibration_scores_ = scores
        state = {name.removeprefix("state."): array for name, array in arrays.items()}
        detector._check_state(state)
        detector._restore(state)
        detector._of_fit = dict(about["params"])
        detector.maps(np.zeros((1, c, h, w), np.float32))  # arrays that do not fit show here
        return detector


class ImageMADCluster(ImageDetector):
    """A network for images with the head on: every position of its feature map is a step.

    `Head`, loss and training are those of series. The score of an image is that of its highest pixel.
    A mean over all pixels is what the loss is, but there a small defect drowns.

    Parameters
    ----------
    network : str or nn.Module
        A name in `NETWORKS`, an `ImageEmbedder`, or any module (b c h w) → (b d h' w'). Of a module a
        copy is trained.
    head : bool
        Without it the network needs a loss and a score of its own.
    k : int
        Clusters of the head.
    score : Score
        See `madcluster.heads.WithHead`; with the head alone.
    epochs, batch_size, lr, seed, device
        See `madcluster.training.Config`.
    validation, contamination
        See `ImageDetector`. The best epoch is chosen on the images that the threshold is taken from.

    Attributes
    ----------
    model_ : Embedder
        The trained network, with the head if there is one.
    history_ : History
        Its training, epoch by epoch; no file holds it.
    """

    _module = "network"

    def __init__(
        self,
        network: str | nn.Module = "pyramidflow",
        *,
        head: bool = True,
        k: int = 1,
        score: Score = "head",
        epochs: int = 10,
        batch_size: int = 8,
        lr: float = 1e-3,
        seed: int = 0,
        device: str = "auto",
        validation: float = 0.2,
        contamination: float = 0.01,
    ) -> None:
        self.network, self.head, self.k, self.score = network, head, k, score
        self.epochs, self.batch_size, self.lr = epochs, batch_size, lr
        self.seed, self.device = seed, device
        self.validation, self.contamination = validation, contamination

    def check(self) -> None:
        super().check()
        check_flag("head", self.head)
        check_whole("k", self.k)
        check_one_of("score", self.score, SCORES)
        if not isinstance(self.network, nn.Module):
            check_one_of("network", self.network, sorted(NETWORKS))
        resolve_device(self._config().device)

    def _config(self) -> Config:
        return Config(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            seed=self.seed,
            device=self.device,
        )

    def _like(self) -> Tensor:
        return next(self.model_.parameters())

    def _built(self) -> Embedder:
        """The network before its training, with the head if there is to be one."""
        with seeded(self.seed):
            if isinstance(self.network, nn.Module):
                base = as_image_embedder(copy.deepcopy(self.network), shape=self.shape_)
            else:
                base = NETWORKS[self.network](self.shape_[0])
            grid_of(
                base, torch.empty(1, *self.shape_, device="meta")
            )  # sides that do not fit, before the training
            if not self.head:
                return base
            return WithHead(base, Head(base.d, k=self.k), score=self.score)

    def _fit(self, x: np.ndarray, held_out: np.ndarray) -> None:
        model = self._built()
        if isinstance(self.network, nn.Module):
            base = model.embedder if isinstance(model, WithHead) else model
            check_embedder(cast(ImageEmbedder, base), self.shape_)
        self.history_ = fit(model, x, self._config(), held_out=held_out)
        self.model_ = model

    def _state(self) -> dict[str, np.ndarray]:
        return arrays_of(self.model_)

    def _given(self) -> dict[str, np.ndarray]:
        return arrays_of(self._built()) if isinstance(self.network, nn.Module) else {}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        if self.head:
            check_clusters(self.k, state)
        trusted = isinstance(self.network, nn.Module)
        model = restored(self._built, state, trusted=trusted)
        self.model_ = model.to(resolve_device(self.device)).eval()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        network: nn.Module | None = None,
        device: str = "auto",
    ) -> Self:
        """Read a detector that `save` wrote; no code of the file is run.

        Parameters
        ----------
        path : file
        network : nn.Module, optional
            The module that was fitted, if it was one of your own; its weights are read from the file.
        device : str

        Raises
        ------
        CheckpointError
            If the file is damaged, of another kind or of another format, or does not fit `network`.
        FileNotFoundError
            If there is no such file.
        """
        own = {} if network is None else {"network": network}
        return cls._load(path, {"device": device, **own})

    def _grid_scores(self, x: Tensor) -> Tensor:
        return checked_score(self.model_(x)).unflatten(1, grid_of(self.model_, x))


class FeatureDetector(ImageDetector):
    """A detector on features of a network that stays as it is; what they are worth without a training.

    Every feature is scaled to the mean 0 and the variance 1 that it has over positions of the train
    images.

    Parameters
    ----------
    features : "imagenet", "random" or nn.Module
        Weights of `madcluster.images.features.Features`, or a module (b c h w) → (b d h' w'), which is
        copied.
    seed : int
        Of random weights, and of what a subclass draws.
    validation, contamination, device
        See `ImageDetector` and `ImageMADCluster`.
    """

    _module = "features"
    _arrays: ClassVar[tuple[str, ...]] = ("mean_", "std_")
    _on: torch.device

    def __init__(
        self,
        *,
        features: Weights | nn.Module = "imagenet",
        seed: int = 0,
        validation: float = 0.2,
        contamination: float = 0.01,
        device: str = "auto",
    ) -> None:
        self.features, self.seed, self.device = features, seed, device
        self.validation, self.contamination = validation, contamination

    def check(self) -> None:
        super().check()
        check_seed(self.seed)
        resolve_device(self.device)
        if not isinstance(self.features, nn.Module):
            check_one_of("features", self.features, get_args(Weights))

    def _like(self) -> Tensor:
        return next(self.network_.parameters(), torch.empty(0, device=self._on))

    def _built(self) -> nn.Module:
        if isinstance(self.features, nn.Module):
            return copy.deepcopy(self.features).eval()
        return Features(self.features, seed=self.seed)

    @flushed_denormals()
    @torch.no_grad()
    def _fit(self, x: np.ndarray, held_out: np.ndarray) -> None:
        self._on = resolve_device(self.device)
        self.network_ = self._built().to(self._on)
        maps = torch.cat([self._maps(batch) for batch in _batches(x, self._like())])  # (n d h w)
        self.std_, self.mean_ = torch.std_mean(maps, (0, 2, 3), correction=0, keepdim=True)
        self.std_ = torch.where(self.std_ > 0, self.std_, 1.0)  # what never varies
        self._learn((maps - self.mean_) / self.std_)

    def _maps(self, x: Tensor) -> Tensor:
        """(b c h w) → (b d h' w')."""
        maps = called("features", self.network_, x)
        got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        if not isinstance(maps, Tensor) or maps.ndim != 4 or len(maps) != len(x) or 0 in maps.shape:
            raise ValueError(f"features must be maps (b d h w): for {tuple(x.shape)} got {got}")
        if not maps.is_floating_point():
            raise ValueError(f"features must be floating point, got {maps.dtype}")
        if not maps.isfinite().all():
            raise ValueError("features must be finite, those of X are not")
        return maps.to(torch.promote_types(maps.dtype, torch.float32))  # what distances are made of

    def _scaled(self, x: Tensor) -> Tensor:
        """(b c h w) → (b d h' w')."""
        return (self._maps(x) - self.mean_) / self.std_

    def _learn(self, maps: Tensor) -> None:
        """Learn from scaled features (n d h w)."""
        raise TypeError(f"{type(self).__name__} must define _learn")

    def _state(self) -> dict[str, np.ndarray]:
        return super()._state() | _prefixed(arrays_of(self.network_))

    def _given(self) -> dict[str, np.ndarray]:
        own = isinstance(self.features, nn.Module)
        return _prefixed(arrays_of(self._built())) if own else {}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._on = resolve_device(self.device)
        weights = {n.removeprefix(NETWORK): a for n, a in state.items() if n.startswith(NETWORK)}
        self.network_ = restored(self._built, weights, trusted=True).to(self._on)
        super()._restore(state)
        for name in self._arrays:
            if name != "chosen_" and not getattr(self, name).is_floating_point():
                raise ValueError(f"{name} is no floating point")
        if not self.mean_.shape == self.std_.shape == (1, self.mean_.numel(), 1, 1):
            raise ValueError(f"features have means {self.mean_.shape} and scales {self.std_.shape}")
        if not (self.std_ > 0).all():
            raise ValueError("a feature has no scale")

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        features: nn.Module | None = None,
        device: str = "auto",
    ) -> Self:
        """Read a detector that `save` wrote; no code of the file is run.

        Parameters
        ----------
        path : file
        features : nn.Module, optional
            The module that was given, if it was one of your own; its weights are read from the file.
        device : str

        Raises
        ------
        CheckpointError
            If the file is damaged, of another kind or of another format, or does not fit `features`.
        FileNotFoundError
            If there is no such file.
        """
        own = {} if features is None else {"features": features}
        return cls._load(path, {"device": device, **own})


class CenterDistance(FeatureDetector):
    """‖h − c‖² of scaled features to their mean: the distance of the head, without any training.

    Parameters
    ----------
    features, seed, validation, contamination, device
        See `FeatureDetector`.
    """

    def _learn(self, maps: Tensor) -> None:
        """The mean is 0 after scaling."""

    def _grid_scores(self, x: Tensor) -> Tensor:
        return self._scaled(x).square().sum(1)


class PaDiM(FeatureDetector):
    """Mahalanobis distance of features to those at the same position (Defard et al., ICPR 2021).

    Of the paper are a Gaussian for each position, a random choice of features, and 0.01 added to the
    diagonal of the covariances, here of scaled features. Left out is the blur of the map.

    Parameters
    ----------
    n_features : int
        So many of the features are drawn; all where there are fewer.
    shared : bool
        One Gaussian for all positions, for images in which a position means nothing, as pieces of a
        texture.
    features, seed, validation, contamination, device
        See `FeatureDetector`.
    """

    _arrays = *FeatureDetector._arrays, "chosen_", "means_", "whitening_"

    def __init__(
        self,
        *,
        n_features: int = 100,
        shared: bool = False,
        features: Weights | nn.Module = "imagenet",
        seed: int = 0,
        validation: float = 0.2,
        contamination: float = 0.01,
        device: str = "auto",
    ) -> None:
        super().__init__(
            features=features,
            seed=seed,
            validation=validation,
            contamination=contamination,
            device=device,
        )
        self.n_features, self.shared = n_features, shared

    def check(self) -> None:
        super().check()
        check_whole("n_features", self.n_features)
        check_flag("shared", self.shared)

    def _learn(self, maps: Tensor) -> None:
        rng = np.random.default_rng(self.seed)
        chosen = rng.permutation(maps.shape[1])[: self.n_features]
        self.chosen_ = torch.as_tensor(np.sort(chosen), device=maps.device)
        rows = positions(maps[:, self.chosen_]).double()  # (n t d)
        if self.shared:
            rows = rows.flatten(0, 1)[:, None]  # (n·t 1 d)
        self.means_ = rows.mean(0)  # (t d)
        whitened = []
        for at in range(rows.shape[1]):  # one position at a time: all covariances are large
            offset = rows[:, at] - self.means_[at]
            covariance = offset.mT @ offset / max(len(rows) - 1, 1)
            covariance.diagonal().add_(0.01)
            whitened.append(whitening(covariance.cpu().numpy()))
        of_maps = torch.as_tensor(np.stack(whitened), dtype=maps.dtype, device=maps.device)
        self.whitening_, self.means_ = of_maps, self.means_.to(maps.dtype)  # (t d d), (t d)

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        d, n = self.mean_.numel(), len(self.chosen_)
        if (
            self.chosen_.dtype != torch.int64
            or not ((self.chosen_ >= 0) & (self.chosen_ < d)).all()
        ):
            raise ValueError(f"it names features that are not among the {d}")
        t = self.means_.shape[0]
        if self.means_.shape != (t, n) or self.whitening_.shape != (t, n, n):
            raise ValueError(f"{n} features have means {self.means_.shape}")
        with torch.no_grad():
            grid = self._maps(torch.zeros(1, *self.shape_).to(self._like())).shape[2:]
        if t != (1 if self.shared else grid.numel()):
            raise ValueError(f"it has {t} Gaussians for {grid.numel()} positions")

    def _grid_scores(self, x: Tensor) -> Tensor:
        maps = self._scaled(x)[:, self.chosen_]
        offset = (positions(maps) - self.means_).transpose(0, 1)  # (t b d)
        square = (offset @ self.whitening_).square().sum(-1)  # (t b)
        return square.T.unflatten(1, maps.shape[2:])


class PatchCore(FeatureDetector):
    """Distance of features to the nearest of a few that stand for all (Roth et al., CVPR 2022).

    Of the paper are the mean over neighboring positions and the greedy choice of a coreset by
    distances after a random projection. Left out are the factor by which the score of an image depends
    on the neighbors of the nearest, and the blur of the map.

    Parameters
    ----------
    coreset : float
        Share of the features of the train images that is kept, in (0, 1]. To choose them takes a time
        that grows with the share and with the square of the number of train images.
    features, seed, validation, contamination, device
        See `FeatureDetector`.
    """

    _arrays = *FeatureDetector._arrays, "known_"

    def __init__(
        self,
        *,
        coreset: float = 0.1,
        features: Weights | nn.Module = "imagenet",
        seed: int = 0,
        validation: float = 0.2,
        contamination: float = 0.01,
        device: str = "auto",
    ) -> None:
        super().__init__(
            features=features,
            seed=seed,
            validation=validation,
            contamination=contamination,
            device=device,
        )
        self.coreset = coreset

    def check(self) -> None:
        super().check()
        check_number("coreset", self.coreset, 0, 1, ends="(]")

    def _learn(self, maps: Tensor) -> None:
        rows = positions(maps).flatten(0, 1)  # (n·t d)
        n = max(1, round(self.coreset * len(rows)))
        self.known_ = rows[coreset(rows, n, seed=self.seed)]

    def _grid_scores(self, x: Tensor) -> Tensor:
        maps = self._scaled(x)
        rows = positions(maps).flatten(0, 1)  # (b·t d)
        blocks = rows.split(max(1, BLOCK // len(self.known_)))
        nearest = torch.cat([torch.cdist(block, self.known_).amin(1) for block in blocks])
        return nearest.reshape(len(maps), *maps.shape[2:])


def coreset(rows: Tensor, n: int, *, seed: int = 0, d: int = 32) -> Tensor:
    """Indices (n,) of rows (r d), no two the same, such that no other row lies far from all of them.

    Greedy k-center: the next one is that which lies farthest from those that were chosen (Gonzalez,
    1985). The farthest row is at most twice as far off as it could be, up to the distortion of a
    projection to `d` random directions.

    Raises
    ------
    ValueError
        If rows are no such tensor of finite numbers, or fewer than n.
    """
    check_whole("n", n)
    check_whole("d", d)
    if not isinstance(rows, Tensor) or rows.ndim != 2 or not rows.is_floating_point():
        raise ValueError("rows must be a floating point tensor (r d)")
    if n > len(rows):
        raise ValueError(f"n must not exceed the {len(rows)} rows, got {n}")
    if not rows.isfinite().all():
        raise ValueError("rows must be finite")
    generator = torch.Generator().manual_seed(check_seed(seed))
    points = rows
    if d < rows.shape[1]:
        directions = torch.randn(rows.shape[1], d, generator=generator) / d**0.5
        points = rows @ directions.to(rows)
    first = int(torch.randint(len(rows), (), generator=generator))
    chosen, distance = [first], (points - points[first]).square().sum(1)
    distance[first] = -1  # not again, also where all that are left lie on one that was chosen
    for _ in range(n - 1):
        farthest = int(distance.argmax())
        chosen.append(farthest)
        distance = torch.minimum(distance, (points - points[farthest]).square().sum(1))
        distance[farthest] = -1
    return torch.tensor(chosen, device=rows.device)


def _prefixed(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{NETWORK}{name}": array for name, array in weights.items()}


def _batches(x: np.ndarray, like: Tensor) -> Iterator[Tensor]:
    for start in range(0, len(x), BATCH):
        part = np.array(x[start : start + BATCH])  # torch warns of what is read-only
        yield torch.as_tensor(part, dtype=like.dtype, device=like.device)
