"""`--net` in real sandboxes: the listed host is reached, nothing else is, and the user sees what was tried."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from rlm_kernel import RLM, FakeSandbox
from rlm_kernel.errors import InputError, SandboxError
from rlm_kernel.sandbox.isolation import network
from rlm_kernel.sandbox.isolation.inside import landlock
from rlm_kernel.sandbox.isolation.levels import why_not
from rlm_kernel.sandbox.isolation.provisioner import IsolatedProvisioner
from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.sandbox.isolation.hostile import SMALL, descriptors
from tests.sandbox.isolation.web import PRELUDE, Server, served
from tests.sandbox.lab import Lab, lab

Servers = tuple[Server, Server]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """One that is listed, one that is not."""
    with served() as listed, served() as other:
        yield listed, other


@pytest.fixture(scope="module")
def networked(servers: Servers) -> Iterator[Lab]:
    """A sandbox that may reach the first."""
    if missing := why_not("full"):
        pytest.skip(missing)
    if landlock.abi() < landlock.KNOWS_PORTS:
        pytest.skip("this kernel's Landlock knows no ports")
    with lab(KernelSandbox(level="full", limits=SMALL, net=f"localhost:{servers[0].server_port}")) as made:
        yield made


@pytest.fixture
def inside(networked: Lab, servers: Servers) -> Lab:
    """It, running, with the ports."""
    for server in servers:
        server.seen.clear()
    networked.start()
    ports = f"PLAIN, OTHER = {servers[0].server_port}, {servers[1].server_port}"
    prepared = networked.run(PRELUDE + ports)
    assert prepared.status == "ok", prepared.text()
    return networked


def test_the_listed_host_is_reached(inside: Lab, servers: Servers) -> None:
    """By urllib, in this process and in one that it starts."""
    ran = inside.run("""
attempt(fetch, f'http://localhost:{PLAIN}/one')
words = [sys.executable, '-c', f'import urllib.request as u; print(u.urlopen("http://localhost:{PLAIN}/three").read())']
print(subprocess.run(words, capture_output=True, text=True).stdout)
""")

    assert ran.text("stdout").split() == ["GOT", "/one", "b'/three'"]
    assert servers[0].seen == ["/one", "/three"]


def test_everything_else_is_refused(inside: Lab, servers: Servers) -> None:
    """Another port, name or address, and where a listed host redirects to; the other server sees nothing."""
    ran = inside.run("""
for address in (f'http://localhost:{OTHER}/', f'http://127.0.0.1:{PLAIN}/', 'http://evil.example/',
                'http://169.254.169.254/latest/meta-data/',
                f'http://localhost:{PLAIN}/to?http://localhost:{OTHER}/redirected'):
    attempt(fetch, address)
for tunnel in (f'localhost:{OTHER}', f'127.0.0.1:{PLAIN}', 'evil.example:443', '1.1.1.1:443'):
    print(raw(f'CONNECT {tunnel} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'))
""")
    lines = ran.text("stdout").strip().splitlines()

    assert lines[5:] == ["403"] * 4
    assert all("is not on the --net list" in line for line in lines[:5]), lines
    assert servers[1].seen == []


def test_the_user_sees_what_was_refused(inside: Lab) -> None:
    """Once, at the end of the cell that tried, whatever the cell made of it; and in the words of the sandbox."""
    before = int(inside.sandbox.network.split(",")[-1].split()[0])
    ran = inside.run("""
for _ in range(3):
    try:
        fetch('http://evil.example/')
    except OSError:
        pass
""")

    assert ran.text() == "[network refused: evil.example:80 is not on the --net list (3 times)]\n"
    assert ran.chunks[-1].kind == "stderr"
    assert inside.run("1").text("stderr") == ""
    assert inside.sandbox.network.endswith(f", {before + 3} refused to others")


def test_there_is_no_other_way_out(inside: Lab, servers: Servers) -> None:
    """No direct connection, UDP, ICMP, raw packets, IPv6, MPTCP, names, listening, nor another network."""
    ran = inside.run("""
def connect(family, kind, protocol, address):
    with socket.socket(family, kind, protocol) as s:
        s.settimeout(2)
        s.connect(address)

INET, STREAM, DGRAM = socket.AF_INET, socket.SOCK_STREAM, socket.SOCK_DGRAM
for port in (PLAIN, OTHER, 9):
    attempt(connect, INET, STREAM, 0, ('127.0.0.1', port))
attempt(connect, INET, STREAM, 0, ('1.1.1.1', 443))
attempt(connect, INET, STREAM, 0, ('1.1.1.1', PROXY[1]))
attempt(connect, INET, STREAM, 0, ('127.0.0.2', PROXY[1]))
attempt(connect, INET, STREAM, 262, PROXY)
attempt(connect, INET, STREAM, 132, PROXY)
attempt(connect, INET, socket.SOCK_SEQPACKET, 0, PROXY)
attempt(connect, INET, DGRAM, 0, ('1.1.1.1', 53))
attempt(connect, INET, DGRAM, 1, ('1.1.1.1', 0))
attempt(connect, INET, socket.SOCK_RAW, 1, ('1.1.1.1', 0))
attempt(connect, socket.AF_INET6, STREAM, 0, ('::1', PLAIN))
attempt(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW)
attempt(socket.socket, socket.AF_PACKET, socket.SOCK_RAW)
attempt(socket.socketpair, INET, STREAM)
attempt(socket.getaddrinfo, 'localhost.example.org', 443)
attempt(socket.create_server, ('127.0.0.1', 0))
attempt(os.unshare, 0x40000000) if hasattr(os, 'unshare') else print('no unshare')
""")
    said = ran.text("stdout")

    assert ran.status == "ok"
    assert len(said.strip().splitlines()) == 19
    assert "GOT" not in said
    assert [server.seen for server in servers] == [[], []]


def test_fast_open_reaches_nothing(inside: Lab, servers: Servers) -> None:
    """A send that connects is no way around Landlock: there is nothing but this sandbox in its network."""
    ran = inside.run("""
for address in (('127.0.0.1', PLAIN), ('127.0.0.1', OTHER), ('1.1.1.1', 443)):
    s = socket.socket()
    s.settimeout(2)
    attempt(s.sendto, b'GET /fast HTTP/1.0\\r\\n\\r\\n', socket.MSG_FASTOPEN, address)
    attempt(s.recv, 100)
    s.close()
""")

    assert "GOT b" not in ran.text("stdout")
    assert [server.seen for server in servers] == [[], []]


def test_smuggling_from_inside(inside: Lab, servers: Servers) -> None:
    """Raw requests that mean two things reach no server but the listed one, with its own name."""
    ran = inside.run("""
attempt(raw, f'GET http://localhost:{PLAIN}/host HTTP/1.1\\r\\nHost: localhost:{OTHER}\\r\\n\\r\\n')
attempt(raw, f'GET http://localhost:{OTHER}/ HTTP/1.1\\r\\nHost: localhost:{PLAIN}\\r\\n\\r\\n')
attempt(raw, f'CONNECT localhost:{OTHER} HTTP/1.1\\r\\nHost: localhost:{PLAIN}\\r\\n\\r\\n')
attempt(raw, f'GET http://localhost:{PLAIN}@localhost:{OTHER}/ HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
hidden = f'GET http://localhost:{OTHER}/ HTTP/1.1'
attempt(raw, f'GET http://localhost:{PLAIN}/a HTTP/1.1\\r\\nHost: x\\r\\nA: b\\n{hidden}\\r\\n\\r\\n')
upgrade = 'Connection: Upgrade\\r\\nUpgrade: h2c'
attempt(raw, f'GET http://localhost:{PLAIN}/up HTTP/1.1\\r\\nHost: x\\r\\n{upgrade}\\r\\n\\r\\n')
attempt(raw, 'GET ' + 'a' * 10**6)
""")

    assert ran.text("stdout").replace("GOT ", "").split() == ["200", "403", "403", "400", "400", "200", "431"]
    assert (servers[0].seen, servers[1].seen) == (["/host", "/up"], [])


def test_what_it_says(inside: Lab, servers: Servers) -> None:
    """The words name the hosts and that data can leave; without `--net` they say that there is no network."""
    listed = f"localhost:{servers[0].server_port}"

    assert f"network: only {listed}, through a proxy of the host; what the code knows can be sent there" in (
        inside.sandbox.isolation
    )
    assert "no network" not in inside.sandbox.isolation
    assert "no network" in KernelSandbox(level="full").isolation
    assert KernelSandbox(level="full").network == ""


def test_shutdown_ends_what_goes_on(servers: Servers) -> None:
    """A transfer in the middle is broken off; no descriptor, task or socket of the proxy is left."""
    if missing := why_not("full"):
        pytest.skip(missing)
    plain = servers[0]
    plain.ended.clear()
    with lab(KernelSandbox(level="full", limits=SMALL, net=f"localhost:{plain.server_port}")) as made:
        made.wait(made.sandbox.put({}))
        before = descriptors()
        made.start()
        running = made.begin(f"""
import urllib.request
answer = urllib.request.urlopen('http://localhost:{plain.server_port}/endless')
print('ready')
while answer.read(65536):
    pass
""")
        proxy = made.sandbox._process.manager.provisioner.network._proxy
        assert len(proxy._tasks) == 1
        made.wait(made.sandbox.shutdown())

        assert running.result(10).status == "died"
        assert plain.ended.wait(10)
        assert proxy._tasks == set()
        assert proxy._accepting.done()
        assert proxy._listening.fileno() == -1
        assert descriptors() <= before


def test_levels_that_cannot() -> None:
    """One line says why and what to do: no isolation, no network of its own, another kernelspec, another sandbox."""
    cases = [
        (lambda: KernelSandbox(level="none", net="a.example"), "level 'none' all of the network is open; leave --net"),
        (lambda: KernelSandbox("python3", net="a.example"), "the kernelspec 'python3' has the network it has; leave"),
        (
            lambda: RLM("-> n: int", sandbox=FakeSandbox(), sandbox_net="a.example"),
            "FakeSandbox has the network it has",
        ),
        (lambda: KernelSandbox(net="http://a.example"), "is no host; write api.example.org"),
        (lambda: RLM("-> n: int", sandbox_net=["a.example"]), r"sandbox_net takes HOST\[:PORT\]"),
    ]
    if not why_not("landlock"):
        cases.append((lambda: KernelSandbox(level="landlock", net="a.example"), "only the level 'full' has a network"))
    for make, said in cases:
        with pytest.raises(InputError, match=said) as error:
            make()
        assert "\n" not in str(error.value)


def test_kernels_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Landlock knows no ports it is refused beforehand; where only the sandbox finds out, it does not start."""
    if missing := why_not("full"):
        pytest.skip(missing)
    with monkeypatch.context() as patched:
        patched.setattr(landlock, "abi", lambda: 3)
        with pytest.raises(InputError, match=r"Linux 6\.7 can; leave --net away"):
            KernelSandbox(level="full", net="a.example")
    monkeypatch.setattr(IsolatedProvisioner, "newest_landlock", 3)
    with lab(KernelSandbox(level="full", net="a.example")) as made:
        before = descriptors()
        with pytest.raises(SandboxError, match="cannot hold a program to one port"):
            made.start()
        assert descriptors() <= before


def test_a_socket_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the sandbox does not start."""
    made = network.Network(network.parse("a.example"))
    with pytest.raises(SandboxError, match="no network of its own"):
        made.open()
    ours, its = made._ours, made._its
    assert isinstance(ours, socket.socket)
    assert ours.fileno() == -1
    assert isinstance(its, socket.socket)
    its.close()
