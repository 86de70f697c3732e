"""Asks a model within the budget: reserves the most that the call can take, asks, and settles what it took."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from rlm_kernel.budget import Estimate, Ledger, OverdrawnError, Reservation
from rlm_kernel.errors import ModelError, RLMError
from rlm_kernel.granting import BYTES_PER_TOKEN, Grant, grant, input_bound, overdrawn
from rlm_kernel.models.attempts import METER
from rlm_kernel.models.base import Completion, Delta, Model, OnDelta, Request
from rlm_kernel.models.prices import cost
from rlm_kernel.usage import Usage

__all__ = ["Answer", "ask", "complete", "price_of"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply and what it took."""

    completion: Completion
    cost: float | None
    """USD; None when the price is not known."""
    seconds: float


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
                raise overdrawn(model, request, (short.reason, str(short))) from None


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
            said, heard = self.granted, self._received // BYTES_PER_TOKEN
            if not usage.total_tokens:
                bound = input_bound(request) // BYTES_PER_TOKEN
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
