"""The live view as text, and the line that says what goes on."""

from __future__ import annotations

from typing import Any

from story_maker import CODE, events, run

from rlm_kernel import events as ev
from rlm_kernel.render import TextView, progress_line
from rlm_kernel.trajectory import Trajectory


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
        made.index(w) for w in ("── Iteration 1 of 20", "I count them", "│ n = len", "\n3\n", "n: int = 3", "Answered")
    ]
    assert sorted(places) == places
    assert made.count(CODE.split("\n")[0]) == 1
    assert "note: a new sandbox" in made
    assert "\x1b" not in made


def test_a_batch_is_one_line() -> None:
    """Its sub-calls are counted when the last one is done; single ones are told one by one, up to twenty."""
    made = told(*events(subcalls=30, batch=1))
    assert made.count("→") == 30  # each finished before the next began: thirty batches of one in this stream
    together = events(subcalls=30, batch=1, error="overloaded")
    started = [e for e in together if isinstance(e, ev.SubcallStarted)]
    rest = [e for e in together if not isinstance(e, ev.SubcallStarted)]
    at = next(i for i, e in enumerate(rest) if isinstance(e, ev.CellStarted)) + 1
    made = told(*rest[:at], *started, *rest[at:])
    assert "→ 30 sub-calls in a batch, 30 failed: overloaded" in made
    assert made.count("→") == 1
    assert "→ 50 sub-calls in all" in told(*events(subcalls=50))


def test_colours_only_when_asked() -> None:
    """With `color` the same words carry ANSI colours, and hostile ANSI is gone either way."""
    hostile: dict[str, Any] = {"outputs": (("stdout", "\x1b[2Jcleared\n"),), "question": "\x1b]0;t\x07q"}
    assert "\x1b[2J" not in told(*events(**hostile), color=True)
    assert "\x1b" in told(*events(**hostile), color=True)
    assert "\x1b" not in told(*events(**hostile))


def test_child_runs_are_indented() -> None:
    """The events of a child run stand further in, and do not disturb the story of their parent."""
    parent = events()
    child = [
        ev.RunStarted(
            run="main.1", at=1, question="child?", signature="", model="m", sub_model="", max_iterations=3,
            max_llm_calls=3, parent="main.1",
        ),
        ev.IterationStarted(run="main.1", at=1, iteration=1, prompt=""),
    ]  # fmt: skip
    made = told(*parent[:4], *child, *parent[4:])
    assert "\n    child?" in made
    assert "\n    ── Iteration 1 of 3" in made


def test_long_output_is_bounded() -> None:
    """Head and tail are shown, the rest is counted."""
    assert len(told(*events(outputs=(("stdout", "y\n" * 1_000_000),)))) < 2000


def test_progress_says_what_goes_on() -> None:
    """From the start to the end, in one short line."""
    stream = events(subcalls=2, batch=1, values={"answer": "3"})
    lines, t = [], Trajectory()
    lines.append(progress_line(t))
    for event in stream:
        t.add(event)
        lines.append(progress_line(t))
    said = " | ".join(dict.fromkeys(lines))
    for words in (
        "starting",
        "iteration 1 of 20 · asking the model",
        "iteration 1 of 20 · running code · 18 tokens",
        "0 of 1 sub-call done",
        "reading what came out",
        "Answered · 1 iteration",
    ):
        assert words in said
    assert progress_line(run()).startswith("Answered")
