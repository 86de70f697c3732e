"""A kernel's channels through a Jupyter server's websocket, in the shape of jupyter_client's client.

A connection that breaks is opened anew under the same session id, so that the server hands over what it has kept;
what is sent meanwhile waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket as sockets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from jupyter_client.session import Session
from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, WebSocketError

from rlm_kernel.sandbox.remote.frames import V1, decode, encode

__all__ = ["Channel", "ServerClient", "hang_up"]

_FIRST_WAIT, _LAST_WAIT = 0.1, 2.0
_QUEUED = 1000
"""Messages of a channel that wait to be read; then the socket is not read on."""
_ANSWER_CHARS = 4 * 2**20
"""A longer answer goes in pieces, see `guest.upload.whole`: as JSON it may double, and 10 MiB pass."""
_MORE = "+"
_SHORT = 200
"""Bytes of content in which a guest asks for a piece."""
_ENDED = (b'"restarting"', b'"dead"', b'"autorestarting"')
_GONE = (401, 403, 404)

Open = Callable[[str], Awaitable[WebSocketClientConnection]]


class Channel:
    """One of the kernel's channels: what jupyter_client's channels are, as far as `CellClient` uses them."""

    def __init__(self, name: str, session: Session, send: Callable[[str, dict[str, Any]], None]) -> None:
        self.name, self.session = name, session
        self.socket = self
        self.frames: asyncio.Queue[list[bytes]] = asyncio.Queue(_QUEUED)
        self._send = send

    def send(self, message: dict[str, Any]) -> None:
        """Send it, or once there is a connection again."""
        self._send(self.name, message)

    async def recv_multipart(self) -> Sequence[bytes]:
        """The frames of the next message."""
        return await self.frames.get()


class ServerClient:
    """Speaks to one kernel of a server.

    Args:
        open_socket: opens a websocket for a session id; raises `HTTPClientError` or `OSError`.

    Attributes:
        reconnects: how often the connection was opened anew.
        ended: why nothing more will come; empty while something may.
        silent_since: since when there is no connection (monotonic seconds); None while there is one.
    """

    def __init__(self, open_socket: Open) -> None:
        self.session = Session(key=b"")
        self.shell_channel = Channel("shell", self.session, self._send)
        self.iopub_channel = Channel("iopub", self.session, self._send)
        self.stdin_channel = Channel("stdin", self.session, self._send)
        self.reconnects = 0
        self.ended = ""
        self.silent_since: float | None = None
        self._open = open_socket
        self._channels = {c.name: c for c in (self.shell_channel, self.iopub_channel, self.stdin_channel)}
        self._socket: WebSocketClientConnection | None = None
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self._reader: asyncio.Task[None] | None = None
        self._pieces: list[str] = []

    async def start(self) -> None:
        """Connect, and read from now on.

        Raises:
            HTTPClientError, OSError: it cannot.
        """
        self._socket = await self._open(self.session.session)
        self._reader = asyncio.create_task(self._read())

    def stop_channels(self) -> None:
        """Close the connection."""
        self.ended = self.ended or "it was closed"
        if self._reader is not None:
            self._reader.cancel()
        if self._socket is not None:
            hang_up(self._socket)
            self._socket = None

    def input(self, text: str) -> None:
        """Answer the kernel's input request, with the first piece of what is too long."""
        if len(text) > _ANSWER_CHARS:
            self._pieces = [text[at : at + _ANSWER_CHARS] for at in range(0, len(text), _ANSWER_CHARS)]
            self._give(0)
        else:
            self._send("stdin", self.session.msg("input_reply", {"value": text}))

    def _give(self, number: int) -> None:
        more = _MORE if number + 1 < len(self._pieces) else ""
        self._send("stdin", self.session.msg("input_reply", {"value": more + self._pieces[number]}))

    def _send(self, channel: str, message: dict[str, Any]) -> None:
        socket = self._socket
        if socket is None:
            self._waiting.append((channel, message))
            return
        pack: Callable[[Any], bytes] = self.session.pack
        parts = [pack(message[name]) for name in ("header", "parent_header", "metadata", "content")]
        v1 = socket.selected_subprotocol == V1
        data = encode(channel, parts, message.get("buffers") or (), v1=v1)
        try:
            sent = asyncio.ensure_future(socket.write_message(data, binary=isinstance(data, bytes)))
        except WebSocketClosedError:
            self._waiting.append((channel, message))
        else:
            sent.add_done_callback(lambda done: done.cancelled() or done.exception())  # the reader notices a break

    async def _read(self) -> None:
        while True:
            socket = self._socket
            data = await socket.read_message() if socket is not None else None
            if socket is None or data is None:
                await self._reconnect()
                continue
            _acknowledge(socket)
            try:
                name, frames = decode(data, v1=socket.selected_subprotocol == V1)
            except (ValueError, RecursionError):  # no message of a kernel's
                continue
            if name == "iopub" and self._says_end(frames):
                self.ended = "the server said that its kernel ended"
            if name == "stdin" and (number := self._wanted(frames)):
                self._give(number)
            elif name in self._channels:
                await self._channels[name].frames.put(frames)

    def _wanted(self, frames: Sequence[bytes]) -> int:
        """The number of the piece that the guest asks for; 0 if it asks for something else."""
        if found := re.search(rb'"prompt": ?"\+(\d{1,6})"', frames[5][:_SHORT]):
            number = int(found[1])
            return number if number < len(self._pieces) else 0
        return 0

    @staticmethod
    def _says_end(frames: Sequence[bytes]) -> bool:
        """Servers start a kernel anew that has died, and say so: with no state it is another one."""
        return b'"status"' in frames[2] and any(word in frames[5] for word in _ENDED)

    async def _reconnect(self) -> None:
        if self._socket is not None:
            hang_up(self._socket)
            self._socket = None
        self.silent_since = time.monotonic()
        wait = _FIRST_WAIT
        while self._socket is None:
            try:
                self._socket = await self._open(self.session.session)
            except HTTPClientError as error:
                if error.code in _GONE:
                    self.ended = f"its server has it no more ({error.code})"
                    await asyncio.Event().wait()  # until this task is cancelled
            except (OSError, WebSocketError):  # not there, or something else answers for it
                pass
            if self._socket is None:
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LAST_WAIT)
        self.silent_since = None
        self.reconnects += 1
        waiting, self._waiting = self._waiting, deque()
        for channel, message in waiting:
            self._send(channel, message)


def hang_up(socket: WebSocketClientConnection) -> None:
    """Close it without waiting for the other side, for which tornado takes seconds."""
    stream = getattr(socket.protocol, "stream", None)
    socket.close()
    if stream is not None:
        stream.close()


def _acknowledge(socket: WebSocketClientConnection) -> None:
    """Acknowledge at once, on Linux: servers leave Nagle's algorithm on, which waits for that, 40 ms a message."""
    quick = getattr(sockets, "TCP_QUICKACK", None)
    if quick is not None:
        with contextlib.suppress(AttributeError, OSError):  # it closes this very moment
            socket.protocol.stream.socket.setsockopt(sockets.IPPROTO_TCP, quick, 1)  # type: ignore[union-attr]  # suppressed
