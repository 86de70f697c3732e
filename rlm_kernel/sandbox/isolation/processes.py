"""Processes of a sandbox as the host sees them: told apart by descriptors, as numbers are given anew."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time
from collections.abc import Collection, Iterator
from typing import Any

__all__ = ["Process", "end_all_but", "members", "words_of"]

_ROUNDS = 200
_PAUSE_SECONDS = 0.005


class Process:
    """One that runs, or did.

    Attributes:
        pid: on this machine.
        inside_pid: in its own namespace.
    """

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid, self._descriptor = pid, descriptor
        self.inside_pid = _inside_pid(pid)

    @classmethod
    def find(cls, pid: int) -> Process | None:
        """The process of that number; None when there is none any more."""
        try:
            return cls(pid, os.pidfd_open(pid))
        except OSError:
            return None

    def __del__(self) -> None:
        os.close(self._descriptor)

    @property
    def ended(self) -> bool:
        """Whether it is dead, waited for or not."""
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLIN)
        return bool(waiting.poll(0))

    def when_ended(self, future: asyncio.Future[None]) -> None:
        """Have a future of the running loop done when it has ended."""
        loop, descriptor = asyncio.get_running_loop(), os.dup(self._descriptor)
        watched = [descriptor]

        def end(*_: object) -> None:
            while watched:  # once: its number may be another's by the next call
                loop.remove_reader(watched[0])
                os.close(watched.pop())
            if not future.done():
                future.set_result(None)

        loop.add_reader(descriptor, end)
        future.add_done_callback(end)

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)


def members(leader: int, *, grouped: bool) -> list[int]:
    """The numbers of all processes of a sandbox.

    Args:
        leader: the one that was started.
        grouped: what belongs to it is told by its group, which nothing in there can leave; else by descent.
    """
    return list(_group(leader) if grouped else _tree(leader))


def end_all_but(kept: Collection[int], leader: int, *, grouped: bool) -> bool:
    """Kill the processes of a sandbox but for these. Blocks until they are dead; False when that does not come."""
    for _ in range(_ROUNDS):
        others = [found for pid in members(leader, grouped=grouped) if pid not in kept and (found := Process.find(pid))]
        others = [process for process in others if not process.ended]
        if not others:
            return True
        for process in others:
            process.signal(signal.SIGKILL)
        time.sleep(_PAUSE_SECONDS)
    return False


def words_of(status: Any) -> str:
    """How a process ended, for people.

    Args:
        status: as `os.waitpid` gives it; not trusted to be one.
    """
    if not isinstance(status, int):
        return ""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        names = {signal.SIGSEGV: "it crashed", signal.SIGKILL: "it was killed", signal.SIGABRT: "it aborted itself"}
        with contextlib.suppress(ValueError):
            return f"{names.get(signal.Signals(number), 'it was ended')} ({signal.Signals(number).name})"
    return f"it exited with code {os.WEXITSTATUS(status)}" if os.WIFEXITED(status) else ""


def _inside_pid(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/status") as file:  # noqa: PTH123 - often
        for line in file:
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return pid


def _tree(process: int) -> Iterator[int]:
    """It and all below: what loses its parent falls to the keeper."""
    yield process
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{process}/task"):  # noqa: PTH208 - often
            with open(f"/proc/{process}/task/{thread}/children") as file:  # noqa: PTH123 - as above
                children = file.read().split()
            for child in children:
                yield from _tree(int(child))


def _group(leader: int) -> Iterator[int]:
    for name in os.listdir("/proc"):  # noqa: PTH208 - often
        with contextlib.suppress(ValueError, ProcessLookupError):
            if os.getpgid(int(name)) == leader:
                yield int(name)
