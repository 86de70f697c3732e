"""Writes down what a run's models are asked and answer, while they are asked. Knows nothing of files."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from rlm_kernel.errors import ModelError
from rlm_kernel.models._recorded import Call, Conversation, Failed, Run, Subcall
from rlm_kernel.models.attempts import METER
from rlm_kernel.models.base import Completion, Message, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rlm_kernel.models.attempts import Meter
    from rlm_kernel.models.base import Model, OnDelta, Refused, Request
    from rlm_kernel.models.batches import OnNews

__all__ = ["RunRecorder", "Thread", "following"]


class Thread:
    """A conversation under way: what its last call sent, and what came back."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.place = 0
        """Turns taken."""
        self.sent: tuple[Message, ...] = ()
        self.reply: str | None = None

    def follows(self, model: str, request: Request) -> bool:
        """Whether `request` goes on with this conversation: same beginning, and more to say."""
        return (
            self.place > 0
            and model == self.conversation.model
            and len(request.messages) > len(self.sent)
            and request.messages[: len(self.sent)] == self.sent
        )

    def new(self, request: Request) -> tuple[Message, ...]:
        """The messages that came since the last call, without the reply to it, which is stored already."""
        new = request.messages[len(self.sent) :]
        if self.reply is not None and new and new[0] == Message("assistant", self.reply):
            return new[1:]
        return new

    def took(self, request: Request) -> None:
        """Remember `request` as the last one; its reply is still to come."""
        self.place += 1
        self.sent, self.reply = request.messages, None


def following(threads: list[Thread], model: str, request: Request) -> Thread | None:
    """The conversation that `request` continues; the longest if several begin alike."""
    return max(
        (thread for thread in threads if thread.follows(model, request)),
        key=lambda thread: len(thread.sent),
        default=None,
    )


class RunRecorder:
    """Records one run. Wrap every model of the run with `wrap`, then `save`.

    Calls may run concurrently in one event loop; they are kept in the order in which they were asked. Two loops may
    talk at once (a run and its children): a request belongs to the conversation that it continues.
    """

    def __init__(self, run: Run, save: Callable[[Run], None]) -> None:
        self.run = run
        self._threads: list[Thread] = []
        self._save = save

    def wrap(self, model: Model) -> Model:
        """A model that passes everything on to `model` and writes it down."""
        return _RecordedModel(model, self)

    def save(self) -> None:
        """Write the recording, this run in place of its predecessor. Without a call there is nothing to write.

        Raises:
            RecordingError: the file cannot be written.
        """
        if self.run.conversations or self.run.subcalls:
            self._save(self.run)

    async def ask(self, model: Model, request: Request, on_delta: OnDelta | None) -> Completion:
        """Forward one call and write it down, its failure too."""
        thread = None
        if request.kind == "sub":
            call = Call(request.messages)
            self.run.subcalls.append(Subcall(model.name, request.system, call))
        else:
            thread = following(self._threads, model.name, request) or self._begin(model, request)
            call = Call(thread.new(request))
            thread.conversation.turns.append(call)
            thread.took(request)
        told = _Told(METER.get())
        token = METER.set(told)
        try:
            reply = await model.complete(request, on_delta)
        except (Exception, asyncio.CancelledError) as exc:
            call.outcome = Failed(type(exc).__name__, str(exc), told.attempts)
            raise
        finally:
            METER.reset(token)
        call.outcome = reply
        if thread is not None:
            thread.reply = reply.text
        return reply

    async def ask_batch(
        self, model: Any, requests: Sequence[Request], on_news: OnNews | None = None
    ) -> Sequence[Completion | ModelError]:
        """Forward a batch for the provider, and write its requests down as if each had been asked by itself."""
        outcomes: Sequence[Completion | ModelError] = await model.complete_batch(requests, on_news)
        for request, outcome in zip(requests, outcomes, strict=True):
            known = Failed(type(outcome).__name__, str(outcome)) if isinstance(outcome, ModelError) else outcome
            self.run.subcalls.append(Subcall(model.name, request.system, Call(request.messages, known)))
        return outcomes

    def refused(self, model: Model, request: Request, refusal: Refused) -> None:
        """Write down a call that was not made. Nothing is said by it, so the conversation stands where it stood."""
        if request.kind == "sub":
            self.run.subcalls.append(Subcall(model.name, request.system, Call(request.messages, refusal)))
        elif (thread := following(self._threads, model.name, request)) is not None:
            thread.conversation.turns.append(Call(thread.new(request), refusal))
        else:
            never_begun = Conversation(model.name, request.system, [Call(request.messages, refusal)])
            self.run.conversations.append(never_begun)

    def _begin(self, model: Model, request: Request) -> Thread:
        conversation = Conversation(model.name, request.system, window=getattr(model, "window", None))
        self.run.conversations.append(conversation)
        self._threads.append(Thread(conversation))
        return self._threads[-1]


class _RecordedModel:
    """What the model has beside the two verbs is had from it."""

    def __init__(self, model: Model, recorder: RunRecorder) -> None:
        self._model = model
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._model, name)
        return partial(self._recorder.ask_batch, self._model) if name == "complete_batch" else value

    @property
    def name(self) -> str:
        return self._model.name

    async def complete(self, request: Request, on_delta: OnDelta | None = None) -> Completion:
        return await self._recorder.ask(self._model, request, on_delta)

    def refused(self, request: Request, refusal: Refused) -> None:
        self._recorder.refused(self._model, request, refusal)

    async def close(self) -> None:
        await self._model.close()


class _Told:
    """Listens to what an adapter tells of its attempts, and passes it on."""

    def __init__(self, meter: Meter | None) -> None:
        self._meter = meter
        self._gone: list[Usage] = []
        self._told = Usage()

    @property
    def attempts(self) -> tuple[Usage, ...]:
        return tuple(usage for usage in (*self._gone, self._told) if usage.total_tokens)

    def took(self, usage: Usage) -> None:
        self._told = usage
        if self._meter is not None:
            self._meter.took(usage)

    def abandoned(self, usage: Usage) -> bool:
        self._gone.append(usage)
        self._told = Usage()
        return self._meter is None or self._meter.abandoned(usage)
