"""Code that wants out: every attempt at every level, judged by what it reaches outside; and that the judge can tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_kernel.sandbox.isolation.levels import why_not
from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.sandbox.isolation.cells import PRELUDE, Cell
from tests.sandbox.isolation.cells_files import FILES
from tests.sandbox.isolation.cells_kernel import KERNEL
from tests.sandbox.isolation.cells_other import NETWORK, PROCESSES
from tests.sandbox.isolation.outside import Outside
from tests.sandbox.lab import Lab, lab

GROUPS = {"files": FILES, "network": NETWORK, "processes": PROCESSES, "kernel": KERNEL}
CELLS = {f"{group}: {name}": cell for group, cells in GROUPS.items() for name, cell in cells.items()}
LEVELS = ("full", "landlock", "none")


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    """The canaries of this module."""
    made = Outside()
    yield made
    made.close()


@pytest.fixture(scope="module", params=LEVELS)
def level(request: pytest.FixtureRequest) -> str:
    """Every level that this machine can play."""
    wanted: str = request.param
    if missing := why_not(wanted):
        pytest.skip(missing)
    return wanted


@pytest.fixture(scope="module")
def sandbox(level: str, outside: Outside) -> Iterator[Lab]:
    """One sandbox for all attempts at a level."""
    with lab(KernelSandbox(level=level)) as made:
        yield made


def attempt(sandbox: Lab, outside: Outside, cell: Cell) -> tuple[list[str], str]:
    """What the host sees of an attempt, and what the cell said."""
    if not sandbox.sandbox.running:
        sandbox.start()
        assert sandbox.run(PRELUDE).status == "ok"
    inbox = Path(sandbox.sandbox._process.inbox)
    before = {*inbox.iterdir(), *inbox.parent.iterdir()}
    sandbox.run(outside.told(level=sandbox.sandbox.level, inbox=str(inbox)))
    ran = sandbox.run(cell.code)
    assert ran.status == "ok", ran.text()
    found = outside.seen(ran.text())
    for path in {*inbox.iterdir(), *inbox.parent.iterdir()} - before:
        found.append(f"{path.name} was made in the host's folder")
        path.unlink()
    return found, ran.text()


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_attempt(cell: Cell, level: str, sandbox: Lab, outside: Outside) -> None:
    """It reaches nothing where its level says so; where nothing is isolated it does, or this would prove nothing."""
    found, said = attempt(sandbox, outside, cell)

    assert bool(found) == (level == "none" or level in cell.by_design), f"{found}\n{said}"
    assert level == "none" or sandbox.run("print(1)").text() == "1\n"
