"""Replays: a recording answers what it was asked when it was made, and nothing else."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from rlm_kernel.errors import AuthenticationError, DriftError, ModelError
from rlm_kernel.models import Delta, Recording, Request, ScriptedModel
from rlm_kernel.models.base import Refused
from tests.fakes.asking import ask, followed, listen, request
from tests.fakes.runs import ASKED, FIRST, REPLIES, SECOND, record, replay

if TYPE_CHECKING:
    from pathlib import Path

    from rlm_kernel.models import Model, ReplayModel


def drift(model: Model, asked: Request) -> str:
    with pytest.raises(DriftError) as caught:
        ask(model, asked)
    return str(caught.value)


def test_a_run_replays_as_it_was(path: Path) -> None:
    """The same completions under the same name, thinking, usage and stop reason included."""
    record(path, ScriptedModel(REPLIES, name="claude-x"), FIRST, SECOND)
    again = replay(path)

    assert again.name == "claude-x"
    assert ask(again, FIRST).text == REPLIES[0]
    assert listen(again, SECOND) == (REPLIES[1], [Delta("easy", "thinking"), Delta("FINAL(3)")])
    assert again.unused() is None


def test_addresses_and_the_time_left_may_differ(path: Path) -> None:
    """They are different in every run by nature."""
    record(path, ScriptedModel(REPLIES), FIRST, SECOND)
    again = replay(path)
    other = request("x has 3 rows\nat 0x55d0beef\n[left: 1 min, $2]")

    assert ask(again, other).text == REPLIES[0]
    assert ask(again, followed(other, "```repl\nlen(x)\n```", "output: 3")).text == "FINAL(3)"


def test_drift_shows_what_differs_and_where(path: Path) -> None:
    """Which turn, a unified diff, and what to do about it."""
    record(path, ScriptedModel(REPLIES, name="claude-x"), FIRST, SECOND)
    again = replay(path)
    ask(again, FIRST)
    message = drift(again, followed(FIRST, "```repl\nlen(x)\n```", "output: 4"))

    assert message.startswith(
        f"turn 2 of 'claude-x' differs, says {path}:\n--- recorded\n+++ asked now\n@@ from line 2 @@\n"
    )
    assert "-output: 3\n+output: 4\n" in message
    assert message.endswith(f"record it again with --record {path}")


def test_drift_of_the_system_prompt_and_of_the_first_message_is_seen(path: Path) -> None:
    """Both belong to the first request."""
    record(path, ScriptedModel(REPLIES), FIRST)

    assert "-be brief\n+be verbose\n" in drift(replay(path), Request(FIRST.messages, "be verbose"))
    assert "-x has 3 rows\n+x has 4 rows\n" in drift(replay(path), request(FIRST.messages[0].content.replace("3", "4")))


def test_one_turn_more_than_recorded_is_drift(path: Path) -> None:
    """A replay never makes something up."""
    record(path, ScriptedModel(REPLIES), FIRST)
    again = replay(path)
    ask(again, FIRST)

    assert "turn 2 of 'scripted' was not recorded" in drift(again, SECOND)
    assert "+output: 3" in drift(again, SECOND)


def test_a_long_drift_stays_short(path: Path) -> None:
    """About 40 lines and 4,000 characters, the first difference among them, however far into a line it is."""
    long = "lorem ipsum " * 20_000 + "\n"
    record(path, ScriptedModel(REPLIES), request(long + "old" + long * 9))
    message = drift(replay(path), request(long + "new" + long * 9 + "more\n" * 5_000))

    assert len(message.splitlines()) <= 40
    assert len(message) <= 4_000
    assert "-old" in message
    assert "+new" in message


def test_subcalls_are_found_in_any_order(path: Path) -> None:
    """By model and prompt; the same prompt asked twice has two answers."""
    answers = iter("abc")
    root = ScriptedModel(["go"], name="big")
    sub = ScriptedModel([], name="small", sub=lambda prompt: prompt + next(answers))
    recorder = Recording.open(path).recorder(**ASKED)
    ask(recorder.wrap(root), FIRST)
    for prompt in ("same", "same", "other"):
        ask(recorder.wrap(sub), request(prompt, kind="sub"))
    recorder.save()

    again = replay(path)
    ask(again, FIRST)
    small = again.named("small")
    assert [ask(small, request(prompt, kind="sub")).text for prompt in ("other", "same", "same")] == [
        "otherc",
        "samea",
        "sameb",
    ]
    assert again.unused() is None


def test_an_unknown_subcall_is_drift(path: Path) -> None:
    """Shown against the nearest recorded one; a right prompt to the wrong model says so."""
    record(path, ScriptedModel(["go"], name="m", sub="yes"), FIRST, *(request(p, kind="sub") for p in ("zzz", "ab c")))

    assert "-ab c\n+ab d\n" in drift(replay(path), request("ab d", kind="sub"))
    assert "asks 'other' what was recorded of 'm'" in drift(replay(path).named("other"), request("zzz", kind="sub"))
    assert "was not recorded" in drift(replay(path).named("other"), request("new", kind="sub"))


def test_the_conversations_of_children_are_kept_apart(path: Path) -> None:
    """Two loops may take turns; each request belongs to the conversation that it continues."""
    child = request("child task")
    requests = [FIRST, child, followed(FIRST, "r", "more"), followed(child, "c", "more")]
    record(path, ScriptedModel(["r", "c", "r2", "c2"]), *requests)
    again = replay(path)

    order = [requests[0], requests[2], requests[1], requests[3]]
    assert [ask(again, each).text for each in order] == ["r", "r2", "c", "c2"]
    assert len(json.loads(path.read_text())["runs"][0]["conversations"]) == 2


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ModelError("rate\nlimit"), ModelError, "rate\nlimit"),
        (AuthenticationError("no"), AuthenticationError, "no"),
        (OSError("odd"), ModelError, "OSError: odd"),
    ],
)
def test_a_failed_call_fails_again(path: Path, error: Exception, kind: type[ModelError], message: str) -> None:
    """With the same error and message, and the conversation goes on after it."""
    recorder = Recording.open(path).recorder(**ASKED)
    wrapped = recorder.wrap(ScriptedModel([error, "then"]))
    with pytest.raises(type(error)):
        ask(wrapped, FIRST)
    ask(wrapped, FIRST)
    recorder.save()

    again = replay(path)
    with pytest.raises(kind) as caught:
        ask(again, FIRST)
    assert (type(caught.value), str(caught.value)) == (kind, message)
    assert ask(again, FIRST).text == "then"


def test_a_call_that_was_cut_short_says_so(path: Path) -> None:
    """It has no answer to give."""

    async def main() -> None:
        recorder = Recording.open(path).recorder(**ASKED)
        task = asyncio.create_task(recorder.wrap(ScriptedModel(["late"], delay=30)).complete(FIRST))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        recorder.save()

    asyncio.run(main())
    with pytest.raises(ModelError, match="cut short"):
        ask(replay(path), FIRST)


def test_recording_again_replaces_the_run_and_keeps_the_others(path: Path) -> None:
    """Same question, signature and first request: same place. A cell in a loop differs in its first request."""
    other = request("x has 5 rows")
    record(path, ScriptedModel(["old"]), FIRST)
    record(path, ScriptedModel(["five"]), other)
    record(path, ScriptedModel(["else"]), FIRST, question="Why?")
    record(path, ScriptedModel(["new"]), FIRST)

    assert len(Recording.load(path).runs) == 3
    assert ask(replay(path), FIRST).text == "new"
    assert ask(replay(path), other).text == "five"
    assert ask(replay(path, question="Why?"), FIRST).text == "else"
    assert "-x has 3 rows" in drift(replay(path), request("x has 6 rows"))


def test_the_system_prompt_can_narrow_the_choice(path: Path) -> None:
    """Of two runs with the same question, the one with this system prompt is compared with."""
    record(path, ScriptedModel(["a"]), request("one", system="A"))
    record(path, ScriptedModel(["b"]), request("two", system="B"))
    narrowed = Recording.load(path).replay(**ASKED, system="B")

    assert "-two\n+three\n" in drift(narrowed, request("three", system="B"))


def forbidden(again: ReplayModel, *asked: Request) -> list[str | None]:
    """What is said of these calls, in this order."""
    return [said.text if (said := again.remembered(each)) else None for each in asked]


def test_what_a_budget_forbade_is_remembered(path: Path) -> None:
    """Turns at their place and sub-calls by what they ask, each as often as it was; all else was not forbidden."""
    recorder = Recording.open(path).recorder(**ASKED)
    model = recorder.wrap(ScriptedModel(["r", "last"], sub="fine"))
    sub, other, more = request("p", kind="sub"), request("q", kind="sub"), followed(FIRST, "r", "too dear")
    final = followed(FIRST, "r", "too dear, so answer")
    ask(model, FIRST, sub)
    for each, text in ((sub, "sub"), (other, "other"), (more, "turn")):
        model.refused(each, Refused("budget", text))  # type: ignore[attr-defined]
    ask(model, final)
    recorder.save()

    again = replay(path)
    assert forbidden(again, FIRST, other, sub) == [None, "other", None]
    assert ask(again, FIRST, sub).text == "fine"
    assert forbidden(again, sub, sub, more, more, final) == ["sub", None, "turn", None, None]
    assert ask(again, final).text == "last"
    assert again.unused() is None


def test_a_run_that_was_forbidden_to_begin_is_remembered(path: Path) -> None:
    """Its first request is in the recording, and nothing else."""
    recorder = Recording.open(path).recorder(**ASKED)
    recorder.wrap(ScriptedModel([])).refused(FIRST, Refused("max_tokens", "no"))  # type: ignore[attr-defined]
    recorder.save()

    again, other = replay(path), request(FIRST.messages[0].content.replace("3", "5"))
    assert "-x has 3 rows\n+x has 5 rows\n" in drift(replay(path), other)
    assert forbidden(again, other, FIRST, FIRST) == [None, "no", None]
    assert again.unused() is None


def test_asking_what_was_forbidden_is_drift(path: Path) -> None:
    """There is no answer to it."""
    recorder = Recording.open(path).recorder(**ASKED)
    recorder.wrap(ScriptedModel([])).refused(FIRST, Refused("budget", "no"))  # type: ignore[attr-defined]
    recorder.save()

    assert "'scripted' is asked what a budget forbade when it was recorded" in drift(replay(path), FIRST)


def test_what_was_free_for_a_call_may_differ(path: Path) -> None:
    """The order in which calls end decides, so that code which prints it is no drift."""
    said = "the next call may {}, and {} are free for it"
    record(path, ScriptedModel(["a"]), request(said.format("cost $0.1000", "$0.0001 of $0.0500")))

    assert ask(replay(path), request(said.format("take 9 tokens", "5 of 7"))).text == "a"


def test_unused_calls_are_named(path: Path) -> None:
    """Turns and sub-calls that the replay did not ask for."""
    record(path, ScriptedModel(REPLIES, name="m", sub="y"), FIRST, SECOND, request("some prompt", kind="sub"))
    again = replay(path)
    assert again.unused() == "nothing of the recording was asked for"
    ask(again, FIRST)

    unused = again.unused() or ""
    assert "turn 2" in unused
    assert "'some prompt' to m" in unused


def test_a_question_that_was_not_recorded_lists_those_that_were(path: Path) -> None:
    """Shortened; a known question with another signature says so."""
    record(path, ScriptedModel(["a"]), FIRST, question="Why " + "so " * 100)
    record(path, ScriptedModel(["a"]), FIRST)

    with pytest.raises(DriftError, match=r"'How much\?'; it has 'Why so .*…', 'How many\?'; record it again with"):
        replay(path, question="How much?")
    with pytest.raises(DriftError, match="signature 'x -> n: int', not 'x -> n'"):
        replay(path, signature="x -> n")


def test_a_long_question_that_differs_late_shows_where(tmp_path: Path) -> None:
    """Its beginning, which is all that is quoted, is that of the recorded one."""
    question = "Which route is the least reliable? " * 4 + "Late is more than 30 minutes."
    path = tmp_path / "r.json"
    record(path, ScriptedModel(REPLIES), FIRST, question=question)
    with pytest.raises(DriftError) as caught:
        replay(path, question=question.replace("30", "15"))
    assert "30 minutes" in str(caught.value)
    assert "15 minutes" in str(caught.value)
