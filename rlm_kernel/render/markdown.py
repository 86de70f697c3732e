"""A run as Markdown: for `nbconvert --to markdown`, and for people and models that read notebooks as text.

What the model wrote stays Markdown, inside a quotation, where no block of its can reach what follows; raw HTML, images,
link definitions, entities and formulas are escaped. Code and output stand in fences longer than any of theirs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rlm_kernel.render import story
from rlm_kernel.render.clean import WHERE, clean, clip, count, excerpt, fit, size, stream
from rlm_kernel.render.images import image, said
from rlm_kernel.render.values import Block, Items, Plain, Table, Text, form, html_table

if TYPE_CHECKING:
    from rlm_kernel.trajectory import Cell, Iteration, Output, ToolCall, Trajectory

__all__ = ["LIMIT", "answer_markdown", "escape", "fence", "table_markdown", "to_markdown"]

LIMIT = 80_000
"""Bytes of the whole text."""
ANSWER = 24_000
LISTED = 40
SUBCALLS = 20
LINE = 600
"""Characters of one line of code or output."""
_RISKY = re.compile(
    r"<(?=[A-Za-z/!?])"  # tags, comments, autolinks
    r"|\](?=[(\[:])|!(?=\[)"  # links, link definitions, images
    r"|&(?=#?\w{1,40};)"  # entities, which would be decoded after cleaning
    r"|\$"  # formulas
)
_ALL = re.compile(
    r"[\\`*\[\]|<&$~]"  # markup anywhere in a line
    r"|(?<![^\W_])_|_(?![^\W_])"  # an underscore that could begin or end emphasis
    r"|^[#+\->=]|^\d{1,9}[.)](?=\s|$)"  # what begins a block
)
_FORMULA = re.compile(r"\\(?=[()]|\[|(?:begin|end|ref|eqref)\b)")
_HEADING = re.compile(r"^(\s*)(#{1,6}(?=\s)|[=-]+\s*$)", re.MULTILINE)


def to_markdown(trajectory: Trajectory) -> str:
    """The whole story, at most `LIMIT` bytes."""
    t = trajectory
    words, _ = story.headline(t)
    made = [_inline(" ".join(excerpt(t.question.strip(), 1000, 12).split()) or "No question", "**")]
    made.append(" · ".join([words, *(part.replace("$", "\\$") for part in story.totals(t))]))
    if t.detail:
        made.append(escape(clip(t.detail, 600)))
    if t.values or t.stop_reason == "answered":
        made.append(answer_markdown(t))
    made.append("---")
    made += _iterations(t.iterations, LIMIT - sum(size(part) + 2 for part in made) - 600)
    return clean("\n\n".join(part for part in made if part)) + "\n"


def answer_markdown(trajectory: Trajectory) -> str:
    """The answer fields alone."""
    names = story.fields(trajectory)
    made: list[str] = []
    room = ANSWER
    for i, name in enumerate(names):
        value = trajectory.values.get(name)
        cap = room // (len(names) - i)
        label = "" if names == ["answer"] else f"{_inline(clip(name, 80), '**')}\n\n"
        shown = fit(cap, lambda s, v=value: _value(v, s))  # type: ignore[misc]  # a default binds the loop variable
        made.append(label + (shown if shown is not None else "too large to show, in `rlm_result`"))
        room -= size(made[-1]) + 2
        if room < 400 and i + 1 < len(names):
            made.append(f"{count(len(names) - i - 1, 'more field')} in `rlm_result`")
            break
    return clean("\n\n".join(made))


def escape(text: str) -> str:
    """`text` on one line, to be read as it is: every character that Markdown could take for markup is escaped."""
    line = _FORMULA.sub(r"\\ ", " ".join(clean(text).split()))
    return _ALL.sub(lambda m: {"<": "&lt;", "&": "&amp;"}.get(m[0], f"{m[0][:-1]}\\{m[0][-1]}"), line)


def quote(text: str) -> str:
    """Untrusted Markdown as a quotation: emphasis, lists, tables and code stay, what could do harm is shown instead."""
    text = _RISKY.sub(lambda m: {"<": "&lt;", "&": "&amp;"}.get(m[0], "\\" + m[0]), clean(text).strip("\n"))
    text = _FORMULA.sub(r"\\ ", text)
    text = _HEADING.sub(r"\1\\\2", text)
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def fence(text: str, language: str = "", longest_line: int = LINE) -> str:
    """`text` in a fence that it cannot close; with too many backticks and tildes, as an indented block."""
    most = longest_line
    lines = [line if len(line) <= most else f"{line[:most]}… {count(len(line) - most, 'character')} more"
             for line in clean(text).strip("\n").split("\n")]  # fmt: skip
    text = "\n".join(lines)
    for char in "`~":
        longest = max((len(run) for run in re.findall(re.escape(char) + "+", text)), default=0)
        if longest < 12:
            bar = char * max(3, longest + 1)
            return f"{bar}{language}\n{text}\n{bar}"
    return "\n".join(f"    {line}" for line in text.split("\n"))


def _inline(text: str, around: str) -> str:
    return f"{around}{escape(text)}{around}" if text.strip() else ""


def _value(value: Any, scale: float) -> str:
    shown = form(value, int(10 * scale) or 1, int(12_000 * scale))
    if isinstance(shown, Text):
        return quote(shown.text)
    if isinstance(shown, Plain):
        return escape(shown.text)
    if isinstance(shown, Block):
        return fence(shown.text)
    if isinstance(shown, Items):
        more = [f"- {count(shown.more, 'more item')}"] if shown.more else []
        return "\n".join([*(f"- {escape(item)}" for item in shown.items), *more])
    return table_markdown(shown)


def table_markdown(table: Table) -> str:
    """A table; what is not among its rows is counted."""
    width = table.width
    rows = ["| " + " | ".join(escape(c) for c in row) + " |" for row in (table.columns or ("",) * width, *table.rows)]
    rows.insert(1, "|" + "|".join(" ---: " if table.numeric(i) else " --- " for i in range(width)) + "|")
    left = [count(table.more_rows, "more row")] if table.more_rows else []
    left += [count(table.more_columns, "more column")] if table.more_columns else []
    return "\n".join(rows) + (f"\n\n{' and '.join(left)}" if left else "")


def _iterations(iterations: list[Iteration], room: int) -> list[str]:
    listed = sorted(story.order(len(iterations))[:LISTED])
    heads = {i: _head(iterations[i]) for i in listed}
    room -= sum(size(head) + 60 for head in heads.values())
    bodies: dict[int, str] = {}
    for done, place in enumerate(story.order(len(listed))):
        i = listed[place]
        cap = min(room, 2 * room // (len(listed) - done))
        made = fit(cap, lambda s, it=iterations[i]: _body(it, s))  # type: ignore[misc]  # a default binds the loop variable
        bodies[i] = f"in `{WHERE}`" if made is None else made
        room -= size(bodies[i])
    told: list[str] = []
    for n, i in enumerate(listed):
        if n and i - listed[n - 1] > 1:
            told.append(f"*{count(i - listed[n - 1] - 1, 'more iteration')} in `{WHERE}`*")
        told += [heads[i], bodies[i]]
    return told


def _head(iteration: Iteration) -> str:
    state = story.status(iteration)
    trouble = next((e for c in iteration.cells if c.status == "error" and (e := story.error_line(c))), "")
    told = [_inline(story.summary(iteration), "**"), escape(trouble) or story.status_words(state)]
    return f"**{iteration.number}** {story.mark(state)} " + " · ".join(part for part in told if part)


def _body(iteration: Iteration, scale: float) -> str:
    made = [f"*Note: {escape(clip(note, 400))}*" for note in iteration.notes[:5]]
    for number, part in enumerate(story.parts(iteration)):
        if number >= 12:
            made.append(f"the rest of the reply is in `{WHERE}`")
            break
        if isinstance(part, story.Prose):
            made.append(quote(excerpt(part.text, int(3000 * scale), 80)))
        else:
            made += _cell(part, scale)
    return "\n\n".join(part for part in made if part)


def _cell(cell: Cell, scale: float) -> list[str]:
    made = [fence(excerpt(cell.code, int(4000 * scale), 100), "python")]
    outputs = story.outputs(cell)
    made += [_output(o, scale) for o in outputs[:10]]
    if len(outputs) > 10:
        made.append(f"{count(len(outputs) - 10, 'more output')} in `{WHERE}`")
    if cell.status not in ("ok", "error", "submitted"):
        made.append(escape(story.status_words(cell.status)))
    if cell.subcalls:
        shown = cell.subcalls[: max(1, int(SUBCALLS * scale))]
        asked, replied = int(160 * scale), int(240 * scale)
        rows = tuple(
            (str(s.number), clip(s.prompt, asked), clip(f"✗ {s.error}" if s.error else s.reply, replied)) for s in shown
        )
        made += [f"{story.subcalls_words(cell.subcalls)}:", table_markdown(Table(("", "asked", "replied"), rows))]
        if len(cell.subcalls) > len(shown):
            made.append(f"{len(cell.subcalls) - len(shown):,} more in `{WHERE}`")
        if any(s.run for s in shown):
            made.append(f"The runs they started are in `{WHERE}`")
    if cell.tool_calls:
        made += _tool_calls(cell.tool_calls, scale)
    if cell.changed:
        names = ", ".join(f"{clip(v.name, 60)} ({clip(f'{v.type} {v.size}'.strip(), 80)})" for v in cell.changed[:20])
        more = f" and {len(cell.changed) - 20:,} more" if len(cell.changed) > 20 else ""
        made.append(f"Variables: {escape(names)}{more}")
    if cell.removed:
        made.append(f"Removed: {escape(clip(', '.join(cell.removed[:50]), 300))}")
    return made


def _tool_calls(calls: list[ToolCall], scale: float) -> list[str]:
    shown = calls[: max(1, int(SUBCALLS * scale))]
    called, returned = int(160 * scale), int(240 * scale)
    rows = tuple(
        (str(c.number), clip(c.written, called), clip(f"✗ {c.error}" if c.error else c.result, returned)) for c in shown
    )
    made = [f"{escape(story.tool_calls_words(calls))}:", table_markdown(Table(("", "called", "returned"), rows))]
    return made + ([f"{len(calls) - len(shown):,} more in `{WHERE}`"] if len(calls) > len(shown) else [])


def _output(output: Output, scale: float) -> str:
    if table := html_table(output.data.get("text/html"), max(1, int(10 * scale))):
        return table_markdown(table)
    found = image(output.data) if output.data else None
    text = excerpt(stream(said(output.text) if found else output.text), int(2400 * scale), int(40 * scale) or 3)
    made = [fence(text)] if text.strip() else []
    if found:
        return "\n\n".join([*made, f"{found.words}, in `{WHERE}`"])
    kinds = ", ".join(clip(str(kind), 40) for kind in list(output.data)[:4])
    return made[0] if made else f"{escape(kinds)} in `{WHERE}`" if kinds else ""
