"""What training and scoring rely on in a network, as one check to run on your own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from madcluster.contract import ContractError, require
from madcluster.heads.base import WithHead
from madcluster.heads.registry import head_of
from madcluster.models.base import Embedder, Embedding, as_embedder
from madcluster.randomness import undisturbed

__all__ = ["check_embedder"]


def check_embedder(
    make: Callable[[int, int], nn.Module],
    *,
    head: str = "madcluster",
    n_channels: int = 3,
    window: int = 32,
    seed: int = 0,
) -> list[str]:
    """Try a network alone, where it has a loss of its own, and with a head on.

    Parameters
    ----------
    make : function of (n_channels, window)
        Returns a new `Embedder`, or any module (b t c) → (b t d), with new weights at each call.
    head : str
        Of `madcluster.heads.HEADS`.
    n_channels, window : int
        c and t of the random windows that it is tried on.
    seed : int
        Of the weights and the windows.

    Returns
    -------
    Names of the parameters that the gradient of the head does not reach. For a decoder or a
    discriminator that is as it should be; an encoder whose layers are among them learns nothing from
    the head.

    Raises
    ------
    ContractError
        Naming the promise that is broken: shapes (b t d), () and (b t); finite values, loss and
        gradients, in float32 and float64; a batch in another order gives the same in that order; in
        eval mode the same input gives the same output; `last_steps` and `memory`, if there are any,
        give that of `forward` at the last step; weights that are saved and loaded give the same
        output; the score varies; the gradient of the head reaches the network; the loss falls.

    Examples
    --------
    >>> import torch
    >>> check_embedder(lambda c, t: torch.nn.Conv1d(t, t, 3, padding=1))
    []
    """

    made = head_of(head, n_channels=n_channels)

    def new(with_head: bool, weights: int = 0) -> Embedder:
        torch.default_generator.manual_seed(seed + weights)
        base = as_embedder(make(n_channels, window), n_channels=n_channels, window=window)
        if not with_head:
            return base
        its_head = made(base.d)
        its_head.check_window(window)
        return WithHead(base, its_head)

    with undisturbed():
        x = torch.randn(6, window, n_channels, generator=torch.Generator().manual_seed(seed))
        trainable = new(False)(x).loss is not None
        for with_head in (False, True) if trainable else (True,):
            for dtype in (torch.float32, torch.float64):
                _shapes_and_values(new(with_head).to(dtype), x.to(dtype))
            _in_eval_mode(new(with_head), new(with_head, weights=1), x)
        out_of_reach = _out_of_reach(new(True), x)
        _loss_falls(new(True), x)
        return out_of_reach


def _shapes_and_values(model: Embedder, x: Tensor) -> None:
    model.prepare([x], 0)
    h, loss, score, parts = model(x)
    b, t, _ = x.shape
    require(h.shape == (b, t, model.d), f"h must be (b t d), got {tuple(h.shape)}, d = {model.d}")
    if loss is None or loss.shape != ():
        raise ContractError(f"the loss must be one number, got {loss}")
    if score is None or score.shape != (b, t):
        raise ContractError(
            f"the score must be (b t), got {None if score is None else score.shape}"
        )
    for name, value in (("h", h), ("the loss", loss), ("the score", score)):
        require(value.dtype == x.dtype, f"{name} must be {x.dtype} as the input, got {value.dtype}")
        require(bool(torch.isfinite(value).all()), f"{name} must be finite in {x.dtype}")
    for name, part in parts.items():
        require(
            part.shape == () and not part.requires_grad,
            f"part {name!r} must be one number without gradient",
        )
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    require(all(bool(torch.isfinite(g).all()) for g in gradients), "gradients must be finite")
    require(any(bool(g.any()) for g in gradients), "some gradient must not be zero")


def _in_eval_mode(model: Embedder, other: Embedder, x: Tensor) -> None:
    model.prepare([x], 0)
    model.eval()
    model.finish([x])

    def outputs(m: Embedder, x: Tensor) -> tuple[Tensor, Tensor]:
        out: Embedding = m(x)
        return out.h, _score(out)

    with torch.no_grad():
        plain, again = outputs(model, x), outputs(model, x)
        short = model.scored(x)
        order = torch.arange(len(x) - 1, -1, -1)
        permuted = outputs(model, x[order])
        other.load_state_dict(model.state_dict())
        loaded = outputs(other.eval(), x)
        _last_steps(model, x, *plain)
    same = all(map(torch.equal, plain, again))
    require(same, "the same input must give the same output in eval mode")
    shortly = torch.equal(short.h, plain[0]) and torch.equal(_score(short), plain[1])
    require(shortly, "scored must give the h and the score of forward")
    follows = all(
        torch.allclose(p[order], q, rtol=1e-3, atol=1e-5)
        for p, q in zip(plain, permuted, strict=True)
    )
    require(follows, "a batch in another order must give the same in that order")
    survives = all(map(torch.equal, plain, loaded))
    require(survives, "weights must survive state_dict and load_state_dict; register buffers")
    require(bool(plain[1].std() > 0), "the score must not be a constant")
    if torch.cuda.is_available():
        with torch.no_grad():
            on_gpu = outputs(model.to("cuda"), x.to("cuda"))
        close = all(
            torch.allclose(p, q.cpu(), rtol=1e-3, atol=1e-4)
            for p, q in zip(plain, on_gpu, strict=True)
        )
        require(close, "a GPU must give what the CPU gives")


def _last_steps(model: Embedder, x: Tensor, h: Tensor, score: Tensor) -> None:
    """The shorter ways to the last steps of windows, if there are any."""
    expected = np.column_stack([h[:, -1].cpu(), score[:, -1].cpu()])  # (b d+1)

    def are_those(found: np.ndarray, way: str) -> None:
        close = np.allclose(found, expected, rtol=1e-3, atol=1e-5)
        require(
            close, f"{way} must give the h and the score of forward at the last step of a window"
        )

    if (last := model.last_steps()) is not None:
        outs = [last(window) for window in x]
        if all(out.h.shape[1] for out in outs):  # the window holds what a last step sees
            rows = [np.append(out.h[0, -1].cpu(), _score(out)[0, -1].cpu()) for out in outs]
            are_those(np.array(rows), "last_steps")
    memory = model.memory(len(x))
    if memory is not None and memory.reach < x.shape[1]:
        for row in x.unbind(1):
            embedded, scores = memory.step(np.arange(len(x)), row.numpy())
        if scores is None:
            raise ContractError("memory must give a score where forward does")
        are_those(np.column_stack([embedded, scores]), "memory")


def _score(out: Embedding) -> Tensor:
    assert out.score is not None
    return out.score


def _loss_falls(model: Embedder, x: Tensor, steps: int = 30) -> None:
    model.prepare([x], 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = model(x).loss
        assert loss is not None
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    require(
        min(losses) < losses[0], f"the loss must fall in {steps} steps, it began at {losses[0]}"
    )


def _out_of_reach(model: Embedder, x: Tensor) -> list[str]:
    assert isinstance(model, WithHead)
    model.prepare([x], 0)
    own = list(model.embedder.named_parameters())
    optimizer = torch.optim.Adam(model.head.parameters(), lr=1e-2)
    silent = [name for name, _ in own]
    for _ in range(2):  # a head whose last layer is 0 at the start reaches it in the second step
        model.zero_grad()
        h = model.embedder(x).h
        loss, _ = model.head.losses(model.head.read(x, h, model.embed), x, h, model.embed)
        loss.backward()
        silent = [name for name, p in own if p.grad is None or not p.grad.any()]
        if len(silent) < len(own):
            break
        optimizer.step()
    require(len(silent) < len(own), "the gradient of the head must reach the network")
    return silent
