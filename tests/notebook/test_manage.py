"""`%rlm files` and `--net` in a real notebook kernel, with a real sandbox kernel behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_kernel.sandbox.isolation.inside import landlock
from rlm_kernel.sandbox.isolation.levels import why_not
from tests.notebook.book import Book

WRITES = (
    "import os; os.makedirs('plots', exist_ok=True); open('plots/a b.txt', 'w').write('hello'); "
    "open('tool.py', 'w').write('x = 1'); open('.hidden', 'w').close(); SUBMIT(1)"
)


@pytest.fixture
def written(book: Book) -> Book:
    """A sandbox that has written files, and no copies of them in the working directory."""
    book.ok(f"script({WRITES!r})")
    book.ok("%%rlm --fresh -> n: int\nQ")
    book.ok("import shutil, os\nfor name in ('plots', 'out'): shutil.rmtree(name, ignore_errors=True)")
    book.ok("if os.path.exists('tool.py'): os.unlink('tool.py')")
    return book


def test_files_are_listed(written: Book) -> None:
    """Size, time and name of each, and which are not copied."""
    lines = written.ok("%rlm files").stream("stdout").splitlines()

    assert [line.split(maxsplit=3)[0] for line in lines] == ["0", "5", "5"]
    assert [line.split(maxsplit=3)[3] for line in lines] == [
        ".hidden  (hidden: is not copied)",
        "plots/a b.txt",
        "tool.py",
    ]
    written.ok(
        'script(\'import os, shutil; os.unlink(".hidden"); os.unlink("tool.py"); shutil.rmtree("plots"); SUBMIT(1)\')'
    )
    written.ok("%%rlm -> n: int\nQ")
    assert written.ok("%rlm files").stream("stdout") == "The sandbox's scratch folder is empty.\n"


def test_files_are_copied(written: Book) -> None:
    """Here or to a folder, a name with a space in quotes; nothing is overwritten unasked; code is told as such."""
    said = written.ok("%rlm files --copy 'plots/a b.txt' tool.py").stream("stdout")
    assert "plots/a b.txt (5 bytes)" in said
    assert "look at it before you run, import, open or unpickle it" in said
    assert written.value("[open('plots/a b.txt').read(), open('tool.py').read()]") == ["hello", "x = 1"]
    assert "is there already" in written.run("%rlm files --copy tool.py").usage_error
    written.ok("%rlm files --copy tool.py --force")
    said = written.ok("%rlm files --to out --copy 'plots/a b.txt'").stream("stdout")
    assert "look at it" not in said
    assert written.value("os.listdir('out/plots')") == ["a b.txt"]


def test_files_that_are_not_copied(written: Book) -> None:
    """One line each: a wrong name, a hidden one, one elsewhere, options without their word."""
    for line, why in (
        ("files --copy nothing.csv", "%rlm files lists what is there"),
        ("files --copy .hidden", "hidden"),
        ("files --copy ../connection.json", "no path within the scratch folder"),
        ("files --to out", "say how to copy"),
        ("files --copy", "expected at least one argument"),
        ("files --cpoy x", "unrecognized arguments"),
        ("files x", "unrecognized arguments"),
        ("vars --copy x", "not known"),
    ):
        assert why in written.run(f"%rlm {line}").usage_error


def test_no_sandbox_no_files(book: Book) -> None:
    """Before the first question, and after its sandbox was ended."""
    book.ok("%rlm reset")
    assert "sandbox" in book.run("%rlm files").usage_error


def test_tab_completes_the_options_of_files(book: Book) -> None:
    """After the word, in place of the words."""
    assert sorted(book.complete("%rlm files --")) == [f"%rlm files --{word}" for word in ("copy", "force", "to")]
    assert "%rlm files" in book.complete("%rlm fi")


def test_the_help_of_the_words(book: Book) -> None:
    """`%rlm?` has every word and option."""
    (payload,) = book.ok("%rlm?").reply["payload"]
    text = payload["data"]["text/plain"]

    assert [w for w in ("files", "--copy NAME", "--to FOLDER", "--force", "%rlm files --copy") if w not in text] == []


def test_a_network_is_told(book: Book, tmp_path: Path) -> None:
    """`--net` on the line makes a sandbox of its own; `%rlm status` says what it may reach and what was refused."""
    if why_not("full") or landlock.abi() < landlock.KNOWS_PORTS:
        pytest.skip("no sandbox can be held to a list of hosts here")
    fetch = "try: urllib.request.urlopen('http://evil.example')\nexcept OSError as e: print(e)"
    code = f"import urllib.request\n{fetch}\nSUBMIT(1)"
    book.ok(f"script({code!r})")
    book.ok("%%rlm --net api.example.org,localhost:8080 -> n: int\nQ")
    status = book.ok("%rlm status").stream("stdout")

    assert "network: only api.example.org,localhost:8080, through a proxy of the host" in status
    assert "network: 0 connections to api.example.org,localhost:8080, 1 refused to others" in status
    assert book.value("[c.text() for c in rlm_result.trajectory.cells]") == [
        "HTTP Error 403: evil.example:80 is not on the --net list\n"
        "[network refused: evil.example:80 is not on the --net list]\n"
    ]
    assert "is no host" in book.run("%%rlm --net http://x -> n: int\nQ").usage_error
    assert "leave --net away" in book.run("%%rlm --net x.example --sandbox-level none -> n: int\nQ").usage_error
