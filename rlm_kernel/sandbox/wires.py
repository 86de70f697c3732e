"""How messages go to a kernel and come from it: over sockets of our own, or over a client of jupyter_client's shape.

What comes is handed over as frames, in the order of its channel and bounded in size; nothing is read here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from jupyter_client.session import Session

from rlm_kernel.sandbox.sockets import Channel, Sockets, Take

__all__ = ["ClientWire", "Reception", "SocketWire", "Wire"]


@dataclass(frozen=True, slots=True)
class Reception:
    """Who takes what comes."""

    takes: dict[Channel, Take]
    max_bytes: dict[Channel, int]
    """Of one message of a channel."""
    rest: Callable[[], float]
    """Seconds to leave between two turns of reading while more is there."""


class Wire(Protocol):
    """A connection to one kernel, which is open."""

    session: Session

    @property
    def lost(self) -> bool:
        """Whether it has ended for good."""
        ...

    def send(self, channel: Channel, message: Mapping[str, Any]) -> None:
        """Send a message of the session, with its `buffers`."""
        ...

    def answer(self, text: str) -> None:
        """Answer the kernel's request for input."""
        ...

    async def close(self) -> None:
        """End it; nothing is handed over any more."""
        ...


class SocketWire:
    """Sockets of a kernel on this machine."""

    def __init__(self, session: Session, sockets: Sockets) -> None:
        self.session, self._sockets = session, sockets

    @classmethod
    async def connected(
        cls, session: Session, url: Callable[[Channel], str], reception: Reception, alive: Callable[[], Awaitable[bool]]
    ) -> SocketWire:
        """A connection to the sockets at these places, however long the kernel takes to listen.

        Raises:
            SandboxError: there is no kernel to wait for, or it does not speak ZMTP without encryption.
        """
        sockets = Sockets(url, session.bsession, reception.takes, reception.max_bytes, reception.rest)
        try:
            await sockets.connect(alive)
        except BaseException:
            await sockets.close()
            raise
        return cls(session, sockets)

    @property
    def lost(self) -> bool:
        return self._sockets.lost

    def send(self, channel: Channel, message: Mapping[str, Any]) -> None:
        frames = self.session.serialize(dict(message))
        self._sockets.send(channel, [*frames, *map(bytes, message.get("buffers", ()))])

    def answer(self, text: str) -> None:
        self.send("stdin", self.session.msg("input_reply", {"value": text}))

    async def close(self) -> None:
        await self._sockets.close()


class ClientWire:
    """A client with channels that have `send` and `socket.recv_multipart()`, as jupyter_client's have.

    Args:
        client: its channels are open; it connects anew by itself, or its kernel says that it is gone.
        reception: gets the messages.
    """

    lost = False

    def __init__(self, client: Any, reception: Reception) -> None:
        self.session: Session = client.session
        self._client = client
        self._readers = [asyncio.create_task(self._read(channel, reception)) for channel in reception.takes]

    async def _read(self, channel: Channel, reception: Reception) -> None:
        socket, take = getattr(self._client, f"{channel}_channel").socket, reception.takes[channel]
        while True:
            frames = await socket.recv_multipart()
            size = sum(map(len, frames))
            take(list(frames) if size <= reception.max_bytes[channel] else None, size)

    def send(self, channel: Channel, message: Mapping[str, Any]) -> None:
        getattr(self._client, f"{channel}_channel").send(message)

    def answer(self, text: str) -> None:
        self._client.input(text)

    async def close(self) -> None:
        for task in self._readers:
            task.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._client.stop_channels()
