"""Ends a sandbox whose processes together use too much: the kernel's own limits hold for one process each.

Where control groups could do this a user may seldom make them, so the host looks several times a second.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

from rlm_kernel.sandbox.isolation.policy import MB, Limits
from rlm_kernel.sandbox.isolation.processes import members

__all__ = ["Watch", "memory"]

_TICK_SECONDS = 0.1
_FILES_PER_MB = 200
"""An empty file takes no space of a folder in memory, but of the kernel's own."""
_PAGE, _TICKS_PER_SECOND = os.sysconf("SC_PAGESIZE"), os.sysconf("SC_CLK_TCK")


class Watch:
    """A thread that looks until it is stopped.

    Args:
        leader: the process that was started.
        limits: for all together.
        grouped: see `members`; there are no namespaces then.
        end: called with the reason when the sandbox uses too much; a kernel may follow the one that it ends.

    Attributes:
        allowed: bytes of memory for all together.
        kernel: the process that sees the scratch folder as /tmp.
        cpu_seconds: of the processor, used by all together until the last look. A process that nobody of them waited
            for is forgotten when it ends; in a namespace the first process waits for all.
    """

    def __init__(self, leader: int, limits: Limits, *, grouped: bool, end: Callable[[str], None]) -> None:
        self._leader, self._limits, self._grouped, self._end = leader, limits, grouped, end
        self.allowed = limits.memory * MB
        self.kernel = leader
        self.cpu_seconds = 0.0
        self._over = threading.Event()
        threading.Thread(target=self._look, name="rlm-sandbox-watch", daemon=True).start()

    def stop(self) -> None:
        """Look no more. The thread ends at its next look: an interpreter that ends has no time to wait for it."""
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(_TICK_SECONDS):
            if (why := self._too_much()) and not self._over.is_set():
                self._end(why)

    def _too_much(self) -> str:
        processes = members(self._leader, grouped=self._grouped)
        self.cpu_seconds = max(self.cpu_seconds, sum(map(_cpu_seconds, processes)))
        if memory(processes, enough=self.allowed) > self.allowed:
            return f"its processes used more than {self.allowed // MB} MB of memory together"
        if self._grouped and sum(map(_threads, processes)) > self._limits.processes:  # the kernel counts none of root's
            return f"it started more than {self._limits.processes} processes and threads"
        if not self._grouped and _files(f"/proc/{self.kernel}/root") > self._limits.scratch * _FILES_PER_MB:
            return f"it made more than {self._limits.scratch * _FILES_PER_MB:,} files"
        return ""


def memory(processes: list[int], *, enough: int) -> int:
    """Bytes that processes use; what they share counts once, which is only looked at where it decides."""
    most = sum(_resident(process) for process in processes)
    return most if most <= enough else sum(_proportional(process) for process in processes)


def _resident(process: int) -> int:
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{process}/statm") as file:  # noqa: PTH123 - often
        return int(file.read().split()[1]) * _PAGE
    return 0


def _proportional(process: int) -> int:
    try:
        with open(f"/proc/{process}/smaps_rollup") as file:  # noqa: PTH123 - as above
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return _resident(process)


def _cpu_seconds(process: int) -> float:
    """In user and in system mode, by itself and by its children that have ended: fields 14 to 17, proc_pid_stat(5)."""
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{process}/stat") as file:  # noqa: PTH123 - as above
        return sum(map(int, file.read().rpartition(")")[2].split()[11:15])) / _TICKS_PER_SECOND
    return 0.0


def _threads(process: int) -> int:
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{process}/task").st_nlink - 2  # noqa: PTH116 - as above
    return 0


def _files(root: str) -> int:
    made = 0
    for folder in ("tmp", "dev/shm"):
        with contextlib.suppress(OSError):
            status = os.statvfs(f"{root}/{folder}")
            made += status.f_files - status.f_ffree
    return made
