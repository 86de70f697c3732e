"""The panel's messages: few, numbered, answered, and the state of a page that is loaded again."""

from __future__ import annotations

import time
from typing import Any

import pytest

from rlm_kernel.errors import InputError
from rlm_kernel.panel import LivePanel, watched
from rlm_kernel.trajectory import Trajectory
from tests.panel.browser import Recorder, Table, story


def panel(stopped: list[int] | None = None) -> tuple[Trajectory, LivePanel, Recorder]:
    """A panel of a run that is about to begin."""
    trajectory = Trajectory()
    made = LivePanel(trajectory, lambda: stopped.append(1) if stopped is not None else None)
    assert isinstance(made.widget.comm, Recorder)
    return trajectory, made, made.widget.comm


def test_a_run_of_many_events_is_few_messages() -> None:
    """Events come in thousands; messages at most every 60 ms, and they add up."""
    trajectory, made, comm = panel()
    began = time.monotonic()
    for event in story(1, iterations=60):
        trajectory.add(event)
        made.hear(event)
        made.pulse()
    seconds = time.monotonic() - began
    made.finish()
    assert len(comm.messages) <= seconds / 0.06 + 3
    assert [m["seq"] for m in comm.messages] == list(range(1, len(comm.messages) + 1))
    table = Table()
    for message in comm.messages:
        table.apply(message)
    expected = Table()
    expected.apply({"set": made.widget.get_state()["state"]["set"]})
    assert table.values == expected.values


def test_a_page_that_is_loaded_again_gets_everything() -> None:
    """The state that is asked for in the middle has all that was told, its number, and the time."""
    trajectory, made, comm = panel()
    for event in list(story(1))[:-2]:
        trajectory.add(event)
        made.hear(event)
    made._tell()
    state = made.widget.get_state()["state"]
    assert state["seq"] == comm.messages[-1]["seq"]
    assert "b/1/5" in state["set"]
    assert state["now"] >= 0


def test_the_widget_opens_small() -> None:
    """Nothing of a run is in the message that opens the comm, and nothing is synchronised later."""
    trajectory, made, comm = panel()
    for event in story(1, iterations=3):
        trajectory.add(event)
        made.hear(event)
        made._tell()
    assert comm.sent[0][1]["state"]["state"]["set"] == {}
    assert {data.get("method") for _, data in comm.sent[1:]} == {"custom"}


def test_stop_is_passed_on_and_answered() -> None:
    """A click calls `on_stop` at once, in whichever thread it comes; the answer goes out with the next pulse."""
    stopped: list[int] = []
    _, made, comm = panel(stopped)
    comm.ask(id="q1", stop=True)
    assert stopped == [1]
    assert comm.messages == []
    made.pulse()
    assert comm.messages[-1]["answers"] == [{"id": "q1"}]


def test_after_the_end_questions_are_answered_at_once() -> None:
    """Nobody calls `pulse` any more; and Stop does nothing."""
    stopped: list[int] = []
    trajectory, made, comm = panel(stopped)
    for event in story(1):
        trajectory.add(event)
        made.hear(event)
    made.finish()
    comm.ask(id="q2", stop=True)
    comm.ask(id="q3", find="print(2)")
    assert stopped == []
    assert comm.messages[-1]["answers"] == [{"id": "q3", "found": [2]}]


def test_a_gap_can_be_filled() -> None:
    """A browser that missed a message asks for the whole state."""
    trajectory, made, comm = panel()
    for event in story(1):
        trajectory.add(event)
        made.hear(event)
    made.finish()
    comm.ask(id="q4", sync=True)
    answer = comm.messages[-1]["answers"][0]
    assert answer["set"]["h/1"]["words"] == "Answered"
    assert answer["seq"] == comm.messages[-1]["seq"]


@pytest.mark.parametrize("nonsense", [None, 3, "stop", [], {"stop": True, "id": {"a": 1}}, {"body": [[], {}]}])
def test_nonsense_from_the_browser_does_no_harm(nonsense: Any) -> None:
    """Whatever comes, the panel goes on."""
    trajectory, made, comm = panel()
    comm.handle_msg({"content": {"data": {"method": "custom", "content": nonsense}}, "buffers": []})
    for event in story(1):
        trajectory.add(event)
        made.hear(event)
    made.finish()
    assert comm.messages[-1]["set"]["h/1"]["words"] == "Answered"


def test_the_next_panel_closes_the_last() -> None:
    """One panel stays open after its run, for a page that was loaded again; the next run's takes its place."""
    comms = []
    for seed in (1, 2):
        trajectory, made, comm = panel()
        for event in story(seed):
            trajectory.add(event)
            made.hear(event)
        made.finish()
        comms.append(comm)
    assert [any(kind == "comm_close" for kind, _ in comm.sent) for comm in comms] == [True, False]


def test_the_representation_has_no_address() -> None:
    """Outputs are compared."""
    _, made, _ = panel()
    assert "0x" not in repr(made.widget)


def test_a_wrong_mode_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """`RLM_PANEL` has two values."""
    monkeypatch.setenv("RLM_PANEL", "fancy")
    with pytest.raises(InputError, match="live or static, not 'fancy'"):
        watched()


def test_a_script_has_no_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a kernel nobody watches, whatever the environment says."""
    monkeypatch.setenv("RLM_PANEL", "live")
    assert not watched()


def test_a_shown_trajectory_outside_of_a_notebook_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """`trajectory.show()` in a script prints the story."""
    Trajectory.fold(story(1)).show()
    assert capsys.readouterr().out.startswith("so\n\n1 ✓ I think of 1.")
