"""`rlm_query` and `rlm_batch`: child runs, many at once, each with its share of what is left.

A child is stopped when the request that started it is given up (its cell was stopped, timed out or died), and waited
for: when a cell has ended, so have its children.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from rlm_kernel.budget import Ledger
from rlm_kernel.calls.child import Child
from rlm_kernel.calls.standing import Standing, Subcall
from rlm_kernel.calls.submodels import check_prompt
from rlm_kernel.errors import RecordingError, RLMError, SignatureError
from rlm_kernel.models.base import Model
from rlm_kernel.sandbox.base import RefusedError
from rlm_kernel.sandbox.guest import wire
from rlm_kernel.sandbox.sealed import Sealed, sealed
from rlm_kernel.signature import Signature
from rlm_kernel.task import Task

__all__ = ["Beget", "Children"]

_REPLY_CHARS = 2_000
"""Of an answer, as it is told of."""


Beget = Callable[[Task, Model, Mapping[str, Sealed], Ledger, str], Awaitable[Child | None]]
"""Makes a child of the given name, which has not begun; None where its sandbox cannot be had."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A child that was asked for."""

    task: Task
    variables: Mapping[str, Sealed]


class Children:
    """Those of one run.

    Args:
        standing: of the run.
        task: of the run.
        beget: makes a child.
    """

    def __init__(self, standing: Standing, task: Task, beget: Beget) -> None:
        self._run, self._task, self._beget = standing, task, beget
        self._going: set[asyncio.Task[Any]] = set()

    async def query(self, params: Mapping[str, Any]) -> Any:
        """Have one run answer."""
        return await self._answers(params, batch=False)

    async def batch(self, params: Mapping[str, Any]) -> Any:
        """Have many runs answer, in their order."""
        return await self._answers(params, batch=True)

    async def over(self) -> None:
        """Wait until none goes on."""
        while self._going:
            await asyncio.wait(self._going)

    async def _answers(self, params: Mapping[str, Any], *, batch: bool) -> list[dict[str, Any]] | None:
        if not self._task.has_children:
            return None
        model = self._run.tree.model(params.get("model"))
        wanted = self._checked(params)
        self._run.charge(len(wanted))
        group = _Group(self._run.next_batch() if batch else None, len(wanted))
        tasks = [asyncio.create_task(self._one(w, model, group)) for w in wanted]
        self._going.update(tasks)
        for task in tasks:
            task.add_done_callback(self._going.discard)
        try:
            return list(await asyncio.shield(asyncio.gather(*tasks)))
        except asyncio.CancelledError:
            group.stop()
            raise

    def _checked(self, params: Mapping[str, Any]) -> Sequence[_Wanted]:
        calls, outputs = params.get("calls"), params.get("outputs")
        if not isinstance(calls, list) or not calls or not all(isinstance(c, dict) for c in calls):
            raise RefusedError("rlm_query takes a prompt")
        if not (outputs is None or isinstance(outputs, str)):
            raise RefusedError('outputs is a text like "total: float, ids: list[int]"')
        options = replace(self._task.options, verbose=False)
        try:
            shared, told = sealed(params.get("shared", {}))
            found = []
            for call in calls:
                own, told_own = sealed(call.get("variables", {}))
                variables = {**shared, **own}
                described = tuple({v.name: v for v in (*told, *told_own, *options.tools.described)}.values())
                signature = Signature.parse(f"{', '.join(variables)} -> {outputs or 'answer: str'}")
                question = check_prompt(call.get("prompt"))
                found.append(_Wanted(Task(question, signature, described, options, self._task.depth + 1), variables))
        except SignatureError as error:
            raise RefusedError(f"outputs or the name of a variable: {error}") from None
        except ValueError as error:
            raise RefusedError(str(error)) from None
        return found

    async def _one(self, wanted: _Wanted, model: Model, group: _Group) -> dict[str, Any]:
        run, options = self._run, self._task.options
        async with run.tree.children(self._task.depth):
            if group.stopped:
                return {"error": "its cell was stopped"}
            with run.subcall(wanted.task.question, model.name, group.batch) as call:
                ledger = run.ledger.open_child(
                    options, waiting=group.next_waiting(), at_once=min(group.waiting + 1, options.max_children)
                )
                try:
                    child = await self._beget(wanted.task, model, wanted.variables, ledger, f"{run.name}.{call.number}")
                    if child is None:
                        call.error = "no sandbox can be had for it"
                        return {"error": call.error}
                    with group.has(child):
                        return await self._settled(child, call)
                finally:
                    call.usage, call.cost = ledger.usage, ledger.total_cost
                    run.ledger.close_child(ledger)

    async def _settled(self, child: Child, call: Subcall) -> dict[str, Any]:
        try:
            await child.go()
        except RecordingError as error:
            self._run.tree.fail(error)
            call.error = str(error)
        except RLMError as error:
            call.error = str(error)
        else:
            reason, detail = child.ended
            if child.answer is None:
                call.error = f"its run ended without an answer: {detail or reason}"
                return {"error": call.error}
            value: Any = child.answer if len(child.answer) > 1 else next(iter(child.answer.values()))
            try:
                reply = {"value": wire.encode(value)}
            except wire.NotSendableError as error:
                call.error = f"its answer cannot be handed on: {error}"
                return {"error": call.error}
            call.reply, call.error = (value if isinstance(value, str) else repr(value))[:_REPLY_CHARS], ""
            if reason != "answered":
                reply["note"] = f"a run below ended early ({detail or reason}); its best answer was taken"
            return reply
        return {"error": call.error}


class _Group:
    """The children of one request.

    Attributes:
        batch: the number of the batch that they are; None for one alone.
        waiting: how many have not begun.
        stopped: nobody waits for them any more.
    """

    def __init__(self, batch: int | None, count: int) -> None:
        self.batch, self.waiting = batch, count
        self._going: set[Child] = set()
        self.stopped = False

    def next_waiting(self) -> int:
        """One begins: how many waited, this one included."""
        self.waiting -= 1
        return self.waiting + 1

    @contextmanager
    def has(self, child: Child) -> Iterator[None]:
        """For the length of its run."""
        self._going.add(child)
        try:
            yield
        finally:
            self._going.discard(child)

    def stop(self) -> None:
        """End those that go on; no other begins."""
        self.stopped = True
        for child in self._going:
            child.stop()
