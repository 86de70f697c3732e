"""One run: ask the model, run its code, show it what happened, until it submits or a limit ends it.

Decisions only: the model, the sandbox and the events' receiver are handed in.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn, TypeVar

from rlm_kernel import events as ev
from rlm_kernel import prompt
from rlm_kernel.budget import Ledger
from rlm_kernel.calls import Calls, complete
from rlm_kernel.config import Options
from rlm_kernel.errors import ModelError, RLMError, SandboxError
from rlm_kernel.models.base import Completion, Delta, Message, Model, Request
from rlm_kernel.models.prices import cost, preload
from rlm_kernel.sandbox.base import CellResult, Chunk, Sandbox
from rlm_kernel.signature import Signature

__all__ = ["Run", "Task"]

T = TypeVar("T")
Outcome = Literal["done", "stopped", "late", "fatal"]

GRACE_SECONDS = 2.0
"""How long an interrupted cell may take to end before its sandbox is killed."""
FINAL_SECONDS = 120.0
"""How long the last model call and its cell may take when a limit was reached."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a run is about: all values."""

    question: str
    signature: Signature
    variables: tuple[ev.Variable, ...]
    options: Options


class _EndError(Exception):
    """The run ends here, and why."""

    def __init__(self, reason: ev.StopReason, detail: str = "") -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class Run:
    """One run of a task.

    Args:
        task: what it is about.
        model: the model that writes the code.
        models: those that the code may ask; None is the sub-model.
        sandbox: where the code runs; started here, never left to itself while a cell runs.
        restore: stages the inputs again for a sandbox that had to be started anew.
        on_event: gets every event, in order.
        name: of the run, in its events.
    """

    def __init__(
        self,
        task: Task,
        model: Model,
        models: Mapping[str | None, Model],
        sandbox: Sandbox,
        restore: Callable[[], Awaitable[None]],
        on_event: ev.OnEvent,
        name: str = "1",
    ) -> None:
        self.task, self.model, self.sandbox = task, model, sandbox
        self._restore, self._on_event, self._name = restore, on_event, name
        self.ledger = Ledger(task.options)
        self.calls = Calls(task.signature, models, self.ledger, self._emit)
        self._system = prompt.system_prompt(task.signature, task.variables, task.options)
        self._messages: list[Message] = []
        self._unsent = prompt.first_message(task.question, prompt.status_line(self.ledger))
        self._stop = asyncio.Event()
        self._cells = 0
        self._final_deadline: float | None = None
        self._starting: asyncio.Future[None]

    def stop(self) -> None:
        """End the run: a running cell is interrupted, the sandbox's state and the trajectory are kept."""
        self._stop.set()

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
        except _EndError as end:
            self._finish(end.reason, end.detail)
        except RLMError as error:
            self._finish("error", f"{type(error).__name__}: {error}")
            raise
        finally:
            await _settle(self._starting)
            await warming

    async def _until_the_end(self) -> NoReturn:
        try:
            while (limit := self.ledger.exhausted()) is None:
                await self._iterate()
                if self.calls.answer is not None:
                    raise _EndError("answered")
        except _EndError as end:
            if end.reason != "timeout":
                raise
            limit = end.reason, end.detail
        await self._conclude(*limit)

    # -- one turn ---------------------------------------------------------------------------------------------
    async def _iterate(self, *, final: bool = False) -> None:
        self.ledger.iterations += 1
        number = self.ledger.iterations
        self._emit(ev.IterationStarted, iteration=number, prompt=self._unsent, final=final)
        self._messages.append(Message("user", self._unsent))
        completion, blocks = await self._ask(number)
        self._messages.append(Message("assistant", completion.text))
        self._unsent = "The last block was stopped when the time was over."
        reports = await self._run_blocks(number, blocks)
        failed = not reports or any(r.status not in ("ok", "submitted") for r in reports)
        self.ledger.errors = self.ledger.errors + 1 if failed else 0
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
            (completion, seconds), _ = await self._within_limits(asyncio.gather(asking, self._starting))
        finally:
            await _settle(asking)
        if completion.stop_reason == "refusal":
            raise ModelError(f"{completion.model} refused to go on: {completion.text[:200] or 'it gave no reason'}")
        price = cost(completion.usage, completion.model)
        self.ledger.settle(completion.usage, price)
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

    async def _run_blocks(self, iteration: int, blocks: Sequence[str]) -> list[prompt.CellReport]:
        """Run the blocks in order, up to the first that fails or submits."""
        reports: list[prompt.CellReport] = []
        for position, block in enumerate(blocks, 1):
            report = await self._run_cell(iteration, block)
            skipped = len(blocks) - position
            if report.status not in ("ok", "submitted") and skipped:
                report = replace(report, note=f"{report.note} ({skipped} later block(s) were not run.)".strip())
            reports.append(report)
            if report.status != "ok":
                break
        return reports

    # -- one cell ---------------------------------------------------------------------------------------------
    async def _run_cell(self, iteration: int, code: str) -> prompt.CellReport:
        self._cells += 1
        number = self._cells
        self.calls.where = (iteration, number)
        self._emit(ev.CellStarted, iteration=iteration, cell=number, code=code)
        output = prompt.Excerpt(self.task.options.max_output_chars)

        def on_chunk(chunk: Chunk) -> None:
            output.add(chunk.text)
            self._emit(
                ev.CellOutput, iteration=iteration, cell=number, kind=chunk.kind, text=chunk.text, data=chunk.data
            )

        started = time.monotonic()
        result, status, end = await self._execute(code, on_chunk)
        if self.calls.answer is not None:
            status, end = "submitted", None
        self._emit(
            ev.CellFinished,
            iteration=iteration,
            cell=number,
            status=status,
            seconds=time.monotonic() - started,
            changed=result.changed,
            removed=result.removed,
        )
        note = _NOTES.get(status, "").format(limit=self.task.options.cell_timeout)
        if result.status == "died" and status not in ("submitted", "interrupted"):
            note = f"{_NOTES['died'] if status == 'died' else ''} {_REPLACED}".strip()
            await self._replace_sandbox(iteration)
        if end is not None:
            raise end
        return prompt.CellReport(number, status, output, result.changed, result.removed, result.restored, note)

    async def _execute(self, code: str, on_chunk: Callable[[Chunk], None]) -> tuple[CellResult, str, Exception | None]:
        """One cell within its limits: how it ended, the status to show, and what ends the run after it, if anything."""
        running = asyncio.ensure_future(self.sandbox.execute(code, on_chunk))
        left, limit = self._seconds_left(), self.task.options.cell_timeout
        outcome = await self._wait(running, min((s for s in (left, limit) if s is not None), default=None))
        if outcome == "done":
            result = running.result()
            return result, result.status, None
        result = await self._halt(running)
        match outcome:
            case "fatal":
                return result, "interrupted", self.calls.fatal.result()
            case "stopped":
                return result, "interrupted", _stopped()
        run_is_over = left is not None and (limit is None or left <= limit)
        return result, "timeout", self._late() if run_is_over else None

    async def _halt(self, running: asyncio.Future[CellResult]) -> CellResult:
        """Interrupt a cell; kill its sandbox if it does not end."""
        await self.sandbox.interrupt()
        await asyncio.wait([running], timeout=GRACE_SECONDS)
        if running.done():
            return running.result()
        await _settle(running)
        await self.sandbox.shutdown()
        return CellResult("died")

    async def _replace_sandbox(self, iteration: int) -> None:
        await self.sandbox.shutdown()
        await self._restore()
        await self.sandbox.start(self.calls)
        self._emit(
            ev.Note, iteration=iteration, text="The sandbox was started anew; its state is lost, the inputs are back."
        )

    # -- the end ----------------------------------------------------------------------------------------------
    async def _conclude(self, reason: ev.StopReason, detail: str) -> NoReturn:
        """A limit was reached: one last call for the best answer, then the end."""
        self.calls.closed = True
        self._final_deadline = time.monotonic() + FINAL_SECONDS
        if self._messages and self._messages[-1].role == "user":  # its reply never came
            self._unsent = self._messages.pop().content
        self._unsent = f"{self._unsent}\n\n{prompt.final_message(detail, self.task.signature)}"
        try:
            await self._iterate(final=True)
            self.calls.answer = self.calls.answer or self._answer_in_prose()
        except _EndError as end:
            if end.reason == "interrupted":
                raise
            detail += "; no answer came in time"
        except (ModelError, SandboxError) as error:
            detail += f"; the last call failed: {error}"
        if self.calls.answer is None:
            detail += "; no valid answer was given"
        raise _EndError(reason, detail)

    def _answer_in_prose(self) -> dict[str, Any] | None:
        """The last reply as the answer, where the answer is one text and the reply has no code."""
        text = self._messages[-1].content.strip()
        with contextlib.suppress(ValueError):
            if text and not prompt.read_code(text):
                return self.task.signature.validate({}, [text])
        return None

    # -- waiting ----------------------------------------------------------------------------------------------
    async def _wait(self, work: asyncio.Future[Any], seconds: float | None) -> Outcome:
        """Wait for `work`, but not past a stop, a fatal error of a sub-call, or `seconds`. `work` is left alone."""
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([work, stopping, self.calls.fatal], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if self.calls.fatal.done():
            return "fatal"
        return "done" if work.done() else "stopped" if self._stop.is_set() else "late"

    async def _within_limits(self, work: asyncio.Future[T]) -> T:
        """The result of `work`, unless something ends the run first."""
        match await self._wait(work, self._seconds_left()):
            case "done":
                return work.result()
            case "fatal":
                end: Exception = self.calls.fatal.result()
            case "stopped":
                end = _stopped()
            case _:
                end = self._late()
        work.add_done_callback(_heard)
        raise end

    def _seconds_left(self) -> float | None:
        if self._final_deadline is not None:
            return max(0.0, self._final_deadline - time.monotonic())
        return self.ledger.seconds_left

    def _late(self) -> _EndError:
        return _EndError("timeout", f"the time limit of {self.task.options.timeout or FINAL_SECONDS:g} s was reached")

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


def _stopped() -> _EndError:
    return _EndError("interrupted", "stopped by the user")


async def _settle(work: asyncio.Future[Any]) -> None:
    """Cancel what is still going on and wait until it has ended, whatever comes of it."""
    work.add_done_callback(_heard)
    work.cancel()
    await asyncio.wait([work])


def _heard(work: asyncio.Future[Any]) -> None:
    """Nobody waits for this any more, so its error must not be reported as forgotten."""
    if not work.cancelled():
        work.exception()


_NOTES = {
    "timeout": "Stopped: a block may take {limit:g} s. The variables are kept.",
    "interrupted": "Interrupted. The variables are kept.",
    "died": "The REPL's process ended while this ran (out of memory, a crash, or an exit).",
    "flooded": "Stopped: it printed far too much.",
}
_REPLACED = "The REPL was started anew: the variables you were given are back, everything you had made is gone."
