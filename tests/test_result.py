"""`Result`: attributes per field, nothing lost on the way through pickle and copy."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "render"))
from story_maker import run

from rlm_kernel.result import Result


def result() -> Result:
    return Result(run(signature="t -> answer: str, worst: str, cost: float", values={"answer": "Three.", "cost": 7.5}))


def test_fields_are_attributes() -> None:
    """An answered field has its value, an unanswered one is None, in the order of the signature."""
    made = result()
    assert made.answer == "Three."
    assert made.worst is None
    assert dict(made.values) == {"answer": "Three.", "worst": None, "cost": 7.5}
    assert list(made.values) == ["answer", "worst", "cost"]


def test_our_own_attributes_win_over_fields() -> None:
    """A field called `cost` is found in `values`; `cost` is what the run cost."""
    assert result().cost == 0.0125
    assert result().values["cost"] == 7.5


def test_an_unknown_field_names_the_known_ones() -> None:
    """The message lists the fields and the nearest one."""
    with pytest.raises(AttributeError, match=r"'answr' \(did you mean 'answer'\?\); its fields: answer, worst, cost"):
        _ = result().answr


def test_values_cannot_be_changed() -> None:
    """`values` is a view."""
    with pytest.raises(TypeError):
        result().values["answer"] = "Four."  # type: ignore[index]


def test_tab_completion_knows_the_fields() -> None:
    """`dir` has the fields beside the attributes."""
    assert {"answer", "worst", "trajectory", "usage"} <= set(dir(result()))


def test_the_story_is_at_hand() -> None:
    """Trajectory, iterations, usage, time, stop reason and detail come from the run."""
    made = result()
    assert made.trajectory.iterations == made.iterations
    assert made.usage.total_tokens == 1550
    assert made.total_time == 9.75
    assert (made.stop_reason, made.detail) == ("answered", "")


@pytest.mark.parametrize(
    "through", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))], ids=["copy", "deepcopy", "pickle"]
)
def test_a_result_can_travel(through: object) -> None:
    """A copy answers the same, fields included."""
    made = through(result())  # type: ignore[operator]
    assert made.answer == "Three."
    assert repr(result()) == repr(made)


def test_an_empty_shell_has_no_fields() -> None:
    """Protocols that look before `__init__` ran get an AttributeError, never an endless recursion."""
    shell = Result.__new__(Result)
    assert not hasattr(shell, "answer")
    assert not hasattr(shell, "values")
    assert not hasattr(result(), "_ipython_display_")


def test_it_shows_itself_in_three_forms() -> None:
    """HTML, Markdown and text, any of which can be left out; the text is the repr."""
    made = result()
    bundle = made._repr_mimebundle_()
    assert list(bundle) == ["text/html", "text/markdown", "text/plain"]
    assert repr(made) == bundle["text/plain"]
    assert list(made._repr_mimebundle_(include={"text/html"})) == ["text/html"]
    assert "text/html" not in made._repr_mimebundle_(exclude={"text/html"})


def test_the_answer_alone() -> None:
    """`answer_only` shows the fields and nothing of the story."""
    for shown in result().answer_only()._repr_mimebundle_().values():
        assert "Three" in shown
        assert "iteration" not in shown
