"""Keeps what a session has, in a file and out of it: the conversation, the history and the sandbox's variables."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rlm_kernel.archive import Archive, Writer
from rlm_kernel.errors import InputError, RecordingError
from rlm_kernel.memory import Memory
from rlm_kernel.render.clean import clip, count
from rlm_kernel.sandbox.journal import Journal
from rlm_kernel.sandbox.state import put_back, take_out

__all__ = ["Kept", "load", "save"]

_SHOWN, _WIDTH = 20, 400
_OURS = ("history", "transcript")
"""Variables that are made anew from what the session knows."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What was saved, or loaded, and what was not; `print` it."""

    path: Path
    done: str
    """`saved` or `loaded`."""
    variables: tuple[str, ...] = ()
    """By name."""
    questions: int = 0
    """Of the history."""
    replies: int = 0
    """Of the conversation that can be gone on with; 0 without one."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a variable is not there, by name."""
    size: int = 0
    """Bytes of the file."""

    def __str__(self) -> str:
        talk = f"a conversation of {count(self.replies, 'turn')}" if self.replies else "no conversation"
        size = f" ({self.size / 2**20:,.1f} MB)" if self.size >= 2**20 else ""
        has = f"{count(len(self.variables), 'variable')}, {talk}, {count(self.questions, 'question')}"
        lines = [f"{self.done} {self.path}{size}: {has}"]
        for name, why in list(self.missing.items())[:_SHOWN]:
            lines.append(clip(f"not {self.done}: {name if name != '*' else 'the variables'}: {why}", _WIDTH))
        if len(self.missing) > _SHOWN:
            lines.append(f"not {self.done}: {len(self.missing) - _SHOWN} more")
        return "\n".join(lines)


async def save(path: str | os.PathLike[str], journal: Journal, memory: Memory) -> Kept:
    """Write a session's file. What was there before stays if that cannot be done.

    Raises:
        InputError: there is nothing to save, or the path is a folder's.
        RecordingError: it cannot be written.
        SandboxError: the sandbox broke off.
    """
    if not memory.history.asked:
        raise InputError("there is nothing to save yet: ask something first")
    path = _place(path)
    try:
        with Writer(path) as writer:
            skipped = [memory.history.name(name) for name in _OURS]
            memory.refused = await take_out(journal, writer, skipped)
            size = await asyncio.to_thread(writer.finish, memory)
            variables = tuple(variable.name for variable in writer.variables)
    except OSError as error:
        raise RecordingError(f"cannot write {path}: {error.strerror or error}") from None
    replies = memory.talk.replies if memory.talk is not None else 0
    return Kept(path, "saved", variables, memory.history.asked, replies, memory.refused, size)


def _place(path: str | os.PathLike[str]) -> Path:
    place = Path(path).expanduser()
    if not place.name or place.is_dir():
        raise InputError(f"{path} is a folder: name a file to save to")
    return place


async def load(path: str | os.PathLike[str], archive: Archive, journal: Journal) -> Kept:
    """Fill an empty sandbox with what a session's file has.

    Raises:
        SandboxError: it could not be started, or broke off; it is empty again.
    """
    memory, found = archive.memory, archive.variables
    try:
        failed = await put_back(journal, found, archive.read) if found else {}
    except BaseException:  # stopped, even
        await journal.shutdown()
        raise
    loaded = tuple(variable.name for variable in found if variable.name not in failed)
    memory.history.claim(loaded)
    if memory.talk is not None and memory.talk.transcript:
        await journal.put({memory.history.name("transcript"): memory.talk.transcript})
    replies = memory.talk.replies if memory.talk is not None else 0
    missing = {**memory.refused, **failed}
    return Kept(Path(path), "loaded", loaded, memory.history.asked, replies, missing)
