"""`RLM`: the way in from Python."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import BaseModel

from rlm_kernel import (
    RLM,
    FakeSandbox,
    Field,
    InputError,
    InterruptedRunError,
    KernelSandbox,
    ModelError,
    Request,
    Result,
    SandboxError,
    ScriptedModel,
    Signature,
    SignatureError,
    configure,
)
from rlm_kernel import events as ev
from tests.helpers import ENDLESS, Unstartable, code, defaults_restored


class City(BaseModel):
    name: str


@pytest.fixture(autouse=True)
def own_defaults() -> Iterator[None]:
    with defaults_restored():
        yield


def make(replies: list[Any], signature: str | Signature = "-> answer", **more: Any) -> tuple[RLM, ScriptedModel]:
    model = ScriptedModel(replies, sub=more.pop("sub", None))
    more.setdefault("sandbox", FakeSandbox())
    return RLM(signature, model=model, sub_model=model, **more), model


def asked(model: ScriptedModel) -> str:
    return model.requests[0].messages[0].content


# -- calling ------------------------------------------------------------------------------------------------------
def test_a_call_from_a_script() -> None:
    """Inputs by name in, a typed result out."""
    rlm, _ = make([code("SUBMIT(n=len(x), s='a')")], "x -> n: int, s: str")
    result = rlm("How many?", x=[1, 2])
    assert isinstance(result, Result)
    assert (result.n, result.s, result.stop_reason) == (2, "a", "answered")


def test_a_call_where_a_loop_is_running() -> None:
    """Both forms work inside a coroutine, one after the other, on one sandbox."""
    rlm, _ = make([code("n = 1\nSUBMIT(n)"), code("SUBMIT(n + 1)")], "-> n: int")

    async def main() -> tuple[int, int]:
        first = rlm("One?")
        second = await rlm.acall("Two?")
        return first.n, second.n

    assert asyncio.run(main()) == (1, 2)


def test_calls_from_several_loops_and_threads() -> None:
    """The sandbox outlives each of them."""
    rlm, _ = make([code("n = globals().get('n', 0) + 1\nSUBMIT(n)")] * 4, "-> n: int")
    got = [asyncio.run(rlm.acall("?")).n, asyncio.run(rlm.acall("?")).n, rlm("?").n]
    thread = threading.Thread(target=lambda: got.append(rlm("?").n))
    thread.start()
    thread.join()
    assert got == [1, 2, 3, 4]


def test_types_of_ones_own() -> None:
    """They are looked up in the namespace that was given."""
    rlm, _ = make([code("SUBMIT([{'name': 'Bern'}])")], "-> cities: list[City]", namespace=globals())
    assert [City(name="Bern")] == rlm("Which?").cities
    with pytest.raises(SignatureError, match="City"):
        RLM("-> cities: list[City]")


# -- the question -------------------------------------------------------------------------------------------------
def test_the_question_in_its_place() -> None:
    """The first argument is the question."""
    rlm, model = make([code("SUBMIT('x')")], "x -> answer")
    rlm("How {many} $?", x=1)
    assert asked(model).startswith("How {many} $?\n")


def test_a_declared_question_is_input_and_question() -> None:
    """`document, question -> answer`: the question is asked, and is a variable too."""
    rlm, model = make([code("SUBMIT(question)")], "document, question -> answer")
    assert rlm(document="d", question="Who?").answer == "Who?"
    assert asked(model).startswith("Who?\n")


@pytest.mark.parametrize("word", ["question", "query", "task", "prompt"])
def test_an_undeclared_question_by_name(word: str) -> None:
    """It is the question and no variable."""
    rlm, model = make([code(f"SUBMIT(str('{word}' in globals()))")], "document -> answer")
    assert rlm(document="d", **{word: "Who?"}).answer == "False"
    assert asked(model).startswith("Who?\n")


def test_instructions_alone_are_the_question() -> None:
    """A signature that says what to do needs no more."""
    signature = Signature((Field("x"),), (Field("answer"),), "Summarise x.")
    rlm, model = make([code("SUBMIT('x')")], signature)
    assert rlm(x=1).answer == "x"
    assert asked(model).startswith("Summarise x.\n")


@pytest.mark.parametrize(
    ("question", "inputs", "says"),
    [
        (None, {"x": 1}, "question is empty"),
        ("", {"x": 1}, "question is empty"),
        (5, {"x": 1}, "has to be text, not int"),
        (None, {"x": 1, "question": 5}, "has to be text, not int"),
        ("Q", {}, "also needs x"),
        ("Q", {"y": 1}, "'y' is no input"),
        ("Q", {"x": 1, "xx": 1}, "did you mean 'x'?"),
        ("Q", {"x": 1, "question": "Who?"}, "'question' is no input"),
    ],
)
def test_a_wrong_call_starts_nothing(question: Any, inputs: dict[str, Any], says: str) -> None:
    """One line says what is wrong; no model was asked and no sandbox started."""
    sandbox = FakeSandbox()
    rlm, model = make([], "x -> answer", sandbox=sandbox)
    with pytest.raises(InputError) as caught:
        rlm(question, **inputs)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (sandbox.starts, model.requests) == (0, [])


# -- options ------------------------------------------------------------------------------------------------------
def test_later_defaults_apply_to_earlier_objects() -> None:
    """`configure` after construction holds, but for what the constructor was given."""
    rlm, _ = make([code("x = 1"), code("SUBMIT('best')")] * 2, max_errors=3)
    configure(max_iterations=1)
    result = rlm("Q")
    assert (result.stop_reason, result.trajectory.max_iterations) == ("max_iterations", 1)


def test_later_defaults_are_checked_too() -> None:
    """A model of `configure` that cannot be is found at the call."""
    rlm = RLM("-> answer", sandbox=FakeSandbox())
    configure(model="no-such-model", sub_model=ScriptedModel([]))
    with pytest.raises(InputError, match="unknown model 'no-such-model'"):
        rlm("Q")


def test_verbose_prints_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The live view as text: code, output, sub-calls, answer."""
    rlm, _ = make([code("print('found', llm_query('ask'))"), code("SUBMIT('x' * 3)")], sub="reply", verbose=True)
    rlm("Q")
    printed = capsys.readouterr().out
    for part in ("print('found', llm_query('ask'))", "ask", "found reply", "Answered"):
        assert part in printed


def test_without_verbose_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A library is silent unless asked."""
    make([code("print('found')\nSUBMIT('x')")])[0]("Q")
    assert capsys.readouterr() == ("", "")


# -- callbacks ----------------------------------------------------------------------------------------------------
def test_callbacks_follow_the_run() -> None:
    """In order, in the caller's thread, each with its finished record."""
    told: list[tuple[str, Any]] = []
    threads = set()

    def note(kind: str, value: Any) -> None:
        threads.add(threading.current_thread())
        told.append((kind, value))

    rlm, _ = make(
        [code("llm_query('a')"), code("SUBMIT('x')")],
        sub="r",
        on_iteration=lambda i: note("iteration", (i.number, i.done, len(i.cells))),
        on_subcall=lambda s: note("subcall", (s.number, s.prompt, s.reply, s.finished)),
        on_event=lambda e: note(type(e).__name__, None) if isinstance(e, ev.RunStarted | ev.RunFinished) else None,
    )
    rlm("Q")
    assert told == [
        ("RunStarted", None),
        ("subcall", (1, "a", "r", True)),
        ("iteration", (1, True, 1)),
        ("iteration", (2, True, 1)),
        ("RunFinished", None),
    ]
    assert {threading.current_thread()} == threads


@pytest.mark.parametrize("which", ["on_iteration", "on_subcall", "on_event"])
@pytest.mark.parametrize("form", ["call", "acall"])
def test_an_exception_in_a_callback_ends_the_run(which: str, form: str) -> None:
    """It is raised as it is, no further model call is made, and the object stays usable."""

    def fail(_: Any) -> None:
        if armed:
            raise ZeroDivisionError("mine")

    def reply(request: Request) -> str:
        if request.messages[0].content.startswith("Again"):
            return code("SUBMIT('z')")
        return code("kept = llm_query('a')") if len(request.messages) == 1 else code(ENDLESS)

    armed = [1]
    rlm, model = make([reply] * 9, sub="r", **{which: fail})
    with pytest.raises(ZeroDivisionError, match="mine"):
        rlm("Q") if form == "call" else asyncio.run(rlm.acall("Q"))
    assert len([r for r in model.requests if r.kind == "root"]) <= 2
    armed.clear()
    assert rlm("Again").answer == "z"


# -- trouble ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("replies", "sandbox", "error"),
    [
        ([code("x = 1"), ModelError("overloaded")], FakeSandbox(), ModelError),
        ([code("x = 1")], Unstartable(SandboxError("no")), SandboxError),
    ],
)
def test_an_error_carries_the_result(replies: list[Any], sandbox: Any, error: type[Exception]) -> None:
    """`.result` is the run until then."""
    rlm, _ = make(replies, sandbox=sandbox)
    with pytest.raises(error) as caught:
        rlm("Q")
    assert caught.value.result.stop_reason == "error"  # type: ignore[attr-defined]
    assert caught.value.result.answer is None  # type: ignore[attr-defined]


def interrupt_at(kind: type[ev.Event]) -> Any:
    """A callback that has a SIGINT sent to this process, from another thread, at the first such event."""
    sent: list[int] = []

    def on(event: ev.Event) -> None:
        if isinstance(event, kind) and not sent:
            sent.append(1)
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

    return on


async def never(prompt: str) -> str:
    if prompt == "a":
        await asyncio.Event().wait()
    return prompt


@pytest.mark.parametrize("real", [False, True])
def test_ctrl_c_in_a_cell_keeps_state_and_trajectory(real: bool) -> None:
    """The call raises a KeyboardInterrupt with the result; the next call finds the variables."""
    sandbox = KernelSandbox() if real else FakeSandbox()
    cell = code("print('found')\nkept = 41\n" + ENDLESS)
    rlm, _ = make([cell, code("SUBMIT(kept + 1)")], "-> n: int", sandbox=sandbox, on_event=interrupt_at(ev.CellOutput))
    with rlm:
        with pytest.raises(KeyboardInterrupt) as caught:
            rlm("Q")
        assert isinstance(caught.value, InterruptedRunError)
        assert caught.value.result.stop_reason == "interrupted"
        assert "found\n" in caught.value.result.trajectory.cells[0].text()
        assert rlm("Q").n == 42


def test_the_model_is_told_which_limit_stopped_its_code() -> None:
    """Of output, and of time of the processor; the limits are options of the call, and what was made is kept."""
    cells = [
        code("kept = 40\nwhile True: print('x' * 1000)"),
        code("kept += 1\nwhile True: kept"),
        code("SUBMIT(kept + 1)"),
    ]
    rlm, model = make(cells, "-> n: int", sandbox=None, sandbox_output=1, sandbox_cpu=0.5)
    with rlm:
        result = rlm("Q")
    told = [request.messages[-1].content for request in model.requests[1:]]

    assert result.n == 42
    assert [cell.status for cell in result.trajectory.cells] == ["flooded", "timeout", "submitted"]
    assert "Stopped: a block may put out 1 MB." in told[0]
    assert "Stopped: a block may use 0.5 s of CPU time." in told[1]


def test_ctrl_c_in_a_sub_call() -> None:
    """The same while a sub-model is being waited for."""
    rlm, _ = make(
        [code("kept = 41\nllm_query('a')"), code("SUBMIT(kept + 1)")],
        "-> n: int",
        sub=never,
        on_event=interrupt_at(ev.SubcallStarted),
    )
    with pytest.raises(InterruptedRunError):
        rlm("Q")
    assert rlm("Q").n == 42


def test_interrupt_from_another_thread_returns_what_there_is() -> None:
    """`interrupt()` ends the call as interrupted; nothing is raised."""
    rlm, _ = make([code("kept = 41\n" + ENDLESS), code("SUBMIT(kept + 1)")], "-> n: int")

    def on(event: ev.Event) -> None:
        if isinstance(event, ev.CellStarted):
            threading.Thread(target=rlm.interrupt).start()

    rlm._on_event = on
    assert ((first := rlm("Q")).stop_reason, first.n) == ("interrupted", None)
    rlm._on_event = None
    assert rlm("Q").n == 42


def test_interrupting_an_idle_object_does_nothing() -> None:
    """The next call runs as ever."""
    rlm, _ = make([code("SUBMIT('x')")])
    rlm.interrupt()
    assert rlm("Q").answer == "x"


def test_cancelling_acall_keeps_the_state() -> None:
    """The task is cancelled when the run has ended; the next call finds the variables."""
    rlm, _ = make([code("kept = 41\n" + ENDLESS), code("SUBMIT(kept + 1)")], "-> n: int")

    async def main() -> int:
        started = asyncio.Event()
        rlm._on_event = lambda e: started.set() if isinstance(e, ev.CellStarted) else None
        task = asyncio.create_task(rlm.acall("Q"))
        await started.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return (await rlm.acall("Q")).n

    assert asyncio.run(main()) == 42


def test_a_timeout_around_acall() -> None:
    """`asyncio.timeout` works as around any coroutine."""
    rlm, _ = make([code("kept = 41\n" + ENDLESS), code("SUBMIT(kept + 1)")], "-> n: int")

    async def main() -> int:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rlm.acall("Q"), 0.3)
        return (await rlm.acall("Q")).n

    assert asyncio.run(main()) == 42


# -- the end ------------------------------------------------------------------------------------------------------
def test_reset_empties_the_sandbox() -> None:
    """The next call starts with nothing."""
    rlm, _ = make([code("kept = 1\nSUBMIT('x')"), code("SUBMIT(str('kept' in globals()))")])
    rlm("Q")
    rlm.reset()
    assert rlm("Q").answer == "False"


def test_the_sandboxs_process_ends_with_close_with_and_the_object() -> None:
    """After `close()`, after the `with` block and after the object was dropped, no kernel is left."""
    for way in ("close", "with", "drop"):
        sandbox = KernelSandbox()
        rlm, _ = make([code("SUBMIT('x')")], sandbox=sandbox)
        assert rlm("Q").answer == "x"
        assert sandbox.pid is not None
        process = psutil.Process(sandbox.pid)
        assert sandbox.connection_file is not None
        folder = Path(sandbox.connection_file).parent
        if way == "close":
            rlm.close()
            rlm.close()
        elif way == "with":
            with rlm:
                pass
        else:
            del rlm
            gc.collect()
        process.wait(10)
        for _ in range(500):
            if not folder.exists():
                break
            threading.Event().wait(0.01)
        assert not folder.exists()


SCRIPT = """
import os
from rlm_kernel import RLM, KernelSandbox, ScriptedModel
sandbox = KernelSandbox()
model = ScriptedModel(["```repl\\nSUBMIT('x')\\n```", "```repl\\nimport time\\nwhile True: time.sleep(0.01)\\n```"])
rlm = RLM("-> answer", model=model, sub_model=model, sandbox=sandbox)
print(rlm("Q").answer, sandbox.pid, os.path.dirname(sandbox.connection_file), flush=True)
"""


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "1/0", "os.kill(os.getpid(), 9)", "rlm('again')"])
def test_a_process_leaves_nothing_behind(ending: str, tmp_path: Path) -> None:
    """Whether a script ends normally, with an error, by SIGKILL or by SIGTERM in mid-run: no kernel, no folder."""
    folder = tempfile.mkdtemp(prefix="t")  # short, for the sockets' sake
    env = {**os.environ, "TMPDIR": folder, "PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT + ending], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
    )
    assert process.stdout is not None
    answer, pid, place = process.stdout.readline().split()
    assert answer == "x"
    if ending.startswith("rlm"):
        process.send_signal(signal.SIGTERM)
    process.wait(20)
    process.stdout.close()
    for _ in range(1500):
        if not psutil.pid_exists(int(pid)) and not Path(place).exists():
            break
        threading.Event().wait(0.01)
    assert not psutil.pid_exists(int(pid))
    assert os.listdir(folder) == []
    Path(folder).rmdir()


@pytest.mark.parametrize("how", ["stopped", "failed"])
def test_a_delivery_that_is_broken_off_keeps_the_state(how: str) -> None:
    """A stop, or a model that fails, while a variable loads in a running sandbox: what earlier cells made stays."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("import time\nclass Slow:\n    def __reduce__(self): return (time.sleep, (30,))", namespace)
    first = ["```repl\nprecious = [1, 2, 3]\nSUBMIT(n=1)\n```"]
    replies: list[Any] = [*first, ModelError("no such model"), "```repl\nSUBMIT(n=len(precious))\n```"]
    if how == "stopped":
        del replies[1]
    model = ScriptedModel(replies)

    class Late:
        """Fails only once the delivery is under way; asked nothing when the run is stopped."""

        name = "late"

        async def complete(self, request: Any, on_delta: Any = None) -> Any:
            await asyncio.sleep(1)
            if how == "stopped":
                await asyncio.sleep(60)
            return await model.complete(request, on_delta)

        async def close(self) -> None:
            pass

    with RLM("slow -> n: int", model=model, sub_model=model, sandbox=KernelSandbox()) as rlm:
        assert rlm("first", slow=1).n == 1
        rlm._given["model"] = Late()
        if how == "stopped":
            threading.Timer(1.5, rlm.interrupt).start()
            assert rlm("second", slow=namespace["Slow"]()).stop_reason == "interrupted"
        else:
            with pytest.raises(ModelError, match="no such model"):
                rlm("second", slow=namespace["Slow"]())
        rlm._given["model"] = model
        assert rlm("third", slow=2).n == 3
