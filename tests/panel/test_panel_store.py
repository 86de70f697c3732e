"""The store: what the browser is sent adds up to what the store holds, and nothing is sent twice."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rlm_kernel.panel.store import Store
from tests.panel.browser import Table

KEYS = st.sampled_from(["h/1", "x/1/2/3/0", "x/1/2/4/0", "b/1/2", "b/1/20"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.text(max_size=5)),
        st.tuples(st.just("text"), KEYS, st.sampled_from(["", "a", "ab", "abc", "b"])),
        st.tuples(st.just("row"), st.just("q/1/2/3"), st.integers(1, 5)),
        st.tuples(st.just("drop"), KEYS, st.none()),
        st.tuples(st.just("take"), st.none(), st.none()),
    )
)


@given(STEPS)
def test_patches_add_up(steps: list[tuple[str, Any, Any]]) -> None:
    """Whatever is written and whenever it is taken, the patches lead the browser to the same table."""
    store, table = Store(), Table()
    for step, key, value in steps:
        match step:
            case "set":
                store.set(key, value)
            case "text":
                store.text(key, value)
            case "row":
                store.row(key, value, [value])
            case "drop":
                store.drop(key)
            case "take":
                table.apply(store.take())
    table.apply(store.take())
    expected = {k: {str(n): r for n, r in v.items()} if isinstance(v, dict) else v for k, v in store.snapshot().items()}
    assert table.values == expected
    assert not store.pending


def test_only_what_is_new_travels() -> None:
    """An equal value is not sent again; a text that grows is sent by what it grew."""
    store = Store()
    store.set("h/1", {"a": 1})
    store.text("r/1/1", "Once upon")
    store.take()
    store.set("h/1", {"a": 1})
    store.text("r/1/1", "Once upon a time")
    assert store.take() == {"add": {"r/1/1": " a time"}}


def test_a_text_that_changed_is_sent_whole() -> None:
    """A text that is no continuation replaces the one before."""
    store = Store()
    store.text("x/1/1/1/0", "10%")
    store.take()
    store.text("x/1/1/1/0", "20%")
    assert store.take() == {"set": {"x/1/1/1/0": "20%"}}


def test_the_keys_of_an_iteration_are_its_own() -> None:
    """Iteration 2 is not iteration 20."""
    store = Store()
    for key in ("b/1/2", "x/1/2/3/0", "b/1/20", "i/1.2/2"):
        store.set(key, 1)
    assert store.keys("1/2") == ["b/1/2", "x/1/2/3/0"]


def test_a_snapshot_does_not_change_later() -> None:
    """Rows that come after it are not in it."""
    store = Store()
    store.row("q/1/1/1", 1, ["a"])
    before = store.snapshot()
    store.row("q/1/1/1", 2, ["b"])
    assert before == {"q/1/1/1": {1: ["a"]}}
