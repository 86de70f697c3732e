"""Sees that what a call may take is left, before it is made: bounds of its tokens, the price of the worst case."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from rlm_kernel.budget import Estimate, Ledger, OverdrawnError
from rlm_kernel.config import Options
from rlm_kernel.events import StopReason
from rlm_kernel.figures import A_TURN
from rlm_kernel.models.base import Model, Refused, Request
from rlm_kernel.models.prices import ceiling

__all__ = [
    "BYTES_PER_TOKEN",
    "CHARS_PER_TOKEN",
    "FINAL_OUTPUT",
    "FINAL_TOKENS",
    "IMAGE_TOKENS",
    "LEAST_OUTPUT",
    "MESSAGE_TOKENS",
    "UNPRICED",
    "Grant",
    "grant",
    "grant_batch",
    "input_bound",
    "last_call",
    "most",
    "overdrawn",
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
            raise overdrawn(model, request, short)
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
            raise overdrawn(model, requests[0], short)
        output = max(LEAST_OUTPUT, output // 2)


async def _counted(count: Callable[[Request], Awaitable[int]] | None, request: Request) -> int | None:
    """Tokens of the input, where the model can tell: not every server that speaks its language does."""
    if count is None:
        return None
    try:
        return await count(request)
    except Exception:  # noqa: BLE001 - the user's own model may raise anything; the bound is known all the same
        return None


def overdrawn(model: Model, request: Request, short: tuple[StopReason, str]) -> OverdrawnError:
    """The error, of which a recording takes note."""
    if (refused := getattr(model, "refused", None)) is not None:
        refused(request, Refused(*short))
    return OverdrawnError(*short)
