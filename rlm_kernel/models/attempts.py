"""What an adapter tells of its attempts at a reply, and what it is told: may there be another, and when.

A broken stream has been paid for, and a provider that refuses calls wants fewer of them; neither shows in a reply. Who
asks puts somebody to tell into the context; where there is nobody an adapter decides by itself. A model of your own
may leave it all alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Protocol

from rlm_kernel.errors import RLMError
from rlm_kernel.usage import Usage

__all__ = ["METER", "PACE", "Meter", "Pace", "Turn", "unpaced"]


class Meter(Protocol):
    """Counts what one call takes, where it comes to nothing too."""

    def took(self, usage: Usage) -> None:
        """So much has the attempt under way taken until now, as far as the provider has told."""
        ...

    def abandoned(self, usage: Usage) -> bool:
        """The attempt under way came to nothing and took so much. Whether another can be paid for."""
        ...


class Turn(Protocol):
    """Leave for one attempt."""

    def refused(self, error: RLMError, wait: float | None) -> None:
        """The provider wants fewer calls.

        Args:
            error: what is said if there is no other attempt.
            wait: how many seconds it asks to wait, if it does.
        """
        ...


class Pace(Protocol):
    """Says when one call's next attempt may be made."""

    def turn(self) -> AbstractAsyncContextManager[Turn]:
        """Wait for leave, which lasts as long as the attempt.

        Raises:
            ModelError: the call was refused and there is no hope left.
        """
        ...


METER: ContextVar[Meter | None] = ContextVar("METER", default=None)
PACE: ContextVar[Pace | None] = ContextVar("PACE", default=None)


class _Unpaced:
    def refused(self, error: RLMError, wait: float | None) -> None:
        """Nobody is told."""


@asynccontextmanager
async def unpaced() -> AsyncIterator[Turn]:
    """Leave at once."""
    yield _Unpaced()
