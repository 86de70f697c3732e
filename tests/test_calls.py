"""What the sandbox may ask for, and what a hostile sandbox gets."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from rlm_kernel import Completion, DriftError, FakeSandbox, ModelError, RefusedError, ScriptedModel, Usage
from rlm_kernel.calls import Calls
from rlm_kernel.calls.submodels import MAX_PROMPT_CHARS
from rlm_kernel.models.base import Request
from tests.helpers import code, play, with_calls


def refusal(method: str, params: dict[str, Any], **settings: Any) -> str:
    """The text of a refusal; nothing may have been asked."""

    async def ask(calls: Calls) -> str:
        with pytest.raises(RefusedError) as caught:
            await calls(method, params)
        assert calls.answer is None
        assert calls.standing.ledger.subcalls == 0
        return str(caught.value)

    text, emitted = with_calls(ask, **settings)
    assert emitted == []
    return text


def batch(*prompts: Any, **more: Any) -> dict[str, Any]:
    return {"prompts": list(prompts), "model": None, **more}


class Crowd:
    """A sub-model that counts how many ask it at once."""

    name = "crowd"

    def __init__(self) -> None:
        self.now = self.most = 0

    async def complete(self, request: Request, on_delta: Any = None) -> Completion:
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(5):
            await asyncio.sleep(0)
        self.now -= 1
        return Completion("ok", "crowd", Usage(1, 2))

    async def close(self) -> None:
        pass


# -- sub-calls ----------------------------------------------------------------------------------------------------
def test_a_query_is_answered_and_told() -> None:
    """The reply comes back; start and end are events with the prompt, the reply and where it was asked."""

    async def ask(calls: Calls) -> Any:
        calls.standing.where = (2, 5)
        return await calls("llm_query", batch("hello"))

    answer, emitted = with_calls(ask)
    assert answer == [{"text": "HELLO"}]
    assert [kind for kind, _ in emitted] == ["SubcallStarted", "SubcallFinished"]
    started, finished = emitted[0][1], emitted[1][1]
    assert (*(started[k] for k in ("iteration", "cell", "subcall", "prompt", "batch")),) == (2, 5, 1, "hello", None)
    assert (finished["reply"], finished["error"]) == ("HELLO", "")


def test_a_batch_keeps_its_order() -> None:
    """Replies stand where their prompts stood, whatever finished first."""
    waits = {"a": 0.03, "b": 0.0, "c": 0.01}

    async def sub(prompt: str) -> str:
        await asyncio.sleep(waits[prompt])
        return prompt.upper()

    async def ask(calls: Calls) -> Any:
        return await calls("llm_batch", batch("a", "b", "c"))

    answer, emitted = with_calls(ask, model=ScriptedModel([], sub=sub))
    assert answer == [{"text": "A"}, {"text": "B"}, {"text": "C"}]
    assert {1} == {facts["batch"] for kind, facts in emitted if kind == "SubcallStarted"}


@pytest.mark.parametrize("limit", [1, 3, 64])
def test_never_more_calls_at_once_than_allowed(limit: int) -> None:
    """Over all batches and queries of a run together."""
    crowd = Crowd()

    async def ask(calls: Calls) -> Any:
        await asyncio.gather(
            *(calls("llm_batch", batch(*("p" * 20))) for _ in range(4)),
            *(calls("llm_query", batch("q")) for _ in range(20)),
        )

    with_calls(ask, model=crowd, max_concurrency=limit, max_llm_calls=1000)
    assert limit == crowd.most


def test_a_batch_too_large_makes_no_call() -> None:
    """It is refused whole, and what is left can still be used."""

    async def ask(calls: Calls) -> Any:
        with pytest.raises(RefusedError, match="4 sub-calls were asked for but 3 of 3 are left; none was made"):
            await calls("llm_batch", batch(*"abcd"))
        return await calls("llm_batch", batch(*"abc"))

    answer, emitted = with_calls(ask, max_llm_calls=3)
    assert len(answer) == 3
    assert len(emitted) == 6


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "prompts have to be text"),
        ({"prompts": "hello"}, "prompts have to be text"),
        ({"prompts": [1]}, "prompts have to be text"),
        ({"prompts": ["a", None]}, "prompts have to be text"),
        ({"prompts": {"a": 1}}, "prompts have to be text"),
        ({"prompts": [""]}, "a prompt is empty"),
        ({"prompts": ["a", " \n"]}, "a prompt is empty"),
        ({"prompts": ["x" * (MAX_PROMPT_CHARS + 1)]}, "too long for any model"),
        ({"prompts": ["a"], "model": "gpt-dear"}, "model 'gpt-dear' is not available; there are: scripted"),
        ({"prompts": ["a"], "model": 5}, "not available"),
        ({"prompts": ["a"], "model": ["scripted"]}, "not available"),
        ({"prompts": ["a"], "model": "x" * 100_000}, "not available"),
    ],
)
def test_what_is_no_question_is_refused(params: dict[str, Any], says: str) -> None:
    """Nothing is charged, nobody is asked, and the text is short enough for the model."""
    text = refusal("llm_query", params)
    assert says in text
    assert len(text) < 300


def test_an_unknown_request_is_refused() -> None:
    """A sandbox can ask for what there is, and nothing else."""
    assert "no request called '__class__'" in refusal("__class__", {})
    assert len(refusal("x" * 100_000, {})) < 200


def test_the_models_of_the_run_may_be_asked_by_name() -> None:
    """Both of them, by the names they were given."""
    small, big = ScriptedModel([], name="small", sub="s"), ScriptedModel([], name="big", sub="b")

    async def ask(calls: Calls) -> Any:
        return [(await calls("llm_query", batch("?", model=name)))[0]["text"] for name in (None, "small", "big")]

    answer, _ = with_calls(ask, models={None: small, "small": small, "big": big})
    assert answer == ["s", "s", "b"]


def test_no_sub_call_once_the_end_has_come() -> None:
    """While the final answer is being given, sub-calls are refused."""

    async def ask(calls: Calls) -> None:
        calls.standing.closed = True
        with pytest.raises(RefusedError, match="no sub-call is possible any more"):
            await calls("llm_query", batch("a"))

    with_calls(ask)


class _Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")


@pytest.mark.parametrize(
    "error", [ValueError("odd"), KeyError("k"), RuntimeError(), ModelError("429"), TimeoutError(), _Broken()]
)
def test_a_failing_call_leaves_its_siblings_alone(error: Exception) -> None:
    """Whatever a model raises becomes the error of that one call."""

    def sub(prompt: str) -> str:
        if prompt == "bad":
            raise error
        return prompt.upper()

    async def ask(calls: Calls) -> Any:
        return await calls("llm_batch", batch("a", "bad", "c"))

    (first, second, third), emitted = with_calls(ask, model=ScriptedModel([], sub=sub))
    assert (first, third) == ({"text": "A"}, {"text": "C"})
    assert list(second) == ["error"]
    assert second["error"]
    assert [second["error"]] == [f["error"] for k, f in emitted if k == "SubcallFinished" and f["error"]]


def test_a_refusing_sub_model_is_a_failed_call() -> None:
    """A refusal is an error of that call; its tokens are counted all the same."""

    class Refuser(Crowd):
        async def complete(self, request: Request, on_delta: Any = None) -> Completion:
            return Completion("no", "refuser", Usage(5, 1), stop_reason="refusal")

    async def ask(calls: Calls) -> Any:
        answer = await calls("llm_query", batch("a"))
        return answer, calls.standing.ledger.usage

    (answer, usage), _ = with_calls(ask, model=Refuser())
    assert answer == [{"error": "the model refused to answer"}]
    assert Usage(5, 1) == usage


def test_drift_in_a_sub_call_is_fatal() -> None:
    """The call fails, and the run is told to end."""

    def sub(prompt: str) -> str:
        raise DriftError("not recorded")

    async def ask(calls: Calls) -> Any:
        await calls("llm_batch", batch("a", "b"))
        return calls.standing.tree.fatal.done() and str(calls.standing.tree.fatal.result())

    assert with_calls(ask, model=ScriptedModel([], sub=sub))[0] == "not recorded"


# -- in the sandbox -----------------------------------------------------------------------------------------------
def test_a_failed_query_raises_in_the_sandbox() -> None:
    """It is a SubcallError that code can catch, never a text; the run goes on."""

    def sub(prompt: str) -> str:
        raise ValueError("odd")

    cell = "try:\n    llm_query('a')\nexcept SubcallError as e:\n    SUBMIT(f'{type(e).__name__}: {e}')"
    answer = play([code(cell)], sub=sub).trajectory.values["answer"]
    assert answer.startswith("SubcallError: ")
    assert "odd" in answer


def test_a_batch_holds_the_error_in_its_place() -> None:
    """Siblings keep their replies, and the error object says why."""

    def sub(prompt: str) -> str:
        if prompt == "bad":
            raise ValueError("odd")
        return prompt.upper()

    cell = (
        "r = llm_batch(['a', 'bad', 'c'])\nSUBMIT([r[0], isinstance(r[1], SubcallError) and 'odd' in str(r[1]), r[2]])"
    )
    assert play([code(cell)], "-> a: list", sub=sub).trajectory.values["a"] == ["A", True, "C"]


def test_drift_ends_the_run_even_if_the_code_catches_it() -> None:
    """Code that swallows every exception cannot go on with a recording that does not fit."""

    def sub(prompt: str) -> str:
        raise DriftError("not recorded")

    cell = "try:\n    llm_query('a')\nexcept BaseException:\n    pass\nSUBMIT('lied')"
    played = play([code(cell), code("SUBMIT('late')")], sub=sub)
    assert isinstance(played.error, DriftError)
    assert len(played.roots) == 1
    assert played.trajectory.stop_reason == "error"


def test_asking_for_one_too_many_ends_the_run_after_the_cell() -> None:
    """The cell is told and runs to its end; then comes the one last call."""
    cell = (
        "llm_query('a')\ntry:\n    llm_query('b')\nexcept Exception as e:\n    kept = str(e)\nprint('went on:', kept)"
    )
    played = play([code(cell), code("SUBMIT('best: ' + kept)")], sub="x", max_llm_calls=1)
    assert played.trajectory.stop_reason == "max_llm_calls"
    assert "best: no sub-call is left" in played.trajectory.values["answer"]
    assert "went on" in played.told[1]
    assert "The run ends here: all 1 sub-calls were used" in played.told[1]


def test_a_cell_that_submits_after_a_refusal_has_answered() -> None:
    """Having asked for too much is no reason to ask the model again."""
    cell = "try:\n    llm_query('a')\nexcept Exception:\n    SUBMIT('without')"
    played = play([code(cell)], sub="x", max_llm_calls=0)
    assert (played.trajectory.stop_reason, played.trajectory.values["answer"]) == ("answered", "without")


# -- submissions --------------------------------------------------------------------------------------------------
DEEP: Any = 1
for _ in range(200):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"fields": [], "values": []},
        {"fields": {}, "values": {}},
        {"fields": {"answer": 1}},
        {"fields": None, "values": None},
        {"fields": "answer", "values": []},
        {"fields": {}, "values": []},
        {"fields": {"answer": {"$pickle": "gASVAAAA"}}, "values": []},
        {"fields": {"answer": {"$arrow": "bm8="}}, "values": []},
        {"fields": {"answer": {"$arrow": "!!!"}}, "values": []},
        {"fields": {"answer": {"$arrow": 5}}, "values": []},
        {"fields": {"answer": {"$npy": base64.b64encode(b"\x93NUMPY\x01\x00\xff\xff").decode()}}, "values": []},
        {"fields": {"answer": {"$npy": None}}, "values": []},
        {"fields": {"answer": {"$series": ""}}, "values": []},
        {"fields": {"answer": {"$bytes": "%"}}, "values": []},
        {"fields": {"answer": {"$dict": 5}}, "values": []},
        {"fields": {"answer": {"$dict": [[{"a": 1}, 2]]}}, "values": []},
        {"fields": {"answer": {"$seconds": "x"}}, "values": []},
        {"fields": {"answer": {"$seconds": 1e300}}, "values": []},
        {"fields": {"answer": DEEP}, "values": []},
        {"fields": {"answer": 5}, "values": []},
        {"fields": {"answer": "a", "x" * 100_000: 1}, "values": []},
        {"fields": {"answer": "a"}, "values": ["b"]},
        {"fields": {}, "values": ["a", "b"]},
        {"fields": {"__class__": "a"}, "values": []},
    ],
)
def test_a_hostile_submission_is_refused(params: dict[str, Any]) -> None:
    """Nothing that is no answer becomes one, and nothing but a refusal comes of it."""
    assert len(refusal("submit", params)) < 1000


def test_an_object_array_is_never_unpickled() -> None:
    """A .npy that holds a pickle is refused without running it."""
    import io
    import pickle

    import numpy as np

    class Bomb:
        def __reduce__(self) -> Any:
            return (exec, ("import tests.helpers; tests.helpers.released.set()",))

    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    stream.write(pickle.dumps(Bomb()))
    text = base64.b64encode(stream.getvalue()).decode()
    from tests.helpers import released

    released.clear()
    refusal("submit", {"fields": {"answer": {"$npy": text}}, "values": []}, signature="-> answer: ndarray")
    assert not released.is_set()


def test_the_first_answer_counts() -> None:
    """A second submission, from a thread that was late, changes nothing."""

    async def ask(calls: Calls) -> Any:
        await calls("submit", {"fields": {"answer": "first"}, "values": []})
        await calls("submit", {"fields": {"answer": "second"}, "values": []})
        return calls.answer

    assert with_calls(ask)[0] == {"answer": "first"}


def test_a_wrong_type_is_told_and_mended() -> None:
    """The submission raises in the code, the model reads why, and its next one is taken."""
    played = play([code("SUBMIT(n='three')"), code("SUBMIT(n=3)")], "-> n: int", sandbox=FakeSandbox())
    assert (played.trajectory.stop_reason, played.trajectory.values) == ("answered", {"n": 3})
    assert "field 'n' has to be int" in played.told[1]
    assert played.trajectory.cells[0].status == "error"
