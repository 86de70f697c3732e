"""The loop in the background, and what a caller gets of it."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from rlm_kernel import InterruptedRunError, background


def numbers(count: int) -> Callable[[Callable[[Any], None]], Any]:
    async def work(emit: Callable[[Any], None]) -> str:
        for number in range(count):
            emit(number)
            await asyncio.sleep(0)
        return "done"

    return work


class Endless:
    """Work that goes on until it is stopped."""

    def __init__(self) -> None:
        self.stops = 0
        self.ended = False

    async def work(self, emit: Callable[[Any], None]) -> str:
        self._over = asyncio.Event()
        emit("started")
        await self._over.wait()
        emit("late")
        self.ended = True
        return "partial"

    def stop(self) -> None:
        self.stops += 1
        background.loop().call_soon_threadsafe(self._over.set)


def nothing() -> None:
    pass


def test_there_is_one_loop_in_one_thread() -> None:
    """However often and from wherever it is asked for."""

    async def where() -> tuple[int, str]:
        return id(asyncio.get_running_loop()), threading.current_thread().name

    found: list[tuple[int, str]] = [background.call(where())]
    thread = threading.Thread(target=lambda: found.append(background.call(where())))
    thread.start()
    thread.join()
    assert {(id(background.loop()), "rlm_kernel")} == set(found)


def test_a_call_returns_or_raises() -> None:
    """What the coroutine does reaches the caller."""

    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        background.call(fail())


def test_events_are_delivered_in_order_in_the_callers_thread() -> None:
    """All of them, before the result is returned."""
    got: list[tuple[int, str]] = []
    result = background.drain(numbers(50), lambda e: got.append((e, threading.current_thread().name)), nothing)
    assert ("done", list(range(50))) == (result, [e for e, _ in got])
    assert {threading.current_thread().name} == {name for _, name in got}


def test_a_loop_that_runs_is_no_hindrance() -> None:
    """A notebook's main thread has one."""

    async def main() -> str:
        return background.drain(numbers(3), lambda e: None, nothing)

    assert asyncio.run(main()) == "done"


def test_a_failing_receiver_stops_the_work_and_is_raised() -> None:
    """The work ends in its own way first; nothing more is delivered."""
    endless, got = Endless(), []

    def deliver(event: Any) -> None:
        got.append(event)
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        background.drain(endless.work, deliver, endless.stop)
    assert (endless.stops, endless.ended, got) == (1, True, ["started"])


def test_an_interrupt_stops_the_work_and_is_raised_with_its_result() -> None:
    """A SIGINT while the caller waits: the work ends in its own way, and what it returns is in the error."""
    endless, got = Endless(), []

    def deliver(event: Any) -> None:
        got.append(event)
        if event == "started":
            main = threading.main_thread().ident
            assert main is not None
            threading.Thread(target=lambda: signal.pthread_kill(main, signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt) as caught:
        background.drain(endless.work, deliver, endless.stop)
    assert isinstance(caught.value, InterruptedRunError)
    assert caught.value.result == "partial"
    assert (endless.stops, endless.ended, got) == (1, True, ["started", "late"])


def test_an_interrupt_in_a_receiver_is_an_interrupt() -> None:
    """It counts wherever in the caller's thread it comes."""
    endless = Endless()

    def deliver(event: Any) -> None:
        if event == "started":
            raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError):
        background.drain(endless.work, deliver, endless.stop)
    assert endless.ended


def test_a_second_interrupt_asks_again() -> None:
    """Impatience does not leave the work behind."""
    endless, asked = Endless(), []

    def stop() -> None:
        asked.append(1)
        if len(asked) == 1:
            threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGINT)).start()
        else:
            endless.stop()

    def deliver(event: Any) -> None:
        if event == "started":
            raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError):
        background.drain(endless.work, deliver, stop)
    assert (endless.ended, len(asked)) == (True, 2)


def test_an_interrupt_while_another_is_being_handled_is_not_let_out() -> None:
    """Wherever the second one strikes, the work ends before the caller goes on."""
    endless, asked = Endless(), []

    def stop() -> None:
        asked.append(1)
        if len(asked) == 1:
            raise KeyboardInterrupt  # as a SIGINT would within it
        endless.stop()

    def deliver(event: Any) -> None:
        if event == "started":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        background.drain(endless.work, deliver, stop)
    ended = endless.ended
    endless.stop()
    assert ended
    assert isinstance(caught.value, InterruptedRunError)


def test_work_that_fails_after_an_interrupt_raises_its_own_error() -> None:
    """An error of the run is not hidden by the interrupt."""

    async def work(emit: Callable[[Any], None]) -> None:
        emit("started")
        raise ValueError("own")

    def deliver(event: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(ValueError, match="own"):
        background.drain(work, deliver, nothing)


def test_the_async_form_delivers_on_the_callers_loop() -> None:
    """In order, all before it returns."""
    got: list[tuple[int, int]] = []

    async def main() -> tuple[str, int]:
        own = id(asyncio.get_running_loop())
        put = lambda e: got.append((e, id(asyncio.get_running_loop())))  # noqa: E731 - short
        return await background.adrain(numbers(20), put, nothing), own

    result, own = asyncio.run(main())
    assert ("done", [(n, own) for n in range(20)]) == (result, got)


def test_cancelling_the_async_form_stops_the_work_and_waits_for_it() -> None:
    """The task ends as cancelled when the work has ended."""
    endless = Endless()

    async def main() -> bool:
        started = asyncio.Event()
        task = asyncio.create_task(background.adrain(endless.work, lambda e: started.set(), endless.stop))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return endless.ended

    assert asyncio.run(main())


def test_a_failing_receiver_of_the_async_form_is_raised() -> None:
    """As in the other form."""
    endless = Endless()

    def deliver(event: Any) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        await background.adrain(endless.work, deliver, endless.stop)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    assert endless.ended
