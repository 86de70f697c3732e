"""Work that is not to hold up the loop: coroutines that block theirs, endings that take long."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["Aside", "wait_a_while"]

_T = TypeVar("_T")


class Aside:
    """Runs coroutines elsewhere; `close` it."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def run(self, work: Awaitable[_T]) -> _T:
        """The result of a coroutine; cancelling this cancels it, as soon as it lets itself be cancelled."""

        async def wait() -> _T:
            return await work

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(wait(), self._loop))

    def close(self) -> None:
        """Run nothing more. Does not wait."""
        self._loop.call_soon_threadsafe(self._loop.stop)


async def wait_a_while(task: asyncio.Task[None], seconds: float) -> None:
    """Wait for a task; one that takes longer goes on by itself, also where the waiting is cancelled."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(task), seconds)
