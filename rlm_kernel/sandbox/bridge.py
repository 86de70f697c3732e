"""The host's end of the request channel: reads what the sandbox asks, has it answered, sends back what is ready.

No socket here: text comes in by `receive`, text goes out by the `send` it is given. Everything that comes in is
hostile: sizes and counts are bounded before anything is parsed, and nothing that does not fit can raise. What costs
the host time is made to wait rather than refused: the guest gets no answer, so asks no more, until it has paid.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlm_kernel.sandbox.base import Handler, RefusedError
from rlm_kernel.sandbox.guest.channel import MAX_MESSAGE_BYTES
from rlm_kernel.sandbox.messages import loads

__all__ = ["Bridge"]

MAX_CELL_CHARS = 2 * 2**30
"""Of all messages of one cell."""
MAX_HELD_CHARS = 512 * 2**20
"""Of the calls that are open and the answers that were not collected."""
MAX_OPEN_CALLS = 10_000
_EXCHANGE_SECONDS = 0.00025
_CHARS_PER_SECOND = 64 * 2**20
_SAVED_SECONDS = 5.0
"""What an exchange, and what its characters cost; and what may be spent at once: 20,000 exchanges, or 320 MB."""
_METHOD_CHARS, _MAX_PARAMS, _ERROR_CHARS = 64, 16, 10_000
_FIRST_TICK, _LAST_TICK, _BACKOFF = 0.001, 0.05, 1.5


@dataclass(frozen=True, slots=True)
class _Request:
    number: int
    method: str
    params: dict[str, Any]


@dataclass(slots=True)
class _Open:
    task: asyncio.Task[None]
    chars: int


class Bridge:
    """Answers the guest's `Channel`: at once with what has completed, after a short tick with nothing.

    The tick lets newly asked calls out while others are still open; it grows while nothing moves.

    Args:
        handler: answers one request.
        send: delivers one answer to the guest, which waits for exactly one per message.

    Attributes:
        owes: a message has not been answered yet; our guest would not send another.
    """

    def __init__(self, handler: Handler, send: Callable[[str], None]) -> None:
        self._handler = handler
        self._send = send
        self._open: dict[int, _Open] = {}
        self._done: list[str] = []
        """Answers, as JSON."""
        self._held = 0
        self._received = 0
        self._timer: asyncio.Handle | None = None
        self.owes = False
        self._foreign = False
        self._tick = _FIRST_TICK
        self._saved = _SAVED_SECONDS
        self._paid_at: float | None = None

    def receive(self, text: str) -> None:
        """Take one message of the guest."""
        self._pay(len(text))
        try:
            new, forget = _parse(text)
        except ValueError:  # not our guest's: a stray input() of another kind of kernel
            self.refuse()
            return
        self.owes = True
        for number in forget:
            if call := self._open.pop(number, None):
                self._held -= call.chars
                call.task.cancel()
        chars = len(text) // max(1, len(new))
        self._received += len(text)
        for request in new:
            if why := self._over_budget(chars):
                self._answer(request.number, _error(request.number, "HostError", why))
            elif request.number not in self._open:
                self._held += chars
                self._open[request.number] = _Open(asyncio.create_task(self._serve(request)), chars)
        if new:
            self._tick = _FIRST_TICK
        self._schedule()

    @property
    def overdrawn(self) -> bool:
        """Whether the guest does not wait for answers, and has spent all that it had saved."""
        return self.owes and self._saved < 0

    def refuse(self) -> None:
        """A message was not read: whoever waits for an answer gets one that is none, which is an error there."""
        self.owes = self._foreign = True
        self._schedule()

    def cancel(self, why: str) -> None:
        """Answer every open call with an error: the cell that asked has ended."""
        for number, call in self._open.items():
            call.task.cancel()
            self._held -= call.chars
            self._answer(number, _error(number, "HostError", why))
        self._open.clear()
        self._received = 0
        self._schedule()

    def _pay(self, chars: int) -> None:
        now = asyncio.get_running_loop().time()
        earned = now - self._paid_at if self._paid_at is not None else 0.0
        self._paid_at = now
        self._saved = min(_SAVED_SECONDS, self._saved + earned) - _EXCHANGE_SECONDS - chars / _CHARS_PER_SECOND

    def _over_budget(self, chars: int) -> str:
        if len(self._open) >= MAX_OPEN_CALLS:
            return f"more than {MAX_OPEN_CALLS:,} calls are open"
        if self._held + chars > MAX_HELD_CHARS:
            return f"the calls that are open hold more than {MAX_HELD_CHARS >> 20:,} MB: wait for some of them"
        if self._received > MAX_CELL_CHARS:
            return f"this block has asked with more than {MAX_CELL_CHARS >> 20:,} MB: go on in the next"
        return ""

    async def _serve(self, request: _Request) -> None:
        number = request.number
        try:
            answer = {"id": number, "value": await self._handler(request.method, request.params)}
        except RefusedError as error:
            answer = _error(number, "RefusedError", str(error))
        except Exception as error:  # noqa: BLE001 - a handler's own fault must not leave the guest waiting
            answer = _error(number, "HostError", f"the host failed: {type(error).__name__}")
        if call := self._open.pop(number, None):
            self._held -= call.chars
            self._answer(number, answer)
            self._tick = _FIRST_TICK
            self._schedule()

    def _answer(self, number: int, answer: dict[str, Any]) -> None:
        """Hold an answer until the guest collects it."""
        try:
            text = json.dumps(answer)
        except (TypeError, ValueError) as error:  # a handler's answer that is no JSON
            text = json.dumps(_error(number, "HostError", f"the host failed: {error}"))
        if self._held + len(text) > MAX_HELD_CHARS:
            why = f"more than {MAX_HELD_CHARS >> 20:,} MB of calls and answers: ask for less at once"
            text = json.dumps(_error(number, "HostError", why))
        self._held += len(text)
        self._done.append(text)

    def _schedule(self) -> None:
        if not self.owes:
            return
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, -self._saved)
        if not self._done and not self._foreign:
            delay = max(delay, self._tick)
            self._tick = min(self._tick * _BACKOFF, _LAST_TICK)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(delay, self._flush) if delay else loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._timer = None
        self.owes = False
        if self._foreign:
            self._foreign = False
            self._send("")
            return
        done, self._done = self._done, []
        self._held -= sum(map(len, done))
        self._send(f'{{"done": [{", ".join(done)}]}}')


def _error(number: int, kind: str, message: str) -> dict[str, Any]:
    return {"id": number, "error": {"kind": kind, "message": message[:_ERROR_CHARS]}}


def _parse(text: str) -> tuple[list[_Request], list[int]]:
    if len(text) > MAX_MESSAGE_BYTES:
        raise ValueError("too long")
    message = loads(text, constants=True)
    if not isinstance(message, dict) or message.get("rlm") != 1:
        raise ValueError("not a request")
    new, forget = message.get("new"), message.get("forget")
    if not isinstance(new, list) or not isinstance(forget, list) or len(new) > MAX_OPEN_CALLS:
        raise ValueError("not a request")
    return [_request(call) for call in new], [n for n in forget if isinstance(n, int)]


def _request(call: Any) -> _Request:
    if not isinstance(call, dict):
        raise ValueError("not a call")
    number, method, params = call.get("id"), call.get("method"), call.get("params")
    if not (
        type(number) is int
        and 0 < number < 2**63
        and isinstance(method, str)
        and len(method) <= _METHOD_CHARS
        and isinstance(params, dict)
        and len(params) <= _MAX_PARAMS
    ):
        raise ValueError("not a call")
    return _Request(number, method, params)
