"""A sandbox that is not sent again what it holds already.

Only values that cannot change are left out, by identity: a text of 1 GB that the next question is about as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlm_kernel.sandbox.base import CellResult, Handler, OnChunk, Sandbox

__all__ = ["Holding"]

_IMMUTABLE = (str, bytes, int, float, complex, bool, type(None))


class Holding:
    """A `Sandbox` around another one, which remembers what that one holds.

    Args:
        inner: does the work.
    """

    def __init__(self, inner: Sandbox) -> None:
        self.inner = inner
        self._staged: dict[str, Any] = {}
        self._held: dict[str, Any] = {}

    async def put(self, variables: Mapping[str, Any]) -> None:
        """Stage what is not there yet."""
        missing = {k: v for k, v in variables.items() if k not in self._held or self._held[k] is not v}
        await self.inner.put(missing)
        self._staged.update(missing)

    async def start(self, handler: Handler) -> None:
        """Start and deliver; what was delivered is held from now on."""
        staged, self._staged = self._staged, {}
        try:
            await self.inner.start(handler)
        except BaseException:  # stopped on the way, even: nobody knows what arrived
            self._held.clear()
            raise
        for name, value in staged.items():
            self._held.pop(name, None)
            if type(value) in _IMMUTABLE:
                self._held[name] = value

    async def execute(self, code: str, on_chunk: OnChunk) -> CellResult:
        """Run a cell; what it changed is no longer held."""
        result = await self.inner.execute(code, on_chunk)
        if result.status == "died":
            self._held.clear()
        for name in (*(v.name for v in result.changed), *result.removed):
            self._held.pop(name, None)
        return result

    async def interrupt(self) -> None:
        """Stop the running cell."""
        await self.inner.interrupt()

    async def shutdown(self) -> None:
        """End it; nothing is held any more."""
        self._held.clear()
        self._staged.clear()
        await self.inner.shutdown()
