"""Which figures of a turn the model is shown (`--see`): those that a provider takes, few a turn, bounded over the run.

What the code displays is hostile. A figure is looked at from outside only: it is never decoded, and one that is not
what it says it is stays out, for a provider that refuses it would end the run.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from rlm_kernel.models.base import Image
from rlm_kernel.render.images import image

__all__ = ["A_RUN", "A_TURN", "Figures"]

A_TURN = 3
"""Figures of one turn that are shown."""
A_RUN = 20
"""Of a whole run: all stay in the conversation, and in a request with more Anthropic takes none above 2,000 pixels."""
RUN_BYTES = 20 * 2**20
"""Of all of them, as base64; a request may have 32 MB."""
MOST_BYTES = 5 * 2**20
"""Of one, as base64 (Anthropic's documentation)."""
MOST_PIXELS = 8000
"""On a side (likewise)."""
_TAKEN = ("image/png", "image/jpeg")


class Figures:
    """Those of one run: what it has shown counts against what it may still show."""

    def __init__(self) -> None:
        self._shown = self._bytes = 0

    def choose(self, displayed: Sequence[Mapping[str, Any]]) -> tuple[tuple[Image, ...], str]:
        """What is shown of a turn, and a word to the model about what is and what is not; empty without a figure.

        Args:
            displayed: the MIME bundles that its code displayed, in order.
        """
        shown: list[Image] = []
        left: list[str] = []
        number = 0
        for bundle in displayed:
            found = image(bundle)
            if found is None:
                continue
            number += 1
            why = self._why_not(found.mime, (found.width, found.height), found.source, len(shown))
            data = b"" if why else _whole(found.mime, found.source)
            if data:
                shown.append(Image(found.mime, data))
                self._shown += 1
                self._bytes += len(found.source)
            else:
                left.append(f"figure {number} is not shown: {why or f'it is a damaged {found.mime}'}")
        if not number:
            return (), ""
        which = "1 figure" if number == 1 else f"{number:,} figures"
        seen = "you see it above" if number == len(shown) == 1 else f"you see {len(shown)} of them above"
        told = [f"{which} displayed; {seen if shown else 'none is shown to you'}", *left[:A_TURN]]
        if len(left) > A_TURN:
            told.append(f"nor are {len(left) - A_TURN:,} others")
        return tuple(shown), f"({'; '.join(told)}.)"

    def _why_not(self, mime: str, sides: tuple[int, int], source: str, this_turn: int) -> str:
        """Why a figure is not shown; empty when it may be."""
        if mime not in _TAKEN:
            return f"{mime} cannot be shown, PNG and JPEG can"
        if max(sides) > MOST_PIXELS:
            return f"it has {sides[0]:,} x {sides[1]:,} pixels, and {MOST_PIXELS:,} on a side is the most"
        if len(source) > MOST_BYTES:
            return f"it has {len(source) / 2**20:.1f} MB as base64, and {MOST_BYTES // 2**20} is the most"
        if self._shown >= A_RUN or self._bytes + len(source) > RUN_BYTES:
            return f"this run has shown as much as it may ({self._shown} figures), print numbers instead"
        if this_turn >= A_TURN:
            return f"{A_TURN} a turn is the most"
        return ""


def _whole(mime: str, source: str) -> bytes:
    """The bytes of a figure that is complete; nothing of one that is not."""
    try:
        data = base64.b64decode("".join(source.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""
    complete = _png(data) if mime == "image/png" else data.rstrip(b"\0").endswith(b"\xff\xd9")
    return data if complete else b""


def _png(data: bytes) -> bool:
    """Whether all chunks are there and bear their checksum."""
    at = 8
    while at + 12 <= len(data):
        kind, end = data[at + 4 : at + 8], at + 8 + int.from_bytes(data[at : at + 4])
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4]):
            return False
        if kind == b"IEND":
            return True
        at = end + 4
    return False
