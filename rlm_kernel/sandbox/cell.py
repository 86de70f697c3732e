"""One cell on its way through the kernel: folds the kernel's messages into output chunks and a result.

No socket here, and nothing a message holds can raise: what does not fit is passed over. What a cell may put out is
bounded three ways: in characters of output, in messages, and in bytes of messages, whatever they are for.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Literal

from rlm_kernel.events import Variable
from rlm_kernel.sandbox.base import CellResult, Chunk, OnChunk

__all__ = ["MAX_MESSAGES", "RunningCell"]

_LOST = (
    "ConnectionError: the connection to the sandbox broke while this cell ran. It ran to its end and its variables are "
    "there, but some of its output is lost.\n"
)
MAX_MESSAGES = 250_000
"""Of one cell. One that flushes after every line prints as many lines; others seldom send a thousand."""
_MAX_STRAYS = 10_000
_BYTES_PER_CHAR = 8
"""Of messages, for every character of output that a cell may have: of three bytes, or escaped, and headers."""
_KEPT_HEAD, _KEPT_TAIL = 16 * 2**20, 1 * 2**20
_WORD_CHARS = 10_000
_MAX_FORMS, _MIME_CHARS = 32, 200
"""MIME types of one display, and characters of such a name."""


class RunningCell:
    """The state of the cell that runs now.

    Args:
        msg_id: of its execute_request; messages with another parent are not its own.
        on_chunk: gets the output. Of more than 18 MB the middle is dropped, saying how much.
        on_stop: called once when it has to be stopped.
        max_output: characters that it may put out.

    Attributes:
        ended: done when the kernel says that it has ended.
        interrupting: the host has interrupted it.
        hopeless: it goes on whatever is done: only the end of its kernel will end it.
        why: what it was stopped for, in words for the model.
    """

    def __init__(self, msg_id: str, on_chunk: OnChunk, on_stop: Callable[[RunningCell], None], max_output: int) -> None:
        self.msg_id = msg_id
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.idle = False
        self.reply: Mapping[str, Any] | None = None
        self.interrupting = self.hopeless = False
        self.why = ""
        self.probe = ""
        """The id of a request that the kernel answers when it has ended the cell."""
        self._stopped: Literal["", "flooded", "timeout"] = ""
        self._broken_off = ""
        self._on_chunk, self._on_stop = on_chunk, on_stop
        self._max_output = max_output
        self._tail_room = min(_KEPT_TAIL, max_output // 16)
        self._head_room = min(_KEPT_HEAD, max_output)
        self._chars = self._messages = self._bytes = self._strays = 0
        self._tail: deque[tuple[Chunk, int]] = deque()
        self._tail_chars = 0
        self._dropped = 0

    def on_message(self, size: int) -> None:
        """Count a message of `size` bytes that came while it runs, its own or not."""
        self._messages += 1
        self._bytes += size
        if self._messages > MAX_MESSAGES:
            self.stop("flooded", f"Stopped: a block may put out {MAX_MESSAGES:,} pieces of output.")
        elif self._bytes > self._max_output * _BYTES_PER_CHAR:
            self._flood()

    def on_stray(self) -> None:
        """A request came that did not wait for the answer to the one before, which our guest's never do."""
        self._strays += 1
        if self._strays > _MAX_STRAYS:
            self.stop("flooded", "Stopped: its requests to the host do not wait for their answers.")

    def on_too_large(self) -> None:
        """A message came that was too large to be read."""
        self._flood()

    def on_reply(self, content: Mapping[str, Any]) -> None:
        """Take the execute_reply."""
        self.reply = content
        self._settle()

    def on_loss(self) -> None:
        """Take word that the kernel has ended the cell, though its reply never came: the connection broke meanwhile."""
        if not self.ended.done():
            self._output(Chunk("error", _LOST))
            self.reply = self.reply or {"status": "error"}
            self.ended.set_result(None)

    def on_iopub(self, kind: str, content: Mapping[str, Any]) -> None:
        """Take a message of the iopub channel."""
        if kind == "status":
            if content.get("execution_state") == "idle":
                self.idle = True
                self._settle()
        elif kind == "stream":
            self._output(Chunk("stderr" if content.get("name") == "stderr" else "stdout", _text(content.get("text"))))
        elif kind in ("display_data", "execute_result", "update_display_data"):
            bundle, size = _bundle(content.get("data"))
            shown = bundle.get("text/plain", "") + "\n"
            self._output(Chunk("result" if kind == "execute_result" else "display", shown, bundle), size)
        elif kind == "error" and content.get("ename") != "Submitted":
            lines = content.get("traceback")
            text = "\n".join(_text(line) for line in lines) if isinstance(lines, list) else ""
            self._broken_off = _word(content.get("ename"))
            self._output(Chunk("error", (text or f"{self._broken_off}: {_text(content.get('evalue'))}") + "\n"))

    def stop(self, status: Literal["flooded", "timeout"], why: str) -> None:
        """Have it stopped, unless it is being stopped already; `result` will tell the status and why."""
        if not self._stopped and not self.ended.done():
            self._stopped, self.why = status, why
            self._on_stop(self)

    def result(self) -> CellResult:
        """How it ended; to be asked once `ended` is done."""
        self._flush_tail()
        reply = self.reply or {}
        told = self.payload()
        changed = tuple(
            Variable(*(_word(x) for x in row))
            for row in _list(told.get("changed"))
            if isinstance(row, list) and len(row) == 4
        )
        status: Literal["ok", "error", "interrupted", "flooded", "timeout"] = "error"
        if self._stopped:
            status = self._stopped
        elif self._broken_off == "KeyboardInterrupt" or (self.interrupting and self._broken_off == "CancelledError"):
            status = "interrupted"
        elif reply.get("status") == "ok" or reply.get("ename") == "Submitted":
            status = "ok"
        removed, restored = (tuple(_word(x) for x in _list(told.get(name))) for name in ("removed", "restored"))
        return CellResult(status, changed, removed, restored, self.why)

    def payload(self) -> Mapping[str, Any]:
        """What the guest sent along with the reply."""
        sent = _list((self.reply or {}).get("payload"))
        found = [p for p in sent if isinstance(p, dict) and p.get("source") == "rlm_kernel"]
        return found[-1] if found else {}

    def _settle(self) -> None:
        if self.idle and self.reply is not None and not self.ended.done():
            self.ended.set_result(None)

    def _flood(self) -> None:
        self.stop("flooded", f"Stopped: a block may put out {self._max_output / 2**20:g} MB.")

    def _output(self, chunk: Chunk, beside: int = 0) -> None:
        """Pass a chunk on, or keep it for the end. `beside` counts what it carries besides its text."""
        size = len(chunk.text) + beside
        room = self._head_room - self._chars
        self._chars += size
        if self._chars > self._max_output:
            self._flood()
        if size <= room:
            self._on_chunk(chunk)
            return
        text, data = chunk.text, chunk.data
        if room > 0 and not data:
            self._on_chunk(Chunk(chunk.kind, text[:room]))
            text = text[room:]
        if len(text) + beside > self._tail_room:
            self._dropped += beside + max(0, len(text) - self._tail_room)
            text, data, beside = text[-self._tail_room :], {}, 0
        self._tail.append((Chunk(chunk.kind, text, data), len(text) + beside))
        self._tail_chars += len(text) + beside
        while self._tail_chars - self._tail[0][1] >= self._tail_room:
            _, gone = self._tail.popleft()
            self._tail_chars -= gone
            self._dropped += gone

    def _flush_tail(self) -> None:
        if self._dropped:
            self._on_chunk(Chunk("stdout", f"\n… [{self._dropped:,} characters of output were not kept] …\n"))
            self._dropped = 0
        while self._tail:
            self._on_chunk(self._tail.popleft()[0])


def _bundle(data: Any) -> tuple[dict[str, Any], int]:
    """What of a MIME bundle can be passed on, and how many characters that is besides its plain text."""
    bundle: dict[str, Any] = {}
    size = 0
    for name, value in list(data.items())[:_MAX_FORMS] if isinstance(data, dict) else ():
        if len(name) > _MIME_CHARS or not name.isascii():
            continue
        if isinstance(value, str):
            bundle[name] = _text(value)
            size += len(value) if name != "text/plain" else 0
        elif name != "text/plain":
            try:
                size += len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
            except (ValueError, RecursionError):  # infinite numbers, or half a surrogate pair somewhere
                continue
            bundle[name] = value
    return bundle, size


def _text(value: Any) -> str:
    """Text as every later step can encode it: half of a surrogate pair becomes U+FFFD."""
    if not isinstance(value, str):
        return str(value) if isinstance(value, int | float) else ""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _word(value: Any) -> str:
    return _text(value)[:_WORD_CHARS]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
