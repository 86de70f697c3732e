"""One sandbox and what happened in it from question to question.

A session runs one question at a time, on the background loop; it knows no notebook and no thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlm_kernel import events as ev
from rlm_kernel import keeping
from rlm_kernel.archive import Archive
from rlm_kernel.calls import KeptReplies, Tree
from rlm_kernel.conversation import Conversation
from rlm_kernel.direct import Direct, hint
from rlm_kernel.errors import InputError, RLMError
from rlm_kernel.job import Job
from rlm_kernel.keeping import Kept
from rlm_kernel.loop import Run
from rlm_kernel.memory import Memory
from rlm_kernel.models.prices import preload
from rlm_kernel.result import Result
from rlm_kernel.sandbox.base import Sandbox, ScratchFile, nobody, with_files
from rlm_kernel.sandbox.journal import Journal
from rlm_kernel.trajectory import Trajectory

__all__ = ["Session"]


class Session:
    """A sandbox and its runs. Every method is called on one asyncio loop.

    Args:
        sandbox: where the code runs; started with the first run.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.memory = Memory()
        self._journal = Journal(self.sandbox)
        self._turn = asyncio.Lock()
        self._active: Job | None = None
        self._hinted = False
        self._replies = KeptReplies()

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
                kept = None if job.recorder or job.task.options.replay else self._replies
                # a recording has to hold all that it needs
                memory, tree = self.memory, Tree(job.models, job.task.options, kept)
                earlier = memory.earlier() if job.continues else None
                if job.data:
                    job.run = Direct(job.task, job.data, job.model, tree, emit)
                else:
                    job.run = await self._run_of(job, tree, emit, earlier)
                if job.stopped:  # while it waited for its turn, or its variables were packed
                    job.run.stop()
                memory.last = trajectory
                try:
                    await job.run.go()
                finally:
                    memory.ended(trajectory, job.run.talk if isinstance(job.run, Run) else None, earlier)
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

    async def _run_of(self, job: Job, tree: Tree, emit: ev.OnEvent, earlier: Conversation | None) -> Run:
        """The run of a question, with its variables and the history on their way to the sandbox."""
        history = self.memory.history
        history.claim(job.variables)
        known = history.variables()
        await self._journal.put({**known, **job.variables})
        task = replace(job.task, history=next(iter(known), ""))
        return Run(task, job.model, tree, self._journal, emit, earlier=earlier, history=history)

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

    async def save(self, path: str | os.PathLike[str]) -> Kept:
        """Write what there is to a file; see `keeping.save`."""
        self._idle("save")
        async with self._turn:
            return await keeping.save(path, self._journal, self.memory)

    async def load(self, path: str | os.PathLike[str]) -> Kept:
        """Have what was saved in place of what there is; see `keeping.load`."""
        self._idle("load")
        archive = await asyncio.to_thread(Archive, path)  # what cannot be read changes nothing
        async with self._turn:
            await self.reset()
            kept = await keeping.load(path, archive, self._journal)
            self.memory = archive.memory
            return kept

    def _idle(self, what: str) -> None:
        if self.busy:
            raise InputError(f"a question is being answered: {what} when it has ended, or stop it first")

    async def reset(self) -> None:
        """Forget the sandbox's state and what was said; the next run starts a new one."""
        self.memory = Memory()
        self._replies.clear()
        await self._journal.shutdown()
