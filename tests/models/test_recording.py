"""Recordings as files: what is written, that nothing is lost, and what cannot be read."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_kernel.errors import RecordingError
from rlm_kernel.models import Completion, Message, Recording, Request, ScriptedModel, Usage
from rlm_kernel.models._recorded import Call, Conversation, Failed, Run, Subcall, dump, load
from rlm_kernel.models.base import Refused
from tests.fakes.asking import ask, request
from tests.fakes.runs import ASKED, FIRST, REPLIES, SECOND, record, replay

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def test_the_conversation_is_stored_once(path: Path) -> None:
    """Each turn holds the new messages only, text of several lines as its lines, and everything in plain sight."""
    record(path, ScriptedModel(REPLIES, name="claude-x"), FIRST, SECOND)

    document = json.loads(path.read_text())
    (talk,) = document["runs"][0]["conversations"]
    assert list(document) == ["format", "version", "note", "runs"]
    assert talk["system"] == "be brief"
    assert talk["turns"][0]["messages"] == [{"user": ["x has 3 rows", "at 0x7f00aa", "[left: 9 s]"]}]
    assert talk["turns"][1]["messages"] == [{"user": "output: 3"}]
    assert talk["turns"][1]["reply"] == {
        "thinking": "easy",
        "text": "FINAL(3)",
        "model": "dated-name",
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 7, "output_tokens": 8, "cache_read_tokens": 9, "cache_write_tokens": 10},
    }


def test_concurrent_calls_are_recorded_in_the_order_they_were_asked(path: Path) -> None:
    """However they finish, so that recording again changes little."""

    async def slow_first(prompt: str) -> str:
        await asyncio.sleep(0.02 if prompt == "p0" else 0)
        return f"{prompt}!"

    async def main() -> None:
        recorder = Recording.open(path).recorder(**ASKED)
        wrapped = recorder.wrap(ScriptedModel([], sub=slow_first))
        await asyncio.gather(*(wrapped.complete(request(f"p{n}", kind="sub")) for n in range(3)))
        recorder.save()

    asyncio.run(main())
    recorded = json.loads(path.read_text())["runs"][0]["subcalls"]
    assert [sub["reply"]["text"] for sub in recorded] == ["p0!", "p1!", "p2!"]


def test_a_call_under_way_is_left_out(path: Path) -> None:
    """Saving in the middle of a run writes what is finished."""

    async def main() -> None:
        recorder = Recording.open(path).recorder(**ASKED)
        task = asyncio.create_task(recorder.wrap(ScriptedModel(["late"], delay=30)).complete(FIRST))
        await recorder.wrap(ScriptedModel([], sub="quick")).complete(request("p", kind="sub"))
        recorder.save()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    (run,) = json.loads(path.read_text())["runs"]
    assert (run["conversations"], len(run["subcalls"])) == ([], 1)
    assert ask(replay(path), request("p", kind="sub")).text == "quick"


def test_a_model_that_is_recorded_has_all_that_it_has() -> None:
    """What is asked of it beside the two verbs; what it has not, it has not."""

    class Rich(ScriptedModel):
        max_tokens = 77

        async def count_tokens(self, request: Request) -> int:
            return len(request.messages)

    recorder = Recording("nowhere").recorder(**ASKED)
    rich, plain = recorder.wrap(Rich([])), recorder.wrap(ScriptedModel([]))

    assert (rich.max_tokens, asyncio.run(rich.count_tokens(FIRST))) == (77, 1)  # type: ignore[attr-defined]
    assert (hasattr(plain, "max_tokens"), hasattr(plain, "count_tokens"), hasattr(plain, "remembered")) == (False,) * 3


def test_a_note_stays(path: Path) -> None:
    """People may write into `note`; saving keeps it."""
    record(path, ScriptedModel(["a"]), FIRST)
    path.write_text(path.read_text().replace('"note": ""', '"note": "for the tutorial"'))
    record(path, ScriptedModel(["b"]), FIRST)

    assert Recording.load(path).note == "for the tutorial"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not a recording"),
        (b"\xff\xfe", "is not a recording"),
        (b"[" * 100_000, "is not a recording"),
        (b"[]", 'lacks "format"'),
        (b'{"format": "rlm_kernel recording", "version": 2}', "pip install --upgrade"),
        (b'{"format": "rlm_kernel recording"}', "damaged"),
        (b'{"format": "rlm_kernel recording", "version": 1}', "damaged: KeyError: 'runs'"),
        (b'{"format": "rlm_kernel recording", "version": 1, "runs": [3]}', "damaged"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(path: Path, content: bytes, words: str) -> None:
    """Whether to replay or to add to it: nothing of it is overwritten."""
    path.write_bytes(content)
    for read in (Recording.load, Recording.open):
        with pytest.raises(RecordingError) as caught:
            read(path)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_missing_file_says_how_to_make_one(path: Path) -> None:
    """To replay it must be there; to record it need not, and is not made before there is something to write."""
    with pytest.raises(RecordingError, match="--record"):
        Recording.load(path)
    Recording.open(path).recorder(**ASKED).save()
    assert not path.exists()


def test_a_file_that_cannot_be_written_is_a_recording_error(tmp_path: Path) -> None:
    """And leaves nothing behind."""
    with pytest.raises(RecordingError, match="cannot write"):
        record(tmp_path / "missing" / "file.json", ScriptedModel(["a"]), FIRST)
    (tmp_path / "folder").mkdir()
    with pytest.raises(RecordingError):
        record(tmp_path / "folder", ScriptedModel(["a"]), FIRST)
    assert [found.name for found in tmp_path.iterdir()] == ["folder"]


ANY_TEXT = st.text(st.characters() | st.sampled_from("\n\r\ud83d\ude00\ud800\u2028\x00\\"))
MESSAGES = st.lists(st.builds(Message, st.sampled_from(["user", "assistant"]), ANY_TEXT), max_size=3).map(tuple)
COUNT = st.integers(0, 10**12)
USAGES = st.builds(Usage, COUNT, COUNT, COUNT, COUNT)
ATTEMPTS = st.lists(USAGES, max_size=2).map(tuple)
COMPLETIONS = st.builds(
    Completion,
    text=ANY_TEXT,
    model=ANY_TEXT,
    usage=USAGES,
    thinking=ANY_TEXT,
    stop_reason=st.sampled_from(["end", "max_tokens", "refusal"]),
    abandoned=ATTEMPTS,
)
FORBIDDEN = st.builds(Refused, st.sampled_from(["budget", "max_tokens"]), ANY_TEXT)
CALLS = st.builds(Call, MESSAGES, COMPLETIONS | st.builds(Failed, ANY_TEXT, ANY_TEXT, ATTEMPTS) | FORBIDDEN)
RUNS = st.builds(
    Run,
    ANY_TEXT,
    ANY_TEXT,
    ANY_TEXT,
    st.lists(st.builds(Conversation, ANY_TEXT, ANY_TEXT, st.lists(CALLS, min_size=1, max_size=2)), max_size=2),
    st.lists(st.builds(Subcall, ANY_TEXT, ANY_TEXT, CALLS), max_size=2),
)


@given(st.lists(RUNS, max_size=2), ANY_TEXT)
def test_writing_and_reading_loses_nothing(runs: Sequence[Any], note: str) -> None:
    """Any text at all: every line ending, lone surrogates, two of them in a row."""
    content = dump(runs, note)
    assert load(json.loads(content.decode("utf-8"))) == (runs, note)


@given(ANY_TEXT)
def test_lines_stay_lines(text: str) -> None:
    """Text of several lines is a list with one item for each."""
    written = json.loads(dump([], text))["note"]
    assert len(written) == text.count("\n") + 1 if isinstance(written, list) else written == text
