"""What a Jupyter client needs of ZMTP 3.0, the protocol beneath ZeroMQ: no I/O, only bytes to messages and back.

libzmq cannot serve here. Its limits hold for one frame (`ZMQ_MAXMSGSIZE`) and for whole messages (`ZMQ_RCVHWM`), so a
peer that goes on with one message for ever fills the memory of this process before Python sees any of it. Here a
message is bounded as a whole, and what is too large is passed over as it comes. https://rfc.zeromq.org/spec/23/
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

__all__ = ["MAX_FRAMES", "SUBSCRIBE", "Incoming", "TooLarge", "WireError", "encode", "greeting"]

MAX_FRAMES = 64
"""Of one message: identities, delimiter, signature, four parts, buffers."""
SUBSCRIBE = b"\x01"
"""The message of a SUB that wants everything."""
_FRAMES_PASSED_OVER = 10_000
"""A message of more is no mistake."""
_MORE, _LONG, _COMMAND = 1, 2, 4
_GREETING_BYTES = 64
_COMMAND_BYTES = 4096


class WireError(ConnectionError):
    """The peer does not speak ZMTP 3 without encryption."""


class TooLarge(Enum):
    """Stands for a message that was passed over."""

    MESSAGE = "too large"


def greeting(socket_type: Literal["DEALER", "SUB"], identity: bytes) -> bytes:
    """What a client says first: its greeting and its READY."""
    said = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    ready = b"\x05READY"
    for name, value in ((b"Socket-Type", socket_type.encode()), (b"Identity", identity)):
        ready += bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value
    return said + bytes([_COMMAND, len(ready)]) + ready


def encode(frames: list[bytes]) -> bytes:
    """A message as it goes out."""
    parts = []
    for number, frame in enumerate(frames, 1):
        more = _MORE if number < len(frames) else 0
        size = len(frame)
        parts.append(bytes([more, size]) if size < 256 else bytes([more | _LONG]) + size.to_bytes(8, "big"))
        parts.append(frame)
    return b"".join(parts)


class Incoming:
    """The bytes of one connection on their way to messages. Holds at most twice `max_bytes` and what was fed last.

    Args:
        max_bytes: of one message, all its frames together.

    Attributes:
        ready: the peer has greeted and is of our kind.
        size: bytes of the message that `next` returned last.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.ready = False
        self.size = 0
        self._greeted = False
        self._buffer = bytearray()
        self._at = 0
        self._skip = 0
        """Bytes still to come of a frame that is passed over."""
        self._passed_over = 0
        """Frames of the message that were passed over: from the first on, all to its end."""
        self._frames: list[bytes] = []
        self._bytes = 0

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def next(self) -> list[bytes] | TooLarge | None:
        """The next message; None when more has to arrive first.

        One that is too large is told before it has ended; one of too many frames comes without any.

        Raises:
            WireError: this is not ZMTP; nothing more can be read.
        """
        if not self._greeted and not self._greet():
            return None
        while self._skipped() and (head := self._head()) is not None:
            flags, size, start = head
            end = start + size
            if not self.ready or flags & _COMMAND:
                if not self._command(flags, size, start):
                    return None
            elif self._passed_over or self._bytes + size > self._max_bytes or len(self._frames) == MAX_FRAMES:
                if (told := self._pass_over(flags, size, start)) is not None:
                    return told
            elif len(self._buffer) < end:
                return None
            else:
                self._frames.append(bytes(memoryview(self._buffer)[start:end]))
                self._bytes += size
                self._at = end
                if not flags & _MORE:
                    message, self._frames = self._frames, []
                    self.size, self._bytes = self._bytes, 0
                    return message
        return None

    def _greet(self) -> bool:
        if len(self._buffer) < _GREETING_BYTES:
            return False
        said = self._buffer[:_GREETING_BYTES]
        if said[0] != 0xFF or said[9] != 0x7F or said[10] < 3:
            raise WireError("the kernel's socket does not speak ZMTP 3")
        if said[12:32].rstrip(b"\0") != b"NULL":
            raise WireError("the kernel's socket wants an encrypted connection")
        self._at = _GREETING_BYTES
        self._greeted = True
        return True

    def _skipped(self) -> bool:
        """Whether what is passed over has come to its end."""
        step = min(self._skip, len(self._buffer) - self._at)
        self._at += step
        self._skip -= step
        return not self._skip

    def _pass_over(self, flags: int, size: int, start: int) -> list[bytes] | TooLarge | None:
        """Go beyond a frame; tells of the message when it becomes too large, or has ended without."""
        self._at, self._skip, self._frames = start, size, []
        self._passed_over += 1
        if self._passed_over > _FRAMES_PASSED_OVER:
            raise WireError("the kernel's socket sent a message without end")
        known = self._bytes > self._max_bytes
        self._bytes += size
        too_large = self._bytes > self._max_bytes
        if not flags & _MORE:
            self.size, self._bytes, self._passed_over = self._bytes, 0, 0
            return None if known else TooLarge.MESSAGE if too_large else []
        return TooLarge.MESSAGE if too_large and not known else None

    def _head(self) -> tuple[int, int, int] | None:
        """Flags, size and where the body of the next frame starts."""
        left = len(self._buffer) - self._at
        if not left:
            return None
        flags = self._buffer[self._at]
        if flags & ~(_MORE | _LONG | _COMMAND):
            raise WireError("the kernel's socket sent a frame that is none")
        width = 8 if flags & _LONG else 1
        start = self._at + 1 + width
        if left < 1 + width:
            return None
        return flags, int.from_bytes(self._buffer[self._at + 1 : start], "big"), start

    def _command(self, flags: int, size: int, start: int) -> bool:
        """Take READY, the one command there is without encryption; False when it is not there yet."""
        if self.ready or flags & (_COMMAND | _MORE) != _COMMAND or size > _COMMAND_BYTES:
            raise WireError("the kernel's socket sent something else than its READY")
        end = start + size
        if len(self._buffer) < end:
            return False
        if not self._buffer.startswith(b"\x05READY", start):
            raise WireError("the kernel's socket refused the connection")
        self.ready = True
        self._at = end
        return True
