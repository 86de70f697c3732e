"""What the inside of a sandbox has told the host of itself: its processes, what holds, why its kernel ended."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from rlm_kernel.errors import SandboxError
from rlm_kernel.sandbox.isolation.policy import Level
from rlm_kernel.sandbox.isolation.processes import Process, words_of

__all__ = ["Inside"]

_LATE_SECONDS, _LOOK_SECONDS = 1.0, 0.005
_MOST_CHARS = 200
"""Of a text that foreign code may have written."""


class Inside:
    """The folded messages of one sandbox. Only the keeper and what comes before "go" can be trusted.

    Attributes:
        keeper: the first process.
        kernel: the one that runs the code.
        copy: the newest suspended copy of the kernel.
        step: the newest moment that was heard of, copied or not; -1 before the first.
        obstacle: why that moment could not be copied; empty if it was.
        why: the reason of the kernel's end.
        reported: the first process told what holds.
        started: the number of the kernel's process, once it runs.
        ended: done when the kernel is dead.
        births: by what a child was called when it was asked for, the number of its process once it runs.
    """

    def __init__(self) -> None:
        self.keeper: Process | None = None
        self.kernel: Process | None = None
        self.copy: Process | None = None
        self.step = -1
        self.obstacle = self.why = ""
        self._copied = 0
        self._retired: list[Process] = []
        self._nursing: list[Process] = []
        self.reported: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.births: dict[str, asyncio.Future[int]] = {}
        self.held: list[str] = []
        self.open: list[str] = []
        self.expect_kernel()

    def expect_kernel(self) -> None:
        """A process is about to become the kernel."""
        self.started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def follow(self, kernel: Process) -> None:
        """This process is the kernel; `ended` is done when it is not any more."""
        self.kernel = kernel
        kernel.when_ended(self.ended)

    def hear(self, pid: int, said: dict[str, Any]) -> None:
        """Take a message of a process."""
        if self.keeper is None:
            self.keeper = Process.find(pid)
        elif not self.reported.done():
            if "held" not in said:  # its end instead
                return
            self.held, self.open = [str(x) for x in said["held"]], [str(x) for x in said["open"]]
            self.reported.set_result(None)
        elif "kernel" in said and not self.started.done() and pid == (self.copy.pid if self.copy else pid):
            self.started.set_result(pid)
        elif isinstance(name := said.get("born") or said.get("unborn"), str) and name in self.births:
            self._birth(self.births[name], pid, str(said.get("why", ""))[:_MOST_CHARS])
        elif isinstance(step := said.get("step"), int):
            if step >= self.step:
                self.step, self.obstacle = step, str(said.get("obstacle", ""))[:_MOST_CHARS]
            if "copy" in said:
                self._take_copy(pid, step)
        elif pid == self.keeper.pid and self.kernel is not None and said.get("ended") == self.kernel.inside_pid:
            self.why = self.why or words_of(said.get("status"))

    def _birth(self, birth: asyncio.Future[int], pid: int, why: str) -> None:
        if not birth.done():
            if why:
                birth.set_exception(SandboxError(why))
            else:
                birth.set_result(pid)

    async def heard_of(self, step: int) -> None:
        """Wait for word of this moment, which may still be on its way; but not for long."""
        for _ in range(int(_LATE_SECONDS / _LOOK_SECONDS)):
            if self.step >= step:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    @property
    def has_copy(self) -> bool:
        """Whether there is a copy that can be woken."""
        return self.copy is not None and not self.copy.ended

    def woken(self) -> int:
        """The copy is the kernel from now on. Returns its step."""
        self.copy, self.why, self.step = None, "", self._copied
        return self._copied

    def fault(self, level: Level, uid: int | None, net: str) -> str:
        """What is missing of the promises of a level; empty when it holds."""
        wanted = {"limits", "landlock", "seccomp", "capabilities"} if level != "none" else set()
        wanted |= ({"uid"} if uid else set()) | ({"network"} if net else set())
        missing = sorted(wanted - set(self.held))
        faults = [x for x in self.held if x.startswith("no ")] + self.open
        return "; ".join(faults) or (f"without {', '.join(missing)}" if missing else "")

    @property
    def root(self) -> str:
        """Where the host sees the keeper's files."""
        return f"/proc/{self.keeper.pid}/root" if self.keeper is not None else ""

    @property
    def kept(self) -> set[int]:
        """Processes that outlive the kernel."""
        return {process.pid for process in (self.keeper, self.copy) if process is not None}

    def _take_copy(self, pid: int, step: int) -> None:
        if self.kernel is None or pid == self.kernel.pid or (found := Process.find(pid)) is None:
            return
        older: Process | None = found  # two that were made shortly after each other may tell in any order
        if step >= self._copied or self.copy is None:
            older, self.copy, self._copied = self.copy, found, step
        if older is not None:
            self._retired.append(older)
            self._bury()

    def nurse(self, copy: Process) -> None:
        """This copy has a child more, which would end with it."""
        self._nursing.append(copy)

    def wean(self, copy: Process) -> None:
        """It has one less."""
        self._nursing.remove(copy)
        self._bury()

    def _bury(self) -> None:
        """End copies that are neither the newest nor needed by a child."""
        for copy in [copy for copy in self._retired if copy not in self._nursing]:
            self._retired.remove(copy)
            copy.signal(signal.SIGKILL)
