"""Large runs: few messages, few elements, and everything still within reach."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.conftest import Opens
from tests.browser.page import NotebookPage
from tests.browser.panel import SETUP, Gates, Panel, steps

ASK = "%%rlm -> answer\nWhich is it?"
SHOW = "rlm_result.trajectory.show()"
SUBMIT = "```repl\nSUBMIT(answer='so')\n```"
MEGABYTE = 1_000_000
SETTLED = 300_000
"""Bytes of an output as it is saved."""
WATCH = """() => {
    window.told = [];
    jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.anyMessage.connect((_, { msg, direction }) => {
        if (direction === "recv" && msg.header.msg_type === "comm_msg")
            window.told.push([msg.header.date, JSON.stringify(msg.content).length]);
    });
}"""


class Memory:
    """What a page has in memory."""

    def __init__(self, page: Page) -> None:
        self._ask = page.context.new_cdp_session(page)
        self._ask.send("Performance.enable")
        self.before = self.now()

    def now(self) -> dict[str, float]:
        """Elements and text nodes, and bytes of the heap."""
        self._ask.send("HeapProfiler.collectGarbage")
        found = {m["name"]: m["value"] for m in self._ask.send("Performance.getMetrics")["metrics"]}
        return {"nodes": found["Nodes"], "heap": found["JSHeapUsedSize"]}

    def more(self) -> tuple[int, int]:
        """Nodes and bytes that came since."""
        now = self.now()
        return int(now["nodes"] - self.before["nodes"]), int(now["heap"] - self.before["heap"])


def told(page: NotebookPage) -> tuple[list[float], int]:
    """When the panel's messages were sent, by the kernel's clock, and their bytes."""
    seen: list[Any] = page.page.evaluate("told")
    return [datetime.fromisoformat(date).timestamp() for date, _ in seen], sum(size for _, size in seen)


def at_most_twenty_a_second(times: list[float]) -> None:
    """In no second are there more."""
    assert max(sum(begin <= t < begin + 1 for t in times) for begin in times) <= 20


def saved(page: NotebookPage, cell: int) -> str:
    """A settled output as text, once the file is known to be small."""
    page.save()
    (output,) = page.saved_outputs(cell)
    assert len(json.dumps(output)) < SETTLED
    return str(output["data"]["text/html"])


def test_ten_thousand_sub_calls(notebook: Opens, gates: Gates) -> None:
    """Only rows in sight exist, the last is one key away, each can be read; what is saved says what it leaves out."""
    batch = "```repl\nasked = llm_batch([f'short {n}' for n in range(1, 10000)] + ['wait last'])\n```"
    page = notebook([SETUP + steps(gates, batch, SUBMIT) + "\nconfigure(max_llm_calls=10000)", ASK, SHOW])
    page.run(0)
    page.wait_idle()
    page.page.evaluate(WATCH)
    memory = Memory(page.page)
    page.run(1)
    panel = Panel(page.cell(1))
    expect(panel.el.locator(".rlm-sub > summary")).to_have_text("9,999 of 10,000 sub-calls done", timeout=40_000)
    expect(panel.stat("sub-calls")).to_have_text("10,000 of 10,000")
    expect(panel.rows.last).to_contain_text("wait last")  # in sight is what is not done yet
    assert panel.rows.count() < 20
    calls = panel.el.get_by_role("listbox")
    calls.press("Home")
    expect(panel.rows.first).to_contain_text("short 1")
    calls.press("Enter")
    expect(panel.detail).to_contain_text("heard: short 1")
    calls.press("End")
    expect(panel.detail).to_contain_text("no reply yet")
    nodes, heap = memory.more()
    print(f"10,000 sub-calls: {nodes} nodes, {heap / 1e6:.1f} MB")
    assert nodes < 5000
    assert heap < 40 * MEGABYTE
    gates.open("wait last")
    page.wait_idle()
    times, size = told(page)
    print(f"{len(times)} messages, {size / 1e6:.1f} MB in {times[-1] - times[0]:.1f} s")
    at_most_twenty_a_second(times)
    assert "9,980 more" in saved(page, 1)

    page.run(2)
    page.wait_idle()
    panel = Panel(page.cell(2))
    panel.iteration(1).locator("summary").first.click()
    expect(panel.rows.first).to_contain_text("short 1")
    panel.el.get_by_role("listbox").evaluate("list => { list.scrollTop = list.scrollHeight }")
    expect(panel.rows.last).to_contain_text("heard: wait last")
    assert panel.rows.count() < 20
    panel.rows.last.click()
    expect(panel.detail).to_contain_text("10000 · stepwise")
    expect(panel.detail).to_contain_text("heard: wait last")
    assert page.errors == []


def test_a_thousand_iterations(notebook: Opens, gates: Gates) -> None:
    """The page answers, its memory is bounded, and any iteration opens, during the run and afterwards."""
    many = "model.replies[:0] = [f'Step {n}.\\n\\n```repl\\nprint({n} * 11)\\n```' for n in range(1, 1000)]"
    cells = [SETUP + steps(gates, "Done.⟦end⟧\n\n" + SUBMIT), f"{many}\nconfigure(max_iterations=1000)", ASK, SHOW]
    page = notebook(cells)
    page.run(0)
    page.run(1)
    page.wait_idle()
    page.page.evaluate(WATCH)
    memory = Memory(page.page)
    page.run(2)
    panel = Panel(page.cell(2))
    expect(panel.stat("iteration")).to_have_text("1,000 of 1,000", timeout=90_000)
    expect(panel.iteration(1000).locator(".rlm-draft")).to_have_text("Done.")
    assert panel.list.locator(".rlm-it[open]").count() <= 2
    nodes, heap = memory.more()
    print(f"1,000 iterations: {nodes} nodes, {heap / 1e6:.1f} MB")
    assert nodes < 60_000
    assert heap < 30 * MEGABYTE
    for number in 3, 500:
        panel.iteration(number).locator("summary").first.click()
        expect(panel.iteration(number).locator(".rlm-stdout")).to_have_text(str(number * 11))
    gates.open("end")
    page.wait_idle()
    times, size = told(page)
    print(f"{len(times)} messages, {size / 1e6:.1f} MB in {times[-1] - times[0]:.1f} s")
    at_most_twenty_a_second(times)
    assert "940 more iterations" in saved(page, 2)

    page.run(3)
    page.wait_idle()
    panel = Panel(page.cell(3))
    expect(panel.iterations).to_have_count(1000)
    panel.iteration(500).locator("summary").first.click()
    expect(panel.iteration(500).locator(".rlm-stdout")).to_have_text("5500")
    panel.el.get_by_role("searchbox").fill("10978")
    expect(panel.el.get_by_text("1 of 1,000 iterations")).to_be_visible()
    expect(panel.iteration(998)).to_be_visible()
    nodes, heap = memory.more()
    print(f"shown again: {nodes} nodes, {heap / 1e6:.1f} MB")
    assert page.errors == []


def test_a_long_reply_and_a_long_output(notebook: Opens, gates: Gates) -> None:
    """Both are shown from both ends and counted in between; after the run more of it is one click away."""
    reply = "⟦reply⟧\n\n```repl\nfor n in range(200_000): print('line', n, '🙂', '.' * 90)\n```"
    long = "\nmodel.replies[0] = 'a word ' * 150_000 + model.replies[0]\nconfigure(sandbox_output=64)"
    page = notebook([SETUP + steps(gates, reply, f"⟦end⟧{SUBMIT}") + long, ASK, SHOW])
    page.run(0)
    page.wait_idle()
    memory = Memory(page.page)
    page.run(1)
    panel = Panel(page.cell(1))
    step = panel.iteration(1)
    expect(step.locator(".rlm-draft")).to_contain_text("characters left out")
    gates.open("reply")
    expect(step.locator(".rlm-prose").first).to_contain_text("a word a word")
    out = step.locator(".rlm-stdout")
    expect(out).to_contain_text("line 0 🙂")
    expect(out).to_contain_text("line 199999 🙂", timeout=60_000)  # the very end comes with the end of the cell
    expect(out).to_contain_text("characters left out")
    nodes, heap = memory.more()
    print(f"20 MB of output: {nodes} nodes, {heap / 1e6:.1f} MB")
    assert heap < 20 * MEGABYTE
    gates.open("end")
    page.wait_idle()
    assert "left out, in rlm_result.trajectory" in saved(page, 1)

    page.run(2)
    page.wait_idle()
    panel = Panel(page.cell(2))
    panel.iteration(1).locator("summary").first.click()
    out = panel.iteration(1).locator(".rlm-stdout")
    before = len(out.inner_text())
    out.get_by_role("button", name="Show more").click()
    expect(out).to_contain_text("line 1000 🙂")
    lines = out.inner_text().split("\n")
    whole = [line for line in lines if line.startswith("line")]
    assert len(out.inner_text()) > before + 100_000
    assert [int(line.split()[1]) for line in whole[:1500]] == list(range(1500))  # nothing twice, nothing left out
    assert page.errors == []
