"""What the tests of the upper rooms share: short ways to run a question without a kernel and without a provider."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlm_kernel import config
from rlm_kernel import events as ev
from rlm_kernel.calls import Calls, Standing, Tree
from rlm_kernel.config import Options
from rlm_kernel.loop import Run
from rlm_kernel.models import Completion, Model, Request, ScriptedModel
from rlm_kernel.sandbox.base import CellResult, OnChunk
from rlm_kernel.sandbox.fake import FakeSandbox
from rlm_kernel.sandbox.guest.describe import describe
from rlm_kernel.sandbox.journal import Journal
from rlm_kernel.signature import Signature
from rlm_kernel.task import Task
from rlm_kernel.trajectory import Trajectory

__all__ = [
    "Counting",
    "Dying",
    "Hanging",
    "Played",
    "Unstartable",
    "code",
    "defaults_restored",
    "in_loop",
    "play",
    "released",
]

_runner = asyncio.Runner()  # one loop for all: a sandbox outlives a run
atexit.register(_runner.close)
in_loop = _runner.run
"""`asyncio.run` on the one loop of these tests."""
released = threading.Event()
"""Code that ignores interrupts runs until this is set: `released` of this module, imported in the cell."""

STUBBORN = """\
import tests.helpers
while not tests.helpers.released.is_set():
    try:
        tests.helpers.released.wait(0.01)
    except BaseException:
        pass
"""
"""A cell that no interrupt can end."""
ENDLESS = "import time\nwhile True: time.sleep(0.005)"
"""A cell that runs until it is interrupted."""


def code(*blocks: str) -> str:
    """A reply with these blocks."""
    return "\n".join(f"```repl\n{block}\n```" for block in blocks)


@contextlib.contextmanager
def defaults_restored() -> Iterator[None]:
    """What `configure` sets inside is forgotten afterwards."""
    before, config._configured = config._configured, None
    try:
        yield
    finally:
        config._configured = before


class Hanging:
    """A model that passes requests on, but never answers the root requests of these numbers (from 1)."""

    def __init__(self, model: ScriptedModel, *numbers: int) -> None:
        self.model, self.name = model, model.name
        self.asked, self.cancelled = 0, 0
        self._numbers = numbers

    async def complete(self, request: Request, on_delta: Any = None) -> Completion:
        """Answer, or wait for ever."""
        if request.kind == "root":
            self.asked += 1
            if self.asked in self._numbers:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
        return await self.model.complete(request, on_delta)

    async def close(self) -> None:
        """Nothing to release."""


class Counting:
    """A fake sandbox that notes what is put into it."""

    def __init__(self) -> None:
        self.inner = FakeSandbox()
        self.puts: list[dict[str, Any]] = []
        self.packing: asyncio.Event | None = None
        """When set: `put` waits for it."""
        self.running = 0
        self.most_running = 0

    async def put(self, variables: Mapping[str, Any]) -> None:
        """Note the variables."""
        self.puts.append(dict(variables))
        if self.packing is not None:
            await self.packing.wait()
        await self.inner.put(variables)

    async def start(self, handler: Any) -> None:
        """As the fake does."""
        await self.inner.start(handler)

    async def execute(self, source: str, on_chunk: OnChunk) -> CellResult:
        """As the fake does."""
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self.inner.execute(source, on_chunk)
        finally:
            self.running -= 1

    async def interrupt(self) -> None:
        """As the fake does."""
        await self.inner.interrupt()

    async def shutdown(self) -> None:
        """As the fake does."""
        await self.inner.shutdown()


class Dying(FakeSandbox):
    """Its process ends whenever a cell says `die`."""

    async def execute(self, source: str, on_chunk: OnChunk) -> CellResult:
        """Run, or die."""
        if source.strip() == "die":
            await self.shutdown()
            return CellResult("died")
        return await super().execute(source, on_chunk)


class Unstartable(FakeSandbox):
    """Fails the starts of these numbers (from 1) with an error."""

    def __init__(self, error: Exception, *numbers: int) -> None:
        super().__init__()
        self._error, self._numbers, self._tried = error, numbers or (1,), 0

    async def start(self, handler: Any) -> None:
        """Fail, or start."""
        self._tried += 1
        if self._tried in self._numbers:
            raise self._error
        await super().start(handler)


@dataclass
class Played:
    """A run that is over."""

    model: ScriptedModel
    sandbox: Any
    events: list[ev.Event] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def trajectory(self) -> Trajectory:
        """Folded from the events."""
        return Trajectory.fold(self.events)

    @property
    def roots(self) -> list[Request]:
        """What the model was asked."""
        return [r for r in self.model.requests if r.kind == "root"]

    @property
    def told(self) -> list[str]:
        """The last message of each request of the loop."""
        return [r.messages[-1].content for r in self.roots]

    @property
    def kinds(self) -> list[str]:
        """The events' kinds, streamed text left out."""
        return [type(e).__name__ for e in self.events if not isinstance(e, ev.ModelDelta)]


def play(
    replies: Sequence[Any],
    signature: str = "-> answer: str",
    *,
    question: str = "What is it?",
    sub: Any = None,
    variables: Mapping[str, Any] | None = None,
    sandbox: Any = None,
    on: Callable[[Run, ev.Event], None] | None = None,
    hang: Sequence[int] = (),
    namespace: Mapping[str, Any] | None = None,
    name: str = "scripted",
    wrap: Callable[[Model], Model] | None = None,
    **options: Any,
) -> Played:
    """One run of the loop with scripted replies, in a fake sandbox unless another is given.

    `on` is called with every event and may stop the run; `hang` are the model calls that never return; `name` is the
    model's, which has a price or not; `wrap` puts something around it, or in its place.
    """
    given = dict(variables or {})
    scripted = ScriptedModel(list(replies), sub=sub, name=name)
    model: Model = Hanging(scripted, *hang) if hang else scripted
    model = wrap(model) if wrap is not None else model
    played = Played(scripted, FakeSandbox() if sandbox is None else sandbox)

    async def main() -> None:
        described = tuple(ev.Variable(name, *describe(value)) for name, value in given.items())
        task = Task(question, Signature.parse(signature, namespace), described, Options().merged(options))

        def take(event: ev.Event) -> None:
            played.events.append(event)
            if on is not None:
                on(run, event)

        journal = Journal(played.sandbox)
        await journal.put(given)
        run = Run(task, model, Tree({None: model, model.name: model}, task.options), journal, take)
        try:
            await run.go()
        except BaseException as error:
            played.error = error

    _runner.run(main())
    return played


def end(played: Played) -> None:
    """End the sandbox of a run, where it is a real one."""
    _runner.run(played.sandbox.shutdown())


def with_calls(
    work: Callable[[Calls], Awaitable[Any]],
    *,
    model: Any = None,
    models: Mapping[str | None, Any] | None = None,
    signature: str = "-> answer: str",
    **options: Any,
) -> tuple[Any, list[tuple[str, dict[str, Any]]]]:
    """Have `work` use a `Calls` of its own; what it returned, and the events as (kind, facts)."""
    from rlm_kernel.budget import Ledger

    emitted: list[tuple[str, dict[str, Any]]] = []

    async def main() -> Any:
        asked = model if model is not None else ScriptedModel([], sub=str.upper)
        known = models if models is not None else {None: asked, asked.name: asked}
        given = Options().merged(options)
        standing = Standing(
            Tree(known, given), Ledger(given), lambda kind, **facts: emitted.append((kind.__name__, facts))
        )
        task = Task("?", Signature.parse(signature), (), given)
        return await work(Calls(standing, task, _childless))

    return asyncio.run(main()), emitted


async def _childless(*_: Any) -> None:
    """There is no sandbox for a child."""
