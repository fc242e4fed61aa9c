"""Weights of a network as arrays for a file, and back into the network; no code of a file is run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

__all__ = ["arrays_of", "check_clusters", "check_infinite", "restored"]

Network = TypeVar("Network", bound=nn.Module)


def arrays_of(model: nn.Module) -> dict[str, np.ndarray]:
    """Every tensor of the state, by name; a kind of number that NumPy lacks becomes float32."""
    return {name: _as_array(tensor) for name, tensor in model.state_dict().items()}


def check_infinite(arrays: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> None:
    """Allow an infinity only where the module that was given has it, as in a causal mask.

    Parameters
    ----------
    arrays : of the trained module, by name
    given : of the module before its training

    Raises
    ------
    ValueError
        If there is another one; it names the array.
    """
    for name, array in arrays.items():
        infinite = np.isinf(array)
        if not infinite.any():
            continue
        like = given.get(name, np.zeros(()))
        if like.shape != array.shape or (infinite & (array != like)).any():
            raise ValueError(f"{name} is infinite where the module that was given is not")


def check_clusters(k: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Look at the centers of a head before one is built: a changed k must not ask for memory.

    Raises
    ------
    ValueError
        If there are not k; none at all where `arrays` is of no network with a head.
    """
    centers = arrays.get("head.centers", np.zeros(0))
    if len(centers) != k:
        raise ValueError(f"it has {len(centers)} centers, not {k}")


def restored(
    make: Callable[[], Network], arrays: Mapping[str, np.ndarray], *, trusted: bool
) -> Network:
    """The network that `make` builds, with the weights of `arrays_of`.

    Parameters
    ----------
    make : function without arguments
    arrays : by name
    trusted : bool
        Whether all that `make` builds from comes from the caller. If some of it is read from a file,
        names and shapes are compared before a network with numbers in it is built: a changed number
        must not ask for memory.

    Raises
    ------
    RuntimeError, ValueError
        If the weights are not those of such a network.
    """
    weights = {name: torch.as_tensor(array) for name, array in arrays.items()}
    if not trusted:
        with torch.device("meta"), _no_more_than(weights):
            model = make()
        model.load_state_dict(weights, assign=True)
    model = make()
    model.load_state_dict(weights)
    return model


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    try:
        return tensor.numpy()
    except TypeError:
        return tensor.float().numpy()


@contextmanager
def _no_more_than(weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Stop, with a ValueError, the building of a network that has far more layers than these weights.

    Without memory for its numbers a layer still costs time, and a file may ask for ten million.
    """
    most, thread, count = 2 * len(weights) + 100, threading.get_ident(), 0

    def counted(*_: object) -> None:
        nonlocal count
        if threading.get_ident() == thread:  # the hook is of all threads
            count += 1
            if count > most:
                raise ValueError(f"it has {len(weights)} arrays, too few for its options")

    hook = register_module_parameter_registration_hook(counted)
    try:
        yield
    finally:
        hook.remove()
