"""The proxy alone, with servers of this machine: what it passes on, what it refuses, what it never lets be smuggled."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.sandbox.isolation import proxy as proxy_module
from rlm_kernel.sandbox.isolation import relay
from tests.sandbox.isolation.origin import OK, Origin, proxied, said, serving


def run(work: Coroutine[Any, Any, None]) -> None:
    """With a loop of its own, on which nothing is left."""

    async def whole() -> None:
        await asyncio.wait_for(work, 20)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(whole(), debug=False)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_plain_http_is_written_anew() -> None:
    """The server gets a request in origin form with its own Host, without anything that was for the proxy."""

    async def work() -> None:
        async with serving(Origin()) as origin, proxied(f"localhost:{origin.port}") as (proxy, port):
            answer = await said(
                port,
                b"GET http://LOCALHOST:%d/a?b=c HTTP/1.1\r\nHost: evil.example\r\nX-Mine: 1\r\nX-Drop: 2\r\n"
                b"Proxy-Authorization: Basic eDp5\r\nConnection: keep-alive, X-Drop\r\nUpgrade: websocket\r\n\r\n"
                % origin.port,
            )

            assert status(answer) == 200
            assert answer.endswith(b"hello")
            assert origin.got == [
                b"GET /a?b=c HTTP/1.1\r\nHost: localhost:%d\r\nx-mine: 1\r\nConnection: close\r\n\r\n" % origin.port
            ]
            assert (proxy.traffic.connections, proxy.traffic.refused, proxy.traffic.news()) == (1, 0, "")

    run(work())


@pytest.mark.parametrize("target", ["", "/", "?b=c"])
def test_a_path_that_is_left_out(target: str) -> None:
    """It is the root."""

    async def work() -> None:
        async with serving(Origin()) as origin, proxied(f"127.0.0.1:{origin.port}") as (_, port):
            address = f"http://127.0.0.1:{origin.port}{target}"
            assert status(await said(port, f"GET {address} HTTP/1.1\r\nHost: x\r\n\r\n".encode())) == 200
            assert origin.got[0].startswith(b"GET /?b=c " if target.startswith("?") else b"GET / ")

    run(work())


def test_bodies_of_either_kind() -> None:
    """A body goes through with its length, or in chunks; so does an answer of unknown length."""

    async def work() -> None:
        answer = b"HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        async with serving(Origin(answer)) as origin, proxied(f"127.0.0.1:{origin.port}") as (_, port):
            head = b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n" % origin.port
            first = await said(port, head + b"Content-Length: 4\r\n\r\nbody")
            await said(port, head + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
            old = await said(port, head.replace(b"1.1", b"1.0") + b"Content-Length: 4\r\n\r\nbody")

            assert (status(first), b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" in first) == (201, True)
            assert old.endswith(b"\r\n\r\nabcde")
            assert b"Content-Length: 4" in origin.got[0]
            assert origin.got[0].endswith(b"\r\n\r\nbody")
            assert origin.got[1].endswith(b"\r\n\r\n4\r\nbody\r\n0\r\n\r\n")

    run(work())


def test_a_client_that_waits_to_send() -> None:
    """`Expect: 100-continue` is answered here and not passed on."""

    async def work() -> None:
        async with serving(Origin(until=b"body")) as origin, proxied(f"127.0.0.1:{origin.port}") as (_, port):
            head = b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n" % origin.port
            answer = await said(port, head + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n", b"body")

            assert answer.startswith(b"HTTP/1.1 100 ")
            assert answer.endswith(b"hello")
            assert b"Expect" not in origin.got[0]

    run(work())


def test_a_tunnel() -> None:
    """Bytes go through as they are, both ways, the first ones too, until both ends have ended."""

    async def work() -> None:
        async with serving(Origin(echo=True)) as origin, proxied(f"127.0.0.1:{origin.port}") as (proxy, port):
            head = b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port
            early = await said(port, head + b"\0\xff early")
            late = await said(port, head, b"late" * 100_000)

            assert early.split(b"\r\n\r\n", 1)[1] == b"\0\xff early"
            assert late.split(b"\r\n\r\n", 1)[1] == b"late" * 100_000
            assert proxy.traffic.connections == 2

    run(work())


@pytest.mark.parametrize(
    "request_line",
    [
        "CONNECT 127.0.0.1:{other}",
        "CONNECT localhost:{port}",
        "CONNECT [::ffff:127.0.0.1]:{port}",
        "CONNECT 2130706433:{port}",
        "CONNECT 0x7f.1:{port}",
        "CONNECT 169.254.169.254:80",
        "GET http://127.0.0.1:{other}/",
        "GET http://127.0.0.1/",
        "GET http://evil.example/127.0.0.1:{port}/",
    ],
)
def test_what_is_not_on_the_list(request_line: str) -> None:
    """403, and one line that says so; no server sees anything of it."""

    async def work() -> None:
        async with (
            serving(Origin()) as origin,
            serving(Origin()) as other,
            proxied(f"127.0.0.1:{origin.port}") as (proxy, port),
        ):
            line = request_line.format(port=origin.port, other=other.port)
            answer = await said(port, f"{line} HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\n\r\n".encode())

            assert status(answer) == 403
            assert b"is not on the --net list" in answer.splitlines()[0]
            assert b"is not on the --net list" in answer.splitlines()[-1]
            assert origin.got == other.got == []
            assert (proxy.traffic.connections, proxy.traffic.refused) == (0, 1)
            assert "is not on the --net list" in proxy.traffic.news()

    run(work())


@pytest.mark.parametrize(
    "request_text",
    [
        "CONNECT 127.0.0.1 HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT user@127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n",
        "GET https://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET ftp://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET file:///etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://127.0.0.1:{port}@evil.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://evil.example\\@127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://127.0.0.1:{port}#@evil.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET http://127.0.0.1:{port}/ a HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://127.0.0.1:{port}/\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n",
        "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\nA : 1\r\n\r\n",
        "POST http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "POST http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\nabc",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    ],
)
def test_requests_that_are_none(request_text: str) -> None:
    """What two readers could read differently is refused; nothing of it reaches a server, not even a listed one."""

    async def work() -> None:
        async with serving(Origin()) as origin, proxied(f"127.0.0.1:{origin.port}") as (_, port):
            answer = await said(port, request_text.format(port=origin.port).encode("latin-1"))

            assert 400 <= status(answer) < 600
            assert answer.startswith(b"HTTP/1.1 ")
            assert b"".join(origin.got) == b""

    run(work())


def test_nothing_follows_a_request() -> None:
    """A second request behind the first, or hidden behind two lengths that differ, reaches nobody."""

    async def work() -> None:
        async with serving(Origin()) as origin, proxied(f"127.0.0.1:{origin.port}") as (_, port):
            hidden = b"GET http://127.0.0.1:%d/hidden HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port
            await said(port, b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port + hidden)
            await said(
                port,
                b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\nContent-Length: 200\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % origin.port + hidden,
            )

            assert b"hidden" not in b"".join(origin.got)
            assert len(origin.got) == 2
            assert b"Content-Length" not in origin.got[1]

    run(work())


def test_huge_heads() -> None:
    """Refused as too large, whether they end or not."""

    async def work() -> None:
        async with serving(Origin()) as origin, proxied(f"127.0.0.1:{origin.port}") as (_, port):
            head = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n" % origin.port
            long = await said(port, head + b"A: " + b"a" * relay.MAX_HEAD * 4 + b"\r\n\r\n")
            endless = await said(port, head + b"A: " + b"a" * relay.MAX_HEAD * 4)

            assert (status(long), status(endless)) == (431, 431)
            assert origin.got == []

    run(work())


def test_a_server_that_speaks_no_http() -> None:
    """The connection ends; an answer to an upgrade that nobody asked for is none either."""

    async def work() -> None:
        for answer in (b"220 mail.example ESMTP\r\n", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nraw", b""):
            async with serving(Origin(answer)) as origin, proxied(f"127.0.0.1:{origin.port}") as (_, port):
                head = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
                assert b"raw" not in await said(port, head % origin.port)

    run(work())


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1"])
def test_a_name_that_leads_home(address: str) -> None:
    """A listed name with a private address, be it one of several, is refused; the name `localhost` is not."""

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"] if host == "localhost" else ["93.184.215.14", address]

    async def work() -> None:
        async with serving(Origin()) as origin:
            listed = f"api.example.org:{origin.port},localhost:{origin.port}"
            async with proxied(listed, resolve) as (proxy, port):
                answer = await said(port, b"CONNECT api.example.org:%d HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port)
                local = await said(port, b"GET http://localhost:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port)

                assert (status(answer), status(local), len(origin.got)) == (403, 200, 1)
                assert b"private address, which is not on the --net list" in answer
                assert proxy.traffic.refused == 1

    run(work())


def test_a_name_is_resolved_once() -> None:
    """What was looked at is what is connected to: a second answer of the name server changes nothing."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["203.0.113.1"]

    async def work() -> None:
        async with serving(Origin()) as origin, proxied(f"localhost:{origin.port}", resolve) as (_, port):
            assert (
                status(await said(port, b"GET http://localhost:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port)) == 200
            )
            assert asked == ["localhost"]

    run(work())


def test_hosts_that_cannot_be_reached() -> None:
    """502 and one line: a name that is unknown, a port that nobody listens to; neither counts as refused."""

    async def resolve(host: str, port: int) -> list[str]:
        raise OSError("unknown")

    async def work() -> None:
        async with proxied("nowhere.example", resolve) as (proxy, port):
            assert status(await said(port, b"CONNECT nowhere.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")) == 502
            assert (proxy.traffic.connections, proxy.traffic.refused) == (0, 0)
        async with proxied("127.0.0.1:1") as (_, port):
            assert status(await said(port, b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n\r\n")) == 502

    run(work())


def test_more_connections_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait, and are served when others end."""
    monkeypatch.setattr(proxy_module, "MAX_CONNECTIONS", 2)

    async def work() -> None:
        async with serving(Origin()) as origin, proxied(f"127.0.0.1:{origin.port}") as (proxy, port):
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            request = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port
            waiting = asyncio.create_task(said(port, request))
            await asyncio.sleep(0.1)
            assert (len(proxy._tasks), waiting.done(), origin.got) == (2, False, [])
            for _, writer in idle:
                writer.close()
            assert (await waiting).endswith(b"hello")

    run(work())


def test_connections_that_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are ended, before a request and in a tunnel."""
    for module in (proxy_module, relay):
        monkeypatch.setattr(module, "IDLE_SECONDS", 0.1)

    async def work() -> None:
        async with serving(Origin(echo=True)) as origin, proxied(f"127.0.0.1:{origin.port}") as (proxy, port):
            silent, writer = await asyncio.open_connection("127.0.0.1", port)
            tunnel, other = await asyncio.open_connection("127.0.0.1", port)
            other.write(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port)
            await tunnel.readuntil(b"\r\n\r\n")
            for reader in (silent, tunnel):
                with contextlib.suppress(ConnectionResetError):  # an end as well
                    assert await reader.read() == b""
            while proxy._tasks or origin.ended < 1:
                await asyncio.sleep(0.01)
            writer.close()
            other.close()

    run(work())


def test_a_slow_reader_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is not cut off because the end of it is still on its way when nothing follows."""
    monkeypatch.setattr(relay, "_LINGER_SECONDS", 0.001)
    size = 2**19

    def ask(port: int, request: bytes) -> int:
        got = 0
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", port))
            s.sendall(request)
            while data := s.recv(4096):
                got += len(data)
                time.sleep(0.001)
        return got

    async def work() -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
        async with serving(Origin(answer)) as origin, proxied(f"127.0.0.1:{origin.port}") as (_, port):
            request = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port
            assert await asyncio.to_thread(ask, port, request) > size

    run(work())


def test_closing_ends_everything() -> None:
    """Tunnels, connections without a request, the listening socket, every task and descriptor; twice is no harm."""

    async def work() -> None:
        async with serving(Origin(echo=True)) as origin:
            before = len(list(Path("/proc/self/fd").iterdir()))
            async with proxied(f"127.0.0.1:{origin.port}") as (proxy, port):
                readers = []
                for request in (b"", b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(request)
                    readers.append((reader, writer))
                await readers[1][0].readuntil(b"\r\n\r\n")
                await proxy.close()
                for reader, writer in readers:
                    with contextlib.suppress(ConnectionResetError):  # an end as well
                        assert await reader.read() == b""
                    writer.close()
            while origin.ended < 1:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            assert len(list(Path("/proc/self/fd").iterdir())) == before

    run(work())


def test_nothing_of_the_host_is_added(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, credential or cookie of this process's environment or home."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login secret password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://secret:secret@127.0.0.1:1")

    async def work() -> None:
        async with serving(Origin()) as origin, proxied(f"127.0.0.1:{origin.port}") as (_, port):
            answer = await said(port, b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port)
            assert answer.endswith(OK[-5:])
            assert origin.got == [b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n" % origin.port]

    run(work())


def test_what_was_refused_is_told_once_and_shortly() -> None:
    """A line with the hosts and how often, of a few at most; then nothing until there is more."""
    traffic = proxy_module.Traffic()
    for number in range(1000):
        traffic.refuse(f"h{number % 20} is not on the list")
    told = traffic.news()

    assert told.startswith("[network refused: h0 is not on the list (50 times); h1")
    assert told.count("is not on the list") == 8
    assert told.count("\n") == 1
    assert traffic.refused == 1000
    assert traffic.news() == ""
