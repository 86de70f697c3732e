"""Claude over Anthropic's own API: requests out, streamed replies in. Nothing of the SDK's types leaves this file."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlm_kernel.errors import AuthenticationError, InputError
from rlm_kernel.models._failures import Service
from rlm_kernel.models._handed_in import HandedIn
from rlm_kernel.models._message_batches import MessageBatches, digest
from rlm_kernel.models._provider import Clients, call, further, once, positive, sendable
from rlm_kernel.models.base import Completion, Delta, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    import anthropic

    from rlm_kernel.errors import ModelError
    from rlm_kernel.models._provider import Piece
    from rlm_kernel.models.base import Image, OnDelta, Request
    from rlm_kernel.models.batches import OnNews

__all__ = ["AnthropicModel"]

KEY = "ANTHROPIC_API_KEY"
LEAST_THINKING = 1_024
"""Tokens, the least that the API takes as a budget for thinking."""
_STOP: dict[str | None, Literal["max_tokens", "refusal"]] = {
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    "refusal": "refusal",
}


class AnthropicModel:
    """A Claude model.

    The key, the address and the other `ANTHROPIC_*` settings come from the environment, read by the SDK. Only what
    is listed here is sent: no sampling parameters and no words put into the model's mouth.
    """

    def __init__(
        self,
        name: str = "claude-sonnet-5-5",
        *,
        max_tokens: int = 16_000,
        max_retries: int = 4,
        timeout: float = 60.0,
        window: int | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        batch_poll: float = 60.0,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Set up without connecting.

        Args:
            name: the model's name at Anthropic.
            max_tokens: longest reply, thinking included, in tokens.
            max_retries: further attempts after a rate limit, an overload, a broken or stalled stream.
            timeout: longest silence between two pieces, in seconds.
            window: tokens that fit into a call, of a model that the price list does not know.
            api_key: instead of `ANTHROPIC_API_KEY`.
            base_url: instead of `ANTHROPIC_BASE_URL`.
            batch_poll: longest time between two looks at a batch, in seconds.
            extra: further fields of the request, as the API names them (`thinking`, `temperature`, …). A budget does
                not know what they add to the input (`tools`) or to the price (`speed`).
        """
        least = 1 if window is None else window
        positive(max_tokens=max_tokens, max_retries=max_retries, timeout=timeout, window=least, batch_poll=batch_poll)
        self.name, self.window = name, window
        self.max_tokens = max_tokens
        self.max_retries = max_retries
        self.timeout = timeout
        self.batch_poll = batch_poll
        self.extra = further(extra, "max_tokens")
        self._api_key = api_key
        self._base_url = base_url
        self._clients = Clients(self._client)

    def __repr__(self) -> str:
        return f"AnthropicModel({self.name!r})"

    @property
    def sees(self) -> bool:
        """Whether it takes images: all but the first generations do."""
        return not re.match(r"claude-(instant|[12]\b)", self.name)

    def check(self) -> None:
        """Find out that the key is missing before anything is sent.

        Raises:
            AuthenticationError: neither a key nor any other credentials are set.
        """
        self._client()

    async def complete(self, request: Request, on_delta: OnDelta | None = None) -> Completion:
        """See `Model.complete`. `on_delta` may see `RESTART` when a broken reply is asked for again."""
        client = self._clients.get()
        return await call(lambda: self._stream(client, request), self._service(client), self.max_retries, on_delta)

    async def count_tokens(self, request: Request) -> int:
        """Tokens of the input, as the API counts them. Costs nothing.

        Raises:
            ModelError: the provider refused or failed, after retries.
        """
        from anthropic.types import MessageCountTokensParams as Known

        client = self._clients.get()
        fields = self._fields(request)
        extra = fields.pop("extra_body", {})
        body = {**fields, **extra}
        known: dict[str, Any] = {name: value for name, value in body.items() if name in Known.__annotations__}
        counted = await once(lambda: client.messages.count_tokens(**known), self._service(client), self.max_retries)
        return counted.input_tokens

    def pending_batch(self, requests: Sequence[Request]) -> int | None:
        """See `BatchModel.pending_batch`."""
        entry = HandedIn(_state()).find(self._digest(self._clients.get(), requests))
        return None if entry is None else entry.max_tokens

    async def complete_batch(
        self, requests: Sequence[Request], on_news: OnNews | None = None
    ) -> Sequence[Completion | ModelError]:
        """See `BatchModel.complete_batch`: by Anthropic's Message Batches, for half the price."""
        client = self._clients.get()
        service = self._service(client)

        async def repeated(work: Callable[[], Awaitable[Any]]) -> Any:
            return await once(work, service, self.max_retries)

        batches = MessageBatches(client, HandedIn(_state()), repeated, self.batch_poll)
        fields = [self._fields(request) for request in requests]
        return await batches.complete(
            self._digest(client, requests), fields, _completion, on_news or (lambda news: None)
        )

    async def cancel_batch(self, name: str) -> None:
        """Have a batch end early, which goes on whether or not anybody waits for it. What it has answered is paid for.

        Args:
            name: as the note tells it: `msgbatch_…`.

        Raises:
            InputError: there is none of this name.
            ModelError: the provider refused or failed.
        """
        import anthropic

        client = self._clients.get()

        async def cancel() -> None:
            try:
                await client.messages.batches.cancel(name)
            except anthropic.NotFoundError as exc:
                raise InputError(f"Anthropic knows no batch {name!r}: the note of the run has its name") from exc

        await once(cancel, self._service(client), self.max_retries)

    async def close(self) -> None:
        """See `Model.close`."""
        await self._clients.close()

    def _digest(self, client: anthropic.AsyncAnthropic, requests: Sequence[Request]) -> str:
        return digest(requests, str(client.base_url), self.name, client.api_key or client.auth_token or "")

    def _service(self, client: anthropic.AsyncAnthropic) -> Service:
        return Service("Anthropic", self.name, str(client.base_url), KEY, self.timeout)

    def _client(self) -> anthropic.AsyncAnthropic:
        import anthropic

        # `pool=None`: a call that waits its turn behind many others has not stalled.
        timeout = anthropic.Timeout(self.timeout, connect=min(10.0, self.timeout), pool=None)
        try:
            client = anthropic.AsyncAnthropic(
                api_key=self._api_key, base_url=self._base_url, max_retries=0, timeout=timeout
            )
        except anthropic.AnthropicError as exc:
            raise AuthenticationError(f"Anthropic credentials cannot be read: {exc}") from exc
        except Exception as exc:
            raise InputError(f"cannot set up a client for '{self.name}': {exc}") from exc
        if not (client.api_key or client.auth_token or client.credentials):
            raise AuthenticationError(f"no key for '{self.name}': set {KEY} in this kernel's environment")
        return client

    async def _stream(self, client: anthropic.AsyncAnthropic, request: Request) -> AsyncGenerator[Piece, None]:
        completion = None
        async with client.messages.stream(**self._fields(request)) as stream:
            async for event in stream:
                if event.type == "text":
                    yield Delta(event.text)
                elif event.type == "thinking":
                    yield Delta(event.thinking, "thinking")
                elif event.type in ("message_start", "message_delta"):
                    yield _usage(stream.current_message_snapshot.usage)
                elif event.type == "message_stop":
                    completion = _completion(event.message)
        if completion is not None:
            yield completion

    def _fields(self, request: Request) -> dict[str, Any]:
        """The request as the API wants it, cached up to the last but one and up to the last user message.

        Two breakpoints that move along with the conversation: the older is where the previous call wrote the cache
        that this one reads, the newer is what this call writes for the next.
        """
        users = [place for place, message in enumerate(request.messages) if message.role == "user"]
        marked = set(users[-2:]) if request.cache else set()
        messages = [
            {
                "role": message.role,
                "content": [*map(_picture, message.images), _block(message.content, cache=place in marked)],
            }
            for place, message in enumerate(request.messages)
        ]
        longest = min(self.max_tokens, request.max_tokens or self.max_tokens)
        fields: dict[str, Any] = {"model": self.name, "max_tokens": longest, "messages": messages}
        if request.system:
            fields["system"] = [_block(request.system, cache=request.cache)]
        if self.extra:
            fields["extra_body"] = _fitting(self.extra, longest)
        return fields


def _state() -> Path:
    """Where it is remembered what was handed in."""
    import platformdirs

    return platformdirs.user_state_path("rlm_kernel") / "batches"


def _block(text: str, *, cache: bool) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "text", "text": sendable(text)}
    if cache and text.strip():  # the API refuses a breakpoint on an empty block
        block["cache_control"] = {"type": "ephemeral"}
    return block


def _picture(image: Image) -> dict[str, Any]:
    """Pictures stand before the text about them, as Anthropic advises, and before the breakpoint."""
    data = base64.b64encode(image.data).decode("ascii")
    return {"type": "image", "source": {"type": "base64", "media_type": image.media_type, "data": data}}


def _fitting(extra: Mapping[str, Any], longest: int) -> Mapping[str, Any]:
    """The further fields for a reply of at most `longest` tokens: thinking takes half of it, or none at all.

    The API refuses a budget for thinking below `LEAST_THINKING`, and one that leaves nothing for the reply.
    """
    thinking = extra.get("thinking")
    if not isinstance(thinking, dict):
        return extra
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or budget < longest:
        return extra
    half = longest // 2
    fitting = {**thinking, "budget_tokens": half} if half >= LEAST_THINKING else {"type": "disabled"}
    return {**extra, "thinking": fitting}


def _usage(usage: anthropic.types.Usage) -> Usage:
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_input_tokens or 0,
        usage.cache_creation_input_tokens or 0,
    )


def _completion(message: anthropic.types.Message) -> Completion:
    return Completion(
        text="".join(block.text for block in message.content if block.type == "text"),
        model=message.model,
        usage=_usage(message.usage),
        thinking="".join(block.thinking for block in message.content if block.type == "thinking"),
        stop_reason=_STOP.get(message.stop_reason, "end"),
    )
