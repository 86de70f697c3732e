"""What is peculiar to kernels of a Jupyter server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rlm_kernel import configure
from rlm_kernel.config import defaults
from rlm_kernel.errors import InputError, SandboxError
from rlm_kernel.job import sandbox_of
from rlm_kernel.sandbox.kernel import KernelSandbox
from rlm_kernel.sandbox.remote.providers import check_sandbox
from rlm_kernel.sandbox.remote.server import TOKEN, JupyterServer
from tests.sandbox.lab import Lab, lab
from tests.sandbox.remote.places import Relay, Server
from tests.sandbox.remote.test_remote import folders


@pytest.fixture
def relay(server: Server) -> Iterator[Relay]:
    """A way to the server that can be broken."""
    made = Relay(server.port)
    yield made
    made.close()


@pytest.fixture
def through(server: Server, relay: Relay) -> Iterator[Lab]:
    """A sandbox on the server, by that way."""
    with lab(KernelSandbox(JupyterServer(f"http://127.0.0.1:{relay.port}/base/", server.token))) as made:
        yield made.start()


def test_an_address_is_enough(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the token in the environment, the address alone names the sandbox; ending it deletes its kernel."""
    before, there = folders(), server.kernels()
    monkeypatch.setenv(TOKEN, server.token)
    check_sandbox(server.url)
    options = defaults().merged({"sandbox": f"{server.url}/lab"})
    with lab(sandbox_of(options)) as made:
        made.put(n=41)
        assert made.say("n + 1") == "42"
        assert len(server.kernels()) == len(there) + 1
        assert made.sandbox.isolation == f"as the Jupyter server {server.url} runs it; rlm_kernel adds nothing"
    assert server.kernels() == there
    assert folders() == before


def test_the_token_stays_here(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in no text of the sandbox's objects, and not among what the code can see."""
    monkeypatch.setenv(TOKEN, server.token)
    with lab(KernelSandbox(JupyterServer(server.url, server.token))) as made:
        made.start()
        sandbox = made.sandbox
        shown = (sandbox.kernelspec, sandbox.isolation, sandbox._process, sandbox._client, vars(sandbox))
        assert all(server.token not in text(part) for part in shown for text in (str, repr))
        assert made.say(
            f"{server.token[::-1]!r}[::-1] in str(dict(globals())) + str(dict(__import__('os').environ))"
        ) == ("False")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://host/?token=abc", TOKEN),
        ("http://me:secret@host/", TOKEN),
        ("https:///path", "looks like https://host:8888/"),
        ("https://host:port/", "looks like https://host:8888/"),
        ("https://[host/", "looks like https://host:8888/"),
    ],
)
def test_an_address_that_cannot_be_used(address: str, says: str) -> None:
    """It is refused before anything is sent; a secret in it is not repeated."""
    with pytest.raises(InputError, match=says) as caught:
        check_sandbox(address)
    assert "abc" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("token", "says"), [("wrong", "refused the token \\(403\\)"), (None, "wants a token \\(403\\)")]
)
def test_a_token_that_is_refused(server: Server, token: str | None, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says so and where to put it."""
    before = folders()
    monkeypatch.delenv(TOKEN, raising=False)
    refusal = f"did not start: the Jupyter server .* {says}: put it into {TOKEN}"
    with lab(KernelSandbox(JupyterServer(server.url, token))) as made, pytest.raises(SandboxError, match=refusal):
        made.start()
    assert folders() == before


def test_a_server_that_is_not_there() -> None:
    """The error names the address."""
    nowhere = KernelSandbox(JupyterServer("http://localhost:1/"))
    with lab(nowhere) as made, pytest.raises(SandboxError, match="the Jupyter server http://localhost:1 cannot be re"):
        made.start()


def test_a_kernelspec_of_the_servers(server: Server) -> None:
    """One may be named; one that it does not have is its error, in its words."""
    with lab(KernelSandbox(JupyterServer(server.url, server.token, "python3"))) as made:
        made.start()
        assert made.say("1") == "1"
    unknown = KernelSandbox(JupyterServer(server.url, server.token, "fortran"))
    with lab(unknown) as made, pytest.raises(SandboxError, match="has no kernelspec 'fortran'; it has: python3"):
        made.start()


def test_an_older_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not know the newer dialect, as gateways do not, is spoken to in the older one."""
    monkeypatch.setattr("rlm_kernel.sandbox.remote.server.V1", "a-dialect-that-no-server-knows")
    with lab(KernelSandbox(JupyterServer(server.url, server.token))) as made:
        made.put(big=b"0123456789" * 2_000_000)
        assert made.sandbox._client._wire._client._socket.selected_subprotocol is None
        assert made.say("(len(big), big[-3:], llm_query('é'))") == "(20000000, b'789', 'É')"
        assert made.stop(made.begin("print('ready', flush=True)\nwhile True: pass")).status == "interrupted"


def test_a_broken_connection_is_opened_again(through: Lab, relay: Relay) -> None:
    """The cell goes on, what it printed meanwhile is handed over, and it may still ask."""
    code = "import time\nprint('ready', flush=True)\n"
    code += "for i in range(20):\n    time.sleep(0.05)\n    print(i, flush=True)\nprint(llm_query('a'))"
    running = through.begin(code)
    relay.cut()
    ran = through.outcome(running)
    assert (ran.status, ran.text()) == ("ok", "ready\n" + "".join(f"{i}\n" for i in range(20)) + "A\n")


def test_a_connection_that_breaks_between_cells(through: Lab, relay: Relay) -> None:
    """The next cell waits for another one, and finds the state."""
    through.run("x = 5")
    relay.cut()
    assert through.say("x") == "5"


def test_a_connection_that_is_gone_for_good(through: Lab, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the sandbox counts as dead, and says why."""
    monkeypatch.setattr("rlm_kernel.sandbox.remote.server._SILENCE_SECONDS", 1.0)
    running = through.begin("import time\nprint('ready', flush=True)\ntime.sleep(60)")
    relay.cut(for_good=True)
    ran = through.outcome(running)
    assert ran.status == "died"
    assert ran.text("error") == "the sandbox is gone: its connection was gone for 1 s\n"


def test_a_kernel_that_the_server_ends(through: Lab, server: Server) -> None:
    """One that was deleted or culled is dead to the next cell, though the connection stands."""
    server.ask("DELETE", f"/api/kernels/{through.sandbox._process._id}")
    assert through.run("1").status == "died"


def test_a_server_limits_what_is_printed(through: Lab) -> None:
    """It drops what comes too fast and says so; the cell ends as ever."""
    ran = through.run("for _ in range(60): print('x' * 100_000)")
    assert ran.status == "ok"
    assert "iopub_data_rate_limit" in ran.text("stderr")
    assert through.say("1") == "1"


def test_configured_as_the_default(server: Server) -> None:
    """An address in `configure` is taken as one on a cell's line."""
    try:
        assert configure(sandbox=server.url).sandbox == server.url
    finally:
        configure(sandbox=None)
