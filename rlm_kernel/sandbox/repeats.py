"""Finds out what got lost of an exchange of requests and answers when its connection broke. No socket here.

The guest waits for one answer to each request. After a break the host sends `AGAIN` unless it owes an answer: a guest
that waits then repeats its request, and whether the host has seen that one tells which of the two was lost.
"""

from __future__ import annotations

__all__ = ["AGAIN", "Repeats"]

AGAIN = "?"
"""An answer that asks for the request again; see `guest.upload.whole`."""
_NOTHING_NEW = '{"rlm": 1, "new": []'
"""How a request begins that only waits; all others hold numbers that never come twice."""


class Repeats:
    """Remembers the last request and its answer."""

    def __init__(self) -> None:
        self._request = self._answer = ""
        self._expecting = False

    def expect(self) -> None:
        """`AGAIN` was sent."""
        self._expecting = True

    def answered(self, text: str) -> None:
        """This was sent as the answer to the last request."""
        self._answer = text

    def is_repeat(self, text: str) -> bool:
        """Whether a request is the last one over again; remembers it if not."""
        if text == self._request and (self._expecting or not text.startswith(_NOTHING_NEW)):
            self._expecting = False
            return True
        self._request, self._answer, self._expecting = text, "", False
        return False

    @property
    def answer(self) -> str:
        """The answer to the last request; empty while there is none."""
        return self._answer
