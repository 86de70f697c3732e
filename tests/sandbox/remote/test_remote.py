"""What holds for every sandbox that shares nothing with this machine: behind ssh, and behind a Jupyter server."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import pickle
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rlm_kernel import RLM, ScriptedModel
from rlm_kernel.errors import TransferError
from rlm_kernel.sandbox.base import RefusedError
from rlm_kernel.sandbox.guest import wire
from rlm_kernel.sandbox.kernel import KernelSandbox
from rlm_kernel.sandbox.remote.upload import PIECE
from tests.helpers import code
from tests.sandbox.lab import PATIENCE_SECONDS, Lab, lab, notebook


def folders() -> set[str]:
    """The sandboxes' folders on this machine."""
    return {p.name for p in Path(tempfile.gettempdir()).glob("rlm-*")}


@pytest.mark.parametrize(
    "value",
    [
        "short",
        "",
        "Grüße, 世界 \U0001f600 \ud800",
        "a" * (PIECE + 1),
        "é" * PIECE,
        b"",
        bytes(range(256)) * (2 * PIECE // 256),
        bytearray(b"x" * (PIECE // 2)),
        {"list": [1, 2.5, None, True], "when": datetime.date(2024, 2, 29)},
        [],
    ],
    ids=lambda value: f"{type(value).__name__}-{len(value)}",
)
def test_a_value_arrives_equal(remote: Lab, value: Any) -> None:
    """Text, bytes and containers are the same over there, in one piece or several."""
    remote.put(value=value)
    remote.run("import hashlib, pickle")
    digest = hashlib.sha256(pickle.dumps(value)).hexdigest()
    said = remote.say("(type(value).__name__, len(value), hashlib.sha256(pickle.dumps(value)).hexdigest())")
    assert said == str((type(value).__name__, len(value), digest))


def test_arrays_and_frames_arrive_equal_and_writable(remote: Lab) -> None:
    """Their buffers travel as they are; over there they are as writable as here."""
    array = np.arange(3 * PIECE // 8 + 5, dtype=np.int64).reshape(-1, 1)
    fixed = np.arange(1000)
    fixed.flags.writeable = False
    frame = pd.DataFrame({"n": np.arange(20_000), "s": [f"row {i}" for i in range(20_000)]})
    remote.put(array=array, fixed=fixed, frame=frame)

    assert remote.say("(array.shape, str(array.dtype), int(array.sum()))") == str(
        (array.shape, "int64", int(array.sum()))
    )
    assert remote.say("(array.flags.writeable, fixed.flags.writeable)") == "(True, False)"
    assert remote.say("(array.__setitem__((0, 0), 7), int(array[0, 0]))") == "(None, 7)"
    pd.testing.assert_frame_equal(remote.fetch("frame"), frame)


def test_functions_and_classes_of_the_notebook_travel(remote: Lab) -> None:
    """They are sent by value: over there nobody has the notebook."""
    names = notebook("class Box:\n    def __init__(self, n): self.n = n\ndef twice(box): return 2 * box.n")
    remote.put(box=names["Box"](21), twice=names["twice"])
    assert remote.say("twice(box)") == "42"


def test_large_data_is_in_no_code(remote: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is executed to load a variable stays short: the data are buffers beside it."""
    codes: list[str] = []
    client = remote.sandbox._client
    run = client.run

    async def spy(code: str, *args: Any, **kwargs: Any) -> Any:
        codes.append(code)
        return await run(code, *args, **kwargs)

    monkeypatch.setattr(client, "run", spy)
    remote.put(big=b"0123456789" * PIECE)

    assert len(codes) == 11
    assert max(map(len, codes)) < 500


def test_a_path_cannot_travel(away: KernelSandbox) -> None:
    """The file is not over there; the error says what to do, and nothing is started or left."""
    before = folders()
    with lab(away) as made:
        with pytest.raises(TransferError, match=r"variable 'p' \(Path\): the sandbox shares no files.*pass what"):
            made.wait(away.put({"ok": 1, "p": Path(__file__)}))
        assert not away.running
        assert folders() == before


def test_sub_calls_from_many_threads(remote: Lab) -> None:
    """They reach the host through the stdin channel and the replies come back in order."""
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(20) as pool: out = list(pool.map(llm_query, [f'q{i}' for i in range(100)]))\n"
        "print(out == [f'Q{i}' for i in range(100)], llm_batch(['a', 'b']))"
    )
    assert remote.run(code).text() == "True ['A', 'B']\n"


def test_long_prompts_and_replies(remote: Lab) -> None:
    """Both may be longer than one message of a server may be."""

    async def answer(method: str, params: Mapping[str, Any]) -> Any:
        return [{"text": "\"'\\é" * (len(p) // 2)} for p in params["prompts"]]

    remote.answer = answer
    ran = remote.run("x = llm_query('p' * 12_000_000)\nprint(len(x), set(x) == set('\"\\'\\\\é'))")
    assert ran.text() == "24000000 True\n"
    assert remote.run("print(len(llm_query('pp')))").text() == "4\n"


def test_an_answer_is_submitted(remote: Lab) -> None:
    """SUBMIT ends the cell once the host accepts; a refusal goes back to the code."""
    got: list[Any] = []

    async def answer(method: str, params: Mapping[str, Any]) -> Any:
        fields = {name: wire.decode(value) for name, value in params["fields"].items()}
        if "rows" not in fields:
            raise RefusedError("the field 'rows' is missing")
        got.append(fields)

    remote.answer = answer
    refused = remote.run("SUBMIT(row=1)")
    assert refused.status == "error"
    assert "the field 'rows' is missing" in refused.text()
    assert remote.run("import numpy\nSUBMIT(rows=numpy.arange(3))\nprint('not reached')").text() == ""
    assert got[0]["rows"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "code",
    [
        "print('ready', flush=True)\nwhile True: pass",
        "import time\nprint('ready', flush=True)\ntime.sleep(600)",
        "import asyncio\nprint('ready', flush=True)\nawait asyncio.sleep(600)",
        "print('ready', flush=True)\nllm_query('never')",
    ],
    ids=["loop", "sleep", "await", "sub-call"],
)
def test_an_interrupt_ends_a_cell_and_keeps_the_state(remote: Lab, code: str) -> None:
    """It goes as a request, not as a signal."""

    async def answer(method: str, params: Mapping[str, Any]) -> Any:
        await asyncio.sleep(600)

    remote.answer = answer
    remote.put(kept=7)
    assert remote.stop(remote.begin(code)).status == "interrupted"
    assert remote.say("kept") == "7"


def test_output_arrives_as_it_comes(remote: Lab) -> None:
    """Text, errors and rich output are told apart; the line of an error is named."""
    ran = remote.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\ndisplay({'a': 1})\n1/0")
    assert ran.status == "error"
    assert ran.text("stdout") == "out\n"
    assert ran.text("stderr") == "err\n"
    assert "ZeroDivisionError" in ran.text("error")
    assert remote.run("v = [1, 2]").changed == {"v": ("list[int]", "2 items", "[1, 2]")}


def test_a_death_is_noticed_and_another_one_starts(away: KernelSandbox) -> None:
    """A cell that ends its process ends as `died`; the next start is an empty sandbox."""
    with lab(away) as made:
        made.put(x=1)
        assert made.run("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)").status == "died"
        assert not made.wait(away.alive())
        made.start()
        assert made.run("print(x)").status == "error"


def test_a_start_that_is_stopped_leaves_nothing(away: KernelSandbox, request: pytest.FixtureRequest) -> None:
    """Stopped in the middle, the start goes on as far as it takes to know what to end, here and there."""
    place = request.getfixturevalue("sshd" if away.isolation.startswith("as the kernelspec") else "server")
    before, there = folders(), place.kernels()
    with lab(away) as made:
        starting = made.later(away.start(made.handle))
        until = time.monotonic() + PATIENCE_SECONDS
        while folders() == before and time.monotonic() < until:
            time.sleep(0.01)
        starting.cancel()
        made.wait(away.shutdown())
        while folders() != before and time.monotonic() < until:
            time.sleep(0.05)
        assert not away.running
        assert folders() == before
        assert place.kernels() == there


def test_a_run_from_start_to_end(away: KernelSandbox) -> None:
    """The loop asks, executes, sends a sub-call and has its answer; closing it leaves no folder here."""
    before = folders()
    code = "```repl\nreply = llm_query(text[:5])\nSUBMIT(n=len(text), reply=reply)\n```"
    model = ScriptedModel([code], sub="heard")
    with RLM("text -> n: int, reply: str", model=model, sub_model=model, sandbox=away) as rlm:
        result = rlm("How long is it?", text="x" * 1_000_000)
    assert (result.n, result.reply) == (1_000_000, "heard")
    assert "rlm_kernel adds nothing" in result.trajectory.isolation
    assert folders() == before


def test_a_session_over_there_is_saved_and_loaded(away: KernelSandbox, tmp_path: Path) -> None:
    """Its variables come back over the kernel's channels, in parts, and go out again."""
    path = tmp_path / "s.rlm"
    cell = "import numpy as np\na = np.arange(2_000_000)\ndef f(): return int(a.sum())\ngen = (i for i in a)"
    replies = [code(cell), code("SUBMIT('made')"), code("SUBMIT(str(f()))")]
    model = ScriptedModel(replies)
    with RLM("-> answer", model=model, sub_model=model, sandbox=away) as rlm:
        rlm("First?")
        assert set(rlm.save(path).missing) == {"gen"}
        assert rlm.load(path).variables == ("np", "a", "f")
        assert rlm.ask("Second?").answer == "1999999000000"
