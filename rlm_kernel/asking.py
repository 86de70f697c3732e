"""Asks a model within the budget: reserves the most that the call can take, asks, and settles what it took."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from rlm_kernel.budget import Estimate, Ledger, OverdrawnError
from rlm_kernel.config import Options
from rlm_kernel.errors import ModelError, RLMError
from rlm_kernel.figures import A_TURN
from rlm_kernel.models.base import Completion, Delta, Model, OnDelta, Request
from rlm_kernel.models.prices import ceiling, cost
from rlm_kernel.usage import Usage

__all__ = [
    "BYTES_PER_TOKEN",
    "FINAL_OUTPUT",
    "IMAGE_TOKENS",
    "LEAST_OUTPUT",
    "UNPRICED",
    "Answer",
    "Grant",
    "ask",
    "complete",
    "grant",
    "input_bound",
    "last_call",
    "most",
]


MAX_OUTPUT = 16_000
"""Tokens of a reply, where the model does not say; it is told."""
LEAST_OUTPUT = 512
"""A reply that is not granted as many tokens is not worth asking for."""
MESSAGE_TOKENS = 16
"""Around a message, at most."""
IMAGE_TOKENS = 4_800
"""Of one image, at most (Anthropic's documentation: width x height / 750, scaled down to at most so many)."""
FINAL_TOKENS = 1_000
"""Of the message that asks for the last answer."""
FINAL_OUTPUT = 2_048
"""Of that answer, at most."""
CHARS_PER_TOKEN = 4
"""Of a cell's output, as is usual; where it has more tokens it is cut short in the last call."""
BYTES_PER_TOKEN = 3
"""Where nobody tells: of a call that was broken off, of one that is not made yet. English has more, numbers have fewer.
"""
UNPRICED = "the price of {model} is not known, so the budget cannot be kept; its tokens are counted (--max-tokens)"
"""Said once of a run with a budget in dollars."""


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
    new = request.messages[count:]
    texts = [message.content for message in new] + ([] if count else [request.system])
    tokens += sum(len(text.encode("utf-8", "surrogatepass")) + MESSAGE_TOKENS for text in texts)
    return tokens + IMAGE_TOKENS * sum(len(message.images) for message in new)


def most(model: Model, tokens: int, output: int, *, cache: bool) -> Estimate:
    """The most that a call of so many tokens can take."""
    return Estimate(tokens + output, ceiling(model.name, tokens, output, cache=cache))


def last_call(model: Model, tokens: int, options: Options) -> Estimate:
    """What the call for the last answer of a run can take, after a turn that ends with so many tokens."""
    figures = A_TURN * IMAGE_TOKENS if options.see else 0
    output = options.max_output_chars // CHARS_PER_TOKEN
    return most(model, tokens + output + figures + FINAL_TOKENS, FINAL_OUTPUT, cache=True)


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
        OverdrawnError: too little is left.
        RLMError: the model was asked how many tokens it is, and failed.
    """
    if not ledger.limited:
        return Grant(Estimate(), request.max_tokens, last)
    longest = request.max_tokens or getattr(model, "max_tokens", None) or MAX_OUTPUT
    tokens = input_bound(request, known)
    count: Callable[[Request], Awaitable[int]] | None = getattr(model, "count_tokens", None)
    while True:
        output = longest
        while True:
            estimate = most(model, tokens, output, cache=request.cache)
            after = then(tokens + output) if then is not None else Estimate()
            if (short := ledger.short_of(estimate + after, last=last)) is None:
                return Grant(estimate, output, last)
            if output <= LEAST_OUTPUT:
                break
            output = max(LEAST_OUTPUT, output // 2)
        if count is None:
            raise OverdrawnError(*short)
        tokens, count = min(tokens, await count(request)), None  # the exact number takes a request of its own


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
            async with ledger.reserved(found.estimate, last=found.last):
                return await _settled(model, replace(request, max_tokens=found.max_tokens), ledger, on_delta)
        except OverdrawnError:  # others took it meanwhile: a shorter reply may still fit
            if granted is not None:
                raise


async def _settled(model: Model, request: Request, ledger: Ledger, on_delta: OnDelta | None) -> Answer:
    received = 0

    def count(delta: Delta) -> None:
        nonlocal received
        received += len(delta.text.encode("utf-8", "surrogatepass"))
        if on_delta is not None:
            on_delta(delta)

    started = time.monotonic()
    try:
        completion = await complete(model, request, count if on_delta is not None or ledger.limited else None)
    except BaseException:  # broken off, even: what had come by then is paid for
        if received:
            usage = Usage(input_bound(request) // BYTES_PER_TOKEN, received // BYTES_PER_TOKEN)
            ledger.settle(usage, cost(usage, model.name))
        raise
    price = cost(completion.usage, completion.model)
    ledger.settle(completion.usage, price)
    return Answer(completion, price, time.monotonic() - started)
