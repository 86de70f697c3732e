"""The request channel without a kernel: the guest's Channel on threads, the host's Bridge on a loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest

from rlm_kernel.sandbox import bridge as bridge_module
from rlm_kernel.sandbox.base import RefusedError
from rlm_kernel.sandbox.bridge import Bridge
from rlm_kernel.sandbox.guest import channel as channel_module
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
    assert line.bridge._open == {}


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
    "an id is true": '{"rlm": 1, "new": [{"id": true, "method": "m", "params": {}}], "forget": []}',
    "an id is negative": '{"rlm": 1, "new": [{"id": -1, "method": "m", "params": {}}], "forget": []}',
    "an id is huge": '{"rlm": 1, "new": [{"id": 1' + "0" * 400 + ', "method": "m", "params": {}}], "forget": []}',
    "a method is long": '{"rlm": 1, "new": [{"id": 1, "method": "' + "m" * 65 + '", "params": {}}], "forget": []}',
    "many parameters": json.dumps(
        {"rlm": 1, "new": [{"id": 1, "method": "m", "params": dict.fromkeys("abcdefghijklmnopq")}], "forget": []}
    ),
    "more calls than may be open": json.dumps(
        {"rlm": 1, "new": [{"id": 1, "method": "m", "params": {}}] * 10_001, "forget": []}
    ),
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


def test_too_many_open_calls() -> None:
    """The one too many is refused, the others stay open."""
    first, second = exchange(_message(1, 2, 3), _message(4), MAX_OPEN_CALLS=3)

    assert errors(first) == {}
    assert errors(second) == {4: "more than 3 calls are open"}


def exchange(*texts: str, answer: Any = None, **limits: int) -> list[dict[str, Any]]:
    """What each message is answered with, one after the other."""

    async def check() -> list[dict[str, Any]]:
        async def handler(method: str, params: Mapping[str, Any]) -> Any:
            if answer is None:
                await asyncio.sleep(PATIENCE_SECONDS)
            return answer

        sent: list[str] = []
        bridge = Bridge(handler, sent.append)
        for number, text in enumerate(texts):
            bridge.receive(text)
            while len(sent) == number:
                await asyncio.sleep(0.001)
        for call in bridge._open.values():
            call.task.cancel()
        await asyncio.sleep(0)
        return [json.loads(text) for text in sent]

    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in limits.items():
            monkeypatch.setattr(bridge_module, name, value)
        return asyncio.run(check())


def errors(answer: dict[str, Any]) -> dict[int, str]:
    return {done["id"]: done["error"]["message"] for done in answer["done"] if "error" in done}


def test_what_open_calls_hold_is_bounded() -> None:
    """The call that is one too much is refused; when another ends there is room again."""
    long = "x" * 2**20
    asked = [
        json.dumps({"rlm": 1, "new": [{"id": n, "method": "m", "params": {"p": long}}], "forget": forget})
        for n, forget in ((1, []), (2, []), (3, [1]))
    ]
    first, second, third = exchange(*asked, MAX_HELD_CHARS=2 * 2**20)

    assert (errors(first), errors(third)) == ({}, {})
    assert errors(second) == {2: "the calls that are open hold more than 2 MB: wait for some of them"}


def test_answers_that_wait_are_bounded() -> None:
    """A guest that asks for much at once and collects nothing costs no more than the bound."""
    first, second = exchange(_message(1, 2, 3), _message(4), answer="x" * 2**20, MAX_HELD_CHARS=3 * 2**20)
    answers = [*first["done"], *second["done"]]

    assert sorted(answer["id"] for answer in answers) == [1, 2, 3, 4]
    assert errors(first) | errors(second) == {3: "more than 3 MB of calls and answers: ask for less at once"}


def test_what_one_cell_asks_is_bounded() -> None:
    """Beyond it the cell gets an error; the next one begins anew."""

    async def check() -> list[dict[int, str]]:
        sent: list[str] = []
        bridge = Bridge(_echo, sent.append)
        for number in range(1, 5):
            if number == 4:
                bridge.cancel("the cell has ended")
            bridge.receive(_message(number))
            while bridge.owes:
                await asyncio.sleep(0.001)
        return [errors(json.loads(text)) for text in sent]

    async def _echo(method: str, params: Mapping[str, Any]) -> Any:
        return method

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(bridge_module, "MAX_CELL_CHARS", 2 * len(_message(1)))
        told = asyncio.run(check())
    assert told == [{}, {}, {3: "this block has asked with more than 0 MB: go on in the next"}, {}]


def test_one_message_at_a_time() -> None:
    """Those that come while another waits for its answer are taken, and have one answer together."""

    async def check() -> None:
        sent: list[str] = []
        bridge = Bridge(_wait, sent.append)
        for number in (1, 2, 3):
            bridge.receive(_message(number))
        assert set(bridge._open) == {1, 2, 3}
        await asyncio.sleep(0.05)
        assert [json.loads(text) for text in sent] == [{"done": []}]
        bridge.cancel("over")
        await asyncio.sleep(0)

    asyncio.run(check())


def test_who_does_not_wait_is_refused() -> None:
    """What was saved is spent by messages that nobody waits with; then all that wait get an answer that is none."""

    async def check() -> None:
        sent: list[str] = []
        bridge = Bridge(_wait, sent.append)
        bridge._saved = 0.01
        while not bridge.overdrawn:
            bridge.receive(_message(1))
        bridge.refuse()
        await asyncio.sleep(0.1)
        assert sent == [""]
        bridge.receive(_message())
        await asyncio.sleep(0.1)
        assert [json.loads(text) for text in sent[1:]] == [{"done": []}]
        bridge.cancel("over")
        await asyncio.sleep(0)

    asyncio.run(check())


def test_who_asks_without_end_has_to_wait() -> None:
    """When what was saved is spent an answer comes only after it was paid for, a malformed message's too."""

    async def check(text: str) -> None:
        sent: list[str] = []
        bridge = Bridge(_wait, sent.append)
        bridge.receive(text)
        await asyncio.sleep(0.05)
        assert len(sent) == 1
        bridge._saved = -0.3
        bridge.receive(text)
        await asyncio.sleep(0.1)
        assert len(sent) == 1
        await asyncio.sleep(0.3)
        assert len(sent) == 2
        bridge.cancel("over")
        await asyncio.sleep(0)

    for text in (_message(1), "nonsense"):
        asyncio.run(check(text))


def test_a_batch_of_ten_thousand() -> None:
    """Prompts of 10 KB each go out at once and come back, nobody waits for a limit."""
    prompts = ["é" * 10_000] * 10_000
    asked = {"rlm": 1, "new": [{"id": 1, "method": "m", "params": {"prompts": prompts}}], "forget": []}
    (answer,) = exchange(json.dumps(asked, ensure_ascii=False), answer=["x" * 1000] * 10_000)

    assert len(answer["done"][0]["value"]) == 10_000


def test_errors_are_short() -> None:
    """What a handler says of hostile parameters does not grow with them."""

    async def refuses(method: str, params: Mapping[str, Any]) -> Any:
        raise RefusedError("x" * 10**6)

    async def check() -> None:
        sent: list[str] = []
        Bridge(refuses, sent.append).receive(_message(1))
        await asyncio.sleep(0.05)
        assert len(sent[0]) < 11_000

    asyncio.run(check())


def test_too_long_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not even read."""
    monkeypatch.setattr(bridge_module, "MAX_MESSAGE_BYTES", 100)

    async def check() -> list[str]:
        sent: list[str] = []
        Bridge(_wait, sent.append).receive(_message(*range(1, 20)))
        await asyncio.sleep(0.01)
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
        assert set(bridge._open) == {1}
        bridge.cancel("over")
        await asyncio.sleep(0.01)
        return sent

    assert [json.loads(text)["done"] for text in asyncio.run(check())] == [[], [], []]


def test_big_parameters_and_values(line: Line) -> None:
    """Megabytes go both ways."""
    text = "é\r\n" * 2_000_000

    assert ["m", {"text": text}] == line.channel.call("m", text=text)


def test_much_at_once_goes_in_pieces(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message is one that the host takes, whatever many threads ask together."""
    monkeypatch.setattr(channel_module, "MAX_MESSAGE_BYTES", 10_000)
    texts = [chr(0x4E00 + i) * 1300 for i in range(16)]

    assert [["m", {"text": text}] for text in texts] == together(
        *[lambda t=t: line.channel.call("m", text=t) for t in texts]
    )
    assert max(len(message["new"]) for message in line.messages) == 2


def test_more_than_the_host_takes(line: Line) -> None:
    """It is refused where it is asked, saying how much may be sent; nothing goes out."""
    with pytest.raises(HostError, match="101 MB are more than the 96 MB that may be sent at once"):
        line.channel.call("m", text="é" * (50 * 2**20 + 1))
    assert line.messages == []
    assert line.channel.call("next") == ["next", {}]


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


def test_an_interrupt_never_leaves_the_channel_locked() -> None:
    """A condition's own way in is Python code: an interrupt at its end finds the lock taken, for ever."""

    def answer(text: str) -> str:
        return json.dumps({"done": [{"id": call["id"], "value": 1} for call in json.loads(text)["new"]]})

    def interrupt(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code is threading.Condition.__enter__.__code__ and event == "return":
            raise KeyboardInterrupt
        return interrupt

    channel, got = Channel(answer), []
    channel.open()

    def work() -> None:
        sys.settrace(interrupt)
        with contextlib.suppress(KeyboardInterrupt):
            got.append(channel.call("x"))
        sys.settrace(None)
        got.append(channel.call("y"))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(5)
    assert got == [1, 1]
