"""What the browser knows, and what it has yet to be told.

The browser holds values by key and is sent patches; this is the same table on our side. A key is
`kind/run/iteration/…`, so everything of an iteration can be dropped at once.
"""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["Patch", "Store"]

Patch = dict[str, Any]
"""`set`: values by key; `add`: text to append by key; `rows`: by key, rows by number; `drop`: keys."""


class Store:
    """A table of plain data and the changes to it since they were last taken. One thread writes, any may read."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._patch: Patch = {}

    def set(self, key: str, value: Any) -> None:
        """Replace a value; an equal one is not sent again."""
        if self._values.get(key, self) == value:
            return
        with self._lock:
            self._values[key] = value
            self._part("set")[key] = value
            self._part("add").pop(key, None)

    def text(self, key: str, text: str) -> None:
        """Replace a text; if it has only grown, what it grew by is sent."""
        old = self._values.get(key)
        if not old or not text.startswith(old) or key in self._patch.get("set", {}):
            self.set(key, text)
        elif len(text) > len(old):
            with self._lock:
                self._values[key] = text
                adds = self._part("add")
                adds[key] = adds.get(key, "") + text[len(old) :]

    def row(self, key: str, number: int, row: list[Any]) -> None:
        """Put one row into a table of rows."""
        with self._lock:
            self._values.setdefault(key, {})[number] = row
            self._part("rows").setdefault(key, {})[number] = row

    def drop(self, *keys: str) -> None:
        """Forget these keys."""
        known = [key for key in keys if key in self._values]
        if not known:
            return
        with self._lock:
            for key in known:
                del self._values[key]
                for part in ("set", "add", "rows"):
                    self._patch.get(part, {}).pop(key, None)
            self._part("drop", list).extend(known)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def keys(self, place: str) -> list[str]:
        """The keys of an iteration: `run/iteration`, whatever their kind."""
        return [key for key in self._values if f"{key.partition('/')[2]}/".startswith(f"{place}/")]

    @property
    def pending(self) -> bool:
        """Whether there is anything to take."""
        return any(self._patch.values())

    def take(self) -> Patch:
        """The changes since the last time; empty when there are none."""
        with self._lock:
            patch, self._patch = self._patch, {}
        return {part: changes for part, changes in patch.items() if changes}

    def snapshot(self) -> dict[str, Any]:
        """The whole table, as it is now."""
        with self._lock:
            return {k: dict(v) if isinstance(v, dict) and k[:2] in ("q/", "u/") else v for k, v in self._values.items()}

    def _part(self, name: str, kind: type[Any] = dict) -> Any:
        return self._patch.setdefault(name, kind())
