"""Kernels that a provisioner of somebody else's starts, on whatever machine: SSH, Docker, Kubernetes, Slurm.

Nothing is assumed of that machine but a kernel behind five tcp ports. Whether it lives is told by its heartbeat, as
asking a provisioner may cost a connection; the provisioner is asked when the heart has stopped, and may then mend its
tunnels.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import zmq
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from zmq.utils.monitor import recv_monitor_message

from rlm_kernel.sandbox.handle import Elsewhere
from rlm_kernel.sandbox.janitor import Janitor
from rlm_kernel.sandbox.launch import environment
from rlm_kernel.sandbox.remote.aside import Aside, wait_a_while

__all__ = ["LOCAL", "Provisioned", "ProvisionedKernel", "provisioner_of"]

LOCAL = "local-provisioner"
_SILENCE_SECONDS = 20.0
"""Without a heartbeat for so long a kernel counts as gone, whatever its provisioner says."""
_END_SECONDS = 8.0


def provisioner_of(spec: KernelSpec) -> str:
    """The name of the provisioner that a kernelspec names, or of the default one."""
    stanza = spec.metadata.get("kernel_provisioner") or {}
    return str(stanza.get("provisioner_name") or KernelProvisionerFactory.instance().default_provisioner_name)


class _Given(KernelSpecManager):
    """Knows one kernelspec, which need not be installed."""

    spec: KernelSpec

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return self.spec


@dataclass(frozen=True)
class Provisioned:
    """A `handle.Provider`: kernels of a kernelspec with a provisioner of its own.

    Args:
        kernelspec: the name of an installed one, or a `jupyter_client.kernelspec.KernelSpec`.
    """

    kernelspec: str | KernelSpec

    def __str__(self) -> str:
        return self.kernelspec if isinstance(self.kernelspec, str) else str(self.kernelspec.display_name)

    @property
    def isolation(self) -> str:
        """What is known: who runs it."""
        by = provisioner_of(self.spec)
        return f"as the kernelspec '{self}' runs it, by the provisioner '{by}'; rlm_kernel adds nothing"

    @property
    def spec(self) -> KernelSpec:
        """The kernelspec itself."""
        if isinstance(self.kernelspec, str):
            return KernelSpecManager().get_kernel_spec(self.kernelspec)
        return self.kernelspec

    def kernel(self) -> ProvisionedKernel:
        """A kernel, not started yet."""
        return ProvisionedKernel(self.spec)


class ProvisionedKernel(Elsewhere):
    """A `handle.Kernel`.

    Provisioners may block the loop that they run on, so each has a thread, and with it a loop, of its own.
    """

    pid = None

    def __init__(self, spec: KernelSpec) -> None:
        self.reconnects = 0
        self.folder = Path(tempfile.mkdtemp(prefix="rlm-"))
        self.inbox = self.folder / "inbox"
        self.inbox.mkdir()
        self._janitor = Janitor(self.folder)
        specs = _Given()
        specs.spec = spec
        self._manager = AsyncKernelManager(
            kernel_name="rlm_kernel", kernel_spec_manager=specs, connection_file=str(self.folder / "connection.json")
        )
        self._aside = Aside("rlm-provisioner")
        self._client: AsyncKernelClient | None = None
        self._silent_since: float | None = None
        self._words = ""
        self._launching: asyncio.Task[Any] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._monitors: list[asyncio.Task[None]] = []

    @property
    def connection_file(self) -> str | None:
        """Where its ports on this machine stand, if its provisioner wrote that down."""
        file = str(self._manager.connection_file)
        return file if Path(file).exists() else None

    async def launch(self) -> None:
        """Have the provisioner start it; see `Kernel.launch`.

        One that is cancelled goes on: half a start could not be ended, as nobody knows yet what runs over there.
        """
        env = environment(self.folder)
        del env["IPYTHONDIR"]  # a folder of this machine
        self._launching = asyncio.create_task(self._aside.run(self._manager.start_kernel(env=env)))
        await asyncio.shield(self._launching)

    async def client(self) -> AsyncKernelClient:
        """A client, its channels open."""
        info = self._manager.get_connection_info()
        self._client = AsyncKernelClient()
        self._client.load_connection_info(info)
        self._client.start_channels()
        self._monitors = [
            asyncio.create_task(self._monitor(channel.socket))
            for channel in (self._client.shell_channel, self._client.iopub_channel)
        ]
        return self._client

    async def _monitor(self, socket: Any) -> None:
        """Count how often zmq connected a socket anew: it does so by itself, and tells nobody else."""
        events = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        broken = False
        try:
            while True:
                connected = (await recv_monitor_message(events))["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
                self.reconnects += connected and broken
                broken = not connected
        finally:
            with contextlib.suppress(zmq.ZMQError):  # it was closed before
                socket.disable_monitor()
            events.close(0)

    async def alive(self) -> bool:
        """Whether its heart beats, or its provisioner says that it runs and the silence is a short one."""
        if self._client is None or self._client.hb_channel.is_beating():
            self._silent_since = None
            return self._client is not None or bool(await self._aside.run(self._manager.is_alive()))
        if self._silent_since is None:
            self._silent_since = time.monotonic()
        if time.monotonic() - self._silent_since > _SILENCE_SECONDS:
            self._words = f"it was silent for {_SILENCE_SECONDS:g} s"
        elif not await self._aside.run(self._manager.is_alive()):
            self._words = "its provisioner says that it ended"
        return not self._words

    async def interrupt(self) -> None:
        """Send it an interrupt request, whatever its kernelspec says: a signal does not reach other machines."""
        if self._client is not None:
            self._client.control_channel.send(self._client.session.msg("interrupt_request", {}))

    async def end(self) -> None:
        """Have the provisioner end it; see `Kernel.end`. One that takes long goes on with it by itself."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await wait_a_while(self._ending, _END_SECONDS)

    async def _end(self) -> None:
        for task in self._monitors:
            task.cancel()
        await asyncio.gather(*self._monitors, return_exceptions=True)
        with contextlib.suppress(Exception):  # a half-started kernel's provisioner raises all sorts
            if self._launching is not None:
                await asyncio.wait([self._launching])
            await self._aside.run(self._manager.shutdown_kernel(now=True))
        self._aside.close()
        rmtree(self.folder, ignore_errors=True)
        self._janitor.dismiss()

    def last_words(self) -> str:
        """Why it counts as gone; its own output is its provisioner's."""
        return self._words
