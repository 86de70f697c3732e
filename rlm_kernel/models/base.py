"""What a model is to the rest of the package: one verb, `complete`, over plain values.

No provider's type crosses this border. A model holds no conversation: every request carries all of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from rlm_kernel.events import StopReason
from rlm_kernel.usage import Usage

__all__ = ["Completion", "Delta", "Image", "Message", "Model", "OnDelta", "Refused", "Request", "Usage"]


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in a message. Two are the same when their bytes are."""

    media_type: str
    """`image/png` or `image/jpeg`."""
    data: bytes = field(default=b"", repr=False, compare=False)
    """Empty in what was read from a recording, which keeps the digest alone."""
    digest: str = ""
    """SHA-256 of the bytes, in hexadecimal."""

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(self, "digest", hashlib.sha256(self.data).hexdigest())

    def __str__(self) -> str:
        return f"[{self.media_type} {self.digest}]"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: text, and pictures that belong to it."""

    role: Literal["user", "assistant"]
    content: str
    images: tuple[Image, ...] = ()


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
    """Of all that the call took."""
    thinking: str = ""
    """All thinking blocks, joined; shown to the user, never sent back."""
    stop_reason: Literal["end", "max_tokens", "refusal"] = "end"
    abandoned: tuple[Usage, ...] = ()
    """What attempts took that came to nothing, each by itself, as far as the provider told. Part of `usage`."""

    @property
    def own_usage(self) -> Usage:
        """Of the attempt that this reply came of."""
        return self.usage - sum(self.abandoned, Usage())


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that was not made, since what it might have taken was not left."""

    limit: StopReason
    text: str
    """A line about it."""


@runtime_checkable
class Model(Protocol):
    """A language model. Implement it to bring your own; `rlm_kernel.models` has the adapters that ship.

    A model may have more, all of it optional: `max_tokens: int`, the longest reply that it is asked for when a request
    does not say; `async def count_tokens(self, request: Request) -> int`, the tokens of a request's input, asked for
    when a budget is nearly used up; `sees: bool`, False for one that takes no images, which is then said before a run
    that would show it some; `window: int | None`, the tokens that fit into a call, where the price list does not know
    them; the methods of `batches.BatchModel`; and it may tell `attempts.METER` what attempts took that came to nothing.
    A recording wants to know which calls a budget forbade, `refused(request, Refused)`, and a replay knows:
    `remembered(request)`. A budget holds as far as a model keeps to `Request.max_tokens`.
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
