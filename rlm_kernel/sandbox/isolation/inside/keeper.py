"""The first process of a sandbox, which never runs foreign code: parent of the kernel and of copies that outlive it.

Where the sandbox has process numbers of its own this is number 1: it cannot be signalled from inside, and all ends
with it. It is not locked: the kernel's own /proc/self, which Landlock allows by what it is, has to be the kernel's.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def die_with(parent: int) -> None:
    """End this process when its parent ends, or now if it has."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def keep(policy: dict[str, Any]) -> None:
    """Start the kernel, and tell the host how each child ends.

    Returns in no process: it ends with its last child, and it ends everything when the host closes its socket, however
    the host came to that. (A signal at the parent's death would need the right to send one to another user.)
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # copies of a dead kernel come here
    talk = socket.socket(fileno=policy["talk"])
    talk.send(json.dumps({"keeper": True}).encode())
    me = os.getpid()
    if os.fork() == 0:
        from rlm_inside import lock  # type: ignore[import-not-found]  # sent along

        lock.enter(policy, talk)
        die_with(me)  # after the change of user, which clears it
        from rlm_inside import kernel

        kernel.become(policy, talk)
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended, end = socket.socketpair()
    ended.setblocking(False)
    end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(end.fileno(), warn_on_full_buffer=False)
    waiting = select.poll()
    waiting.register(talk, 0)  # its closing alone
    waiting.register(ended, select.POLLIN)
    while True:
        reap(talk)
        for fd, _ in waiting.poll():
            if fd == talk.fileno():
                os.killpg(0, signal.SIGKILL)  # where it is not number 1 of a namespace that ends with it
                os._exit(0)
            with contextlib.suppress(BlockingIOError):
                ended.recv(4096)


def reap(talk: socket.socket) -> None:
    """Wait for children that have ended, and tell of each."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            os._exit(0)
        if not pid:
            return
        with contextlib.suppress(OSError):  # full, because somebody floods it: the host sees the end by itself
            talk.send(json.dumps({"ended": pid, "status": status}).encode(), socket.MSG_DONTWAIT)
