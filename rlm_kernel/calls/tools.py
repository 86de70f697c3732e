"""`tool`: functions of the notebook, called for the sandbox's code, outside of the sandbox and within limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from rlm_kernel import events as ev
from rlm_kernel.calls.standing import Standing
from rlm_kernel.sandbox.base import RefusedError
from rlm_kernel.tools import MAX_CHARS, Outcome, Tool, perform, told

__all__ = ["Tools"]

_LARGE_CHARS = 2**20
"""Read, hostile arguments may take twelve times as much memory, so such calls are made two at a time."""


class Tools:
    """Calls them for one run.

    Args:
        standing: of the run.
    """

    def __init__(self, standing: Standing) -> None:
        self._run = standing
        self._told: set[tuple[int, str]] = set()

    async def call(self, params: Mapping[str, Any]) -> dict[str, str]:
        """Call one. What it raises is an answer too."""
        tool, arguments = self._checked(params)
        tree = self._run.tree
        large = tree.large_calls if len(arguments) > _LARGE_CHARS else contextlib.nullcontext()
        async with tree.tool_slots, large:
            if tree.workers.busy >= 2 * self._run.ledger.options.max_concurrency:
                raise RefusedError(
                    f"{tree.workers.busy} calls have not returned, though nobody waits for them any more"
                )
            with self._run.tool_call(tool.name, told(arguments)) as call:
                outcome = await self._outcome(tool, arguments)
                call.result, call.error = outcome.told, outcome.error
        return outcome.answer

    def _checked(self, params: Mapping[str, Any]) -> tuple[Tool, str]:
        run, tree = self._run, self._run.tree
        name, arguments = params.get("tool"), params.get("arguments")
        tool = tree.tools.find(name)
        if tool is None:
            known = ", ".join(item.name for item in tree.tools.functions) or "none"
            raise RefusedError(f"this question has no tool called {str(name)[:80]!r}; its tools: {known[:1000]}")
        if not isinstance(arguments, str):
            raise RefusedError("a tool takes arguments")
        if len(arguments) > MAX_CHARS:
            most = f"the {MAX_CHARS >> 20} MB that a tool may be given"
            raise RefusedError(f"arguments of {len(arguments) >> 20:,} MB are more than {most}: pass less")
        if run.closed:
            raise RefusedError("no tool can be called any more: submit the answer")
        most_calls = run.ledger.options.max_tool_calls
        if tree.tool_calls >= most_calls:
            raise RefusedError(f"no call of a tool is left, all {most_calls:,} are used: go on with what you have")
        tree.tool_calls += 1
        return tool, arguments

    async def _outcome(self, tool: Tool, arguments: str) -> Outcome:
        """What came of it, in time. A function that goes on is left alone, and the user is told so."""
        seconds = self._run.ledger.options.tool_timeout
        try:
            async with asyncio.timeout(seconds):
                return await perform(tool, arguments, self._run.tree.workers)
        except TimeoutError:
            self._left_alone(tool)
            return Outcome.of("TimeoutError", f"{tool.name}() did not return within {seconds:g} s")
        except asyncio.CancelledError:
            self._left_alone(tool)
            raise

    def _left_alone(self, tool: Tool) -> None:
        iteration = self._run.where[0]
        if not tool.is_async and (iteration, tool.name) not in self._told:
            self._told.add((iteration, tool.name))
            words = "cannot be stopped: it goes on in this process, in a thread that nobody waits for"
            self._run.emit(ev.Note, iteration=iteration, text=f"the tool {tool.name} {words}")
