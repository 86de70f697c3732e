"""Asks a model within the budget: reserves the most that the call can take, asks, and settles what it took."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from rlm_kernel.budget import Estimate, Ledger, OverdrawnError, Reservation
from rlm_kernel.errors import ModelError, RLMError
from rlm_kernel.events import StopReason
from rlm_kernel.models.attempts import METER
from rlm_kernel.models.base import Completion, Delta, Model, OnDelta, Refused, Request
from rlm_kernel.models.prices import ceiling, cost
from rlm_kernel.usage import Usage

__all__ = [
    "MESSAGE_TOKENS",
    "Answer",
    "Grant",
    "ask",
    "complete",
    "grant",
    "grant_batch",
    "input_bound",
    "most",
    "price_of",
]

MAX_OUTPUT = 16_000
"""Tokens of a reply, where the model does not say; it is told."""
LEAST_OUTPUT = 512
"""A reply that is not granted as many tokens is not worth asking for."""
MESSAGE_TOKENS = 16
"""Around a message, at most."""
IMAGE_TOKENS = 4_800
"""Of one image, at most (Anthropic's documentation: width x height / 750, scaled down to at most so many)."""
_BYTES_PER_TOKEN = 3
"""Of a call that was broken off, whose tokens nobody tells."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply and what it took."""

    completion: Completion
    cost: float | None
    """USD; None when the price is not known."""
    seconds: float


def input_bound(request: Request, known: tuple[int, int] = (0, 0)) -> int:
    """As many tokens as a request can have at most: none is shorter than a byte.

    Args:
        request: it.
        known: its first messages, system prompt included, as (how many, how many tokens they have together).
    """
    count, tokens = known
    texts = [message.content for message in request.messages[count:]] + ([] if count else [request.system])
    return tokens + sum(len(text.encode("utf-8", "surrogatepass")) + MESSAGE_TOKENS for text in texts)


def most(model: Model, tokens: int, output: int, *, cache: bool) -> Estimate:
    """The most that a call of so many tokens can take."""
    return Estimate(tokens + output, ceiling(model.name, tokens, output, cache=cache))


async def complete(model: Model, request: Request, on_delta: OnDelta | None = None) -> Completion:
    """Ask a model, which may be the user's own and raise anything.

    Raises:
        RLMError: it failed.
    """
    try:
        return await model.complete(request, on_delta)
    except RLMError:
        raise
    except Exception as error:
        raise ModelError(f"{model.name} failed: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - a foreign __str__
        return type(error).__name__


@dataclass(frozen=True, slots=True)
class Grant:
    """A call that fits into what is left."""

    estimate: Estimate
    max_tokens: int | None
    """Of the reply."""
    last: bool = False
    """It is the call that something was held back for."""
    tokens: int | None = None
    """Of the input, at most; None where nothing is limited."""


async def grant(
    model: Model,
    request: Request,
    ledger: Ledger,
    *,
    known: tuple[int, int] = (0, 0),
    then: Callable[[int], Estimate] | None = None,
    last: bool = False,
) -> Grant:
    """See that what a call may take is left, with a shorter reply where it is little.

    Args:
        model: to be asked.
        request: what it is to be asked.
        ledger: of the run that asks.
        known: see `input_bound`.
        then: what has to be left after a call that took so many tokens.
        last: it is the call that something was held back for.

    Raises:
        OverdrawnError: too little is left. In a replay: it was, and that alone counts, since nothing is paid for.
    """
    if (remembered := getattr(model, "remembered", None)) is not None:
        if (refused := remembered(request)) is not None:
            raise OverdrawnError(refused.limit, refused.text)
        return Grant(Estimate(), request.max_tokens, last)
    if not ledger.limited:
        return Grant(Estimate(), request.max_tokens, last)
    longest = request.max_tokens or getattr(model, "max_tokens", None) or MAX_OUTPUT
    tokens = input_bound(request, known)
    count: Callable[[Request], Awaitable[int]] | None = getattr(model, "count_tokens", None)
    while True:
        output = longest
        while True:
            estimate = most(model, tokens, output, cache=request.cache)
            wanted = estimate if then is None else estimate + then(tokens + output)
            if (short := ledger.short_of(wanted, last=last)) is None:
                return Grant(estimate, output, last, tokens)
            if output <= LEAST_OUTPUT:
                break
            output = max(LEAST_OUTPUT, output // 2)
        exact = await _counted(count, request)  # takes a request of its own, so only now
        if exact is None or exact >= tokens:
            raise _overdrawn(model, request, short)
        tokens, count = exact, None


def grant_batch(model: Model, requests: Sequence[Request], ledger: Ledger, handed_in: int | None) -> Grant:
    """See that what a batch for the provider's batch service may take is left, all of it.

    Args:
        model: to be asked.
        requests: what it is to be asked.
        ledger: of the run that asks.
        handed_in: the longest reply of a batch that goes on already, and can be no shorter.

    Raises:
        OverdrawnError: too little is left.
    """
    if (remembered := getattr(model, "remembered", None)) is not None:
        if (refused := remembered(requests[0])) is not None:
            raise OverdrawnError(refused.limit, refused.text)
        return Grant(Estimate(), None)
    if not ledger.limited:
        return Grant(Estimate(), handed_in)
    output = handed_in or getattr(model, "max_tokens", None) or MAX_OUTPUT
    bounds = [input_bound(request) for request in requests]
    while True:
        prices = [ceiling(model.name, tokens, output, cache=False, batch=True) for tokens in bounds]
        known = [price for price in prices if price is not None]
        usd = sum(known) if len(known) == len(prices) else None
        estimate = Estimate(sum(bounds) + output * len(bounds), usd)
        if (short := ledger.short_of(estimate)) is None:
            return Grant(estimate, output)
        if handed_in is not None or output <= LEAST_OUTPUT:
            raise _overdrawn(model, requests[0], short)
        output = max(LEAST_OUTPUT, output // 2)


async def _counted(count: Callable[[Request], Awaitable[int]] | None, request: Request) -> int | None:
    """Tokens of the input, where the model can tell: not every server that speaks its language does."""
    if count is None:
        return None
    try:
        return await count(request)
    except Exception:  # noqa: BLE001 - the user's own model may raise anything; the bound is known all the same
        return None


def _overdrawn(model: Model, request: Request, short: tuple[StopReason, str]) -> OverdrawnError:
    """The error, of which a recording takes note."""
    if (refused := getattr(model, "refused", None)) is not None:
        refused(request, Refused(*short))
    return OverdrawnError(*short)


async def ask(
    model: Model, request: Request, ledger: Ledger, on_delta: OnDelta | None = None, *, granted: Grant | None = None
) -> Answer:
    """Ask a model, if what it may take is left.

    Args:
        model: it is asked once.
        request: what it is asked.
        ledger: of the run that asks.
        on_delta: gets the pieces of the reply.
        granted: what `grant` said to this call.

    Raises:
        OverdrawnError: too little is left. Nobody was asked.
        RLMError: the model failed.
    """
    while True:
        found = granted or await grant(model, request, ledger)
        try:
            async with ledger.reserved(found.estimate, last=found.last) as reservation:
                return await _settled(model, request, ledger, on_delta, _Bill(model.name, found, reservation))
        except OverdrawnError as short:  # others took it meanwhile: a shorter reply may still fit
            if granted is not None:
                raise _overdrawn(model, request, (short.reason, str(short))) from None


class _Bill:
    """What a call takes, however it ends; see `models.attempts.Meter`."""

    def __init__(self, model: str, granted: Grant, reservation: Reservation) -> None:
        self.granted = granted
        self._model, self._reservation = model, reservation
        self._gone: list[Usage] = []
        self._told, self._received = Usage(), 0

    def took(self, usage: Usage) -> None:
        self._told = usage

    def abandoned(self, usage: Usage) -> bool:
        """The next attempt may take as much as was reserved for this one, so what this one took comes on top."""
        self._gone.append(usage)
        self._told, self._received = Usage(), 0
        return self._reservation.extend(Estimate(usage.total_tokens, cost(usage, self._model)))

    def received(self, delta: Delta) -> None:
        self._received += len(delta.text.encode("utf-8", "surrogatepass"))

    def broken_off(self, request: Request) -> list[Usage]:
        """What each attempt took of a call that came to nothing: what was told, and what had arrived by then."""
        usage = self._told
        if self._received:
            said, heard = self.granted, self._received // _BYTES_PER_TOKEN
            if not usage.total_tokens:
                bound = input_bound(request) // _BYTES_PER_TOKEN
                usage = Usage(bound if said.tokens is None else min(bound, said.tokens))
            heard = heard if said.max_tokens is None else min(heard, said.max_tokens)
            usage = replace(usage, output_tokens=max(usage.output_tokens, heard))
        return [*self._gone, usage]


async def _settled(model: Model, request: Request, ledger: Ledger, on_delta: OnDelta | None, bill: _Bill) -> Answer:
    def hear(delta: Delta) -> None:
        bill.received(delta)
        if on_delta is not None:
            on_delta(delta)

    started = time.monotonic()
    asked = replace(request, max_tokens=bill.granted.max_tokens)
    token = METER.set(bill)
    try:
        completion = await complete(model, asked, hear if on_delta is not None or ledger.limited else None)
    except BaseException:  # broken off, even: what had come by then is paid for
        for usage in bill.broken_off(request):
            ledger.settle(usage, cost(usage, model.name))
        raise
    finally:
        METER.reset(token)
    price = price_of(completion, model.name)
    ledger.settle(completion.usage, price)
    return Answer(completion, price, time.monotonic() - started)


def price_of(completion: Completion, asked: str, *, batch: bool = False) -> float | None:
    """USD of a call with all its attempts; by the name that the provider answered under, or the name asked for."""
    total = 0.0
    for usage in (completion.own_usage, *completion.abandoned):
        price = cost(usage, completion.model, batch=batch)
        price = cost(usage, asked, batch=batch) if price is None else price
        if price is None:
            return None
        total += price
    return total
