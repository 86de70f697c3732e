"""The host's ends of what a sandbox's process tells: a socket for facts, a pipe for what it writes outside of any cell.

On the socket come locks, kernels, copies and ends. Foreign code can write to it too. What the operating system says of
a message is true, which is its sender's process; what stands in it is not believed further than that: at worst a
process offers itself as the copy of a kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Talk", "Words", "last_line", "listen"]

_MOST_BYTES = 65_536
_MOST_MESSAGES = 64
"""At one go."""
_FLOOD = 500
"""In a second: a cell makes two."""
_KEPT_BYTES, _MOST_LINE = 4096, 300
_CREDENTIALS = struct.Struct("iII")


class Talk:
    """A pair of sockets, of which the sandbox inherits one.

    Args:
        hear: called on the loop with the sender's process id, as this machine counts them, and what it says.
    """

    def __init__(self, hear: Callable[[int, dict[str, Any]], None]) -> None:
        self._own, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._own.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._own.setblocking(False)
        self._hear = hear
        self._heard, self._since = 0, 0.0
        asyncio.get_running_loop().add_reader(self._own, self._read)

    def handed_over(self) -> None:
        """The process has its end."""
        self.theirs.close()

    def say(self, word: bytes) -> None:
        """Send a word; whether anybody listens shows in what happens."""
        with contextlib.suppress(OSError):
            self._own.send(word)

    def give(self, said: dict[str, Any], sockets: Sequence[socket.socket]) -> None:
        """Send a message with sockets, to whoever reads next.

        Raises:
            OSError: it is closed, or nobody has read for long.
        """
        socket.send_fds(self._own, [json.dumps(said).encode()], [s.fileno() for s in sockets])

    def close(self) -> None:
        """Listen no more."""
        if self._own.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._own)
            self._own.close()
        self.theirs.close()

    def _read(self) -> None:
        for _ in range(_MOST_MESSAGES):
            try:
                data, more, _, _ = self._own.recvmsg(_MOST_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data or self._too_many():
                self.close()
                return
            pid = next((_CREDENTIALS.unpack(x)[0] for _, kind, x in more if kind == socket.SCM_CREDENTIALS), 0)
            with contextlib.suppress(ValueError, RecursionError):
                said = json.loads(data)
                if pid and isinstance(said, dict):
                    self._hear(pid, said)

    def _too_many(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._since > 1:
            self._heard, self._since = 0, now
        self._heard += 1
        return self._heard > _FLOOD


class Words:
    """A pipe to which a process writes, of which the end is kept.

    Attributes:
        theirs: the descriptor that the process inherits.
    """

    def __init__(self) -> None:
        self._own, self.theirs = os.pipe()
        os.set_blocking(self._own, False)
        self._kept = b""
        self._open = True
        asyncio.get_running_loop().add_reader(self._own, self._read)

    @property
    def last(self) -> str:
        """The last line, which usually says why a process ended."""
        return last_line(self._kept)

    def handed_over(self) -> None:
        """The process has its end."""
        os.close(self.theirs)

    def close(self) -> None:
        """Listen no more."""
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._own)
            os.close(self._own)

    def _read(self) -> None:
        try:
            text = os.read(self._own, _MOST_BYTES)
        except BlockingIOError:
            return
        if not text:
            self.close()
        self._kept = (self._kept + text)[-_KEPT_BYTES:]


def last_line(text: bytes) -> str:
    """The last line of what a process wrote, cut short; empty when there is none."""
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1][:_MOST_LINE] if lines else ""


def listen(path: str) -> socket.socket:
    """A socket for one of the kernel's channels, to be inherited."""
    Path(path).unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    made.bind(path)
    made.listen(8)
    return made
