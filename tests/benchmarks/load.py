"""Many sub-calls in one batch: how near to the ideal they come, and what memory the notebook's process needs for them.

    python tests/benchmarks/load.py [CALLS] [AT_ONCE] [MILLISECONDS]

Without arguments 5,000 calls of 50 ms at 64 at a time, which ideally take 3.95 s. Nothing is asserted; each figure
stands beside its limit.
"""

from __future__ import annotations

import math
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

import asyncio

from rlm_kernel import RLM, Completion, Request, Usage
from rlm_kernel.sandbox.fake import FakeSandbox

ROUNDS = 3
MB = 2**20


class Timed:
    """A model whose sub-calls take as long as they are told to, and cost nothing to answer."""

    name = "claude-haiku-5-5"
    max_tokens = 256

    def __init__(self, calls: int, seconds: float) -> None:
        self._calls, self._seconds = calls, seconds
        self.took = 0.0

    async def complete(self, request: Request, on_delta: Any = None) -> Completion:
        """Write the one cell there is, or answer after a while."""
        if request.kind == "root":
            block = (
                "import time\n"
                f"prompts = [f'{{n}}: ' + 'Is this ticket about billing? ' * 20 for n in range({self._calls})]\n"
                "begun = time.monotonic()\nreplies = llm_batch(prompts)\ntook = time.monotonic() - begun\n"
                "SUBMIT(took=took, right=sum(r.startswith(f'{n}:') for n, r in enumerate(replies)))"
            )
            return Completion(f"```repl\n{block}\n```", self.name, Usage(1_000, 100))
        await asyncio.sleep(self._seconds)
        prompt = request.messages[0].content
        return Completion(f"{prompt.partition(' ')[0]} yes", self.name, Usage(150, 5))

    async def close(self) -> None:
        """Nothing to release."""


@contextmanager
def peak() -> Iterator[list[float]]:
    """The most memory of its own that this process has meanwhile, above what it has now, in MB."""
    process, over, most = psutil.Process(), threading.Event(), [0.0]
    idle = process.memory_info().rss

    def watch() -> None:
        while not over.wait(0.02):
            most[0] = max(most[0], (process.memory_info().rss - idle) / MB)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()


def bench(what: str, calls: int, at_once: int, seconds: float, **options: Any) -> None:
    """One batch after another, each in a run of its own; the first round warms up."""
    ideal = math.ceil(calls / at_once) * seconds
    took, memory, host = [], [], []
    for number in range(ROUNDS + 1):
        model = Timed(calls, seconds)
        with RLM(
            "-> took: float, right: int",
            model=model,
            sub_model=model,
            max_llm_calls=calls,
            max_concurrency=at_once,
            **options,
        ) as rlm:
            rlm.start()
            used = time.process_time()
            with peak() as most:
                result = rlm("How many?")
            assert result.right == calls, result
        memory.append(most[0])
        if number:
            took.append(result.took)
            host.append(time.process_time() - used)
    ratio = statistics.median(took) / ideal
    print(
        f"{what:36} {statistics.median(took):6.2f} s   ideal {ideal:.2f} s   ratio {ratio:.3f} (limit 1.15)   "
        f"host +{max(memory):.0f} MB (limit 200), {statistics.median(host) / calls * 1e6:.0f} us of processor a call"
    )


def alone(calls: int, at_once: int, seconds: float) -> None:
    """What asyncio by itself makes of it on this machine, at this moment."""

    async def work() -> float:
        slots, begun = asyncio.Semaphore(at_once), time.monotonic()

        async def one() -> None:
            async with slots:
                await asyncio.sleep(seconds)

        await asyncio.gather(*(one() for _ in range(calls)))
        return time.monotonic() - begun

    took = statistics.median(asyncio.run(work()) for _ in range(ROUNDS))
    print(f"{'asyncio alone':36} {took:6.2f} s   ratio {took / (math.ceil(calls / at_once) * seconds):.3f}")


def main() -> None:
    """Print every figure."""
    calls, at_once, milliseconds = (int(word) for word in (*sys.argv[1:], *("5000", "64", "50")[len(sys.argv) - 1 :]))
    seconds = milliseconds / 1000
    alone(calls, at_once, seconds)
    bench("real kernel", calls, at_once, seconds)
    bench("real kernel, within a budget", calls, at_once, seconds, budget=5.0, max_tokens=20_000_000)
    bench("no kernel", calls, at_once, seconds, sandbox=FakeSandbox())


if __name__ == "__main__":
    main()
