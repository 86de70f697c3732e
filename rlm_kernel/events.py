"""What happens in a run, as frozen records in the order it happened.

The loop emits them; the panel, the trajectory, callbacks and logs are folds of this one stream. An event holds
values only, never a live object, so that it can be kept, sent to a browser and written to a file. `run` names the
run (a child run has its own name and `parent`), `at` is seconds since the outermost run started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rlm_kernel.usage import Usage

__all__ = [
    "CellFinished",
    "CellOutput",
    "CellStarted",
    "Compacted",
    "Event",
    "Final",
    "IterationFinished",
    "IterationStarted",
    "ModelDelta",
    "ModelFinished",
    "Note",
    "OnEvent",
    "RunFinished",
    "RunStarted",
    "SubcallFinished",
    "SubcallStarted",
    "ToolCallFinished",
    "ToolCallStarted",
    "Variable",
]


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable as the model sees it: never the value itself."""

    name: str
    type: str
    size: str = ""
    """In the kind's own measure: `1,024 characters`, `336776 rows x 19 columns`."""
    preview: str = ""
    description: str = ""
    """What it is, in the words of whoever handed it over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event carries."""

    run: str
    at: float
    """Seconds since the outermost run started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A question was taken up."""

    question: str
    signature: str
    model: str
    sub_model: str
    max_iterations: int
    max_llm_calls: int
    variables: tuple[Variable, ...] = ()
    isolation: str = ""
    """How the code is kept from the machine, in words."""
    tools: tuple[str, ...] = ()
    """Functions of the host's that the code may call: `read_file(path: str) -> str`."""
    parent: str | None = None
    """The name of the run whose sub-call asked for this one, `None` for the outermost.

    A child run is named by its path: the name of its parent, a dot, and the number of the sub-call (`1.7`). It starts
    after that sub-call did.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationStarted(Event):
    """The model is about to be asked."""

    iteration: int
    """From 1."""
    prompt: str
    """The message that this iteration adds to the conversation."""
    final: bool = False
    """The one extra call that asks for an answer when a limit has been reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDelta(Event):
    """A piece of the reply streamed in."""

    iteration: int
    text: str
    kind: Literal["text", "thinking", "restart"] = "text"
    """`restart`: what streamed so far is void, the call was made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFinished(Event):
    """The reply is whole and its code was read."""

    iteration: int
    reply: str
    thinking: str
    model: str
    usage: Usage
    cost: float | None
    """USD; `None` when the model's price is not known."""
    seconds: float
    cells: tuple[str, ...]
    """The code that was read out of the reply, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellStarted(Event):
    """A piece of code begins to run."""

    iteration: int
    cell: int
    """Counts the cells of the run, from 1."""
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOutput(Event):
    """Output as it leaves the sandbox: hostile text."""

    iteration: int
    cell: int
    kind: Literal["stdout", "stderr", "display", "result", "error"]
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    """The MIME bundle of a display or result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFinished(Event):
    """A piece of code has ended."""

    iteration: int
    cell: int
    status: Literal["ok", "error", "submitted", "interrupted", "timeout", "died", "flooded"]
    seconds: float
    changed: tuple[Variable, ...] = ()
    """Variables that appeared or changed."""
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubcallStarted(Event):
    """A sub-model is asked."""

    iteration: int
    cell: int
    subcall: int
    """Counts the sub-calls of the run, from 1."""
    prompt: str
    model: str
    batch: int | None = None
    """The batch it belongs to, counted from 1; `None` for a call of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubcallFinished(Event):
    """A sub-model answered or failed."""

    subcall: int
    reply: str
    error: str
    """Empty when it succeeded."""
    model: str
    usage: Usage
    cost: float | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallStarted(Event):
    """A tool is called, outside of the sandbox."""

    iteration: int
    cell: int
    call: int
    """Counts the calls of tools of the run, from 1."""
    tool: str
    """Its name."""
    arguments: str
    """As they would be written in a call; long ones are cut. Hostile text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallFinished(Event):
    """A tool returned, raised, or was waited for no longer."""

    call: int
    result: str
    """What it returned, in words; a long text is cut."""
    error: str
    """The name of what it raised, and its text; empty when it returned."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Event):
    """Something the user should know that is no part of the conversation: a sandbox that was replaced, a retry."""

    iteration: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted(Event):
    """Older turns of the conversation gave way to a summary. In the story of the run they stay what they were."""

    iteration: int
    """The turn that there was no room for."""
    turns: tuple[int, int]
    """The first and the last reply of the model that it will not see any more, counted over the conversation."""
    summary: str
    why: str = ""
    """Why the model did not write it, so that it holds beginnings of the turns; empty when it did."""
    tokens: tuple[int, int]
    """Of the next call before and afterwards, estimated."""
    usage: Usage
    """Of the call for the summary."""
    cost: float | None
    """USD; `None` when the model's price is not known, or there was no call."""
    seconds: float

    @property
    def text(self) -> str:
        """It in words."""
        (first, last), (before, after) = self.turns, self.tokens
        how = f"excerpts of them ({self.why})" if self.why else "a summary"
        said = f"turns {first} to {last} gave way to {how}: about {before:,} tokens became {after:,}"
        return f"{said}\n\n{self.summary}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationFinished(Event):
    """All code of the reply has run."""

    iteration: int
    observation: str
    """What the model will be told of it; empty after the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Final(Event):
    """An answer was submitted and accepted."""

    iteration: int
    values: Mapping[str, Any]


StopReason = Literal[
    "answered",
    "max_iterations",
    "max_llm_calls",
    "max_errors",
    "max_tokens",
    "budget",
    "timeout",
    "interrupted",
    "error",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """The run is over, however it ended."""

    stop_reason: StopReason
    detail: str
    """One line for people: which limit, which error; empty when the run simply answered."""
    usage: Usage
    cost: float | None
    seconds: float


OnEvent = Callable[[Event], None]
