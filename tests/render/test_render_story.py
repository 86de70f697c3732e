"""What is said of a run, while it goes on and once it is over; that it stays short, however much there was."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from render_reader import Page
from story_maker import CODE, events, family, interleaved, run, together

from rlm_kernel import events as ev
from rlm_kernel.render import story, to_html, to_markdown, to_text
from rlm_kernel.trajectory import Output, Trajectory
from rlm_kernel.usage import Usage


def streaming(name: str = "main") -> list[ev.Event]:
    """A run whose replies stream in, thinking first and begun anew once, with child runs below its sub-calls."""
    made: list[ev.Event] = []
    for event in interleaved(family(name, 2, 1), name, random.Random(0)):
        if isinstance(event, ev.ModelFinished):
            for text, kind in [("Hm.", "thinking"), ("Lost", "text"), ("", "restart"), *zip(event.reply, "t" * 999)]:  # noqa: B905
                kind = "text" if kind == "t" else kind
                made.append(ev.ModelDelta(run=event.run, at=1, iteration=event.iteration, text=text, kind=kind))  # type: ignore[arg-type]
        made.append(event)
    return made


def test_everything_can_be_told_at_any_moment() -> None:
    """Before the first event, in the middle of a reply, of a cell, of a batch of child runs, and at the end."""
    t = Trajectory()
    said: list[str] = []
    for event in [None, *streaming()]:
        if event is not None:
            t.add(event)
        for form in (to_html(t), to_markdown(t), to_text(t)):
            assert form
        words, tone = story.headline(t)
        assert tone in ("good", "short", "bad")
        assert all([words, *story.totals(t)])
        assert story.fields(t) in ([], ["answer"])
        assert story.usage_of(t).total_tokens >= 0
        for iteration in t:
            said.append(story.status(iteration))
            assert story.summary(iteration)
            assert story.mark(said[-1])
            assert "".join(p.text if isinstance(p, story.Prose) else "" for p in story.parts(iteration)) is not None
            for cell in iteration.cells:
                assert story.error_line(cell) == ""
                assert story.subcalls_words(cell.subcalls)
                assert story.outputs(cell) == cell.outputs
    assert list(dict.fromkeys(said)) == ["running", "ok"]


def test_the_status_of_an_iteration_that_goes_on() -> None:
    """It is running while its reply streams and between two cells; without code only once it is over."""
    t = Trajectory()
    seen = []
    for event in events(code="", reply="I think so."):
        t.add(event)
        seen += [story.status(i) for i in t]
    assert list(dict.fromkeys(seen)) == ["running", "none"]
    t = Trajectory.fold(events()[:-2])
    assert [c.status for c in t.cells] == ["ok"]
    assert story.status(t[0]) == "running"
    broken = Trajectory.fold(events(status="error")[:-2])
    assert story.status(broken[0]) == "error"


def test_a_reply_that_streams_in_is_all_there() -> None:
    """A block that is not whole yet is part of the prose; one that runs is its cell."""
    t = Trajectory.fold(events()[:2])
    for piece in ("I count", " them.\n\n```re", "pl\nn = len(", "tickets)\nprint(n)\n```\n"):
        t.add(ev.ModelDelta(run="main", at=1, iteration=1, text=piece))
        parts = list(story.parts(t[0]))
        assert all(isinstance(p, story.Prose) for p in parts)
        assert "\n".join(p.text for p in parts if isinstance(p, story.Prose)).startswith("I count")
        assert story.summary(t[0]) == ("I count" if piece == "I count" else "I count them.")
    t.add(ev.CellStarted(run="main", at=1, iteration=1, cell=1, code=CODE))
    assert list(story.parts(t[0]))[-1] is t.cells[0]


def test_tokens_of_child_runs_count_while_they_go_on() -> None:
    """Those of a sub-call that is over hold those of its run; until then the run's own calls are added up."""
    runs = family("1", 1)
    stream = interleaved(runs, "1", random.Random(0), deepest=True)
    t = Trajectory()
    counts = []
    for event in stream:
        if isinstance(event, ev.SubcallFinished):
            event = replace(event, usage=Usage(50, 5))
        if isinstance(event, ev.RunFinished) and event.run == "1.1":
            event = replace(event, usage=Usage(50, 5))
        if isinstance(event, ev.RunFinished) and event.run == "1":
            event = replace(event, usage=Usage(70, 10))
        t.add(event)
        counts.append(story.usage_of(t).total_tokens)
    assert list(dict.fromkeys(counts)) == [0, 18, 36, 73, 80]


def test_output_in_many_pieces_is_one() -> None:
    """Of each stream, as long as nothing else comes between; displays stand by themselves."""
    texts = [
        ("stdout", "a" * 70_000),
        ("stdout", "b"),
        ("stderr", "c"),
        ("stdout", "d"),
        ("display", "e"),
        ("display", "f"),
    ]
    cell = run(outputs=tuple(texts)).cells[0]
    assert len(cell.outputs) == 6
    assert [(o.kind, o.text[-2:]) for o in story.outputs(cell)] == [
        ("stdout", "ab"), ("stderr", "c"), ("stdout", "d"), ("display", "e"), ("display", "f"),
    ]  # fmt: skip
    assert story.outputs(cell)[-1] is cell.outputs[-1]
    assert isinstance(story.outputs(cell)[0], Output)


def big(name: str) -> Trajectory:
    """Runs that no notebook could hold."""
    match name:
        case "sub-calls":
            return Trajectory.fold(together(10_000, prompt="p" * 3000, answer="r" * 2000))
        case "iterations":
            return run(iterations=1000, outputs=(("stdout", "line\n" * 4000),))
        case "output":
            return run(outputs=tuple(("stdout", f"line {n} of output\n" * 55) for n in range(20_000)))
        case "one line":
            return run(outputs=(("stdout", "x" * 20_000_000),))
        case "reply":
            return run(reply="- some *words* and `code` of it\n" * 32_000)
        case "children":
            runs = family("main", 50)
            wordy = {"iterations": 30, "subcalls": 20, "prompt": "p" * 2000, "reply": "w " * 2000, "parent": "main"}
            runs = {k: own if k == "main" else events(name=k, **wordy) for k, own in runs.items()}  # type: ignore[arg-type]
            return Trajectory.fold(interleaved(runs, "main", random.Random(0)))
        case "generations":
            return Trajectory.fold(interleaved(family("main", *[1] * 50), "main", random.Random(0)))
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("name", "page", "text"),
    [
        ("sub-calls", ["10,000 sub-calls in a batch", "9,980 more in rlm_result.trajectory"], "10,000 sub-calls"),
        ("iterations", ["992 iterations between", "940 more iterations in rlm_result.trajectory"],
         "988 more iterations in rlm_result.trajectory"),
        ("output", ["line 0 of output", "characters left out, in rlm_result.trajectory", "line 19999 of output"], ""),
        ("one line", ["19,996,001 characters left out, in rlm_result.trajectory"], ""),
        ("reply", ["characters left out, in rlm_result.trajectory"], ""),
        ("children", ["50 sub-calls in a batch, 50 with runs of their own", "more in rlm_result.trajectory",
                      "more iterations and its code in rlm_result.trajectory"], "50 sub-calls and 30,000 below them"),
        ("generations", ["1 with a run of its own", "and 49 below them", "its code in rlm_result.trajectory"],
         "1 sub-call and 49 below them"),
    ],
)  # fmt: skip
def test_the_settled_output_of_a_big_run_is_small(name: str, page: list[str], text: str) -> None:
    """The three forms take less than 300 KB together, and say what they leave out and where it is."""
    t = big(name)
    made = to_html(t), to_markdown(t), to_text(t)
    assert sum(len(m.encode()) for m in made) < 300_000
    read = Page(made[0])
    assert not read.faults
    for words in page:
        assert words in read.text
    assert text in made[2]
    assert "rlm_result.trajectory" in made[1].replace("`", "")
