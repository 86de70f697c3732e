"""A model that answers what a test tells it to: no network, no key, no waiting. For your tests as much as for ours."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import replace
from typing import TYPE_CHECKING

from rlm_kernel.errors import ModelError
from rlm_kernel.models.base import Completion, Delta, Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rlm_kernel.models.base import OnDelta, Request

    Reply = str | Completion | Exception | Callable[[Request], str]
    Sub = str | Callable[[str], str] | Callable[[str], Awaitable[str]]

__all__ = ["ScriptedModel"]

DELTAS = 4
"""Pieces a reply is streamed in when it comes at once."""
PIECE = 4
"""Characters of a piece when it does not: about a token."""


class ScriptedModel:
    """Answers root requests from a list, in order, and sub-requests by a function of the prompt.

    Usage is an estimate: four characters to a token.
    """

    def __init__(
        self,
        replies: Sequence[Reply],
        *,
        name: str = "scripted",
        sub: Sub | None = None,
        delay: float = 0.0,
        speed: float | None = None,
        window: int | None = None,
    ) -> None:
        """Write the script.

        Args:
            replies: for each root request in turn: a text, a `Completion`, an exception to raise, or a function of
                the request that returns the text.
            name: the model's name.
            sub: answers `llm_query`: a text, or a function (or coroutine function) of the prompt.
            delay: seconds before each reply.
            speed: characters a second at which a reply to a root request streams in; None for all at once.
            window: tokens that fit into a call; see `Model`.
        """
        self.name, self.window = name, window
        self.requests: list[Request] = []
        """Every request, in the order they came."""
        self._replies = tuple(replies)
        self._answered = 0
        self._sub = sub
        self._delay, self._speed = delay, speed

    def __repr__(self) -> str:
        return f"ScriptedModel({len(self._replies)} replies, {self._answered} given)"

    async def complete(self, request: Request, on_delta: OnDelta | None = None) -> Completion:
        """Give the next reply of the script.

        Raises:
            ModelError: the script is at its end, or has nothing to say to sub-requests.
        """
        self.requests.append(request)
        reply = await self._answer_sub(request) if request.kind == "sub" else self._answer_root(request)
        if self._delay:
            await asyncio.sleep(self._delay)
        if isinstance(reply, str):
            reply = self._estimated(request, Completion(reply, self.name))
        if on_delta is not None:
            await _stream(reply, on_delta, self._speed)
        return reply

    async def close(self) -> None:
        """Nothing to release."""

    def _answer_root(self, request: Request) -> str | Completion:
        if self._answered == len(self._replies):
            raise ModelError(f"the script of '{self.name}' is at its end: {len(self._replies)} replies were scripted")
        reply = self._replies[self._answered]
        self._answered += 1
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, str | Completion) else reply(request)

    async def _answer_sub(self, request: Request) -> str:
        if self._sub is None:
            raise ModelError(f"'{self.name}' has no answers for sub-requests: pass sub=")
        if isinstance(self._sub, str):
            return self._sub
        answer = self._sub(request.messages[-1].content)
        return await answer if inspect.isawaitable(answer) else answer

    @staticmethod
    def _estimated(request: Request, reply: Completion) -> Completion:
        asked = len(request.system) + sum(len(message.content) for message in request.messages)
        return replace(reply, usage=Usage(asked // 4, len(reply.text) // 4))


async def _stream(reply: Completion, on_delta: OnDelta, speed: float | None) -> None:
    if reply.thinking:
        on_delta(Delta(reply.thinking, "thinking"))
    size = PIECE if speed else -(-len(reply.text) // DELTAS) or 1
    for start in range(0, len(reply.text), size):
        if speed:
            await asyncio.sleep(size / speed)
        on_delta(Delta(reply.text[start : start + size]))
