"""What a long run costs, with and without the provider's cache and with and without compaction.

The requests are those that the real adapter sends, over the real SDK, to a provider on this machine that accounts for
its cache as Anthropic documents it. Its replies are scripted, four characters count as a token, and the prices are
those of the list: computed, not measured. Prints a table for the README.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from rlm_kernel import AnthropicModel, Completion, FakeSandbox, Options, Request, Signature
from rlm_kernel import events as ev
from rlm_kernel.session import Job, Session
from rlm_kernel.trajectory import Trajectory
from rlm_kernel.usage import Usage
from tests.fakes.provider import Answer, FakeProvider, Received, anthropic

MODEL = "claude-sonnet-5-5"
TURNS = 60
CHARS_PER_TOKEN = 4
LEAST_TOKENS = 1024
"""Shorter prefixes are not cached."""
LOOKBACK = 20
"""Blocks before a breakpoint in which an earlier entry is found."""
SUMMARY = "What was found until now, with the figures. " * 90
PROSE = "A few words on what to look at next, and why. " * 6


class CachingProvider(FakeProvider):
    """Answers with the next turn, and counts as a provider with a prefix cache does. No entry grows old."""

    def __init__(self, chars: int) -> None:
        super().__init__(anthropic("x"))
        self.turn, self.chars = 0, chars
        self.entries: set[str] = set()
        self.counts: list[dict[str, int]] = []

    def receive(self, request: Received) -> Answer:
        """Account for the request and answer it."""
        usage = self.account(request.body)
        asked = request.body["messages"][-1]["content"][0]["text"]
        if "write a summary of it" in asked:
            text = SUMMARY
        else:
            self.turn += 1
            code = f"v{self.turn} = {self.turn}\nprint('{self.turn:>9} ' * {self.chars // 10})"
            text = f"{PROSE}\n```repl\n{code if self.turn < TURNS else 'SUBMIT(1)'}\n```"
        usage["output_tokens"] = tokens(text)
        self.counts.append(usage)
        return anthropic(text, usage=usage, model=MODEL)

    def account(self, body: dict[str, Any]) -> dict[str, int]:
        """Tokens read from the cache, written to it, and neither."""
        prefix, sizes, marks, keys = hashlib.sha256(), [], [], []
        total = 0
        for block in blocks(body):
            prefix.update(json.dumps([block["role"], block["text"]]).encode())
            total += tokens(block["text"])
            sizes.append(total)
            keys.append(prefix.hexdigest())
            if block["marked"]:
                marks.append(len(keys) - 1)
        found = [
            place
            for mark in marks
            for place in range(mark, max(-1, mark - LOOKBACK), -1)
            if keys[place] in self.entries
        ]
        read = max((sizes[place] for place in found), default=0)
        cached = max((sizes[mark] for mark in marks if sizes[mark] >= LEAST_TOKENS), default=0)
        self.entries.update(keys[mark] for mark in marks if sizes[mark] >= LEAST_TOKENS)
        return {
            "input_tokens": total - max(read, cached),
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": max(0, cached - read),
        }


def blocks(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The blocks of a request in the order in which they are cached."""
    for role, content in [("system", body.get("system", [])), *((m["role"], m["content"]) for m in body["messages"])]:
        for block in content:
            yield {"role": role, "text": block["text"], "marked": "cache_control" in block}


def tokens(text: str) -> int:
    """About."""
    return len(text) // CHARS_PER_TOKEN


class Uncached:
    """A model that is asked without its cache."""

    def __init__(self, model: AnthropicModel) -> None:
        self.model, self.name, self.window = model, model.name, model.window

    async def complete(self, request: Request, on_delta: Any = None) -> Completion:
        """Ask."""
        return await self.model.complete(replace(request, cache=False), on_delta)

    async def close(self) -> None:
        """Release its connections."""
        await self.model.close()


@dataclass(frozen=True)
class Spent:
    """What a run took."""

    usage: Usage
    cost: float
    longest: int
    summaries: int


def run(chars: int, window: int | None, *, cache: bool) -> Spent:
    """A run of 60 turns whose code prints so much each."""
    events: list[ev.Event] = []

    async def main(url: str) -> Trajectory:
        made = AnthropicModel(MODEL, api_key="k", base_url=url, window=window)
        model = made if cache else Uncached(made)
        share = None if window is None else 0.8
        options = Options(model=model, sub_model=model, max_iterations=TURNS, compact_at=share, max_errors=TURNS)
        job = Job.prepare("How many are there of each kind?", Signature.parse("-> n: int"), {}, options)
        story = Trajectory()
        await Session(FakeSandbox()).run(job, events.append, story)
        await model.close()
        return story

    with CachingProvider(chars) as provider:
        story = asyncio.run(main(provider.url))
    assert (story.stop_reason, len(story)) == ("answered", TURNS)
    assert story.cost is not None
    longest = max(sum(count for name, count in c.items() if name != "output_tokens") for c in provider.counts)
    return Spent(story.usage, story.cost, longest, sum(isinstance(e, ev.Compacted) for e in events))


def main() -> None:
    """Print the table."""
    names = ("printed a turn", "compaction at", "cache", "longest call", "summaries")
    print(f"| {' | '.join((*names, 'input', 'cache read', 'cache written', 'output', 'USD'))} |")
    print("|---" * 10 + "|")
    for chars in (20_000, 8_000):
        for window in (None, 200_000, 100_000):
            for cache in (False, True):
                spent = run(chars, window, cache=cache)
                u = spent.usage
                at = "never" if window is None else f"{window * 0.8:,.0f}"
                counts = (spent.longest, spent.summaries, u.input_tokens, u.cache_read_tokens, u.cache_write_tokens)
                cells = [f"{chars:,}", at, "on" if cache else "off", *(f"{n:,}" for n in (*counts, u.output_tokens))]
                print(f"| {' | '.join(cells)} | {spent.cost:.2f} |")


if __name__ == "__main__":
    main()
