"""Many sub-calls at once, through the provider's own library."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rlm_kernel.calls import Calls
from rlm_kernel.models import AnthropicModel
from tests.fakes.provider import Answer, FakeProvider, Received, anthropic, refusal
from tests.helpers import with_calls


def test_a_batch_beside_a_provider_that_limits_it() -> None:
    """Through the provider's own library: every reply is there and in its place, and refusals become few."""
    room = 6

    def answer(request: Received) -> Answer:
        if provider.now > room:
            return refusal(429, "slow down", retry_after="0.05")
        text = request.body["messages"][0]["content"][0]["text"]
        return replace(anthropic(text.upper()), seconds=0.01)

    with FakeProvider(answer) as provider:
        model = AnthropicModel("claude-haiku-5-5", base_url=provider.url, api_key="sk-test")

        async def work(run: Calls) -> Any:
            try:
                prompts = [f"prompt {n}" for n in range(400)]
                return await run("llm_batch", {"prompts": prompts, "model": None}), run.standing.tree.limiter.limit
            finally:
                await model.close()

        (replies, limit), _ = with_calls(work, model=model, max_llm_calls=400)

    assert replies == [{"text": f"PROMPT {n}"} for n in range(400)]
    assert limit < 2 * room
    assert len(provider.requests) < 400 + 250


def test_a_small_budget_beside_a_provider_that_limits_calls() -> None:
    """Who waits for money holds no place that somebody needs who has it: both limits at once stop nobody for ever."""

    def answer(request: Received) -> Answer:
        if provider.now > 1:
            return refusal(429, "slow down", retry_after="0.01")
        return replace(anthropic("fine", model="claude-haiku-5-5"), seconds=0.01)

    with FakeProvider(answer) as provider:
        model = AnthropicModel("claude-haiku-5-5", base_url=provider.url, api_key="sk-test", max_tokens=1_000)

        async def work(run: Calls) -> Any:
            try:
                return await run("llm_batch", {"prompts": ["p"] * 60, "model": None})
            finally:
                await model.close()

        replies, _ = with_calls(work, model=model, max_llm_calls=60, max_tokens=4_000)

    assert replies == [{"text": "fine"}] * 60
    assert provider.most <= 4
