"""A page that is loaded again while a run goes on: the panel is back before the run ends, and Stop works in it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opens
from tests.browser.page import Front
from tests.notebook.book import SETUP

SLOW = "import time\\nx = 41\\nfor i in range(600):\\n    print('tick', i)\\n    time.sleep(0.1)"
CELLS = [SETUP.strip() + f"\nscript('''{SLOW}''')", "%%rlm -> n: int\nWait for long.", "%rlm vars"]


@pytest.mark.parametrize(("front", "version"), [("lab", ""), ("notebook", ""), ("lab", "7.3.0"), ("lab", "7.2.0")])
def test_the_panel_is_back_while_the_run_goes_on(notebook: Opens, front: Front, version: str) -> None:
    """With everything so far and what comes; Stop ends the run, and the panel shows how it ended."""
    page = notebook(CELLS, front=front, ipykernel_version=version)
    page.run(0)
    page.wait_idle()
    page.run(1)
    expect(page.output(1).locator(".rlm-stdout")).to_contain_text("tick 10")
    page.save()
    page.reload()
    panel = page.output(1).locator(".rlm")
    expect(panel.locator(".rlm-stdout")).to_contain_text(re.compile(r"tick 0\b.*tick 10\b", re.DOTALL), timeout=30_000)
    expect(panel.locator(".rlm-badge")).to_have_text("Running")
    last = int(panel.locator(".rlm-stdout").inner_text().split()[-1])
    expect(panel.locator(".rlm-stdout")).to_contain_text(f"tick {last + 20}", timeout=20_000)
    panel.get_by_role("button", name="Stop").click()
    expect(panel.locator(".rlm-badge")).to_have_text("Interrupted", timeout=10_000)
    expect(panel.locator(".rlm-told")).to_contain_text("To keep the result in the notebook")
    page.wait_idle()
    page.run(2)
    page.wait_idle()
    expect(page.output(2)).to_contain_text("41")


def test_a_reload_after_the_run_shows_the_settled_output(notebook: Opens) -> None:
    """The panel is gone; what was saved is plain HTML."""
    page = notebook([SETUP.strip() + "\nscript('SUBMIT(n=3)')", "%%rlm -> n: int\nHow many?"])
    page.run(0)
    page.wait_idle()
    page.run(1)
    page.wait_idle()
    page.save()
    page.reload()
    expect(page.output(1)).to_contain_text("Answered")
    assert page.page.locator(".rlm").count() == 0
    assert page.errors == []
