"""`llm_query` and `llm_batch`: sub-models, asked many at once; one that fails leaves the others alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlm_kernel.asking import ask
from rlm_kernel.budget import OverdrawnError
from rlm_kernel.calls.handed_in import HandedIn
from rlm_kernel.calls.standing import Standing
from rlm_kernel.errors import ModelError, RecordingError
from rlm_kernel.models.attempts import PACE
from rlm_kernel.models.base import Message, Model, Request
from rlm_kernel.sandbox.base import RefusedError

__all__ = ["MAX_PROMPT_CHARS", "SubModels", "check_prompt"]

MAX_PROMPT_CHARS = 32 * 2**20


def check_prompt(prompt: object) -> str:
    """The prompt, if it is one.

    Raises:
        RefusedError: it is none.
    """
    if not isinstance(prompt, str):
        raise RefusedError("prompts have to be text")
    if len(prompt) > MAX_PROMPT_CHARS:
        raise RefusedError(f"a prompt of {len(prompt):,} characters is too long for any model: send a slice")
    if not prompt.strip():
        raise RefusedError("a prompt is empty")
    return prompt


class SubModels:
    """Asks them for one run.

    Args:
        standing: of the run.
    """

    def __init__(self, standing: Standing) -> None:
        self._run = standing
        self._handed_in = HandedIn(standing)

    async def query(self, params: Mapping[str, Any]) -> list[dict[str, str]]:
        """Answer one prompt."""
        model, prompts = self._checked(params)
        return await self._each(model, prompts, None)

    async def batch(self, params: Mapping[str, Any]) -> list[dict[str, str]]:
        """Answer many, in their order."""
        model, prompts = self._checked(params)
        if params.get("batch_api"):
            return await self._in_one(model, prompts)
        return await self._each(model, prompts, self._run.next_batch)

    def _checked(self, params: Mapping[str, Any]) -> tuple[Model, Sequence[str]]:
        prompts = params.get("prompts")
        if not isinstance(prompts, list) or not prompts:
            raise RefusedError("prompts have to be text")
        for prompt in prompts:
            check_prompt(prompt)
        return self._run.tree.model(params.get("model")), prompts

    async def _each(
        self, model: Model, prompts: Sequence[str], batch: Callable[[], int] | None
    ) -> list[dict[str, str]]:
        kept = self._take(model.name, prompts)
        self._charge(kept.count(None), model.name, prompts, kept)
        number, made = batch() if batch is not None else None, list[str]()
        answers = [
            self._one(model, prompt, number, made) if reply is None else self._again(model, prompt, number, reply)
            for prompt, reply in zip(prompts, kept, strict=True)
        ]
        try:
            return await asyncio.gather(*answers)
        finally:
            self._run.ledger.return_subcalls(kept.count(None) - len(made))

    async def _in_one(self, model: Model, prompts: Sequence[str]) -> list[dict[str, str]]:
        """Through the provider's batch service, but for what is kept."""
        kept = self._take(model.name, prompts)
        new = [prompt for prompt, reply in zip(prompts, kept, strict=True) if reply is None]
        try:
            charged = not new or self._handed_in.goes_on(model, new)
        except RefusedError:
            self._put_back(model.name, prompts, kept)
            raise
        if not charged:
            self._charge(len(new), model.name, prompts, kept)
        batch = self._run.next_batch()
        answers = iter(await self._handed_in.ask(model, new, batch) if new else ())
        return [
            next(answers) if reply is None else await self._again(model, prompt, batch, reply)
            for prompt, reply in zip(prompts, kept, strict=True)
        ]

    def _take(self, model: str, prompts: Sequence[str]) -> list[str | None]:
        """The replies to these prompts that are kept, in their order; None for each that has to be asked."""
        return [self._run.tree.kept.take(model, prompt) for prompt in prompts]

    def _put_back(self, model: str, prompts: Sequence[str], kept: Sequence[str | None]) -> None:
        for prompt, reply in zip(prompts, kept, strict=True):
            if reply is not None:
                self._run.tree.kept.put(model, prompt, reply)

    def _charge(self, count: int, model: str, prompts: Sequence[str], kept: Sequence[str | None]) -> None:
        try:
            self._run.charge(count)
        except RefusedError:
            self._put_back(model, prompts, kept)
            raise

    async def _again(self, model: Model, prompt: str, batch: int | None, reply: str) -> dict[str, str]:
        """A call that was answered before, when nobody could hear it."""
        with self._run.subcall(prompt, model.name, batch) as call:
            call.reply, call.error, call.cost = reply, "", 0.0
        self._run.heard(model.name, prompt, reply)
        return {"text": reply}

    async def _one(self, model: Model, prompt: str, batch: int | None, made: list[str]) -> dict[str, str]:
        run = self._run
        async with run.tree.slots:
            made.append(prompt)
            PACE.set(run.tree.limiter.call())  # of this task, which is the sub-call's own
            return await self._asked(model, prompt, batch)

    async def _asked(self, model: Model, prompt: str, batch: int | None) -> dict[str, str]:
        run = self._run
        with run.subcall(prompt, model.name, batch) as call:
            try:
                request = Request((Message("user", prompt),), kind="sub", cache=False)
                answer = await ask(model, request, run.ledger)
                run.tell_unpriced(run.where[0], answer)
            except OverdrawnError as error:
                run.ledger.refuse(error.reason, str(error))
                call.error = str(error)
            except RecordingError as error:
                call.error = str(error)
                run.tree.fail(error)
            except ModelError as error:
                call.error = str(error)
            else:
                completion = answer.completion
                refused = completion.stop_reason == "refusal"
                call.reply, call.error = completion.text, "the model refused to answer" if refused else ""
                call.usage, call.cost, call.model = completion.usage, answer.cost, completion.model
        if call.error:
            return {"error": call.error}
        run.heard(model.name, prompt, call.reply)
        return {"text": call.reply}
