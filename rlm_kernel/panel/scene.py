"""What the panel shows, as plain data made from a trajectory: one function for each thing that is shown.

Nothing here remembers or sends anything, and every text that comes out is clean and bounded; what is left out is
counted. Empty values are left out to keep messages short. Times are seconds since the outermost run started.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from rlm_kernel.events import Variable
from rlm_kernel.panel import nodes
from rlm_kernel.render import story
from rlm_kernel.render.clean import clean, clip, excerpt, stream
from rlm_kernel.render.values import Table, form
from rlm_kernel.trajectory import Cell, Iteration, Subcall, ToolCall, Trajectory
from rlm_kernel.usage import Usage

__all__ = [
    "HEAD", "TAIL", "answer", "body", "calls", "cell", "counted", "detail", "head", "line", "row", "segments",
    "stretch", "tool_calls", "tool_detail", "tool_row", "totals", "variables", "window",
]  # fmt: skip

HEAD, TAIL = 16_000, 4000
"""Characters of a long text that are shown from its beginning and its end."""
ROOM = 24_000
"""Characters of one iteration's prose."""
PAGE = 200_000
"""Characters of a long text that are sent when the reader asks for more of it."""
LONG, ALIKE = 4000, 50
"""Characters of two prompts that are compared, and from how many on their common beginning is left out."""
SEGMENTS = 100
"""As many sub-calls of a cell stand by themselves in the time strip; more are drawn in groups."""
PHASES = {"": "asking the model", "thinking": "the model thinks", "reply": "the model writes"}


def head(t: Trajectory) -> dict[str, Any]:
    """What does not change from turn to turn: question, models, limits, and how the run ended."""
    words, tone = ("Running", "now") if t.stop_reason == "running" else story.headline(t)
    return _short(
        question=excerpt(t.question.strip(), 4000, 200) or "No question",
        signature=clip(t.signature, 400),
        model=clip(t.model, 80),
        sub=clip(t.sub_model, 80),
        iterations=t.max_iterations,
        calls=t.max_llm_calls,
        words=words,
        tone=tone,
        detail=clip(t.detail, 600),
        seconds=None if t.stop_reason == "running" else round(t.seconds, 2),
        isolation=clip(t.isolation, 800),
        tools=[clip(tool, 200) for tool in t.tools[:30]],
        variables=variables(t.variables),
    )


def totals(t: Trajectory) -> dict[str, Any]:
    """Counts of a whole run, added up."""
    return counted(len(t.iterations), len(t.subcalls), len(t.tool_calls), story.usage_of(t), t.cost)


def counted(iterations: int, calls: int, tools: int, usage: Usage, cost: float | None) -> dict[str, Any]:
    """Counts of a run."""
    return _short(
        iterations=iterations,
        calls=calls,
        tools=tools,
        tokens=usage.total_tokens,
        cached=usage.cache_read_tokens,
        cost=None if cost is None else story.money(cost),
    )


def answer(t: Trajectory) -> list[list[Any]] | None:
    """The answer by field, `[name, nodes]`; None while there is none."""
    if not t.values:
        return None
    return [[clip(n, 80), nodes.form(form(t.values.get(n), 20, 20_000))] for n in story.fields(t)]


def line(i: Iteration) -> dict[str, Any]:
    """An iteration on one line."""
    state = story.status(i)
    subcalls = [s for c in i.cells for s in c.subcalls]
    trouble = next((e for c in i.cells if c.status == "error" and (e := story.error_line(c))), "")
    told = story.summary(replace(i, reply=i.reply[:4000]) if len(i.reply) > 4000 else i)
    running = not i.done and state != "submitted"
    return _short(
        state="now" if running else state,
        mark="" if running else story.mark(state),
        about="" if told == "no reply" and running else told,
        words=_phase(i) if running else trouble or story.status_words(state),
        at=_time(i.started),
        model=_time(i.model_seconds),
        code=_time(sum(c.seconds for c in i.cells)),
        tokens=i.usage.total_tokens,
        calls=len(subcalls),
        bad=sum(bool(s.error) for s in subcalls),
        tools=sum(len(c.tool_calls) for c in i.cells),
        notes=len(i.notes),
        written=bool(i.model),
    )


def _phase(i: Iteration) -> str:
    if i.cells:
        return "running code" if i.cells[-1].status == "running" else "reading what came out"
    if i.model:
        return "reading the reply"
    return PHASES["reply" if i.reply else "thinking" if i.thinking else ""]


def body(i: Iteration) -> dict[str, Any]:
    """The reply in its own order: nodes of prose, and the numbers of the cells that its code became."""
    parts: list[list[Any]] = []
    room = ROOM
    for part in story.parts(i):
        if isinstance(part, story.Prose):
            if room > 0:
                parts.append(["p", nodes.prose(excerpt(part.text, max(room, 400), 300))])
            room -= len(part.text)
        else:
            parts.append(["c", part.number])
    if room < 0:
        parts.append(["p", [["note", "a long reply: all of it is in the trajectory"]]])
    thinking = nodes.prose(excerpt(i.thinking, 8000, 120)) if i.thinking.strip() else None
    return _short(parts=parts, thinking=thinking, notes=[clip(n, 400) for n in i.notes[:20]])


def cell(c: Cell) -> dict[str, Any]:
    """A piece of code and how it went."""
    return _short(
        code=nodes.code(excerpt(c.code, HEAD, 400)),
        status=c.status,
        words="" if c.status in ("running", "ok", "error") else story.status_words(c.status),
        at=_time(c.started),
        seconds=_time(c.seconds),
    )


def variables(changed: Iterable[Variable], removed: Iterable[str] = ()) -> list[Any]:
    """The variables that appeared or changed, as nodes of a table."""
    changed, removed = list(changed), list(removed)
    rows = [(clip(v.name, 60), clip(v.type, 60), clip(v.size, 60), clip(story.steady(v.preview), 160)) for v in changed]
    made = nodes.table(Table((), tuple(rows[:30]), max(0, len(rows) - 30))) if rows else []
    return [*made, *([["note", "removed: " + clip(", ".join(removed[:50]), 300)]] if removed else [])]


def row(s: Subcall, beside: Subcall | None = None) -> list[Any]:
    """A sub-call on its row: `[state, at, seconds, tokens, prompt, reply, run]`; state 0 waits, 1 is done, 2 failed.

    Prompts of a batch often begin alike: what this one shares with the one beside it is left out.
    """
    state = _state(s)
    run, asked = s.run.run if s.run else "", clip(_own(s.prompt, beside.prompt if beside else ""), 140)
    if not state:
        return [0, _time(s.started), 0, 0, asked, "", run]
    return [state, _time(s.started), _time(s.seconds), s.usage.total_tokens, asked, clip(s.error or s.reply, 140), run]


def _state(s: Subcall | ToolCall) -> int:
    return 2 if s.error else int(s.finished)


def _own(prompt: str, other: str) -> str:
    if prompt == other:
        return prompt
    length = min(len(prompt), len(other), LONG)
    shared = bisect_left(range(length), True, key=lambda k: prompt[: k + 1] != other[: k + 1])
    start = prompt.rfind(" ", 0, max(0, shared - 10)) + 1
    return f"… {prompt[start:]}" if start > ALIKE else prompt


def calls(c: Cell) -> list[int]:
    """How the sub-calls of a cell stand: `[asked, done, failed, batches]`."""
    done, failed = sum(s.finished for s in c.subcalls), sum(bool(s.error) for s in c.subcalls)
    return [len(c.subcalls), done, failed, story.batches(c.subcalls)]


def tool_row(c: ToolCall) -> list[Any]:
    """A call of a tool on its row, as `row` has it."""
    return [_state(c), _time(c.started), _time(c.seconds), 0, clip(c.written, 140), clip(c.error or c.result, 140), ""]


def tool_calls(c: Cell) -> list[int]:
    """How the calls of tools of a cell stand: `[called, done, failed, 0]`."""
    done, failed = sum(t.finished for t in c.tool_calls), sum(bool(t.error) for t in c.tool_calls)
    return [len(c.tool_calls), done, failed, 0]


def tool_detail(c: ToolCall) -> dict[str, Any]:
    """All that is known of a call of a tool, as `detail` has it."""
    return _short(
        number=c.number,
        prompt=window(c.written),
        reply=window(c.result),
        error=clean(c.error[:HEAD]),
        at=_time(c.started),
        seconds=_time(c.seconds),
        state=_state(c),
    )


def segments(i: Iteration) -> list[Any]:
    """Where the time of an iteration went, for the strip: `[at, model seconds, cells, sub-calls]`.

    Cells are `[at, seconds, status]`, sub-calls `[at, end, how many]`; seconds are None as long as it runs.
    """
    cells = [[_time(c.started), None if c.status == "running" else _time(c.seconds), c.status] for c in i.cells]
    made: list[Any] = []
    for c in i.cells:
        ended = sorted((s.started, s.started + s.seconds) for s in c.subcalls if s.finished)
        size = -(-len(ended) // SEGMENTS) or 1
        for k in range(0, len(ended), size):
            group = ended[k : k + size]
            made.append([_time(group[0][0]), _time(max(end for _, end in group)), len(group)])
    return [_time(i.started), _time(i.model_seconds) if i.model else None, cells, made]


def detail(s: Subcall) -> dict[str, Any]:
    """All that is known of a sub-call; its texts as `window` gives them."""
    return _short(
        number=s.number,
        model=clip(s.model, 80),
        prompt=window(s.prompt),
        reply=window(s.reply),
        error=clean(s.error[:HEAD]),
        at=_time(s.started),
        seconds=_time(s.seconds),
        tokens=[s.usage.input_tokens + s.usage.cache_read_tokens + s.usage.cache_write_tokens, s.usage.output_tokens],
        cost=None if s.cost is None else story.money(s.cost),
        run=s.run.run if s.run else "",
        state=_state(s),
    )


def window(text: str) -> list[Any]:
    """A long text as `[head, characters left out, tail]`; the head never changes as the text grows at its end."""
    shown = clean(stream(text[:HEAD]))
    if len(text) <= HEAD:
        return [shown, 0, ""]
    tail = text[max(HEAD, len(text) - TAIL) :]
    return [shown, len(text) - HEAD - len(tail), clean(stream(tail))]


def stretch(text: str, start: int | None = None) -> dict[str, Any]:
    """The next page of a long text, from a position in it; without one, from where its head ends."""
    start = HEAD if start is None else max(0, start)
    page = text[start : start + PAGE]
    return {"text": clean(stream(page)), "next": start + len(page), "left": max(0, len(text) - start - len(page))}


def _time(seconds: float) -> float:
    return round(seconds, 3)


def _short(**values: Any) -> dict[str, Any]:
    """Without what is empty."""
    return {name: value for name, value in values.items() if value not in (None, "", [], False, 0, 0.0)}
