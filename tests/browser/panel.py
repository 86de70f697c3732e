"""The panel in a page, and runs that go on only when the test says so."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Locator, expect

from tests.notebook import book

__all__ = ["SETUP", "Gates", "Panel", "steps"]

expect.set_options(timeout=15_000)  # a busy machine is slow, and nothing is waited for longer than it takes

SETUP = f'''{book.SETUP}
import asyncio, pathlib, re
from rlm_kernel import Completion, Delta, ModelError, Usage
class Stepwise:
    """Streams each reply up to a ⟦name⟧ and goes on when the folder holds a file of that name.

    Sub-calls that begin with "wait" do the same, those that begin with "fail" fail.
    """
    name = "stepwise"
    def __init__(self, folder, replies):
        self.folder, self.replies = pathlib.Path(folder), list(replies)
    async def until(self, name):
        while not (self.folder / name).exists():
            await asyncio.sleep(0.01)
    async def complete(self, request, on_delta=None):
        asked = request.messages[-1].content
        if request.kind == "sub":
            if asked.startswith("wait"):
                await self.until(asked)
            if asked.startswith("fail"):
                raise ModelError("overloaded")
            return Completion(f"heard: {{asked}}", self.name, Usage(4, 1))
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        pieces = re.split("⟦(.*?)⟧", reply)
        for piece, name in zip(pieces[::2], [*pieces[1::2], None]):
            if piece and on_delta:
                on_delta(Delta(piece))
            if name:
                await self.until(name)
        return Completion("".join(pieces[::2]), self.name, Usage(90, 10))
    async def close(self):
        pass
'''


class Gates:
    """Places in a run where it waits: `⟦name⟧` in a reply, a sub-call "wait name", or this code in the sandbox."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o755)  # the sandbox's user looks as well

    def code(self, name: str) -> str:
        """A line of code that ends when the gate is open."""
        path = str(self.folder / name)
        return f"while not __import__('os').path.exists({path!r}): __import__('time').sleep(0.01)"

    def open(self, name: str) -> None:
        """Let what waits there go on."""
        (self.folder / name).touch()


def steps(gates: Gates, *replies: str) -> str:
    """The source that makes these the model's replies; `!words` is one that fails."""
    made = [f"ModelError({r[1:]!r})" if r.startswith("!") else repr(r) for r in replies]
    shown = f"shown.prefixes = lambda: [*prefixes(), {str(gates.folder)!r}]"  # so that code in the sandbox sees gates
    return (
        f"model = Stepwise({str(gates.folder)!r}, [{', '.join(made)}])\nconfigure(model=model, sub_model=model)\n"
        f"from rlm_kernel.sandbox.isolation import provisioner as shown\n"
        f"from rlm_kernel.sandbox.isolation.policy import prefixes\n{shown}"
    )


class Panel:
    """What a person finds in a panel; `within` is where to look for it."""

    def __init__(self, within: Locator) -> None:
        self.el = within.locator(".rlm")
        self.badge = self.el.locator(".rlm-badge")
        self.stop = self.el.get_by_role("button", name="Stop")
        self.told = self.el.locator(".rlm-told")
        self.list = self.el.locator(".rlm-list")
        self.jump = self.el.get_by_role("button", name="Follow")
        self.iterations = self.list.locator(":scope > .rlm-run > .rlm-it")
        self.rows = self.el.locator(".rlm-row")
        self.detail = self.el.locator(".rlm-detail")

    def iteration(self, number: int) -> Locator:
        """The line and the body of one."""
        return self.list.locator(f":scope > .rlm-run > .rlm-it[data-n='{number}']")

    def stat(self, name: str) -> Locator:
        """A value of the header: `iteration`, `time`, `tokens`, `cost` or `sub-calls`."""
        return self.el.locator(".rlm-stats div", has=self.el.page.get_by_text(name, exact=True)).locator("dd")

    def open_ones(self, *numbers: int) -> None:
        """Wait until these iterations are open and no others."""
        expect(self.list.locator(":scope > .rlm-run > .rlm-it[open]")).to_have_count(len(numbers))
        for number in numbers:
            expect(self.iteration(number)).to_have_attribute("open", "")

    def scroll_top(self) -> float:
        """Where the list of iterations is scrolled to."""
        return float(self.list.evaluate("list => list.scrollTop"))
