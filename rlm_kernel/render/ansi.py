"""Lines for a terminal: wrapped, and coloured where it can show that. What comes in is clean already."""

from __future__ import annotations

import functools
import re
import textwrap
from typing import TYPE_CHECKING, Any

from pygments import highlight
from pygments.formatters import TerminalFormatter
from pygments.lexers import PythonLexer
from pygments.token import Comment, Keyword, Number, Operator, String, Token

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Ink", "wrap"]

TONES = {"head": "1;36", "good": "32", "bad": "31", "short": "33", "muted": "2"}
CODE = {
    Token: "", Comment: "brightblack", Keyword: "magenta", Keyword.Constant: "cyan", Number: "cyan",
    Operator.Word: "magenta", String: "green", String.Interpol: "cyan",
}  # fmt: skip
"""Of the sixteen colours, those that can be read on light and on dark."""
_ITEM = re.compile(r"\s*(?:[-*+] |\d{1,3}[.)] )?")


class Ink:
    """Paints lines, or leaves them as they are: `color` says which."""

    def __init__(self, *, color: bool) -> None:
        self._color = color

    def paint(self, tone: str, lines: Iterable[str]) -> list[str]:
        """Each line in one tone: `head`, `good`, `bad`, `short` or `muted`."""
        return [f"\x1b[{TONES[tone]}m{line}\x1b[0m" if self._color and line else line for line in lines]

    def code(self, text: str) -> list[str]:
        """Python behind a bar."""
        lines = highlight(text, *_python()).rstrip("\n").split("\n") if self._color else text.split("\n")
        bar = self.paint("muted", ["│"])[0]
        return [f"{bar} {line}".rstrip() for line in lines]


def wrap(text: str, width: int) -> list[str]:
    """The lines of a text, none longer than `width`; an item of a list stays in its column."""
    made: list[str] = []
    for line in text.split("\n"):
        column = min(len(_ITEM.match(line)[0]), width // 2)  # type: ignore[index]  # it matches nothing at least
        made += textwrap.wrap(line, width, subsequent_indent=" " * column) or [""]
    return made


@functools.cache
def _python() -> tuple[Any, Any]:
    colours = {token: (name, name) for token, name in CODE.items()}
    return PythonLexer(stripnl=False), TerminalFormatter(colorscheme=colours)
