"""The places are started once for all tests, and only if one wants them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_kernel.sandbox.kernel import KernelSandbox
from rlm_kernel.sandbox.remote.provisioned import Provisioned
from rlm_kernel.sandbox.remote.server import JupyterServer
from tests.sandbox.lab import Lab, echo, lab
from tests.sandbox.remote.places import Server, Sshd, second_python


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    """An ssh daemon."""
    made = Sshd()
    yield made
    made.close()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A Jupyter server."""
    made = Server()
    yield made
    made.close()


@pytest.fixture(scope="session")
def bare_python() -> Iterator[Path]:
    """Where the kernelspec `bare` is, of a Python that has ipykernel and nothing else."""
    python = second_python()
    folder = python.parent.parent
    place = folder / "specs" / "kernels" / "bare"
    place.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (place / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "bare", "language": "python"}))
    yield folder / "specs"
    shutil.rmtree(folder)


@pytest.fixture
def other_python(bare_python: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """That kernelspec's name, which Jupyter finds during the test."""
    monkeypatch.setenv("JUPYTER_PATH", f"{bare_python}{os.pathsep}{os.environ.get('JUPYTER_PATH', '')}")
    return "bare"


def _sandbox(request: pytest.FixtureRequest) -> KernelSandbox:
    if request.param == "ssh":
        return KernelSandbox(Provisioned(request.getfixturevalue("sshd").kernelspec()))
    server = request.getfixturevalue("server")
    return KernelSandbox(JupyterServer(server.url, server.token))


@pytest.fixture(params=["ssh", "server"])
def away(request: pytest.FixtureRequest) -> KernelSandbox:
    """A sandbox of each kind that shares nothing with this machine, not started."""
    return _sandbox(request)


@pytest.fixture(scope="module", params=["ssh", "server"])
def shared_away(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """One of each kind for the tests that leave no state that matters."""
    with lab(_sandbox(request)) as made:
        yield made.start()


@pytest.fixture
def remote(shared_away: Lab) -> Lab:
    """The module's sandbox, running and answering with `echo`."""
    shared_away.answer = echo
    shared_away.asked.clear()
    return shared_away.start()
