"""What a run is about: values only, known before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_kernel.config import Options
from rlm_kernel.events import Variable
from rlm_kernel.signature import Signature

__all__ = ["Task"]


@dataclass(frozen=True, slots=True)
class Task:
    """A question, what it is about and what its run may do."""

    question: str
    signature: Signature
    variables: tuple[Variable, ...]
    """Those that the model is told of; what they hold is in the sandbox."""
    options: Options
    depth: int = 0
    """How many runs are above this one."""
    history: str = ""
    """The variable that holds the earlier questions of the session; empty where there are none."""

    @property
    def has_children(self) -> bool:
        """Whether the code may start runs of its own; else what it asks for becomes a plain sub-call."""
        sandbox = self.options.sandbox
        can = sandbox is None or isinstance(sandbox, str) or hasattr(sandbox, "spawn")
        return can and self.depth + 1 < self.options.max_depth
