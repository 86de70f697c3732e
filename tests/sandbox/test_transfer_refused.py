"""What cannot travel is named in one line, and nothing is started or left behind."""

from __future__ import annotations

import io
import pathlib
import socket
import sqlite3
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rlm_kernel.errors import TransferError
from rlm_kernel.sandbox.transfer import pack
from tests.sandbox.lab import Lab, notebook


@pytest.fixture
def closing() -> Iterator[list[Any]]:
    """What is put here is closed after the test."""
    opened: list[Any] = []
    yield opened
    for thing in opened:
        thing.close()


MAKERS: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "generator": (lambda path: (x for x in "ab"), "generator"),
    "lock": (lambda path: threading.Lock(), "lock"),
    "text file": (lambda path: path.open(encoding="utf-8"), "TextIOWrapper"),
    "file to write": (lambda path: path.open("a", encoding="utf-8"), "TextIOWrapper"),
    "binary file": (lambda path: path.open("rb"), "BufferedReader"),
    "socket": (lambda path: socket.socket(), "socket"),
    "sqlite connection": (lambda path: sqlite3.connect(":memory:"), "Connection"),
    "thread": (lambda path: threading.Thread(), "Thread"),
    "deep inside": (lambda path: {"a": [{"b": (x for x in "ab")}]}, "dict"),
    "frame": (lambda path: sys._getframe(), "frame"),
    "memoryview": (lambda path: memoryview(b"ab"), "memoryview"),
    "nested too deep": (lambda path: _deep(), "list"),
    "one that refuses": (lambda path: _refusing(ValueError("first line\nsecond line")), "Refusing"),
    "one that refuses without a word": (lambda path: _refusing(KeyError()), "Refusing"),
}


def _deep() -> list[Any]:
    made: list[Any] = []
    for _ in range(100_000):
        made = [made]
    return made


def _refusing(error: Exception) -> Any:
    nb = notebook("class Refusing:\n    def __reduce__(self): raise self.error")
    made = nb["Refusing"]()
    made.error = error
    return made


@pytest.mark.parametrize(("make", "kind"), MAKERS.values(), ids=MAKERS)
def test_the_error_names_variable_and_type(
    tmp_path: pathlib.Path, closing: list[Any], make: Callable[[pathlib.Path], Any], kind: str
) -> None:
    """One line says which variable of which type it is, and no parcel stays, not even of the good ones."""
    file = tmp_path / "some.txt"
    file.write_text("text")
    folder = tmp_path / "parcels"
    folder.mkdir()
    value = make(file)
    if hasattr(value, "close") and not isinstance(value, types.GeneratorType):
        closing.append(value)

    with pytest.raises(TransferError) as caught:
        pack({"good": 1, "large": "x" * 2**20, "culprit": value, "never": 2}, folder)

    assert f"'culprit' ({kind})" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["text file", "generator"])
def test_the_error_says_what_to_do(tmp_path: pathlib.Path, closing: list[Any], name: str) -> None:
    """The usual mistakes come with the way out."""
    file = tmp_path / "some.txt"
    file.write_text("text")
    value = MAKERS[name][0](file)
    if isinstance(value, io.IOBase):
        closing.append(value)

    with pytest.raises(TransferError, match=r"pass (list\(\.\.\.\) of it|its text, or a pathlib.Path to the file)"):
        pack({"x": value}, tmp_path)


def test_a_refused_variable_starts_nothing(fresh: Lab) -> None:
    """On a sandbox that does not run, no kernel is started and the good variables are not staged."""
    with pytest.raises(TransferError, match="'bad'"):
        fresh.wait(fresh.sandbox.put({"good": 1, "bad": threading.Lock()}))

    assert (fresh.sandbox.running, fresh.sandbox.pid, fresh.sandbox._parcels) == (False, None, [])


def test_a_refused_variable_leaves_no_folder(fresh: Lab) -> None:
    """A caller who gives up after the error, without a shutdown, leaves nothing on the disk."""
    import tempfile

    before = set(pathlib.Path(tempfile.gettempdir()).glob("rlm-*"))
    with pytest.raises(TransferError, match="'bad'"):
        fresh.wait(fresh.sandbox.put({"bad": threading.Lock()}))

    assert before == set(pathlib.Path(tempfile.gettempdir()).glob("rlm-*"))


def test_a_refused_variable_leaves_the_running_sandbox_as_it_was(kernel: Lab) -> None:
    """The state is kept and nothing of the refused put arrives with the next."""
    kernel.put(state="kept")
    with pytest.raises(TransferError, match="'bad'"):
        kernel.wait(kernel.sandbox.put({"partial": 1, "bad": threading.Lock()}))
    kernel.put(later=2)

    assert kernel.say("state, later, 'partial' in globals()") == "kept 2 False"


LOADERS = {
    "setstate": (
        "class Odd:\n    a = 0\n    def __init__(self): self.a = 1\n"
        "    def __setstate__(self, state): raise ValueError('will\\nnot')",
        "ValueError",
    ),
    "exit": (
        "class Odd:\n    def __setstate__(self, state): raise SystemExit(3)\n    def __init__(self): self.a = 1",
        "SystemExit",
    ),
}


@pytest.mark.parametrize(("source", "reason"), LOADERS.values(), ids=LOADERS)
def test_what_cannot_be_loaded_is_named(kernel: Lab, source: str, reason: str) -> None:
    """It pickles here and fails there: the error names it in one line, its siblings arrive, the sandbox goes on."""
    odd = notebook(source)["Odd"]()
    with pytest.raises(TransferError) as caught:
        kernel.put(before=1, odd=odd, after=2)

    assert "'odd'" in str(caught.value)
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert kernel.say("before, after") == "1 2"


def test_a_class_of_a_module_that_the_sandbox_lacks(kernel: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable and the module."""
    module = types.ModuleType("only_here")
    exec("class Thing:\n    pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)

    with pytest.raises(TransferError, match=r"'thing'.*has no module 'only_here'"):
        kernel.put(thing=module.Thing())
    assert kernel.say("'still here'") == "still here"
