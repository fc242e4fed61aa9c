"""One training loop for every model; it knows none of them by name."""

from __future__ import annotations

import contextlib
import copy
import math
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from madcluster.arguments import check_flag, check_number, check_seed, check_whole, outside
from madcluster.diagnostics import WINDOWS, Monitor
from madcluster.models.base import NOTHING, Embedder, windows_of
from madcluster.progress import progress
from madcluster.randomness import seeded

__all__ = [
    "Config",
    "History",
    "NonFiniteLossError",
    "Run",
    "fit",
    "flushed_denormals",
    "resolve_device",
    "seed_everything",
    "split_tail",
]


IMAGES = 4  # axes of images (n c h w); a series has two


class NonFiniteLossError(FloatingPointError):
    """The training loss became NaN or infinite."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a run needs beyond the model and the data.

    Stride, epochs and batch size were chosen on train data alone, by `benchmarks/defaults.py`.
    """

    window: int = 100
    stride: int | None = None  # a tenth of the window where none is given
    epochs: int = 10
    batch_size: int = 32
    lr: float = 1e-3  # the release trains at 1e-4 for 30 epochs; this is the short form
    lr_decay: float = 0.9  # factor per epoch, not for the threshold
    weight_decay: float = 1e-5  # of the gradient, as the release has it; not for the threshold
    validation: float = 0.2  # the tail of the train split; never the test split
    patience: int = 5  # epochs without a better validation loss
    seed: int = 0
    device: str = "auto"
    train: bool = True  # without, no weight moves, and all else is as after a training

    def __post_init__(self) -> None:
        self._set("train", check_flag("train", self.train))
        for name in ("window", "epochs", "batch_size", "patience"):
            self._set(name, check_whole(name, getattr(self, name)))
        stride = max(1, self.window // 10) if self.stride is None else self.stride
        self._set("stride", stride := check_whole("stride", stride))
        self._set("seed", check_seed(self.seed))
        if stride > self.window:
            raise ValueError(
                f"stride must not exceed the window of {self.window} steps, got {stride}: "
                f"steps between windows would never be seen"
            )
        self._set("lr", check_number("lr", self.lr, 0))
        self._set("lr_decay", check_number("lr_decay", self.lr_decay, 0, 1, ends="(]"))
        self._set("weight_decay", check_number("weight_decay", self.weight_decay, 0, ends="[)"))
        self._set("validation", check_number("validation", self.validation, 0, 1))
        if not isinstance(self.device, str):
            raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {self.device!r}")

    def _set(self, name: str, value: object) -> None:
        """As a plain Python value, also where NumPy's was given."""
        object.__setattr__(self, name, value)


@dataclass
class History:
    """What happened, epoch by epoch.

    Attributes
    ----------
    epochs : list of dict
        epoch, train and validation loss, seconds, learning rate, the model's own parts, and the
        numbers of `madcluster.diagnostics` on held-out windows. Without a training it is one row, of
        the model as it began.
    best_epoch : int
        The epoch whose weights the model now has.
    stopped : str
        "epochs" if all were run, "patience" if validation did not improve, "untrained" without a
        training.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    stopped: str = "epochs"

    def frame(self) -> pd.DataFrame:
        """One row per epoch."""
        return pd.DataFrame(self.epochs).set_index("epoch")


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch; for notebooks. The package itself seeds what it uses."""
    import random

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def resolve_device(device: str) -> torch.device:
    """ "auto" is CUDA where present, else the CPU.

    Raises
    ------
    ValueError
        If the device is unknown, or CUDA is asked for and absent.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {device!r}") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda', but this machine has no CUDA device")
    return chosen


def split_tail(n: int, *, window: int, fraction: float, warn: bool = True) -> int:
    """Rows that stay for training when the tail is kept for validation.

    The tail has at least one window. A series shorter than two windows cannot be split: all of it is
    trained on, and the training loss takes the place of the validation loss, with a warning.
    """
    if n < 2 * window:
        if warn:
            warnings.warn(
                f"train has {n} rows, less than two windows of {window}: no tail is kept for "
                f"validation, and the best epoch is chosen by the training loss",
                stacklevel=outside(),
            )
        return n
    return n - min(max(window, round(fraction * n)), n - window)


class Batches:
    """Batches (b t c) of the windows of a series (n c), never stored; or of images (n c h w)."""

    def __init__(
        self,
        x: Tensor,
        *,
        window: int,
        stride: int,
        batch_size: int,
        generator: torch.Generator | None = None,
    ) -> None:
        # a view: (b t c), or images as they are
        self.windows = x if x.ndim == IMAGES else windows_of(x, window, stride)
        self.batch_size, self.generator = batch_size, generator

    def __len__(self) -> int:
        return math.ceil(len(self.windows) / self.batch_size)

    def sample(self, n: int) -> Tensor:
        """At most n windows at equal distances, as one batch (b t c)."""
        return self.windows[:: math.ceil(len(self.windows) / n)]

    def __iter__(self) -> Iterator[Tensor]:
        if self.generator is None:
            yield from self.windows.split(self.batch_size)
            return
        order = torch.randperm(len(self.windows), generator=self.generator)
        for index in order.to(self.windows.device).split(self.batch_size):
            yield self.windows[index]


def _optimizer(
    model: Embedder, config: Config
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Adam with two groups: the second takes no decay of either kind (the release's setting)."""
    no_decay = model.no_decay()
    ids = {id(p) for p in no_decay}
    decayed = [p for p in model.parameters() if p.requires_grad and id(p) not in ids]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": config.weight_decay}]
    factors = [lambda epoch: config.lr_decay**epoch]
    if no_decay:
        groups.append({"params": no_decay, "weight_decay": 0.0})
        factors.append(lambda epoch: 1.0)
    optimizer = torch.optim.Adam(groups, lr=config.lr, amsgrad=True)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factors)


def needed(loss: Tensor | None) -> Tensor:
    """The loss, if the embedder has one.

    Raises
    ------
    ValueError
    """
    if loss is None:
        raise ValueError("the embedder has no loss of its own: train it with head=True")
    return loss


class _Means:
    """Means over the windows of an epoch, of scalars that stay on their device until they are needed.

    A question waits for a device that works ahead: on a GPU the losses of so many steps are looked at
    together, on a CPU each at once.
    """

    def __init__(self, epoch: int, device: torch.device) -> None:
        self.epoch, self.every = epoch, 1 if device.type == "cpu" else 64
        self.losses: list[tuple[int, Tensor]] = []  # windows, mean over them
        self.parts: dict[str, list[tuple[int, Tensor]]] = {}
        self.checked = 0  # losses that were looked at

    def add(self, size: int, loss: Tensor, parts: Mapping[str, Tensor] = NOTHING) -> None:
        self.losses.append((size, loss.detach()))
        for name, part in parts.items():
            self.parts.setdefault(name, []).append((size, part.detach()))
        if len(self.losses) - self.checked >= self.every:
            self._check()

    def _check(self) -> None:
        new = self.losses[self.checked :]
        for step, (_, loss) in enumerate(_numbers(new), self.checked):
            if not math.isfinite(loss):
                raise NonFiniteLossError(
                    f"the loss is {loss} in epoch {self.epoch}, step {step}: lower the learning rate, "
                    f"or look at the scale of the input"
                )
        self.checked = len(self.losses)

    def of(self) -> tuple[float, dict[str, float]]:
        """Of the loss, and of the parts by name."""
        self._check()

        def mean(values: list[tuple[int, Tensor]]) -> float:
            pairs = _numbers(values)
            return sum(size * value for size, value in pairs) / sum(size for size, _ in pairs)

        return mean(self.losses), {name: mean(part) for name, part in self.parts.items()}


def _numbers(values: list[tuple[int, Tensor]]) -> list[tuple[int, float]]:
    """The same, with numbers that the device gives in one answer."""
    scalars = torch.stack([value for _, value in values]).tolist() if values else []
    return [(size, scalar) for (size, _), scalar in zip(values, scalars, strict=True)]


@torch.no_grad()
def _mean_loss(model: Embedder, batches: Batches, epoch: int) -> float:
    model.eval()
    means = _Means(epoch, batches.windows.device)
    for x in batches:
        means.add(len(x), needed(model(x).loss))
    return means.of()[0]


class flushed_denormals(contextlib.ContextDecorator):
    """Count numbers below the smallest normal one (1.2e-38 in float32) as 0, in this thread.

    A processor works on such *denormal* numbers many times slower. Trained networks make them where a
    softmax saturates or weights decay; in the results they are as good as 0. Also a decorator.
    """

    def __enter__(self) -> None:
        self.before = sys.float_info.min / 2 == 0
        torch.set_flush_denormal(True)

    def __exit__(self, *_: object) -> None:
        torch.set_flush_denormal(self.before)

    def _recreate_cm(self) -> flushed_denormals:
        """A decorated function may run in several threads, and call itself."""
        return type(self)()


def _check_rows(x: np.ndarray, held_out: np.ndarray | None, window: int) -> None:
    """Raise a ValueError unless both are series of a window or more, or both are images."""
    for name, rows in (("train", x), ("held_out", held_out)):
        if rows is None:
            continue
        if x.ndim == IMAGES:
            least = 2 if held_out is None else 1
            if rows.ndim != IMAGES or len(rows) < least:
                raise ValueError(
                    f"{name} must be at least {least} image{'s' * (least > 1)} (n c h w), got shape "
                    f"{rows.shape}"
                )
        elif rows.ndim != 2 or len(rows) < window:
            raise ValueError(
                f"{name} must be (n c) with at least one window of {window} rows, "
                f"got shape {rows.shape}"
            )


def fit(
    model: Embedder, x: np.ndarray, config: Config, *, held_out: np.ndarray | None = None
) -> History:
    """Train a model on a series or on images and leave it with its best weights, in eval mode.

    The last `config.validation` of the rows or images are kept for validation; among equal losses the
    later epoch wins. On a CPU, the same seed and the same number of threads repeat a run bit for bit.

    Parameters
    ----------
    model : Embedder
        Anything whose `forward(x (b t c))`, for images `forward(x (b c h w))`, returns an `Embedding`
        with a loss.
    x : (n c) or (n c h w)
        The scaled train split, or images. Of these each is a whole: `window` and `stride` of the
        config are for series.
    held_out : (m c) or (m c h w), optional
        Rows or images to validate on in place of the tail of x, of which then all is trained on.

    Raises
    ------
    ValueError
        If a series is shorter than a window, a single image leaves none to validate on, or the model
        has no loss.
    NonFiniteLossError
        If the loss becomes NaN or infinite.

    Warns
    -----
    CollapseWarning
        If the weights that are kept give nearly the same embedding to all held-out windows.
    """
    return Run(model, x, config, held_out=held_out).alone()


class Run:
    """A training in parts: `fit` goes through one, `madcluster.many.fit_many` through several at once.

    `begin`, the steps of an epoch and `end` follow each other until `end` says that it is enough, and
    `finish` comes last. Every loss goes into `means`.

    Parameters
    ----------
    model, x, config, held_out
        As for `fit`.

    Attributes
    ----------
    shuffled : Batches
        The training windows, in another order every time.
    ordered : Batches
        The same in the order of the rows.
    tail : (m c) or (m c h w)
        What is validated on; it may be empty.
    history : History
    """

    means: _Means  # of the epoch that has begun

    def __init__(
        self,
        model: Embedder,
        x: np.ndarray,
        config: Config,
        *,
        held_out: np.ndarray | None = None,
    ) -> None:
        _check_rows(x, held_out, config.window)
        if held_out is None:
            window = 1 if x.ndim == IMAGES else config.window
            cut = split_tail(len(x), window=window, fraction=config.validation)
            x, held_out = x[:cut], x[cut:]
        self.model, self.config, self.device = model, config, resolve_device(config.device)
        model.to(self.device)
        dtype = next(model.parameters()).dtype
        train, self.tail = (
            torch.as_tensor(np.array(v), dtype=dtype, device=self.device) for v in (x, held_out)
        )
        stride = config.stride
        assert stride is not None  # a Config has filled it in

        def batches(rows: Tensor, generator: torch.Generator | None = None) -> Batches:
            return Batches(
                rows,
                window=config.window,
                stride=stride,
                batch_size=config.batch_size,
                generator=generator,
            )

        self.shuffled = batches(train, torch.Generator().manual_seed(config.seed))
        self.ordered = batches(train)
        self.validation = batches(self.tail) if len(self.tail) else None
        self.history = History()
        self._best_loss, self._best_weights = math.inf, dict[str, Any]()

    def alone(self) -> History:
        """All of it."""
        with flushed_denormals(), seeded(self.config.seed, self.device):
            if not self.config.train:
                return self._untrained()
            optimizer, scheduler = _optimizer(self.model, self.config)
            for epoch in progress(range(self.config.epochs), "training", unit="epoch"):
                self.begin(epoch)
                for batch in self.shuffled:
                    out = self.model(batch)
                    loss = needed(out.loss)
                    optimizer.zero_grad()
                    loss.backward()
                    self.means.add(len(batch), loss, out.parts)
                    optimizer.step()
                if not self.end(lr=float(scheduler.get_last_lr()[0])):
                    break
                scheduler.step()
            self.finish()
        return self.history

    def begin(self, epoch: int) -> None:
        """What comes before the steps of an epoch; the model is in train mode afterwards."""
        self._started = time.perf_counter()
        self.model.eval()
        self.model.prepare(self.ordered, epoch)
        if epoch == 0:
            self.monitor = Monitor(self.model, (self.validation or self.ordered).sample(WINDOWS))
        self.model.train()
        self.means = _Means(epoch, self.device)

    def end(self, *, lr: float) -> bool:
        """What comes after them, with the learning rate that they had; whether others are to follow."""
        epoch = self.means.epoch
        train_loss, parts = self.means.of()
        row = {"epoch": epoch, "train": train_loss, **parts}
        row["validation"] = self._validated(train_loss, epoch)
        row |= self.monitor.row()
        row |= {"lr": lr, "seconds": time.perf_counter() - self._started}
        self.history.epochs.append(row)
        if row["validation"] <= self._best_loss:
            self._best_loss, self.history.best_epoch = row["validation"], epoch
            self._best_weights = copy.deepcopy(self.model.state_dict())
        elif epoch - self.history.best_epoch >= self.config.patience:
            self.history.stopped = "patience"
        return self.history.stopped == "epochs" and epoch + 1 < self.config.epochs

    def finish(self) -> None:
        """Take the best weights back, and warn if they have collapsed."""
        self.model.load_state_dict(self._best_weights)
        self.model.eval()
        self.model.finish(self.ordered)
        self.monitor.warn(self.history.epochs[self.history.best_epoch])

    def _untrained(self) -> History:
        """What is done before the first step and after the last one."""
        self.begin(0)
        loss = _mean_loss(self.model, self.ordered, 0)
        row = {"epoch": 0, "train": loss, "validation": self._validated(loss, 0)}
        row |= self.monitor.row() | {"lr": 0.0}
        self.model.finish(self.ordered)
        row["seconds"] = time.perf_counter() - self._started
        self.history = History([row], 0, "untrained")
        return self.history

    def _validated(self, train_loss: float, epoch: int) -> float:
        """The loss on the rows that are kept for it; without any, that of the training."""
        if self.validation is None:
            return train_loss
        return _mean_loss(self.model, self.validation, epoch)
