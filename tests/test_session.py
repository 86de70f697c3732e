"""One sandbox over many questions: what is sent, what is kept, who takes turns, what is recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel import DriftError, InputError, ModelError, Options, RecordingError, Result, ScriptedModel, Signature
from rlm_kernel import events as ev
from rlm_kernel.config import Options as AllOptions
from rlm_kernel.job import Job
from rlm_kernel.session import Session
from rlm_kernel.trajectory import Trajectory
from tests.helpers import ENDLESS, STUBBORN, Counting, Dying, Hanging, code, in_loop, released


def job(replies: Sequence[Any], signature: str = "-> answer", *, sub: Any = None, **more: Any) -> Job:
    """A job with a scripted model; `inputs` and options by name."""
    inputs = more.pop("inputs", {})
    question = more.pop("question", "What?")
    model = more.pop("model", None) or ScriptedModel(list(replies), sub=sub)
    options = AllOptions(model=model, sub_model=model).merged(more)
    return Job.prepare(question, Signature.parse(signature), inputs, options)


def ignore(event: ev.Event) -> None:
    pass


async def ask(session: Session, question: Job, on_event: ev.OnEvent) -> Result:
    """The session's answer."""
    return await session.run(question, on_event, Trajectory())


def sent(*jobs: Job) -> list[list[str]]:
    """The names that each of these jobs, one after the other in one session, put into the sandbox for its question."""
    sandbox = Counting()

    async def main() -> None:
        session = Session(sandbox)
        for each in jobs:
            await ask(session, each, ignore)

    in_loop(main())
    return [sorted(put.keys() - {"history"}) for put in sandbox.puts]


DONE = [code("SUBMIT('x')")]
TEXT = "a text that is long enough to be an object of its own " * 3


# -- what is sent -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("value", [TEXT, TEXT.encode(), 12345678901, 1.5, 2j, True, None])
def test_an_unchanged_immutable_value_is_not_sent_twice(value: Any) -> None:
    """The second question about the same text finds it in the sandbox."""
    again = job(DONE, "x -> answer", inputs={"x": value})
    assert sent(job(DONE, "x -> answer", inputs={"x": value}), again) == [["x"], []]


@pytest.mark.parametrize("value", [[1], {"a": 1}, (1, [2]), bytearray(b"x")])
def test_what_may_have_changed_is_sent_again(value: Any) -> None:
    """A list that is the same object may hold something else by now."""
    assert sent(*(job(DONE, "x -> answer", inputs={"x": value}) for _ in range(2))) == [["x"], ["x"]]


def test_another_value_is_sent() -> None:
    """Under the same name, another text travels."""
    jobs = [job(DONE, "x -> answer", inputs={"x": text}) for text in (TEXT, TEXT + "!")]
    assert sent(*jobs) == [["x"], ["x"]]


def test_a_value_that_code_rebound_is_sent_again() -> None:
    """The question is about the notebook's value, not about what the model made of it."""
    first = job([code("x = 'mine'\nSUBMIT('x')")], "x -> answer", inputs={"x": TEXT})
    assert sent(first, job(DONE, "x -> answer", inputs={"x": TEXT})) == [["x"], ["x"]]


def test_a_value_that_code_deleted_is_sent_again() -> None:
    """So it is when the model threw it away."""
    first = job([code("del x"), *DONE], "x -> answer", inputs={"x": TEXT})
    assert sent(first, job(DONE, "x -> answer", inputs={"x": TEXT})) == [["x"], ["x"]]


def test_a_value_that_code_rebound_before_it_was_killed_is_sent_again() -> None:
    """A dead sandbox holds nothing."""
    sandbox = Dying()
    puts: list[list[str]] = []
    put = sandbox.put

    async def counted(variables: Any) -> None:
        puts.append(sorted(variables))
        await put(variables)

    sandbox.put = counted  # type: ignore[method-assign]

    async def main() -> Result:
        session = Session(sandbox)
        await ask(session, job([code("die"), *DONE], "x -> answer", inputs={"x": TEXT}), ignore)
        return await ask(session, job([code("SUBMIT(x[:6])")], "x -> answer", inputs={"x": TEXT}), ignore)

    assert in_loop(main()).answer == "a text"
    assert puts[1] == ["x"]


def test_fresh_starts_with_nothing() -> None:
    """`fresh` forgets the namespace, and sends everything again."""
    sandbox = Counting()

    async def main() -> Result:
        session = Session(sandbox)
        await ask(session, job([code("mine = 1\nSUBMIT('x')")], "x -> answer", inputs={"x": TEXT}), ignore)
        look = code("SUBMIT(str('mine' in globals()))")
        return await ask(session, job([look], "x -> answer", inputs={"x": TEXT}, fresh=True), ignore)

    assert in_loop(main()).answer == "False"
    assert [sorted(p) for p in sandbox.puts] == [["x"], ["x"]]


def test_a_failed_put_forgets_nothing() -> None:
    """When one variable cannot travel, the next question still gets what it needs."""

    class Picky(Counting):
        async def put(self, variables: Any) -> None:
            if "bad" in variables:
                raise InputError("bad cannot travel")
            await super().put(variables)

    sandbox = Picky()

    async def main() -> Result:
        session = Session(sandbox)
        with pytest.raises(InputError):
            await ask(session, job([], "x, bad -> answer", inputs={"x": TEXT, "bad": [1]}), ignore)
        return await ask(session, job([code("SUBMIT(x[:6])")], "x -> answer", inputs={"x": TEXT}), ignore)

    assert in_loop(main()).answer == "a text"


def test_a_start_that_failed_is_not_mistaken_for_delivery() -> None:
    """Values that were put into a sandbox that could not start are sent again."""

    class Reluctant(Counting):
        tried = 0

        async def start(self, handler: Any) -> None:
            self.tried += 1
            if self.tried == 1:
                await self.inner.shutdown()
                raise ModelError("as good as any")
            await super().start(handler)

    async def main() -> Result:
        session = Session(Reluctant())
        with pytest.raises(ModelError):
            await ask(session, job([code("x")], "x -> answer", inputs={"x": TEXT}), ignore)
        return await ask(session, job([code("SUBMIT(x[:6])")], "x -> answer", inputs={"x": TEXT}), ignore)

    assert in_loop(main()).answer == "a text"


def test_a_stop_while_the_sandbox_starts_loses_no_input() -> None:
    """A start that was given up delivered nothing; the next question about the same text sends it."""

    class Slow(Counting):
        tried = 0

        async def start(self, handler: Any) -> None:
            self.tried += 1
            if self.tried == 1:
                try:
                    await asyncio.Event().wait()
                finally:
                    await self.inner.shutdown()
            await super().start(handler)

    async def main() -> tuple[Result, Result]:
        session = Session(Slow())

        def on(event: ev.Event) -> None:
            if isinstance(event, ev.IterationStarted):
                session.stop()

        stopped = await ask(session, job(DONE, "x -> answer", inputs={"x": TEXT}), on)
        return stopped, await ask(session, job([code("SUBMIT(x[:6])")], "x -> answer", inputs={"x": TEXT}), ignore)

    stopped, after = in_loop(main())
    assert (stopped.stop_reason, after.answer) == ("interrupted", "a text")


@pytest.mark.parametrize("ending", ["stop", "timeout"])
def test_a_sandbox_that_had_to_be_killed_holds_no_input(ending: str) -> None:
    """After a cell that ignored its interrupt, the next question about the same text sends it."""
    released.clear()

    async def main() -> Result:
        session = Session(Counting())

        def on(event: ev.Event) -> None:
            if isinstance(event, ev.CellStarted) and ending == "stop":
                session.stop()

        limits = {"timeout": 0.2} if ending == "timeout" else {}
        stuck = [code(STUBBORN), code("SUBMIT('late')")]
        await ask(session, job(stuck, "x -> answer", inputs={"x": TEXT}, **limits), on)
        return await ask(session, job([code("SUBMIT(x[:6])")], "x -> answer", inputs={"x": TEXT}), ignore)

    try:
        assert in_loop(main()).answer == "a text"
    finally:
        released.set()


# -- state --------------------------------------------------------------------------------------------------------
def test_variables_live_from_question_to_question() -> None:
    """The next question finds what the last one made."""

    async def main() -> Result:
        session = Session(Counting())
        await ask(session, job([code("found = 42\nSUBMIT('x')")]), ignore)
        return await ask(session, job([code("SUBMIT(found)")], "-> n: int"), ignore)

    assert in_loop(main()).n == 42


def test_two_sessions_do_not_meet() -> None:
    """What one makes, the other does not see, also when they run at once."""

    async def main() -> list[Result]:
        first, second = Session(Counting()), Session(Counting())
        await ask(first, job([code("mine = 1\nSUBMIT('x')")]), ignore)
        look = [code("SUBMIT('mine' in globals())")]
        return list(
            await asyncio.gather(
                ask(first, job(look, "-> b: bool"), ignore), ask(second, job(look, "-> b: bool"), ignore)
            )
        )

    assert [r.b for r in in_loop(main())] == [True, False]


def test_runs_of_one_session_take_turns() -> None:
    """Two questions asked at once run one after the other, each to its own answer."""
    sandbox = Counting()

    async def main() -> list[Result]:
        session = Session(sandbox)
        slow = code("import time; time.sleep(0.05)\nn = globals().get('n', 0) + 1\nSUBMIT(n)")
        return list(await asyncio.gather(*(ask(session, job([slow], "-> n: int"), ignore) for _ in range(4))))

    assert [r.n for r in in_loop(main())] == [1, 2, 3, 4]
    assert sandbox.most_running == 1


def test_the_variables_can_be_listed() -> None:
    """As text, and a sandbox that does not run says so."""

    async def main() -> tuple[str, str, str]:
        session = Session(Counting())
        before = await session.variables()
        await ask(session, job([code("found = 42\nSUBMIT('x')")]), ignore)
        between = await session.variables()
        await session.reset()
        return before, between, await session.variables()

    before, between, after = in_loop(main())
    assert before == after == "The sandbox is not running."
    assert "found" in between
    assert "42" in between


# -- stops --------------------------------------------------------------------------------------------------------
def test_a_stop_while_variables_are_packed() -> None:
    """It is not lost: the run ends as interrupted, and the next one works."""
    sandbox = Counting()

    async def main() -> tuple[Result, Result]:
        sandbox.packing = asyncio.Event()
        session = Session(sandbox)
        running = asyncio.create_task(ask(session, job(DONE, "x -> answer", inputs={"x": TEXT}), ignore))
        while not sandbox.puts:
            await asyncio.sleep(0)
        session.stop()
        sandbox.packing.set()
        stopped = await running
        return stopped, await ask(session, job([code("SUBMIT(x[:6])")], "x -> answer", inputs={"x": TEXT}), ignore)

    stopped, after = in_loop(main())
    assert (stopped.stop_reason, after.answer) == ("interrupted", "a text")


def test_a_stop_between_runs_stops_nothing() -> None:
    """Stopping an idle session leaves the next question alone."""

    async def main() -> Result:
        session = Session(Counting())
        session.stop()
        return await ask(session, job(DONE), ignore)

    assert in_loop(main()).stop_reason == "answered"


def test_a_stopped_run_keeps_its_trajectory() -> None:
    """`last` and the result hold what happened until then."""

    async def main() -> tuple[Session, Result]:
        session = Session(Counting())

        def on(event: ev.Event) -> None:
            if isinstance(event, ev.CellOutput):
                session.stop()

        return session, await ask(session, job([code("print('found')\n" + ENDLESS)]), on)

    session, result = in_loop(main())
    assert (result.stop_reason, result.answer) == ("interrupted", None)
    assert result.trajectory is session.memory.last
    assert "found" in result.trajectory.cells[0].text()


def test_an_error_carries_the_result() -> None:
    """Whoever catches it has the trajectory, and the session goes on."""

    async def main() -> tuple[BaseException, Result]:
        session = Session(Counting())
        with pytest.raises(ModelError) as caught:
            await ask(session, job([code("print('found'); kept = 1"), ModelError("x")]), ignore)
        return caught.value, await ask(session, job([code("SUBMIT(kept)")], "-> n: int"), ignore)

    error, after = in_loop(main())
    assert isinstance(error, ModelError)
    assert (error.result.stop_reason, error.result.trajectory.cells[0].text()) == ("error", "found\n")
    assert after.n == 1


def test_models_made_for_a_job_are_closed_and_others_are_not() -> None:
    """A model object of the caller's stays open, a failing run included."""

    class Closing(ScriptedModel):
        closed = 0

        async def close(self) -> None:
            self.closed += 1

    model = Closing([ModelError("x")])

    async def main() -> None:
        mine = job([], model=model)
        made = Closing([])
        mine.owned = (made,)
        with pytest.raises(ModelError):
            await ask(Session(Counting()), mine, ignore)
        assert made.closed == 1

    in_loop(main())
    assert model.closed == 0


# -- checks -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"question": ""}, "the question is empty"),
        ({"question": " \n\t"}, "the question is empty"),
        ({"sandbox": "no-such-kernel"}, "no kernelspec is called 'no-such-kernel'"),
        ({"record": "a", "replay": "b"}, "exclude each other"),
    ],
)
def test_bad_input_is_found_before_anything_starts(more: dict[str, Any], says: str) -> None:
    """One line, and no model was asked."""
    with pytest.raises(InputError) as caught:
        job(DONE, **more)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "other"}', '{"format": "rlm_kernel recording"}'])
def test_an_unreadable_recording_is_one_line(tmp_path: Path, text: str) -> None:
    """To record into or to replay from."""
    path = tmp_path / "r.json"
    path.write_text(text)
    for option in ("replay", "record"):
        with pytest.raises(RecordingError) as caught:
            job(DONE, **{option: str(path)})
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    with pytest.raises(RecordingError, match="no recording at"):
        job(DONE, replay=str(tmp_path / "none.json"))


# -- recordings ---------------------------------------------------------------------------------------------------
CELLS = [code("print(len(x))\nr = llm_batch(['one', 'two'])"), code("SUBMIT(n=len(x), words=r)")]


def record(path: Path, x: str = "abc", sandbox: Any = None) -> Result:
    async def main() -> Result:
        mine = job(CELLS, "x -> n: int, words: list", sub=str.upper, inputs={"x": x}, record=str(path))
        return await ask(Session(sandbox or Counting()), mine, ignore)

    return in_loop(main())


def replay(path: Path, x: str = "abc", *, question: str = "What?", sandbox: Any = None) -> Result:
    async def main() -> Result:
        options = Options(replay=str(path))
        mine = Job.prepare(question, Signature.parse("x -> n: int, words: list"), {"x": x}, options)
        return await ask(Session(sandbox or Counting()), mine, ignore)

    return in_loop(main())


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_key")
def test_a_recorded_run_replays_without_a_key(tmp_path: Path) -> None:
    """Same values, same turns, same sub-calls, and the code ran for real."""
    path = tmp_path / "r.json"
    recorded = record(path)
    sandbox = Counting()
    replayed = replay(path, sandbox=sandbox)
    assert {"n": 3, "words": ["ONE", "TWO"]} == dict(recorded.values) == dict(replayed.values)
    assert [i.prompt for i in recorded.trajectory] == [i.prompt for i in replayed.trajectory]
    assert [(s.prompt, s.reply) for s in recorded.trajectory.subcalls] == [
        (s.prompt, s.reply) for s in replayed.trajectory.subcalls
    ]
    assert len(sandbox.inner.cells) == 2
    assert recorded.usage == replayed.usage
    assert (recorded.trajectory.model, recorded.trajectory.sub_model) == (
        replayed.trajectory.model,
        replayed.trajectory.sub_model,
    )


@pytest.mark.usefixtures("no_key")
def test_a_changed_value_drifts(tmp_path: Path) -> None:
    """One character more in the data, and the replay ends with the difference."""
    path = tmp_path / "r.json"
    record(path)
    with pytest.raises(DriftError) as caught:
        replay(path, "abcd")
    text = str(caught.value)
    assert "3 characters" in text
    assert "4 characters" in text


@pytest.mark.usefixtures("no_key")
def test_a_changed_output_drifts(tmp_path: Path) -> None:
    """When the same code prints something else, the replay ends, says what, and keeps the trajectory."""
    path = tmp_path / "r.json"
    record(path)
    document = path.read_text()
    assert "print(len(x))" in document
    path.write_text(document.replace("print(len(x))", "print(len(x)+1)"))
    with pytest.raises(DriftError) as caught:
        replay(path)
    text = str(caught.value)
    assert "-3" in text
    assert "+4" in text
    assert caught.value.result.trajectory.cells[0].text() == "4\n"


@pytest.mark.usefixtures("no_key")
def test_a_changed_sub_prompt_drifts_even_if_the_code_catches_it(tmp_path: Path) -> None:
    """A sub-call that was never recorded cannot be answered, whatever the code does about it."""
    path = tmp_path / "r.json"

    async def main() -> Result:
        cell = "try:\n    r = llm_query('one')\nexcept BaseException:\n    r = 'none'\nSUBMIT(n=1, words=[r])"
        mine = job([code(cell)], "x -> n: int, words: list", sub="r", inputs={"x": "abc"}, record=str(path))
        return await ask(Session(Counting()), mine, ignore)

    in_loop(main())
    path.write_text(path.read_text().replace("llm_query('one')", "llm_query('other')"))
    with pytest.raises(DriftError, match="other"):
        replay(path)


@pytest.mark.usefixtures("no_key")
def test_another_question_is_not_in_the_recording(tmp_path: Path) -> None:
    """Nothing starts, and the error lists what is there."""
    path = tmp_path / "r.json"
    record(path)
    with pytest.raises(DriftError, match=r"What\?"):
        replay(path, question="Why?")


def test_a_failed_run_is_recorded_too(tmp_path: Path) -> None:
    """What was paid for is kept: the calls until the failure, and the failure."""
    path = tmp_path / "r.json"

    async def main() -> None:
        mine = job([code("print(len(x))"), ModelError("overloaded")], "x -> n: int, words: list",
                   inputs={"x": "abc"}, record=str(path))  # fmt: skip
        with pytest.raises(ModelError):
            await ask(Session(Counting()), mine, ignore)

    in_loop(main())
    assert "print(len(x))" in path.read_text()
    with pytest.raises(ModelError, match="overloaded"):
        replay(path)


def test_a_stopped_run_is_recorded_too(tmp_path: Path) -> None:
    """A stop in the second model call leaves the first in the file."""
    path = tmp_path / "r.json"

    async def main() -> Result:
        session = Session(Counting())
        model = Hanging(ScriptedModel([code("print('found')")]), 2)

        def on(event: ev.Event) -> None:
            if isinstance(event, ev.IterationStarted) and event.iteration == 2:
                session.stop()

        return await ask(session, job([], model=model, record=str(path)), on)

    assert in_loop(main()).stop_reason == "interrupted"
    assert "print('found')" in json.dumps(json.loads(path.read_text()))


def test_a_recording_that_cannot_be_written_keeps_the_answer(tmp_path: Path) -> None:
    """The error says why, and carries the result that was paid for."""
    folder = tmp_path / "gone"
    folder.mkdir()

    async def main() -> Any:
        asked = job(DONE, record=str(folder / "r.json"))
        folder.rmdir()
        with pytest.raises(RecordingError) as caught:
            await ask(Session(Counting()), asked, ignore)
        return caught.value

    error = in_loop(main())
    assert "cannot write" in str(error)
    assert error.result.answer == "x"


def test_a_failing_save_does_not_hide_the_models_error(tmp_path: Path) -> None:
    """The session closes its models and stays usable."""
    folder = tmp_path / "gone"
    folder.mkdir()

    async def main() -> Result:
        session = Session(Counting())
        asked = job([ModelError("x")], record=str(folder / "r.json"))
        folder.rmdir()
        with pytest.raises(ModelError):
            await ask(session, asked, ignore)
        return await ask(session, job(DONE), ignore)

    assert in_loop(main()).answer == "x"


def test_a_recording_that_nothing_can_be_written_to_is_refused_at_once(tmp_path: Path) -> None:
    """Before a model is asked, not after the run was paid for."""
    with pytest.raises(RecordingError, match="not a folder that can be written to"):
        job(DONE, record=str(tmp_path / "missing" / "r.json"))
