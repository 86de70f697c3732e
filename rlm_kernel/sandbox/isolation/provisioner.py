"""Starts an isolated kernel the way Jupyter starts kernels: as a provisioner, `rlm-sandbox`.

The host makes the sockets and listens; the process inherits them, so it needs no folder that both can write to, and a
kernel that replaces a dead one takes the same sockets over. Before anything foreign runs the process tells what holds;
unless that is all that its level promises, it is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Dict, List, Unicode

from rlm_kernel.errors import SandboxError
from rlm_kernel.sandbox.files import Scratch
from rlm_kernel.sandbox.isolation import bubblewrap, outset
from rlm_kernel.sandbox.isolation.allowlist import parse
from rlm_kernel.sandbox.isolation.network import Network
from rlm_kernel.sandbox.isolation.policy import MB, Limits, prefixes
from rlm_kernel.sandbox.isolation.processes import Process, end_all_but
from rlm_kernel.sandbox.isolation.talk import Talk, Words, listen
from rlm_kernel.sandbox.isolation.told import Inside
from rlm_kernel.sandbox.isolation.watch import Watch

__all__ = ["IsolatedProvisioner"]

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
_REPORT_SECONDS = 30.0
_WAKE_SECONDS = 10.0
_END_SECONDS = 2.0
_POLL_SECONDS = 0.005
WAKE = signal.SIGUSR1


class IsolatedProvisioner(KernelProvisionerBase):
    """A kernel of this Python in a sandbox of the given level."""

    level: Any = Unicode("full", help="full, landlock or none").tag(config=True)
    limits = Dict(help="fields of Limits").tag(config=True)
    readable = List(Unicode(), help="files and folders to be read besides Python's and /usr").tag(config=True)
    net = Unicode(help="HOST[:PORT],… to be reached through a proxy; only at the level full").tag(config=True)
    newest_landlock = 99
    """Tests play older kernels."""

    process: subprocess.Popen[bytes] | None = None
    parent: Any
    """The kernel manager."""
    pid: int | None = None
    inside: Inside
    """What it has told."""
    network: Network
    scratch: Scratch | None = None
    _work: str = ""
    talk: Talk
    """To whoever listens inside."""
    _listening: list[socket.socket]
    _words: Words
    _allowed: int = 0
    _uid: int | None = None
    _watch: Watch | None = None
    _kernel: Process | None = None

    @property
    def _grouped(self) -> bool:
        """Without namespaces its processes are told by their group."""
        return bool(self.level != "full")

    @property
    def _limits(self) -> Limits:
        return Limits(**self.limits)

    @property
    def has_process(self) -> bool:
        """Whether it has been started and not been waited for."""
        return self.process is not None

    @property
    def kernel_pid(self) -> int | None:
        """The kernel itself, which is interrupted."""
        return self._kernel.pid if self._kernel is not None else None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Make the sockets."""
        self._listening = [listen(f"{self.parent.ip}-{number}") for number in range(1, len(CHANNELS) + 1)]
        for number, name in enumerate(CHANNELS, 1):
            setattr(self.parent, f"{name}_port", number)
        self.connection_info = self.parent.get_connection_info()
        self.network = Network(parse(self.net))
        return await super().pre_launch(cmd=[], **kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start it, and see that what its level promises holds.

        Raises:
            SandboxError: it does not; the process is ended.
        """
        self._uid = outset.new_uid(self.level)
        self.inside = Inside()
        self.talk, self._words = Talk(self.inside.hear), Words()
        try:
            self._spawn(kwargs)  # in this thread, which lives on: bubblewrap dies with the thread that started it
            await self._first(self.inside.reported, _REPORT_SECONDS)
            if fault := self.inside.fault(self.level, self._uid, self.net):
                raise SandboxError(f"the level '{self.level}' does not hold here: {fault}")
            self.network.open()
            root = self.inside.root if self.level == "full" else ""
            self.scratch = Scratch(f"{root}{self._work}/{bubblewrap.SCRATCH}", self._limits.scratch * MB)
            self.talk.say(b"go")
            self._take_over(await self._first(self.inside.started, _REPORT_SECONDS))
        except BaseException:
            await self.kill()
            raise
        return self.connection_info

    def _spawn(self, given: dict[str, Any]) -> None:
        full, locked = self.level == "full", self.level != "none"
        work = bubblewrap.WORK if full else tempfile.mkdtemp(prefix="s", dir=Path(self.parent.ip).parent)
        if not full:
            bubblewrap.prepare(work, self._uid)
        words = [sys.executable, *(["-I"] if locked else []), "-"]
        if full:
            readable = [*prefixes(), *self.readable]
            program = shutil.which("bwrap") or "bwrap"
            words = bubblewrap.command(program, readable, self._limits, as_root=os.getuid() == 0) + words
        own = bubblewrap.environment(work) if locked else given["env"]
        theirs = self.talk.theirs.fileno()
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own words
                words,
                stdin=subprocess.PIPE,
                stdout=self._words.theirs,
                stderr=self._words.theirs,
                env={"PATH": "/usr/bin:/bin"} if full else own,
                cwd="/" if full else work,
                pass_fds=[theirs, *self.network.inherited, *(s.fileno() for s in self._listening)],
                start_new_session=True,
            )
        finally:
            self.talk.handed_over()
            self._words.handed_over()
            self.network.handed_over()
        self.pid, self._work = self.process.pid, work
        told = outset.policy(self.level, self._uid, self._limits, self.readable, work)
        told |= {"talk": theirs, "landlock": self.newest_landlock, "net": self.network.given}
        told["sockets"] = {str(n): s.fileno() for n, s in enumerate(self._listening, 1)}
        told["connection"] = {**self.connection_info, "key": self.parent.session.key.decode()}
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):  # it has ended: the report will not come, which says so
                self.process.stdin.write(outset.script(told))
                self.process.stdin.close()

    async def _first(self, wanted: asyncio.Future[Any], seconds: float) -> Any:
        """What the process tells, unless it ends before."""
        for _ in range(int(seconds / _POLL_SECONDS)):
            await asyncio.wait([wanted], timeout=_POLL_SECONDS)
            if wanted.done():
                return wanted.result()
            if self.process is None or self.process.poll() is not None:
                raise SandboxError("its process ended" + (f" ({self.last_words()})" if self.last_words() else ""))
        raise SandboxError(f"its process said nothing in {seconds:g} s")

    def _take_over(self, pid: int) -> None:
        self._kernel = Process.find(pid)
        if self._kernel is None or self.pid is None:
            raise SandboxError("its process ended")
        self.inside.follow(self._kernel)
        if self._watch is None and self.level != "none":
            self._watch = Watch(self.pid, self._limits, grouped=self._grouped, end=self._end_kernel)
        if self._watch is not None:
            self._watch.kernel, self._watch.cpu_seconds = pid, 0.0
        with contextlib.suppress(OSError):  # where the machine runs out of memory the sandbox goes first
            Path(f"/proc/{pid}/oom_score_adj").write_text("1000")

    # -- dying, and going on ----------------------------------------------------------------------------------
    def _end_kernel(self, why: str = "") -> None:
        """End it and all that it started, but for its copy. Blocks; called by any thread."""
        inside = self.inside
        inside.why = inside.why or why
        if self.pid is not None and not end_all_but({self.pid, *inside.kept}, self.pid, grouped=self._grouped):
            self._end_all()

    async def resume(self, newest: int) -> int | None:
        """End the kernel and all that it started, and have its newest copy go on.

        Args:
            newest: the last step that there may be a copy of, which may still be on its way.

        Returns:
            The step that was copied; None if there is no copy, or it does not wake: then everything is ended.
        """
        await self.inside.heard_of(newest)
        await asyncio.to_thread(self._end_kernel)
        copy = self.inside.copy
        if copy is not None and not copy.ended:
            self.inside.ended.cancel()
            self.inside.expect_kernel()
            copy.signal(WAKE)
            with contextlib.suppress(SandboxError):
                self._take_over(await self._first(self.inside.started, _WAKE_SECONDS))
                self.allow(0)
                return self.inside.woken()
        await self.kill()
        return None

    @property
    def cpu_seconds(self) -> float:
        """Time of the processor that its processes have used together."""
        return self._watch.cpu_seconds if self._watch is not None else 0.0

    def last_words(self) -> str:
        """Why the kernel ended, as far as that is known; or the last line that it wrote outside of any cell."""
        return self.inside.why or self._words.last

    def allow(self, data: int) -> None:
        """Raise the limit on one process's memory by as many bytes."""
        if self._watch is None:
            return
        self._allowed += data
        self._watch.allowed += data
        limit = self._limits.rlimits()["RLIMIT_AS"] + self._allowed
        uid = self._uid
        who: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": ()} if uid else {}
        words = ["prlimit", "--pid", str(self.kernel_pid), f"--as={limit}:"]  # as its own user: root may lack the right
        with contextlib.suppress(OSError):  # without it the data has to fit into the limit
            subprocess.run(words, env={"PATH": "/usr/bin:/bin"}, check=False, capture_output=True, **who)  # noqa: S603 - our own words

    # -- as Jupyter asks it -----------------------------------------------------------------------------------
    async def poll(self) -> int | None:
        """None while the kernel runs."""
        if self.process is None:
            return 0
        code = self.process.poll()
        return 1 if code is None and self._kernel is not None and self._kernel.ended else code

    async def wait(self) -> int | None:
        """Wait for the end of everything."""
        if self.process is None:
            return 0
        patience = _END_SECONDS
        while (code := self.process.poll()) is None:
            await asyncio.sleep(_POLL_SECONDS)
            patience -= _POLL_SECONDS
            if patience < 0:
                self._end_group()
        self.process = None
        return code

    async def send_signal(self, signum: int) -> None:
        """Signal the kernel; what would end it ends everything with it."""
        if signum in (signal.SIGKILL, signal.SIGTERM):
            await self.kill()
        elif self._kernel is not None:
            self._kernel.signal(signum)

    async def kill(self, restart: bool = False) -> None:
        """End it and all that it started."""
        self._end_all()

    def _end_all(self) -> None:
        keeper = self.inside.keeper
        if keeper is not None and self.level == "full":
            keeper.signal(signal.SIGKILL)  # all ends with it; then bubblewrap ends, and waits for it before
            return
        self._end_group()

    def _end_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.pid is not None:
                os.killpg(self.pid, signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        """The same: nothing in there has anything to put in order."""
        await self.kill(restart)

    async def cleanup(self, restart: bool = False) -> None:
        """Close the sockets and look no more."""
        if self.scratch is not None:
            self.scratch.close()
        await self.network.close()
        if self._watch is not None:
            self._watch.stop()
        self.talk.close()
        self._words.close()
        self.inside.ended.cancel()
        for listening in self._listening:
            listening.close()
