"""The parts of a page: its frame, marks and folds, and what a value looks like: a table, a list, prose, lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rlm_kernel.render.clean import clean, count
from rlm_kernel.render.prose import CELL, HAIRLINE, MONO, TABLE, escape, prose_html
from rlm_kernel.render.values import Block, Form, Items, Plain, Table, Text

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["COLOURS", "MUTED", "OUTPUT", "QUIET", "fold", "form_html", "mark", "page", "table_html"]

COLOURS = {"good": "#279455", "short": "#a87412", "bad": "#d64f45", "told": "#3f86d2"}
"""Of marks and lines: seen on white and on near-black. No colour can be read as text on both."""
MUTED = "opacity:0.68"
OUTPUT = (
    f"{MONO};font-size:0.88em;line-height:1.45;white-space:pre-wrap;overflow-wrap:break-word;margin:6px 0;"
    "padding:2px 0 2px 12px;background:none;border-left:3px solid "
)
SUMMARY = "cursor:pointer;padding:3px 0"
QUIET = f"margin:6px 0;font-size:0.9em;{MUTED}"


def page(content: str) -> str:
    """The frame. It has no blank line: where a page stands in Markdown, as nbconvert puts it, such a line ends it."""
    made = clean(f'<div style="max-width:960px;line-height:1.5;text-align:left">{content}</div>')
    return re.sub(r"\n(?=[ \t]*\n)", "&#10;", made)


def mark(sign: str, tone: str) -> str:
    """A character in the colour of a tone."""
    return f'<span style="color:{COLOURS[tone]}">{sign}</span>'


def fold(line: str, body: str, style: str = "") -> str:
    """A line that opens to what is below it."""
    outer = style or f"border-top:{HAIRLINE};padding:2px 0"
    # A quotation, so that the body is set off where styles are stripped.
    inner = f'<blockquote style="margin:0;border:none;padding:4px 0 4px 18px">{body}</blockquote>'
    return f'<details style="{outer}"><summary style="{SUMMARY}">{line}</summary>{inner}</details>'


def form_html(value: Form) -> str:
    """An answer, or any value that is shown by itself."""
    if isinstance(value, Text):
        return f'<div style="font-size:1.06em;overflow-wrap:break-word">{prose_html(value.text)}</div>'
    if isinstance(value, Plain):
        return f'<p style="margin:0 0 7px 0;font-size:1.25em">{escape(value.text)}</p>'
    if isinstance(value, Block):
        return f'<pre style="{OUTPUT}rgba(127,127,127,0.3)">{escape(value.text)}</pre>'
    if isinstance(value, Items):
        items = "".join(f'<li style="margin:2px 0">{escape(item)}</li>' for item in value.items)
        more = f'<p style="{QUIET}">{count(value.more, "more item")}</p>' if value.more else ""
        return f'<ul style="margin:0 0 7px 0;padding-left:24px">{items}</ul>{more}'
    return table_html(value)


def table_html(table: Table) -> str:
    """Rows of cells, numbers to the right; what is not among them is counted."""
    side = ["right" if table.numeric(i) else "left" for i in range(table.width)]

    def cells(row: Iterable[str], tag: str) -> str:
        return "".join(
            f'<{tag} align="{side[i]}" style="{CELL};text-align:{side[i]}">{escape(text)}</{tag}>'
            for i, text in enumerate(row)
        )

    head = f"<thead><tr>{cells(table.columns, 'th')}</tr></thead>" if table.columns else ""
    rows = "".join(f'<tr style="background:none">{cells(row, "td")}</tr>' for row in table.rows)
    left = [count(table.more_rows, "more row")] if table.more_rows else []
    left += [count(table.more_columns, "more column")] if table.more_columns else []
    more = f'<p style="{QUIET}">{" and ".join(left)}</p>' if left else ""
    return f'<div style="overflow:auto"><table style="{TABLE}">{head}<tbody>{rows}</tbody></table></div>{more}'
