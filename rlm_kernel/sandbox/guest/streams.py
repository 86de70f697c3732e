"""stdout and stderr that take many small writes cheaply.

ipykernel's own stream costs about 2 µs a write, so a million prints take seconds. This one collects them and passes
them on when there is enough, when somebody flushes, or a twentieth of a second later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

_ENOUGH_CHARS = 256 * 1024
_PATIENCE_SECONDS = 0.05


class Stream:
    """Collects text for another stream; everything but writing is that stream's own.

    Args:
        target: where the text goes in the end.
        flusher: passes text on that nobody flushes.
    """

    def __init__(self, target: Any, flusher: Flusher) -> None:
        self._target = target
        self._flusher = flusher
        self._lock = threading.RLock()
        self._parts: list[str] = []
        self._chars = 0
        self._dirty = False
        self.sibling: Stream | None = None

    def write(self, text: str) -> int:
        """Take text; returns its length."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        sibling = self.sibling
        if sibling is not None and sibling._parts:  # what was written first is shown first
            sibling.drain()
        with self._lock:
            self._parts.append(text)
            self._chars += len(text)
            if self._chars > _ENOUGH_CHARS:
                self.drain()
            elif len(self._parts) == 1:
                self._flusher.wake(self)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Take several pieces of text."""
        for line in lines:
            self.write(line)

    def drain(self) -> None:
        """Pass on what was collected."""
        with self._lock:
            if self._parts:
                parts, self._parts, self._chars = self._parts, [], 0
                self._target.write("".join(parts))
                self._dirty = True

    def flush(self) -> None:
        """Pass on what was collected, all the way; costs nothing when there is nothing."""
        self.drain()
        if self._dirty:
            self._dirty = False
            self._target.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


class Flusher:
    """One thread that passes on text which has waited long enough."""

    def __init__(self) -> None:
        self._news = threading.Event()
        self._waiting: set[Stream] = set()
        self._thread: threading.Thread | None = None

    def wake(self, stream: Stream) -> None:
        """This stream holds text."""
        self._waiting.add(stream)
        self._news.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="rlm-flusher", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            self._news.wait()
            time.sleep(_PATIENCE_SECONDS)
            self._news.clear()
            while self._waiting:
                self._waiting.pop().drain()
