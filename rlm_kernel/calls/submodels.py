"""`llm_query` and `llm_batch`: sub-models, asked many at once; one that fails leaves the others alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rlm_kernel.asking import ask
from rlm_kernel.budget import OverdrawnError
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

    async def query(self, params: Mapping[str, Any]) -> list[dict[str, str]]:
        """Answer one prompt."""
        model, prompts = self._checked(params)
        return [await self._one(model, prompts[0], None)]

    async def batch(self, params: Mapping[str, Any]) -> list[dict[str, str]]:
        """Answer many, in their order."""
        model, prompts = self._checked(params)
        batch = self._run.next_batch()
        return list(await asyncio.gather(*(self._one(model, p, batch) for p in prompts)))

    def _checked(self, params: Mapping[str, Any]) -> tuple[Model, Sequence[str]]:
        prompts = params.get("prompts")
        if not isinstance(prompts, list) or not prompts:
            raise RefusedError("prompts have to be text")
        for prompt in prompts:
            check_prompt(prompt)
        model = self._run.tree.model(params.get("model"))
        self._run.charge(len(prompts))
        return model, prompts

    async def _one(self, model: Model, prompt: str, batch: int | None) -> dict[str, str]:
        run = self._run
        async with run.tree.slots:
            PACE.set(run.tree.limiter.call())  # of this task, which is the sub-call's own
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
        return {"error": call.error} if call.error else {"text": call.reply}
