"""What the model is told, and how its code is read back."""

from __future__ import annotations

import pytest

from rlm_kernel import Field, Options, Signature, Usage
from rlm_kernel import events as ev
from rlm_kernel.budget import Ledger
from rlm_kernel.prompt import (
    CellReport,
    Excerpt,
    final_message,
    first_message,
    no_code,
    observation,
    read_code,
    status_line,
    system_prompt,
)
from rlm_kernel.task import Task
from tests.helpers import code, play

ODD = (
    "{answer} {0} {{x}} {fields!r:>{width}} ${HOME} $x %s %(a)s %% \\n \\1"
    " C:\\new 'q' \"d\" <b>&amp;</b> é 数据 \u202e🎉"
)


def cut(text: str, limit: int, piece: int = 7) -> str:
    """`text`, taken in pieces, cut to `limit`."""
    excerpt = excerpt_of(text, limit, piece)
    return excerpt.cut(limit)


def excerpt_of(text: str, limit: int = 10_000, piece: int = 1000) -> Excerpt:
    excerpt = Excerpt(limit)
    for start in range(0, len(text), piece):
        excerpt.add(text[start : start + piece])
    return excerpt


# -- reading the code ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reply", "blocks"),
    [
        ("```repl\nx = 1\n```", ["x = 1\n"]),
        ("```python\nx = 1\n```", ["x = 1\n"]),
        ("```py\nx = 1\n```", ["x = 1\n"]),
        ("```REPL\nx = 1\n```", ["x = 1\n"]),
        ("```Python\nx = 1\n```", ["x = 1\n"]),
        ("``` repl\nx = 1\n```", ["x = 1\n"]),
        ("```repl title='a'\nx = 1\n```", ["x = 1\n"]),
        ("```repl\ttitle\nx = 1\n```", ["x = 1\n"]),
        ("~~~repl\nx = 1\n~~~", ["x = 1\n"]),
        ("````repl\ns = '''\n```\n'''\n````", ["s = '''\n```\n'''\n"]),
        ("~~~repl\ns = '```'\n```\n~~~", ["s = '```'\n```\n"]),
        ("text\n\n```repl\na\n```\n\nmore\n\n```python\nb\n```\n", ["a\n", "b\n"]),
        ("1. First\n\n   ```repl\n   if x:\n       y\n   ```\n", ["if x:\n    y\n"]),
        ("- a\n  - b\n    ```repl\n    x\n    ```", ["x\n"]),
        ("> ```repl\n> x\n> ```", ["x\n"]),
        ("```repl\nx = 1", ["x = 1"]),
        ("```repl\r\nx = 1\r\ny = 2\r\n```\r\n", ["x = 1\ny = 2\n"]),
        ("```repl\n\n```", []),
        ("```repl\n```", []),
        ("```\nx = 1\n```", []),
        ("```js\nx = 1\n```", []),
        ("```bash\nrm -rf /\n```", []),
        ("```reply\nx\n```", []),
        ("```pythonic\nx\n```", []),
        ("    x = 1\n", []),
        ("`x = 1`", []),
        ("SUBMIT(1)", []),
        ("", []),
        ("<pre>\n```repl\nx\n```\n</pre>", []),
        ("<!--\n```repl\nx\n```\n-->", []),
        ("````markdown\n```repl\nx\n```\n````", []),
        ("```repl\nprint('{x} $y \\\\ 数据')\n```", ["print('{x} $y \\\\ 数据')\n"]),
    ],
)
def test_code_is_read_as_markdown_means_it(reply: str, blocks: list[str]) -> None:
    """Every fence of Markdown tagged repl or python counts, in order, and nothing else does."""
    assert [b.rstrip("\n") for b in blocks] == [b.rstrip("\n") for b in read_code(reply)]


# -- the system prompt --------------------------------------------------------------------------------------------
def test_the_system_prompt_shows_every_variable() -> None:
    """Name, type, size and every line of the preview are there."""
    variables = (
        ev.Variable("tickets", "DataFrame", "10 rows x 2 columns", "a  b\n1  2"),
        ev.Variable("policy", "str", "3 characters", "'abc'"),
    )
    text = system_prompt(Task("?", Signature.parse("tickets, policy"), variables, Options()))
    for part in ("`tickets`: DataFrame, 10 rows x 2 columns", "    a  b\n    1  2", "`policy`: str, 3 characters"):
        assert part in text


def test_the_system_prompt_shows_every_field() -> None:
    """Names, types and descriptions of the outputs, the instructions and the limits are there."""
    signature = Signature(
        (), (Field("n", int, "int", "how many"), Field("by", dict, "dict[str, float]")), "Be careful."
    )
    text = system_prompt(Task("?", signature, (), Options(max_iterations=7)))
    for part in (
        "- `n`: int (how many)",
        "- `by`: dict[str, float]",
        "SUBMIT(n=…, by=…)",
        "Be careful.",
        "You have 7 turns",
    ):
        assert part in text


@pytest.mark.parametrize(
    "name",
    ["llm_query", "llm_batch", "rlm_query", "rlm_batch", "SHOW_VARS", "SUBMIT", "FINAL", "FINAL_VAR", "SubcallError"],
)
def test_the_system_prompt_explains_the_repl(name: str) -> None:
    """Every function that the REPL has is told."""
    assert name in system_prompt(Task("?", Signature.parse("-> a"), (), Options()))


def test_odd_text_arrives_unchanged() -> None:
    """Braces, dollars, backslashes and percent signs of a preview, a description or the instructions are text."""
    signature = Signature((Field("x"),), (Field("a", description=ODD),), ODD + "1")
    text = system_prompt(Task("?", signature, (ev.Variable("x", "str", "", ODD + "2"),), Options()))
    assert (text.count(f"({ODD})"), text.count(ODD + "1"), text.count(ODD + "2")) == (1, 1, 1)


def test_an_odd_question_arrives_unchanged() -> None:
    """The question is passed on as it was written."""
    assert first_message(ODD, "turn 1").startswith(ODD + "\n")
    assert play([code("SUBMIT('x')")], question=ODD).told[0].startswith(ODD + "\n")


def test_an_odd_output_arrives_unchanged() -> None:
    """So is what the code prints."""
    assert ODD in observation([CellReport(1, "ok", excerpt_of(ODD + "\n"))], "s", 10_000)


def test_no_variable_is_told() -> None:
    """Without inputs the model is sent to SHOW_VARS."""
    assert "SHOW_VARS() tells" in system_prompt(Task("?", Signature.parse("-> a"), (), Options()))


# -- observations -------------------------------------------------------------------------------------------------
def test_what_fits_is_not_truncated() -> None:
    """Text of exactly the limit is left as it is."""
    assert cut("x" * 100, 100) == "x" * 100


@pytest.mark.parametrize("piece", [1, 2, 99, 100, 101, 299, 300, 301, 10_000])
def test_how_an_output_arrived_makes_no_difference(piece: int) -> None:
    """In one piece or in many, the same is shown."""
    text = "".join(f"{i}," for i in range(1000))
    assert cut(text, 300, piece) == cut(text, 300, 50)


def test_truncation_keeps_head_and_tail_and_says_what_was_cut() -> None:
    """The start and the end stay, the note counts."""
    text = cut("H" * 1000 + "M" * 8000 + "T" * 1000, 300)
    assert text.startswith("H" * 200)
    assert text.endswith("T" * 100)
    assert "9,700 of 10,000 characters cut" in text
    assert "M" not in text


@pytest.mark.parametrize("status", ["ok", "error", "submitted", "interrupted", "timeout", "died", "flooded"])
def test_every_status_is_told(status: str) -> None:
    """The model reads how its block ended and what it printed."""
    text = observation([CellReport(1, status, excerpt_of("printed\n"), note="a note")], "turn 2 of 3", 1000)  # type: ignore[arg-type]
    for part in (status, "printed", "a note", "[turn 2 of 3]"):
        assert part in text


def test_silence_is_told() -> None:
    """A block that printed nothing is not mistaken for one whose output was lost."""
    assert "(no output)" in observation([CellReport(1, "ok", excerpt_of(""))], "s", 1000)


def test_changes_of_the_namespace_are_told() -> None:
    """New, removed and restored names are there, each with what it is."""
    report = CellReport(
        1, "ok", excerpt_of(""), (ev.Variable("x", "list", "3 items", "[1,\n 2]"),), ("gone",), ("llm_query", "SUBMIT")
    )
    text = observation([report], "s", 1000)
    for part in ("x (list, 3 items) = [1, 2]", "Removed: gone", "llm_query, SUBMIT", "restored"):
        assert part in text


def test_very_many_changes_are_counted() -> None:
    """A cell that makes a thousand variables does not flood the conversation."""
    many = tuple(ev.Variable(f"v{i}", "int", "", "1" * 500) for i in range(1000))
    text = observation([CellReport(1, "ok", excerpt_of(""), many)], "s", 1000)
    assert "and 980 more" in text
    assert len(text) < 5000


def test_several_blocks_are_told_apart() -> None:
    """Each has its number and its share of the limit."""
    reports = [CellReport(1, "ok", excerpt_of("a" * 1000)), CellReport(2, "error", excerpt_of("b" * 1000))]
    text = observation(reports, "s", 600)
    assert text.index("Block 1: ok") < text.index("Block 2: error")
    assert (text.count("a" * 200) * 200 + 100, text.count("b" * 200) * 200 + 100) == (300, 300)


def test_the_status_tells_what_is_left() -> None:
    """Turn, sub-calls, dollars, tokens and time are in it."""
    account = Ledger(Options(max_iterations=5, max_llm_calls=9, timeout=1000.5, budget=0.5, max_tokens=9000))
    account.iterations = 1
    account.charge_subcalls(2)
    account.settle(Usage(1000, 200), 0.25)
    expected = "turn 2 of 5]\n[left: 7 of 9 sub-calls; $0.25 of $0.50; 7,800 of 9,000 tokens; 1000 s"
    assert expected == status_line(account)
    assert "s; " not in status_line(Ledger(Options()))


def test_no_turn_is_counted_beyond_the_last() -> None:
    """After it the answer is asked for, which is not turn 3 of 2."""
    account = Ledger(Options(max_iterations=2))
    account.iterations = 2
    assert status_line(account) == "no turn is left]\n[left: 50 of 50 sub-calls"


def test_a_reply_without_code_is_answered() -> None:
    """The model is told that nothing was run and how to write code."""
    assert "```repl" in no_code("s")
    assert "SUBMIT" in no_code("s")


def test_the_last_call_says_why_and_how() -> None:
    """The limit and the submission that is wanted are in it."""
    text = final_message("all 3 iterations were used", Signature.parse("-> n: int, s: str"))
    assert "all 3 iterations were used" in text
    assert "SUBMIT(n=…, s=…)" in text


def test_a_conversation_only_grows_at_its_end() -> None:
    """Each request is the one before it, the reply to it, and one more message; the system prompt never changes."""
    played = play([code("x = 1"), "no code", code("1/0"), code("SUBMIT(str(x))")])
    assert len(played.roots) == 4
    for before, after, iteration in zip(played.roots, played.roots[1:], played.trajectory, strict=False):
        assert before.messages == after.messages[:-2]
        assert ("assistant", iteration.reply) == (after.messages[-2].role, after.messages[-2].content)
        assert after.messages[-1].role == "user"
        assert before.system == after.system
