"""What a run has said to its model and heard of it. It grows at its end, so that a provider can cache its beginning."""

from __future__ import annotations

from rlm_kernel.asking import input_bound
from rlm_kernel.models.base import Completion, Message, Request

__all__ = ["Conversation"]


class Conversation:
    """The messages of one run.

    Args:
        system: what holds for the whole run.
        first: the first message.

    Attributes:
        unsent: the next message to the model.
        known: the first messages of which the tokens are known, as (how many, how many tokens): a provider tells them
            with its reply.
    """

    def __init__(self, system: str, first: str) -> None:
        self.system, self.unsent = system, first
        self.known = (0, 0)
        self._messages: list[Message] = []

    def next(self) -> Request:
        """What is to be asked next."""
        return Request((*self._messages, Message("user", self.unsent)), self.system)

    def replied(self, request: Request, completion: Completion) -> None:
        """Take the reply to `next`."""
        self._messages = [*request.messages, Message("assistant", completion.text)]
        if total := completion.own_usage.total_tokens:
            self.known = len(self._messages), total

    @property
    def bound(self) -> int:
        """As many tokens as all that was said can have at most."""
        return input_bound(Request(tuple(self._messages), self.system), self.known)

    @property
    def last_reply(self) -> str:
        """What the model said last; empty before it has."""
        return self._messages[-1].content if self._messages else ""
