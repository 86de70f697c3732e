"""A cell's output as the panel shows it: stretches of text that grow, tables, images.

Output is added as it comes and never kept whole: a long stretch keeps its beginning and its end.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlm_kernel.panel import nodes
from rlm_kernel.panel.scene import HEAD, TAIL
from rlm_kernel.panel.store import Store
from rlm_kernel.render import story
from rlm_kernel.render.clean import clean, clip, count, stream
from rlm_kernel.render.images import image
from rlm_kernel.render.values import html_table
from rlm_kernel.trajectory import Cell

__all__ = ["Block", "Blocks", "text_of", "whole"]

FIRST, LAST = 30, 10
"""As many blocks of a cell are shown from its beginning and its end."""
IMAGE = 4_000_000
"""Characters of the longest image, as a URI, that is sent."""
_STREAMS = ("stdout", "stderr")


@dataclass
class Block:
    """One stretch of output."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)
    length: int = 0
    _head: str = ""
    _tail: str = ""

    def add(self, text: str) -> None:
        """More of the same."""
        self.length += len(text)
        if room := HEAD - len(self._head):
            self._head, text = self._head + text[:room], text[room:]
        self._tail = (self._tail + text[-TAIL:])[-TAIL:]

    @functools.cached_property
    def shape(self) -> dict[str, Any] | None:
        """A table, an image or a word about it; None for text."""
        if not self.data:
            return None
        if shown := html_table(self.data.get("text/html"), 20):
            return {"nodes": nodes.table(shown)}
        if found := image(self.data):
            if uri := found.uri(IMAGE):
                return {"image": uri, "alt": found.alt or found.words}
            return {"nodes": [["note", f"{found.words}, in the trajectory"]]}
        if not self._head.strip():
            kinds = ", ".join(clip(str(kind), 40) for kind in list(self.data)[:4])
            return {"nodes": [["note", f"{kinds}, in the trajectory"]]}
        return None

    @property
    def head(self) -> str:
        """The beginning of the text."""
        return clean(stream(self._head))

    @property
    def rest(self) -> list[Any]:
        """`[characters left out, the end of the text]`; nothing when the beginning is all."""
        return [self.length - len(self._head) - len(self._tail), clean(stream(self._tail))] if self._tail else []


class Blocks:
    """The blocks of one cell, and which of them have changed since they were last told."""

    def __init__(self) -> None:
        self._first: list[Block] = []
        self._last: list[Block] = []
        self._number = 0
        self._changed: dict[int, Block] = {}

    def add(self, kind: str, text: str, data: Mapping[str, Any]) -> None:
        """Add a piece of output; a stream's pieces join."""
        last = next(iter((self._last or self._first)[-1:]), None)
        if last is None or kind not in _STREAMS or last.kind != kind:
            last = Block(kind, data)
            (self._first if self._number < FIRST else self._last).append(last)
            self._number += 1
            if len(self._last) > LAST:
                self._changed[self._number - 1 - LAST] = self._last.pop(0)
        last.add(text)
        self._changed[self._number - 1] = last

    def into(self, store: Store, place: str) -> None:
        """Bring the store up to date: the list of blocks under `o/`, their contents under `w/`, `x/` and `y/`."""
        changed, self._changed = self._changed, {}
        start = self._number - len(self._last)
        shown = [*enumerate(self._first), *enumerate(self._last, start)]
        store.set(f"o/{place}", [[number, block.kind] for number, block in shown])
        if left := start - len(self._first):
            store.set(f"w/{place}/left", {"nodes": [["note", f"{count(left, 'more output')} before the last ones"]]})
        for number, block in changed.items():
            if FIRST <= number < start:
                store.drop(*(f"{kind}/{place}/{number}" for kind in "wxy"))
            elif block.shape is not None:
                store.set(f"w/{place}/{number}", block.shape)
            else:
                store.text(f"x/{place}/{number}", block.head)
                if rest := block.rest:
                    store.set(f"y/{place}/{number}", rest)


def whole(cell: Cell) -> Blocks:
    """The blocks of a cell that has run."""
    blocks = Blocks()
    for output in cell.outputs:
        blocks.add(output.kind, output.text, output.data)
    return blocks


def text_of(cell: Cell, number: int) -> str:
    """The whole text of a block; empty when there is none of that number."""
    return next((o.text for n, o in enumerate(story.outputs(cell)) if n == number), "")
