"""What a trajectory is made of: iterations, their cells, and what the code of a cell put out and asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rlm_kernel import events as ev
from rlm_kernel.usage import Usage

if TYPE_CHECKING:
    from rlm_kernel.trajectory import Trajectory

__all__ = ["Cell", "Iteration", "Output", "Subcall", "ToolCall"]


@dataclass(slots=True)
class Output:
    """A stretch of output of one kind, as it left the sandbox."""

    kind: str
    """`stdout`, `stderr`, `display`, `result` or `error`."""
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Subcall:
    """One `llm_query`, or one prompt of an `llm_batch`."""

    number: int
    prompt: str
    model: str
    batch: int | None = None
    reply: str = ""
    error: str = ""
    usage: Usage = Usage()
    """Of all that it took, a child run included."""
    cost: float | None = None
    seconds: float = 0.0
    started: float = 0.0
    finished: bool = False
    run: Trajectory | None = None
    """The child run it started, if it started one; grows as that run goes on."""


@dataclass(slots=True)
class ToolCall:
    """One call of a tool."""

    number: int
    """From 1, over the whole run."""
    tool: str
    arguments: str
    """As they would be written in the call; cut if they are long."""
    iteration: int
    cell: int
    """Where it was made."""
    result: str = ""
    """In words; cut if it is long."""
    error: str = ""
    seconds: float = 0.0
    started: float = 0.0
    finished: bool = False

    @property
    def written(self) -> str:
        """The call as code."""
        return f"{self.tool}({self.arguments})"


@dataclass(slots=True)
class Cell:
    """One piece of model-written code and what came of it."""

    number: int
    code: str
    outputs: list[Output] = field(default_factory=list)
    subcalls: list[Subcall] = field(default_factory=list)
    status: str = "running"
    seconds: float = 0.0
    started: float = 0.0
    changed: tuple[ev.Variable, ...] = ()
    removed: tuple[str, ...] = ()
    tool_calls: list[ToolCall] = field(default_factory=list)

    def text(self, *kinds: str) -> str:
        """The output of these kinds (all without any), joined."""
        return "".join(o.text for o in self.outputs if not kinds or o.kind in kinds)


@dataclass(slots=True)
class Iteration:
    """One turn: what the model was told, what it replied, what its code did."""

    number: int
    prompt: str
    final: bool = False
    reply: str = ""
    thinking: str = ""
    model: str = ""
    usage: Usage = Usage()
    cost: float | None = None
    model_seconds: float = 0.0
    started: float = 0.0
    cells: list[Cell] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    observation: str = ""
    done: bool = False
