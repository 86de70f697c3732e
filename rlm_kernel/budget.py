"""What a question may spend, and has spent: an account for each run, in a tree as the runs are.

Before a model is asked, the most that it can take is reserved in the run's account and in every one above; what it
really took then stands in its place. Looking and taking are one step of one event loop, so calls at the same time
cannot overspend together. What the last call for an answer can take is held back all the while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from rlm_kernel.config import Options
from rlm_kernel.events import StopReason
from rlm_kernel.limits import Estimate, Limits, OverdrawnError
from rlm_kernel.usage import Usage

__all__ = ["Estimate", "Ledger", "Limits", "OverdrawnError", "Reservation"]

CHILDREN_SHARE = 0.9
"""Of what is left, for all the children that wait together; the rest is the asking run's."""


class Ledger:
    """The account of one run.

    Args:
        options: the run's.
        limits: what it may spend; without, what the options say.
        above: the account of the run that asked for this one.
        started: when the outermost run began, by the monotonic clock, in seconds.

    Attributes:
        iterations: turns that were begun.
        errors: turns with an error, one after another, up to now.
        subcalls: sub-calls of this run and those below.
        usage: tokens of this run and those below.
        cost: USD of the calls whose price is known.
        unpriced: there were others.
        refused: a limit was met by a sub-call: the run ends after its cell.
    """

    def __init__(
        self,
        options: Options,
        *,
        limits: Limits | None = None,
        above: Ledger | None = None,
        started: float | None = None,
    ) -> None:
        self.options = options
        self.limits = Limits.of(options) if limits is None else limits
        self.above = above
        self.started = time.monotonic() if started is None else started
        self._began = self.started if above is None else time.monotonic()
        self.iterations = self.errors = self.subcalls = 0
        self.usage, self.cost, self.unpriced = Usage(), 0.0, False
        self.refused: tuple[StopReason, str] | None = None
        self._busy = Estimate()
        """Of the calls that are being made."""
        self._busy_calls = 0
        self._committed = Estimate()
        """Of what goes on whether or not anybody waits for it."""
        self._held = Estimate()
        self._below: list[Ledger] = []
        self._released = asyncio.Event()
        """Of the outermost account: a reservation has ended."""

    def _lineage(self) -> Iterator[Ledger]:
        """This account and those above it."""
        account: Ledger | None = self
        while account is not None:
            yield account
            account = account.above

    @property
    def _top(self) -> Ledger:
        return self if self.above is None else self.above._top

    # -- asking models ----------------------------------------------------------------------------------------
    @property
    def limited(self) -> bool:
        """Whether dollars or tokens are limited, here or above."""
        return any(a.limits.usd is not None or a.limits.tokens is not None for a in self._lineage())

    def hold(self, estimate: Estimate) -> None:
        """Keep this much back for the last call of this run, instead of what was kept back before."""
        self._held = estimate

    @asynccontextmanager
    async def reserved(self, estimate: Estimate, *, last: bool = False) -> AsyncIterator[Reservation]:
        """Reserve for the length of one call, waiting for other calls to end where all that is left is reserved.

        Args:
            estimate: the most that the call can take.
            last: it is the call that something was held back for.

        Raises:
            OverdrawnError: it would not fit even if no other call were being made.
        """
        reservation = Reservation(self, last=last)
        while not reservation.extend(estimate):
            if short := self.short_of(estimate, last=last):
                raise OverdrawnError(*short)
            released = self._top._released
            released.clear()
            await released.wait()
        try:
            yield reservation
        finally:
            reservation.release()
            self._top._released.set()

    def short_of(self, estimate: Estimate, *, last: bool = False) -> tuple[StopReason, str] | None:
        """The limit that this call would break though no other were being made, and a line about it."""
        for account in self._lineage():
            if short := account._short(estimate, Estimate(), held=not (last and account is self)):
                return short
        return None

    def _short(self, wanted: Estimate, busy: Estimate, *, held: bool) -> tuple[StopReason, str] | None:
        if self.limits.tokens is None and self.limits.usd is None:
            return None
        kept = (self._held if held else Estimate()) + self._committed + busy
        return self.limits.short(wanted, Estimate(self.usage.total_tokens, self.cost), kept)

    def settle(self, usage: Usage, cost: float | None) -> None:
        """Add what a call really took, here and in every account above."""
        for account in self._lineage():
            account.usage += usage
            if cost is None:
                account.unpriced = account.unpriced or usage.total_tokens > 0
            else:
                account.cost += cost

    @property
    def total_cost(self) -> float | None:
        """USD; None when the price of a model is not known."""
        return None if self.unpriced else self.cost

    def usd_left(self) -> float | None:
        """Of this run's limit; None without one, or where prices are not known."""
        return None if self.limits.usd is None or self.unpriced else max(0.0, self.limits.usd - self.cost)

    def tokens_left(self) -> int | None:
        """Of this run's limit; None without one."""
        return None if self.limits.tokens is None else max(0, self.limits.tokens - self.usage.total_tokens)

    # -- sub-calls --------------------------------------------------------------------------------------------
    def charge_subcalls(self, count: int) -> None:
        """Take `count` sub-calls, or none.

        Raises:
            OverdrawnError: fewer are left; the text is for the model.
        """
        left, allowed = self.subcalls_left, self.subcalls_allowed
        if count > left:
            if left == 0:
                self.refuse("max_llm_calls", f"all {allowed} sub-calls were used")
                raise OverdrawnError(
                    "max_llm_calls", f"no sub-call is left, all {allowed} are used: answer from what you have"
                )
            raise OverdrawnError(
                "max_llm_calls",
                f"{count:,} sub-calls were asked for but {left:,} of {allowed:,} are left; none was made",
            )
        for account in self._lineage():
            account.subcalls += count

    def return_subcalls(self, count: int) -> None:
        """Give back what was charged and not made."""
        for account in self._lineage():
            account.subcalls -= count

    def refuse(self, reason: StopReason, detail: str) -> None:
        """A sub-call met a limit of this run: it ends after its cell. The first such limit is the reason."""
        self.refused = self.refused or (reason, detail)

    @property
    def subcalls_allowed(self) -> int:
        """For the whole tree."""
        return min(a.limits.calls for a in self._lineage() if a.limits.calls is not None)

    @property
    def subcalls_left(self) -> int:
        """Sub-calls that may still be made."""
        return max(0, min(a.limits.calls - a.subcalls for a in self._lineage() if a.limits.calls is not None))

    # -- child runs -------------------------------------------------------------------------------------------
    def open_child(self, options: Options, *, waiting: int, at_once: int) -> Ledger:
        """The account of a child run that begins now, with its share of the dollars, tokens and seconds that are left.

        Args:
            options: the child's.
            waiting: how many children of the same call have not begun, this one included: each gets as much.
            at_once: how many of them run at the same time; the others have to wait for time that is theirs too.
        """
        below = sum((b._busy + b._committed for b in self._below), Estimate())  # which is part of what they were given
        kept = self._held + self._busy + self._committed - below
        share = CHILDREN_SHARE / waiting
        usd = tokens = None
        if self.limits.usd is not None:
            given = sum(b.limits.usd - b.cost for b in self._below if b.limits.usd is not None)
            usd = max(0.0, self.limits.usd - self.cost - (kept.usd or 0.0) - given) * share
        if self.limits.tokens is not None:
            given_tokens = sum(
                b.limits.tokens - b.usage.total_tokens for b in self._below if b.limits.tokens is not None
            )
            tokens = int(max(0, self.limits.tokens - self.usage.total_tokens - kept.tokens - given_tokens) * share)
        seconds = self.seconds_left
        if seconds is not None:
            seconds *= CHILDREN_SHARE / -(-waiting // max(1, at_once))
        child = Ledger(options, limits=Limits(usd, tokens, None, seconds), above=self, started=self.started)
        self._below.append(child)
        return child

    def close_child(self, child: Ledger) -> None:
        """It has ended: what it did not spend can be spent by others."""
        self._below.remove(child)

    # -- time and turns ---------------------------------------------------------------------------------------
    @property
    def seconds(self) -> float:
        """Since the outermost run started."""
        return time.monotonic() - self.started

    @property
    def seconds_left(self) -> float | None:
        """Until the run has to end; None without a limit."""
        limit = self.limits.seconds
        return None if limit is None else max(0.0, limit - (time.monotonic() - self._began))

    def exhausted(self) -> tuple[StopReason, str] | None:
        """The limit that has been reached, and a line about it; None when the run may go on."""
        options = self.options
        if self.seconds_left == 0.0:
            return "timeout", f"the time limit of {self.limits.seconds:g} s was reached"
        if self.errors >= options.max_errors:
            return "max_errors", f"{self.errors} turns in a row ended in an error"
        if self.refused is not None:
            return self.refused
        if self.iterations >= options.max_iterations:
            return "max_iterations", f"all {options.max_iterations} iterations were used"
        return None


class Reservation:
    """What is reserved for one call, in its run's account and in those above. Made by `Ledger.reserved`."""

    def __init__(self, ledger: Ledger, *, last: bool) -> None:
        self._ledger, self._last = ledger, last
        self._estimate: Estimate | None = None

    def extend(self, estimate: Estimate) -> bool:
        """Reserve this too, if it can be done without waiting. Whether it could."""
        accounts = list(self._ledger._lineage())
        if any(a._short(estimate, a._busy, held=not (self._last and a is self._ledger)) for a in accounts):
            return False
        for account in accounts:
            account._busy_calls += self._estimate is None
            account._busy += estimate
        self._estimate = estimate if self._estimate is None else self._estimate + estimate
        return True

    def release(self) -> None:
        """The call has ended."""
        if self._estimate is not None:
            for account in self._ledger._lineage():
                account._busy_calls -= 1
                # exactly nothing when there is nothing: sums of dollars in another order differ a little
                account._busy = account._busy - self._estimate if account._busy_calls else Estimate()
            self._estimate = None

    def commit(self) -> Callable[[], None]:
        """Set it aside beyond the call, for what goes on whether or not anybody waits for it. Returns what ends that.

        Nobody waits for it to end: it may take hours, and what needs it is refused.
        """
        accounts, estimate = list(self._ledger._lineage()), self._estimate or Estimate()
        self.release()
        for account in accounts:
            account._committed += estimate

        def end() -> None:
            for account in accounts:
                account._committed -= estimate

        return end
