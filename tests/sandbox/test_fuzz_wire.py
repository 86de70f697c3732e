"""Frames of a real kernel, mutated, through everything that reads them: no crash, no hang, no memory beyond the bound.

A case is a seed, so whatever is found can be had again: `RLM_FUZZ_SEED=N` runs that one alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
import tracemalloc
from collections.abc import Mapping
from typing import Any, cast

import pytest
from jupyter_client.session import DELIM, Session

from rlm_kernel.sandbox import sockets as sockets_module
from rlm_kernel.sandbox.base import Chunk, RefusedError
from rlm_kernel.sandbox.client import CellClient
from rlm_kernel.sandbox.handle import Kernel
from rlm_kernel.sandbox.isolation.policy import MB, Limits
from rlm_kernel.sandbox.kernel import KernelSandbox
from rlm_kernel.sandbox.sockets import Channel
from rlm_kernel.sandbox.wires import Wire
from rlm_kernel.sandbox.zmtp import Incoming, encode, greeting
from tests.sandbox.lab import Lab, lab

CASES = 300
MAX_OUTPUT = 100_000
LEAST_PEAK, PEAK_PER_BYTE = 4 * MB, 40
"""What a case may take at its peak: JSON takes up to twenty times as much as its text, and two copies of that."""
SESSION = Session(key=b"the guest knows it")
CELLS = """\
print('é\\n' * 20)
1 / 0
from IPython.display import HTML, JSON, display, clear_output
display(JSON({'a': [1, {'b': 'x'}]}))
h = display(HTML('<b>x</b>'), display_id=True); h.update(HTML('y')); clear_output()
import sys; print('e', file=sys.stderr); x = {'a': [1, 2.5, None]}; x
llm_batch(['one', 'two'])
SUBMIT(answer={1: [2.5, b'x', None, float('nan')]})"""

Real = tuple[Channel, list[bytes]]


class Recorder:
    """Keeps what arrives at the sockets of a real kernel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages: list[Real] = []
        connect = sockets_module.Sockets.__init__

        def init(made: Any, url: Any, identity: Any, take: Any, *rest: Any, **more: Any) -> None:
            connect(made, url, identity, {c: self._keeping(c, t) for c, t in take.items()}, *rest, **more)

        monkeypatch.setattr(sockets_module.Sockets, "__init__", init)

    def _keeping(self, channel: Channel, take: Any) -> Any:
        def keep(frames: list[bytes], size: int) -> None:
            self.messages.append((channel, frames))
            take(frames, size)

        return keep


@pytest.fixture(scope="module")
def real() -> list[Real]:
    """What a kernel says in a few cells of every kind."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorder = Recorder(monkeypatch)
        with lab(KernelSandbox(level="none")) as made:
            made.start()
            for cell in CELLS.splitlines():
                Lab.run(made, cell)
    kinds = {kind(message): message for message in recorder.messages}  # how many there are depends on the clock
    assert {name for name, _ in kinds} >= {"stream", "error", "display_data", "execute_reply", "input_request"}
    return [message for _, message in sorted(kinds.items())]


def kind(message: Real) -> tuple[str, str]:
    """What tells a message from others: its type and what it holds."""
    _, frames = message
    header, content = (json.loads(frames[frames.index(DELIM) + n]) for n in (2, 5))
    asked = json.loads(content["prompt"])["new"] if "prompt" in content else ()
    changed = [bool(sent.get("changed")) for sent in content.get("payload", ())]
    held = sorted(content), sorted(content.get("data", ())), changed, [call["method"] for call in asked]
    return header["msg_type"], str(held)


class Client(CellClient):
    """With a limit on output that is soon reached."""

    _max_output = MAX_OUTPUT


class Nowhere:
    """Where the client sends to."""

    session = SESSION
    lost = False

    def send(self, channel: Channel, message: Mapping[str, Any]) -> None:
        pass

    def answer(self, text: str) -> None:
        pass

    async def close(self) -> None:
        pass


class Process:
    """A kernel's process as the client knows it."""

    local = True
    reconnects = 0
    ended = None
    cpu_seconds = 0.0

    async def alive(self) -> bool:
        return True

    async def interrupt(self) -> None:
        pass


class Transport(asyncio.Transport):
    """Takes what is written and knows whether it is read from."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = self.aborted = False

    def write(self, data: Any) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def abort(self) -> None:
        self.aborted = True


class Host:
    """The client with its three connections, fed by hand."""

    def __init__(self) -> None:
        self.client = Client(cast("Kernel", Process()), self.answer, Limits(output=1))
        self.client._wire = cast("Wire", Nowhere())
        self.connections: dict[Channel, Any] = {}
        reception = self.client._reception
        for channel, take in reception.takes.items():
            made = sockets_module._Connection(
                subscribes=channel == "iopub",
                identity=b"host",
                take=take,
                max_bytes=reception.max_bytes[channel],
                rest=lambda: 0.0,
            )
            made.connection_made(Transport())
            made.data_received(greeting("DEALER", b""))
            self.connections[channel] = made
        self.chunks: list[Chunk] = []

    async def answer(self, method: str, params: Mapping[str, Any]) -> Any:
        assert isinstance(method, str)
        assert isinstance(params, dict)
        if random.random() < 0.3:
            raise RefusedError("no")
        if random.random() < 0.5:
            await asyncio.sleep(1000)
        return [{"text": "x"}]

    def begin(self) -> asyncio.Task[Any]:
        self.chunks.clear()
        return asyncio.create_task(self.client.run("", self.chunks.append))

    @property
    def parent_id(self) -> str:
        assert self.client._cell is not None
        return self.client._cell.msg_id

    async def feed(self, channel: Channel, data: bytes) -> None:
        """As a transport would: not while it is told to wait, and nothing to a connection that was ended."""
        connection = self.connections[channel]
        while connection._transport.paused and not connection.lost:
            await asyncio.sleep(0)
        if not connection.lost:
            connection.data_received(data)

    async def end(self) -> None:
        """The kernel says that the cell has ended."""
        parent = {"msg_id": self.parent_id}
        await self.feed("iopub", encode(signed({"msg_type": "status"}, parent, {"execution_state": "idle"})))
        await self.feed("shell", encode(signed({"msg_type": "execute_reply"}, parent, {"status": "ok"})))

    @property
    def lost(self) -> bool:
        return any(connection.lost for connection in self.connections.values())


def signed(*parts: object) -> list[bytes]:
    header, parent, content = (x if isinstance(x, bytes) else json.dumps(x).encode() for x in parts)
    return [DELIM, SESSION.sign([header, parent, b"{}", content]), header, parent, b"{}", content]


ATOMS: list[Any] = [
    None, True, 0, -1, 10**300, 1e308, float("nan"), float("inf"), "", "x" * 5000, "\ud800", "\0", "é" * 300,
    [], {}, [[]] * 1000, {"text/plain": 5}, {str(i): i for i in range(1000)}, "idle", "ok", "KeyboardInterrupt",
    "execute_reply", "input_request", "stream", "status", [["a", "b", "c", "d"]] * 50, {"source": "rlm_kernel"},
]  # fmt: skip
TEXTS = [
    b"[" * 3000, b'{"a":' * 3000, b"9" * 6000, b'"' + b"\\" * 2001, b"NaN", b"1e999", b"\xff\xfe", b'{"a":1,"a":[]}',
    b"[" + b"[]," * 20_000 + b"0]", b"[" + b"1.5," * 20_000 + b"0]", b'["ab"' + b',"ab"' * 20_000 + b"]", b"",
    b'"\\ud800"', b"{1:2}", b'{"text":"' + b"x" * 300_000 + b'"}',
]  # fmt: skip


class Mutation:
    """One case."""

    def __init__(self, seed: int, real: list[Real]) -> None:
        self.rng, self.real = random.Random(seed), real
        self.breaks_framing = self.rng.random() < 0.3

    def json(self, value: Any, depth: int = 0) -> Any:
        """The value with something in it replaced."""
        rng = self.rng
        if depth > 6 or not isinstance(value, dict | list) or not value or rng.random() < 0.2:
            return rng.choice(ATOMS)
        if isinstance(value, list):
            made: Any = list(value)
            at: Any = rng.randrange(len(made))
        else:
            made = dict(value)
            at = rng.choice(list(made))
        match rng.randrange(8):
            case 0:
                del made[at]
            case 1 if isinstance(made, dict):
                made[str(rng.choice(ATOMS))[:200]] = rng.choice(ATOMS)
            case 1 | 2 if isinstance(made, list):
                made = made * rng.randrange(100)
            case _:
                made[at] = self.json(made[at], depth + 1)
        return made

    def part(self, raw: bytes) -> bytes:
        """A part of a message: now and then text that is no JSON, else JSON with something replaced."""
        match self.rng.randrange(10):
            case 0:
                return self.rng.choice(TEXTS)
            case 1:
                at = self.rng.randrange(len(raw) + 1)
                return raw[:at] + self.rng.choice(TEXTS) + raw[at:]
            case 2 | 3 | 4:
                return raw
        value = json.loads(raw)
        if isinstance(value.get("prompt"), str) and value["prompt"].startswith("{") and self.rng.random() < 0.8:
            request = json.loads(value["prompt"]) | {"forget": [self.rng.randrange(4)]}
            for call in request["new"]:
                call["id"] = self.rng.choice([call["id"], 1, 2, 3])
            for _ in range(self.rng.randrange(3)):
                request = self.json(request)
            return json.dumps(value | {"prompt": json.dumps(request)}).encode()
        for _ in range(self.rng.randrange(1, 4)):
            value = self.json(value)
        return json.dumps(value).replace("1e+308", "1e999").encode()

    def message(self, parent_id: str) -> tuple[Channel, bytes]:
        """Bytes of one message, and where they arrive."""
        rng = self.rng
        channel, frames = rng.choice(self.real)
        start = frames.index(DELIM)
        _, _, header, parent, _, content = frames[start : start + 6]
        if rng.random() < 0.9:
            parent = json.dumps({**json.loads(parent), "msg_id": parent_id}).encode()
        made = signed(
            self.part(header) if rng.random() < 0.2 else header,
            self.part(parent) if rng.random() < 0.1 else parent,
            self.part(content),
        )
        if rng.random() < 0.2:
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(made))
                made = rng.choice(
                    [
                        made[:at] + made[at + 1 :],
                        [*made, b"x" * rng.randrange(500)],
                        made[:at] * 2 + made[at:],
                        made[::-1],
                    ]
                ) or [b""]
        if rng.random() < 0.1:
            channel = rng.choice(["shell", "iopub", "stdin"])
        data = encode(made)
        if self.breaks_framing and rng.random() < 0.3:
            at, width = rng.randrange(len(data)), rng.randrange(20)
            data = data[:at] + rng.randbytes(rng.randrange(20)) + data[at + width :]
        return channel, data


async def case(seed: int, real: list[Real]) -> None:
    """Feed a cell what a seed makes; it ends, and the next cell is as if nothing had been."""
    mutation, host = Mutation(seed, real), Host()
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    random.seed(seed)
    fed = peak = 0
    before = tracemalloc.get_traced_memory()[0]
    running = host.begin()
    await asyncio.sleep(0)
    for _ in range(mutation.rng.randrange(1, 25)):
        if running.done():
            break
        channel, data = mutation.message(host.parent_id)
        fed += len(data)
        at = 0
        tracemalloc.reset_peak()  # making a message may take more than reading it
        while at < len(data):
            step = mutation.rng.choice([1, 10, 1000, 65_536])
            await host.feed(channel, data[at : at + step])
            at += step
        if mutation.rng.random() < 0.5:
            await asyncio.sleep(0.002)
        peak = max(peak, tracemalloc.get_traced_memory()[1] - before)
    assert peak < LEAST_PEAK + PEAK_PER_BYTE * fed
    if not mutation.breaks_framing:
        assert not host.lost
        if not running.done():
            await host.end()
        result, payload = await running
        assert all(isinstance(x, str) for v in result.changed for x in (v.name, v.type, v.size, v.preview))
        assert all(isinstance(x, str) for x in (*result.removed, *result.restored, result.why))
        assert isinstance(payload, dict)
    assert sum(len(c.text) for c in host.chunks) <= 1.2 * MAX_OUTPUT
    for chunk in host.chunks:
        json.dumps([chunk.text, dict(chunk.data)], allow_nan=False, ensure_ascii=False).encode()
    if not mutation.breaks_framing:
        again = host.begin()
        await asyncio.sleep(0)
        sent = {"msg_type": "stream"}, {"msg_id": host.parent_id}, {"name": "stdout", "text": "2\n"}
        await host.feed("iopub", encode(signed(*sent)))
        await host.end()
        assert (await again)[0].status == "ok"
        assert [c.text for c in host.chunks] == ["2\n"]
    await host.client.close()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    assert faults == []


@pytest.mark.timeout(float(os.environ.get("RLM_FUZZ_SECONDS", "0")) + 180)
def test_mutated_messages(real: list[Real]) -> None:
    """Every case of the suite, or those of `RLM_FUZZ_SECONDS` seconds (600 finds what is rare), from a new seed."""
    seconds, one = float(os.environ.get("RLM_FUZZ_SECONDS", "0")), os.environ.get("RLM_FUZZ_SEED")
    first = int(one) if one else random.SystemRandom().randrange(2**40) if seconds else 0
    until, seed = time.monotonic() + seconds, first
    tracemalloc.start()
    try:
        while seed < first + (1 if one else CASES) or (not one and time.monotonic() < until):
            try:
                asyncio.run(case(seed, real))
            except BaseException as error:
                error.add_note(f"RLM_FUZZ_SEED={seed}")
                raise
            seed += 1
    finally:
        tracemalloc.stop()
    print(f"{seed - first} cases from {first}")


def test_what_is_fed_is_what_a_kernel_sends(real: list[Real]) -> None:
    """The recording is read as it was sent: else the cases above would test nothing."""
    incoming = Incoming(MB)
    incoming.feed(greeting("DEALER", b""))
    for _, frames in real:
        incoming.feed(encode(frames))
        assert incoming.next() == frames
