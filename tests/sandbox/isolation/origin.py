"""Servers of this machine that keep what they were sent, and raw conversations with a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from rlm_kernel.sandbox.isolation.allowlist import parse
from rlm_kernel.sandbox.isolation.proxy import Proxy, Resolve

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@dataclass
class Origin:
    """A server that answers each connection with the same bytes.

    Attributes:
        until: what ends a request; without it the first bytes are one.
        got: what each connection sent.
        ended: connections that are closed.
    """

    answer: bytes = OK
    until: bytes = b""
    echo: bool = False
    port: int = 0
    got: list[bytes] = field(default_factory=list)
    ended: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, answered = len(self.got), False
        self.got.append(b"")
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                self.got[number] += data
                if self.echo:
                    writer.write(data)
                elif not answered and self.got[number].endswith(self.until):
                    answered = True
                    writer.write(self.answer)
                    await writer.drain()
                    writer.write_eof() if writer.can_write_eof() else writer.close()
        writer.close()
        self.ended += 1


@contextlib.asynccontextmanager
async def serving(origin: Origin, tls: ssl.SSLContext | None = None) -> AsyncIterator[Origin]:
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0, ssl=tls)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def proxied(listed: str, resolve: Resolve | None = None) -> AsyncIterator[tuple[Proxy, int]]:
    """A proxy, and its port."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # what is accepted has it too: little is on the way
    port = listening.getsockname()[1]
    proxy = Proxy(listening, parse(listed), resolve)
    try:
        yield proxy, port
    finally:
        await proxy.close()


async def said(port: int, request: bytes, then: bytes = b"") -> bytes:
    """All that is answered; `then` is sent once something was."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = b""
    if then:
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.write(then)
    with contextlib.suppress(OSError):
        writer.write_eof()
        while data := await reader.read(65_536):
            answer += data
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return answer
