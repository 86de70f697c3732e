"""Trajectories as JSONL: what is saved comes back, the visualizer finds what it reads, wrong files are refused."""

from __future__ import annotations

import datetime
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parent / "render"))
from story_maker import everywhere, family, interleaved, run

from rlm_kernel.errors import RecordingError
from rlm_kernel.events import Variable
from rlm_kernel.trajectory import Trajectory

ANY = st.text(st.characters(exclude_categories=[]), max_size=60).filter(
    lambda s: s == json.loads(json.dumps(s))  # two halves of a character side by side become one
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=8,
)


def there_and_back(t: Trajectory) -> Trajectory:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.jsonl"
        t.save(path)
        return Trajectory.load(path)


@settings(max_examples=60, deadline=None)
@given(text=ANY, values=st.dictionaries(ANY, JSON, max_size=3), outputs=st.lists(ANY, max_size=3))
def test_a_saved_run_comes_back_equal(text: str, values: dict[str, Any], outputs: list[str]) -> None:
    """Every field of the tree, lone surrogates, infinities, tuples and child runs included."""
    t = run(
        question=text, detail=text, values=values, subcalls=2, iterations=2, note=text, thinking=text, error=text,
        tools=2, tool=text, arguments=text, result=text, failed=text,
        outputs=tuple((k, o, {"text/plain": o}) for o, k in zip(outputs, ("stderr", "result", "stdout"), strict=False)),
        variable=Variable(text, "str", description=text), cost=None, stop_reason="interrupted",
    )  # fmt: skip
    t.subcalls[1].run = run(question=text)
    t.tools = (text, text)
    back = there_and_back(t)
    assert t == back
    assert back.tool_call(3) is back.tool_calls[2]


@pytest.mark.parametrize("shape", [(50,), (3, 2, 2), (1,) * 30], ids=["wide", "tree", "deep"])
def test_child_runs_come_back_in_their_places(shape: tuple[int, ...]) -> None:
    """Every run of the tree is found by its name again, and further events reach it."""
    runs = family("1", *shape)
    t = Trajectory.fold(interleaved(runs, "1", random.Random(0)))
    back = there_and_back(t)
    assert t == back
    for name, own in runs.items():
        assert back.find(name) == t.find(name)
        back.add(own[-1])
    assert t == back


def test_a_child_run_tells_its_time_from_the_same_start(tmp_path: Path) -> None:
    """Its iterations are dated after the start of the outermost run, as those of that run are."""
    runs = family("1", 1)
    Trajectory.fold(interleaved(runs, "1", random.Random(0))).save(tmp_path / "run.jsonl")
    head, turn = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    child = turn["code_blocks"][0]["result"]["rlm_calls"][0]["metadata"]
    assert child["run_metadata"]["timestamp"] == head["timestamp"]
    assert child["iterations"][0]["timestamp"] == turn["timestamp"]


def test_halves_of_a_character_in_neighbouring_outputs_stay_apart() -> None:
    """Outputs are joined for the visualizer, yet come back as they were."""
    t = run(outputs=(("display", "\ud83d"), ("result", "\ude00")))
    assert t == there_and_back(t)


def test_values_that_json_cannot_hold_come_back_as_said() -> None:
    """A table as records, a numpy number as a number, anything else as the text of its repr."""
    frame = pd.DataFrame({"n": [1, 2]}, index=pd.Index(["a", "b"], name="key"))
    values = {
        "table": frame,
        "when": datetime.date(2024, 2, 29),
        "keys": {1: {2}},
        "own": {"rlm_kernel": 1},
        "big": 1 << 20_000,
    }
    back = there_and_back(run(values=values)).values
    assert back["table"] == [{"key": "a", "n": 1}, {"key": "b", "n": 2}]
    assert back["when"] == "datetime.date(2024, 2, 29)"
    assert back["keys"] == {1: "{2}"}
    assert back["own"] == {"rlm_kernel": 1}
    assert back["big"].startswith("0x1000")


def test_the_visualizer_finds_what_it_reads(tmp_path: Path) -> None:
    """A metadata line, then iterations alone, with the fields of alexzhang13's types and no NaN."""
    t = run(
        subcalls=1,
        tools=2,
        error="overloaded",
        iterations=2,
        outputs=(("stdout", "out"), ("error", "bad")),
        values={"answer": "3"},
    )
    t.iterations[1].cells[0].seconds = float("nan")
    t.save(tmp_path / "run.jsonl")
    refuse = pytest.fail
    head, *turns = [json.loads(x, parse_constant=refuse) for x in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert {
        "type", "timestamp", "root_model", "max_depth", "max_iterations", "backend", "backend_kwargs",
        "environment_type",
        "environment_kwargs", "other_backends", "rlm_kernel",
    } == set(head)  # fmt: skip
    assert [head["type"], *(line["type"] for line in turns)] == ["metadata", "iteration", "iteration"]
    assert [line["iteration"] for line in turns] == [1, 2]
    assert [line["final_answer"] for line in turns] == [None, "3"]
    assert turns[0]["prompt"][0]["content"] == 'original query: "How many tickets?"'
    assert turns[1]["prompt"] == [{"role": "user", "content": "turn 2"}]
    block = turns[0]["code_blocks"][0]
    assert tuple(block["result"][k] for k in ("stdout", "stderr", "execution_time")) == ("out", "bad", 0.5)
    (call,) = block["result"]["rlm_calls"]
    assert tuple(call[k] for k in ("prompt_tokens", "completion_tokens", "response", "error")) == (
        3,
        1,
        "Done",
        "overloaded",
    )
    usage = {"total_calls": 1, "total_input_tokens": 3, "total_output_tokens": 1, "total_cost": 0.0}
    assert {"small": usage} == call["usage_summary"]["model_usage_summaries"]


def test_a_file_of_alexzhang13_opens(tmp_path: Path) -> None:
    """Metadata, iterations, sub-calls and the old pair of a final answer are understood."""
    call = {
        "root_model": "mini", "prompt": [{"role": "user", "content": "p"}], "response": "r", "execution_time": 1.5,
        "usage_summary": {"model_usage_summaries": {"mini": {"total_input_tokens": 9, "total_output_tokens": 2}}},
    }  # fmt: skip
    result = {"stdout": "hello\n", "stderr": "", "locals": {}, "execution_time": 0.5, "rlm_calls": [call]}
    lines = [
        {"type": "metadata", "timestamp": "t", "root_model": "gpt-5", "max_depth": 1, "max_iterations": 30},
        {"type": "run_context", "root_prompt": "Why?"},
        {
            "type": "iteration", "iteration": 1, "timestamp": "t", "prompt": [{"role": "user", "content": "go"}],
            "response": "ok", "code_blocks": [{"code": "print('hello')", "result": result}],
            "final_answer": ["FINAL", "42"], "iteration_time": 2.0,
        },
    ]  # fmt: skip
    (tmp_path / "theirs.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    t = Trajectory.load(tmp_path / "theirs.jsonl")
    assert (t.model, t.max_iterations, t.question, t.values) == ("gpt-5", 30, "Why?", {"answer": "42"})
    assert (t.cells[0].code, t.cells[0].text("stdout")) == ("print('hello')", "hello\n")
    assert (t.subcalls[0].usage.input_tokens, t.subcalls[0].usage.output_tokens, t.subcalls[0].reply) == (9, 2, "r")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"{}", b"[1]", b"\xff\xfe", b'{"type": "metadata", "rlm_kernel": {}}', b"[" * 100_000, b"null",
     b'{"type": "metadata", "rlm_kernel": {"version": 99}}', b'{"type": "iteration", "code_blocks": 3}',
     b'{"type": "iteration", "code_blocks": [{"code": 1, "result": []}]}\n{"type": "iter'],
    ids=lambda c: repr(c[:30]),
)  # fmt: skip
def test_a_file_that_is_no_trajectory_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    """Whatever the file holds, the error is ours, names the file and takes one line."""
    path = tmp_path / "wrong.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"wrong\.jsonl") as caught:
        Trajectory.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_folder_is_said(tmp_path: Path) -> None:
    """Reading and writing where nothing is gives a RecordingError."""
    with pytest.raises(RecordingError, match="cannot read"):
        Trajectory.load(tmp_path / "none.jsonl")
    with pytest.raises(RecordingError, match="cannot write"):
        run().save(tmp_path / "none" / "run.jsonl")


def test_saving_replaces_the_file_whole(tmp_path: Path) -> None:
    """A failed save leaves the old file and nothing beside it."""
    path = tmp_path / "run.jsonl"
    run().save(path)
    before = path.read_bytes()
    broken = run()
    broken.iterations[0].reply = object()  # type: ignore[assignment]
    with pytest.raises(TypeError):
        broken.save(path)
    assert before == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def test_a_loaded_run_goes_on(tmp_path: Path) -> None:
    """Hostile text survives, and the sub-calls of a loaded run are the objects that further events find."""
    t = everywhere("\ud800</script>\u202e")
    t.save(tmp_path / "run.jsonl")
    back = Trajectory.load(tmp_path / "run.jsonl")
    assert t == back
    assert back.subcalls[0] is back._subcalls[1]
