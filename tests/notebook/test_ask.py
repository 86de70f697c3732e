"""`%%rlm` in a real notebook kernel, with a real sandbox kernel behind it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from rlm_kernel import Options
from tests.notebook.book import Book

ODD = "{answer} {0} {{x}} {x} $x ${HOME} %s %% \\n C:\\new 'q' \"d\" `!ls` %time é 数据 🎉 <b>&amp;"


def asked(book: Book) -> str:
    """The first message that the model got."""
    return str(book.value("model.requests[0].messages[0].content"))


# -- asking -------------------------------------------------------------------------------------------------------
def test_a_question_about_a_variable(book: Book) -> None:
    """The code sees the value, the result is shown and bound as rlm_result."""
    book.ok("tickets = [{'n': 1}, {'n': 2}]\nscript('total = sum(t[\"n\"] for t in tickets)', 'SUBMIT(total)')")
    ran = book.ok("%%rlm tickets -> n: int\nHow many?")
    assert book.value("rlm_result.n") == 3
    (bundle,) = ran.bundles
    assert {"text/html", "text/markdown", "text/plain"} == set(bundle)
    assert "3" in bundle["text/plain"]


def test_the_result_under_a_name_of_ones_own(book: Book) -> None:
    """`-o` binds it there and leaves rlm_result alone."""
    book.ok("script('SUBMIT(1)', 'SUBMIT(2)', 'SUBMIT(3)')\nrlm_result = 'mine'")
    book.ok("%%rlm -o one -> n: int\nQ")
    book.ok("%%rlm -> n: int --out two\nQ")
    book.ok("%%rlm --out=three -> n: int\nQ")
    assert book.value("[one.n, two.n, three.n, rlm_result]") == [1, 2, 3, "mine"]


def test_the_question_is_handed_over_as_written(book: Book) -> None:
    """Braces, dollars, backslashes, percent signs and other scripts arrive unchanged."""
    book.ok("x = 'EXPANDED'\nscript('SUBMIT(1)')")
    book.ok(f"%%rlm x -> n: int\n{ODD}\n\n  indented\ttext\n")
    assert asked(book).startswith(f"{ODD}\n\n  indented\ttext\n\n")


def test_a_megabyte_of_question(book: Book) -> None:
    """It arrives whole."""
    text = "".join(f"line {i} {{i}}\n" for i in range(70_000))
    book.ok("script('SUBMIT(1)')")
    book.ok(f"%%rlm -> n: int\n{text}")
    assert [len(text), True] == book.value(
        "[model.requests[0].messages[0].content.index('line 69999') + 15, "
        "model.requests[0].messages[0].content.startswith('line 0 {i}\\nline 1 {i}\\n')]"
    )


def test_names_are_found_in_a_functions_scope(book: Book) -> None:
    """`run_cell_magic` inside a function sees its locals, before globals of the same name."""
    book.ok(
        "value = 'global'\n"
        "def ask():\n"
        "    value = 'local'\n"
        "    get_ipython().run_cell_magic('rlm', 'value -> answer', 'Q')\n"
        "    return rlm_result.answer\n"
        "script('SUBMIT(value)', 'SUBMIT(value)')"
    )
    assert json.loads(book.ok("print(json.dumps(ask()))").stream("stdout").splitlines()[-1]) == "local"
    book.ok("%%rlm value -> answer\nQ")
    assert book.value("rlm_result.answer") == "global"


def test_a_cell_in_a_loop(book: Book) -> None:
    """As for any other magic, each turn asks and binds."""
    book.ok("script(*['SUBMIT(n + 1)'] * 3)")
    book.ok(
        "got = []\nfor n in range(3):\n"
        "    get_ipython().run_cell_magic('rlm', 'n -> m: int', f'What is {n} + 1?')\n"
        "    got.append(rlm_result.m)"
    )
    assert book.value("got") == [1, 2, 3]


def test_names_alone_and_no_names(book: Book) -> None:
    """Names alone ask for text; without names the question is about what the sandbox holds."""
    book.ok("a, b = 1, 'two'\nscript('kept = a\\nSUBMIT(b)', 'SUBMIT(kept + 1)')")
    book.ok("%%rlm a, b\nQ")
    book.ok("%%rlm -> n: int\nQ")
    assert book.value("rlm_result.n") == 2
    book.ok("script('SUBMIT(\"x\")')")
    book.ok("%%rlm\nQ")
    assert book.value("rlm_result.answer") == "x"


def test_types_of_the_notebook(book: Book) -> None:
    """Models and frames of the notebook are output types."""
    book.ok(
        "import pandas as pd, pydantic\n"
        "class City(pydantic.BaseModel):\n    name: str\n"
        "script(\"import pandas as pd\\nSUBMIT(cities=[{'name': 'Bern'}], table=pd.DataFrame({'a': [1, 2]}))\")"
    )
    book.ok("%%rlm -> cities: list[City], table: pd.DataFrame\nQ")
    assert book.value("[rlm_result.cities == [City(name='Bern')], rlm_result.table['a'].tolist()]") == [True, [1, 2]]


def test_values_arrive_as_they_are(book: Book) -> None:
    """CRLF, tuples, int keys and NaN are what they were."""
    book.ok(
        "data = {'t': 'a\\r\\nb', 1: (1, 2), 'nan': float('nan')}\n"
        "script(\"SUBMIT([data['t'] == 'a\\\\r\\\\nb', data[1] == (1, 2), data['nan'] != data['nan']])\")"
    )
    book.ok("%%rlm data -> ok: list[bool]\nQ")
    assert book.value("rlm_result.ok") == [True] * 3


def test_a_trailing_semicolon_keeps_the_result_from_being_shown(book: Book) -> None:
    """The result is bound all the same."""
    book.ok("script('SUBMIT(7)')")
    assert book.ok("%%rlm -> n: int\nHow many?;").outputs == []
    assert book.value("rlm_result.n") == 7


def test_the_model_needs_no_notebook_key(book: Book) -> None:
    """The key in the notebook's environment is not in the sandbox's."""
    book.ok(
        "import os; os.environ['ANTHROPIC_API_KEY'] = 'secret'; os.environ['MINE'] = 'x'\n"
        'script(\'import os; SUBMIT([os.environ.get("ANTHROPIC_API_KEY", "none"), os.environ.get("MINE", "none")])\')'
    )
    book.ok("%%rlm --fresh -> keys: list\nQ")
    book.ok("del os.environ['ANTHROPIC_API_KEY']")
    assert book.value("rlm_result.keys") == ["none", "none"]


# -- options ------------------------------------------------------------------------------------------------------
def test_limits_on_the_line(book: Book) -> None:
    """Every limit reaches the run."""
    book.ok("script('x = 1', 'SUBMIT(\"best\")')")
    book.ok(
        "%%rlm --max-iterations 1 --max-llm-calls=3 --max-output-chars 500 --max-errors 2 "
        "--timeout 60 --cell-timeout 30\nQ"
    )
    assert book.value(
        "[rlm_result.stop_reason, rlm_result.trajectory.max_iterations, rlm_result.trajectory.max_llm_calls, "
        "rlm_result.answer]"
    ) == ["max_iterations", 1, 3, "best"]


def test_fresh_on_the_line(book: Book) -> None:
    """`--fresh` starts with an empty sandbox."""
    book.ok(
        "script('kept = 1\\nSUBMIT(1)', 'SUBMIT(int(\"kept\" in globals()))', 'SUBMIT(int(\"kept\" in globals()))')"
    )
    book.ok("%%rlm -> n: int\nQ")
    book.ok("%%rlm -> n: int\nQ")
    assert book.value("rlm_result.n") == 1
    book.ok("%%rlm --fresh -> n: int\nQ")
    assert book.value("rlm_result.n") == 0


def test_quiet_on_the_line(book: Book) -> None:
    """`--quiet` shows the answer alone."""
    book.ok("script('x = 12345', 'SUBMIT(\"the answer\")')")
    (bundle,) = book.ok("%%rlm --quiet\nQ").bundles
    assert all("the answer" in text and "12345" not in text for text in bundle.values())


def test_a_sandbox_on_the_line(book: Book) -> None:
    """`--sandbox KERNELSPEC` has a state of its own; the other sandbox keeps its."""
    book.ok("script('kept = 1\\nSUBMIT(1)', 'SUBMIT(int(\"kept\" in globals()))', 'SUBMIT(kept)')")
    book.ok("%%rlm -> n: int\nQ")
    book.ok("%%rlm --sandbox python3 -> n: int\nQ")
    assert book.value("rlm_result.n") == 0
    book.ok("%%rlm -> n: int\nQ")
    assert book.value("rlm_result.n") == 1


def test_record_and_replay_on_the_line(book: Book, tmp_path: Path) -> None:
    """A recorded cell answers offline; a drift is an ordinary error that shows the difference."""
    path = tmp_path / "r.json"
    book.ok("doc = 'abc'\nscript('print(len(doc))', 'SUBMIT(len(doc))')")
    book.ok(f"%%rlm doc -> n: int --record '{path}'\nQ")
    book.ok("del model; configure(model='claude-sonnet-5-5', sub_model='claude-haiku-5-5')")
    book.ok(f"%%rlm doc -> n: int --replay '{path}' -o again\nQ")
    assert book.value("again.n") == 3
    book.ok("doc = 'abcd'")
    ran = book.run(f"%%rlm doc -> n: int --replay '{path}' -o drifted\nQ")
    (error,) = ran.errors
    assert (ran.status, error["ename"]) == ("error", "DriftError")
    shown = "\n".join(error["traceback"])
    assert "4 characters" in shown
    assert "loop.py" not in shown
    assert book.value("drifted.stop_reason") == "error"


def test_a_model_that_is_not_there(book: Book) -> None:
    """A missing key and an unknown model are one line each; nothing starts."""
    assert "unknown model 'no-such-model'" in book.run("%%rlm -m no-such-model\nQ").usage_error
    book.ok("configure(model='claude-sonnet-5-5', sub_model='claude-haiku-5-5')")
    assert "ANTHROPIC_API_KEY" in book.run("%%rlm\nQ").usage_error


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("%%rlm tickest\nQ", "did you mean 'tickets'?"),
        ("%%rlm tickets ->\nQ", "the answer has no field"),
        ("%%rlm tickets -> a: strr\nQ", "did you mean 'str'?"),
        ("%%rlm tickets, tickets\nQ", "appears twice"),
        ("%%rlm print\nQ", "hide"),
        ("%%rlm -> SUBMIT\nQ", "SUBMIT"),
        ("%%rlm tickets\n", "is empty"),
        ("%%rlm tickets\n  \n\n", "the question is empty"),
        ("%%rlm tickets", "is empty"),
        ("%%rlm --max-iteration 3\nQ", "did you mean --max-iterations?"),
        ("%%rlm --max-iterations -3\nQ", "max_iterations"),
        ("%%rlm --max-iterations many\nQ", "max_iterations"),
        ("%%rlm --max-iterations\nQ", "needs a value"),
        ("%%rlm --timeout 0\nQ", "timeout"),
        ("%%rlm --timeout nan\nQ", "timeout"),
        ("%%rlm --fresh=yes\nQ", "--fresh"),
        ("%%rlm -o 1x\nQ", "-o"),
        ("%%rlm -o class\nQ", "-o"),
        ("%%rlm -o 'unfinished\nQ", ""),
        ("%%rlm -x\nQ", "unknown option -x"),
        ("%%rlm --sandbox no-such-kernel\nQ", "no-such-kernel"),
        ("%%rlm --record a --replay b\nQ", "exclude each other"),
        ("%%rlm generator\nQ", "generator"),
        ("%%rlm lock\nQ", "lock"),
    ],
)
def test_a_usage_error_is_one_line(book: Book, cell: str, says: str) -> None:
    """On stderr, without a traceback; the cell counts as failed, no model was asked, nothing was bound."""
    book.ok(
        "import threading\ntickets = 1; generator = (i for i in range(3)); lock = threading.Lock()\n"
        "script()\nrlm_result = 0"
    )
    assert says.replace("--max-iterations?", "'--max-iterations'?") in book.run(cell).usage_error
    assert book.value("[len(model.requests), rlm_result]") == [0, 0]


def test_a_recording_that_is_not_there_is_one_line(book: Book) -> None:
    """Whatever stands at the path, the error is one line and nothing was started."""
    book.ok("script()")
    ran = book.run("%%rlm --replay /no/such/file\nQ")
    assert ran.status == "error"
    shown = ran.stream("stderr") + "\n".join(line for e in ran.errors for line in e["traceback"])
    assert "no recording at /no/such/file" in shown
    assert len(shown.strip().splitlines()) == 1


def test_a_failing_model_is_an_ordinary_error(book: Book) -> None:
    """It is shown in one line, and rlm_result holds the trajectory so far."""
    book.ok("from rlm_kernel import ModelError\nscript('print(\"found\")', ModelError('overloaded'))")
    ran = book.run("%%rlm\nQ")
    (error,) = ran.errors
    assert "ModelError: overloaded" in "\n".join(error["traceback"])
    assert len(error["traceback"]) == 1
    assert book.value("rlm_result.trajectory.cells[0].text()") == "found\n"


# -- help and Tab -------------------------------------------------------------------------------------------------
def flags() -> list[str]:
    return [f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(Options) if f.name != "verbose"]


def test_the_help_lists_every_option(book: Book) -> None:
    """`%%rlm?` opens the pager with all of them."""
    (payload,) = book.ok("%%rlm?").reply["payload"]
    text = payload["data"]["text/plain"]
    assert [flag for flag in [*flags(), "--out", "-o", "-m"] if flag not in text] == []
    assert "depends on this machine: see %rlm status" in " ".join(text.split())


def test_tab_completes_options(book: Book) -> None:
    """All of them after two dashes, the fitting ones after more."""
    offered = book.complete("%%rlm --")
    assert [flag for flag in [*flags(), "--out"] if f"%%rlm {flag}" not in offered] == []
    assert book.complete("%%rlm x --max-e") == ["%%rlm x --max-errors"]


def test_tab_completes_variables(book: Book) -> None:
    """Those of the notebook, wherever in the list of inputs."""
    book.ok("tickets_of_may = 1; tickets_of_june = 2")
    both = ["tickets_of_june", "tickets_of_may"]
    assert [f"%%rlm {n}" for n in both] == sorted(book.complete("%%rlm tickets_"))
    assert [f"%%rlm a, {n}" for n in both] == sorted(book.complete("%%rlm a, tickets_"))
    assert "%%rlm tickets_of_may -> a: str" in book.complete("%%rlm tickets_of_may -> a: st")


def test_tab_completes_kernelspecs_and_words(book: Book) -> None:
    """After --sandbox the installed kernelspecs, after %rlm what it can do."""
    assert "%%rlm --sandbox python3" in book.complete("%%rlm --sandbox py")
    words = ["status", "vars", "files", "reset", "interrupt", "connect", "trajectory"]
    assert [w for w in words if f"%rlm {w}" not in book.complete("%rlm ")] == []
    assert book.complete("%rlm tr") == ["%rlm trajectory"]


def test_tab_in_the_question_is_left_alone(book: Book) -> None:
    """The body is text, where nothing of ours is offered."""
    assert not any(o.endswith("--fresh") for o in book.complete("%%rlm x\n--fr"))


# -- configuration ------------------------------------------------------------------------------------------------
def test_config_gets_and_sets(book: Book) -> None:
    """`%config RLMMagics` shows every option and sets those that `configure` knows."""
    shown = book.ok("%config RLMMagics").stream("stdout")
    assert [f.name for f in dataclasses.fields(Options) if f"RLMMagics.{f.name}" not in shown] == []
    book.ok("%config RLMMagics.max_iterations = 1\nscript('x = 1', 'SUBMIT(\"best\")')")
    book.ok("%%rlm\nQ")
    assert book.value("[rlm_kernel.config.defaults().max_iterations, rlm_result.stop_reason]") == [1, "max_iterations"]
    book.ok("configure(max_iterations=9)")
    assert "9" in json.dumps(book.ok("%config RLMMagics.max_iterations").outputs)


@pytest.mark.parametrize("setting", ["max_iterations = 0", "max_iterations = 'x'", "timeout = -1", "quiet = 3"])
def test_config_refuses_what_cannot_be(book: Book, setting: str) -> None:
    """The old value stays."""
    name = setting.split(maxsplit=1)[0]
    assert book.run(f"%config RLMMagics.{setting}").outputs != []
    assert book.value(
        f"[getattr(rlm_kernel.config.defaults(), '{name}') == getattr(rlm_kernel.Options(), '{name}'), "
        f"getattr(get_ipython().magics_manager.registry['RLMMagics'], '{name}') == "
        f"getattr(rlm_kernel.Options(), '{name}')]"
    ) == [True, True]


# -- %rlm ---------------------------------------------------------------------------------------------------------
def test_looking_after_the_sandbox(book: Book) -> None:
    """status, vars, trajectory, interrupt and reset say what there is and do what they say."""
    book.ok("script('found = 42\\nSUBMIT(1)')")
    book.ok("%%rlm --fresh -> n: int\nQ")
    status = book.ok("%rlm").stream("stdout")
    assert "running" in status
    assert "isolation full: no network" in status
    assert "It shares this machine's kernel" in status
    assert "model scripted" in status
    assert status == book.ok("%rlm status").stream("stdout")
    assert "found" in book.ok("%rlm vars").stream("stdout")
    assert "found = 42" in book.ok("%rlm trajectory").bundles[0]["text/markdown"]
    book.ok("%rlm interrupt")
    assert "42" in book.ok("%rlm vars").stream("stdout")
    book.ok("%rlm reset")
    assert "not running" in book.ok("%rlm status").stream("stdout")
    assert "The sandbox is not running." in book.ok("%rlm vars").stream("stdout")
    assert "did you mean 'status'?" in book.run("%rlm statsu").usage_error
    assert "not running" in book.run("%rlm connect").usage_error


def test_a_console_can_be_attached(book: Book) -> None:
    """What `%rlm connect` prints is a connection file that a client runs code through."""
    from jupyter_client.blocking import BlockingKernelClient

    book.ok("script('x = 42\\nSUBMIT(1)')")
    book.ok("%%rlm -> n: int\nQ")
    *command, file = book.ok("%rlm connect").stream("stdout").splitlines()[0].split()
    assert command == ["jupyter", "console", "--existing"]
    client = BlockingKernelClient(connection_file=file)
    client.load_connection_file()
    client.start_channels(hb=False)
    try:
        client.wait_for_ready(timeout=20)
        said: list[str] = []
        client.execute_interactive(
            "x", timeout=20, allow_stdin=False, output_hook=lambda m: said.append(str(m["content"].get("data", "")))
        )
        assert "'42'" in "".join(said)
    finally:
        client.stop_channels()
    book.ok("script('SUBMIT(x)')")
    book.ok("%%rlm -> n: int\nQ")
    assert book.value("rlm_result.n") == 42


# -- stopping -----------------------------------------------------------------------------------------------------
def stopped(book: Book, marker: Path, cell: str = "%%rlm -> n: int\nQ") -> None:
    """Run the cell and press ■ once the marker is there; both kernels are usable afterwards."""
    book.interrupt_when(marker)
    ran = book.run(cell)
    assert ran.status == "error"
    (error,) = ran.errors
    assert "KeyboardInterrupt" in "\n".join(error["traceback"])
    assert book.value("rlm_result.stop_reason") == "interrupted"
    book.ok("script('SUBMIT(kept + 1)')")
    book.ok("%%rlm -> n: int\nQ")
    assert book.value("rlm_result.n") == 42


def marks(marker: Path) -> str:
    """Source of a sub-model that makes the marker when it is asked: the sandbox's code cannot reach it."""
    return f"lambda prompt: open({str(marker)!r}, 'w').close() or 'ok'"


def test_interrupt_in_a_cell(book: Book, marker: Path) -> None:
    """■ during model-written code: the state is kept, rlm_result holds the trajectory so far."""
    body = "print('found'); kept = 41; import time\\nllm_query('here 1')\\nwhile True: time.sleep(0.01)"
    book.ok(f'script("{body}", sub={marks(marker)})')
    stopped(book, marker)


def test_interrupt_in_a_long_sleep(book: Book, marker: Path) -> None:
    """So it is in a call of C that waits."""
    book.ok(f"script(\"kept = 41; import time; llm_query('here 2'); time.sleep(100)\", sub={marks(marker)})")
    stopped(book, marker)


def test_interrupt_in_a_model_call(book: Book, marker: Path) -> None:
    """■ while the model thinks."""
    book.ok(
        "script('kept = 41\\nSUBMIT(1)')\nget_ipython().run_cell_magic('rlm', '-> n: int', 'Q')\n"
        f"script(lambda request: open({str(marker)!r}, 'w').close() or 'late', delay=100)"
    )
    stopped(book, marker)


def test_interrupt_in_a_sub_call(book: Book, marker: Path) -> None:
    """■ while a sub-model is being waited for."""
    book.ok(
        "import asyncio\n"
        "async def never(prompt):\n"
        f"    open({str(marker)!r}, 'w').close()\n"
        "    await asyncio.sleep(100)\n"
        "script('kept = 41\\nllm_batch([str(i) for i in range(20)])', sub=never)"
    )
    stopped(book, marker)


def test_cells_queued_after_a_stop_do_not_run(book: Book, marker: Path) -> None:
    """As after any interrupted cell, and the kernel goes on with the next one that is sent."""
    book.ok(f"script(\"import time; llm_query('here 3'); time.sleep(100)\", sub={marks(marker)})\nqueued = 0")
    book.interrupt_when(marker)
    first = book.client.execute("%%rlm\nQ", allow_stdin=False)
    second = book.client.execute("queued = 1", allow_stdin=False)
    statuses = {}
    while len(statuses) < 2:
        reply = book.client.get_shell_msg(timeout=60)
        statuses[reply["parent_header"].get("msg_id")] = reply["content"]["status"]
    assert [statuses[first], statuses[second]] == ["error", "aborted"]
    assert book.value("queued") == 0
