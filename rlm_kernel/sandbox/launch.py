"""Starts and ends the sandbox kernel's process: its kernelspec, isolation, folder, environment and janitor.

Nothing here speaks to the kernel; that is `client.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from rlm_kernel.errors import InputError, closest
from rlm_kernel.sandbox.files import Scratch
from rlm_kernel.sandbox.first_cell import bootstrap
from rlm_kernel.sandbox.isolation import seatbelt
from rlm_kernel.sandbox.isolation.network import certificates
from rlm_kernel.sandbox.isolation.policy import DEFAULT, MB, PROVISIONER, Level, Limits, prefixes
from rlm_kernel.sandbox.isolation.provisioner import IsolatedProvisioner
from rlm_kernel.sandbox.isolation.proxy import Traffic
from rlm_kernel.sandbox.isolation.talk import last_line
from rlm_kernel.sandbox.janitor import Janitor
from rlm_kernel.sandbox.wires import Reception, SocketWire, Wire

__all__ = ["APART_SECONDS", "KernelProcess", "check_kernelspec"]

_KEPT = {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME", "TMPDIR", "VIRTUAL_ENV", "CONDA_PREFIX"}
_KEPT_PREFIXES = ("LC_", "OMP_", "OPENBLAS_", "MKL_")


_ARGV = (sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}")
APART_SECONDS = 0.02
"""Between two signals: of two that arrive together the first decides whether a wait goes on."""


class _ThisPython(KernelSpecManager):
    """The default sandbox: an ipykernel of the very Python that runs the notebook, whatever is installed as python3."""

    def __init__(
        self, *, argv: Callable[[], Sequence[str]] = lambda: _ARGV, provisioner: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self._argv = argv
        self._metadata = {"kernel_provisioner": dict(provisioner)} if provisioner else {}

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(
            argv=list(self._argv()), display_name="rlm_kernel sandbox", language="python", metadata=self._metadata
        )


class _Manager(AsyncKernelManager):
    """Without the control socket that jupyter_client connects for a polite shutdown.

    Nobody reads it, so libzmq would keep whatever a hostile kernel sends there. Where a kernel is interrupted by a
    message, and so has no isolation of ours, it is needed.
    """

    def _connect_control_socket(self) -> None:
        if self.kernel_spec is not None and self.kernel_spec.interrupt_mode == "message":
            super()._connect_control_socket()


def _known() -> None:
    """Make our provisioner known where this package was not installed, or before it had one."""
    known = KernelProvisionerFactory.instance().provisioners
    name = f"{IsolatedProvisioner.__module__}:{IsolatedProvisioner.__name__}"
    known.setdefault(PROVISIONER, EntryPoint(PROVISIONER, name, KernelProvisionerFactory.GROUP_NAME))


def _specs(level: Level, limits: Limits, readable: list[str], net: str, folder: Path) -> KernelSpecManager:
    """This Python, started by our provisioner where that can be done."""
    if level == "seatbelt":  # when it is started, for `readable` grows until then
        return _ThisPython(
            argv=lambda: seatbelt.command(seatbelt.profile([*prefixes(), *readable], folder / "work", folder))
        )
    if not sys.platform.startswith("linux"):
        return _ThisPython()
    _known()
    config = {"level": level, "limits": asdict(limits), "readable": readable, "net": net}
    return _ThisPython(provisioner={"provisioner_name": PROVISIONER, "config": config})


def check_kernelspec(name: str) -> None:
    """Find out that a kernelspec is installed, before anything is started.

    Raises:
        InputError: it is not; the message lists those that are.
    """
    specs = KernelSpecManager()
    try:
        specs.get_kernel_spec(name)
    except (NoSuchKernel, ValueError):
        known = sorted(specs.find_kernel_specs())
        raise InputError(
            f"no kernelspec is called '{name}'{closest(name, known)}; installed: {', '.join(known) or 'none'}"
        ) from None


class KernelProcess:
    """A kernel's process on this machine and the folder it lives in; a `handle.Kernel`.

    Args:
        kernelspec: the name of an installed kernelspec; None for this Python.
        level: how it is isolated; with a kernelspec it runs as that says.
        limits: what it may use.
        net: `HOST[:PORT],…` that it may be connected to; only at the level "full".
    """

    local = True
    reconnects = 0

    def __init__(
        self, kernelspec: str | None, level: Level = "none", limits: Limits = DEFAULT, *, net: str = ""
    ) -> None:
        # short: the path of an ipc socket must fit 107 bytes
        self.folder = Path(tempfile.mkdtemp(prefix="rlm-"))
        if level == "landlock":
            self.folder.chmod(0o711)  # without namespaces a sandbox of another user comes through here
        self.inbox = self.folder / "inbox"
        self.inbox.mkdir()
        self.inbox.chmod(0o711)
        self._janitor = Janitor(self.folder)
        self.limits = limits
        self.level: Level = "none" if kernelspec else level
        self._scratch: Scratch | None = None
        self._ports = itertools.count(100)
        self._readable = [str(self.inbox), *(certificates() if net else [])]
        specs = KernelSpecManager() if kernelspec else _specs(level, limits, self._readable, net, self.folder)
        self.manager = _Manager(
            kernel_name=kernelspec or "rlm_kernel",
            kernel_spec_manager=specs,
            transport="ipc",
            ip=str(self.folder / "k"),
            connection_file=str(self.folder / "connection.json"),
        )

    @property
    def pid(self) -> int | None:
        """The kernel's process id, where it is a process of this machine."""
        found: int | None = getattr(self.manager.provisioner, "kernel_pid", None) or self._leader
        return found

    @property
    def ip(self) -> str:
        """What the paths of its sockets begin with."""
        return str(self.manager.ip)

    def next_ports(self, count: int) -> list[int]:
        """Numbers for the sockets of a child."""
        return [next(self._ports) for _ in range(count)]

    @property
    def connection_file(self) -> str:
        """Its connection file, for `jupyter console --existing`."""
        return str(self.manager.connection_file)

    @property
    def _leader(self) -> int | None:
        """The process whose group is to be killed."""
        found: int | None = getattr(self.manager.provisioner, "pid", None)
        return found

    @property
    def own(self) -> IsolatedProvisioner | None:
        """What has started the process, where that is of ours."""
        provisioner = self.manager.provisioner
        return provisioner if isinstance(provisioner, IsolatedProvisioner) else None

    async def launch(self) -> None:
        """Start the process. Its own words go to a log in the folder."""
        (self.folder / "work").mkdir()
        with (self.folder / "log").open("wb") as log:
            await self.manager.start_kernel(
                env=environment(self.folder), cwd=str(self.folder / "work"), stdout=log, stderr=log
            )
        if self._leader is not None:
            self._janitor.watch(self._leader)
        if isinstance(self.manager.provisioner, LocalProvisioner):
            self._scratch = Scratch(self.folder / "work", self.limits.scratch * MB)

    async def connect(self, reception: Reception) -> Wire:
        """Connect to its sockets, however long it takes to listen.

        Raises:
            SandboxError: the process ended, or does not speak ZMTP without encryption.
        """
        session, url = self.manager.session, self.manager._make_url
        return await SocketWire.connected(session, url, reception, self.alive)

    def first_cell(self) -> str:
        """What makes it a sandbox."""
        return bootstrap(os.getpid())

    async def alive(self) -> bool:
        """Whether the process runs."""
        return bool(await self.manager.is_alive())

    async def interrupt(self) -> None:
        """Interrupt it the way its kernelspec says."""
        await self.manager.interrupt_kernel()
        spec = self.manager.kernel_spec
        if self.pid is not None and spec is not None and spec.interrupt_mode == "signal":
            await asyncio.sleep(APART_SECONDS)
            await self.manager.signal_kernel(signal.SIGURG)  # see guest/kernel.py; ignored by who knows nothing of it

    @property
    def ended(self) -> asyncio.Future[None] | None:
        """Done when the kernel is dead, where that can be told at once; else `alive` has to be asked."""
        return self.own.inside.ended if self.own is not None else None

    @property
    def obstacle(self) -> str:
        """Why there is no copy of the kernel's last moment."""
        return self.own.inside.obstacle if self.own is not None else ""

    async def resume(self, newest: int) -> int | None:
        """Have the newest copy go on in the kernel's place: the step that it holds, or None if there is none."""
        return await self.own.resume(newest) if self.own is not None else None

    @property
    def cpu_seconds(self) -> float:
        """Of the processor, used by it and all that it started; 0 where nobody counts."""
        return self.own.cpu_seconds if self.own is not None else 0.0

    def shows(self, path: Path) -> bool:
        """Let it read a file or folder of the user's. False when it is too late for that: it runs already."""
        if self.level == "none" or not path.is_absolute() or str(path) in self._readable:
            return True
        if self._leader is not None:
            return False
        self._readable.append(str(path))
        return True

    def allow(self, data: int) -> None:
        """Let it use as many bytes more: the limit on memory is for what it makes of the data."""
        if data and self.own is not None:
            self.own.allow(data)

    @property
    def scratch(self) -> Scratch | None:
        """The files of its code, where they are on this machine."""
        return self.own.scratch if self.own is not None else self._scratch

    @property
    def traffic(self) -> Traffic | None:
        """What the network's proxy counted, where there is one."""
        return self.own.network.traffic if self.own is not None else None

    def last_words(self) -> str:
        """The last line that the process wrote, which usually says why it ended."""
        if self.own is not None:
            return self.own.last_words()
        with contextlib.suppress(OSError):
            return last_line((self.folder / "log").read_bytes())
        return ""

    async def end(self) -> None:
        """Kill the process and remove the folder. Safe to call twice."""
        with contextlib.suppress(Exception):  # half-started kernels raise all sorts; the janitor's list is complete
            await self.manager.shutdown_kernel(now=True)
        if self.scratch is not None:
            self.scratch.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._janitor.dismiss()


def environment(folder: Path) -> dict[str, str]:
    """The kernel's environment: an allow-list of the notebook's, so that no key can be in it."""
    kept = {k: v for k, v in os.environ.items() if k in _KEPT or k.startswith(_KEPT_PREFIXES)}
    return {**kept, "IPYTHONDIR": str(folder / "ipython"), "PYTHONDONTWRITEBYTECODE": "1"}
