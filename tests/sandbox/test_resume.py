"""A kernel that dies goes on from its last copy, and what was lost is run again: with real kernels."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from rlm_kernel.sandbox.journal import Journal
from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.sandbox.lab import Lab, lab

DEATHS = {
    "exit": ("import os\nos._exit(3)", "it exited with code 3"),
    "segfault": ("import ctypes\nctypes.string_at(0)", "it crashed (SIGSEGV)"),
    "kill": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "it was killed (SIGKILL)"),
    "abort": ("import os\nos.abort()", "it aborted itself (SIGABRT)"),
    "fork": ("import os\nfor _ in range(4): os.fork()\nos._exit(4)", "it exited with code 4"),
}


@pytest.fixture(params=["full", "landlock", "none"])
def kept(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A journal around a kernel of each level."""
    with lab(Journal(KernelSandbox(level=request.param))) as made:
        yield made.start()


@pytest.fixture
def full() -> Iterator[Lab]:
    """A journal around a kernel."""
    with lab(Journal(KernelSandbox())) as made:
        yield made.start()


def recovered(made: Lab) -> str:
    """How it was brought back."""
    return str(made.wait(made.sandbox.recover()).how)


def settled(made: Lab) -> None:
    """The copy of the last moment has been made."""
    made.run("import time; time.sleep(0.1)")
    made.run("")


@pytest.mark.parametrize("death", DEATHS)
def test_a_death(kept: Lab, death: str) -> None:
    """The state is that from before the cell: variables, closures, modules, settings, random numbers; it works on."""
    code, words = DEATHS[death]
    kept.put(given=[1])
    kept.run(
        "import random, decimal\nx = 1\ndef f(y): return x + y\nrandom.seed(7)\ndecimal.getcontext().prec = 5\n"
        "kept = llm_query('a')\nexpected = random.getstate()"
    )
    died = kept.run("x = 2\ngiven.append(2)\n" + code)

    assert (died.status, died.result.detail) == ("died", words)
    assert recovered(kept) == "resumed"
    assert kept.run("print(x, f(1), given, decimal.Decimal(1) / 3, kept, random.getstate() == expected)").text() == (
        "1 2 [1] 0.33333 A True\n"
    )
    assert kept.run("print(llm_query('b'), file=__import__('sys').stderr)").text("stderr") == "B\n"
    assert kept.run("x = 3\nx").changed["x"][2] == "3"
    assert [params["prompts"] for _, params in kept.asked] == [["a"], ["b"]]


def test_interrupts_work_after_a_resume(full: Lab) -> None:
    """In a loop, in a sleep, in a top-level await, and while a sub-model is asked."""
    full.run("x = 1")
    full.run("import os; os._exit(1)")
    assert recovered(full) == "resumed"
    for code in ("while True: pass", "import time; time.sleep(100)", "import asyncio; await asyncio.sleep(100)"):
        running = full.begin(f"print('ready')\n{code}")
        full.wait(full.sandbox.interrupt())
        assert running.result(20).status == "interrupted"
    assert full.run("print(x)").text() == "1\n"


def test_output_of_c_code_after_a_resume(full: Lab) -> None:
    """What is written past Python's streams arrives, as it does before."""
    full.run("x = 1")
    full.run("import os; os._exit(1)")
    full.wait(full.sandbox.recover())
    assert "from below" in full.run("import os, time; os.write(1, b'from below\\n'); time.sleep(0.3)").text()
    assert full.run("!echo hello").text().strip() == "hello"


def test_many_deaths(full: Lab) -> None:
    """One after another, each from the state that the one before left; no process and no descriptor adds up."""
    full.put(given=1)
    full.run("n = 0")
    count = "import os\nprint(len(os.listdir('/proc/self/fd')))"
    sizes = []
    for turn in range(12):
        full.run("n += 1")
        assert full.run("import os; os._exit(1)").status == "died"
        recovery = full.wait(full.sandbox.recover())
        assert (recovery.how, recovery.why, turn) == ("resumed", "", turn)
        counted = full.run(count)
        assert counted.text("stderr") == ""
        sizes.append(int(counted.text()))
        assert full.run("print(n)").text() == f"{turn + 1}\n"
    assert max(sizes) <= min(sizes) + 2  # one or two come and go


def test_a_stopped_kernel(full: Lab) -> None:
    """One that neither ends nor obeys is ended, and its copy goes on."""
    full.run("x = 1")
    running = full.begin("print('ready')\nx = 2\nwhile True: pass")
    os.kill(full.sandbox.inner.pid, signal.SIGSTOP)
    full.wait(full.sandbox.interrupt())
    assert recovered(full) == "resumed"
    assert running.result(20).status == "died"
    assert full.run("print(x)").text() == "1\n"


def test_killed_between_two_questions(full: Lab) -> None:
    """The next start finds it out, brings everything back and delivers what is new."""
    full.put(a="first")
    full.run("x = a + '!'")
    settled(full)
    os.kill(full.sandbox.inner.pid, signal.SIGKILL)
    full.put(b="second")
    full.start()
    assert full.run("print(x, a, b)").text() == "first! first second\n"


def test_threads_that_no_copy_has(full: Lab) -> None:
    """A library with threads of its own is seen, and the state is rebuilt by running the cells again, asking nobody."""
    full.put(given=[3, 1])
    full.run("import polars as pl\nframe = pl.DataFrame({'a': given}).sort('a')\nsaid = llm_query('q')")
    full.run("more = frame.lazy().filter(pl.col('a') > 1).collect()")
    assert full.run("import os; os._exit(1)").status == "died"
    recovery = full.wait(full.sandbox.recover())
    assert recovery.how == "replayed"
    assert "polars" in recovery.why
    assert full.run("print(more['a'].to_list(), said, frame.height)").text() == "[3] Q 2\n"
    assert len(full.asked) == 1


def test_a_copy_and_then_what_came_after_it(full: Lab) -> None:
    """Where only an older moment could be copied the rest is run again on top of it."""
    full.run("import time\nbegun = time.time_ns()")
    settled(full)
    full.run("import threading\ngo = threading.Event()\nthread = threading.Thread(target=go.wait)\nthread.start()")
    full.run("x = llm_query('q')")
    begun = full.run("print(begun)").text()
    assert full.run("import os; os._exit(1)").status == "died"
    recovery = full.wait(full.sandbox.recover())
    assert (recovery.how, "a thread of Python" in recovery.why) == ("replayed", True)
    assert full.run("print(begun)").text() == begun
    assert full.run("print(x, thread.is_alive()); go.set()").text() == "Q True\n"
    assert len(full.asked) == 1


def test_a_replay_that_asks_something_else(full: Lab) -> None:
    """It is refused, no model is asked, and the user learns that a step came out differently."""

    async def answer(method: str, params: Mapping[str, Any]) -> Any:
        return [{"text": "yes"}]

    full.answer = answer
    full.run("import threading, time\ngo = threading.Event()\nthreading.Thread(target=go.wait, daemon=True).start()")
    full.run("x = llm_query(str(time.time_ns()))")
    asked = len(full.asked)
    full.run("import os; os._exit(1)")
    recovery = full.wait(full.sandbox.recover())
    assert recovery.how == "replayed"
    assert "1 of its steps ended otherwise" in recovery.why
    assert len(full.asked) == asked
