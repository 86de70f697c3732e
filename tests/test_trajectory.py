"""Trajectories fold events: those of child runs into the tree, in whatever order parallel runs tell them."""

from __future__ import annotations

import copy
import pickle
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parent / "render"))
from story_maker import events, family, interleaved

from rlm_kernel import events as ev
from rlm_kernel.trajectory import Trajectory
from rlm_kernel.usage import Usage


def assembled(runs: dict[str, list[ev.Event]], name: str) -> Trajectory:
    """The tree made by hand: each run folded alone, its children put in their places."""
    made = Trajectory.fold(runs[name])
    for subcall in made.subcalls:
        if f"{name}.{subcall.number}" in runs:
            subcall.run = assembled(runs, f"{name}.{subcall.number}")
    return made


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["1", "main", "a.1"]), st.sampled_from([(50,), (4, 3, 2), (1,) * 12]), st.integers())
def test_any_interleaving_gives_the_same_tree(name: str, shape: tuple[int, ...], seed: int) -> None:
    """Fifty children in parallel, or children of children: each event reaches its own run."""
    runs = family(name, *shape)
    made = Trajectory.fold(interleaved(runs, name, random.Random(seed)))
    assert made == assembled(runs, name)
    for known, own in runs.items():
        found = made.find(known)
        assert found is not None
        assert found.question == f"I am {known}"
        assert found == assembled({k: v for k, v in runs.items() if (k + ".").startswith(known + ".")}, known)
        assert len(own) > 5


def test_a_child_run_is_found_by_its_path() -> None:
    """`find` knows the run itself and those below it, and no others."""
    runs = family("1", 2, 2)
    made = Trajectory.fold(interleaved(runs, "1", random.Random(0)))
    assert made.find("1") is made
    assert made.find("1.2") is made.subcall(2).run
    below = made.subcall(2).run
    assert below is not None
    assert made.find("1.2.1") is below.subcall(1).run
    assert below.find("1.2.1") is below.subcall(1).run
    assert below.parent == "1"
    for other in ("", "2", "1.3", "1.", "1..1", "12", "1.2.1.1", "1.x", "1." + "9" * 5000, ".1", "1.²"):
        assert made.find(other) is None
    assert below.find("1") is None


def test_a_child_run_folds_alone() -> None:
    """Its own events, without those of its parent, give its trajectory; so do they with those of its own children."""
    runs = family("1", 2, 2)
    whole = Trajectory.fold(interleaved(runs, "1", random.Random(0)))
    alone = Trajectory.fold(
        interleaved({k: v for k, v in runs.items() if k.startswith("1.2")}, "1.2", random.Random(1))
    )
    assert alone == whole.find("1.2")


def test_events_of_unknown_runs_are_passed_over() -> None:
    """A run that nobody asked for, one whose parent is not known, and one that is no run at all."""
    known = events(subcalls=1)
    expected = Trajectory.fold(known)
    strangers = [
        *events(name="other"),
        *events(name="main.2", parent="main"),
        *events(name="main.1.1", parent="main"),
        *events(name="main.x", parent="main"),
        *events(name="other.1", parent="other"),
        *events(name="main.1.4", parent="main.1"),
    ]
    assert Trajectory.fold([*known, *strangers]) == expected
    assert Trajectory.fold([*events()[1:], *known]) == expected


def test_a_child_may_outlive_its_subcall() -> None:
    """A sub-call that was stopped ends before the last events of its run arrive."""
    runs = family("1", 1)
    made = Trajectory.fold([*runs["1"], *runs["1.1"]])
    assert made == Trajectory.fold(interleaved(runs, "1", random.Random(3)))


def test_a_tree_can_be_copied_and_pickled() -> None:
    """The copy finds its own runs, and goes on by itself."""
    runs = family("1", 2, 2)
    made = Trajectory.fold(interleaved(runs, "1", random.Random(0)))
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert again == made
        assert again.find("1.2.1") is not made.find("1.2.1")
        again.add(ev.Final(run="1.2.1", at=2, iteration=1, values={"answer": "changed"}))
        assert again.find("1.2.1").values == {"answer": "changed"}
        assert made.find("1.2.1").values == {"answer": "1.2.1"}  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["stdout", "stderr"])
def test_small_pieces_of_output_are_joined(kind: str) -> None:
    """Those of one kind that follow each other, up to a length at which joining would copy too much."""
    made = Trajectory.fold(events(outputs=((kind, "a"), (kind, "b" * 100_000), (kind, "c"), ("display", "d"))))
    assert [o.text[:2] for o in made.cells[0].outputs] == ["ab", "c", "d"]


def test_a_call_that_was_made_again_voids_what_streamed() -> None:
    """After `restart` only the new pieces count, and the whole reply replaces them all."""
    at = {"run": "1", "at": 0.0, "iteration": 1}
    start = [e for e in events(name="1")[:2] if not isinstance(e, ev.ModelFinished)]
    pieces = [ev.ModelDelta(**at, text=t, kind=k) for t, k in  # type: ignore[arg-type]
              (("one", "text"), ("hm", "thinking"), ("", "restart"), ("two", "text"))]  # fmt: skip
    made = Trajectory.fold([*start, *pieces])
    assert (made[0].reply, made[0].thinking, made[0].done) == ("two", "", False)
    whole = ev.ModelFinished(**at, reply="all", thinking="so", model="m", usage=Usage(), cost=None, seconds=1, cells=())
    made.add(whole)
    assert (made[0].reply, made[0].thinking) == ("all", "so")
