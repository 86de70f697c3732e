"""One call of a tool: what goes in, what comes out, and whatever a tool may do instead of returning."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import functools
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import polars as pl
import pydantic
import pytest

from rlm_kernel import tool
from rlm_kernel.sandbox.guest import wire
from rlm_kernel.tools import Outcome, Workers, checked, perform, told
from tests.helpers import in_loop


def asked(*args: Any, **kwargs: Any) -> str:
    """Arguments, as the sandbox sends them."""
    given = {"args": [wire.encode(x) for x in args], "kwargs": {k: wire.encode(v) for k, v in kwargs.items()}}
    return json.dumps(given, ensure_ascii=False)


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Outcome:
    """One call."""
    return in_loop(perform(tool(function, name="f"), asked(*args, **kwargs), Workers()))


def value(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What the sandbox gets."""
    outcome = call(function, *args, **kwargs)
    assert outcome.error == ""
    return wire.decode(json.loads(outcome.answer["value"]))


def error(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[str, str]:
    """The name and text of the error that the sandbox gets."""
    outcome = call(function, *args, **kwargs)
    assert outcome.told == ""
    name, text = outcome.answer["error"], outcome.answer["text"]
    assert outcome.error == (f"{name}: {text}" if text else name)
    return name, text


class City(pydantic.BaseModel):
    name: str


@dataclasses.dataclass
class Point:
    x: float


class Colour(enum.Enum):
    RED = "red"


# -- arguments ---------------------------------------------------------------------------------------------------
def test_arguments_become_the_types_that_are_declared() -> None:
    """Numbers, dates, paths, sets, models, dataclasses, enums, tables of another library, arrays as lists."""

    def f(
        n: int,
        day: datetime.date,
        path: Path,
        tags: set[str],
        city: City,
        at: Point,
        colour: Colour,
        df: pl.DataFrame,
        xs: list[int],
    ) -> list[Any]:
        return [type(x).__name__ for x in (n, day, path, tags, city, at, colour, df, xs)]

    given = ["3", datetime.date(2024, 1, 2), "a/b", ["x"], {"name": "Bern"}, {"x": 1}, "red"]
    got = value(f, *given, pd.DataFrame({"a": [1]}), np.array([1, 2]))
    assert got == ["int", "date", type(Path()).__name__, "set", "City", "Point", "Colour", "DataFrame", "list"]


def test_every_kind_of_parameter_is_filled() -> None:
    """Positional-only, keyword-only, defaults, any number of either."""

    def f(a, /, b: int, c: int = 7, *rest: int, d, e="e", **more: bool) -> list[Any]:
        return [a, b, c, list(rest), d, e, more]

    assert value(f, 1, 2, d=4) == [1, 2, 7, [], 4, "e", {}]
    assert value(f, 1, 2, 3, "4", "5", d=6, x="yes") == [1, 2, 3, [4, 5], 6, "e", {"x": True}]
    assert value(f, "a", b="2", d=0, e=1) == ["a", 2, 7, [], 0, 1, {}]


def test_without_annotations_nothing_is_changed() -> None:
    """Nor where they are `Any`, or cannot be resolved."""

    def f(a, b: Any, c: Nowhere) -> list[Any]:  # noqa: F821
        return [a, b, c]

    assert value(f, "1", [2], {"c": 3}) == ["1", [2], {"c": 3}]


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "f(): missing a required argument: 'n'"),
        ((1, 2, 3), {}, "f(): too many positional arguments"),
        ((1,), {"z": 2}, "f(): got an unexpected keyword argument 'z'"),
        ((1,), {"n": 2}, "f(): multiple values for argument 'n'"),
        (("many",), {}, "f(): 'n' has to be int: Input should be a valid integer"),
        ((1, "c"), {}, "f(): 'mode' has to be Literal['a', 'b']: Input should be 'a' or 'b', got 'c' (str)"),
        ((["x" * 100_000],), {}, "f(): 'n' has to be int: Input should be a valid integer, got ['xxx"),
    ],
)
def test_arguments_that_do_not_fit(args: Any, kwargs: Any, says: str) -> None:
    """A TypeError says which and why; the tool is not called."""
    called = []

    def f(n: int, mode: Literal["a", "b"] = "a") -> None:
        called.append(n)

    name, text = error(f, *args, **kwargs)
    assert (name, called) == ("TypeError", [])
    assert text.startswith(says)
    assert len(text) < 300


def test_a_problem_inside_of_an_argument_says_where() -> None:
    """The index or key of it."""

    def f(rows: list[dict[str, int]], *more: int, **named: int) -> None: ...

    assert "rows[1]['a']: Input should be a valid integer" in error(f, [{"a": 1}, {"a": "x"}])[1]
    assert "'more[1]' has to be int" in error(f, [], 1, "x")[1]
    assert "'b' has to be int" in error(f, [], a=1, b="x")[1]


def test_a_class_that_cannot_be_sent_is_checked_all_the_same() -> None:
    """Nothing from the sandbox is one; its default serves."""

    def f(lock: threading.Event | None = None, n: int = 1) -> bool:
        return lock is None

    assert value(f, n=2) is True
    assert "instance of Event" in error(f, {"a": 1})[1]


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "x",
        "[]",
        "null",
        "{}",
        '{"args": 1, "kwargs": {}}',
        '{"args": [], "kwargs": []}',
        '{"args": [{"$nothing": 1}], "kwargs": {}}',
        '{"args": [{"$npy": "AAAA"}], "kwargs": {}}',
        '{"args": [{"$arrow": "AAAA"}], "kwargs": {}}',
        '{"args": [{"$arrow": 5}], "kwargs": {}}',
        '{"args": [' + "[" * 5000 + "]" * 5000 + '], "kwargs": {}}',
        '{"args": [' + "9" * 100_000 + '], "kwargs": {}}',
    ],
    ids=lambda text: text[:30],
)
def test_hostile_arguments(arguments: str) -> None:
    """A TypeError in a few words, and the tool is not called."""
    called = []
    outcome = in_loop(perform(tool(lambda *a, **k: called.append(a), name="f"), arguments, Workers()))
    assert outcome.answer["error"] == "TypeError"
    assert outcome.answer["text"].startswith("f(): ")
    assert (len(outcome.answer["text"]) < 2100, called) == (True, [])
    assert len(told(arguments)) < 600


def test_what_a_tool_does_to_its_arguments_stays_with_it() -> None:
    """It is given copies."""

    def f(rows: list[int]) -> int:
        rows.clear()
        return len(rows)

    rows = [1, 2]
    assert (value(f, rows), rows) == (0, [1, 2])


# -- results -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("result", "arrives"),
    [
        (None, None),
        ("é 数 🎉 \ud800", "é 数 🎉 \ud800"),
        (float("inf"), float("inf")),
        ((1, 2), [1, 2]),
        ({1: "a"}, {1: "a"}),
        (b"\x00\xff", b"\x00\xff"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (City(name="Bern"), {"name": "Bern"}),
        (Point(1.5), {"x": 1.5}),
        (Colour.RED, "red"),
        ({"$bytes": "no"}, {"$bytes": "no"}),
    ],
    ids=repr,
)
def test_results_arrive(result: Any, arrives: Any) -> None:
    """Plain values as they are; objects as dicts, dates as text, tuples as lists."""
    assert value(lambda: result) == arrives


def test_tables_and_arrays_arrive() -> None:
    """As pandas and numpy have them, whatever library they came from."""
    df = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    pd.testing.assert_frame_equal(value(lambda: df), df)
    assert value(lambda: pl.DataFrame({"a": [1]}))["a"].tolist() == [1]
    assert value(lambda: {"m": np.eye(2)})["m"].tolist() == [[1, 0], [0, 1]]


def test_results_that_cannot_be_sent() -> None:
    """A TypeError says what was returned and what could have been."""
    for made, kind in (
        (lambda: threading.Lock(), "lock"),
        (lambda: (x for x in "ab"), "generator"),
        (lambda: [open], "builtin"),
    ):
        name, text = error(made)
        assert name == "TypeError"
        assert text.startswith("the tool returned something that cannot be sent: a value of type ")
        assert kind in text
        assert "use text, numbers" in text


def test_a_result_that_contains_itself() -> None:
    """It is nested without end, and told to be."""
    loop: list[Any] = []
    loop.append(loop)
    assert "nested deeper than 40 levels" in error(lambda: loop)[1]


@pytest.mark.parametrize("kind", [str, bytes, list], ids=["text", "bytes", "list"])
def test_a_result_that_is_too_large(kind: type) -> None:
    """100 MB are refused with the size and the limit; nothing of it is sent or kept."""
    made: Any = {str: "x" * 100_000_000, bytes: bytes(100_000_000), list: ["x" * 1_000_000] * 100}[kind]
    name, text = error(lambda: made)
    assert name in ("ValueError", "TypeError")
    assert "95 MB, more than the 32 MB that a tool may return: ask for less at once" in text


def test_a_result_of_a_foreign_class_that_raises_when_it_is_looked_at() -> None:
    """The error is the tool's."""

    class Odd:
        def model_dump(self) -> Any:
            raise RuntimeError("not today")

    assert error(Odd) == ("RuntimeError", "not today")


def test_what_people_are_told_is_bounded() -> None:
    """Long texts are cut, with their length; other values as their repr."""
    assert call(lambda: "x" * 10_000).told == "x" * 2000 + "… (10,000 characters in all)"
    assert call(lambda: {"a": [1, None]}).told == "{'a': [1, None]}"
    assert len(call(lambda: list(range(100_000))).told) < 200


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (asked(), ""),
        (asked("a'b", 1, n=None, deep={"x": [1.5]}), "\"a'b\", 1, n=None, deep={'x': [1.5]}"),
        (asked(datetime.date(2024, 1, 2), b"abc", np.zeros(2)), "'2024-01-02', <bytes>, <array>"),
        (asked("x" * 1000), "'" + "x" * 247 + "..." + "x" * 248 + "'"),
        (asked("x" * 10_000), '{"args": ["' + "x" * 489 + "… (10,028 characters in all)"),
    ],
    ids=lambda text: text[:20],
)
def test_arguments_as_they_are_told(arguments: str, shown: str) -> None:
    """As in a call, on a line; what is long is cut."""
    assert told(arguments) == shown


# -- errors ------------------------------------------------------------------------------------------------------
class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("raised", "name", "text"),
    [
        (ValueError("no such id"), "ValueError", "no such id"),
        (KeyError("id"), "KeyError", "'id'"),
        (SystemExit(3), "SystemExit", "3"),
        (KeyboardInterrupt(), "KeyboardInterrupt", ""),
        (GeneratorExit(), "GeneratorExit", ""),
        (asyncio.CancelledError(), "CancelledError", ""),
        (RecursionError("deep"), "RecursionError", "deep"),
        (OddError(), "OddError", ""),
        (ExceptionGroup("two", [ValueError(1), KeyError(2)]), "ExceptionGroup", "two (2 sub-exceptions)"),
        (ValueError("x" * 100_000), "ValueError", "x" * 2000 + "…"),
    ],
    ids=lambda x: x if isinstance(x, str) and len(x) < 20 else "",
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_whatever_a_tool_raises_is_an_answer(raised: BaseException, name: str, text: str, kind: str) -> None:
    """Its name and its text, and nothing more; nothing of it ends a thread or a loop."""

    def sync() -> None:
        raise raised

    async def coroutine() -> None:
        await asyncio.sleep(0)
        raise raised

    assert error(sync if kind == "sync" else coroutine) == (name, text)
    assert value(lambda: 1) == 1


def test_paths_of_this_machine_stay_here() -> None:
    """Only their last part is told; those that the sandbox has named, and what is none, stay."""

    def f(path: str) -> None:
        Path(path).read_text()

    for path in ("/tmp/no such/file.txt", "/tmp/né/x.txt"):
        assert error(f, path)[1] == f"[Errno 2] No such file or directory: '{path}'"

    def hidden() -> None:
        Path("/tmp/secret place/file.txt").read_text()

    assert error(hidden)[1] == "[Errno 2] No such file or directory: '…/file.txt'"

    def imports() -> None:
        raise ImportError(f"cannot import name 'x' from 'pytest' ({pytest.__file__})")

    assert error(imports)[1] == "cannot import name 'x' from 'pytest' (…/__init__.py)"

    def windows() -> None:
        raise OSError(r"C:\Users\me\notes.txt is locked, and so is 'D:\my data\b.txt'")

    assert error(windows)[1] == "…/notes.txt is locked, and so is '…/b.txt'"

    def opens(path: str) -> None:
        raise OSError(f"cannot open {path}")

    assert error(opens, r"C:\Users\me\notes.txt")[1] == r"cannot open C:\Users\me\notes.txt"

    def none() -> None:
        raise ValueError("GET https://a.org/api/v1?x=/y/z failed: 3/4 km/h, and/or ./a/b ~/c \\d+\\w+")

    assert error(none)[1] == "GET https://a.org/api/v1?x=/y/z failed: 3/4 km/h, and/or ./a/b ~/c \\d+\\w+"


# -- where it runs -----------------------------------------------------------------------------------------------
def test_a_function_runs_in_a_thread_and_a_coroutine_on_a_loop_of_its_own() -> None:
    """Neither on the loop that asks, so that neither can hold it up. The coroutines share theirs from call to call."""

    async def coroutine() -> int:
        return id(asyncio.get_running_loop())

    def function() -> int:
        return threading.get_ident()

    async def main() -> None:
        workers = Workers()
        answers = [await perform(tool(f), asked(), workers) for f in (function, function, coroutine, coroutine)]
        got = [int(a.answer["value"]) for a in answers]
        assert threading.get_ident() not in got[:2]
        assert got[2] == got[3] != id(asyncio.get_running_loop())

    in_loop(main())


@pytest.mark.parametrize("how", ["lambda", "partial", "object", "method", "tool"])
def test_a_coroutine_is_awaited_however_it_comes(how: str) -> None:
    """Also one that a plain function returns."""

    async def double(n: int) -> int:
        await asyncio.sleep(0.001)
        return 2 * n

    class Doubles:
        async def __call__(self, n: int) -> int:
            return await double(n)

        async def method(self, n: int) -> int:
            return await double(n)

    made: Any = {
        "lambda": lambda n: double(n),
        "partial": functools.partial(double),
        "object": Doubles(),
        "method": Doubles().method,
        "tool": tool(double),
    }[how]
    assert value(made, 4) == 8


def test_calls_at_the_same_time() -> None:
    """64 functions wait for each other in as many threads; the threads are used again."""
    together = threading.Barrier(64)

    def meet() -> int:
        return together.wait(20)

    async def main() -> None:
        workers = Workers()
        for _ in range(2):
            answers = await asyncio.gather(*(perform(tool(meet), asked(), workers) for _ in range(64)))
            assert sorted(int(a.answer["value"]) for a in answers) == list(range(64))
        assert workers.busy == 0

    before = threading.active_count()
    in_loop(main())
    assert threading.active_count() - before <= 65


def test_a_function_that_does_not_return_is_left_alone() -> None:
    """Whoever waits may go; its thread counts as busy until it returns, whoever has gone."""
    release = threading.Event()

    async def main() -> None:
        workers = Workers()
        waiting = asyncio.ensure_future(perform(tool(release.wait, name="f"), asked(), workers))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert workers.busy == 1
        assert (await perform(tool(lambda: 1, name="g"), asked(), workers)).told == "1"
        release.set()
        while workers.busy:
            await asyncio.sleep(0.001)

    in_loop(main())


def test_a_coroutine_that_is_not_wanted_any_more_is_cancelled() -> None:
    """It hears of it as any coroutine does."""
    heard = threading.Event()

    async def f() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            heard.set()
            raise

    async def main() -> None:
        waiting = asyncio.ensure_future(perform(tool(f), asked(), Workers()))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    in_loop(main())
    assert heard.wait(10)


def test_a_coroutine_that_blocks_its_loop_holds_up_no_later_call() -> None:
    """Nor the loop that asks: another loop takes the blocked one's place."""
    release = threading.Event()

    async def blocks() -> None:
        release.wait(60)

    async def main() -> None:
        workers = Workers()
        waiting = asyncio.ensure_future(perform(tool(blocks), asked(), workers))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        async def f() -> int:
            return 1

        assert (await perform(tool(f), asked(), workers)).told == "1"

    in_loop(main())
    assert not release.is_set()
    release.set()


def test_a_task_of_a_tool_that_exits_ends_nothing_else() -> None:
    """SystemExit of a task goes through the loop that runs it, which goes on."""

    async def exits() -> str:
        async def leave() -> None:
            raise SystemExit(1)

        task = asyncio.ensure_future(leave())
        await asyncio.wait([task])
        return f"still here: {task.exception()!r}"

    assert value(exits) == "still here: SystemExit(1)"
    assert value(lambda: 1) == 1


def test_threads_with_nothing_to_do_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while; the next call has a new one."""
    from rlm_kernel.tools import workers as module

    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.01)

    async def main() -> None:
        workers = Workers()
        for _ in range(3):
            assert (await perform(tool(lambda: threading.get_ident(), name="f"), asked(), workers)).error == ""
            deadline = time.monotonic() + 10
            while any(t.name == "rlm-tool" for t in threading.enumerate()) and time.monotonic() < deadline:
                await asyncio.sleep(0.005)
            assert not [t for t in threading.enumerate() if t.name == "rlm-tool"]

    deadline = time.monotonic() + 10
    while any(t.name == "rlm-tool" for t in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.05)
    in_loop(main())


def test_a_tool_that_hangs_does_not_keep_the_process_from_ending() -> None:
    """Its thread is a daemon, and so is the loop of the coroutines."""
    import subprocess

    program = (
        "import asyncio, time\n"
        "from rlm_kernel.tools import Workers, perform, tool\n"
        "async def sleeps(): time.sleep(1000)\n"
        "async def main():\n"
        "    workers = Workers()\n"
        "    for f in (time.sleep, sleeps):\n"
        "        arguments = '{\"args\": [%s], \"kwargs\": {}}' % ('1000' if f is time.sleep else '')\n"
        "        try:\n"
        "            await asyncio.wait_for(perform(tool(f, name='f'), arguments, workers), 0.1)\n"
        "        except TimeoutError:\n"
        "            print('left alone')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split("\n")[:2], done.stderr) == (0, ["left alone"] * 2, "")


def test_the_limit_is_what_is_said() -> None:
    """As much as the limit may be returned."""
    assert value(lambda: "x" * (checked.MAX_CHARS - 2)) == "x" * (checked.MAX_CHARS - 2)
    assert error(lambda: "x" * (checked.MAX_CHARS - 1))[0] == "ValueError"
