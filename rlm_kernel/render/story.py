"""What the three forms of a run say, in words and plain values; how it looks is theirs.

Decisions about content belong here: the summary of an iteration, its status, the totals, where the model's prose ends
and its code begins. Nothing here knows HTML, Markdown or a terminal, and nothing tells a duration or an identifier.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlm_kernel.render.clean import clip, count
from rlm_kernel.trajectory import Output
from rlm_kernel.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rlm_kernel.trajectory import Cell, Iteration, Subcall, ToolCall, Trajectory

__all__ = [
    "Prose", "about", "batches", "error_line", "fields", "headline", "mark", "money", "order", "outputs", "parts",
    "status", "status_words", "subcalls_words", "summary", "tool_calls_words", "totals", "usage_of",
]  # fmt: skip

MARKS = {"ok": "✓", "submitted": "✓", "running": "…", "none": "·"}
STATUS = {
    "submitted": "answer submitted",
    "error": "error",
    "interrupted": "stopped",
    "timeout": "timed out",
    "died": "the sandbox died",
    "flooded": "too much output",
    "running": "unfinished",
    "none": "no code",
}
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)[^`]*$")
MARKUP = re.compile(r"^(?:#{1,6}\s+|[-*+]\s+|>\s?|\d+[.)]\s+)+|[`*]+|(?<!\w)_+|_+(?!\w)")
FRAME = re.compile(r"\s+at 0x[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True)
class Prose:
    """A stretch of the model's own words, as Markdown."""

    text: str


def headline(trajectory: Trajectory) -> tuple[str, str]:
    """How the run ended, in words, and the tone it is said in: `good`, `short` (stopped early) or `bad`."""
    t = trajectory
    words = {
        "answered": "Answered",
        "max_iterations": f"Stopped at the limit of {count(t.max_iterations, 'iteration')}",
        "max_llm_calls": f"Stopped at the limit of {count(t.max_llm_calls, 'sub-call')}",
        "max_errors": "Stopped after too many errors in a row",
        "timeout": "Stopped: the time was up",
        "interrupted": "Interrupted",
        "error": "Failed",
        "running": "Unfinished",
    }.get(t.stop_reason) or clip(t.stop_reason.replace("_", " ").capitalize(), 60)
    if t.stop_reason == "answered":
        return words, "good"
    if t.values:
        return f"{words}; the best answer so far", "short"
    return words, "bad" if t.stop_reason == "error" else "short"


def totals(trajectory: Trajectory) -> list[str]:
    """`6 iterations`, `14 sub-calls`, `48,210 tokens (31,004 cached)`, `$0.04`: what is known and not nothing."""
    said = [count(len(trajectory.iterations), "iteration")]
    own, nested = len(trajectory.subcalls), _nested(trajectory)
    if own:
        said.append(count(own, "sub-call") + (f" and {nested:,} below them" if nested else ""))
    if tools := len(trajectory.tool_calls):
        said.append(count(tools, "tool call"))
    usage = usage_of(trajectory)
    if usage.total_tokens:
        cached = f" ({usage.cache_read_tokens:,} cached)" if usage.cache_read_tokens else ""
        said.append(count(usage.total_tokens, "token") + cached)
    if trajectory.cost is not None:
        said.append(money(trajectory.cost))
    return said


def usage_of(trajectory: Trajectory) -> Usage:
    """The tokens of the run; of a run without an end, those of its calls added up."""
    if trajectory.usage.total_tokens:
        return trajectory.usage
    total = Usage()
    for iteration in trajectory.iterations:
        total += iteration.usage
    for subcall in trajectory.subcalls:
        total += usage_of(subcall.run) if subcall.run and not subcall.usage.total_tokens else subcall.usage
    return total


def money(dollars: float) -> str:
    """`$1.25`, `$0.0041`, `under $0.0001`."""
    if 0 < dollars < 0.0001:
        return "under $0.0001"
    return f"${dollars:,.2f}" if dollars >= 1 or dollars == 0 else f"${dollars:.4f}"


def about(number: int) -> str:
    """An estimate, its first two digits: `12,000`."""
    digits = len(str(number)) - 2
    return f"{round(number, -digits) if digits > 0 else number:,}"


def status(iteration: Iteration) -> str:
    """The status of an iteration: `submitted` if a cell (or a reply) did, the first trouble of a cell, else `ok`.

    One that goes on, or broke off between two cells, is `running`; one that ended without code is `none`.
    """
    found = [c.status for c in iteration.cells]
    if "submitted" in found:
        return "submitted"
    if not found and iteration.done and iteration.reply and not iteration.observation:
        return "submitted"  # a direct call: its reply was the answer, and nothing is to be told of it
    return next((s for s in found if s != "ok"), ("ok" if found else "none") if iteration.done else "running")


def mark(state: str) -> str:
    """One character for a status."""
    return MARKS.get(state, "✗")


def status_words(state: str) -> str:
    """A status in words; nothing for `ok`."""
    return "" if state == "ok" else STATUS.get(state) or clip(state, 30)


def summary(iteration: Iteration, limit: int = 100) -> str:
    """What an iteration was about: the model's first line of prose, else its first line of code."""
    for part in parts(iteration):
        text = part.text[:4000] if isinstance(part, Prose) else part.code[:4000]
        for raw in _telling(text.splitlines()):
            line = MARKUP.sub("", raw.strip()) if isinstance(part, Prose) else raw.strip().removeprefix("#")
            if re.search(r"\w", line):
                return clip(line.strip().rstrip(":"), limit)
    return "the answer was asked for" if iteration.final else "no reply"


def _telling(lines: list[str]) -> list[str]:
    """The lines of code that do something, if any does: imports and fences come last."""
    dull = ("import ", "from ", "```", "~~~")
    return [x for x in lines if not x.strip().startswith(dull)] + [x for x in lines if x.startswith(dull[:2])]


def parts(iteration: Iteration) -> Iterator[Prose | Cell]:
    """The reply in its own order: prose, and in place of each fenced block that ran, its cell."""
    waiting = list(iteration.cells)
    for text, code in _split(iteration.reply):
        cell = next((c for c in waiting if code is not None and c.code.strip() == code.strip()), None)
        if cell:
            waiting.remove(cell)
            yield cell
        elif text.strip():
            yield Prose(text)
    yield from waiting


def _split(reply: str) -> Iterator[tuple[str, str | None]]:
    """The reply cut at its fences: `(text as written, code or None)`. Joins prose, so a cell is looked for last."""
    prose: list[str] = []
    fence, block = "", list[str]()
    for line in reply.replace("\r\n", "\n").split("\n"):
        found = FENCE.match(line) if len(line) < 200 else None
        if not fence:
            if found:
                yield "\n".join(prose), None
                prose, fence, block = [], found[1], [line]
            else:
                prose.append(line)
            continue
        block.append(line)
        if found and not found[2] and found[1].startswith(fence):
            yield "\n".join(block), "\n".join(block[1:-1])
            fence, block = "", []
    yield "\n".join(block or prose), "\n".join(block[1:]) if fence else None


def outputs(cell: Cell) -> list[Output]:
    """The output of a cell; what was printed in many pieces is one."""
    made: list[Output] = []
    for _, group in itertools.groupby(cell.outputs, lambda o: o.kind if o.kind in ("stdout", "stderr") else id(o)):
        pieces = list(group)
        made.append(pieces[0] if len(pieces) == 1 else Output(pieces[0].kind, "".join(o.text for o in pieces)))
    return made


def error_line(cell: Cell) -> str:
    """The last line of the error of a cell: `KeyError: 'resolved_at'`."""
    text = next((o.text for o in reversed(cell.outputs) if o.kind == "error" and o.text.strip()), "")
    lines = [line for line in text[-4000:].splitlines() if line.strip()]
    return clip(lines[-1], 120) if lines else ""


def order(number: int) -> list[int]:
    """0 … number-1 from both ends inward, last first: what deserves room most comes first."""
    ends = [(number - 1 - i // 2) if i % 2 == 0 else i // 2 for i in range(number)]
    return list(dict.fromkeys(ends))


def batches(subcalls: Iterable[Subcall]) -> int:
    """How many batches these sub-calls came in."""
    return len({s.batch for s in subcalls if s.batch is not None})


def subcalls_words(subcalls: list[Subcall]) -> str:
    """`14 sub-calls in 2 batches, 3 with runs of their own, 1 failed`."""
    said = count(len(subcalls), "sub-call")
    if number := batches(subcalls):
        said += f" in {number:,} batches" if number > 1 else " in a batch"
    if runs := sum(s.run is not None for s in subcalls):
        said += f", {runs:,} with runs of their own" if runs > 1 else ", 1 with a run of its own"
    if failed := sum(bool(s.error) for s in subcalls):
        said += f", {failed:,} failed"
    if waiting := sum(not s.finished for s in subcalls):
        said += f", {waiting:,} unfinished"
    return said


def tool_calls_words(calls: list[ToolCall]) -> str:
    """`12 tool calls (read_file, fetch_url), 1 failed`."""
    names = list(dict.fromkeys(call.tool for call in calls))
    shown = clip(", ".join(names[:5]) + (", …" if len(names) > 5 else ""), 120)
    said = f"{count(len(calls), 'tool call')} ({shown})"
    if failed := sum(bool(call.error) for call in calls):
        said += f", {failed:,} failed"
    if waiting := sum(not call.finished for call in calls):
        said += f", {waiting:,} unfinished"
    return said


def fields(trajectory: Trajectory) -> list[str]:
    """The names of the output fields: those of the signature, then any other that was answered."""
    _, arrow, outputs = trajectory.signature.rpartition("->")
    names, depth, word = [], 0, ""
    for char in (outputs if arrow else "") + ",":
        depth += (char in "[({") - (char in "])}")
        if char == "," and depth <= 0:
            names.append(word.partition(":")[0].strip())
            word = ""
        else:
            word += char
    return list(dict.fromkeys([n for n in names if n.isidentifier()] + [str(k) for k in trajectory.values]))


def steady(text: str) -> str:
    """`text` of a `repr` without memory addresses."""
    return FRAME.sub("", text)


def _nested(trajectory: Trajectory) -> int:
    found, queue = 0, [s.run for s in trajectory.subcalls if s.run]
    while queue:
        calls = queue.pop().subcalls
        found += len(calls)
        queue += [s.run for s in calls if s.run]
    return found
