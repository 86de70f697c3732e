"""What hostile cells are after: secrets, servers and a process outside of the sandbox, and what became of them.

A cell knows where all of it is, and not the secret. Whether it got through is read off here as far as that can be.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import psutil

VARIABLE = "RLM_CANARY"
_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGIO, signal.SIGTERM, signal.SIGHUP)
_BYSTANDER = """
import os, signal, sys
note = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for number in map(int, sys.argv[2:]):
    signal.signal(number, lambda n, frame: os.write(note, f"signal {n} ".encode()))
os.write(1, b"ready")
while True:
    signal.pause()
"""
_libc = ctypes.CDLL(None, use_errno=True)
_NUMBERS = {"x86_64": (248, 250, 303, 29, 31), "aarch64": (217, 219, 264, 194, 195)}[os.uname().machine]
_ADD_KEY, _KEYCTL, _NAME_TO_HANDLE, _SHMGET, _SHMCTL = _NUMBERS


class Outside:
    """The canaries. `places` is what the cells are told."""

    def __init__(self) -> None:
        self.secret = f"canary-{uuid.uuid4().hex}"
        self.home = Path(tempfile.mkdtemp(prefix=".rlm-canary-", dir=Path.home()))
        self.elsewhere = Path(tempfile.mkdtemp())
        self._files: dict[str, Path] = {}
        for name, path in {
            "secret": self.home / "secret",
            "key": self.home / ".ssh/id_ed25519",
            "connection": self.home / "jupyter/runtime/kernel-1.json",
            "config": Path(sys.prefix) / f"{self.home.name}.conf",
            "temporary": self.elsewhere / "secret",
            "posix_shm": Path("/dev/shm") / self.home.name,
        }.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.secret)
            self._files[name] = path
        self.note = self.home / "signals"
        self.note.touch()
        self._heard: list[str] = []
        self._sockets: list[socket.socket] = []
        self._key = _libc.syscall(_ADD_KEY, b"user", b"rlm-canary", self.secret.encode(), len(self.secret), -3)
        self._shm = _libc.syscall(_SHMGET, uuid.uuid4().int & 0x7FFFFFFF, 4096, 0o1666)
        self._fill_shm()
        ports = self._listen()
        os.environ[VARIABLE] = self.secret
        self.process = self._start()
        self.places: dict[str, Any] = {
            **{name: str(path) for name, path in self._files.items()},
            **ports,
            "home": str(self.home),
            "prefix_canary": f"{sys.prefix}/lib/{self.home.name}",
            "handle": self._handle(),
            "process": self.process.pid,
            "host": os.getpid(),
            "keyring_key": self._key,
            "shm": self._shm,
        }
        self._before = self._state()

    def _start(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-S", "-I", "-c", _BYSTANDER, str(self.note), *(str(int(s)) for s in _SIGNALS)]
        environment = {VARIABLE: self.secret}
        made = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, start_new_session=True)
        assert made.stdout is not None
        assert made.stdout.read(5) == b"ready"
        return made

    def _stop(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _fill_shm(self) -> None:
        _libc.shmat.restype = ctypes.c_void_p
        address = _libc.shmat(self._shm, None, 0)
        ctypes.memmove(address, self.secret.encode(), len(self.secret))
        _libc.shmdt(ctypes.c_void_p(address))

    def _handle(self) -> str:
        """As `open_by_handle_at` takes it."""
        made = ctypes.create_string_buffer(b"\x80\0\0\0", 136)
        mount = ctypes.c_int()
        path = str(self._files["secret"]).encode()
        _libc.syscall(_NAME_TO_HANDLE, -100, path, made, ctypes.byref(mount), 0)
        return made.raw.hex()

    def _listen(self) -> dict[str, Any]:
        tcp, udp, unix, abstract = (
            socket.create_server(("127.0.0.1", 0)),
            socket.socket(type=socket.SOCK_DGRAM),
            socket.socket(socket.AF_UNIX),
            socket.socket(socket.AF_UNIX),
        )
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(self.home / "docker.sock"))
        abstract.bind(f"\0{self.home.name}")
        self._sockets = [tcp, udp, unix, abstract]
        for name, listening in {"tcp": tcp, "unix": unix, "abstract": abstract}.items():
            listening.listen(8)
            threading.Thread(target=self._hear, args=(name, listening), daemon=True).start()
        threading.Thread(target=self._hear_packets, args=(udp,), daemon=True).start()
        return {
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "unix": str(self.home / "docker.sock"),
            "abstract": self.home.name,
        }

    def _hear(self, name: str, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                self._heard.append(f"{name} connection")
                connection.close()

    def _hear_packets(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while listening.recv(64):
                self._heard.append("udp packet")

    def _state(self) -> dict[str, Any]:
        """Files, rights and times, and how the bystander stands."""
        found: dict[str, Any] = {}
        for path in [*self._files.values(), *self.home.rglob("*"), self.home, Path(self.places["prefix_canary"])]:
            with contextlib.suppress(FileNotFoundError):
                status = path.lstat()
                text = path.read_bytes() if path.is_file() else b""
                found[str(path)] = (status.st_mode, status.st_uid, status.st_mtime, os.listxattr(path), text)
        for path in [*self._files.values(), self.home]:
            found.setdefault(str(path), "gone")
        process = psutil.Process(self.process.pid)
        found["nice"], found["cpus"] = process.nice(), process.cpu_affinity()
        found["disk"], found["order"] = process.ionice(), os.sched_getscheduler(process.pid)
        found["limits"] = Path(f"/proc/{process.pid}/limits").read_text()
        found["stopped"] = process.status() == psutil.STATUS_STOPPED
        found["oom"] = Path(f"/proc/{process.pid}/oom_score_adj").read_text()
        found["dead"] = self.process.poll()
        return found

    def seen(self, text: str) -> list[str]:
        """What a cell that put out this text got; everything is as before afterwards.

        Its own word counts where nobody else can tell: a line that starts with GOT.
        """
        time.sleep(0.02)  # a packet may be on its way
        found = ["the secret was read"] if self.secret in text else []
        found += [line for line in text.splitlines() if line.startswith("GOT")]
        heard, self._heard = self._heard, []
        now = self._state()
        found += [*heard, *(f"{k} changed" for k in now if now[k] != self._before.get(k))]
        if now != self._before:
            self._mend()
        return found

    def _mend(self) -> None:
        self._stop()
        for path in self._files.values():
            path.unlink(missing_ok=True)
            path.write_text(self.secret)
        known = [*self._files.values(), self.note, self.home / "docker.sock"]
        for path in [*self.home.rglob("*"), Path(self.places["prefix_canary"])]:
            if path not in known and not path.is_dir():
                path.unlink(missing_ok=True)
        self.note.write_text("")
        self.process = self._start()
        self.places |= {"process": self.process.pid, "handle": self._handle()}
        self._before = self._state()

    def close(self) -> None:
        """Remove all of it."""
        os.environ.pop(VARIABLE, None)
        _libc.syscall(_KEYCTL, 3, self._key)
        _libc.syscall(_SHMCTL, self._shm, 0, None)
        for listening in self._sockets:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
        self._stop()
        for path in [*self._files.values(), Path(self.places["prefix_canary"])]:
            path.unlink(missing_ok=True)
        shutil.rmtree(self.home)
        shutil.rmtree(self.elsewhere)

    def told(self, **more: Any) -> str:
        """`O` for the cells."""
        return f"import json\nO = json.loads({json.dumps({**self.places, **more})!r})\n"
