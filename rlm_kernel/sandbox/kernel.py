"""The sandbox as a Jupyter kernel: a stock ipykernel, on this machine or another one, spoken to as clients do.

Joins the kernel (`launch.py`, `remote/`), its channels (`client.py`) and the variables (`transfer.py`) into the five
verbs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec

from rlm_kernel.errors import InputError, SandboxError, TransferError
from rlm_kernel.sandbox.base import CellResult, Chunk, DiedError, Handler, OnChunk, ScratchFile, ignore
from rlm_kernel.sandbox.child import Offspring
from rlm_kernel.sandbox.client import CellClient
from rlm_kernel.sandbox.files import Scratch
from rlm_kernel.sandbox.handle import Kernel, Provider, show
from rlm_kernel.sandbox.isolation import seatbelt
from rlm_kernel.sandbox.isolation.levels import choose, described
from rlm_kernel.sandbox.isolation.network import check
from rlm_kernel.sandbox.isolation.policy import DEFAULT, PROMISES, Level, Limits
from rlm_kernel.sandbox.launch import KernelProcess
from rlm_kernel.sandbox.remote.providers import provider_of
from rlm_kernel.sandbox.remote.provisioned import Provisioned
from rlm_kernel.sandbox.remote.upload import upload
from rlm_kernel.sandbox.transfer import Parcel, pack, write

__all__ = ["KernelSandbox"]

_START_SECONDS = 60.0
_RECOVER_SECONDS = 3.0
_RESUME_SECONDS = 10.0


class KernelSandbox:
    """A `Sandbox` in a kernel of its own.

    Args:
        kernelspec: the name of an installed kernelspec of an ipykernel, a `jupyter_client.kernelspec.KernelSpec` with
            a provisioner, the address of a Jupyter server, or a `JupyterServer`; None for this Python.
        level: how the code is kept from the rest of the machine: `full`, `landlock`, `none`, or `auto` for the best of
            the first two that can be had. A kernelspec runs as it says, which is `none` of ours.
        limits: what the code may use.
        net: `HOST[:PORT],…`, the only hosts that it may be connected to, through a proxy in this process; None for no
            network. What the code knows can be sent there.

    Raises:
        InputError: the level cannot be had here, or not with these hosts.
    """

    def __init__(
        self,
        kernelspec: str | KernelSpec | Provider | None = None,
        *,
        level: str = "auto",
        limits: Limits = DEFAULT,
        net: str | None = None,
    ) -> None:
        given = Provisioned(kernelspec) if isinstance(kernelspec, KernelSpec) else kernelspec
        self.kernelspec: str | Provider | None = given
        self.level: Level = choose(level, elsewhere=bool(kernelspec))
        self.limits = limits
        self.net = ",".join(map(str, check(net, self.level, str(given) if given else None)))
        self._process: Kernel | None = None
        self._client: CellClient | None = None
        self._parcels: list[Parcel] = []
        self._steps = 0

    async def put(self, variables: Mapping[str, Any]) -> None:
        """Check and pack variables into files; see `Sandbox.put`."""
        await self._bury()
        if self._process is None:
            self._process = self._new()
        try:
            for name, value in variables.items():
                if isinstance(value, Path):
                    show(name, value, self._process)
            self._parcels += await asyncio.to_thread(pack, variables, self._process.inbox)
        except TransferError:
            if not self.running and not self._parcels:
                await self.shutdown()
            raise

    async def start(self, handler: Handler) -> None:
        """Start the kernel unless it runs, then load the variables; see `Sandbox.start`."""
        lost = bool(self._parcels)
        if await self._bury() and lost:
            raise DiedError("the sandbox died before its variables were loaded")
        if self._process is None:
            self._process = self._new()
        parcels, self._parcels = self._parcels, []
        was_running = self.running
        writing = asyncio.create_task(asyncio.to_thread(write, parcels))
        try:
            if self._client is None:
                await self._start_kernel(self._process, handler)
            else:
                self._client.handler = handler
            await writing
            self._process.allow(sum(parcel.path.stat().st_size for parcel in parcels))
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
        if (traffic := self._process.traffic if self._process is not None else None) and (news := traffic.news()):
            on_chunk(Chunk("stderr", news))
        if result.status == "died":
            return replace(result, detail=self._process.last_words()) if self._process is not None else result
        self._steps += 1
        return result

    async def _bury(self) -> bool:
        """A kernel that has died and was not resumed is gone for good. Whether there was one."""
        if dead := self.running and not await self.alive():
            await self.shutdown()
        return dead

    async def resume(self) -> int | None:
        """Go on with the newest copy of the kernel; see `Sandbox.resume`."""
        client, process = self._client, self._process
        step = None
        if client is not None and process is not None:
            await client.close()
            step = await process.resume(self._steps)
            if step is not None:
                self._client = CellClient(process, client.handler, self.limits)
                try:
                    await asyncio.wait_for(self._client.connect(), _RESUME_SECONDS)
                except (SandboxError, TimeoutError):
                    step = None
        if step is None:
            await self.shutdown()
        self._steps = step or 0
        return step

    async def spawn(self) -> KernelSandbox:
        """Another one, not started; see `Sandbox`. Where this one leaves copies it is born of them."""
        kind = self.kernelspec
        if isinstance(process := self._process, KernelProcess) and process.own is not None:
            await process.own.inside.heard_of(self._steps)
            kind = Offspring(process, self._new, self.isolation)
        elif kind is None:
            return KernelSandbox(level=self.level, limits=self.limits, net=self.net or None)
        return KernelSandbox(kind, limits=self.limits)  # the level of a child is its parent's

    async def interrupt(self) -> None:
        """Interrupt the kernel the way its kernelspec says."""
        if self._client is not None:
            await self._client.interrupt()

    async def shutdown(self) -> None:
        """Kill the kernel and remove its folder; see `Sandbox.shutdown`."""
        client, self._client = self._client, None
        process, self._process = self._process, None
        self._parcels, self._steps = [], 0
        if client is not None:
            await client.close()
        if process is not None:
            await process.end()

    @property
    def obstacle(self) -> str:
        """Why the kernel could not be copied last time; empty if nobody knows better."""
        return self._process.obstacle if self._process is not None else ""

    @property
    def isolation(self) -> str:
        """What is kept from the code and what is not, in words."""
        if provider := provider_of(self.kernelspec):
            return provider.isolation
        if self.kernelspec:
            return f"as the kernelspec '{self.kernelspec}' runs it; rlm_kernel adds nothing. {PROMISES['none']}"
        return described(self.level, self.limits, self.net)

    @property
    def network(self) -> str:
        """What went through the proxy so far, in words; empty without one."""
        return self._process.traffic.words(self.net) if self._process and self._process.traffic else ""

    async def files(self) -> list[ScratchFile]:
        """What its code wrote into the scratch folder; see `HasFiles.files`."""
        return await self._files.files()

    async def copy_files(self, names: Sequence[str], to: Path, *, force: bool = False) -> list[Path]:
        """Copy some of it out; see `HasFiles.copy_files`."""
        return await self._files.copy_files(names, to, force=force)

    @property
    def _files(self) -> Scratch:
        if self._process is None or not self.running:
            raise InputError("the sandbox is not running, so it has no files")
        if self._process.scratch is None:
            raise InputError(f"the kernelspec '{self.kernelspec}' shares no files with this machine")
        return self._process.scratch

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
        return self._process.connection_file if self._process is not None and self.running else None

    @property
    def pid(self) -> int | None:
        """The kernel's process id, where it is a process of this machine."""
        return self._process.pid if self._process is not None and self.running else None

    def _new(self) -> Kernel:
        if provider := provider_of(self.kernelspec):
            return provider.kernel()
        return KernelProcess(str(self.kernelspec or "") or None, self.level, self.limits, net=self.net)

    async def _start_kernel(self, process: Kernel, handler: Handler) -> None:
        client = CellClient(process, handler, self.limits)
        try:
            await process.launch()
            await asyncio.wait_for(client.connect(), _START_SECONDS)
            said: list[str] = []
            result, _ = await client.run(process.first_cell(), lambda chunk: said.append(chunk.text), silent=True)
            if result.status != "ok":
                why = "".join(said).strip().rpartition("\n")[2][-200:] or result.status
                raise SandboxError(f"it could not load the guest code, which needs an ipykernel: {why}")
            if self.level == "seatbelt":
                await self._look(client)
        except BaseException as error:
            last = process.last_words()
            await client.close()
            if not isinstance(error, Exception):
                raise
            named = self.kernelspec and "://" not in str(self.kernelspec)
            name = f"kernelspec '{self.kernelspec}'" if named else "the sandbox kernel"
            why = f"no answer in {_START_SECONDS:g} s" if isinstance(error, TimeoutError) else str(error)
            raise SandboxError(f"{name} did not start: {why}" + (f" (it said: {last})" if last else "")) from None
        self._client = client

    async def _look(self, client: CellClient) -> None:
        """Have a kernel try what must not work, where nothing looked before it became one."""
        found: list[str] = []
        result, _ = await client.run(seatbelt.check(Path.home()), lambda chunk: found.append(chunk.text), silent=True)
        if found or result.status != "ok":
            said = "".join(found).strip().replace("\n", "; ") or result.status
            raise SandboxError(f"the level '{self.level}' does not hold here: {said}")

    async def _deliver(self, parcels: list[Parcel]) -> None:
        """Have the guest load what was put.

        Raises:
            TransferError: it could not load a variable.
            SandboxError: it died of it.
        """
        if not parcels or self._client is None or self._process is None:
            return
        if not self._process.local:
            await upload(self._client, (parcel.path for parcel in parcels))
        specs = json.dumps([p.spec for p in parcels])
        result, payload = await self._client.run(f"__rlm__.receive({specs!r})", ignore, silent=True)
        if result.status == "died":
            raise DiedError("the sandbox died while it loaded the variables; it may lack the memory for them")
        self._steps += 1
        if result.status != "ok" or payload.get("failed"):
            failed = payload.get("failed") or [{"name": "?", "error": result.status}]
            name, why = failed[0].get("name"), " ".join(str(failed[0].get("error")).split())
            raise TransferError(f"variable '{name}' could not be loaded in the sandbox: {why}")
