"""`RLM`: the way in from Python. Checks the call, runs it on the background loop, tells the caller's callbacks."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rlm_kernel import background
from rlm_kernel import events as ev
from rlm_kernel.config import Options, defaults
from rlm_kernel.errors import InputError, closest
from rlm_kernel.job import Job, sandbox_of
from rlm_kernel.keeping import Kept
from rlm_kernel.preflight import Preflight, preflight
from rlm_kernel.render.live import TextView
from rlm_kernel.result import Result
from rlm_kernel.sandbox.base import ScratchFile
from rlm_kernel.session import Session
from rlm_kernel.signature import Signature
from rlm_kernel.trajectory import Iteration, Subcall, Trajectory

__all__ = ["RLM"]

_QUESTIONS = ("question", "query", "task", "prompt")


class RLM:
    """A Recursive Language Model with a sandbox of its own, which keeps its variables from call to call.

    A call begins a conversation, `ask` goes on with the last one.

    Example:
        >>> rlm = RLM("tickets -> answer: str, by_category: dict[str, float]")  # doctest: +SKIP
        >>> rlm("Which category is slowest?", tickets=tickets).by_category      # doctest: +SKIP

    Args:
        signature: `inputs -> outputs` as text (types in Python's notation), or a `Signature`.
        on_iteration: called with each finished `Iteration`.
        on_subcall: called with each finished `Subcall`.
        on_event: called with every event of `rlm_kernel.events`.
        namespace: where the signature's types are looked up, besides Python's own; `globals()` for your own models.
        **options: any field of `rlm_kernel.Options`; what is not given comes from `configure()`.

    With `tools=[read_file, DataTool("users", users, "what they are")]` the code can call functions of this process, and
    finds data as variables, both told to the model. A tool is a hole in the sandbox, made on purpose: what it can be
    made to do with any arguments, the code can have done.

    Callbacks run in the thread (or on the loop) that made the call. One call runs at a time; for several at once make
    several objects. `close()`, or `with`, ends the sandbox; so does dropping the object, and the end of the process.

    Raises:
        SignatureError, InputError: the signature or an option is wrong.
    """

    def __init__(
        self,
        signature: str | Signature,
        *,
        on_iteration: Callable[[Iteration], object] | None = None,
        on_subcall: Callable[[Subcall], object] | None = None,
        on_event: ev.OnEvent | None = None,
        namespace: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.signature = Signature.parse(signature, namespace) if isinstance(signature, str) else signature
        self._given, self._namespace = options, namespace
        self.options = defaults().merged(options)
        self._on_iteration, self._on_subcall, self._on_event = on_iteration, on_subcall, on_event
        self._session = Session(sandbox_of(self.options))
        _look_after(self, self._session)

    def __call__(self, question: str | None = None, /, **inputs: Any) -> Result:
        """Ask, and wait for the answer. Also works where a loop is running, as in a notebook.

        Args:
            question: in words. Without it an input called `question`, `query`, `task` or `prompt` is the question,
                or the signature's instructions are.
            **inputs: the variables of the signature.

        Returns:
            The result, also when a limit ended the run: `stop_reason` says which.

        Raises:
            InputError: the call is wrong; nothing was started.
            RLMError: the model or the sandbox failed; `.result` holds the trajectory so far.
            KeyboardInterrupt: stopped; `.result` holds the trajectory so far and the sandbox keeps its state.
        """
        return self._run(self._prepare(question, inputs))

    async def acall(self, question: str | None = None, /, **inputs: Any) -> Result:
        """The same for a coroutine. Cancelling it stops the run and keeps the sandbox's state."""
        return await self._arun(self._prepare(question, inputs))

    def ask(self, question: str | None = None, signature: str | Signature | None = None, /, **inputs: Any) -> Result:
        """Ask one more question in the conversation of the last call ("now split it by region"); wait for the answer.

        The model remembers what was said and found; a call of the object itself begins anew with the variables alone.
        Goes on from what there is, also after a call that was stopped or met a limit.

        Args:
            question: as in a call.
            signature: of this question; without it the object's own, whose inputs need not be given again.
            **inputs: variables that are new or have changed.

        Returns:
            The result, as of a call.

        Raises:
            InputError: the model has not replied to any question yet, or the call is wrong; nothing was started.
            RLMError: as for a call.
            KeyboardInterrupt: as for a call.
        """
        return self._run(self._prepare(question, inputs, signature, continues=True))

    async def aask(
        self, question: str | None = None, signature: str | Signature | None = None, /, **inputs: Any
    ) -> Result:
        """The same for a coroutine. Cancelling it stops the run and keeps the sandbox's state."""
        return await self._arun(self._prepare(question, inputs, signature, continues=True))

    def _run(self, job: Job) -> Result:
        story = Trajectory()
        return background.drain(
            lambda emit: self._session.run(job, emit, story), self._deliver(story), lambda: self._stop(job)
        )

    async def _arun(self, job: Job) -> Result:
        story = Trajectory()
        return await background.adrain(
            lambda emit: self._session.run(job, emit, story), self._deliver(story), lambda: self._stop(job)
        )

    def preflight(self, question: str | None = None, /, **inputs: Any) -> Preflight:
        """What the same call would take and send; nothing is started, nothing asked, and no key is needed.

        Raises:
            InputError: the call is wrong.
        """
        return preflight(*self._checked(question, inputs), self._current)

    def start(self) -> None:
        """Start the sandbox now, so that the first call need not wait for it (it starts with that call otherwise)."""
        background.call(self._session.start())

    def interrupt(self) -> None:
        """Stop the call that goes on, from any thread; it returns with `stop_reason` "interrupted"."""
        self._stop(None)

    def _stop(self, job: Job | None) -> None:
        background.loop().call_soon_threadsafe(self._session.stop, job)

    def files(self) -> Sequence[ScratchFile]:
        """The files that the code wrote into the sandbox's scratch folder, by name; also while a call goes on.

        Raises:
            InputError: the sandbox does not run, or shows no files.
        """
        return background.call(self._session.files())

    def copy_files(self, names: str | Sequence[str], to: str | Path = ".", *, force: bool = False) -> Sequence[Path]:
        """Copy files out of the sandbox; returns the copies.

        Args:
            names: one or several, as `files()` has them.
            to: a folder, made if it is missing.
            force: overwrite what is there.

        Raises:
            InputError: one of them cannot be copied; the message names it.
        """
        return background.call(self._session.copy_files([names] if isinstance(names, str) else names, to, force=force))

    def save(self, path: str | Path) -> Kept:
        """Keep the conversation, the history and the sandbox's variables in a file, across restarts.

        Its files are not kept. What cannot be saved is told in the result, the rest is.

        Raises:
            InputError: a call goes on, or there is nothing to save.
            RecordingError: it cannot be written; what was there before is there still.
            SandboxError: the sandbox broke off; nothing was written.
        """
        return background.interruptible(self._session.save(path))

    def load(self, path: str | Path) -> Kept:
        """Go on from what `save` has written, in place of what there is; `ask` goes on with its conversation.

        Load only what you trust as much as the sandbox's code: the variables are unpickled in the sandbox, nothing is
        on this side.

        Raises:
            InputError: a call goes on.
            RecordingError: the file is none of `save`, damaged, or of a newer version; nothing was changed.
            SandboxError: the sandbox could not be started, or broke off; it is empty.
        """
        return background.interruptible(self._session.load(path))

    def reset(self) -> None:
        """End the sandbox; the next call starts an empty one."""
        background.call(self._session.reset())

    def close(self) -> None:
        """End the sandbox. Safe to call twice."""
        background.at_exit(id(self._session), None)
        background.call(self._session.reset())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _current(self) -> Options:
        """The options; defaults may have been configured since this object was made."""
        return defaults().merged(self._given)

    def _prepare(
        self,
        question: str | None,
        inputs: Mapping[str, Any],
        given: str | Signature | None = None,
        *,
        continues: bool = False,
    ) -> Job:
        checked = self._checked(question, inputs, given, continues=continues)
        return Job.prepare(*checked, self._current, continues=continues)

    def _checked(
        self,
        question: str | None,
        inputs: Mapping[str, Any],
        given: str | Signature | None = None,
        *,
        continues: bool = False,
    ) -> tuple[str, Signature, dict[str, Any]]:
        """The question, what is to come of it, and the variables it is about."""
        signature = self.signature if given is None else given
        signature = Signature.parse(signature, self._namespace) if isinstance(signature, str) else signature
        names = [f.name for f in signature.inputs]
        variables = dict(inputs)
        if question is None:
            word = next((q for q in _QUESTIONS if q in inputs), None)
            question = inputs[word] if word is not None else signature.instructions
            if word is not None and word not in names:
                del variables[word]
        if not isinstance(question, str):
            raise InputError(f"the question has to be text, not {type(question).__name__}")
        if unknown := [n for n in variables if n not in names]:
            raise InputError(f"'{unknown[0]}' is no input of '{signature}'{closest(unknown[0], names)}")
        if missing := [n for n in names if n not in variables and not (continues and given is None)]:
            raise InputError(f"'{signature}' also needs {', '.join(missing)}")
        return question, signature, variables

    def _deliver(self, story: Trajectory) -> ev.OnEvent:
        view = TextView.terminal() if self._current.verbose else None

        def deliver(event: ev.Event) -> None:
            if view is not None:
                view(event)
            if self._on_event is not None:
                self._on_event(event)
            run = story.find(event.run)
            if self._on_subcall is not None and isinstance(event, ev.SubcallFinished) and run is not None:
                self._on_subcall(run.subcall(event.subcall))
            if self._on_iteration is not None and isinstance(event, ev.IterationFinished) and run is not None:
                self._on_iteration(run[event.iteration - 1])

        return deliver


def _look_after(owner: object, session: Session) -> None:
    """End the session's sandbox with its owner, at the latest with the process."""
    background.at_exit(id(session), session.reset)

    def close() -> None:
        background.at_exit(id(session), None)
        with contextlib.suppress(Exception):  # the loop may be gone when the interpreter ends
            background.submit(session.reset())

    weakref.finalize(owner, close).atexit = False
