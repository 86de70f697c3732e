"""Answers what the sandbox asks for: sub-models, child runs, and the submission. Charges first, then asks.

The sandbox is hostile: every parameter is checked here, and what it may spend is decided here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from rlm_kernel.calls.kept import Kept
from rlm_kernel.calls.standing import Standing, Tree
from rlm_kernel.calls.submodels import SubModels
from rlm_kernel.sandbox.base import RefusedError
from rlm_kernel.sandbox.guest import wire
from rlm_kernel.signature import Signature

__all__ = ["Calls", "Kept", "Standing", "Tree"]

Answerer = Callable[[Mapping[str, Any]], Awaitable[Any]]


class Calls:
    """The handler of one run's sandbox.

    Args:
        standing: of the run.
        signature: what a submission has to fit.

    Attributes:
        answer: the accepted submission; None until there is one.
    """

    def __init__(self, standing: Standing, signature: Signature) -> None:
        self.standing, self._signature = standing, signature
        self.answer: dict[str, Any] | None = None
        models = SubModels(standing)
        self._answerers: dict[str, Answerer] = {
            "llm_query": models.query,
            "llm_batch": models.batch,
            "submit": self._submit,
        }

    async def __call__(self, method: str, params: Mapping[str, Any]) -> Any:
        """Answer one request of the sandbox.

        Raises:
            RefusedError: the answer is no; the text is for the model.
        """
        answerer = self._answerers.get(method)
        if answerer is None:
            raise RefusedError(f"there is no request called {method[:40]!r}")
        return await answerer(params)

    async def _submit(self, params: Mapping[str, Any]) -> None:
        if self.standing.tree.fatal.done():
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
