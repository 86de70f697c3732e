"""A run within a budget: how it ends, what it still answers, and that a recording of it replays. In a fake sandbox."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel import Completion, Usage
from rlm_kernel import events as ev
from rlm_kernel.granting import CHARS_PER_TOKEN, FINAL_OUTPUT
from rlm_kernel.models import Recording, Request
from rlm_kernel.models.prices import cost
from tests.helpers import Played, code, play

HAIKU = "claude-haiku-5-5"


def spent(block: str, tokens: int = 60_000, output: int = 500) -> Completion:
    """A reply with this code, and what it took."""
    return Completion(code(block), HAIKU, Usage(tokens, output))


def outcome(played: Played) -> tuple[str, dict[str, Any]]:
    assert played.error is None
    return played.trajectory.stop_reason, played.trajectory.values


def notes(played: Played) -> list[str]:
    return [event.text for event in played.events if isinstance(event, ev.Note)]


class Answering:
    """A model that is scripted by what it is asked."""

    name = HAIKU

    def __init__(self, answer: Callable[[Request], Completion]) -> None:
        self.requests: list[Request] = []
        self._answer = answer

    async def complete(self, request: Request, on_delta: Any = None) -> Completion:
        self.requests.append(request)
        return self._answer(request)

    async def close(self) -> None:
        """Nothing to release."""


# -- how it ends --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("limits", "reason"), [({"budget": 0.04}, "budget"), ({"max_tokens": 250_000}, "max_tokens")])
def test_a_limit_ends_a_run_with_the_best_answer(limits: dict[str, Any], reason: str) -> None:
    """One last call was kept back for it; the reason is told, and no more was spent than there was."""
    turns = [spent(f"best = {n}") for n in range(20)]

    def answer(request: Request) -> Completion:
        if "The run ends here" in request.messages[-1].content:
            return Completion(code("SUBMIT(best)"), HAIKU, Usage(70_000, 20))
        return turns.pop(0)

    model = Answering(answer)
    played = play([], "-> n: int", wrap=lambda _: model, **limits)
    stop_reason, values = outcome(played)
    done = 20 - len(turns)
    assert (stop_reason, values) == (reason, {"n": done - 1})
    assert done >= 2
    assert "The run ends here: the next call may" in model.requests[-1].messages[-1].content
    assert model.requests[-1].max_tokens == FINAL_OUTPUT
    assert played.trajectory.detail.startswith("the next call may")
    assert (played.trajectory.cost or 0) <= limits.get("budget", 9)
    assert played.trajectory.usage.total_tokens <= limits.get("max_tokens", 10**9)


@pytest.mark.parametrize(("limits", "reason"), [({"budget": 0.001}, "budget"), ({"max_tokens": 5_000}, "max_tokens")])
def test_a_budget_too_small_for_the_first_call_ends_the_run_before_it(limits: dict[str, Any], reason: str) -> None:
    """Nobody is asked, and it is told how much would be needed."""
    played = play([code("SUBMIT(answer='x')")], name=HAIKU, **limits)

    assert outcome(played) == (reason, {})
    assert played.roots == []
    assert played.trajectory.detail.startswith("the next call may ")
    assert played.kinds == ["RunStarted", "RunFinished"]


def test_little_left_makes_replies_shorter_before_it_ends_the_run() -> None:
    """The model may say less and less, and what it says is run all the same."""
    played = play([spent("1"), spent("2"), code("SUBMIT(answer='x')")], name=HAIKU, max_tokens=280_000)

    assert outcome(played) == ("answered", {"answer": "x"})
    assert [request.max_tokens for request in played.roots] == [16_000, 16_000, 8_000]


def test_the_model_sees_what_is_left_each_turn() -> None:
    """Of dollars and of tokens, beside sub-calls."""
    played = play([spent("1"), code("SUBMIT(answer='x')")], name=HAIKU, budget=0.5, max_tokens=300_000)

    assert [line for told in played.told for line in told.splitlines() if line.startswith("[left")] == [
        "[left: 50 of 50 sub-calls; $0.50 of $0.50; 300,000 of 300,000 tokens]",
        "[left: 50 of 50 sub-calls; $0.49 of $0.50; 239,500 of 300,000 tokens]",
    ]


def test_a_sub_call_that_does_not_fit_ends_the_run_after_its_cell() -> None:
    """It fails in its place, its siblings are kept, and what the last answer needs was not touched."""
    cell = "r = llm_batch(['x' * 40_000] * 8)\nok = sum(isinstance(x, str) for x in r)\nprint('went on')"
    played = play([code(cell), code("SUBMIT(ok)")], "-> n: int", name=HAIKU, sub="fine", max_tokens=100_000)
    stop_reason, values = outcome(played)

    assert stop_reason == "max_tokens"
    assert values == {"n": sum(not s.error for s in played.trajectory.subcalls)}
    assert 0 < values["n"] < 8
    assert "went on" in played.told[1]
    assert {s.error.partition(" take")[0] for s in played.trajectory.subcalls if s.error} == {"the next call may"}


@pytest.mark.parametrize(("text", "shown"), [("x", 20_000), ("漢", 20_000)])
def test_an_output_of_any_script_leaves_the_last_answer_affordable(text: str, shown: int) -> None:
    """What was kept back is counted in bytes: where the output has more of them than characters, it is cut."""

    def answer(request: Request) -> Completion:
        if len(request.messages) == 1:
            return spent(f"print('{text}' * {shown})", 5_000, 3_000)
        return Completion(code("SUBMIT(answer='best')"), HAIKU, Usage(9_000, 20))

    model = Answering(answer)
    played = play([], wrap=lambda _: model, max_tokens=40_500)

    assert outcome(played) == ("max_tokens", {"answer": "best"})
    last = model.requests[-1].messages[-1].content
    assert "Reply with one ```repl block that calls SUBMIT" in last
    assert len(last.encode()) < 22_000


def test_a_provider_that_tells_no_tokens_leaves_the_last_answer_affordable() -> None:
    """Then what was said is counted in bytes."""

    def silent(block: str) -> Completion:
        return Completion(code(block), HAIKU)

    told = play([silent("a = 1"), silent("SUBMIT(answer='x')")], name=HAIKU, max_tokens=1_000_000)
    assert outcome(told) == ("answered", {"answer": "x"})
    held: list[int] = []
    play(
        [silent("a = 1"), silent("SUBMIT(answer='x')")],
        name=HAIKU,
        max_tokens=1_000_000,
        on=lambda run, event: held.append(run.ledger._held.tokens) if isinstance(event, ev.CellStarted) else None,
    )
    assert held[0] > len(told.roots[0].system) + 20_000 // CHARS_PER_TOKEN


def test_an_unknown_price_is_said_once() -> None:
    """For the whole tree, however many calls there are; the run goes on, and counts its tokens."""
    cell = "llm_batch(['a', 'b'])\nllm_query('c')"
    played = play([code(cell), code(cell), code("SUBMIT(answer='x')")], sub="y", budget=0.5)

    assert outcome(played) == ("answered", {"answer": "x"})
    assert [text for text in notes(played) if "price" in text] == [
        "the price of scripted is not known, so the budget cannot be kept; its tokens are counted (--max-tokens)"
    ]
    assert played.trajectory.cost is None


def test_an_unknown_price_of_a_sub_model_is_said_too() -> None:
    """The model's own may be known."""

    turns = [spent("llm_query('a')"), spent("SUBMIT(answer='x')")]
    model = Answering(lambda r: turns.pop(0) if r.kind == "root" else Completion("y", "local", Usage(3, 1)))
    model.name = "local"
    played = play([], wrap=lambda _: model, budget=0.5)
    assert [text for text in notes(played) if "price" in text] == [
        "the price of local is not known, so the budget cannot be kept; its tokens are counted (--max-tokens)"
    ]


# -- recorded and replayed ----------------------------------------------------------------------------------------
ASKED = {"question": "What is it?", "signature": "-> answer: str"}


def told(played: Played) -> list[Any]:
    """What happened, but for when, and for what was left."""
    facts = []
    for event in played.events:
        if isinstance(event, ev.ModelDelta | ev.SubcallStarted | ev.SubcallFinished | ev.IterationStarted):
            continue  # pieces, and sub-calls, come in any order
        if isinstance(event, ev.IterationFinished | ev.CellOutput | ev.RunFinished):
            facts.append((type(event).__name__, getattr(event, "stop_reason", ""), getattr(event, "usage", "")))
        else:
            facts.append(type(event).__name__)
    return facts


def recorded(path: Path, replies: list[Any], **settings: Any) -> Played:
    recorder = Recording.open(path).recorder(**ASKED)
    played = play(replies, name=HAIKU, wrap=recorder.wrap, **settings)
    recorder.save()
    return played


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("replay_limits", [{}, {"max_tokens": 120_000}, {"max_tokens": 1}])
def test_a_run_that_its_budget_ended_replays(tmp_path: Path, seed: int, replay_limits: dict[str, Any]) -> None:
    """The same calls are refused, in whatever order they ended, and whatever a replay may spend: it spends nothing."""
    shuffled = random.Random(seed)

    async def sub(prompt: str) -> str:
        await asyncio.sleep(shuffled.random() / 100)
        return "fine " + prompt[:3]

    cell = (
        "r = llm_batch([f'{n:03}' + 'x' * 9_000 for n in range(48)])\n"
        "print([x if isinstance(x, str) else str(x) for x in r])"
    )
    replies = [spent("1", 10_000), spent(cell, 11_000), code("SUBMIT(answer=str(sorted(map(str, r))[0]))")]
    first = recorded(tmp_path / "r.json", replies, sub=sub, max_tokens=120_000)
    again = play([], wrap=lambda _: Recording.load(tmp_path / "r.json").replay(**ASKED), **replay_limits)

    assert outcome(first)[0] == "max_tokens"
    assert 0 < sum(bool(s.error) for s in first.trajectory.subcalls) < 48
    assert outcome(again) == outcome(first)
    assert told(again) == told(first)
    assert [s.error for s in again.trajectory.subcalls] == [s.error for s in first.trajectory.subcalls]


def test_a_run_that_could_not_begin_replays(tmp_path: Path) -> None:
    """Its recording holds one call that was not made."""
    first = recorded(tmp_path / "r.json", [code("SUBMIT(answer='x')")], budget=0.001)
    replay = Recording.load(tmp_path / "r.json").replay(**ASKED)
    again = play([], wrap=lambda _: replay)

    assert outcome(again) == outcome(first) == ("budget", {})
    assert again.trajectory.detail == first.trajectory.detail
    assert replay.unused() is None


def test_what_failed_attempts_took_is_told_again(tmp_path: Path) -> None:
    """The totals of a replay are those of the run."""
    gone = (Usage(4_000, 1), Usage(4_000, 2))
    reply = Completion(code("SUBMIT(answer='x')"), HAIKU, sum(gone, Usage(4_000, 30)), abandoned=gone)
    first = recorded(tmp_path / "r.json", [reply], budget=1.0)
    again = play([], wrap=lambda _: Recording.load(tmp_path / "r.json").replay(**ASKED), budget=1.0)

    expected = sum(cost(usage, HAIKU) or 0 for usage in (*gone, Usage(4_000, 30)))
    assert first.trajectory.usage == again.trajectory.usage == Usage(12_000, 33)
    assert first.trajectory.cost == again.trajectory.cost == pytest.approx(expected)
