"""Anthropic's Message Batches: half the price, minutes to a day. Hands in, waits, collects.

A batch is paid for once it is handed in, so it is written down before (`_handed_in.py`), and whoever asks the same
again, after whatever happened, goes on with it. When nobody can tell whether it was taken, it is looked for.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from rlm_kernel.errors import ModelError
from rlm_kernel.models._handed_in import Entry, HandedIn
from rlm_kernel.models.batches import BatchNews

if TYPE_CHECKING:
    import anthropic
    from anthropic.types.messages import MessageBatch

    from rlm_kernel.models.base import Completion, Request
    from rlm_kernel.models.batches import OnNews

__all__ = ["MessageBatches", "digest"]

FIRST_LOOK = 2.0
"""Seconds after which it is looked whether the answers are there; half as long again each time."""
_LOOKED_AT = 20
"""Batches among which one is looked for that may have been taken."""
_SKEW = 300.0
"""Seconds by which clocks may differ."""

T = TypeVar("T")
Once = Callable[[Callable[[], Awaitable[T]]], Awaitable[T]]


def digest(requests: Sequence[Request], *whom: str) -> str:
    """What tells batches apart: everything that is asked but the longest reply, and who is asked."""
    found = hashlib.blake2b("\0".join(whom).encode("utf-8", "surrogatepass"), digest_size=16)
    for request in requests:
        found.update(repr((request.system, request.messages)).encode("utf-8", "surrogatepass"))
    return found.hexdigest()


class MessageBatches:
    """Batches of one client.

    Args:
        client: of the SDK.
        handed_in: remembers them.
        once: makes a request, again if that may help, and translates its errors.
        slowest: seconds between two looks, at most.
    """

    def __init__(self, client: anthropic.AsyncAnthropic, handed_in: HandedIn, once: Once[Any], slowest: float) -> None:
        self._api = client.messages.batches
        self._handed_in, self._once, self._slowest = handed_in, once, slowest

    async def complete(
        self,
        key: str,
        fields: Sequence[dict[str, Any]],
        read: Callable[[anthropic.types.Message], Completion],
        on_news: OnNews,
    ) -> Sequence[Completion | ModelError]:
        """The answers to the requests with these fields, of this digest."""
        batch = await self._find(key)
        resumed = batch is not None
        if batch is None:
            batch = await self._hand_in(key, fields)
        wait = min(FIRST_LOOK, self._slowest)
        while True:
            counts = batch.request_counts
            on_news(BatchNews(batch.id, len(fields) - counts.processing, len(fields), resumed))
            if batch.processing_status == "ended":
                break
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, self._slowest)
            batch = await self._look(batch.id)
        outcomes = await self._collect(batch.id, key, len(fields), read)
        self._handed_in.forget(key)
        return outcomes

    async def _look(self, name: str) -> MessageBatch:
        return await self._once(lambda: self._api.retrieve(name))  # type: ignore[no-any-return]  # T is Any

    async def _find(self, key: str) -> MessageBatch | None:
        """The batch that was handed in before, if it can still be had."""
        entry = self._handed_in.find(key)
        if entry is None:
            return None
        if not entry.id:  # nobody lived to hear that it was taken, or that it was not
            batch = await self._once(lambda: self._search(entry))
        else:
            batch = await self._once(lambda: self._still_there(entry.id))
        if batch is None:
            self._handed_in.forget(key)
        elif not entry.id:
            self._handed_in.save(key, replace(entry, id=batch.id))
        return batch  # type: ignore[no-any-return]  # T is Any

    async def _still_there(self, name: str) -> MessageBatch | None:
        import anthropic

        try:
            batch = await self._api.retrieve(name)
        except anthropic.NotFoundError:
            return None
        return None if batch.archived_at is not None else batch

    async def _search(self, entry: Entry) -> MessageBatch | None:
        """A batch that was taken since this one began to be handed in, and is as large."""
        seen = 0
        async for batch in self._api.list(limit=_LOOKED_AT):
            counts = batch.request_counts
            size = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
            if batch.created_at.timestamp() < entry.began - _SKEW or seen == _LOOKED_AT:
                return None
            if size == entry.requests:
                return batch
            seen += 1
        return None

    async def _hand_in(self, key: str, fields: Sequence[dict[str, Any]]) -> MessageBatch:
        entry = Entry("", time.time(), len(fields), max(each["max_tokens"] for each in fields))
        self._handed_in.save(key, entry)
        requests: list[Any] = [{"custom_id": f"{key[:16]}-{n}", "params": _flat(each)} for n, each in enumerate(fields)]
        tried = False

        async def create() -> MessageBatch:
            nonlocal tried
            if tried and (taken := await self._search(entry)) is not None:
                return taken
            tried = True
            return await self._api.create(requests=requests)

        try:
            batch: MessageBatch = await self._once(create)
        except ModelError:
            if await self._was_refused(entry):
                self._handed_in.forget(key)
            raise
        self._handed_in.save(key, replace(entry, id=batch.id))
        return batch

    async def _was_refused(self, entry: Entry) -> bool:
        """Whether it is known that the batch was not taken, after an error; where that cannot be seen, it is not."""
        try:
            return await self._search(entry) is None
        except Exception:  # noqa: BLE001 - the next one who asks will look again
            return False

    async def _collect(
        self, name: str, key: str, count: int, read: Callable[[anthropic.types.Message], Completion]
    ) -> Sequence[Completion | ModelError]:
        async def collect() -> dict[str, Completion | ModelError]:
            found: dict[str, Completion | ModelError] = {}
            async for line in await self._api.results(name):
                result = line.result
                found[line.custom_id] = read(result.message) if result.type == "succeeded" else _failed(result)
            return found

        found = await self._once(collect)
        outcomes = [found.get(f"{key[:16]}-{n}") for n in range(count)]
        if not any(outcomes):
            self._handed_in.forget(key)
            raise ModelError(f"the batch {name} holds no answer to these requests: ask again to hand them in anew")
        return [ModelError(f"the batch {name} has no answer to this") if each is None else each for each in outcomes]


def _flat(fields: dict[str, Any]) -> dict[str, Any]:
    """A request's fields as they are in a batch: what the SDK adds to a body by itself is added here."""
    return {**{name: value for name, value in fields.items() if name != "extra_body"}, **fields.get("extra_body", {})}


def _failed(result: Any) -> ModelError:
    if result.type == "canceled":
        return ModelError("the batch was cancelled before this was answered: ask again")
    if result.type == "expired":
        return ModelError("the batch ran out of its time, a day, before this was answered: ask again")
    error = result.error.error
    return ModelError(f"Anthropic could not answer this ({error.type}: {' '.join(str(error.message).split())[:300]})")
