"""Waits, but not past what ends a run: a stop, the time limit, or an error that no model can mend."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal, TypeVar

from rlm_kernel.budget import Ledger
from rlm_kernel.errors import RLMError
from rlm_kernel.events import StopReason
from rlm_kernel.prompt import CellReport

__all__ = ["EndError", "Guard", "Outcome", "settle"]

T = TypeVar("T")
Outcome = Literal["done", "stopped", "late", "fatal"]

FINAL_SECONDS = 120.0
"""How long the last model call and its cell may take when a limit was reached."""
FINAL_LEAST_SECONDS = 10.0
"""The same for a run whose own limit is shorter than that."""


class EndError(Exception):
    """The run ends here, and why."""

    def __init__(self, reason: StopReason, detail: str = "") -> None:
        super().__init__(detail)
        self.reason: StopReason = reason
        self.detail = detail
        self.reports: list[CellReport] = []
        """The cells of the turn that was cut short."""


class Guard:
    """What may end a run while it waits.

    Args:
        ledger: knows the time limit.
        fatal: an error of a sub-call that has to end the run, once there is one.
    """

    def __init__(self, ledger: Ledger, fatal: asyncio.Future[RLMError]) -> None:
        self._ledger, self._fatal = ledger, fatal
        self._stop = asyncio.Event()
        self._final_deadline: float | None = None

    def stop(self) -> None:
        """End the wait, and every later one."""
        self._stop.set()

    def check(self) -> None:
        """Go on only if nobody has stopped the run.

        Raises:
            EndError: somebody has.
        """
        if self._stop.is_set():
            raise self.end("stopped")

    def begin_final(self) -> None:
        """A limit was reached: from now on the time for the last answer counts."""
        timeout = self._ledger.limits.seconds
        seconds = FINAL_SECONDS if timeout is None else min(FINAL_SECONDS, max(FINAL_LEAST_SECONDS, timeout))
        self._final_deadline = time.monotonic() + seconds

    def seconds_left(self) -> float | None:
        """Until the run has to end; None without a limit."""
        if self._final_deadline is not None:
            return max(0.0, self._final_deadline - time.monotonic())
        return self._ledger.seconds_left

    async def wait(self, work: asyncio.Future[Any], seconds: float | None) -> Outcome:
        """Wait for `work`, at most `seconds`. Whatever comes of it, `work` is left alone."""
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([work, stopping, self._fatal], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if self._fatal.done():
            return "fatal"
        return "done" if work.done() else "stopped" if self._stop.is_set() else "late"

    async def result(self, work: asyncio.Future[T]) -> T:
        """The result of `work`, unless something ends the run first.

        Raises:
            EndError: the run was stopped, or its time is over.
            RLMError: a sub-call met an error that ends the run.
        """
        outcome = await self.wait(work, self.seconds_left())
        if outcome == "done":
            return work.result()
        work.add_done_callback(_heard)
        raise self.end(outcome)

    def end(self, outcome: Outcome) -> EndError | RLMError:
        """What ends the run after this outcome."""
        match outcome:
            case "fatal":
                return self._fatal.result()
            case "stopped":
                return EndError("interrupted", "stopped by the user")
        limit = self._ledger.limits.seconds or FINAL_SECONDS
        return EndError("timeout", f"the time limit of {limit:g} s was reached")


async def settle(work: asyncio.Future[Any]) -> None:
    """Cancel what is still going on and wait until it has ended, whatever comes of it."""
    work.add_done_callback(_heard)
    work.cancel()
    await asyncio.wait([work])


def _heard(work: asyncio.Future[Any]) -> None:
    """Nobody waits for this any more, so its error must not be reported as forgotten."""
    if not work.cancelled():
        work.exception()
