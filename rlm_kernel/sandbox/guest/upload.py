"""What comes in pieces: files where the sandbox cannot read the host's own, and answers too long for one message.

Files are kept in memory (a memfd) where the system has that, else in a temporary file without a name.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any


class Uploads:
    """Files on their way in, by name."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}

    def take(self, name: str, offset: int, pieces: list[Any]) -> None:
        """Write pieces of a file at `offset`; 0 begins it anew.

        Raises:
            OSError: there is no room for them.
        """
        if offset == 0:
            self.drop(name)
            self._files[name] = _unnamed()
        fd = self._files[name]
        for piece in pieces:
            view = memoryview(piece).cast("B") if len(piece) else memoryview(b"")
            while view:
                written = os.pwrite(fd, view, offset)
                view, offset = view[written:], offset + written

    def open(self, path: str) -> int | None:
        """The descriptor of the file that the host calls so, now the caller's to close; None if it was not sent."""
        fd = self._files.pop(path.rpartition("/")[2], None)
        if fd is not None:
            os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def drop(self, name: str) -> None:
        """Forget a file."""
        if (fd := self._files.pop(name, None)) is not None:
            os.close(fd)


def _unnamed() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("rlm")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def whole(ask: Callable[[str], str]) -> Callable[[str], str]:
    """`ask`, but for an answer that comes in pieces or asks for the question again.

    A piece that begins with "+" is not the last one; the next is asked for by its number. "?" comes after the
    connection broke: the question may be lost, or its answer.
    """

    def repeat(message: str) -> str:
        while (answer := ask(message)) == "?":
            pass
        return answer

    def ask_for_all(message: str) -> str:
        pieces = [repeat(message)]
        while pieces[-1].startswith("+"):
            pieces.append(repeat(f"+{len(pieces)}"))
        return "".join(piece.removeprefix("+") for piece in pieces)

    return ask_for_all
