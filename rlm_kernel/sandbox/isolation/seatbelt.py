"""macOS: a kernel under Apple's sandbox-exec. Best effort: written from what is known of it, never run on a Mac by us.

sandbox-exec is deprecated and still there; it has no namespaces and no limit on memory. The profile allows what is
listed and nothing else; a first cell tries from inside what must not work, and a kernel in which it does is ended.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["PROGRAM", "check", "command", "profile"]

PROGRAM = "/usr/bin/sandbox-exec"
_READABLE = ("/System", "/usr/lib", "/usr/share", "/usr/bin", "/bin", "/Library/Frameworks", "/private/var/db/dyld")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_START = """\
import sys
import ipykernel.iostream, ipykernel.kernelapp as app
class IOPubThread(ipykernel.iostream.IOPubThread):
    def __init__(self, socket, pipe=False, **more):
        super().__init__(socket, pipe=False, **more)  # the pipe is a TCP socket, which cannot be had
app.IOPubThread = IOPubThread
app.IPKernelApp.launch_instance(sys.argv[1:])
"""
_CHECK = """\
import os, socket
def _look(private):
    tries = {{
        "home can be read": lambda: os.listdir(private),
        "home can be written": lambda: os.close(os.open(f"{{private}}/.rlm-canary", os.O_CREAT | os.O_WRONLY)),
        "the loopback network can be reached": lambda: socket.create_connection(("127.0.0.1", 9), 0.2).close(),
    }}
    for name, attempt in tries.items():
        try:
            attempt()
        except ConnectionRefusedError:
            print(name)
        except OSError:
            continue
        else:
            print(name)
_look({home!r})
del _look
"""


def profile(readable: Iterable[str | Path], work: Path, sockets: Path) -> str:
    """The rules, in sandbox-exec's language.

    Args:
        readable: files and folders to be read besides the system's.
        work: the folder that can be written.
        sockets: the folder in which the kernel's sockets are made.
    """
    allowed = " ".join(f"(subpath {_quoted(path)})" for path in (*_READABLE, *readable, work, sockets))
    devices = " ".join(f"(literal {_quoted(path)})" for path in _DEVICES)
    return "\n".join(
        [
            "(version 1)",
            "(deny default)",
            "(allow process-fork) (allow process-exec)",
            "(allow process-info* (target same-sandbox))",
            "(allow signal (target same-sandbox))",
            "(allow sysctl-read)",
            "(allow file-read-metadata)",
            f'(allow file-read* (literal "/") {devices} {allowed})',
            f'(allow file-write* (subpath {_quoted(work)}) (literal "/dev/null"))',
            f"(allow file-write-create file-write-unlink"
            f" (require-all (subpath {_quoted(sockets)}) (vnode-type SOCKET)))",
            "(allow system-socket (socket-domain AF_UNIX))",
            f"(allow network-bind network-inbound (local unix-socket (subpath {_quoted(sockets)})))",
        ]
    )


def command(rules: str) -> list[str]:
    """A kernel's command line, as a kernelspec has it."""
    return [PROGRAM, "-p", rules, sys.executable, "-I", "-c", _START, "-f", "{connection_file}"]


def check(home: Path) -> str:
    """The first cell's code: it prints what works and must not."""
    return _CHECK.format(home=str(home))


def _quoted(path: str | Path) -> str:
    """A path as a string of the profile: as the system knows it, /private/var and not /var."""
    return '"' + str(Path(path).resolve()).replace("\\", "\\\\").replace('"', '\\"') + '"'
