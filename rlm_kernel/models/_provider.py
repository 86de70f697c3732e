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
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from rlm_kernel.errors import InputError, ModelError
from rlm_kernel.models._failures import Failure, Service, explain
from rlm_kernel.models.attempts import METER, PACE, unpaced
from rlm_kernel.models.base import Completion, Delta, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from rlm_kernel.models.base import OnDelta

    Piece = Delta | Usage | Completion

__all__ = ["RESTART", "Clients", "FailedError", "call", "further", "once", "positive", "sendable"]

RESTART = Delta("", "restart")
"""Told to `on_delta` when a reply breaks off and is asked for again: drop what you have seen of it.

The only delta with an empty text; a viewer that merely appends may ignore it.
"""


class _Closes(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=_Closes)
T = TypeVar("T")


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


class FailedError(Exception):
    """An attempt failed. Never leaves the adapters."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure.error))
        self.failure = failure


async def call(
    stream: Callable[[], AsyncGenerator[Piece, None]],
    service: Service,
    max_retries: int,
    on_delta: OnDelta | None,
) -> Completion:
    """Read one reply from `stream`, asking again (at most `max_retries` times more) when it fails on the way.

    Args:
        stream: opens a request and yields its deltas, what it has taken whenever the provider tells, then its
            completion. No completion means it was cut off.
        service: who is asked, for messages.
        max_retries: further attempts after the first; one at most for a reply without a text.
        on_delta: told of each piece, and of `RESTART` before the pieces of a new attempt.

    Raises:
        ModelError: in one line, with what to do.
    """
    return await _retried(_Reply(stream, service, on_delta).read, max_retries)


async def once(work: Callable[[], Awaitable[T]], service: Service, max_retries: int) -> T:
    """The answer to a request that does not stream, asked again as `call` does.

    Raises:
        ModelError: in one line, with what to do.
    """

    async def attempt() -> T:
        try:
            return await work()
        except Exception as exc:
            raise FailedError(explain(exc, service)) from exc

    return await _retried(attempt, max_retries)


async def _retried(work: Callable[[], Awaitable[T]], max_retries: int) -> T:
    import stamina

    # Without a handler Python would print a bare "stamina.retry_scheduled" below the user's cell.
    logging.getLogger("stamina").addHandler(_QUIET)
    attempts = stamina.retry_context(
        on=_backoff, attempts=max_retries + 1, timeout=None, wait_initial=0.5, wait_max=16.0, wait_jitter=0.5
    )
    paced = _Paced(work, again=max_retries > 0)
    try:
        async for attempt in attempts:
            with attempt:
                return await paced.attempt()
    except FailedError as failed:
        error = failed.failure.error
        if failed.failure.retry and paced.attempts > 1:
            error = type(error)(f"{error} (after {paced.attempts} attempts)")
        raise error from failed.__cause__
    raise AssertionError("unreachable: the last attempt returns or raises")


class _Paced(Generic[T]):
    """Attempts, each when the pace allows it. Where somebody sets one, it also knows when to give up after refusals."""

    def __init__(self, work: Callable[[], Awaitable[T]], *, again: bool) -> None:
        self._work, self._again = work, again
        self.attempts = 0

    async def attempt(self) -> T:
        pace = PACE.get()
        while True:
            async with pace.turn() if pace is not None else unpaced() as turn:
                self.attempts += 1
                try:
                    return await self._work()
                except FailedError as failed:
                    failure = failed.failure
                    if failure.pressed:
                        turn.refused(failure.error, failure.wait)
                    if pace is None or not (failure.pressed and failure.retry and self._again):
                        raise


class _Reply:
    """The attempts at one reply: what they have shown and what they have cost until now."""

    def __init__(
        self,
        stream: Callable[[], AsyncGenerator[Piece, None]],
        service: Service,
        on_delta: OnDelta | None,
    ) -> None:
        self._stream = stream
        self._service = service
        self._on_delta = on_delta
        self._meter = METER.get()
        self._shown = False
        self._empty = 0
        self._told = Usage()
        """Of the attempt under way."""
        self._abandoned: list[Usage] = []

    async def read(self) -> Completion:
        if self._shown:
            self._show(RESTART)
            self._shown = False
        self._told = Usage()
        try:
            piece = await self._attempt()
        except FailedError as failed:
            if not self._may_be_paid_again() and failed.failure.retry:
                error = ModelError(f"{failed}; the budget has too little left to ask again")
                raise FailedError(Failure(error)) from failed.__cause__
            raise
        return replace(piece, usage=sum(self._abandoned, piece.usage), abandoned=tuple(self._abandoned))

    async def _attempt(self) -> Completion:
        async with aclosing(self._stream()) as pieces:
            while True:
                piece = await self._next(pieces)
                if isinstance(piece, Completion):
                    break
                if isinstance(piece, Usage):
                    self._take(piece)
                elif piece.text:
                    self._show(piece)
        if not piece.text.strip() and piece.stop_reason == "end":
            self._take(piece.usage)  # an empty reply is paid for too
            self._empty += 1
            error = ModelError(f"{self._service.title} sent an empty reply: try again")
            raise FailedError(Failure(error, retry=self._empty == 1))
        return piece

    async def _next(self, pieces: AsyncGenerator[Piece, None]) -> Piece:
        # Only the SDK's side is inside the `try`: an error of `on_delta` is the caller's own.
        try:
            return await anext(pieces)
        except StopAsyncIteration:
            text = f"{self._service.url} ended the reply in the middle: try again, or check that the URL is the API's"
            raise FailedError(Failure(ModelError(text), retry=True)) from None
        except Exception as exc:
            raise FailedError(explain(exc, self._service)) from exc

    def _take(self, usage: Usage) -> None:
        self._told = usage
        if self._meter is not None:
            self._meter.took(usage)

    def _may_be_paid_again(self) -> bool:
        """Book the attempt that failed, if it has taken anything. Nothing is made up where nobody tells how much."""
        if not (self._told.total_tokens or self._shown):
            return True
        if self._told.total_tokens:
            self._abandoned.append(self._told)
        return self._meter is None or self._meter.abandoned(self._told)

    def _show(self, delta: Delta) -> None:
        if self._on_delta is not None:
            self._on_delta(delta)
            self._shown = True


_QUIET = logging.NullHandler()


def _backoff(exc: Exception) -> bool | float:
    """What stamina asks: whether to try again, and after how many seconds if the server said so."""
    if not (isinstance(exc, FailedError) and exc.failure.retry):
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


def further(extra: Mapping[str, Any] | None, *limits: str) -> dict[str, Any]:
    """A copy of further fields of a request; the longest reply is no such field, since budgets have to know it.

    Args:
        extra: the fields.
        limits: what the longest reply is called among them.

    Raises:
        InputError: it is there.
    """
    fields = dict(extra or {})
    for name in limits:
        if name in fields:
            raise InputError(f"extra has {name!r}: say max_tokens={fields[name]!r} instead, beside extra")
    return fields
