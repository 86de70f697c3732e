"""Several views of a run, pages that come later, and runs that are shown again."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Opens
from tests.browser.lab import Server
from tests.browser.panel import SETUP, Gates, Panel, steps
from tests.browser.wire import Wire

ASK = "%%rlm -> answer\nWhich is it?"
AGAIN = "rlm_result.trajectory.save('run.jsonl')\nrlm_kernel.Trajectory.load('run.jsonl').show()"
TABLE = "from IPython.display import HTML\ndisplay(HTML('<table><tr><td>5</td></tr></table>'))"
NESTED = """
from tests.panel.browser import story
outer, shown = list(story(1, 2)), rlm_kernel.Trajectory()
at = next(at for at, event in enumerate(outer) if type(event).__name__ == "SubcallStarted")
for event in [*outer[: at + 1], *story(2, 3, run=f"1.{outer[at].subcall}", parent="1"), *outer[at + 1 :]]:
    shown.add(event)
shown.show()
"""


def two_lines(gates: Gates) -> str:
    """A reply whose code prints a line, waits, and prints another."""
    return f"I look.\n\n```repl\nx = 12345\nprint('one')\n{gates.code('two')}\nprint('two')\nllm_query('wait')\n```"


def test_every_view_is_alive(notebook: Opens, gates: Gates) -> None:
    """Two views in one page and one in another tell the same at the same time; Stop in one ends them all."""
    page = notebook([SETUP + steps(gates, two_lines(gates)), ASK])
    page.run(0)
    page.wait_idle()
    page.run(1)
    panels = [Panel(page.cell(1))]
    expect(panels[0].iteration(1).locator(".rlm-stdout")).to_have_text("one")
    page.save()
    page.command("docmanager:clone")
    panels.append(Panel(page.page.locator(".jp-NotebookPanel").nth(1)))
    with page.page.context.new_page() as other:
        other.goto(page.page.url)
        panels.append(Panel(other.locator(".jp-NotebookPanel")))
        for panel in panels:
            expect(panel.iteration(1).locator(".rlm-stdout")).to_have_text("one", timeout=30_000)
        gates.open("two")
        for panel in panels:
            expect(panel.iteration(1).locator(".rlm-stdout")).to_have_text("one\ntwo")
            expect(panel.rows).to_contain_text("waiting")
            expect(panel.badge).to_have_text("Running")
        panels[2].stop.click()
        page.wait_idle()
        for panel in panels[:2]:
            expect(panel.el).to_have_count(0)
        expect(page.page.locator(".jp-OutputArea-output", has_text="● Interrupted")).to_have_count(2)
        expect(panels[2].badge).to_have_text("Interrupted")
        expect(panels[2].told).to_contain_text("To keep the result in the notebook, show it in a new cell.")
    assert page.errors == []


def test_the_next_run_leaves_what_stands_there(notebook: Opens, gates: Gates) -> None:
    """A panel that a page found again stays when another run ends, and a settled output when the kernel ends."""
    page = notebook([SETUP + steps(gates, two_lines(gates), "```repl\nSUBMIT(answer='so')\n```"), ASK, ASK])
    page.run(0)
    page.wait_idle()
    page.run(1)
    panel = Panel(page.cell(1))
    expect(panel.iteration(1).locator(".rlm-stdout")).to_have_text("one")
    page.save()
    page.reload()
    expect(panel.iteration(1).locator(".rlm-stdout")).to_have_text("one", timeout=30_000)
    panel.stop.click()
    expect(panel.badge).to_have_text("Interrupted")
    page.wait_idle()
    page.run(2)
    page.wait_idle()
    expect(page.output(2)).to_contain_text("● Answered")
    expect(panel.badge).to_have_text("Interrupted")
    panel.iteration(1).locator("summary").first.click()
    panel.iteration(1).locator("summary").first.click()
    expect(panel.iteration(1).locator(".rlm-stdout")).to_have_text("one")
    page.restart_kernel()
    expect(page.output(2)).to_contain_text("● Answered")


def test_a_kernel_that_ends(notebook: Opens, gates: Gates) -> None:
    """The panel keeps what it was told, says that no more will come, and stops its clock."""
    page = notebook([SETUP + steps(gates, two_lines(gates)), ASK])
    page.run(0)
    page.wait_idle()
    page.run(1)
    panel = Panel(page.cell(1))
    expect(panel.iteration(1).locator(".rlm-stdout")).to_have_text("one")
    page.restart_kernel()
    expect(panel.badge).to_have_text("Unfinished")
    expect(panel.told).to_have_text("The kernel that held the run has ended.")
    expect(panel.iteration(1).locator(".rlm-stdout")).to_have_text("one")
    expect(panel.stop).to_be_hidden()
    assert page.errors == []


def test_a_run_is_shown_again(notebook: Opens, gates: Gates) -> None:
    """From a file: step by step, only what failed or asked, where a text occurs, or where one clicks in the strip."""
    replies = [
        f"First I look.\n\n```repl\nprint('Uppsala')\n{TABLE}\n```",
        "Then it fails.\n\n```repl\n1 / 0\n```",
        "I ask.\n\n```repl\nprint(llm_query('How many?'))\n```",
        "Done.\n\n```repl\nSUBMIT(answer='**so**')\n```",
    ]
    page = notebook([SETUP + steps(gates, *replies), ASK, AGAIN])
    for cell in range(3):
        page.run(cell)
        page.wait_idle()
    panel = Panel(page.cell(2))
    expect(panel.badge).to_have_text("Answered")
    expect(panel.el.locator(".rlm-answer strong")).to_have_text("so")
    expect(panel.stop).to_be_hidden()
    panel.open_ones()

    steps_ = panel.el.get_by_role("slider")
    steps_.focus()
    for number in 2, 3, 4:
        page.page.keyboard.press("ArrowRight")
        panel.open_ones(number)
    page.page.keyboard.press("Home")
    panel.open_ones(1)
    expect(panel.iteration(1).locator(".rlm-stdout")).to_have_text("Uppsala")
    expect(panel.iteration(1).locator("td", has_text="5")).to_have_count(1)

    def left(*numbers: int) -> None:
        for number in range(1, 5):
            expect(panel.iteration(number)).to_be_visible(visible=number in numbers)

    panel.el.get_by_role("button", name="Errors", exact=True).click()
    left(2)
    expect(panel.el.get_by_text("1 of 4 iterations")).to_be_visible()
    panel.el.get_by_role("button", name="Sub-calls", exact=True).click()
    left(3)
    panel.iteration(3).locator("summary").first.click()
    panel.rows.click()
    expect(panel.detail).to_contain_text("heard: How many?")
    panel.el.get_by_role("button", name="All", exact=True).click()
    left(1, 2, 3, 4)
    search = panel.el.get_by_role("searchbox")
    search.fill("uppsala")
    left(1)
    search.fill("nowhere at all")
    left()
    expect(panel.el.get_by_text("no such iteration")).to_be_visible()
    search.press("Escape")
    left(1, 2, 3, 4)
    panel.el.locator("canvas").click(position={"x": 3, "y": 5})
    expect(panel.iteration(1)).to_have_attribute("open", "")
    assert page.errors == []


def test_a_run_within_a_run(notebook: Opens) -> None:
    """A sub-call that was a run of its own is read in the same way, in its place."""
    page = notebook([SETUP, NESTED])
    page.run(0)
    page.run(1)
    page.wait_idle()
    panel = Panel(page.cell(1))
    panel.el.get_by_role("button", name="Sub-calls").click()
    panel.list.locator(".rlm-it:visible > summary").first.click()
    panel.rows.filter(has_text="own run").click()
    detail = panel.detail.first
    inner = detail.locator(".rlm-it")
    expect(inner).to_have_count(3)
    inner.nth(1).locator("summary").first.click()
    expect(inner.nth(1).locator(".rlm-prose strong")).to_have_text("2")
    expect(inner.nth(1).locator(".rlm-code")).to_have_text("print(2)")
    inner.nth(1).locator("summary").first.press("Escape")
    expect(detail).to_be_hidden()
    assert page.errors == []


def test_a_message_that_is_lost(wire: Wire, lab: Server, gates: Gates) -> None:
    """The page notices the gap and asks for everything; nothing is missing and nothing is there twice."""
    code = f"print('one')\n{gates.code('two')}\nprint('two')\n{gates.code('three')}\nprint('three')\nllm_query('wait')"
    page = wire.notebook(lab, [SETUP + steps(gates, f"I look.\n\n```repl\n{code}\n```"), ASK])
    page.run(0)
    page.wait_idle()
    page.run(1)
    out = Panel(page.cell(1)).iteration(1).locator(".rlm-stdout")
    expect(out).to_have_text("one")
    wire.lose = b"two"
    gates.open("two")
    while wire.lose:
        page.page.wait_for_timeout(20)
    expect(out).to_have_text("one")
    gates.open("three")
    expect(out).to_have_text("one\ntwo\nthree")
    expect(Panel(page.cell(1)).rows).to_contain_text("waiting")
    Panel(page.cell(1)).stop.click()
    page.wait_idle()
    assert page.errors == []
