"""A page of lines, tables and folded texts, in three forms: for what is shown and is no run.

A `Sheet` is plain values; the functions turn it into strings, and every text in it passes through `clean`.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

from rlm_kernel.render.clean import clean, clip, excerpt
from rlm_kernel.render.html_forms import MUTED, OUTPUT, QUIET, fold, mark, page, table_html
from rlm_kernel.render.markdown import escape as escape_markdown
from rlm_kernel.render.markdown import fence, table_markdown
from rlm_kernel.render.prose import escape
from rlm_kernel.render.text import table_text
from rlm_kernel.render.values import Table

__all__ = ["Fold", "Head", "Line", "Sheet", "sheet_html", "sheet_markdown", "sheet_text"]

Tone = Literal["", "good", "short", "bad", "quiet", "large"]
_MARKS = {"good": "✓", "short": "!", "bad": "✗"}
WIDTH = 100


@dataclass(frozen=True, slots=True)
class Head:
    """What the next parts are about."""

    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence. `good`, `short` and `bad` have a mark before them, `large` is what is read first."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Fold:
    """A text to be read as it is; folded where that is possible."""

    title: str
    text: str
    where: str
    """Where the whole is, if it is longer than what is shown."""


Part = Head | Line | Fold | Table


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page: its title, the line below it, and its parts."""

    title: str
    state: str
    parts: tuple[Part, ...]
    chars: int = 30_000
    """Of a folded text, at most."""
    lines: int = 600
    """The same."""

    def shown(self, part: Fold) -> str:
        """A folded text as far as it is shown."""
        return excerpt(part.text.rstrip("\n"), self.chars, self.lines, part.where)


# -- HTML ---------------------------------------------------------------------------------------------------------
def sheet_html(sheet: Sheet) -> str:
    """The page as HTML: inline styles only, no script."""
    style = "margin:0 0 2px 0;white-space:pre-wrap;overflow-wrap:break-word"
    top = f'<p style="{style}"><strong>{escape(excerpt(sheet.title, 1500, 12))}</strong></p>'
    state, _, more = sheet.state.partition(" · ")
    told = f'<span style="opacity:0.8"> · {escape(more)}</span>' if more else ""
    top += (
        f'<p style="margin:0 0 10px 0;font-size:0.9em">{mark("●", "told")} <strong>{escape(state)}</strong>{told}</p>'
    )
    return page(top + "".join(_html(sheet, part) for part in sheet.parts))


def _html(sheet: Sheet, part: Part) -> str:
    if isinstance(part, Table):
        return table_html(part)
    if isinstance(part, Head):
        return f'<p style="margin:14px 0 3px 0;font-size:0.88em;{MUTED}"><strong>{escape(part.text)}</strong></p>'
    if isinstance(part, Fold):
        body = f'<pre style="word-break:normal;{OUTPUT}rgba(127,127,127,0.3)">{escape(sheet.shown(part))}</pre>'
        return fold(escape(part.title), body)
    if part.tone in _MARKS:
        sign = mark(f"<strong>{_MARKS[part.tone]}</strong>", part.tone)
        return f'<p style="margin:3px 0">{sign} {escape(part.text)}</p>'
    if part.tone == "large":
        return f'<p style="margin:0 0 7px 0;font-size:1.25em">{escape(part.text)}</p>'
    return f'<p style="{QUIET if part.tone == "quiet" else "margin:3px 0"}">{escape(part.text)}</p>'


# -- Markdown -----------------------------------------------------------------------------------------------------
def sheet_markdown(sheet: Sheet) -> str:
    """The page as Markdown."""
    title = f"**{escape_markdown(' '.join(sheet.title.split())[:1500])}**"
    parts = [title, escape_markdown(sheet.state), *(_markdown(sheet, part) for part in sheet.parts)]
    return clean("\n\n".join(parts)) + "\n"


def _markdown(sheet: Sheet, part: Part) -> str:
    if isinstance(part, Table):
        return table_markdown(part)
    if isinstance(part, Head):
        return f"**{escape_markdown(part.text)}**"
    if isinstance(part, Fold):
        return f"{escape_markdown(part.title)}:\n\n{fence(sheet.shown(part), longest_line=sheet.chars)}"
    sign = f"{_MARKS[part.tone]} " if part.tone in _MARKS else ""
    text = escape_markdown(part.text)
    return f"**{text}**" if part.tone == "large" else sign + text


# -- text ---------------------------------------------------------------------------------------------------------
def sheet_text(sheet: Sheet) -> str:
    """The page as plain text, safe in a terminal."""
    lines = [*excerpt(sheet.title, 1500, 12).split("\n"), clip(sheet.state, WIDTH), ""]
    for before, part in zip((None, *sheet.parts), sheet.parts, strict=False):
        apart = isinstance(part, Head | Fold) or isinstance(before, Table)
        lines += [""] if apart and lines[-1] else []
        lines += _text(sheet, part)
    return clean("\n".join(lines))


def _text(sheet: Sheet, part: Part) -> list[str]:
    if isinstance(part, Table):
        return table_text(part, WIDTH).split("\n")
    if isinstance(part, Head):
        return [clip(part.text, WIDTH)]
    if isinstance(part, Fold):
        return [f"── {clip(part.title, WIDTH - 6)} ".ljust(WIDTH, "─"), *sheet.shown(part).split("\n")]
    sign = f"{_MARKS[part.tone]} " if part.tone in _MARKS else ""
    return textwrap.wrap(sign + clean(part.text), WIDTH, subsequent_indent=" " * len(sign)) or [""]
