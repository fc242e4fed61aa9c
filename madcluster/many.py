"""Many entities of one width: a network for each, and all of them trained side by side::

    detector = MADCluster(options={"d": 8}, window=20)
    detectors = fit_many(detector, {"pump-1": rows, "pump-2": others})
    detectors["pump-2"].save("pump-2.safetensors")

A training step of a narrow network is some hundred calls with little to do in each. Here one such call
serves all entities: their weights are stacked, and `torch.func.vmap` goes over the stack.

**When it pays.** On one core of a CPU whole fits of 16 narrow networks, d = 8 or hidden layers of 16,
took about half of the time. One entity alone loses. So may networks of the default widths, where
products take the time and stacked weights do not stay in a cache: some gained a quarter, USAD took
nearly twice as long (`benchmarks/many.py`, book/costs). Batches of all entities are in memory at once:
64 narrow networks took 110 to 170 MiB. Validation, scores and thresholds are taken one by one.

**What can be trained so.** Networks that draw no random number in training, have no recurrent layer of
torch, and take no branch by a value. A step is tried before any training, and what cannot is refused.

- Embedders: "deepsvdd", "usad", "beatgan", "deepant", "anomaly_transformer", "dcdetector" without
  dropout, and modules of one's own. Not "omnianomaly", "thoc" and "drnn", for vmap has no rule for
  `torch.nn.GRU`.
- Heads: the paper's without a guard, "flow", or none, on each of these. Not "contrastive" and
  "innovation", which draw in every step, nor `guard="variance-floor"`, which asks for a value.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from madcluster.arguments import outside
from madcluster.detectors.madcluster import MADCluster
from madcluster.models.base import Embedder
from madcluster.progress import progress
from madcluster.randomness import seeded, undisturbed
from madcluster.training import Config, NonFiniteLossError, Run, flushed_denormals, needed

__all__ = ["fit_many"]

BETAS, EPS = (0.9, 0.999), 1e-8  # of torch's Adam, which `fit` uses


@dataclass
class _Entity:
    """One of many, with the random numbers that its own fit would draw."""

    name: str
    X: Any
    rows: np.ndarray
    detector: MADCluster
    run: Run
    random: Tensor

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """For what is done for it alone."""
        with _named(self.name), undisturbed(self.run.device):
            torch.set_rng_state(self.random)
            yield
            self.random = torch.get_rng_state()


def fit_many(detector: MADCluster, rows: Mapping[str, Any]) -> dict[str, MADCluster]:
    """Fit a detector to each of many entities, with one batched training step for all of them.

    What is returned is what `detector.fit` gives for each entity alone: the same initial weights, the
    same windows in the same order, the best epoch and the end by patience of each. Digits differ by
    rounding, for sums are taken in another order. After short trainings most scores agree to 1e-5 of
    their range and nearly all to 1e-3. But training can carry rounding on, as on another machine: Adam
    makes a whole step also of a gradient that is rounding alone. Of many USADs and BeatGANs a few came
    to differ by up to a tenth; two such USADs did so alone too, on rows that were changed by 1e-7.
    Where two epochs validate equally well but for rounding, another one may be the best.

    Parameters
    ----------
    detector : MADCluster
        Not fitted, and left as it is.
    rows : mapping of name to (n c)
        Normal rows of each entity, an array or a DataFrame as `fit` takes it. All have the same
        channels; their lengths may differ. In an epoch a shorter entity rests when it has no windows
        left.

    Returns
    -------
    dict of name to fitted detector, in the order of `rows`. The `seconds` in its `history_` are those
    of all entities together.

    Raises
    ------
    ValueError
        Before any training: if there are no rows, those of an entity are not what `fit` takes, or
        entities differ in their channels; the message names the entity. Also if the network cannot be
        trained side by side, see `madcluster.many`: the message names embedder and head.
    NonFiniteLossError
        If the loss of an entity becomes NaN or infinite; the message names it. There is no result then.

    Warns
    -----
    CollapseWarning
        As `fit`, with the name of the entity before it.

    Examples
    --------
    >>> from madcluster import synthetic
    >>> rows = {f"pump-{i}": synthetic(n_train=600, seed=i).train for i in range(3)}
    >>> found = fit_many(MADCluster(options={"d": 8}, epochs=1), rows)
    >>> found["pump-1"].decision_function(rows["pump-1"]).shape
    (600,)
    """
    if not isinstance(detector, MADCluster):
        raise ValueError(f"detector must be a MADCluster, got {detector!r}")
    detector.check()
    if not isinstance(rows, Mapping) or not rows:
        raise ValueError("rows must be a mapping of names to rows, and not empty")
    begun = {}
    for name, X in rows.items():
        with _named(name):
            begun[name] = X, *detector._begun(X)
    _check_channels({name: fresh for name, (_, fresh, _) in begun.items()})
    entities = [_drawn(name, *parts) for name, parts in begun.items()]
    with flushed_denormals():
        together = [each for each in entities if each.run.config.train]
        if together:
            _check_batched(detector, together[0].run)
            _train(together)
        for each in entities:
            with each.turn():
                if each not in together:
                    each.run.alone()
                each.detector._trained(each.run)
                each.detector._complete(each.X, each.rows)
    found = {}
    for each in entities:
        found[each.name] = detector._unfitted()
        found[each.name]._adopt(each.detector)
    return found


def _drawn(name: str, X: Any, fresh: MADCluster, rows: np.ndarray) -> _Entity:
    """An entity with its network as it is before the training."""
    with _named(name):
        fresh._decide(rows)
        run = fresh._run(fresh._scaled(rows))
    with seeded(fresh.seed):
        return _Entity(name, X, rows, fresh, run, torch.get_rng_state())


@contextlib.contextmanager
def _blamed(name: str) -> Iterator[None]:
    """Put the name of an entity before an error."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"rows[{name!r}]: {error}") from error
    except NonFiniteLossError as error:
        raise NonFiniteLossError(f"rows[{name!r}]: {error}") from error


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """And before what is warned of."""
    with _blamed(name), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for each in caught:
        warnings.warn(f"rows[{name!r}]: {each.message}", each.category, stacklevel=outside())


def _check_channels(fresh: Mapping[str, MADCluster]) -> None:
    """Refuse entities whose channels are not those of the first."""
    (first, known), *others = fresh.items()
    for name, each in others:
        if each.channels_ != known.channels_:
            raise ValueError(
                f"rows[{name!r}] has the channels {each.channels_}, but rows[{first!r}] has "
                f"{known.channels_}"
            )


def _check_batched(detector: MADCluster, run: Run) -> None:
    """Try a step of two networks side by side, against the losses of each alone."""
    models = [copy.deepcopy(run.model).train() for _ in range(2)]
    x = run.ordered.sample(2)
    batches = torch.stack([x, x / 2])  # neither the rows nor the weights of one are the other's
    with torch.no_grad():
        for weights in models[1].parameters():
            weights.mul_(0.9)
    with undisturbed(run.device):
        alone = [needed(model(x).loss) for model, x in zip(models, batches, strict=True)]
        try:
            networks = _Networks(models, run.config)
            networks.stack(0)
            losses, _ = networks.step(slice(None), batches)
            wrong = "the losses are not those of one by one"
        except RuntimeError as error:
            losses, wrong = None, str(error).partition(". ")[0].strip()
    of_alone = torch.stack(alone)
    if losses is None or not torch.allclose(losses, of_alone, 1e-3, 1e-5, equal_nan=True):
        given = detector.embedder
        embedder = repr(given) if isinstance(given, str) else type(given).__name__
        raise ValueError(
            f"embedder={embedder} with head={detector.head!r} cannot be trained side by side, fit "
            f"its entities one by one: {wrong}"
        )


def _train(entities: Sequence[_Entity]) -> None:
    """Train them side by side, each until its own end, and leave each with its best weights."""
    config = entities[0].run.config
    # so batches of one size always stand side by side, and a slice takes them out of a stack
    going = sorted(entities, key=lambda each: -len(each.run.shuffled.windows))
    networks = _Networks([each.run.model for each in going], config)
    for epoch in progress(range(config.epochs), "training", unit="epoch"):
        for each in going:
            with each.turn():
                each.run.begin(epoch)
        networks.stack(epoch)
        for batches in zip_longest(*(each.run.shuffled for each in going)):
            _step(networks, going, batches)
        networks.hand_back()
        on = []
        for i, each in enumerate(going):
            with each.turn():
                if each.run.end(lr=networks.lr):
                    on.append(i)
                else:
                    each.run.finish()
        if not on:
            break
        going = [going[i] for i in on]
        networks.keep(on)


def _step(networks: _Networks, going: Sequence[_Entity], batches: Sequence[Tensor | None]) -> None:
    """One step of each entity that has a batch left, together with those whose batch has its size."""
    stop = 0
    for size, group in groupby(batches, lambda x: 0 if x is None else len(x)):
        xs = [x for x in group if x is not None]
        if not size:
            break
        some, stop = slice(stop, stop + len(xs)), stop + len(xs)
        losses, parts = networks.step(some, torch.stack(xs))
        values = zip(*(part.unbind() for part in (losses, *parts.values())), strict=True)
        for each, (loss, *of_parts) in zip(going[some], values, strict=True):
            with _blamed(each.name):
                each.run.means.add(size, loss, dict(zip(parts, of_parts, strict=True)))


class _Networks:
    """Networks of one make in train mode, their weights stacked: (e …) for what is (…) in one.

    Their steps are those of Adam as `madcluster.training.fit` takes them.
    """

    def __init__(self, models: Sequence[Embedder], config: Config) -> None:
        self.models, self.config = list(models), config
        constant = {id(weights) for weights in models[0].no_decay()}
        # names of what is trained, and whether it decays
        self.decays = {
            name: id(weights) not in constant
            for name, weights in models[0].named_parameters()
            if weights.requires_grad
        }
        self.steps = np.zeros(len(models))
        self.moments: dict[str, tuple[Tensor, Tensor, Tensor]] = {}  # mean, square, largest square

    def stack(self, epoch: int) -> None:
        """Take weights and buffers over from the models."""
        self.lr = self.config.lr * self.config.lr_decay**epoch
        named = list(map(_tensors, self.models))
        self.state = {name: torch.stack([each[name] for each in named]) for name in named[0]}
        for name in self.decays if not self.moments else ():
            first, second, largest = (torch.zeros_like(self.state[name]) for _ in range(3))
            self.moments[name] = first, second, largest

    def hand_back(self) -> None:
        """And give them back."""
        for i, model in enumerate(self.models):
            for name, tensor in _tensors(model).items():
                tensor.copy_(self.state[name][i])

    def keep(self, on: list[int]) -> None:
        """Go on with some of the networks alone."""
        if len(on) < len(self.models):
            self.models = [self.models[i] for i in on]
            self.steps = self.steps[on]
            for name, (first, second, largest) in self.moments.items():
                self.moments[name] = first[on], second[on], largest[on]

    def step(self, some: slice, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Train some of the networks on a batch of each, (s b t c).

        Returns
        -------
        Their losses (s,), and parts of the losses (s,) by name.
        """
        state = {name: tensor[some] for name, tensor in self.state.items()}
        weights = {name: state[name].requires_grad_() for name in self.decays}
        losses, parts = vmap(self._loss)(state, x)
        gradients = torch.autograd.grad(losses.sum(), list(weights.values()), allow_unused=True)
        self.steps[some] += 1
        with torch.no_grad():
            for name, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    self._move(name, some, gradient)
        return losses.detach(), parts

    def _loss(self, state: dict[str, Tensor], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        out = functional_call(self.models[0], state, (x,))
        return needed(out.loss), {name: part.detach() for name, part in out.parts.items()}

    def _move(self, name: str, some: slice, gradient: Tensor) -> None:
        """A step of Adam with amsgrad; each network has made a number of steps of its own."""
        weights = self.state[name][some]
        first, second, largest = (moment[some] for moment in self.moments[name])
        rate, decay = self.config.lr, 0.0
        if self.decays[name]:
            rate, decay = self.lr, self.config.weight_decay
        rates, roots = (
            torch.as_tensor(each).to(weights).view(-1, *[1] * (weights.ndim - 1))
            for each in (
                rate / (1 - BETAS[0] ** self.steps[some]),
                np.sqrt(1 - BETAS[1] ** self.steps[some]),
            )
        )
        gradient = gradient.add(weights, alpha=decay)
        first.lerp_(gradient, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        torch.maximum(largest, second, out=largest)
        weights.sub_(rates * first / (largest.sqrt() / roots + EPS))


def _tensors(model: Embedder) -> dict[str, Tensor]:
    """Weights and buffers by name, without gradients."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach() for name, tensor in named.items()}
