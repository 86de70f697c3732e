"""A run as a few lines of plain text, safe in a terminal: what `print(result)` and a text notebook viewer show.

The answer comes first, then one line per iteration. No colours, no escape sequences, at most about forty lines.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from rlm_kernel.render import story
from rlm_kernel.render.clean import WHERE, clean, clip, count, excerpt
from rlm_kernel.render.images import pictures
from rlm_kernel.render.values import Items, Table, form

if TYPE_CHECKING:
    from rlm_kernel.trajectory import Iteration, Trajectory

__all__ = ["LIMIT", "answer_text", "table_text", "to_text"]

LIMIT = 12_000
"""Bytes of the whole text."""
WIDTH = 100
LINES = 22
"""Lines for the answer fields, shared among them."""
SHOWN = 12
"""Iterations listed; of more, the middle is left out."""


def to_text(trajectory: Trajectory) -> str:
    """The answer, the story in one line per iteration, the totals."""
    t = trajectory
    words, tone = story.headline(t)
    lines = []
    if tone != "good":
        lines += [words + (f": {clip(t.detail, 300)}" if t.detail else ""), ""]
    if t.values or tone == "good":
        lines += [answer_text(t), ""]
    lines += _iterations(t.iterations)
    lines += [" · ".join([*([words] if tone == "good" else []), *story.totals(t)])]
    return clean("\n".join(lines))


def answer_text(trajectory: Trajectory) -> str:
    """The answer fields alone."""
    names = story.fields(trajectory)
    shown, room = names[: LINES - 2], LINES
    values = {}
    # The short ones first, so that what they leave goes to the long ones.
    for left, name in enumerate(sorted(shown, key=lambda n: _lines(trajectory, n, 99, names)[1])):
        values[name], used = _lines(trajectory, name, max(1, room // (len(shown) - left)), names)
        room -= used
    lines = [values[name] for name in shown]
    if len(names) > len(shown):
        lines.append(f"{count(len(names) - len(shown), 'more field')} in rlm_result")
    return clean("\n".join(lines))


def _lines(t: Trajectory, name: str, lines: int, names: list[str]) -> tuple[str, int]:
    label = "" if names == ["answer"] else f"{clip(name, 40)}: "
    if t.values.get(name) is None:
        return label + ("None" if name in t.values else "not answered"), 1
    made = _value(t.values[name], lines - bool(label) if lines > 1 else 1, label)
    return made, made.count("\n") + 1


def _value(value: Any, lines: int, label: str) -> str:
    shown = form(value, rows=max(1, min(lines - 2, 12)), chars=3000)
    if isinstance(shown, Table):
        body = table_text(shown)
    elif isinstance(shown, Items):
        body = "\n".join(f"- {clip(item, WIDTH)}" for item in shown.items[: lines - 1 or 1])
        more = shown.more + max(0, len(shown.items) - (lines - 1 or 1))
        body += f"\n{count(more, 'more item')}" if more else ""
    else:
        wrapped = [
            part
            for line in excerpt(shown.text.strip(), 2400, 60).split("\n")
            for part in (textwrap.wrap(line, WIDTH, replace_whitespace=False) or [""])
        ]
        cut = wrapped if len(wrapped) <= lines else [*wrapped[: max(0, lines - 1)], "…"]
        body = "\n".join(clip_line(line) for line in cut)
    if not label:
        return body
    if "\n" in body or isinstance(shown, (Table, Items)):
        return f"{label.rstrip()}\n{textwrap.indent(body, '  ')}"
    return label + body


def clip_line(line: str) -> str:
    """`line` cut at the width, its indentation kept."""
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def table_text(table: Table, chars: int = 28) -> str:
    """A table in columns, no cell longer than so many characters."""
    rows = [r for r in (table.columns, *table.rows) if r]
    rows = [tuple(clip(c, chars) for c in r[:8]) for r in rows]
    widths = [max(len(r[i]) for r in rows if i < len(r)) for i in range(max((len(r) for r in rows), default=0))]
    right = [table.numeric(i) for i in range(len(widths))]
    lines = [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=False)).rstrip()
        for row in rows
    ]
    columns = table.more_columns + max(0, max((len(r) for r in table.rows), default=0) - 8)
    left = [count(n, noun) for n, noun in ((table.more_rows, "more row"), (columns, "more column")) if n]
    return "\n".join([*lines, *([" and ".join(left)] if left else [])])


def _iterations(iterations: list[Iteration]) -> list[str]:
    places = sorted(story.order(len(iterations))[:SHOWN])
    width = len(str(iterations[-1].number)) if iterations else 1
    lines: list[str] = []
    for n, place in enumerate(places):
        if n and place - places[n - 1] > 1:
            lines.append(f"{'…':>{width}}   {count(place - places[n - 1] - 1, 'more iteration')} in {WHERE}")
        lines.append(_line(iterations[place], width))
    return lines


def _line(iteration: Iteration, width: int) -> str:
    state = story.status(iteration)
    trouble = next((e for c in iteration.cells if c.status == "error" and (e := story.error_line(c))), "")
    calls = sum(len(c.subcalls) for c in iteration.cells)
    said = [story.summary(iteration, 72), clip(trouble, 60) or story.status_words(state)]
    said += [count(calls, "sub-call")] if calls else []
    said += [count(tools, "tool call")] if (tools := sum(len(c.tool_calls) for c in iteration.cells)) else []
    if found := pictures(iteration):
        said.append(found[0].words if len(found) == 1 else count(len(found), "picture"))
    return f"{iteration.number:>{width}} {story.mark(state)} " + " · ".join(part for part in said if part)
