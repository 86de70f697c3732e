"""What a cell of the sandbox kernel puts out, and in which order."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator

import pytest

from rlm_kernel.sandbox.base import Chunk
from rlm_kernel.sandbox.cell import MAX_MESSAGES, RunningCell
from rlm_kernel.sandbox.isolation.policy import MB, Limits
from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.sandbox.lab import Lab, lab


@pytest.fixture(scope="module")
def roomy() -> Iterator[Lab]:
    """A kernel whose cells may put out more than is kept."""
    with lab(KernelSandbox(limits=Limits(output=64))) as made:
        yield made.start()


def test_the_order_of_output(kernel: Lab) -> None:
    """stdout, stderr, displays and the result come as they were made."""
    ran = kernel.run(
        "import sys\nfrom IPython.display import display\n"
        "print('1')\nprint('2', file=sys.stderr)\ndisplay('3')\nprint('4')\nsys.stderr.write('5\\n')\nprint('6')\n'7'"
    )

    expected = [("stdout", "1"), ("stderr", "2"), ("display", "'3'"), ("stdout", "4"), ("stderr", "5"), ("stdout", "6")]
    assert [*expected, ("result", "'7'")] == [(c.kind, c.text.strip()) for c in ran.chunks]
    assert ran.status == "ok"


def test_output_comes_before_the_exception(kernel: Lab) -> None:
    """Everything printed until then arrives first."""
    ran = kernel.run("for i in range(1000): print(i)\nprint('é\\r\\n', end='')\n1 / 0")

    assert "".join(f"{i}\n" for i in range(1000)) + "é\r\n" == ran.text("stdout")
    assert ran.chunks[-1].kind == "error"
    assert ran.status == "error"


def test_output_while_the_cell_runs(kernel: Lab) -> None:
    """A line is seen before the cell has ended."""
    running = kernel.begin("print('ready')\nimport time\nwhile True: time.sleep(0.01)")
    assert not running.done()
    kernel.stop(running)


def test_output_of_processes_and_descriptors(kernel: Lab) -> None:
    """What a child process or C code writes arrives too."""
    ran = kernel.run(
        "import os, subprocess\nsubprocess.run(['echo', 'child'])\nos.write(1, b'raw\\n')\n!echo shell $HOME"
    )

    assert "child" in ran.text("stdout")
    assert "raw" in ran.text("stdout")
    assert "shell /" in ran.text("stdout")


def test_rich_display(kernel: Lab) -> None:
    """A display carries its MIME bundle."""
    ran = kernel.run("from IPython.display import HTML, display\ndisplay(HTML('<b>x</b>'))\nHTML('<i>y</i>')")

    assert [(c.kind, c.data["text/html"]) for c in ran.chunks] == [("display", "<b>x</b>"), ("result", "<i>y</i>")]


def test_frames_and_arrays(kernel: Lab) -> None:
    """pandas and numpy show as in any notebook."""
    frame = kernel.run("import pandas as pd, numpy as np\npd.DataFrame({'a': [1, 2]})").chunks[0]
    array = kernel.run("np.arange(3)").chunks[0]

    assert "<table" in frame.data["text/html"]
    assert "a\n0  1\n1  2" in frame.text
    assert array.text == "array([0, 1, 2])\n"


def test_top_level_await_and_magics(kernel: Lab) -> None:
    """A cell is a notebook cell."""
    assert kernel.run("import asyncio\nawait asyncio.sleep(0.01)\nprint('done')").text() == "done\n"
    assert kernel.run("%%capture out\nprint(7)").text() + kernel.run("print(out.stdout, end='')").text() == "7\n"
    assert "UsageError" in kernel.run("%nosuchmagic").text()


def test_an_empty_cell(kernel: Lab) -> None:
    """Nothing, comments only and blank lines are fine."""
    assert [kernel.run(code).status for code in ("", "# nothing", "\n\n")] == ["ok"] * 3


def test_changes_arrive(kernel: Lab) -> None:
    """What the cell did to the namespace comes with the result, after an error too."""
    ran = kernel.run("import math\nfresh_name = [1]\n_hidden = 2\nSUBMIT = 3\n1 / 0")
    assert ran.changed == {"fresh_name": ("list[int]", "1 items", "[1]")}
    assert ran.result.restored == ("SUBMIT",)
    assert kernel.run("del fresh_name").result.removed == ("fresh_name",)
    kernel.put(given=1)
    assert kernel.run("given").changed == {}


def test_line_numbers(kernel: Lab) -> None:
    """The traceback has the line of every frame of the cell, outermost first, with its code, and no other frame."""
    error = kernel.run("def f(x):\n    return 1 / x\n\ndef g(x):\n    y = f(x)\n    return y\n\ng(0)").text("error")

    assert error.splitlines() == [
        "Traceback:",
        "  line 8: g(0)",
        "  line 5, in g: y = f(x)",
        "  line 2, in f: return 1 / x",
        "ZeroDivisionError: division by zero",
    ]


def test_functions_of_earlier_cells(kernel: Lab) -> None:
    """A frame in another cell shows that cell's code."""
    kernel.run("# first\ndef earlier():\n    raise KeyError('k')")
    error = kernel.run("earlier()").text("error")

    assert "  line 1: earlier()" in error
    assert "line 3, in earlier: raise KeyError('k')" in error


def test_a_syntax_error(kernel: Lab) -> None:
    """It names the line and shows it."""
    ran = kernel.run("a = 1\nb = (2,\nc = = 3")

    assert ran.status == "error"
    assert "SyntaxError: line " in ran.text("error")
    assert "IndentationError: line 2" in kernel.run("if 1:\nx").text("error")


def test_chained_exceptions(kernel: Lab) -> None:
    """The cause is named, whether it was given or simply there before."""
    body = "def parse(): int('x')\ntry:\n    parse()\nexcept ValueError as e:\n    raise RuntimeError('later'){}"
    explicit = kernel.run(body.format(" from e")).text("error")
    implicit = kernel.run(body.format("")).text("error")
    hidden = kernel.run(body.format(" from None")).text("error")

    for text in (explicit, implicit):
        assert "RuntimeError: later" in text.splitlines()[-1]
        assert "invalid literal for int()" in text
    assert "invalid literal" not in hidden


def test_library_frames(kernel: Lab) -> None:
    """Of a library, the frame that raised is shown, without this machine's path; the guest's are not."""
    error = kernel.run("import json\njson.loads('{')").text("error")

    assert "  line 2: json.loads('{')" in error
    assert "json/decoder.py, in raw_decode" in error
    assert sys.prefix not in error
    assert "/lib/python" not in error
    for code in ("llm_query(5)", "SUBMIT(a=object())", "llm_batch([None])", "FINAL_VAR('nope')"):
        shown = kernel.run(code).text("error")
        assert "rlm_guest" not in shown
        assert f"  line 1: {code}" in shown


def test_no_version_of_python_in_a_traceback(kernel: Lab) -> None:
    """A module at the top of Python's own library is named alone: its folder would make recordings differ."""
    error = kernel.run("import shutil\nshutil.copy('nothing', 'x')").text("error")

    assert "\n  shutil.py, in copyfile" in error
    assert "python3" not in error


def test_no_path_of_this_machine_in_warnings(kernel: Lab) -> None:
    """A warning of the cell's code names its line, not a file of this machine that changes with every run."""
    text = kernel.run("import warnings\nwarnings.warn('careful')").text("stderr")

    assert "careful" in text
    assert "/tmp/" not in text


def test_long_recursion(kernel: Lab) -> None:
    """A thousand frames are told in a few lines."""
    error = kernel.run("def f(n): return f(n + 1)\nf(0)").text("error")

    assert "RecursionError" in error
    assert "more frames" in error
    assert len(error.splitlines()) < 15


HOSTILE = {
    "str raises": "class E(Exception):\n    def __str__(self): raise ValueError('x')\nraise E",
    "the cause's str raises": "class E(Exception):\n    def __str__(self): 1 / 0\nraise KeyError('outer') from E()",
    "the context's str raises": "class E(Exception):\n    def __str__(self): 1/0\ntry: raise E\nexcept E: 0 / 0",
    "group": "raise ExceptionGroup('several', [ValueError('inner'), TypeError(2)])",
    "not an Exception": "class E(BaseException): pass\nraise E('base')",
    "long": "raise ValueError('x' * 1000)",
    "lone surrogate": "raise ValueError('\\ud800')",
    "made without a frame": "exec('raise ValueError(1)')",
    "code from a string": "exec('def f():\\n    return 1 / 0')\nf()",
    "a syntax error at run time": "exec('a = = 1')",
    "its own cause": "e = ValueError('loop')\ne.__cause__ = e\nraise e",
}


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE)
def test_odd_exceptions(kernel: Lab, code: str) -> None:
    """There is a short error whatever is raised, without a word of how it was made, and the next cell works."""
    ran = kernel.run(code)

    assert ran.status == "error"
    assert ran.text("error").strip()
    assert "rlm_guest" not in ran.text()
    assert "IPython" not in ran.text()
    assert len(ran.text().splitlines()) < 20
    assert kernel.run("print('next')").text() == "next\n"


def test_odd_characters(kernel: Lab) -> None:
    """Text with lone surrogates and NUL prints, shows and raises like any other; what was printed before it is kept."""
    ran = kernel.run("print('before')\nprint('<\\ud800>', '\\0')\nprint('after')\n'\\udfff'")
    assert ran.status == "ok"
    assert ran.text("stdout").startswith("before\n<")
    assert ran.text("stdout").endswith("after\n")
    error = kernel.run("raise ValueError('<\\ud800>')").text("error")
    assert "  line 1: raise" in error
    assert "ValueError: <" in error


def test_sub_exceptions_of_a_group_are_told(kernel: Lab) -> None:
    """The model learns what is inside an ExceptionGroup."""
    assert "inner" in kernel.run(HOSTILE["group"]).text("error")


def test_the_line_of_a_syntax_error_at_run_time(kernel: Lab) -> None:
    """The model learns which of its lines executed the broken text."""
    assert "line 3" in kernel.run("a = 1\n\nexec('a = = 1')").text("error")


def test_input_is_refused(kernel: Lab) -> None:
    """Nobody can type: input and getpass say so at once, every time, however they are reached."""
    for code in (
        "input('Name? ')",
        "import getpass\ngetpass.getpass()",
        "getpass.getpass(prompt='p', stream=None)",
        "import builtins\nbuiltins.input()",
        "from getpass import getpass as g\ng()",
    ):
        error = kernel.run(code).text("error")
        assert "RuntimeError: input() is not available" in error


def test_twenty_megabytes(roomy: Lab) -> None:
    """Head and tail are kept, and between them it says how much was dropped."""
    ran = roomy.run("for i in range(2_000_000): print(f'{i:09d}')")
    text = ran.text("stdout")
    head, _, rest = text.partition("\n… [")
    count, _, tail = rest.partition(" characters of output were not kept] …\n")

    assert ran.status == "ok"
    assert head.startswith("000000000\n000000001\n")
    assert tail.endswith("001999999\n")
    assert len(head) + len(tail) + int(count.replace(",", "")) == 20_000_000
    assert len(head) == 16 * MB
    assert MB <= len(tail) < 2 * MB


def test_a_slow_host_loses_nothing(kernel: Lab) -> None:
    """While the host does something else the kernel waits: all that it puts out arrives, its end too."""
    texts: list[str] = []

    def slow(chunk: Chunk) -> None:
        if not texts:
            time.sleep(2)
        texts.append(chunk.text)

    ran = kernel.wait(kernel._run("for i in range(10_000): print(i, flush=True)", slow))

    assert ran.status == "ok"
    assert "".join(texts).split() == [str(i) for i in range(10_000)]


def test_a_picture_of_ten_megabytes(kernel: Lab) -> None:
    """It arrives whole."""
    ran = kernel.run("from IPython.display import HTML\nHTML('é' * 10_000_000)")

    assert ran.status == "ok"
    assert ran.chunks[0].data["text/html"] == "é" * 10_000_000


def test_one_print_of_fifty_megabytes(roomy: Lab) -> None:
    """A single large text is output like any other, and too large a one a flood with its head."""
    ran = roomy.run("print('x' * 50_000_000)\nkept = 1")

    assert ran.status == "ok"
    assert ran.text().startswith("x" * 16 * MB)
    ran = roomy.run("print('y' * 80_000_000)")
    assert (ran.status, ran.result.why) == ("flooded", "Stopped: a block may put out 64 MB.")
    assert ran.text().startswith("y" * 16 * MB)
    assert roomy.run("print(kept)").text() == "1\n"


def test_a_flood_is_stopped(kernel: Lab) -> None:
    """A cell that prints for ever ends as flooded, with its head and why, and its state is kept."""
    ran = kernel.run("kept = 5\nwhile True: print('x' * 1000)")

    assert (ran.status, ran.result.why) == ("flooded", "Stopped: a block may put out 16 MB.")
    assert 16 * MB < len(ran.text()) < 18 * MB
    assert ran.text("stdout").startswith("x" * 1000)
    assert kernel.run("print(kept)").text() == "5\n"


def test_a_display_beyond_the_limit(kernel: Lab) -> None:
    """One that is too large to be read ends the cell as flooded; the kernel goes on."""
    ran = kernel.run("from IPython.display import HTML\nkept = 7\nHTML('x' * 60_000_000)")

    assert ran.status == "flooded"
    assert len(ran.text()) < 1000
    assert kernel.run("print(kept)").text() == "7\n"


def test_a_flood_from_a_thread(kernel: Lab) -> None:
    """After a flood that a cell's thread goes on with, the next cell runs and sees its own output."""
    code = (
        "import threading\nstop = False\n"
        "def flood():\n    while not stop: print('y' * 1000)\n"
        "t = threading.Thread(target=flood, daemon=True); t.start()\n"
    )
    assert kernel.run(code + "t.join()").status == "flooded"
    ran = kernel.run("stop = True\nt.join()\nprint('mine')")

    assert "mine\n" in ran.text()
    assert kernel.run("print('next')").text() == "next\n"


def pure(limit: int = 1000) -> tuple[RunningCell, list[Chunk], list[int]]:
    """A cell without a kernel, its output and how often it was to be stopped."""
    seen: list[Chunk] = []
    stops: list[int] = []

    async def make() -> RunningCell:
        return RunningCell("id", seen.append, lambda cell: stops.append(1), limit)

    return asyncio.run(make()), seen, stops


@pytest.mark.parametrize("large", ["x" * 500, {"rows": ["x" * 500]}], ids=["text", "json"])
def test_displays_count_with_all_they_carry(large: object) -> None:
    """A flood of displays with short texts and large HTML, images or data is a flood."""
    cell, seen, stops = pure()
    for _ in range(100):
        cell.on_iopub("display_data", {"data": {"text/plain": "<It>", "application/json": large}})

    assert stops == [1]
    assert len(seen) < 10


def test_a_flood_is_told_once() -> None:
    """However much comes after it; what is kept of it is its head and little of its end."""
    cell, seen, stops = pure()
    for number in range(100):
        cell.on_iopub("stream", {"name": "stdout", "text": f"{number:500}"})
    result = cell.result()

    assert stops == [1]
    assert (result.status, result.why) == ("flooded", "Stopped: a block may put out 0.000953674 MB.")
    assert "".join(c.text for c in seen) == (
        f"{0:500}{1:500}\n… [48,938 characters of output were not kept] …\n{99:62}"
    )


def test_messages_without_output_are_a_flood() -> None:
    """A cell that sends what is no output is stopped by its number of messages, and by their bytes."""
    cell, _, stops = pure(2**20)
    for _ in range(MAX_MESSAGES):
        cell.on_message(1)
    assert stops == []
    cell.on_message(1)
    assert stops == [1]
    assert cell.result().why == "Stopped: a block may put out 250,000 pieces of output."
    cell, _, stops = pure()
    cell.on_message(8000)
    assert stops == []
    cell.on_message(1)
    assert stops == [1]


def test_a_cell_that_has_ended_is_not_stopped() -> None:
    """What comes late does no harm to a result that stands."""
    cell, _, stops = pure()
    cell.on_iopub("status", {"execution_state": "idle"})
    cell.on_reply({"status": "ok"})
    cell.on_too_large()

    assert stops == []
    assert cell.result().status == "ok"


def test_what_nobody_could_encode() -> None:
    """Half a surrogate pair, NaN and names that are none do not get beyond here."""
    cell, seen, _ = pure(10_000)
    cell.on_iopub("stream", {"name": "stdout", "text": "a\ud800b \ud83e\uddea"})
    data = {"application/json": {"x": float("inf")}, "a/b": {"\udfff": 1}, "é": "x", "x" * 300: "x", "text/plain": "p"}
    cell.on_iopub("display_data", {"data": data | {"text/html": "\ud800"}})
    cell.on_reply({"payload": [{"source": "rlm_kernel", "changed": [["\ud800", "", "", "x" * 10**6]]}]})

    assert [(c.text, c.data) for c in seen] == [
        ("a\ufffdb 🧪", {}),
        ("p\n", {"text/plain": "p", "text/html": "\ufffd"}),
    ]
    (variable,) = cell.result().changed
    assert (variable.name, len(variable.preview)) == ("\ufffd", 10_000)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("stream", {}),
        ("stream", {"name": 5, "text": 7}),
        ("stream", {"name": ["x"], "text": ["y"]}),
        ("display_data", {"data": 5}),
        ("display_data", {"data": {"text/plain": ["a"]}}),
        ("error", {}),
        ("error", {"ename": 5, "traceback": 6}),
        ("error", {"ename": None, "traceback": [None, 5, "x"]}),
        ("status", {"execution_state": ["idle"]}),
        ("nonsense", {}),
    ],
)
def test_hostile_messages(kind: str, content: dict[str, object]) -> None:
    """Nothing that a message holds can raise."""
    cell, _, _ = pure()
    cell.on_iopub(kind, content)
    cell.on_reply({"status": 5, "payload": [1, {"source": "rlm_kernel", "changed": [[1, 2], 5, [1, 2, 3, 4]]}]})

    assert [(v.name, v.type, v.size, v.preview) for v in cell.result().changed] == [("1", "2", "3", "4")]
