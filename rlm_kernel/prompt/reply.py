"""How the code is read back out of a model's reply."""

from __future__ import annotations

from markdown_it import MarkdownIt

__all__ = ["read_code"]

_FENCES = {"repl", "python", "py"}
_markdown = MarkdownIt("commonmark")


def read_code(reply: str) -> tuple[str, ...]:
    """The code of every block tagged `repl` or `python`, in order, wherever Markdown allows a fence."""
    return tuple(
        token.content
        for token in _markdown.parse(reply)
        if token.type == "fence" and _tag(token.info) in _FENCES and token.content.strip()
    )


def _tag(info: str) -> str:
    """The first word after the backticks."""
    words = info.split(maxsplit=1)
    return words[0].lower() if words else ""
