"""Calls of tools in all forms: which were made, with what, and what came of them; briefly, however many they are."""

from __future__ import annotations

from typing import Any

import pytest
from render_reader import Page
from story_maker import events, run

from rlm_kernel import events as ev
from rlm_kernel.render import TextView, story, to_html, to_markdown, to_text


def told(*stream: ev.Event) -> str:
    """The live story."""
    lines: list[str] = []
    view = TextView(lines.append)
    for event in stream:
        view(event)
    return "".join(lines)


def test_every_form_tells_of_them() -> None:
    """The page and the Markdown call by call, the text by their number."""
    t = run(tools=3)
    t.tool_calls[2].error, t.tool_calls[2].result = "OSError: no such file", ""
    page = Page(to_html(t)).text
    for made in (page, to_markdown(t).replace("\\", "")):
        assert "3 tool calls (read_file), 1 failed" in made
        assert "called" in made
        assert "returned" in made
        assert "read_file('a.txt')" in made
        assert "its text" in made
        assert "✗ OSError: no such file" in made
    assert "3 tool calls" in to_text(t)
    assert "3 tool calls" in story.totals(t)
    assert "sub-call" not in to_text(t)


def test_the_words_name_the_tools_and_the_trouble() -> None:
    """A few names; how many failed, how many have not returned."""
    t = run(tools=7)
    for n, call in enumerate(t.tool_calls):
        call.tool = f"tool_{n}"
    t.tool_calls[0].error, t.tool_calls[1].finished = "E", False
    words = "7 tool calls (tool_0, tool_1, tool_2, tool_3, tool_4, …), 1 failed, 1 unfinished"
    assert story.tool_calls_words(t.tool_calls) == words
    assert "has not returned" in to_html(t)


@pytest.mark.parametrize("number", [21, 5000])
def test_of_many_the_first_are_shown(number: int) -> None:
    """The others are counted, and the page stays small."""
    t = run(tools=number, arguments="'" + "x" * 400 + "'", result="y" * 2000)
    assert f"{number - 20:,} more in rlm_result.trajectory" in to_html(t)
    assert f"{number - 20:,} more in `rlm_result.trajectory`" in to_markdown(t)
    assert len(to_html(t)) < 60_000
    assert len(to_markdown(t)) < 30_000


def test_the_live_story_tells_of_each() -> None:
    """The call, what it returned or raised, and how long it took."""
    assert "  → read_file('a.txt') ← its text · 0.2 s\n" in told(*events(tools=1))
    assert "  → read_file('a.txt') ← failed: OSError: no · 0.2 s\n" in told(*events(tools=1, failed="OSError: no"))


def test_the_live_story_counts_many() -> None:
    """After twenty in a cell only their number is told, at its end; what fails is told always."""
    made: list[Any] = events(tools=30)
    last = max(i for i, e in enumerate(made) if isinstance(e, ev.ToolCallFinished))
    made[last] = ev.ToolCallFinished(run="main", at=1.0, call=30, result="", error="E", seconds=0)
    text = told(*made)
    assert text.count("→ read_file") == 21
    assert "  → 30 tool calls (read_file), 1 failed in all\n" in text
    assert "in all" not in told(*events(tools=20))
    again = told(*events(tools=15, iterations=2))
    assert (again.count("→ read_file"), "in all" in again) == (30, False)
