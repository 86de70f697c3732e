"""The story of a run as a tree, folded from its events.

`Trajectory.fold` is the only way one is made, live or loaded, so the panel, the result and the files agree. Runs are
named by path: sub-call 7 of run `1` starts the child run `1.7`, which is found at `Subcall.run` of that sub-call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Self

from rlm_kernel import events as ev
from rlm_kernel.records import Cell, Iteration, Output, Subcall, ToolCall
from rlm_kernel.usage import Usage

__all__ = ["Cell", "Iteration", "Output", "Subcall", "ToolCall", "Trajectory"]

_JOIN_CHARS = 64 * 1024
"""Small pieces of output are joined; adding to a long text again and again would copy it each time."""


@dataclass(slots=True)
class Trajectory:
    """A whole run. Iterate over it to get its iterations."""

    run: str = ""
    question: str = ""
    signature: str = ""
    model: str = ""
    sub_model: str = ""
    max_iterations: int = 0
    max_llm_calls: int = 0
    variables: tuple[ev.Variable, ...] = ()
    isolation: str = ""
    tools: tuple[str, ...] = ()
    parent: str | None = None
    iterations: list[Iteration] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    stop_reason: str = "running"
    detail: str = ""
    usage: Usage = Usage()
    cost: float | None = None
    seconds: float = 0.0
    _subcalls: dict[int, Subcall] = field(default_factory=dict, repr=False, compare=False)
    _tool_calls: dict[int, ToolCall] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def fold(cls, events: Iterable[ev.Event]) -> Trajectory:
        """The trajectory that these events tell."""
        trajectory = cls()
        for event in events:
            trajectory.add(event)
        return trajectory

    def __iter__(self) -> Iterator[Iteration]:
        return iter(self.iterations)

    def __len__(self) -> int:
        return len(self.iterations)

    def __getitem__(self, index: int) -> Iteration:
        return self.iterations[index]

    @property
    def subcalls(self) -> list[Subcall]:
        """Every sub-call of the run, in the order they were asked for."""
        return [s for i in self.iterations for c in i.cells for s in c.subcalls]

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Every call of a tool, in the order they were made."""
        return [call for c in self.cells for call in c.tool_calls]

    @property
    def cells(self) -> list[Cell]:
        """Every cell of the run, in order."""
        return [c for i in self.iterations for c in i.cells]

    def subcall(self, number: int) -> Subcall:
        """The sub-call of this number, from 1."""
        return self._subcalls[number]

    def tool_call(self, number: int) -> ToolCall:
        """The call of a tool of this number, from 1."""
        return self._tool_calls[number]

    def find(self, run: str) -> Trajectory | None:
        """The run of this name: this one, or one below it at any depth."""
        found: Trajectory | None = self
        while found is not None and found.run != run:
            asked = found._towards(run)
            found = asked.run if asked else None
        return found

    def add(self, event: ev.Event) -> None:
        """Fold one more event in; that of a child run into the trajectory below the sub-call that asked for it.

        Events of an unknown run or kind are passed over: newer files stay readable.
        """
        if (run := self._owner(event)) is not None and (fold := _FOLDS.get(type(event))):
            fold(run, event)

    def indexed(self) -> Self:
        """This very run, its calls to be found by their numbers: for one that was not folded from events."""
        self._subcalls = {s.number: s for s in self.subcalls}
        self._tool_calls = {c.number: c for c in self.tool_calls}
        return self

    def save(self, path: str | PathLike[str]) -> None:
        """Write the run to `path` as JSONL that alexzhang13's visualizer opens; `load` gives it back.

        Raises:
            RecordingError: the file cannot be written.
        """
        from rlm_kernel import jsonl

        jsonl.save(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Trajectory:
        """The run that `save`, or alexzhang13/rlm, wrote to `path`.

        Raises:
            RecordingError: the file cannot be read or holds no run.
        """
        from rlm_kernel import jsonl

        return jsonl.load(path)

    def show(self) -> None:
        """Show the run: in a notebook in the panel, to step through, filter and search; elsewhere as text."""
        from rlm_kernel import panel

        panel.show(self)

    def _cell(self) -> Cell:
        return self.iterations[-1].cells[-1]

    def _towards(self, run: str) -> Subcall | None:
        """The sub-call of this run at which the run of this name is, or above it."""
        path = f"{self.run}."
        number = run.removeprefix(path).partition(".")[0] if run.startswith(path) else ""
        return self._subcalls.get(int(number)) if number.isdecimal() and len(number) < 10 else None

    def _owner(self, event: ev.Event) -> Trajectory | None:
        """The run that the event is about; its first event makes it. The first run that starts is the outermost."""
        if isinstance(event, ev.RunStarted):
            if not self.run:
                return self
            above = self.find(event.parent) if event.parent else None
            asked = above._towards(event.run) if above else None
            if asked and asked.run is None and event.run == f"{event.parent}.{asked.number}":
                asked.run = Trajectory(run=event.run)
        return self.find(event.run)


def _run_started(t: Trajectory, e: ev.RunStarted) -> None:
    t.run, t.question, t.signature, t.parent = e.run, e.question, e.signature, e.parent
    t.model, t.sub_model, t.variables = e.model, e.sub_model, e.variables
    t.max_iterations, t.max_llm_calls = e.max_iterations, e.max_llm_calls
    t.isolation, t.tools = e.isolation, e.tools


def _iteration_started(t: Trajectory, e: ev.IterationStarted) -> None:
    t.iterations.append(Iteration(e.iteration, e.prompt, e.final, started=e.at))


def _delta(t: Trajectory, e: ev.ModelDelta) -> None:
    i = t.iterations[-1]
    if e.kind == "restart":
        i.reply = i.thinking = ""
    elif e.kind == "thinking":
        i.thinking += e.text
    else:
        i.reply += e.text


def _model_finished(t: Trajectory, e: ev.ModelFinished) -> None:
    i = t.iterations[-1]
    i.reply, i.thinking, i.model = e.reply, e.thinking, e.model
    _used(i, e)


def _used(i: Iteration, e: ev.ModelFinished | ev.Compacted) -> None:
    i.usage, i.model_seconds = i.usage + e.usage, i.model_seconds + e.seconds
    i.cost = e.cost if i.cost is None else i.cost + (e.cost or 0.0)


def _cell_started(t: Trajectory, e: ev.CellStarted) -> None:
    t.iterations[-1].cells.append(Cell(e.cell, e.code, started=e.at))


def _output(t: Trajectory, e: ev.CellOutput) -> None:
    outputs = t._cell().outputs
    last = outputs[-1] if outputs else None
    if last is not None and last.kind == e.kind and e.kind in ("stdout", "stderr") and len(last.text) < _JOIN_CHARS:
        last.text += e.text
    else:
        outputs.append(Output(e.kind, e.text, e.data))


def _cell_finished(t: Trajectory, e: ev.CellFinished) -> None:
    c = t._cell()
    c.status, c.seconds, c.changed, c.removed = e.status, e.seconds, e.changed, e.removed


def _subcall_started(t: Trajectory, e: ev.SubcallStarted) -> None:
    subcall = Subcall(e.subcall, e.prompt, e.model, e.batch, started=e.at)
    t._subcalls[e.subcall] = subcall
    t._cell().subcalls.append(subcall)


def _subcall_finished(t: Trajectory, e: ev.SubcallFinished) -> None:
    s = t._subcalls[e.subcall]
    s.reply, s.error, s.model, s.usage = e.reply, e.error, e.model, e.usage
    s.cost, s.seconds, s.finished = e.cost, e.seconds, True


def _tool_call_started(t: Trajectory, e: ev.ToolCallStarted) -> None:
    t._tool_calls[e.call] = call = ToolCall(e.call, e.tool, e.arguments, e.iteration, e.cell, started=e.at)
    t._cell().tool_calls.append(call)


def _tool_call_finished(t: Trajectory, e: ev.ToolCallFinished) -> None:
    call = t._tool_calls[e.call]
    call.result, call.error, call.seconds, call.finished = e.result, e.error, e.seconds, True


def _note(t: Trajectory, e: ev.Note) -> None:
    if t.iterations:
        t.iterations[-1].notes.append(e.text)


def _compacted(t: Trajectory, e: ev.Compacted) -> None:
    t.iterations[-1].notes.append(e.text)
    _used(t.iterations[-1], e)


def _iteration_finished(t: Trajectory, e: ev.IterationFinished) -> None:
    t.iterations[-1].observation, t.iterations[-1].done = e.observation, True


def _final(t: Trajectory, e: ev.Final) -> None:
    t.values = dict(e.values)


def _run_finished(t: Trajectory, e: ev.RunFinished) -> None:
    t.stop_reason, t.detail = e.stop_reason, e.detail
    t.usage, t.cost, t.seconds = e.usage, e.cost, e.seconds


_FOLDS: dict[type[ev.Event], Callable[[Trajectory, Any], None]] = {
    ev.RunStarted: _run_started, ev.IterationStarted: _iteration_started, ev.ModelDelta: _delta,
    ev.Compacted: _compacted, ev.ModelFinished: _model_finished, ev.CellStarted: _cell_started,
    ev.CellOutput: _output, ev.CellFinished: _cell_finished, ev.SubcallStarted: _subcall_started,
    ev.SubcallFinished: _subcall_finished, ev.ToolCallStarted: _tool_call_started,
    ev.ToolCallFinished: _tool_call_finished, ev.Note: _note, ev.IterationFinished: _iteration_finished,
    ev.Final: _final, ev.RunFinished: _run_finished,
}  # fmt: skip
