"""The guest's side of a sandbox elsewhere, as plain Python."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.sandbox.guest import upload
from rlm_kernel.sandbox.guest.inbox import receive
from rlm_kernel.sandbox.guest.upload import Uploads, whole
from rlm_kernel.sandbox.transfer import pack
from tests.sandbox.lab import notebook


def _content(fd: int | None) -> bytes:
    assert fd is not None
    with open(fd, "rb") as file:
        return file.read()


@pytest.fixture(params=["memory", "file"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where uploads are kept: also as on a system without memfd."""
    if request.param == "file":
        monkeypatch.delattr(os, "memfd_create")
    return str(request.param)


def test_a_file_comes_in_pieces(kept: str) -> None:
    """Its pieces stand where they belong, it is handed out once, and then it is not there any more."""
    uploads = Uploads()
    uploads.take("a", 0, [memoryview(b"one "), b"two "])
    uploads.take("b", 0, [b""])
    uploads.take("a", 8, [b"three"])
    assert _content(uploads.open("/host/inbox/a")) == b"one two three"
    assert _content(uploads.open("/host/inbox/b")) == b""
    assert uploads.open("/host/inbox/a") is None


def test_a_file_that_begins_again(kept: str) -> None:
    """A broken upload is forgotten when the next one of its name begins; no descriptor is left."""
    before = len(os.listdir("/proc/self/fd"))
    uploads = Uploads()
    uploads.take("a", 0, [b"half of someth"])
    uploads.take("a", 0, [b"new"])
    assert _content(uploads.open("a")) == b"new"
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of the system comes out: the host reports it."""

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(upload.os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        Uploads().take("a", 0, [b"x"])


def test_parcels_are_loaded_from_uploads(tmp_path: Path, kept: str) -> None:
    """The very files that a local sandbox reads are loaded from their uploads, though they are not there."""
    values = {"text": "é" * 300_000, "data": bytes(300_000), "rows": [{"n": 1}], "array": bytearray(b"x" * 300_000)}
    parcels, uploads = pack(values, tmp_path), Uploads()
    for parcel in parcels:
        parcel.write()
        uploads.take(parcel.path.name, 0, [parcel.path.read_bytes()])
        parcel.path.unlink()
    namespace: dict[str, Any] = {}
    assert receive(namespace, [parcel.spec for parcel in parcels], uploads, {}) == []
    assert namespace == values


@pytest.mark.parametrize("length", [0, 1, 5, 10, 11])
def test_an_answer_in_pieces_is_put_together(length: int) -> None:
    """Each piece but the last says that there is more, and is asked for."""
    text = "x" * length
    pieces = [text[at : at + 5] for at in range(0, length, 5)] or [""]
    answers: Iterator[str] = iter([f"+{piece}" for piece in pieces[:-1]] + pieces[-1:])
    asked: list[str] = []

    def ask(message: str) -> str:
        asked.append(message)
        return next(answers)

    assert whole(ask)("question") == text
    assert asked == ["question"] + [f"+{n}" for n in range(1, len(pieces))]


def test_a_question_is_repeated_on_request() -> None:
    """After a break the host says "?"; the question goes out again, and so does one for a piece."""
    answers = iter(["?", "?", "+one ", "?", "two"])
    asked: list[str] = []

    def ask(message: str) -> str:
        asked.append(message)
        return next(answers)

    assert whole(ask)("question") == "one two"
    assert asked == ["question", "question", "question", "+1", "+1"]


def _loaded(spec: dict[str, Any]) -> list[dict[str, str]]:
    return receive({}, [spec], Uploads(), {})


def test_code_of_another_python_is_refused(tmp_path: Path) -> None:
    """Bytecode belongs to one minor version; data of another one load."""
    names = notebook("def twice(n): return 2 * n")
    for parcel in pack({"f": names["twice"], "data": [1, 2]}, tmp_path):
        spec = {**parcel.spec, "python": (3, 5)}
        here = ".".join(map(str, sys.version_info[:2]))
        says = f"code of Python 3.5 does not run in the sandbox's Python {here}; pass data instead"
        assert _loaded(spec) == ([{"name": "f", "error": says}] if parcel.name == "f" else [])


@pytest.mark.parametrize(
    ("module", "name", "says"),
    [
        ("no_such_library.frame", "Frame", "the sandbox's Python has no module 'no_such_library': install it there"),
        ("cloudpickle.cloudpickle", "_make_moon", "has no _make_moon: install the version there that is here"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, module: str, name: str, says: str) -> None:
    """A library that is not there, or an older one."""
    path = tmp_path / "p"
    path.write_bytes(b"c" + f"{module}\n{name}\n".encode() + b".")
    spec = {"name": "v", "path": str(path), "kind": "pickle", "python": sys.version_info[:2], "buffers": []}
    (failed,) = _loaded(spec)
    assert says in failed["error"]


def test_an_older_python_is_refused() -> None:
    """The first cell says which Python it needs, before it imports anything; older ones can read it."""
    source = (files("rlm_kernel.sandbox.guest") / "bootstrap.py").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(compile(source, "bootstrap.py", "exec"), names)
    version = sys.version.split()[0]
    with pytest.raises(RuntimeError, match=rf"^its Python is {version}, the sandbox needs 3\.99 or newer$"):
        names["_bootstrap"]({}, None, (3, 99))
    ast.parse(source, feature_version=(3, 8))
