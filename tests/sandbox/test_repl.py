"""The REPL's functions over a namespace and a channel, as plain Python."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import Any

import pytest

from rlm_kernel.sandbox.guest.channel import Channel, HostError
from rlm_kernel.sandbox.guest.repl import RESERVED, Repl, SubcallError, Submitted, refuse_input
from tests.sandbox.lab import notebook


class FakeChannel(Channel):
    """Answers with a function and keeps what was asked."""

    def __init__(self, answer: Callable[..., Any] = lambda method, **params: None) -> None:
        super().__init__(lambda text: "")
        self.answer = answer
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, method: str, **params: Any) -> Any:
        self.asked.append((method, params))
        return self.answer(method, **params)


def make(answer: Callable[..., Any] = lambda method, **params: None) -> tuple[dict[str, Any], Repl, FakeChannel]:
    channel = FakeChannel(answer)
    names: dict[str, Any] = {"__name__": "__main__"}
    return names, Repl(names, channel), channel


def replies(method: str, prompts: list[str], model: str | None) -> list[dict[str, str]]:
    """Capitals; a prompt that starts with `bad` fails."""
    return [{"error": f"no {p}"} if p.startswith("bad") else {"text": p.upper()} for p in prompts]


def refuses(method: str, **params: Any) -> Any:
    raise HostError("RefusedError", "the budget is spent")


def test_every_reserved_name_is_there() -> None:
    """The names that a question may not use are those the model finds."""
    names, _, _ = make()

    assert set(RESERVED) == set(names) - {"__name__"}


def test_llm_query() -> None:
    """One prompt, one reply as text; the model's name goes along."""
    names, _, channel = make(replies)

    assert names["llm_query"]("hi") == "HI"
    assert names["llm_query"]("hi", model="small") == "HI"
    assert names["llm_query"]("hi", "small") == "HI"
    assert [("llm_query", {"prompts": ["hi"], "model": m}) for m in (None, "small", "small")] == channel.asked


def test_llm_query_fails() -> None:
    """A failed or refused call raises SubcallError with the reason, which `except Exception` catches."""
    names, _, _ = make(replies)
    with pytest.raises(SubcallError, match="no bad prompt"):
        names["llm_query"]("bad prompt")
    names, _, _ = make(refuses)
    with pytest.raises(names["SubcallError"], match="the budget is spent") as caught:
        names["llm_query"]("hi")

    assert isinstance(caught.value, Exception)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("prompt", [None, 5, b"text", ["a"], {"role": "user"}])
def test_llm_query_takes_text_only(prompt: Any) -> None:
    """Anything else is a TypeError that says so, and nothing is asked."""
    names, _, channel = make(replies)
    with pytest.raises(TypeError, match=type(prompt).__name__):
        names["llm_query"](prompt)

    assert channel.asked == []


@pytest.mark.parametrize("function", ["llm_batch", "llm_query_batched"])
def test_llm_batch(function: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The replies come in the order of the prompts, from any iterable, in one request, without a word."""
    names, _, channel = make(replies)

    assert names[function](p for p in ("a", "b", "c")) == ["A", "B", "C"]
    assert channel.asked == [("llm_batch", {"prompts": ["a", "b", "c"], "model": None})]
    assert capsys.readouterr() == ("", "")


def test_llm_batch_of_none() -> None:
    """No prompt, no call."""
    names, _, channel = make(replies)

    assert (names["llm_batch"]([]), channel.asked) == ([], [])


def test_llm_batch_of_one_text() -> None:
    """A single text is one prompt, not one for each letter."""
    names, _, _ = make(replies)

    assert names["llm_batch"]("hello") == ["HELLO"]


def test_llm_batch_keeps_what_succeeded(capsys: pytest.CaptureFixture[str]) -> None:
    """A failed call leaves a SubcallError at its place; stderr says how many and where."""
    names, _, _ = make(replies)
    result = names["llm_batch"](["a", "bad 1", "c", "bad 3"])

    assert result[::2] == ["A", "C"]
    assert [("no bad 1", SubcallError), ("no bad 3", SubcallError)] == [(str(r), type(r)) for r in result[1::2]]
    out, err = capsys.readouterr()
    assert out == ""
    assert "2 of 4" in err
    assert "1, 3" in err


def test_llm_batch_names_ten_failures_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    """A long list of failures is cut."""
    names, _, _ = make(replies)
    names["llm_batch"](["good"] + ["bad"] * 50)
    err = capsys.readouterr().err

    assert "50 of 51" in err
    assert "10, …" in err
    assert "11" not in err


def test_llm_batch_all_failed() -> None:
    """When nothing succeeded it raises, with the first reason."""
    names, _, _ = make(replies)

    with pytest.raises(SubcallError, match="all 2 calls failed, the first with: no bad a"):
        names["llm_batch"](["bad a", "bad b"])


@pytest.mark.parametrize("prompts", [["a", 5], [None], [""[:0], b"x"], [0]])
def test_llm_batch_takes_text_only(prompts: list[Any]) -> None:
    """One prompt that is no text: a TypeError before anything is asked."""
    names, _, channel = make(replies)
    with pytest.raises(TypeError, match="str"):
        names["llm_batch"](prompts)

    assert channel.asked == []


def test_submit() -> None:
    """The fields go to the host as `wire` encodes them, and the cell ends."""
    names, _, channel = make()
    with pytest.raises(Submitted):
        names["SUBMIT"](answer="x", when=datetime.date(2024, 1, 1), score=math.inf)

    fields = {"answer": "x", "when": {"$text": "2024-01-01"}, "score": math.inf}
    assert [("submit", {"fields": fields, "values": []})] == channel.asked


def test_final_and_final_var() -> None:
    """They hand in a single value."""
    names, _, channel = make()
    names["result"] = (1, 2)
    for submit in (lambda: names["FINAL"]("x"), lambda: names["FINAL_VAR"]("result"), lambda: names["SUBMIT"](3)):
        with pytest.raises(Submitted):
            submit()

    assert [params["values"] for _, params in channel.asked] == [["x"], [[1, 2]], [3]]


def test_submitted_passes_except_exception() -> None:
    """Model code that catches every Exception does not catch its own answer."""
    names, _, _ = make()
    code = "try:\n    SUBMIT(answer=1)\nexcept Exception:\n    caught = True"
    with pytest.raises(Submitted):
        exec(code, names)

    assert "caught" not in names
    assert not issubclass(Submitted, Exception)


def test_a_refused_submission_is_a_type_error() -> None:
    """What does not fit is the model's to mend: the reason is in the error."""

    def refuse(method: str, **params: Any) -> Any:
        raise HostError("RefusedError", "field 'answer' should be an int")

    names, _, _ = make(refuse)
    for submit in (lambda: names["SUBMIT"](answer="x"), lambda: names["FINAL"]("x")):
        with pytest.raises(TypeError, match="SUBMIT: field 'answer' should be an int"):
            submit()


def test_a_value_that_cannot_leave() -> None:
    """The field is named, and nothing is sent."""
    names, _, channel = make()
    with pytest.raises(TypeError, match="SUBMIT: field 'bad': a value of type generator"):
        names["SUBMIT"](good=1, bad=(x for x in "ab"))
    with pytest.raises(TypeError, match="SUBMIT: a value of type generator"):
        names["FINAL"](x for x in "ab")

    assert channel.asked == []


def test_final_var_takes_a_name() -> None:
    """A name that is not there, or a value in its place, is an error of its own."""
    names, _, channel = make()
    with pytest.raises(NameError, match="'missing'"):
        names["FINAL_VAR"]("missing")
    with pytest.raises(TypeError, match="FINAL"):
        names["FINAL_VAR"]({"a": 1})

    assert channel.asked == []


def test_input_is_refused() -> None:
    """However it is called."""
    with pytest.raises(RuntimeError, match="nobody is there"):
        refuse_input("Name? ", stream=None)


def changed(repl: Repl) -> dict[str, tuple[str, str, str]]:
    return {name: tuple(rest) for name, *rest in repl.changes()["changed"]}


def test_changes() -> None:
    """What appeared, was rebound, grew in place or went is told once."""
    names, repl, _ = make()
    assert repl.changes() == {"changed": [], "removed": [], "restored": []}

    exec("a = 1\nb = [1]\nc = 'x'", names)
    assert (changed(repl)) == {
        "a": ("int", "", "1"),
        "b": ("list[int]", "1 items", "[1]"),
        "c": ("str", "1 characters", "'x'"),
    }
    assert changed(repl) == {}

    exec("a = 2", names)
    assert changed(repl) == {"a": ("int", "", "2")}

    exec("b.append(2)", names)
    assert changed(repl) == {"b": ("list[int]", "2 items", "[1, 2]")}

    exec("b[0] = 9", names)
    assert changed(repl) == {"b": ("list[int]", "2 items", "[9, 2]")}

    exec("del a, c", names)
    told = repl.changes()
    assert ([], {"a", "c"}) == (told["changed"], set(told["removed"]))
    assert repl.changes() == {"changed": [], "removed": [], "restored": []}


def test_in_place_changes_of_frames_and_dicts() -> None:
    """A new column, a new key, a changed first value show."""
    names, repl, _ = make()
    exec("import pandas as pd, numpy as np\ndf = pd.DataFrame({'a': [1]})\nd = {}\nx = np.zeros(3)", names)
    assert {"df", "d", "x"} == set(changed(repl))
    exec("df['b'] = 2", names)
    assert {"df"} == set(changed(repl))
    exec("d[1] = 2; x[0] = 5", names)
    assert {"d", "x"} == set(changed(repl))


def test_what_is_no_variable_is_not_listed() -> None:
    """Imports, private names and what was there from the start are no news."""
    names: dict[str, Any] = {"__name__": "__main__", "In": [], "before": 1}
    repl = Repl(names, FakeChannel())
    exec("import math, os.path as p\nfrom collections import Counter, OrderedDict as O\n_x = 1\n__y = 2", names)
    exec("from math import sqrt\nfrom json import dumps", names)

    assert repl.changes() == {"changed": [], "removed": [], "restored": []}


def test_own_functions_and_classes_are_listed() -> None:
    """What the model defined is a variable like any other."""
    names, repl, _ = make()
    exec("def f(x): return x\nclass C: pass\ng = lambda: 1\nc = C()", names)

    assert {"f", "C", "g", "c"} == set(changed(repl))


def test_a_name_that_hides_what_was_there_from_the_start() -> None:
    """A variable of the model is told even if the sandbox began with something else of that name."""
    names: dict[str, Any] = {"__name__": "__main__", "before": 1}
    repl = Repl(names, FakeChannel())
    names["before"] = [1, 2]

    assert {"before"} == set(changed(repl))


def test_reserved_names_are_restored() -> None:
    """Overwritten or deleted, they are back after the cell, and it is told which."""
    names, repl, _ = make(replies)
    own = {name: names[name] for name in RESERVED}
    exec("llm_query = 'mine'\ndel SUBMIT\ndef FINAL(x): pass", names)

    told = repl.changes()
    assert {"llm_query", "SUBMIT", "FINAL"} == set(told["restored"])
    assert told["changed"] == []
    assert own == {name: names[name] for name in RESERVED}
    assert repl.changes()["restored"] == []


def test_names_that_are_no_text() -> None:
    """`globals()[5] = 1` does not break the telling."""
    names, repl, _ = make()
    exec("globals()[5] = 1\na = 1", names)

    assert {"a"} == set(changed(repl))


def test_hostile_values_in_the_namespace() -> None:
    """A value that cannot be looked at is listed all the same, and the rest as ever."""
    names, repl, _ = make()
    names |= {
        "bad": notebook("class Bad:\n    def __getattribute__(self, name): raise ValueError('no')")["Bad"](),
        "odd": notebook("class Odd:\n    def __eq__(self, other): raise ValueError('no')")["Odd"](),
        "good": 1,
    }

    assert {"bad", "odd", "good"} == set(changed(repl))
    assert changed(repl) == {}
    names["llm_query"] = names["odd"]
    assert repl.changes()["restored"] == ["llm_query"]


def test_show_vars() -> None:
    """A table of name, type, size and start of the value; printed or as the last line it is the same text."""
    names, _, _ = make()
    exec("text = 'a\\nb'\nnumbers = list(range(1000))\nimport math", names)
    shown = names["SHOW_VARS"]()

    assert str(shown).splitlines() == [
        "text     str        3 characters  'a\\nb'",
        "numbers  list[int]  1,000 items   [0, 1, 2, 3, 4, 5, ...]",
    ]
    assert str(shown) == repr(shown)
    assert isinstance(shown, str)


def test_show_vars_of_none() -> None:
    """An empty namespace says so."""
    names, _, _ = make()

    assert str(names["SHOW_VARS"]()) == "(no variables)"


def test_clear() -> None:
    """What came after the functions goes, and is handed back; the functions stay."""
    names, repl, _ = make()
    names["a"] = 1
    assert repl.clear() == {"a": 1}
    assert "a" not in names
    assert names["SUBMIT"] == repl.submit
    assert repl.changes() == {"changed": [], "removed": [], "restored": []}
