"""A direct call (`--direct`): the variables as text in the prompt, one reply, checked as any answer is.

A sibling of `loop.Run`, with the same verbs and the same events, for what fits into one call: no code is run and no
sandbox started. Decisions only: the model and the events' receiver are handed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

from rlm_kernel import events as ev
from rlm_kernel import prompt
from rlm_kernel.asking import ask
from rlm_kernel.astext import as_text, measure
from rlm_kernel.budget import Ledger, OverdrawnError
from rlm_kernel.calls import Tree
from rlm_kernel.conversation import Conversation
from rlm_kernel.errors import InputError, ModelError, RLMError
from rlm_kernel.foreign import has_json
from rlm_kernel.granting import BYTES_PER_TOKEN, UNPRICED, grant
from rlm_kernel.guard import EndError, Guard, settle
from rlm_kernel.models.base import Completion, Delta, Model
from rlm_kernel.models.prices import preload, window
from rlm_kernel.render.story import about
from rlm_kernel.task import Task

__all__ = ["Direct", "hint", "message", "tokens_of"]

TRIES = 3
"""Replies until one is an answer; the model is told what is wrong with the one before."""
FITTING = 20_000
"""Tokens of the variables up to which it is said that a direct call would do."""
LONG_TOKEN = 4
"""Bytes: what does not fit even at so many to a token is not sent. Of what is between, the provider decides."""
MOST_BYTES = 32 * 2**20
"""Of a prompt for a model whose window nobody knows."""
_ISOLATION = "not used: the model is asked directly, no code is run"


def tokens_of(variables: Mapping[str, Any]) -> dict[str, int | None]:
    """About how many tokens each variable has as text; None for one that has no such form."""
    sizes = {name: measure(value) for name, value in variables.items()}
    return {name: size if size is None else -(-size // BYTES_PER_TOKEN) for name, size in sizes.items()}


def hint(task: Task, variables: Mapping[str, Any]) -> str:
    """A line for the user where a direct call would do as well; empty where it would not, or where one is made."""
    tools = task.options.tools
    if task.options.direct or not variables or not all(has_json(f.type, f.annotation) for f in task.signature.outputs):
        return ""
    if tools.functions:
        return ""
    sizes = list(tokens_of({**variables, **tools.values}).values())
    total = sum(size or 0 for size in sizes)
    if None in sizes or total > FITTING:
        return ""
    names = ", ".join(variables) if len(variables) < 4 else f"the {len(variables)} variables"
    size = f"about {about(total)} tokens"
    return f"{names} would fit into one call ({size}): --direct (direct=True) asks it, without any code"


def message(task: Task, variables: Mapping[str, Any], model: str) -> str:
    """The first message of a direct call: the data, all of it, and the question.

    Raises:
        InputError: a variable has no form as text, a field none in JSON, or it is too much for one call.
    """
    for field in task.signature.outputs:
        if not has_json(field.type, field.annotation):
            raise InputError(f"--direct: '{field.name}: {field.annotation}' has no form in JSON; ask without --direct")
    tools = task.options.tools
    if tools.functions:
        raise InputError(f"--direct runs no code, so it cannot call {tools.functions[0].name}: leave one of both away")
    variables = {**variables, **tools.values}
    takes = window(model)
    most = MOST_BYTES if takes is None else takes * LONG_TOKEN
    size = sum(measure(value) or 0 for value in variables.values())
    if size <= 2 * most:
        data = [(v, *as_text(v.name, variables[v.name])) for v in task.variables]
        size = sum(len(text.encode("utf-8", "surrogatepass")) for _, _, text in data)
        if size <= most:
            return prompt.direct_message(task.question, data)
    limit = f"{MOST_BYTES // 2**20} MB" if takes is None else f"{takes:,}"
    raise InputError(
        f"--direct: the variables are about {size // BYTES_PER_TOKEN:,} tokens as text, and one call of {model} takes "
        f"at most {limit}; nothing is ever cut off, so ask without --direct"
    )


class Direct:
    """One direct call for a task, and a bounded number of further ones where the reply is no answer.

    Args:
        task: what it is about.
        data: the first message, as `message` makes it.
        model: the model that is asked.
        tree: of which this is the only run.
        on_event: gets every event, in order.
        name: of the run, in its events.
        ledger: its account; without, one of its own.
    """

    def __init__(
        self,
        task: Task,
        data: str,
        model: Model,
        tree: Tree,
        on_event: ev.OnEvent,
        name: str = "1",
        ledger: Ledger | None = None,
    ) -> None:
        self.task, self.model = task, model
        self._on_event, self._name = on_event, name
        self.ledger = Ledger(task.options) if ledger is None else ledger
        self._guard = Guard(self.ledger, tree.fatal)
        self._talk = Conversation(prompt.direct_system(task.signature), data)
        self._tries = min(TRIES, task.options.max_iterations)
        self._answer: dict[str, Any] | None = None
        self._cut: dict[str, Any] | None = None
        """The answer in the last reply that was cut off: better than none."""

    def stop(self) -> None:
        """End the run; the trajectory is kept."""
        self._guard.stop()

    async def go(self) -> None:
        """Run to the end.

        Raises:
            RLMError: the model failed. RunFinished was emitted all the same.
        """
        self._announce()
        warming = asyncio.get_running_loop().run_in_executor(None, preload)
        try:
            await self._until_the_end()
        except EndError as end:
            self._finish(end.reason, end.detail)
        except RLMError as error:
            self._finish("error", f"{type(error).__name__}: {error}")
            raise
        finally:
            await warming

    async def _until_the_end(self) -> NoReturn:
        wrong = ""
        for number in range(1, self._tries + 1):
            self._guard.check()
            completion = await self._ask(number)
            wrong = self._read(completion)
            self._talk.unsent = prompt.direct_mend(wrong)
            if wrong:
                self._emit(ev.Note, iteration=number, text=f"no valid answer: {wrong}")
            self._emit(ev.IterationFinished, iteration=number, observation=self._talk.unsent if wrong else "")
            if not wrong:
                raise EndError("answered")
        self._answer = self._cut
        raise EndError("max_errors", f"no valid answer in {self._tries} replies; of the last one: {wrong}")

    def _read(self, completion: Completion) -> str:
        """Take the answer out of a reply; what is wrong with it, if there is none."""
        cut = "it was cut off at its maximum length; be briefer" if completion.stop_reason == "max_tokens" else ""
        try:
            found = prompt.answer_of(self.task.signature, completion.text)
        except ValueError as error:
            return cut or str(error)
        if cut:
            self._cut = found
        else:
            self._answer = found
        return cut

    async def _ask(self, number: int) -> Completion:
        request = replace(self._talk.next(), cache=False)  # a further call is rare, and writing a cache is dear
        try:
            granted = await grant(self.model, request, self.ledger, known=self._talk.known, last=True)
        except OverdrawnError as short:
            raise EndError(short.reason, str(short)) from None
        self.ledger.iterations = number
        self._emit(ev.IterationStarted, iteration=number, prompt=self._talk.unsent)

        def on_delta(delta: Delta) -> None:
            self._emit(ev.ModelDelta, iteration=number, text=delta.text, kind=delta.kind)

        asking = asyncio.ensure_future(ask(self.model, request, self.ledger, on_delta, granted=granted))
        try:
            answer = await self._guard.result(asking)
        finally:
            await settle(asking)
        completion = answer.completion
        if number == 1 and self.task.options.budget is not None and answer.cost is None:
            self._emit(ev.Note, iteration=number, text=UNPRICED.format(model=completion.model))
        if completion.stop_reason == "refusal":
            raise ModelError(f"{completion.model} refused to answer: {completion.text[:200] or 'it gave no reason'}")
        self._talk.replied(request, completion)
        self._emit(
            ev.ModelFinished,
            iteration=number,
            reply=completion.text,
            thinking=completion.thinking,
            model=completion.model,
            usage=completion.usage,
            cost=answer.cost,
            seconds=answer.seconds,
            cells=(),
        )
        return completion

    # -- events -----------------------------------------------------------------------------------------------
    def _announce(self) -> None:
        self._emit(
            ev.RunStarted,
            question=self.task.question,
            signature=str(self.task.signature),
            model=self.model.name,
            sub_model="",
            max_iterations=self._tries,
            max_llm_calls=0,
            variables=self.task.variables,
            isolation=_ISOLATION,
        )

    def _finish(self, reason: ev.StopReason, detail: str) -> None:
        if self._answer is not None:
            self._emit(ev.Final, iteration=self.ledger.iterations, values=self._answer)
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
