"""Variables out of real sandboxes and into others, at every level."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel import RLM, ScriptedModel, background
from rlm_kernel.sandbox.isolation.levels import why_not
from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.fakes.state import CHECK, MAKE
from tests.helpers import code, defaults_restored


@pytest.fixture(autouse=True)
def own_defaults() -> Iterator[None]:
    with defaults_restored():
        yield


def make(*cells: str, sandbox: Any = None) -> RLM:
    model = ScriptedModel([code(cell) for cell in cells], sub="s")
    return RLM("-> answer", model=model, sub_model=model, sandbox=sandbox or KernelSandbox())


@pytest.mark.parametrize("level", ["full", "landlock", "none"])
def test_a_session_in_a_kernel(tmp_path: Path, level: str) -> None:
    """What was saved is there again in another kernel, and comes back once more when that is killed."""
    if missing := why_not(level):
        pytest.skip(missing)
    path = tmp_path / "s.rlm"
    with make(MAKE, "SUBMIT('made')", sandbox=KernelSandbox(level=level)) as rlm:
        rlm("First?")
        kept = rlm.save(path)
        assert set(kept.missing) == {"gen"}
        assert rlm._session._journal._entries[-1].code == ""  # type: ignore[union-attr]
    with make(
        CHECK, "import os; os._exit(1)", "SUBMIT(str((f(1), float(big[0]))))", sandbox=KernelSandbox(level=level)
    ) as rlm:
        assert rlm.load(path).variables == kept.variables
        result = rlm.ask("Second?")
    assert [c.status for c in result.trajectory.cells] == ["ok", "died", "submitted"], result.trajectory.cells[0].text()
    assert result.answer == "(12, 1.0)"


def test_from_the_fake_into_a_kernel_and_back(tmp_path: Path) -> None:
    """The file does not depend on where it was made."""
    from rlm_kernel import FakeSandbox

    for n, (source, target) in enumerate(((FakeSandbox(), KernelSandbox()), (KernelSandbox(), FakeSandbox()))):
        with make("k = 1\ndef f(): return k\nx = [llm_query, f]", "SUBMIT('made')", sandbox=source) as rlm:
            rlm("First?")
            rlm.save(tmp_path / f"{n}.rlm")
        with make("k = 5\nSUBMIT(str((f(), x[0] is llm_query, x[1]())))", sandbox=target) as rlm:
            rlm.load(tmp_path / f"{n}.rlm")
            assert rlm("Second?").answer == "(5, True, 5)"


def test_a_save_that_is_broken_off(tmp_path: Path) -> None:
    """The kernel goes on, with its variables; one that hears no interrupt is rebuilt from before."""
    slow = "class Slow:\n    def __reduce__(self):\n        import time\n        while True: time.sleep(0.01)"
    deaf = (
        "class Deaf:\n    def __reduce__(self):\n        import time\n        while True:\n"
        "            try: time.sleep(0.01)\n            except BaseException: pass"
    )
    for kind, cell in (("Slow", slow), ("Deaf", deaf)):
        with make(f"a = 1\n{cell}", f"x = {kind}()", "SUBMIT('x')", "SUBMIT(str(a))") as rlm:
            rlm("First?")

            async def broken_off(rlm: RLM = rlm) -> None:
                saving = asyncio.ensure_future(rlm._session.save(tmp_path / "s.rlm"))
                await asyncio.sleep(0.5)
                saving.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await saving

            background.call(broken_off())
            assert rlm.ask("Second?").answer == "1"
    assert list(tmp_path.iterdir()) == []
