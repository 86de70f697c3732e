"""A run's own calls within its budget: a turn is granted only if the call for the last answer stays affordable."""

from __future__ import annotations

from dataclasses import replace

from rlm_kernel import prompt
from rlm_kernel.budget import Estimate, Ledger, OverdrawnError
from rlm_kernel.conversation import Conversation
from rlm_kernel.granting import CHARS_PER_TOKEN, FINAL_OUTPUT, FINAL_TOKENS, MESSAGE_TOKENS, Grant, grant, last_call
from rlm_kernel.guard import EndError
from rlm_kernel.models.base import Model, Request

__all__ = ["Purse"]


class Purse:
    """The money of one run's conversation.

    Args:
        model: that is talked to.
        ledger: the run's.
    """

    def __init__(self, model: Model, ledger: Ledger) -> None:
        self._model, self._ledger = model, ledger

    async def grant(self, talk: Conversation, request: Request, *, final: bool) -> Grant:
        """Leave to make the next call, or the one for the last answer.

        Raises:
            EndError: there is none.
        """
        try:
            return await (self.last if final else self.turn)(talk, request)
        except OverdrawnError as short:
            raise EndError(short.reason, str(short)) from None

    async def turn(self, talk: Conversation, request: Request) -> Grant:
        """Leave to ask for the next turn.

        Raises:
            OverdrawnError: there is none.
        """
        return await grant(self._model, request, self._ledger, known=talk.known, then=self.last_estimate, last=True)

    async def last(self, talk: Conversation, request: Request) -> Grant:
        """Leave to ask for the last answer.

        Raises:
            OverdrawnError: there is none.
        """
        asked = replace(request, max_tokens=FINAL_OUTPUT) if self._ledger.limited else request
        return await grant(self._model, asked, self._ledger, known=talk.known, last=True)

    async def shorten(self, talk: Conversation, ask: str) -> None:
        """Add the call for the last answer to the message that is to be sent, which is cut short if it has to be."""
        seen = talk.unsent
        talk.unsent = f"{seen}\n\n{ask}"
        try:
            await self.last(talk, talk.next())
        except OverdrawnError:
            held = self._ledger.options.max_output_chars // CHARS_PER_TOKEN + FINAL_TOKENS - MESSAGE_TOKENS
            room = held - len(ask.encode("utf-8", "surrogatepass")) - 2  # no token is shorter than a byte
            talk.unsent = f"{prompt.within(seen, max(0, room))}\n\n{ask}"

    def hold(self, talk: Conversation) -> None:
        """Keep back from now on what the last answer can take."""
        if self._ledger.limited:
            self._ledger.hold(self.last_estimate(talk.bound))

    def last_estimate(self, tokens: int) -> Estimate:
        """What the last call can take after a turn that ends with so many tokens."""
        return last_call(self._model, tokens, self._ledger.options)
