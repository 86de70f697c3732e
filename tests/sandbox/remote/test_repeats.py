"""What is done again after a broken connection, as values."""

from __future__ import annotations

from rlm_kernel.sandbox.repeats import Repeats

_CALL, _NEXT = '{"rlm": 1, "new": [{"id": 1}], "forget": []}', '{"rlm": 1, "new": [{"id": 2}], "forget": []}'
_WAIT = '{"rlm": 1, "new": [], "forget": []}'


def test_a_request_that_was_lost_is_new() -> None:
    """The guest repeats one that the host never saw: it is served as ever."""
    repeats = Repeats()
    assert not repeats.is_repeat(_CALL)
    repeats.answered("reply")
    repeats.expect()
    assert not repeats.is_repeat(_NEXT)
    assert repeats.answer == ""


def test_an_answer_that_was_lost_is_there_still() -> None:
    """The guest repeats one that was served: nothing is asked of a model twice, its answer is sent again."""
    repeats = Repeats()
    assert not repeats.is_repeat(_CALL)
    repeats.answered("reply")
    repeats.expect()
    assert repeats.is_repeat(_CALL)
    assert repeats.answer == "reply"


def test_a_request_that_comes_twice_is_served_once() -> None:
    """Also where nothing was expected: the word to repeat it may come late. Its answer may still be owed."""
    repeats = Repeats()
    assert not repeats.is_repeat(_CALL)
    assert repeats.is_repeat(_CALL)
    assert repeats.answer == ""


def test_waiting_is_no_repeat() -> None:
    """Requests that only wait are all alike; one after a break has the last answer sent again, which does no harm."""
    repeats = Repeats()
    for _ in range(3):
        assert not repeats.is_repeat(_WAIT)
        repeats.answered("nothing yet")
    repeats.expect()
    assert repeats.is_repeat(_WAIT)
    assert not repeats.is_repeat(_WAIT)
