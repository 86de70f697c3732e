"""The fake sandbox that ships: the same REPL without a kernel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from rlm_kernel.sandbox.base import RefusedError, Sandbox
from rlm_kernel.sandbox.fake import FakeSandbox
from tests.sandbox.lab import Lab, lab


@pytest.fixture
def fake() -> Iterator[Lab]:
    with lab(FakeSandbox()) as made:
        yield made.start()


def test_it_is_a_sandbox() -> None:
    """It answers to the protocol."""
    assert isinstance(FakeSandbox(), Sandbox)


def test_output_and_state(fake: Lab) -> None:
    """Prints and the last value come out in order; state persists; the cells are kept."""
    first = fake.run("x = [1]\nprint('a', 'b', sep='-')\nprint('c', end='')\nx")
    second = fake.run("x.append(2)\nx")

    assert [(c.kind, c.text) for c in first.chunks] == [("stdout", "a-b\n"), ("stdout", "c"), ("result", "[1]\n")]
    assert (second.status, second.text("result")) == ("ok", "[1, 2]\n")
    assert len(fake.sandbox.cells) == 2
    assert fake.sandbox.starts == 1


def test_changes(fake: Lab) -> None:
    """What changed, went or was restored comes with the result; what was put is no news."""
    fake.put(given=[1])
    ran = fake.run("a = 1\ngiven.append(2)\nllm_query = 5")
    assert ran.changed == {"a": ("int", "", "1"), "given": ("list[int]", "2 items", "[1, 2]")}
    assert ran.result.restored == ("llm_query",)
    assert fake.run("del a").result.removed == ("a",)


def test_put_copies(fake: Lab) -> None:
    """What the cell does to a variable does not reach the caller's."""
    mine = {"a": [1]}
    fake.put(mine=mine)
    fake.run("mine['a'].append(2)")

    assert mine == {"a": [1]}


def test_errors(fake: Lab) -> None:
    """Output before an error is kept, the error has its line, the next cell runs."""
    ran = fake.run("print('before')\n\n1 / 0\nprint('never')")
    assert (ran.status, ran.text("stdout")) == ("error", "before\n")
    assert "line 3" in ran.text("error")
    assert "ZeroDivisionError" in ran.text("error")
    assert fake.run("print('next')").text() == "next\n"


@pytest.mark.parametrize("code", ["x = = 1", "raise SystemExit(1)", "exit()", "def f(:", "raise BaseException('b')"])
def test_no_code_raises_on_the_host(fake: Lab, code: str) -> None:
    """Whatever the code does, `execute` returns."""
    ran = fake.run(code)

    assert ran.status == "error"
    assert ran.text("error")


def test_queries_and_batches(fake: Lab) -> None:
    """Sub-calls go to the handler, from threads too."""
    ran = fake.run(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "print(llm_query('a'), llm_batch(['b', 'c']))\n"
        "with ThreadPoolExecutor(8) as pool: print(list(pool.map(llm_query, 'abcdefgh')))"
    )

    assert ran.text("stdout") == "A ['B', 'C']\n['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H']\n"


def test_refusals(fake: Lab) -> None:
    """A refusal is a SubcallError of the code."""

    async def refuse(method: str, params: Mapping[str, Any]) -> Any:
        raise RefusedError("no call is left")

    fake.answer = refuse
    ran = fake.run("try:\n    llm_query('a')\nexcept SubcallError as e:\n    print('caught', e)\nSUBMIT(a=1)")

    assert ran.text("stdout") == "caught no call is left\n"
    assert "TypeError: SUBMIT: no call is left" in ran.text("error")


def test_submit_ends_the_cell(fake: Lab) -> None:
    """An accepted answer ends the cell well, also inside `except Exception`."""
    ran = fake.run("try:\n    SUBMIT(answer=(1, 2))\nexcept Exception:\n    pass\nprint('never')")

    assert (ran.status, ran.text()) == ("ok", "")
    assert fake.asked == [("submit", {"fields": {"answer": [1, 2]}, "values": []})]


def test_interrupt_of_a_waiting_call(fake: Lab) -> None:
    """A cell that waits for a sub-call ends at once, its state is kept and the next cell works."""

    async def endless(method: str, params: Mapping[str, Any]) -> Any:
        await asyncio.sleep(60)

    fake.answer, answer = endless, fake.answer
    ran = fake.stop(fake.begin("x = 1\nprint('ready')\nllm_query('a')"))
    fake.answer = answer

    assert ran.status == "interrupted"
    assert fake.run("print(x, llm_query('b'))").text("stdout") == "1 B\n"


def test_interrupt_of_a_loop(fake: Lab) -> None:
    """A busy cell ends, several times in a row."""
    for turn in range(3):
        ran = fake.stop(fake.begin(f"turn = {turn}\nprint('ready')\nwhile True: pass"))
        assert ran.status == "interrupted"
    assert fake.run("print(turn)").text() == "2\n"


def test_interrupt_with_nothing_running(fake: Lab) -> None:
    """An interrupt that comes too late stops nothing."""
    fake.interrupt()
    fake.run("x = 1")
    fake.interrupt()

    assert fake.run("print(x)").text() == "1\n"


def test_input_is_refused(fake: Lab) -> None:
    """As in the kernel."""
    assert "input() is not available" in fake.run("input('?')").text("error")


def test_shutdown(fake: Lab) -> None:
    """It forgets all, twice is fine, and it can be started again, empty."""
    fake.run("x = 1")
    fake.wait(fake.sandbox.shutdown())
    fake.wait(fake.sandbox.shutdown())
    assert fake.run("1").status == "died"
    fake.start()

    assert fake.run("print('x' in globals())").text() == "False\n"
    assert fake.sandbox.starts == 2


def test_start_twice_keeps_the_state_and_takes_the_new_handler(fake: Lab) -> None:
    """Idempotent but for who answers."""
    fake.run("x = 1")

    async def other(method: str, params: Mapping[str, Any]) -> Any:
        return [{"text": "other"}]

    fake.wait(fake.sandbox.start(other))

    assert fake.run("print(x, llm_query('a'))").text() == "1 other\n"


def test_a_thread_that_outlives_its_cell(fake: Lab) -> None:
    """It gets a clear error when it asks while no cell runs."""
    fake.run(
        "import threading\ngo, got = threading.Event(), []\n"
        "def late():\n    go.wait()\n"
        "    try: got.append(llm_query('a'))\n    except SubcallError as e: got.append(str(e))\n"
        "t = threading.Thread(target=late, daemon=True); t.start()\n"
        "threading.Timer(0.3, go.set).start()"
    )
    time.sleep(0.6)

    assert "no cell is running" in fake.run("t.join(5); print(got)").text()
    assert fake.asked == []
