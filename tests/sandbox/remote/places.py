"""Places to run a sandbox, other machines in all but that they are this one: an ssh daemon, a Jupyter server, a Python.

Each is a child of the tests, on a free port, with keys and folders of its own.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpec

__all__ = ["Relay", "Server", "Sshd", "second_python"]

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _folder(kind: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{kind}-"))  # below the tests' own, and short: a control socket lies there


def _jupyter(folder: Path) -> dict[str, str]:
    """An environment whose Jupyter files lie in `folder`."""
    names = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    return {**{name: str(folder / part) for name, part in names.items()}, "IPYTHONDIR": str(folder / "ipython")}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def second_python() -> Path:
    """The interpreter of a fresh environment with ipykernel alone; skips the test where pip cannot fetch it."""
    folder = _folder("venv")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "ipykernel"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=170)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word from pip"])[-1]
        pytest.skip(f"pip could not fetch ipykernel for a second Python: {last}")
    return python


class Sshd:
    """A private ssh daemon on this machine; `close` it. Its user is this one, its key one of its own."""

    def __init__(self) -> None:
        program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None or shutil.which("ssh") is None:
            pytest.skip("there is no ssh daemon: apt install openssh-server openssh-client")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # root's sshd wants it and does not make it
        self.folder, self.port = _folder("ssh"), _free_port()
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key)], check=True)
        there = _jupyter(self.folder)
        for place in there.values():
            Path(place).mkdir()
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\nPidFile none\nStrictModes no\n"
            f"AuthorizedKeysFile {self.folder}/user.pub\nPasswordAuthentication no\nPermitRootLogin yes\n"
            f"SetEnv {' '.join(f'{name}={value}' for name, value in there.items())}\n"
        )
        self.config = self.folder / "ssh_config"
        self.config.write_text(
            f"Host box\n  HostName 127.0.0.1\n  Port {self.port}\n  User {getpass.getuser()}\n"
            f"  IdentityFile {self.folder}/user\n  IdentitiesOnly yes\n  BatchMode yes\n  StrictHostKeyChecking no\n"
            f"  UserKnownHostsFile {self.folder}/known\n  LogLevel ERROR\n"
            f"  ControlMaster auto\n  ControlPath {self.folder}/c-%C\n  ControlPersist 60\n"
        )
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while (done := self.run("true")).returncode:
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.close()
                raise RuntimeError(f"no way in by ssh: {done.stderr} {(self.folder / 'log').read_text()}")
            time.sleep(0.05)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command over there."""
        words = ["ssh", "-F", str(self.config), "box", command]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=_STOP_SECONDS)

    def kernelspec(self, **config: Any) -> KernelSpec:
        """A kernel of this very Python behind the daemon, as sshpyk's kernelspecs are written."""
        pytest.importorskip("sshpyk", reason="sshpyk is not installed: pip install sshpyk")
        there = {"ssh_config": str(self.config), "ssh_host_alias": "box", "remote_python": sys.executable}
        stanza = {
            "provisioner_name": "sshpyk-provisioner",
            "config": {**there, "remote_kernel_name": "python3", **config},
        }
        return KernelSpec(argv=[], display_name="box", language="python", metadata={"kernel_provisioner": stanza})

    def kernels(self) -> list[int]:
        """The process ids of the kernels over there."""
        return [
            int(pid) for pid in self.run(f"pgrep -f '^[^ ]*python.*ipykernel.*{self.folder}/runtime'").stdout.split()
        ]

    def cut(self) -> None:
        """Break every connection; the next command makes a new one."""
        words = ["ssh", "-F", str(self.config), "-O", "exit", "box"]
        subprocess.run(words, capture_output=True, check=False, timeout=_STOP_SECONDS)

    def close(self) -> None:
        """End it, and the connections to it."""
        self.cut()
        _end(self._process)


class Server:
    """A plain Jupyter server on this machine that wants a token; `close` it."""

    token = "the-token-of-the-tests"

    def __init__(self) -> None:
        self.folder, self.port = _folder("jupyter"), _free_port()
        self.url = f"http://127.0.0.1:{self.port}/base"
        options = {
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,
            "ServerApp.base_url": "/base/",
            "ServerApp.root_dir": self.folder,
            "IdentityProvider.token": self.token,
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "JPY_", "RLM_"))}
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root"]
                + [f"--{name}={value}" for name, value in options.items()],
                env={**kept, **_jupyter(self.folder), "HOME": str(self.folder)},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                self.kernels()
                return
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.close()
                raise RuntimeError(f"the Jupyter server did not start:\n{(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.1)

    def ask(self, method: str, path: str) -> Any:
        """Ask its REST interface."""
        request = urllib.request.Request(
            self.url + path, method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=_STOP_SECONDS) as answer:
            text = answer.read()
        return json.loads(text) if text.strip() else None

    def kernels(self) -> list[str]:
        """The ids of its kernels."""
        return [kernel["id"] for kernel in self.ask("GET", "/api/kernels")]

    def close(self) -> None:
        """End it, and its kernels with it."""
        _end(self._process)


class Relay:
    """Passes the bytes of tcp connections on to a port, until it is cut; `close` it."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._refusing = threading.Event()
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self._refusing.is_set():
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._to))
            self._ends += [near, far]
            for source, target in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._pass_on, args=(source, target)))
                self._threads[-1].start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self, *, for_good: bool = False) -> None:
        """Break the connections that there are; new ones are let through again, or not."""
        if for_good:
            self._refusing.set()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Break everything and listen no more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()
