"""Recordings: every model reply of a notebook in a JSON file beside it, answered again offline and without a key.

A replay gives nothing but what was recorded for exactly the same request. Anything else is a `DriftError`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rlm_kernel.errors import DriftError, RecordingError
from rlm_kernel.models._drift import difference, masked, shorten
from rlm_kernel.models._recorded import FORMAT, VERSION, Failed, Run, dump, load
from rlm_kernel.models._recorder import RunRecorder
from rlm_kernel.models._tape import Tape, raised
from rlm_kernel.models.attempts import METER
from rlm_kernel.models.base import Completion, Delta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlm_kernel.errors import ModelError
    from rlm_kernel.models.base import OnDelta, Refused, Request
    from rlm_kernel.models.batches import OnNews

__all__ = ["Recording", "ReplayModel", "RunRecorder"]

_SHOWN = 10
"""Questions named when the one asked for is not among them."""


class Recording:
    """A file of recorded runs, each known by its question, its signature and its first request."""

    def __init__(self, path: str | os.PathLike[str], runs: Sequence[Run] = (), note: str = "") -> None:
        """Use `load` or `open`."""
        self.path = Path(path)
        self.runs = list(runs)
        self.note = note

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording:
        """Read a recording.

        Raises:
            RecordingError: there is none, it cannot be read, or it needs a newer version of this package.
        """
        try:
            document = json.loads(Path(path).read_bytes())
        except FileNotFoundError:
            raise RecordingError(f"no recording at {path}: make one with --record {path}") from None
        except OSError as exc:
            raise RecordingError(f"cannot read {path}: {exc.strerror or exc}") from exc
        except (ValueError, RecursionError) as exc:
            raise RecordingError(f"{path} is not a recording: {exc}") from exc
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise RecordingError(f'{path} is not a recording: it lacks "format": "{FORMAT}"')
        version = document.get("version")
        if not isinstance(version, int):
            raise RecordingError(f"{path} is damaged: its version is {version!r}")
        if version > VERSION:
            text = f"{path} has recording version {version}, this rlm_kernel reads up to {VERSION}"
            raise RecordingError(f"{text}: pip install --upgrade rlm_kernel")
        try:
            runs, note = load(document)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise RecordingError(f"{path} is damaged: {type(exc).__name__}: {exc}") from exc
        return cls(path, runs, note)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Recording:
        """Read a recording to add to it, or start a new one. Nothing is written before a run is saved.

        Raises:
            RecordingError: something is at `path` that is not a readable recording, or nothing can be written there.
        """
        folder = Path(path).absolute().parent
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise RecordingError(f"cannot write {path}: {folder} is not a folder that can be written to")
        return cls.load(path) if Path(path).exists() else cls(path)

    def recorder(self, *, question: str, signature: str, sub_model: str = "") -> RunRecorder:
        """Begin to record a run; `sub_model` is the name of the model that its sub-calls ask."""
        return RunRecorder(Run(question, signature, sub_model), self._keep)

    def replay(self, *, question: str, signature: str, system: str | None = None) -> ReplayModel:
        """The model that answers as recorded for this question and signature.

        Args:
            question: as it was when recorded.
            signature: likewise.
            system: with several such runs, prefer those with this system prompt. Among what is left, the first
                request decides.

        Raises:
            DriftError: no such run was recorded.
        """
        runs = [run for run in self.runs if (run.question, run.signature) == (question, signature)]
        if not runs:
            raise DriftError(self._missing(question, signature))
        if system is not None:
            wanted = masked(system, ())
            runs = [
                run for run in runs if run.conversations and masked(run.conversations[0].system, ()) == wanted
            ] or runs
        tape = Tape(runs, str(self.path))
        return ReplayModel(tape, tape.model)

    def _missing(self, question: str, signature: str) -> str:
        others = dict.fromkeys(run.signature for run in self.runs if run.question == question)
        if others:
            known = f"it has this question with the signature {', '.join(map(repr, others))}, not {signature!r}"
        elif alike := [run.question for run in self.runs if shorten(run.question) == shorten(question)]:
            # quoted, the two would look the same
            known = f"it has one that differs:\n{difference(alike[0], question)}\nask as it was recorded"
        elif self.runs:
            questions = list(dict.fromkeys(shorten(run.question) for run in self.runs))
            more = f" and {len(questions) - _SHOWN} more" if len(questions) > _SHOWN else ""
            known = f"it has {', '.join(questions[:_SHOWN])}{more}"
        else:
            known = "it is empty"
        return f"{self.path} has no run for {shorten(question)}; {known}; record it again with --record {self.path}"

    def _keep(self, run: Run) -> None:
        """Put `run` in the place of its predecessor, or last, and write the file.

        Read again first: another cell may have saved to the same file since.
        """
        current = Recording.open(self.path)
        self.runs, self.note = current.runs, current.note
        places = [place for place, old in enumerate(self.runs) if _identity(old) == _identity(run)]
        if places:
            self.runs[places[0]] = run
        else:
            self.runs.append(run)
        _write(self.path, dump(self.runs, self.note))


class ReplayModel:
    """Answers from a recording: root requests turn by turn, sub-requests by model and prompt in any order."""

    def __init__(self, tape: Tape, name: str) -> None:
        """Made by `Recording.replay`."""
        self.name = name
        self._tape = tape

    def named(self, name: str) -> ReplayModel:
        """The same replay in the part of another model of the run, its sub-model for instance."""
        return ReplayModel(self._tape, name)

    async def complete(self, request: Request, on_delta: OnDelta | None = None) -> Completion:
        """Answer as recorded, the recorded failure included.

        Raises:
            DriftError: this was not asked when the run was recorded; the message shows the difference.
            ModelError: this call had failed.
        """
        outcome = self._tape.answer(self.name, request)
        if isinstance(outcome, Failed):
            if (meter := METER.get()) is not None:
                for usage in outcome.abandoned:
                    meter.abandoned(usage)
            raise raised(outcome)
        if on_delta is not None:
            for delta in (Delta(outcome.thinking, "thinking"), Delta(outcome.text)):
                if delta.text:
                    on_delta(delta)
        return outcome

    def remembered(self, request: Request) -> Refused | None:
        """What was said when a budget forbade this call; None if it did not. A replay itself pays nothing."""
        return self._tape.refused(self.name, request)

    def pending_batch(self, requests: Sequence[Request]) -> None:
        """Nothing is handed in to anybody."""

    async def complete_batch(
        self, requests: Sequence[Request], on_news: OnNews | None = None
    ) -> Sequence[Completion | ModelError]:
        """Answer each as recorded, at once.

        Raises:
            DriftError: one of them was not asked when the run was recorded.
        """
        outcomes = [self._tape.answer(self.name, request) for request in requests]
        return [raised(outcome) if isinstance(outcome, Failed) else outcome for outcome in outcomes]

    @property
    def sub_model(self) -> ReplayModel:
        """The same replay in the part of the run's sub-model."""
        return self.named(self._tape.sub_model or self.name)

    @property
    def window(self) -> int | None:
        """As the recorded model's; see `Model`."""
        return self._tape.window(self.name)

    def unused(self) -> str | None:
        """Which recorded calls were not asked for, in one line; None when all were."""
        return self._tape.unused()

    async def close(self) -> None:
        """Nothing to release."""


def _identity(run: Run) -> tuple[str, str, tuple[str, ...]]:
    first = run.conversations[0] if run.conversations else None
    asked = masked(first.system, first.turns[0].messages) if first and first.turns else ()
    return run.question, run.signature, asked


def _write(path: Path, content: bytes) -> None:
    """Replace the file in one step: a reader sees the old or the new recording, never half of one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as exc:
        beside.unlink(missing_ok=True)
        raise RecordingError(f"cannot write {path}: {exc.strerror or exc}") from exc
