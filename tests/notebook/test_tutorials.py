"""The notebooks that ship: clean, recorded, and failing when what they show is no longer so."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.notebook.book import ROOT, environment

FOLDER = ROOT / "notebooks"
BOOKS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
LARGEST_RECORDING = 400_000
"""Bytes: more is not read by people."""
NOISE = re.compile(r"/tmp/|/home/|/root/|/Users/|0x[0-9a-f]{6,}|\x1b\[")
"""Paths of a machine, addresses, colours of a terminal."""
IGNORES = "NBVAL_IGNORE_OUTPUT"
MOST_IGNORED = 0.05
books = pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str = "code") -> list[Any]:
    """The cells of a notebook, of one kind."""
    book: Any = nbformat.read(path, as_version=4)
    return [cell for cell in book.cells if cell.cell_type == kind]


def test_there_are_eight() -> None:
    """Numbered from 1, so that a reader knows where to begin."""
    assert [path.name[:2] for path in BOOKS] == [f"{n:02}" for n in range(1, len(BOOKS) + 1)]
    assert len(BOOKS) == 8


@books
def test_a_notebook_is_clean(path: Path) -> None:
    """No times, widgets or versions are in it; what it shows is."""
    book: Any = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert set(book.metadata) == {"kernelspec", "language_info"}
    assert "version" not in book.metadata.language_info
    for cell in book.cells:
        assert set(cell.metadata) <= {"tags", "editable"}
    kinds = {kind for cell in cells(path) for output in cell.outputs for kind in output.get("data", {})}
    assert "text/html" in kinds
    assert not [kind for kind in kinds if "widget" in kind]


@books
def test_outputs_are_those_of_any_machine(path: Path) -> None:
    """No path, address or colour of the machine that made them; no error that was not meant."""
    for cell in cells(path):
        for output in cell.outputs:
            shown = output.get("text", "") + "".join(map(str, output.get("data", {}).values()))
            assert not NOISE.search(shown), NOISE.search(shown)
            assert output.output_type != "error" or "raises-exception" in cell.metadata.get("tags", ())


def test_few_outputs_are_ignored_and_each_has_its_reason() -> None:
    """One cell in twenty of all at most, with a comment below the mark that says why."""
    code = [cell for path in BOOKS for cell in cells(path)]
    ignored = [cell.source.splitlines() for cell in code if IGNORES in cell.source]
    assert len(ignored) <= MOST_IGNORED * len(code)
    for mark, reason, *_ in ignored:
        assert mark == f"# {IGNORES}"
        assert reason.startswith("# ")
        assert len(reason) > 12


@books
def test_a_recording_says_who_wrote_it(path: Path) -> None:
    """It is JSON that people can read, lies beside its notebook, and says that no model was asked."""
    recording = path.with_suffix(".recording.json")
    document = json.loads(recording.read_text(encoding="utf-8"))
    assert "by hand" in document["note"]
    assert "no model was asked" in document["note"]
    assert recording.stat().st_size < LARGEST_RECORDING
    named = set(re.findall(r"[\w.]+\.recording\.json", "\n".join(cell.source for cell in cells(path))))
    assert named == {recording.name}


@books
def test_a_notebook_says_what_a_reader_should_know(path: Path) -> None:
    """That nobody was asked stands near its top, a cell for the reader's own key and where to go on near its end."""
    prose = [cell.source for cell in cells(path, "markdown")]
    assert prose[0].startswith("# ")
    assert any("no model was asked" in " ".join(text.split()) for text in prose[:2])
    assert any("## With your own key" in text for text in prose[-3:])
    assert prose[-1].startswith("## What next")


# -- drift --------------------------------------------------------------------------------------------------------
def played(folder: Path, source: str) -> str:
    """What a notebook with the sources of another says when it is run there, errors included."""
    book: Any = nbformat.read(folder / source, as_version=4)
    client = NotebookClient(
        book, timeout=120, allow_errors=True, resources={"metadata": {"path": str(folder)}}, kernel_name="python3"
    )
    client.execute(env=environment(folder))
    errors = [o for c in book.cells if c.cell_type == "code" for o in c.outputs if o.output_type == "error"]
    return "\n".join(f"{error.ename}: {error.evalue}" for error in errors)


def copied(folder: Path) -> tuple[Path, Path]:
    """The notebook about the report, and its recording."""
    name = "02_q4_report.ipynb"
    for file in (name, name.replace(".ipynb", ".recording.json")):
        shutil.copy(FOLDER / file, folder)
    return folder / name, folder / name.replace(".ipynb", ".recording.json")


def test_another_character_of_the_data_is_drift(tmp_path: Path) -> None:
    """The recording was made of other data, and says where the difference is."""
    book, _ = copied(tmp_path)
    text = book.read_text(encoding="utf-8")
    assert "$800M" in text
    book.write_text(text.replace("$800M", "$801M", 1), encoding="utf-8")
    said = played(tmp_path, book.name)
    assert "DriftError" in said
    assert "801M" in said


def test_another_character_of_the_code_is_drift(tmp_path: Path) -> None:
    """The code in a recorded reply runs for real, so what comes of it is not what was recorded."""
    book, recording = copied(tmp_path)
    document = json.loads(recording.read_text(encoding="utf-8"))
    reply = document["runs"][0]["conversations"][0]["turns"][0]["reply"]
    lines: list[str] = reply["text"]
    place = next(n for n, line in enumerate(lines) if "print(" in line)
    lines[place] = lines[place].replace("print(", "prints(", 1)
    recording.write_text(json.dumps(document), encoding="utf-8")
    said = played(tmp_path, book.name)
    assert "DriftError" in said
    assert "prints" in said


# -- both ways of showing -----------------------------------------------------------------------------------------
@books
def test_the_live_panel_settles_to_the_same(path: Path, tmp_path: Path) -> None:
    """With the panel, as a person sees it, outputs are those that are saved; without it `pytest --nbval` looks."""
    command = [sys.executable, "-m", "pytest", "--nbval", "-p", "rlm_kernel.nbval", "-p", "no:cacheprovider", "-q"]
    command += ["-c", os.devnull, "--rootdir", str(FOLDER), "--nbval-cell-timeout=120", str(path)]
    env = environment(tmp_path, RLM_PANEL="live")
    done = subprocess.run(command, env=env, cwd=FOLDER, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stdout[-3000:]
