"""Kernels that are forked from the suspended copy of another one, in its sandbox: up in a few hundredths of a second.

A child begins with what its parent had before the cell that asked for it: imported libraries, and variables, of which
it keeps those that it is given. Isolation, limits and watch are the parent's; it ends with the copy that it came from.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from jupyter_client.session import Session

from rlm_kernel.errors import SandboxError
from rlm_kernel.sandbox.files import Scratch
from rlm_kernel.sandbox.guest.repl import CHILDREN
from rlm_kernel.sandbox.handle import Kernel
from rlm_kernel.sandbox.isolation.processes import Process, end_all_but
from rlm_kernel.sandbox.isolation.provisioner import CHANNELS
from rlm_kernel.sandbox.isolation.proxy import Traffic
from rlm_kernel.sandbox.isolation.talk import listen
from rlm_kernel.sandbox.launch import APART_SECONDS, KernelProcess
from rlm_kernel.sandbox.sockets import Channel
from rlm_kernel.sandbox.wires import Reception, SocketWire, Wire

__all__ = ["ChildKernel", "Offspring"]

BEAR = signal.SIGUSR2
"""Has a copy read what is asked for; see `isolation/inside/kernel.py`."""
_BIRTH_SECONDS = 10.0


class ChildKernel:
    """A kernel that is born from another one's copy; a `handle.Kernel`.

    Args:
        parent: it runs.
    """

    local = True
    reconnects = 0
    cpu_seconds = 0.0
    """What it uses counts as its parent's."""
    traffic: Traffic | None = None
    scratch: Scratch | None = None
    """Its files lie in a hidden folder of its parent's."""
    obstacle = "a child leaves no copies of itself"
    connection_file: str | None = None

    def __init__(self, parent: KernelProcess) -> None:
        self._parent = parent
        self._process: Process | None = None
        self._copy: Process | None = None
        self._paths: dict[str, str] = {}
        self._key = uuid4().hex
        self.ended: asyncio.Future[None] | None = None

    @property
    def inbox(self) -> Path:
        """Its parent's."""
        return self._parent.inbox

    @property
    def pid(self) -> int | None:
        """Its process id on this machine."""
        return self._process.pid if self._process is not None else None

    async def launch(self) -> None:
        """Have it born.

        Raises:
            SandboxError: there is no copy of its parent, or the copy does not answer.
        """
        own = self._parent.own
        if own is None or (copy := own.inside.copy) is None:
            raise SandboxError("there is no copy of its parent")
        name = uuid4().hex
        ports = self._parent.next_ports(len(CHANNELS))
        self._paths = {channel: f"{self._parent.ip}-{port}" for channel, port in zip(CHANNELS, ports, strict=True)}
        said = {"child": name, "ports": ports, "key": self._key, "folder": f"{CHILDREN}/{name}"}
        self._copy = copy
        own.inside.nurse(copy)
        birth = own.inside.births[name] = asyncio.get_running_loop().create_future()
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(listen(path)) for path in self._paths.values()]
            try:
                own.talk.give(said, sockets)
                copy.signal(BEAR)
                pid = await asyncio.wait_for(birth, _BIRTH_SECONDS)
            except OSError as error:  # a TimeoutError too
                raise SandboxError(
                    f"the copy of its parent does not answer ({error or type(error).__name__})"
                ) from None
            finally:
                del own.inside.births[name]
        self._process = Process.find(pid)
        if self._process is None:
            raise SandboxError("its process ended")
        self.ended = asyncio.get_running_loop().create_future()
        self._process.when_ended(self.ended)

    def first_cell(self) -> str:
        """It is a sandbox already, and has its parent's variables."""
        return "__rlm__.born()"

    async def connect(self, reception: Reception) -> Wire:
        """Connect to its sockets.

        Raises:
            SandboxError: it ended.
        """

        def url(channel: Channel) -> str:
            return f"ipc://{self._paths[channel]}"

        session = Session(key=self._key.encode())
        return await SocketWire.connected(session, url, reception, self.alive)

    async def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and not self._process.ended

    async def interrupt(self) -> None:
        """Interrupt what it runs, as `KernelProcess.interrupt` does."""
        if self._process is not None:
            self._process.signal(signal.SIGINT)
            await asyncio.sleep(APART_SECONDS)
            self._process.signal(signal.SIGURG)

    async def end(self) -> None:
        """Kill it and what it started."""
        process, self._process = self._process, None
        if process is not None and not process.ended:
            await asyncio.to_thread(end_all_but, (), process.pid, grouped=False)
        copy, self._copy = self._copy, None
        if copy is not None and self._parent.own is not None:
            self._parent.own.inside.wean(copy)
        if self.ended is not None:
            self.ended.cancel()
        for path in self._paths.values():
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108 - a socket's, which is a text here

    async def resume(self, _newest: int) -> int | None:
        """There is no copy."""
        return None

    def shows(self, path: Path) -> bool:
        """Whether its parent may read that file; it is too late for others."""
        return self._parent.shows(path)

    def allow(self, data: int) -> None:
        """What it is sent counts as its parent's."""
        self._parent.allow(data)

    def last_words(self) -> str:
        """Nobody but the host looks how it ended."""
        return ""


class Offspring:
    """A `handle.Provider`: children of one kernel, or kernels like it where it leaves no copies.

    Args:
        parent: what the children are born from.
        other: makes a kernel of the same kind that is nobody's child.
        isolation: of both, in words.
    """

    def __init__(self, parent: KernelProcess, other: Callable[[], Kernel], isolation: str) -> None:
        self._parent, self._other, self.isolation = parent, other, isolation

    def __str__(self) -> str:
        return "a child"

    def kernel(self) -> Kernel:
        """One of them, not started yet."""
        own = self._parent.own
        return ChildKernel(self._parent) if own is not None and own.inside.has_copy else self._other()
