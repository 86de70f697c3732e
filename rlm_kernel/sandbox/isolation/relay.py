"""One connection through the proxy: reads what is asked for, says no, passes a tunnel or a request of plain HTTP on.

What a sandbox sends is parsed by h11 and written anew, never forwarded as it stands, so that both ends read the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

import h11

from rlm_kernel.sandbox.isolation.allowlist import authority

__all__ = ["Peer", "RefusalError", "Streams", "forward", "refuse", "target", "tunnel"]

MAX_HEAD = 32 * 2**10
"""Bytes of a head that has not come to its end."""
IDLE_SECONDS = 120.0
"""Without a byte in either direction a connection is ended."""
_LINGER_SECONDS = 1.0
_CHUNK = 64 * 2**10
_ABSOLUTE = re.compile(r"http://([^/?#]*)((?:[/?][^#]*)?)", re.IGNORECASE)
_OF_ONE_HOP = {
    b"connection",
    b"content-length",
    b"expect",
    b"host",
    b"keep-alive",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
"""Fields that are made anew or left out, besides `Proxy-…` and those that `Connection` names."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class RefusalError(Exception):
    """The answer is no, with an HTTP status and one line."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Peer:
    """One end of a connection: its streams, what HTTP it speaks, and the clock that both ends share."""

    def __init__(self, streams: Streams, role: type[h11.CLIENT] | type[h11.SERVER], clock: asyncio.Timeout) -> None:
        self._reader, self._writer = streams
        self._writer.transport.set_write_buffer_limits(0)  # what was written is on its way: nothing to lose at the end
        self.http = h11.Connection(role, max_incomplete_event_size=MAX_HEAD)
        self._clock = clock

    async def event(self) -> Any:
        """The next event of h11.

        Raises:
            h11.RemoteProtocolError: it speaks no HTTP.
        """
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.read())
        return event

    async def send(self, event: Any) -> None:
        """Send what h11 makes of an event."""
        await self.write(self.http.send(event) or b"")

    async def read(self) -> bytes:
        """What has arrived; empty at the end."""
        data = await self._reader.read(_CHUNK)
        self._tick()
        return data

    async def write(self, data: bytes) -> None:
        """Send, at the pace of the other end."""
        self._writer.write(data)
        await self._writer.drain()
        self._tick()

    def no_more(self) -> None:
        """Say that nothing follows."""
        self._writer.write_eof()

    async def finish(self) -> None:
        """End in good order: bytes that are still on their way here would throw away what was sent last."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                self.no_more()
                while await self._reader.read(_CHUNK):
                    pass

    def abort(self) -> None:
        """End at once."""
        self._writer.transport.abort()

    def _tick(self) -> None:
        if not self._clock.expired():
            self._clock.reschedule(asyncio.get_running_loop().time() + IDLE_SECONDS)


def target(request: h11.Request) -> tuple[str, int, str | None]:
    """Host, port and path of a request; no path for a tunnel."""
    text = request.target.decode("ascii", "replace")
    try:
        if request.method == b"CONNECT":
            host, port = authority(text)
            if port is None:
                raise ValueError("a tunnel needs a port")
            return host, port, None
        found = _ABSOLUTE.fullmatch(text)
        if found is None:
            raise ValueError("not in absolute form")
        host, port = authority(found[1])
    except ValueError:
        raise RefusalError(400, "this proxy takes CONNECT host:port and http://host/path only") from None
    return host, port or 80, found[2] if found[2].startswith("/") else "/" + found[2]


async def refuse(guest: Peer, refusal: RefusalError) -> None:
    """Say no: in the status line too, which is what clients show of a failed tunnel."""
    why = str(refusal)
    body = f"rlm_kernel: {why}\n".encode()
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("Connection", "close")]
    await guest.send(h11.Response(status_code=refusal.status, headers=headers, reason=why.encode()))
    await guest.send(h11.Data(data=body))
    await guest.send(h11.EndOfMessage())


async def tunnel(guest: Peer, server: Peer) -> None:
    """Pass bytes on, both ways, until both have ended."""
    if not isinstance(guest.http.next_event(), h11.EndOfMessage):
        raise RefusalError(400, "a CONNECT request has no body")
    await guest.send(h11.Response(status_code=200, headers=[], reason=b"Connection established"))
    await server.write(guest.http.trailing_data[0])

    async def pass_on(source: Peer, target: Peer) -> None:
        while data := await source.read():
            await target.write(data)
        target.no_more()

    async with asyncio.TaskGroup() as both:
        both.create_task(pass_on(guest, server))
        both.create_task(pass_on(server, guest))


async def forward(guest: Peer, server: Peer, request: h11.Request, host: str, path: str) -> None:
    """Have one request of plain HTTP answered."""

    async def up() -> None:
        headers = [(b"Host", host.encode()), *_passed_on(request), (b"Connection", b"close")]
        await server.send(h11.Request(method=request.method, target=path, headers=headers))
        if guest.http.they_are_waiting_for_100_continue:
            await guest.send(h11.InformationalResponse(status_code=100, headers=[]))
        while isinstance(event := await guest.event(), h11.Data | h11.EndOfMessage):
            await server.send(_bare(event))
            if isinstance(event, h11.EndOfMessage):
                return
        server.abort()  # it has gone in the middle of its request

    async with asyncio.TaskGroup() as both:
        sending = both.create_task(up())
        while not isinstance(event := await server.event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                headers = [*_passed_on(event), (b"Connection", b"close")]
                event = h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
            elif not isinstance(event, h11.Data):
                continue  # "early hints" and the like
            await guest.send(_bare(event))
        await guest.send(h11.EndOfMessage())
        sending.cancel()  # a server may answer without reading all


def _passed_on(message: h11.Request | h11.Response) -> list[tuple[bytes, bytes]]:
    """The header without what is of one hop, and with one length, not two that differ."""
    named = {
        word.strip().lower() for name, value in message.headers if name == b"connection" for word in value.split(b",")
    }
    kept = [
        (name, value)
        for name, value in message.headers
        if name not in _OF_ONE_HOP | named and not name.startswith(b"proxy-")
    ]
    framing = dict(message.headers)
    if b"transfer-encoding" not in framing:
        return [*kept, *([(b"Content-Length", framing[b"content-length"])] if b"content-length" in framing else [])]
    # of a response h11 chooses what the other end understands
    return [*kept, *([(b"Transfer-Encoding", b"chunked")] if isinstance(message, h11.Request) else [])]


def _bare(event: Any) -> Any:
    """Without trailers: nobody asked for them."""
    return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event
