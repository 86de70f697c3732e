"""Nothing outlives the tests: no process, no folder.

The whole run works in a temporary folder of its own, so what a sandbox leaves can be told from what other programs do.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import psutil
import pytest

_PATIENCE_SECONDS = 10.0


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """After the last test, no child process and no folder of a sandbox is there; or the run fails."""
    tmp_path_factory.getbasetemp()  # pytest's own stays where it is
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    home = Path(tempfile.mkdtemp(prefix="rt-"))  # short: the path of an ipc socket must fit 107 bytes
    tempfile.tempdir = os.environ["TMPDIR"] = str(home)
    already = {p.pid for p in psutil.Process().children(recursive=True)}
    yield
    tempfile.tempdir = before
    os.environ.pop("TMPDIR", None)
    if variable is not None:
        os.environ["TMPDIR"] = variable
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (left := _left(home, already)) and time.monotonic() < deadline:
        time.sleep(0.1)
    shutil.rmtree(home, ignore_errors=True)
    if left:
        pytest.fail("the tests left something behind:\n  " + "\n  ".join(left), pytrace=False)


def _left(home: Path, already: set[int]) -> list[str]:
    """Children of this process, processes anywhere that work in `home`, and sandboxes' folders."""
    found = [f"folder {path}" for path in home.glob("rlm-*")]
    children = {p.pid for p in psutil.Process().children(recursive=True)} - already
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
            if process.status() == psutil.STATUS_ZOMBIE and process.pid not in children:
                continue
        except psutil.Error:
            continue
        if process.pid in children or any(str(home) in word for word in line):
            found.append(f"process {process.pid}: {' '.join(line)[:200] or process.status()}")
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything that tests need has been installed, a skipped test is a failed one."""
    report = yield
    if os.environ.get("RLM_CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report
