"""What `KernelSandbox` asks of a kernel, wherever it runs: a process of this machine, a provisioner's, a server's.

Start it, speak to it, see whether it lives, interrupt it, end it. What is said on its channels is `client.py`'s.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Protocol

from rlm_kernel.errors import TransferError
from rlm_kernel.sandbox.files import Scratch
from rlm_kernel.sandbox.first_cell import bootstrap
from rlm_kernel.sandbox.isolation.proxy import Traffic
from rlm_kernel.sandbox.wires import ClientWire, Reception, Wire

__all__ = ["Elsewhere", "Kernel", "Provider", "show"]


class Kernel(Protocol):
    """A kernel and what was made for it; used once: after `end` another one is made."""

    @property
    def inbox(self) -> Path:
        """Where variables are packed, on this machine."""
        ...

    @property
    def local(self) -> bool:
        """It is a process of this machine and reads the inbox itself; else variables are sent over its channels."""
        ...

    @property
    def reconnects(self) -> int:
        """How often its connection broke and came back: what it said meanwhile may be lost."""
        ...

    async def launch(self) -> None:
        """Start it.

        Raises:
            Exception: it cannot be started; the text says why. `end` is called next.
        """
        ...

    async def connect(self, reception: Reception) -> Wire:
        """Its shell, iopub and stdin channels, open.

        Raises:
            SandboxError: it ended.
        """
        ...

    def first_cell(self) -> str:
        """What makes it a sandbox, as code to be run before any other."""
        ...

    @property
    def cpu_seconds(self) -> float:
        """Of the processor, used by it and all that it started; 0 where nobody counts."""
        ...

    async def alive(self) -> bool:
        """Whether it runs and can be spoken to."""
        ...

    async def interrupt(self) -> None:
        """Interrupt what it runs."""
        ...

    async def end(self) -> None:
        """End it and remove what was made for it. Safe to call twice, and after a failed `launch`."""
        ...

    @property
    def ended(self) -> asyncio.Future[None] | None:
        """Done when the kernel is dead, where that can be told at once; else `alive` has to be asked."""
        ...

    @property
    def obstacle(self) -> str:
        """Why there is no copy of the kernel's last moment; empty if nothing is known."""
        ...

    async def resume(self, newest: int) -> int | None:
        """Have the newest copy go on in the kernel's place: the step that it holds, or None if there is none."""
        ...

    @property
    def traffic(self) -> Traffic | None:
        """What went through its proxy, if it has one."""
        ...

    @property
    def scratch(self) -> Scratch | None:
        """The folder that its code writes to, where this machine can read it."""
        ...

    def shows(self, path: Path) -> bool:
        """Let it read a file or folder of the user's. False when it is too late for that."""
        ...

    def allow(self, data: int) -> None:
        """Let it use as many bytes more than its limit on memory."""
        ...

    def last_words(self) -> str:
        """What it said last, which usually says why it ended; may be empty."""
        ...

    @property
    def pid(self) -> int | None:
        """Its process id, where it is a process of this machine."""
        ...

    @property
    def connection_file(self) -> str | None:
        """Where the ports and the key of its channels stand, if it has such a file."""
        ...


class Elsewhere:
    """A kernel that is no process of this machine's: it has no copies, no proxy and no files."""

    local = False
    ended: asyncio.Future[None] | None = None
    obstacle = ""
    traffic: Traffic | None = None
    scratch: Scratch | None = None
    cpu_seconds = 0.0

    def first_cell(self) -> str:
        """What makes it a sandbox: it is no child of this process's."""
        return bootstrap(None)

    async def client(self) -> Any:
        """A client of jupyter_client's shape, its channels open."""
        raise NotImplementedError

    async def connect(self, reception: Reception) -> Wire:
        """That client's channels."""
        return ClientWire(await self.client(), reception)

    async def resume(self, _newest: int) -> int | None:
        """There is no copy."""
        return None

    def shows(self, _path: Path) -> bool:
        """Never: it shares no files with this machine."""
        return False

    def allow(self, _data: int) -> None:
        """There is no limit of ours."""


class Provider(Protocol):
    """A place that kernels come from. `str()` of it is its name for people, without secrets."""

    @property
    def isolation(self) -> str:
        """What is known of how its kernels are kept apart, in words."""
        ...

    def kernel(self) -> Kernel:
        """A kernel, not started yet."""
        ...


def show(name: str, path: Path, kernel: Kernel) -> None:
    """Let a kernel read the file that a variable names.

    Raises:
        TransferError: it cannot, or not any more.
    """
    if not kernel.local:
        raise TransferError(
            f"variable '{name}' (Path): the sandbox shares no files with this machine; pass what the file holds"
        )
    if not kernel.shows(path):
        raise TransferError(
            f"variable '{name}' (Path): a sandbox that runs cannot be shown another file; ask with --fresh, or pass "
            "what the file holds"
        )
