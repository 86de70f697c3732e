"""A conversation that has become too long: its older turns give way to a summary. With a small pretend window."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel import (
    RLM,
    Completion,
    FakeSandbox,
    InputError,
    KernelSandbox,
    ModelError,
    Options,
    Request,
    Result,
    ScriptedModel,
)
from rlm_kernel import events as ev
from rlm_kernel.compaction import Compactor
from rlm_kernel.errors import AuthenticationError, PromptTooLongError
from rlm_kernel.granting import input_bound
from rlm_kernel.jsonl import load
from rlm_kernel.models.openai import OpenAIModel
from rlm_kernel.panel.feed import Feed
from rlm_kernel.render.live import TextView
from rlm_kernel.result import Result as Shown
from rlm_kernel.trajectory import Trajectory
from tests.helpers import code, defaults_restored

WINDOW = 6_000
"""Tokens; the system prompt is a quarter of it."""
SUMMARY = "I found that n grows; v1 to v9 hold the parts. Still to do: submit."


@pytest.fixture(autouse=True)
def own_defaults() -> Iterator[None]:
    with defaults_restored():
        yield


def turn(number: int, chars: int = 3_000) -> str:
    """A reply whose code makes a variable and prints much."""
    return f"Turn {number} looks.\n" + code(f"v{number} = {number}\nprint('out{number} ' + 'x' * {chars})")


def is_call(request: Request) -> bool:
    """Whether it asks for a summary."""
    return "write a summary of it" in request.messages[-1].content


class Talking(ScriptedModel):
    """Works on for so many turns, then submits; writes `SUMMARY` whenever it is asked for one."""

    def __init__(self, turns: int, summary: Any = SUMMARY, **more: Any) -> None:
        self.turns, self.summaries = turns, 0
        self._numbers = itertools.count(1)
        self._written = summary
        more.setdefault("window", WINDOW)
        super().__init__([self._reply] * 500, **more)

    def _reply(self, request: Request) -> str:
        if is_call(request):
            self.summaries += 1
            if isinstance(self._written, Exception):
                raise self._written
            return str(self._written)
        number = next(self._numbers)
        return turn(number) if number <= self.turns else code("SUBMIT(str(sum(v for k, v in globals().items() "
                                                               "if k[:1] == 'v' and k[1:].isdigit())))")  # fmt: skip


def make(model: ScriptedModel, **more: Any) -> RLM:
    more.setdefault("sandbox", FakeSandbox())
    more.setdefault("max_iterations", 50)
    return RLM("-> answer", model=model, sub_model=model, **more)


def told(result: Result) -> list[str]:
    return [note for i in result.trajectory for note in i.notes if "gave way" in note]


def turns_of(model: ScriptedModel) -> list[Request]:
    """The requests of the loop, without those for summaries."""
    return [r for r in model.requests if not is_call(r)]


def size(request: Request) -> int:
    return sum(len(m.content) for m in request.messages)


# -- what it does --------------------------------------------------------------------------------------------------
def test_older_turns_give_way_to_a_summary() -> None:
    """The run goes on in a short conversation, with all its variables, to the same answer."""
    model = Talking(9)
    result = make(model)("How many?")
    assert (result.answer, result.stop_reason) == ("45", "answered")
    assert model.summaries >= 1
    assert len(told(result)) == model.summaries
    assert max(len(r.system) + size(r) for r in turns_of(model)) < 4 * WINDOW


def test_the_beginning_stays_byte_by_byte() -> None:
    """System prompt and first question are what they were, so that their cache is read on; roles alternate."""
    model = Talking(9)
    make(model)("How many?")
    first, *others = turns_of(model)
    assert {first.system} == {r.system for r in others}
    assert {first.messages[0]} == {r.messages[0] for r in others}
    for request in model.requests:
        assert [m.role for m in request.messages] == ["user", "assistant"] * (len(request.messages) // 2) + ["user"]


def test_the_call_for_a_summary_goes_on_with_the_conversation() -> None:
    """Its beginning is that of the call before, so it is read from the cache."""
    model = Talking(9)
    make(model)("How many?")
    at = next(n for n, r in enumerate(model.requests) if is_call(r))
    before, call, after = model.requests[at - 1 : at + 2]
    assert call.messages[: len(before.messages)] == before.messages
    assert "out" in call.messages[-1].content
    assert [m.content for m in after.messages][0::4] == [before.messages[0].content, after.messages[-1].content]
    assert after.messages[1].content.endswith(SUMMARY)
    assert call.messages[-1].content.startswith(after.messages[-1].content)
    assert after.messages[3] == call.messages[-2]


def test_it_is_rare_and_large() -> None:
    """Many turns lie between two of them, and each leaves little."""
    model = Talking(80)
    result = make(model, max_output_chars=400, max_iterations=100)("How many?")
    compacted = [i.number for i in result.trajectory if any("gave way" in n for n in i.notes)]
    apart = [b - a for a, b in itertools.pairwise(compacted)]
    assert len(compacted) >= 2
    assert min(apart) >= 5
    sizes = [size(r) for r in turns_of(model)]
    assert all(sizes[n - 1] < sizes[n - 2] / 2 for n in compacted)


def test_what_the_model_is_told_in_place_of_its_turns() -> None:
    """Its summary, the variables, and where the full text is."""
    model = Talking(9)
    make(model)("How many?")
    short = next(r for r in turns_of(model)[1:] if "(Summary of my turns" in r.messages[1].content)
    notice = short.messages[2].content
    assert "v1  int" in notice
    assert "`transcript` (str)" in notice
    assert "history" not in notice


def test_the_full_text_is_in_the_repl() -> None:
    """Every reply that gave way and what came of it, over several summaries, once each."""
    model = Talking(14)
    counted = "[transcript.count(f'turn {n}: reply =') for n in range(1, 16)]"
    look = code(f"SUBMIT(str({counted}) + str('out3 xxx' in transcript))")
    replies = model._replies
    rlm = make(model)
    rlm("How many?")
    talk = rlm._session.memory.talk
    assert talk is not None
    gone = talk.transcript.count(": reply =====")
    model._replies = (*replies[: model._answered], look)
    assert rlm("And now?").answer == str([1] * gone + [0] * (15 - gone)) + "True"
    assert gone + (len(talk.messages) - 3 + 1) // 2 == talk.replies


def test_it_works_in_a_kernel() -> None:
    """The variable with the full text gets there between two turns, and comes back when the kernel is killed later."""
    model = Talking(9)
    with make(model, sandbox=KernelSandbox()) as rlm:
        result = rlm("How many?")
        assert (result.answer, result.stop_reason) == ("45", "answered")
        assert told(result)
        look = [code("import os; os._exit(1)"), code("SUBMIT(str((v1, transcript[:25])))")]
        model._replies = (*model._replies[: model._answered], *look)
        assert rlm.ask("And now?").answer == "(1, '===== turn 1: reply =====')"


def test_the_trajectory_keeps_everything() -> None:
    """Every turn is there with its reply and its output; the event says what the model does not see any more."""
    model = Talking(9)
    events: list[ev.Event] = []
    rlm = make(model, on_event=events.append)
    result = rlm("How many?")
    assert [i.reply.split("\n")[0] for i in result.trajectory][:9] == [f"Turn {n} looks." for n in range(1, 10)]
    assert all(f"out{n} xxx" in result.trajectory[n - 1].cells[0].text() for n in range(1, 10))
    event = next(e for e in events if isinstance(e, ev.Compacted))
    assert event.turns[0] == 1
    assert event.turns[1] == event.iteration - 2
    assert event.summary == SUMMARY
    assert event.tokens[0] >= 0.8 * WINDOW > event.tokens[1]
    said = f"turns 1 to {event.turns[1]} gave way to a summary: about {event.tokens[0]:,} tokens became"
    assert told(result)[0].startswith(said)


def test_what_it_took_is_counted() -> None:
    """The call for the summary is part of its turn, of the run and of the panel's totals."""
    model = Talking(9)
    events: list[ev.Event] = []
    story, feed = Trajectory(), None

    def hear(event: ev.Event) -> None:
        nonlocal feed
        events.append(event)
        story.add(event)
        feed = feed or Feed(story)
        feed.hear(event)

    result = make(model, on_event=hear)("How many?")
    spent = [e.usage for e in events if isinstance(e, ev.ModelFinished | ev.Compacted)]
    total = sum(u.total_tokens for u in spent)
    assert result.usage.total_tokens == total
    assert sum(i.usage.total_tokens for i in result.trajectory) == total
    assert feed is not None
    feed.update()
    assert feed.store.snapshot()["t/1"]["tokens"] == total


def test_it_is_shown_everywhere(tmp_path: Path) -> None:
    """In the settled output, in the terminal, and in a file and back."""
    lines: list[str] = []
    result = make(Talking(9), on_event=TextView(lines.append))("How many?")
    shown = Shown(result.trajectory)._repr_mimebundle_()
    assert "note: turns 1 to" in "".join(lines)
    assert "gave way to a summary" in shown["text/html"]
    assert "gave way to a summary" in shown["text/markdown"]
    result.trajectory.save(tmp_path / "r.jsonl")
    assert load(tmp_path / "r.jsonl") == result.trajectory


def test_known_tokens_stay_a_true_bound() -> None:
    """After a summary only what the provider has counted of the beginning is taken for known; all else is bounded."""

    class Watched(Talking):
        async def complete(self, request: Request, on_delta: Any = None) -> Completion:
            run = rlm._session._active.run  # type: ignore[union-attr]
            seen.append((request, run.talk.known))  # type: ignore[union-attr]
            return await super().complete(request, on_delta)

    seen: list[tuple[Request, tuple[int, int]]] = []
    rlm = make(model := Watched(14))
    rlm("How many?")
    first = (len(seen[0][0].system) + size(seen[0][0])) // 4
    after = [n + 1 for n, (request, _) in enumerate(seen) if is_call(request)]
    assert [seen[n][1] for n in after] == [(1, first)] * model.summaries
    for request, known in seen:
        assert input_bound(request, known) >= (len(request.system) + size(request)) // 4
        assert known[0] < len(request.messages)


# -- when ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("share", "summaries"),
    [(1.0, 0), (None, 0), (0.5, 1)],
)
def test_the_share_is_an_option(share: float | None, summaries: int) -> None:
    """Of the window, from which on turns give way; None for never."""
    model = Talking(4, window=7_000)
    result = make(model, compact_at=share)("How many?")
    assert (result.answer, min(1, model.summaries)) == ("10", summaries)


@pytest.mark.parametrize("value", [0, 1.5, -1, True, "half"])
def test_a_share_that_is_none_is_refused(value: Any) -> None:
    """One line that says what it is."""
    with pytest.raises(InputError, match="compact_at is a share of the window"):
        Options().merged({"compact_at": value})


def test_the_window_of_a_known_model_is_on_the_list() -> None:
    """A model that says nothing is looked up; one that nobody knows has little."""
    for name, window in (("claude-sonnet-5-5", 1_000_000), ("nobody-knows", 100_000)):
        rest: Any = [None] * 5
        assert Compactor(ScriptedModel([], name=name), *rest).window == window


def test_a_window_can_be_told_of_any_model() -> None:
    """Of a server's own model, that nobody knows."""
    assert OpenAIModel("qwen", base_url="http://x/v1", window=8_000).window == 8_000
    with pytest.raises(InputError, match="window=0"):
        OpenAIModel("qwen", window=0)


def test_what_cannot_be_shortened_is_left_alone() -> None:
    """Where the question alone fills the window, a summary of two short turns would help nobody."""
    model = Talking(3)
    result = make(model, max_output_chars=100)("How many? " + "y" * 25_000)
    assert (result.answer, model.summaries) == ("6", 0)


# -- follow-ups ---------------------------------------------------------------------------------------------------
def test_a_follow_up_in_a_long_conversation() -> None:
    """It is compacted before the first turn if need be; the question that is answered is never part of what is lost."""
    model = Talking(5, window=9_000)
    rlm = make(model, max_iterations=3)
    rlm("First?")
    assert model.summaries == 0
    model.window = 4_000
    model.turns = 20
    result = rlm.ask("SECOND-QUESTION?")
    assert model.summaries >= 1
    asked = [[m.content for m in r.messages] for r in turns_of(model)][4:]
    assert len(asked) >= 3
    assert all(sum("SECOND-QUESTION?" in text for text in texts) == 1 for texts in asked)
    assert result.stop_reason == "max_iterations"


def test_a_summary_of_a_summary() -> None:
    """A later one is written from the earlier one and what came after it; the turns are numbered on."""
    model = Talking(20)
    events: list[ev.Event] = []
    make(model, on_event=events.append)("How many?")
    first, second, *_ = [e.turns for e in events if isinstance(e, ev.Compacted)]
    assert second[0] == first[1] + 1
    call = [r for r in model.requests if is_call(r)][1]
    assert SUMMARY in call.messages[1].content


def test_a_transcript_of_the_users_own_wins() -> None:
    """Theirs stays, and ours is told by another name."""
    model = Talking(9)
    rlm = RLM("transcript -> answer", model=model, sub_model=model, sandbox=FakeSandbox(), max_iterations=50)
    rlm("How many?", transcript="mine")
    assert any("`rlm_transcript` (str)" in m.content for r in model.requests for m in r.messages)
    model._replies = (*model._replies[: model._answered], code("SUBMIT(transcript + str(len(rlm_transcript) > 1000))"))
    assert rlm.ask("Which?").answer == "mineTrue"


# -- trouble ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("summary", "why"),
    [
        (ModelError("overloaded"), "the call for a summary failed: overloaded"),
        (" \n", "the model wrote none"),
    ],
)
def test_without_a_summary_there_are_excerpts(summary: Any, why: str) -> None:
    """The run goes on with the beginnings of its turns, and says so."""
    model = Talking(9, summary)
    result = make(model)("How many?")
    assert result.answer == "45"
    assert f"gave way to excerpts of them ({why}): about" in told(result)[0]
    text = next(r.messages[1].content for r in turns_of(model)[1:] if "(Summary of" in r.messages[1].content)
    assert "Turn 1: Turn 1 looks." in text
    assert "-> Result: ok out1 xxx" in text


def test_a_summary_that_the_budget_does_not_allow() -> None:
    """Nobody is asked for it, the excerpts cost nothing, and no limit is overspent."""
    model = Talking(9)
    result = make(model, max_tokens=32_000, max_output_chars=2_000)("How many?")
    assert result.usage.total_tokens <= 32_000
    assert model.summaries == 0
    assert "gave way to excerpts of them (the next call may take" in told(result)[0]


def test_a_key_that_is_refused_ends_the_run() -> None:
    """No excerpts are made where no further call can work."""
    model = Talking(9, AuthenticationError("no key"))
    with pytest.raises(AuthenticationError) as caught:
        make(model)("How many?")
    assert caught.value.result.stop_reason == "error"


def test_excerpts_of_many_turns_are_short() -> None:
    """However many there are."""
    from rlm_kernel.prompt import excerpts

    text = excerpts([(n, "reply " * 500, "told " * 500) for n in range(1, 2_000)])
    assert len(text) < 15_000
    assert text.startswith("Turn 1: reply reply")
    assert "more turns" in text


class Hesitant(Talking):
    """Never comes back from a call for a summary."""

    async def complete(self, request: Request, on_delta: Any = None) -> Completion:
        if is_call(request):
            self.summaries += 1
            if self.summaries == 1:
                await asyncio.Event().wait()
        return await super().complete(request, on_delta)


def test_a_stop_while_the_summary_is_written() -> None:
    """The run ends as interrupted; the conversation and the variables are what they were, and can be gone on with."""
    model = Hesitant(9)
    rlm = make(model)
    rlm._on_event = lambda e: rlm.interrupt() if isinstance(e, ev.IterationStarted) and e.iteration == 6 else None
    result = rlm("How many?")
    if not model.summaries:
        pytest.fail("the summary was asked for in another turn")
    assert (result.stop_reason, result.detail) == ("interrupted", "stopped by the user")
    assert told(result) == []
    assert len(result.iterations) == 6
    talk = rlm._session.memory.talk
    assert talk is not None
    assert (talk.replies, talk.transcript) == (5, "")
    rlm._on_event = None
    after = rlm.ask("Go on.")
    assert after.stop_reason == "answered"
    assert len(told(after)) >= 1


def test_the_time_is_over_while_the_summary_is_written() -> None:
    """The last call follows, with the conversation as it was."""
    model = Hesitant(5)
    result = make(model, timeout=1.5)("How many?")
    assert (result.stop_reason, result.answer) == ("timeout", "15")
    assert [i.final for i in result.trajectory][-1]


# -- the provider takes no more ------------------------------------------------------------------------------------
class Narrow(Talking):
    """Refuses requests of more than so many characters, as providers do."""

    def __init__(self, *args: Any, chars: int, **more: Any) -> None:
        super().__init__(*args, **more)
        self.chars, self.refused = chars, 0

    async def complete(self, request: Request, on_delta: Any = None) -> Completion:
        if len(request.system) + size(request) > self.chars:
            self.refused += 1
            self.requests.append(request)
            raise PromptTooLongError("the prompt is too long")
        return await super().complete(request, on_delta)


def test_a_prompt_that_is_too_long_is_compacted_and_asked_again() -> None:
    """Also where the window was thought to be larger; what was learned of it holds for the rest of the run."""
    model = Narrow(20, window=1_000_000, chars=20_000)
    result = make(model)("How many?")
    assert result.answer == "210"
    assert model.refused == 1
    assert len(told(result)) >= 2
    assert "gave way to a summary" in told(result)[0]
    call = next(r for r in model.requests if is_call(r))
    assert size(call) < 14_000
    assert "characters cut" in call.messages[1].content + call.messages[2].content


def test_a_prompt_that_stays_too_long_is_an_error() -> None:
    """It is compacted once, not for ever; the trajectory is kept."""
    model = Narrow(20, window=1_000_000, chars=9_000)
    with pytest.raises(PromptTooLongError) as caught:
        make(model)("How many? " + "y" * 8_000)
    assert caught.value.result.stop_reason == "error"
    assert model.refused == 1


def test_a_provider_that_says_so_is_understood() -> None:
    """The error of either kind of provider becomes ours."""
    from rlm_kernel import AnthropicModel
    from tests.fakes.asking import ask
    from tests.fakes.provider import FakeProvider, refusal

    said = refusal(400, "prompt is too long: 210000 tokens > 200000 maximum", "invalid_request_error")
    with FakeProvider(said) as provider, pytest.raises(PromptTooLongError, match="210000 tokens"):
        ask(AnthropicModel("claude-fake", api_key="k", base_url=provider.url))


# -- recordings ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["summary", "failed", "too long"])
def test_a_compacted_run_is_recorded_and_replayed(tmp_path: Path, kind: str) -> None:
    """With the window of the recorded model, which the replay is not told otherwise."""
    path = str(tmp_path / "r.json")
    model: Talking = Narrow(20, window=500_000, chars=20_000) if kind == "too long" else Talking(9)
    if kind == "failed":
        model._written = ModelError("overloaded")
    recorded = make(model, record=path)("How many?")
    assert json.loads(Path(path).read_text())["runs"][0]["conversations"][0]["window"] == model.window
    replayed = make(ScriptedModel([]), replay=path)("How many?")
    assert replayed.answer == recorded.answer
    assert told(replayed) == told(recorded)
    assert [i.prompt for i in replayed.trajectory] == [i.prompt for i in recorded.trajectory]
    assert replayed.usage == recorded.usage


# -- models that get nowhere ---------------------------------------------------------------------------------------
def ran(replies: Sequence[Any], **more: Any) -> Result:
    return make(ScriptedModel(list(replies)), **more)("How many?")


def test_a_model_that_answers_every_turn_with_the_same_code() -> None:
    """It is told, stopped after five such turns, and what it found is kept."""
    result = ran([code("n = 3; print(n)")] * 7)
    assert (result.stop_reason, result.answer) == ("max_errors", None)
    assert "turns in a row" in result.detail
    assert "no valid answer was given" in result.detail
    assert "the same as the one before" in result.iterations[1].observation
    assert len(result.iterations) == 7
    assert {i.cells[0].text() for i in result.iterations} == {"3\n"}


def test_a_model_that_never_writes_code() -> None:
    """It is told each time, stopped after five such turns, and its last words are the answer where that is a text."""
    result = ran(["I think that it is 42."] * 6)
    assert (result.stop_reason, result.answer) == ("max_errors", "I think that it is 42.")
    assert all("no ```repl block" in i.observation for i in result.iterations[:5])
    assert [i.cells for i in result.iterations] == [[]] * 6


def test_a_model_that_submits_in_its_first_turn() -> None:
    """Without looking: that is an answer like any other, if it fits, and its one turn shows that it did not look."""
    result = ran([code("SUBMIT('42')")])
    assert (result.stop_reason, result.answer, len(result.iterations)) == ("answered", "42", 1)
    assert result.iterations[0].cells[0].text() == ""
