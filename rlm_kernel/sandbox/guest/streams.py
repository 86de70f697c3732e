"""stdout and stderr that take many small writes cheaply.

ipykernel's own stream costs about 2 µs a write, so a million prints take seconds. This one collects them and passes
them on when there is enough, when somebody flushes, or a twentieth of a second later.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

_MANY_WRITES = 4096
_LONG_CHARS = 4096
_PIECE_CHARS = 2**20
"""The most that is passed on at once: the host reads no message that is larger than all that a cell may put out."""
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
        self._parts: deque[str] = deque()  # its append is atomic, so writing needs no lock
        self._append = self._parts.append
        self._draining = threading.RLock()
        self._dirty = self._awaited = False
        self._sibling: Stream = self
        self._before: deque[str] = deque()

    def revive(self, target: Any) -> None:
        """In a copy of the process: another stream takes the text, and nobody else holds a lock."""
        self._target = target
        self._draining = threading.RLock()
        self._parts.clear()
        self._dirty = self._awaited = False

    def beside(self, sibling: Stream) -> None:
        """What was written to `sibling` first is shown first."""
        self._sibling, self._before = sibling, sibling._parts

    def write(self, text: str) -> int:
        """Take text; returns its length."""
        if type(text) is not str and not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._before:
            self._sibling.flush()
        self._append(text)
        if len(text) > _LONG_CHARS or len(self._parts) > _MANY_WRITES:
            self.flush()  # waits for the sending, so that a flood cannot pile up
        elif not self._awaited:
            self._awaited = True
            self._flusher.wake(self)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Take several pieces of text."""
        for line in lines:
            self.write(line)

    def drain(self) -> None:
        """Pass on what was collected."""
        with self._draining:
            self._awaited = False
            if self._parts:
                text = "".join([self._parts.popleft() for _ in range(len(self._parts))])
                text = encodable(text)
                for start in range(0, len(text), _PIECE_CHARS):
                    if start:
                        self._target.flush()
                    self._target.write(text[start : start + _PIECE_CHARS])
                self._dirty = True

    def flush(self) -> None:
        """Pass on what was collected, all the way; costs nothing when there is nothing."""
        self.drain()
        if self._dirty:
            self._dirty = False
            self._target.flush()

    def close(self) -> None:
        """Stay open: the next cell has to print as well."""

    def __setattr__(self, name: str, value: Any) -> None:
        # IPython puts its own write here to keep a second copy of all output, for a history that nobody reads
        if name != "write":
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


def encodable(text: str) -> str:
    """`text` as a message can hold it: half of a surrogate pair becomes its escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


class Flusher:
    """One thread that passes on text which has waited long enough."""

    def __init__(self) -> None:
        self.revive()

    def revive(self) -> None:
        """Begin anew, in a copy of the process: the thread is gone."""
        self._news = threading.Event()
        self._waiting: set[Stream] = set()
        # now: a cell may have taken all processes that it may have before it prints anything
        threading.Thread(target=self._run, name="rlm-flusher", daemon=True).start()

    def wake(self, stream: Stream) -> None:
        """This stream holds text."""
        self._waiting.add(stream)
        self._news.set()

    def _run(self) -> None:
        while True:
            self._news.wait()
            time.sleep(_PATIENCE_SECONDS)
            self._news.clear()
            while self._waiting:
                self._waiting.pop().drain()
