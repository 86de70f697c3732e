"""One run: ask the model, run its code, show it what happened, until it submits or a limit ends it.

Decisions only: the model, the sandbox and the events' receiver are handed in.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from rlm_kernel import events as ev
from rlm_kernel import prompt
from rlm_kernel.asking import ask
from rlm_kernel.budget import Ledger, OverdrawnError
from rlm_kernel.calls import Calls, Child, ChildRun, Standing, Tree
from rlm_kernel.cells import Cells
from rlm_kernel.compaction import Compactor
from rlm_kernel.conversation import Conversation
from rlm_kernel.errors import ModelError, PromptTooLongError, RLMError, SandboxError
from rlm_kernel.figures import Figures
from rlm_kernel.granting import Grant
from rlm_kernel.guard import EndError, Guard, settle
from rlm_kernel.history import History
from rlm_kernel.models.base import Completion, Delta, Model, Request
from rlm_kernel.models.prices import preload
from rlm_kernel.purse import Purse
from rlm_kernel.sandbox.journal import Journal
from rlm_kernel.sandbox.sealed import Sealed
from rlm_kernel.task import Task

__all__ = ["Run"]

_CONCLUDED = ("timeout", "budget", "max_tokens")
"""Limits that are met on the way: one last call follows, as after those that are met between turns."""


class Run:
    """One run of a task.

    Args:
        task: what it is about.
        model: the model that writes the code.
        tree: what it shares with the runs above and below it.
        sandbox: where the code runs; started here, never left to itself while a cell runs.
        on_event: gets every event, in order.
        name: of the run, in its events: its place in the tree.
        ledger: its account; without, one of its own.
        earlier: the conversation that it goes on with; without, it begins one.
        history: the earlier questions of its sandbox.
    """

    def __init__(
        self,
        task: Task,
        model: Model,
        tree: Tree,
        sandbox: Journal,
        on_event: ev.OnEvent,
        name: str = "1",
        ledger: Ledger | None = None,
        *,
        earlier: Conversation | None = None,
        history: History | None = None,
    ) -> None:
        self.task, self.model, self.sandbox = task, model, sandbox
        self._on_event, self._name = on_event, name
        self.ledger = Ledger(task.options) if ledger is None else ledger
        self.ended = ("", "")
        """The reason and a line about it, once it is over."""
        self._standing = Standing(tree, self.ledger, self._emit, name)
        self.calls = Calls(self._standing, task, self._beget)
        self._guard, self._figures = Guard(self.ledger, tree.fatal), Figures()
        self._cells = Cells(sandbox, self.calls, self._guard, task.options, self._emit)
        self._history = History() if history is None else history
        self._history.claim(v.name for v in task.variables)
        self._earlier = earlier
        self._room = Compactor(model, self.ledger, self._guard, self._cells, self._history, self._emit)
        self._purse = Purse(model, self.ledger)
        status, told = prompt.status_line(self.ledger, task.history), prompt.told(task)
        status = f"run {name}]\n[{status}" if task.depth else status
        self.talk = (
            Conversation(prompt.system_prompt(task), prompt.first_message(task.question, status), told, model.name)
            if earlier is None
            else earlier.follow_up(prompt.follow_up(task, earlier.told), status, told, model.name)
        )
        self._starting: asyncio.Future[None]

    @property
    def answer(self) -> Mapping[str, Any] | None:
        """The accepted submission; None until there is one."""
        return self.calls.answer

    def stop(self) -> None:
        """End the run: a running cell is interrupted, the sandbox's state and the trajectory are kept."""
        self._guard.stop()

    async def go(self) -> None:
        """Run to the end.

        Raises:
            RLMError: the model or the sandbox failed. RunFinished was emitted all the same.
            TransferError: data that is a tool cannot travel. Nothing was emitted.
        """
        tools = self.task.options.tools
        if tools.data:
            await self.sandbox.put(tools.values)
        await self.sandbox.equip(tools.told)
        self._announce()
        warming = asyncio.get_running_loop().run_in_executor(None, preload)
        self._starting = asyncio.ensure_future(self.sandbox.start(self.calls))
        try:
            await self._until_the_end()
        except EndError as end:
            self._finish(end.reason, end.detail)
        except RLMError as error:
            self._finish("error", f"{type(error).__name__}: {error}")
            raise
        finally:
            await settle(self._starting)
            await warming

    async def _until_the_end(self) -> NoReturn:
        try:
            while (limit := self.ledger.exhausted()) is None:
                await self._iterate()
                if self.calls.answer is not None:
                    raise EndError("answered")
        except EndError as end:
            if end.reason not in _CONCLUDED or (end.reason != "timeout" and not self.ledger.iterations):
                raise
            limit = end.reason, end.detail
        await self._conclude(*limit)

    # -- one turn ---------------------------------------------------------------------------------------------
    async def _iterate(self, *, final: bool = False) -> None:
        self._guard.check()
        request, crowded = self.talk.next(), not final and self._room.due(self.talk)
        granted = None if crowded else await self._purse.grant(self.talk, request, final=final)
        self.ledger.iterations += 1
        number = self.ledger.iterations
        self._emit(ev.IterationStarted, iteration=number, prompt=self.talk.unsent, final=final)
        if number == 1 and not self.task.depth:
            self._tell_first()
        if granted is None:
            request, granted = await self._make_room(number)
        before = self.talk.last_reply
        try:
            completion, blocks = await self._ask(number, request, granted)
        except PromptTooLongError as refused:
            request, granted = await self._make_room(number, final=final, refused=refused)
            completion, blocks = await self._ask(number, request, granted)
        try:
            reports = await self._cells.run(number, blocks)
        except EndError as end:
            self._observe(number, end.reports, completion)
            raise
        failed, repeated = not all(r.status in ("ok", "submitted") for r in reports), completion.text == before
        self.ledger.errors = self.ledger.errors + 1 if failed or repeated or not reports else 0
        self._observe(number, reports, completion, repeated=repeated)

    def _tell_first(self) -> None:
        """What concerns the whole run."""
        if (words := self.sandbox.isolation).startswith("none"):
            self._emit(ev.Note, iteration=1, text=f"sandbox level {words}")
        if self._earlier is not None and (before := self._earlier.model) != self.model.name:
            self._emit(ev.Note, iteration=1, text=f"{self.model.name} goes on with what was said to {before}")

    def _observe(
        self, number: int, reports: Sequence[prompt.CellReport], completion: Completion, *, repeated: bool = False
    ) -> None:
        """What the model will be told of this turn."""
        self._history.claim(v.name for r in reports for v in r.changed)
        self._history.release(name for r in reports for name in r.removed)
        status = prompt.ACCEPTED if self.calls.answer is not None else prompt.status_line(self.ledger)
        limit = self.task.options.max_output_chars
        seen = prompt.observation(reports, status, limit) if reports else prompt.no_code(status)
        if completion.stop_reason == "max_tokens":
            seen = f"(Your reply was cut off at its maximum length; be briefer.)\n\n{seen}"
        if repeated:
            seen = f"(Your reply was the same as the one before; do something else, or submit.)\n\n{seen}"
        if self.task.options.see:
            self.talk.images, told = self._figures.choose([d for r in reports for d in r.displayed])
            seen = f"{told}\n\n{seen}" if told else seen
        self.talk.unsent = seen
        self._emit(ev.IterationFinished, iteration=number, observation="" if self.calls.answer is not None else seen)

    async def _make_room(
        self, number: int, *, final: bool = False, refused: PromptTooLongError | None = None
    ) -> tuple[Request, Grant]:
        """The next call, now that older turns have given way to a summary."""
        await self._guard.result(self._starting)  # what is left out goes to a variable
        self.talk = await self._room.compacted(number, self.talk, self._purse.last_estimate, refused)
        self._purse.hold(self.talk)
        return (request := self.talk.next()), await self._purse.grant(self.talk, request, final=final)

    async def _ask(self, number: int, request: Request, granted: Grant) -> tuple[Completion, tuple[str, ...]]:
        """The model's reply and the code in it. The sandbox starts meanwhile; if it cannot, the wait is over."""

        def on_delta(delta: Delta) -> None:
            self._emit(ev.ModelDelta, iteration=number, text=delta.text, kind=delta.kind)

        asking = asyncio.ensure_future(ask(self.model, request, self.ledger, on_delta, granted=granted))
        try:
            answer, _ = await self._guard.result(asyncio.gather(asking, self._starting))
        except OverdrawnError as short:
            raise EndError(short.reason, str(short)) from None
        finally:
            await settle(asking)
        if (news := self.sandbox.news) is not None:
            self.sandbox.news = None
            self._emit(ev.Note, iteration=number, text=str(news))
        self._standing.tell_unpriced(number, answer)
        completion = answer.completion
        if completion.stop_reason == "refusal":
            raise ModelError(f"{completion.model} refused to go on: {completion.text[:200] or 'it gave no reason'}")
        self.talk.replied(request, completion)
        self._purse.hold(self.talk)
        blocks = prompt.read_code(completion.text)
        self._emit(
            ev.ModelFinished,
            iteration=number,
            reply=completion.text,
            thinking=completion.thinking,
            model=completion.model,
            usage=completion.usage,
            cost=answer.cost,
            seconds=answer.seconds,
            cells=blocks,
        )
        return completion, blocks

    # -- the end ----------------------------------------------------------------------------------------------
    async def _conclude(self, reason: ev.StopReason, detail: str) -> NoReturn:
        """A limit was reached: one last call for the best answer, then the end."""
        self._standing.closed = True
        self._guard.begin_final()
        await self._purse.shorten(self.talk, prompt.final_message(detail, self.task.signature))
        try:
            await self._iterate(final=True)
            self.calls.answer = self.calls.answer or self._answer_in_prose()
        except EndError as end:
            if end.reason == "interrupted":
                raise
            detail += "; no answer came in time" if end.reason == "timeout" else "; no call is left for an answer"
        except (ModelError, SandboxError) as error:
            detail += f"; the last call failed: {error}"
        if self.calls.answer is None:
            detail += "; no valid answer was given"
        raise EndError(reason, detail)

    def _answer_in_prose(self) -> dict[str, Any] | None:
        """The last reply as the answer, where the answer is one text and the reply has no code."""
        text = self.talk.last_reply.strip()
        with contextlib.suppress(ValueError):
            if text and not prompt.read_code(text):
                return self.task.signature.validate({}, [text])
        return None

    # -- children ---------------------------------------------------------------------------------------------
    async def _beget(
        self, task: Task, model: Model, variables: Mapping[str, Sealed], ledger: Ledger, name: str
    ) -> Child | None:
        if (sandbox := await self.sandbox.spawn()) is None:
            return None
        return ChildRun(Run(task, model, self._standing.tree, sandbox, self._on_event, name, ledger), variables)

    # -- events -----------------------------------------------------------------------------------------------
    def _announce(self) -> None:
        options = self.task.options
        self._emit(
            ev.RunStarted,
            question=self.task.question,
            signature=str(self.task.signature),
            model=self.model.name,
            sub_model=self._standing.tree.model(None).name,
            max_iterations=options.max_iterations,
            max_llm_calls=options.max_llm_calls,
            variables=self.task.variables,
            isolation=f"{self.sandbox.isolation}{options.tools.hole}",
            tools=tuple(tool.heading for tool in options.tools.functions),
            parent=self._name.rpartition(".")[0] or None,
        )

    def _finish(self, reason: ev.StopReason, detail: str) -> None:
        self.ended = reason, detail
        if self.calls.answer is not None:
            self._emit(ev.Final, iteration=self.ledger.iterations, values=self.calls.answer)
        self._emit(
            ev.RunFinished,
            stop_reason=reason,
            detail=detail,
            usage=self.ledger.usage,
            cost=self.ledger.total_cost,
            seconds=self.ledger.seconds,
        )

    def _emit(self, event: type[ev.Event], /, **facts: Any) -> None:
        self._on_event(event(run=self._name, at=self.ledger.seconds, **facts))
