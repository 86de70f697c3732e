"""The three still forms of a run: what they say, how long they may be, that they never change."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from render_reader import Page
from story_maker import everywhere, run

from rlm_kernel.render import answer_html, answer_text, story, to_html, to_markdown, to_text
from rlm_kernel.render.values import Block, Items, Plain, Table, Text, form, html_table

ANY = st.text(st.characters(exclude_categories=[]), max_size=300)


def forms(t: Any) -> tuple[str, str, str]:
    return to_html(t), to_markdown(t), to_text(t)


def test_the_answer_comes_before_the_story() -> None:
    """Each form tells the question or the answer first, then the iterations, with the totals."""
    for made in forms(run(subcalls=2)):
        assert made.index("Three") < made.index("I count them")
        for words in ("Answered", "1 iteration", "2 sub-calls", "1,550 tokens (300 cached)", "0.0125"):
            assert words in made


def test_a_run_that_was_stopped_says_why_at_the_top() -> None:
    """The reason in words and the detail stand before anything else that the run found."""
    for made in forms(run(stop_reason="max_iterations", detail="20 of 20 were used", values={"answer": "Perhaps 3"})):
        top = made[: made.index("Perhaps 3")]
        assert "Stopped at the limit of 20 iterations; the best answer so far" in top
        assert "20 of 20 were used" in top


def test_a_run_without_an_answer_shows_none() -> None:
    """A failed run has no answer box, and says that it failed."""
    for made in forms(run(stop_reason="error", detail="the model refused", values=None)):
        assert "Failed" in made
        assert "not answered" not in made


def test_nothing_tells_a_duration_or_an_address() -> None:
    """Seconds, run names and memory addresses are in none of the forms."""
    t = run(values={"answer": object()}, signature="a -> answer")
    for made in forms(t):
        for telling in ("9.75", "2.5 s", "main", "0x"):
            assert telling not in made


def test_the_same_run_gives_the_same_bytes() -> None:
    """Rendering is deterministic, sets included."""
    values = {"answer": {"b", "a", "c"}, "table": pd.DataFrame({"x": [1.5, 2.25]})}
    assert forms(run(values=values)) == forms(run(values=values))


@pytest.mark.parametrize(
    "options",
    [
        {"iterations": 1000, "outputs": (("stdout", "line\n" * 4000),)},
        {"iterations": 12, "subcalls": 900, "prompt": "p" * 3000, "answer": "r" * 3000},
        {"outputs": (("stdout", "x" * 20_000_000),)},
        {"reply": "word " * 200_000},
        {"reply": "|a" * 3000 + "|\n" + "|-" * 3000 + "|\n" + "|x\n" * 50},
        {"values": {f"field_{i}": "text " * 5000 for i in range(300)}},
        {"values": {"answer": [{f"k{i}": "<&>" * 200 for i in range(40)}] * 500}},
        {"iterations": 200, "code": "if x: '<&>' " * 2000, "reply": "<&$" * 5000},
        {"iterations": 70, "note": "$&" * 2000, "thinking": "\u202e" * 9000, "error": "<" * 5000, "subcalls": 30},
        {"outputs": tuple(("display", "d" * 9000) for _ in range(5000))},
    ],
    ids=["iterations", "sub-calls", "output", "reply", "wide table", "fields", "records", "code", "notes", "displays"],
)
def test_every_run_stays_within_the_limit(options: dict[str, Any]) -> None:
    """However long the run, the three forms together take at most 300 KB, and say where the rest is."""
    t = run(**options)
    made = forms(t)
    assert sum(len(m.encode()) for m in made) <= 300_000
    assert made[2].count("\n") <= 45
    assert "rlm_result" in made[0] or "more rows" in made[0]
    assert not Page(made[0]).faults


@settings(max_examples=60, deadline=None)
@given(ANY)
def test_rendering_never_raises(text: str) -> None:
    """Any text in any place gives a well-formed page within the limit."""
    made = forms(everywhere(text))
    assert not Page(made[0]).faults
    assert sum(len(m.encode()) for m in made) <= 300_000


def test_a_long_run_folds_its_middle() -> None:
    """Of many iterations the first and the last stay open to the eye."""
    made = Page(to_html(run(iterations=100)))
    assert "92 iterations between" in made.text
    assert "40 more iterations in rlm_result.trajectory" in made.text
    assert "\n 1 ✓" in to_text(run(iterations=100)).replace("  1", " 1")


def test_the_first_twenty_subcalls_are_listed() -> None:
    """Further ones are counted."""
    made = Page(to_html(run(subcalls=25, batch=1, prompt="Ask")))
    assert made.text.count("Ask") == 20
    assert "25 sub-calls in a batch" in made.text
    assert "5 more in rlm_result.trajectory" in made.text


def test_code_that_ran_is_shown_once() -> None:
    """The block of the reply gives way to its cell; a block that did not run stays part of the prose."""
    reply = "Look:\n\n```repl\nx = 1\n```\n\nnot run:\n\n```python\ny = 2\n```\n"
    page = Page(to_html(run(reply=reply, code="x = 1")))
    assert page.text.count("x = 1") == 1
    assert page.text.count("y = 2") == 1


def test_the_summary_is_the_first_telling_line() -> None:
    """Markup is dropped; without prose, the first line of code that does something."""
    assert story.summary(run(reply="## **Look** at `tickets`:\n\nmore", code="x").iterations[0]) == "Look at tickets"
    code = "import re\nfrom os import path\ntotal = 3"
    assert story.summary(run(reply=f"```repl\n{code}\n```", code=code).iterations[0]) == "total = 3"


def test_an_error_names_itself_in_the_line() -> None:
    """The last line of the traceback is part of the line of its iteration."""
    t = run(status="error", outputs=(("error", "Traceback …\n\x1b[31mKeyError\x1b[0m: 'when'\n"),))
    for made in forms(t):
        assert "KeyError: 'when'" in Page(made).text


def test_fields_come_in_the_order_of_the_signature() -> None:
    """Commas inside types do not separate fields; a field without an answer is named as such."""
    t = run(signature="a, b: str -> x: dict[str, float], y: Literal['p', 'q'] , z", values={"z": 1, "x": {}})
    assert story.fields(t) == ["x", "y", "z"]
    assert "y: not answered" in answer_text(t)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


FRAME = pd.DataFrame({"n": [1, 2], "x": [1.5, 2.25]}, index=pd.Index(["a", "b"], name="key"))
TABLE = Table(("key", "n", "x"), (("a", "1", "1.50"), ("b", "2", "2.25")))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", Text("text")),
        (3, Plain("3")),
        (True, Plain("True")),
        (np.float64(1.25), Plain("1.25")),
        (datetime.date(2024, 2, 29), Plain("2024-02-29")),
        (Colour.RED, Text("red")),
        ([], Plain("nothing (an empty list)")),
        (["a", 2], Items(("a", "2"))),
        ({"b", "a"}, Items(("a", "b"))),
        (list(range(100)), Items(tuple(str(i) for i in range(4)), more=96)),
        ({"a": 1, "b": [1, 2]}, Table((), (("a", "1"), ("b", "1, 2")))),
        (Point(1, 2.5), Table((), (("x", "1"), ("y", "2.5")))),
        ([{"a": 1}, {"b": 2}], Table(("a", "b"), (("1", ""), ("", "2")))),
        (FRAME, TABLE),
        (pl.DataFrame(FRAME.reset_index().to_dict("list")), TABLE),
        (pd.Series([1, 2], name="n"), Table(("n",), (("1",), ("2",)))),
        (pd.DataFrame({"n": range(9)}), Table(("n",), (("0",), ("1",)), more_rows=7)),
        (np.array([1, 2]), Block("array([1, 2])")),
        (Rude(), Block("<Rude>")),
        ([Rude(), 10**5000], Items(("<Rude instance>", "0x"))),
    ],
    ids=lambda v: type(v).__name__,
)
def test_each_value_has_its_form(value: Any, expected: Any) -> None:
    """Tables for tables, lists for lists, one line for a scalar; a rude value does no harm."""
    made = form(value, rows=2)
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], Rude):
        assert isinstance(made, Items)
    else:
        assert expected == made


def test_a_table_from_the_sandbox_is_read_as_text() -> None:
    """The cells of its HTML are kept, its markup is not."""
    made = html_table(FRAME.to_html() + "<script>x</script>", rows=1)
    assert made is not None
    assert made.more_rows >= 1
    assert "2.25" not in str(made.rows)
    assert html_table("no table", 3) is None


def test_numbers_are_set_to_the_right() -> None:
    """So is the head of their column, also where styles are stripped."""
    assert '<td align="right"' in answer_html(run(values={"answer": FRAME}))
