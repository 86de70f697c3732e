"""Where a run stands, for whoever answers what its sandbox asks: its account, the cell that runs, its sub-calls so far.

What all runs of a question share, however deep, is its `Tree`.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rlm_kernel import events as ev
from rlm_kernel.asking import Answer
from rlm_kernel.budget import Ledger, OverdrawnError
from rlm_kernel.calls.kept import KeptReplies
from rlm_kernel.calls.limiter import Limiter
from rlm_kernel.config import Options
from rlm_kernel.errors import RLMError
from rlm_kernel.granting import UNPRICED
from rlm_kernel.models.base import Model
from rlm_kernel.sandbox.base import RefusedError
from rlm_kernel.tools import Workers
from rlm_kernel.usage import Usage

__all__ = ["Called", "Standing", "Subcall", "Tree"]


_KEPT = "{count:,} replies of sub-models had come: ask the same prompts again, and you get these at once and uncharged."
_GOES_ON = "A batch goes on at the provider: call llm_batch with the same prompts and batch_api=True to go on waiting."


class Tree:
    """What all runs of a question share.

    Args:
        models: those that code may ask, by name; None is the sub-model.
        options: the outermost run's.
        kept: replies that an earlier question of the same sandbox never got.

    Attributes:
        slots: for sub-calls at the same time, also those that wait for the budget or for their provider.
        limiter: says which of them may ask it.
        tools: what the code may call.
        workers: where they run.
        tool_slots: for calls of them at the same time.
        large_calls: for those with large arguments.
        tool_calls: that were made.
        fatal: an error that has to end the question: a recording that does not fit.
        unpriced: it was said that the price of a model is not known.
    """

    def __init__(self, models: Mapping[str | None, Model], options: Options, kept: KeptReplies | None = None) -> None:
        self.models = models
        self.kept = KeptReplies() if kept is None else kept
        self.slots = asyncio.Semaphore(options.max_concurrency)
        self.limiter = Limiter(options.max_concurrency)
        self.tools, self.workers = options.tools, Workers()
        self.tool_slots, self.large_calls = asyncio.Semaphore(options.max_concurrency), asyncio.Semaphore(2)
        self.tool_calls = 0
        self.fatal: asyncio.Future[RLMError] = asyncio.get_running_loop().create_future()
        self.unpriced = False
        self._children: defaultdict[int, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(options.max_children)
        )

    def model(self, name: object) -> Model:
        """The model that code asks for by this name.

        Raises:
            RefusedError: there is none.
        """
        model = self.models.get(name) if name is None or isinstance(name, str) else None
        if model is None:
            known = ", ".join(sorted(n for n in self.models if n))
            raise RefusedError(f"model {str(name)[:80]!r} is not available; there are: {known}")
        return model

    def children(self, depth: int) -> asyncio.Semaphore:
        """For child runs at the same time, of all runs at this depth: one that has children waits for none above."""
        return self._children[depth]

    def fail(self, error: RLMError) -> None:
        """End the question with this error; the first counts."""
        if not self.fatal.done():
            self.fatal.set_result(error)


@dataclass(slots=True)
class Subcall:
    """What came of a sub-call; filled in while it goes on."""

    number: int
    model: str
    reply: str = ""
    error: str = "cancelled: its cell was stopped"
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None


@dataclass(slots=True)
class Called:
    """What came of a tool's call; filled in while it goes on."""

    result: str = ""
    error: str = "cancelled: its cell was stopped"


class Standing:
    """Where one run stands.

    Args:
        tree: what it shares with the other runs of its question.
        ledger: its account.
        emit: gets its events, without run and time.
        name: its own, in events.

    Attributes:
        where: the iteration and cell that run now.
        closed: no sub-call any more: the final answer is being given.
    """

    def __init__(self, tree: Tree, ledger: Ledger, emit: Callable[..., None], name: str = "1") -> None:
        self.tree, self.ledger, self.emit, self.name = tree, ledger, emit, name
        self.where = (0, 0)
        self.closed = False
        self._subcalls = self._batches = self._tool_calls = 0
        self._heard: list[tuple[str, str, str]] = []
        """Replies of the cell that runs: model, prompt, text."""
        self.handed_in = 0
        """Batches that go on at a provider."""

    def begin_cell(self, iteration: int, cell: int) -> None:
        """From now on this cell runs."""
        self.where = (iteration, cell)
        self._heard.clear()

    def heard(self, model: str, prompt: str, reply: str) -> None:
        """A model has replied."""
        self._heard.append((model, prompt, reply))

    def stopped(self) -> str:
        """The cell was stopped: its replies are kept for whoever asks the same again. What the model is told of it."""
        for model, prompt, reply in self._heard:
            self.tree.kept.put(model, prompt, reply)
        told = [_KEPT.format(count=len(self._heard))] if self._heard else []
        self._heard.clear()
        return " ".join([*told, *([_GOES_ON] if self.handed_in else [])])

    def charge(self, count: int) -> None:
        """Take as many sub-calls.

        Raises:
            RefusedError: it has not as many.
        """
        if self.closed:
            raise RefusedError("no sub-call is possible any more: submit the answer")
        try:
            self.ledger.charge_subcalls(count)
        except OverdrawnError as error:
            raise RefusedError(str(error)) from None

    def tell_unpriced(self, iteration: int, answer: Answer) -> None:
        """Say once for the whole tree that dollars cannot be limited."""
        if answer.cost is None and self.ledger.limits.usd is not None and not self.tree.unpriced:
            self.tree.unpriced = True
            self.emit(ev.Note, iteration=iteration, text=UNPRICED.format(model=answer.completion.model))

    def next_batch(self) -> int:
        """A number for a batch, from 1."""
        self._batches += 1
        return self._batches

    @contextmanager
    def subcall(self, prompt: str, model: str, batch: int | None) -> Iterator[Subcall]:
        """Tell of the start and, however it comes, of the end of a sub-call."""
        self._subcalls += 1
        call = Subcall(self._subcalls, model)
        iteration, cell = self.where
        self.emit(
            ev.SubcallStarted,
            iteration=iteration,
            cell=cell,
            subcall=call.number,
            prompt=prompt,
            model=model,
            batch=batch,
        )
        started = time.monotonic()
        try:
            yield call
        finally:
            self.emit(
                ev.SubcallFinished,
                subcall=call.number,
                reply=call.reply,
                error=call.error,
                model=call.model,
                usage=call.usage,
                cost=call.cost,
                seconds=time.monotonic() - started,
            )

    @contextmanager
    def tool_call(self, tool: str, arguments: str) -> Iterator[Called]:
        """Tell of the start and, however it comes, of the end of a tool's call."""
        self._tool_calls += 1
        call, number = Called(), self._tool_calls
        iteration, cell = self.where
        self.emit(ev.ToolCallStarted, iteration=iteration, cell=cell, call=number, tool=tool, arguments=arguments)
        started = time.monotonic()
        try:
            yield call
        finally:
            seconds = time.monotonic() - started
            self.emit(ev.ToolCallFinished, call=number, result=call.result, error=call.error, seconds=seconds)
