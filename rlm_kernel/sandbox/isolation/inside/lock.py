"""The first code of a sandbox: locks its process down, looks whether that holds, tells, and waits for the host's word.

What it found goes to the host through a socket before anything foreign runs; the host decides whether the sandbox may
go on.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import socket
import struct
from typing import Any

from rlm_inside import landlock, net, seccomp  # type: ignore[import-not-found]  # sent along

PR_SET_DUMPABLE = 4
CAPABILITY_VERSION_3 = 0x20080522
AF_VSOCK = 40
JOIN_SESSION_KEYRING = 1


def lock(policy: dict[str, Any]) -> list[str]:
    """Apply every layer of the policy. Returns the names of those that hold; an error of one is told as its name."""
    held = []
    port = net.listen(policy["net"]) if policy["net"] is not None else None
    if policy["uid"] is not None and os.getuid() == 0:
        os.setgroups([])
        os.setresgid(*[policy["uid"]] * 3)
        os.setresuid(*[policy["uid"]] * 3)
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # else its own /proc/self belongs to root
        held.append("uid")
    _drop_capabilities()
    held.append("capabilities")
    # a keyring of its own instead of the host's; where calls for keys are refused there is none to be read
    ctypes.CDLL(None).syscall(seccomp.number("keyctl"), JOIN_SESSION_KEYRING, None)
    for name, value in policy["limits"].items():
        hard = resource.RLIM_INFINITY if name == "RLIMIT_AS" else value  # the host raises it for the data it sends
        resource.setrlimit(getattr(resource, name), (value, hard))
    held.append("limits")
    for name, apply in (
        ("landlock", lambda: landlock.restrict(policy["readable"], policy["writable"], policy["landlock"], port)),
        ("seccomp", lambda: seccomp.install(seccomp.program(shared=policy["shared"], tcp=port is not None))),
    ):
        try:
            apply()
            held.append(name)
        except (OSError, KeyError) as error:
            held.append(f"no {name}: {error}")
    if port is not None:
        net.announce(port)
        held.append("network")
    return held


def _drop_capabilities() -> None:
    """What root may do beyond its files; with no_new_privs there is no way back.

    Raises:
        OSError: they could not be dropped.
    """
    header = struct.pack("<Ii", CAPABILITY_VERSION_3, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, bytes(24)):
        raise OSError(ctypes.get_errno(), "capabilities could not be dropped")


def look(policy: dict[str, Any]) -> list[str]:
    """Try what must not work. Returns what did."""
    host = policy["host_pid"]
    tries = {
        "the notebook's process can be seen": lambda: open(f"/proc/{host}/environ", "rb").close(),
        "the notebook's process can be signalled": lambda: os.kill(host, 0),
        "home can be read": lambda: next(filter(_readable, policy["private"])),
        "Python's own folder can be written": lambda: os.close(
            os.open(f"{os.path.dirname(os.__file__)}/rlm-canary", os.O_CREAT | os.O_WRONLY)
        ),
        "the loopback network can be reached": lambda: socket.create_connection(("127.0.0.1", 9), 0.2).close(),
        "sockets of the virtual machine can be made": lambda: socket.socket(AF_VSOCK, socket.SOCK_STREAM).close(),
    }
    found = []
    for name, attempt in tries.items():
        try:
            attempt()
        except ConnectionRefusedError:  # the network answers, so there is one
            found.append(name)
        except (OSError, StopIteration):
            continue
        else:
            found.append(name)
    return found


def _readable(path: str) -> bool:
    try:
        (os.listdir if os.path.isdir(path) else lambda p: open(p, "rb").close())(path)
    except OSError:
        return False
    return True


def enter(policy: dict[str, Any], talk: socket.socket) -> None:
    """Lock, look, tell, and wait for the host's word. Returns where the host said go."""
    report = {"held": lock(policy), "open": look(policy)} if policy["locked"] else {"held": [], "open": []}
    talk.send(json.dumps(report).encode())
    if talk.recv(2) != b"go":
        os._exit(1)
