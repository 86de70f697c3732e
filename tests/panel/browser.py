"""The browser's side of the protocol in Python, a run of every kind of event, and a comm that keeps what is sent."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from comm.base_comm import BaseComm

from rlm_kernel import events as ev
from rlm_kernel.usage import Usage

__all__ = ["Recorder", "Table", "story"]


class Table:
    """What `js/table.js` holds after the messages that it got."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def apply(self, patch: dict[str, Any]) -> None:
        """Take a patch in, as the browser does, after its way through JSON."""
        patch = json.loads(json.dumps(patch))
        for key in patch.get("drop", []):
            self.values.pop(key, None)
        self.values |= patch.get("set", {})
        for key, text in patch.get("add", {}).items():
            self.values[key] = self.values.get(key, "") + text
        for key, rows in patch.get("rows", {}).items():
            self.values.setdefault(key, {}).update(rows)


class Recorder(BaseComm):
    """A comm that keeps what is sent instead of sending it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        super().__init__(*args, **kwargs)

    def publish_msg(self, msg_type: str, data: Any = None, *_args: Any, **_more: Any) -> None:
        """Keep it."""
        self.sent.append((msg_type, data or {}))

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The contents of the custom messages."""
        return [data["content"] for kind, data in self.sent if kind == "comm_msg" and data.get("method") == "custom"]

    def ask(self, **question: Any) -> None:
        """What the browser sends."""
        self.handle_msg({"content": {"data": {"method": "custom", "content": question}}, "buffers": []})


def story(seed: int = 1, iterations: int = 5, *, run: str = "1", parent: str | None = None) -> Iterator[ev.Event]:
    """The events of a run in which everything that can happen does, more or less at random."""
    rng, clock = random.Random(seed), (x / 100 for x in range(10**9))
    numbers, calls, chance = iter(range(1, 10**6)), iter(range(1, 10**6)), random.Random(seed)

    def at() -> dict[str, Any]:
        return {"run": run, "at": next(clock)}

    yield ev.RunStarted(
        **at(), question="Which?", signature="x -> answer: str", model="m", sub_model="s", max_iterations=20,
        max_llm_calls=50, variables=(ev.Variable("x", "str", "9 characters", "'abc'"),), parent=parent,
        tools=("read_file(path: str) -> str",),
    )  # fmt: skip
    for n in range(1, iterations + 1):
        yield ev.IterationStarted(**at(), iteration=n, prompt="go on")
        yield from _reply(at, rng, n)
        yield ev.CellStarted(**at(), iteration=n, cell=n, code=f"print({n})")
        for _ in range(rng.randrange(4)):
            kind: Any = rng.choice(["stdout", "stdout", "stderr", "display"])
            data = {"text/html": "<table><tr><td>1</td></tr></table>"} if kind == "display" else {}
            yield ev.CellOutput(**at(), iteration=n, cell=n, kind=kind, text=f"{kind} {n}\r\n", data=data)
        yield from _subcalls(at, rng, n, [next(numbers) for _ in range(rng.randrange(4))])
        yield from _tool_calls(at, chance, n, [next(calls) for _ in range(chance.randrange(4))])
        if rng.random() < 0.2:
            yield ev.Note(**at(), iteration=n, text="the sandbox was started anew")
        status: Any = "submitted" if n == iterations else rng.choice(["ok", "error"])
        if status == "error":
            yield ev.CellOutput(**at(), iteration=n, cell=n, kind="error", text="Traceback\nKeyError: 'a'")
        changed = (ev.Variable(f"v{n}", "int", "", str(n)),)
        yield ev.CellFinished(
            **at(), iteration=n, cell=n, status=status, seconds=0.2, changed=changed, removed=("old",)
        )
        yield ev.IterationFinished(**at(), iteration=n, observation="3")
    yield ev.Final(**at(), iteration=iterations, values={"answer": "so"})
    yield ev.RunFinished(**at(), stop_reason="answered", detail="", usage=Usage(50, 25), cost=0.01, seconds=3.0)


def _reply(at: Callable[[], dict[str, Any]], rng: random.Random, n: int) -> Iterator[ev.Event]:
    reply = f"I think of **{n}**.\n\n```repl\nprint({n})\n```\n"
    if rng.random() < 0.5:
        yield ev.ModelDelta(**at(), iteration=n, text="hm", kind="thinking")
    if rng.random() < 0.3:
        yield ev.ModelDelta(**at(), iteration=n, text="I wa")
        yield ev.ModelDelta(**at(), iteration=n, text="", kind="restart")
    for start in range(0, len(reply), 7):
        yield ev.ModelDelta(**at(), iteration=n, text=reply[start : start + 7])
    yield ev.ModelFinished(
        **at(), iteration=n, reply=reply, thinking="hm", model="m", usage=Usage(10, 5, 3), cost=0.001, seconds=0.5,
        cells=(f"print({n})",),
    )  # fmt: skip


def _subcalls(at: Callable[[], dict[str, Any]], rng: random.Random, n: int, numbers: list[int]) -> Iterator[ev.Event]:
    for number in numbers:
        batch = rng.choice([None, 1])
        prompt = f"read {number}"
        yield ev.SubcallStarted(**at(), iteration=n, cell=n, subcall=number, prompt=prompt, model="s", batch=batch)
    for number in rng.sample(numbers, len(numbers)):
        error = rng.choice(["", "", "overloaded"])
        yield ev.SubcallFinished(
            **at(), subcall=number, reply="" if error else f"said {number}", error=error, model="s",
            usage=Usage(3, 2), cost=None, seconds=0.01,
        )  # fmt: skip


def _tool_calls(at: Callable[[], dict[str, Any]], rng: random.Random, n: int, numbers: list[int]) -> Iterator[ev.Event]:
    for number in numbers:
        yield ev.ToolCallStarted(
            **at(), iteration=n, cell=n, call=number, tool="read_file", arguments=f"'{number}.txt'"
        )
    for number in rng.sample(numbers, len(numbers)):
        error = rng.choice(["", "", "OSError: no such file"])
        result = "" if error else f"text {number}"
        yield ev.ToolCallFinished(**at(), call=number, result=result, error=error, seconds=0.01)
