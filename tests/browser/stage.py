"""The notebook's side of the tests with hostile texts: a model that says them, and code that shows them everywhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from IPython.display import display

from rlm_kernel import configure
from rlm_kernel import events as ev
from rlm_kernel.errors import ModelError
from rlm_kernel.models.base import Completion, Delta, OnDelta, Request
from rlm_kernel.panel import LivePanel
from rlm_kernel.result import Result
from rlm_kernel.trajectory import Trajectory
from rlm_kernel.usage import Usage
from tests.render.story_maker import everywhere

__all__ = ["perform", "prepare", "settle"]

FIELDS = "text: str, items: list[str], mapping: dict[str, str], records: list[dict[str, str]], table: DataFrame, n: int"

SETUP = r"""
import html, sys
import pandas as pd
SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='300' height='20' onload='parent.pwned=1'>{}</svg>"
HARM = "<script>parent.pwned=1</script><image href='//rlm.invalid/i.png'/><foreignObject width='300' height='20'>"
HARM += "<iframe xmlns='http://www.w3.org/1999/xhtml' src='//rlm.invalid/f'/></foreignObject><text y='9'>{}</text>"
CELL = "<table onclick=pwned=1><thead><tr><th>{0}</th></tr></thead><tbody><tr><td>{0}</td><td>{1}</td></tr></table>"
def everywhere(p):
    print(p)
    print(p, file=sys.stderr)
    p = p.encode("utf-8", "backslashreplace").decode()  # a display of half a character never leaves the kernel
    plain = {"text/plain": p}
    for bundle in (
        {"text/html": CELL.format(html.escape(p), p), **plain},
        {"text/html": p, "text/markdown": p, "text/latex": f"${p}$", "application/javascript": "window.pwned=1"},
        {"image/svg+xml": SVG.format(HARM.format(html.escape(p[:200]))), **plain},
        {"image/png": p, "text/plain": "bogus " + p},
        {"image/png": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ" + p, **plain},
        {p[:300]: p, **plain},
        {"text/html": [p], "text/plain": {"k": p}, "image/png": 5, "image/jpeg": [1], "application/javascript": None},
    ):
        display(bundle, raw=True)
    globals()["name " + p[:300]] = p
    llm_query("asked " + p)
    try:
        llm_query("fail " + p)
    except Exception as error:
        raise ValueError("raised " + p) from error
"""
SUBMIT = r"""
small = [p for p in payloads if len(p) < 400] or [p[:2000] for p in payloads]
fine = [p.encode("utf-8", "backslashreplace").decode() for p in small]
SUBMIT(
    text="\n\n".join(fine), items=fine, mapping={p: p for p in fine}, records=[{p: p} for p in fine],
    table=pd.DataFrame({p: [p, p] for p in fine}), n=len(fine),
)
"""


class Holding:
    """A model that has a reply for each text; it begins the last one and goes on when the file `go` exists."""

    def __init__(self, texts: list[str], go: Path) -> None:
        self.name = f"model {texts[0][:60]}"
        self._go = go
        self._replies = self._written(texts)

    async def complete(self, request: Request, on_delta: OnDelta | None = None) -> Completion:
        """The next reply, with thinking of the same text."""
        if request.kind == "sub":
            prompt = request.messages[-1].content
            if prompt.startswith("fail "):
                raise ModelError(f"failed {prompt[5:]}")
            return Completion(f"replied {prompt[6:]}", self.name)
        thinking, reply, held = next(self._replies)
        if on_delta is not None:
            on_delta(Delta(thinking, "thinking"))
            on_delta(Delta(reply[:30]))
            on_delta(Delta(reply[30:]))
        while held and not self._go.exists():
            await asyncio.sleep(0.02)
        return Completion(reply, self.name, thinking=thinking)

    async def close(self) -> None:
        """Nothing to release."""

    @staticmethod
    def _written(texts: list[str]) -> Iterator[tuple[str, str, bool]]:
        yield "", f"```repl\n{SETUP}\n```", False
        for at, text in enumerate(texts):
            comment = text if len(text) < 2000 and text.isprintable() else ascii(text[:200])
            ran = f"```repl\n# {comment}\neverywhere(payloads[{at}])\n```"
            inert = "" if "~~~~" in text else f"~~~~text {text[:40].splitlines()[0]}\n{text}\n~~~~"
            yield text, f"{ran}\n\n{inert}\n\n{text}", False
        joined = "\n\n".join(text[:2000] for text in texts)
        yield joined, f"HOLD\n\n```repl\n{SUBMIT}\n```\n\n{joined}", True


def prepare(texts: list[str], go: Path) -> str:
    """Have the next run say these texts; returns its line."""
    model: Any = Holding(texts, go)
    # the long ones put out more than is usual, and fill the window of a model that nobody knows
    limits = {"max_iterations": 200, "max_llm_calls": 1000, "max_errors": 200, "sandbox_output": 64}
    configure(model=model, sub_model=model, compact_at=None, **limits)
    return f"payloads -> {FIELDS}"


def told(texts: list[str]) -> Iterator[ev.Event]:
    """A run with each text also where today's loop writes nothing foreign: notes, models, kinds of variables."""
    first = texts[0]
    yield ev.RunStarted(
        run="1", at=0.0, question="\n".join(texts), signature=first, model=first, sub_model=texts[-1],
        max_iterations=99, max_llm_calls=99, variables=tuple(ev.Variable(t, t, t, t) for t in texts[:20]),
    )  # fmt: skip
    for n, text in enumerate(texts, 1):
        yield from _turn("1", n, text)
        below = f"1.{2 * n}"
        yield ev.RunStarted(
            run=below, at=0.0, question=text, signature=text, model=text, sub_model=text, max_iterations=9,
            max_llm_calls=9, parent="1",
        )  # fmt: skip
        yield from _turn(below, 1, text)
        yield ev.RunFinished(run=below, at=1.0, stop_reason="error", detail=text, usage=Usage(), cost=None, seconds=1.0)
    yield ev.Final(run="1", at=1.0, iteration=len(texts), values={text: text for text in texts[:20]})
    detail = " ".join(texts)[:3000]
    yield ev.RunFinished(run="1", at=1.0, stop_reason="error", detail=detail, usage=Usage(), cost=None, seconds=1.0)


def _turn(run: str, n: int, text: str) -> Iterator[ev.Event]:
    at: dict[str, Any] = {"run": run, "at": 0.5}
    used: dict[str, Any] = {"usage": Usage(1, 1), "cost": 0.1, "seconds": 0.1, "model": text}
    inside: dict[str, Any] = {"iteration": n, "cell": n}
    yield ev.IterationStarted(**at, iteration=n, prompt=text)
    yield ev.ModelFinished(**at, iteration=n, reply=text, thinking=text, cells=(text,), **used)
    yield ev.CellStarted(**at, **inside, code=text)
    yield ev.CellOutput(**at, **inside, kind="result", text=text, data={text: [text], "text/html": {"a": 1}})
    for k, error in ((2 * n - 1, text), (2 * n, "")):
        yield ev.SubcallStarted(**at, **inside, subcall=k, prompt=f"{k} {text}", model=text)
        yield ev.SubcallFinished(**at, subcall=k, reply=text, error=error, **used)
    changed = (ev.Variable(text, text, text, text),)
    yield ev.CellFinished(**at, **inside, status="error", seconds=0.1, changed=changed, removed=(text,))
    yield ev.Note(**at, iteration=n, text=text)
    yield ev.IterationFinished(**at, iteration=n, observation=text)


def perform(texts: list[str], go: Path) -> Trajectory:
    """Show that run in a panel up to its end, which comes when the file `go` exists; then settled."""
    *events, end = told(texts)
    trajectory = Trajectory()
    panel = LivePanel(trajectory, lambda: None)
    display(panel.bundle, raw=True)
    for event in events:
        trajectory.add(event)
        panel.hear(event)
    while not go.exists():
        panel.pulse()
        time.sleep(0.02)
    trajectory.add(end)
    panel.hear(end)
    panel.finish()
    return trajectory


def settle(texts: list[str]) -> None:
    """Show for each text the settled form of a run that has it in every place."""
    for text in texts:
        display(Result(everywhere(text))._repr_mimebundle_(), raw=True)
