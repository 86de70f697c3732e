"""OpenAIModel, driven through the real SDK against the fake provider."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from rlm_kernel.errors import AuthenticationError, InputError, ModelError
from rlm_kernel.models import RESTART, Completion, Delta, OpenAIModel, Usage
from tests.fakes.asking import ask, listen, request
from tests.fakes.provider import Answer, FakeProvider, event, openai, refusal

USAGE = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}


def model(provider: FakeProvider, **options: Any) -> OpenAIModel:
    return OpenAIModel("some-model", base_url=f"{provider.url}/v1", **options)


def failure(*answers: Answer, **options: Any) -> tuple[str, int]:
    """The message of the error that asking ends in, and how many requests were made."""
    with FakeProvider(*answers) as provider, pytest.raises(ModelError) as caught:
        ask(model(provider, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value), len(provider.requests)


def test_a_reply_streams_in_pieces_and_counts_its_tokens() -> None:
    """The input excludes what came from the cache."""
    answer = openai("Hel", "lo", usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 60}})
    with FakeProvider(answer) as provider:
        reply, deltas = listen(model(provider))

    assert reply == Completion("Hello", "gpt-fake", Usage(40, 7, 60, 0))
    assert deltas == [Delta("Hel"), Delta("lo")]


def test_only_what_was_asked_for_is_sent() -> None:
    """The system prompt is the first message; no sampling parameter, no limit; a dummy key where none is needed."""
    with FakeProvider(openai("ok")) as provider:
        ask(model(provider), request("one", "two", "three"))

    (sent,) = provider.requests
    assert sent.body == {
        "model": "some-model",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "three"},
        ],
    }
    assert sent.path == "/v1/chat/completions"
    assert sent.headers["authorization"] == "Bearer none"


def test_extra_fields_and_odd_text_are_sent() -> None:
    """`extra` reaches the body as it is; a lone surrogate becomes U+FFFD."""
    with FakeProvider(openai("ok")) as provider:
        ask(model(provider, extra={"seed": 9, "top_k": 3}), request("a\udcffb", system=""))

    body = provider.requests[0].body
    assert (body["seed"], body["top_k"]) == (9, 3)
    assert body["messages"] == [{"role": "user", "content": "a\ufffdb"}]


@pytest.mark.parametrize(("own", "asked", "sent"), [(None, 7, 7), (99, None, 99), (99, 7, 7), (99, 1000, 99)])
def test_the_longest_reply_is_sent_when_somebody_says_it(own: int | None, asked: int | None, sent: int) -> None:
    """Under the name that servers other than OpenAI's know; the shorter of the two limits holds."""
    with FakeProvider(openai("ok")) as provider:
        ask(model(provider, max_tokens=own), replace(request(), max_tokens=asked))

    body = provider.requests[0].body
    assert (body["max_tokens"], "max_completion_tokens" in body) == (sent, False)


def test_openai_itself_has_another_name_for_it() -> None:
    """Its newer models refuse the old one."""
    asked = replace(request(), max_tokens=7)
    here = OpenAIModel("m", base_url="https://eu.api.openai.com/v1", api_key="k")
    there = OpenAIModel("m", base_url="https://openai.example.org/v1", api_key="k")

    assert [each._limit(each._client(), asked) for each in (here, there)] == [
        {"max_completion_tokens": 7},
        {"max_tokens": 7},
    ]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_longest_reply_is_an_argument_of_its_own(name: str) -> None:
    """Not a further field, where a budget would not know of it."""
    with pytest.raises(InputError, match="say max_tokens=7 instead"):
        OpenAIModel("m", extra={name: 7})


def test_a_broken_reply_that_nobody_counted_is_not_made_up() -> None:
    """These servers tell what a reply took at its end."""
    with FakeProvider(openai("half", "more").first(2, "cut"), openai("whole", usage=USAGE)) as provider:
        reply = ask(model(provider))

    assert (reply.usage, reply.abandoned) == (Usage(100, 7), ())


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_thinking(field: str) -> None:
    """Under either of the names that servers use."""
    with FakeProvider(openai("4", reasoning={field: "2 + 2"})) as provider:
        reply, deltas = listen(model(provider))

    assert (reply.thinking, reply.text) == ("2 + 2", "4")
    assert deltas == [Delta("2 + 2", "thinking"), Delta("4")]


def test_a_server_may_leave_usage_out() -> None:
    """Then nothing is counted."""
    with FakeProvider(openai("ok")) as provider:
        assert ask(model(provider)).usage == Usage()


@pytest.mark.parametrize(
    ("said", "stop_reason"), [("stop", "end"), ("length", "max_tokens"), ("content_filter", "refusal")]
)
def test_why_a_reply_ended_is_told(said: str, stop_reason: str) -> None:
    """The server's reasons become the three that the loop knows."""
    with FakeProvider(openai("so f", finish_reason=said)) as provider:
        assert ask(model(provider)).stop_reason == stop_reason


@pytest.mark.parametrize(
    "passing",
    [
        refusal(429, "slow down", retry_after="0.01"),
        refusal(503, "loading"),
        openai("half", "more").first(2).then(event({"error": {"message": "upstream", "code": 502}})),
        openai("half", "more").first(2, "cut"),
        openai("half", "more").first(2),
        openai("half", "more").first(2).then(event("{not json")),
        openai("half", "more").first(2, "stall"),
        openai(),
    ],
    ids=["429", "503", "error-event", "cut", "ends-early", "malformed", "stall", "empty"],
)
def test_what_passes_is_asked_again(passing: Answer) -> None:
    """A refusal that passes, and a stream that breaks in any way, cost another attempt and nothing else."""
    with FakeProvider(passing, openai("whole")) as provider:
        reply, deltas = listen(model(provider, timeout=0.3))

    assert (reply.text, len(provider.requests)) == ("whole", 2)
    assert deltas in ([Delta("whole")], [Delta("half"), RESTART, Delta("whole")])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refusal(401, "bad key sk-1"), ["OPENAI_API_KEY"]),
        (refusal(404, "no such model"), ["does not know the model 'some-model'", "/v1"]),
        (refusal(400, "too much", "context_length_exceeded"), ["prompt is too long", "less text"]),
        (refusal(400, "bad"), ["refused the request (400: bad)"]),
        (refusal(429, "You exceeded your current quota", "insufficient_quota"), ["no credit"]),
    ],
)
def test_what_does_not_pass_is_not_asked_again(answer: Answer, words: list[str]) -> None:
    """A refusal that would come again is told at once, with what to do, and never with the key."""
    message, attempts = failure(answer)

    assert attempts == 1
    assert [word for word in words if word not in message] == []
    assert "sk-1" not in message


def test_retries_are_counted_once() -> None:
    """`max_retries` more attempts in all, then one line that says so."""
    message, attempts = failure(refusal(429, "slow down"), max_retries=2)

    assert attempts == 3
    assert message.endswith("(after 3 attempts)")


def test_openai_itself_needs_a_key() -> None:
    """Found out before any request."""
    with pytest.raises(AuthenticationError, match="set OPENAI_API_KEY"):
        OpenAIModel("gpt-5").check()


def test_key_and_address_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for every program that uses OpenAI's SDK."""
    with FakeProvider(openai("ok")) as provider:
        monkeypatch.setenv("OPENAI_API_KEY", "from-env")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
        ask(OpenAIModel("some-model"))

    assert provider.requests[0].headers["authorization"] == "Bearer from-env"


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError, match=r'pip install "rlm_kernel\[openai\]"'):
        OpenAIModel("gpt-5", api_key="k").check()
