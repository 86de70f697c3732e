"""Hostile text made harmless and short: the one door through which foreign text reaches a screen.

Only functions from text to text belong here; escaping for a format (HTML, Markdown) belongs to that format's module.
What `clean` returns can always be encoded, holds no control character except newline and tab, and reads in the order
in which it is stored.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["WHERE", "clean", "clip", "count", "excerpt", "fit", "size", "stream"]

WHERE = "rlm_result.trajectory"
"""Where the reader finds what a rendering left out."""

_ANSI = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x9b[0-?]*[ -/]*[@-~]"  # the same in one C1 character
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)"  # OSC, DCS, SOS, PM, APC: titles, hyperlinks
    r"|\x1b[ -/]+[0-~]"  # character sets
    r"|\x1b[0-OQ-WYZ\\`-~]"  # everything of two characters
)
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"  # zero width, marks of direction
    r"\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"  # bidi, fillers
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # invisible letters
    r"\ud800-\udfff]"  # half a character
)
_EMOJI = r"[\u2190-\u2bff\ufe0e\ufe0f\U0001f000-\U0001faff]"
_JOINER = re.compile(rf"(?<={_EMOJI})\u200d(?={_EMOJI})")
_COMBINING = r"\u0300-\u034e\u0350-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_MARKS = re.compile(f"([{_COMBINING}]{{4}})[{_COMBINING}]+")  # towers of accents that would cover other lines


def clean(text: str) -> str:
    r"""`text` without ANSI sequences, with everything unseen made visible: U+202E becomes the six letters `\u202e`.

    Line ends become `\n`. The joiner inside an emoji stays. Cleaning twice changes nothing more.
    """
    text = _ANSI.sub("", text) if "\x1b" in text or "\x9b" in text else text
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    kept = {m.start() for m in _JOINER.finditer(text)} if "\u200d" in text else ()
    text = _UNSEEN.sub(lambda m: m[0] if m.start() in kept else _visible(m[0]), text)
    return _MARKS.sub(r"\1", text)


def stream(text: str) -> str:
    """`text` as a terminal leaves it: what a carriage return overwrote (progress bars) is gone."""
    if "\r" not in text:
        return text
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(next((part for part in reversed(line.split("\r")) if part), "") for line in lines)


def clip(text: str, limit: int) -> str:
    """`text` on one line of at most `limit` characters."""
    line = " ".join(clean(text[: 4 * limit + 200]).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def excerpt(text: str, chars: int, lines: int, where: str = WHERE) -> str:
    """`text`, or its head and tail with a line between them that says how much is left out, and where that is."""
    end = text.endswith("\n")  # of the last line, no line more
    if len(text) - end <= chars and text.count("\n") - end < lines:
        return clean(text)
    text = text.removesuffix("\n")
    first, last = max(1, lines * 2 // 3), max(1, lines // 3)
    head = "\n".join(text[: chars * 2 // 3].split("\n", first)[:first])
    tail = "\n".join(text[-max(1, chars // 3) :].rsplit("\n", last)[-last:])
    left = len(text) - len(head) - len(tail)
    note = f"… {count(left, 'character')} left out, in {where} …"
    return "\n".join(part for part in (clean(head).rstrip("\n"), note, clean(tail).strip("\n")) if part)


def count(number: int, noun: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(text: str) -> int:
    """Bytes of `text` in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def fit(cap: int, make: Callable[[float], str], scales: Sequence[float] = (1, 0.3, 0.1)) -> str | None:
    """What `make` gives at the first scale that needs at most `cap` bytes; None when none does."""
    for scale in scales:
        if size(made := make(scale)) <= cap:
            return made
    return None


def _visible(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
