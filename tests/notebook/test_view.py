"""What a cell shows, by who watches: the panel, the settled output alone, text, or nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebook.book import Book, environment

WIDGET = "application/vnd.jupyter.widget-view+json"
SETTLED = {"text/html", "text/markdown", "text/plain"}
ASK = "%%rlm{} -> n: int\nhow many?"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Book]:
    """A notebook that somebody watches."""
    opened = Book(tmp_path_factory.mktemp("live"), RLM_PANEL="live")
    yield opened
    opened.close()


@pytest.fixture
def watched(live: Book) -> Book:
    """That notebook, with one reply to give."""
    live.ok("script('SUBMIT(n=3)')\nconfigure(quiet=False, verbose=False)")
    return live


def test_the_panel_gives_way_to_the_result(watched: Book) -> None:
    """The cell has one output: first the widget, in the end the result without one."""
    watched.ok("seen = []\nimport IPython.display as d, rlm_kernel.view as v\nold = v.display")
    watched.ok("def display(data, **k):\n    seen.append(sorted(data))\n    return old(data, **k)\nv.display = display")
    ran = watched.ok(ASK.format(""))
    watched.ok("v.display = old")
    assert watched.value("seen") == [[WIDGET, "text/plain"]]
    assert [set(bundle) for bundle in ran.bundles] == [SETTLED]


def test_without_watchers_there_is_one_display(book: Book) -> None:
    """A program that runs the notebook takes no input: it gets the settled output, once, and no widget is made."""
    book.ok("script('SUBMIT(n=3)')")
    ran = book.ok(ASK.format(""))
    assert [set(bundle) for bundle in ran.bundles] == [SETTLED]
    assert book.value("'rlm_kernel.panel.widget' in __import__('sys').modules") is False


def test_quiet_shows_the_answer_alone(watched: Book) -> None:
    """No panel, no trajectory."""
    ran = watched.ok(ASK.format(" --quiet"))
    assert [bundle["text/plain"] for bundle in ran.bundles] == ["n: 3"]


def test_verbose_tells_it_as_text(watched: Book) -> None:
    """The story is printed, without colours in a notebook, and the result shown."""
    watched.ok("configure(verbose=True)")
    ran = watched.ok(ASK.format(""))
    assert "Iteration 1 of" in ran.stream("stdout")
    assert "\x1b" not in ran.stream("stdout")
    assert [set(bundle) for bundle in ran.bundles] == [SETTLED]


def test_a_semicolon_shows_nothing(watched: Book) -> None:
    """The result is bound all the same."""
    ran = watched.ok(ASK.format("") + ";")
    assert ran.outputs == []
    assert watched.value("rlm_result.n") == 3


def test_a_panel_that_fails_does_not_end_the_run(watched: Book) -> None:
    """It says so, and the result is shown."""
    watched.ok("import sys\nkept = sys.modules.pop('rlm_kernel.panel.widget', None)")
    watched.ok("sys.modules['rlm_kernel.panel.widget'] = None")
    ran = watched.ok(ASK.format(""))
    watched.ok("sys.modules['rlm_kernel.panel.widget'] = kept")
    assert "the live panel failed (ModuleNotFoundError" in ran.stream("stderr")
    assert [set(bundle) for bundle in ran.bundles] == [SETTLED]


def test_a_wrong_mode_is_one_line(book: Book) -> None:
    """`RLM_PANEL` says how; anything else is refused before anything starts."""
    book.ok("script('SUBMIT(n=3)')\nimport os\nos.environ['RLM_PANEL'] = 'fancy'")
    ran = book.run(ASK.format(""))
    book.ok("del os.environ['RLM_PANEL']")
    assert "RLM_PANEL in the environment is live or static, not 'fancy'" in ran.usage_error


def test_a_terminal_is_told_the_story(tmp_path: Path) -> None:
    """In IPython the run is text as it goes on; the answer comes once, at its end."""
    script = tmp_path / "ask.ipy"
    script.write_text(
        "%load_ext rlm_kernel\nfrom rlm_kernel import ScriptedModel, configure\n"
        "model = ScriptedModel(['I count.\\n\\n```repl\\nprint(40 + 2)\\nSUBMIT(n=3)\\n```'])\n"
        "configure(model=model, sub_model=model)\n"
        "get_ipython().run_cell_magic('rlm', '-> n: int', 'how many?')\n"
    )
    told = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=nocolor", str(script)],
        env=environment(tmp_path), capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    parts = ["how many?", "Iteration 1 of 20", "I count.", "print(40 + 2)", "42", "n: 3"]
    places = [told.index(part) for part in parts]
    assert places == sorted(places)
    assert told.count("n: 3") == 1
