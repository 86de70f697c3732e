"""A small run to record and replay, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm_kernel.models import Completion, Recording, ReplayModel, Request, Usage
from tests.fakes.asking import ask, followed, request

if TYPE_CHECKING:
    from pathlib import Path

    from rlm_kernel.models import Model

__all__ = ["ASKED", "FIRST", "REPLIES", "SECOND", "record", "replay"]

ASKED = {"question": "How many?", "signature": "x -> n: int"}
FIRST = request("x has 3 rows\nat 0x7f00aa\n[left: 9 s]")
SECOND = followed(FIRST, "```repl\nlen(x)\n```", "output: 3")
REPLIES: list[str | Completion] = [
    "```repl\nlen(x)\n```",
    Completion("FINAL(3)", "dated-name", Usage(7, 8, 9, 10), "easy", "max_tokens"),
]


def record(path: Path, model: Model, *requests: Request, **asked: str) -> None:
    """Record one run of these requests."""
    recorder = Recording.open(path).recorder(**{**ASKED, **asked})
    wrapped = recorder.wrap(model)
    for each in requests:
        ask(wrapped, each)
    recorder.save()


def replay(path: Path, **asked: str) -> ReplayModel:
    """The replay of that run."""
    return Recording.load(path).replay(**{**ASKED, **asked})
