"""The limit on a cell's time of the processor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rlm_kernel.sandbox.isolation.policy import Limits
from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.sandbox.lab import Lab, lab

TOLD = "Stopped: a block may use 0.6 s of CPU time."


@pytest.fixture(scope="module")
def busy(level: str) -> Iterator[Lab]:
    """A sandbox whose cells may compute for 0.6 s."""
    with lab(KernelSandbox(level=level, limits=Limits(cpu=0.6))) as made:
        yield made.start()


def test_a_cell_that_computes_for_ever(busy: Lab) -> None:
    """It is stopped, the model is told the limit, and the state is kept."""
    ran = busy.run("kept = 1\nwhile True: pass")

    assert (ran.status, ran.result.why) == ("timeout", TOLD)
    assert busy.run("print(kept)").text() == "1\n"


def test_each_cell_has_its_own_time(busy: Lab) -> None:
    """What earlier cells used does not count, nor does waiting."""
    for _ in range(3):
        code = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\ntime.sleep(0.5)"
        assert busy.run(code).status == "ok"


@pytest.mark.parametrize("waited", [True, False], ids=["ended", "running"])
def test_its_processes_count(busy: Lab, waited: bool) -> None:
    """Those that run, and those that have ended and were waited for."""
    count, seconds = (20, 0.1) if waited else (2, 60)
    ran = busy.run(
        f"import os, time\nfor _ in range({count}):\n    pid = os.fork()\n    if not pid:\n"
        f"        while time.process_time() < {seconds}: pass\n        os._exit(0)\n"
        f"    if {waited}: os.waitpid(pid, 0)\ntime.sleep(30)"
    )

    assert (ran.status, ran.result.why) == ("timeout", TOLD)


def test_without_a_limit(level: str) -> None:
    """None lets it compute."""
    with lab(KernelSandbox(level=level, limits=Limits(cpu=None))) as made:
        assert made.start().run("import time\nwhile time.process_time() < 2: pass").status == "ok"
