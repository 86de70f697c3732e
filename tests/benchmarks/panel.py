"""What the live panel costs: bytes, messages, the run's time, the browser's time.

    python tests/benchmarks/panel.py [bytes] [run] [browser]

Nothing is asserted; each figure stands beside its limit. `run` and `browser` drive real kernels, `browser` a real
JupyterLab in Chromium.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import comm

sys.path.insert(0, str(Path(__file__).parents[2]))

from rlm_kernel import events as ev
from rlm_kernel.panel import LivePanel
from rlm_kernel.panel.live import INTERVAL
from rlm_kernel.trajectory import Trajectory
from rlm_kernel.usage import Usage
from tests.notebook.book import SETUP, Book
from tests.panel.browser import Recorder

ENVELOPE = 560
"""Bytes of a Jupyter message around a custom message's content: header, parent, comm and signature."""
REPLY = """The critical tickets are a third of all. *Shipping* looks slow, so I compare the categories first:

```repl
critical = tickets[tickets["priority"] == "critical"]
by_category = critical.groupby("category")["hours"].agg(["mean", "median", "size"]).round(1)
print(by_category.to_string())
```

Then I will read a sample of the slowest ones with the sub-model.
"""
CODE = REPLY.partition("```repl\n")[2].partition("```")[0]
OUTPUT = "".join(f"category {n}   {n * 7.3:8.1f}   {n * 5.1:8.1f}   {n * 311:6d}\n" for n in range(12))


def iterations(number: int, seconds: float) -> Iterator[tuple[float, ev.Event]]:
    """Events of iterations whose replies stream for so many seconds each, and when they happen."""
    at = 0.0
    used: dict[str, Any] = {"usage": Usage(1200, 180, 9000), "cost": 0.004, "seconds": seconds}

    def event(kind: type[ev.Event], /, **facts: Any) -> tuple[float, ev.Event]:
        return at, kind(run="1", at=at, **facts)

    yield event(
        ev.RunStarted, question="Which category is slowest, and why?", signature="tickets -> answer: str",
        model="model", sub_model="sub", max_iterations=number, max_llm_calls=50,
    )  # fmt: skip
    for n in range(1, number + 1):
        yield event(ev.IterationStarted, iteration=n, prompt=OUTPUT)
        pieces = [REPLY[k : k + 4] for k in range(0, len(REPLY), 4)] if seconds else [REPLY]
        for piece in pieces:
            at += seconds / len(pieces)
            yield event(ev.ModelDelta, iteration=n, text=piece)
        yield event(ev.ModelFinished, iteration=n, reply=REPLY, thinking="", model="model", cells=(CODE,), **used)
        yield event(ev.CellStarted, iteration=n, cell=n, code=CODE)
        at += 0.002
        yield event(ev.CellOutput, iteration=n, cell=n, kind="stdout", text=OUTPUT)
        changed = (ev.Variable("critical", "DataFrame", "15,907 rows x 5 columns", "   id category priority hours"),)
        yield event(ev.CellFinished, iteration=n, cell=n, status="ok", seconds=0.002, changed=changed)
        yield event(ev.IterationFinished, iteration=n, observation=OUTPUT)


def sent(number: int, seconds: float) -> tuple[int, int, int, float]:
    """Messages, bytes of content, bytes of the events, and how long the run would have taken."""
    comm.create_comm = Recorder
    trajectory = Trajectory()
    panel = LivePanel(trajectory, lambda: None)
    payload, last, at = 0, 0.0, 0.0
    for at, event in iterations(number, seconds):
        trajectory.add(event)
        panel.hear(event)
        payload += len(json.dumps(asdict(event)))
        if at - last >= INTERVAL:  # as `pulse` does, by the clock of the events
            panel._tell()
            last = at
    panel._tell()
    assert isinstance(panel.widget.comm, Recorder)
    messages = panel.widget.comm.messages
    return len(messages), sum(len(json.dumps(m)) for m in messages), payload, at


def bytes_and_messages() -> None:
    """The panel's traffic beside the events that it tells."""
    print("iterations  reply streams for   messages  per s    content / events   with envelopes")
    for number, seconds in ((10, 2.0), (100, 2.0), (200, 0.0), (1000, 0.0)):
        messages, content, payload, took = sent(number, seconds)
        whole = (content + messages * ENVELOPE) / payload
        print(
            f"{number:>10}  {seconds:>12.1f} s  {messages:>13,}  {messages / max(took, 1):>5.1f}  "
            f"{content / payload:>12.2f} x (limit 1.2)  {whole:>6.2f} x"
        )


def cost_to_the_run(number: int = 200, rounds: int = 7) -> None:
    """Iterations with the panel against without, in two kernels side by side, with a model that answers at once."""
    books = {mode: Book(Path(tempfile.mkdtemp()), RLM_PANEL=mode) for mode in ("static", "live")}
    taken: dict[str, list[float]] = {mode: [] for mode in books}
    code = "x = sum(range(100))\\nprint(x)"
    try:
        for k in range(rounds):
            for mode, book in books.items():
                book.ok(f'script(*["{code}"]*{number}, "SUBMIT(n=1)")\nconfigure(max_iterations={number + 5})')
                book.ok("%%rlm -> n: int\nhow many?")
                if k:
                    taken[mode].append(book.value("rlm_result.total_time") / (number + 1))
    finally:
        for book in books.values():
            book.close()
    without, with_panel = (statistics.median(taken[mode]) for mode in ("static", "live"))
    print(f"an iteration: {1000 * without:.2f} ms without, {1000 * with_panel:.2f} ms with the panel, "
          f"ratio {with_panel / without:.2f} (limit 1.3)")  # fmt: skip


SUBCALLS = """
import asyncio, time
finished = {}
async def answers(prompt):
    await asyncio.sleep(0.12)
    finished[int(prompt.split()[-1])] = time.time()
    return "yes"
script("for k in range(1, 41):\\n    llm_query(f'call {k}')\\nSUBMIT(n=1)", sub=answers)
"""
WATCH = """() => {
  window.seen = {};
  new MutationObserver((changes) => {
    for (const row of document.querySelectorAll(".rlm-row1")) {
      const n = row.querySelector(".rlm-n").textContent;
      if (!(n in window.seen)) requestAnimationFrame(() => (window.seen[n] ??= Date.now()));
    }
  }).observe(document.body, { childList: true, subtree: true });
}"""


def browser() -> None:
    """From a sub-call's end to its mark on the screen; and what 1,000 events cost the page in scripting."""
    from playwright.sync_api import sync_playwright

    from tests.browser.lab import Server
    from tests.browser.page import NotebookPage

    server = Server(Path(tempfile.mkdtemp()))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        context = chromium.new_context(viewport={"width": 1280, "height": 1000})
        many = 'script(*["print(1)\\nx = 2"]*400, "SUBMIT(n=1)")\nconfigure(max_iterations=500)'
        cells = [SETUP.strip() + SUBCALLS, "%%rlm -> n: int\ngo", "finished", many, "%%rlm -> n: int\ngo"]
        page = NotebookPage(context, server, cells)
        page.run(0)
        page.wait_idle()
        page.page.evaluate(WATCH)
        page.run(1)
        page.wait_idle()
        page.run(2)
        page.wait_idle()
        pairs = page.output(2).inner_text().replace("\n", "").strip("{} ").split(", ")
        ended = {n: 1000 * float(at) for n, at in (pair.split(": ") for pair in pairs)}
        seen = page.page.evaluate("() => window.seen")
        waits = sorted(at - ended[n] for n, at in seen.items())
        print(f"{len(waits)} sub-calls, end to mark: median {statistics.median(waits):.0f} ms (limit 150), "
              f"worst {waits[-1]:.0f} ms")  # fmt: skip
        page.run(3)
        page.wait_idle()
        session = context.new_cdp_session(page.page)
        session.send("Performance.enable")

        def spent() -> float:
            return next(
                m["value"] for m in session.send("Performance.getMetrics")["metrics"] if m["name"] == "ScriptDuration"
            )

        before, began = spent(), time.monotonic()
        page.run(4)
        page.wait_idle(120)
        events = 400 * 7
        print(f"scripting: {1000 * (spent() - before) / events * 1000:.0f} ms for 1,000 events "
              f"({events:,} events in {time.monotonic() - began:.1f} s, all of the page's scripts)")  # fmt: skip
        page.close()
        chromium.close()
    server.close()


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["bytes", "run", "browser"]
    if "bytes" in wanted:
        bytes_and_messages()
    if "run" in wanted:
        cost_to_the_run()
    if "browser" in wanted:
        browser()
