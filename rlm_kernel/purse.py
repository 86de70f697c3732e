"""A run's own calls within its budget: a turn is granted only if the call for the last answer stays affordable."""

from __future__ import annotations

from dataclasses import replace

from rlm_kernel import prompt
from rlm_kernel.asking import FINAL_OUTPUT, Grant, grant, last_call
from rlm_kernel.budget import Estimate, Ledger, OverdrawnError
from rlm_kernel.conversation import Conversation
from rlm_kernel.models.base import Model, Request

__all__ = ["Purse"]

SHORT_CHARS = 4_000
"""Of the message before the last call, where more would be too dear."""


class Purse:
    """The money of one run's conversation.

    Args:
        model: that is talked to.
        ledger: the run's.
        talk: the conversation.
    """

    def __init__(self, model: Model, ledger: Ledger, talk: Conversation) -> None:
        self._model, self._ledger, self._talk = model, ledger, talk

    async def turn(self, request: Request) -> Grant:
        """Leave to ask for the next turn.

        Raises:
            OverdrawnError: there is none.
        """
        return await grant(
            self._model, request, self._ledger, known=self._talk.known, then=self._last_estimate, last=True
        )

    async def last(self, request: Request) -> Grant:
        """Leave to ask for the last answer.

        Raises:
            OverdrawnError: there is none.
        """
        asked = replace(request, max_tokens=FINAL_OUTPUT) if self._ledger.limited else request
        return await grant(self._model, asked, self._ledger, known=self._talk.known, last=True)

    async def shorten(self, ask: str) -> None:
        """Add the call for the last answer to the message that is to be sent, which is cut short if it has to be."""
        seen = self._talk.unsent
        self._talk.unsent = f"{seen}\n\n{ask}"
        if len(seen) > SHORT_CHARS:
            try:
                await self.last(self._talk.next())
            except OverdrawnError:
                self._talk.unsent = f"{prompt.shortened(seen, SHORT_CHARS)}\n\n{ask}"

    def hold(self) -> None:
        """Keep back from now on what the last answer can take."""
        if self._ledger.limited:
            self._ledger.hold(self._last_estimate(self._talk.known[1]))

    def _last_estimate(self, tokens: int) -> Estimate:
        """What the last call can take after a turn that ends with so many tokens."""
        return last_call(self._model, tokens, self._ledger.options)
