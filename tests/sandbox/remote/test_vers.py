"""The example of a virtual machine for each sandbox, against a stand-in of the provider's HTTP API.

The stand-in "creates" machines that are this one's ssh daemon. It is written from the API's public pages and proves the
example, not the service.
"""

from __future__ import annotations

import getpass
import itertools
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rlm_kernel import RLM, Sandbox, ScriptedModel
from rlm_kernel.errors import SandboxError
from tests.sandbox.lab import lab
from tests.sandbox.remote.places import Sshd
from tests.sandbox.remote.test_remote import folders
from tests.sandbox.remote.vers import VersSandbox

_SSH = {"HostName": "127.0.0.1", "User": getpass.getuser()}


class Provider:
    """What the stand-in knows.

    Attributes:
        machines: those that exist, with how often each was asked for its state.
        asked: every request, as "METHOD path".
    """

    key = "the-key-of-the-provider"

    def __init__(self, sshd: Sshd) -> None:
        self.machines: dict[str, int] = {}
        self.asked: list[str] = []
        self._sshd, self._numbers = sshd, itertools.count(1)

    def answer(self, method: str, path: str, body: Any, key: str | None) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        if key != f"Bearer {self.key}":
            return 401, {"error": "who are you"}
        if (method, path) == ("POST", "/vm/from_commit"):
            if body != {"commit_id": "golden"}:
                return 404, {"error": "no such commit"}
            machine = f"vm-{next(self._numbers)}"
            self.machines[machine] = 0
            return 200, {"vm_id": machine}
        _, _, machine, *rest = path.split("/")
        if machine not in self.machines:
            return 404, {"error": "no such machine"}
        if method == "DELETE":
            del self.machines[machine]
            return 200, {"vm_id": machine}
        if rest == ["status"]:
            self.machines[machine] += 1
            return 200, {"vm_id": machine, "state": "booting" if self.machines[machine] == 1 else "running"}
        return 200, {"ssh_port": self._sshd.port, "ssh_private_key": (self._sshd.folder / "user").read_text()}


@pytest.fixture
def provider(sshd: Sshd) -> Provider:
    """A provider without a machine."""
    pytest.importorskip("sshpyk", reason="sshpyk is not installed: pip install sshpyk")
    return Provider(sshd)


@pytest.fixture
def api(provider: Provider) -> Iterator[str]:
    """Where its API is."""

    class Requests(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            status, answer = provider.answer(self.command, self.path, body, self.headers.get("Authorization"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_POST = do_DELETE = _serve

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Requests) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_a_machine_for_a_sandbox(api: str, provider: Provider) -> None:
    """It is created with the first start, keeps its variables from question to question, and is deleted in the end."""
    before = folders()
    sandbox = VersSandbox("golden", provider.key, python=sys.executable, api=api, ssh=_SSH)
    assert isinstance(sandbox, Sandbox)
    model = ScriptedModel(
        ["```repl\nseen = len(text)\nSUBMIT(reply=llm_query('hi'))\n```", "```repl\nSUBMIT(reply=str(seen))\n```"],
        sub="heard",
    )
    with RLM("text -> reply: str", model=model, sub_model=model, sandbox=sandbox) as rlm:
        assert provider.machines == {}
        assert rlm("First?", text="x" * 1_000_000).reply == "heard"
        assert list(provider.machines) == ["vm-1"]
        assert rlm("Second?", text="y").reply == "1000000"
    assert provider.machines == {}
    assert provider.asked[-1] == "DELETE /vm/vm-1"
    assert folders() == before


def test_a_machine_whose_kernel_dies_is_replaced(api: str, provider: Provider) -> None:
    """The state is gone; the next start has another machine, and the first one is deleted."""
    with lab(VersSandbox("golden", provider.key, python=sys.executable, api=api, ssh=_SSH)) as made:
        made.start()
        assert made.run("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)").status == "died"
        assert provider.machines == {}
        made.start()
        assert made.say("1") == "1"
        assert list(provider.machines) == ["vm-2"]
    assert provider.machines == {}


def test_an_interrupt_keeps_the_machine(api: str, provider: Provider) -> None:
    """Stop ends the cell and nothing else."""
    with lab(VersSandbox("golden", provider.key, python=sys.executable, api=api, ssh=_SSH)) as made:
        made.put(kept=7)
        assert made.stop(made.begin("print('ready', flush=True)\nwhile True: pass")).status == "interrupted"
        assert made.say("kept") == "7"


@pytest.mark.parametrize(("commit", "python"), [("tin", sys.executable), ("golden", "/no/such/python")])
def test_a_machine_that_cannot_be_had(api: str, provider: Provider, commit: str, python: str) -> None:
    """Whether the image or its Python is missing: one clear error, and no machine is left."""
    before = folders()
    sandbox = VersSandbox(commit, provider.key, python=python, api=api, ssh=_SSH)
    with lab(sandbox) as made, pytest.raises(SandboxError, match=r"from_commit failed|did not start"):
        made.put(x=1)
    assert provider.machines == {}
    assert folders() == before
