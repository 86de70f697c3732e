"""Answers what the sandbox asks for: sub-models, child runs, tools, and the submission. Charges first, then asks.

The sandbox is hostile: every parameter is checked here, and what it may spend is decided here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from rlm_kernel.calls.child import Child, ChildRun
from rlm_kernel.calls.children import Beget, Children
from rlm_kernel.calls.kept import KeptReplies
from rlm_kernel.calls.standing import Standing, Tree
from rlm_kernel.calls.submodels import SubModels
from rlm_kernel.calls.tools import Tools
from rlm_kernel.sandbox.base import RefusedError
from rlm_kernel.sandbox.guest import wire
from rlm_kernel.task import Task

__all__ = ["Beget", "Calls", "Child", "ChildRun", "KeptReplies", "Standing", "Tree"]

Answerer = Callable[[Mapping[str, Any]], Awaitable[Any]]


class Calls:
    """The handler of one run's sandbox.

    Args:
        standing: of the run.
        task: of the run; a submission has to fit its signature.
        beget: makes a child run.

    Attributes:
        answer: the accepted submission; None until there is one.
    """

    def __init__(self, standing: Standing, task: Task, beget: Beget) -> None:
        self.standing, self._signature = standing, task.signature
        self.answer: dict[str, Any] | None = None
        models = SubModels(standing)
        self._children = Children(standing, task, beget)
        self._answerers: dict[str, Answerer] = {
            "llm_query": models.query,
            "llm_batch": models.batch,
            "rlm_query": self._children.query,
            "rlm_batch": self._children.batch,
            "submit": self._submit,
            "tool": Tools(standing).call,
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

    async def over(self) -> None:
        """Wait until no child goes on: to be called when the cell has ended that asked for them."""
        await self._children.over()

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
