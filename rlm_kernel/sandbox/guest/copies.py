"""When the kernel leaves a copy of itself behind: once it is a sandbox and after each step, while the host is thinking.

A step is a cell that has run or variables that were loaded; the host counts them too. Where the kernel cannot be copied
(another kernelspec, another machine) none of this is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

_AFTER_SECONDS = 0.002
"""The reply goes out first."""
_BUSY_SECONDS = 0.05


class Copies:
    """Has the kernel copied when it is due.

    Args:
        kernel: whose app can do it.
        woken: called in a copy that has become the kernel, with its event loop.
    """

    def __init__(self, kernel: Any, woken: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        self._app = kernel.parent
        self._woken = woken
        self._steps = 0
        self._due = True
        self._timer: asyncio.TimerHandle | None = None
        handler = kernel.shell_handlers["execute_request"]

        async def execute_request(*message: Any) -> None:
            self._make(last=True)  # a cell that comes sooner than the copy was made has to wait for it
            await handler(*message)

        kernel.shell_handlers["execute_request"] = execute_request
        self._app.arm(self._wake)
        self._soon(_AFTER_SECONDS)

    def due(self) -> None:
        """A step was made."""
        self._steps += 1
        self._due = True
        self._soon(_AFTER_SECONDS)

    def _soon(self, seconds: float) -> None:
        if self._timer is not None:  # it would run with the context variables of an earlier step
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._make)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due, self._timer = True, None  # this copy is used up
        self._woken(loop)

    def _make(self, *, last: bool = False) -> None:
        if self._due:
            self._due = False
            try:
                done = self._app.checkpoint(self._steps, patient=not last)
            except Exception:  # noqa: BLE001 - no process is left to be made, or the code broke what it takes
                done = True
            if not done:
                self._due = True
                self._soon(_BUSY_SECONDS)
