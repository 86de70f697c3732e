"""ScriptedModel, which users' tests rely on."""

from __future__ import annotations

import asyncio

import pytest

from rlm_kernel.errors import ModelError
from rlm_kernel.models import Completion, Model, ScriptedModel, Usage
from tests.fakes.asking import ask, listen, request


def test_replies_come_in_order() -> None:
    """Texts, completions, functions of the request and exceptions, one for each root request."""
    completion = Completion("two", "other", Usage(1, 2))
    scripted = ScriptedModel(["one", completion, lambda asked: asked.messages[-1].content.upper(), OSError("four")])

    assert isinstance(scripted, Model)
    assert [ask(scripted, request(turn)).text for turn in ("a", "b", "c")] == ["one", "two", "C"]
    with pytest.raises(OSError, match="four"):
        ask(scripted)
    assert [asked.messages[0].content for asked in scripted.requests] == ["a", "b", "c", "hi"]


def test_a_script_at_its_end_says_how_long_it_was() -> None:
    """The number tells which turn was not foreseen."""
    with pytest.raises(ModelError, match="2 replies were scripted"):
        ask(ScriptedModel(["a", "b"]), *[request()] * 3)


def test_subrequests_are_answered_by_a_function_of_the_prompt() -> None:
    """Or a coroutine function, or a constant; they take nothing from the script."""

    async def shout(prompt: str) -> str:
        await asyncio.sleep(0)
        return prompt.upper()

    sub = request("hey", kind="sub")
    assert ask(ScriptedModel([], sub=shout), sub).text == "HEY"
    assert ask(ScriptedModel([], sub=str.title), sub).text == "Hey"
    assert ask(ScriptedModel([], sub="yes"), sub).text == "yes"
    with pytest.raises(ModelError, match="sub="):
        ask(ScriptedModel(["root only"]), sub)


def test_a_reply_streams_in_a_few_pieces() -> None:
    """Which together are the reply, whose usage is estimated from its length."""
    reply, deltas = listen(ScriptedModel(["x" * 41]), request("y" * 40, system="z" * 40))

    assert "".join(delta.text for delta in deltas) == reply.text
    assert 1 < len(deltas) <= 4
    assert reply.usage == Usage(20, 10)
    assert listen(ScriptedModel([""]))[1] == []


def test_a_delay_is_waited_and_close_does_nothing() -> None:
    """A delayed reply is the same reply."""
    assert ask(ScriptedModel(["a"], delay=0.001)).text == "a"
