"""Head and tail of an output of any length."""

from __future__ import annotations

__all__ = ["Excerpt", "within"]


class Excerpt:
    """Head and tail of an output of any length, without holding the rest.

    Args:
        limit: how many characters `cut` can be asked for.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head = self._tail = ""
        self.chars = 0

    def add(self, text: str) -> None:
        """Take the next piece."""
        self.chars += len(text)
        room = self._limit - len(self._head)
        if room > 0:
            self._head += text[:room]
        self._tail = (self._tail + text[-self._limit :])[-self._limit :]

    def cut(self, limit: int) -> str:
        """The output when it has at most `limit` characters, else its head and tail with a note of what was cut."""
        if self.chars <= limit:
            return self._head
        head, tail = limit * 2 // 3, limit // 3
        cut = self.chars - head - tail
        note = f"… [{cut:,} of {self.chars:,} characters cut; print less or look at a slice] …"
        return f"{self._head[:head]}\n{note}\n{self._tail[-tail:]}"


def within(text: str, size: int) -> str:
    """`text` if it has at most `size` bytes as UTF-8, else its head and, twice as long, its tail."""
    data, gap = text.encode("utf-8", "surrogatepass"), "\n…\n"
    if len(data) <= size:
        return text
    room = size - len(gap.encode())
    head = room // 3
    return data[:head].decode("utf-8", "ignore") + gap + data[head - room :].decode("utf-8", "ignore")
