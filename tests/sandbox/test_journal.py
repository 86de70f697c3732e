"""What a journal brings back after a death, on sandboxes without a kernel."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from rlm_kernel.errors import SandboxError
from rlm_kernel.sandbox.base import CellResult, DiedError, OnChunk, RefusedError
from rlm_kernel.sandbox.fake import FakeSandbox
from rlm_kernel.sandbox.journal import Journal


class Mortal(FakeSandbox):
    """Dies of `die`, and is dead from then on; goes on from the step `copied` if there is one.

    Attributes:
        copied: what `resume` says; its namespace is kept then, as a copy would keep it.
    """

    def __init__(self, copied: int | None = None) -> None:
        super().__init__()
        self.copied = copied
        self.dead = False
        self.obstacle = "no copy today"

    async def alive(self) -> bool:
        return not self.dead

    async def resume(self) -> int | None:
        if self.copied is not None:
            self.dead = False
        return self.copied

    async def shutdown(self) -> None:
        self.dead = False
        await super().shutdown()

    async def start(self, handler: Any) -> None:
        if self.dead:
            raise DiedError("dead")
        await super().start(handler)

    async def execute(self, code: str, on_chunk: OnChunk) -> CellResult:
        if code == "die" or self.dead:
            self.dead = True
            return CellResult("died")
        return await super().execute(code, on_chunk)


class Told:
    """A handler that numbers its answers, and refuses what ends in `!`."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, method: str, params: Mapping[str, Any]) -> Any:
        (prompt,) = params["prompts"]
        self.asked.append(prompt)
        if prompt.endswith("!"):
            raise RefusedError("not that")
        return [{"text": f"{prompt}{len(self.asked)}"}]


def played(work: Callable[[Journal, Told], Awaitable[None]], inner: Any = None) -> Any:
    """Run a test's coroutine on a fresh journal; returns the sandbox inside."""
    sandbox = inner or Mortal()

    async def main() -> None:
        journal = Journal(sandbox)
        try:
            await work(journal, Told())
        finally:
            await journal.shutdown()

    asyncio.run(main())
    return sandbox


async def said(journal: Journal, code: str) -> str:
    """What a cell prints as its last line."""
    shown: list[str] = []
    result = await journal.execute(code, lambda chunk: shown.append(chunk.text))
    assert result.status == "ok", shown
    return "".join(shown).strip()


def test_nothing_is_asked_again() -> None:
    """Replies and refusals are those that were given, each for its own question, in order."""

    async def work(journal: Journal, told: Told) -> None:
        await journal.put({"x": 1})
        await journal.start(told)
        await said(journal, "a = [llm_query('p'), llm_query('p'), llm_query('q')]")
        await said(journal, "try: llm_query('no!')\nexcept SubcallError as error: b = str(error)")
        before = await said(journal, "print(x, a, b)")
        await journal.execute("die", print)
        recovery = await journal.recover()
        assert recovery is not None
        assert (recovery.how, recovery.why) == ("replayed", "no copy today")
        assert await said(journal, "print(x, a, b)") == before == "1 ['p1', 'p2', 'q3'] not that"
        assert told.asked == ["p", "p", "q", "no!"]

    played(work)


def test_only_what_a_copy_lacks_is_run_again() -> None:
    """Deliveries and cells count as steps; those that the copy holds are not repeated."""

    async def work(journal: Journal, told: Told) -> None:
        await journal.put({"x": 1})
        await journal.start(told)
        await said(journal, "a = 1")
        await said(journal, "b = llm_query('p')")
        await journal.execute("die", print)
        recovery = await journal.recover()
        assert recovery is not None
        assert recovery.how == "replayed"
        assert await said(journal, "print(x, a, b)") == "1 1 p1"

    assert played(work, Mortal(copied=2)).cells == ["a = 1", *["b = llm_query('p')"] * 2, "print(x, a, b)"]


def test_a_copy_that_has_all() -> None:
    """Nothing is run again."""

    async def work(journal: Journal, told: Told) -> None:
        await journal.start(told)
        await said(journal, "a = 1")
        await journal.execute("die", print)
        recovery = await journal.recover()
        assert str(recovery) == "The sandbox went on from its last checkpoint; nothing is lost."

    assert played(work, Mortal(copied=1)).cells == ["a = 1"]


def test_what_was_broken_off_is_not_repeated() -> None:
    """It might run for ever; the user is told that a step is missing."""

    class Interrupted(Mortal):
        async def execute(self, code: str, on_chunk: OnChunk) -> CellResult:
            result = await super().execute(code, on_chunk)
            return CellResult("interrupted") if code == "half = 1" else result

    async def work(journal: Journal, told: Told) -> None:
        await journal.start(told)
        await journal.execute("half = 1", print)
        await said(journal, "a = 1")
        await journal.execute("die", print)
        recovery = await journal.recover()
        assert recovery is not None
        assert "1 of its steps" in recovery.why
        assert await said(journal, "print(a, 'half' in globals())") == "1 False"

    played(work, Interrupted())


def test_values_are_not_kept_alive() -> None:
    """One that the notebook has let go is missing after a rebuild, and its absence is told."""

    class Big(list[int]):
        pass

    async def work(journal: Journal, told: Told) -> None:
        big = Big([1, 2])
        await journal.put({"big": big, "none": None})
        await journal.start(told)
        kept = weakref.ref(big)
        del big
        gc.collect()
        assert kept() is None
        await journal.execute("die", print)
        recovery = await journal.recover()
        assert recovery is not None
        assert "1 of its steps" in recovery.why
        assert await said(journal, "print(none, 'big' in globals())") == "None False"

    played(work)


def test_rebuilding_can_wait_for_the_next_start() -> None:
    """A run that ends here does not wait for it; the next one finds everything, and learns what happened."""

    async def work(journal: Journal, told: Told) -> None:
        await journal.put({"x": 1})
        await journal.start(told)
        await said(journal, "a = llm_query('p')")
        await journal.execute("die", print)
        assert await journal.recover(rebuild=False) is None
        assert journal.behind
        await journal.put({"y": 2, "x": 1})
        await journal.start(told)
        assert not journal.behind
        assert journal.news is not None
        assert await said(journal, "print(x, y, a)") == "1 2 p1"
        assert told.asked == ["p"]

    played(work)


def test_a_death_between_two_questions() -> None:
    """It is found out when the next variables are staged, and mended before they arrive."""

    async def work(journal: Journal, told: Told) -> None:
        await journal.put({"x": 1})
        await journal.start(told)
        await said(journal, "a = x + 1")
        journal.inner.dead = True  # type: ignore[attr-defined]  # a Mortal
        await journal.put({"x": 5})
        await journal.start(told)
        assert await said(journal, "print(x, a)") == "5 2"

    played(work)


def test_a_stop_while_it_is_rebuilt() -> None:
    """Whoever is told to stop leaves an ended sandbox behind; the next start begins again from the beginning."""

    async def work(journal: Journal, told: Told) -> None:
        await journal.start(told)
        await said(journal, "a = 1")
        await said(journal, "import time; time.sleep(0.3); b = 2")
        await journal.execute("die", print)
        recovering = asyncio.ensure_future(journal.recover())
        await asyncio.sleep(0.1)
        recovering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await recovering
        assert journal.behind
        await journal.start(told)
        assert await said(journal, "print(a, b)") == "1 2"

    played(work)


def test_a_sandbox_that_cannot_start_again() -> None:
    """The error is the sandbox's own."""

    class Once(Mortal):
        async def start(self, handler: Any) -> None:
            if self.starts:
                raise SandboxError("no memory")
            await super().start(handler)

    async def work(journal: Journal, told: Told) -> None:
        await journal.start(told)
        await journal.execute("die", print)
        with pytest.raises(SandboxError, match="no memory"):
            await journal.recover()

    played(work, Once())


def test_a_sandbox_without_any_of_it() -> None:
    """The five verbs are enough: what has run is run again."""

    class Plain:
        def __init__(self) -> None:
            self.inner = FakeSandbox()

        def __getattr__(self, name: str) -> Any:
            if name in ("put", "start", "interrupt", "shutdown"):
                return getattr(self.inner, name)
            raise AttributeError(name)

        async def execute(self, code: str, on_chunk: OnChunk) -> CellResult:
            if code == "die":
                await self.inner.shutdown()
                return CellResult("died")
            return await self.inner.execute(code, on_chunk)

    async def work(journal: Journal, told: Told) -> None:
        await journal.put({"x": 1})
        await journal.start(told)
        await said(journal, "a = llm_query('p')")
        await journal.execute("die", print)
        assert str(await journal.recover()).startswith("The sandbox was rebuilt: its cells were run again")
        assert await said(journal, "print(x, a)") == "1 p1"

    played(work, Plain())
