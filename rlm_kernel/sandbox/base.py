"""What a sandbox is to the rest of the package: five verbs and the requests it forwards.

Implement `Sandbox` to run model-written code somewhere else (a VM, a container, another machine) and hand an instance
to `RLM(..., sandbox=...)`. `rlm_kernel.FakeSandbox` is the smallest complete example.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from rlm_kernel.events import Variable

__all__ = ["CellResult", "Chunk", "Handler", "OnChunk", "RefusedError", "Sandbox"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a cell's output, as it arrives. Hostile text."""

    kind: Literal["stdout", "stderr", "display", "result", "error"]
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    """The MIME bundle of a display or result."""


OnChunk = Callable[[Chunk], None]


@dataclass(frozen=True, slots=True)
class CellResult:
    """How a cell ended."""

    status: Literal["ok", "error", "interrupted", "died", "flooded"]
    """`died`: the sandbox is gone, with its state. `flooded`: stopped for printing more than it may."""
    changed: tuple[Variable, ...] = ()
    removed: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    """Reserved names that the code had overwritten."""


class RefusedError(Exception):
    """The host's answer to a request is no; the text reaches the model."""


Handler = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Answers one request of the sandbox: (method, params) -> JSON-able value; raises RefusedError.

Methods: `llm_query` and `llm_batch` (params `prompts`, `model`), `submit` (params `fields`, `values`, as `guest.wire`
encodes them).
"""


@runtime_checkable
class Sandbox(Protocol):
    """Where model-written code runs. All verbs are called from one asyncio loop, one at a time but for `interrupt`."""

    async def put(self, variables: Mapping[str, Any]) -> None:
        """Check and stage variables; they are in the namespace once `start` returns.

        Raises:
            TransferError: a variable cannot travel. Nothing was staged or started.
        """
        ...

    async def start(self, handler: Handler) -> None:
        """Start unless running, and deliver what was put. `handler` answers the requests from now on.

        Raises:
            SandboxError: it cannot be started; whatever was started for it is gone again.
        """
        ...

    async def execute(self, code: str, on_chunk: OnChunk) -> CellResult:
        """Run one cell to its end, passing output on as it comes. Never raises for what the code does."""
        ...

    async def interrupt(self) -> None:
        """Stop the running cell, keeping the state. Returns at once; `execute` returns when the cell has ended."""
        ...

    async def shutdown(self) -> None:
        """End it and remove whatever it left. Safe to call twice; `start` works again afterwards, with no state."""
        ...
