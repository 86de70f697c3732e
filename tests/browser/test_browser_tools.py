"""Calls of tools in the panel: seen as they happen, read one by one, and there again in a run that is shown later."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Opens
from tests.browser.panel import SETUP, Gates, Panel, steps

TOOLS = '''
import pathlib, time
def wait(name: str) -> str:
    """Wait until the file is there."""
    while not (pathlib.Path({folder!r}) / name).exists():
        time.sleep(0.01)
    return f"{{name}} is there"
def fails(n: int) -> None:
    raise LookupError(f"no entry {{n}}")
'''


def test_calls_of_tools_are_seen_as_they_happen(notebook: Opens, gates: Gates) -> None:
    """Below the sub-calls, in a list of their own: what was called, and what it returned or raised; all on a click."""
    cell = "llm_query('short')\nwait('one')\ntry:\n    fails(3)\nexcept LookupError:\n    pass\nwait(name='two')"
    setup = (
        SETUP
        + TOOLS.format(folder=str(gates.folder))
        + steps(gates, f"I call.\n\n```repl\n{cell}\n```", "⟦end⟧Done.\n\n```repl\nSUBMIT('so')\n```")
    )
    again = "%rlm trajectory"
    page = notebook([setup, "%%rlm --tools wait,fails -> answer\nWhich is it?", again])
    page.run(0)
    page.wait_idle()
    page.run(1)
    panel = Panel(page.cell(1))
    lists = panel.el.locator(".rlm-sub")
    expect(lists).to_have_count(2)
    expect(lists.nth(1).locator("> summary")).to_have_text("0 of 1 tool call done")
    tools = lists.nth(1).locator(".rlm-row")
    expect(tools).to_contain_text("wait('one')")
    expect(tools).to_contain_text("waiting")
    gates.open("one")
    expect(tools.nth(0)).to_contain_text("one is there")
    expect(tools.nth(1)).to_contain_text("LookupError: no entry 3")
    expect(lists.nth(1).locator("> summary")).to_have_text("2 of 3 tool calls done, 1 failed")
    expect(lists.nth(0).locator("> summary")).to_have_text("1 sub-call")
    expect(panel.stat("tool calls")).to_have_text("3")
    tools.nth(0).click()
    detail = lists.nth(1).locator(".rlm-detail")
    expect(detail).to_contain_text("called")
    expect(detail).to_contain_text("wait('one')")
    expect(detail).to_contain_text("returned")
    gates.open("two")
    gates.open("end")
    page.wait_idle()
    expect(page.output(1).first).to_contain_text("3 tool calls")

    page.run(2)
    shown = Panel(page.cell(2))
    shown.iterations.first.locator("summary").first.click()
    rows = shown.el.locator(".rlm-sub").nth(1).locator(".rlm-row")
    expect(rows).to_have_count(3)
    rows.nth(1).click()
    expect(shown.detail.nth(1)).to_contain_text("LookupError: no entry 3")
    shown.el.locator("details.rlm-vars > summary").first.click()
    expect(shown.el).to_contain_text("Tools: wait(name: str) -> str; fails(n: int) -> None")
    expect(shown.el).to_contain_text("The code can have wait, fails called in the notebook's process")
    assert page.errors == []
