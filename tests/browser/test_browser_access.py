"""The panel without a mouse, and for eyes that need contrast."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Opens
from tests.browser.page import NotebookPage
from tests.browser.panel import SETUP, Gates, Panel, steps

ASK = "%%rlm -> answer\nWhich is it?"
SHOW = "rlm_result.trajectory.show()"
REPLY = """I look at **the rows** and `hours`, see [this](https://example.org).

1. one
2. two

> said

```repl
import sys
from IPython.display import HTML, display
class Odd(Exception):  # a comment
    @property
    def words(self):
        return f"{len(self.args)} and {self.args!r}"
for n in range(60):
    print("line", n)
print("beware", file=sys.stderr)
display(HTML("<table><tr><th>city</th><th>n</th></tr><tr><td>Uppsala</td><td>5</td></tr></table>"))
asked = llm_batch(["short", "fail b", "wait c"])
```
"""
FAILS = "Then an error.\n\n```repl\n1 / 0\n```"
LAST = "```repl\nSUBMIT(answer='**so**')\n```"
FOCUSED = """() => {
    const el = document.activeElement;
    return el.closest(".rlm") ? el.className.split(" ")[0] || el.tagName.toLowerCase() : "";
}"""


def begun(notebook: Opens, gates: Gates, cells: tuple[str, ...] = ()) -> tuple[NotebookPage, Panel]:
    """A run that waits for its third sub-call, in Notebook 7, whose page can be narrow."""
    page = notebook([SETUP + steps(gates, REPLY, FAILS, LAST), ASK, *cells], front="notebook")
    page.run(0)
    page.wait_idle()
    page.run(1)
    panel = Panel(page.cell(1))
    expect(panel.el.locator(".rlm-sub > summary")).to_have_text("2 of 3 sub-calls done, 1 failed")
    return page, panel


def focused(page: Page) -> str:
    """The class of what has the focus; nothing outside of the panel."""
    return str(page.evaluate(FOCUSED))


def active(page: NotebookPage) -> int:
    """The cell that the notebook's commands are about."""
    return int(page.page.evaluate("jupyterapp.shell.currentWidget.content.activeCellIndex"))


def test_everything_can_be_reached_and_worked_with_keys(notebook: Opens, gates: Gates) -> None:
    """Tab goes through in the order in which things stand; Enter opens and closes; arrows move; Escape steps out."""
    page, panel = begun(notebook, gates, (SHOW,))
    keys = page.page.keyboard
    panel.stop.focus()
    found = []
    for _ in range(10):
        found.append(focused(page.page))
        keys.press("Tab")
    summary, out, table = "summary", "rlm-out", "rlm-wide"
    assert found[:8] == ["rlm-stop", summary, "rlm-list", summary, "a", out, table, summary]
    assert found[8] == "rlm-calls"
    assert found[9] in ("rlm-jump", "")  # the way back, if the Tab key has scrolled

    line = panel.iteration(1).locator("summary").first
    for is_open in False, True:
        line.press("Enter")
        expect(panel.iteration(1)).to_have_js_property("open", is_open)
    calls = panel.el.get_by_role("listbox")
    calls.press("ArrowDown")
    expect(panel.rows.first).to_have_attribute("aria-selected", "true")
    assert calls.get_attribute("aria-activedescendant") == panel.rows.first.get_attribute("id")
    keys.press("ArrowDown")
    expect(panel.rows.nth(1)).to_have_attribute("aria-selected", "true")
    expect(panel.detail).to_be_hidden()
    keys.press("Enter")
    expect(panel.detail).to_contain_text("overloaded")
    keys.press("ArrowUp")
    expect(panel.detail).to_contain_text("heard: short")
    keys.press("Escape")
    expect(panel.detail).to_be_hidden()
    expect(calls).to_be_focused()
    keys.press("Enter")
    panel.detail.get_by_role("button", name="close").focus()
    keys.press("Escape")
    expect(panel.detail).to_be_hidden()
    expect(calls).to_be_focused()

    keys.press("Escape")
    assert focused(page.page) == ""
    assert active(page) == 1
    keys.press("ArrowDown")
    assert active(page) == 2  # the notebook has its keys again
    gates.open("wait c")
    page.wait_idle()
    assert page.errors == []


def test_keys_in_the_panel_are_no_commands_of_the_notebook(notebook: Opens, gates: Gates) -> None:
    """No cell is added, deleted, cut or changed, the kernel is not interrupted; text can be typed where it belongs."""
    page, panel = begun(notebook, gates, (SHOW,))
    cells = page.view.locator(".jp-Notebook .jp-Cell")

    def type_into(place: Locator) -> None:
        before = cells.count()
        place.focus()
        for key in ["d", "d", "a", "b", "x", "m", "y", "c", "v", "z", "i", "i", "0", "0", "Shift+Enter"]:
            page.page.keyboard.press(key)
        assert cells.count() == before
        assert page.page.locator(".jp-Dialog").count() == 0
        assert place.evaluate("el => el.contains(document.activeElement)")

    for place in panel.list, panel.el.get_by_role("listbox"), panel.iteration(1).locator("summary").first:
        type_into(place)
    assert page.prompt(1) == "[*]:"
    assert active(page) == 1
    gates.open("wait c")
    page.wait_idle()
    expect(page.output(1)).to_contain_text("Answered")
    page.run(2)
    page.wait_idle()
    search = Panel(page.cell(2)).el.get_by_role("searchbox")
    type_into(search)
    expect(search).to_have_value("ddabxmycvzii00")
    page.page.keyboard.press("Escape")
    expect(search).to_have_value("")
    expect(search).to_be_focused()
    page.page.keyboard.press("Escape")
    assert focused(page.page) == ""
    assert page.errors == []


def faults(page: NotebookPage, within: str) -> list[str]:
    """The serious and critical ones that axe-core finds, whole sentences."""
    results: dict[str, Any] = Axe().run(page.page, context=within, options={}).response
    assert any(rule["id"] == "color-contrast" and len(rule["nodes"]) > 3 for rule in results["passes"])
    return [
        f"{rule['id']}: {node['html'][:150]} {node['failureSummary']}"
        for rule in results["violations"]
        for node in rule["nodes"]
        if rule["impact"] in ("serious", "critical")
    ]


LIGHTS = (("Light", 1280), ("Dark", 420), ("Dark", 1280), ("Light", 420))


def in_every_light(page: NotebookPage, within: str, lights: tuple[tuple[str, int], ...] = LIGHTS) -> list[str]:
    """Their faults in these themes and widths, with everything in sight."""
    page.page.add_style_tag(content=".rlm .rlm-list { max-height: none } body { height: 100vh !important }")
    found = []
    for theme, width in lights:
        page.command("apputils:change-theme", theme=f"JupyterLab {theme}")
        page.page.locator(f"body[data-jp-theme-light={str(theme == 'Light').lower()}]").wait_for(state="attached")
        page.page.set_viewport_size({"width": width, "height": 3000})
        found += [f"{theme}, {width} px: {fault}" for fault in faults(page, within)]
        assert page.page.locator(".rlm").evaluate_all("all => all.every(el => el.scrollWidth <= el.clientWidth)")
    return found


def test_axe_finds_nothing_in_the_panel(notebook: Opens, gates: Gates) -> None:
    """Neither while the run goes on nor when it is shown again, in no theme, wide or narrow: contrast, names, roles."""
    page, panel = begun(notebook, gates, (SHOW,))
    panel.rows.first.click()
    expect(panel.detail).to_contain_text("heard: short")
    assert in_every_light(page, ".rlm", LIGHTS[:2]) == []
    gates.open("wait c")
    page.wait_idle()
    page.run(2)
    page.wait_idle()
    panel = Panel(page.cell(2))
    for number in 1, 2, 3:
        panel.iteration(number).locator("summary").first.click()
    expect(panel.rows).to_have_count(3)
    panel.rows.nth(1).click()
    expect(panel.detail).to_contain_text("overloaded")
    panel.el.locator(".rlm-vars > summary").first.click()
    assert in_every_light(page, ".rlm") == []


def test_axe_finds_nothing_in_the_settled_output(notebook: Opens, gates: Gates) -> None:
    """The same for what is saved, with everything unfolded."""
    page, _ = begun(notebook, gates)
    gates.open("wait c")
    page.wait_idle()
    page.output(1).evaluate("el => el.querySelectorAll('details').forEach(d => (d.open = true))")
    assert in_every_light(page, ".jp-OutputArea-output", LIGHTS[:2]) == []
