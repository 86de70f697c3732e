"""The sandbox as a Jupyter kernel: a stock ipykernel, started and spoken to through jupyter_client.

Joins the process (`launch.py`), the sockets (`client.py`) and the variables (`transfer.py`) into the five verbs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from rlm_kernel.errors import SandboxError, TransferError
from rlm_kernel.sandbox.base import CellResult, Handler, OnChunk
from rlm_kernel.sandbox.client import CellClient, ignore
from rlm_kernel.sandbox.launch import KernelProcess
from rlm_kernel.sandbox.transfer import Parcel, pack

__all__ = ["KernelSandbox"]

_GUEST = ("__init__", "channel", "describe", "inbox", "kernel", "repl", "streams", "tracebacks", "wire")
_START_SECONDS = 60.0
_RECOVER_SECONDS = 3.0


class KernelSandbox:
    """A `Sandbox` in a kernel of its own, over ipc.

    Args:
        kernelspec: the name of any installed kernelspec with a stock ipykernel; None for this Python.
    """

    def __init__(self, kernelspec: str | None = None) -> None:
        self.kernelspec = kernelspec
        self._process: KernelProcess | None = None
        self._client: CellClient | None = None
        self._parcels: list[Parcel] = []

    async def put(self, variables: Mapping[str, Any]) -> None:
        """Check and pack variables into files; see `Sandbox.put`."""
        if self._process is None:
            self._process = KernelProcess(self.kernelspec)
        try:
            self._parcels += await asyncio.to_thread(pack, variables, self._process.folder)
        except TransferError:
            if not self.running and not self._parcels:
                await self.shutdown()
            raise

    async def start(self, handler: Handler) -> None:
        """Start the kernel unless it runs, then load the variables; see `Sandbox.start`."""
        if self._process is None:
            self._process = KernelProcess(self.kernelspec)
        parcels, self._parcels = self._parcels, []
        was_running = self.running
        writing = asyncio.create_task(asyncio.to_thread(_write, parcels))
        try:
            if self._client is None:
                await self._start_kernel(self._process, handler)
            else:
                self._client.handler = handler
            await writing
            await self._deliver(parcels)
        except BaseException as error:
            with contextlib.suppress(Exception):
                await writing
            if not isinstance(error, TransferError) and not (was_running and await self._recovers()):
                await self.shutdown()
            raise
        finally:
            for parcel in parcels:
                parcel.path.unlink(missing_ok=True)

    async def _recovers(self) -> bool:
        """Whether a kernel whose loading was broken off goes on: it holds what earlier cells made."""
        if self._client is None or self._process is None:
            return False
        with contextlib.suppress(Exception):  # an answer is what counts
            await self._process.interrupt()
            result, _ = await asyncio.wait_for(self._client.run("", ignore, silent=True), _RECOVER_SECONDS)
            return result.status != "died"
        return False

    async def execute(self, code: str, on_chunk: OnChunk) -> CellResult:
        """Run one cell; see `Sandbox.execute`."""
        client = self._client
        if client is None:
            return CellResult("died")
        result, _ = await client.run(code, on_chunk)
        if result.status == "died" and self._client is client:  # else it has been replaced meanwhile
            await self.shutdown()
        return result

    async def interrupt(self) -> None:
        """Interrupt the kernel the way its kernelspec says."""
        if self._client is not None:
            await self._client.interrupt()

    async def shutdown(self) -> None:
        """Kill the kernel and remove its folder; see `Sandbox.shutdown`."""
        client, self._client = self._client, None
        process, self._process = self._process, None
        self._parcels = []
        if client is not None:
            await client.close()
        if process is not None:
            await process.end()

    @property
    def running(self) -> bool:
        """Whether the kernel has been started."""
        return self._client is not None

    async def alive(self) -> bool:
        """Whether the kernel runs this very moment."""
        return self._process is not None and self.running and await self._process.alive()

    @property
    def connection_file(self) -> str | None:
        """The running kernel's connection file, for `jupyter console --existing`; None when it does not run."""
        return str(self._process.manager.connection_file) if self._process is not None and self.running else None

    @property
    def pid(self) -> int | None:
        """The kernel's process id, where it is a process of this machine."""
        return self._process.pid if self._process is not None and self.running else None

    async def _start_kernel(self, process: KernelProcess, handler: Handler) -> None:
        client = CellClient(process, handler)
        try:
            await process.launch()
            await asyncio.wait_for(client.connect(), _START_SECONDS)
            local = isinstance(process.manager.provisioner, LocalProvisioner)
            said: list[str] = []
            result, _ = await client.run(
                _bootstrap(os.getpid() if local else None), lambda chunk: said.append(chunk.text), silent=True
            )
            if result.status != "ok":
                raise SandboxError("it could not load the guest code, which needs an ipykernel " + "".join(said)[-200:])
        except BaseException as error:
            last = process.last_words()
            await client.close()
            if not isinstance(error, Exception):
                raise
            name = f"kernelspec '{self.kernelspec}'" if self.kernelspec else "the sandbox kernel"
            why = f"no answer in {_START_SECONDS:g} s" if isinstance(error, TimeoutError) else str(error)
            raise SandboxError(f"{name} did not start: {why}" + (f" (it said: {last})" if last else "")) from None
        self._client = client

    async def _deliver(self, parcels: list[Parcel]) -> None:
        """Have the guest load what was put.

        Raises:
            TransferError: it could not load a variable.
            SandboxError: it died of it.
        """
        if not parcels or self._client is None:
            return
        specs = json.dumps([p.spec for p in parcels])
        result, payload = await self._client.run(f"__rlm__.receive({specs!r})", ignore, silent=True)
        if result.status == "died":
            raise SandboxError("the sandbox died while it loaded the variables; it may lack the memory for them")
        if result.status != "ok" or payload.get("failed"):
            failed = payload.get("failed") or [{"name": "?", "error": result.status}]
            name, why = failed[0].get("name"), " ".join(str(failed[0].get("error")).split())
            raise TransferError(f"variable '{name}' could not be loaded in the sandbox: {why}")


def _write(parcels: list[Parcel]) -> None:
    for parcel in parcels:
        parcel.write()


@cache
def _sources() -> dict[str, str]:
    folder = files("rlm_kernel.sandbox.guest")
    return {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in _GUEST}


def _bootstrap(parent_pid: int | None) -> str:
    """The first cell: the guest's own files, as source."""
    first = (files("rlm_kernel.sandbox.guest") / "bootstrap.py").read_text(encoding="utf-8")
    return f"{first}\n_bootstrap({_sources()!r}, {parent_pid!r})\ndel _bootstrap\n"
