"""Tools for code that runs elsewhere: they run here all the same."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rlm_kernel import RLM, DataTool, ScriptedModel
from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.helpers import code


def test_tools_come_along(away: KernelSandbox, tmp_path: Path) -> None:
    """A function of this machine is called from there, data are there, and names of an earlier question go."""
    (tmp_path / "a.txt").write_text("from here")

    def read_file(path: str) -> str:
        """Read a text file."""
        return Path(path).read_text()

    model = ScriptedModel([code(f"SUBMIT(read_file({str(tmp_path / 'a.txt')!r}) + users[0]['name'])")])
    users = DataTool("users", [{"name": "Alice"}], "User records: {name}")
    with RLM("-> answer", model=model, sub_model=model, sandbox=away, tools=[read_file, users]) as rlm:
        assert rlm("Q").answer == "from hereAlice"


def test_a_table_for_a_python_without_pandas(other_python: str) -> None:
    """The code is told what its Python lacks, and goes on."""

    def prices() -> pd.DataFrame:
        return pd.DataFrame({"p": [1.5]})

    def total() -> float:
        return 1.5

    cell = (
        "try:\n    prices()\nexcept Exception as e:\n    said = f'{type(e).__name__}: {e}'\nSUBMIT(f'{said} {total()}')"
    )
    model = ScriptedModel([code(cell)])
    with RLM("-> answer", model=model, sub_model=model, sandbox=other_python, tools=[prices, total]) as rlm:
        assert rlm("Q").answer == "ToolError: the result of prices() needs 'pyarrow', which the sandbox has not got 1.5"
