"""Child runs: what they are given, what they may spend, what becomes of them. The sandbox is the fake one."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel import RLM, Completion, DataTool, FakeSandbox, Options, Request, ScriptedModel, Usage
from rlm_kernel import events as ev
from rlm_kernel.budget import Ledger
from rlm_kernel.loop import Run
from tests.helpers import ENDLESS, Counting, Dying, Played, code, play

ANSWER = code("SUBMIT(total=sum(part))")


def cells(played: Played) -> str:
    """All that the cells of the outermost run put out."""
    return "".join(cell.text() for cell in played.trajectory.cells)


def run(name: str, played: Played) -> Any:
    """The run of this name."""
    found = played.trajectory.find(name)
    assert found is not None
    return found


# -- asking -------------------------------------------------------------------------------------------------------
def test_a_child_answers_with_its_own_repl() -> None:
    """It has the variables that it was given and nothing else, and its answer is the value of the call."""
    asking = "secret = 1\nprint(rlm_query('How long?', text='four', outputs='n: int') + 1)"
    child = code("assert 'secret' not in globals()\nSUBMIT(n=len(text))")
    played = play([code(asking), child, code("SUBMIT('done')")])
    assert cells(played).startswith("5\n")
    child_run = run("1.1", played)
    assert (child_run.parent, child_run.question, child_run.values) == ("1", "How long?", {"n": 4})
    assert [v.name for v in child_run.variables] == ["text"]


def test_the_default_is_one_text() -> None:
    """Without `outputs` the answer is a text."""
    played = play([code("print(repr(rlm_query('Say it.')))"), code("SUBMIT('it')"), code("SUBMIT('done')")])
    assert cells(played) == "'it'\n"


def test_several_fields_come_as_a_dict() -> None:
    """By name, with the types that were declared."""
    asking = "r = rlm_query('?', outputs='total: float, ids: list[int]')\nprint(r)"
    played = play([code(asking), code("SUBMIT(total=2, ids=(1, 2))"), code("SUBMIT('done')")])
    assert cells(played) == "{'total': 2.0, 'ids': [1, 2]}\n"


def test_a_table_comes_back_as_a_table() -> None:
    """What leaves the child is decoded by the host and by the parent, never unpickled by the host."""
    asking = "r = rlm_query('?', outputs='t: DataFrame')\nprint(type(r).__name__, r.shape)"
    child = code("import pandas as pd\nSUBMIT(t=pd.DataFrame({'a': [1, 2]}))")
    played = play([code(asking), child, code("SUBMIT('done')")])
    assert cells(played) == "DataFrame (2, 1)\n"


def test_a_batch_keeps_its_order() -> None:
    """Each run has its own variables and those of all; answers stand where the prompts stood."""
    asking = (
        "parts = [[1], [2, 3], [4]]\n"
        "calls = [{'prompt': f'{i}', 'part': p} for i, p in enumerate(parts)]\n"
        "print(rlm_batch(calls, outputs='total: int', factor=10))"
    )
    child = code("SUBMIT(total=sum(part) * factor)")
    played = play([code(asking), child, child, child, code("SUBMIT('done')")])
    assert cells(played) == "[10, 50, 40]\n"
    assert {s.batch for s in played.trajectory.subcalls} == {1}
    assert [s.run.question for s in played.trajectory.subcalls if s.run] == ["0", "1", "2"]


def test_a_child_that_fails_raises_with_its_reason() -> None:
    """In a batch the error stands in its place and the others are kept."""

    def answer(request: Any) -> str:
        if request.messages[0].content.startswith("bad"):
            raise ValueError("odd")
        return code("SUBMIT('fine')")

    asking = "r = rlm_batch(['good', 'bad'])\nprint(r[0], isinstance(r[1], SubcallError), r[1])"
    played = play([code(asking), answer, answer, code("SUBMIT('done')")])
    assert "fine True scripted failed: ValueError: odd" in cells(played)
    alone = play([code("rlm_query('bad')"), answer, code("SUBMIT('done')")])
    assert "SubcallError: scripted failed: ValueError: odd" in cells(alone)


def test_a_child_without_an_answer_raises() -> None:
    """What ended it is told."""
    asking = "try:\n    rlm_query('?')\nexcept SubcallError as e:\n    print(e)"
    played = play([code(asking), *["no code"] * 3, code("SUBMIT('done')")], "-> answer: int", max_errors=2)
    assert "no valid answer" not in cells(played)  # a text: the prose of the last reply is the answer
    typed = play(
        [code(asking.replace("'?'", "'?', outputs='n: int'")), *["no code"] * 3, code("SUBMIT('done')")], max_errors=2
    )
    assert "its run ended without an answer: 2 turns in a row ended in an error; no valid answer was given" in cells(
        typed
    )


def test_a_child_that_was_cut_short_gives_its_best_answer() -> None:
    """With a word about it."""
    asking = "print(rlm_query('?', outputs='n: int'))"
    played = play([code(asking), code("x = 1"), code("SUBMIT(n=x)"), code("SUBMIT('done')")], max_iterations=1)
    assert run("1.1", played).stop_reason == "max_iterations"
    assert played.trajectory.stop_reason == "max_iterations"


def test_the_models_are_those_of_the_run() -> None:
    """The sub-model writes a child's code unless another is named; one that the run does not have is refused."""
    asking = (
        "print(rlm_query('?', model='scripted'))\n"
        "try:\n    rlm_query('?', model='dear')\nexcept SubcallError as e:\n    print(e)"
    )
    played = play([code(asking), code("SUBMIT('a')"), code("SUBMIT('done')")])
    assert "a\nmodel 'dear' is not available; there are: scripted" in cells(played)
    assert len(played.trajectory.subcalls) == 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("rlm_query(5)", "TypeError: rlm_query takes the prompt as str, not int"),
        ("rlm_query(' ')", "a prompt is empty"),
        ("rlm_query('?', outputs='n: nonsense')", "outputs or the name of a variable"),
        ("rlm_query('?', outputs=5)", "outputs is a text"),
        ("rlm_query('?', SUBMIT=5)", "SUBMIT"),
        ("rlm_query('?', x=(i for i in 'a'))", "TypeError: the variable 'x' (generator) cannot be passed on"),
        ("rlm_batch([{'part': 1}])", 'TypeError: rlm_batch takes texts, or dicts with "prompt"'),
        ("rlm_batch([5])", "TypeError: rlm_batch takes texts"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(call: str, says: str) -> None:
    """Nothing is charged and no run begins."""
    played = play([code(call), code("SUBMIT('done')")])
    assert says in cells(played)
    assert played.trajectory.subcalls == []


def test_an_empty_batch_asks_nothing() -> None:
    """No prompt, no run."""
    assert cells(play([code("print(rlm_batch([]))"), code("SUBMIT('done')")])) == "[]\n"


# -- depth --------------------------------------------------------------------------------------------------------
def test_a_child_of_the_lowest_level_asks_plain_sub_calls() -> None:
    """It is told so; the variables become text of the prompt."""
    prompts: list[str] = []

    def sub(prompt: str) -> str:
        prompts.append(prompt)
        return "```json\n[1, 2]\n```" if "JSON" in prompt else "read"

    child = code(
        "a = rlm_query('deeper', x='hello')\nb = rlm_batch(['d'], outputs='ids: list[int]')\nSUBMIT(f'{a} {b}')"
    )
    played = play([code("print(rlm_query('?'))"), child, code("SUBMIT('done')")], sub=sub)
    assert cells(played) == "read [[1, 2]]\n"
    assert prompts[0] == "deeper\n\n<x>\nhello\n</x>"
    assert "no run below this one is possible" in played.roots[1].system
    assert "no run below this one is possible" not in played.roots[0].system


@pytest.mark.parametrize("depth", [0, 1])
def test_without_depth_there_are_no_children(depth: int) -> None:
    """`--max-depth 0` (and 1, the run alone) make plain sub-calls, which the model is told."""
    played = play([code("print(rlm_query('?'))"), code("SUBMIT('done')")], sub="plain", max_depth=depth)
    assert cells(played) == "plain\n"
    assert "rlm_query` and `rlm_batch` are plain sub-calls here" in played.roots[0].system
    assert played.trajectory.subcalls[0].run is None


def test_three_levels() -> None:
    """A child's child hangs below it, in the events and in the trajectory."""
    ask = code("SUBMIT(rlm_query('deeper') + '!')")
    played = play([ask, ask, code("SUBMIT('deep')")], max_depth=3)
    assert played.trajectory.values == {"answer": "deep!!"}
    assert run("1.1.1", played).parent == "1.1"


def test_variables_too_large_for_a_plain_sub_call_are_refused() -> None:
    """With advice."""
    played = play([code("rlm_query('?', x='a' * 500_000)"), code("SUBMIT('done')")], sub="x", max_depth=0)
    assert "500,009 characters of variables are too many for the prompt of a plain sub-call" in cells(played)


def test_a_sandbox_that_cannot_spawn_makes_plain_sub_calls() -> None:
    """One of the user's own that has only the five verbs."""
    sandbox = Counting()
    assert not hasattr(sandbox, "spawn")
    played = play([code("print(rlm_query('?'))"), code("SUBMIT('done')")], sub="plain", sandbox=sandbox)
    assert "no sandbox can be had for it" in cells(played)


# -- at the same time ---------------------------------------------------------------------------------------------
def test_never_more_children_at_once_than_allowed() -> None:
    """Those that wait begin when others have ended."""
    going, most = 0, 0

    def watch(_: Run, event: ev.Event) -> None:
        nonlocal going, most
        if event.run != "1":
            going += isinstance(event, ev.RunStarted)
            going -= isinstance(event, ev.RunFinished)
            most = max(most, going)

    replies = [code("print(len(rlm_batch(['?'] * 9)))"), *[code("SUBMIT('a')")] * 9, code("SUBMIT('done')")]
    played = play(replies, on=watch, max_children=3)
    assert (cells(played), most, going) == ("9\n", 3, 0)


def test_sub_calls_of_children_count_for_the_whole_run() -> None:
    """A child is one, and each that it makes is one more."""
    child = code("llm_batch(['a', 'b'])\nSUBMIT('x')")
    played = play([code("rlm_batch(['?', '?'])"), child, child, code("SUBMIT('done')")], sub="s", max_llm_calls=6)
    assert "[left: 0 of 6 sub-calls]" in played.told[-1]
    over = play([code("rlm_batch(['?', '?', '?'])"), code("SUBMIT('done')")], sub="s", max_llm_calls=2)
    assert "3 sub-calls were asked for but 2 of 2 are left; none was made" in cells(over)


def test_tokens_of_children_are_those_of_their_sub_call() -> None:
    """And of the run that asked, once."""
    played = play([code("rlm_query('?')"), code("llm_query('b')\nSUBMIT('x')"), code("SUBMIT('done')")], sub="s")
    below, (asked,) = run("1.1", played), played.trajectory.subcalls
    own = sum((i.usage for i in played.trajectory), Usage())
    assert asked.usage == below.usage
    assert played.trajectory.usage == own + below.usage


# -- ends ---------------------------------------------------------------------------------------------------------
def test_stopping_the_run_stops_its_children() -> None:
    """All have ended, each with its own end, before the run's."""

    def stop(outer: Run, event: ev.Event) -> None:
        if isinstance(event, ev.CellStarted) and event.run == "1.2":
            outer.stop()

    played = play([code("rlm_batch(['?'] * 4)"), *[code(ENDLESS)] * 4], on=stop, max_children=2)
    ends = [(e.run, e.stop_reason) for e in played.events if isinstance(e, ev.RunFinished)]
    assert sorted(ends[:-1]) == [("1.1", "interrupted"), ("1.2", "interrupted")]
    assert ends[-1] == ("1", "interrupted")
    assert [s.finished for s in played.trajectory.subcalls] == [True, True]


def test_a_cell_that_times_out_takes_its_children_along() -> None:
    """The run goes on; children that had not begun never do."""
    replies = [code("rlm_batch(['?'] * 3)"), code(ENDLESS), code("SUBMIT('after')")]
    played = play(replies, max_children=1, cell_timeout=0.5)
    assert (played.trajectory.stop_reason, played.trajectory.values) == ("answered", {"answer": "after"})
    assert [s.number for s in played.trajectory.subcalls] == [1]
    assert run("1.1", played).stop_reason == "interrupted"


def test_a_parent_that_dies_takes_its_children_along() -> None:
    """Its sandbox is replaced, and nothing goes on in theirs."""
    played = play(
        [code("x = rlm_query('?')"), code("die"), code("SUBMIT('a')"), code("SUBMIT('done')")], sandbox=Dying()
    )
    assert played.trajectory.values == {"answer": "done"}
    assert "died" in [c.status for c in run("1.1", played).cells]


def test_a_child_gets_its_share_of_the_time() -> None:
    """Of two that wait for each other each gets half of what is to be given."""
    account = Ledger(Options(timeout=1000.0))
    child = account.open_child(Options(), waiting=2, at_once=1)
    assert child.limits.seconds == pytest.approx(450, abs=1)
    together = account.open_child(Options(), waiting=2, at_once=2)
    assert together.limits.seconds == pytest.approx(900, abs=1)


def test_shares_add_up_to_what_is_left() -> None:
    """What a child did not spend can be spent by the next; a tenth stays with the run that asked."""
    account = Ledger(Options(budget=1.0, max_tokens=1000))
    first = account.open_child(Options(), waiting=2, at_once=2)
    assert (first.limits.usd, first.limits.tokens) == (0.45, 450)
    second = account.open_child(Options(), waiting=1, at_once=2)
    assert (second.limits.usd, second.limits.tokens) == (pytest.approx(0.495), 495)
    first.settle(Usage(10, 0), 0.05)
    account.close_child(first)
    account.close_child(second)
    third = account.open_child(Options(), waiting=1, at_once=1)
    assert (third.limits.usd, third.limits.tokens) == (pytest.approx(0.855), 891)


def test_a_child_cannot_spend_its_parents_budget() -> None:
    """Its share is too small for a call: it ends by the budget, the parent goes on."""
    asking = "try:\n    rlm_query('?')\nexcept SubcallError as e:\n    print(e)"
    played = play([code(asking), code("SUBMIT('done')")], max_tokens=22_000)
    assert "its run ended without an answer: the next call may take" in cells(played)
    assert played.trajectory.values == {"answer": "done"}


def test_a_spawned_fake_inherits_large_values() -> None:
    """A value too large to be sent is found in the parent's namespace, if it is what it was."""
    asking = "big = bytes(40_000_000)\n"
    played = play(
        [
            code(asking),
            code("print(rlm_query('?', b=big, outputs='n: int'))"),
            code("SUBMIT(n=len(b))"),
            code("SUBMIT('')"),
        ]
    )
    assert cells(played) == "40000000\n"
    assert isinstance(played.sandbox, FakeSandbox)


def test_a_recorded_family_is_replayed(tmp_path: Path) -> None:
    """Children that asked the same find their own replies again, however many run at once."""
    ask = "r = rlm_batch([{'prompt': 'same', 'n': [n]} for n in range(5)], outputs='n: int')\nSUBMIT(r)"

    class Kid(ScriptedModel):
        async def complete(self, request: Request, on_delta: Any = None) -> Completion:
            if request.kind == "root":
                await asyncio.sleep(random.random() / 50)
                first = len(request.messages) == 1
                return Completion(code("m = llm_query(f'q{n[0]}')" if first else "SUBMIT(n=int(m[1:]) ** 2)"), "kid")
            return await super().complete(request, on_delta)

    path, expected = str(tmp_path / "family.json"), [0, 1, 4, 9, 16]
    root = ScriptedModel([code(ask)], name="root")
    recorded = RLM("-> r: list[int]", model=root, sub_model=Kid([], sub=str.upper), record=path, sandbox=FakeSandbox())
    assert recorded("go").r == expected
    for at_once in (1, 2, 5):
        replayed = RLM("-> r: list[int]", replay=path, max_children=at_once, sandbox=FakeSandbox())
        assert replayed("go").r == expected


def test_children_have_the_tools_of_their_parent() -> None:
    """Functions and data, told and called alike; the calls are the child's."""

    def double(n: int) -> int:
        """Twice as much."""
        return 2 * n

    tools = [double, DataTool("table", {"a": 5}, "what there is")]
    child = code("SUBMIT(n=double(table['a']))")
    played = play([code("print(rlm_query('?', outputs='n: int'))"), child, code("SUBMIT('done')")], tools=tools)
    assert cells(played) == "10\n"
    assert "Twice as much." in played.roots[1].system
    assert "what there is" in played.roots[1].system
    assert [c.tool for cell in run("1.1", played).cells for c in cell.tool_calls] == ["double"]
