"""The host's connections to the sandbox kernel's sockets: reads in turns, so that a flood cannot starve the loop.

What is not read stays with the kernel, which has to wait: nothing is kept here but one message per connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from rlm_kernel.errors import SandboxError
from rlm_kernel.sandbox.zmtp import SUBSCRIBE, Incoming, TooLarge, WireError, encode, greeting

__all__ = ["MAX_UNREAD_BYTES", "Channel", "Sockets", "Take"]

Channel = Literal["shell", "iopub", "stdin"]
Take = Callable[[list[bytes] | None, int], None]
"""Gets the frames of a message and how many bytes they are; None for one that was too large to be read."""
MAX_UNREAD_BYTES = 16 * 2**20
"""Of what is sent; a kernel that has left more unread gets no more."""
_AT_ONCE, _BYTES_AT_ONCE = 32, 2**20
"""Messages, and bytes, that are handled before everybody else has had a turn."""
_AGAIN_SECONDS = 0.005


class _Connection(asyncio.Protocol):
    """One socket of the kernel.

    Args:
        subscribes: it is a SUB, else a DEALER.
        identity: what the kernel knows it by.
        take: gets every message.
        max_bytes: of one message.
        rest: seconds to leave between two turns while more is there.
    """

    def __init__(
        self, *, subscribes: bool, identity: bytes, take: Take, max_bytes: int, rest: Callable[[], float]
    ) -> None:
        self._subscribes, self._identity, self._take, self._rest = subscribes, identity, take, rest
        self._incoming = Incoming(max_bytes)
        self._later: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.closed = asyncio.Event()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(greeting("SUB" if self._subscribes else "DEALER", self._identity))

    def data_received(self, data: bytes) -> None:
        self._incoming.feed(data)
        if self._later is None:
            self._turn()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self.closed.set()
        if self._later is not None:
            self._later.cancel()
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionResetError("closed"))

    def _turn(self) -> None:
        """Handle what is there, but not too much; what arrives meanwhile waits in the socket."""
        self._later, size, transport = None, 0, self._transport
        assert transport is not None
        for _ in range(_AT_ONCE):
            try:
                message = self._incoming.next()
            except WireError as error:
                self.close(error)
                return
            if self._incoming.ready and not self.ready.done():
                self.ready.set_result(None)
                if self._subscribes:
                    self.send([SUBSCRIBE])
            if message is None:
                transport.resume_reading()
                return
            if isinstance(message, TooLarge):
                self._take(None, 0)
            else:
                self._take(message, self._incoming.size)
                size += self._incoming.size
            if size > _BYTES_AT_ONCE:
                break
        if not self.lost:
            transport.pause_reading()
            self._later = self._loop.call_later(self._rest(), self._turn)

    def send(self, frames: list[bytes]) -> None:
        """Send a message, unless the kernel has stopped reading."""
        transport = self._transport
        if transport is not None and not self.lost and transport.get_write_buffer_size() <= MAX_UNREAD_BYTES:
            transport.write(encode(frames))

    def close(self, error: Exception | None = None) -> None:
        """End it at once."""
        self.lost = True
        if self._later is not None:
            self._later.cancel()
        if error is not None and not self.ready.done():
            self.ready.set_exception(error)
        self.ready.cancel()
        if self._transport is not None:
            self._transport.abort()


class Sockets:
    """The shell, iopub and stdin sockets of one kernel.

    Args:
        url: where a channel is: `ipc://PATH` or `tcp://HOST:PORT`.
        identity: what the kernel knows this client by.
        take: gets a channel's messages.
        max_bytes: of one message of a channel.
        rest: seconds to leave between turns while more is there; 0 reads as fast as others let it.
    """

    def __init__(
        self,
        url: Callable[[Channel], str],
        identity: bytes,
        take: dict[Channel, Take],
        max_bytes: dict[Channel, int],
        rest: Callable[[], float],
    ) -> None:
        self._url, self._identity, self._take, self._max_bytes, self._rest = url, identity, take, max_bytes, rest
        self._open: dict[Channel, _Connection] = {}

    async def connect(self, alive: Callable[[], Awaitable[bool]]) -> None:
        """Connect, however long the kernel takes to listen.

        Args:
            alive: whether there is still a kernel to wait for.

        Raises:
            SandboxError: there is none, or it does not speak ZMTP without encryption.
        """
        for channel in self._take:
            while channel not in self._open:
                try:
                    self._open[channel] = await self._connect(channel)
                except WireError as error:
                    raise SandboxError(str(error)) from None
                except OSError:  # not there yet
                    if not await alive():
                        raise SandboxError("its process ended") from None
                    await asyncio.sleep(_AGAIN_SECONDS)

    async def _connect(self, channel: Channel) -> _Connection:
        made = _Connection(
            subscribes=channel == "iopub",
            identity=self._identity,
            take=self._take[channel],
            max_bytes=self._max_bytes[channel],
            rest=self._rest,
        )
        loop, (transport, _, place) = asyncio.get_running_loop(), self._url(channel).partition("://")
        try:
            if transport == "ipc":
                await loop.create_unix_connection(lambda: made, place)
            else:
                host, _, port = place.rpartition(":")
                await loop.create_connection(lambda: made, host, int(port))
            await made.ready
        except BaseException:
            made.close()
            raise
        return made

    @property
    def lost(self) -> bool:
        """Whether a connection has ended, by the kernel's doing or by our `close`."""
        return not self._open or any(connection.lost for connection in self._open.values())

    def send(self, channel: Channel, frames: list[bytes]) -> None:
        """Send a message. Without a connection it goes nowhere."""
        if connection := self._open.get(channel):
            connection.send(frames)

    async def close(self) -> None:
        """Close the connections; nothing is read any more."""
        connections, self._open = self._open.values(), {}
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.closed.wait()
