"""What the files of hostile cells share: small limits, means to forge messages, and whether a sandbox goes on."""

from __future__ import annotations

import contextlib
import os

import psutil

from rlm_kernel.sandbox.isolation.policy import Limits
from tests.sandbox.lab import Lab

SMALL = Limits(memory=1536, processes=80, scratch=32, files=256)

UNBOUNDED = {"landlock": "Disk is not bounded"}
"""Levels that leave the disk open, and the words of their promises for it."""

TOOLS = """
import os, signal, sys, time
kernel = get_ipython().kernel
session, parent = kernel.session, None

def iopub(kind, content, **more):
    session.send(kernel.iopub_socket, kind, content, parent=kernel.get_parent(), ident=b'forged', **more)

def shell(kind, content):
    session.send(kernel.shell_stream, kind, content, parent=kernel.get_parent(), ident=kernel._parent_ident['shell'])
    kernel.shell_stream.flush()

def raw(*frames):
    kernel.iopub_socket.send_multipart(list(frames))

def signed(*parts):
    raw(b'forged', b'<IDS|MSG>', session.sign(list(parts)), *parts)
"""


def descriptors() -> int:
    """How many this process has open, but for those of processes, which close with the last who knows the process."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return len([link for link in links if "pidfd" not in link])


def family(made: Lab) -> list[psutil.Process]:
    """The kernel and what it started."""
    kernel = psutil.Process(made.sandbox.pid)
    return [kernel, *kernel.children(recursive=True)]


def goes_on(made: Lab) -> bool:
    """Whether cells run as if nothing had been, in the same kernel."""
    ran = made.run("print(1 + 1)")
    return (ran.status, ran.text()) == ("ok", "2\n")


def goes_on_anew(made: Lab) -> bool:
    """The same for the next kernel, the last one being ended."""
    made.wait(made.sandbox.shutdown())
    return goes_on(made.start())
