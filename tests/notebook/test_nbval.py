"""Notebooks with `%%rlm` cells as tests: strict nbval with and without the panel, and what programs leave behind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.notebook.book import ROOT, SETUP, environment

CELLS = [
    SETUP,
    "script('x = 6 * 7; print(llm_query(\"is it \" + str(x)))', 'SUBMIT(n=x, why=\"I counted\")', sub='It is.')",
    "%%rlm -> n: int, why: str\nHow many?",
    "rlm_result.n",
    "script('SUBMIT(kept + 1)', sub='It is.')\nrlm_result.stop_reason",
]
MODES = ["", "static", "live"]
"""Values of RLM_PANEL."""


def jupyter(folder: Path, *words: str, **environ: str) -> None:
    """Run one of Jupyter's programs."""
    command = [sys.executable, "-m", "jupyter", *words]
    env = environment(folder, **environ)
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook that was run and saved."""
    path = tmp_path_factory.mktemp("written") / "book.ipynb"
    book: Any = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "python3", "language": "python"}
    nbformat.write(book, path)
    jupyter(path.parent, "execute", "--inplace", str(path))
    return path


def nbval(folder: Path, mode: str, *, plugin: bool = True) -> tuple[int, str]:
    """How pytest ends, and what it says, of the notebooks in a folder."""
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    command += ["-c", os.devnull, "--nbval-cell-timeout=60", str(folder)]
    command += ["-p", "rlm_kernel.nbval"] if plugin else []
    env = environment(folder, **({"RLM_PANEL": mode} if mode else {}))
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False, timeout=150)
    return done.returncode, re.sub(r"\x1b\[[\d;]*m", "", done.stdout)


def copied(written: Path, folder: Path, **changes: str) -> Path:
    """The notebook in a folder of its own, with these texts in its saved outputs replaced; the folder."""
    shutil.copy(written, folder)
    book: Any = nbformat.read(folder / "book.ipynb", as_version=4)
    for old, new in changes.items():
        for output in book.cells[2].outputs:
            assert old in output.data["text/plain"]
            output.data = {kind: text.replace(old, new) for kind, text in output.data.items()}
    nbformat.write(book, folder / "book.ipynb")
    return folder


@pytest.mark.parametrize("mode", MODES)
def test_what_was_saved_is_what_comes_again(written: Path, tmp_path: Path, mode: str) -> None:
    """Every output is compared, and equal: that of a run too, whether it was watched or not."""
    status, said = nbval(copied(written, tmp_path), mode)
    assert status == 0, said
    assert "5 passed" in said


@pytest.mark.parametrize("mode", MODES)
def test_a_changed_answer_fails(written: Path, tmp_path: Path, mode: str) -> None:
    """Where the saved answer is another, the cell of the run fails, and no other."""
    status, said = nbval(copied(written, tmp_path, counted="guessed"), mode)
    assert status == 1, said
    assert re.findall(r"^FAILED .*::(Cell \d+)", said, re.MULTILINE) == ["Cell 2"], said
    assert "mismatch 'text/html'" in said
    assert "1 failed, 4 passed" in said


def test_the_live_mode_is_live(written: Path, tmp_path: Path) -> None:
    """Without our plugin nbval sees the panel alone, not the result that takes its place."""
    status, said = nbval(copied(written, tmp_path), "live", plugin=False)
    assert status == 1
    assert re.search(r"Missing output fields from running code: .*'text/html'", said), said


def widgets(path: Path) -> tuple[set[str], bool]:
    """The kinds of output in a notebook, and whether the state of widgets is saved with it."""
    book: Any = nbformat.read(path, as_version=4)
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return {kind for output in outputs for kind in output.get("data", {})}, "widgets" in book.metadata


def test_programs_leave_no_widget_behind(written: Path) -> None:
    """A notebook that `jupyter execute` ran holds HTML, Markdown and text of its runs, and no widget's state."""
    assert widgets(written) == ({"text/html", "text/markdown", "text/plain"}, False)


def test_executing_the_quickstart_leaves_no_widget_behind(tmp_path: Path) -> None:
    """As the README has it done."""
    for name in ("01_quickstart.ipynb", "01_quickstart.recording.json"):
        shutil.copy(ROOT / "notebooks" / name, tmp_path)
    jupyter(tmp_path, "execute", "--inplace", "01_quickstart.ipynb")
    assert widgets(tmp_path / "01_quickstart.ipynb") == ({"text/html", "text/markdown", "text/plain"}, False)
