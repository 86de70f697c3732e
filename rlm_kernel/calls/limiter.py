"""How many sub-calls are made at the same time: fewer when the provider refuses some, and slowly more again.

Additive increase, multiplicative decrease, as TCP has it. Nobody waits by itself: while the provider wants to be left
alone nobody asks, then those that were refused are first. It is no lock for anything else: who has leave to ask needs
nothing more, so those that wait for it may hold what others wait for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rlm_kernel.errors import ModelError, RLMError

__all__ = ["Limiter"]

LONGEST_WAIT = 120.0
"""Seconds: a provider that asks for more is not waited for, nor one that has let nobody through for so long."""
COOLING = 30.0
"""Seconds for which no call is tried after that."""
_FIRST_WAIT, _LAST_WAIT = 0.5, 16.0
"""Seconds that are waited where the provider does not say, doubled each time."""
_ROUNDS_AT_EDGE = 10
"""Rounds of calls after which as many are tried as were too many; elsewhere there is one more after each round."""
_MOST_REFUSALS = 12
"""Of one call, while others get through: it may be too large for what the provider allows in a minute."""


class Limiter:
    """Gives leave to ask.

    Args:
        most: at the same time, however well it goes.

    Attributes:
        limit: at the same time, as it goes now.
        active: how many have leave now.
        cuts: how often the limit was cut. What was asked before the last cut says nothing about it.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self.active = 0
        self._refused: deque[asyncio.Future[None]] = deque()
        self._new: deque[asyncio.Future[None]] = deque()
        """Who waits for leave: those that were refused before, and those that were not asked yet."""
        self._opens = 0.0
        """When the provider may be asked again, by the loop's clock."""
        self._timer: asyncio.TimerHandle | None = None
        self._refused_at = most + 1
        """As many were too many."""
        self.cuts = 0
        self._vain = 0
        """Cuts since a call got through."""
        self._vain_since = 0.0
        self._given_up: tuple[float, str] | None = None

    def call(self) -> Call:
        """The pace of one call; see `models.attempts.Pace`."""
        return Call(self)

    async def enter(self, *, again: bool) -> None:
        """Wait for leave to ask; who was refused and asks `again` is before all others.

        Raises:
            ModelError: the provider lets nobody through.
        """
        if self._given_up is not None:
            until, why = self._given_up
            if asyncio.get_running_loop().time() < until:
                raise ModelError(why)
            self._given_up = None
        leave = asyncio.get_running_loop().create_future()
        (self._refused if again else self._new).append(leave)
        self._admit()
        try:
            await leave
        except asyncio.CancelledError:
            if leave.done() and not leave.cancelled() and leave.exception() is None:
                self.leave()
            raise

    def leave(self) -> None:
        """The attempt has ended."""
        self.active -= 1
        self._admit()

    def through(self) -> None:
        """The provider has answered one of `active`."""
        self._vain = 0
        if self.active < int(self.limit):
            return
        if self.limit >= self._refused_at:
            self._refused_at = self.most + 1  # it is not so any more
        rounds = 1 if self.limit + 1 < self._refused_at else _ROUNDS_AT_EDGE
        self.limit = min(float(self.most), self.limit + 1 / self.limit / rounds)

    def refused(self, began: int, error: RLMError, wait: float | None) -> None:
        """It has refused one of `active`, which was asked when `began` cuts had been made."""
        now = asyncio.get_running_loop().time()
        if began == self.cuts:
            self.cuts += 1
            self._refused_at = int(self.limit)
            self.limit = max(1.0, self.limit / 2)
            if not self._vain:
                self._vain_since = now
            self._vain += 1
        hopeless = self.active == 1 and self._vain > 1 and now - self._vain_since > LONGEST_WAIT
        if hopeless or (wait or 0.0) > LONGEST_WAIT:
            self._give_up(now + max(COOLING, wait or 0.0), str(error))
            return
        if wait is None:
            wait = min(_LAST_WAIT, _FIRST_WAIT * 2.0 ** (max(1, self._vain) - 1))
        self._opens = max(self._opens, now + wait)

    def _admit(self) -> None:
        """Let in as many as may."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while (waiting := self._refused or self._new) and self.active < int(self.limit):
            if loop.time() < self._opens:
                self._timer = loop.call_at(self._opens, self._admit)
                return
            leave = waiting.popleft()
            if not leave.done():
                self.active += 1
                leave.set_result(None)

    def _give_up(self, until: float, why: str) -> None:
        self._given_up = until, why
        self._vain = 0
        for waiting in (self._refused, self._new):
            for leave in waiting:
                if not leave.done():
                    leave.set_exception(ModelError(why))
            waiting.clear()


class Call:
    """The attempts of one call. Made by `Limiter.call`."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._refusals = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Attempt]:
        """See `models.attempts.Pace`."""
        await self._limiter.enter(again=self._refusals > 0)
        attempt = Attempt(self._limiter)
        try:
            yield attempt
            if attempt.error is None:
                self._limiter.through()
        finally:
            self._limiter.leave()
        if attempt.error is not None:
            self._refusals += 1
            if self._refusals == _MOST_REFUSALS:
                raise ModelError(f"{attempt.error} (after {self._refusals} attempts)")


class Attempt:
    """One attempt; see `models.attempts.Turn`."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._began = limiter.cuts
        self.error: RLMError | None = None

    def refused(self, error: RLMError, wait: float | None) -> None:
        """The provider wants fewer calls."""
        self.error = error
        self._limiter.refused(self._began, error, wait)
