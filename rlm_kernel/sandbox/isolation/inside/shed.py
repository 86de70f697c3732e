"""What a copy of the kernel gives up when it wakes: loops, threads and descriptors of the process that was copied."""

from __future__ import annotations

import os
import select
import socket
import stat
import threading
from typing import Any

NO_KIND = 0
"""Of file: an event queue or an event counter."""


def close(loop: Any) -> None:
    """A tornado loop, whose thread is gone; it still counts as running.

    Its epoll instance is shared with the process that was copied, which may live on: what is taken out of it here would
    be missing there. So the loop is given another one first.
    """
    selector = loop.asyncio_loop._selector
    if hasattr(selector._selector, "close"):  # epoll: other kinds hold nothing of the operating system's
        shared, selector._selector = selector._selector, select.epoll()
        shared.close()
    loop.asyncio_loop._thread_id = None
    loop.close()


def empty(thread: threading.Thread) -> None:
    """The C frames of a thread that is gone hold its object for ever; they need not hold what it was about."""
    needed = vars(threading.Thread()).keys() - {"_target", "_args", "_kwargs"}
    for name in vars(thread).keys() - needed:
        delattr(thread, name)


def is_plumbing(fd: int, paths: set[str], pipes: set[int]) -> bool:
    """Whether the process that was copied had it for itself: ZeroMQ's queues and connections, captured output."""
    try:
        status = os.fstat(fd)
        kind = stat.S_IFMT(status.st_mode)
        if kind != stat.S_IFSOCK:
            return kind == NO_KIND or (kind == stat.S_IFIFO and status.st_ino in pipes)
        with socket.socket(fileno=os.dup(fd)) as found:
            return found.family == socket.AF_UNIX and found.getsockname() in paths
    except OSError:
        return False
