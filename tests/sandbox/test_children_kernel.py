"""Child runs in real kernels: born of their parent's copy, apart from it, and gone when they are over."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from rlm_kernel import events as ev
from rlm_kernel.loop import Run
from rlm_kernel.sandbox.child import ChildKernel
from rlm_kernel.sandbox.kernel import KernelSandbox
from rlm_kernel.sandbox.launch import KernelProcess
from tests.helpers import Played, code, in_loop, play

SLEEP = "import time\ntime.sleep(60)"
LEVELS = ["full", "landlock", "none"]


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def sandbox(level: str) -> Iterator[KernelSandbox]:
    """One of each level."""
    made = KernelSandbox(level=level)
    yield made
    in_loop(made.shutdown())


@pytest.fixture
def full() -> Iterator[KernelSandbox]:
    """One of the best level."""
    made = KernelSandbox()
    yield made
    in_loop(made.shutdown())


def cells(played: Played) -> str:
    """All that the cells of the outermost run put out."""
    assert played.error is None
    return "".join(cell.text() for cell in played.trajectory.cells)


def processes(sandbox: KernelSandbox) -> list[psutil.Process]:
    """The kernel, and all that is below the process that was started for it."""
    assert isinstance(sandbox._process, KernelProcess)
    assert sandbox._process.own is not None
    leader = sandbox._process.own.pid
    return [p for p in psutil.Process(leader).children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]


def test_a_child_is_born_of_its_parents_copy(sandbox: KernelSandbox) -> None:
    """With its libraries, without its variables; what it changes stays with it; its answer arrives."""
    ask = (
        "import os, random\nfirst = random.random()\n"
        "r = rlm_query('?', outputs='pid: int, names: list[str], imported: bool', part=[1, 2])\n"
        "print(r['pid'] != os.getpid(), r['names'], r['imported'], part)"
    )
    child = code(
        "part.append(3)\nimport os, sys\nimported = 'pandas' in sys.modules\n"
        "SUBMIT(pid=os.getpid(), names=[n for n in ('part', 'mine', 'first') if n in globals()], imported=imported)"
    )
    played = play(
        [code("import pandas\nmine = 1\npart = [1, 2]"), code(ask), child, code("SUBMIT('done')")], sandbox=sandbox
    )
    assert cells(played) == "True ['part'] True [1, 2]\n"


def test_fifty_children(sandbox: KernelSandbox) -> None:
    """A few at a time, each asking a sub-model, all answered in order, none left; the parent is what it was."""
    ask = (
        "kept = 'here'\n"
        "r = rlm_batch([{'prompt': '?', 'n': n} for n in range(50)], outputs='s: str')\n"
        "print(r == [f'N{n}' for n in range(50)], kept)"
    )
    child = code("SUBMIT(s=llm_query(f'n{n}'))")
    replies = [code(ask), *[child] * 50, code("print(kept)\nSUBMIT('done')")]
    played = play(replies, sandbox=sandbox, sub=str.upper, max_llm_calls=100, max_children=8)
    assert cells(played) == "True here\nhere\n"
    assert len(processes(sandbox)) <= 5  # bubblewrap's own, the keeper, the kernel, its copy and one on its way out


def test_children_of_threads(full: KernelSandbox) -> None:
    """A pool of the code's may ask for many at once."""
    ask = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    print(list(pool.map(lambda n: rlm_query('?', n=n, outputs='n: int'), range(8))))"
    )
    played = play([code(ask), *[code("SUBMIT(n=n * n)")] * 8, code("SUBMIT('done')")], sandbox=full)
    assert cells(played) == "[0, 1, 4, 9, 16, 25, 36, 49]\n"


def test_a_large_value_is_inherited(sandbox: KernelSandbox) -> None:
    """It is not sent: the child has it from its parent, under whatever name it is passed."""
    text = "x" * 60_000_000
    replies = [
        code("import numpy as np\nbig = np.arange(6_000_000.0)"),
        code("print(rlm_query('?', t=text, a=big, outputs='n: int, s: float'))"),
        code("a[0] = 5\nSUBMIT(n=len(t), s=a.sum())"),
        code("print(big[0])\nSUBMIT('done')"),
    ]
    played = play(replies, "text -> answer: str", sandbox=sandbox, variables={"text": text})
    assert cells(played) == "{'n': 60000000, 's': 17999997000005.0}\n0.0\n"


def test_a_large_value_that_was_changed_since_is_refused(full: KernelSandbox) -> None:
    """With what to do; what was changed is never mistaken for what it was."""
    replies = [
        code("import numpy as np\nbig = np.arange(6_000_000.0)"),
        code("big[0] = 7\nrlm_query('?', a=big)"),
        "(asked while its variables are loaded)",
        code("print(rlm_query('?', a=big, outputs='x: float'))"),
        code("SUBMIT(x=a[0])"),
        code("SUBMIT('done')"),
    ]
    played = play(replies, sandbox=full)
    assert "it takes 46 MB and was made or changed in this very block" in cells(played)
    assert cells(played).endswith("7.0\n")


def the_copy(sandbox: KernelSandbox) -> psutil.Process:
    """The newest suspended copy of a kernel."""
    assert isinstance(sandbox._process, KernelProcess)
    assert sandbox._process.own is not None
    copy = sandbox._process.own.inside.copy
    assert copy is not None
    return psutil.Process(copy.pid)


def test_where_there_is_no_copy_another_kernel_is_started(full: KernelSandbox) -> None:
    """It starts like any kernel, and is as locked as its parent."""

    def kill(outer: Run, event: ev.Event) -> None:
        if isinstance(event, ev.CellStarted) and (event.run, event.cell) == ("1", 2):
            the_copy(full).kill()

    ask = "import time\ntime.sleep(0.1)\nprint(rlm_query('?', df={'a': 1}, outputs='r: str'))"
    child = code(
        "try:\n    open('/etc/hostname')\nexcept OSError as e:\n    r = f'{type(e).__name__} {df}'\nSUBMIT(r=r)"
    )
    played = play([code("x = 1"), code(ask), child, code("SUBMIT('done')")], sandbox=full, on=kill)
    assert cells(played).endswith("FileNotFoundError {'a': 1}\n")


def test_a_parent_that_cannot_be_copied_has_children_of_an_older_copy(full: KernelSandbox) -> None:
    """A library's threads forbid new copies; what the child is given is sent."""
    warm = "import polars as pl\npl.DataFrame({'a': range(100_000)}).group_by('a').len().sort('a')"
    ask = "print(rlm_query('?', df=pl.DataFrame({'a': [1, 2]}), outputs='n: int'))"
    played = play([code(warm), code(ask), code("SUBMIT(n=df['a'].sum())"), code("SUBMIT('done')")], sandbox=full)
    assert cells(played).endswith("3\n")


def test_a_child_that_dies_costs_that_cell_alone(sandbox: KernelSandbox) -> None:
    """It is born again, with what it was given; nothing else is touched."""
    child = [code("import os\nkept = x\nos._exit(3)"), code("SUBMIT(f'{x}')")]
    played = play([code("y = 1\nprint(rlm_query('?', x=5), y)"), *child, code("SUBMIT(str(y))")], sandbox=sandbox)
    assert (cells(played), played.trajectory.values) == ("5 1\n", {"answer": "1"})
    (asked,) = played.trajectory.subcalls
    assert asked.run is not None
    assert [c.status for c in asked.run.cells] == ["died", "submitted"]


def test_a_child_that_is_killed_from_outside(full: KernelSandbox) -> None:
    """As one that dies by itself."""
    killed: list[int] = []

    def kill(outer: Run, event: ev.Event) -> None:
        if isinstance(event, ev.CellOutput) and event.run == "1.1" and not killed:
            (child,) = the_copy(full).children()
            killed.append(child.pid)
            os.kill(child.pid, signal.SIGKILL)

    replies = [code("print(rlm_query('?', x=5))"), code(f"print('up', flush=True)\n{SLEEP}"), code("SUBMIT(str(x))")]
    played = play([*replies, code("SUBMIT('done')")], sandbox=full, on=kill)
    assert (cells(played), len(killed)) == ("5\n", 1)


def test_a_stop_ends_children_in_the_middle_of_their_cells(sandbox: KernelSandbox) -> None:
    """The parent keeps its variables, and no process is left that was theirs."""
    started: list[str] = []

    def stop(outer: Run, event: ev.Event) -> None:
        if isinstance(event, ev.CellOutput) and event.run != "1":
            started.append(event.run)
            if len(started) == 3:
                outer.stop()

    child = code(f"import subprocess\np = subprocess.Popen(['/bin/sleep', '300'])\nprint('up', flush=True)\n{SLEEP}")
    played = play([code("kept = 1\nrlm_batch(['?'] * 3)"), *[child] * 3], sandbox=sandbox, on=stop)
    assert played.trajectory.stop_reason == "interrupted"
    assert {s.run.stop_reason for s in played.trajectory.subcalls if s.run} == {"interrupted"}
    assert not [p for p in processes(sandbox) if "sleep" in p.name()]
    again = play([code("print(kept)\nSUBMIT('done')")], sandbox=sandbox)
    assert cells(again) == "1\n"


def test_files_of_children_are_apart(full: KernelSandbox) -> None:
    """Two that write to the same name do not meet; nothing of theirs is left or listed."""
    ask = (
        "open('f', 'w').write('mine')\n"
        "print(rlm_batch([{'prompt': '?', 'n': n} for n in range(3)], outputs='s: str'), open('f').read())\n"
        "import os; print(sorted(os.listdir()))"
    )
    child = code("import time\nopen('f', 'w').write(str(n))\ntime.sleep(0.2)\nSUBMIT(s=open('f').read())")
    played = play([code(ask), *[child] * 3, code("SUBMIT('done')")], sandbox=full)
    assert cells(played) == "['0', '1', '2'] mine\n['f']\n"
    assert [f.name for f in in_loop(full.files())] == ["f"]


def test_a_child_is_locked_like_its_parent(sandbox: KernelSandbox, level: str) -> None:
    """What its parent cannot do it cannot do either."""
    child = code(
        "import socket, os\nfound = []\n"
        "try:\n    socket.create_connection(('127.0.0.1', 9), 1)\n"
        "except ConnectionRefusedError:\n    found.append('net')\n"
        "except OSError:\n    pass\n"
        "try:\n    os.listdir(os.path.expanduser('~root'))\n    found.append('home')\nexcept OSError:\n    pass\n"
        "SUBMIT(found=found)"
    )
    ask = code("print(rlm_query('?', outputs='found: list[str]'))")
    played = play([ask, child, code("SUBMIT('done')")], sandbox=sandbox)
    expected = [] if level != "none" else ["net", *(["home"] if os.getuid() == 0 else [])]
    assert cells(played) == f"{expected}\n"


def test_children_of_a_kernel_that_was_resumed(full: KernelSandbox) -> None:
    """They are born of what it has become."""
    replies = [
        code("x = 1"),
        code("import os\nos._exit(1)"),
        code("print(rlm_query('?', x=x + 1))"),
        code("SUBMIT(str(x))"),
        code("SUBMIT('done')"),
    ]
    played = play(replies, sandbox=full)
    assert cells(played) == "2\n"


def test_three_levels_of_kernels(full: KernelSandbox) -> None:
    """A child's child is born of the same copy, and has what it is given by its own parent."""
    replies = [
        code("print(rlm_query('?', x=1))"),
        code("SUBMIT(rlm_query('?', x=x + 1))"),
        code("SUBMIT(str(x + 1))"),
        code("SUBMIT('done')"),
    ]
    assert cells(play(replies, sandbox=full, max_depth=3)) == "3\n"


def test_sockets_of_children_are_removed(full: KernelSandbox) -> None:
    """Nothing is left in the folder of the kernel that was theirs."""
    played = play([code("rlm_batch(['?'] * 4)"), *[code("SUBMIT('x')")] * 4, code("SUBMIT('done')")], sandbox=full)
    assert played.error is None
    assert isinstance(full._process, KernelProcess)
    assert sorted(p.name for p in full._process.folder.glob("k-*")) == [f"k-{n}" for n in range(1, 6)]


def test_without_a_copy_there_is_no_birth() -> None:
    """Asked of a kernel that has none, a child says so."""
    made = KernelSandbox(level="none")

    async def bear() -> str:
        await made.put({"x": 1})
        assert isinstance(made._process, KernelProcess)
        child = ChildKernel(made._process)
        try:
            await child.launch()
        except Exception as error:
            return str(error)
        finally:
            await child.end()
            await made.shutdown()
        return ""

    assert in_loop(bear()) == "there is no copy of its parent"
