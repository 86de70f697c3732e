"""Whole notebooks: how the extension comes and goes, what the environment says, what is left when a kernel ends."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.notebook.book import SETUP, Book, within


@contextlib.contextmanager
def opened(folder: Path, config: str = "", **more: Any) -> Iterator[Book]:
    if config:
        profile = folder / "ipython" / "profile_default"
        profile.mkdir(parents=True)
        (profile / "ipython_config.py").write_text(config)
    book = Book(folder, **more)
    try:
        yield book
    finally:
        book.close()


SCRIPT = SETUP.replace("%load_ext rlm_kernel\n", "")
ANSWER = "%%rlm -> n: int\nQ"
_PID = "get_ipython().magics_manager.registry['RLMMagics']._sandboxes.current.sandbox.pid"


# -- coming and going ---------------------------------------------------------------------------------------------
def test_load_unload_reload(tmp_path: Path) -> None:
    """Each may be done at any time; unloading takes the magics away and ends the sandbox."""
    with opened(tmp_path) as book:
        book.ok("script('SUBMIT(1)')")
        book.ok(ANSWER)
        pid = book.value(_PID)
        book.ok("%unload_ext rlm_kernel")
        assert within(10, lambda: not psutil.pid_exists(pid))
        assert book.run(ANSWER).status == "error"
        assert book.run("%rlm status").status == "error"
        assert [o for o in book.complete("%%rlm --fr") if o.endswith("--fresh")] == []
        book.ok("%load_ext rlm_kernel")
        book.ok("script('SUBMIT(2)', 'SUBMIT(3)')")
        book.ok(ANSWER)
        book.ok("%reload_ext rlm_kernel")
        book.ok(ANSWER)
        assert book.value("rlm_result.n") == 3
        assert book.complete("%%rlm --fr") == ["%%rlm --fresh"]


def test_lazy_loading(tmp_path: Path) -> None:
    """With `lazy_magics` in IPython's configuration, the first `%%rlm` loads the extension, and nothing before."""
    config = "c = get_config()\nc.MagicsManager.lazy_magics = {'rlm': 'rlm_kernel'}\n"
    with opened(tmp_path, config, setup="") as book:
        book.ok("import json, sys")
        assert book.value("'rlm_kernel' in sys.modules") is False
        book.ok(SCRIPT)
        book.ok("script('SUBMIT(1)')")
        assert book.value("'rlm_kernel.magic' in sys.modules") is False
        book.ok(ANSWER)
        assert book.value("rlm_result.n") == 1


def test_configuration_and_environment(tmp_path: Path) -> None:
    """`c.RLMMagics` in IPython's configuration goes before `RLM_*` in the environment."""
    config = "c = get_config()\nc.RLMMagics.max_iterations = 3\nc.RLMMagics.quiet = True\n"
    with opened(tmp_path, config, RLM_MAX_ITERATIONS="7", RLM_MAX_ERRORS="2") as book:
        found = "(o := rlm_kernel.config.defaults()) and [o.max_iterations, o.max_errors, o.quiet, o.max_llm_calls]"
        assert book.value(found) == [3, 2, True, 50]
        traits = "(m := get_ipython().magics_manager.registry['RLMMagics']) and [m.max_iterations, m.max_errors]"
        assert book.value(traits) == [3, 2]


@pytest.mark.parametrize(
    ("config", "environ"),
    [
        ("c = get_config()\nc.RLMMagics.max_iterations = 0\n", {}),
        ("", {"RLM_MAX_ITERATIONS": "abc"}),
        ("", {"RLM_QUIET": "perhaps"}),
    ],
)
def test_a_wrong_default_is_one_line_when_loading(tmp_path: Path, config: str, environ: dict[str, str]) -> None:
    """It is told when the extension is loaded, and the notebook goes on."""
    with opened(tmp_path, config, setup="", **environ) as book:
        text = book.run("%load_ext rlm_kernel").usage_error
        assert next(iter(environ), "max_iterations") in text
        book.ok("1 + 1")


# -- outputs ------------------------------------------------------------------------------------------------------
def executed(tmp_path: Path, *cells: str, **environ: str) -> Any:
    """A notebook of these cells, run from top to bottom by nbclient."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in (SETUP, *cells)])
    tmp_path.mkdir(parents=True, exist_ok=True)
    before = dict(os.environ)
    os.environ.update(environ, IPYTHONDIR=str(tmp_path / "ipython"), PYTHONPATH=str(Path(__file__).parents[2]))
    try:
        with contextlib.suppress(CellExecutionError):
            NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return notebook


def test_live_and_static_display_settle_alike(tmp_path: Path) -> None:
    """A saved notebook holds one output per run: the same HTML, Markdown and text, and no widget."""
    cells = ("script('x = 1; print(llm_query(\"a\"))', 'SUBMIT(42)', sub='r')", "%%rlm -> n: int\nHow many?")
    live = executed(tmp_path / "live", *cells).cells[-1].outputs
    static = executed(tmp_path / "static", *cells, RLM_PANEL="static").cells[-1].outputs
    assert (len(live), len(static)) == (1, 1)
    assert {"text/html", "text/markdown", "text/plain"} == set(live[0].data) == set(static[0].data)
    assert live[0].data["text/plain"] == static[0].data["text/plain"]
    assert live[0].metadata == static[0].metadata


def test_the_text_output_is_the_same_each_time(tmp_path: Path) -> None:
    """It holds no duration, id or address, so strict comparison passes."""
    cells = ("script('x = object()\\nx', 'SUBMIT(42)')", "%%rlm -> n: int\nHow many?")
    texts = {
        executed(tmp_path / str(i), *cells, RLM_PANEL="static").cells[-1].outputs[0].data["text/plain"] for i in (1, 2)
    }
    assert len(texts) == 1


def test_run_all_stops_after_a_failing_cell(tmp_path: Path) -> None:
    """A usage error, a failed model and a drift stop it like any error."""
    for failing in ("%%rlm nothing\nQ", "%%rlm\nQ"):
        notebook = executed(tmp_path / str(len(failing)), "script()", failing, "print('not reached')")
        assert notebook.cells[-1].outputs == []
        assert notebook.cells[-1].execution_count is None


# -- apart and gone -----------------------------------------------------------------------------------------------
def test_two_notebooks_do_not_meet(tmp_path: Path) -> None:
    """Each has its own sandbox, results and defaults."""
    with opened(tmp_path / "a") as first, opened(tmp_path / "b") as second:
        for number, book in enumerate((first, second)):
            book.ok(f"script('kept = {number}\\nSUBMIT(kept)', 'SUBMIT(kept)')")
            book.ok(ANSWER)
        for number, book in enumerate((first, second)):
            book.ok(ANSWER)
            assert number == book.value("rlm_result.n")
        pids = {b.value(_PID) for b in (first, second)}
        assert len(pids) == 2


@pytest.mark.parametrize("ending", ["kill", "shutdown", "restart"])
def test_a_notebook_kernel_that_ends_leaves_nothing_behind(tmp_path: Path, ending: str) -> None:
    """Killed, shut down or restarted: its sandbox's process and folder go with it."""
    folder = tempfile.mkdtemp(prefix="t")  # short, for the sockets' sake
    book = Book(tmp_path, TMPDIR=folder)
    try:
        book.ok("script('SUBMIT(1)')")
        book.ok(ANSWER)
        pid = book.value(_PID)
        assert psutil.pid_exists(pid)
        if ending == "kill":
            provisioner: Any = book.manager.provisioner
            os.kill(provisioner.pid, signal.SIGKILL)
        elif ending == "shutdown":
            book.client.stop_channels()
            book.manager.shutdown_kernel()
        else:
            book.manager.restart_kernel()
        assert within(15, lambda: not psutil.pid_exists(pid))
        assert within(15, lambda: [n for n in os.listdir(folder) if n.startswith("rlm-")] == [])
    finally:
        book.close()
