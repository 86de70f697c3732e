"""Anthropic's Message Batches, driven through the real SDK against the fake provider."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.errors import AuthenticationError, DriftError, InputError, ModelError
from rlm_kernel.models import AnthropicModel, Completion, Message, Recording, Request, Usage
from rlm_kernel.models.batches import BatchNews
from tests.fakes.batches import ROOT, FakeBatches, replied
from tests.fakes.provider import Answer, FakeProvider, anthropic, refusal
from tests.fakes.runs import ASKED

PROMPTS = ["a", "b", "c"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is remembered what was handed in."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "rlm_kernel" / "batches"


def requests(*prompts: str, longest: int | None = None) -> list[Request]:
    return [
        Request((Message("user", prompt),), kind="sub", cache=False, max_tokens=longest)
        for prompt in prompts or PROMPTS
    ]


@contextmanager
def service(batches: FakeBatches) -> Iterator[tuple[FakeProvider, Callable[..., AnthropicModel]]]:
    """The provider, and a way to make models that ask it."""
    with FakeProvider(anthropic("ok"), at={ROOT: batches}) as provider:
        batches.url = provider.url

        def model(name: str = "claude-haiku-5-5", **options: Any) -> AnthropicModel:
            given = {"batch_poll": 0.01, "max_retries": 2, "api_key": "sk-test", **options}
            return AnthropicModel(name, base_url=provider.url, **given)

        yield provider, model


def collect(model: AnthropicModel, asked: list[Request] | None = None, news: list[BatchNews] | None = None) -> Any:
    """The texts of the replies, and errors as they are."""

    async def main() -> Any:
        try:
            outcomes = await model.complete_batch(asked or requests(), news.append if news is not None else None)
        finally:
            await model.close()
        return [each.text if isinstance(each, Completion) else each for each in outcomes]

    return asyncio.run(main())


def stopped(model: AnthropicModel, looks: Callable[[], bool]) -> None:
    """Ask, and be gone as soon as `looks` says so."""

    async def main() -> None:
        task = asyncio.create_task(model.complete_batch(requests()))
        while not looks():
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await model.close()

    asyncio.run(main())


def handed_in(batches: FakeBatches) -> list[list[str]]:
    """The prompts of each batch that was taken."""
    return [
        [each["params"]["messages"][0]["content"][0]["text"] for each in batch.requests]
        for batch in batches.batches.values()
    ]


def test_a_batch_is_handed_in_whole_and_collected_in_order() -> None:
    """As the API wants it, with fields that are further ones; replies stand where their prompts stood."""
    batches, news = FakeBatches(looks=3), list[BatchNews]()
    with service(batches) as (provider, model):
        made = model(max_tokens=99, extra={"top_k": 3})
        assert collect(made, requests("a", "b", "c", longest=7), news) == ["A", "B", "C"]

    (create,) = [sent for sent in provider.requests if sent.method == "POST"]
    first = create.body["requests"][0]
    assert create.path.partition("?")[0] == ROOT
    assert first["params"] == {
        "model": "claude-haiku-5-5",
        "max_tokens": 7,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
        "top_k": 3,
    }
    assert len({each["custom_id"] for each in create.body["requests"]}) == 3
    assert [(each.done, each.total, each.resumed) for each in news] == [(0, 3, False)] * 3 + [(3, 3, False)]


def test_what_comes_of_a_request_stands_in_its_place() -> None:
    """Replies with their usage; a refusal as one; errors, cancellation and the end of its day as errors."""
    results: dict[str, str | dict[str, Any]] = {
        "a": replied("fine", tokens=70, output=8),
        "b": {"type": "errored", "error": {"type": "error", "error": {"type": "api_error", "message": "oops\nno"}}},
        "c": {"type": "canceled"},
        "d": {"type": "expired"},
        "e": replied("no", stop_reason="refusal"),
    }

    async def main(model: AnthropicModel) -> Any:
        outcomes = await model.complete_batch(requests(*"abcde"))
        await model.close()
        return outcomes

    with service(FakeBatches(answer=lambda prompt: results[prompt])) as (_, model):
        first, *failed, last = asyncio.run(main(model()))

    assert first == Completion("fine", "claude-haiku-5-5", Usage(70, 8))
    assert [str(error) for error in failed] == [
        "Anthropic could not answer this (api_error: oops no)",
        "the batch was cancelled before this was answered: ask again",
        "the batch ran out of its time, a day, before this was answered: ask again",
    ]
    assert (last.text, last.stop_reason) == ("no", "refusal")


def test_a_batch_that_somebody_waited_for_is_picked_up(folder: Path) -> None:
    """By the same requests, in another process too: it is not handed in and paid for twice. Then it is forgotten."""
    batches, news = FakeBatches(looks=10**9), list[BatchNews]()
    with service(batches) as (_, model):
        stopped(model(), lambda: bool(batches.batches) and batches.batches["msgbatch_1"].looks > 2)
        batches.looks = 0
        assert collect(model(), requests("a", "b", "c", longest=5), news) == ["A", "B", "C"]
        assert (handed_in(batches), news[0].resumed) == ([PROMPTS], True)
        assert list(folder.iterdir()) == []
        assert collect(model()) == ["A", "B", "C"]
        assert handed_in(batches) == [PROMPTS, PROMPTS]


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        (["a", "c", "b"], {}),
        (["a", "b"], {}),
        (PROMPTS, {"name": "claude-sonnet-5-5"}),
        (PROMPTS, {"api_key": "sk-other"}),
    ],
    ids=["order", "fewer", "model", "key"],
)
def test_another_batch_is_another(asked: list[str], options: dict[str, Any]) -> None:
    """Other prompts, another model or somebody else's key."""
    batches = FakeBatches(looks=10**9)
    with service(batches) as (_, model):
        stopped(model(), lambda: bool(batches.batches))
        batches.looks = 0
        collect(model(**options), requests(*asked))

    assert handed_in(batches) == [PROMPTS, asked]


def test_what_is_written_down_is_the_users_alone_and_tells_nothing(folder: Path) -> None:
    """The batch's name, its size and when it was; no prompt, no key, nothing half written."""
    batches = FakeBatches(looks=10**9)
    with service(batches) as (_, model):
        stopped(model(), lambda: bool(batches.batches) and batches.batches["msgbatch_1"].looks > 0)
        (file,) = folder.iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        written = json.loads(file.read_text())
        assert sorted(written) == ["began", "format", "id", "max_tokens", "requests"]
        assert (written["id"], written["requests"]) == ("msgbatch_1", 3)

        async def longest(*asked: str) -> int | None:
            try:
                return pending.pending_batch(requests(*asked))
            finally:
                await pending.close()

        pending = model()
        assert [asyncio.run(longest("a", "b", "c")), asyncio.run(longest("a"))] == [16_000, None]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "other"}', '{"format": "rlm_kernel batch"}'])
def test_a_file_that_cannot_be_read_is_no_batch(folder: Path, content: str) -> None:
    """It is handed in again, and the file replaced."""
    batches = FakeBatches(looks=10**9)
    with service(batches) as (_, model):
        stopped(model(), lambda: bool(batches.batches) and batches.batches["msgbatch_1"].looks > 0)
        (file,) = folder.iterdir()
        file.write_text(content)
        batches.looks = 0
        assert collect(model()) == ["A", "B", "C"]
    assert len(batches.batches) == 2


def test_a_batch_that_is_gone_is_handed_in_again() -> None:
    """Somebody deleted it, or its results are older than the provider keeps them."""
    batches = FakeBatches(looks=10**9)
    with service(batches) as (_, model):
        stopped(model(), lambda: bool(batches.batches))
        batches.batches.clear()
        batches.looks = 0
        assert collect(model()) == ["A", "B", "C"]


def cancel(model: AnthropicModel, name: str) -> None:
    async def main() -> None:
        try:
            await model.cancel_batch(name)
        finally:
            await model.close()

    asyncio.run(main())


def test_a_batch_that_was_cancelled_is_collected_as_it_is() -> None:
    """Here, or at the provider's console. Asking again hands it in anew."""
    batches = FakeBatches(looks=10**9)
    with service(batches) as (_, model):
        stopped(model(), lambda: bool(batches.batches))
        with pytest.raises(InputError, match="knows no batch 'msgbatch_7'"):
            cancel(model(), "msgbatch_7")
        cancel(model(), "msgbatch_1")
        assert {str(each) for each in collect(model())} == {
            "the batch was cancelled before this was answered: ask again"
        }
        batches.looks = 0
        assert collect(model()) == ["A", "B", "C"]


def test_a_batch_of_which_nobody_heard_that_it_was_taken_is_found(folder: Path) -> None:
    """The connection broke, or the process died, after it was taken: it is looked for before another is handed in."""
    cut = Answer((b"{",), headers={"content-type": "application/json"}, end="cut")
    batches = FakeBatches(faults=[cut], takes=True)
    with service(batches) as (_, model):
        assert collect(model()) == ["A", "B", "C"]
        assert handed_in(batches) == [PROMPTS]

        batches.faults = [cut] * 9
        with pytest.raises(ModelError):
            collect(model(max_retries=0))
        assert len(list(folder.iterdir())) == 1
        batches.faults = []
        assert collect(model()) == ["A", "B", "C"]
        assert handed_in(batches) == [PROMPTS, PROMPTS]


def test_a_batch_that_was_not_taken_is_handed_in_again() -> None:
    """A refusal that passes costs another attempt, and one that does not is told, with nothing left behind."""
    batches = FakeBatches(faults=[refusal(529), None, refusal(500), None])
    with service(batches) as (_, model):
        assert collect(model()) == ["A", "B", "C"]
    assert handed_in(batches) == [PROMPTS]


def test_a_batch_that_is_refused_leaves_nothing(folder: Path) -> None:
    """And says why, in one line."""
    with service(FakeBatches(faults=[refusal(400, "too many requests in it")])) as (_, model):
        with pytest.raises(ModelError, match="refused the request"):
            collect(model())
        assert list(folder.iterdir()) == []
    with service(FakeBatches(faults=[refusal(401)] * 2)) as (_, model), pytest.raises(AuthenticationError):
        collect(model())


def test_where_nothing_can_be_written_nothing_is_handed_in(folder: Path) -> None:
    """A batch that nobody could find again is not paid for."""
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    batches = FakeBatches()
    with service(batches) as (_, model), pytest.raises(ModelError, match="without it a batch could not be found again"):
        collect(model())
    assert batches.batches == {}


def test_looking_and_collecting_are_tried_again() -> None:
    """A broken answer costs another attempt, and what was read of it is not taken twice."""
    batches = FakeBatches(looks=2)
    with service(batches) as (_, model):
        half = Answer((b'{"custom_id": "x", ',), headers={"content-type": "application/x-jsonl"}, end="cut")
        batches.faults = [None, refusal(529), refusal(500), None, None, None, half, None, refusal(503)]
        assert collect(model(max_retries=4)) == ["A", "B", "C"]
    assert len(batches.batches) == 1
    assert batches.faults == []


def test_the_answers_of_another_batch_are_not_taken() -> None:
    """One of the same size was found where this one was looked for: its answers do not fit, and that is said."""
    cut = Answer((b"{",), headers={"content-type": "application/json"}, end="cut")
    batches = FakeBatches(looks=0)
    with service(batches) as (_, model):
        collect(model(), requests("x", "y", "z"))
        batches.faults = [cut] * 4
        with pytest.raises(ModelError):
            collect(model(max_retries=0))
        batches.faults = []
        with pytest.raises(ModelError, match="holds no answer to these requests: ask again"):
            collect(model())
        assert collect(model()) == ["A", "B", "C"]


def test_files_of_long_ago_go(folder: Path) -> None:
    """No provider remembers what they speak of."""
    folder.mkdir(parents=True)
    old = folder / "old.json"
    old.write_text("{}")
    os.utime(old, (0, 0))
    with service(FakeBatches()) as (_, model):
        collect(model())
    assert not old.exists()


def test_a_batch_is_recorded_as_its_requests_and_replays_at_once(path: Path) -> None:
    """Without a service; errors are errors again, and what was not asked is drift."""
    oops = {"type": "errored", "error": {"type": "error", "error": {"type": "api_error", "message": "oops"}}}
    with service(FakeBatches(answer=lambda prompt: oops if prompt == "b" else prompt.upper())) as (_, model):
        recorder = Recording.open(path).recorder(**ASKED, sub_model="claude-haiku-5-5")
        first = collect(recorder.wrap(model()))  # type: ignore[arg-type]  # it has all that the model has
        recorder.save()

    again = Recording.load(path).replay(**ASKED).sub_model
    outcomes = asyncio.run(again.complete_batch(requests("a", "b")))
    assert [each.text if isinstance(each, Completion) else str(each) for each in outcomes] == ["A", str(first[1])]
    assert "'c' to claude-haiku-5-5" in (again.unused() or "")
    with pytest.raises(DriftError):
        asyncio.run(again.complete_batch(requests("z")))
