"""How many sub-calls ask at the same time, beside a provider that refuses some. On a clock that takes no time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
import stamina

from rlm_kernel import ModelError
from rlm_kernel.calls.limiter import LONGEST_WAIT, Limiter
from rlm_kernel.models._failures import Service
from rlm_kernel.models._provider import once
from rlm_kernel.models.attempts import PACE
from tests.fakes.clock import in_no_time

SERVICE = Service("Provider", "model", "http://provider", "KEY", 60.0)


class RefusedError(Exception):
    """As an SDK raises it."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        super().__init__("slow down")
        self.status_code, self.message, self.headers = status, "slow down", headers
        self.response = self


@dataclass
class Provider:
    """Answers some calls at a time, each after a while, and refuses the others."""

    room: float = 10**9
    seconds: float = 1.0
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 429
    now: int = 0
    asked: list[float] = field(default_factory=list)
    """When."""
    refused: list[float] = field(default_factory=list)
    crowds: list[int] = field(default_factory=list)
    """How many were asked at the same time, at each call."""

    async def answer(self) -> str:
        time = asyncio.get_running_loop().time()
        self.asked.append(time)
        self.crowds.append(self.now + 1)
        if self.now >= self.room:
            await asyncio.sleep(0.01)
            self.refused.append(time)
            raise RefusedError(self.status, self.headers)
        self.now += 1
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.now -= 1
        return "ok"


async def call(limiter: Limiter, provider: Any, *, retries: int = 4) -> str:
    PACE.set(limiter.call())
    return await once(provider.answer, SERVICE, retries)


async def calls(limiter: Limiter, provider: Any, count: int, **more: Any) -> list[str | BaseException]:
    """So many calls at once; what came of each."""
    made = [asyncio.ensure_future(call(limiter, provider, **more)) for _ in range(count)]
    return await asyncio.gather(*made, return_exceptions=True)


def test_who_is_not_refused_is_not_held_up() -> None:
    """As many at a time as may be, from the first moment on."""
    provider, limiter = Provider(), Limiter(64)
    assert in_no_time(calls(limiter, provider, 640)) == ["ok"] * 640
    assert max(provider.crowds) == 64
    assert provider.asked[-1] == pytest.approx(9.0)


@pytest.mark.parametrize("room", [1, 2, 5, 20, 50])
@pytest.mark.parametrize("headers", [{}, {"retry-after": "2"}])
@pytest.mark.parametrize("status", [429, 529, 503])
def test_what_is_refused_comes_later_and_nothing_fails(room: int, headers: dict[str, str], status: int) -> None:
    """The number of calls falls to what the provider bears; few are refused after that."""
    provider, limiter = Provider(room, headers=headers, status=status), Limiter(64)
    assert in_no_time(calls(limiter, provider, 500)) == ["ok"] * 500
    converged = provider.asked[len(provider.asked) // 2]
    assert max(c for c, at in zip(provider.crowds, provider.asked, strict=True) if at > converged) <= room + 1
    assert len(provider.refused) < 64 * 2 + 500 / 5


def test_it_comes_back_when_the_provider_does() -> None:
    """By one more a round, up to where it was."""

    async def main() -> tuple[float, float]:
        provider, limiter = Provider(4), Limiter(16)
        await calls(limiter, provider, 60)
        low, provider.room = limiter.limit, 1000
        await calls(limiter, provider, 600)
        return low, limiter.limit

    low, high = in_no_time(main())
    assert low < 6
    assert high == 16


def test_calls_that_were_asked_together_cut_it_once() -> None:
    """Sixty refusals of one crowd are one piece of news."""
    provider, limiter = Provider(4), Limiter(64)

    async def main() -> float:
        work = asyncio.ensure_future(calls(limiter, provider, 64))
        await asyncio.sleep(0.1)
        limit = limiter.limit
        await work
        return limit

    assert in_no_time(main()) == 32


def test_while_the_provider_wants_to_be_left_alone_nobody_asks() -> None:
    """One refusal is heard by all: also by calls that were not made yet."""
    provider, limiter = Provider(2, seconds=0.5, headers={"retry-after": "7"}), Limiter(3)

    async def main() -> None:
        first = asyncio.ensure_future(calls(limiter, provider, 3))
        await asyncio.sleep(0.1)
        assert len(provider.refused) == 1
        await calls(limiter, provider, 5)
        await first

    in_no_time(main())
    assert [at for at in provider.asked if 0 < at < provider.refused[0] + 7] == []
    assert len(provider.asked) >= 9


def test_who_was_refused_is_before_the_others() -> None:
    """It has waited longest."""
    order: list[str] = []
    limiter = Limiter(1)

    class Once:
        def __init__(self, name: str, *, refused: bool = False) -> None:
            self.name, self.refused = name, refused

        async def answer(self) -> str:
            order.append(self.name)
            if self.refused:
                self.refused = False
                raise RefusedError(429, {"retry-after": "1"})
            return "ok"

    async def main() -> None:
        await asyncio.gather(*(call(limiter, Once(name, refused=name == "a")) for name in "abc"))

    in_no_time(main())
    assert order == ["a", "a", "b", "c"]


def test_other_failures_do_not_cut_it() -> None:
    """A broken connection says nothing about how many calls are welcome."""

    class Broken(Provider):
        async def answer(self) -> str:
            if len(self.asked) < 3:
                self.asked.append(0)
                raise OSError("broken")
            return await super().answer()

    limiter = Limiter(8)
    with stamina.set_testing(True, attempts=100, cap=True):
        assert in_no_time(calls(limiter, Broken(), 8)) == ["ok"] * 8
    assert limiter.limit == 8


def test_a_call_that_is_refused_again_and_again_fails_alone() -> None:
    """It may be too large for what may be asked in a minute; the others get through."""

    class Large(Provider):
        async def answer(self) -> str:
            self.asked.append(0)
            raise RefusedError(429, {"retry-after": "1"})

    limiter, large = Limiter(4), Large()

    async def main() -> list[Any]:
        return await asyncio.gather(call(limiter, large), calls(limiter, Provider(), 40), return_exceptions=True)

    failed, others = in_no_time(main())
    assert str(failed) == (
        "Provider limits the rate (429: slow down): wait a little, or make fewer calls at once (after 12 attempts)"
    )
    assert len(large.asked) == 12
    assert others == ["ok"] * 40


def test_a_model_without_retries_is_asked_once() -> None:
    """`max_retries=0` says so."""
    provider = Provider(0)
    (failed,) = in_no_time(calls(Limiter(4), provider, 1, retries=0))
    assert isinstance(failed, ModelError)
    assert len(provider.asked) == 1


@pytest.mark.parametrize("headers", [{}, {"retry-after": "50"}])
def test_when_nobody_gets_through_all_fail_together(headers: dict[str, str]) -> None:
    """After two minutes of it, not each call after its own; who comes then is not even tried, for a while."""
    provider, limiter = Provider(0, headers=headers), Limiter(64)

    async def main() -> tuple[list[Any], list[Any], list[Any]]:
        first = await calls(limiter, provider, 3_000)
        asked = len(provider.asked)
        second = await calls(limiter, provider, 10)
        assert len(provider.asked) == asked
        await asyncio.sleep(51)
        provider.room = 100
        return first, second, await calls(limiter, provider, 10)

    first, second, third = in_no_time(main())
    assert {str(error) for error in first + second} == {
        "Provider limits the rate (429: slow down): wait a little, or make fewer calls at once"
    }
    assert third == ["ok"] * 10
    assert LONGEST_WAIT < provider.refused[-1] < 2 * LONGEST_WAIT
    assert len(provider.asked) < 64 * 3


def test_a_provider_that_asks_for_an_hour_gets_it() -> None:
    """Nobody waits so long: all fail at once, with what it said, and until then nobody asks."""
    provider, limiter = Provider(0, headers={"retry-after": "3600"}), Limiter(8)

    async def main() -> tuple[list[Any], list[Any]]:
        return await calls(limiter, provider, 100), await calls(limiter, provider, 100)

    first, second = in_no_time(main())
    assert {str(error) for error in first + second} == {
        "Provider asks to wait 3600 s before the next call (429: slow down)"
    }
    assert len(provider.asked) == 8


def test_a_long_call_that_is_being_answered_is_hope() -> None:
    """The others wait for it however long it takes, though nobody else gets through."""
    provider, limiter = Provider(1, seconds=3 * LONGEST_WAIT), Limiter(4)
    assert in_no_time(calls(limiter, provider, 2)) == ["ok"] * 2


def test_who_is_cancelled_leaves_its_place() -> None:
    """Whether it waits, asks, or has just been let in."""

    async def main() -> int:
        provider, limiter = Provider(seconds=5), Limiter(2)
        made = [asyncio.ensure_future(call(limiter, provider)) for _ in range(6)]
        await asyncio.sleep(1)
        made[0].cancel()  # asks
        made[3].cancel()  # waits
        await asyncio.sleep(0)
        made[2].cancel()  # was let in this moment
        await asyncio.gather(*made, return_exceptions=True)
        assert [task.cancelled() for task in made] == [True, False, True, True, False, False]
        return limiter.active

    assert in_no_time(main()) == 0
