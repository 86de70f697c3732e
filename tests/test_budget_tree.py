"""A budget holds over a whole tree of runs, whatever its calls do and in whatever order they do it.

Random trees of accounts are asked for random calls, which hypothesis lets end, fail, break off and be cancelled in an
order of its choosing. Between any two steps of the event loop's work everything below is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from rlm_kernel import Options, Usage
from rlm_kernel.asking import ask
from rlm_kernel.budget import Estimate, Ledger, OverdrawnError
from rlm_kernel.errors import ModelError
from rlm_kernel.granting import LEAST_OUTPUT, grant, grant_batch, most
from rlm_kernel.models.attempts import METER
from rlm_kernel.models.base import Completion, Delta, Message, Request
from rlm_kernel.models.prices import cost
from tests.helpers import in_loop

EPSILON = 1e-8
"""Dollars: more than sums of floats err, less than any call costs."""
PRICED, UNPRICED = "claude-haiku-5-5", "nobody-knows"
LONGEST = 4_000


@dataclass
class Asked:
    """A call that a model was asked, and waits to be told what becomes of it."""

    model: str
    request: Request
    tokens: int
    """Of its input, in truth."""
    on_delta: Callable[[Delta], None] | None
    outcome: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def usage(self, output: float, cached: float) -> Usage:
        """What an attempt takes, as shares: of the longest reply, and of the input that was cached one way or other."""
        said = int(output * (self.request.max_tokens or LONGEST))
        half = int(cached * self.tokens)
        return Usage(self.tokens - half, said, half // 2, half - half // 2 if self.request.cache else 0)


class Model:
    """Keeps to what it is asked for, and answers when it is told to."""

    max_tokens = LONGEST

    def __init__(self, name: str, asked: list[Asked], *, density: int, counts: bool) -> None:
        self.name = name
        self._asked, self._density = asked, density
        if counts:
            self.count_tokens = self._count

    async def _count(self, request: Request) -> int:
        await asyncio.sleep(0)
        return len(request.messages[0].content) // self._density

    async def complete(self, request: Request, on_delta: Any = None) -> Completion:
        call = Asked(self.name, request, len(request.messages[0].content) // self._density, on_delta)
        self._asked.append(call)
        try:
            while True:
                what = await call.outcome
                call.outcome = asyncio.get_running_loop().create_future()
                if isinstance(what, Exception):
                    raise what
                if isinstance(what, Completion):
                    return what
                meter = METER.get()
                assert meter is not None
                if not meter.abandoned(what):
                    raise ModelError("the budget has too little left to ask again")
        finally:
            self._asked.remove(call)

    async def close(self) -> None:
        """Nothing to release."""


class Tree(RuleBasedStateMachine):
    """Accounts, and the calls that are made from them."""

    accounts: Bundle[Ledger] = Bundle("accounts")

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Ledger] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.asked: list[Asked] = []
        self.handed_in: list[tuple[Ledger, list[tuple[int, int]], Callable[[], None]]] = []

    def settle(self) -> None:
        """Let the event loop do all that it can; every step of it is looked at."""

        async def turn() -> None:
            for _ in range(8):
                await asyncio.sleep(0)
                self.nothing_is_overspent()

        in_loop(turn())
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            if not task.cancelled():
                error = task.exception()
                assert error is None or isinstance(error, OverdrawnError | ModelError), error

    # -- what happens -----------------------------------------------------------------------------------------
    @initialize(
        target=accounts,
        usd=st.none() | st.floats(0.0, 0.02),
        tokens=st.none() | st.integers(1, 60_000),
    )
    def begin(self, usd: float | None, tokens: int | None) -> Ledger:
        self.all.append(Ledger(Options(budget=usd, max_tokens=tokens)))
        return self.all[-1]

    @rule(target=accounts, above=accounts, waiting=st.integers(1, 4))
    def open_a_child(self, above: Ledger, waiting: int) -> Ledger:
        self.all.append(above.open_child(Options(), waiting=waiting, at_once=2))
        return self.all[-1]

    @rule(
        account=accounts,
        chars=st.integers(1, 9_000),
        density=st.integers(1, 5),
        counts=st.booleans(),
        name=st.sampled_from([PRICED, PRICED, PRICED, UNPRICED]),
        count=st.integers(1, 5),
        cache=st.booleans(),
        last=st.booleans(),
    )
    def call(
        self, account: Ledger, chars: int, density: int, counts: bool, name: str, count: int, cache: bool, last: bool
    ) -> None:
        """One call, or a batch of them."""
        model = Model(name, self.asked, density=density, counts=counts)
        request = Request((Message("user", "x" * chars),), cache=cache)

        async def one() -> None:
            granted = await grant(model, request, account, last=True) if last else None
            await asyncio.sleep(0)  # others may come in between
            await ask(model, request, account, granted=granted)

        async def start() -> None:
            self.tasks += [asyncio.create_task(one()) for _ in range(count)]

        in_loop(start())
        self.settle()

    @rule(account=accounts, chars=st.integers(1, 3_000), count=st.integers(1, 5))
    def hand_in(self, account: Ledger, chars: int, count: int) -> None:
        """A batch for the provider's batch service, which goes on whoever waits for it."""
        model = Model(PRICED, self.asked, density=1, counts=False)
        requests = [Request((Message("user", "x" * chars),), cache=False)] * count

        async def one() -> None:
            granted = grant_batch(model, requests, account, None)
            await asyncio.sleep(0)  # others may come in between
            async with account.reserved(granted.estimate) as reservation:
                longest = granted.max_tokens or LONGEST
                self.handed_in.append((account, [(chars, longest)] * count, reservation.commit()))

        async def start() -> None:
            self.tasks.append(asyncio.create_task(one()))

        in_loop(start())
        self.settle()

    @precondition(lambda self: self.handed_in)
    @rule(which=st.integers(0), output=st.floats(0, 1))
    def collect(self, which: int, output: float) -> None:
        """It was answered."""
        account, calls, end = self.handed_in.pop(which % len(self.handed_in))
        for tokens, longest in calls:
            usage = Usage(tokens, int(output * longest))
            account.settle(usage, cost(usage, PRICED, batch=True))
        end()
        self.settle()

    @rule(account=accounts, tokens=st.integers(0, 20_000))
    def hold(self, account: Ledger, tokens: int) -> None:
        """Something is kept for the last call, if it is there."""
        estimate = most(Model(PRICED, [], density=1, counts=False), tokens, LEAST_OUTPUT, cache=True)
        if account.short_of(estimate) is None:
            account.hold(estimate)
        self.settle()

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0), output=st.floats(0, 1), cached=st.floats(0, 1))
    def reply(self, which: int, output: float, cached: float) -> None:
        call = self.asked[which % len(self.asked)]
        call.outcome.set_result(Completion("ok", call.model, call.usage(output, cached)))
        self.settle()

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0), received=st.integers(0, 20_000))
    def fail(self, which: int, received: int) -> None:
        """After some of the reply has come."""
        call = self.asked[which % len(self.asked)]
        if call.on_delta is not None:
            call.on_delta(Delta("x" * received))
        call.outcome.set_exception(ModelError("overloaded"))
        self.settle()

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0), output=st.floats(0, 1), cached=st.floats(0, 1))
    def break_off(self, which: int, output: float, cached: float) -> None:
        """The stream breaks and, if that can be paid for, is asked for again."""
        call = self.asked[which % len(self.asked)]
        call.outcome.set_result(call.usage(output, cached))
        self.settle()

    @precondition(lambda self: self.tasks)
    @rule(which=st.integers(0), received=st.integers(0, 20_000))
    def cancel(self, which: int, received: int) -> None:
        """Any call, also one that waits."""
        for call in self.asked[:1]:
            if call.on_delta is not None:
                call.on_delta(Delta("x" * received))
        self.tasks[which % len(self.tasks)].cancel()
        self.settle()

    # -- what holds -------------------------------------------------------------------------------------------
    @invariant()
    def nothing_is_overspent(self) -> None:
        """At no moment has an account taken more than it may, nor could it if every call took all that it may."""
        for account in self.all:
            limits, busy = account.limits, account._busy + account._committed
            if limits.tokens is not None:
                assert account.usage.total_tokens + busy.tokens <= limits.tokens
            if limits.usd is not None:
                assert account.cost + (busy.usd or 0.0) <= limits.usd + EPSILON

    @invariant()
    def nobody_waits_for_ever(self) -> None:
        """Who waits, waits for a call that is being made."""
        assert self.asked or not self.tasks

    @invariant()
    def what_is_above_has_all_of_what_is_below(self) -> None:
        """An account holds its own calls and those of every account below it."""
        for account in self.all:
            if account.above is not None:
                assert account.usage.total_tokens <= account.above.usage.total_tokens
                assert account._busy.tokens <= account.above._busy.tokens

    @invariant()
    def without_calls_nothing_is_reserved(self) -> None:
        """Whatever became of them."""
        if not self.tasks:
            assert [account._busy for account in self.all] == [Estimate()] * len(self.all)

    def teardown(self) -> None:
        try:
            while self.asked:
                self.reply(0, 1.0, 0.0)
            while self.handed_in:
                self.collect(0, 1.0)
            self.nobody_waits_for_ever()
            self.without_calls_nothing_is_reserved()
            for account in self.all:
                assert account._committed.tokens == 0
                assert account._committed.usd == pytest.approx(0.0, abs=EPSILON)
        finally:
            for task in self.tasks:
                task.cancel()
            self.settle()


TestTree = pytest.mark.timeout(600)(Tree.TestCase)  # when it fails it is made short, which takes a while
TestTree.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
