"""The sandbox's end of the request channel: many threads ask, one thread speaks (group commit).

A kernel has one stdin socket and it is not thread-safe, so a single pump thread owns the exchange: it sends all that
was asked since its last message and hands out whatever the host has ready. The host answers at the latest after a few
milliseconds, so that what was asked meanwhile goes out. The pump never runs model code and is never interrupted;
an interrupt ends the waiting of the thread that asked and tells the host to forget the call.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

MAX_MESSAGE_BYTES = 96 * 2**20
"""The most that the host takes at once, as UTF-8 inside of a JSON string. Read there, it may take twelve times that."""
_BESIDE_BYTES = 64
"""Of a call's number, and its share of what is around it."""
_MAX_CALLS = 1000
_PATIENCE_SECONDS = 0.2


class HostError(Exception):
    """The host answered with an error: `kind` names it, the text is for the model."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Slot:
    """One open call: a lock that the pump releases when the answer is there."""

    __slots__ = ("answer", "ready")

    def __init__(self) -> None:
        self.ready = threading.Lock()
        self.ready.acquire()
        self.answer: dict[str, Any] = {}


class Channel:
    """Blocking calls to the host, from any thread.

    Args:
        ask: sends one text to the host and returns its answer. Only the pump thread calls it.
    """

    def __init__(self, ask: Callable[[str], str]) -> None:
        self._ask = ask
        self._last_id = 0
        self.revive()

    def revive(self) -> None:
        """Begin anew, in a copy of the process: the pump is gone, and so is who waited."""
        # `with` takes a lock in one step; a condition's own way in is Python code: an interrupt can leave it locked
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._new: dict[int, tuple[str, int]] = {}
        """What was asked and is not sent yet, as JSON (a prompt may be large, so it is encoded once), and its size."""
        self._forget: list[int] = []
        self._open: dict[int, _Slot] = {}
        self._pump: threading.Thread | None = None

    def call(self, method: str, **params: Any) -> Any:
        """Ask the host to do `method` and wait for the answer.

        Raises:
            HostError: the host refused or failed, or would not take as much.
        """
        text, size = _encoded({"method": method, "params": params})  # what cannot be sent fails in the caller's thread
        if size > MAX_MESSAGE_BYTES - _BESIDE_BYTES:
            most = f"the {MAX_MESSAGE_BYTES >> 20} MB that may be sent at once: send less"
            raise HostError("TooLarge", f"{-(-size >> 20):,} MB are more than {most}")
        slot = _Slot()
        with self._lock:
            self._last_id += 1
            number = self._last_id
            self._open[number] = slot
            self._new[number] = f'{{"id": {number}, {text[1:]}', size + _BESIDE_BYTES
            self._start_pump()
            self._news.notify()
        try:
            while not slot.ready.acquire(timeout=_PATIENCE_SECONDS):
                pass  # an interrupt that does not end the wait is seen here
        except BaseException:  # KeyboardInterrupt in the thread that waits: the call is not wanted any more
            with self._lock:
                unsent = self._new.pop(number, None) is not None
                if self._open.pop(number, None) is not None and not unsent:
                    self._forget.append(number)
                    self._news.notify()
            raise
        if error := slot.answer.get("error"):
            raise HostError(str(error["kind"]), str(error["message"]))
        return slot.answer.get("value")

    def open(self) -> None:
        """Start the pump now, from this thread; else the first call starts it."""
        with self._lock:
            self._start_pump()

    def _start_pump(self) -> None:
        if self._pump is None or not self._pump.is_alive():
            self._pump = threading.Thread(target=self._run, name="rlm-channel", daemon=True)
            self._pump.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                while not (self._new or self._open or self._forget):
                    self._news.wait()
                message = f'{{"rlm": 1, "new": [{", ".join(self._next())}], "forget": {self._forget}}}'
                self._forget = []
            try:
                self._hand_out(json.loads(self._ask(message))["done"])
            except BaseException as error:  # noqa: BLE001 - whatever broke the channel, no thread may wait for ever
                self._fail(f"the host did not answer ({type(error).__name__}: {error})")

    def _next(self) -> list[str]:
        """Of what is not sent yet as much as fits into a message."""
        texts: list[str] = []
        room = MAX_MESSAGE_BYTES
        for number in list(self._new):
            text, size = self._new[number]
            if size > room or len(texts) == _MAX_CALLS:
                break
            room -= size
            texts.append(text)
            del self._new[number]
        return texts

    def _hand_out(self, done: list[dict[str, Any]]) -> None:
        for answer in done:
            with self._lock:
                slot = self._open.pop(answer["id"], None)
            if slot is not None:
                slot.answer = answer
                slot.ready.release()

    def _fail(self, why: str) -> None:
        with self._lock:
            slots, self._open, self._new = list(self._open.values()), {}, {}
        for slot in slots:
            slot.answer = {"error": {"kind": "HostError", "message": why}}
            slot.ready.release()


def _encoded(value: Any) -> tuple[str, int]:
    """As JSON, and its bytes in a message. Text stays as it is where UTF-8 can hold it: an escape takes six bytes."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        text = json.dumps(value)
        size = len(text)
    return text, size + text.count('"') + text.count("\\")
