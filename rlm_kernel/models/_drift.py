"""Compares what is asked now with what was recorded, and shows where they part. Pure functions of text."""

from __future__ import annotations

import difflib
import itertools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rlm_kernel.models.base import Image, Message

__all__ = ["difference", "mask", "masked", "rendered", "shared", "shorten"]

_MAX_LINES = 32
"""Of a hunk. With what is around it, a message stays below 40 lines and 4,000 characters."""
_MAX_RUN = 12

_ADDRESS = re.compile(r"0x[0-9a-f]{4,}")
_LEFT = re.compile(r"^\[left: .*\]", re.MULTILINE)
_HISTORY = re.compile(r"\n\[history: .*\]$", re.MULTILINE)
_SHORT = re.compile(r"the next call may \w+ [^\n]{1,80} free for it")
_WIDTH = 100
_CONTEXT = 2
_LOOK_AHEAD = 200
"""Lines that are aligned with each other after the first difference: enough to fill a hunk, quick for any text."""


def mask(text: str) -> str:
    """`text` without what differs by nature from run to run: addresses, what is left of limits, earlier questions."""
    text = _HISTORY.sub("", _LEFT.sub("[left: …]", _ADDRESS.sub("0x…", text)))
    return _SHORT.sub("the next call may take more than is free for it", text)


def masked(system: str, messages: Iterable[Message]) -> tuple[str, ...]:
    """What two requests must have in common to be the same."""
    return (mask(system), *(f"{message.role}:{mask(message.content)}{_images(message.images)}" for message in messages))


def rendered(system: str, messages: Iterable[Message]) -> str:
    """A request as one text, for a diff."""
    parts = [f"[system]\n{system}"] if system else []
    parts += [f"[{message.role}]\n{message.content}{_images(message.images)}" for message in messages]
    return mask("\n".join(parts))


def _images(images: Sequence[Image]) -> str:
    """What stands for pictures: their digests."""
    return "".join(f"\n{image}" for image in images)


def difference(recorded: str, asked: str) -> str:
    """A short unified diff of two masked texts: the place where they first part."""
    place = recorded[: shared(recorded, asked)].count("\n") + 1
    old, new = _short_lines(recorded), _short_lines(asked)
    start = max(0, shared(old, new) - _CONTEXT)
    end = start + _LOOK_AHEAD
    diff = difflib.unified_diff(old[start:end], new[start:end], lineterm="", n=_CONTEXT)
    hunk = itertools.takewhile(lambda line: not line.startswith("@@"), itertools.islice(diff, 3, None))
    return "\n".join(["--- recorded", "+++ asked now", f"@@ from line {place} @@", *_bounded(hunk)])


def shorten(text: str, width: int = 60) -> str:
    """`text` on one line of at most `width` characters, quoted."""
    text = " ".join(text.split())
    return f"'{text if len(text) <= width else text[: width - 1] + '…'}'"


def shared(left: Sequence[str], right: Sequence[str]) -> int:
    """How many items, or characters, `left` and `right` have in common from the start."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(left), len(right)))


def _short_lines(text: str) -> list[str]:
    """Lines cut into pieces of a readable width, so that a difference far into a long line is seen."""
    return [line[place : place + _WIDTH] for line in text.split("\n") for place in range(0, max(1, len(line)), _WIDTH)]


def _bounded(hunk: Iterable[str]) -> Iterator[str]:
    """The hunk with long runs of `-`, `+` or equal lines cut, so that each side is seen, and not too much in all."""
    left = _MAX_LINES
    for sign, run in itertools.groupby(hunk, key=lambda line: line[0]):
        lines = list(run)
        shown = min(len(lines), _MAX_RUN, left)
        yield from lines[:shown]
        left -= shown
        if shown < len(lines):
            yield f"{sign}…"
            left -= 1
        if left <= 0:
            return
