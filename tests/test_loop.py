"""One run: turns, cells, limits, stops, and the events that tell of them. All in a fake sandbox."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator

import pytest

from rlm_kernel import Completion, ModelError, SandboxError, ScriptedModel
from rlm_kernel import events as ev
from rlm_kernel.loop import Run
from rlm_kernel.trajectory import Trajectory
from tests.helpers import ENDLESS, STUBBORN, Counting, Dying, Played, Unstartable, code, play, released


@pytest.fixture(autouse=True)
def let_go() -> Iterator[None]:
    released.clear()
    yield
    released.set()


def stop_at(kind: type[ev.Event]):
    def on(run: Run, event: ev.Event) -> None:
        if isinstance(event, kind):
            run.stop()

    return on


async def never(prompt: str) -> str:
    await asyncio.Event().wait()
    return ""


def outcome(played: Played) -> tuple[str, dict[str, object]]:
    assert played.error is None
    return played.trajectory.stop_reason, played.trajectory.values


# -- turns --------------------------------------------------------------------------------------------------------
def test_a_run_answers() -> None:
    """The model's code sees the variables, and what it submits is the answer."""
    played = play([code("n = len(x)"), code("SUBMIT(n)")], "x -> n: int", variables={"x": [1, 2, 3]})
    assert outcome(played) == ("answered", {"n": 3})
    assert played.trajectory.detail == ""


def test_the_model_is_told_what_it_has_to_know() -> None:
    """Variables and fields are in the system prompt, question and budget in the first message."""
    played = play([code("SUBMIT(n=1)")], "x -> n: int", variables={"x": "text"}, question="How many?", max_llm_calls=7)
    (request,) = played.roots
    assert "`x`: str" in request.system
    assert "- `n`: int" in request.system
    assert request.messages[0].content.startswith("How many?\n")
    assert "[left: 7 of 7 sub-calls]" in request.messages[0].content


def test_several_blocks_run_in_order() -> None:
    """All blocks of a reply run, in one namespace, and all are told."""
    played = play([code("x = 1; print('one')", "x += 1; print('two')"), code("SUBMIT(str(x))")])
    assert outcome(played) == ("answered", {"answer": "2"})
    assert played.told[1].index("one") < played.told[1].index("two")


def test_blocks_after_a_failing_one_are_skipped() -> None:
    """The model reads that they were not run."""
    played = play([code("x = 1", "1/0", "x = 5", "x = 6"), code("SUBMIT(str(x))")])
    assert played.trajectory.values == {"answer": "1"}
    assert "2 later block(s) were not run" in played.told[1]
    assert "ZeroDivisionError" in played.told[1]
    assert [c.code.strip() for c in played.trajectory[0].cells] == ["x = 1", "1/0"]


def test_blocks_after_the_answer_are_not_run() -> None:
    """A submission in the first block ends the run there."""
    played = play([code("SUBMIT('first')", "SUBMIT('second')", "1/0")])
    assert outcome(played) == ("answered", {"answer": "first"})
    assert [c.status for c in played.trajectory.cells] == ["submitted"]


def test_output_before_an_exception_reaches_the_model() -> None:
    """Everything printed until then, and the line that failed."""
    played = play([code("print('before')\n\nx = 1\n1/0"), code("SUBMIT('ok')")])
    for part in ("before", "ZeroDivisionError", "line 4", "Result: error"):
        assert part in played.told[1]


def test_a_reply_without_code_is_told_so() -> None:
    """Nothing runs, and the next reply may mend it."""
    played = play(["The answer is 42.", code("SUBMIT('42')")])
    assert outcome(played) == ("answered", {"answer": "42"})
    assert "no ```repl block" in played.told[1]


def test_an_answer_in_the_text_is_no_answer() -> None:
    """Only a call in the REPL submits: text that looks like one does not."""
    played = play(["FINAL(41)", "SUBMIT('41')", "`SUBMIT('41')`", code("SUBMIT('42')")])
    assert outcome(played) == ("answered", {"answer": "42"})


def test_a_submission_cannot_be_caught_by_accident() -> None:
    """`except Exception` around it does not keep the run going."""
    played = play([code("try:\n    SUBMIT('a')\nexcept Exception:\n    print('caught')\nprint('after')")])
    assert outcome(played) == ("answered", {"answer": "a"})
    assert played.trajectory.cells[0].text() == ""


def test_the_other_ways_to_answer() -> None:
    """FINAL and FINAL_VAR do what SUBMIT does."""
    assert play([code("FINAL(3)")], "-> n: int").trajectory.values == {"n": 3}
    assert play([code("v = 3\nFINAL_VAR('v')")], "-> n: int").trajectory.values == {"n": 3}
    assert play([code("FINAL({'n': 3, 's': 'a'})")], "-> n: int, s: str").trajectory.values == {"n": 3, "s": "a"}


def test_overwritten_names_come_back() -> None:
    """The model's code may not lose its own functions, and is told."""
    played = play([code("SUBMIT = 3\nllm_query = None"), code("SUBMIT('ok')")])
    assert outcome(played) == ("answered", {"answer": "ok"})
    assert "restored" in played.told[1]


def test_changes_are_told_each_turn() -> None:
    """Which variables appeared, changed and went."""
    played = play([code("a = 1; b = 2"), code("a = 5\ndel b"), code("SUBMIT('ok')")])
    assert "a (int" in played.told[1]
    assert "= 5" in played.told[2]
    assert "Removed: b" in played.told[2]


def test_output_is_cut_at_the_limit() -> None:
    """Head and tail stay, the note counts what was cut."""
    played = play([code("print('H' * 5000 + 'T' * 5000)"), code("SUBMIT('ok')")], max_output_chars=300)
    assert "characters cut" in played.told[1]
    assert played.told[1].count("H" * 200) * 200 == 200
    assert len(played.told[1]) < 1000


def test_a_cut_reply_is_told() -> None:
    """A reply that ended at the maximum length still runs, and the model is asked to be briefer."""
    cut = Completion(code("x = 1"), "m", stop_reason="max_tokens")
    played = play([cut, code("SUBMIT(str(x))")])
    assert outcome(played) == ("answered", {"answer": "1"})
    assert played.told[1].startswith("(Your reply was cut off at its maximum length")


# -- limits -------------------------------------------------------------------------------------------------------
def test_iterations_run_out() -> None:
    """One last call gives the best answer; the result says which limit it was."""
    played = play([code("x = 1"), code("x = 2"), code("SUBMIT(f'best {x}')")], max_iterations=2)
    assert outcome(played) == ("max_iterations", {"answer": "best 2"})
    assert played.trajectory.detail == "all 2 iterations were used"
    assert [i.final for i in played.trajectory] == [False, False, True]
    assert "The run ends here: all 2 iterations were used" in played.told[2]


def test_an_answer_in_the_last_turn_is_no_limit() -> None:
    """Answering with the last iteration is answering."""
    played = play([code("x = 1"), code("SUBMIT('a')")], max_iterations=2)
    assert outcome(played) == ("answered", {"answer": "a"})


def test_errors_run_out() -> None:
    """Failing turns in a row end the run; replies without code are failing turns."""
    played = play([code("1/0"), "no code", code("1/0"), code("SUBMIT('best')")], max_errors=3)
    assert outcome(played) == ("max_errors", {"answer": "best"})
    assert played.trajectory.detail == "3 turns in a row ended in an error"


def test_only_errors_in_a_row_count() -> None:
    """One good turn and the count starts again."""
    bad = code("1/0")
    played = play([bad, bad, code("x = 1"), bad, bad, code("SUBMIT('ok')")], max_errors=3)
    assert outcome(played) == ("answered", {"answer": "ok"})


def test_a_refused_submission_is_an_error() -> None:
    """A model that never gets the type right is stopped."""
    played = play([code("SUBMIT('x')")] * 3, "-> n: int", max_errors=2)
    assert outcome(played) == ("max_errors", {})
    assert "no valid answer was given" in played.trajectory.detail


def test_time_runs_out_in_a_model_call() -> None:
    """The call is given up, and one last call answers."""
    played = play([code("x = 1"), code("SUBMIT(f'best {x}')")], hang=[2], timeout=0.4)
    assert outcome(played) == ("timeout", {"answer": "best 1"})
    assert played.trajectory.detail == "the time limit of 0.4 s was reached"


def test_time_runs_out_in_the_first_model_call() -> None:
    """The question is not lost: the last call still holds it."""
    played = play([code("SUBMIT('guess')")], hang=[1], timeout=0.2, question="Really?")
    assert outcome(played) == ("timeout", {"answer": "guess"})
    assert [m.role for m in played.roots[-1].messages] == ["user"]
    assert "Really?" in played.told[-1]


def test_time_runs_out_in_a_cell() -> None:
    """The cell is interrupted, its state kept, and one last call answers."""
    played = play([code("x = 1\n" + ENDLESS), code("SUBMIT(f'best {x}')")], timeout=0.4)
    assert outcome(played) == ("timeout", {"answer": "best 1"})
    assert [c.status for c in played.trajectory.cells] == ["timeout", "submitted"]


def test_time_runs_out_in_a_sub_call() -> None:
    """The sub-call is given up and told as failed; one last call answers."""
    played = play([code("x = 1\nllm_query('a')"), code("SUBMIT(f'best {x}')")], sub=never, timeout=0.4)
    assert outcome(played) == ("timeout", {"answer": "best 1"})
    (subcall,) = played.trajectory.subcalls
    assert subcall.finished
    assert "cancelled" in subcall.error


def test_what_was_printed_before_the_time_ran_out_is_told() -> None:
    """The last call sees the output of the cell that was stopped: it may hold the answer."""
    played = play([code("print('found 42')\n" + ENDLESS), code("SUBMIT('42')")], timeout=0.4)
    assert "found 42" in played.told[1]


def test_no_sub_call_in_the_last_turn() -> None:
    """The budget is spent: sub-calls are refused while the last answer is given."""
    last = "try:\n    llm_query('a')\nexcept Exception as e:\n    SUBMIT(str(e))"
    played = play([code("x = 1"), code(last)], sub="x", max_iterations=1)
    assert "no sub-call is possible any more" in str(played.trajectory.values["answer"])


def test_the_last_reply_may_be_prose() -> None:
    """For a single text field a last reply without code is the answer."""
    played = play([code("x = 1"), "  It is probably 42.  "], max_iterations=1)
    assert outcome(played) == ("max_iterations", {"answer": "It is probably 42."})


def test_prose_is_no_number() -> None:
    """For other fields it is not; the fields stay empty and the detail says so."""
    played = play([code("x = 1"), "It is probably 42."], "-> n: list[int]", max_iterations=1)
    assert outcome(played) == ("max_iterations", {})
    assert "no valid answer was given" in played.trajectory.detail


def test_a_failing_last_call_ends_the_run_without_an_answer() -> None:
    """The limit is still what ended it; the detail says what happened then."""
    played = play([code("x = 1"), ModelError("overloaded")], max_iterations=1)
    assert outcome(played) == ("max_iterations", {})
    assert "all 1 iterations were used" in played.trajectory.detail
    assert "the last call failed: overloaded" in played.trajectory.detail


def test_a_refused_last_call_ends_the_run_without_an_answer() -> None:
    """A refusal is a failure of the last call."""
    played = play([code("x = 1"), Completion("no", "m", stop_reason="refusal")], max_iterations=1)
    assert outcome(played) == ("max_iterations", {})
    assert "refused" in played.trajectory.detail


# -- one cell's time ----------------------------------------------------------------------------------------------
def test_a_cell_that_takes_too_long_is_interrupted_and_the_run_goes_on() -> None:
    """The model is told; the variables are kept."""
    played = play([code("x = 1\n" + ENDLESS), code("SUBMIT(f'{x}')")], cell_timeout=0.2)
    assert outcome(played) == ("answered", {"answer": "1"})
    assert "Result: timeout" in played.told[1]
    assert "a block may take 0.2 s" in played.told[1]
    assert [c.status for c in played.trajectory.cells] == ["timeout", "submitted"]


def test_a_sub_call_counts_into_the_cells_time() -> None:
    """A cell that waits for a model that never answers is stopped as well."""
    played = play([code("x = 1\nllm_query('a')"), code("SUBMIT(f'{x}')")], sub=never, cell_timeout=0.2)
    assert outcome(played) == ("answered", {"answer": "1"})


def test_a_cell_that_ignores_interrupts_costs_its_sandbox() -> None:
    """A new one is built as it was before that cell; the model and the user are told."""
    played = play(
        [
            code("made = [llm_query('a')]"),
            code("made.append(1)\n" + STUBBORN),
            code("SUBMIT(f'{x} {made}')"),
        ],
        "x -> answer",
        variables={"x": 7},
        cell_timeout=0.2,
        sub="b",
    )
    assert outcome(played) == ("answered", {"answer": "7 ['b']"})
    assert played.sandbox.starts == 2
    assert len([r for r in played.model.requests if r.kind != "root"]) == 1
    assert "it went on although it was interrupted" in played.told[2]
    assert "your variables are what they were" in played.told[2]
    (note,) = [note for i in played.trajectory for note in i.notes]
    assert "The sandbox died: it went on although" in note
    assert "its cells were run again with the recorded replies" in note


def test_a_sandbox_that_dies_is_rebuilt() -> None:
    """The inputs are back and so is what was made, and the model knows."""
    played = play(
        [code("mine = 1"), code("die"), code("SUBMIT(f\"{x} {'mine' in globals()}\")")],
        "x -> answer",
        variables={"x": 7},
        sandbox=Dying(),
    )
    assert outcome(played) == ("answered", {"answer": "7 True"})
    assert [c.status for c in played.trajectory.cells] == ["ok", "died", "submitted"]
    assert "The REPL's process ended" in played.told[2]
    assert "running your earlier blocks again" in played.told[2]


def test_a_sandbox_that_dies_again_while_it_is_rebuilt() -> None:
    """It begins anew with the inputs, and the model knows that the rest is gone."""

    class DiesOnce(Dying):
        async def execute(self, source, on_chunk):
            return await super().execute("die" if source.startswith("mine") and self.starts == 2 else source, on_chunk)

    played = play(
        [code("mine = 1"), code("die"), code("SUBMIT(f\"{x} {'mine' in globals()}\")")],
        "x -> answer",
        variables={"x": 7},
        sandbox=DiesOnce(),
    )
    assert outcome(played) == ("answered", {"answer": "7 False"})
    assert "everything you had made is gone" in played.told[2]


def test_the_changes_after_a_replacement_are_the_models_own() -> None:
    """The inputs that came back are not told as made by the cell."""
    played = play(
        [code("die"), code("mine = 2"), code("SUBMIT('ok')")],
        "x -> answer",
        variables={"x": 7},
        sandbox=Dying(),
    )
    assert [v.name for v in played.trajectory.cells[1].changed] == ["mine"]


def test_dying_counts_as_an_error() -> None:
    """A model that kills its sandbox every time is stopped."""
    played = play([code("die")] * 2 + [code("SUBMIT('best')")], sandbox=Dying(), max_errors=2)
    assert outcome(played) == ("max_errors", {"answer": "best"})


def test_a_sandbox_that_cannot_be_replaced_ends_the_run() -> None:
    """The error is raised and the events say so."""

    class DiesForGood(Unstartable):
        async def execute(self, source, on_chunk):
            await self.shutdown()
            return await super().execute(source, on_chunk)

    played = play([code("x = 1")] * 2, sandbox=DiesForGood(SandboxError("no memory"), 2))
    assert isinstance(played.error, SandboxError)
    assert (played.trajectory.stop_reason, played.trajectory.detail) == ("error", "SandboxError: no memory")
    assert played.trajectory.cells[0].status == "died"


# -- trouble ------------------------------------------------------------------------------------------------------
def test_a_sandbox_that_cannot_start_cancels_the_model_call() -> None:
    """The run ends at once, without waiting for a reply that nobody could use."""
    played = play([], hang=[1], sandbox=Unstartable(SandboxError("no such thing")))
    assert isinstance(played.error, SandboxError)
    assert played.trajectory.stop_reason == "error"
    assert "no such thing" in played.trajectory.detail


def test_a_model_error_keeps_the_trajectory() -> None:
    """What was found until then is in the events, and the end is told."""
    played = play([code("print('found')"), ModelError("overloaded")])
    assert isinstance(played.error, ModelError)
    assert played.trajectory.cells[0].text() == "found\n"
    assert (played.trajectory.stop_reason, played.trajectory.detail) == ("error", "ModelError: overloaded")


def test_whatever_a_model_raises_is_a_model_error() -> None:
    """A model of the user's own may raise anything; it becomes one line with the model's name."""
    played = play([KeyError("choices")])
    assert isinstance(played.error, ModelError)
    assert str(played.error) == "scripted failed: KeyError: 'choices'"


def test_a_refusal_ends_the_run() -> None:
    """A model that refuses is an error that says what it said."""
    played = play([Completion("I would rather not.", "m", stop_reason="refusal")])
    assert isinstance(played.error, ModelError)
    assert "I would rather not." in str(played.error)


def test_what_a_refusal_cost_is_counted() -> None:
    """Its tokens were spent."""
    from rlm_kernel import Usage

    played = play([Completion("no", "m", Usage(10, 2), stop_reason="refusal")])
    assert Usage(10, 2) == played.trajectory.usage


def test_usage_of_turns_and_sub_calls_is_added_up() -> None:
    """The total is that of all calls together."""
    from rlm_kernel import Usage

    played = play(
        [Completion(code("llm_query('a')"), "m", Usage(10, 1)), Completion(code("SUBMIT('x')"), "m", Usage(20, 2))],
        sub="y" * 8,
    )
    assert 33 + played.trajectory.subcalls[0].usage.total_tokens == played.trajectory.usage.total_tokens


# -- stops --------------------------------------------------------------------------------------------------------
def test_a_stop_during_the_model_call() -> None:
    """The run ends as interrupted; the trajectory so far is kept."""
    seen = []

    def on(run: Run, event: ev.Event) -> None:
        if isinstance(event, ev.IterationStarted):
            seen.append(event.iteration)
            if event.iteration == 2:
                run.stop()

    played = play([code("print('found')")], hang=[2], on=on)
    assert outcome(played) == ("interrupted", {})
    assert played.trajectory.detail == "stopped by the user"
    assert played.trajectory.cells[0].text() == "found\n"


def test_a_stop_during_a_cell() -> None:
    """The cell is interrupted, and the sandbox keeps what it had made."""
    played = play([code("x = 41\n" + ENDLESS)], on=stop_at(ev.CellStarted))
    assert outcome(played) == ("interrupted", {})
    assert played.trajectory.cells[0].status == "interrupted"
    after = play([code("SUBMIT(str(x + 1))")], sandbox=played.sandbox)
    assert outcome(after) == ("answered", {"answer": "42"})


def test_a_stop_during_a_sub_call() -> None:
    """The sub-call is told as cancelled; the next run in the same sandbox works."""
    played = play([code("x = 41\nllm_query('a')")], sub=never, on=stop_at(ev.SubcallStarted))
    assert outcome(played) == ("interrupted", {})
    assert [s.finished for s in played.trajectory.subcalls] == [True]
    after = play([code("SUBMIT(llm_query(str(x + 1)))")], sandbox=played.sandbox, sub=str)
    assert outcome(after) == ("answered", {"answer": "42"})


def test_a_stop_while_the_sandbox_starts() -> None:
    """A start that never ends does not hold the run."""

    class Slow(Counting):
        async def start(self, handler):
            await asyncio.Event().wait()

    played = play([], hang=[1], sandbox=Slow(), on=stop_at(ev.IterationStarted))
    assert outcome(played) == ("interrupted", {})


def test_a_stop_of_a_cell_that_ignores_interrupts() -> None:
    """Its sandbox is ended; the run still ends as interrupted."""
    played = play([code(STUBBORN)], on=stop_at(ev.CellStarted))
    assert outcome(played) == ("interrupted", {})
    after = play([code("SUBMIT(str(x))")], "x -> answer", variables={"x": 7}, sandbox=played.sandbox)
    assert outcome(after) == ("answered", {"answer": "7"})


def test_a_stop_in_the_last_call() -> None:
    """The user's stop goes before the limit that had been reached."""

    def on(run: Run, event: ev.Event) -> None:
        if isinstance(event, ev.IterationStarted) and event.final:
            run.stop()

    played = play([code("x = 1")], hang=[2], on=on, max_iterations=1)
    assert outcome(played) == ("interrupted", {})


def test_a_cell_that_submits_while_it_is_stopped_has_answered() -> None:
    """An answer that was accepted is not thrown away."""

    def on(run: Run, event: ev.Event) -> None:
        if isinstance(event, ev.CellOutput):
            run.stop()

    cell = (
        "import time\ntry:\n    print('now')\n    while True: time.sleep(0.005)\nfinally:\n    SUBMIT('just in time')"
    )
    played = play([code(cell)], on=on)
    assert played.trajectory.values == {"answer": "just in time"}


# -- events -------------------------------------------------------------------------------------------------------
def test_the_events_of_a_small_run() -> None:
    """They come in the order in which things happen, and nothing is missing."""
    played = play([code("print('a')\nllm_query('q')", "x = 1"), code("SUBMIT('x')")], sub="r")
    assert played.kinds == [
        "RunStarted",
        "IterationStarted",
        "ModelFinished",
        "CellStarted",
        "CellOutput",
        "SubcallStarted",
        "SubcallFinished",
        "CellOutput",
        "CellFinished",
        "CellStarted",
        "CellFinished",
        "IterationFinished",
        "IterationStarted",
        "ModelFinished",
        "CellStarted",
        "CellFinished",
        "IterationFinished",
        "Final",
        "RunFinished",
    ]


def test_replies_stream() -> None:
    """The pieces come before the whole and are the whole."""
    played = play([code("SUBMIT('x')")])
    pieces = [e.text for e in played.events if isinstance(e, ev.ModelDelta)]
    assert len(pieces) > 1
    assert code("SUBMIT('x')") == "".join(pieces)


def test_the_end_is_always_told() -> None:
    """However a run ends, RunFinished is the last event and there is one."""
    for played in (
        play([code("SUBMIT('x')")]),
        play([ModelError("x")]),
        play([], hang=[1], on=stop_at(ev.IterationStarted)),
        play([], hang=[1], sandbox=Unstartable(SandboxError("x"))),
        play([code("x = 1"), ModelError("x")], max_iterations=1),
    ):
        assert played.kinds[-1] == "RunFinished"
        assert played.kinds.count("RunFinished") == 1


def test_whatever_starts_also_ends() -> None:
    """Every cell and sub-call that was told to start is told to end, also when the run was stopped."""
    for played in (
        play([code(ENDLESS)], on=stop_at(ev.CellStarted)),
        play([code("llm_batch(['a', 'b'])")], sub=never, on=stop_at(ev.SubcallStarted)),
        play([code("llm_batch(['a', 'b'])"), code("SUBMIT('x')")], sub=never, timeout=0.3),
        play([code(STUBBORN)], on=stop_at(ev.CellStarted)),
    ):
        assert played.kinds.count("CellStarted") == played.kinds.count("CellFinished")
        assert played.kinds.count("SubcallStarted") == played.kinds.count("SubcallFinished")


def test_events_are_frozen() -> None:
    """Nobody who is told can change what others are told."""
    for event in play([code("print(1)\nSUBMIT(llm_query('x'))")], sub="y").events:
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.at = 0.0  # type: ignore[misc]


def test_time_only_goes_forward() -> None:
    """`at` never decreases."""
    times = [e.at for e in play([code("print(1)"), code("SUBMIT('x')")]).events]
    assert sorted(times) == times


def test_the_fold_tells_the_whole_story() -> None:
    """Prompts, replies, code, output, sub-calls, observations and values are in the trajectory."""
    played = play([code("print('a')\nllm_query('q')"), code("SUBMIT('x')")], sub="r", question="Why?")
    story = Trajectory.fold(played.events)
    assert (story.question, story.signature, story.stop_reason) == ("Why?", "-> answer: str", "answered")
    assert [story.subcalls[0].prompt, story.subcalls[0].reply] == ["q", "r"]
    assert story[0].observation in played.told[1]
    assert played.told == [i.prompt for i in story]
    assert story.values == {"answer": "x"}


def test_a_hanging_sub_call_of_a_finished_cell_does_not_hold_the_run() -> None:
    """A thread that still waits for a model when its cell ends is let go."""
    cell = (
        "import threading, time\n"
        "def work():\n    try:\n        llm_query('a')\n    except SubcallError:\n        pass\n"
        "threading.Thread(target=work, daemon=True).start()\ntime.sleep(0.1)\n"
    )

    played = play([code(cell + "SUBMIT('x')")], sub=never)
    assert outcome(played) == ("answered", {"answer": "x"})


def test_scripted_models_end_with_their_script() -> None:
    """A script that is too short is an error that says so."""
    played = play([code("x = 1")])
    assert isinstance(played.error, ModelError)
    assert "1 replies were scripted" in str(played.error)
    assert isinstance(played.model, ScriptedModel)
