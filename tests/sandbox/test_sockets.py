"""The host's sockets against libzmq's own and against raw ones: in turns, bounded, and closed when closed."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from rlm_kernel.errors import SandboxError
from rlm_kernel.sandbox import sockets as sockets_module
from rlm_kernel.sandbox.sockets import MAX_UNREAD_BYTES, Channel, Sockets
from rlm_kernel.sandbox.zmtp import encode, greeting

PATIENCE_SECONDS = 20
KINDS: dict[Channel, int] = {"shell": zmq.ROUTER, "iopub": zmq.XPUB, "stdin": zmq.ROUTER}
MB = 2**20


class Peer:
    """A kernel's three sockets, of libzmq, and the host's connected to them.

    Attributes:
        came: the messages of each channel; None for one that was too large.
    """

    def __init__(self, transport: str, folder: Path) -> None:
        self.context = zmq.Context()
        self.sockets = {channel: self.context.socket(kind) for channel, kind in KINDS.items()}
        self.urls: dict[Channel, str] = {}
        for channel, made in self.sockets.items():
            made.setsockopt(zmq.SNDTIMEO, PATIENCE_SECONDS * 1000)
            made.setsockopt(zmq.RCVTIMEO, PATIENCE_SECONDS * 1000)
            made.setsockopt(zmq.LINGER, 0)
            if channel == "iopub":
                made.setsockopt(zmq.XPUB_NODROP, 1)
            else:
                made.setsockopt(zmq.ROUTER_MANDATORY, 1)
            made.bind(f"ipc://{folder}/{channel}" if transport == "ipc" else "tcp://127.0.0.1:*")
            self.urls[channel] = made.getsockopt_string(zmq.LAST_ENDPOINT)
        self.came: dict[Channel, list[list[bytes] | None]] = {channel: [] for channel in KINDS}
        self.rest = 0.0
        self.host = Sockets(
            self.urls.__getitem__,
            b"host",
            {channel: self._taker(channel) for channel in KINDS},
            dict.fromkeys(KINDS, MB),
            lambda: self.rest,
        )

    def _taker(self, channel: Channel) -> Callable[[list[bytes] | None, int], None]:
        return lambda frames, size: self.came[channel].append(frames)

    async def connect(self) -> None:
        async def alive() -> bool:
            return True

        await self.host.connect(alive)
        await asyncio.to_thread(self.sockets["iopub"].recv)  # the subscription

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        await self.host.close()
        self.context.destroy(linger=0)


@pytest.fixture(params=["ipc", "tcp"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    """Runs a coroutine with a connected peer."""

    def go(body: Callable[[Peer], Coroutine[Any, Any, None]]) -> None:
        async def work() -> None:
            peer = Peer(request.param, tmp_path)
            try:
                await peer.connect()
                await body(peer)
            finally:
                await peer.close()

        asyncio.run(work())

    return go


def test_both_ways(run: Callable[..., None]) -> None:
    """libzmq reads what we send, knows us by our identity, and its messages arrive in order."""

    async def body(peer: Peer) -> None:
        peer.host.send("shell", [b"a", b"", b"x" * 100_000])
        assert await asyncio.to_thread(peer.sockets["shell"].recv_multipart) == [b"host", b"a", b"", b"x" * 100_000]
        sent = [[b"%d" % n, b"y" * n] for n in range(2000)]
        for frames in sent:
            await asyncio.to_thread(peer.sockets["iopub"].send_multipart, frames)
        peer.sockets["stdin"].send_multipart([b"host", b"ask"])
        await peer.until(lambda: len(peer.came["iopub"]) == 2000 and bool(peer.came["stdin"]))
        assert sent == peer.came["iopub"]
        assert peer.came["stdin"] == [[b"ask"]]

    run(body)


def test_a_message_that_is_too_large(run: Callable[..., None]) -> None:
    """It is told, nothing of it is kept, and the connection goes on."""

    async def body(peer: Peer) -> None:
        targets: dict[Channel, list[bytes]] = {"iopub": [], "shell": [b"host"]}
        for channel, to in targets.items():
            made, came = peer.sockets[channel], peer.came[channel]
            await asyncio.to_thread(made.send_multipart, [*to, b"x" * 20 * MB])
            await asyncio.to_thread(made.send_multipart, [*to, *[b"y" * (MB // 2)] * 60])
            await asyncio.to_thread(made.send_multipart, [*to, b"after"])
            await peer.until(functools.partial(lambda came: len(came) == 3, came))
            assert came == [None, None, [b"after"]]
        assert not peer.host.lost

    run(body)


def test_a_message_of_ever_more_frames_takes_no_memory(run: Callable[..., None]) -> None:
    """500 MB of it leave less than 50 MB behind, where libzmq would keep them all."""

    async def body(peer: Peer) -> None:
        piece, made = b"x" * MB, peer.sockets["iopub"]
        before = psutil.Process().memory_info().rss
        highest = 0

        def send() -> None:
            for _ in range(500):
                made.send(piece, zmq.SNDMORE, copy=False)
            made.send(b"end")

        sending = asyncio.create_task(asyncio.to_thread(send))
        while peer.came["iopub"] == [] or not sending.done():
            highest = max(highest, psutil.Process().memory_info().rss)
            await asyncio.sleep(0.001)
        assert peer.came["iopub"] == [None]
        assert highest - before < 50 * MB

    run(body)


def test_a_flood_lets_others_have_their_turn(run: Callable[..., None]) -> None:
    """While one channel is flooded the loop goes round, and another channel is heard."""

    async def body(peer: Peer) -> None:
        rounds = 0
        stop = threading.Event()

        def flood() -> None:
            while not stop.is_set():
                peer.sockets["iopub"].send(b"x")

        flooding = asyncio.create_task(asyncio.to_thread(flood))
        await peer.until(lambda: len(peer.came["iopub"]) > 1000)
        before = len(peer.came["iopub"])
        while len(peer.came["iopub"]) < before + 5000:
            await asyncio.sleep(0)
            rounds += 1
        peer.sockets["stdin"].send_multipart([b"host", b"ask"])
        await peer.until(lambda: bool(peer.came["stdin"]))
        stop.set()
        await flooding
        assert rounds >= 5000 // sockets_module._AT_ONCE

    run(body)


def test_what_is_not_read_waits_with_the_kernel(run: Callable[..., None]) -> None:
    """Where nobody is in a hurry little is read at a time, and nothing is lost."""

    async def body(peer: Peer) -> None:
        peer.rest = 0.02

        def send() -> None:
            for _ in range(20_000):
                peer.sockets["iopub"].send(b"x" * 1000)

        sending = asyncio.create_task(asyncio.to_thread(send))
        await asyncio.sleep(0.3)
        assert len(peer.came["iopub"]) < 2000
        assert not sending.done()
        peer.rest = 0.0
        await peer.until(lambda: len(peer.came["iopub"]) == 20_000)
        await sending

    run(body)


def test_a_kernel_that_does_not_read(run: Callable[..., None]) -> None:
    """What it leaves unread is bounded; the rest is not sent."""

    async def body(peer: Peer) -> None:
        before = psutil.Process().memory_info().rss
        for _ in range(200):
            peer.host.send("stdin", [b"x" * MB])
            await asyncio.sleep(0)
        transport = peer.host._open["stdin"]._transport
        assert transport is not None
        assert transport.get_write_buffer_size() <= MAX_UNREAD_BYTES + 2 * MB
        await peer.host.close()
        assert psutil.Process().memory_info().rss - before < 300 * MB

    run(body)


def test_closing(run: Callable[..., None]) -> None:
    """Nothing is read or sent any more, and every descriptor is given back."""

    async def body(peer: Peer) -> None:
        before = len(psutil.Process().net_connections("all"))
        await peer.host.close()
        peer.host.send("shell", [b"x"])
        assert peer.host.lost
        assert len(psutil.Process().net_connections("all")) < before

    run(body)


def test_a_kernel_that_is_gone(run: Callable[..., None]) -> None:
    """Its end is noticed."""

    async def body(peer: Peer) -> None:
        assert not peer.host.lost
        peer.sockets["shell"].close()
        await peer.until(lambda: peer.host.lost)

    run(body)


class Raw:
    """A listener that says what it is told and reads nothing."""

    def __init__(self, folder: Path, *says: bytes) -> None:
        self.path, self.says = folder / "raw", list(says)
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(self.path))
        self.listening.listen()
        self.accepted: list[socket.socket] = []
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        for said in self.says:
            self.accepted.append(self.listening.accept()[0])
            self.accepted[-1].sendall(said)
            if not said:
                self.accepted[-1].close()

    def close(self) -> None:
        self.thread.join()
        for made in (*self.accepted, self.listening):
            made.close()


def connects(raw: Raw, alive: bool) -> list[list[bytes] | None]:
    """What comes of connecting one channel to it."""
    came: list[list[bytes] | None] = []

    async def work() -> None:
        async def lives() -> bool:
            return alive

        host = Sockets(
            lambda channel: f"ipc://{raw.path}",
            b"host",
            {"iopub": lambda frames, size: came.append(frames)},
            {"iopub": 1000},
            lambda: 0.0,
        )
        try:
            await asyncio.wait_for(host.connect(lives), PATIENCE_SECONDS)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not came:
                    await asyncio.sleep(0.005)
        finally:
            await host.close()

    try:
        asyncio.run(work())
    finally:
        raw.close()
    return came


def test_a_stranger_is_told(tmp_path: Path) -> None:
    """What speaks something else ends the start in one line."""
    with pytest.raises(SandboxError, match="does not speak ZMTP"):
        connects(Raw(tmp_path, b"SSH-2.0-OpenSSH\r\n" + bytes(100)), alive=True)


def test_one_that_hangs_up_is_asked_again(tmp_path: Path) -> None:
    """As a tunnel does whose other end is not there yet."""
    raw = Raw(tmp_path, b"", b"", greeting("DEALER", b"") + encode([b"hello"]))

    assert connects(raw, alive=True) == [[b"hello"]]


def test_nobody_to_wait_for(tmp_path: Path) -> None:
    """A process that has ended is not waited for."""
    with pytest.raises(SandboxError, match="ended"):
        connects(Raw(tmp_path, b""), alive=False)


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """However a connection came to nothing."""
    before = len(os.listdir("/dev/fd"))
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(SandboxError):
            connects(Raw(tmp_path / str(number), b"x" * 64), alive=True)

    assert len(os.listdir("/dev/fd")) == before
