"""A sandbox whose state outlives its process, and that is not sent again what it holds already.

What was loaded and run is written down, with the host's answers to what the code asked. A sandbox that died goes on
from a copy of its process, if it left one (`Sandbox.resume`); what is missing then, or everything, is run again
against the written answers, so that no model is asked and no token spent. Of what it holds only values that cannot
change are left out, by identity: a text of 1 GB that the next question is about as well.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rlm_kernel.errors import TransferError
from rlm_kernel.sandbox.answers import Answers, Room
from rlm_kernel.sandbox.base import (
    CellResult,
    DiedError,
    Handler,
    OnChunk,
    RefusedError,
    Sandbox,
    ignore,
    isolation,
    nobody,
)
from rlm_kernel.sandbox.guest.tools import CARRIER

__all__ = ["Journal", "Recovery"]

_IMMUTABLE = (str, bytes, int, float, complex, bool, type(None))
_BROKEN_OFF = ("interrupted", "flooded")


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a sandbox that died goes on."""

    how: Literal["resumed", "replayed", "restarted"]
    """From a copy; by running again what had run; with nothing but the variables that it was given."""
    why: str = ""
    """Why in no better way."""

    def __str__(self) -> str:
        said = {
            "resumed": "The sandbox went on from its last checkpoint; nothing is lost.",
            "replayed": "The sandbox was rebuilt: its cells were run again with the recorded replies.",
            "restarted": "The sandbox was started anew; its state is lost, the inputs are back.",
        }[self.how]
        return f"{said} ({self.why})" if self.why else said


@dataclass(slots=True)
class _Loaded:
    """Variables that were delivered. Objects that allow it are not kept alive for this."""

    values: dict[str, Callable[[], Any]]

    @classmethod
    def of(cls, variables: Mapping[str, Any]) -> _Loaded:
        return cls({name: _reference(value) for name, value in variables.items()})


@dataclass(slots=True)
class _Ran:
    """A cell that ended, and what it was answered."""

    code: str
    status: str = ""
    answers: Answers = field(default_factory=Answers)


class Journal:
    """A `Sandbox` around another one, which can be brought back.

    Args:
        inner: does the work. If it can go on by itself from before its last step it has `resume`; if it knows whether
            it runs it has `alive`; see `Sandbox`.
    """

    def __init__(self, inner: Sandbox) -> None:
        self.inner = inner
        self.news: Recovery | None = None
        """A recovery that `start` found to be needed; whoever tells it takes it away."""
        self._entries: list[_Loaded | _Ran] = []
        self._staged: dict[str, Any] = {}
        self._held: dict[str, Any] = {}
        self._tools: str | None = ""
        """What its tools were made from; None when nobody knows."""
        self._room = Room()
        self._handler: Handler = nobody
        self._done = 0
        """How many of the entries it has, while it is behind."""
        self._why = ""
        self._ended = 0
        """How often it was shut down."""
        self._current: _Ran | None = None
        self._replayed: _Ran | None = None
        self.behind = False
        """The inner sandbox has less than what is written down, and the next `start` brings it back."""

    @property
    def isolation(self) -> str:
        """That of the sandbox inside."""
        return isolation(self.inner)

    async def spawn(self) -> Journal | None:
        """Another sandbox of the same kind, for a child run; None where there is none."""
        return Journal(await self.inner.spawn()) if hasattr(self.inner, "spawn") else None

    # -- the five verbs ---------------------------------------------------------------------------------------
    async def put(self, variables: Mapping[str, Any]) -> None:
        """Stage what is not there yet."""
        if self._entries and not self.behind and not await self._alive():
            await self._resume()
        missing = {k: v for k, v in variables.items() if k not in self._held or self._held[k] is not v}
        await self.inner.put(missing)
        self._staged.update(missing)

    async def equip(self, tools: str) -> None:
        """Stage what the tools of the code are made from (see `guest.tools`), unless it has them."""
        if tools != self._staged.get(CARRIER, self._tools):
            await self.put({CARRIER: tools})

    async def start(self, handler: Handler) -> None:
        """Start and deliver; one that died since is brought back first."""
        self._handler = handler
        staged, self._staged = self._staged, {}
        try:
            await self._deliver(staged)
        except BaseException:  # stopped on the way, even: nobody knows what arrived
            self._held.clear()
            self._tools = None
            raise
        self._tools = staged.get(CARRIER, self._tools)
        if staged:
            self._entries.append(_Loaded.of(staged))
        for name, value in staged.items():
            self._held.pop(name, None)
            if type(value) in _IMMUTABLE:
                self._held[name] = value

    async def _deliver(self, staged: Mapping[str, Any]) -> None:
        ended = self._ended
        if self.behind:
            self.news = await self._rebuild()
            await self.inner.put(staged)
        try:
            await self.inner.start(self._answer)
        except DiedError:  # once more: it may have been killed from outside
            if self._ended != ended:
                raise
            await self._resume()
            self.news = await self._rebuild()
            await self.inner.put(staged)
            await self.inner.start(self._answer)

    async def execute(self, code: str, on_chunk: OnChunk) -> CellResult:
        """Run a cell."""
        self._current = _Ran(code)
        try:
            result = await self.inner.execute(code, on_chunk)
            if result.status != "died":
                self._current.status = result.status
                self._entries.append(self._current)
        finally:
            self._current = None
        for name in (*(v.name for v in result.changed), *result.removed):
            self._held.pop(name, None)
        return result

    def stepped(self, values: Mapping[str, Callable[[], Any]] | None = None) -> None:
        """The inner sandbox was used past this: for a cell that left all as it was, or to deliver these values."""
        self._entries.append(_Ran("", "ok") if values is None else _Loaded(dict(values)))

    async def interrupt(self) -> None:
        """Stop the running cell."""
        await self.inner.interrupt()

    async def shutdown(self) -> None:
        """End it and forget everything."""
        self._ended += 1
        self._entries.clear()
        self._staged.clear()
        self._held.clear()
        self._tools, self._room = "", Room()
        self.behind = False
        await self.inner.shutdown()

    # -- going on ---------------------------------------------------------------------------------------------
    async def recover(self, *, rebuild: bool = True) -> Recovery | None:
        """Bring back the state from before the cell that died, or that does not end.

        Args:
            rebuild: where there is no checkpoint, run the cells again now; else the next `start` will do it.

        Returns:
            How; None if it is yet to be done.

        Raises:
            SandboxError: it cannot be started again.
        """
        await self._resume()
        if self.behind and not rebuild:
            return None
        return await self._rebuild()

    async def _alive(self) -> bool:
        alive: Callable[[], Awaitable[bool]] | None = getattr(self.inner, "alive", None)
        return alive is None or await alive()

    async def _resume(self) -> None:
        """Have the inner sandbox go on, if it can; what is missing then is at the end of the entries."""
        resume: Callable[[], Awaitable[int | None]] | None = getattr(self.inner, "resume", None)
        self.behind, self._done, self._why = True, 0, str(getattr(self.inner, "obstacle", ""))
        done = await resume() if resume is not None else None
        if done is None:
            await self.inner.shutdown()
        else:
            self._done, self.behind = done, done < len(self._entries)

    async def _rebuild(self) -> Recovery:
        """Run again what the inner sandbox lacks.

        Raises:
            SandboxError: it cannot be started again.
        """
        if not self.behind:
            return Recovery("resumed")
        try:
            await self.inner.start(self._answer)
            differing = sum([not await self._again(entry) for entry in self._entries[self._done :]])
            recovery = Recovery("replayed", self._why)
            if differing:
                recovery = Recovery("replayed", f"{differing} of its steps ended otherwise or could not be repeated")
        except (DiedError, TransferError) as error:
            recovery = Recovery("restarted", str(error))
            await self._restart()
        except BaseException:  # stopped, even: the next start begins with this again
            self._done = 0
            await self.inner.shutdown()
            raise
        self.behind = False
        return recovery

    async def _again(self, entry: _Loaded | _Ran) -> bool:
        """Repeat a step. Whether it came out as before."""
        if isinstance(entry, _Loaded):
            values = {name: value for name, kept in entry.values.items() if (value := kept()) is not None}
            await self.inner.put({name: None if value is _NONE else value for name, value in values.items()})
            await self.inner.start(self._answer)
            return len(values) == len(entry.values)
        if entry.status in _BROKEN_OFF:
            return False
        self._replayed = _Ran(entry.code, answers=entry.answers.copy())
        try:
            result = await self.inner.execute(entry.code, ignore)
        finally:
            self._replayed = None
        if result.status == "died":
            raise DiedError("it died again while its cells were run again")
        return result.status == entry.status

    async def _restart(self) -> None:
        """Begin anew with the variables alone."""
        await self.inner.shutdown()
        self._entries = [entry for entry in self._entries if isinstance(entry, _Loaded)]
        await self.inner.start(self._answer)
        for entry in self._entries:
            await self._again(entry)

    # -- answers ----------------------------------------------------------------------------------------------
    async def _answer(self, method: str, params: Mapping[str, Any]) -> Any:
        if self._replayed is not None:
            return self._replayed.answers.again(method, params)
        current = self._current
        try:
            answer = await self._handler(method, params)
        except RefusedError as error:
            if current is not None:
                current.answers.keep_refusal(method, params, str(error))
            raise
        if current is not None:
            current.answers.keep(method, params, answer, self._room)
        return answer


_NONE = object()


def _reference(value: Any) -> Callable[[], Any]:
    """Returns the value as long as it is there; None stands for one that is gone, so it has a stand-in."""
    if value is None:
        return lambda: _NONE
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value
