"""Signals, full disks and exhausted memory at every moment of a sandbox's life: with real kernels."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlm_kernel.errors import SandboxError
from rlm_kernel.sandbox.isolation import provisioner
from rlm_kernel.sandbox.isolation.policy import Limits
from rlm_kernel.sandbox.journal import Journal
from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.helpers import code, end, play
from tests.sandbox.lab import Lab, lab

SMALL = Limits(memory=1024, scratch=16)


class Slow:
    """Takes a while to be loaded."""

    def __reduce__(self) -> Any:
        return time.sleep, (0.7,)


@pytest.fixture
def journal() -> Iterator[Lab]:
    """A journal around a kernel with small limits, not yet started."""
    with lab(Journal(KernelSandbox(limits=SMALL))) as made:
        yield made


def provisioned(made: Lab) -> Any:
    """What has started the kernel, once there is one."""
    process = made.sandbox.inner._process
    return process.manager.provisioner if process is not None else None


def eventually(holds: Callable[[], Any]) -> Any:
    """What it comes to be, which it must within some seconds."""
    end = time.monotonic() + 10
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.002)
    return found


def starting(made: Lab, variables: Mapping[str, Any]) -> Future[Any]:
    async def work() -> None:
        await made.sandbox.put(variables)
        await made.sandbox.start(made.handle)

    return made.later(work())


def works(made: Lab) -> bool:
    made.start()
    return made.run("print(6 * 7)").text() == "42\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_while_it_starts(journal: Lab, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start fails with one line that says so, nothing is left of it, and the next one works."""
    monkeypatch.setattr(provisioner, "_REPORT_SECONDS", 1.0)
    before = set(Path(tempfile.gettempdir()).glob("rlm-*"))
    running = starting(journal, {})
    leader = psutil.Process(eventually(lambda: provisioned(journal) and provisioned(journal).pid))
    for process in (leader, *leader.children(recursive=True)):
        process.send_signal(number)
    with pytest.raises(SandboxError, match=r"did not start: its process (ended|said nothing)"):
        running.result(20)
    assert set(Path(tempfile.gettempdir()).glob("rlm-*")) <= before
    monkeypatch.undo()
    assert works(journal)


def test_killed_while_it_loads(journal: Lab) -> None:
    """It is loaded once more, together with what the sandbox held before."""
    journal.put(kept=[1])
    journal.run("made = kept + [2]")
    running = starting(journal, {"slow": Slow()})
    time.sleep(0.3)
    os.kill(journal.sandbox.inner.pid, signal.SIGKILL)
    running.result(20)
    assert journal.run("print(made, slow)").text() == "[1, 2] None\n"


def test_stopped_while_it_loads(journal: Lab) -> None:
    """A kernel that hangs can be shut down at any moment."""
    journal.start()
    running = starting(journal, {"slow": Slow()})
    time.sleep(0.3)
    os.kill(journal.sandbox.inner.pid, signal.SIGSTOP)
    journal.wait(journal.sandbox.shutdown())
    with pytest.raises(SandboxError):
        running.result(20)
    assert works(journal)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_during_a_sub_call(journal: Lab, number: signal.Signals) -> None:
    """The call is given up, the state is that from before the cell, and the channel works on."""
    asked = threading.Event()

    async def never(method: str, params: Mapping[str, Any]) -> Any:
        asked.set()
        await asyncio.sleep(100)

    journal.start()
    journal.run("x = 1")
    journal.answer, echo = never, journal.answer
    running = journal.begin("x = llm_batch(['a', 'b'])", ready=None)
    assert asked.wait(10)
    os.kill(journal.sandbox.inner.pid, number)
    if number == signal.SIGKILL:
        assert running.result(10).status == "died"
    assert journal.wait(journal.sandbox.recover()).how == "resumed"
    journal.answer = echo
    assert journal.run("print(x, llm_query('c'))").text() == "1 C\n"


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 3, 5, 10])
def test_killed_around_a_checkpoint(journal: Lab, milliseconds: int) -> None:
    """Before, in and after the moment in which the copy is made: nothing is lost, however it is brought back."""
    journal.start()
    journal.run("x = 1")
    journal.run("x += 1")
    time.sleep(milliseconds / 1000)
    os.kill(journal.sandbox.inner.pid, signal.SIGKILL)
    assert journal.run("x += 1").status == "died"
    assert journal.wait(journal.sandbox.recover()).how in ("resumed", "replayed")
    assert journal.run("print(x)").text() == "2\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_while_it_resumes(journal: Lab, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that does not wake is given up too: the cells are run again."""
    monkeypatch.setattr(provisioner, "_WAKE_SECONDS", 0.5)
    journal.start()
    journal.run("x = llm_query('a')")
    copy = eventually(lambda: provisioned(journal).inside.step == 1 and provisioned(journal).inside.copy)
    assert journal.run("import os; os._exit(1)").status == "died"
    os.kill(copy.pid, number)
    assert journal.wait(journal.sandbox.recover()).how == "replayed"
    assert journal.run("print(x)").text() == "A\n"
    assert len(journal.asked) == 1


def test_a_full_disk(journal: Lab) -> None:
    """Nothing more can be written; everything else goes on, a death included."""
    journal.start()
    journal.run("x = 1")
    filled = journal.run("with open('fill', 'wb') as file:\n    while True: file.write(b'x' * 2**20)")
    assert "No space left" in filled.text("error") or "File too large" in filled.text("error")
    journal.run("import os; os._exit(1)")
    assert journal.wait(journal.sandbox.recover()).how == "resumed"
    assert journal.run("import os; print(x); os.unlink('fill'); open('fill', 'w').write('y')").status == "ok"


def test_memory_of_one_process(journal: Lab) -> None:
    """Is an error of that cell."""
    journal.start()
    journal.run("x = 1")
    assert "MemoryError" in journal.run("y = bytearray(2 * 2**30)").text("error")
    assert journal.run("print(x)").text() == "1\n"


def test_memory_of_all_processes(journal: Lab) -> None:
    """The kernel is ended for it, which is told, and goes on without them."""
    journal.start()
    journal.run("x = 1")
    died = journal.run(
        "import os, time\nfor _ in range(4):\n    if not os.fork():\n        a = bytearray(b'x') * (350 * 2**20)\n"
        "        time.sleep(100)\ntime.sleep(100)"
    )
    assert died.status == "died"
    assert died.result.detail == "its processes used more than 1024 MB of memory together"
    assert journal.wait(journal.sandbox.recover()).how == "resumed"
    assert journal.run("print(x)").text() == "1\n"
    members = psutil.Process(provisioned(journal).pid).children(recursive=True)
    assert sum(p.memory_info().rss for p in members) < 400 * 2**20


def test_a_deadline_during_a_batch() -> None:
    """The cell is over, the calls are given up, and the run goes on with the state it had."""

    async def never(prompt: str) -> str:
        await asyncio.sleep(100)
        return ""

    played = play(
        [
            code("made = 1"),
            code("made = 2\ntry: llm_batch([str(i) for i in range(50)])\nexcept BaseException:\n    while True: pass"),
            code("SUBMIT(f'{made}')"),
        ],
        sub=never,
        sandbox=KernelSandbox(),
        cell_timeout=1,
    )
    end(played)
    assert played.trajectory.values == {"answer": "1"}
    assert [c.status for c in played.trajectory.cells] == ["ok", "timeout", "submitted"]
    assert "Your variables are what they were before this block" in played.told[2]


def test_many_deaths(journal: Lab) -> None:
    """200 crashes and resumes in a row: the host gains no process, descriptor, thread, file or memory by them."""
    journal.put(given="x" * 2**20)
    me = psutil.Process()

    def cycle(turn: int) -> None:
        journal.run(f"n = {turn}")
        assert journal.run("import os; os._exit(1)").status == "died"
        recovery = journal.wait(journal.sandbox.recover())
        assert (recovery.how, recovery.why) == ("resumed", "")
        assert journal.run("print(n, len(given))").text() == f"{turn} {2**20}\n"

    def used() -> tuple[int, int, int, int]:
        gc.collect()
        members = [p for p in me.children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
        folder = journal.sandbox.inner._process.folder
        return len(members), me.num_fds(), threading.active_count(), len(list(folder.rglob("*")))

    for turn in range(20):
        cycle(turn)
    before, memory = used(), me.memory_info().rss
    for turn in range(180):
        cycle(turn)
    after = used()
    assert all(now <= then + 2 for now, then in zip(after, before, strict=True)), (before, after)
    assert me.memory_info().rss - memory < 20 * 2**20
