"""AnthropicModel, driven through the real SDK against the fake provider."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from rlm_kernel.errors import AuthenticationError, InputError, ModelError
from rlm_kernel.models import AnthropicModel, Completion, Delta, Request, Usage
from tests.fakes.asking import ask, followed, listen, request
from tests.fakes.provider import Answer, FakeProvider, anthropic, data, refusal


def model(provider: FakeProvider, **options: Any) -> AnthropicModel:
    return AnthropicModel(base_url=provider.url, api_key="sk-test", **options)


def test_a_reply_is_the_text_of_all_blocks_with_usage_and_thinking() -> None:
    """Text and thinking are gathered over all blocks, and the four counts are kept apart."""
    usage = {"cache_read_input_tokens": 200, "cache_creation_input_tokens": 300}
    with FakeProvider(anthropic(("thinking", "let me see"), "Hello ", "world", usage=usage)) as provider:
        reply = ask(model(provider))

    assert reply == Completion("Hello world", "claude-fake", Usage(10, 5, 200, 300), "let me see", "end")


def test_a_reply_streams_in_pieces() -> None:
    """`on_delta` sees thinking and text as they come, which together are the reply."""
    with FakeProvider(anthropic(("thinking", "hmm"), "Hello")) as provider:
        reply, deltas = listen(model(provider))

    assert deltas == [Delta("h", "thinking"), Delta("mm", "thinking"), Delta("He"), Delta("llo")]
    assert reply.text == "Hello"


def test_only_what_was_asked_for_is_sent() -> None:
    """No sampling parameter and no prefill: model, limit, system prompt and messages, with the key in its header."""
    with FakeProvider(anthropic("ok")) as provider:
        ask(model(provider, max_tokens=99), request("hi", cache=False))

    (sent,) = provider.requests
    assert sent.body == {
        "model": "claude-sonnet-5-5",
        "max_tokens": 99,
        "stream": True,
        "system": [{"type": "text", "text": "be brief"}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }
    assert sent.path.startswith("/v1/messages")
    assert "sk-test" in sent.headers.get("x-api-key", "") + sent.headers.get("authorization", "")


def test_the_prefix_is_cached_by_default() -> None:
    """Breakpoints are on the system prompt, the last user message and the last but one."""
    with FakeProvider(anthropic("ok")) as provider:
        ask(model(provider), request("one", "reply", "two", "reply", "three"))

    (sent,) = provider.requests
    marked = [block.get("cache_control") for message in sent.body["messages"] for block in message["content"]]
    ephemeral = {"type": "ephemeral"}
    assert sent.body["system"][0]["cache_control"] == ephemeral
    assert marked == [None, None, ephemeral, None, ephemeral]


def test_an_empty_system_prompt_is_not_sent() -> None:
    """The API refuses an empty block."""
    with FakeProvider(anthropic("ok")) as provider:
        ask(model(provider), request(system=""))

    assert "system" not in provider.requests[0].body


def test_extra_fields_are_sent_as_they_are() -> None:
    """`extra` reaches the body, also with fields that the SDK does not know."""
    extra = {"temperature": 0.5, "thinking": {"type": "adaptive"}, "brand_new": 1}
    with FakeProvider(anthropic("ok")) as provider:
        ask(model(provider, extra=extra))

    assert extra.items() <= provider.requests[0].body.items()


def test_the_longest_reply_is_an_argument_of_its_own() -> None:
    """Not a further field, where a budget would not know of it."""
    with pytest.raises(InputError, match="say max_tokens=7 instead"):
        AnthropicModel(extra={"max_tokens": 7})


@pytest.mark.parametrize(("own", "asked", "sent"), [(99, None, 99), (99, 7, 7), (99, 1000, 99)])
def test_the_shorter_limit_holds(own: int, asked: int | None, sent: int) -> None:
    """A request may ask for a shorter reply than the model's own setting, never for a longer one."""
    with FakeProvider(anthropic("ok")) as provider:
        ask(model(provider, max_tokens=own), replace(request(), max_tokens=asked))

    assert provider.requests[0].body["max_tokens"] == sent


@pytest.mark.parametrize(
    ("longest", "thinking"),
    [
        (16_000, {"type": "enabled", "budget_tokens": 10_000}),
        (10_000, {"type": "enabled", "budget_tokens": 5_000}),
        (2_048, {"type": "enabled", "budget_tokens": 1_024}),
        (2_047, {"type": "disabled"}),
        (512, {"type": "disabled"}),
    ],
)
def test_thinking_fits_into_a_shorter_reply(longest: int, thinking: dict[str, Any]) -> None:
    """It gets half of what its budget would not leave a reply in, and none where the API takes no budget so small."""
    extra = {"thinking": {"type": "enabled", "budget_tokens": 10_000}, "top_k": 3}
    with FakeProvider(anthropic("ok")) as provider:
        ask(model(provider, extra=extra), replace(request(), max_tokens=longest))

    sent = provider.requests[0].body
    assert (sent["max_tokens"], sent["thinking"], sent["top_k"]) == (longest, thinking, 3)


def test_thinking_without_a_budget_of_its_own_is_left_alone() -> None:
    """The limit of the whole reply holds for it."""
    with FakeProvider(anthropic("ok")) as provider:
        ask(model(provider, extra={"thinking": {"type": "adaptive"}}), replace(request(), max_tokens=512))

    assert provider.requests[0].body["thinking"] == {"type": "adaptive"}


def count(counting: AnthropicModel, asked: Request) -> int:
    async def main() -> int:
        try:
            return await counting.count_tokens(asked)
        finally:
            await counting.close()

    return asyncio.run(main())


def test_the_input_is_counted_by_the_api() -> None:
    """What will be sent is, but for what has nothing to do with its length."""
    extra = {"thinking": {"type": "adaptive"}, "temperature": 0.5, "brand_new": 1}
    with FakeProvider(data({"input_tokens": 321})) as provider:
        assert count(model(provider, extra=extra), replace(request("one", "two", "three"), max_tokens=9)) == 321

    (sent,) = provider.requests
    assert sent.path.partition("?")[0] == "/v1/messages/count_tokens"
    assert sorted(sent.body) == ["messages", "model", "system", "thinking"]
    assert [message["content"][0]["text"] for message in sent.body["messages"]] == ["one", "two", "three"]


def test_counting_is_asked_again_as_a_call_is() -> None:
    """A refusal that passes costs another attempt."""
    with FakeProvider(refusal(529), refusal(429, retry_after="0.01"), data({"input_tokens": 5})) as provider:
        assert count(model(provider), request()) == 5


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (refusal(401), AuthenticationError, "ANTHROPIC_API_KEY"),
        (refusal(404, "no such path"), ModelError, "does not know the model"),
        (refusal(429, "slow down"), ModelError, r"limits the rate .*\(after 2 attempts\)"),
        (Answer((b"{",), headers={"content-type": "application/json"}), ModelError, "cannot read the answer"),
    ],
)
def test_a_count_that_fails_says_so_as_a_call_does(answer: Answer, error: type[Exception], says: str) -> None:
    """In one line, with what to do, in errors of this package."""
    with FakeProvider(answer) as provider, pytest.raises(error, match=says):
        count(model(provider, max_retries=1), request())


def test_text_that_no_encoding_can_carry_is_still_sent() -> None:
    """A lone surrogate becomes U+FFFD, a pair of them the character they stand for."""
    with FakeProvider(anthropic("ok")) as provider:
        ask(model(provider), request("a\ud800b \ud83d\ude00"))

    assert provider.requests[0].body["messages"][0]["content"][0]["text"] == "a\ufffdb 😀"


@pytest.mark.parametrize(
    ("said", "stop_reason"),
    [("end_turn", "end"), ("max_tokens", "max_tokens"), ("refusal", "refusal"), ("some_new_reason", "end")],
)
def test_why_a_reply_ended_is_told(said: str, stop_reason: str) -> None:
    """The provider's reasons become the three that the loop knows."""
    with FakeProvider(anthropic("so f", stop_reason=said)) as provider:
        assert ask(model(provider)).stop_reason == stop_reason


@pytest.mark.parametrize("said", ["refusal", "max_tokens"])
def test_a_reply_without_text_that_says_why_is_a_reply(said: str) -> None:
    """Refused at once, or all tokens spent on thinking: asking again would not help."""
    with FakeProvider(anthropic(("thinking", "hm"), stop_reason=said)) as provider:
        assert (ask(model(provider)).text, len(provider.requests)) == ("", 1)


def test_a_missing_key_is_found_before_any_request() -> None:
    """By `check`, and by `complete` if nobody checked."""
    with FakeProvider(anthropic("ok")) as provider:
        bare = AnthropicModel(base_url=provider.url)
        with pytest.raises(AuthenticationError, match="set ANTHROPIC_API_KEY"):
            bare.check()
        with pytest.raises(AuthenticationError, match="set ANTHROPIC_API_KEY"):
            ask(bare)

    assert provider.requests == []


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
def test_key_and_address_come_from_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by the SDK, so whatever it accepts will do."""
    with FakeProvider(anthropic("ok")) as provider:
        monkeypatch.setenv(name, "from-env")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)
        environment = AnthropicModel()
        environment.check()
        assert ask(environment).text == "ok"

    headers = provider.requests[0].headers
    assert "from-env" in headers.get("x-api-key", "") + headers.get("authorization", "")


def test_one_model_serves_several_event_loops_and_works_after_close() -> None:
    """Each loop has its own client; closing twice is harmless."""
    with FakeProvider(anthropic("ok")) as provider:
        shared = model(provider)
        assert ask(shared).text == "ok"
        assert ask(shared, request(), followed(request(), "ok", "more")).text == "ok"
        asyncio.run(shared.close())

    assert len(provider.requests) == 3


def test_calls_run_side_by_side() -> None:
    """A batch of sub-calls shares one client."""
    with FakeProvider(anthropic("ok")) as provider:
        shared = model(provider)

        async def main() -> list[Completion]:
            try:
                return await asyncio.gather(*(shared.complete(request(kind="sub")) for _ in range(20)))
            finally:
                await shared.close()

        assert [reply.text for reply in asyncio.run(main())] == ["ok"] * 20


def test_a_stopped_call_stops() -> None:
    """Cancelling is passed on at once, not retried."""
    with FakeProvider(anthropic("half").first(3, "stall")) as provider:
        stalled = model(provider)

        async def main() -> None:
            started = asyncio.Event()
            task = asyncio.create_task(stalled.complete(request(), lambda _: started.set()))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await stalled.close()

        asyncio.run(main())

    assert len(provider.requests) == 1


def test_an_error_of_the_listener_is_the_callers_own() -> None:
    """It is neither translated nor taken for a broken stream."""

    def listener(_: Delta) -> None:
        raise ZeroDivisionError

    with FakeProvider(anthropic("hello")) as provider, pytest.raises(ZeroDivisionError):
        ask(model(provider), on_delta=listener)

    assert len(provider.requests) == 1


@pytest.mark.parametrize("options", [{"max_tokens": 0}, {"timeout": 0}, {"max_retries": -1}, {"timeout": "60"}])
def test_an_option_out_of_range_is_refused(options: dict[str, Any]) -> None:
    """With its name, before anything starts."""
    with pytest.raises(InputError, match=next(iter(options))):
        AnthropicModel(**options)
