"""Layers that several embedders share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.func import functional_call
from torch.nn.functional import pad

__all__ = [
    "DilatedGRU",
    "DilatedStack",
    "TokenEmbedding",
    "circular_neighbors",
    "frozen",
    "instance_normalize",
    "positional_encoding",
    "reverse_gradient",
]


def positional_encoding(length: int, d: int) -> Tensor:
    """Sines and cosines of falling frequency (Vaswani et al. 2017, §3.5), (length d)."""
    position = torch.arange(length, dtype=torch.get_default_dtype())[:, None]
    frequency = torch.exp(torch.arange(0, d, 2) * (-math.log(10_000) / d))
    encoding = torch.zeros(length, d)
    encoding[:, 0::2] = torch.sin(position * frequency)
    encoding[:, 1::2] = torch.cos(position * frequency[: d // 2])
    return encoding


def instance_normalize(x: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Every channel of every window to mean 0 and variance 1; (b t c) → (b t c).

    As RevIN without its affine part (Kim et al., ICLR 2022). A constant channel becomes 0.
    """
    centered = x - x.mean(1, keepdim=True)
    return centered / (centered.square().mean(1, keepdim=True) + epsilon).sqrt()


def circular_neighbors(x: Tensor) -> Tensor:
    """Every token beside the one before and the one after it, in a circle; (… t d) → (… t 3d)."""
    return torch.cat([x.roll(1, -2), x, x.roll(-1, -2)], -1)


class TokenEmbedding(nn.Module):
    """Bias-free circular convolution of width 3 plus a positional encoding; (b t c) → (b t d)."""

    def __init__(self, n_channels: int, d: int, *, length: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_channels, d, 3, padding=1, padding_mode="circular", bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.register_buffer("position", positional_encoding(length, d), persistent=False)
        self.position: Tensor

    def forward(self, x: Tensor) -> Tensor:
        tokens = rearrange(self.conv(rearrange(x, "b t c -> b c t")), "b d t -> b t d")
        return tokens + self.position


class DilatedGRU(nn.Module):
    """A GRU whose state is that of `dilation` steps ago; (b t c) → (b t d).

    After Chang et al., *Dilated Recurrent Neural Networks*, NeurIPS 2017. steps t, t + s, t + 2s, …
    of a dilation s are a sequence of their own, so that s short sequences are read side by side.
    """

    def __init__(self, n_inputs: int, d: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.gru = nn.GRU(n_inputs, d, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        # zeros after the end change nothing before it
        x = rearrange(
            pad(x, (0, 0, 0, -t % self.dilation)), "b (n s) c -> (b s) n c", s=self.dilation
        )
        return rearrange(self.gru(x)[0], "(b s) n d -> b (n s) d", b=b)[:, :t]


class DilatedStack(nn.ModuleList):
    """A `DilatedGRU` for each dilation, over the states of the one before it; (b t c) → [(b t d)].

    Raises
    ------
    ValueError
        If the dilations do not grow from at least 1 to less than the window.
    """

    def __init__(self, n_inputs: int, d: int, dilations: Sequence[int], *, window: int) -> None:
        bounds = [0, *dilations, window]
        if not dilations or any(s >= longer for s, longer in pairwise(bounds)):
            raise ValueError(
                f"dilations must be positive, grow and be smaller than the window of {window} "
                f"steps, got {list(dilations)}"
            )
        sizes = [n_inputs] + [d] * len(dilations)
        super().__init__(
            DilatedGRU(size, d_out, s)
            for (size, d_out), s in zip(pairwise(sizes), dilations, strict=True)
        )
        self.dilations = tuple(dilations)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The states of every layer, the finest first; each (b t d)."""
        states = []
        for layer in self:
            x = layer(x)
            states.append(x)
        return states


class _Reverse(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        return -grad


def reverse_gradient(x: Tensor) -> Tensor:
    """The same value with the gradient's sign turned (Ganin and Lempitsky, ICML 2015)."""
    return cast(Tensor, _Reverse.apply(x))


def frozen(module: nn.Module, *inputs: Tensor) -> Any:
    """Call a module with its parameters held fixed; gradients flow through it to the inputs only.

    So both sides of an adversarial game fit into one loss and one backward pass: each side's loss
    calls the other side frozen.
    """
    fixed = {name: p.detach() for name, p in module.named_parameters()}
    return functional_call(module, fixed, inputs)
