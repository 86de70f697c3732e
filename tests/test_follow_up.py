"""Questions that go on with a conversation, and the variable `history`. In a fake sandbox."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from rlm_kernel import (
    RLM,
    AnthropicModel,
    Completion,
    DriftError,
    FakeSandbox,
    InputError,
    ModelError,
    Request,
    Result,
    ScriptedModel,
    Signature,
    Usage,
)
from rlm_kernel import events as ev
from rlm_kernel.config import Options
from rlm_kernel.history import History, travelling
from rlm_kernel.job import Job
from rlm_kernel.session import Session
from rlm_kernel.trajectory import Trajectory
from tests.fakes.provider import FakeProvider, anthropic
from tests.helpers import ENDLESS, Counting, Hanging, code, defaults_restored, in_loop

TEXT = "a text that is long enough to be an object of its own " * 3
LOOK = "SUBMIT(str([(h['run'], h['question'], h['answer'], h['stop_reason']) for h in history]))"


@pytest.fixture(autouse=True)
def own_defaults() -> Iterator[None]:
    with defaults_restored():
        yield


def make(replies: Sequence[Any], signature: str = "-> answer", **more: Any) -> tuple[RLM, ScriptedModel]:
    model = ScriptedModel(list(replies), sub="s")
    more.setdefault("sandbox", FakeSandbox())
    return RLM(signature, model=model, sub_model=model, **more), model


def roots(model: ScriptedModel) -> list[Request]:
    return [r for r in model.requests if r.kind == "root"]


def notes(result: Result) -> list[str]:
    return [note for i in result.trajectory for note in i.notes]


# -- the conversation goes on --------------------------------------------------------------------------------------
def test_a_follow_up_is_appended() -> None:
    """What was said before comes first, byte by byte, and the new question last: a provider's cache is still read."""
    rlm, model = make([code("n = 1"), code("SUBMIT('one')"), code("SUBMIT('two')")])
    rlm("How many?")
    assert rlm.ask("Now split it by region.").answer == "two"
    *_, before, after = roots(model)
    assert after.system == before.system
    assert after.messages[: len(before.messages)] == before.messages
    assert [m.role for m in after.messages] == ["user", "assistant", "user", "assistant", "user"]
    assert after.messages[3].content == code("SUBMIT('one')")
    last = after.messages[4].content
    assert last.index("The answer was accepted.") < last.index("Now split it by region.") < last.index("[turn 1 of 20]")
    assert "Hand in this answer with `SUBMIT(answer=…)` as well." in last


def test_a_plain_question_begins_anew() -> None:
    """Without `ask` the next call has the variables, and no word of what was said."""
    rlm, model = make([code("n = 1\nSUBMIT('one')"), code("SUBMIT(str(n))")])
    rlm("First?")
    assert rlm("Second?").answer == "1"
    (message,) = roots(model)[1].messages
    assert "First?" not in message.content


def test_follow_ups_of_follow_ups() -> None:
    """Each sees all that was said before it."""
    rlm, model = make([code(f"SUBMIT('{n}')") for n in range(3)])
    rlm("zero")
    rlm.ask("one")
    rlm.ask("two")
    said = [m.content for m in roots(model)[-1].messages if m.role == "user"]
    assert [word in text for word, text in zip(("zero", "one", "two"), said, strict=True)] == [True] * 3


def test_what_is_new_is_told_in_the_message() -> None:
    """Another signature and other variables; what the model knows already is not described again."""
    rlm, model = make([code("SUBMIT('x')"), code("SUBMIT(total=1.5, parts=['a'])"), code("SUBMIT(answer='z')")],
                      "a, b -> answer")  # fmt: skip
    rlm("First?", a=TEXT, b=[1, 2])
    got = rlm.ask("Second?", "b, c -> total: float, parts: list[str]", b=[1, 2], c={"k": 1})
    assert (got.total, got.parts) == (1.5, ["a"])
    rlm.ask("Third?")
    first, second, third = roots(model)
    assert first.system == second.system == third.system
    told = second.messages[-1].content
    assert "handed in with `SUBMIT(total=…, parts=…)`; its fields:\n- `total`: float\n- `parts`: list[str]" in told
    assert "New in the REPL:\n\n`c`: dict, 1 keys" in told
    assert "Handed over again, as they were described: `b`." in told
    assert "`a`" not in told
    assert "handed in with `SUBMIT(answer=…)`; its fields:\n- `answer`: str" in third.messages[-1].content


def test_instructions_of_an_earlier_answer_end_with_it() -> None:
    """A signature with instructions, then one without: the model is told that they do not hold any more."""
    rlm, model = make([code("SUBMIT('x')"), code("SUBMIT(n=1)"), code("SUBMIT('y')")])
    rlm.signature = Signature((), rlm.signature.outputs, "Be brief.")
    rlm("First?")
    rlm.ask("Second?", "-> n: int")
    rlm.ask("Third?")
    told = [r.messages[-1].content for r in roots(model)]
    assert "The instructions for the earlier answer do not hold for it." in told[1]
    assert "Be brief." not in told[1]
    assert "Be brief." in told[2]


def test_other_options_are_told() -> None:
    """What the system prompt said and does not hold any more is told anew."""
    replies = [code("SUBMIT('x')"), code("SUBMIT('y')")]
    model = ScriptedModel(replies)

    async def main() -> None:
        session = Session(FakeSandbox())
        for continues, more in ((False, {}), (True, {"max_output_chars": 500, "max_depth": 1, "max_iterations": 3})):
            options = Options(model=model, sub_model=model).merged(more)
            job = Job.prepare("Q", Signature.parse("-> answer"), {}, options, continues=continues)
            await session.run(job, lambda event: None, Trajectory())

    in_loop(main())
    told = roots(model)[1].messages[-1].content
    assert "you now see at most 500 characters a turn" in told
    assert "This holds now:\n- `rlm_query` and `rlm_batch` are plain sub-calls here" in told
    assert "[turn 1 of 3]" in told


def test_the_variables_of_a_follow_up_are_in_the_sandbox() -> None:
    """New ones arrive, the old ones are there, and those that are given again are what they were in the notebook."""
    rlm, _ = make([code("made = 1; b.append(9)\nSUBMIT('x')"), code("SUBMIT(f'{made} {a} {b}')")], "a, b -> answer")
    rlm("First?", a="A", b=[1])
    assert rlm.ask("Second?", a="A2", b=[1]).answer == "1 A2 [1]"


def test_a_follow_up_in_a_coroutine() -> None:
    """`aask` is the same for code that awaits."""
    rlm, model = make([code("SUBMIT('one')"), code("SUBMIT('two')")])

    async def main() -> str:
        await rlm.acall("First?")
        return (await rlm.aask("Second?")).answer

    assert asyncio.run(main()) == "two"
    assert len(roots(model)[1].messages) == 3


# -- after trouble ------------------------------------------------------------------------------------------------
def test_it_goes_on_after_a_limit() -> None:
    """A run that was cut short is gone on with: its last call is part of the conversation."""
    rlm, model = make([code("x = 5"), "I have no answer yet", code("SUBMIT(x)")], "-> n: int", max_iterations=1)
    assert rlm("How many?").stop_reason == "max_iterations"
    assert rlm.ask("Go on.").n == 5
    said = [m.content for m in roots(model)[2].messages]
    assert "The run ends here: all 1 iterations were used" in said[2]
    assert "turns and limits are counted anew" in said[4]


def test_it_goes_on_after_a_stop_in_a_cell() -> None:
    """What the cell had printed is told together with the new question."""
    rlm, model = make([code("x = 5; print('found')\n" + ENDLESS), code("SUBMIT(str(x))")])
    rlm._on_event = lambda event: rlm.interrupt() if isinstance(event, ev.CellOutput) else None
    assert rlm("How many?").stop_reason == "interrupted"
    rlm._on_event = None
    assert rlm.ask("Then what?").answer == "5"
    told = roots(model)[1].messages[-1].content
    assert "found" in told
    assert "Result: interrupted" in told
    assert told.index("found") < told.index("Then what?")


def test_it_goes_on_after_a_model_error() -> None:
    """The turns before the failure are there."""
    rlm, model = make([code("x = 5"), ModelError("overloaded"), code("SUBMIT(str(x))")])
    with pytest.raises(ModelError):
        rlm("How many?")
    assert rlm.ask("Again, please.").answer == "5"
    assert [m.role for m in roots(model)[2].messages] == ["user", "assistant", "user"]
    assert "x (int)" in roots(model)[2].messages[-1].content


def test_a_question_without_a_reply_leaves_no_trace() -> None:
    """A follow-up that failed before the model said anything can be asked again: it is in the conversation once."""
    rlm, model = make([code("SUBMIT('one')"), ModelError("overloaded"), code("SUBMIT('two')")])
    rlm("First?")
    with pytest.raises(ModelError):
        rlm.ask("Second?")
    assert rlm.ask("Second?").answer == "two"
    assert roots(model)[1] == roots(model)[2]


def test_a_stop_in_the_first_call_of_a_follow_up_keeps_the_conversation() -> None:
    """The earlier one can be gone on with."""
    scripted = ScriptedModel([code("SUBMIT('one')"), code("SUBMIT('two')")])
    model = Hanging(scripted, 2)
    rlm = RLM("-> answer", model=model, sub_model=model, sandbox=FakeSandbox())
    rlm("First?")
    rlm._on_event = lambda event: rlm.interrupt() if isinstance(event, ev.IterationStarted) else None
    assert rlm.ask("Never mind.").stop_reason == "interrupted"
    rlm._on_event = None
    assert rlm.ask("Second?").answer == "two"
    assert "Never mind." not in "".join(m.content for m in scripted.requests[-1].messages)


@pytest.mark.parametrize("before", ["nothing", "reset", "a failure", "fresh"])
def test_with_nothing_to_go_on_with(before: str) -> None:
    """One line that says what to do; no model is asked."""
    rlm, model = make([ModelError("x")] if before == "a failure" else [code("SUBMIT('x')")])
    if before == "a failure":
        with pytest.raises(ModelError):
            rlm("First?")
    elif before != "nothing":
        rlm("First?")
    if before == "reset":
        rlm.reset()
    asked = len(model.requests)
    if before == "fresh":
        rlm._given["fresh"] = True
    with pytest.raises(InputError) as caught:
        rlm.ask("Second?")
    says = "exclude each other" if before == "fresh" else "ask this one by itself (without --continue)"
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(model.requests) == asked


def test_a_wrong_follow_up_starts_nothing() -> None:
    """It is checked as a call is; the inputs of the object's signature may be left away."""
    rlm, model = make([code("SUBMIT('x')")], "a -> answer")
    rlm("First?", a=1)
    for call, says in (
        (lambda: rlm.ask(""), "question is empty"),
        (lambda: rlm.ask("Q", z=1), "'z' is no input of 'a -> answer: str'"),
        (lambda: rlm.ask("Q", "b -> n: int"), "'b -> n: int' also needs b"),
        (lambda: rlm.ask("Q", "-> n: nonsense"), "nonsense"),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert says in str(caught.value)
    assert len(model.requests) == 1


# -- another model ------------------------------------------------------------------------------------------------
def test_another_model_goes_on() -> None:
    """It is given all that was said; the user is told, and nothing that the first one counted is taken for granted."""
    first = ScriptedModel([Completion(code("SUBMIT('one')"), "first", Usage(50, 5))], name="first")
    second = ScriptedModel([code("SUBMIT('two')")], name="second")
    rlm = RLM("-> answer", model=first, sub_model=first, sandbox=FakeSandbox())
    rlm("First?")
    assert rlm._session.memory.talk is not None
    assert rlm._session.memory.talk.known == (2, 55)
    rlm._given["model"] = second
    result = rlm.ask("Second?")
    assert result.answer == "two"
    assert notes(result) == ["second goes on with what was said to first"]
    assert len(second.requests[0].messages) == 3
    more = rlm._session.memory.talk.follow_up("Q", "s", {}, "third")
    assert more.known == (0, 0)


def test_the_providers_cache_is_read_on() -> None:
    """Of the requests that Anthropic gets, the breakpoint before the new question is where the last one was written."""
    answers = [anthropic(code("n = 1")), anthropic(code("SUBMIT('one')")), anthropic(code("SUBMIT('two')"))]
    with FakeProvider(*answers) as provider:
        model = AnthropicModel("claude-fake", api_key="k", base_url=provider.url)
        rlm = RLM("-> answer", model=model, sub_model=model, sandbox=FakeSandbox())
        rlm("First?")
        rlm.ask("Second?")
        rlm.close()
    before, after = (received.body for received in provider.requests[1:])

    def marks(body: Mapping[str, Any]) -> list[int]:
        return [n for n, m in enumerate(body["messages"]) if "cache_control" in m["content"][0]]

    assert (marks(before), marks(after)) == ([0, 2], [2, 4])
    assert after["system"] == before["system"]
    assert after["messages"][2] == before["messages"][2]


# -- history ------------------------------------------------------------------------------------------------------
def test_history_is_a_variable_from_the_second_question_on() -> None:
    """Question, signature, answer and end of each earlier one; told in one line, not before there is one."""
    rlm, model = make(
        [code("SUBMIT(str('history' in globals()))"), code(LOOK), code("SUBMIT(history[1]['signature'])")]
    )
    assert rlm("First?").answer == "False"
    assert rlm("Second?").answer == "[(1, 'First?', {'answer': 'False'}, 'answered')]"
    assert rlm.ask("Third?").answer == "-> answer: str"
    told = [r.messages[-1].content for r in roots(model)]
    line = "[history: `history` lists the earlier questions of this session: dicts with run, question, signature, "
    assert [text.count(line) for text in told] == [0, 1, 1]


def test_history_tells_of_runs_that_ended_otherwise() -> None:
    """Those that were stopped or failed are there, without an answer."""
    rlm, _ = make([code("x = 1"), "no", ModelError("x"), code(LOOK)], max_iterations=1)
    assert rlm("First?").stop_reason == "max_iterations"
    with pytest.raises(ModelError):
        rlm("Second?")
    assert rlm("Third?").answer == (
        "[(1, 'First?', {'answer': 'no'}, 'max_iterations'), (2, 'Second?', None, 'error')]"
    )


def test_a_reset_forgets_it() -> None:
    """The next question is the first again."""
    rlm, model = make([code("SUBMIT('x')"), code("SUBMIT('y')")])
    rlm("First?")
    rlm.reset()
    rlm("Second?")
    assert "[history:" not in roots(model)[1].messages[0].content


def test_a_history_of_the_users_own_wins() -> None:
    """Theirs stays what it is, also for later questions; ours has another name, and the line says which."""
    rlm, model = make([code("SUBMIT('x')"), code("SUBMIT(str(history) + rlm_history[0]['question'])"),
                       code("SUBMIT(f'{history} {len(rlm_history)}')")])  # fmt: skip
    rlm("First?")
    second = rlm.ask("Second?", "history -> answer", history=["mine"])
    assert second.answer == "['mine']First?"
    assert rlm("Third?").answer == "['mine'] 2"
    for request in roots(model)[1:]:
        assert "[history: `rlm_history` lists" in request.messages[-1].content


def test_a_history_that_code_made_wins() -> None:
    """What a model called so in an earlier question is not overwritten; once it is gone, the name is ours."""
    rlm, _ = make([code("history = 'prices'\nSUBMIT('x')"), code("SUBMIT(history + str(len(rlm_history)))"),
                   code("del history\nSUBMIT('x')"), code("SUBMIT(str(len(history)))")])  # fmt: skip
    rlm("First?")
    assert rlm("Second?").answer == "prices1"
    rlm("Third?")
    assert rlm("Fourth?").answer == "3"


def test_large_inputs_are_not_sent_again_for_it() -> None:
    """A follow-up about the same text sends the history and nothing else."""
    sandbox = Counting()
    rlm, _ = make([code("SUBMIT('x')")] * 3, "x -> answer", sandbox=sandbox)
    rlm("First?", x=TEXT)
    rlm.ask("Second?", x=TEXT)
    rlm.ask("Third?")
    assert [sorted(put) for put in sandbox.puts] == [["x"], ["history"], ["history"]]


class City(BaseModel):
    name: str


@dataclasses.dataclass
class Town:
    name: str


class Hostile:
    shape = property(lambda self: 1 / 0)

    def __repr__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        ([1, 2.5, "a", True], [1, 2.5, "a", True]),
        ({"a": (1, 2)}, {"a": [1, 2]}),
        (np.float64(1.5), 1.5),
        (np.arange(3), [0, 1, 2]),
        (pd.Series([1, 2]), [1, 2]),
        (pd.DataFrame({"a": [1]}), [{"a": 1}]),
        (City(name="Bern"), {"name": "Bern"}),
        (Town("Ulm"), {"name": "Ulm"}),
        ({(1, 2): 3}, "(dict, 1 keys, not kept here) keys: (1, 2)\n{(1, 2): 3}"),
        (range(10**9), "range(0, 1000000000)"),
    ],
)
def test_what_of_an_answer_travels(value: Any, kept: Any) -> None:
    """JSON's kinds, small tables and arrays as lists; all else in words."""
    assert travelling(value) == kept


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("x" * 100_000, "(str, 100,000 characters, not kept here)"),
        (list(range(100_000)), "(list[int], 100,000 items, not kept here)"),
        ([[["x" * 30_000]]], "(list[list], 1 items, not kept here)"),
        (np.zeros((1000, 1000)), "(ndarray, shape (1000, 1000), float64, not kept here)"),
        (pd.DataFrame({"a": range(50_000)}), "(DataFrame, 50,000 rows x 1 columns, not kept here) columns: a (int64)"),
        (Hostile(), "(test_follow_up.Hostile, not kept here)"),
    ],
)
def test_what_is_too_large_or_strange_is_told_in_words(value: Any, says: str) -> None:
    """Its kind and size; the entry stays small whatever the answer was."""
    told = travelling(value)
    assert told.startswith(says)
    assert len(told) <= 20_000


def test_the_history_is_bounded() -> None:
    """The oldest questions go, the numbers of the others stay; all of it is JSON."""
    history = History()
    for n in range(300):
        history.add(Trajectory(question="q" * 50_000 if n > 250 else str(n), stop_reason="answered", values={"n": n}))
    entries = history.entries
    assert len(json.dumps(entries)) <= 500_000
    assert [e["run"] for e in entries] == list(range(301 - len(entries), 301))
    assert history.asked == 300
    assert len(History([*entries], 300).entries) == len(entries)


# -- recordings ---------------------------------------------------------------------------------------------------
FIRST, SECOND = "How many?", "Now split it by region."


def asked(session: Session, question: str, *, continues: bool = False, **options: Any) -> Result:
    """One question in a session."""
    job = Job.prepare(question, Signature.parse("-> answer"), {}, Options().merged(options), continues=continues)
    return in_loop(session.run(job, lambda event: None, Trajectory()))


def record(path: Path, *, both: bool = True) -> None:
    """Two questions, of which the second goes on with the first; before that the second by itself."""
    cells = [
        code("SUBMIT('alone')"),
        code("n = 2; print(n)"),
        code("SUBMIT(str(n))"),
        code("print('m')"),
        code("SUBMIT('m')"),
    ]
    model = ScriptedModel(cells)
    options = {"model": model, "sub_model": model, "record": str(path)}
    asked(Session(FakeSandbox()), SECOND, **options)
    session = Session(FakeSandbox())
    asked(session, FIRST, **options)
    asked(session, SECOND, continues=both, **options)


def test_a_follow_up_is_recorded_and_replayed(tmp_path: Path) -> None:
    """It is a run of its own in the file, told apart from the same question asked by itself."""
    path = tmp_path / "r.json"
    record(path)
    assert [r["question"] for r in json.loads(path.read_text())["runs"]] == [SECOND, FIRST, SECOND]
    session = Session(FakeSandbox())
    assert asked(session, FIRST, replay=str(path)).answer == "2"
    result = asked(session, SECOND, continues=True, replay=str(path))
    assert (result.answer, len(result.iterations)) == ("m", 2)
    assert asked(Session(FakeSandbox()), SECOND, replay=str(path)).answer == "alone"


def test_a_replay_does_not_ask_how_many_questions_were_before(tmp_path: Path) -> None:
    """A run that was recorded as the first question replays as a later one, and the other way around."""
    path = tmp_path / "r.json"
    record(path, both=False)
    session = Session(FakeSandbox())
    asked(session, SECOND, replay=str(path))
    assert asked(session, FIRST, replay=str(path)).answer == "2"
    assert asked(session, SECOND, replay=str(path)).answer == "m"


def test_a_follow_up_of_another_conversation_drifts(tmp_path: Path) -> None:
    """What was said before is part of what is asked."""
    path = tmp_path / "r.json"
    record(path)
    path.write_text(path.read_text().replace("n = 2; print(n)", "n = 3; print(n)", 1))
    session = Session(FakeSandbox())
    with pytest.raises(DriftError):
        asked(session, FIRST, replay=str(path))
    with pytest.raises(DriftError, match="turn 1"):
        asked(session, SECOND, continues=True, replay=str(path))
