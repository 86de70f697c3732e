"""`--direct`: one call with the data in it, checked, mended, limited, stopped, recorded and shown as a run is."""

from __future__ import annotations

import dataclasses
import datetime
import json
import threading
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
    Field,
    InputError,
    ModelError,
    Result,
    ScriptedModel,
    Signature,
    Usage,
)
from rlm_kernel import events as ev
from rlm_kernel.direct import FITTING, TRIES
from rlm_kernel.prompt import answer_of, direct_message, direct_system
from tests.fakes.provider import FakeProvider, anthropic
from tests.helpers import Counting, Hanging, code

TICKETS = pd.DataFrame({"category": ["a", "b"], "hours": [1.5, 30.0]})
AS_JSON = '```json\n{"n": 2, "worst": "b"}\n```'


def asked(replies: list[Any], signature: str = "t -> answer", *, model: Any = None, **more: Any) -> tuple[Result, Any]:
    """A direct call with scripted replies: the result, and the model that was asked."""
    inputs = {"t": TICKETS} if signature.startswith("t ") else more.pop("inputs", {})
    model = model or ScriptedModel(replies)
    events = more.pop("events", [])
    rlm = RLM(signature, model=model, sub_model=model, sandbox=Counting(), direct=True, on_event=events.append, **more)
    return rlm("Which is worst?", **inputs), model


# -- the call -----------------------------------------------------------------------------------------------------
def test_the_data_are_in_the_prompt_and_the_reply_is_the_answer() -> None:
    """One call, whole data between tags, the question below; a text alone needs no JSON."""
    result, model = asked(["  It is **b**.\n"])
    (request,) = model.requests
    assert [m.content for m in request.messages] == [
        '<data name="t" type="DataFrame" size="2 rows x 2 columns" format="CSV">\n'
        "category,hours\na,1.5\nb,30.0\n</data>\n\nThe question:\n\nWhich is worst?"
    ]
    assert (request.kind, request.cache) == ("root", False)
    assert "Reply with the answer alone, as text; it becomes `answer`." in request.system
    assert (result.answer, result.stop_reason, result.detail) == ("It is **b**.", "answered", "")


def test_no_sandbox_is_started() -> None:
    """Nothing is put into it, and no code in the reply is run."""
    sandbox = Counting()
    model = ScriptedModel([code("SUBMIT('run')")])
    result = RLM("t -> answer", model=model, sub_model=model, sandbox=sandbox, direct=True)("Which?", t=TICKETS)
    assert (sandbox.puts, sandbox.inner.cells, sandbox.inner.starts) == ([], [], 0)
    assert result.answer.startswith("```repl")


def test_several_fields_come_as_json() -> None:
    """Checked by the signature; the model may think aloud before."""
    result, model = asked([f"Two rows.\n\n```json\n[1]\n```\nNo:\n{AS_JSON}"], "t -> n: int, worst: str")
    assert dict(result.values) == {"n": 2, "worst": "b"}
    system = model.requests[0].system
    assert "- `n`: int\n- `worst`: str" in system
    assert "one fenced block tagged `json`" in system


class Person(BaseModel):
    name: str
    born: datetime.date


ADA = Person(name="Ada", born=datetime.date(1815, 12, 10))


@dataclasses.dataclass
class Place:
    x: float


@pytest.mark.parametrize(
    ("signature", "reply", "value"),
    [
        ("-> n: int", '{"n": 3}', 3),
        ("-> n: dict[int, list[float]]", '{"n": {"1": [2]}}', {1: [2.0]}),
        ("-> n: set[str]", '{"n": ["a", "a"]}', {"a"}),
        ("-> n: datetime", '{"n": "2024-01-02T03:04:05"}', datetime.datetime(2024, 1, 2, 3, 4, 5)),
        ("-> n: str | None", '{"n": null}', None),
        ("-> n: list[Person]", '{"n": [{"name": "Ada", "born": "1815-12-10"}]}', [ADA]),
        ("-> n: Place", '{"n": {"x": 1}}', Place(1.0)),
        ("-> n: Literal['a', 'b']", '{"n": "b"}', "b"),
    ],
)  # fmt: skip
def test_values_become_the_declared_types(signature: str, reply: str, value: Any) -> None:
    """Whatever JSON can say of them; the reply may be JSON alone."""
    assert asked([reply], signature, namespace=globals())[0].n == value


def test_tables_and_arrays_are_made_from_json() -> None:
    """A table from a list of records, a series and an array from lists."""
    reply = json.dumps({"t": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], "s": [1, 2], "m": [[1, 2], [3, 4]]})
    result, _ = asked([reply], "-> t: DataFrame, s: Series, m: ndarray")
    pd.testing.assert_frame_equal(result.t, pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    assert result.s.tolist() == [1, 2]
    assert np.array_equal(result.m, [[1, 2], [3, 4]])


def test_classes_are_explained_by_their_schema() -> None:
    """The name of a class says nothing to a model without a REPL."""
    system = direct_system(Signature.parse("-> who: Person, n: int", globals()))
    assert '- `who`: Person, as JSON Schema: {"properties": {"name":' in system
    assert "- `n`: int\n" in system


def test_descriptions_and_instructions_are_told() -> None:
    """As in a run."""
    signature = Signature(outputs=(Field("n", int, description="rows"),), instructions="Count with care.")
    assert "- `n`: int (rows)" in direct_system(signature)
    assert direct_system(signature).endswith("\nCount with care.\n")
    assert "it becomes `a` (one word)." in direct_system(Signature(outputs=(Field("a", description="one word"),)))


def test_data_cannot_close_its_tags() -> None:
    """Where a text has the tag itself, another one is taken for all."""
    texts = [(ev.Variable("a", "str"), "text", "x</data>y</data-1>"), (ev.Variable("b", "str"), "text", "z\n")]
    assert direct_message("Q {braces}", texts) == (
        '<data-2 name="a" type="str" format="text">\nx</data>y</data-1>\n</data-2>\n\n'
        '<data-2 name="b" type="str" format="text">\nz\n</data-2>\n\nThe question:\n\nQ {braces}'
    )


# -- replies that are no answer ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ("It is b.", "it has no block tagged `json` and is not JSON (Expecting value: line 1 column 1 (char 0))"),
        ("```json\n{'n': 2}\n```", "the last block tagged `json` is not JSON (Expecting property name enclosed in"),
        ("[2]", "it has to be a JSON object with the keys n, worst, not a list"),
        ('{"n": 2}', "missing in the JSON object: worst"),
        ('{"n": 2, "worst": "b", "best": "a"}', "unknown in the JSON object: best"),
        ('{"n": "two", "worst": "b"}', "field 'n' has to be int: n: Input should be a valid integer"),
        ("[" * 100_000, "the JSON is nested too deeply"),
    ],
    ids=["prose", "quotes", "a list", "missing", "unknown", "type", "deep"],
)
def test_a_wrong_reply_goes_back_to_be_mended(reply: str, told: str) -> None:
    """With what is wrong; the second is taken."""
    result, model = asked([reply, AS_JSON], "t -> n: int, worst: str")
    first, answer, mend = model.requests[1].messages
    assert (first, answer.content) == (model.requests[0].messages[0], reply)
    assert mend.content.startswith(f"That is not an answer that can be used: {told}")
    assert mend.content.endswith(". Reply again, with the whole answer.")
    assert dict(result.values) == {"n": 2, "worst": "b"}
    assert [len(i.cells) for i in result.iterations] == [0, 0]
    assert result.iterations[0].observation == mend.content


def test_mending_is_bounded() -> None:
    """Then the run ends without an answer, and says why."""
    result, model = asked(["no"] * 9, "t -> n: int")
    assert len(model.requests) == TRIES == 3
    assert (result.stop_reason, result.n) == ("max_errors", None)
    assert result.detail.startswith("no valid answer in 3 replies; of the last one: it has no block tagged `json`")
    assert len(asked(["no"] * 9, "t -> n: int", max_iterations=1)[1].requests) == 1


def test_a_table_that_is_none_is_mended() -> None:
    """What pandas makes of it is told."""
    _, model = asked(['{"d": 3}', '{"d": []}'], "t -> d: DataFrame")
    assert "that is no DataFrame: ValueError" in model.requests[1].messages[-1].content


def test_an_answer_that_was_cut_off_is_asked_for_again() -> None:
    """And taken as the best there is when it never comes whole."""
    cut = Completion("It is b, bec", "m", stop_reason="max_tokens")
    result, model = asked([cut, "It is b."])
    assert "it was cut off at its maximum length; be briefer" in model.requests[1].messages[-1].content
    assert result.answer == "It is b."
    result, _ = asked([cut] * 3)
    assert (result.stop_reason, result.answer) == ("max_errors", "It is b, bec")
    assert "cut off" in result.detail


def test_an_empty_text_is_no_answer() -> None:
    """Blanks are nothing."""
    with pytest.raises(ValueError, match="it is empty"):
        answer_of(Signature.parse("-> answer"), " \n")


# -- bad input -----------------------------------------------------------------------------------------------------
def refused(signature: str, **inputs: Any) -> str:
    model = ScriptedModel([], name="claude-haiku-5-5")
    with pytest.raises(InputError) as caught:
        RLM(signature, model=model, sub_model=model, sandbox=Counting(), direct=True)("What?", **inputs)
    assert caught.value.result is None
    assert model.requests == []
    return str(caught.value)


def test_what_does_not_fit_is_never_cut() -> None:
    """A text that is too long for the model is an error before anything is asked, however long it is."""
    for text in ("x" * 4_000_001, "x" * 50_000_000):
        assert refused("t -> answer", t=text).startswith("--direct: the variables are about 1")
    assert refused("t -> answer", t="x" * 4_000_001).endswith(
        "1,333,333 tokens as text, and one call of claude-haiku-5-5 takes at most 1,000,000; nothing is ever cut off, "
        "so ask without --direct"
    )


def test_what_nobody_knows_the_window_of_has_a_limit_too() -> None:
    """32 MB, which no model takes."""
    with pytest.raises(InputError, match="takes at most 32 MB"):
        asked([], "t2 -> answer", inputs={"t2": "x" * (32 * 2**20 + 1)})


def test_what_has_no_form_as_text_is_named() -> None:
    """Variables and fields alike."""
    assert "variable 't' (object) has no form as text" in refused("t -> answer", t=object())
    assert refused("t -> d: list[DataFrame]", t="x") == (
        "--direct: 'd: list[DataFrame]' has no form in JSON; ask without --direct"
    )


# -- limits, stops, faults -----------------------------------------------------------------------------------------
def test_usage_and_cost_are_counted() -> None:
    """Of all replies."""
    replies = [Completion(t, "claude-haiku-5-5", Usage(100, 10)) for t in ("no", '{"n": 1}')]
    result, _ = asked(replies, "t -> n: int")
    assert result.usage == Usage(200, 20)
    assert result.cost is not None


def test_a_budget_too_small_ends_it_before_it_is_asked() -> None:
    """With the reason, and no call."""
    model = ScriptedModel(["x"], name="claude-sonnet-5-5")
    result, _ = asked([], model=model, budget=0.0001)
    assert (result.stop_reason, model.requests) == ("budget", [])
    assert "the next call may cost $" in result.detail
    model = ScriptedModel(["x"])
    assert asked([], model=model, max_tokens=10)[0].stop_reason == "max_tokens"
    assert model.requests == []


def test_an_unknown_price_is_told_once() -> None:
    """A budget that cannot be kept is a note."""
    result, _ = asked(["no", '{"n": 1}'], "t -> n: int", budget=1.0)
    (price, wrong), last = (i.notes for i in result.iterations)
    assert price == (
        "the price of scripted is not known, so the budget cannot be kept; its tokens are counted (--max-tokens)"
    )
    assert wrong.startswith("no valid answer: it has no block tagged `json` and is not JSON")
    assert last == []


def test_time_ends_it() -> None:
    """A model that never answers is not waited for."""
    model = Hanging(ScriptedModel([]), 1)
    result, _ = asked([], model=model, timeout=0.1)
    assert (result.stop_reason, result.answer, model.cancelled) == ("timeout", None, 1)


def test_it_can_be_stopped() -> None:
    """From another thread, while the model is asked; the trajectory is kept."""
    model = Hanging(ScriptedModel([]), 1)
    rlm = RLM("t -> answer", model=model, sub_model=model, sandbox=Counting(), direct=True)
    rlm._on_event = lambda e: (
        threading.Thread(target=rlm.interrupt).start() if isinstance(e, ev.IterationStarted) else None
    )
    result = rlm("Which?", t=TICKETS)
    assert (result.stop_reason, result.detail) == ("interrupted", "stopped by the user")
    assert result.iterations[0].prompt.startswith('<data name="t"')


def test_a_failure_keeps_the_trajectory() -> None:
    """The provider's, and a refusal."""
    for reply, words in (
        (ModelError("overloaded"), "overloaded"),
        (Completion("I won't", "m", stop_reason="refusal"), "m refused to answer: I won't"),
    ):
        with pytest.raises(ModelError, match=words) as caught:
            asked([reply])
        assert (caught.value.result.stop_reason, len(caught.value.result.iterations)) == ("error", 1)


# -- events, display, recordings -----------------------------------------------------------------------------------
def test_the_events_are_those_of_any_run() -> None:
    """So whatever folds them works: with variables, deltas, a reply without cells, the answer."""
    events: list[ev.Event] = []
    asked(["b"], events=events)
    kinds = [type(e).__name__ for e in events if not isinstance(e, ev.ModelDelta)]
    assert kinds == ["RunStarted", "IterationStarted", "ModelFinished", "IterationFinished", "Final", "RunFinished"]
    assert events[0].isolation == "not used: the model is asked directly, no code is run"  # type: ignore[attr-defined]
    assert {e.run for e in events} == {"1"}


def test_it_is_shown_as_answered() -> None:
    """The reply counts as submitted, not as one without code."""
    result, _ = asked(["It is b."])
    assert repr(result).startswith("It is b.\n\n1 ✓ It is b. · answer submitted\nAnswered · 1 iteration · ")
    result, _ = asked(["no", '{"n": 1}'], "t -> n: int")
    assert "1 · no · no code" in repr(result)


def test_it_is_recorded_and_replayed(tmp_path: Path) -> None:
    """Beside a run of the same question, which is not mistaken for it; other data are drift."""
    path = str(tmp_path / "r.json")
    run = ScriptedModel([code("SUBMIT(n=1)")])
    RLM("t -> n: int", model=run, sub_model=run, sandbox=Counting().inner, record=path)("Which is worst?", t=TICKETS)
    asked(["no", '{"n": 2}'], "t -> n: int", record=path)

    def replayed(t: Any, **more: Any) -> Any:
        return RLM("t -> n: int", sandbox=Counting().inner, replay=path, **more)("Which is worst?", t=t).n

    assert (replayed(TICKETS), replayed(TICKETS, direct=True)) == (1, 2)
    with pytest.raises(DriftError, match=r"-b,30.0\n\+b,31.0"):
        replayed(TICKETS.replace(30.0, 31.0), direct=True)


def test_a_real_request_holds_it_all() -> None:
    """Through Anthropic's SDK: one request, without a cache breakpoint, which would cost and never be read."""
    with FakeProvider(anthropic("It is b.")) as provider:
        model = AnthropicModel(base_url=provider.url, api_key="sk-test")
        result, _ = asked([], model=model)
    (sent,) = provider.requests
    assert "b,30.0" in sent.body["messages"][0]["content"][0]["text"]
    assert "cache_control" not in json.dumps(sent.body)
    assert result.answer == "It is b."


# -- the hint ------------------------------------------------------------------------------------------------------
def hinted(rlm: RLM, **inputs: Any) -> list[str]:
    return [note for i in rlm("What?", **inputs).iterations for note in i.notes]


def a_run(signature: str = "t -> answer", replies: int = 3, **more: Any) -> RLM:
    model = ScriptedModel([code("SUBMIT('x')")] * replies)
    return RLM(signature, **{"model": model, "sub_model": model, "sandbox": Counting().inner, **more})


def test_a_run_says_once_that_a_direct_call_would_do() -> None:
    """In its first question about so little; not again."""
    rlm = a_run()
    assert hinted(rlm, t="x" * 3 * FITTING + "y") == []
    assert hinted(rlm, t="x" * 300) == [
        "t would fit into one call (about 100 tokens): --direct (direct=True) asks it, without any code"
    ]
    assert hinted(rlm, t="x" * 300) == []


def test_where_no_direct_call_is_possible_nothing_is_said(tmp_path: Path) -> None:
    """Without variables, with one that has no form as text, with a field that JSON has none for, in a replay."""
    path = str(tmp_path / "r.json")
    assert hinted(a_run("-> answer")) == []
    assert hinted(a_run(), t=Path("a")) == []
    assert hinted(a_run("t -> answer: list[DataFrame] | str"), t="x") == []
    assert len(hinted(a_run(record=path), t="x")) == 1
    assert hinted(RLM("t -> answer", sandbox=Counting().inner, replay=path), t="x") == []
