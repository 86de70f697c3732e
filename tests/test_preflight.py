"""A dry run: nothing happens; what would be sent is told exactly, what it would take is estimated."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_kernel import RLM, AnthropicModel, DataTool, FakeSandbox, InputError, Options, Preflight, ScriptedModel
from rlm_kernel.models import Request
from rlm_kernel.models.prices import cost
from rlm_kernel.preflight.forecast import SUB_INPUT, SUB_OUTPUT, Forecast, Growth, growths, run, subcalls, tokens
from rlm_kernel.preflight.sheet import _usd
from rlm_kernel.usage import Usage
from tests.helpers import Counting, code

TICKETS = pd.DataFrame({"category": ["a", "b"] * 50, "hours": range(100)})
SONNET, HAIKU = "claude-sonnet-5-5", "claude-haiku-5-5"


def flown(
    signature: str = "t -> answer", *, question: str = "Which is worst?", t: Any = TICKETS, **more: Any
) -> Preflight:
    """The preflight of a question."""
    inputs = {"t": t} if signature.startswith("t ") else {}
    return RLM(signature, **{"sandbox_level": "none", "model": SONNET, "sub_model": HAIKU, **more}).preflight(
        question, **inputs
    )


# -- nothing happens ----------------------------------------------------------------------------------------------
def test_nothing_is_started_and_nothing_asked() -> None:
    """Neither the sandbox nor the model hears of it."""
    sandbox, model = Counting(), ScriptedModel([code("SUBMIT('x')")])
    rlm = RLM("t -> answer", sandbox=sandbox, model=model, sub_model=model)
    rlm.preflight("Which?", t=TICKETS)
    assert (sandbox.puts, sandbox.inner.starts, model.requests) == ([], 0, [])
    assert rlm("Which?", t=TICKETS).answer == "x"


def test_no_key_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor a package of the provider's."""
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "OPENAI_")):
            monkeypatch.delenv(name)
    assert (flown().model, flown(model="openai/gpt-5").model) == (SONNET, "gpt-5")


def test_what_would_be_sent_is_what_is_sent() -> None:
    """The system prompt and the first message of the preflight are those of the run."""
    model = ScriptedModel([code("SUBMIT('x')")] * 2)
    for options in ({"budget": 3.5, "timeout": 600.0, "see": True}, {"direct": True}):
        rlm = RLM("t -> answer", sandbox=Counting().inner, model=model, sub_model=model, **options)  # type: ignore[arg-type]
        told = rlm.preflight("Which?", t=TICKETS)
        rlm("Which?", t=TICKETS)
        sent = model.requests[-1]
        assert (told.system, told.message) == (sent.system, sent.messages[0].content)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"question": " "}, "the question is empty"),
        ({"record": "a", "replay": "b"}, "record and replay exclude each other"),
        ({"model": "nobody"}, "unknown model 'nobody'"),
        ({"direct": True, "t": object()}, "has no form as text"),
    ],
)
def test_bad_input_is_what_it_is_in_a_run(bad: dict[str, Any], why: str) -> None:
    """One line."""
    with pytest.raises(InputError, match=why):
        flown(**bad)


# -- what it takes ------------------------------------------------------------------------------------------------
@given(st.integers(1, 60), st.integers(0, 5000), st.integers(1, 3000), st.integers(0, 9000))
def test_a_run_is_counted_turn_by_turn(turns: int, first: int, reply: int, output: int) -> None:
    """The module's formula is the sum over the turns: each reads what the one before had sent, and writes the rest."""
    usage, sent = Usage(), 0
    for turn in range(turns):
        now = first + turn * (reply + output)
        usage += Usage(0, reply, sent, now - sent)
        sent = now
    told = run(AnthropicModel(SONNET, api_key="k"), first, Growth(turns, reply, output), Options())
    assert (told.calls, told.usage) == (turns, usage)
    assert told.cost == pytest.approx(cost(usage, SONNET), rel=0.01, abs=5e-4)


def test_the_prices_are_those_of_the_list() -> None:
    """Cached input at its own price, sub-calls at the sub-model's, a direct call as plain input."""
    told = flown()
    assert told.direct is not None
    assert told.direct.cost == cost(told.direct.usage, SONNET)
    assert told.typical.usage.cache_read_tokens > told.typical.usage.cache_write_tokens > 0
    assert told.subcalls.cost == pytest.approx(50 * (cost(Usage(SUB_INPUT, SUB_OUTPUT), HAIKU) or 0))
    assert subcalls(AnthropicModel(HAIKU, api_key="k"), 0).cost == 0


def test_the_cases_keep_to_the_limits() -> None:
    """No more turns than allowed, and the call for an answer; no output longer than allowed."""
    for turns, chars in ((20, 20_000), (2, 20_000), (1, 100)):
        cases = growths(Options(max_iterations=turns, max_output_chars=chars))
        assert all(case.turns <= turns + 1 and case.output <= chars / 3 for case in cases)
        assert [c.turns for c in cases] == sorted(c.turns for c in cases)
    assert growths(Options(see=True))[2].output > growths(Options())[2].output


def test_a_direct_call_is_measured_by_its_data() -> None:
    """About what is in it; none is possible with a variable that has no form as text."""
    told, really = flown(), flown(direct=True)
    assert told.direct is not None
    assert told.direct.tokens == pytest.approx(tokens(really.system) + tokens(really.message) + 500, rel=0.2)
    assert told.fits is True
    assert (flown(t="x" * 4_000_000).fits, flown(model=ScriptedModel([])).fits) == (False, None)
    without = flown(t=Path("a.txt"))
    assert (without.direct, without.fits, without.variables) == (None, False, {"t": None})


# -- limits -------------------------------------------------------------------------------------------------------
def said(line: str, **options: Any) -> None:
    """A line of the preflight begins so; it is not the table's."""
    shown = repr(flown(**options))
    assert any(each.startswith(line) for each in shown.splitlines()), shown[:900]


def needed(forecast: Forecast) -> tuple[float, int]:
    """What has to be allowed for it, in dollars and in tokens."""
    assert forecast.cost is not None
    assert forecast.kept.usd is not None
    return forecast.cost + forecast.kept.usd, forecast.tokens + forecast.kept.tokens


@pytest.mark.parametrize("dollars", [True, False])
def test_how_far_a_limit_reaches_is_said(dollars: bool) -> None:
    """What a run needs is what it takes and what is held back for the last call."""
    told = flown()
    short, typical, long = (needed(f)[not dollars] for f in (told.short, told.typical, told.long))
    calls = (told.subcalls.cost or 0.0) if dollars else told.subcalls.tokens
    early = "would end early, with the"
    for limit, words in (
        (long + calls * 1.01, "✓ the {} covers a long run with all its sub-calls"),
        (long + calls / 2, "✓ the {} covers a long run but hardly all its sub-calls"),
        ((typical + long) / 2, f"! the {{}} covers a typical run; a long one {early}"),
        ((short + typical) / 2, f"! the {{}} covers a short run; a typical one {early}"),
    ):
        given = {"budget": float(limit)} if dollars else {"max_tokens": int(limit)}
        what = f"budget of {_usd(limit)}" if dollars else f"limit of {int(limit):,} tokens"
        said(words.format(what), **given)


class Counts(ScriptedModel):
    """A model that knows its tokens, so that a smaller budget is enough for the first call."""

    async def count_tokens(self, request: Request) -> int:
        """Not asked in a dry run."""
        raise AssertionError(request)


def test_a_limit_below_a_short_run_is_said() -> None:
    """The first call would be made, and no run be whole."""
    model = Counts([], name=SONNET)
    low, high = (needed(flown(model=model).short)[0] * share for share in (0.5, 0.999))
    said(f"✗ the budget of {_usd(high)} does not cover a short run: it would end early", model=model, budget=high)
    said("✗ nothing would be asked, the limits are too low: the next call may cost", model=model, budget=low)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"budget": 20.0, "sub_model": "openai/odd"}, "✓ the budget of $20.00 covers a long run; what its sub-calls"),
        ({"budget": 0.001}, "✗ nothing would be asked, the limits are too low: the next call may cost $0."),
        ({"max_tokens": 100}, "✗ nothing would be asked, the limits are too low: the next call may take"),
        (
            {"budget": 1.0, "model": "openai/odd"},
            "! the price of odd is not known, so the budget cannot be kept; --max",
        ),
        ({"budget": 1.0, "direct": True}, "✓ the budget of $1.00 covers the call"),
        ({"budget": 0.0001, "direct": True}, "✗ nothing would be asked, the limits are too low: the next call may"),
        ({}, "✓ t would fit into one call (about 200 tokens): --direct (direct=True) asks it, without any code"),
        ({"replay": "r.json"}, "✓ with --replay nothing is asked and nothing paid: the replies come from r.json"),
    ],
)
def test_what_there_is_to_know_is_said(options: dict[str, Any], line: str) -> None:
    """In one line, before the table."""
    said(line, **options)


@pytest.mark.parametrize("budget", [0.01, 0.05, 0.08, 0.09, 0.1, 0.2])
def test_what_is_said_of_a_small_budget_is_what_happens(budget: float) -> None:
    """Where nothing would be asked the run asks nothing, and else it does."""
    model = ScriptedModel([code("SUBMIT('x')")], name=SONNET)
    rlm = RLM("t -> answer", sandbox=Counting().inner, model=model, sub_model=model, budget=budget)
    told = rlm.preflight("Which?", t=TICKETS)
    assert bool(told.too_little) == (rlm("Which?", t=TICKETS).stop_reason == "budget")
    assert bool(told.too_little) == (not model.requests)


# -- how it reads -------------------------------------------------------------------------------------------------
def test_it_is_shown_in_three_forms() -> None:
    """All of them name the price, the variables, who gets what, and hold both prompts whole."""
    told = flown(budget=0.5, question="Which is worst, {a} or <b>?")
    shown = told._repr_mimebundle_()
    assert set(shown) == {"text/html", "text/markdown", "text/plain"}
    assert shown["text/plain"] == repr(told)
    for text in shown.values():
        for word in ("Dry run", "typically about", "a typical run", "100 rows x 2 columns", HAIKU, "System prompt"):
            assert word in text
    assert told.system.rstrip("\n") in shown["text/plain"]
    assert told.message in shown["text/plain"]
    assert told.system.rstrip("\n") in shown["text/markdown"]
    assert "Which is worst, {a} or &lt;b&gt;?" in shown["text/html"]
    assert shown["text/html"].count("<details") == 2
    assert "\n\n" not in shown["text/html"]


def test_what_differs_from_run_to_run_is_not_shown() -> None:
    """Two preflights of equal things read the same: no time, no address."""

    class Odd:
        pass

    first, second = ([Odd(), Odd()] for _ in range(2))
    texts = [flown(t=t, timeout=600.0)._repr_mimebundle_() for t in (first, second)]
    assert texts[0] == texts[1]
    assert "Odd object" in texts[0]["text/plain"]
    assert not re.search("0x[0-9a-f]{6}", "".join(texts[0].values()))


def test_hostile_text_is_harmless() -> None:
    """Questions and data that look like markup or steer a terminal are text."""
    told = flown(question="<script>alert(1)</script>\x1b[31m", t="</pre><img src=x onerror=alert(1)>\u202e")
    shown = told._repr_mimebundle_()
    assert "<script" not in shown["text/html"]
    assert "<img" not in shown["text/html"]
    assert "\x1b" not in "".join(shown.values())
    assert "\u202e" not in "".join(shown.values())


def test_a_long_prompt_is_cut_where_it_is_shown_alone() -> None:
    """The attributes hold all of it, and the display says where that is."""
    told = flown(t="word " * 200_000, direct=True)
    assert len(told.message) > 1_000_000
    for text in told._repr_mimebundle_().values():
        assert len(text) < 80_000
        assert "characters left out, in the attribute message of the preflight" in text


def test_unknown_prices_are_said() -> None:
    """Then tokens take their place."""
    told = flown(model="openai/odd", sub_model="openai/odd")
    assert told.typical.cost is None
    lines = repr(told).splitlines()
    assert re.fullmatch(r"[\d,]+ to [\d,]+ tokens, typically about [\d,]+", lines[3])
    assert lines[4] == "! the price of odd is not known"
    assert "USD" not in repr(told)


def test_where_no_sandbox_can_be_had_it_says_so() -> None:
    """The dry run is there all the same: it needs none."""
    from rlm_kernel.preflight.dry_run import preflight
    from rlm_kernel.signature import Signature

    options = Options(model=SONNET, sub_model=HAIKU, sandbox_level="seatbelt")
    told = preflight("What?", Signature.parse("-> n: int"), {}, options)
    assert told.sandbox.startswith("there can be none: the sandbox level 'seatbelt' cannot be had here")
    assert told.sandbox[:40] in repr(told)


def test_it_can_be_kept() -> None:
    """Pickled and loaded it reads the same."""
    told = flown()
    assert repr(pickle.loads(pickle.dumps(told))) == repr(told)


def test_data_that_is_a_tool_is_counted_and_sent() -> None:
    """In a dry run, in a direct call and in the word that a direct call would do."""
    tools = [DataTool("users", [{"age": 30}], "people")]
    model = ScriptedModel(["30"], name="small")
    rlm = RLM("-> answer: str", model=model, sub_model=model, tools=tools, sandbox=FakeSandbox())
    assert "users" in repr(rlm.preflight("Who?"))
    direct = RLM("-> answer: str", model=model, sub_model=model, tools=tools, direct=True, sandbox=FakeSandbox())
    assert direct("Who?").answer == "30"
    assert '"age":30' in model.requests[0].messages[0].content.replace(" ", "")


def test_functions_cannot_be_called_by_a_direct_call() -> None:
    """It runs no code."""
    rlm = RLM("-> answer: str", model=ScriptedModel([]), sub_model=ScriptedModel([]), tools=[len_of], direct=True)
    with pytest.raises(InputError, match="--direct runs no code, so it cannot call len_of"):
        rlm("Who?")


def len_of(text: str) -> int:
    """Its length."""
    return len(text)
