"""Every error the package raises: one tree, one base, one line each.

A foreign exception (a provider's SDK, zmq, pickle) is translated where it enters and never leaves its room.
The message is written for the person at the notebook: what is wrong and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AuthenticationError",
    "DriftError",
    "InputError",
    "InterruptedRunError",
    "ModelError",
    "PromptTooLongError",
    "RLMError",
    "RecordingError",
    "SandboxError",
    "SignatureError",
    "SubcallError",
    "TransferError",
]


class RLMError(Exception):
    """Base of every error of this package.

    `result` holds what the run had found until then (an `rlm_kernel.Result`), or None when nothing had started.
    """

    result: Any = None

    def _render_traceback_(self) -> list[str]:
        """IPython shows these lines in place of a traceback: the frames are ours and tell the user nothing."""
        return f"{type(self).__name__}: {self}".splitlines()


class InputError(RLMError, ValueError):
    """The call itself is wrong: an option, a name, a value. Nothing was started."""


class SignatureError(InputError):
    """The signature cannot be read; the message points at the place."""


class TransferError(InputError):
    """A variable cannot travel to the sandbox; the message names it and its type."""


class ModelError(RLMError):
    """The provider refused or failed, retries included."""


class PromptTooLongError(ModelError):
    """The model takes no prompt of this length."""


class AuthenticationError(ModelError):
    """The key is missing or was refused."""


class RecordingError(RLMError):
    """A recording, a trajectory or a saved session cannot be read or written."""


class DriftError(RecordingError):
    """A replayed run asked something else than the recording holds; the message shows the difference."""


class SandboxError(RLMError):
    """The sandbox could not be started, or died and could not be replaced."""


class SubcallError(RLMError):
    """A sub-call failed. In the sandbox a class of the same name is raised."""


class InterruptedRunError(KeyboardInterrupt):
    """The run was stopped by the user; `result` holds the trajectory so far and says if state was lost."""

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result

    def _render_traceback_(self) -> list[str]:
        return f"KeyboardInterrupt: {self}".splitlines()


def closest(word: str, known: Sequence[str]) -> str:
    """` (did you mean 'x'?)` for the nearest of `known`, or an empty string."""
    from difflib import get_close_matches

    found = get_close_matches(word, known, n=1, cutoff=0.6)
    return f" (did you mean '{found[0]}'?)" if found else ""
