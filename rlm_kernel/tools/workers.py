"""Where tools run: threads for functions, one event loop for coroutines, none of which keeps the process from ending.

A function that does not return cannot be stopped. Whoever waited for it is let go, and it is left alone in its thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Coroutine
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

__all__ = ["Workers"]

T = TypeVar("T")

_IDLE_SECONDS = 5.0
_REACT_SECONDS = 0.5
"""A loop that has done nothing for so long is blocked by one of its coroutines."""


class Workers:
    """Threads that are made when they are needed, used again, and end when nothing has been asked of them for a while.

    All methods are called on one event loop.

    Attributes:
        busy: calls of functions that have not returned, those that nobody waits for included.
    """

    def __init__(self) -> None:
        self.busy = 0
        self._idle: list[_Worker] = []

    async def run(self, work: Callable[[], T]) -> T:
        """Call `work` in a thread. Being cancelled ends the wait, not the call.

        Args:
            work: raises nothing.
        """
        done: asyncio.Future[T]
        done, settle = _across()

        def returned(worker: _Worker, value: T) -> None:
            self.busy -= 1
            self._idle.append(worker)
            settle(value)

        loop = asyncio.get_running_loop()

        def call(worker: _Worker) -> None:
            _say(loop, returned, worker, work())

        while self._idle:
            if self._idle.pop().take(call):
                break
        else:
            _Worker().take(call)
        self.busy += 1
        return await done

    async def run_async(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop that they all share. Being cancelled cancels it, and waits no longer.

        Args:
            work: raises nothing but CancelledError.
        """
        try:
            shared = await _Shared.one()
        except asyncio.CancelledError:
            work.close()
            raise
        own, tasks = asyncio.get_running_loop(), list[asyncio.Task[T]]()
        done: asyncio.Future[T]
        done, settle = _across()

        def begin() -> None:
            tasks.append(task := shared.loop.create_task(work))
            task.add_done_callback(lambda task: _say(own, settle, None if task.cancelled() else task.result()))

        def give_up() -> None:
            tasks[0].cancel()

        shared.loop.call_soon_threadsafe(begin)
        try:
            return await done
        except asyncio.CancelledError:
            shared.loop.call_soon_threadsafe(give_up)
            shared.knock()
            raise


def _across() -> tuple[asyncio.Future[Any], Callable[[Any], None]]:
    """A future of this loop, and what sets its result, unless nobody waits for it any more."""
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    return done, lambda value: None if done.done() else done.set_result(value)


def _say(loop: asyncio.AbstractEventLoop, tell: Callable[..., None], *words: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hear of it
        loop.call_soon_threadsafe(tell, *words)


class _Worker:
    """One thread and what it is to do."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[_Worker], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._alive = True
        threading.Thread(target=self._work, name="rlm-tool", daemon=True).start()

    def take(self, job: Callable[[_Worker], None]) -> bool:
        """Do it next; False when the thread has ended."""
        with self._lock:
            if self._alive:
                self._jobs.put(job)
            return self._alive

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE_SECONDS)
            except Empty:
                with self._lock:
                    self._alive = not self._jobs.empty()
                    if not self._alive:
                        return
            else:
                job(self)
                del job  # it holds what the tool was given


class _Shared:
    """The loop of all coroutines, in a thread of its own: clients that they keep from call to call belong to it."""

    _current: _Shared | None = None

    def __init__(self) -> None:
        self.loop, self._process = asyncio.new_event_loop(), os.getpid()
        self._heard: threading.Event | None = None
        threading.Thread(target=self._run, name="rlm-tools", daemon=True).start()

    @classmethod
    async def one(cls) -> _Shared:
        """The one there is; another, if that is blocked, or was left behind by a fork."""
        current = cls._current
        if current is None or current._process != os.getpid() or not await current._answers():
            current = cls._current = cls()
        return current

    def knock(self) -> None:
        """See later whether it reacts."""
        self._heard = threading.Event()
        self.loop.call_soon_threadsafe(self._heard.set)

    async def _answers(self) -> bool:
        until = time.monotonic() + _REACT_SECONDS
        while self._heard is not None and not self._heard.is_set():
            if time.monotonic() > until:
                return False
            await asyncio.sleep(0.01)
        self._heard = None
        return True

    def _run(self) -> None:
        while True:
            with contextlib.suppress(SystemExit, KeyboardInterrupt):  # of a task that a tool has started
                self.loop.run_forever()
