"""A sandbox without a kernel, for tests: model code runs in this very process, with no protection at all.

It is complete in all else (the same REPL functions, the same request channel), so a test of a prompt, a tool or a
question runs in milliseconds.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import copy
import ctypes
import io
import pickle
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

from rlm_kernel.errors import TransferError
from rlm_kernel.events import Variable
from rlm_kernel.sandbox.base import CellResult, Chunk, Handler, OnChunk, RefusedError
from rlm_kernel.sandbox.bridge import Bridge
from rlm_kernel.sandbox.guest.channel import Channel
from rlm_kernel.sandbox.guest.repl import Repl, Submitted, refuse_input
from rlm_kernel.sandbox.guest.sealing import LackError, inherited
from rlm_kernel.sandbox.sealed import Sealed

__all__ = ["FakeSandbox"]


def _copied(name: str, value: Any, left: Mapping[str, Any]) -> Any:
    """A value that another sandbox can change; of one that is sealed, what its bytes hold.

    Raises:
        TransferError: there is no such value.
    """
    if not isinstance(value, Sealed):
        return copy.deepcopy(value)
    if value.data is not None:
        return pickle.loads(value.data)  # noqa: S301 - of this very process, which is the sandbox as well
    try:
        return copy.deepcopy(inherited(asdict(value), left))
    except LackError as error:
        raise TransferError(f"variable '{name}': {error}") from None


class FakeSandbox:
    """Runs cells with `exec` in a thread of this process. For tests only: nothing is isolated.

    Attributes:
        cells: every cell that was executed, in order.
        starts: how often it was started with an empty namespace.
    """

    def __init__(self) -> None:
        self.cells: list[str] = []
        self.starts = 0
        self._left: Mapping[str, Any] = {}
        self._staged: dict[str, Any] = {}
        self._repl: Repl | None = None
        self._namespace: dict[str, Any] = {}
        self._running = False
        self._lock = threading.Lock()
        self._in_code: int | None = None
        """The thread that runs model code this very moment; idents are used again, so it is taken back at once."""
        self._bridge: Bridge | None = None
        self._answers: asyncio.AbstractEventLoop | None = None
        self._answer: Callable[[str], None] = lambda text: None

    async def put(self, variables: Mapping[str, Any]) -> None:
        """Stage copies of the variables."""
        self._staged.update({name: _copied(name, value, self._left) for name, value in variables.items()})

    async def spawn(self) -> FakeSandbox:
        """Another one, which may be given what this one has."""
        child = type(self)()
        child._left = self._namespace
        return child

    async def start(self, handler: Handler) -> None:
        """Make the namespace, or keep it."""
        loop = asyncio.get_running_loop()

        async def answer(method: str, params: Mapping[str, Any]) -> Any:
            if not self._running:
                raise RefusedError("no cell is running: a thread left by an earlier cell cannot ask")
            return await handler(method, params)

        self._bridge = Bridge(answer, self._give)
        if self._repl is None:
            self.starts += 1
            self._namespace = {"__name__": "__main__", "input": refuse_input}
            channel = Channel(lambda text: self._ask(loop, text))
            # not from the cell's thread: until it runs a new thread bears its parent's ident, and would be interrupted
            channel.open()
            self._repl = Repl(self._namespace, channel)
            self._namespace["__rlm__"] = SimpleNamespace(repl=self._repl)
        self._namespace.update(self._staged)
        self._staged.clear()
        self._repl.changes()

    async def execute(self, code: str, on_chunk: OnChunk) -> CellResult:
        """Run one cell in a thread."""
        if self._repl is None:
            return CellResult("died")
        self.cells.append(code)
        self._running = True
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        status: list[str] = []

        def say(kind: str, text: str) -> None:
            loop.call_soon_threadsafe(on_chunk, Chunk(kind, text))  # type: ignore[arg-type]  # a Literal

        def work() -> None:
            try:
                status.append(self._exec(code, say))
            except KeyboardInterrupt:  # it came a moment late
                status.append("interrupted")
            finally:
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=work, name="rlm-fake-sandbox", daemon=True).start()
        await done.wait()
        self._running = False
        if self._bridge is not None:
            self._bridge.cancel("the cell that asked has ended")
        told = self._repl.changes() if self._repl is not None else {"changed": [], "removed": [], "restored": []}
        changed = tuple(Variable(*row) for row in told["changed"])
        return CellResult(status[0], changed, tuple(told["removed"]), tuple(told["restored"]))  # type: ignore[arg-type]  # a Literal

    async def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the cell's thread. A cell that waits for a call is let go at once."""
        with self._lock:
            if self._in_code is not None:
                raising = ctypes.pythonapi.PyThreadState_SetAsyncExc
                raising(ctypes.c_ulong(self._in_code), ctypes.py_object(KeyboardInterrupt))
        if self._bridge is not None:
            self._bridge.cancel("interrupted")

    async def shutdown(self) -> None:
        """Forget the namespace."""
        self._repl = None
        self._staged.clear()

    def _give(self, text: str) -> None:
        self._answer(text)

    def _ask(self, loop: asyncio.AbstractEventLoop, text: str) -> str:
        """Called by the channel's pump thread; the bridge answers on the loop."""
        came, answer = threading.Event(), [""]

        def take(text: str) -> None:
            answer[0] = text
            came.set()

        def ask() -> None:
            self._answer = take
            if self._bridge is not None:
                self._bridge.receive(text)

        loop.call_soon_threadsafe(ask)
        came.wait()
        return answer[0]

    def _exec(self, code: str, say: Callable[[str, str], None]) -> str:
        def show(*values: Any, sep: str = " ", end: str = "\n", file: Any = None, flush: bool = False) -> None:
            text = io.StringIO()
            builtins.print(*values, sep=sep, end=end, file=file or text, flush=flush)
            if text.tell():
                say("stdout", text.getvalue())

        self._namespace["__builtins__"] = {**vars(builtins), "print": show, "input": refuse_input}
        with self._lock:
            self._in_code = threading.get_ident()
        try:
            tree = ast.parse(code)
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "<cell>", "exec"), self._namespace)  # noqa: S102 - running code is what it is for
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), self._namespace)  # noqa: S307 - as above
                if value is not None:
                    say("result", f"{value!r}\n")
        except Submitted:
            return "ok"
        except KeyboardInterrupt:
            say("error", "KeyboardInterrupt\n")
            return "interrupted"
        except BaseException as error:  # noqa: BLE001 - model code may raise anything, SystemExit too
            line = next(
                (f.lineno for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename == "<cell>"), 0
            )
            say("error", f"line {line}: {''.join(traceback.format_exception_only(error))}")
            return "error"
        finally:
            with self._lock:
                self._in_code = None
        return "ok"
