"""Large batches of sub-calls: in order, in part failed, stopped in the middle. And what else may be asked too much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel import RLM, Completion, FakeSandbox, KernelSandbox, ModelError, Request, ScriptedModel, Usage
from rlm_kernel import events as ev
from rlm_kernel.calls import Calls, kept
from rlm_kernel.calls.kept import KeptReplies
from rlm_kernel.calls.submodels import MAX_PROMPT_CHARS
from rlm_kernel.sandbox.isolation.policy import Limits
from tests.helpers import Played, code, end, play, with_calls

MANY = 5_000
BATCH = f"r = llm_batch([f'prompt {{n}}' for n in range({MANY})])"


class Held:
    """A sub-model that answers so many calls, and then no more until it is let go."""

    def __init__(self, answered: int) -> None:
        self.asked: list[str] = []
        self.answered, self._left = answered, answered

    async def __call__(self, prompt: str) -> str:
        self.asked.append(prompt)
        if self._left <= 0:
            await asyncio.Event().wait()
        self._left -= 1
        return f"{prompt}!"

    def let_go(self) -> None:
        self._left = 10**9


def unheld(held: Held) -> Callable[[Any, ev.Event], None]:
    """Lets it go once the first cell has ended."""

    def on(run: Any, event: ev.Event) -> None:
        if isinstance(event, ev.CellFinished):
            held.let_go()

    return on


def outcome(played: Played) -> tuple[str, dict[str, Any]]:
    assert played.error is None
    return played.trajectory.stop_reason, played.trajectory.values


@pytest.fixture(params=["fake", "kernel"])
def sandbox(request: pytest.FixtureRequest) -> Any:
    """Without a kernel, and with one."""
    return None if request.param == "fake" else KernelSandbox()


def ended(played: Played) -> None:
    if isinstance(played.sandbox, KernelSandbox):
        end(played)


# -- many ---------------------------------------------------------------------------------------------------------
def test_thousands_of_replies_come_in_their_order_and_tell_of_themselves(sandbox: Any) -> None:
    """Each has its start and its end among the events; those that fail stand in their place, the others are kept."""

    async def sub(prompt: str) -> str:
        number = int(prompt.split()[1])
        for _ in range(number % 7):
            await asyncio.sleep(0)
        if number % 1000 == 999:
            raise ModelError(f"failed {number}")
        return f"{number}!"

    check = (
        f"wrong = [n for n in range({MANY}) if n % 1000 != 999 and r[n] != f'{{n}}!']\n"
        "SUBMIT(wrong=wrong, failed=[[n, str(x)] for n, x in enumerate(r) if isinstance(x, SubcallError)])"
    )
    played = play([code(BATCH, check)], "-> wrong: list, failed: list", sub=sub, sandbox=sandbox, max_llm_calls=MANY)
    failed = [[n, f"failed {n}"] for n in range(999, MANY, 1000)]
    assert outcome(played) == ("answered", {"wrong": [], "failed": failed})
    assert played.kinds.count("SubcallStarted") == played.kinds.count("SubcallFinished") == MANY
    most = now = 0
    for kind in played.kinds:
        now += {"SubcallStarted": 1, "SubcallFinished": -1}.get(kind, 0)
        most = max(most, now)
    assert most == 64
    ended(played)


# -- stopped in the middle ----------------------------------------------------------------------------------------
def test_what_had_come_when_a_batch_was_stopped_is_not_asked_again(sandbox: Any) -> None:
    """The model is told, asks the same again, and gets it at once; only the rest is asked, and each is charged once."""
    held = Held(600)
    batch = "r = llm_batch([f'prompt {n}' for n in range(1000)])"
    retry = code(batch, "SUBMIT(n=sum(r[n] == f'prompt {n}!' for n in range(1000)))")
    played = play(
        [code(batch), retry],
        "-> n: int",
        sub=held,
        sandbox=sandbox,
        on=unheld(held),
        cell_timeout=4.0,
        max_llm_calls=1064,
    )
    assert outcome(played) == ("answered", {"n": 1000})
    assert "600 replies of sub-models had come: ask the same prompts again" in played.told[1]
    assert "[left: 400 of 1,064 sub-calls]" in played.told[1]
    assert len(held.asked) == 1064
    stopped = [s for s in played.trajectory.cells[0].subcalls if s.error]
    assert {s.error for s in stopped} == {"cancelled: its cell was stopped"}
    assert len(stopped) == 64
    ended(played)


def test_what_had_come_when_a_kernel_died_is_not_asked_again() -> None:
    """Its variables are gone, so it is as if nobody had heard it."""
    asked: list[str] = []

    def sub(prompt: str) -> str:
        asked.append(prompt)
        return prompt.upper()

    lost = "r = llm_batch(['a', 'b'])\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    played = play(
        [code(lost), code("SUBMIT(answer=''.join(llm_batch(['b', 'c', 'a'])))")],
        sub=sub,
        sandbox=KernelSandbox(),
        max_llm_calls=3,
    )
    end(played)
    assert outcome(played) == ("answered", {"answer": "BCA"})
    assert sorted(asked) == ["a", "b", "c"]
    assert "2 replies of sub-models had come" in played.told[1]


@pytest.mark.parametrize(
    ("options", "between", "asked"),
    [
        ({}, lambda rlm: None, ["a", "b", "c", "c"]),
        ({"record": "r.json"}, lambda rlm: None, ["a", "b", "c", "c", "b", "a"]),
        ({}, lambda rlm: rlm.reset(), ["a", "b", "c", "c", "b", "a"]),
    ],
    ids=["kept", "recorded", "reset"],
)
def test_the_next_question_has_them_too(
    tmp_path: Path, options: dict[str, Any], between: Callable[[RLM], None], asked: list[str]
) -> None:
    """Whoever stops a run in a batch asks the same again. Not so if a recording has to hold it, or after a reset."""
    held = Held(2)
    replies = [code("r = llm_batch(['a', 'b', 'c'])"), code("SUBMIT(llm_batch(['c', 'b', 'a']))")]
    model = ScriptedModel(replies, sub=held)

    def on_event(event: ev.Event) -> None:
        if isinstance(event, ev.SubcallFinished) and event.reply == "b!":
            rlm.interrupt()

    options = {name: str(tmp_path / value) for name, value in options.items()}
    with RLM("-> r: list", model=model, sub_model=model, sandbox=FakeSandbox(), on_event=on_event, **options) as rlm:
        assert rlm("What?").stop_reason == "interrupted"
        held.let_go()
        between(rlm)
        assert rlm("What?").r == ["c!", "b!", "a!"]
    assert held.asked == asked


def test_a_reply_is_given_again_once() -> None:
    """After that the model is asked, which may say something else."""
    held = Held(1)
    again = "SUBMIT([llm_query('a'), llm_query('a')])"
    played = play(
        [code("llm_batch(['a', 'b'])"), code(again)], "-> r: list", sub=held, on=unheld(held), cell_timeout=0.5
    )
    assert outcome(played) == ("answered", {"r": ["a!", "a!"]})
    assert held.asked == ["a", "b", "a"]


def test_a_block_that_ended_by_itself_keeps_nothing() -> None:
    """Its code had the replies; who asks the same again wants another one."""
    held = Held(9)
    played = play([code("llm_query('a')\n1 / 0"), code("SUBMIT(llm_query('a'))")], sub=held)
    assert outcome(played) == ("answered", {"answer": "a!"})
    assert held.asked == ["a", "a"]


def test_a_refused_batch_leaves_what_is_kept() -> None:
    """It asked for more than is left, and for what is kept as well."""

    async def work(run: Calls) -> Any:
        run.standing.tree.kept.put("scripted", "a", "known")
        with pytest.raises(Exception, match="2 sub-calls were asked for but 1 of 1 are left"):
            await run("llm_batch", {"prompts": ["a", "b", "c"]})
        return await run("llm_batch", {"prompts": ["a", "b"]})

    answer, emitted = with_calls(work, max_llm_calls=1)
    assert answer == [{"text": "known"}, {"text": "B"}]
    assert [f["cost"] for kind, f in emitted if kind == "SubcallFinished" and f["reply"] == "known"] == [0.0]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes first."""
    monkeypatch.setattr(kept, "MOST_CHARS", 10)
    store = KeptReplies()
    for name in "abc":
        store.put("m", name, name * 4)
    assert [store.take("m", name) for name in "abc"] == [None, "bbbb", "cccc"]
    assert store._chars == 0


def test_calls_that_were_not_made_are_not_charged() -> None:
    """A batch that is stopped gives back what it did not use."""

    async def work(run: Calls) -> int:
        task = asyncio.ensure_future(run("llm_batch", {"prompts": ["p"] * 100}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return run.standing.ledger.subcalls

    class Slow:
        name = "slow"

        async def complete(self, request: Request, on_delta: Any = None) -> Completion:
            await asyncio.Event().wait()
            return Completion("", "slow", Usage())

        async def close(self) -> None: ...

    assert with_calls(work, model=Slow(), max_llm_calls=100, max_concurrency=7)[0] == 7
    unused = with_calls(lambda run: _never_begun(run), model=Slow(), max_llm_calls=100)
    assert unused[0] == 0


async def _never_begun(run: Calls) -> int:
    task = asyncio.ensure_future(run("llm_batch", {"prompts": ["p"] * 100}))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return run.standing.ledger.subcalls


# -- too much -----------------------------------------------------------------------------------------------------
THREADS = """\
import threading
replies, failed = {}, []
def ask(n):
    try:
        replies[n] = llm_query(f"{n}")
    except BaseException as error:
        failed.append(str(error))
threads = []
for n in range(1000):
    thread = threading.Thread(target=ask, args=(n,))
    try:
        thread.start()
    except RuntimeError as error:
        failed.append(str(error))
        break
    threads.append(thread)
for thread in threads:
    thread.join()
"""


def test_a_thousand_threads_ask() -> None:
    """Each gets its own reply, if the sandbox may have as many; else Python says why, and the run goes on."""
    check = "SUBMIT(right=sum(replies.get(n) == f'{n}!' for n in range(1000)), failed=failed)"
    more = play(
        [code(THREADS, check)],
        "-> right: int, failed: list",
        sub=lambda prompt: f"{prompt}!",
        sandbox=KernelSandbox(limits=Limits(processes=1200, memory=16_384)),  # 8 MB of address space each
        max_llm_calls=1000,
    )
    end(more)
    assert outcome(more) == ("answered", {"right": 1000, "failed": []})


def test_threads_beyond_the_limit_fail_in_the_code() -> None:
    """Python says so where the next one is started; those that are there get their replies."""
    sandbox = KernelSandbox(limits=Limits(processes=64))
    check = "SUBMIT(right=len(replies) == len(threads), failed=failed)"
    fewer = play(
        [code(THREADS, check)], "-> right: bool, failed: list", sub=str.upper, sandbox=sandbox, max_llm_calls=1000
    )
    end(fewer)
    assert outcome(fewer) == ("answered", {"right": True, "failed": ["can't start new thread"]})


def test_a_prompt_of_fifty_megabytes_is_refused_and_told() -> None:
    """No model could read it; the code is told so in a line, and nothing was charged or lost."""
    big = (
        "kept = 'still here'\n"
        "try:\n    llm_query('x' * (50 * 2**20))\nexcept SubcallError as e:\n    said = str(e)\n"
        "try:\n    llm_batch(['small', 'x' * (100 * 2**20)])\nexcept SubcallError as e:\n    more = str(e)\n"
        "SUBMIT([said, more, kept, llm_query('ok')])"
    )
    played = play([code(big)], "-> r: list", sub=str.upper, sandbox=KernelSandbox(), max_llm_calls=1)
    end(played)
    said, more, *rest = outcome(played)[1]["r"]
    assert MAX_PROMPT_CHARS < 50 * 2**20
    assert said == "a prompt of 52,428,800 characters is too long for any model: send a slice"
    assert more == "101 MB are more than the 96 MB that may be sent at once: send less"
    assert rest == ["still here", "OK"]
