"""Tools in real sandbox kernels."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rlm_kernel import RLM, Field, KernelSandbox, ScriptedModel, Signature, tool
from rlm_kernel import events as ev
from rlm_kernel.loop import Run
from tests.helpers import code, end, play

DONE = code("SUBMIT('done')")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[KernelSandbox]:
    """One kernel for the tests of this file."""
    made = KernelSandbox()
    yield made
    end(play([DONE], sandbox=made))


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


def test_values_of_every_kind_go_there_and_back(sandbox: KernelSandbox) -> None:
    """Tables and arrays as well as texts that JSON has to escape."""

    def same(x: Any) -> Any:
        return x

    def total(df: pd.DataFrame, weights: np.ndarray) -> float:
        return float((df["a"] * weights).sum())

    cell = (
        "import pandas as pd, numpy as np\n"
        "df = pd.DataFrame({'a': [1.0, 2.0], 'b': ['x', None]})\n"
        "print(same(df).equals(df), same(np.eye(2)).tolist(), total(df, weights=np.array([10.0, 1.0])))\n"
        "text = '\\x00\"\\\\é数🎉' * 1000\n"
        "print(same(text) == text, same({1: [None, True, b'\\xff']}), same(float('nan')))"
    )
    played = play([code(cell), DONE], sandbox=sandbox, tools=[same, total])
    assert played.trajectory.cells[0].text() == (
        "True [[1.0, 0.0], [0.0, 1.0]] 12.0\nTrue {1: [None, True, b'\\xff']} nan\n"
    )


def test_an_error_of_a_tool_reads_as_one_of_the_code(sandbox: KernelSandbox) -> None:
    """The line of the cell, the name and the text; neither a frame of ours nor of the host's."""

    def fails(n: int) -> None:
        raise LookupError(f"no entry {n}")

    def exits() -> None:
        raise SystemExit(2)

    played = play(
        [code("x = 5\nfails(x)"), code("exits()"), code("SUBMIT(str(x))")], sandbox=sandbox, tools=[fails, exits]
    )
    assert played.trajectory.cells[0].text() == "Traceback:\n  line 2: fails(x)\nLookupError: no entry 5\n"
    assert played.trajectory.cells[1].text() == "Traceback:\n  line 1: exits()\nToolError: SystemExit: 2\n"
    assert [c.status for c in played.trajectory.cells] == ["error", "error", "submitted"]


def test_64_threads_of_a_kernel_call_at_once(sandbox: KernelSandbox) -> None:
    """Sync and async tools, all at the same time: none waits for another."""
    together = threading.Barrier(32)

    def meet(n: int) -> int:
        together.wait(20)
        return n

    arrived: list[int] = []

    async def gather(n: int) -> int:
        arrived.append(n)
        while len(arrived) < 32:
            await asyncio.sleep(0.001)
        return n

    cell = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(64) as pool:\n"
        "    print(sum(pool.map(lambda n: (meet if n % 2 else gather)(n), range(64))))"
    )
    played = play([code(cell), DONE], sandbox=sandbox, tools=[meet, gather])
    assert played.trajectory.cells[0].text() == f"{sum(range(64))}\n"


def test_an_interrupt_reaches_a_cell_that_waits_for_a_tool(sandbox: KernelSandbox) -> None:
    """The run ends although the tool does not; the kernel keeps its variables and works on."""
    release = threading.Event()

    def stop(run: Run, event: ev.Event) -> None:
        if isinstance(event, ev.ToolCallStarted):
            run.stop()

    played = play(
        [code("kept = 7\nhangs()")], sandbox=sandbox, tools=[tool(lambda: release.wait(60), name="hangs")], on=stop
    )
    assert not release.is_set()
    release.set()
    assert played.trajectory.stop_reason == "interrupted"
    assert played.trajectory.cells[0].status == "interrupted"
    assert played.trajectory.tool_calls[0].error == "cancelled: its cell was stopped"
    assert play([code("SUBMIT(str(kept + add(1)))")], sandbox=sandbox, tools=[add]).trajectory.values == {"answer": "9"}


def test_the_tools_are_there_after_a_death() -> None:
    """A kernel that goes on from its last copy has them, and their overwritten names come back."""
    sandbox = KernelSandbox()
    cells = ["x = add(1)", "import time\ntime.sleep(0.1)", "import os\nos._exit(1)", "add = 3", "SUBMIT(str(add(x)))"]
    played = play([code(cell) for cell in cells], sandbox=sandbox, tools=[add])
    end(played)
    assert played.trajectory.values == {"answer": "3"}
    assert [c.status for c in played.trajectory.cells] == ["ok", "ok", "died", "ok", "submitted"]
    assert len(played.trajectory.tool_calls) == 2


def test_the_seed_scenario() -> None:
    """ts-rlm's tutorial, step 3: a question about the system, answered with tools that read it."""
    signature = Signature(
        (Field("query", description="User's question about system data"),),
        (Field("answer"), Field("sources", list[str], description="List of data sources consulted")),
        "Answer questions by fetching and analyzing system data.",
    )

    def read_file(path: str) -> str:
        """The text of a file of this machine."""
        return Path(path).read_text()

    def list_dir(path: str) -> list[str]:
        """The names in a folder."""
        return sorted(p.name for p in Path(path).iterdir())

    async def run_command(command: str) -> str:
        """What a shell command prints."""
        running = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
        return (await running.communicate())[0].decode()

    cells = [
        "print([n for n in list_dir('/etc') if 'release' in n])\nprint(read_file('/etc/os-release')[:200])",
        "name = dict(line.split('=', 1) for line in read_file('/etc/os-release').splitlines() if '=' in line)['NAME']\n"
        "free = run_command('df -k / | tail -1').split()[3]\n"
        "SUBMIT(answer=f'{name.strip(chr(34))}, {free} KB', sources=['/etc/os-release', 'df'])",
    ]
    model = ScriptedModel([code(cell) for cell in cells])
    with RLM(signature, model=model, sub_model=model, tools=[read_file, list_dir, run_command]) as rlm:
        result = rlm(query="What Linux distribution is this system running and how much disk space is available?")
    assert result.stop_reason == "answered"
    assert int(result.answer.split()[-2]) > 0
    assert result.sources == ["/etc/os-release", "df"]
    assert [call.tool for call in result.trajectory.tool_calls] == ["list_dir", "read_file", "read_file", "run_command"]
    assert "- `run_command(command: str) -> str`\n    What a shell command prints." in model.requests[0].system


def test_a_replay_calls_the_tools_for_real(tmp_path: Path) -> None:
    """Recorded are the replies of models; what the code does, it does again."""
    called: list[int] = []

    def f(n: int) -> int:
        """Count."""
        called.append(n)
        return 10 * n

    replies = [code("print(f(1))"), code("SUBMIT(str(f(2)))")]
    path = str(tmp_path / "run.json")
    for options in ({"record": path, "model": ScriptedModel(replies)}, {"replay": path}):
        model = options.get("model", ScriptedModel([]))
        with RLM("-> answer", **{"model": model, "sub_model": model, "tools": [f]} | options) as rlm:
            assert rlm("Q").answer == "20"
    assert called == [1, 2, 1, 2]
