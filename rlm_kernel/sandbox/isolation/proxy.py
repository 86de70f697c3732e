"""The sandbox's one way into the network: an HTTP proxy in the notebook's process that knows a list of hosts.

It opens tunnels (CONNECT) and passes plain HTTP on, one request per connection, always written anew: what the sandbox
sent is parsed by h11 and never forwarded as it stands. Names are resolved here. Nothing of the host's is added to a
request: no credential, no cookie, no address. Who is meant by a tunnel is the address alone: on a shared server other
names than the listed one can be asked for inside of TLS.

Sources: RFC 9110 (proxies, CONNECT, fields that are not passed on), RFC 9112 (absolute form, Host).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import h11

from rlm_kernel.sandbox.isolation.allowlist import Allowed, find, is_public, shown
from rlm_kernel.sandbox.isolation.relay import (
    IDLE_SECONDS,
    Peer,
    RefusalError,
    Streams,
    forward,
    refuse,
    target,
    tunnel,
)

__all__ = ["Proxy", "Resolve", "Traffic"]

MAX_CONNECTIONS = 64
"""Open at once; more wait to be accepted."""
_HEAD_SECONDS, _CONNECT_SECONDS = 20.0, 15.0
_NAMED = 8
_LOOKING_UP = 4
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host; raises OSError."""


@dataclass(slots=True)
class Traffic:
    """What went through, and what did not."""

    connections: int = 0
    """To hosts on the list."""
    refused: int = 0
    _unsaid: dict[str, int] = field(default_factory=dict)

    def refuse(self, what: str) -> None:
        """Count a refusal; `what` is shown to people, so it must be clean."""
        self.refused += 1
        if what in self._unsaid or len(self._unsaid) < _NAMED:
            self._unsaid[what] = self._unsaid.get(what, 0) + 1

    def words(self, net: str) -> str:
        """All of it in a line, for a sandbox that may reach `net`."""
        return f"network: {self.connections:,} connections to {net}, {self.refused:,} refused to others"

    def news(self) -> str:
        """One line on what was refused since the last time; empty for nothing."""
        said, self._unsaid = self._unsaid, {}
        told = [what + (f" ({times:,} times)" if times > 1 else "") for what, times in said.items()]
        return f"[network refused: {'; '.join(told)}]\n" if told else ""


class Proxy:
    """Serves one listening socket until it is closed. To be made on a running loop.

    Args:
        listening: a TCP socket that listens; the proxy closes it.
        listed: where connections may go.
        resolve: finds a host's addresses.

    Attributes:
        traffic: counts.
    """

    def __init__(self, listening: socket.socket, listed: Sequence[Allowed], resolve: Resolve | None = None) -> None:
        self._listening, self._listed = listening, tuple(listed)
        self._resolve = resolve or self._look_up
        # not the loop's own threads: a name server that does not answer would keep the host's other work waiting
        self._names = ThreadPoolExecutor(_LOOKING_UP, "rlm-sandbox-names")
        self.traffic = Traffic()
        self._tasks: set[asyncio.Task[None]] = set()
        listening.setblocking(False)
        self._accepting = asyncio.create_task(self._accept())

    async def close(self) -> None:
        """End every connection and close the socket. Safe to call twice."""
        ending = [self._accepting, *self._tasks]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports close their sockets in the loop's next round
        self._listening.close()
        self._names.shutdown(wait=False, cancel_futures=True)

    async def _look_up(self, host: str, port: int) -> list[str]:
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._names, look_up)
        return list(dict.fromkeys(str(info[4][0]) for info in found))

    async def _accept(self) -> None:
        loop, places = asyncio.get_running_loop(), asyncio.Semaphore(MAX_CONNECTIONS)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            places.release()

        while True:
            await places.acquire()
            try:
                accepted, _ = await loop.sock_accept(self._listening)
            except OSError:  # too many files are open, or the other end has gone already
                places.release()
                await asyncio.sleep(0.1)
                continue
            task = asyncio.create_task(self._serve(accepted))
            self._tasks.add(task)
            task.add_done_callback(ended)

    async def _serve(self, accepted: socket.socket) -> None:
        peers: list[Peer] = []
        try:
            async with asyncio.timeout(IDLE_SECONDS) as clock:
                guest = Peer(await asyncio.open_connection(sock=accepted), h11.SERVER, clock)
                peers.append(guest)
                try:
                    await self._converse(guest, peers, clock)
                except RefusalError as refusal:
                    await refuse(guest, refusal)
                await guest.finish()
        except* (OSError, h11.ProtocolError):
            pass  # the network's fault or the sandbox's: the connection ends, and that is all
        finally:
            for peer in peers:
                peer.abort()
            if not peers:
                accepted.close()

    async def _converse(self, guest: Peer, peers: list[Peer], clock: asyncio.Timeout) -> None:
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                request = await guest.event()
        except h11.RemoteProtocolError as error:
            raise RefusalError(error.error_status_hint, "not a request that this proxy understands") from None
        if not isinstance(request, h11.Request):
            return  # it has closed
        host, port, path = target(request)
        server = Peer(await self._connect(host, port), h11.CLIENT, clock)
        peers.append(server)
        if path is None:
            await tunnel(guest, server)
        else:
            await forward(guest, server, request, shown(host, None if port == 80 else port), path)

    async def _connect(self, host: str, port: int) -> Streams:
        """A connection to a host on the list."""
        name = shown(host, port)
        entry = find(self._listed, host, port)
        if entry is None:
            self.traffic.refuse(f"{name} is not on the --net list")
            raise RefusalError(403, f"{name} is not on the --net list")
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                addresses = await self._resolve(host, port)
                if not entry.anywhere and not all(map(is_public, addresses)):
                    why = f"{name} leads to a private address, which is not on the --net list"
                    self.traffic.refuse(why)
                    raise RefusalError(403, why)
                streams = await _first(addresses, port)
        except OSError:  # a name that is unknown and a timeout are such as well
            raise RefusalError(502, f"{name} cannot be reached") from None
        self.traffic.connections += 1
        return streams


async def _first(addresses: list[str], port: int) -> Streams:
    """A connection to the first that answers: to the very addresses that were looked at, not to the name again."""
    for address in addresses[:-1]:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection(address, port)
    if not addresses:
        raise OSError("no address")
    return await asyncio.open_connection(addresses[-1], port)
