"""Torch's random numbers in company: one generator, and many threads that draw from it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

from madcluster.arguments import check_seed

__all__ = ["seeded", "undisturbed"]

_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def undisturbed(device: torch.device | None = None) -> Iterator[None]:
    """Leave torch's generators as they were, whatever is drawn from them inside.

    Torch has one generator for all threads, and who puts it back would put it back for all. So one
    thread is inside at a time. A thread of yours that draws from the global generator meanwhile still
    meets it in an unknown state: give it a generator of its own.

    Parameters
    ----------
    device : torch.device, optional
        Where numbers are drawn beside the CPU. Generators of other devices are not touched.
    """
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=_cuda(device)):
        yield


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Draw torch's random numbers from a seed, `undisturbed`: fits in threads are as each alone.

    Parameters
    ----------
    seed : int
    device : torch.device, optional
        Where the numbers are drawn beside the CPU.
    """
    seed = check_seed(seed)
    with undisturbed(device):
        torch.default_generator.manual_seed(seed)
        for each in _cuda(device):
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        yield


def _cuda(device: torch.device | None) -> list[torch.device]:
    return [device] if device is not None and device.type == "cuda" else []
