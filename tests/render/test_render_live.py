"""The live view as text, and the line that says what goes on."""

from __future__ import annotations

import io
import random
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from render_reader import UNSEEN
from story_maker import CODE, events, everywhere, family, interleaved, together

from rlm_kernel import events as ev
from rlm_kernel.render import TextView
from rlm_kernel.usage import Usage


def told(*stream: ev.Event, color: bool = False) -> str:
    lines: list[str] = []
    view = TextView(lines.append, color=color)
    for event in stream:
        view(event)
    assert all(line.endswith("\n") for line in lines)
    return "".join(lines)


def test_the_story_is_told_in_its_order() -> None:
    """Header, prose, code with a bar, output, variables, the end; code is not told twice."""
    made = told(*events(variable=ev.Variable("n", "int", "", "3"), note="a new sandbox", values={"answer": "3"}))
    places = [
        made.index(w)
        for w in ("── Iteration 1 of 20", "I count them", "│ n = len", "\n  3\n", "n: int = 3", "Answered")
    ]
    assert sorted(places) == places
    assert made.count(CODE.split("\n")[0]) == 1
    assert "note: a new sandbox" in made
    assert "\x1b" not in made


def test_prose_stands_before_its_code() -> None:
    """Each stretch of the reply is told in its place; blocks that did not run are counted, and not told."""
    reply = "First:\n\n```repl\na = 1\n```\nthen:\n\n```repl\nb = 2\n```\nand done."
    at: dict[str, Any] = {"run": "main", "at": 2.0, "iteration": 1}
    head, begun, asked = events(reply=reply, code="")[:3]
    assert isinstance(asked, ev.ModelFinished)
    asked = ev.ModelFinished(**at, reply=reply, thinking="", model="m", usage=Usage(10, 5), cost=None, seconds=1,
                             cells=("a = 1", "b = 2"))  # fmt: skip
    stream = [head, begun, asked]
    for n, code in enumerate(("a = 1", "b = 2"), 1):
        stream += [ev.CellStarted(**at, cell=n, code=code)]
        stream += [ev.CellFinished(**at, cell=n, status="ok", seconds=1)]
    end = ev.IterationFinished(**at | {"at": 63.5}, observation="")
    made = told(*stream, end)
    assert "First:\n│ a = 1\n\nthen:\n│ b = 2\n\nand done.\n  1 min 2 s · 15 tokens\n" in made
    made = told(*stream[:-2], end)
    assert "1 more block of code did not run" in made
    assert "then" not in made
    assert "done" not in made


def test_an_iteration_ends_with_its_time_and_tokens() -> None:
    """Those of its sub-calls with them; the run ends with the answer and with the totals."""
    stream = events(subcalls=2, iterations=2, values={"answer": "It is 3."})
    made = told(*stream)
    assert made.count("  0.0 s · 26 tokens (2 cached)\n") == 2
    assert re.search(r"\n── Answered ─+\nIt is 3\.\n2 iterations · .* · 9\.8 s\n$", made)
    wrong = told(*events(stop_reason="error", detail="the model refused " * 9, status="error"))
    assert "── Failed ─" in wrong
    assert max(len(line) for line in wrong.split("\n")) <= 100


def test_a_batch_is_one_line() -> None:
    """Its sub-calls are counted when it is over; single ones are told one by one, up to twenty."""
    for stream in (events(subcalls=30, batch=1), together(30)):
        made = told(*stream)
        assert "  → 30 sub-calls in a batch · 1.0 s\n" in made
        assert made.count("→") == 1
    failed = told(*together(30, error="overloaded"))
    assert "→ 30 sub-calls in a batch, 30 failed · 1.0 s: overloaded" in failed
    assert failed.count("→") == 1
    many = told(*events(subcalls=50))
    assert many.count("→ Read this ← Done · 1.0 s") == 20
    assert "→ 50 sub-calls in all" in many


def test_a_batch_that_takes_long_is_counted_on_the_way() -> None:
    """About every ten seconds: how many are answered and how many are under way. The next batch ends it."""
    stream = together(30)
    done = 0
    for i, event in enumerate(stream):
        if isinstance(event, ev.SubcallFinished):
            done += 1
            stream[i] = replace(event, at=1.0 + done)
    made = told(*stream)
    assert made.count("answered so far") == 2
    assert "→ 10 sub-calls answered so far, 20 under way\n  → 20 sub-calls answered so far, 10 under way" in made
    second = [
        replace(e, subcall=e.subcall + 30) for e in stream if isinstance(e, (ev.SubcallStarted, ev.SubcallFinished))
    ]
    second = [replace(e, batch=2) if isinstance(e, ev.SubcallStarted) else e for e in second]
    at = next(i for i, e in enumerate(stream) if isinstance(e, ev.CellOutput))
    made = told(*stream[:at], *second, *stream[at:])
    assert made.count("→ 30 sub-calls in a batch") == 2


def test_colours_only_when_asked() -> None:
    """With `color` the same words carry ANSI colours, and hostile ANSI is gone either way."""
    hostile: dict[str, Any] = {"outputs": (("stdout", "\x1b[2Jcleared\n"),), "question": "\x1b]0;t\x07q"}
    assert "\x1b[2J" not in told(*events(**hostile), color=True)
    assert "\x1b" in told(*events(**hostile), color=True)
    assert "\x1b" not in told(*events(**hostile))


@pytest.mark.parametrize(
    ("terminal", "environment", "color"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": ""}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {}, False),
    ],
)
def test_a_terminal_shows_colours(
    terminal: bool, environment: dict[str, str], color: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file or a pipe never gets any, nor does a terminal whose user wants none."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr("sys.stdout", out)
    view = TextView.terminal()
    for event in events():
        view(event)
    assert ("\x1b[" in out.getvalue()) == color
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert plain == told(*events())


def test_a_terminal_is_not_overrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prose is wrapped at its width; what its encoding lacks does not end the run."""
    monkeypatch.setenv("COLUMNS", "60")
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr(out, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    view = TextView.terminal(out)
    for event in events(question="What? " * 50, reply="- " + "word " * 100, subcalls=2, prompt="ask " * 50):
        view(event)
    out.flush()
    lines = raw.getvalue().decode("ascii").split("\n")
    assert max(map(len, lines)) <= 60
    assert "?? Iteration 1 of 20 ???" in "\n".join(lines)
    assert any(line.startswith("  word") for line in lines)

    class Bare:
        write = staticmethod(raw.write)

    assert TextView.terminal(Bare())


def test_child_runs_are_indented() -> None:
    """A child run is told in its place, further in, and its answer where its sub-call ends."""
    runs = family("main", 1, 1, 1)
    asked = {name: [replace(e, batch=None) if isinstance(e, ev.SubcallStarted) else e for e in own]
             for name, own in runs.items()}  # fmt: skip
    made = told(*interleaved(asked, "main", random.Random(0), deepest=True))
    parts = ("I am main\n", "── Iteration 1 of 20", "\n    I am main.1\n", "\n        I am main.1.1\n",
             "\n    ── Answered ─", "\n  → Read this ← Done", "\n── Answered ─")  # fmt: skip
    places = [made.index(part) for part in parts]
    assert sorted(places) == places
    assert max(len(line) for line in made.split("\n")) <= 100


def test_children_at_once_do_not_run_into_each_other() -> None:
    """Those of a batch are counted; of single ones that run beside each other the first is told."""
    runs = family("main", 5, 2)
    made = told(*interleaved(runs, "main", random.Random(1)))
    assert "I am main\n" in made
    assert "I am main." not in made
    assert "→ 5 sub-calls in a batch, 5 with runs of their own" in made
    asked = {name: [replace(e, batch=None) if isinstance(e, ev.SubcallStarted) else e for e in own]
             for name, own in runs.items()}  # fmt: skip
    head = asked["main"][: next(i for i, e in enumerate(asked["main"]) if isinstance(e, ev.SubcallFinished))]
    rest = asked["main"][len(head) :]
    made = told(*head, asked["main.1"][0], asked["main.2"][0], *asked["main.1"][1:], *asked["main.2"][1:], *rest)
    assert "I am main.1\n" in made
    assert "I am main.2\n" not in made
    assert made.count("← Done") >= 5


def test_a_stranger_is_not_told() -> None:
    """Events of a run that is not in the tree, and those after a second start, which begins anew."""
    assert told(*events(), *events(name="other", parent="unknown")) == told(*events())
    assert told(*events(), *events(name="other")) == told(*events()) + told(*events(name="other"))
    assert told(*events()[1:]) == ""


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=[]), max_size=200), st.booleans())
def test_hostile_text_stays_text(text: str, color: bool) -> None:
    """Whatever a run holds, the story is whole lines that can be encoded; the only escapes are its own colours."""
    t = everywhere(text)
    shown = (("stdout", text), ("stderr", text), ("error", text), ("display", text, {text: text, "image/png": text}))
    stream = events(
        question=text, reply=f"{text}\n```repl\n{text}\n```", code=text or "x", prompt=text, answer=text, error=text,
        subcalls=1, note=text, detail=text, values={"answer": text}, variable=t.cells[0].changed[0], outputs=shown,
    )  # fmt: skip
    made = told(*stream, color=color)
    made.encode()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", made) if color else made
    assert not UNSEEN.search(plain)


def test_long_output_is_bounded() -> None:
    """Head and tail are shown, the rest is counted."""
    assert len(told(*events(outputs=(("stdout", "y\n" * 1_000_000),)))) < 2000
    assert len(told(*events(outputs=tuple(("stdout", "y\n" * 40_000) for _ in range(30))))) < 2000
    assert "90 more outputs" in told(*events(outputs=tuple(("display", "d") for _ in range(100))))
