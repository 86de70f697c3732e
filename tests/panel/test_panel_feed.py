"""The feed: whatever happens and whenever the browser is told, it ends up with the same scene."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_kernel import events as ev
from rlm_kernel.panel.feed import KEPT, Feed
from rlm_kernel.trajectory import Trajectory
from rlm_kernel.usage import Usage
from tests.panel.browser import Table, story


def told(events: list[ev.Event], pause: float = 1.0, seed: int = 0) -> tuple[Feed, Table]:
    """A feed that heard these events, and a browser that was told after some of them."""
    rng, trajectory, table = random.Random(seed), Trajectory(), Table()
    feed = Feed(trajectory)
    for event in events:
        trajectory.add(event)
        feed.hear(event)
        if rng.random() < pause:
            feed.update()
            table.apply(feed.store.take())
    feed.update()
    table.apply(feed.store.take())
    return feed, table


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.01, 0.3, 1.0]))
def test_the_moment_of_telling_does_not_matter(seed: int, pause: float) -> None:
    """Told after every event, now and then, or at the end: the browser holds the same."""
    events = list(story(seed, iterations=3))
    _, often = told(events, pause, seed)
    _, once = told(events, 0.0)
    assert often.values == once.values


def test_what_is_asked_for_is_what_was_told() -> None:
    """The body of an iteration, asked for, is the one that a browser that was there from the start has."""
    feed, table = told(list(story(5)))
    for n in range(1, 6):
        asked = Table()
        asked.apply(feed.asked({"body": ["1", n]}))
        own = {k: v for k, v in table.values.items() if k.split("/")[2:3] == [str(n)] and k[0] not in "is"}
        assert asked.values == own


def test_a_finished_run_is_told_without_its_events() -> None:
    """Of a run that was loaded, the browser gets head, totals, answer and lines; bodies when it asks."""
    events = list(story(3))
    _, live = told(events)
    feed = Feed(Trajectory.fold(events))
    feed.everything()
    loaded = Table()
    loaded.apply(feed.store.take())
    assert {k[0] for k in loaded.values} == set("htais")
    same = {k: v for k, v in live.values.items() if k[0] in "hais"}
    assert {k: v for k, v in loaded.values.items() if k[0] != "t"} == same


def test_a_reply_streams_and_gives_way_to_its_parts() -> None:
    """While it is written the browser has the text, piece by piece; then prose and cells instead."""
    trajectory, feed = Trajectory(), None
    sent: list[dict[str, Any]] = []
    feed = Feed(trajectory)
    for event in story(1, iterations=1):
        trajectory.add(event)
        feed.hear(event)
        feed.update()
        sent.append(feed.store.take())
    written = "".join(p.get("set", {}).get("r/1/1", "") + p.get("add", {}).get("r/1/1", "") for p in sent)
    assert written == "I think of **1**.\n\n```repl\nprint(1)\n```\n"
    assert any("r/1/1" in p.get("drop", []) for p in sent)
    assert feed.store.snapshot()["b/1/1"]["parts"] == [["p", [["p", "I think of ", ["b", "1"], "."]]], ["c", 1]]


def test_old_bodies_are_taken_back() -> None:
    """The browser keeps the bodies of the last iterations alone, and a line and the times of each."""
    feed, table = told(list(story(2, iterations=KEPT + 12)))
    assert sum(k.startswith("b/") for k in table.values) == KEPT
    assert sum(k.startswith("i/") for k in table.values) == sum(k.startswith("s/") for k in table.values) == KEPT + 12
    assert "b/1/1" in feed.asked({"body": ["1", 1]})["set"]


def test_a_child_run_is_a_run() -> None:
    """The events of a run that a sub-call started go to keys of its own; its parent's row names it."""
    parent = list(story(4, iterations=2))
    at = next(i for i, e in enumerate(parent) if isinstance(e, ev.SubcallStarted))
    number = parent[at].subcall  # type: ignore[attr-defined]  # it is a SubcallStarted
    child = list(story(6, iterations=2, run=f"1.{number}", parent="1"))
    _, table = told([*parent[: at + 1], *child, *parent[at + 1 :]])
    assert table.values[f"h/1.{number}"]["question"] == "Which?"
    assert table.values[f"i/1.{number}/2"]["state"] == "submitted"
    rows = {n: row for key, rows in table.values.items() if key.startswith("q/1/") for n, row in rows.items()}
    assert rows[str(number)][6] == f"1.{number}"


def test_counts_are_those_of_the_trajectory() -> None:
    """Tokens, cost and sub-calls, counted as they come, are what adding them up gives."""
    events = list(story(8, iterations=6))
    _, table = told(events)
    trajectory = Trajectory.fold(events)
    used = sum((i.usage for i in trajectory), Usage()) + sum((s.usage for s in trajectory.subcalls), Usage())
    totals = table.values["t/1"]
    assert totals["calls"] == len(trajectory.subcalls)
    assert totals["tokens"] == used.total_tokens
    for key, (asked, done, failed, _batches) in ((k, v) for k, v in table.values.items() if k.startswith("n/")):
        rows = table.values[key.replace("n/", "q/")].values()
        assert [asked, done, failed] == [len(rows), sum(r[0] > 0 for r in rows), sum(r[0] == 2 for r in rows)]
    assert totals["tools"] == len(trajectory.tool_calls)
    for key, counts in ((k, v) for k, v in table.values.items() if k.startswith("m/")):
        rows = table.values[key.replace("m/", "u/")].values()
        assert counts == [len(rows), sum(r[0] > 0 for r in rows), sum(r[0] == 2 for r in rows), 0]


@pytest.mark.parametrize(
    "question",
    [
        {}, {"body": ["1", 99]}, {"body": ["1", 0]}, {"body": ["9", 1]}, {"body": ["1", "1"]}, {"body": []},
        {"call": ["1", 99]}, {"tool": ["1", 99]}, {"tool": ["9", 1]}, {"tool": 1},
        {"call": ["1", None]}, {"more": ["1", 1, 1, 99], "from": 0}, {"more": ["1", 1, 99, 0], "from": 0},
        {"more": ["1", 1, "__class__"], "from": 0}, {"find": 3}, {"x": 1}, {"more": ["1", 1, 1, 0]},
    ],
)  # fmt: skip
def test_a_wrong_question_has_no_answer(question: dict[str, Any]) -> None:
    """The browser may ask anything; what is not there is answered with nothing."""
    feed, _ = told(list(story(1, iterations=1)))
    answer = feed.asked(question)
    assert not any(answer.values()) or answer == {"more": {"text": "", "next": 0, "left": 0}}


def test_finding() -> None:
    """A text is found in replies, code, output, sub-calls, calls of tools, and in no other iteration."""
    feed, _ = told(list(story(1, iterations=4)))
    tools = feed.asked({"find": "read_file("})["found"]
    assert 0 < len(tools) < 4
    assert tools == [i.number for i in feed._trajectory if i.cells[0].tool_calls]
    assert feed.asked({"find": "PRINT(3)"}) == {"found": [3]}
    assert feed.asked({"find": "think"}) == {"found": [1, 2, 3, 4]}
    assert feed.asked({"find": "nowhere"}) == {"found": []}


def big(output: str = "", reply: str = "I look.", subcalls: int = 0) -> list[ev.Event]:
    """One iteration with much of something."""
    at: dict[str, Any] = {"run": "1", "at": 0.0}
    none: dict[str, Any] = {"usage": Usage(), "cost": None, "seconds": 0.1}
    made: list[ev.Event] = [
        ev.RunStarted(
            **at, question="q", signature="-> a: str", model="m", sub_model="m", max_iterations=9, max_llm_calls=9
        ),
        ev.IterationStarted(**at, iteration=1, prompt="p"),
    ]
    made += [ev.ModelDelta(**at, iteration=1, text=reply[k : k + 1000]) for k in range(0, len(reply), 1000)]
    made += [
        ev.ModelFinished(**at, iteration=1, reply=reply, thinking="", model="m", cells=("x",), **none),
        ev.CellStarted(**at, iteration=1, cell=1, code="x"),
    ]
    made += [
        ev.CellOutput(**at, iteration=1, cell=1, kind="stdout", text=output[k : k + 8192])
        for k in range(0, len(output), 8192)
    ]
    for n in range(1, subcalls + 1):
        made.append(ev.SubcallStarted(**at, iteration=1, cell=1, subcall=n, prompt=f"read {n}", model="m", batch=1))
    for n in range(1, subcalls + 1):
        made.append(ev.SubcallFinished(**at, subcall=n, reply="yes", error="", model="m", **none))
    return [*made, ev.CellFinished(**at, iteration=1, cell=1, status="ok", seconds=1.0)]


def test_much_output_stays_small_in_the_browser() -> None:
    """Of 20 MB the browser gets the beginning and the end, a few KB for each telling, and all of it when asked."""
    output = "".join(f"line {n}\n" for n in range(1_700_000))
    feed, table = told(big(output=output), pause=0.02)
    assert len(output) > 20_000_000
    assert table.values["x/1/1/1/0"] == output[:16_000]
    left, tail = table.values["y/1/1/1/0"]
    assert output.endswith(tail)
    assert left == len(output) - 16_000 - len(tail)
    read, start = "", 16_000
    for _ in range(3):
        more = feed.asked({"more": ["1", 1, 1, 0], "from": start})["more"]
        read, start = read + more["text"], more["next"]
    assert output[16_000:].startswith(read)
    assert len(read) == 600_000


def test_a_long_reply_stays_small_in_the_browser() -> None:
    """A reply of 1 MB streams as its beginning and its end; its parts are an excerpt that says so."""
    reply = "word " * 200_000
    _, table = told(big(reply=reply), pause=0.05)
    assert sum(len(str(v)) for v in table.values.values()) < 100_000
    assert "left out" in str(table.values["b/1/1"])


def test_ten_thousand_subcalls_are_rows() -> None:
    """Each is one short row; the trajectory has them all."""
    feed, table = told(big(subcalls=10_000), pause=0.001)
    rows = table.values["q/1/1/1"]
    assert len(rows) == 10_000
    assert all(row[0] == 1 for row in rows.values())
    assert table.values["n/1/1/1"] == [10_000, 10_000, 0, 1]
    assert feed.asked({"call": ["1", 9_999]})["call"]["prompt"] == ["read 9999", 0, ""]


def test_calls_of_tools_are_rows() -> None:
    """As sub-calls are, in a list of their own; what is known of one comes when it is asked for."""
    events = [e for e in big() if not isinstance(e, ev.CellFinished)]
    at: dict[str, Any] = {"run": "1", "at": 1.0}
    events.append(ev.ToolCallStarted(**at, iteration=1, cell=1, call=1, tool="f", arguments="'x', n=2"))
    events.append(ev.ToolCallStarted(**at, iteration=1, cell=1, call=2, tool="g", arguments=""))
    events.append(ev.ToolCallStarted(**at, iteration=1, cell=1, call=3, tool="g", arguments="1"))
    events.append(ev.ToolCallFinished(**at, call=2, result="line\nline", error="", seconds=0.5))
    events.append(ev.ToolCallFinished(**at, call=3, result="", error="OSError: no", seconds=0.25))
    for pause in (0.0, 1.0):
        feed, table = told(events, pause)
        assert table.values["u/1/1/1"] == {
            "1": [0, 1.0, 0.0, 0, "f('x', n=2)", "", ""],
            "2": [1, 1.0, 0.5, 0, "g()", "line line", ""],
            "3": [2, 1.0, 0.25, 0, "g(1)", "OSError: no", ""],
        }
        assert table.values["m/1/1/1"] == [3, 2, 1, 0]
        assert feed.asked({"tool": ["1", 2]})["call"]["reply"] == ["line\nline", 0, ""]
        assert feed.asked({"tool": ["1", 3]})["call"]["error"] == "OSError: no"
    assert feed.store.snapshot()["u/1/1/1"] == feed.store._values["u/1/1/1"]
    assert feed.store.snapshot()["u/1/1/1"] is not feed.store._values["u/1/1/1"]


def test_a_call_that_ends_after_its_cell_is_told_at_its_place() -> None:
    """One that was cancelled with its cell may be told later than the next cell has begun."""
    at: dict[str, Any] = {"run": "1", "at": 1.0}
    events = [*big()[:-1], ev.ToolCallStarted(**at, iteration=1, cell=1, call=1, tool="f", arguments="")]
    events += [
        ev.CellFinished(**at, iteration=1, cell=1, status="ok", seconds=1),
        ev.CellStarted(**at, iteration=1, cell=2, code="y"),
        ev.ToolCallFinished(**at, call=1, result="", error="cancelled: its cell was stopped", seconds=1),
    ]
    _, table = told(events)
    assert table.values["m/1/1/1"] == [1, 1, 1, 0]
    assert "m/1/1/2" not in table.values


def test_prompts_that_begin_alike_show_where_they_differ() -> None:
    """Of a batch from one template the rows tell the calls apart; the detail has the whole prompt."""
    template = "You advise air travellers. From this profile of one route, write one sentence that says when it fails: "
    events = [
        replace(e, prompt=template + e.prompt) if isinstance(e, ev.SubcallStarted) else e for e in big(subcalls=3)
    ]
    for pause in (0.0, 1.0):
        feed, table = told(events, pause)
        shown = [row[4] for row in table.values["q/1/1/1"].values()]
        assert shown == [f"… fails: read {n}" for n in (1, 2, 3)]
        assert feed.asked({"call": ["1", 2]})["call"]["prompt"][0] == template + "read 2"


def test_a_progress_bar_shows_its_last_state() -> None:
    """What a carriage return overwrote is gone, and the line is sent again, not added to."""
    _, table = told(big(output="".join(f"\r{p}%" for p in range(0, 101, 10)) + "\ndone\n"))
    assert table.values["x/1/1/1/0"] == "100%\ndone\n"
