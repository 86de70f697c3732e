"""`llm_batch(…, batch_api=True)`: the whole batch is handed in to the provider's batch service, and waited for.

It goes on there whatever becomes of who waits, and it is paid for: so its worst case stays reserved until it has been
collected, and whoever asks the same again goes on waiting for the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from rlm_kernel import events as ev
from rlm_kernel.asking import Answer, price_of
from rlm_kernel.budget import OverdrawnError
from rlm_kernel.calls.standing import Standing, Subcall
from rlm_kernel.errors import ModelError, RecordingError
from rlm_kernel.granting import grant_batch
from rlm_kernel.models.base import Completion, Message, Request
from rlm_kernel.models.batches import BatchNews
from rlm_kernel.sandbox.base import RefusedError

__all__ = ["HandedIn"]

_GOES_ON = "not collected: its batch goes on at the provider, ask the same prompts again"
_EMPTY = "the model sent an empty reply"
_Key = tuple[str, tuple[Request, ...]]


class HandedIn:
    """The batches of one run that are handed in.

    Args:
        standing: of the run.
    """

    def __init__(self, standing: Standing) -> None:
        self._run = standing
        self._open: dict[_Key, tuple[int | None, Callable[[], None]]] = {}
        """Those that go on: the longest reply, and what ends their reservation."""
        self._awaited: set[_Key] = set()

    def goes_on(self, model: Any, prompts: Sequence[str]) -> bool:
        """Whether these were handed in by this run, and charged.

        Raises:
            RefusedError: they cannot be.
        """
        if not self._run.ledger.options.batch_api:
            raise RefusedError("batch_api is off, since it takes hours; it is for the user to turn on (--batch-api)")
        if getattr(model, "complete_batch", None) is None:
            raise RefusedError(f"'{model.name}' has no batch service: ask without batch_api")
        key = _key(model, prompts)
        if key in self._awaited:
            raise RefusedError("the same prompts are being waited for already")
        return key in self._open

    async def ask(self, model: Any, prompts: Sequence[str], batch: int) -> list[dict[str, str]]:
        """What came of each prompt, in their order.

        Raises:
            RefusedError: the budget has too little left for all of them.
        """
        run, key = self._run, _key(model, prompts)
        self._awaited.add(key)
        try:
            await self._reserve(model, key)
            contexts = [run.subcall(prompt, model.name, batch) for prompt in prompts]
            with ExitStack() as stack:
                calls = [context.__enter__() for context in contexts]
                for context in reversed(contexts):  # they end in the order in which they began
                    stack.push(context)
                await self._fill(calls, model, key)
        finally:
            self._awaited.discard(key)
        for prompt, call in zip(prompts, calls, strict=True):
            if not call.error:
                run.heard(model.name, prompt, call.reply)
        return [{"error": call.error} if call.error else {"text": call.reply} for call in calls]

    async def _reserve(self, model: Any, key: _Key) -> None:
        """Set aside the most that it can take, unless that was done when it was handed in."""
        if key in self._open:
            return
        ledger, requests = self._run.ledger, key[1]
        try:
            granted = grant_batch(model, requests, ledger, model.pending_batch(requests))
            async with ledger.reserved(granted.estimate) as reservation:
                self._begin(key, granted.max_tokens, reservation.commit())
        except BaseException as error:
            ledger.return_subcalls(len(requests))
            if isinstance(error, OverdrawnError):
                raise RefusedError(f"{error}: ask fewer prompts at once") from None
            raise

    async def _fill(self, calls: Sequence[Subcall], model: Any, key: _Key) -> None:
        """Note what came of each."""
        try:
            outcomes = await self._collected(model, key)
        except RecordingError as error:
            self._run.tree.fail(error)
            outcomes = [ModelError(str(error))] * len(calls)
        except ModelError as error:
            outcomes = [error] * len(calls)
        except asyncio.CancelledError:
            for call in calls:
                call.error = _GOES_ON if key in self._open else call.error
            raise
        for call, outcome in zip(calls, outcomes, strict=True):
            if isinstance(outcome, ModelError):
                call.error = str(outcome)
            else:
                price = price_of(outcome, model.name, batch=True)
                self._run.tell_unpriced(self._run.where[0], Answer(outcome, price, 0.0))
                _note(call, outcome, price)

    async def _collected(self, model: Any, key: _Key) -> Sequence[Completion | ModelError]:
        requests, (longest, _) = key[1], self._open[key]
        asked = [replace(request, max_tokens=longest) for request in requests]
        try:
            outcomes: Sequence[Completion | ModelError] = await model.complete_batch(asked, self._teller())
        except BaseException:
            if model.pending_batch(requests) is None:  # it was never taken
                self._end(key)
            raise
        for outcome in outcomes:
            if isinstance(outcome, Completion):
                self._run.ledger.settle(outcome.usage, price_of(outcome, model.name, batch=True))
        self._end(key)
        return outcomes

    def _begin(self, key: _Key, longest: int | None, end: Callable[[], None]) -> None:
        self._open[key] = longest, end
        self._run.handed_in = len(self._open)

    def _end(self, key: _Key) -> None:
        _, end = self._open.pop(key)
        end()
        self._run.handed_in = len(self._open)

    def _teller(self) -> Callable[[BatchNews], None]:
        """Notes for the user: at the start, when some are answered, and else rarely."""
        began, told, minutes = time.monotonic(), -1, 1

        def tell(news: BatchNews) -> None:
            nonlocal told, minutes
            passed = (time.monotonic() - began) / 60
            if news.done == told and passed < minutes:
                return
            while passed >= minutes:
                minutes *= 2
            if told < 0:
                how = "found again, where an earlier cell left it" if news.resumed else "handed in"
                text = (
                    f"batch {news.id}: {news.total:,} requests {how}; it takes minutes to hours, and goes on if stopped"
                )
            else:
                text = f"batch {news.id}: {news.done:,} of {news.total:,} requests have ended"
            told = news.done
            self._run.emit(ev.Note, iteration=self._run.where[0], text=text)

        return tell


def _key(model: Any, prompts: Sequence[str]) -> _Key:
    return model.name, tuple(Request((Message("user", prompt),), kind="sub", cache=False) for prompt in prompts)


def _note(call: Subcall, reply: Completion, price: float | None) -> None:
    call.reply, call.model, call.usage, call.cost = reply.text, reply.model, reply.usage, price
    call.error = "" if reply.text.strip() or reply.stop_reason == "max_tokens" else _EMPTY
    if reply.stop_reason == "refusal":
        call.error = "the model refused to answer"
