"""A session in a file: what is saved, what is not, and what becomes of files that cannot be read or written."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import resource
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel import (
    RLM,
    Completion,
    FakeSandbox,
    InputError,
    Kept,
    RecordingError,
    RefusedError,
    SandboxError,
    ScriptedModel,
    background,
)
from rlm_kernel.archive import Archive
from rlm_kernel.conversation import Conversation
from rlm_kernel.sandbox.base import CellResult, Handler, OnChunk
from rlm_kernel.sandbox.guest import saving
from rlm_kernel.sandbox.journal import Journal
from rlm_kernel.sandbox.state import Stored, _Taking, take_out
from tests.fakes.state import CHECK, MAKE
from tests.helpers import ENDLESS, Dying, code, defaults_restored, in_loop


@pytest.fixture(autouse=True)
def own_defaults() -> Iterator[None]:
    with defaults_restored():
        yield


def make(*replies: Any, sandbox: Any = None, **more: Any) -> tuple[RLM, ScriptedModel]:
    model = ScriptedModel(
        [code(r) if isinstance(r, str) else r for r in replies], sub="s", window=more.pop("window", None)
    )
    made = RLM("-> answer", model=model, sub_model=model, sandbox=sandbox or FakeSandbox(), **more)
    return made, model


def saved(path: Path, *cells: str, sandbox: Any = None) -> RLM:
    """A session that has run these cells and is saved."""
    rlm, _ = make(*cells, "SUBMIT('made')", sandbox=sandbox)
    rlm("First?")
    rlm.save(path)
    return rlm


# -- there and back -----------------------------------------------------------------------------------------------
def test_a_session_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Conversation, history, variables, functions and classes of the REPL, modules, arrays and frames."""
    path = tmp_path / "s.rlm"
    rlm, first = make(MAKE, "SUBMIT('made')")
    rlm("First?")
    kept = rlm.save(path)
    assert kept.missing == {"gen": "generator: cannot pickle 'generator' object"}
    assert (kept.questions, kept.replies, kept.size) == (1, 2, path.stat().st_size)

    after, second = make(CHECK + "SUBMIT(str([(h['run'], h['question'], h['answer']) for h in history]))")
    loaded = after.load(path)
    assert loaded.variables == kept.variables
    result = after.ask("Second?")
    assert result.trajectory.cells[0].text() == ""
    assert result.answer == "[(1, 'First?', {'answer': 'made'})]"
    (request,) = second.requests
    assert request.messages[: len(first.requests[-1].messages)] == first.requests[-1].messages
    assert request.system == first.requests[-1].system


def test_what_was_saved_is_told(tmp_path: Path) -> None:
    """In a line, and one for each variable that could not be saved; again when it is loaded."""
    cell = "import threading\na = 1\nlock = threading.Lock()\nfile = open('/dev/null')\nview = memoryview(b'x')"
    rlm, _ = make(cell, "SUBMIT('made')")
    rlm("First?")
    place = tmp_path / "s.rlm"
    lines = str(rlm.save(place)).splitlines()
    assert lines[0] == f"saved {place}: 2 variables, a conversation of 2 turns, 1 question"
    assert [line.partition(": ")[2].partition(":")[0] for line in lines[1:]] == ["lock", "file", "view"]
    assert all("cannot pickle" in line for line in lines[1:])
    again = str(make()[0].load(place)).splitlines()
    assert again[0].startswith("loaded")
    assert [line.replace("not loaded", "not saved") for line in again[1:]] == lines[1:]


def test_many_that_could_not_be_saved_are_counted() -> None:
    """Twenty are named."""
    kept = Kept(Path("f"), "saved", missing={f"v{n}": "no" for n in range(30)})
    assert str(kept).splitlines()[-1] == "not saved: 10 more"
    assert len(str(kept).splitlines()) == 22


def test_what_a_sandbox_says_of_its_variables_is_clean() -> None:
    """Names and reasons are the code's: on a line each, and nothing that a terminal would obey."""
    kept = Kept(Path("f"), "loaded", missing={"a\nb": "\x1b[2Jgone\r\u202e", "*": "x" * 5_000})
    first, second, third = str(kept).splitlines()
    assert (first, second) == ("loaded f: 0 variables, no conversation, 0 questions", "not loaded: a b: gone \\u202e")
    assert len(third) <= 400


def test_variables_stay_in_the_sandbox_that_was_saved(tmp_path: Path) -> None:
    """Saving changes nothing: the same session goes on, and the model is not told of anything new."""
    rlm, model = make("a = 1\nSUBMIT('x')", "b = 2", "SUBMIT(str(a))")
    rlm("First?")
    rlm.save(tmp_path / "s.rlm")
    assert rlm.ask("Second?").answer == "1"
    assert "New or changed: b (int) = 2\n" in model.requests[-1].messages[-1].content


def test_the_history_goes_on(tmp_path: Path) -> None:
    """Numbers go on, the user's own `history` stays theirs, and the last run can be shown."""
    path = tmp_path / "s.rlm"
    rlm, _ = make("history = 'mine'\nSUBMIT('x')", "SUBMIT('y')")
    rlm("First?")
    rlm("Second?")
    rlm.save(path)
    after, _ = make("SUBMIT(history + str([h['run'] for h in rlm_history]))", "SUBMIT('z')")
    after.load(path)
    last = after._session.memory.last
    assert last is not None
    assert (last.question, last.values) == ("Second?", {"answer": "y"})
    assert after("Third?").answer == "mine[1, 2]"
    assert after._session.memory.history.entries[-1]["run"] == 3


def test_a_compacted_conversation_goes_on(tmp_path: Path) -> None:
    """Its summary, and the variable with the full text."""
    turns = [f"print('o' * 3000)\nx = {n}" for n in range(4)]
    rlm, _ = make(*turns, Completion("the summary", "m"), "SUBMIT('made')", window=5_000)
    assert rlm("First?").answer == "made"
    rlm.save(tmp_path / "s.rlm")
    after, model = make("SUBMIT(str('turn 1: reply' in transcript))")
    after.load(tmp_path / "s.rlm")
    assert after.ask("Second?").answer == "True"
    assert "the summary" in model.requests[0].messages[1].content


def test_loading_takes_the_place_of_what_there_was(tmp_path: Path) -> None:
    """Variables and conversation of before are gone."""
    saved(tmp_path / "s.rlm", "a = 1")
    rlm, model = make("b = 2\nSUBMIT('x')", "SUBMIT(str(('a' in globals(), 'b' in globals())))")
    rlm("Other?")
    rlm.load(tmp_path / "s.rlm")
    assert rlm.ask("Second?").answer == "(True, False)"
    assert "Other?" not in "".join(m.content for m in model.requests[-1].messages)


def test_a_sandbox_that_dies_after_loading_has_its_variables_again(tmp_path: Path) -> None:
    """They are read from the file once more, though it was replaced meanwhile."""
    path = tmp_path / "s.rlm"
    saved(path, "a = [1]\ndef f(): return a")
    rlm, _ = make("die", "b = f()", "SUBMIT(str(b))", sandbox=Dying())
    rlm.load(path)
    saved(path, "a = 'other'")
    result = rlm("Second?")
    assert result.answer == "[1]"
    assert [c.status for c in result.trajectory.cells] == ["died", "ok", "submitted"]


def test_models_conversations_are_json() -> None:
    """All of a conversation is in its state."""
    talk = Conversation("system", "first \ud800", {"a": "b"}, "m")
    made = Conversation.of(json.loads(json.dumps(talk.state())))
    assert vars(made) == vars(talk)


# -- the file -----------------------------------------------------------------------------------------------------
def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Nobody else may read it, and nothing lies beside it."""
    path = tmp_path / "s.rlm"
    saved(path, "a = 1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["s.rlm"]
    manifest = json.loads(zipfile.ZipFile(path).read("manifest.json"))
    assert (manifest["format"], manifest["version"]) == ("rlm_kernel session", 1)
    assert [v["name"] for v in manifest["variables"]] == ["a"]


def unchanged(path: Path) -> str:
    """What is said when this file is loaded into a session, which goes on with what it has."""
    rlm, _ = make("b = 2\nSUBMIT('x')", "SUBMIT(str(b))")
    rlm("First?")
    with pytest.raises((RecordingError, InputError)) as caught:
        rlm.load(path)
    assert "\n" not in str(caught.value)
    assert rlm.ask("Second?").answer == "2"
    return str(caught.value)


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    """One line, and nothing was changed."""
    path = tmp_path / "s.rlm"
    assert unchanged(path).startswith(f"cannot read {path}: No such file")
    path.write_text("text")
    assert unchanged(path) == f"{path} is no saved session"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "a")
    assert unchanged(path) == f"{path} is no saved session"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("manifest.json", '{"format": "other"}')
    assert unchanged(path) == f"{path} is no saved session"
    assert "cannot read" in unchanged(tmp_path)


def tampered(path: Path, change: Callable[[dict[str, Any]], None], *, also: Mapping[str, bytes] | None = None) -> Path:
    """A saved session with another manifest."""
    other = path.with_name("other.rlm")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename == "manifest.json":
                document = json.loads(data)
                change(document)
                data = json.dumps(document).encode()
            new.writestr(info.filename, data)
        for name, data in (also or {}).items():
            new.writestr(name, data)
    return other


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    """It says what to do."""
    saved(tmp_path / "s.rlm", "a = 1")
    other = tampered(tmp_path / "s.rlm", lambda d: d.update(version=9))
    assert "reads up to 1: pip install --upgrade rlm_kernel" in unchanged(other)


def first(document: dict[str, Any], **facts: Any) -> None:
    document["variables"][0].update(facts)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(version="1"),
        lambda d: d.pop("talk"),
        lambda d: d.update(variables=5),
        lambda d: d.update(history=[1]),
        lambda d: d.update(asked="many"),
        lambda d: d.update(refused=[1]),
        lambda d: d["variables"].append(d["variables"][0]),
        lambda d: first(d, name="../a"),
        lambda d: first(d, name="class"),
        lambda d: first(d, name="b"),
        lambda d: first(d, sizes=[-1]),
        lambda d: first(d, sizes=[10**12]),
        lambda d: first(d, sizes=["1"]),
        lambda d: first(d, sizes=[], same=""),
        lambda d: first(d, writable=[True]),
        lambda d: first(d, python=[3]),
        lambda d: first(d, same="x y"),
        lambda d: d["talk"].update(messages=[["assistant", "x"], ["user", "y"]]),
        lambda d: d["talk"].update(messages=[["user", "x"]]),
        lambda d: d["talk"].update(messages=[["user", 5], ["assistant", "y"]]),
        lambda d: d["talk"].update(system=None),
        lambda d: d["talk"].update(replies=-1),
        lambda d: d["talk"].update(replies=True),
        lambda d: d["talk"].update(known=[99, 5]),
        lambda d: d["talk"].update(told={"a": 1}),
    ],
)  # fmt: skip
def test_a_manifest_that_does_not_fit_is_damage(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Whatever is wrong with it is one line, before anything is changed."""
    saved(tmp_path / "s.rlm", "a = [1]")
    other = tampered(tmp_path / "s.rlm", change)
    assert f"{other} is damaged" in unchanged(other)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """Cut short, or with a bit turned over in a variable."""
    path = tmp_path / "s.rlm"
    saved(path, "a = 'needle' * 1000")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "no saved session" in unchanged(path)
    path.write_bytes(whole.replace(b"needleneedle", b"needleneedlf", 1))
    assert f"{path} is damaged" in unchanged(path)


def test_any_damage_is_found_or_harmless(tmp_path: Path) -> None:
    """However a file is broken, reading it raises nothing but our error."""
    path = tmp_path / "s.rlm"
    saved(path, "a = [1]\nb = {'x': 'y' * 500}")
    whole = bytearray(path.read_bytes())
    chance = random.Random(5)
    refused = 0
    for _ in range(300):
        broken = bytearray(whole)
        for _ in range(chance.choice((1, 1, 1, 20))):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        path.write_bytes(broken[: chance.choice((len(broken), len(broken), chance.randrange(len(broken))))])
        try:
            archive = Archive(path)
        except RecordingError:
            refused += 1
        else:
            assert [archive.read(v) for v in archive.variables] != [None, None]
            archive.close()
    assert refused > 200


def test_a_file_from_another_python(tmp_path: Path) -> None:
    """What cannot be loaded is told with its reason, and the rest is there: code runs in its own Python alone."""
    path = tmp_path / "s.rlm"
    saved(path, "a = [1]\ndef f(): return a\nclass C: \n    def m(self): return 1\nc = C()\nb = a")
    other = path.with_name("other.rlm")
    here, theirs = bytes([75, 3, 75, sys.version_info[1]]), bytes([75, 3, 75, 7])
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info).replace(here, theirs))
    rlm, _ = make("SUBMIT(str((a, b is a, 'f' in globals())))")
    loaded = rlm.load(other)
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert dict(loaded.missing) == dict.fromkeys(
        ("f", "C", "c"), f"code of Python 3.7 does not run in the sandbox's Python {own}"
    )
    assert rlm("Second?").answer == "([1], True, False)"


# -- trouble ------------------------------------------------------------------------------------------------------
def test_there_is_nothing_to_save(tmp_path: Path) -> None:
    """Before the first question, and after a reset."""
    rlm, _ = make("SUBMIT('x')")
    with pytest.raises(InputError, match="nothing to save yet"):
        rlm.save(tmp_path / "s.rlm")
    rlm("First?")
    rlm.reset()
    with pytest.raises(InputError, match="nothing to save yet"):
        rlm.save(tmp_path / "s.rlm")
    assert os.listdir(tmp_path) == []


def test_no_place_to_save_to(tmp_path: Path) -> None:
    """A folder, or none that is there."""
    rlm = saved(tmp_path / "s.rlm", "a = 1")
    with pytest.raises(InputError, match="is a folder: name a file"):
        rlm.save(tmp_path)
    with pytest.raises(RecordingError, match=r"cannot write .*: No such file or directory"):
        rlm.save(tmp_path / "missing" / "s.rlm")


@contextlib.contextmanager
def disk(limit: int) -> Iterator[None]:
    """No file can be larger than so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 50, 3_000, 40_000])
def test_a_full_disk_keeps_the_old_file(tmp_path: Path, room: int) -> None:
    """Whenever it is full: in a variable, in the manifest, or in the directory at the end."""
    path = tmp_path / "s.rlm"
    rlm = saved(path, "import os\na = os.urandom(37_000)")
    before = path.read_bytes()
    assert len(before) > 40_000
    with disk(room), pytest.raises(RecordingError, match=r"cannot write .*: File too large"):
        rlm.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["s.rlm"]
    rlm.save(path)


def test_saving_while_a_question_is_answered(tmp_path: Path) -> None:
    """It is refused in a line, from another thread as well; so is loading."""
    rlm, _ = make("print('now')\n" + ENDLESS)
    said: list[str] = []

    def try_it(event: Any) -> None:
        if type(event).__name__ == "CellOutput" and not said:
            for call in (rlm.save, rlm.load):
                thread = threading.Thread(target=lambda call=call: said.append(refusal(call, tmp_path / "s.rlm")))
                thread.start()
                thread.join()
            rlm.interrupt()

    rlm._on_event = try_it
    assert rlm("First?").stop_reason == "interrupted"
    assert said == [
        f"a question is being answered: {what} when it has ended, or stop it first" for what in ("save", "load")
    ]
    assert os.listdir(tmp_path) == []
    rlm.save(tmp_path / "s.rlm")


def refusal(call: Callable[[Path], object], path: Path) -> str:
    try:
        return str(call(path))
    except InputError as error:
        return str(error)


def test_a_save_that_is_broken_off(tmp_path: Path) -> None:
    """The variables are what they were, no file is written, and the next save works."""
    slow = "class Slow:\n    def __reduce__(self):\n        import time\n        while True: time.sleep(0.005)"
    rlm, _ = make(f"{slow}\na = 1\nx = Slow()\nSUBMIT('x')", "SUBMIT(str(a))")
    rlm("First?")
    path = tmp_path / "s.rlm"

    async def broken_off() -> None:
        saving = asyncio.ensure_future(rlm._session.save(path))
        await asyncio.sleep(0.3)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving

    background.call(broken_off())
    assert os.listdir(tmp_path) == []
    assert rlm.ask("Second?").answer == "1"


def test_a_sandbox_that_dies_while_it_is_saved(tmp_path: Path) -> None:
    """One line, no file, and the session goes on with what can be rebuilt."""

    class Mortal(FakeSandbox):
        async def execute(self, source: str, on_chunk: OnChunk) -> CellResult:
            if "repl.save" in source and self.starts == 1:
                await self.shutdown()
                return CellResult("died")
            return await super().execute(source, on_chunk)

    rlm, _ = make("a = 1\nSUBMIT('x')", "SUBMIT(str(a))", sandbox=Mortal())
    rlm("First?")
    with pytest.raises(SandboxError, match=r"broke off while its variables were saved \(died\); nothing was written"):
        rlm.save(tmp_path / "s.rlm")
    assert os.listdir(tmp_path) == []


class Foreign(FakeSandbox):
    """Of another make: it has nothing of ours but the functions of the REPL."""

    async def start(self, handler: Handler) -> None:
        await super().start(handler)
        self._namespace.pop("__rlm__", None)


def test_a_sandbox_of_another_kind(tmp_path: Path) -> None:
    """Its conversation is saved; that its variables are not is told."""
    path = tmp_path / "s.rlm"
    rlm, _ = make("a = 1\nSUBMIT('x')", sandbox=Foreign())
    rlm("First?")
    kept = rlm.save(path)
    assert str(kept).splitlines()[1] == "not saved: the variables: this kind of sandbox cannot save its variables"
    after, model = make("SUBMIT('y')")
    assert after.load(path).variables == ()
    assert after.ask("Second?").answer == "y"
    assert len(model.requests[0].messages) == 3


def test_a_session_is_not_loaded_into_a_sandbox_of_another_kind(tmp_path: Path) -> None:
    """One line; it is empty and works."""
    saved(tmp_path / "s.rlm", "a = 1")
    rlm, _ = make("SUBMIT('x')", sandbox=Foreign())
    with pytest.raises(SandboxError, match=r"could not load the variables: .*__rlm__"):
        rlm.load(tmp_path / "s.rlm")
    assert rlm("First?").answer == "x"


# -- sizes and enemies ---------------------------------------------------------------------------------------------
class Sink:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}
        self.waiting = 0

    def write(self, part: bytes) -> None:
        self.waiting += len(part)

    def keep(self, variable: Stored) -> None:
        self.kept[variable.name] = self.waiting
        self.waiting = 0

    def drop(self) -> None:
        self.waiting = 0


def test_what_is_too_large_is_left_out() -> None:
    """It says so, and what fits is saved; nothing is pickled further than there is room."""
    sandbox, sink = FakeSandbox(), Sink()
    journal = Journal(sandbox)

    async def main() -> dict[str, str]:
        async def nobody(method: str, params: Mapping[str, Any]) -> None:
            return None

        await journal.start(nobody)
        cell = "import numpy as np\na = [1]\nb = list(range(10**6))\nc = np.zeros(10**6)\nd = 'x' * 10**6\ne = 1"
        await journal.execute(cell, lambda chunk: None)
        return await take_out(journal, sink, (), 2 * 2**20)

    refused = in_loop(main())
    assert refused == {
        "b": "list[int]: larger than the 1 MB that are left of what can be saved",
        "c": "ndarray: larger than the 1 MB that are left of what can be saved",
    }
    assert list(sink.kept) == ["np", "a", "d", "e"]
    assert 10**6 < sum(sink.kept.values()) < 2 * 2**20


GOOD = {"name": "a", "type": "int", "size": "", "sizes": [3], "writable": [], "python": [3, 11]}


def part(data: bytes) -> dict[str, str]:
    return {"part": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    "said",
    [
        [{"part": "no base64!"}],
        [part(b"123"), {**GOOD, "sizes": [4]}],
        [part(b"123"), {**GOOD, "sizes": [True, 2], "writable": [True]}],
        [part(b"123"), {**GOOD, "name": "a b"}],
        [part(b"123"), {**GOOD, "name": "x" * 300}],
        [part(b"123"), {**GOOD, "name": ["a"]}],
        [part(b"123"), {**GOOD, "sizes": "123"}],
        [part(b"123"), {**GOOD, "sizes": [3, 0], "writable": []}],
        [part(b"123"), {**GOOD, "python": "3.11"}],
        [part(b"123"), {**GOOD, "same": "b"}],
        [{**GOOD, "sizes": [], "same": "b"}],
        [{**GOOD, "sizes": []}],
        [{}],
        [part(b"1" * 2000)],
        [part(b"1" * 600), part(b"1" * 600)],
        [part(b"123"), GOOD, part(b"123"), GOOD],
    ],
)
def test_a_sandbox_may_say_anything(said: list[dict[str, Any]]) -> None:
    """What does not fit is refused, none of it is kept, and a variable that fits still is."""
    sink = Sink()
    taking = _Taking(sink, 1000)

    async def say() -> None:
        for params in said:
            await taking("save", params)

    async def main() -> None:
        with pytest.raises(RefusedError):
            await say()
        await taking("save", part(b"abc"))
        await taking("save", {**GOOD, "name": "good"})

    in_loop(main())
    assert sink.kept.pop("good") == 3
    assert sink.kept in ({}, {"a": 3})


def test_no_other_request_is_answered_while_it_is_saved() -> None:
    """A thread of the code's may ask for a sub-model: nobody pays for it."""
    with pytest.raises(RefusedError, match="no question is being answered"):
        in_loop(_Taking(Sink(), 1000)("llm_query", {"prompts": ["x"]}))


def test_reasons_are_bounded() -> None:
    """However long they are, and however many."""
    taking = _Taking(Sink(), 1000)

    async def main() -> None:
        for n in range(6_000):
            await taking("save", {"name": f"v{n}" * 100, "failed": "x" * 10_000})

    in_loop(main())
    assert len(taking.refused) == 5_000
    assert max(len(name) + len(why) for name, why in taking.refused.items()) <= 600


def test_a_value_that_raises_anything_is_left_out(tmp_path: Path) -> None:
    """Even what is no Exception; the others are saved."""
    cell = "class Bad:\n    def __reduce__(self): raise SystemExit('no')\nx, y = Bad(), 1"
    rlm, _ = make(cell, "SUBMIT('x')")
    rlm("First?")
    kept = rlm.save(tmp_path / "s.rlm")
    assert kept.missing == {"x": "Bad: no"}
    assert kept.variables == ("Bad", "y")


def test_a_value_that_does_not_come_back_is_told(tmp_path: Path) -> None:
    """Whatever it raises when it is made again; the others are there."""
    cell = (
        "class Bad:\n    def __reduce__(self): return fail, ()\ndef fail(): raise SystemExit('never')\nx, y = Bad(), 1"
    )
    rlm, _ = make(cell, "SUBMIT('x')")
    rlm("First?")
    rlm.save(tmp_path / "s.rlm")
    after, _ = make("SUBMIT(str(y))")
    assert after.load(tmp_path / "s.rlm").missing == {"x": "SystemExit: never"}
    assert after("Second?").answer == "1"


def test_nothing_is_unpickled_on_the_host(tmp_path: Path) -> None:
    """A variable that would do something when it is read does it in the sandbox, and there alone."""
    path = tmp_path / "s.rlm"
    saved(path, "import os\nclass Mark:\n    def __reduce__(self): return os.getpid, ()\nx = Mark()")
    archive = Archive(path)
    (mark,) = [archive.read(v) for v in archive.variables if v.name == "x"]
    assert mark is not None
    assert b"getpid" in mark
    archive.close()


def test_without_cloudpickle() -> None:
    """Functions of the REPL are saved all the same; a class says what it needs."""
    program = """
import sys
sys.modules['cloudpickle'] = None
from rlm_kernel.sandbox.guest import saving
assert saving._Base.__module__ == '_pickle', saving._Base
space = {'__name__': '__main__'}
exec("k = 2\\ndef f(x): return k * x\\nclass C: pass\\nc = C()\\nimport math\\nm = [1]", space)
told, parts, got = [], [], []
def call(method, part=None, **facts):
    if part is not None:
        parts.append(__import__('base64').b64decode(part))
    else:
        told.append({'same': '', **facts, 'data': f"_{len(told)}"})
        got.append(b''.join(parts))
        parts.clear()
saving.save(space, {}, (), 10**6, call)
new = {f'_{n}': data for n, data in enumerate(got)}
assert saving.load(new, {}, [t for t in told if 'failed' not in t]) == {}
new['k'] = 5
print(new['f'](2), new['math'].pi > 3, new['m'], [t['failed'] for t in told if 'failed' in t])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == (
        "10 True [1] ['type: the class C needs cloudpickle, which is not installed here', "
        "'C: the class C needs cloudpickle, which is not installed here']\n"
    ), done.stderr


def test_functions_of_the_repl_are_known_by_name() -> None:
    """They are not saved, what refers to them is; where there is no such function it says so, and the rest is there."""
    told: list[dict[str, Any]] = []
    parts: list[bytes] = []

    def call(method: str, part: str | None = None, **facts: Any) -> None:
        if part is not None:
            parts.append(base64.b64decode(part))
        else:
            told.append({"same": "", **facts, "data": f"_{len(told)}", "bytes": b"".join(parts)})
            parts.clear()

    own: dict[str, Any] = {"ask": threading.Lock().acquire}
    saving.save({"ask": own["ask"], "mine": [own["ask"]], "x": 1}, own, own, 10**6, call)
    assert [facts["name"] for facts in told] == ["mine", "x"]
    for there, failed in ((own, {}), ({}, {"mine": "it needs ask, which this REPL has not"})):
        space: dict[str, Any] = {facts["data"]: facts["bytes"] for facts in told}
        assert saving.load(space, there, told) == failed
        assert space["x"] == 1


def test_what_ipython_keeps_is_not_saved() -> None:
    """Its inputs and outputs, the REPL's own functions, and what was there from the beginning."""
    space = dict.fromkeys(
        ["_", "__", "_i", "_ii", "_3", "_i12", "_ih", "_oh", "_dh", "__name__", "_mine", "x", "SUBMIT"]
    )
    assert list(saving._names(space, {"SUBMIT"})) == ["_mine", "x"]


def test_saves_take_turns(tmp_path: Path) -> None:
    """Two at once, from two threads, write the same file one after the other."""
    rlm = saved(tmp_path / "s.rlm", "a = 1")
    threads = [threading.Thread(target=rlm.save, args=(tmp_path / "s.rlm",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert make()[0].load(tmp_path / "s.rlm").variables == ("a",)
    assert os.listdir(tmp_path) == ["s.rlm"]
