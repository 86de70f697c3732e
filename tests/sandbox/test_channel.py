"""The request channel without a kernel: the guest's Channel on threads, the host's Bridge on a loop."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest

from rlm_kernel.sandbox import bridge as bridge_module
from rlm_kernel.sandbox.base import RefusedError
from rlm_kernel.sandbox.bridge import Bridge
from rlm_kernel.sandbox.guest.channel import Channel, HostError

PATIENCE_SECONDS = 30


class Line:
    """A Channel and a Bridge with a loop on a thread of its own between them.

    Attributes:
        answer: answers the requests.
        messages: what the guest's end said, in order.
    """

    def __init__(self) -> None:
        self.answer: Callable[[str, Mapping[str, Any]], Awaitable[Any]] = self._echo
        self.messages: list[dict[str, Any]] = []
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self._take: Callable[[str], None] = lambda text: None
        self.bridge = Bridge(lambda method, params: self.answer(method, params), lambda text: self._take(text))
        self.channel = Channel(self._ask)
        self._closed = threading.Event()

    async def _echo(self, method: str, params: Mapping[str, Any]) -> Any:
        await asyncio.sleep(0)
        return [method, dict(params)]

    def _ask(self, text: str) -> str:
        came: list[str] = []
        there = threading.Event()

        def take(answer: str) -> None:
            came.append(answer)
            there.set()

        def ask() -> None:
            self._take = take
            self.bridge.receive(text)

        self.messages.append(json.loads(text))
        self.loop.call_soon_threadsafe(ask)
        if not there.wait(PATIENCE_SECONDS):
            raise TimeoutError
        return came[0]

    def on_loop(self, do: Callable[[], Any]) -> Any:
        async def work() -> Any:
            return do()

        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(PATIENCE_SECONDS)

    def close(self) -> None:
        async def end() -> None:
            self.bridge.cancel("the test is over")
            await asyncio.sleep(0.01)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(PATIENCE_SECONDS)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


def together(*calls: Callable[[], Any]) -> list[Any]:
    """What each call returned or raised, all at once on a thread each."""
    results: list[Any] = [None] * len(calls)
    ready = threading.Barrier(len(calls))

    def work(i: int, call: Callable[[], Any]) -> None:
        ready.wait()
        try:
            results[i] = call()
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    return results


def test_a_call(line: Line) -> None:
    """Method and parameters arrive as given, the value comes back."""
    assert line.channel.call("ask", a=[1, None], b="é\ud800") == ["ask", {"a": [1, None], "b": "é\ud800"}]


def test_calls_follow_each_other(line: Line) -> None:
    """One thread's calls are answered in their order."""
    assert [["n", {"i": i}] for i in range(200)] == [line.channel.call("n", i=i) for i in range(200)]


def test_many_threads(line: Line) -> None:
    """64 threads with 5 calls each: every caller gets its own answers in its own order."""

    async def shuffled(method: str, params: Mapping[str, Any]) -> Any:
        await asyncio.sleep((params["i"] * 7919 % 13) / 1000)
        return params["i"]

    line.answer = shuffled
    results = together(*[lambda t=t: [line.channel.call("n", i=100 * t + i) for i in range(5)] for t in range(64)])

    assert [[100 * t + i for i in range(5)] for t in range(64)] == results


def test_calls_of_many_threads_are_open_at_once(line: Line) -> None:
    """No caller waits for another: none is answered before all have asked."""
    asked: list[int] = []
    everybody = asyncio.Event()

    async def meet(method: str, params: Mapping[str, Any]) -> Any:
        asked.append(params["i"])
        if len(asked) == 64:
            everybody.set()
        await everybody.wait()
        return params["i"]

    line.answer = meet

    assert list(range(64)) == together(*[lambda i=i: line.channel.call("n", i=i) for i in range(64)])


def test_a_refusal_is_the_callers_alone(line: Line) -> None:
    """The host's no raises HostError with its text; the others are answered."""

    async def odd(method: str, params: Mapping[str, Any]) -> Any:
        if params["i"] % 2:
            raise RefusedError(f"not {params['i']}")
        return params["i"]

    line.answer = odd
    results = together(*[lambda i=i: line.channel.call("n", i=i) for i in range(6)])

    assert results[::2] == [0, 2, 4]
    assert [str(e) for e in results[1::2]] == ["not 1", "not 3", "not 5"]
    assert {(HostError, "RefusedError")} == {(type(e), e.kind) for e in results[1::2]}


def test_a_handler_that_fails_answers_all_the_same(line: Line) -> None:
    """An error that no one foresaw in the host reaches the caller instead of letting it wait for ever."""

    async def broken(method: str, params: Mapping[str, Any]) -> Any:
        raise KeyError("a secret of the host")

    line.answer = broken
    thread_result: list[Any] = []

    def work() -> None:
        try:
            line.channel.call("n")
        except HostError as error:
            thread_result.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(2)

    assert not thread.is_alive()
    assert "secret" not in str(thread_result[0])


def test_an_answer_that_json_cannot_hold(line: Line) -> None:
    """A handler's bug fails its own call, and the channel goes on."""

    async def odd(method: str, params: Mapping[str, Any]) -> Any:
        return {1, 2} if method == "bad" else "good"

    line.answer = odd
    results: list[Any] = []
    caller = threading.Thread(target=lambda: results.append(_raised(lambda: line.channel.call("bad"))), daemon=True)
    caller.start()
    caller.join(2)

    assert not caller.is_alive()
    assert isinstance(results[0], HostError)
    assert line.channel.call("good") == "good"


def _raised(call: Callable[[], Any]) -> BaseException | None:
    try:
        call()
    except BaseException as error:
        return error
    return None


def test_an_ask_that_raises_lets_nobody_wait() -> None:
    """When the way to the host breaks, every waiting thread gets an error, and so does a later call."""
    gate = threading.Event()

    def ask(text: str) -> str:
        gate.wait(PATIENCE_SECONDS)
        raise OSError("the socket is gone")

    channel = Channel(ask)

    def call() -> Any:
        return channel.call("n")

    threading.Timer(0.05, gate.set).start()
    results = together(*[call] * 8)

    assert {"the host did not answer (OSError: the socket is gone)"} == {str(e) for e in results}
    with pytest.raises(HostError, match="did not answer"):
        channel.call("n")


@pytest.mark.parametrize(
    "answer",
    ["", "null", "[]", "{}", '{"done": 5}', '{"done": [5]}', '{"done": [{}]}', '{"done": [{"id": 1, "error": 5}]}'],
)
def test_an_answer_that_is_none_lets_nobody_wait(answer: str) -> None:
    """Nonsense from the host is an error of the call, never a thread that waits for ever."""
    channel = Channel(lambda text: answer)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(_raised(lambda: channel.call("n"))), daemon=True)
    thread.start()
    thread.join(2)

    assert not thread.is_alive()
    assert isinstance(results[0], Exception)


def test_parameters_that_json_cannot_hold(line: Line) -> None:
    """A caller's bug raises for the caller; a call of another thread that is open meanwhile is answered."""
    slow = asyncio.Event()

    async def wait(method: str, params: Mapping[str, Any]) -> Any:
        await slow.wait()
        return "kept"

    line.answer = wait
    results: list[Any] = []

    def other() -> None:
        try:
            results.append(line.channel.call("slow"))
        except HostError as error:
            results.append(error)

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    while not line.messages:
        threading.Event().wait(0.005)
    with pytest.raises((HostError, TypeError)):
        line.channel.call("n", value=object())
    line.on_loop(slow.set)
    thread.join(PATIENCE_SECONDS)

    assert results == ["kept"]


def test_an_interrupt_forgets_the_call(line: Line) -> None:
    """KeyboardInterrupt in the thread that waits: the host drops the call, the channel answers the next."""
    started, cancelled = threading.Event(), threading.Event()

    async def endless(method: str, params: Mapping[str, Any]) -> Any:
        started.set()
        try:
            await asyncio.sleep(PATIENCE_SECONDS)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    line.answer = endless
    for _ in range(3):
        started.clear()
        cancelled.clear()
        interrupter = threading.Thread(
            target=lambda: (
                started.wait(PATIENCE_SECONDS)
                and signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            )
        )
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            line.channel.call("n")
        interrupter.join()
        assert cancelled.wait(PATIENCE_SECONDS)
    line.answer = line._echo

    assert line.channel.call("next") == ["next", {}]
    assert line.channel._open == {}
    assert line.bridge._tasks == {}


def test_cancel_answers_what_is_open(line: Line) -> None:
    """The end of a cell answers every open call with the reason; its handlers stop, later calls work."""
    asked = threading.Semaphore(0)
    stopped: list[int] = []

    async def endless(method: str, params: Mapping[str, Any]) -> Any:
        asked.release()
        try:
            await asyncio.sleep(PATIENCE_SECONDS)
        finally:
            stopped.append(params["i"])

    line.answer = endless

    def cancel() -> None:
        for _ in range(8):
            asked.acquire()
        line.on_loop(lambda: line.bridge.cancel("the cell has ended"))

    *results, _ = together(*[lambda i=i: line.channel.call("n", i=i) for i in range(8)], cancel)

    assert {"the cell has ended"} == {str(e) for e in results}
    assert set(range(8)) == set(stopped)
    line.answer = line._echo
    assert line.channel.call("next") == ["next", {}]


def test_cancel_with_nothing_open(line: Line) -> None:
    """It says nothing to a guest that asked nothing."""
    line.on_loop(lambda: line.bridge.cancel("over"))

    assert line.channel.call("next") == ["next", {}]


MALFORMED = {
    "empty": "",
    "what a person types": "What is your name? ",
    "null": "null",
    "a list": "[]",
    "no version": '{"new": [], "forget": []}',
    "another version": '{"rlm": 2, "new": [], "forget": []}',
    "new is no list": '{"rlm": 1, "new": {}, "forget": []}',
    "forget is missing": '{"rlm": 1, "new": []}',
    "a call is no object": '{"rlm": 1, "new": [1], "forget": []}',
    "an id is text": '{"rlm": 1, "new": [{"id": "1", "method": "m", "params": {}}], "forget": []}',
    "an id is missing": '{"rlm": 1, "new": [{"method": "m", "params": {}}], "forget": []}',
    "a method is null": '{"rlm": 1, "new": [{"id": 1, "method": null, "params": {}}], "forget": []}',
    "parameters are a list": '{"rlm": 1, "new": [{"id": 1, "method": "m", "params": []}], "forget": []}',
    "nested without end": "[" * 200_000,
    "nested inside": '{"rlm": 1, "new": [], "forget": ' + "[" * 200_000 + "]" * 200_000 + "}",
    "an int too long to read": '{"rlm": ' + "1" * 100_000 + "}",
    "NUL": "\0",
    "lone surrogate": "\ud800",
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_malformed_messages(text: str) -> None:
    """They are answered with an empty text, once, and nobody is asked."""

    async def check() -> None:
        sent: list[str] = []

        async def never(method: str, params: Mapping[str, Any]) -> Any:
            raise AssertionError

        bridge = Bridge(never, sent.append)
        bridge.receive(text)
        await asyncio.sleep(0.05)
        assert sent == [""]

    asyncio.run(check())


async def _wait(method: str, params: Mapping[str, Any]) -> Any:
    await asyncio.sleep(PATIENCE_SECONDS)


def _message(*numbers: int, forget: tuple[Any, ...] = ()) -> str:
    new = [{"id": n, "method": "m", "params": {}} for n in numbers]
    return json.dumps({"rlm": 1, "new": new, "forget": forget})


def test_too_many_open_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one too many is refused, the others stay open."""
    monkeypatch.setattr(bridge_module, "MAX_OPEN_CALLS", 3)

    async def check() -> list[dict[str, Any]]:
        sent: list[str] = []
        bridge = Bridge(_wait, sent.append)
        bridge.receive(_message(1, 2, 3, 4))
        await asyncio.sleep(0.05)
        assert set(bridge._tasks) == {1, 2, 3}
        bridge.cancel("over")
        await asyncio.sleep(0)
        return json.loads(sent[0])["done"]

    (refused,) = asyncio.run(check())
    assert refused["id"] == 4
    assert "more than 3 calls" in refused["error"]["message"]


def test_too_long_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not even read."""
    monkeypatch.setattr(bridge_module, "MAX_MESSAGE_CHARS", 100)

    async def check() -> list[str]:
        sent: list[str] = []
        Bridge(_wait, sent.append).receive(_message(*range(20)))
        return sent

    assert asyncio.run(check()) == [""]


def test_odd_but_readable_messages() -> None:
    """A number used twice, or forgotten though never asked, disturbs nothing; each message has one answer."""

    async def check() -> list[str]:
        sent: list[str] = []
        bridge = Bridge(_wait, sent.append)
        for text in (_message(1, 1, 2), _message(forget=(7, "x", None, [1], 2)), _message(1)):
            before = len(sent)
            bridge.receive(text)
            while len(sent) == before:
                await asyncio.sleep(0.005)
        assert set(bridge._tasks) == {1}
        bridge.cancel("over")
        await asyncio.sleep(0.01)
        return sent

    assert [json.loads(text)["done"] for text in asyncio.run(check())] == [[], [], []]


def test_big_parameters_and_values(line: Line) -> None:
    """Megabytes go both ways."""
    text = "é\r\n" * 2_000_000

    assert ["m", {"text": text}] == line.channel.call("m", text=text)


def test_a_new_call_goes_out_while_another_is_open(line: Line) -> None:
    """The answer to the one is not awaited before the other is sent."""
    both = asyncio.Event()

    async def first_needs_second(method: str, params: Mapping[str, Any]) -> Any:
        if method == "second":
            both.set()
        await both.wait()
        return method

    line.answer = first_needs_second

    def second() -> Any:
        while not line.messages:
            threading.Event().wait(0.005)
        return line.channel.call("second")

    assert together(lambda: line.channel.call("first"), second) == ["first", "second"]
