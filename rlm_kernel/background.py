"""The loop that everything asynchronous runs on, in a thread of its own, and the bridge to whoever asks.

A notebook's main thread has a running loop and must not block it from within; a sandbox outlives any one loop of the
user's. So there is one loop per process, in a daemon thread, and events come back to the asking thread.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from rlm_kernel.errors import InterruptedRunError

__all__ = ["adrain", "at_exit", "call", "drain", "interruptible", "loop", "submit", "undisturbed"]

T = TypeVar("T")
Emit = Callable[[Any], None]

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_owner = 0
_closers: dict[int, Callable[[], Coroutine[Any, Any, None]]] = {}
_EXIT_SECONDS = 5.0
_REST_SECONDS = 0.003


def loop() -> asyncio.AbstractEventLoop:
    """The background loop; started on first use, and anew in a forked process."""
    global _loop, _owner
    with _lock:
        if _loop is None or _owner != os.getpid():
            _loop, _owner = asyncio.new_event_loop(), os.getpid()
            threading.Thread(target=_loop.run_forever, name="rlm_kernel", daemon=True).start()
    return _loop


def submit(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Have `work` run on the background loop."""
    return asyncio.run_coroutine_threadsafe(work, loop())


def call(work: Coroutine[Any, Any, T]) -> T:
    """Have `work` run on the background loop and wait for its result."""
    return submit(work).result()


def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """`call`, but an interrupt (Ctrl-C, ■) breaks the work off."""
    future = submit(work)
    try:
        return future.result()
    except KeyboardInterrupt:
        future.cancel()
        raise


def drain(
    start: Callable[[Emit], Coroutine[Any, Any, T]],
    deliver: Emit,
    stop: Callable[[], None],
    pulse: Callable[[], float | None] = lambda: None,
) -> T:
    """Run and wait, delivering events in this thread. An interrupt (Ctrl-C, ■) calls `stop` and is raised at the end.

    Args:
        start: makes the coroutine, given where it puts its events.
        deliver: called in this thread with each event. An error of it stops the run.
        stop: asks the run to end; called in this thread.
        pulse: called in this thread after each burst of events, and again after as many seconds as it returns.

    Raises:
        InterruptedRunError: it was interrupted; `result` is what the run returned.
    """
    events: SimpleQueue[Any] = SimpleQueue()
    end = object()
    future = submit(start(events.put))
    future.add_done_callback(lambda _: events.put(end))
    interrupted = asked = False
    failure: BaseException | None = None
    ended = False
    wait: float | None = None
    while not ended:
        try:
            if (interrupted or failure is not None) and not asked:
                stop()
                asked = True
            event = _next(events, wait)
            ended = event is end
            if failure is None and not ended:
                if event is not None:
                    deliver(event)
                wait = pulse()
                if events.empty():
                    time.sleep(_REST_SECONDS)  # events come in bursts; waking for each would slow down the loop
        except KeyboardInterrupt:  # a second one, in the middle of all this, is no other than the first
            interrupted, asked = True, False
        except Exception as error:  # noqa: BLE001 - a callback of the user's: the run ends, then it is raised
            failure = error
    if failure is not None:
        with contextlib.suppress(Exception):
            future.result()
        raise failure
    result = future.result()
    if interrupted:
        raise InterruptedRunError(getattr(result, "detail", "") or "stopped by the user", result)
    return result


def _next(events: SimpleQueue[Any], seconds: float | None) -> Any:
    """The next event; None when there is none in that time."""
    try:
        return events.get(timeout=seconds)
    except Empty:
        return None


async def adrain(start: Callable[[Emit], Coroutine[Any, Any, T]], deliver: Emit, stop: Callable[[], None]) -> T:
    """`drain` for a coroutine of the caller's loop; being cancelled stops the run and waits for its end."""
    own = asyncio.get_running_loop()
    events: asyncio.Queue[Any] = asyncio.Queue()
    end = object()

    def put(event: Any) -> None:
        own.call_soon_threadsafe(events.put_nowait, event)

    future = submit(start(put))
    future.add_done_callback(lambda _: put(end))
    failure: BaseException | None = None
    while True:
        try:
            event = await events.get()
            if event is end:
                break
            if failure is None:
                deliver(event)
        except asyncio.CancelledError as error:
            failure = error
            stop()
        except Exception as error:  # noqa: BLE001 - as above
            failure = error
            stop()
    if failure is not None:
        with contextlib.suppress(Exception):
            future.result()
        raise failure
    return future.result()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """No interrupt in between: a second ■ must not keep the result of a stopped run from being shown."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def at_exit(key: int, close: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
    """Have `close` run when the process ends; None takes it back."""
    if close is None:
        _closers.pop(key, None)
    else:
        _closers[key] = close


@atexit.register
def _close_all() -> None:
    if _loop is None or _owner != os.getpid() or not _closers:
        return

    async def close() -> None:
        await asyncio.gather(*(c() for c in _closers.values()), return_exceptions=True)

    with contextlib.suppress(Exception):
        submit(close()).result(_EXIT_SECONDS)
