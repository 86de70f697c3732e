"""A kernelspec of another Python on this machine, which has ipykernel and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from rlm_kernel import RLM, ScriptedModel
from rlm_kernel.errors import TransferError
from rlm_kernel.sandbox.kernel import KernelSandbox
from rlm_kernel.sandbox.remote.providers import check_sandbox
from tests.fakes.state import PLAIN, PLAIN_CHECK
from tests.helpers import code
from tests.sandbox.lab import Lab, lab, notebook


@pytest.fixture
def bare(other_python: str) -> Iterator[Lab]:
    """It, running."""
    with lab(KernelSandbox(other_python)) as made:
        yield made.start()


def test_it_is_that_python(bare: Lab, other_python: str) -> None:
    """The code runs where the kernelspec says, and what is promised is said so."""
    check_sandbox(other_python)
    assert other_python == "bare"
    assert "/venv-" in bare.say("__import__('sys').executable")
    assert bare.sandbox.isolation.startswith("as the kernelspec 'bare' runs it; rlm_kernel adds nothing")


def test_it_reads_our_files(bare: Lab, tmp_path: Path) -> None:
    """A process of this machine is sent nothing: variables and a Path are read where they lie."""
    (tmp_path / "a.txt").write_text("from a file")
    bare.put(path=tmp_path / "a.txt", text="x" * 30_000_000, data={"n": [1, 2]})
    assert bare.say("(path.read_text(), len(text), data)") == "('from a file', 30000000, {'n': [1, 2]})"


def test_it_asks_and_is_stopped(bare: Lab) -> None:
    """Sub-calls, interrupts and deaths are as in every sandbox."""
    assert bare.run("print(llm_batch(['a', 'b']))").text() == "['A', 'B']\n"
    assert bare.stop(bare.begin("print('ready', flush=True)\nwhile True: pass")).status == "interrupted"
    assert bare.run("import os\nos._exit(1)").status == "died"
    bare.start()
    assert bare.run("print(1)").text() == "1\n"


def test_what_it_lacks_is_named(bare: Lab) -> None:
    """A frame needs pandas there, a function cloudpickle; the error says what to install."""
    frame = pd.DataFrame({"a": [1]})
    with pytest.raises(
        TransferError, match=r"variable 'frame' could not be loaded.* no module '(pandas|numpy)'.*install"
    ):
        bare.put(frame=frame)
    twice = notebook("def twice(n): return 2 * n")["twice"]
    with pytest.raises(TransferError, match=r"variable 'twice' could not be loaded.* no module 'cloudpickle': install"):
        bare.put(twice=twice)
    assert bare.say("1") == "1"


def test_its_session_is_saved_and_loaded(other_python: str, tmp_path: Path) -> None:
    """With the functions of its REPL, which need nothing; a class needs cloudpickle there, and says so."""
    model = ScriptedModel(
        [code(PLAIN + "class C: pass"), code("SUBMIT('made')"), code(PLAIN_CHECK + "SUBMIT('as it was')")]
    )
    with RLM("-> answer", model=model, sub_model=model, sandbox=KernelSandbox(other_python)) as rlm:
        rlm("First?")
        kept = rlm.save(tmp_path / "s.rlm")
        assert set(kept.missing) == {"gen", "C"}
        assert kept.missing["C"] == "type: the class C needs cloudpickle, which is not installed here"
        rlm.load(tmp_path / "s.rlm")
        result = rlm("Second?")
    assert result.answer == "as it was", result.trajectory.cells[0].text()
