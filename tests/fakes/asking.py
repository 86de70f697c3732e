"""Short ways to ask a model, for tests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rlm_kernel.models import Completion, Delta, Message, Model, Request

if TYPE_CHECKING:
    from rlm_kernel.models import OnDelta

__all__ = ["ask", "followed", "listen", "request"]


def request(*turns: str, system: str = "be brief", kind: str = "root", cache: bool = True) -> Request:
    """A request whose messages alternate, from the user to the user."""
    messages = tuple(Message("assistant" if place % 2 else "user", turn) for place, turn in enumerate(turns or ("hi",)))
    return Request(messages, system, "sub" if kind == "sub" else "root", cache)


def followed(before: Request, *turns: str) -> Request:
    """The request after `before`: the reply to it, then the next message of the user, and so on."""
    more = tuple(Message("user" if place % 2 else "assistant", turn) for place, turn in enumerate(turns))
    return Request((*before.messages, *more), before.system, before.kind, before.cache)


def ask(model: Model, *requests: Request, on_delta: OnDelta | None = None) -> Completion:
    """Ask one after the other and give the last reply."""

    async def main() -> Completion:
        try:
            replies = [await model.complete(each, on_delta) for each in requests or (request(),)]
        finally:
            await model.close()
        return replies[-1]

    return asyncio.run(main())


def listen(model: Model, asked: Request | None = None) -> tuple[Completion, list[Delta]]:
    """Ask once; the reply and the deltas it came in."""
    deltas: list[Delta] = []
    return ask(model, asked or request(), on_delta=deltas.append), deltas
