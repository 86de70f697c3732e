"""Speaks to the sandbox kernel over its sockets: sends cells, sorts what comes back, answers its requests.

Everything that arrives is hostile: a message that cannot be read, or that belongs to no running cell, is dropped.
What a cell's messages cost is counted against the cell.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from rlm_kernel.errors import SandboxError
from rlm_kernel.sandbox.base import CellResult, Chunk, Handler, OnChunk, RefusedError, ignore
from rlm_kernel.sandbox.bridge import Bridge
from rlm_kernel.sandbox.cell import RunningCell
from rlm_kernel.sandbox.guest.channel import MAX_MESSAGE_BYTES
from rlm_kernel.sandbox.handle import Kernel
from rlm_kernel.sandbox.isolation.policy import DEFAULT, MB, Limits
from rlm_kernel.sandbox.messages import Message, read
from rlm_kernel.sandbox.repeats import AGAIN, Repeats
from rlm_kernel.sandbox.sockets import Channel, Take
from rlm_kernel.sandbox.wires import Reception, Wire

__all__ = ["CellClient"]

_LOOK_SECONDS = 0.2
_LAST_SECONDS = 0.02
_LOSS_SECONDS = 1.0
_SUBSCRIBE_SECONDS = 0.5
_INTERRUPTS = 6
_REPLY_BYTES = 16 * 2**20
"""Of an execute_reply, which tells of every variable that has changed, and of whatever else is on that channel."""
_HEADER_BYTES = 2**20
_REST_SECONDS = 0.02
"""Between two looks at a kernel that sends although no cell runs."""


class CellClient:
    """A connection to one kernel, one cell at a time.

    Args:
        kernel: it has to be launched.
        handler: answers its requests. It is only called while a cell runs.
        limits: on output and time of the processor.
    """

    def __init__(self, kernel: Kernel, handler: Handler, limits: Limits = DEFAULT) -> None:
        self._kernel = kernel
        self.handler = handler
        self.limits = limits
        self._cell: RunningCell | None = None
        self._repeats = Repeats()
        self._bridge = Bridge(self._handle, self._reply)
        self._interrupting: set[asyncio.Task[None]] = set()
        self._wire: Wire | None = None

    async def connect(self) -> None:
        """Connect, and wait until output can no longer be missed.

        Raises:
            SandboxError: the kernel's process ended, or its sockets are none that can be spoken to.
        """
        self._wire = await self._kernel.connect(self._reception)
        while True:  # a subscription takes effect when it does; ask until the answer is heard
            try:
                result, _ = await asyncio.wait_for(self.run("", ignore, silent=True), _SUBSCRIBE_SECONDS)
            except TimeoutError:
                continue
            if result.status == "died":
                raise SandboxError("its process ended")
            return

    @property
    def _reception(self) -> Reception:
        max_bytes: dict[Channel, int] = {
            "shell": _REPLY_BYTES,
            "iopub": 2 * self._max_output + _REPLY_BYTES,
            "stdin": MAX_MESSAGE_BYTES + _HEADER_BYTES,
        }
        takes: dict[Channel, Take] = {"shell": self._on_shell, "iopub": self._on_iopub, "stdin": self._on_stdin}
        return Reception(takes, max_bytes, lambda: 0.0 if self._cell is not None else _REST_SECONDS)

    @property
    def _max_output(self) -> int:
        return self.limits.output * MB

    async def close(self) -> None:
        """End the connection; a cell that still runs counts as dead."""
        if self._cell is not None:
            self._cell.hopeless = True
        self._bridge.cancel("the sandbox was shut down")
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()

    async def run(
        self, code: str, on_chunk: OnChunk, *, silent: bool = False, buffers: Sequence[bytes] = ()
    ) -> tuple[CellResult, Mapping[str, Any]]:
        """Run one cell to its end; the guest finds `buffers` with its request.

        Returns:
            How it ended, and what the guest sent along.
        """
        used, reconnects, ended = self._kernel.cpu_seconds, self._kernel.reconnects, self._kernel.ended
        cell = self._cell = RunningCell(uuid4().hex, on_chunk, self._stop, self._max_output)
        content = {
            "code": code,
            "silent": silent,
            "store_history": not silent,
            "user_expressions": {},
            "allow_stdin": True,
            # else the cell after an interrupted one would be answered "aborted"
            "stop_on_error": False,
        }
        try:
            self._send("execute_request", content, cell.msg_id, buffers)
            while not cell.ended.done():
                waited = [cell.ended] if ended is None or ended.done() else [cell.ended, ended]
                await asyncio.wait(waited, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if ended is not None and ended.done():  # its last words are still on the way
                    await asyncio.wait([cell.ended], timeout=_LAST_SECONDS)
                if self.limits.cpu is not None and self._kernel.cpu_seconds - used > self.limits.cpu:
                    cell.stop("timeout", f"Stopped: a block may use {self.limits.cpu:g} s of CPU time.")
                if not cell.ended.done() and await self._gone(cell):
                    if not self._kernel.local and (why := self._kernel.last_words()):
                        on_chunk(Chunk("error", f"the sandbox is gone: {why}\n"))
                    return CellResult("died", why=f"{cell.why} It went on all the same." if cell.why else ""), {}
                if self._kernel.reconnects != reconnects:
                    reconnects = self._kernel.reconnects
                    self._ask_again(cell)
            return cell.result(), cell.payload()
        finally:
            self._cell = None
            self._bridge.cancel("the cell that asked has ended")

    async def _gone(self, cell: RunningCell) -> bool:
        return cell.hopeless or self._wire is None or self._wire.lost or not await self._kernel.alive()

    async def interrupt(self) -> None:
        """Interrupt the running cell; the calls that its threads wait for are answered with an error."""
        if (cell := self._cell) is None:
            return
        cell.interrupting = True
        with contextlib.suppress(Exception):  # it may end this very moment, which is what was wanted
            await self._kernel.interrupt()
        self._bridge.cancel("interrupted")

    async def _until_it_ends(self, cell: RunningCell) -> None:
        """Interrupt until the cell ends; one that goes on regardless counts as dead."""
        for _ in range(_INTERRUPTS):
            await self.interrupt()
            await asyncio.wait([cell.ended], timeout=1)
            if cell.ended.done():
                return
        cell.hopeless = True

    def _stop(self, cell: RunningCell) -> None:
        task = asyncio.create_task(self._until_it_ends(cell))
        self._interrupting.add(task)
        task.add_done_callback(self._interrupting.discard)

    # -- messages ---------------------------------------------------------------------------------------------
    def _read(self, frames: list[bytes] | None, size: int) -> Message | None:
        """A message of the running cell's, counted against it."""
        cell, wire = self._cell, self._wire
        if cell is None or wire is None:
            return None
        cell.on_message(size)
        if frames is None:
            cell.on_too_large()
            return None
        with contextlib.suppress(ValueError):  # not a message of our kernel's
            return read(wire.session, frames, *filter(None, (cell.msg_id, cell.probe)))
        return None

    def _on_shell(self, frames: list[bytes] | None, size: int) -> None:
        message, cell = self._read(frames, size), self._cell
        if cell is None or message is None:
            return
        if message.parent_id == cell.probe:
            asyncio.get_running_loop().call_later(_LOSS_SECONDS, cell.on_loss)  # its end may be on the way still
        elif message.kind == "execute_reply":
            cell.on_reply(message.content)

    def _on_iopub(self, frames: list[bytes] | None, size: int) -> None:
        message = self._read(frames, size)
        if self._cell is not None and message is not None:
            self._cell.on_iopub(message.kind, message.content)

    def _on_stdin(self, frames: list[bytes] | None, size: int) -> None:
        if self._cell is not None:
            if frames is None:
                self._cell.on_too_large()
            elif self._bridge.owes:
                self._cell.on_stray()
        prompt: Any = None
        if frames is not None and self._wire is not None and not self._bridge.overdrawn:
            with contextlib.suppress(ValueError):
                message = read(self._wire.session, frames)
                prompt = message.content.get("prompt") if message is not None else None
        if not isinstance(prompt, str):
            self._bridge.refuse()
        elif self._kernel.local or not self._repeats.is_repeat(prompt):
            self._bridge.receive(prompt)
        elif self._repeats.answer and self._wire is not None:
            self._wire.answer(self._repeats.answer)

    def _send(self, kind: str, content: Mapping[str, Any], msg_id: str, buffers: Sequence[bytes] = ()) -> None:
        if self._wire is not None:
            message = self._wire.session.msg(kind, dict(content))
            message["header"]["msg_id"] = message["msg_id"] = msg_id  # the session's own could be told beforehand
            self._wire.send("shell", {**message, "buffers": buffers})

    def _reply(self, text: str) -> None:
        if self._wire is not None:
            self._repeats.answered(text)
            self._wire.answer(text)

    def _ask_again(self, cell: RunningCell) -> None:
        """After the connection broke: what was on its way is lost, in either direction."""
        if not self._bridge.owes and self._wire is not None:
            self._repeats.expect()
            self._wire.answer(AGAIN)  # a kernel that waits for none drops it before it asks
        cell.probe = uuid4().hex
        self._send("kernel_info_request", {}, cell.probe)

    async def _handle(self, method: str, params: Mapping[str, Any]) -> Any:
        if self._cell is None:
            raise RefusedError("no cell is running: a thread left by an earlier cell cannot ask")
        if self._cell.interrupting:
            raise RefusedError("interrupted")
        return await self.handler(method, params)
