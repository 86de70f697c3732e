"""The live view as text, for `verbose=True` in a terminal or a script.

`TextView` is an observer: it writes and never decides. What it has written stands, so a batch of sub-calls is told once
it is over (and counted on the way, if it takes long), output is bounded, and the pieces of a streaming reply are not
printed one by one. A child run is told in its place, further in; of several at once, what came of them.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from rlm_kernel import events as ev
from rlm_kernel.render import story
from rlm_kernel.render.ansi import Ink, wrap
from rlm_kernel.render.clean import clip, count, excerpt, stream
from rlm_kernel.render.images import image, said
from rlm_kernel.render.text import answer_text
from rlm_kernel.trajectory import Cell, Iteration, Output, Subcall, ToolCall, Trajectory
from rlm_kernel.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TextView"]

WIDTH = 100
SINGLES = 20
"""As many sub-calls outside a batch are told one by one in a cell."""
OUTPUTS = 10
PAUSE_SECONDS = 10.0
"""After so long, the sub-calls of a batch that goes on are counted."""


@dataclass(slots=True)
class _Waiting:
    """What is still to be told of a run."""

    prose: list[str] = field(default_factory=list)
    """What the model says before each of its blocks of code, and after the last."""
    batches: dict[int, list[Subcall]] = field(default_factory=dict)
    """The sub-calls of each batch of the cell."""
    singles: int = 0
    """Answered sub-calls of the cell that were in no batch."""
    tools: int = 0
    """Calls of tools in the cell that have ended."""
    counted: float = 0.0
    """When the sub-calls of a batch were counted last."""


class TextView:
    """Writes each thing that happens as lines of text. Call it with every event, those of child runs too.

    Args:
        write: gets whole lines, each ending in a newline.
        color: adds ANSI colours.
        width: where lines of prose are wrapped.
    """

    def __init__(self, write: Callable[[str], object], *, color: bool = False, width: int = WIDTH) -> None:
        self._write, self._ink, self._width = write, Ink(color=color), width
        self._tree = Trajectory()
        self._waiting: dict[str, _Waiting] = {}
        """By run; one that is not in it is not told."""

    @classmethod
    def terminal(cls, out: Any = None) -> Self:
        """A view that writes to `out`, standard output by default, as well as that can show it.

        In colour and as wide as a terminal is, if it is one; NO_COLOR (no-color.org) takes the colour away. What the
        encoding of `out` lacks becomes a question mark.
        """
        out = sys.stdout if out is None else out
        capable = getattr(out, "isatty", bool)() and os.environ.get("TERM") != "dumb"
        columns = shutil.get_terminal_size((WIDTH, 24)).columns if capable else WIDTH
        encoding = getattr(out, "encoding", None) or "utf-8"

        def write(text: str) -> None:
            out.write(text.encode(encoding, "replace").decode(encoding))

        return cls(write, color=capable and not os.environ.get("NO_COLOR"), width=max(40, min(WIDTH, columns)))

    def __call__(self, event: ev.Event) -> None:
        """Show one event."""
        if isinstance(event, ev.RunStarted) and event.parent is None:
            self._tree, self._waiting = Trajectory(), {}
        self._tree.add(event)
        t = self._tree.find(event.run)
        if t is None:
            return
        if isinstance(event, ev.RunStarted) and self._tells(t):
            self._waiting[t.run] = _Waiting()
        if t.run not in self._waiting:
            return
        depth = t.run.count(".") - self._tree.run.count(".")
        if lines := self._lines(t, event, self._waiting[t.run], max(40, self._width - 4 * depth)):
            self._write(textwrap.indent("\n".join(lines), "    " * depth, lambda line: bool(line.strip())) + "\n")

    def _tells(self, t: Trajectory) -> bool:
        """Whether a run is told; the stories of several at once would run into each other."""
        if t is self._tree:
            return True
        above, _, number = t.run.rpartition(".")
        parent = self._tree.find(above)
        if parent is None or above not in self._waiting or parent.subcall(int(number)).batch is not None:
            return False
        beside = (s.run.run for s in parent.subcalls if s.run is not None and s.run is not t and not s.finished)
        return not any(run in self._waiting for run in beside)

    def _lines(self, t: Trajectory, event: ev.Event, waiting: _Waiting, width: int) -> list[str]:
        paint = self._ink.paint
        match event:
            case ev.RunStarted():
                sub = f", sub-calls: {clip(event.sub_model, 60)}" if event.sub_model else ""
                head = paint("head", wrap(excerpt(event.question.strip(), 1500, 12), width))
                return [
                    *head,
                    *paint("muted", wrap(clip(event.model, 60) + sub, width)),
                    *self._variables("", event.variables),
                ]
            case ev.IterationStarted():
                what = f"Iteration {event.iteration}" + (f" of {t.max_iterations}" if t.max_iterations else "")
                return ["", *paint("head", [_rule("The final answer is asked for" if event.final else what, width)])]
            case ev.ModelFinished():
                first, *waiting.prose = _prose(t.iterations[-1], event.cells)
                waiting.prose.insert(0, "")
                return _wrapped(first, width)
            case ev.Note() | ev.Compacted():
                return paint("short", [f"note: {clip(event.text, 400)}"])
            case ev.IterationFinished():
                return self._iteration(t.iterations[-1], waiting, event.at, width)
            case ev.RunFinished():
                return self._end(t, width)
        return self._running(t, event, waiting, width)

    def _running(self, t: Trajectory, event: ev.Event, waiting: _Waiting, width: int) -> list[str]:
        """What happens while code runs."""
        match event:
            case ev.CellStarted():
                waiting.batches, waiting.singles, waiting.tools, waiting.counted = {}, 0, 0, event.at
                prose = _wrapped(waiting.prose.pop(0), width) if waiting.prose else []
                return [*_apart(prose), *self._ink.code(excerpt(event.code.strip("\n"), 6000, 80))]
            case ev.SubcallStarted():
                return self._asked(t.subcall(event.subcall), waiting)
            case ev.SubcallFinished():
                return self._answered(t.subcall(event.subcall), waiting, event.at, width)
            case ev.ToolCallFinished():
                return self._called(t.tool_call(event.call), waiting, width)
            case ev.CellFinished():
                return self._cell(t.iterations[-1].cells[-1], waiting)
        return []

    def _asked(self, subcall: Subcall, waiting: _Waiting) -> list[str]:
        over = [b for b, calls in waiting.batches.items() if b != subcall.batch and all(s.finished for s in calls)]
        lines = [line for batch in over for line in self._batch(waiting.batches.pop(batch))]
        if subcall.batch is not None:
            waiting.batches.setdefault(subcall.batch, []).append(subcall)
        return lines

    def _answered(self, subcall: Subcall, waiting: _Waiting, at: float, width: int) -> list[str]:
        if subcall.batch is None:
            waiting.singles += 1
            if waiting.singles > SINGLES and not subcall.error:
                return []
            return self._line(subcall.prompt, subcall.reply, subcall.error, subcall.seconds, width)
        calls = waiting.batches.get(subcall.batch, [])
        if at - waiting.counted < PAUSE_SECONDS or not (left := sum(not s.finished for s in calls)):
            return []
        waiting.counted = at
        words = f"  → {count(len(calls) - left, 'sub-call')} answered so far, {left:,} under way"
        return self._ink.paint("muted", [words])

    def _called(self, call: ToolCall, waiting: _Waiting, width: int) -> list[str]:
        waiting.tools += 1
        if waiting.tools > SINGLES and not call.error:
            return []
        return self._line(call.written, call.result, call.error, call.seconds, width)

    def _line(self, asked: str, reply: str, error: str, seconds: float, width: int) -> list[str]:
        half = (width - 16) // 2
        told = f"failed: {clip(error, 120)}" if error else clip(reply, half)
        line = f"  → {clip(asked, half)} ← {told} · {_seconds(seconds)}"
        return self._ink.paint("bad" if error else "muted", [line])

    def _batch(self, calls: list[Subcall]) -> list[str]:
        failed = next((s.error for s in calls if s.error), "")
        took = max((s.started + s.seconds for s in calls if s.finished), default=0.0) - min(s.started for s in calls)
        words = f"  → {story.subcalls_words(calls)} · {_seconds(took)}" + (f": {clip(failed, 120)}" if failed else "")
        return self._ink.paint("bad" if failed else "muted", [words])

    def _cell(self, cell: Cell, waiting: _Waiting) -> list[str]:
        lines = [line for calls in waiting.batches.values() for line in self._batch(calls)]
        waiting.batches = {}
        if waiting.singles > SINGLES:
            singles = [s for s in cell.subcalls if s.batch is None]
            lines += self._ink.paint("muted", [f"  → {story.subcalls_words(singles)} in all"])
        if waiting.tools > SINGLES:
            lines += self._ink.paint("muted", [f"  → {story.tool_calls_words(cell.tool_calls)} in all"])
        outputs = story.outputs(cell)
        lines += [line for output in outputs[:OUTPUTS] for line in self._output(output)]
        if len(outputs) > OUTPUTS:
            lines += self._ink.paint("muted", [f"  {count(len(outputs) - OUTPUTS, 'more output')}"])
        lines += self._variables("+ ", cell.changed)
        if cell.removed:
            lines += self._ink.paint("muted", [f"  removed: {clip(', '.join(cell.removed[:50]), WIDTH)}"])
        words = "" if story.error_line(cell) and cell.status == "error" else story.status_words(cell.status)
        tone = "good" if cell.status == "submitted" else "bad"
        return lines + self._ink.paint(tone, [f"{story.mark(cell.status)} {words}"] if words else [])

    def _output(self, output: Output) -> list[str]:
        found = image(output.data) if output.data else None
        text = excerpt(stream(said(output.text) if found else output.text), 3000, 30).rstrip("\n")
        lines = [f"  {line}" if line else "" for line in text.split("\n")] if text.strip() else []
        tone = {"error": "bad", "stderr": "short"}.get(output.kind)
        lines = self._ink.paint(tone, lines) if tone else lines
        return [*lines, *self._ink.paint("muted", [f"  {found.words}"] if found else [])]

    def _variables(self, sign: str, variables: tuple[ev.Variable, ...]) -> list[str]:
        lines = []
        for v in variables[:20]:
            preview = f" = {clip(story.steady(v.preview), 60)}" if v.preview else ""
            kind = ", ".join(clip(part, 60) for part in (v.type, v.size) if part)
            lines.append(f"  {sign}{clip(v.name, 40)}: {kind}{preview}")
        if len(variables) > 20:
            lines.append(f"  {count(len(variables) - 20, 'more variable')}")
        return self._ink.paint("muted", lines)

    def _iteration(self, iteration: Iteration, waiting: _Waiting, at: float, width: int) -> list[str]:
        left, (*_, last) = len(waiting.prose) - 1, ("", *waiting.prose)
        lines = _apart(_wrapped(last, width)) if left == 0 else []
        if left > 0:
            lines = self._ink.paint("short", [f"{count(left, 'more block')} of code did not run"])
        usage = sum((s.usage for c in iteration.cells for s in c.subcalls), iteration.usage)
        return [*lines, *self._ink.paint("muted", [f"  {_seconds(at - iteration.started)} · {_tokens(usage)}"])]

    def _end(self, t: Trajectory, width: int) -> list[str]:
        words, tone = story.headline(t)
        lines = ["", *self._ink.paint(tone, [_rule(words, width)])]
        lines += wrap(clip(t.detail, 400), width) if t.detail else []
        lines += answer_text(t).split("\n") if t is self._tree and t.values else []
        return [*lines, *self._ink.paint("muted", wrap(" · ".join([*story.totals(t), _seconds(t.seconds)]), width))]


def _prose(iteration: Iteration, codes: tuple[str, ...]) -> list[str]:
    """What the reply says before each of these blocks of it, and after the last."""
    made = [""]
    for part in story.parts(replace(iteration, cells=[Cell(n, code) for n, code in enumerate(codes)])):
        if isinstance(part, Cell):
            made.append("")
        else:
            made[-1] += f"\n\n{part.text.strip()}"
    return made


def _wrapped(prose: str, width: int) -> list[str]:
    text = excerpt(prose.strip("\n"), 4000, 60)
    return wrap(text, width) if text.strip() else []


def _apart(lines: list[str]) -> list[str]:
    return ["", *lines] if lines else []


def _rule(words: str, width: int) -> str:
    return f"── {words} ".ljust(width, "─")


def _seconds(number: float) -> str:
    number = max(0.0, number)
    return f"{number:,.1f} s" if number < 60 else f"{number // 60:,.0f} min {number % 60:.0f} s"


def _tokens(usage: Usage) -> str:
    cached = f" ({usage.cache_read_tokens:,} cached)" if usage.cache_read_tokens else ""
    return count(usage.total_tokens, "token") + cached
