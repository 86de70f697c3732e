"""A finished, stopped or failed run as one still page of HTML: the form that is saved in the notebook.

It must read well in Lab (light, dark, untrusted), nbconvert, nbviewer and, without any style, on GitHub. So: semantic
elements, `details` for folding, inline styles only, half-transparent greys that suit any ground, no script; pictures
that the code made are part of the page itself. Nothing in it changes from one rendering to the next.
"""

from __future__ import annotations

import itertools
from html import escape as attribute
from typing import TYPE_CHECKING

from rlm_kernel.render import story
from rlm_kernel.render.clean import WHERE, clip, count, excerpt, fit, size, stream
from rlm_kernel.render.html_forms import COLOURS, MUTED, OUTPUT, QUIET, fold, form_html, mark, page, table_html
from rlm_kernel.render.images import Image, image, pictures, said
from rlm_kernel.render.prose import CELL, MONO, TABLE, code_html, escape, prose_html
from rlm_kernel.render.values import Table, form, html_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rlm_kernel.events import Variable
    from rlm_kernel.trajectory import Cell, Iteration, Output, Subcall, ToolCall, Trajectory

__all__ = ["LIMIT", "answer_html", "to_html"]

LIMIT = 190_000
"""Bytes of the whole page."""
ANSWER = 60_000
SHOWN = 12
"""As many iterations are listed openly; of more, the middle is folded."""
LISTED = 60
"""As many iterations are listed at all."""
SUBCALLS = 20
PARTS = 12
"""As many stretches of a reply are shown, prose or code."""
OUTPUTS = 10
PICTURES = 100_000
"""Bytes of all pictures; further ones are named."""
ROOMY = 8000
"""Bytes from which on an iteration is first tried at its full length."""
PICTURE = (
    "display:block;box-sizing:border-box;max-width:100%;max-height:560px;margin:6px 0;padding:6px;border-radius:5px;"
    "background-color:#ffffff"
)
"""On white, for axes and letters of a plot without a ground of its own are black."""


def to_html(trajectory: Trajectory) -> str:
    """The whole story, at most `LIMIT` bytes."""
    t = trajectory
    words, tone = story.headline(t)
    colour = COLOURS[tone]
    question = excerpt(t.question.strip(), 1500, 12) or "No question"
    ended = f"{mark('●', tone)} <strong>{escape(words)}</strong>"
    meta = "".join(f" · {escape(part)}" for part in story.totals(t))
    style = "margin:0 0 2px 0;white-space:pre-wrap;overflow-wrap:break-word"
    top = f'<p style="{style}"><strong>{escape(question)}</strong></p>'
    top += f'<p style="margin:0 0 10px 0;font-size:0.9em">{ended}<span style="opacity:0.8">{meta}</span></p>'
    if t.detail:
        top += f'<p style="margin:0 0 10px 0">{escape(clip(t.detail, 600))}</p>'
    answer = _boxed(_answer(t), colour) if t.values or t.stop_reason == "answered" else ""
    rest = _iterations(t.iterations, LIMIT - size(top) - size(answer) - 600)
    return page(f"{top}{answer}{rest}")


def answer_html(trajectory: Trajectory) -> str:
    """The answer fields alone."""
    return page(_answer(trajectory))


def _boxed(content: str, colour: str) -> str:
    style = f"margin:0 0 12px 0;padding:4px 0 4px 14px;border-left:3px solid {colour}"
    return f'<div style="{style}">{content}</div>'


def _answer(t: Trajectory) -> str:
    names = story.fields(t)
    made, room = [], ANSWER
    for i, name in enumerate(names):
        value = t.values.get(name)
        cap = room // (len(names) - i)
        shown = fit(cap, lambda s, v=value: form_html(form(v, int(10 * s) or 1, int(20_000 * s))))  # type: ignore[misc]  # binds the loop variable
        label = f'<p style="margin:9px 0 1px 0;font-size:0.88em;{MUTED}"><strong>{escape(clip(name, 80))}</strong></p>'
        if value is None:
            shown = _note("None" if name in t.values else "not answered")
        made.append(("" if names == ["answer"] else label) + (shown or _note("too large to show, in rlm_result")))
        room -= size(made[-1])
        if room < 400:
            made.append(_note(f"{count(len(names) - i - 1, 'more field')} in rlm_result"))
            break
    return "".join(made)


def _iterations(iterations: list[Iteration], room: int) -> str:
    """One line for each, in order, opened as far as the room allows: the last and the first before the middle."""
    listed = sorted(story.order(len(iterations))[:LISTED])
    lines = {i: _line(iterations[i]) for i in listed}
    room -= sum(size(line) + 300 for line in lines.values()) + 600
    album = _album([iterations[i] for i in reversed(listed)], min(PICTURES, room // 2))
    room -= sum(map(size, album.values()))
    bodies: dict[int, str] = {}
    for done, place in enumerate(story.order(len(listed))):
        i = listed[place]
        cap = min(room, max(2 * room // (len(listed) - done), 1000))
        scales = (1, 0.3, 0.1) if cap > ROOMY else (0.3, 0.1, 0.03)
        own = "".join(album.get(id(o), "") for c in iterations[i].cells for o in c.outputs)
        made = fit(cap + size(own), lambda s, it=iterations[i]: _body(it, s, album), scales)  # type: ignore[misc]  # binds the loop variable
        bodies[i] = made or own + _note(f"too large to show, in {WHERE}")
        room -= size(bodies[i]) - size(own)
    shown = [fold(lines[i], bodies[i]) for i in listed]
    left = len(iterations) - len(listed)
    if left:
        half = len(listed) // 2
        shown.insert(half, _note(f"{count(left, 'more iteration')} in {WHERE}"))
    if len(shown) > SHOWN:
        first, last = shown[:4], shown[-4:]
        middle = f"{count(len(iterations) - 8, 'iteration')} between"
        shown = [*first, fold(f"<em>{middle}</em>", "".join(shown[4:-4])), *last]
    return "".join(shown)


def _album(iterations: Iterable[Iteration], room: int) -> dict[int, str]:
    """The pictures that are shown, by the `id` of their output; the first iterations given come first."""
    made: dict[int, str] = {}
    for iteration in iterations:
        shown = itertools.islice(story.parts(iteration), PARTS) if pictures(iteration) else ()
        for output in (o for part in shown if not isinstance(part, story.Prose) for o in story.outputs(part)[:OUTPUTS]):
            found = image(output.data)
            if found and (uri := found.uri(room - 1500)):
                made[id(output)] = _picture(found, uri)
                room -= size(made[id(output)])
    return made


def _picture(found: Image, uri: str) -> str:
    return f'<img src="{uri}" alt="{attribute(found.alt or found.words)}" style="{PICTURE}">'


def _line(iteration: Iteration) -> str:
    state = story.status(iteration)
    tone = {"ok": "good", "submitted": "good", "none": "short", "running": "short"}.get(state, "bad")
    calls = [s for c in iteration.cells for s in c.subcalls]
    trouble = next((e for c in iteration.cells if c.status == "error" and (e := story.error_line(c))), "")
    told = [trouble or story.status_words(state), count(len(calls), "sub-call") if calls else ""]
    told += [count(tools, "tool call")] if (tools := sum(len(c.tool_calls) for c in iteration.cells)) else []
    told += [count(len(found), "picture")] if (found := pictures(iteration)) else []
    told += [count(len(iteration.notes), "note")] if iteration.notes else []
    tail = "".join(f" · {escape(part)}" for part in told if part)
    tail = f'<span style="font-size:0.9em;{MUTED}">{tail}</span>' if tail else ""
    return (
        f'<span style="{MUTED}">{iteration.number}</span> '
        f"{mark(story.mark(state), tone)} "
        f"{escape(story.summary(iteration))}{tail}"
    )


def _small(line: str, body: str) -> str:
    return fold(f'<span style="font-size:0.9em;{MUTED}">{line}</span>', body, "margin:2px 0")


def _note(text: str) -> str:
    return f'<p style="{QUIET}">{escape(text)}</p>'


def _body(iteration: Iteration, scale: float, album: Mapping[int, str]) -> str:
    room = int(8000 * scale)
    made = [_note(f"Note: {clip(note, 400)}") for note in iteration.notes[:5]]
    if iteration.thinking.strip():
        made.append(_small("Thinking", prose_html(excerpt(iteration.thinking, int(3000 * scale), 60))))
    for number, part in enumerate(story.parts(iteration)):
        if number >= PARTS:
            made.append(_note(f"the rest of the reply is in {WHERE}"))
            break
        if isinstance(part, story.Prose):
            made.append(prose_html(excerpt(part.text, max(room, 200), 200)))
            room -= len(part.text)
        else:
            made.append(_cell(part, scale, album))
    return "".join(made) or _note("no reply")


def _cell(cell: Cell, scale: float, album: Mapping[int, str]) -> str:
    made = [code_html(excerpt(cell.code, int(8000 * scale), 160))]
    outputs = story.outputs(cell)
    made += [album.get(id(o)) or _output(o, scale) for o in outputs[:OUTPUTS]]
    if len(outputs) > OUTPUTS:
        made.append(_note(f"{count(len(outputs) - OUTPUTS, 'more output')} in {WHERE}"))
    if cell.status not in ("ok", "error", "submitted"):
        made.append(f'<p style="margin:6px 0">{mark("✗", "bad")} {escape(story.status_words(cell.status))}</p>')
    if cell.subcalls:
        made.append(_small(escape(story.subcalls_words(cell.subcalls)), _subcalls(cell.subcalls, scale)))
    if cell.tool_calls:
        made.append(_small(escape(story.tool_calls_words(cell.tool_calls)), _tool_calls(cell.tool_calls, scale)))
    if cell.changed or cell.removed:
        made.append(_variables(cell.changed, cell.removed))
    return "".join(made)


def _output(output: Output, scale: float) -> str:
    if table := html_table(output.data.get("text/html"), max(1, int(10 * scale))):
        return table_html(table)
    bar = {"stderr": "rgba(192,138,30,0.7)", "error": "rgba(214,79,69,0.8)"}.get(output.kind, "rgba(127,127,127,0.3)")
    found = image(output.data) if output.data else None
    text = excerpt(stream(said(output.text) if found else output.text), int(4000 * scale), int(50 * scale) or 3)
    made = f'<pre style="{OUTPUT}{bar}">{escape(text.rstrip())}</pre>' if text.strip() else ""
    if found:
        return made + _note(f"{found.words}, in {WHERE}")
    kinds = ", ".join(clip(str(kind), 40) for kind in list(output.data)[:4])
    return made or (_note(f"{kinds} in {WHERE}") if kinds else "")


def _variables(changed: tuple[Variable, ...], removed: tuple[str, ...]) -> str:
    rows = [
        (clip(v.name, 60), clip(v.type, 40), clip(v.size, 60), clip(story.steady(v.preview), 120)) for v in changed[:20]
    ]
    used = [i for i in range(4) if any(row[i] for row in rows)]
    table = Table((), tuple(tuple(r[i] for i in used) for r in rows), len(changed) - len(rows))
    made = table_html(table) if rows else ""
    if removed:
        made += _note("removed: " + clip(", ".join(removed[:50]), 300))
    number = len(changed) + len(removed)
    return _small(f"{count(number, 'variable')} changed", made)


def _subcalls(subcalls: list[Subcall], scale: float) -> str:
    return _calls(("", "asked", "replied"), [_subcall(s, scale) for s in subcalls[: _shown(scale)]], len(subcalls))


def _subcall(subcall: Subcall, scale: float) -> tuple[str, str, str]:
    reply = _reply(subcall.reply, subcall.error, scale) if subcall.finished or subcall.error else "<em>no reply</em>"
    if subcall.run:
        reply += _child(subcall.run, scale)
    return str(subcall.number), escape(clip(subcall.prompt, int(240 * scale))), reply


def _tool_calls(calls: list[ToolCall], scale: float) -> str:
    rows = []
    for c in calls[: _shown(scale)]:
        said = _reply(c.result, c.error, scale) if c.finished else "<em>has not returned</em>"
        rows.append((str(c.number), f'<code style="{MONO}">{escape(clip(c.written, int(240 * scale)))}</code>', said))
    return _calls(("", "called", "returned"), rows, len(calls))


def _shown(scale: float) -> int:
    return max(3, int(SUBCALLS * min(1, 3 * scale)))


def _reply(text: str, error: str, scale: float) -> str:
    return f"{mark('✗', 'bad')} {escape(clip(error, 200))}" if error else escape(clip(text, int(360 * scale)))


def _calls(columns: Iterable[str], rows: list[tuple[str, str, str]], number: int) -> str:
    """A table of calls; what is in the rows is HTML."""
    head = "".join(f'<th style="{CELL};text-align:left">{name}</th>' for name in columns)
    style = f"{CELL};text-align:left"
    cells = ("".join(f'<td style="{style}">{cell}</td>' for cell in row) for row in rows)
    body = "".join(f'<tr style="background:none">{row}</tr>' for row in cells)
    more = _note(f"{number - len(rows):,} more in {WHERE}") if number > len(rows) else ""
    table = f'<table style="{TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div style="overflow:auto">{table}</div>{more}'


def _child(run: Trajectory, scale: float) -> str:
    shown = run.iterations[: max(1, int(10 * scale))]
    lines = "".join(f'<p style="margin:2px 0">{_line(i)}</p>' for i in shown)
    more = len(run.iterations) - len(shown)
    lines += _note(" and ".join([*([count(more, "more iteration")] if more else []), f"its code in {WHERE}"]))
    words = ", ".join([story.headline(run)[0].lower(), *story.totals(run)])
    return _small(f"its own run: {escape(words)}", lines)
