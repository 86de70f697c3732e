"""What a model is to the rest of the package: one verb, `complete`, over plain values.

No provider's type crosses this border. A model holds no conversation: every request carries all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from rlm_kernel.usage import Usage

__all__ = ["Completion", "Delta", "Message", "Model", "OnDelta", "Request", "Usage"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as text."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One call: the system prompt and the whole conversation, last message from the user."""

    messages: tuple[Message, ...]
    system: str = ""
    kind: Literal["root", "sub"] = "root"
    """`root` for a turn of the loop, or a summary of its turns; `sub` for a `llm_query` of the sandbox. Only recordings
    look at it."""
    cache: bool = True
    """Ask the provider to cache the prefix: worth it for a conversation that goes on, not for one-off sub-calls."""
    max_tokens: int | None = None
    """The longest reply, in tokens, where it may not be as long as the model's own setting allows."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a reply as it streams in."""

    text: str
    kind: Literal["text", "thinking", "restart"] = "text"
    """`restart`, with no text: the reply broke off and is asked for again, what was shown of it is void."""


OnDelta = Callable[[Delta], None]


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole reply."""

    text: str
    """All text blocks, joined."""
    model: str
    """The name the provider answered under, or the name asked for."""
    usage: Usage = field(default_factory=Usage)
    thinking: str = ""
    """All thinking blocks, joined; shown to the user, never sent back."""
    stop_reason: Literal["end", "max_tokens", "refusal"] = "end"


@runtime_checkable
class Model(Protocol):
    """A language model. Implement it to bring your own; `rlm_kernel.models` has the adapters that ship.

    A model may have more, all of it optional: `max_tokens: int`, the longest reply that it is asked for when a request
    does not say; `async def count_tokens(self, request: Request) -> int`, the tokens of a request's input, asked for
    when a budget is nearly used up; `window: int | None`, the tokens that fit into a call, where the price list does
    not know them. A budget holds as far as a model keeps to `Request.max_tokens`.
    """

    @property
    def name(self) -> str:
        """The name shown to people and looked up for prices."""
        ...

    async def complete(self, request: Request, on_delta: OnDelta | None = None) -> Completion:
        """Answer `request`; call `on_delta` with each piece as it arrives.

        Raises:
            ModelError: the provider refused or failed, after the adapter's own retries.
        """
        ...

    async def close(self) -> None:
        """Release connections. Safe to call twice; the model may be used again afterwards."""
        ...
