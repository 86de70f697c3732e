"""What a sandbox is to the rest of the package: five verbs and the requests it forwards.

Implement `Sandbox` to run model-written code somewhere else (a VM, a container, another machine) and hand an instance
to `RLM(..., sandbox=...)`. `rlm_kernel.FakeSandbox` is the smallest complete example.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from rlm_kernel.errors import InputError, SandboxError
from rlm_kernel.events import Variable

__all__ = [
    "MAX_FILES",
    "CellResult",
    "Chunk",
    "DiedError",
    "Handler",
    "HasFiles",
    "OnChunk",
    "RefusedError",
    "Sandbox",
    "ScratchFile",
    "ignore",
    "isolation",
    "nobody",
    "with_files",
]

MAX_FILES = 1000
"""As many files of a sandbox are listed, and can be copied at once."""


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

    status: Literal["ok", "error", "interrupted", "died", "flooded", "timeout"]
    """`died`: the sandbox is gone, and its state unless it can `resume`. `flooded`: stopped for putting out more than
    it may. `timeout`: stopped for using more time of the processor than it may."""
    changed: tuple[Variable, ...] = ()
    removed: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    """Reserved names that the code had overwritten."""
    why: str = ""
    """What it was stopped for, in a sentence for the model."""
    detail: str = ""
    """Of one that died: why, as far as that is known."""


class DiedError(SandboxError):
    """The sandbox ended while something was done to it that is no cell."""


@dataclass(frozen=True, slots=True)
class ScratchFile:
    """A file that the code wrote."""

    name: str
    """Its path within the scratch folder, with `/`; what cannot be printed is escaped."""
    size: int
    """Bytes."""
    modified: datetime
    """In UTC, as the code has it."""
    refused: str = ""
    """Why it cannot be copied; empty when it can."""


class RefusedError(Exception):
    """The host's answer to a request is no; the text reaches the model."""


Handler = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Answers one request of the sandbox: (method, params) -> JSON-able value; raises RefusedError.

Methods: `llm_query` and `llm_batch` (params `prompts`, `model`), `rlm_query` and `rlm_batch` (params `calls`, `shared`,
`model`, `outputs`; see `guest.children`), `tool` (params `tool`, its name, and `arguments`, as JSON) and `submit`
(params `fields`, `values`), with values as `guest.wire` encodes them, `save` (see
`guest.saving`).
"""


def isolation(sandbox: object) -> str:
    """What is kept from a sandbox's code, in words: its own, if it has an attribute `isolation`."""
    return str(getattr(sandbox, "isolation", f"as {type(sandbox).__name__} does it; rlm_kernel adds nothing"))


@runtime_checkable
class HasFiles(Protocol):
    """What a sandbox may offer besides the verbs of `Sandbox`: the files that its code wrote."""

    async def files(self) -> Sequence[ScratchFile]:
        """What there is, by name; at most `MAX_FILES`.

        Raises:
            InputError: it does not run, so there are none.
        """
        ...

    async def copy_files(self, names: Sequence[str], to: Path, *, force: bool = False) -> Sequence[Path]:
        """Copy files to the same names below the folder `to`, which is made where it is missing.

        Also while a cell runs. Only regular files with printable names; without their rights to be run. All are checked
        before the first is copied.

        Args:
            names: as `files` has them.
            to: of the host.
            force: overwrite what is there.

        Returns:
            The copies.

        Raises:
            InputError: one of them cannot be copied; the message names it.
        """
        ...


def with_files(sandbox: object) -> HasFiles:
    """The sandbox, for its files.

    Raises:
        InputError: it offers none.
    """
    if not isinstance(sandbox, HasFiles):
        raise InputError(f"{type(sandbox).__name__} shows no files: hand them in as the answer, or print them")
    return sandbox


def ignore(_chunk: Chunk) -> None:
    """Takes output that is of no interest."""


async def nobody(_method: str, _params: Mapping[str, Any]) -> Any:
    """Answers while no run goes on: with a refusal."""
    raise RefusedError("no question is being answered")


@runtime_checkable
class Sandbox(Protocol):
    """Where model-written code runs. All verbs are called from one asyncio loop, one at a time but for `interrupt`.

    A sandbox may have more, all of it optional:

    - `isolation: str`: what is kept from the code and what is not, in words.
    - `async def alive(self) -> bool`: whether it runs this very moment; else it is found out by the next cell.
    - `async def resume(self) -> int | None`: called when a cell died or does not end. Ends what is left of the sandbox
      and goes on from a copy that was made earlier. Returns how many steps (deliveries by `start` and cells that ended,
      counted since the first `start`) the copy holds; None when there is none. `obstacle: str` then says why.
    - `files` and `copy_files`, as `HasFiles` has them.
    - `async def spawn(self) -> Sandbox`: another one of the same kind for a child run, not started, whose code is kept
      apart no less. It is handed `sealed.Sealed` variables. Without it `rlm_query` becomes a plain sub-call.
    - a variable `__rlm__` of the code, whose attribute `repl` is a `guest.repl.Repl`: then its variables can be saved.

    Tools come by `put` too, as a variable `guest.tools.CARRIER`, from which `guest.repl.Repl` makes the functions.
    """

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
