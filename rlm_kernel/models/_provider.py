"""What the adapters share when they call a provider: the one retry policy, a client per event loop, text to send.

The SDKs' own retries are switched off: they see only the start of a request, and two policies would multiply.
"""

from __future__ import annotations

import asyncio
import logging
import random
import weakref
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from rlm_kernel.errors import InputError, ModelError
from rlm_kernel.models._failures import Failure, Service, explain
from rlm_kernel.models.base import Completion, Delta, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from rlm_kernel.models.base import OnDelta

__all__ = ["RESTART", "Clients", "call", "positive", "sendable"]

RESTART = Delta("", "restart")
"""Told to `on_delta` when a reply breaks off and is asked for again: drop what you have seen of it.

The only delta with an empty text; a viewer that merely appends may ignore it.
"""


class _Closes(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=_Closes)


class Clients(Generic[C]):
    """One SDK client per event loop: a client's connections live and die with the loop that opened them."""

    def __init__(self, make: Callable[[], C]) -> None:
        self._make = make
        self._of_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, C] = weakref.WeakKeyDictionary()

    def get(self) -> C:
        """The client of the running loop, made when first asked for."""
        loop = asyncio.get_running_loop()
        client = self._of_loop.get(loop)
        if client is None:
            client = self._of_loop[loop] = self._make()
        return client

    async def close(self) -> None:
        """Close every client, each on its own loop. A loop that has stopped can close nothing any more."""
        here = asyncio.get_running_loop()
        clients, self._of_loop = dict(self._of_loop), weakref.WeakKeyDictionary()
        for loop, client in clients.items():
            if loop is here:
                await client.close()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(client.close(), loop))


class _Again(Exception):  # noqa: N818 -- never leaves this file
    """An attempt failed in a way that asking again may mend."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure.error))
        self.failure = failure


async def call(
    stream: Callable[[], AsyncGenerator[Delta | Completion, None]],
    service: Service,
    max_retries: int,
    on_delta: OnDelta | None,
) -> Completion:
    """Read one reply from `stream`, asking again (at most `max_retries` times more) when it fails on the way.

    Args:
        stream: opens a request and yields its deltas, then its completion. No completion means it was cut off.
        service: who is asked, for messages.
        max_retries: further attempts after the first; one at most for a reply without a text.
        on_delta: told of each piece, and of `RESTART` before the pieces of a new attempt.

    Raises:
        ModelError: in one line, with what to do.
    """
    import stamina

    # Without a handler Python would print a bare "stamina.retry_scheduled" below the user's cell.
    logging.getLogger("stamina").addHandler(_QUIET)
    reply = _Reply(stream, service, on_delta)
    attempts = stamina.retry_context(
        on=_backoff, attempts=max_retries + 1, timeout=None, wait_initial=0.5, wait_max=16.0, wait_jitter=0.5
    )
    try:
        async for attempt in attempts:
            with attempt:
                return await reply.read()
    except _Again as again:
        error = again.failure.error
        if reply.attempts > 1:
            error = type(error)(f"{error} (after {reply.attempts} attempts)")
        raise error from again.__cause__
    raise AssertionError("unreachable: the last attempt returns or raises")


class _Reply:
    """The attempts at one reply: what they have shown and what they have cost until now."""

    def __init__(
        self,
        stream: Callable[[], AsyncGenerator[Delta | Completion, None]],
        service: Service,
        on_delta: OnDelta | None,
    ) -> None:
        self._stream = stream
        self._service = service
        self._on_delta = on_delta
        self._shown = False
        self._empty = 0
        self._spent = Usage()
        self.attempts = 0

    async def read(self) -> Completion:
        self.attempts += 1
        if self._shown:
            self._show(RESTART)
            self._shown = False
        async with aclosing(self._stream()) as pieces:
            while True:
                piece = await self._next(pieces)
                if isinstance(piece, Completion):
                    break
                if piece.text:
                    self._show(piece)
        self._spent += piece.usage  # an empty reply is paid for too
        if not piece.text.strip() and piece.stop_reason == "end":
            self._empty += 1
            failure = Failure(ModelError(f"{self._service.title} sent an empty reply: try again"), retry=True)
            if self._empty > 1:
                raise failure.error
            raise _Again(failure)
        return replace(piece, usage=self._spent)

    async def _next(self, pieces: AsyncGenerator[Delta | Completion, None]) -> Delta | Completion:
        # Only the SDK's side is inside the `try`: an error of `on_delta` is the caller's own.
        try:
            return await anext(pieces)
        except StopAsyncIteration:
            text = f"{self._service.url} ended the reply in the middle: try again, or check that the URL is the API's"
            raise _Again(Failure(ModelError(text), retry=True)) from None
        except Exception as exc:
            failure = explain(exc, self._service)
            if failure.retry:
                raise _Again(failure) from exc
            raise failure.error from exc

    def _show(self, delta: Delta) -> None:
        if self._on_delta is not None:
            self._on_delta(delta)
            self._shown = True


_QUIET = logging.NullHandler()


def _backoff(exc: Exception) -> bool | float:
    """What stamina asks: whether to try again, and after how many seconds if the server said so."""
    if not isinstance(exc, _Again):
        return False
    wait = exc.failure.wait
    # Spread out, or a hundred sub-calls that were refused together would come back together.
    return True if wait is None else wait * (1 + random.random() / 4)  # noqa: S311 - jitter, no secret


def sendable(text: str) -> str:
    """`text` as UTF-8 can carry it: surrogate pairs are joined, lone surrogates (of odd files) become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def positive(**options: float) -> None:
    """Refuse numbers that make no sense: retries below 0, tokens or seconds not above 0.

    Raises:
        InputError: names the option.
    """
    for name, value in options.items():
        least = 0 if name == "max_retries" else 1e-9
        if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
            raise InputError(f"{name}={value!r} must be a number {'not below 0' if least == 0 else 'above 0'}")
