"""One run: ask the model, run its code, show it what happened, until it submits or a limit ends it.

Decisions only: the model, the sandbox and the events' receiver are handed in.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from rlm_kernel import events as ev
from rlm_kernel import prompt
from rlm_kernel.budget import Ledger
from rlm_kernel.calls import Calls, complete
from rlm_kernel.cells import Cells
from rlm_kernel.config import Options
from rlm_kernel.errors import ModelError, RLMError, SandboxError
from rlm_kernel.guard import EndError, Guard, settle
from rlm_kernel.models.base import Completion, Delta, Message, Model, Request
from rlm_kernel.models.prices import cost, preload
from rlm_kernel.sandbox.journal import Journal
from rlm_kernel.signature import Signature

__all__ = ["Run", "Task"]


@dataclass(frozen=True, slots=True)
class Task:
    """What a run is about: all values."""

    question: str
    signature: Signature
    variables: tuple[ev.Variable, ...]
    options: Options


class Run:
    """One run of a task.

    Args:
        task: what it is about.
        model: the model that writes the code.
        models: those that the code may ask; None is the sub-model.
        sandbox: where the code runs; started here, never left to itself while a cell runs.
        on_event: gets every event, in order.
        name: of the run, in its events.
    """

    def __init__(
        self,
        task: Task,
        model: Model,
        models: Mapping[str | None, Model],
        sandbox: Journal,
        on_event: ev.OnEvent,
        name: str = "1",
    ) -> None:
        self.task, self.model, self.sandbox = task, model, sandbox
        self._on_event, self._name = on_event, name
        self.ledger = Ledger(task.options)
        self.calls = Calls(task.signature, models, self.ledger, self._emit)
        self._guard = Guard(self.ledger, self.calls.fatal)
        self._cells = Cells(sandbox, self.calls, self._guard, task.options, self._emit)
        self._system = prompt.system_prompt(task.signature, task.variables, task.options)
        self._messages: list[Message] = []
        self._unsent = prompt.first_message(task.question, prompt.status_line(self.ledger))
        self._starting: asyncio.Future[None]

    def stop(self) -> None:
        """End the run: a running cell is interrupted, the sandbox's state and the trajectory are kept."""
        self._guard.stop()

    async def go(self) -> None:
        """Run to the end.

        Raises:
            RLMError: the model or the sandbox failed. RunFinished was emitted all the same.
        """
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
            if end.reason != "timeout":
                raise
            limit = end.reason, end.detail
        await self._conclude(*limit)

    # -- one turn ---------------------------------------------------------------------------------------------
    async def _iterate(self, *, final: bool = False) -> None:
        self._guard.check()
        self.ledger.iterations += 1
        number = self.ledger.iterations
        self._emit(ev.IterationStarted, iteration=number, prompt=self._unsent, final=final)
        if number == 1 and (words := self.sandbox.isolation).startswith("none"):
            self._emit(ev.Note, iteration=number, text=f"sandbox level {words}")
        self._messages.append(Message("user", self._unsent))
        completion, blocks = await self._ask(number)
        self._messages.append(Message("assistant", completion.text))
        try:
            reports = await self._cells.run(number, blocks)
        except EndError as end:
            self._observe(number, end.reports, completion)
            raise
        failed = not reports or any(r.status not in ("ok", "submitted") for r in reports)
        self.ledger.errors = self.ledger.errors + 1 if failed else 0
        self._observe(number, reports, completion)

    def _observe(self, number: int, reports: Sequence[prompt.CellReport], completion: Completion) -> None:
        """What the model will be told of this turn."""
        status = prompt.status_line(self.ledger)
        limit = self.task.options.max_output_chars
        seen = prompt.observation(reports, status, limit) if reports else prompt.no_code(status)
        if completion.stop_reason == "max_tokens":
            seen = f"(Your reply was cut off at its maximum length; be briefer.)\n\n{seen}"
        self._unsent = seen
        self._emit(ev.IterationFinished, iteration=number, observation="" if self.calls.answer is not None else seen)

    async def _ask(self, number: int) -> tuple[Completion, tuple[str, ...]]:
        """The model's reply and the code in it. The sandbox starts meanwhile; if it cannot, the wait is over."""

        def on_delta(delta: Delta) -> None:
            self._emit(ev.ModelDelta, iteration=number, text=delta.text, kind=delta.kind)

        async def ask() -> tuple[Completion, float]:
            started = time.monotonic()
            request = Request(tuple(self._messages), self._system)
            completion = await complete(self.model, request, on_delta)
            return completion, time.monotonic() - started

        asking = asyncio.ensure_future(ask())
        try:
            (completion, seconds), _ = await self._guard.result(asyncio.gather(asking, self._starting))
        finally:
            await settle(asking)
        if (news := self.sandbox.news) is not None:
            self.sandbox.news = None
            self._emit(ev.Note, iteration=number, text=str(news))
        price = cost(completion.usage, completion.model)
        self.ledger.settle(completion.usage, price)
        if completion.stop_reason == "refusal":
            raise ModelError(f"{completion.model} refused to go on: {completion.text[:200] or 'it gave no reason'}")
        blocks = prompt.read_code(completion.text)
        self._emit(
            ev.ModelFinished,
            iteration=number,
            reply=completion.text,
            thinking=completion.thinking,
            model=completion.model,
            usage=completion.usage,
            cost=price,
            seconds=seconds,
            cells=blocks,
        )
        return completion, blocks

    # -- the end ----------------------------------------------------------------------------------------------
    async def _conclude(self, reason: ev.StopReason, detail: str) -> NoReturn:
        """A limit was reached: one last call for the best answer, then the end."""
        self.calls.closed = True
        self._guard.begin_final()
        if self._messages and self._messages[-1].role == "user":  # its reply never came
            self._unsent = self._messages.pop().content
        self._unsent = f"{self._unsent}\n\n{prompt.final_message(detail, self.task.signature)}"
        try:
            await self._iterate(final=True)
            self.calls.answer = self.calls.answer or self._answer_in_prose()
        except EndError as end:
            if end.reason == "interrupted":
                raise
            detail += "; no answer came in time"
        except (ModelError, SandboxError) as error:
            detail += f"; the last call failed: {error}"
        if self.calls.answer is None:
            detail += "; no valid answer was given"
        raise EndError(reason, detail)

    def _answer_in_prose(self) -> dict[str, Any] | None:
        """The last reply as the answer, where the answer is one text and the reply has no code."""
        text = self._messages[-1].content.strip()
        with contextlib.suppress(ValueError):
            if text and not prompt.read_code(text):
                return self.task.signature.validate({}, [text])
        return None

    # -- events -----------------------------------------------------------------------------------------------
    def _announce(self) -> None:
        options = self.task.options
        self._emit(
            ev.RunStarted,
            question=self.task.question,
            signature=str(self.task.signature),
            model=self.model.name,
            sub_model=self.calls.sub_model,
            max_iterations=options.max_iterations,
            max_llm_calls=options.max_llm_calls,
            variables=self.task.variables,
            isolation=self.sandbox.isolation,
        )

    def _finish(self, reason: ev.StopReason, detail: str) -> None:
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
