"""What AnthropicModel makes of a provider that fails: what is asked again, and what is said in the end."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_kernel.errors import AuthenticationError, ModelError
from rlm_kernel.models import RESTART, AnthropicModel, Completion, Delta, Usage
from rlm_kernel.models.attempts import METER
from tests.fakes.asking import ask, listen
from tests.fakes.provider import Answer, FakeProvider, anthropic, event, refusal

ERROR_EVENT = event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")


def model(provider: FakeProvider, **options: Any) -> AnthropicModel:
    return AnthropicModel(base_url=provider.url, api_key="sk-test", **options)


def failure(*answers: Answer, **options: Any) -> tuple[str, int]:
    """The message of the error that asking ends in, and how many requests were made."""
    with FakeProvider(*answers) as provider, pytest.raises(ModelError) as caught:
        ask(model(provider, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value), len(provider.requests)


@pytest.mark.parametrize(
    "passing",
    [
        refusal(429, "slow down", "rate_limit_error", retry_after="0.01"),
        refusal(500, "oops", "api_error"),
        refusal(529, "Overloaded", "overloaded_error"),
        anthropic("half").first(3).then(ERROR_EVENT),
        anthropic("half").first(3, "cut"),
        anthropic("half").first(3),
        anthropic("half").first(3).then(event("{not json", "content_block_delta")),
        anthropic("half").first(2, "stall"),
        Answer((), 200, {"content-type": "text/html"}),
    ],
    ids=["429", "500", "529", "error-event", "cut", "ends-early", "malformed", "stall", "nothing"],
)
def test_what_passes_is_asked_again(passing: Answer) -> None:
    """A refusal that passes, and a stream that breaks in any way, cost another attempt and nothing else."""
    with FakeProvider(passing, anthropic("whole")) as provider:
        reply = ask(model(provider, timeout=0.3))

    assert (reply.text, len(provider.requests)) == ("whole", 2)
    assert provider.requests[0].body == provider.requests[1].body


def test_a_restart_is_announced_and_does_not_spoil_the_text() -> None:
    """After a broken stream `on_delta` sees RESTART, then the whole reply anew."""
    with FakeProvider(anthropic("first").first(3, "cut"), anthropic("second")) as provider:
        reply, deltas = listen(model(provider))

    assert deltas == [Delta("fi"), RESTART, Delta("sec"), Delta("ond")]
    assert reply.text == "second"


def test_a_retry_before_any_piece_is_silent() -> None:
    """Nothing was shown, so there is nothing to take back."""
    with FakeProvider(refusal(529), anthropic("ok!!")) as provider:
        assert RESTART not in listen(model(provider))[1]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refusal(429, "slow down"), ["limits the rate", "slow down"]),
        (refusal(529, "Overloaded"), ["overloaded", "another model"]),
        (refusal(500, "oops"), ["failed (500: oops)"]),
        (anthropic("x").first(2).then(ERROR_EVENT), ["overloaded", "529"]),
        (anthropic("half").first(3, "cut"), ["broke off"]),
        (anthropic("half").first(2), ["in the middle"]),
        (anthropic("half").first(2).then(event("{", "content_block_delta")), ["cannot read the answer"]),
        (anthropic("half").first(2, "stall"), ["for 0.1 s", "timeout="]),
    ],
    ids=["429", "529", "500", "error-event", "cut", "ends-early", "malformed", "stall"],
)
def test_retries_are_counted_once(answer: Answer, words: list[str]) -> None:
    """`max_retries` more attempts in all, whatever fails, then one line that says so."""
    message, attempts = failure(answer, max_retries=2, timeout=0.1)

    assert attempts == 3
    assert [word for word in [*words, "(after 3 attempts)"] if word not in message] == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refusal(401, "invalid x-api-key sk-test"), ["ANTHROPIC_API_KEY", "401"]),
        (refusal(403, "not in your region"), ["ANTHROPIC_API_KEY", "not in your region"]),
        (refusal(404, "model: claude-x"), ["does not know the model 'claude-sonnet-5-5'", "check its name"]),
        (refusal(400, "messages: bad"), ["refused the request (400: messages: bad)"]),
        (refusal(400, "prompt is too long: 2 > 1 maximum"), ["prompt is too long", "less text"]),
        (refusal(413, "too big", "request_too_large"), ["prompt is too long", "less text"]),
        (refusal(400, "Your credit balance is too low"), ["no credit"]),
        (refusal(429, "later", retry_after="3600"), ["asks to wait 3600 s"]),
        (refusal(500, "never", x_should_retry="false"), ["never"]),
    ],
)
def test_what_does_not_pass_is_not_asked_again(answer: Answer, words: list[str]) -> None:
    """A refusal that would come again is told at once, with what to do, and never with the key."""
    message, attempts = failure(answer)

    assert attempts == 1
    assert [word for word in words if word not in message] == []
    assert "sk-test" not in message


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_an_authentication_error(status: int) -> None:
    """So that callers can tell it from other failures."""
    with FakeProvider(refusal(status)) as provider, pytest.raises(AuthenticationError):
        ask(model(provider))


def test_an_empty_reply_is_asked_for_once_more() -> None:
    """Then it counts as a failure."""
    message, attempts = failure(anthropic())

    assert (attempts, "empty reply" in message) == (2, True)


def test_an_empty_reply_is_paid_for() -> None:
    """The usage of the reply that was thrown away is part of the whole."""
    with FakeProvider(anthropic(" \n"), anthropic("ok")) as provider:
        reply = ask(model(provider))

    assert (reply.usage, reply.abandoned, reply.own_usage) == (Usage(20, 10), (Usage(10, 5),), Usage(10, 5))


def test_a_broken_reply_is_paid_for() -> None:
    """As far as the provider had told by then: its input, and the output that it announced."""
    told = {"cache_read_input_tokens": 200, "cache_creation_input_tokens": 300}
    broken = anthropic("first", usage=told)
    with FakeProvider(broken.first(4, "cut"), broken.first(6), refusal(529), anthropic("second")) as provider:
        reply = ask(model(provider))

    assert reply.abandoned == (Usage(10, 1, 200, 300), Usage(10, 5, 200, 300))
    assert (reply.usage, reply.own_usage) == (Usage(30, 11, 400, 600), Usage(10, 5))


def test_a_refusal_is_not_paid_for() -> None:
    """Nor is a stream that breaks off before it says anything."""
    with FakeProvider(refusal(529), refusal(500), anthropic("x").first(0, "cut"), anthropic("ok")) as provider:
        assert ask(model(provider)).usage == Usage(10, 5)


class Meter:
    """Notes what it is told; allows so many attempts more."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self.last, self.gone = Usage(), list[Usage]()

    def took(self, usage: Usage) -> None:
        self.last = usage

    def abandoned(self, usage: Usage) -> bool:
        self.gone.append(usage)
        self.allowed -= 1
        return self.allowed >= 0


def metered(meter: Meter, asked: AnthropicModel) -> Completion:
    token = METER.set(meter)
    try:
        return ask(asked)
    finally:
        METER.reset(token)


def test_who_asks_is_told_what_attempts_took_and_may_forbid_more() -> None:
    """A budget cannot pay for a reply again and again; then it is over, with a word why."""
    with FakeProvider(anthropic("first").first(4, "cut")) as provider:
        meter = Meter(1)
        with pytest.raises(ModelError, match=r"broke off.*the budget has too little left to ask again$"):
            metered(meter, model(provider))

    assert len(provider.requests) == 2
    assert meter.gone == [Usage(10, 1)] * 2


def test_who_asks_knows_what_a_failed_call_took() -> None:
    """The last attempt is told of like those before it, and so is one that no other would follow anyway."""
    with FakeProvider(anthropic("first").first(4, "cut")) as provider:
        meter = Meter(9)
        with pytest.raises(ModelError, match="after 3 attempts"):
            metered(meter, model(provider, max_retries=2))

    assert meter.gone == [Usage(10, 1)] * 3


def test_a_server_that_is_not_there_is_named() -> None:
    """With its URL and the advice to look whether it runs."""
    with FakeProvider(anthropic("ok")) as provider:
        gone = model(provider, max_retries=1)
    with pytest.raises(ModelError, match=r"cannot reach http://127.0.0.1:\d+.*after 2 attempts"):
        ask(gone)


def test_a_key_with_a_line_break_is_not_shown() -> None:
    """The HTTP library quotes the header; the message does not."""
    with FakeProvider(anthropic("ok")) as provider, pytest.raises(ModelError, match="stray") as caught:
        ask(AnthropicModel(base_url=provider.url, api_key="sk-secret\n"))

    assert "sk-secret" not in str(caught.value)
