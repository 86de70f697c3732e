"""From events to patches: which part of the scene each event changes, and when it is told.

The feed is given every event and reads the trajectory only when it is asked to bring the store up to date, so a
thousand events between two frames cost one update.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlm_kernel import events as ev
from rlm_kernel.panel import scene
from rlm_kernel.panel.blocks import Blocks, text_of, whole
from rlm_kernel.panel.search import find
from rlm_kernel.panel.store import Store
from rlm_kernel.trajectory import Cell, Trajectory
from rlm_kernel.usage import Usage

__all__ = ["Feed"]

KEPT = 30
"""Iterations whose bodies the browser holds unasked; older ones it asks for when they are opened."""


class _Tally:
    """What a run has used, counted as it goes: adding up a long trajectory for every frame would be slow."""

    def __init__(self) -> None:
        self.usage, self.calls = Usage(), 0
        self.cost: float | None = None

    def add(self, event: ev.ModelFinished | ev.SubcallFinished | ev.Compacted) -> None:
        self.usage += event.usage
        if event.cost is not None:
            self.cost = (self.cost or 0.0) + event.cost


class Feed:
    """Keeps a store in step with a trajectory.

    Args:
        trajectory: of the outermost run; it is folded elsewhere, before the feed hears of an event.
    """

    def __init__(self, trajectory: Trajectory) -> None:
        self.store = Store()
        self._trajectory = trajectory
        self._dirty: dict[tuple[Any, ...], None] = {}
        self._tallies: dict[str, _Tally] = {}
        self._where: dict[tuple[str, int], tuple[int, int]] = {}
        self._counts: dict[tuple[str, int], list[int]] = {}
        self._batches: dict[tuple[str, int], set[int]] = {}
        self._blocks: dict[tuple[str, int], Blocks] = {}
        self._now: dict[str, tuple[int, int]] = {}

    # -- hearing ----------------------------------------------------------------------------------------------
    def hear(self, event: ev.Event) -> None:
        """Note what an event changes."""
        run = event.run
        if count := _COUNTED.get(type(event)):
            count(self, event)
        n, c = self._now.get(run, (0, 0))
        if isinstance(event, ev.SubcallStarted | ev.SubcallFinished):
            n, c = self._where.get((run, event.subcall), (n, c))
            first = self._counts.get((run, c), [0])[0] == 2 and isinstance(event, ev.SubcallStarted)
            for number in (event.subcall - 1, event.subcall) if first else (event.subcall,):
                self._dirty["row", run, number] = None  # the first looks otherwise once there is a second
        if isinstance(event, ev.ToolCallStarted | ev.ToolCallFinished) and (t := self._run(run)):
            n, c = (call := t.tool_call(event.call)).iteration, call.cell
            self._dirty["tool", run, event.call] = None
        for what in _CHANGES.get(type(event), ()):
            place = () if what in _OF_RUN else (n, c) if what in _OF_CELL else (n,)
            if n or not place:
                self._dirty[(what, run, *place)] = None

    def _run_started(self, event: ev.RunStarted) -> None:
        self._tallies[event.run] = _Tally()

    def _iteration_started(self, event: ev.IterationStarted) -> None:
        self._now[event.run] = (event.iteration, 0)
        self._forget(event.run, event.iteration - KEPT)

    def _cell_started(self, event: ev.CellStarted) -> None:
        self._now[event.run] = (event.iteration, event.cell)

    def _output(self, event: ev.CellOutput) -> None:
        self._blocks.setdefault((event.run, event.cell), Blocks()).add(event.kind, event.text, event.data)

    def _used(self, event: ev.ModelFinished | ev.Compacted) -> None:
        self._tallies[event.run].add(event)

    def _subcall_started(self, event: ev.SubcallStarted) -> None:
        key = (event.run, event.cell)
        self._where[event.run, event.subcall] = (event.iteration, event.cell)
        counts = self._counts.setdefault(key, [0, 0, 0, 0])
        counts[0] += 1
        if event.batch is not None:
            batches = self._batches.setdefault(key, set())
            batches.add(event.batch)
            counts[3] = len(batches)
        self._tallies[event.run].calls += 1

    def _subcall_finished(self, event: ev.SubcallFinished) -> None:
        _, cell = self._where[event.run, event.subcall]
        counts = self._counts[event.run, cell]
        counts[1] += 1
        counts[2] += bool(event.error)
        self._tallies[event.run].add(event)

    def _forget(self, run: str, n: int) -> None:
        """Take an old iteration's body back from the browser."""
        if n < 1:
            return
        place = f"{run}/{n}"
        self.store.drop(*(k for k in self.store.keys(place) if k[0] not in "is"))
        if (t := self._run(run)) is not None:
            for c in t.iterations[n - 1].cells:
                self._blocks.pop((run, c.number), None)

    # -- telling ----------------------------------------------------------------------------------------------
    def update(self) -> None:
        """Bring the store up to date."""
        while self._dirty:
            mark = next(iter(self._dirty))
            what, run, *place = mark
            if (t := self._run(run)) is not None:
                getattr(self, f"_tell_{what}")(t, run, *place)
            del self._dirty[mark]  # last: an interrupt in between must not lose it

    def _tell_head(self, t: Trajectory, run: str) -> None:
        self.store.set(f"h/{run}", scene.head(t))

    def _tell_totals(self, t: Trajectory, run: str) -> None:
        tally = self._tallies.get(run)
        if tally is None:
            shown = scene.totals(t)
        else:
            shown = scene.counted(len(t.iterations), tally.calls, len(t.tool_calls), tally.usage, tally.cost)
        self.store.set(f"t/{run}", shown)

    def _tell_answer(self, t: Trajectory, run: str) -> None:
        if (made := scene.answer(t)) is not None:
            self.store.set(f"a/{run}", made)

    def _tell_line(self, t: Trajectory, run: str, n: int) -> None:
        self.store.set(f"i/{run}/{n}", scene.line(t.iterations[n - 1]))

    def _tell_strip(self, t: Trajectory, run: str, n: int) -> None:
        self.store.set(f"s/{run}/{n}", scene.segments(t.iterations[n - 1]))

    def _tell_stream(self, t: Trajectory, run: str, n: int) -> None:
        i = t.iterations[n - 1]
        self._tell_line(t, run, n)
        if f"b/{run}/{n}" in self.store or i.model:
            return
        for kind, text in (("k", i.thinking), ("r", i.reply)):
            shown, left, tail = scene.window(text)
            self.store.text(f"{kind}/{run}/{n}", shown)
            if tail:
                self.store.set(f"{kind}t/{run}/{n}", [left, tail])

    def _tell_body(self, t: Trajectory, run: str, n: int) -> None:
        self.store.drop(*(f"{kind}/{run}/{n}" for kind in ("r", "rt", "k", "kt")))
        self.store.set(f"b/{run}/{n}", scene.body(t.iterations[n - 1]))

    def _tell_cell(self, t: Trajectory, run: str, n: int, c: int) -> None:
        if found := _cell(t, n, c):
            self.store.set(f"c/{run}/{n}/{c}", scene.cell(found))

    def _tell_output(self, t: Trajectory, run: str, n: int, c: int) -> None:
        if (run, c) in self._blocks:
            self._blocks[run, c].into(self.store, f"{run}/{n}/{c}")

    def _tell_variables(self, t: Trajectory, run: str, n: int, c: int) -> None:
        if (found := _cell(t, n, c)) and (found.changed or found.removed):
            self.store.set(f"v/{run}/{n}/{c}", scene.variables(found.changed, found.removed))

    def _tell_calls(self, t: Trajectory, run: str, n: int, c: int) -> None:
        self.store.set(f"n/{run}/{n}/{c}", list(self._counts[run, c]))

    def _tell_row(self, t: Trajectory, run: str, number: int) -> None:
        where = self._where[run, number]
        beside = next((k for k in (number - 1, number + 1) if self._where.get((run, k)) == where), None)
        row = scene.row(t.subcall(number), t.subcall(beside) if beside else None)
        self.store.row(f"q/{run}/{where[0]}/{where[1]}", number, row)

    def _tell_tool(self, t: Trajectory, run: str, number: int) -> None:
        call = t.tool_call(number)
        self.store.row(f"u/{run}/{call.iteration}/{call.cell}", number, scene.tool_row(call))

    def _tell_tools(self, t: Trajectory, run: str, n: int, c: int) -> None:
        if found := _cell(t, n, c):
            self.store.set(f"m/{run}/{n}/{c}", scene.tool_calls(found))

    # -- being asked ------------------------------------------------------------------------------------------
    def everything(self) -> None:
        """Bring the store up to date with a trajectory whose events were not heard: a finished one."""
        queue = [self._trajectory]
        while queue:
            t = queue.pop()
            for what in ("head", "totals", "answer"):
                self._dirty[what, t.run] = None
            for n in range(1, len(t.iterations) + 1):
                self._dirty["line", t.run, n] = self._dirty["strip", t.run, n] = None
            queue += [s.run for s in t.subcalls if s.run]
        self.update()

    def asked(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer what the browser asks for: the body of an iteration, a sub-call, more of a text, a search.

        Args:
            request: from the browser; anything in it may be wrong.

        Returns:
            The answer; empty when there is nothing of that kind.
        """
        try:
            match request:
                case {"body": [str(run), int(n)]}:
                    return {"set": self._body(run, n)}
                case {"call": [str(run), int(number)]} if t := self._run(run):
                    return {"call": scene.detail(t.subcall(number))}
                case {"tool": [str(run), int(number)]} if t := self._run(run):
                    return {"call": scene.tool_detail(t.tool_call(number))}
                case {"more": [str(run), int(n), int(c), int(block)], "from": int() | None as start} if t := self._run(
                    run
                ):
                    found = _cell(t, n, c)
                    return {"more": scene.stretch(text_of(found, block), start)} if found else {}
                case {"more": [str(run), int(number), "prompt" | "reply" as part], "from": int() | None as start} if (
                    t := self._run(run)
                ):
                    return {"more": scene.stretch(getattr(t.subcall(number), part), start)}
                case {"find": str(text)}:
                    return {"found": find(self._trajectory, text)}
        except (KeyError, IndexError):
            pass  # it asks for something that is not there
        return {}

    def _body(self, run: str, n: int) -> dict[str, Any]:
        t = self._run(run)
        if t is None or not 1 <= n <= len(t.iterations):
            return {}
        store, i = Store(), t.iterations[n - 1]
        store.set(f"b/{run}/{n}", scene.body(i))
        for c in i.cells:
            place = f"{run}/{n}/{c.number}"
            store.set(f"c/{place}", scene.cell(c))
            if c.outputs:
                whole(c).into(store, place)
            if c.changed or c.removed:
                store.set(f"v/{place}", scene.variables(c.changed, c.removed))
            if c.subcalls:
                store.set(f"n/{place}", scene.calls(c))
            for s, beside in zip(c.subcalls, [*c.subcalls[1:2], *c.subcalls[:-1], None], strict=False):
                store.row(f"q/{place}", s.number, scene.row(s, beside))
            if c.tool_calls:
                store.set(f"m/{place}", scene.tool_calls(c))
            for call in c.tool_calls:
                store.row(f"u/{place}", call.number, scene.tool_row(call))
        return store.snapshot()

    def _run(self, run: str) -> Trajectory | None:
        return self._trajectory.find(run)


_CHANGES: dict[type[ev.Event], tuple[str, ...]] = {
    ev.RunStarted: ("head", "totals"),
    **dict.fromkeys((ev.IterationStarted, ev.Compacted), ("line", "totals")),
    ev.ModelDelta: ("stream",),
    ev.ModelFinished: ("line", "body", "strip", "totals"),
    ev.CellStarted: ("line", "body", "strip", "cell"),
    ev.CellOutput: ("output",),
    ev.CellFinished: ("line", "strip", "cell", "variables"),
    **dict.fromkeys((ev.SubcallStarted, ev.SubcallFinished), ("calls", "totals")),
    **dict.fromkeys((ev.ToolCallStarted, ev.ToolCallFinished), ("tools", "totals")),
    ev.Note: ("body", "line"),
    ev.IterationFinished: ("line",),
    ev.Final: ("answer",),
    ev.RunFinished: ("head", "totals", "answer", "line"),
}
"""Which parts of the scene an event changes."""
_OF_RUN, _OF_CELL = ("head", "totals", "answer"), ("cell", "output", "variables", "calls", "tools")
"""The parts that there are one of for a run, and for a cell; the others belong to an iteration."""
_COUNTED: dict[type[ev.Event], Callable[[Feed, Any], None]] = {
    ev.RunStarted: Feed._run_started,
    ev.IterationStarted: Feed._iteration_started,
    ev.CellStarted: Feed._cell_started,
    ev.CellOutput: Feed._output,
    ev.ModelFinished: Feed._used,
    ev.Compacted: Feed._used,
    ev.SubcallStarted: Feed._subcall_started,
    ev.SubcallFinished: Feed._subcall_finished,
}


def _cell(t: Trajectory, n: int, c: int) -> Cell | None:
    return next((cell for cell in t.iterations[n - 1].cells if cell.number == c), None)
