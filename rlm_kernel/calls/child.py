"""A run below the one that asked, and the sandbox that it has for itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from rlm_kernel.sandbox.journal import Journal
from rlm_kernel.sandbox.sealed import Sealed

__all__ = ["Child", "ChildRun"]


class Child(Protocol):
    """A run below the one that asked."""

    @property
    def answer(self) -> Mapping[str, Any] | None:
        """None until there is one."""
        ...

    @property
    def ended(self) -> tuple[str, str]:
        """Why it ended, and a line about it."""
        ...

    async def go(self) -> None:
        """Run to the end, and end its sandbox.

        Raises:
            RLMError: it failed.
        """
        ...

    def stop(self) -> None:
        """End it soon."""
        ...


class _Run(Child, Protocol):
    """A run in a sandbox of somebody's."""

    sandbox: Journal


class ChildRun:
    """A run with a sandbox that is its own from beginning to end.

    Args:
        run: it.
        variables: what its sandbox holds.
    """

    def __init__(self, run: _Run, variables: Mapping[str, Sealed]) -> None:
        self._run, self._variables = run, variables

    @property
    def answer(self) -> Mapping[str, Any] | None:
        """None until there is one."""
        return self._run.answer

    @property
    def ended(self) -> tuple[str, str]:
        """Why it ended, and a line about it."""
        return self._run.ended

    async def go(self) -> None:
        """Run to the end, and end the sandbox.

        Raises:
            RLMError: it failed.
        """
        try:
            await self._run.sandbox.put(self._variables)
            await self._run.go()
        finally:
            await self._run.sandbox.shutdown()

    def stop(self) -> None:
        """End it soon."""
        self._run.stop()
