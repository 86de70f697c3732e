"""One sandbox and what happened in it from question to question.

A session runs one question at a time, on the background loop; it knows no notebook and no thread.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_kernel import events as ev
from rlm_kernel.calls import Kept, Tree
from rlm_kernel.config import Options
from rlm_kernel.errors import InputError, RecordingError, RLMError
from rlm_kernel.loop import Run
from rlm_kernel.models import Recording, RunRecorder, resolve
from rlm_kernel.models.base import Model
from rlm_kernel.models.prices import preload
from rlm_kernel.prompt import system_prompt
from rlm_kernel.result import Result
from rlm_kernel.sandbox.base import Sandbox, ScratchFile, nobody, with_files
from rlm_kernel.sandbox.guest.describe import describe
from rlm_kernel.sandbox.isolation.policy import Limits
from rlm_kernel.sandbox.journal import Journal
from rlm_kernel.sandbox.kernel import KernelSandbox
from rlm_kernel.sandbox.remote.providers import check_sandbox
from rlm_kernel.signature import Signature
from rlm_kernel.task import Task
from rlm_kernel.trajectory import Trajectory

__all__ = ["Job", "Session", "limits_of", "sandbox_of"]


@dataclass(slots=True)
class Job:
    """A checked question, ready to run: everything that bad input can spoil is behind it."""

    task: Task
    variables: Mapping[str, Any]
    model: Model
    models: dict[str | None, Model]
    recorder: RunRecorder | None = None
    owned: tuple[Model, ...] = ()
    """Models that were made for this job and are closed with it."""
    run: Run | None = None
    stopped: bool = False

    @classmethod
    def prepare(cls, question: str, signature: Signature, variables: Mapping[str, Any], options: Options) -> Job:
        """Check everything that can be checked before anything starts.

        Raises:
            InputError, AuthenticationError, RecordingError: one line that says what to do.
        """
        if not question.strip():
            raise InputError("the question is empty: write it in the cell's body, below the %%rlm line")
        if isinstance(options.sandbox, str):
            check_sandbox(options.sandbox)
        described = tuple(ev.Variable(name, *describe(value)) for name, value in variables.items())
        task = Task(question, signature, described, options)
        if options.replay and options.record:
            raise InputError("record and replay exclude each other: a replay asks no model")
        if options.replay:
            system = system_prompt(task)
            replay = Recording.load(options.replay).replay(question=question, signature=str(signature), system=system)
            return cls(task, variables, replay, _by_name(replay, replay.sub_model, options))
        recording = Recording.open(options.record) if options.record else None
        model, sub_model = resolve(options.model), resolve(options.sub_model)
        owned = tuple(m for m, given in ((model, options.model), (sub_model, options.sub_model)) if m is not given)
        recorder = None
        if recording is not None:
            recorder = recording.recorder(question=question, signature=str(signature), sub_model=sub_model.name)
            model, sub_model = recorder.wrap(model), recorder.wrap(sub_model)
        return cls(task, variables, model, _by_name(model, sub_model, options), recorder, owned)

    def save(self) -> None:
        """Write the recording, if there is one.

        Raises:
            RecordingError: it cannot be written. An error that is on its way already is not replaced.
        """
        if self.recorder is not None:
            on_its_way = sys.exc_info()[1]
            try:
                self.recorder.save()
            except RecordingError as error:
                if on_its_way is None:
                    raise
                on_its_way.add_note(str(error))

    async def close(self) -> None:
        """Release what was made for the job."""
        for model in self.owned:
            await model.close()


def _by_name(model: Model, sub_model: Model, options: Options) -> dict[str | None, Model]:
    """The models that sandboxed code may ask for by name: the two of the run, nothing dearer."""
    found: dict[str | None, Model] = {None: sub_model, sub_model.name: sub_model, model.name: model}
    for spec, known in ((options.model, model), (options.sub_model, sub_model)):
        if isinstance(spec, str):
            found[spec] = known
    return found


def sandbox_of(options: Options) -> Sandbox:
    """The sandbox that the options name: the caller's own, or a kernel; nothing is started.

    Raises:
        InputError: its level of isolation cannot be had here.
    """
    if options.sandbox is not None and not isinstance(options.sandbox, str):
        if options.sandbox_net:
            raise InputError(f"--net: {type(options.sandbox).__name__} has the network it has; leave --net away")
        return options.sandbox
    return KernelSandbox(
        options.sandbox, level=options.sandbox_level, limits=limits_of(options), net=options.sandbox_net
    )


def limits_of(options: Options) -> Limits:
    """What the options let a sandbox use."""
    return Limits(
        options.sandbox_memory,
        options.sandbox_processes,
        options.sandbox_scratch,
        output=options.sandbox_output,
        cpu=options.sandbox_cpu,
    )


class Session:
    """A sandbox and its runs. Every method is called on one asyncio loop.

    Args:
        sandbox: where the code runs; started with the first run.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.last: Trajectory | None = None
        self._journal = Journal(self.sandbox)
        self._turn = asyncio.Lock()
        self._active: Job | None = None
        self._kept = Kept()

    async def run(self, job: Job, on_event: ev.OnEvent, trajectory: Trajectory) -> Result:
        """Answer one question.

        Args:
            job: the question.
            on_event: gets every event, once it is part of the trajectory.
            trajectory: empty; grows as the run goes on.

        Returns:
            The result, also when a limit or the user ended the run: `stop_reason` says which.

        Raises:
            RLMError: the model or the sandbox failed, or the recording could not be written; `result` holds the
                trajectory so far.
        """

        def emit(event: ev.Event) -> None:
            trajectory.add(event)
            on_event(event)

        try:
            async with self._turn:
                self._active = job
                if job.task.options.fresh:
                    await self.reset()
                await self._journal.put(job.variables)
                kept = None if job.recorder or job.task.options.replay else self._kept
                tree = Tree(job.models, job.task.options, kept)  # a recording has to hold all that it needs
                job.run = Run(job.task, job.model, tree, self._journal, emit)
                if job.stopped:  # while it waited for its turn, or its variables were packed
                    job.run.stop()
                self.last = trajectory
                try:
                    await job.run.go()
                finally:
                    job.save()
        except RLMError as error:
            if trajectory.run:
                error.result = Result(trajectory)
            raise
        finally:
            if self._active is job:
                self._active = None
            await job.close()
        return Result(trajectory)

    async def start(self) -> None:
        """Start the sandbox ahead of the first run."""
        async with self._turn:
            await asyncio.gather(self._journal.start(nobody), asyncio.to_thread(preload))

    @property
    def busy(self) -> bool:
        """Whether a run goes on."""
        return self._active is not None

    def stop(self, job: Job | None = None) -> None:
        """Stop a run, also one that waits for its turn; without a job the one that goes on, if one does."""
        job = job or self._active
        if job is not None:
            job.stopped = True
            if job.run is not None:
                job.run.stop()

    async def variables(self) -> str:
        """The sandbox's variables as text."""
        shown: list[str] = []
        async with self._turn:
            result = await self._journal.execute("print(SHOW_VARS())", lambda chunk: shown.append(chunk.text))
        return "The sandbox is not running." if result.status == "died" else "".join(shown).rstrip("\n")

    async def files(self) -> Sequence[ScratchFile]:
        """The files that the sandbox's code wrote; also while a run goes on. See `HasFiles.files`."""
        return await with_files(self.sandbox).files()

    def copy_files(self, names: Sequence[str], to: str | Path, *, force: bool) -> Coroutine[Any, Any, Sequence[Path]]:
        """Copy some of them out; see `HasFiles.copy_files`."""
        return with_files(self.sandbox).copy_files(names, Path(to).expanduser().absolute(), force=force)

    async def reset(self) -> None:
        """Forget the sandbox's state; the next run starts a new one."""
        self._kept.clear()
        await self._journal.shutdown()
