"""What a session remembers of its questions, besides what its sandbox holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rlm_kernel.conversation import Conversation
from rlm_kernel.errors import InputError
from rlm_kernel.history import History
from rlm_kernel.trajectory import Trajectory

__all__ = ["Memory"]


@dataclass(slots=True)
class Memory:
    """The conversation, the history and the last run of a session."""

    talk: Conversation | None = None
    """The last one in which the model has replied."""
    history: History = field(default_factory=History)
    last: Trajectory | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    """Why variables of the sandbox are not in a file with this, by name."""

    def earlier(self) -> Conversation:
        """The conversation that a question goes on with.

        Raises:
            InputError: there is none.
        """
        if self.talk is None:
            raise InputError(
                "there is no conversation to go on with: no question in this sandbox has got a reply yet; "
                "ask this one by itself (without --continue)"
            )
        return self.talk

    def ended(self, trajectory: Trajectory, talk: Conversation | None, earlier: Conversation | None) -> None:
        """A question has been answered, or not. One that got no reply at all leaves the conversation as it was."""
        if talk is not None and talk.replies > (earlier.replies if earlier is not None else 0):
            self.talk = talk
        self.history.add(trajectory)
