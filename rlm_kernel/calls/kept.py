"""Replies of blocks that were stopped: the code never got them, or lost them, and they have been paid for.

Whoever asks the same again is given them, each once, and no model is asked.
"""

from __future__ import annotations

from collections import deque

__all__ = ["KeptReplies"]

MOST_CHARS = 64 * 2**20
"""Of all replies together; the oldest go first."""


class KeptReplies:
    """Replies by model and prompt."""

    def __init__(self) -> None:
        self._replies: dict[tuple[str, str], deque[str]] = {}
        self._chars = 0

    def put(self, model: str, prompt: str, reply: str) -> None:
        """Keep one."""
        self._replies.setdefault((model, prompt), deque()).append(reply)
        self._chars += len(reply)
        while self._chars > MOST_CHARS:
            self.take(*next(iter(self._replies)))

    def take(self, model: str, prompt: str) -> str | None:
        """One that is kept, and no longer after that."""
        key = (model, prompt)
        if (replies := self._replies.get(key)) is None:
            return None
        reply = replies.popleft()
        self._chars -= len(reply)
        if not replies:
            del self._replies[key]
        return reply

    def clear(self) -> None:
        """Forget all."""
        self._replies.clear()
        self._chars = 0
