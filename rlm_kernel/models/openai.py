"""Any server that speaks OpenAI's chat completions: OpenAI, OpenRouter, vLLM, Ollama, LM Studio.

Servers differ in what they leave out (usage, keys, the name of the reasoning field), so everything is optional here
but the text and the reason why it ended.
"""

from __future__ import annotations

import base64
import os
import re
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from rlm_kernel.errors import AuthenticationError, InputError
from rlm_kernel.models._failures import Service
from rlm_kernel.models._provider import Clients, call, further, positive, sendable
from rlm_kernel.models.base import Completion, Delta, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    import openai
    from openai.types import CompletionUsage

    from rlm_kernel.models._provider import Piece
    from rlm_kernel.models.base import Message, OnDelta, Request

__all__ = ["OpenAIModel"]

KEY = "OPENAI_API_KEY"
_STOP: dict[str | None, Literal["max_tokens", "refusal"]] = {"length": "max_tokens", "content_filter": "refusal"}


class OpenAIModel:
    """A model behind an OpenAI-compatible URL. Needs the extra `openai`."""

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        max_tokens: int | None = None,
        max_retries: int = 4,
        timeout: float = 60.0,
        window: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Set up without connecting.

        Args:
            name: the model's name at the server.
            base_url: instead of `OPENAI_BASE_URL`, with its `/v1`; OpenAI itself when neither is set.
            api_key: instead of `OPENAI_API_KEY`; only OpenAI itself insists on one.
            max_tokens: longest reply, reasoning included, in tokens; what the server allows when not set.
            max_retries: further attempts after a rate limit, an overload, a broken or stalled stream.
            timeout: longest silence between two pieces, in seconds.
            window: tokens that fit into a call, of a model that the price list does not know.
            extra: further fields of the request, as the API names them (`temperature`, `reasoning_effort`, …).
        """
        least = 1 if window is None else window
        longest = 1 if max_tokens is None else max_tokens
        positive(max_tokens=longest, max_retries=max_retries, timeout=timeout, window=least)
        self.name, self.window = name, window
        self.max_tokens = max_tokens
        self.max_retries = max_retries
        self.timeout = timeout
        self.extra = further(extra, "max_tokens", "max_completion_tokens")
        self._api_key = api_key
        self._base_url = base_url
        self._clients = Clients(self._client)

    def __repr__(self) -> str:
        return f"OpenAIModel({self.name!r})"

    @property
    def sees(self) -> bool:
        """Whether it takes images: False where that is known not to be so."""
        return not re.match(r"gpt-3\.5|o1-(mini|preview)|o3-mini", self.name)

    def check(self) -> None:
        """Find out before anything is sent that the package or the key is missing.

        Raises:
            InputError: the package `openai` is not installed.
            AuthenticationError: OpenAI itself is to be asked and there is no key.
        """
        self._client()

    async def complete(self, request: Request, on_delta: OnDelta | None = None) -> Completion:
        """See `Model.complete`. `on_delta` may see `RESTART` when a broken reply is asked for again."""
        client = self._clients.get()
        host = urlsplit(str(client.base_url)).netloc
        title = "OpenAI" if _is_openai(host) else host
        service = Service(title, self.name, str(client.base_url), KEY, self.timeout)
        return await call(lambda: self._stream(client, request), service, self.max_retries, on_delta)

    async def close(self) -> None:
        """See `Model.close`."""
        await self._clients.close()

    def _client(self) -> openai.AsyncOpenAI:
        try:
            import openai
        except ImportError as exc:
            raise InputError(f"'{self.name}' needs the openai package: pip install \"rlm_kernel[openai]\"") from exc

        url = self._base_url or os.environ.get("OPENAI_BASE_URL")
        key = self._api_key or os.environ.get(KEY)
        if not key and (url is None or _is_openai(urlsplit(url).netloc)):
            raise AuthenticationError(f"no key for '{self.name}': set {KEY} in this kernel's environment")
        # `pool=None`: a call that waits its turn behind many others has not stalled.
        timeout = openai.Timeout(self.timeout, connect=min(10.0, self.timeout), pool=None)
        try:
            # A server that wants no key still gets one: the SDK insists.
            return openai.AsyncOpenAI(api_key=key or "none", base_url=url, max_retries=0, timeout=timeout)
        except Exception as exc:
            raise InputError(f"cannot set up a client for '{self.name}': {exc}") from exc

    async def _stream(self, client: openai.AsyncOpenAI, request: Request) -> AsyncGenerator[Piece, None]:
        messages: list[Any] = [{"role": "system", "content": sendable(request.system)}] if request.system else []
        messages += [{"role": message.role, "content": _content(message)} for message in request.messages]
        text, thinking, model, usage = [], [], self.name, Usage()
        ended: str | None = None
        async with await client.chat.completions.create(
            model=self.name,
            messages=messages,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={**self.extra, **self._limit(client, request)} or None,
        ) as chunks:
            async for chunk in chunks:
                model = chunk.model or model
                if chunk.usage is not None:
                    usage = _usage(chunk.usage)
                    yield usage
                for choice in chunk.choices or ():
                    delta = choice.delta
                    thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
                    if isinstance(thought, str):
                        thinking.append(thought)
                        yield Delta(thought, "thinking")
                    for said in filter(None, (delta.content, delta.refusal)):
                        text.append(said)
                        yield Delta(said)
                    ended = "content_filter" if delta.refusal else choice.finish_reason or ended
        if ended is not None:
            yield Completion("".join(text), model, usage, "".join(thinking), _STOP.get(ended, "end"))

    def _limit(self, client: openai.AsyncOpenAI, request: Request) -> dict[str, int]:
        """The longest reply, if anybody has said one, under the name that the server knows."""
        said = [limit for limit in (self.max_tokens, request.max_tokens) if limit is not None]
        # OpenAI's reasoning models refuse the old name, most other servers do not know the new one.
        name = "max_completion_tokens" if _is_openai(urlsplit(str(client.base_url)).netloc) else "max_tokens"
        return {name: min(said)} if said else {}


def _content(message: Message) -> Any:
    """Text alone as such, which every server takes; with pictures as parts."""
    text = sendable(message.content)
    if not message.images:
        return text
    urls = [f"data:{i.media_type};base64,{base64.b64encode(i.data).decode('ascii')}" for i in message.images]
    return [*({"type": "image_url", "image_url": {"url": url}} for url in urls), {"type": "text", "text": text}]


def _is_openai(host: str) -> bool:
    name = host.partition(":")[0].lower()
    return name == "api.openai.com" or name.endswith(".api.openai.com")


def _usage(usage: CompletionUsage) -> Usage:
    details = usage.prompt_tokens_details
    read = (details.cached_tokens if details else None) or 0
    written = getattr(details, "cache_write_tokens", None) or 0
    return Usage(
        input_tokens=max(0, (usage.prompt_tokens or 0) - read - written),
        output_tokens=usage.completion_tokens or 0,
        cache_read_tokens=read,
        cache_write_tokens=written,
    )
