"""What the checks of networks and of detectors raise."""

from __future__ import annotations

from typing import Any

__all__ = ["ContractError", "require"]


class ContractError(AssertionError):
    """A network or a detector breaks a promise that others rely on."""


def require(holds: Any, promise: str) -> None:
    """Raise a ContractError with the promise unless it holds."""
    if not holds:
        raise ContractError(promise)
