"""The sandbox kernel's life: state, interrupts, deaths, kernelspecs, and what its code may break."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import signal
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import psutil
import pytest

from rlm_kernel.errors import InputError, SandboxError
from rlm_kernel.sandbox.base import RefusedError, Sandbox
from rlm_kernel.sandbox.kernel import KernelSandbox
from rlm_kernel.sandbox.launch import check_kernelspec
from tests.sandbox.lab import Lab, echo, lab


def folders() -> set[str]:
    return {p.name for p in pathlib.Path(tempfile.gettempdir()).glob("rlm-*")}


def test_it_is_a_sandbox() -> None:
    """It answers to the protocol, and making one starts nothing."""
    before = folders()
    sandbox = KernelSandbox()

    assert isinstance(sandbox, Sandbox)
    assert (sandbox.running, sandbox.pid, sandbox.connection_file) == (False, None, None)
    assert before == folders()


def test_state_persists(kernel: Lab) -> None:
    """Variables, imports and functions of one cell are there in the next."""
    kernel.run("import math\nx = [1]\ndef f(): return math.floor(x[0])")

    assert kernel.run("x[0] = 1.5\nprint(f())").text() == "1\n"


def test_the_same_function_names_work_inside(kernel: Lab) -> None:
    """Sub-calls, batches and submissions go to the handler and come back."""
    assert kernel.run("print(llm_query('a'), llm_batch(['b', 'c']))").text() == "A ['B', 'C']\n"
    ran = kernel.run("try:\n    SUBMIT(answer={1: (2, 3)})\nexcept Exception:\n    pass\nprint('never')")
    assert (ran.status, ran.text()) == ("ok", "")
    assert kernel.asked[-1] == ("submit", {"fields": {"answer": {"$dict": [[1, [2, 3]]]}}, "values": []})


def test_calls_from_many_threads(kernel: Lab) -> None:
    """64 threads at once get their own answers."""
    ran = kernel.run(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(64) as pool: got = list(pool.map(llm_query, [f'p{i}' for i in range(320)]))\n"
        "print(got == [f'P{i}' for i in range(320)])"
    )

    assert ran.text() == "True\n"


def test_a_refusal(kernel: Lab) -> None:
    """It raises SubcallError with the text; a handler's own failure is an error too, never a wait for ever."""

    async def refuse(method: str, params: Mapping[str, Any]) -> Any:
        raise RefusedError("the budget is spent")

    kernel.answer = refuse
    assert "SubcallError: the budget is spent" in kernel.run("llm_query('a')").text("error")


BUSY = {
    "sleep": "import time\ntime.sleep(60)",
    "loop": "while True: pass",
    "call": "llm_query('wait')",
    "batch in threads": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as pool: list(pool.map(llm_query, ['wait'] * 4))"
    ),
    "await": "import asyncio\nawait asyncio.sleep(60)",
    "subprocess": "import subprocess\nsubprocess.run(['sleep', '60'])",
    "printing": "while True: print('x')",
}


@pytest.mark.parametrize("code", BUSY.values(), ids=BUSY)
def test_interrupts(kernel: Lab, code: str) -> None:
    """A busy cell ends as interrupted, several times in a row; the state is kept and the next cell works."""

    async def answer(method: str, params: Mapping[str, Any]) -> Any:
        if params["prompts"] == ["wait"]:
            await asyncio.sleep(60)
        return await echo(method, params)

    kernel.answer = answer
    for turn in range(3):
        running = kernel.begin(f"turn = {turn}\nprint('ready', flush=True)\n{code}")
        kernel.wait(asyncio.sleep(0.15))  # it is well under way
        assert kernel.stop(running).status == "interrupted"
        assert f"{turn} A\n" == kernel.run("print(turn, llm_query('a'))").text()


@pytest.mark.parametrize("code", ["llm_query('wait')", "import threading\nthreading.Event().wait()"])
def test_interrupts_after_polars(fresh: Lab, code: str) -> None:
    """In the cell that imports polars, whose own handler lets a wait go on after a signal, an interrupt still works."""

    async def endless(method: str, params: Mapping[str, Any]) -> Any:
        await asyncio.sleep(60)

    fresh.answer = endless
    fresh.start()
    running = fresh.begin(f"import polars\nprint('ready', flush=True)\n{code}")
    fresh.wait(asyncio.sleep(0.3))
    assert fresh.stop(running).status == "interrupted"


def test_an_interrupt_with_nothing_running(kernel: Lab) -> None:
    """One that comes too late does not hurt the next cell."""
    for _ in range(3):
        kernel.interrupt()

    ran = kernel.run("print(1)")
    assert (ran.status, ran.text()) == ("ok", "1\n")


DEATHS = {
    "exit": "import os\nos._exit(3)",
    "segfault": "import ctypes\nctypes.string_at(0)",
    "kill": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("code", DEATHS.values(), ids=DEATHS)
def test_a_death(fresh: Lab, code: str) -> None:
    """A cell that ends the process is told as died; a new start works, with empty state and the parcels put anew."""
    fresh.put(given=1)
    folder = fresh.sandbox._process.folder
    assert fresh.run("x = 1\n" + code).status == "died"
    assert not fresh.wait(fresh.sandbox.alive())
    assert fresh.run("1").status == "died"
    fresh.put(given=2)

    assert not folder.exists()
    assert fresh.run("print(given, 'x' in globals())").text() == "2 False\n"


def test_killed_from_outside(fresh: Lab) -> None:
    """While a cell runs, or between two cells."""
    fresh.start()
    running = fresh.begin("print('ready')\nwhile True: pass")
    os.kill(fresh.sandbox.pid, signal.SIGKILL)
    assert running.result(20).status == "died"
    fresh.start()
    os.kill(fresh.sandbox.pid, signal.SIGKILL)
    assert fresh.run("1").status == "died"
    fresh.start()
    assert fresh.run("print(1)").text() == "1\n"


@pytest.mark.parametrize("code", ["exit()", "quit()", "import sys\nsys.exit()", "raise SystemExit(1)", "%exit"])
def test_leaving_is_no_death(fresh: Lab, code: str) -> None:
    """`exit()` in model code does not lose the state, now or a moment later."""
    fresh.start()
    fresh.run("kept = 1")
    fresh.run(code)
    fresh.run("import time\ntime.sleep(0.3)")
    fresh.wait(asyncio.sleep(0.5))

    assert fresh.run("print(kept)").text() == "1\n"


def test_the_environment_is_an_allow_list(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """No key and no variable of the notebook enters; the user's IPython is not touched."""
    profile = tmp_path / "ipython"
    monkeypatch.setenv("IPYTHONDIR", str(profile))
    for name in ("CANARY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "PYTHONSTARTUP", "LC_TOKEN"):
        monkeypatch.setenv(name, "canary-value")
    with lab() as made:
        inside = made.start().fetch("dict(__import__('os').environ)")
        environ = pathlib.Path(f"/proc/{made.sandbox.pid}/environ").read_bytes()

    assert [k for k in inside if k in ("CANARY", "PYTHONSTARTUP") or k.endswith("KEY")] == []
    assert b"ANTHROPIC" not in environ
    assert not profile.exists()


def test_history_is_not_written(fresh: Lab) -> None:
    """No file holds the cells: neither the user's history nor one of the sandbox."""
    fresh.start()
    fresh.run("secret_of_the_cell = 1")
    folder = fresh.sandbox._process.folder
    found = [p for p in folder.rglob("*") if p.is_file() and b"secret_of_the_cell" in p.read_bytes()]

    assert found == []


def test_the_transport_is_ipc(kernel: Lab) -> None:
    """The connection file says ipc and only its owner reads it; no host or port is offered."""
    file = pathlib.Path(kernel.sandbox.connection_file)
    connection = json.loads(file.read_text())

    assert connection["transport"] == "ipc"
    assert connection["key"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_the_working_directory_is_its_own(kernel: Lab) -> None:
    """Files go to a scratch folder, not to where the notebook is."""
    assert kernel.say("__import__('os').getcwd()") == "/tmp/scratch"
    assert kernel.say("*__import__('os').listdir()") == ""


def test_two_sandboxes_do_not_meet(fresh: Lab, kernel: Lab) -> None:
    """Variables, handlers and interrupts are each one's own."""
    fresh.put(x="second")
    kernel.put(x="first")

    async def other(method: str, params: Mapping[str, Any]) -> Any:
        return [{"text": "other"}]

    fresh.answer = other
    running = kernel.begin("print('ready')\nimport time\ntime.sleep(60)")
    fresh.interrupt()
    assert fresh.run("print(x, llm_query('a'))").text() == "second other\n"
    assert not running.done()
    kernel.stop(running)
    assert kernel.run("print(x, llm_query('a'))").text() == "first A\n"


def test_start_twice(kernel: Lab) -> None:
    """The kernel and its state stay; the new handler answers."""
    pid = kernel.sandbox.pid
    kernel.run("kept = 1")

    async def other(method: str, params: Mapping[str, Any]) -> Any:
        return [{"text": "other"}]

    kernel.wait(kernel.sandbox.start(other))
    assert kernel.run("print(kept, llm_query('a'))").text() == "1 other\n"
    assert pid == kernel.sandbox.pid


def test_a_thread_that_outlives_its_cell(kernel: Lab) -> None:
    """It gets a clear error when it asks while no cell runs; the next cell's calls work."""
    kernel.run(
        "import threading\ngo, got = threading.Event(), []\n"
        "def late():\n    go.wait()\n"
        "    try: got.append(llm_query('a'))\n    except SubcallError as e: got.append(str(e))\n"
        "t = threading.Thread(target=late, daemon=True); t.start()\n"
        "threading.Timer(0.2, go.set).start()"
    )
    kernel.wait(asyncio.sleep(0.5))

    assert "no cell is running" in kernel.run("t.join(5); print(got)").text()
    assert kernel.asked == []
    assert kernel.run("print(llm_query('b'))").text() == "B\n"


def test_a_call_that_is_open_when_its_cell_ends(kernel: Lab) -> None:
    """The thread that waits for it gets an error."""

    async def endless(method: str, params: Mapping[str, Any]) -> Any:
        await asyncio.sleep(60)

    kernel.answer = endless
    kernel.run(
        "import threading, time\ngot = []\n"
        "def late():\n    try: got.append(llm_query('a'))\n    except SubcallError as e: got.append(str(e))\n"
        "t = threading.Thread(target=late, daemon=True); t.start(); time.sleep(0.2)"
    )

    assert "the cell that asked has ended" in kernel.run("t.join(5); print(got)").text()


BREAKERS = {
    "closes stdout": "import sys\nsys.stdout.close()",
    "closes stderr": "import sys\nsys.stderr.close()",
    "stdout is None": "import sys\nsys.stdout = None",
    "stdout is text": "import io, sys\nsys.stdout = sys.stderr = io.StringIO()",
    "stdout without methods": "import sys\nsys.stdout = object()",
    "a redirect that is never left": "import contextlib, io\ncontextlib.redirect_stdout(io.StringIO()).__enter__()",
    "descriptors closed": "import os\nos.close(1); os.close(2)",
    "print is a variable": "print = 5",
    "open is a variable": "open = 5",
    "builtins overwritten": "__builtins__ = {}",
    "builtins.print": "import builtins\nbuiltins.print = None",
    "globals cleared": "globals().clear()",
    "names deleted": "for n in list(globals()): del globals()[n]",
    "the guest deleted": "del __rlm__",
    "the guest overwritten": "__rlm__ = 5",
    "%reset": "%reset -f",
    "settrace": "import sys\nsys.settrace(lambda *a: 1 / 0)",
    "recursion limit": "import sys\nsys.setrecursionlimit(120)",
    "signal ignored": "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)",
    "working directory gone": "import os, shutil\nshutil.rmtree(os.getcwd())",
    "another loop": "import asyncio\nasyncio.set_event_loop(asyncio.new_event_loop())",
    "kernel.raw_input": "get_ipython().kernel.raw_input('x')",
    "stdin read": "import sys\nsys.stdin.read()",
    "hidden name": "__name__ = 'other'",
}


@pytest.mark.parametrize("code", BREAKERS.values(), ids=BREAKERS)
def test_code_that_breaks_its_surroundings(fresh: Lab, code: str) -> None:
    """The next cell runs, its output and changes are seen, variables can be put and sub-models asked."""
    fresh.start()
    fresh.run(code)
    ran = fresh.run("import sys\nfresh_value = [1]\nsys.stdout.write('out\\n')\nsys.stderr.write('err\\n')\nNone")
    assert (ran.status, ran.text("stdout"), ran.text("stderr")) == ("ok", "out\n", "err\n")
    assert {"fresh_value"} == set(ran.changed)
    fresh.put(given=(1,))
    assert fresh.run("sys.stdout.write(f'{given} {llm_query(\"a\")}')\nNone").text("stdout") == "(1,) A"


SABOTAGE = {
    "builtins.len": "import builtins\nbuiltins.len = None",
    "json": "import json\njson.dumps = None",
    "the sockets": "get_ipython().kernel.iopub_socket.close()",
    "the hooks": "get_ipython().events.callbacks['post_run_cell'].clear()",
}


@pytest.mark.parametrize("code", SABOTAGE.values(), ids=SABOTAGE)
def test_code_that_breaks_the_kernel(fresh: Lab, code: str) -> None:
    """A kernel that its own code made deaf can be shut down and started anew, whatever became of the cell."""
    fresh.start()
    running = fresh.begin(code, ready=None)
    fresh.wait(asyncio.sleep(0.3))
    fresh.wait(fresh.sandbox.shutdown())
    assert running.result(20).status in ("ok", "error", "died")
    fresh.put(given=1)
    assert fresh.run("print(given, llm_query('a'))").text() == "1 A\n"


def _spec(folder: pathlib.Path, name: str, argv: list[str]) -> None:
    place = folder / "kernels" / name
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": name, "language": "python"}))


@pytest.fixture
def specs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    _spec(tmp_path, "good", [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])
    dies = "import sys; print('starting', flush=True); sys.exit('no licence was found')"
    _spec(tmp_path, "dies", [sys.executable, "-c", dies])
    _spec(tmp_path, "missing", ["/no/such/python", "-f", "{connection_file}"])
    return tmp_path


def test_another_kernelspec(specs: pathlib.Path) -> None:
    """Any installed one of an ipykernel will do."""
    check_kernelspec("good")
    with lab(KernelSandbox("good")) as made:
        made.put(x=1)
        assert made.run("print(x, llm_query('a'))").text() == "1 A\n"


def test_an_unknown_kernelspec(specs: pathlib.Path) -> None:
    """The error lists what is installed and guesses what was meant; nothing is started."""
    before = folders()
    with pytest.raises(InputError, match=r"'goood' \(did you mean 'good'\?\); installed: .*dies.*good"):
        check_kernelspec("goood")
    with pytest.raises(InputError, match="no kernelspec"):
        check_kernelspec("../../etc")

    assert before == folders()


@pytest.mark.parametrize(("name", "says"), [("dies", "no licence was found"), ("missing", "/no/such/python")])
def test_a_kernelspec_that_cannot_start(specs: pathlib.Path, name: str, says: str) -> None:
    """The error has the process's last words, and nothing is left of it."""
    before, children = folders(), set(psutil.Process().children())
    with lab(KernelSandbox(name)) as made:
        made.wait(made.sandbox.put({"x": "y" * 2**20}))
        with pytest.raises(SandboxError, match=f"kernelspec '{name}' did not start.*{says}") as caught:
            made.start()
        assert len(str(caught.value).splitlines()) == 1
        assert before == folders()
        assert children == set(psutil.Process().children())
        assert made.run("1").status == "died"


def test_an_unknown_kernelspec_at_start(specs: pathlib.Path) -> None:
    """A sandbox made with a name that is not installed says so and leaves nothing."""
    before = folders()
    with lab(KernelSandbox("nowhere")) as made:
        with pytest.raises((SandboxError, InputError), match="nowhere"):
            made.start()
        assert before == folders()
