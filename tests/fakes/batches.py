"""Anthropic's Message Batches, for `FakeProvider(at={ROOT: …})`: create, retrieve, results, cancel, list."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fakes.provider import Answer, Received, data, refusal

__all__ = ["FakeBatches", "replied"]

ROOT = "/v1/messages/batches"


@dataclass
class Batch:
    """One that was handed in."""

    id: str
    requests: list[dict[str, Any]]
    created: datetime
    looks: int = 0
    """How often it was looked at."""
    cancelled: bool = False


def replied(text: str, *, tokens: int = 10, output: int = 5, stop_reason: str = "end_turn") -> dict[str, Any]:
    """The result of a request that was answered."""
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [{"type": "text", "text": text}],
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": tokens, "output_tokens": output},
    }
    return {"type": "succeeded", "message": message}


def _prompt(params: Mapping[str, Any]) -> str:
    return str(params["messages"][-1]["content"][0]["text"])


@dataclass
class FakeBatches:
    """The service.

    Attributes:
        answer: what comes of a prompt: a text, or a result.
        looks: how often a batch is looked at before it has ended.
        faults: answers that are given instead, in order: None for none.
        batches: those that were handed in.
    """

    answer: Callable[[str], str | dict[str, Any]] = str.upper
    looks: int = 1
    faults: list[Answer | None] = field(default_factory=list)
    batches: dict[str, Batch] = field(default_factory=dict)
    takes: bool = False
    """A batch that is answered by a fault was taken all the same."""
    url: str = ""
    """Of the provider, once it is there."""

    def __call__(self, request: Received) -> Answer:
        path = request.path.partition("?")[0].removeprefix(ROOT).strip("/")
        fault = self.faults.pop(0) if self.faults else None
        creates = request.method == "POST" and not path
        if creates and (fault is None or self.takes):
            made = self._create(request.body)
            return made if fault is None else fault
        if fault is not None:
            return fault
        if not path:
            newest = sorted(self.batches.values(), key=lambda batch: batch.created, reverse=True)
            shown = [self._shown(batch) for batch in newest]
            return data({"data": shown, "has_more": False, "first_id": None, "last_id": None})
        name, _, verb = path.partition("/")
        batch = self.batches.get(name)
        if batch is None:
            return refusal(404, "no such batch", "not_found_error")
        if verb == "cancel":
            batch.cancelled = True
        elif verb == "results":
            lines = [json.dumps(self._result(batch, each)) for each in reversed(batch.requests)]
            return Answer([f"{line}\n".encode() for line in lines], headers={"content-type": "application/x-jsonl"})
        else:
            batch.looks += 1
        return data(self._shown(batch))

    def _create(self, body: Mapping[str, Any]) -> Answer:
        name = f"msgbatch_{len(self.batches) + 1}"
        self.batches[name] = Batch(name, body["requests"], datetime.now(UTC))
        return data(self._shown(self.batches[name]))

    def _ended(self, batch: Batch) -> bool:
        return batch.cancelled or batch.looks >= self.looks

    def _shown(self, batch: Batch) -> dict[str, Any]:
        ended, size = self._ended(batch), len(batch.requests)
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        counts["succeeded" if ended else "processing"] = size
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": counts,
            "created_at": batch.created.isoformat(),
            "expires_at": (batch.created + timedelta(days=1)).isoformat(),
            "ended_at": batch.created.isoformat() if ended else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{self.url}{ROOT}/{batch.id}/results" if ended else None,
        }

    def _result(self, batch: Batch, request: Mapping[str, Any]) -> dict[str, Any]:
        result: Any = {"type": "canceled"} if batch.cancelled else self.answer(_prompt(request["params"]))
        return {"custom_id": request["custom_id"], "result": replied(result) if isinstance(result, str) else result}
