"""Answers what the sandbox asks for: sub-calls and the submission. Charges first, then asks.

The sandbox is hostile: every parameter is checked here, and what it may spend is decided here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from rlm_kernel import events as ev
from rlm_kernel.budget import Ledger, OverdrawnError
from rlm_kernel.errors import ModelError, RecordingError, RLMError
from rlm_kernel.models.base import Completion, Message, Model, OnDelta, Request
from rlm_kernel.models.prices import cost
from rlm_kernel.sandbox.base import RefusedError
from rlm_kernel.sandbox.guest import wire
from rlm_kernel.signature import Signature
from rlm_kernel.usage import Usage

__all__ = ["Calls", "complete"]

MAX_PROMPT_CHARS = 32 * 2**20


async def complete(model: Model, request: Request, on_delta: OnDelta | None = None) -> Completion:
    """Ask a model, which may be the user's own and raise anything.

    Raises:
        RLMError: it failed.
    """
    try:
        return await model.complete(request, on_delta)
    except RLMError:
        raise
    except Exception as error:
        raise ModelError(f"{model.name} failed: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - a foreign __str__
        return type(error).__name__


class Calls:
    """The handler of one run.

    Args:
        signature: what a submission has to fit.
        models: by the names that model code may use; None is the sub-model.
        ledger: charged before every call.
        emit: gets the events, without run and time.
    """

    def __init__(
        self,
        signature: Signature,
        models: Mapping[str | None, Model],
        ledger: Ledger,
        emit: Callable[..., None],
    ) -> None:
        self._signature, self._models, self._ledger, self._emit = signature, models, ledger, emit
        self._slots = asyncio.Semaphore(ledger.options.max_concurrency)
        self._subcalls = 0
        self._batches = 0
        self.closed = False
        """No sub-call any more: the final answer is being given."""
        self.where = (0, 0)
        """The iteration and cell that run now."""
        self.answer: dict[str, Any] | None = None
        self.fatal: asyncio.Future[RLMError] = asyncio.get_running_loop().create_future()
        """An error of a sub-call that has to end the run: a recording that does not fit."""

    @property
    def sub_model(self) -> str:
        """The name of the model that is asked unless the code names another."""
        return self._models[None].name

    async def __call__(self, method: str, params: Mapping[str, Any]) -> Any:
        """Answer one request of the sandbox.

        Raises:
            RefusedError: the answer is no; the text is for the model.
        """
        if method in ("llm_query", "llm_batch"):
            return await self._ask(method, params)
        if method == "submit":
            return self._submit(params)
        raise RefusedError(f"there is no request called {method[:40]!r}")

    async def _ask(self, method: str, params: Mapping[str, Any]) -> list[dict[str, str]]:
        prompts, name = params.get("prompts"), params.get("model")
        if not isinstance(prompts, list) or not all(isinstance(p, str) for p in prompts):
            raise RefusedError("prompts have to be text")
        if too_long := next((len(p) for p in prompts if len(p) > MAX_PROMPT_CHARS), None):
            raise RefusedError(f"a prompt of {too_long:,} characters is too long for any model: send a slice")
        if any(not p.strip() for p in prompts):
            raise RefusedError("a prompt is empty")
        model = self._models.get(name) if name is None or isinstance(name, str) else None
        if model is None:
            known = ", ".join(sorted(n for n in self._models if n))
            raise RefusedError(f"model {str(name)[:80]!r} is not available; there are: {known}")
        if self.closed:
            raise RefusedError("no sub-call is possible any more: submit the answer")
        try:
            self._ledger.charge_subcalls(len(prompts))
        except OverdrawnError as error:
            raise RefusedError(str(error)) from None
        batch = None
        if method == "llm_batch":
            self._batches += 1
            batch = self._batches
        if len(prompts) == 1:
            return [await self._one(model, prompts[0], batch)]
        return list(await asyncio.gather(*(self._one(model, p, batch) for p in prompts)))

    async def _one(self, model: Model, prompt: str, batch: int | None) -> dict[str, str]:
        async with self._slots:
            self._subcalls += 1
            number, (iteration, cell) = self._subcalls, self.where
            self._emit(
                ev.SubcallStarted,
                iteration=iteration,
                cell=cell,
                subcall=number,
                prompt=prompt,
                model=model.name,
                batch=batch,
            )
            started = time.monotonic()
            reply, failed, usage, price, answered = "", "cancelled: its cell was stopped", Usage(), None, model.name
            try:
                completion = await complete(model, Request((Message("user", prompt),), kind="sub", cache=False))
                reply, failed, usage, answered = completion.text, "", completion.usage, completion.model
                price = cost(usage, answered)
                if completion.stop_reason == "refusal":
                    failed = "the model refused to answer"
                self._ledger.settle(usage, price)
            except RecordingError as error:
                failed = str(error)
                if not self.fatal.done():
                    self.fatal.set_result(error)
            except ModelError as error:
                failed = str(error)
            finally:
                self._emit(
                    ev.SubcallFinished,
                    subcall=number,
                    reply=reply,
                    error=failed,
                    model=answered,
                    usage=usage,
                    cost=price,
                    seconds=time.monotonic() - started,
                )
        return {"error": failed} if failed else {"text": reply}

    def _submit(self, params: Mapping[str, Any]) -> None:
        if self.fatal.done():
            raise RefusedError("the run is over")
        if self.answer is not None:
            return
        fields, values = params.get("fields"), params.get("values")
        if not isinstance(fields, dict) or not isinstance(values, list):
            raise RefusedError("a submission has fields")
        try:
            given = {str(k): wire.decode(v) for k, v in fields.items()}
            self.answer = self._signature.validate(given, [wire.decode(v) for v in values])
        except ValueError as error:
            raise RefusedError(str(error)) from None
        except Exception as error:  # noqa: BLE001 - hostile bytes in a table or array: whatever the library makes of them
            raise RefusedError(f"a value could not be read: {type(error).__name__}") from None
