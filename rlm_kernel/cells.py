"""Runs the model's blocks as cells of the sandbox: within their limits, and with a sandbox that may die of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlm_kernel import events as ev
from rlm_kernel.calls import Calls
from rlm_kernel.config import Options
from rlm_kernel.errors import RLMError
from rlm_kernel.guard import EndError, Guard, settle
from rlm_kernel.prompt import CellReport, Excerpt
from rlm_kernel.sandbox.base import CellResult, Chunk
from rlm_kernel.sandbox.journal import Journal

__all__ = ["Cells"]

GRACE_SECONDS = 1.0
"""How long an interrupted cell may take to end before its sandbox is killed."""
_NOTES = {
    "interrupted": "Interrupted. The variables are kept.",
    "died": "The REPL's process ended while this ran.",
    "flooded": "Stopped: it put out far too much.",
}
_STOPPED = ("interrupted", "timeout", "died", "flooded")
_RECOVERED = {
    "resumed": "Your variables are what they were before this block.",
    "replayed": "The REPL was rebuilt by running your earlier blocks again: your variables are what they were.",
    "restarted": "The REPL was started anew: the variables you were given are back, everything you had made is gone.",
}


class Cells:
    """The cells of one run.

    Args:
        sandbox: where they run; it has been started.
        calls: answers what they ask for.
        guard: what may end the run meanwhile.
        options: with the limit of one cell.
        emit: gets the events, without run and time.
    """

    def __init__(
        self,
        sandbox: Journal,
        calls: Calls,
        guard: Guard,
        options: Options,
        emit: Callable[..., None],
    ) -> None:
        self._sandbox, self._calls, self._guard, self._options = sandbox, calls, guard, options
        self._emit = emit
        self._count = 0

    async def run(self, iteration: int, blocks: Sequence[str]) -> list[CellReport]:
        """Run the blocks in order, up to the first that fails or submits.

        Raises:
            EndError: the run was stopped or its time is over. The cell has ended and its end was told.
            RLMError: the sandbox cannot go on, or a sub-call met an error that ends the run.
        """
        reports: list[CellReport] = []
        for position, block in enumerate(blocks, 1):
            self._guard.check()
            try:
                report = await self._one(iteration, block)
            except EndError as end:
                end.reports = [*reports, *end.reports]
                raise
            skipped = len(blocks) - position
            if report.status not in ("ok", "submitted") and skipped:
                report = replace(report, note=f"{report.note} ({skipped} later block(s) were not run.)".strip())
            reports.append(report)
            if report.status != "ok":
                break
        return reports

    async def _one(self, iteration: int, code: str) -> CellReport:
        self._count += 1
        number = self._count
        self._calls.standing.begin_cell(iteration, number)
        self._emit(ev.CellStarted, iteration=iteration, cell=number, code=code)
        output = Excerpt(self._options.max_output_chars)
        displayed: list[Mapping[str, Any]] = []

        def on_chunk(chunk: Chunk) -> None:
            output.add(chunk.text)
            if chunk.data and self._options.see:
                displayed.append(chunk.data)
            self._emit(
                ev.CellOutput, iteration=iteration, cell=number, kind=chunk.kind, text=chunk.text, data=chunk.data
            )

        started = time.monotonic()
        try:
            result, status, end = await self._execute(code, on_chunk)
        finally:
            await self._calls.over()
        if self._calls.answer is not None and not isinstance(end, RLMError):
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
        note = result.why or self._note(status)
        if status in _STOPPED:
            note = f"{note} {self._calls.standing.stopped()}"
        if result.status == "died":
            over = status == "submitted" or end is not None
            note = f"{note} {await self._recover(iteration, result.detail, over=over)}"
        changes = result.changed, result.removed, result.restored
        report = CellReport(number, status, output, *changes, note.strip(), tuple(displayed))
        if isinstance(end, EndError):
            end.reports = [report]
            if self._sandbox.behind:
                end.detail += "; its code went on, so the sandbox was ended; the next question rebuilds its variables"
        if end is not None:
            raise end
        return report

    async def keep(self, variables: Mapping[str, Any]) -> None:
        """Put variables into the REPL, which has been started.

        Raises:
            RLMError: the sandbox cannot go on.
        """
        await self._sandbox.put(variables)
        await self._sandbox.start(self._calls)

    async def look(self) -> str:
        """The variables that there are, as SHOW_VARS() has them; empty where it cannot tell.

        Raises:
            EndError: the run was stopped or its time is over.
            RLMError: a sub-call met an error that ends the run.
        """
        shown: list[str] = []
        _, _, end = await self._execute("print(SHOW_VARS())", lambda chunk: shown.append(chunk.text))
        if end is not None:
            raise end
        return "".join(shown).strip()

    def _note(self, status: str) -> str:
        if status == "timeout":
            limit = self._options.cell_timeout
            return f"Stopped: a block may take {limit:g} s." if limit is not None else "Stopped: the time is over."
        return _NOTES.get(status, "")

    async def _execute(
        self, code: str, on_chunk: Callable[[Chunk], None]
    ) -> tuple[CellResult, str, EndError | RLMError | None]:
        """One cell within its limits: how it ended, the status to show, and what ends the run after it, if anything."""
        running = asyncio.ensure_future(self._sandbox.execute(code, on_chunk))
        left, limit = self._guard.seconds_left(), self._options.cell_timeout
        outcome = await self._guard.wait(running, min((s for s in (left, limit) if s is not None), default=None))
        if outcome == "done":
            result, fatal = running.result(), self._calls.standing.tree.fatal
            return result, result.status, fatal.result() if fatal.done() else None
        result = await self._halt(running)
        if outcome != "late":
            return result, "interrupted", self._guard.end(outcome)
        run_is_over = left is not None and (limit is None or left <= limit)
        return result, "timeout", self._guard.end("late") if run_is_over else None

    async def _halt(self, running: asyncio.Future[CellResult]) -> CellResult:
        """Interrupt a cell; give up its sandbox's process if it does not end."""
        await self._sandbox.interrupt()
        await asyncio.wait([running], timeout=GRACE_SECONDS)
        if running.done():
            return running.result()
        await settle(running)
        return CellResult("died", detail="it went on although it was interrupted")

    async def _recover(self, iteration: int, why: str, *, over: bool) -> str:
        """Bring the sandbox back. Returns what the model is to know.

        Args:
            iteration: where it died.
            why: it died.
            over: the run ends here: then nothing is done that takes long.
        """
        recovering = asyncio.ensure_future(self._sandbox.recover(rebuild=not over))
        try:
            recovery = await (recovering if over else self._guard.result(recovering))
        finally:
            await settle(recovering)
        if recovery is None:
            return ""
        self._emit(ev.Note, iteration=iteration, text=f"The sandbox died{f': {why}' if why else ''}. {recovery}")
        said = _RECOVERED[recovery.how]
        return f"({why}.) {said}" if why else said
