"""One cell on its way through the kernel: folds the kernel's messages into output chunks and a result.

No socket here, and nothing a message holds can raise: what does not fit is passed over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from rlm_kernel.events import Variable
from rlm_kernel.sandbox.base import CellResult, Chunk, OnChunk

__all__ = ["MAX_OUTPUT_CHARS", "RunningCell"]

MAX_OUTPUT_CHARS = 64 * 2**20
"""A cell that prints more is stopped."""
_KEPT_HEAD, _KEPT_TAIL = 16 * 2**20, 1 * 2**20


class RunningCell:
    """The state of the cell that runs now.

    Args:
        msg_id: of its execute_request; messages with another parent are not its own.
        on_chunk: gets the output. Of more than 17 MB the middle is dropped, saying how much.
        on_flood: called once when it has printed too much.
    """

    def __init__(self, msg_id: str, on_chunk: OnChunk, on_flood: Callable[[RunningCell], None]) -> None:
        self.msg_id = msg_id
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.idle = False
        self.reply: Mapping[str, Any] | None = None
        self.interrupting = False
        """The host has interrupted it."""
        self.hopeless = False
        """It goes on whatever is done: only the end of its kernel will end it."""
        self._broken_off = ""
        self._on_chunk, self._on_flood = on_chunk, on_flood
        self._chars = 0
        self._tail: deque[Chunk] = deque()
        self._tail_chars = 0
        self._dropped = 0

    def on_reply(self, content: Mapping[str, Any]) -> None:
        """Take the execute_reply."""
        self.reply = content
        self._settle()

    def on_iopub(self, kind: str, content: Mapping[str, Any]) -> None:
        """Take a message of the iopub channel."""
        if kind == "status":
            if content.get("execution_state") == "idle":
                self.idle = True
                self._settle()
        elif kind == "stream":
            self._output(Chunk("stderr" if content.get("name") == "stderr" else "stdout", _text(content.get("text"))))
        elif kind in ("display_data", "execute_result", "update_display_data"):
            data = content.get("data")
            bundle = data if isinstance(data, dict) else {}
            shown = _text(bundle.get("text/plain"))
            self._output(Chunk("result" if kind == "execute_result" else "display", shown + "\n", bundle))
        elif kind == "error" and content.get("ename") != "Submitted":
            lines = content.get("traceback")
            text = "\n".join(_text(line) for line in lines) if isinstance(lines, list) else ""
            self._broken_off = _text(content.get("ename"))
            self._output(Chunk("error", (text or f"{content.get('ename')}: {content.get('evalue')}") + "\n"))

    @property
    def flooded(self) -> bool:
        """Whether it has printed more than it may."""
        return self._chars > MAX_OUTPUT_CHARS

    def result(self) -> CellResult:
        """How it ended; to be asked once `ended` is done."""
        self._flush_tail()
        reply = self.reply or {}
        told = _payload(reply)
        changed = tuple(
            Variable(*(_text(x) for x in row))
            for row in _list(told.get("changed"))
            if isinstance(row, list) and len(row) == 4
        )
        status = "ok" if reply.get("status") == "ok" or reply.get("ename") == "Submitted" else "error"
        if self.flooded:
            status = "flooded"
        elif self._broken_off == "KeyboardInterrupt" or (self.interrupting and self._broken_off == "CancelledError"):
            status = "interrupted"
        return CellResult(
            status,  # type: ignore[arg-type]  # one of the Literal, by the lines above
            changed,
            tuple(_text(x) for x in _list(told.get("removed"))),
            tuple(_text(x) for x in _list(told.get("restored"))),
        )

    def payload(self) -> Mapping[str, Any]:
        """What the guest sent along with the reply."""
        return _payload(self.reply or {})

    def _settle(self) -> None:
        if self.idle and self.reply is not None and not self.ended.done():
            self.ended.set_result(None)

    def _output(self, chunk: Chunk) -> None:
        before = self._chars
        self._chars += len(chunk.text) + sum(
            len(v) for k, v in chunk.data.items() if isinstance(v, str) and k != "text/plain"
        )
        if before <= MAX_OUTPUT_CHARS < self._chars:
            self._on_flood(self)
        if self._chars <= _KEPT_HEAD:
            self._on_chunk(chunk)
            return
        text = chunk.text[-_KEPT_TAIL:]
        self._dropped += len(chunk.text) - len(text)
        self._tail.append(Chunk(chunk.kind, text, chunk.data))
        self._tail_chars += len(text)
        while self._tail_chars - len(self._tail[0].text) > _KEPT_TAIL:
            gone = self._tail.popleft()
            self._tail_chars -= len(gone.text)
            self._dropped += len(gone.text)

    def _flush_tail(self) -> None:
        if self._dropped:
            self._on_chunk(Chunk("stdout", f"\n… [{self._dropped:,} characters of output were not kept] …\n"))
            self._dropped = 0
        while self._tail:
            self._on_chunk(self._tail.popleft())


def _payload(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [p for p in _list(reply.get("payload")) if isinstance(p, dict) and p.get("source") == "rlm_kernel"]
    return found[-1] if found else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
