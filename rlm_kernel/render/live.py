"""The live view as text, for `verbose=True` in a terminal or a script, and the one line that says what goes on now.

`TextView` is an observer: it writes and never decides. Sub-calls are counted per batch, output is bounded, the pieces
of a streaming reply are not printed one by one.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from rlm_kernel import events as ev
from rlm_kernel.render import story
from rlm_kernel.render.clean import clean, clip, count, excerpt, stream
from rlm_kernel.trajectory import Trajectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlm_kernel.trajectory import Cell, Subcall

__all__ = ["TextView", "progress_line"]

WIDTH = 100
SINGLES = 20
"""As many sub-calls outside a batch are told one by one in a cell."""
COLOURS = {"head": "1;36", "good": "32", "bad": "31", "short": "33", "muted": "2"}


class TextView:
    """Writes each thing that happens as lines of text. Call it with every event, those of child runs too."""

    def __init__(self, write: Callable[[str], object], *, color: bool = False) -> None:
        """`write` gets whole lines, each ending in a newline; `color` adds ANSI colours."""
        self._write = write
        self._color = color
        self._runs: dict[str, tuple[Trajectory, int]] = {}

    def __call__(self, event: ev.Event) -> None:
        """Show one event."""
        if isinstance(event, ev.RunStarted):
            self._runs[event.run] = (Trajectory(), self._depth(event))
        if event.run not in self._runs:
            return
        t, depth = self._runs[event.run]
        t.add(event)
        if lines := self._lines(t, event):
            self._write(textwrap.indent("\n".join(lines), "    " * depth, lambda line: bool(line.strip())) + "\n")

    def _depth(self, event: ev.RunStarted) -> int:
        if event.parent is None:
            return 0
        owners = [run for run in self._runs if event.parent.startswith(run) or event.run.startswith(run)]
        return self._runs[max(owners, key=len)][1] + 1 if owners else 1

    def _lines(self, t: Trajectory, event: ev.Event) -> list[str]:
        match event:
            case ev.RunStarted():
                sub = f", sub-calls: {clip(event.sub_model, 60)}" if event.sub_model else ""
                models = clip(event.model, 60) + sub
                head = [self._paint("head", clip(event.question, 400)), *self._muted(models)]
                return [*head, *self._variables(event.variables)]
            case ev.IterationStarted():
                what = f"Iteration {event.iteration}" + (f" of {t.max_iterations}" if t.max_iterations else "")
                return ["", self._paint("head", f"── {'The final answer is asked for' if event.final else what} ──")]
            case ev.ModelFinished():
                prose = [p.text for p in story.parts(t.iterations[-1]) if isinstance(p, story.Prose)]
                return self._reply(prose, event)
            case ev.CellStarted():
                return textwrap.indent(excerpt(event.code.strip("\n"), 6000, 80), "│ ", lambda _: True).split("\n")
            case ev.SubcallFinished():
                return self._subcall(t, t._subcalls.get(event.subcall))
            case ev.CellFinished():
                return self._cell(t.iterations[-1].cells[-1])
            case ev.Note():
                return [self._paint("short", f"note: {clip(event.text, 400)}")]
            case ev.RunFinished():
                words, tone = story.headline(t)
                detail = f": {clip(event.detail, 400)}" if event.detail else ""
                return ["", self._paint(tone, f"{words}{detail}"), *self._muted(" · ".join(story.totals(t)))]
        return []

    def _reply(self, prose: list[str], event: ev.ModelFinished) -> list[str]:
        # Blocks that will run are shown when they run; the cells of the trajectory are not there yet.
        codes = {code.strip() for code in event.cells}
        kept = [text.strip("\n") for text in prose if "\n".join(text.strip().split("\n")[1:-1]).strip() not in codes]
        text = excerpt("\n\n".join(part for part in kept if part.strip()), 4000, 60)
        lines = [w for line in text.split("\n") for w in (textwrap.wrap(line, WIDTH, break_long_words=True) or [""])]
        return lines if text.strip() else []

    def _subcall(self, t: Trajectory, subcall: Subcall | None) -> list[str]:
        cell = next((c for c in reversed(t.cells[-3:]) if subcall in c.subcalls), None)
        if subcall is None or cell is None:
            return []
        if subcall.batch is None:
            before = sum(s.batch is None and s.finished for s in cell.subcalls)
            if before > SINGLES and not subcall.error:
                return []
            said = f"failed: {clip(subcall.error, 120)}" if subcall.error else clip(subcall.reply, 60)
            return [self._paint("bad" if subcall.error else "muted", f"  → {clip(subcall.prompt, 60)} ← {said}")]
        batch = [s for s in cell.subcalls if s.batch == subcall.batch]
        if not all(s.finished for s in batch):
            return []
        failed = next((s.error for s in batch if s.error), "")
        words = f"  → {story.subcalls_words(batch)}" + (f": {clip(failed, 120)}" if failed else "")
        return [self._paint("bad" if failed else "muted", words)]

    def _cell(self, cell: Cell) -> list[str]:
        lines: list[str] = []
        for output in cell.outputs[:10]:
            text = excerpt(stream(output.text), 3000, 30).rstrip("\n")
            lines += [self._paint("bad", line) if output.kind == "error" else line for line in text.split("\n") if text]
        if len(cell.outputs) > 10:
            lines.append(count(len(cell.outputs) - 10, "more output"))
        singles = [s for s in cell.subcalls if s.batch is None]
        if len(singles) > SINGLES:
            lines += self._muted(f"  → {story.subcalls_words(singles)} in all")
        lines += self._variables(cell.changed)
        if cell.removed:
            lines += self._muted(f"  removed: {clip(', '.join(cell.removed[:50]), WIDTH)}")
        if words := story.status_words(cell.status):
            tone = "good" if cell.status == "submitted" else "bad"
            lines.append(self._paint(tone, f"{story.mark(cell.status)} {words}"))
        return lines

    def _variables(self, variables: tuple[ev.Variable, ...]) -> list[str]:
        lines = []
        for v in variables[:20]:
            preview = f" = {clip(story.steady(v.preview), 60)}" if v.preview else ""
            lines.append(f"  {clip(v.name, 40)}: {clip(' '.join(filter(None, (v.type, v.size))), 60)}{preview}")
        if len(variables) > 20:
            lines.append(f"  {len(variables) - 20:,} more variables")
        return self._muted(*lines)

    def _muted(self, *lines: str) -> list[str]:
        return [self._paint("muted", line) for line in lines if line]

    def _paint(self, tone: str, line: str) -> str:
        return f"\x1b[{COLOURS[tone]}m{line}\x1b[0m" if self._color else line


def progress_line(trajectory: Trajectory) -> str:
    """What is going on now, on one short line: `iteration 3 of 20 · 4 of 12 sub-calls done · 48,210 tokens`."""
    t = trajectory
    if t.stop_reason != "running":
        return " · ".join([story.headline(t)[0], *story.totals(t)])
    if not t.iterations:
        return "starting"
    i = t.iterations[-1]
    limit = f" of {t.max_iterations}" if t.max_iterations else ""
    said = ["the final answer" if i.final else f"iteration {i.number}{limit}"]
    cell = i.cells[-1] if i.cells else None
    if cell and cell.status == "running":
        done = sum(s.finished for s in cell.subcalls)
        waiting = len(cell.subcalls) > done
        said.append(f"{done:,} of {count(len(cell.subcalls), 'sub-call')} done" if waiting else "running code")
    elif not i.cells and not i.model:
        said.append("the model writes" if i.reply else "the model thinks" if i.thinking else "asking the model")
    elif not i.done:
        said.append("reading what came out" if cell else "reading the reply")
    usage = story.usage_of(t)
    if usage.total_tokens:
        said.append(count(usage.total_tokens, "token"))
    return clean(" · ".join(said))
