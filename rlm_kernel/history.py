"""The questions of a session so far: what code finds in the variable `history`.

Entries are JSON, so they can travel to any sandbox and into a file. A value that is too large for that is told in
words. A variable of that name that is the user's or the code's own is left alone: then ours is `rlm_history`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlm_kernel.render.jsonable import decode, encode
from rlm_kernel.sandbox.guest.describe import describe
from rlm_kernel.trajectory import Trajectory

__all__ = ["History"]

MAX_ENTRIES = 100
MAX_VALUE_CHARS = 20_000
"""Of a value of an answer, as JSON."""
MAX_CHARS = 500_000
"""Of all entries, which are sent with each question."""
_MANY = (Mapping, list, tuple, set, frozenset)


class History:
    """The questions that a sandbox was asked.

    Args:
        entries: earlier ones.
        asked: how many there were before them.
    """

    def __init__(self, entries: Sequence[Mapping[str, Any]] = (), asked: int = 0) -> None:
        self._entries = [dict(entry) for entry in entries]
        self.asked = max(asked, len(self._entries))
        self._taken: set[str] = set()

    @property
    def entries(self) -> list[dict[str, Any]]:
        """A dict for each question: run, question, signature, answer, stop_reason."""
        return list(self._entries)

    def add(self, trajectory: Trajectory) -> None:
        """A question's run has ended."""
        self.asked += 1
        values = trajectory.values
        self._entries.append(
            {
                "run": self.asked,
                "question": _clipped(trajectory.question),
                "signature": trajectory.signature,
                "answer": {name: travelling(value) for name, value in values.items()} if values else None,
                "stop_reason": trajectory.stop_reason,
            }
        )
        sizes = [len(json.dumps(entry)) for entry in self._entries[-MAX_ENTRIES:]]
        while len(sizes) > 1 and sum(sizes) > MAX_CHARS:
            del sizes[0]
        self._entries = self._entries[-len(sizes) :]

    # -- the variable -----------------------------------------------------------------------------------------
    def claim(self, names: Iterable[str]) -> None:
        """Variables of these names are somebody else's."""
        self._taken.update(names)

    def release(self, names: Iterable[str]) -> None:
        """There are no such variables any more."""
        self._taken.difference_update(names)

    def name(self, name: str) -> str:
        """What a variable of ours is called that would be called so."""
        return f"rlm_{name}" if name in self._taken else name

    def variables(self) -> dict[str, Any]:
        """What is to be sent for the next question; empty before there was one."""
        return {self.name("history"): self.entries} if self._entries else {}


def travelling(value: Any) -> Any:
    """A value as JSON's kinds; one that has too much for that, or has no such form, in words."""
    try:
        if _fits(value, MAX_VALUE_CHARS):
            value = value.tolist() if hasattr(value, "tolist") and hasattr(value, "shape") else value
            value = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                value = dataclasses.asdict(value)
            text = json.dumps(decode(encode(value)))
            if len(text) <= MAX_VALUE_CHARS:
                return json.loads(text)
    except Exception:  # noqa: BLE001, S110 - a foreign class may raise anything, and a key may be of any kind
        pass
    kind, size, preview = describe(value)
    return _clipped(f"({kind}{', ' + size if size else ''}, not kept here) {preview}")


def _fits(value: Any, room: int) -> bool:
    """Whether it can be walked through in so many steps."""
    waiting = [value]
    while waiting and room >= 0:
        item = waiting.pop()
        if isinstance(shape := getattr(item, "shape", None), tuple):
            room -= math.prod(shape)
            continue
        room -= 1 + (len(item) if isinstance(item, (str, bytes, *_MANY)) else 0)
        if room >= 0 and isinstance(item, _MANY):
            waiting += [*item, *item.values()] if isinstance(item, Mapping) else item
    return room >= 0


def _clipped(text: str) -> str:
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 1] + "…"
