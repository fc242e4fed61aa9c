"""Windows that are wrong on purpose, for a head that learns by contrast."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

__all__ = ["CORRUPTIONS", "check_corruptions", "corrupted"]

CORRUPTIONS = "exchange", "shift", "freeze", "noise"
SIZES = 0.5, 3.0  # of a shift and of noise, in standard deviations of the channel


def check_corruptions(kinds: Any) -> tuple[str, ...]:
    """The kinds, if each is known.

    Raises
    ------
    ValueError
        If there are none, or one is unknown.
    """
    many = isinstance(kinds, Collection) and not isinstance(kinds, str)
    if not many or not kinds or not set(kinds) <= set(CORRUPTIONS):
        raise ValueError(f"kinds must be some of {CORRUPTIONS}, got {kinds!r}")
    return tuple(kinds)


def corrupted(
    x: Tensor,
    kinds: Collection[str] = CORRUPTIONS,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Windows with a segment of some channels corrupted, and which steps that has changed.

    Of every window one segment is corrupted in one way, in some of the channels that vary in the batch.
    The kind is drawn evenly, the length and the number of channels evenly on a logarithmic scale, from
    one to all, and where they lie evenly:

    - "exchange": each of the channels has values of another window and another time, so it is normal by
      itself and stands in the wrong place
    - "shift": a constant is added
    - "freeze": the value at the beginning of the segment stays
    - "noise": white noise is added

    Sizes lie between 0.5 and 3 standard deviations that a channel has in the batch. Without any channel
    that varies, all may be changed, by sizes as if the deviation were 1.

    Parameters
    ----------
    x : (b t c)
        Scaled windows. For a single one "exchange" takes another time of the same.
    kinds : names of `CORRUPTIONS`
    generator : torch.Generator, optional
        On the CPU, and so the same numbers on all devices; torch's own by default.

    Returns
    -------
    (b t c), and (b t) bool: True where a row is another one than it was. A freeze, or an exchange of
    equal values, may change no row.
    """
    kinds = tuple(kinds)
    b, t, c = x.shape

    def drawn(*shape: int) -> Tensor:
        """Uniform in [0, 1)."""
        return torch.rand(shape, generator=generator).to(x)

    spread = x.flatten(0, 1).std(0, correction=0)  # (c,)
    varies = spread > 0
    varying = varies.sum().clamp_min(1)
    mean = spread.sum() / varying
    spread = torch.where(varies, spread, torch.where(mean > 0, mean, 1.0))

    # so many channels with the largest keys, those that vary before all others
    keys = drawn(b, c) + varies  # (b c)
    most = torch.where(varies.any(), varying, c)
    number = most.to(x.dtype).pow(drawn(b)).ceil().long()  # (b,)
    rank = keys.argsort(1, descending=True).argsort(1)  # (b c)
    length = torch.tensor(float(t)).to(x).pow(drawn(b)).ceil().long()  # (b,)
    start = (drawn(b) * (t - length + 1)).long().clamp_max(t - 1)  # (b,)
    steps = torch.arange(t, device=x.device)
    segment = (steps >= start[:, None]) & (steps < (start + length)[:, None])  # (b t)
    inside = segment[..., None] & (rank < number[:, None])[:, None]  # (b t c)

    which = (drawn(b) * len(kinds)).long().clamp_max(len(kinds) - 1)[:, None, None]
    sign = torch.where(drawn(b, c) < 0.5, -1.0, 1.0).to(x)
    size = (SIZES[0] + (SIZES[1] - SIZES[0]) * drawn(b, c)) * spread  # (b c)
    from_window = torch.arange(b, device=x.device)[:, None] + 1 + (drawn(b, c) * (b - 1)).long()
    from_time = (steps[:, None] + (drawn(b, 1, c) * t).long()) % t  # (b t c)
    ways = {
        "exchange": lambda: x[
            (from_window % b)[:, None], from_time, torch.arange(c, device=x.device)
        ],
        "shift": lambda: x + (sign * size)[:, None],
        "freeze": lambda: x.gather(1, start[:, None, None].expand(b, 1, c)).expand_as(x),
        "noise": lambda: x + torch.randn(x.shape, generator=generator).to(x) * size[:, None],
    }
    out = x
    for i, kind in enumerate(kinds):
        out = torch.where(inside & (which == i), ways[kind](), out)
    return out, (out != x).any(-1)
