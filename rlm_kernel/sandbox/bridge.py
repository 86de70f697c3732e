"""The host's end of the request channel: reads what the sandbox asks, has it answered, sends back what is ready.

No socket here: text comes in by `receive`, text goes out by the `send` it is given. Everything that comes in is
hostile: sizes and counts are bounded before anything is parsed, and nothing that does not fit can raise.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from rlm_kernel.sandbox.base import Handler, RefusedError

__all__ = ["Bridge"]

MAX_MESSAGE_CHARS = 512 * 2**20
MAX_OPEN_CALLS = 10_000
_FIRST_TICK, _LAST_TICK, _BACKOFF = 0.001, 0.05, 1.5


class Bridge:
    """Answers the guest's `Channel`: at once with what has completed, after a short tick with nothing.

    The tick lets newly asked calls out while others are still open; it grows while nothing moves.

    Args:
        handler: answers one request.
        send: delivers one answer to the guest, which waits for exactly one per message.
    """

    def __init__(self, handler: Handler, send: Callable[[str], None]) -> None:
        self._handler = handler
        self._send = send
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._done: list[dict[str, Any]] = []
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._owed = False
        self._tick = _FIRST_TICK

    def receive(self, text: str) -> None:
        """Take one message of the guest."""
        try:
            new, forget = _parse(text)
        except (ValueError, RecursionError):
            self._send("")  # not our guest's: a stray input() of another kind of kernel
            return
        self._owed = True
        for number in forget:
            if task := self._tasks.pop(number, None):
                task.cancel()
        for number, method, params in new:
            if len(self._tasks) >= MAX_OPEN_CALLS:
                self._done.append(_error(number, "HostError", f"more than {MAX_OPEN_CALLS:,} calls are open"))
            elif number not in self._tasks:
                self._tasks[number] = asyncio.create_task(self._serve(number, method, params))
        if new:
            self._tick = _FIRST_TICK
        self._schedule()

    def cancel(self, why: str) -> None:
        """Answer every open call with an error: the cell that asked has ended."""
        for number, task in list(self._tasks.items()):
            task.cancel()
            self._done.append(_error(number, "HostError", why))
        self._tasks.clear()
        self._schedule()

    async def _serve(self, number: int, method: str, params: dict[str, Any]) -> None:
        try:
            answer = {"id": number, "value": await self._handler(method, params)}
        except RefusedError as error:
            answer = _error(number, "RefusedError", str(error))
        except Exception as error:  # noqa: BLE001 - a handler's own fault must not leave the guest waiting
            answer = _error(number, "HostError", f"the host failed: {type(error).__name__}")
        if self._tasks.pop(number, None) is not None:
            self._done.append(answer)
            self._tick = _FIRST_TICK
            self._schedule()

    def _schedule(self) -> None:
        if not self._owed:
            return
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        if self._done:
            self._timer = loop.call_soon(self._flush)
        else:
            self._timer = loop.call_later(self._tick, self._flush)
            self._tick = min(self._tick * _BACKOFF, _LAST_TICK)

    def _flush(self) -> None:
        self._timer = None
        self._owed = False
        done, self._done = self._done, []
        try:
            text = json.dumps({"done": done})
        except (TypeError, ValueError):  # a handler's answer that is no JSON: the others must not suffer
            text = json.dumps({"done": [_sendable(answer) for answer in done]})
        self._send(text)


def _sendable(answer: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(answer)
    except (TypeError, ValueError) as error:
        return _error(answer["id"], "HostError", f"the host failed: {error}")
    return answer


def _error(number: int, kind: str, message: str) -> dict[str, Any]:
    return {"id": number, "error": {"kind": kind, "message": message}}


def _parse(text: str) -> tuple[list[tuple[int, str, dict[str, Any]]], list[int]]:
    if len(text) > MAX_MESSAGE_CHARS:
        raise ValueError("too long")
    message = json.loads(text)
    if not isinstance(message, dict) or message.get("rlm") != 1:
        raise ValueError("not a request")
    new, forget = message.get("new"), message.get("forget")
    if not isinstance(new, list) or not isinstance(forget, list):
        raise ValueError("not a request")
    calls = []
    for call in new:
        if not (
            isinstance(call, dict)
            and isinstance(call.get("id"), int)
            and isinstance(call.get("method"), str)
            and isinstance(call.get("params"), dict)
        ):
            raise ValueError("not a call")
        calls.append((call["id"], call["method"], call["params"]))
    return calls, [n for n in forget if isinstance(n, int)]
