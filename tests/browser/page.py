"""A notebook in a page of a browser, used as a person uses it."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any, Literal

import nbformat
from playwright.sync_api import BrowserContext, Locator, Page, TimeoutError, expect

from tests.browser.lab import Server

__all__ = ["Front", "NotebookPage"]

Front = Literal["lab", "notebook"]

_LOAD_MILLISECONDS = 60_000
_NOISE = (  # Notebook 7 by itself, with nothing but a plain cell
    "Cannot read properties of undefined (reading 'schema')",
    "Command 'filebrowser:open-path' not registered.",
)

_KERNEL = "jupyterapp.shell.currentWidget?.context?.sessionContext?.session?.kernel"
_IDLE = f"() => {_KERNEL}?.status === 'idle'"
"""The indicator in the toolbar says so too early, before the notebook has a kernel at all."""
_ASK_UNTIL_IDLE = f"""() => {{
  const kernel = {_KERNEL};
  if (kernel?.connectionStatus !== "connected") return false;
  if (kernel.status === "idle") return true;
  kernel.requestKernelInfo().catch(() => null);
  return false;
}}"""
"""A kernel's first word is now and then lost, and its state stays "unknown" until it is asked something."""

_ANSWERS = f"""async () => {{
  const runs = {_KERNEL}.requestExecute({{ code: "", silent: true }}).done.then(() => true, () => false);
  return await Promise.race([runs, new Promise((late) => setTimeout(late, 5000, false))]);
}}"""

_OLDER_KERNEL_TRIES = 4
"""Before 7.4, ipykernel can lose a request that comes while it sends a reply, and from then on it answers none. A new
page sends many at once: about one new kernel in fifty is lost, and another one has to be started."""

_count = itertools.count()


class NotebookPage:
    """A new notebook with these cells, open in JupyterLab or in Notebook 7, with its kernel at rest; `close` it."""

    def __init__(
        self,
        context: BrowserContext,
        server: Server,
        cells: list[str],
        *,
        front: Front = "lab",
        kernel: str = "python3",
    ) -> None:
        self.server = server
        self.front = front
        self.path = server.write(f"book{next(_count)}.ipynb", cells, kernel=kernel)
        self.errors: list[str] = []
        """What the page has written to the browser's console as errors, and exceptions nobody caught."""
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self._note(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self._note(str(error)))
        self.page.on("dialog", lambda dialog: dialog.accept())  # leave the page, saved or not
        tree = "lab/tree" if front == "lab" else "notebooks"
        query = "?reset" if front == "lab" else ""
        self.page.goto(f"{server.url}/{tree}/{self.path.name}{query}", timeout=_LOAD_MILLISECONDS)
        self._wait_until_shown()
        if kernel == "python3":
            self._wait_for_kernel(_LOAD_MILLISECONDS)
        else:
            self._wait_for_older_kernel()
        self.wait_idle()

    def close(self) -> None:
        """Close the page; the kernel stays with the server."""
        self.page.close()

    @property
    def view(self) -> Locator:
        """The notebook, the first one if the page shows several views of it."""
        return self.page.locator(".jp-NotebookPanel").first

    def cell(self, index: int) -> Locator:
        """A cell with its input and output."""
        return self.view.locator(".jp-Notebook .jp-Cell").nth(index)

    def output(self, index: int) -> Locator:
        """All that a cell has put out."""
        return self.cell(index).locator(".jp-OutputArea-output")

    def prompt(self, index: int) -> str:
        """What stands before a cell's input: `[ ]:`, `[*]:` or `[3]:`."""
        return self.cell(index).locator(".jp-InputPrompt").first.inner_text().strip()

    def run(self, index: int) -> None:
        """Have a cell run, and wait only until the page has sent it."""
        before = self.prompt(index)
        self.cell(index).locator(".jp-InputArea-editor").click()
        expect(self.cell(index).locator(".cm-content")).to_be_focused(timeout=10_000)
        self.page.keyboard.press("Shift+Enter")
        expect(self.cell(index).locator(".jp-InputPrompt").first).not_to_have_text(before, timeout=10_000)

    def wait_idle(self, seconds: float = 60) -> None:
        """Return when no cell waits or runs."""
        starred = self.view.locator(".jp-InputPrompt", has_text="[*]")
        expect(starred).to_have_count(0, timeout=seconds * 1000)
        self.page.wait_for_function(_IDLE, timeout=seconds * 1000)

    def interrupt(self) -> None:
        """Press ■."""
        self.view.locator("[data-command='notebook:interrupt-kernel']").click()

    def save(self) -> None:
        """Have the notebook's file written, and wait for it."""
        before = self.path.stat().st_mtime_ns
        self.command("docmanager:save")
        while self.path.stat().st_mtime_ns == before:
            self.page.wait_for_timeout(20)

    def reload(self) -> None:
        """Load the page anew; returns when the notebook is shown, its kernel idle or not."""
        self.page.reload(timeout=_LOAD_MILLISECONDS)
        self._wait_until_shown()

    def restart_kernel(self) -> None:
        """Restart and wait for the new one; outputs stay as they are."""
        self.page.evaluate("() => { window.restarted = jupyterapp.commands.execute('notebook:restart-kernel') }")
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        self.page.evaluate("() => window.restarted.then(() => null)")
        self.wait_idle()

    def command(self, name: str, **arguments: Any) -> None:
        """Execute one of the application's commands, as its menus do."""
        self.page.evaluate("([n, a]) => window.jupyterapp.commands.execute(n, a).then(() => null)", [name, arguments])

    def _wait_for_kernel(self, milliseconds: float) -> None:
        self.page.wait_for_function(_ASK_UNTIL_IDLE, timeout=milliseconds, polling=500)

    def _wait_for_older_kernel(self) -> None:
        for _ in range(_OLDER_KERNEL_TRIES):
            with contextlib.suppress(TimeoutError):
                self._wait_for_kernel(_LOAD_MILLISECONDS / 2)
                if self.page.evaluate(_ANSWERS):
                    return
            self.server.shut_kernels_down()
            self.errors.clear()  # the page's complaints about the kernel that was lost
            self.reload()
        raise AssertionError(f"{_OLDER_KERNEL_TRIES} kernels in a row answered nothing")

    def saved_outputs(self, index: int) -> list[dict[str, Any]]:
        """A cell's outputs as they are in the notebook's file."""
        book: Any = nbformat.read(self.path, as_version=4)  # type: ignore[no-untyped-call]
        return list(book.cells[index].outputs)

    def _wait_until_shown(self) -> None:
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=_LOAD_MILLISECONDS)
        self.page.evaluate("() => jupyterapp.restored.then(() => null)")

    def _note(self, error: str) -> None:
        if not any(noise in error for noise in _NOISE):
            self.errors.append(error)
