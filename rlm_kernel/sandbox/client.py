"""Speaks to the sandbox kernel over its sockets: sends cells, sorts what comes back, answers its requests.

Everything that arrives is hostile: a message that cannot be read, or that belongs to no running cell, is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient

from rlm_kernel.errors import SandboxError
from rlm_kernel.sandbox.base import CellResult, Chunk, Handler, OnChunk, RefusedError
from rlm_kernel.sandbox.bridge import Bridge
from rlm_kernel.sandbox.cell import RunningCell
from rlm_kernel.sandbox.launch import KernelProcess
from rlm_kernel.sandbox.messages import Message, read

__all__ = ["CellClient", "ignore"]

_LOOK_SECONDS = 0.2
_SUBSCRIBE_SECONDS = 0.5
_FLOOD_INTERRUPTS = 6


class CellClient:
    """A connection to one kernel, one cell at a time.

    Args:
        process: the kernel; it has to be launched.
        handler: answers its requests. It is only called while a cell runs.
    """

    def __init__(self, process: KernelProcess, handler: Handler) -> None:
        self._process = process
        self.handler = handler
        self._cell: RunningCell | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._bridge = Bridge(self._handle, self._reply)
        self._interrupting: set[asyncio.Task[None]] = set()
        self._client: AsyncKernelClient

    async def connect(self) -> None:
        """Connect, and wait until output can no longer be missed.

        Raises:
            SandboxError: the kernel's process ended.
        """
        manager = self._process.manager
        if manager.transport == "ipc":
            # connecting before the kernel binds would cost zmq's reconnect interval
            ports = (manager.shell_port, manager.iopub_port, manager.stdin_port)
            sockets = [self._process.folder / f"k-{port}" for port in ports]
            while not all(s.exists() for s in sockets):
                if not await self._process.alive():
                    raise SandboxError("its process ended")
                await asyncio.sleep(0.005)
        self._client = manager.client()
        self._client.start_channels(hb=False)
        self._readers = [
            asyncio.create_task(self._read(self._client.shell_channel, self._on_shell)),
            asyncio.create_task(self._read(self._client.iopub_channel, self._on_iopub)),
            asyncio.create_task(self._read(self._client.stdin_channel, self._on_stdin)),
        ]
        while True:  # a subscription takes effect when it does; ask until the answer is heard
            try:
                result, _ = await asyncio.wait_for(self.run("", ignore, silent=True), _SUBSCRIBE_SECONDS)
            except TimeoutError:
                continue
            if result.status == "died":
                raise SandboxError("its process ended")
            return

    async def close(self) -> None:
        """Close the sockets and end the reading."""
        readers, self._readers = self._readers, []
        for task in readers:
            task.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        self._bridge.cancel("the sandbox was shut down")
        if readers:
            self._client.stop_channels()

    async def run(self, code: str, on_chunk: OnChunk, *, silent: bool = False) -> tuple[CellResult, Mapping[str, Any]]:
        """Run one cell to its end. Returns how it ended and what the guest sent along."""
        message = self._client.session.msg(
            "execute_request",
            {
                "code": code,
                "silent": silent,
                "store_history": not silent,
                "user_expressions": {},
                "allow_stdin": True,
                # else the cell after an interrupted one would be answered "aborted"
                "stop_on_error": False,
            },
        )
        cell = self._cell = RunningCell(message["header"]["msg_id"], on_chunk, self._flooded)
        try:
            self._client.shell_channel.send(message)
            while not cell.ended.done():
                await asyncio.wait([cell.ended], timeout=_LOOK_SECONDS)
                if not cell.ended.done() and (cell.hopeless or not await self._process.alive()):
                    return CellResult("died"), {}
            return cell.result(), cell.payload()
        finally:
            self._cell = None
            self._bridge.cancel("the cell that asked has ended")

    async def interrupt(self) -> None:
        """Interrupt the running cell; the calls that its threads wait for are answered with an error."""
        if (cell := self._cell) is None:
            return
        cell.interrupting = True
        with contextlib.suppress(Exception):  # it may end this very moment, which is what was wanted
            await self._process.interrupt()
        self._bridge.cancel("interrupted")

    async def _end_flood(self, cell: RunningCell) -> None:
        """Interrupt until the cell ends; one that goes on regardless counts as dead."""
        for _ in range(_FLOOD_INTERRUPTS):
            await self.interrupt()
            await asyncio.wait([cell.ended], timeout=1)
            if cell.ended.done():
                return
        cell.hopeless = True

    def _flooded(self, cell: RunningCell) -> None:
        task = asyncio.create_task(self._end_flood(cell))
        self._interrupting.add(task)
        task.add_done_callback(self._interrupting.discard)

    # -- messages ---------------------------------------------------------------------------------------------
    async def _read(self, channel: Any, take: Callable[[Message], None]) -> None:
        socket, session = channel.socket, channel.session
        while True:
            frames = await socket.recv_multipart()
            try:
                message = read(session, frames)
            except (ValueError, RecursionError):  # not a message of our kernel's
                continue
            take(message)

    def _own(self, message: Message) -> RunningCell | None:
        cell = self._cell
        return cell if cell is not None and message.parent_id == cell.msg_id else None

    def _on_shell(self, message: Message) -> None:
        if message.kind == "execute_reply" and (cell := self._own(message)):
            cell.on_reply(message.content)

    def _on_iopub(self, message: Message) -> None:
        if cell := self._own(message):
            cell.on_iopub(message.kind, message.content)

    def _on_stdin(self, message: Message) -> None:
        if message.kind == "input_request":
            self._bridge.receive(str(message.content.get("prompt")))

    def _reply(self, text: str) -> None:
        if self._readers:  # else it is closed
            self._client.input(text)

    async def _handle(self, method: str, params: Mapping[str, Any]) -> Any:
        if self._cell is None:
            raise RefusedError("no cell is running: a thread left by an earlier cell cannot ask")
        if self._cell.interrupting:
            raise RefusedError("interrupted")
        return await self.handler(method, params)


def ignore(chunk: Chunk) -> None:
    """Output of our own cells is of no interest."""
