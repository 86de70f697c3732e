"""Nothing is left behind: no process, no folder, no descriptor, also when the host is killed."""

from __future__ import annotations

import asyncio
import gc
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil
import pytest

from tests.sandbox.lab import Lab, lab

DEADLINE_SECONDS = 5


def folders() -> set[str]:
    return {str(p) for p in pathlib.Path(tempfile.gettempdir()).glob("rlm-*")}


def eventually(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + DEADLINE_SECONDS
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def test_shutdown_leaves_nothing(fresh: Lab) -> None:
    """Kernel, janitor, what the cell started, and the folder are gone; a second shutdown is no error."""
    before, children = folders(), set(psutil.Process().children())
    fresh.put(x="y" * 2**20)
    fresh.run("import subprocess\np = subprocess.Popen(['sleep', '300'])\nopen('file', 'w').write('x')")
    begun = set(psutil.Process().children()) - children  # others' kernels leave new copies behind meanwhile
    made = begun.union(*(p.children(recursive=True) for p in begun))
    assert fresh.sandbox.pid in {p.pid for p in made}
    assert ["sleep", "300"] in [p.cmdline() for p in made if p.status() != psutil.STATUS_ZOMBIE]
    fresh.wait(fresh.sandbox.shutdown())
    fresh.wait(fresh.sandbox.shutdown())

    assert before == folders()
    assert children == set(psutil.Process().children())
    assert eventually(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in made))


def test_shutdown_while_a_cell_runs(fresh: Lab) -> None:
    """The cell ends as died and nothing is left."""
    before = folders()
    fresh.start()
    running = fresh.begin("print('ready')\nwhile True: pass")
    fresh.wait(fresh.sandbox.shutdown())

    assert running.result(DEADLINE_SECONDS).status == "died"
    assert before == folders()


def test_a_start_right_after_a_shutdown(fresh: Lab) -> None:
    """The end of a cell that was shut down does not touch the kernel that was started since."""
    fresh.start()
    running = fresh.begin("print('ready')\nwhile True: pass")
    fresh.wait(fresh.sandbox.shutdown())
    fresh.start()

    assert running.result(DEADLINE_SECONDS).status == "died"
    assert fresh.run("print(1)").text() == "1\n"
    assert fresh.sandbox.running


def test_shutdown_while_a_call_is_open(fresh: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is sent to sockets that are closed."""

    async def endless(method: str, params: Mapping[str, Any]) -> Any:
        await asyncio.sleep(60)

    fresh.answer = endless
    fresh.start()
    running = fresh.begin("print('ready', flush=True)\nllm_query('a')")
    fresh.wait(fresh.sandbox.shutdown())

    assert running.result(DEADLINE_SECONDS).status == "died"
    assert [message for record in caplog.records if "Bridge" in (message := record.getMessage())] == []


def test_descriptors_do_not_grow() -> None:
    """Five rounds of start and shutdown cost no descriptor, socket or thread."""
    process = psutil.Process()

    def used() -> tuple[int, int, int]:
        gc.collect()
        return process.num_fds(), len(process.net_connections("all")), process.num_threads()

    with lab() as made:
        counts = []
        for turn in range(6):
            made.put(turn=turn)
            assert f"{turn}\n" == made.run("print(turn)").text()
            made.wait(made.sandbox.shutdown())
            counts.append(used())

    assert counts[0] == counts[-1]


HOST = """
import asyncio, sys
sys.path.insert(0, {root!r})
from rlm_kernel.sandbox.kernel import KernelSandbox

async def handler(method, params): ...

async def main():
    sandbox = KernelSandbox()
    await sandbox.put({{"x": "y" * 2**20}})
    await sandbox.start(handler)
    print(sandbox.pid, sandbox._process.folder, flush=True)
    await sandbox.execute({code!r}, lambda chunk: print("CELL", chunk.text, flush=True))

asyncio.run(main())
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
@pytest.mark.parametrize(
    "code",
    [
        "print('ready')\nwhile True: pass",
        "import subprocess\np = subprocess.Popen(['sleep', '300'])\nprint('ready')\nimport time\ntime.sleep(300)",
        "import signal\nfor s in (2, 15, 1): signal.signal(s, signal.SIG_IGN)\nprint('ready')\nwhile True: pass",
    ],
    ids=["busy", "with a child", "ignores signals"],
)
def test_a_killed_host_leaves_nothing(code: str, end: signal.Signals) -> None:
    """Kernel, children and folder go within seconds after the host's sudden end."""
    root = str(pathlib.Path(__file__).parents[2])
    host = subprocess.Popen(
        [sys.executable, "-c", HOST.format(root=root, code=code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    made: list[psutil.Process] = []
    try:
        assert host.stdout is not None
        pid, folder = host.stdout.readline().split()
        assert "ready" in host.stdout.readline()
        made = [psutil.Process(int(pid)), *psutil.Process(host.pid).children(recursive=True)]
        assert len({p.pid for p in made}) >= 2
        host.send_signal(end)
        host.wait(DEADLINE_SECONDS)

        assert eventually(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in made))
        assert eventually(lambda: not os.path.exists(folder))
    finally:
        host.kill()
        host.wait()
        for process in made:
            if process.is_running():
                process.kill()
        host.stdout.close()
