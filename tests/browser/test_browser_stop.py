"""Stop in the panel: the run ends at once wherever it is, nothing is lost; where clicks get lost the page says so."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opens
from tests.browser.lab import Server
from tests.browser.page import Front, NotebookPage
from tests.browser.panel import SETUP, Gates, Panel, steps
from tests.browser.wire import Wire

ASK = "%%rlm -> answer\nWhich is it?"
SLEEPS = "It will take long.\n\n```repl\nimport time\nx = 12345\nprint('begun')\ntime.sleep(600)\n```\n"
SOON = 5.0
"""Seconds; Stop takes far less, but a busy machine may be slow."""


def stopped(page: NotebookPage, panel: Panel, cell: int) -> float:
    """Click Stop; after how many seconds the cell has ended."""
    clicked = time.monotonic()
    panel.stop.click()
    expect(page.cell(cell).locator(".jp-InputPrompt").first).not_to_have_text("[*]:", timeout=30_000)
    seconds = time.monotonic() - clicked
    print(f"Stop took {seconds:.2f} s")
    return seconds


@pytest.mark.parametrize(
    ("front", "ipykernel_version"),
    [("lab", ""), ("lab", "7.3.0"), ("lab", "7.2.0"), ("notebook", ""), ("notebook", "7.3.0")],
)
def test_stop_while_code_runs(notebook: Opens, gates: Gates, front: Front, ipykernel_version: str) -> None:
    """The sandbox is interrupted and keeps its variables, the result says so, and the cells below do not run on."""
    cells = [SETUP + steps(gates, SLEEPS, "```repl\nSUBMIT(answer=str(x))\n```"), ASK, "below = 1", "%rlm vars", ASK]
    page = notebook(cells, front=front, ipykernel_version=ipykernel_version)
    page.page.evaluate("() => void jupyterapp.commands.execute('notebook:run-all-cells')")  # not waiting for its end
    panel = Panel(page.cell(1))
    expect(panel.iteration(1).locator(".rlm-stdout")).to_have_text("begun", timeout=20_000)
    assert stopped(page, panel, 1) < SOON
    page.wait_idle()
    expect(panel.el).to_have_count(0)
    expect(page.output(1).first).to_contain_text("Interrupted")
    expect(page.output(1).first).to_contain_text("begun")
    expect(page.output(1).last).to_have_text("KeyboardInterrupt: stopped by the user")
    assert page.prompt(2) == "[ ]:"
    page.run(3)
    page.run(4)
    page.wait_idle()
    expect(page.output(3)).to_contain_text("12345")
    expect(page.output(4)).to_contain_text("12345")
    expect(page.output(4)).to_contain_text("Answered")
    assert page.errors == []


def test_stop_while_the_model_or_sub_calls_are_asked(notebook: Opens, gates: Gates) -> None:
    """It does not wait for an answer; calls that were answered are kept; the key Enter does it as well as the mouse."""
    batch = "```repl\nfound = 7\nasked = llm_batch(['quick', 'wait for ever', 'wait as well'])\n```"
    cells = [SETUP + steps(gates, "Hm.⟦never⟧"), ASK, steps(gates, batch), ASK, "%rlm vars", "rlm_result.trajectory"]
    page = notebook(cells)
    page.run(0)
    page.wait_idle()
    page.run(1)
    panel = Panel(page.cell(1))
    expect(panel.iteration(1).locator(".rlm-draft")).to_have_text("Hm.")
    assert stopped(page, panel, 1) < SOON
    expect(page.output(1).first).to_contain_text("Interrupted")
    expect(page.output(1).first).to_contain_text("Hm.")
    page.run(2)
    page.run(3)
    panel = Panel(page.cell(3))
    expect(panel.el.locator(".rlm-sub > summary")).to_have_text("1 of 3 sub-calls done")
    panel.stop.focus()
    page.page.keyboard.press("Enter")
    page.wait_idle(SOON)
    expect(page.output(3).first).to_contain_text("Interrupted")
    expect(page.output(3).first).to_contain_text("heard: quick")
    page.run(4)
    page.wait_idle()
    expect(page.output(4)).to_contain_text("found")
    assert page.errors == []


def test_stop_without_subshells(notebook: Opens, lab: Server, gates: Gates) -> None:
    """It arrives too where the page's messages come to the kernel's main thread, which is busy with the cell."""
    settings = "apputils-extension/kernels-settings"
    lab._setting(settings, {"commsOverSubshells": "disabled"})
    try:
        page = notebook([SETUP + steps(gates, SLEEPS), ASK])
    finally:
        lab._setting(settings, {})
    page.run(0)
    page.wait_idle()
    page.run(1)
    panel = Panel(page.cell(1))
    expect(panel.iteration(1).locator(".rlm-stdout")).to_have_text("begun")
    assert stopped(page, panel, 1) < SOON
    expect(page.output(1).first).to_contain_text("Interrupted")
    assert page.errors == []


def test_where_no_click_arrives(wire: Wire, lab: Server, gates: Gates) -> None:
    """Soon the panel says that the click was lost and what to use instead; ■ works; a late Stop stops nothing else."""
    go_on = "```repl\nprint('again')\nllm_query('wait')\nSUBMIT(answer=str(x))\n```"
    page = wire.notebook(lab, [SETUP + steps(gates, SLEEPS, go_on), ASK, ASK])
    page.run(0)
    page.wait_idle()
    wire.deaf = True
    page.run(1)
    panel = Panel(page.cell(1))
    expect(panel.iteration(1).locator(".rlm-stdout")).to_have_text("begun")
    panel.stop.click()
    expect(panel.told).to_contain_text("Use the interrupt button of the notebook (■)", timeout=3000)
    expect(panel.badge).to_have_text("Running")
    expect(panel.stop).to_be_enabled()
    page.interrupt()
    page.wait_idle(SOON)
    expect(page.output(1).first).to_contain_text("Interrupted")
    page.run(2)
    expect(Panel(page.cell(2)).el.locator(".rlm-sub > summary")).to_have_text("0 of 1 sub-call done")
    wire.deliver()
    gates.open("wait")
    page.wait_idle()
    expect(page.output(2)).to_contain_text("Answered")
    expect(page.output(2)).to_contain_text("12345")
    assert page.errors == []
