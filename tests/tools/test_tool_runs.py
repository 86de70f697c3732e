"""Tools in whole runs, in a sandbox without a kernel."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from rlm_kernel import DataTool, InputError, Options, Signature, Trajectory, configure, tool
from rlm_kernel import events as ev
from rlm_kernel.calls import tools as tool_calls
from rlm_kernel.job import Job
from rlm_kernel.loop import Run
from rlm_kernel.models import ScriptedModel
from rlm_kernel.prompt import system_prompt
from rlm_kernel.prompt.tools import SECTION_CHARS
from rlm_kernel.rlm import RLM
from rlm_kernel.sandbox import answers
from rlm_kernel.sandbox.fake import FakeSandbox
from rlm_kernel.sandbox.guest.tools import CARRIER
from rlm_kernel.sandbox.journal import Journal
from rlm_kernel.session import Session
from rlm_kernel.task import Task
from tests.helpers import Counting, Dying, Played, code, defaults_restored, in_loop, play, with_calls

DONE = code("SUBMIT('done')")


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


def printed(cell: str, *tools: Any, **options: Any) -> str:
    """What a cell prints that may call these tools."""
    return play([code(cell), DONE], tools=list(tools), **options).trajectory.cells[0].text()


# -- calling -----------------------------------------------------------------------------------------------------
def test_code_calls_a_function_of_the_notebook() -> None:
    """It gets the result, and each call is told: what was called, where, and what came of it."""
    played = play([code("x = add(1)\nprint(add(x, b=40))"), code("print(add('a'))"), DONE], tools=[add])
    calls = played.trajectory.tool_calls
    assert played.trajectory.cells[0].text("stdout") == "42\n"
    assert [(c.number, c.iteration, c.cell, c.written, c.result) for c in calls] == [
        (1, 1, 1, "add(1)", "2"),
        (2, 1, 1, "add(2, b=40)", "42"),
        (3, 2, 2, "add('a')", ""),
    ]
    assert calls[2].error.startswith("TypeError: add(): 'a' has to be int")
    assert all(c.finished for c in calls)
    kinds = [k for k in played.kinds if k.startswith("Tool")]
    assert kinds == ["ToolCallStarted", "ToolCallFinished"] * 3


def test_a_call_of_a_tool_is_no_sub_call() -> None:
    """It asks no model: nothing is charged to the sub-calls."""
    played = play([code("[add(i) for i in range(5)]"), DONE], tools=[add], max_llm_calls=1)
    assert len(played.trajectory.tool_calls) == 5
    assert played.trajectory.subcalls == []
    assert "[left: 1 of 1 sub-calls]" in played.told[1]


@pytest.mark.parametrize(
    ("raised", "handler", "says"),
    [
        (ValueError("no such id"), "ValueError", "ValueError no such id"),
        (KeyError("id"), "KeyError", "KeyError 'id'"),
        (FileNotFoundError(2, "No such file"), "OSError", "FileNotFoundError [Errno 2] No such file"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), "Exception", "UnicodeDecodeError 'utf-8' codec"),
        (StopIteration(), "StopIteration", "StopIteration "),
        (type("HTTPError", (OSError,), {})("404"), "Exception", "HTTPError 404"),
        (SystemExit(3), "Exception", "ToolError SystemExit: 3"),
        (KeyboardInterrupt("x"), "Exception", "ToolError KeyboardInterrupt: x"),
        (asyncio.CancelledError(), "Exception", "ToolError CancelledError"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_what_a_tool_raises_is_raised_in_the_code(raised: BaseException, handler: str, says: str) -> None:
    """Under its own name, to be caught as that where Python knows it; never one that would end more than the cell."""

    def fails() -> None:
        raise raised

    cell = f"try:\n    fails()\nexcept {handler} as error:\n    print(type(error).__name__, error)"
    assert says in printed(cell, fails)


def test_an_error_shows_no_more_than_name_and_text() -> None:
    """No frame and no path of the host, neither in the output nor in the objects."""

    def fails() -> None:
        raise ValueError(f"see {__file__}")

    played = play([code("fails()"), DONE], tools=[fails])
    assert played.trajectory.cells[0].status == "error"
    text = played.trajectory.cells[0].text("error")
    assert text == "line 1: ValueError: see …/test_tool_runs.py\n"
    assert played.trajectory.tool_calls[0].error == "ValueError: see …/test_tool_runs.py"
    cell = "try:\n    fails()\nexcept Exception as e:\n    print(e.__cause__, e.__context__, e.args)"
    assert printed(cell, fails) == "None None ('see …/test_tool_runs.py',)\n"


def test_an_exit_of_a_tool_ends_nothing() -> None:
    """Neither the cell's sandbox nor the run: the cell fails, and the next turn goes on."""

    def leaves() -> None:
        raise SystemExit(1)

    played = play([code("x = 1\nleaves()"), code("SUBMIT(str(x))")], tools=[leaves])
    assert played.trajectory.values == {"answer": "1"}
    assert played.trajectory.cells[0].text("error") == "line 2: ToolError: SystemExit: 1\n"


def test_coroutines_are_called_as_functions_are() -> None:
    """The code needs no await."""

    async def slow(n: int) -> int:
        await asyncio.sleep(0.001)
        return n + 1

    assert printed("print(slow(1), slow(n=2))", slow) == "2 3\n"


def test_arguments_that_cannot_be_sent_fail_where_they_are() -> None:
    """The host is not asked."""
    played = play([code("add(open)"), DONE], tools=[add])
    assert "TypeError: add(): a value of type builtin_function_or_method cannot be sent" in played.told[1]
    assert played.trajectory.tool_calls == []


def test_arguments_that_are_too_large_are_refused() -> None:
    """With the size and the limit; the tool is not called."""
    played = play(
        [code("try:\n    f('x' * 40_000_000)\nexcept Exception as e:\n    print(e)"), DONE],
        tools=[tool(lambda x: 1, name="f")],
    )
    text = played.trajectory.cells[0].text()
    assert text == "arguments of 38 MB are more than the 32 MB that a tool may be given: pass less\n"
    assert played.trajectory.tool_calls == []


@pytest.mark.parametrize(("large", "allowed"), [(2**20, 8), (10, 2)])
def test_64_threads_of_the_code_call_at_once(large: int, allowed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are served, at most as many at a time as the limit says; with large arguments two, for they take memory."""
    monkeypatch.setattr(tool_calls, "_LARGE_CHARS", large)
    now, most, lock = [0], [0], threading.Lock()

    def f(n: int) -> int:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.002)
        with lock:
            now[0] -= 1
        return n * n

    cell = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(64) as pool:\n    print(sum(pool.map(f, range(200))))"
    )
    assert printed(cell, f, max_concurrency=8) == f"{sum(n * n for n in range(200))}\n"
    assert 1 < most[0] <= allowed


# -- limits ------------------------------------------------------------------------------------------------------
def test_calls_are_limited() -> None:
    """Over the whole run; the code is told to go on with what it has."""
    played = play([code("for i in range(5): print(add(i))"), DONE], tools=[add], max_tool_calls=3)
    assert played.trajectory.cells[0].text("stdout") == "1\n2\n3\n"
    assert "ToolError: no call of a tool is left, all 3 are used: go on with what you have" in played.told[1]
    assert len(played.trajectory.tool_calls) == 3


def test_no_tool_is_called_for_the_last_answer() -> None:
    """When a limit was reached, what was found so far is what counts."""
    played = play([code("x = add(1)"), code("add(2)"), code("SUBMIT(str(x))")], tools=[add], max_iterations=1)
    assert "no tool can be called any more: submit the answer" in played.trajectory.cells[1].text()
    assert len(played.trajectory.tool_calls) == 1


def test_a_tool_that_takes_too_long_is_not_waited_for() -> None:
    """A TimeoutError in the code; the user is told that a function goes on, as nothing can stop it."""
    release = threading.Event()

    def hangs() -> None:
        release.wait(60)

    async def sleeps() -> None:
        await asyncio.sleep(60)

    cell = "for f in (hangs, hangs, sleeps):\n    try:\n        f()\n    except TimeoutError as e:\n        print(e)"
    played = play([code(cell), DONE], tools=[hangs, sleeps], tool_timeout=0.05)
    release.set()
    assert played.trajectory.cells[0].text() == (
        "hangs() did not return within 0.05 s\n" * 2 + "sleeps() did not return within 0.05 s\n"
    )
    note = "the tool hangs cannot be stopped: it goes on in this process, in a thread that nobody waits for"
    assert played.trajectory.iterations[0].notes == [note]
    assert played.trajectory.tool_calls[0].error == "TimeoutError: hangs() did not return within 0.05 s"


def test_an_interrupt_lets_the_caller_go_at_once() -> None:
    """The run ends, the call is told as cancelled, and what the tool does from then on is its own affair."""
    release, started = threading.Event(), threading.Event()

    def hangs() -> None:
        started.set()
        release.wait(60)

    def stop(run: Run, event: ev.Event) -> None:
        if isinstance(event, ev.ToolCallStarted):
            run.stop()

    played = play([code("x = 1\nhangs()")], tools=[hangs], on=stop)
    assert not release.is_set()
    assert played.trajectory.stop_reason == "interrupted"
    assert played.trajectory.tool_calls[0].error == "cancelled: its cell was stopped"
    assert "the tool hangs cannot be stopped" in played.trajectory.iterations[0].notes[0]
    assert isinstance(played.events[-1], ev.RunFinished)
    release.set()


def test_a_cell_that_takes_too_long_in_a_tool_is_stopped() -> None:
    """The variables stay, and the next turn goes on."""
    release = threading.Event()
    played = play(
        [code("x = 1\nhangs()"), code("SUBMIT(str(x))")],
        tools=[tool(lambda: release.wait(60), name="hangs")],
        cell_timeout=0.1,
    )
    release.set()
    assert [c.status for c in played.trajectory.cells] == ["timeout", "submitted"]
    assert played.trajectory.values == {"answer": "1"}


def test_calls_that_never_return_cannot_pile_up() -> None:
    """When as many have been given up as may be made at once, no more are made."""
    release = threading.Event()

    def hangs() -> None:
        release.wait(60)

    cell = "for i in range(4):\n    try:\n        hangs()\n    except Exception as error:\n        print(error)"
    text = printed(cell, hangs, tool_timeout=0.02, max_concurrency=1)
    release.set()
    assert (
        text
        == "hangs() did not return within 0.02 s\n" * 2
        + "2 calls have not returned, though nobody waits for them any more\n" * 2
    )


# -- names -------------------------------------------------------------------------------------------------------
def test_a_tool_that_the_code_overwrites_comes_back() -> None:
    """As every reserved name does; the model is told."""
    played = play([code("add = 5"), code("print(add(1))"), DONE], tools=[add])
    assert "Your code overwrote add; restored." in played.told[1]
    assert played.trajectory.cells[1].text() == "2\n"


def test_tools_are_no_variables() -> None:
    """They are neither listed nor told as new; `help` tells about them."""
    played = play([code("print(SHOW_VARS())\nhelp(add)"), DONE], tools=[add])
    text = played.trajectory.cells[0].text()
    assert text.startswith("(no variables)\n")
    assert played.trajectory.cells[0].changed == ()
    assert CARRIER not in text
    doc = printed("print(add.__name__, add.__doc__)", add)
    assert doc == "add add(a: int, b: int = 1) -> int\n\nAdd two numbers.\n"


def _asks(*questions: tuple[list[str], dict[str, Any]], sandbox: Any = None) -> list[Trajectory]:
    """Questions to one session, each with its replies and its options."""
    stories: list[Trajectory] = []

    async def main() -> None:
        session = Session(FakeSandbox() if sandbox is None else sandbox)
        for replies, options in questions:
            model = ScriptedModel(replies)
            given = Options().merged({"model": model, "sub_model": model} | options)
            job = Job.prepare("What?", Signature.parse("-> answer"), {}, given)
            stories.append(Trajectory())
            await session.run(job, lambda event: None, stories[-1])

    in_loop(main())
    return stories


def test_tools_of_an_earlier_question_go() -> None:
    """Their names are free again, and a function that was kept is refused."""
    first = [code("kept = add\nSUBMIT('x')")]
    second = [
        code("print('add' in globals())\ntry:\n    kept(1)\nexcept Exception as e:\n    print(type(e).__name__, e)"),
        DONE,
    ]
    _, story = _asks((first, {"tools": [add]}), (second, {}))
    assert story.cells[0].text() == "False\nToolError this question has no tool called 'add'; its tools: none\n"


def test_other_tools_take_their_place() -> None:
    """Under the same name another function answers."""
    asked = [code("SUBMIT(str(add(1)))")]
    one, other = _asks((asked, {"tools": [add]}), (asked, {"tools": [tool(lambda a: a * 100, name="add")]}))
    assert (one.values, other.values) == ({"answer": "2"}, {"answer": "100"})


def test_a_variable_that_a_tool_hides_comes_back() -> None:
    """When the tool goes; a new value of the user's is not overwritten by it."""
    make, look = [code("add = [1, 2]\nSUBMIT('x')")], [code("SUBMIT(str(add))")]
    use = [code("SUBMIT(str(add(1)))")]
    stories = _asks((make, {}), (use, {"tools": [add]}), (look, {}))
    assert [s.values["answer"] for s in stories] == ["x", "2", "[1, 2]"]


def test_the_same_tools_are_not_sent_again() -> None:
    """Nor is anything sent where there are none."""
    sandbox = Counting()
    _asks(
        ([DONE], {}),
        ([DONE], {"tools": [add]}),
        ([DONE], {"tools": [add]}),
        ([DONE], {}),
        ([DONE], {}),
        sandbox=sandbox,
    )
    assert [list(put) for put in sandbox.puts if CARRIER in put] == [[CARRIER], [CARRIER]]
    assert [bool(put[CARRIER]) for put in sandbox.puts if CARRIER in put] == [True, False]


def test_a_sandbox_that_is_started_anew_gets_the_tools_again() -> None:
    """After `fresh`."""
    asked = [code("SUBMIT(str(add(1)))")]
    stories = _asks((asked, {"tools": [add]}), (asked, {"tools": [add], "fresh": True}))
    assert [s.values["answer"] for s in stories] == ["2", "2"]


def test_code_that_writes_to_the_carrier_harms_itself_alone() -> None:
    """What is no description is passed over."""
    for text in ("5", "'x'", "'[[1]]'", "'{\"a\": 1}'", "[[1, 2]]"):
        played = play([code(f"{CARRIER} = {text}"), code("SUBMIT(str(add(1)))")], tools=[add])
        assert played.trajectory.values == {"answer": "2"}, text


# -- data --------------------------------------------------------------------------------------------------------
def test_data_are_variables_with_a_description() -> None:
    """As in rlm-ts: `users`, a value, a description; listed in the prompt and in the trajectory."""
    users = DataTool("users", [{"name": "Alice", "age": 30}, {"name": "Bob", "age": 25}], "User records: {name, age}")
    played = play([code("SUBMIT(max(users, key=lambda u: u['age'])['name'])")], tools=[users])
    assert played.trajectory.values == {"answer": "Alice"}


def test_the_model_is_told_what_data_are() -> None:
    """Type, size and description, beneath the variables of the question."""
    frame = DataTool("prices", pd.DataFrame({"p": [1.5]}), "Prices in CHF,\nwithout tax")
    options = Options().merged({"tools": [frame]})
    model = ScriptedModel([])
    job = Job.prepare(
        "Q", Signature.parse("x -> answer"), {"x": 1}, options.merged({"model": model, "sub_model": model})
    )
    assert [v.name for v in job.task.variables] == ["x", "prices"]
    text = system_prompt(job.task)
    assert "`prices`: DataFrame, 1 rows x 1 columns\n    Prices in CHF, without tax\n    columns: p (float64)" in text
    assert "Tools, which run outside" not in text


def test_descriptions_of_inputs_are_shown_too() -> None:
    """Those of a Signature object."""
    from rlm_kernel import Field

    signature = Signature((Field("x", description="a number of the user's"),))
    model = ScriptedModel([])
    job = Job.prepare("Q", signature, {"x": 1}, Options().merged({"model": model, "sub_model": model}))
    assert "`x`: int\n    a number of the user's\n    1" in system_prompt(job.task)


def test_the_sandbox_has_a_copy_of_the_data() -> None:
    """What the code does to it stays there, and the next question finds it as the user has it."""
    rows = [1, 2]
    data = DataTool("rows", rows, "numbers")
    asked = [code("rows.append(3)\nSUBMIT(str(rows))")]
    stories = _asks((asked, {"tools": [data]}), (asked, {"tools": [data]}))
    assert ([s.values["answer"] for s in stories], rows) == (["[1, 2, 3]"] * 2, [1, 2])


def test_a_tool_named_like_a_variable_of_the_question_is_refused() -> None:
    """Before anything starts, in one line."""
    for given in (add, DataTool("add", 1)):
        with pytest.raises(InputError, match="'add' is both a variable of the question and a tool: rename one of them"):
            Job.prepare("Q", Signature.parse("add -> answer"), {"add": 1}, Options().merged({"tools": [given]}))


# -- what the model is told --------------------------------------------------------------------------------------
def _prompt(*tools: Any, **more: Any) -> str:
    options = Options().merged({"tools": list(tools)} | more)
    return system_prompt(Task("Q", Signature.parse("-> answer"), (), options))


def test_the_model_is_told_of_every_tool() -> None:
    """Name, parameters, types, docstring, and how many calls there are."""

    def fetch_url(url: str, *, timeout: float = 10.0) -> str:
        """Fetch a page.

        Returns:
            Its text.
        """

    text = _prompt(add, fetch_url, max_tool_calls=1500, max_concurrency=7)
    assert "- `add(a: int, b: int = 1) -> int`\n    Add two numbers.\n" in text
    assert "- `fetch_url(url: str, *, timeout: float = 10.0) -> str`\n    Fetch a page.\n\n    Returns:\n" in text
    assert "There are 1,500 calls for the whole run, at most 7 at the same time" in text


def test_without_tools_the_prompt_says_nothing_of_them() -> None:
    """So recordings of questions without tools stay as they are."""
    assert _prompt() == system_prompt(Task("Q", Signature.parse("-> answer"), (), Options()))
    assert "ools" not in _prompt()


@pytest.mark.parametrize("number", [1, 20, 100])
@pytest.mark.parametrize("doc", ["", "short", "long " * 10_000])
def test_what_is_told_of_tools_is_bounded(number: int, doc: str) -> None:
    """However many they are and however long their descriptions; every name is there."""

    def f(
        first_argument: str, second_argument: int = 0, *, third_argument: list[str] | None = None
    ) -> dict[str, Any]: ...

    text = _prompt(*(tool(f, name=f"tool_number_{i}", description=doc) for i in range(number)))
    assert len(text) < len(_prompt()) + SECTION_CHARS + 2000
    assert all(f"`tool_number_{i}(" in text for i in range(number))


def test_isolation_is_not_overclaimed() -> None:
    """What the panel says of the sandbox names the holes in it."""
    (started,) = [e for e in play([DONE], tools=[add, tool(print, name="say")]).events if isinstance(e, ev.RunStarted)]
    assert started.isolation.endswith(
        " The code can have add, say called in the notebook's process, outside of the sandbox."
    )
    assert started.tools == ("add(a: int, b: int = 1) -> int", "say(*args, sep=' ', end='\\n', file=None, flush=False)")


# -- what a hostile sandbox may ask ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "no tool called 'None'; its tools: add"),
        ({"tool": ["add"], "arguments": "{}"}, "no tool called"),
        ({"tool": "x" * 10_000, "arguments": "{}"}, "no tool called 'xxx"),
        ({"tool": "__class__", "arguments": "{}"}, "no tool called '__class__'"),
        ({"tool": "add"}, "a tool takes arguments"),
        ({"tool": "add", "arguments": {"args": []}}, "a tool takes arguments"),
        ({"tool": "add", "arguments": "x" * (32 * 2**20 + 1)}, "arguments of 32 MB are more than"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_is_no_call_is_refused(params: dict[str, Any], says: str) -> None:
    """In a line, and nothing is called or told."""
    from rlm_kernel import RefusedError

    async def ask(calls: Any) -> str:
        with pytest.raises(RefusedError) as caught:
            await calls("tool", params)
        return str(caught.value)

    text, emitted = with_calls(ask, tools=[add])
    assert says in text
    assert len(text) < 300
    assert emitted == []


def test_a_broken_call_is_an_answer() -> None:
    """Arguments that are none are told as what was called, with the error."""

    async def ask(calls: Any) -> Any:
        return await calls("tool", {"tool": "add", "arguments": "<no JSON>"})

    answer, emitted = with_calls(ask, tools=[add])
    assert answer["error"] == "TypeError"
    assert [(kind, facts.get("arguments"), facts.get("error", "")[:17]) for kind, facts in emitted] == [
        ("ToolCallStarted", "<no JSON>", ""),
        ("ToolCallFinished", None, "TypeError: add():"),
    ]


# -- a sandbox that dies -----------------------------------------------------------------------------------------
def _dies(function: Callable[..., Any]) -> Played:
    made = [code("x = f(1)"), code("die"), code("SUBMIT(str(x))")]
    return play(made, tools=[tool(function, name="f")], sandbox=Dying())


def test_a_rebuilt_sandbox_is_given_the_recorded_results() -> None:
    """The cells run again, the tools do not: a second call might do harm, or say something else."""
    called: list[int] = []

    def f(n: int) -> int:
        called.append(n)
        return 100 + len(called)

    played = _dies(f)
    assert (played.trajectory.values, called) == ({"answer": "101"}, [1])
    assert len(played.trajectory.tool_calls) == 1
    assert "rebuilt" in played.trajectory.iterations[1].notes[0]


def test_errors_are_recorded_too() -> None:
    """A call that failed fails again."""
    called: list[int] = []

    def f(n: int) -> int:
        called.append(n)
        raise ValueError(f"call {len(called)}")

    made = [code("try:\n    f(1)\nexcept ValueError as error:\n    x = str(error)"), code("die"), code("SUBMIT(x)")]
    played = play(made, tools=[f], sandbox=Dying())
    assert (played.trajectory.values, called) == ({"answer": "call 1"}, [1])


def test_results_that_are_too_large_to_keep_are_said_to_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal keeps so much and no more; the user is told that a step could not be repeated."""
    monkeypatch.setattr(answers, "_MAX_CHARS", 1000)
    played = play(
        [code("x = f()"), code("y = 1"), code("die"), code("SUBMIT(str('x' in globals()) + str(y))")],
        tools=[tool(lambda: "x" * 2000, name="f")],
        sandbox=Dying(),
    )
    assert played.trajectory.values == {"answer": "False1"}
    assert "1 of its steps ended otherwise or could not be repeated" in played.trajectory.iterations[2].notes[0]


def test_a_journal_that_does_not_know_what_arrived_sends_the_tools_again() -> None:
    """After a start that failed."""

    class Failing(FakeSandbox):
        fails = False
        got: list[str]

        async def put(self, variables: Any) -> None:
            self.got = list(variables)
            await super().put(variables)

        async def start(self, handler: Any) -> None:
            if self.fails:
                raise RuntimeError("not now")
            await super().start(handler)

    async def main() -> list[list[str]]:
        inner, put = Failing(), []
        journal = Journal(inner)
        for tools, fails in (("[]", False), ("[]", False), ("", True), ("[]", False), ("", False), ("", False)):
            inner.fails, inner.got = fails, []
            await journal.equip(tools)
            with contextlib.suppress(RuntimeError):
                await journal.start(None)  # type: ignore[arg-type]
            put.append(inner.got)
        return put

    assert in_loop(main()) == [[CARRIER], [], [CARRIER], [CARRIER], [CARRIER], []]


# -- RLM and configure -------------------------------------------------------------------------------------------
def test_rlm_takes_tools() -> None:
    """As any other option; what can be no tool is refused when the object is made."""
    model = ScriptedModel([code("SUBMIT(str(add(1) + n))")])
    with RLM("-> answer", model=model, sub_model=model, sandbox=FakeSandbox(), tools=[add, DataTool("n", 40)]) as rlm:
        assert rlm("Q").answer == "42"
    with pytest.raises(InputError, match="a tool is a function, not int"):
        RLM("-> answer", tools=[5])


def test_configured_tools_are_there_for_every_question() -> None:
    """Until others are configured."""
    with defaults_restored():
        configure(tools=[add])
        model = ScriptedModel([code("SUBMIT(str(add(1)))")] * 2)
        with RLM("-> answer", model=model, sub_model=model, sandbox=FakeSandbox()) as rlm:
            assert rlm("Q").answer == "2"
            configure(tools=[tool(lambda x: "other", name="add")])
            assert rlm("Q").answer == "other"


def test_tools_in_the_environment_make_no_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are objects; a name there is refused in a line."""
    monkeypatch.setenv("RLM_TOOLS", "read_file")
    with defaults_restored(), pytest.raises(InputError, match="in the environment, RLM_TOOLS: tools takes a list"):
        RLM("-> answer")
