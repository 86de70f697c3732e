"""Displays that are no text of their own are named in the panel."""

from __future__ import annotations

import pytest

from rlm_kernel.panel import scene
from rlm_kernel.panel.blocks import Blocks
from rlm_kernel.panel.store import Store
from rlm_kernel.trajectory import Subcall


@pytest.mark.parametrize("text", ["", "\n", " \n"])
def test_a_display_without_text_is_named(text: str) -> None:
    """By the kinds of data it came with, where the panel shows none of them."""
    blocks, store = Blocks(), Store()
    blocks.add("display", text, {"text/html": "<p>x</p>", "application/javascript": "x"})
    blocks.into(store, "1/1/1")
    assert store.take()["set"]["w/1/1/1/0"] == {
        "nodes": [["note", "text/html, application/javascript, in the trajectory"]]
    }


def test_equal_prompts_are_shown_whole() -> None:
    """What a prompt shares with the one beside it is left out, but not when that is all of it."""
    same = "Read this ticket and say in one word what it is about, and nothing else"
    first, second = (Subcall(number=n, prompt=same, model="m", batch=1, started=0.0) for n in (1, 2))
    assert scene.row(first, second)[4] == same
