"""`llm_batch(…, batch_api=True)`: what the code gets, what it costs, and that nothing is paid for twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel import Completion, ModelError, RefusedError, Request, ScriptedModel, Usage
from rlm_kernel import events as ev
from rlm_kernel.calls import Calls
from rlm_kernel.models.batches import BatchNews
from rlm_kernel.models.prices import cost
from tests.fakes.batches import ROOT, FakeBatches
from tests.fakes.provider import FakeProvider, anthropic
from tests.helpers import Played, code, play, with_calls

HAIKU = "claude-haiku-5-5"


class Service(ScriptedModel):
    """A model with a batch service, which answers when it is told to."""

    max_tokens = 1_000

    def __init__(self, *, ready: bool = True) -> None:
        super().__init__([], name=HAIKU)
        self.ready = asyncio.Event()
        if ready:
            self.ready.set()
        self.handed_in: list[tuple[Request, ...]] = []
        self.pending: set[tuple[str, ...]] = set()
        self.fault: ModelError | None = None
        """Instead of taking a batch."""

    def pending_batch(self, requests: Sequence[Request]) -> int | None:
        return self.max_tokens if _prompts(requests) in self.pending else None

    async def complete_batch(
        self, requests: Sequence[Request], on_news: Callable[[BatchNews], None] | None = None
    ) -> list[Completion | ModelError]:
        prompts, resumed = _prompts(requests), _prompts(requests) in self.pending
        if self.fault is not None:
            raise self.fault
        if not resumed:
            self.handed_in.append(tuple(requests))
            self.pending.add(prompts)
        if on_news is not None:
            on_news(BatchNews("b1", 0, len(prompts), resumed))
        await self.ready.wait()
        self.pending.discard(prompts)
        outcomes: list[Completion | ModelError] = []
        for prompt in prompts:
            if prompt == "bad":
                outcomes.append(ModelError("this one failed"))
            else:
                outcomes.append(Completion(prompt.upper(), HAIKU, Usage(100, 10)))
        return outcomes


def _prompts(requests: Sequence[Request]) -> tuple[str, ...]:
    return tuple(request.messages[-1].content for request in requests)


def batch(*prompts: str) -> dict[str, Any]:
    return {"prompts": list(prompts), "model": None, "batch_api": True}


def outcome(played: Played) -> tuple[str, dict[str, Any]]:
    assert played.error is None
    return played.trajectory.stop_reason, played.trajectory.values


def run_of(model: Service, *replies: str, **options: Any) -> Played:
    """A run whose code is answered by this service."""
    model._replies = replies
    played = play([], options.pop("signature", "-> answer: str"), wrap=lambda _: model, batch_api=True, **options)
    played.model = model
    return played


# -- what the code gets -------------------------------------------------------------------------------------------
def test_replies_stand_in_their_places_and_cost_half() -> None:
    """One batch for all; what failed is an error in its place; the price is the batch service's."""

    async def work(run: Calls) -> Any:
        return await run("llm_batch", batch("a", "bad", "c")), run.standing.ledger

    model = Service()
    (answer, ledger), emitted = with_calls(work, model=model, batch_api=True, budget=1.0)
    assert answer == [{"text": "A"}, {"error": "this one failed"}, {"text": "C"}]
    half = cost(Usage(100, 10), HAIKU, batch=True)
    assert half is not None
    assert half == pytest.approx((cost(Usage(100, 10), HAIKU) or 0) / 2)
    assert ledger.cost == pytest.approx(2 * half)
    assert ledger.subcalls == 3
    assert [(kind, facts.get("subcall")) for kind, facts in emitted] == [
        *[("SubcallStarted", n) for n in (1, 2, 3)],
        ("Note", None),
        *[("SubcallFinished", n) for n in (1, 2, 3)],
    ]
    assert [facts["cost"] for kind, facts in emitted if kind == "SubcallFinished"] == [half, None, half]
    assert [len(requests) for requests in model.handed_in] == [3]


def test_a_batch_tells_of_itself() -> None:
    """That it was handed in, and how long that takes."""

    async def work(run: Calls) -> None:
        await run("llm_batch", batch("a", "b"))

    _, emitted = with_calls(work, model=Service(), batch_api=True)
    assert [facts["text"] for kind, facts in emitted if kind == "Note"] == [
        "batch b1: 2 requests handed in; it takes minutes to hours, and goes on if stopped"
    ]


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        (Service(), {}, "batch_api is off, since it takes hours; it is for the user to turn on (--batch-api)"),
        (ScriptedModel([]), {"batch_api": True}, "'scripted' has no batch service: ask without batch_api"),
    ],
)
def test_where_there_is_no_batch_service_the_code_is_told(model: Any, options: dict[str, Any], says: str) -> None:
    """In a line, and nothing is charged."""

    async def work(run: Calls) -> int:
        with pytest.raises(RefusedError) as caught:
            await run("llm_batch", batch("a"))
        assert str(caught.value) == says
        return run.standing.ledger.subcalls

    assert with_calls(work, model=model, **options) == (0, [])


def test_the_model_is_told_of_it_where_the_user_allows_it() -> None:
    """And not otherwise."""
    for options in ({}, {"batch_api": True}):
        played = play([code("SUBMIT(answer='x')")], **options)
        assert ("With `batch_api=True` it costs half" in played.roots[0].system) == bool(options)


# -- what it may cost ---------------------------------------------------------------------------------------------
def test_the_whole_batch_is_reserved_first() -> None:
    """With replies as long as all of them can be; what is left meanwhile is left."""
    model = Service(ready=False)

    async def work(run: Calls) -> Any:
        task = asyncio.ensure_future(run("llm_batch", batch(*["p" * 100] * 10)))
        while not model.handed_in:
            await asyncio.sleep(0)
        ledger = run.standing.ledger
        committed = ledger._committed.tokens
        model.ready.set()
        await task
        return committed, ledger._committed.tokens, ledger.usage.total_tokens

    committed, after, used = with_calls(work, model=model, batch_api=True, max_tokens=8_000)[0]
    assert {request.max_tokens for request in model.handed_in[0]} == {512}
    assert (committed, after, used) == (10 * (100 + 16 + 16 + 512), 0, 1_100)


def test_a_batch_that_does_not_fit_is_refused_whole_and_the_run_goes_on() -> None:
    """The code may ask fewer at once; nothing was handed in or charged."""
    cell = (
        "try:\n    llm_batch(['p'] * 30, batch_api=True)\nexcept SubcallError as e:\n    said = str(e)\n"
        "SUBMIT([said, *llm_batch(['a'], batch_api=True)])"
    )
    model = Service()
    played = run_of(model, code(cell), signature="-> r: list", max_tokens=26_000)
    stop_reason, values = outcome(played)
    assert stop_reason == "answered"
    assert values["r"][0].startswith("the next call may take 16,")
    assert values["r"][0].endswith("are free for it: ask fewer prompts at once")
    assert values["r"][1] == "A"
    assert [len(requests) for requests in model.handed_in] == [1]


def test_a_batch_that_was_not_taken_reserves_nothing() -> None:
    """Its error stands in every place."""
    model = Service()
    model.fault = ModelError("not now")

    async def work(run: Calls) -> Any:
        return await run("llm_batch", batch("a", "b")), run.standing.ledger._committed.tokens, run.standing.handed_in

    assert with_calls(work, model=model, batch_api=True, budget=1.0)[0] == ([{"error": "not now"}] * 2, 0, 0)


def test_a_batch_of_an_earlier_kernel_needs_what_it_may_cost() -> None:
    """Its replies can be no shorter than they were asked for."""
    model = Service()
    model.pending.add(("a", "b"))

    async def work(run: Calls) -> Any:
        with pytest.raises(RefusedError, match="may take 2,066 tokens, and 1,900 of 1,900 are free"):
            await run("llm_batch", batch("a", "b"))
        return run.standing.ledger.subcalls

    assert with_calls(work, model=model, batch_api=True, max_tokens=1_900)[0] == 0
    assert model.handed_in == []


# -- what goes on -------------------------------------------------------------------------------------------------
def test_a_batch_outlives_the_cell_that_waits_for_it() -> None:
    """The model is told, asks the same again and has it: handed in once, charged once, and reserved all the while."""
    model, committed = Service(ready=False), list[int]()
    cell = code("r = llm_batch(['a', 'b'], batch_api=True)", "SUBMIT(r)")

    def on(run: Any, event: ev.Event) -> None:
        if isinstance(event, ev.CellFinished) and event.cell == 1:
            committed.append(run.ledger._committed.tokens)
            model.ready.set()

    played = run_of(model, cell, cell, signature="-> r: list", cell_timeout=0.5, max_llm_calls=2, budget=1.0, on=on)
    assert outcome(played) == ("answered", {"r": ["A", "B"]})
    assert "A batch goes on at the provider: call llm_batch with the same prompts and batch_api=True" in played.told[1]
    assert [len(requests) for requests in model.handed_in] == [2]
    assert committed == [2 * (1 + 32 + 1_000)]
    assert "[left: 0 of 2 sub-calls" in played.told[1]
    first, *_ = played.trajectory.cells
    assert {s.error for s in first.subcalls} == {
        "not collected: its batch goes on at the provider, ask the same prompts again"
    }
    notes = [event.text for event in played.events if isinstance(event, ev.Note)]
    assert [note.partition(";")[0] for note in notes if note.startswith("batch")] == [
        "batch b1: 2 requests handed in",
        "batch b1: 2 requests found again, where an earlier cell left it",
    ]


def test_the_same_batch_is_not_waited_for_twice_at_once() -> None:
    """It would be paid for twice, or answer only one of them."""
    model = Service(ready=False)

    async def work(run: Calls) -> Any:
        task = asyncio.ensure_future(run("llm_batch", batch("a")))
        while not model.handed_in:
            await asyncio.sleep(0)
        with pytest.raises(RefusedError, match="being waited for already"):
            await run("llm_batch", batch("a"))
        model.ready.set()
        return await task

    assert with_calls(work, model=model, batch_api=True)[0] == [{"text": "A"}]


def test_replies_of_a_cell_that_is_stopped_afterwards_are_kept() -> None:
    """The batch was collected and paid for, so it is not handed in again."""
    model = Service()
    slow = "r = llm_batch(['a', 'b'], batch_api=True)\nimport time\nwhile True: time.sleep(0.005)"
    played = run_of(
        model,
        code(slow),
        code("SUBMIT(llm_batch(['b', 'a'], batch_api=True))"),
        signature="-> r: list",
        cell_timeout=0.5,
    )
    assert outcome(played) == ("answered", {"r": ["B", "A"]})
    assert len(model.handed_in) == 1


# -- a notebook's kernel that is started again --------------------------------------------------------------------
CELL = """\
import sys
from rlm_kernel import RLM, AnthropicModel, Completion, FakeSandbox, ScriptedModel

ask = "r = llm_batch([f'prompt {n}' for n in range(200)], batch_api=True)"
cell = f"```repl\\n{ask}\\nSUBMIT(n=sum(x.startswith('PROMPT') for x in r))\\n```"
model = ScriptedModel([Completion(cell, "free")], name="claude-haiku-5-5")
sub = AnthropicModel("claude-haiku-5-5", base_url=sys.argv[1], api_key="sk-test", batch_poll=0.02)
rlm = RLM("-> n: int", model=model, sub_model=sub, sandbox=FakeSandbox(), batch_api=True, max_llm_calls=200, budget=1.0)
result = rlm("How many?")
print(result.n, round(result.cost, 9))
"""


def test_a_kernel_that_is_started_again_finds_its_batch(tmp_path: Path) -> None:
    """Killed while it waits; the same cell, asked again, goes on with the running batch, which is paid for once."""
    batches = FakeBatches(looks=10**9)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")},
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "HOME": str(tmp_path),
    }
    with FakeProvider(anthropic("ok"), at={ROOT: batches}) as provider:
        batches.url = provider.url
        command = [sys.executable, "-c", CELL, provider.url]
        killed = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 60
        while not (batches.batches and batches.batches["msgbatch_1"].looks > 2) and time.monotonic() < deadline:
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        batches.looks = 0
        again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    price = round(200 * (cost(Usage(10, 5), HAIKU, batch=True) or 0), 9)
    assert again.stdout.split() == ["200", str(price)], again.stderr
    assert len(batches.batches) == 1
    assert list((tmp_path / "state" / "rlm_kernel" / "batches").iterdir()) == []
