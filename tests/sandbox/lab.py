"""A sandbox on a loop of its own, spoken to by tests that are no coroutines.

Tests trust the kernels they start: `fetch` unpickles what the kernel says, which the package itself never does.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import pickle
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from rlm_kernel.sandbox.base import CellResult, Chunk, Sandbox
from rlm_kernel.sandbox.kernel import KernelSandbox

PATIENCE_SECONDS = 10

_FETCH = """
import base64 as _b, cloudpickle as _p
print(_b.b64encode(_p.dumps({expression}, protocol=5)).decode())
"""


@dataclass
class Ran:
    """A cell that has ended, and what it put out."""

    result: CellResult
    chunks: list[Chunk] = field(default_factory=list)

    @property
    def status(self) -> str:
        return self.result.status

    def text(self, *kinds: str) -> str:
        """All output of these kinds (of every kind if none is named), as it came."""
        return "".join(c.text for c in self.chunks if not kinds or c.kind in kinds)

    @property
    def changed(self) -> dict[str, tuple[str, str, str]]:
        return {v.name: (v.type, v.size, v.preview) for v in self.result.changed}


async def echo(method: str, params: Mapping[str, Any]) -> Any:
    """Answers every prompt with itself in capitals; accepts every submission."""
    if method == "submit":
        return None
    return [{"text": str(prompt).upper()} for prompt in params["prompts"]]


class Lab:
    """Any sandbox, driven from plain functions.

    Attributes:
        answer: the handler of the sandbox's requests; a test may replace it.
        asked: what it was asked.
    """

    def __init__(self, sandbox: Sandbox | None = None) -> None:
        self.sandbox: Any = KernelSandbox() if sandbox is None else sandbox
        self.answer: Callable[[str, Mapping[str, Any]], Awaitable[Any]] = echo
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def later(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.outcome(self.later(work))

    def outcome(self, running: Future[Any]) -> Any:
        """The result; a sandbox that does not come to one is shut down, so that the next test has another."""
        try:
            return running.result(PATIENCE_SECONDS)
        except TimeoutError:
            self.later(self.sandbox.shutdown()).result(PATIENCE_SECONDS)
            raise

    async def handle(self, method: str, params: Mapping[str, Any]) -> Any:
        self.asked.append((method, params))
        return await self.answer(method, params)

    def start(self) -> Lab:
        self.wait(self.sandbox.start(self.handle))
        return self

    def put(self, **variables: Any) -> None:
        self.wait(self.sandbox.put(variables))
        self.start()

    async def _run(self, code: str, on_chunk: Callable[[Chunk], None] | None) -> Ran:
        chunks: list[Chunk] = []

        def keep(chunk: Chunk) -> None:
            chunks.append(chunk)
            if on_chunk is not None:
                on_chunk(chunk)

        return Ran(await self.sandbox.execute(code, keep), chunks)

    def run(self, code: str) -> Ran:
        return self.wait(self._run(code, None))

    def begin(self, code: str, ready: str | None = "ready") -> Future[Ran]:
        """Start a cell; returns once it has printed `ready`."""
        seen = threading.Event()
        running = self.later(self._run(code, lambda chunk: seen.set() if ready and ready in chunk.text else None))
        if ready:
            assert seen.wait(PATIENCE_SECONDS)
        return running

    def interrupt(self) -> None:
        self.wait(self.sandbox.interrupt())

    def stop(self, running: Future[Ran]) -> Ran:
        """Interrupt a cell and see it end."""
        self.interrupt()
        return self.outcome(running)

    def say(self, expression: str) -> str:
        """What `print(expression)` prints inside."""
        ran = self.run(f"print({expression})")
        assert ran.status == "ok", ran.text()
        return ran.text("stdout").removesuffix("\n")

    def fetch(self, expression: str) -> Any:
        """The value inside, by a pickle that the sandbox makes of it."""
        ran = self.run(_FETCH.format(expression=expression))
        assert ran.status == "ok", ran.text()
        return pickle.loads(base64.b64decode(ran.text("stdout")))

    async def _end(self) -> None:
        try:
            await self.sandbox.shutdown()
        finally:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def close(self) -> None:
        try:
            self.later(self._end()).result(PATIENCE_SECONDS)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


@contextlib.contextmanager
def lab(sandbox: Sandbox | None = None) -> Iterator[Lab]:
    """A laboratory for one test."""
    made = Lab(sandbox)
    try:
        yield made
    finally:
        made.close()


def notebook(source: str) -> dict[str, Any]:
    """Define things the way a notebook does: their module is `__main__`, which the sandbox does not share."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(source, names)
    return names
