"""A question that was checked and is ready to run, and the sandbox that its options name. Nothing is started here."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlm_kernel import events as ev
from rlm_kernel.config import Options
from rlm_kernel.direct import Direct, message
from rlm_kernel.errors import InputError, RecordingError
from rlm_kernel.loop import Run
from rlm_kernel.models import Recording, RunRecorder, resolve
from rlm_kernel.models.base import Model
from rlm_kernel.prompt import direct_system, system_prompt
from rlm_kernel.sandbox.base import Sandbox
from rlm_kernel.sandbox.guest.describe import describe
from rlm_kernel.sandbox.isolation.policy import Limits
from rlm_kernel.sandbox.kernel import KernelSandbox
from rlm_kernel.sandbox.remote.providers import check_sandbox
from rlm_kernel.signature import Signature
from rlm_kernel.task import Task

__all__ = ["Job", "limits_of", "sandbox_of", "task_of"]


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
    continues: bool = False
    """It goes on with the conversation of the question before."""

    @classmethod
    def prepare(
        cls,
        question: str,
        signature: Signature,
        variables: Mapping[str, Any],
        options: Options,
        *,
        continues: bool = False,
    ) -> Job:
        """Check everything that can be checked before anything starts.

        Args:
            question: in words.
            signature: the inputs and the fields of the answer.
            variables: those that are handed over.
            options: all of them.
            continues: go on with the conversation of the question before.

        Raises:
            InputError, AuthenticationError, RecordingError: one line that says what to do.
        """
        if continues and options.fresh:
            raise InputError("fresh and a conversation that goes on exclude each other: an empty sandbox has none")
        if continues and options.direct:
            raise InputError("--direct asks one call by itself: leave --direct or --continue away")
        task = task_of(question, signature, variables, options)
        if options.replay:
            system = direct_system(signature) if options.direct else None if continues else system_prompt(task)
            replay = Recording.load(options.replay).replay(question=question, signature=str(signature), system=system)
            data = message(task, variables, replay.name) if options.direct else ""
            models = _by_name(replay, replay.sub_model, options)
            return cls(task, variables, replay, models, data=data, continues=continues)
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
        models = _by_name(model, sub_model, options)
        return cls(task, variables, model, models, recorder, owned, data, continues=continues)

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
