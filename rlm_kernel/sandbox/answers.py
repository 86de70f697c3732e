"""What the host has answered to one cell, kept so that the cell can run again and be told the same."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from rlm_kernel.sandbox.base import RefusedError

__all__ = ["Answers", "Room"]

_MAX_CHARS = 256 * 2**20
"""Of all answers that are kept for one sandbox: what tools return may be large."""


class Room:
    """How much may still be kept, for all cells of a sandbox together."""

    def __init__(self) -> None:
        self._left = _MAX_CHARS

    def take(self, answer: Any) -> bool:
        """Whether there is room for this answer."""
        chars = sum(_texts(answer))
        if fits := chars <= self._left:
            self._left -= chars
        return fits


class Answers:
    """The answers to one cell, by what it asked: the same question may have been asked several times."""

    def __init__(self) -> None:
        self._known: defaultdict[bytes, list[tuple[str, Any]]] = defaultdict(list)

    def copy(self) -> Answers:
        """To be used up."""
        made = Answers()
        made._known.update({key: list(answers) for key, answers in self._known.items()})
        return made

    def keep(self, method: str, params: Mapping[str, Any], answer: Any, room: Room) -> None:
        """Keep an answer; one that there is no room for is a refusal when it is asked for again."""
        kept = ("value", answer) if room.take(answer) else ("refused", "the answer was too large to be kept")
        self._known[_key(method, params)].append(kept)

    def keep_refusal(self, method: str, params: Mapping[str, Any], why: str) -> None:
        """Keep that it was refused."""
        self._known[_key(method, params)].append(("refused", why))

    def again(self, method: str, params: Mapping[str, Any]) -> Any:
        """The next answer to this.

        Raises:
            RefusedError: it was refused, or there is none.
        """
        if not (known := self._known[_key(method, params)]):
            raise RefusedError("the code asks something else than when it first ran")
        kind, value = known.pop(0)
        if kind == "refused":
            raise RefusedError(value)
        return value


def _key(method: str, params: Mapping[str, Any]) -> bytes:
    return hashlib.blake2b(json.dumps([method, params], sort_keys=True).encode(), digest_size=16).digest()


def _texts(answer: Any) -> Iterator[int]:
    """The lengths of the texts in an answer."""
    if isinstance(answer, str):
        yield len(answer)
    elif isinstance(answer, dict | list):
        for inner in answer.values() if isinstance(answer, dict) else answer:
            yield from _texts(inner)
