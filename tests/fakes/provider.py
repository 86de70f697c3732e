"""A provider on 127.0.0.1 that says what a test tells it to, in the formats of Anthropic and of OpenAI.

It knows nothing of the package: the SDKs talk to it over a real socket, and it keeps every request to be read.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Answer", "FakeProvider", "Received", "anthropic", "data", "openai", "refusal"]


@dataclass(frozen=True)
class Answer:
    """One response: its pieces are sent one by one, then it ends as `end` says."""

    pieces: Sequence[bytes] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    end: Literal["whole", "cut", "stall"] = "whole"
    """`cut` drops the connection inside the body, `stall` says nothing more until the test is over."""
    seconds: float = 0.0
    """How long it takes to come."""

    def first(self, count: int, end: Literal["whole", "cut", "stall"] = "whole") -> Answer:
        """The same, ending after `count` pieces."""
        return replace(self, pieces=self.pieces[:count], end=end)

    def then(self, *pieces: bytes) -> Answer:
        """The same with more pieces."""
        return replace(self, pieces=(*self.pieces, *pieces))


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: dict[str, Any]
    method: str = "POST"


class FakeProvider:
    """`with FakeProvider(answer, …) as provider:` answers requests in order; the last answer is repeated.

    An answer may be a function of the request. `at` has answers of paths by themselves, by how the path begins.

    Attributes:
        requests: all that came.
        now: how many are being answered.
        most: how many were at the same time.
    """

    def __init__(self, *answers: Reply, at: Mapping[str, Reply] | None = None) -> None:
        self.requests: list[Received] = []
        self.now = self.most = 0
        self._answers = list(answers)
        self._at = dict(at or {})
        self._lock = threading.Lock()
        self.over = threading.Event()

    def __enter__(self) -> FakeProvider:
        provider = self

        class Handler(_Handler):
            owner = provider

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def receive(self, request: Received) -> Answer:
        """Note the request and choose its answer."""
        with self._lock:
            self.requests.append(request)
            self.now += 1
            self.most = max(self.most, self.now)
            reply = next((self._at[path] for path in self._at if request.path.startswith(path)), None)
            if reply is None:
                reply = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            return reply(request) if callable(reply) else reply

    def answered(self) -> None:
        """The answer has been sent."""
        with self._lock:
            self.now -= 1


if TYPE_CHECKING:
    Reply = Answer | Callable[[Received], Answer]


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for them
    request_queue_size = 128  # for tests that call from many tasks at once


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FakeProvider

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["content-length"])) or "{}"))

    def do_GET(self) -> None:
        self._answer({})

    def _answer(self, body: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.owner.receive(Received(self.path, headers, body, self.command))
        try:
            self._send(answer)
        finally:
            self.owner.answered()

    def _send(self, answer: Answer) -> None:
        self.close_connection = True
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("transfer-encoding", "chunked")
        self.send_header("connection", "close")
        self.end_headers()
        if answer.seconds:
            self.owner.over.wait(answer.seconds)
        for piece in answer.pieces:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
        if answer.end == "stall":
            self.owner.over.wait(30)
        if answer.end == "whole":
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


def refusal(status: int, message: str = "", kind: str = "", **headers: str) -> Answer:
    """An error response, in the shape that both APIs share. Underscores in header names become hyphens."""
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message, "code": kind}})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer((body.encode(),), status, {"content-type": "application/json", **named})


def data(value: object) -> Answer:
    """A response of JSON."""
    return Answer((json.dumps(value).encode(),), headers={"content-type": "application/json"})


def event(data: object, name: str = "") -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def anthropic(
    *blocks: str | tuple[str, str],
    stop_reason: str = "end_turn",
    usage: Mapping[str, int] | None = None,
    model: str = "claude-fake",
) -> Answer:
    """A streamed message. A block is a text, or `("thinking", text)`; each comes in two deltas."""
    counts = {"input_tokens": 10, "output_tokens": 5, **(usage or {})}
    message: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": model}
    start: dict[str, Any] = {
        **message,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**counts, "output_tokens": 1},
    }
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(blocks):
        kind, text = ("text", block) if isinstance(block, str) else block
        empty: dict[str, Any] = {"type": kind, kind: "", **({"signature": ""} if kind == "thinking" else {})}
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        half = len(text) // 2
        events += [
            {"type": "content_block_delta", "index": index, "delta": {"type": f"{kind}_delta", kind: part}}
            for part in (text[:half], text[half:])
        ]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": counts["output_tokens"]}})
    events.append({"type": "message_stop"})
    return Answer([event(each, each["type"]) for each in events])


def openai(
    *texts: str,
    reasoning: Mapping[str, str] | None = None,
    finish_reason: str = "stop",
    usage: Mapping[str, Any] | None = None,
    model: str = "gpt-fake",
) -> Answer:
    """A streamed chat completion, one chunk per text. `reasoning` is put into the first chunk's delta."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", **(reasoning or {})}, *({"content": text} for text in texts)]
    choices: list[list[dict[str, Any]]] = [[{"index": 0, "delta": each, "finish_reason": None}] for each in deltas]
    choices.append([{"index": 0, "delta": {}, "finish_reason": finish_reason}])
    frame = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model}
    pieces = [event({**frame, "choices": choice}) for choice in choices]
    if usage is not None:
        pieces.append(event({**frame, "choices": [], "usage": usage}))
    return Answer([*pieces, event("[DONE]")])
