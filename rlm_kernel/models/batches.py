"""Batch services of providers: many requests handed in at once and answered within hours, for less money.

What was handed in goes on by itself, so nothing here is cancelled with its caller: who asks the same again goes on
waiting for it, also from another process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rlm_kernel.errors import ModelError
from rlm_kernel.models.base import Completion, Request

__all__ = ["BatchModel", "BatchNews", "OnNews"]


@dataclass(frozen=True, slots=True)
class BatchNews:
    """How a batch stands."""

    id: str
    done: int
    """Requests that were answered or failed, as far as the provider tells before the end."""
    total: int
    resumed: bool = False
    """It had been handed in before."""


OnNews = Callable[[BatchNews], None]


class BatchModel(Protocol):
    """A model whose provider has a batch service."""

    def pending_batch(self, requests: Sequence[Request]) -> int | None:
        """The longest reply, in tokens, that was asked for when these requests were handed in; None if they were not.

        Only of batches that were not collected yet. `Request.max_tokens` is no part of what is compared.
        """
        ...

    async def complete_batch(
        self, requests: Sequence[Request], on_news: OnNews | None = None
    ) -> Sequence[Completion | ModelError]:
        """Hand the requests in, unless they have been, and wait for the answers.

        Args:
            requests: each is answered by itself.
            on_news: told when the batch is handed in or found, and how it goes on.

        Returns:
            What came of each, in their order.

        Raises:
            ModelError: the batch as a whole could not be handed in or collected.
        """
        ...
