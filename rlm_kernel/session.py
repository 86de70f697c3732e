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
from rlm_kernel.calls import Tree
from rlm_kernel.config import Options
from rlm_kernel.direct import Direct, hint, message
from rlm_kernel.errors import InputError, RecordingError, RLMError
from rlm_kernel.loop import Run
from rlm_kernel.models import Recording, RunRecorder, resolve
from rlm_kernel.models.base import Model
from rlm_kernel.models.prices import preload
from rlm_kernel.prompt import direct_system, system_prompt
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

__all__ = ["Job", "Session", "limits_of", "sandbox_of", "task_of"]


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
    data: str = ""
    """The first message of a direct call; empty where there is a run."""
    run: Run | Direct | None = None
    stopped: bool = False

    @classmethod
    def prepare(cls, question: str, signature: Signature, variables: Mapping[str, Any], options: Options) -> Job:
        """Check everything that can be checked before anything starts.

        Raises:
            InputError, AuthenticationError, RecordingError: one line that says what to do.
        """
        task = task_of(question, signature, variables, options)
        if options.replay:
            system = direct_system(signature) if options.direct else system_prompt(task)
            replay = Recording.load(options.replay).replay(question=question, signature=str(signature), system=system)
            data = message(task, variables, replay.name) if options.direct else ""
            return cls(task, variables, replay, _by_name(replay, replay.sub_model, options), data=data)
        recording = Recording.open(options.record) if options.record else None
        model, sub_model = resolve(options.model), resolve(options.sub_model)
        if options.see and getattr(model, "sees", None) is False:
            raise InputError(f"--see: {model.name} takes no images; choose a model that does, or leave --see away")
        data = message(task, variables, model.name) if options.direct else ""
        owned = tuple(m for m, given in ((model, options.model), (sub_model, options.sub_model)) if m is not given)
        recorder = None
        if recording is not None:
            recorder = recording.recorder(question=question, signature=str(signature), sub_model=sub_model.name)
            model, sub_model = recorder.wrap(model), recorder.wrap(sub_model)
        return cls(task, variables, model, _by_name(model, sub_model, options), recorder, owned, data)

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


def task_of(question: str, signature: Signature, variables: Mapping[str, Any], options: Options) -> Task:
    """A checked question; no model and no file is looked at yet.

    Raises:
        InputError: it is empty, or options exclude each other.
    """
    if not question.strip():
        raise InputError("the question is empty: write it in the cell's body, below the %%rlm line")
    if isinstance(options.sandbox, str):
        check_sandbox(options.sandbox)
    if options.replay and options.record:
        raise InputError("record and replay exclude each other: a replay asks no model")
    options.tools.check(variables)
    about = {field.name: field.description for field in signature.inputs}
    described = (ev.Variable(name, *describe(value), about.get(name, "")) for name, value in variables.items())
    return Task(question, signature, (*described, *options.tools.described), options)


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
        self._hinted = False

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
        told = self._hint(job)

        def emit(event: ev.Event) -> None:
            nonlocal told
            trajectory.add(event)
            on_event(event)
            if told and isinstance(event, ev.IterationStarted):
                note, told = ev.Note(run=event.run, at=event.at, iteration=event.iteration, text=told), ""
                emit(note)

        try:
            async with self._turn:
                self._active = job
                if job.task.options.fresh:
                    await self.reset()
                tree = Tree(job.models, job.task.options)
                if job.data:
                    job.run = Direct(job.task, job.data, job.model, tree, emit)
                else:
                    await self._journal.put(job.variables)
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

    def _hint(self, job: Job) -> str:
        """That a direct call would do, once; nothing where no model is paid."""
        told = "" if self._hinted or job.task.options.replay else hint(job.task, job.variables)
        self._hinted = self._hinted or bool(told)
        return told

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
        await self._journal.shutdown()
