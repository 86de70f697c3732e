"""What the peers bench does not measure: transfer beside a plain copy of memory, and what the kernel's start costs.

    python tests/benchmarks/speed.py

Every figure is a ratio or a difference within this run; medians of five. Linux, about 8 GB of memory.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from rlm_kernel import RLM, Completion, KernelSandbox, ScriptedModel

ROUNDS = 5


async def refuse(_method: str, _params: object) -> None:
    raise NotImplementedError


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def transfer(name: str, value: object, copy: Callable[[], object], touch: str) -> None:
    """From `put` to a first cell that uses it, in a warm sandbox; what is mapped comes in when it is read."""
    loop = asyncio.new_event_loop()
    sandbox = KernelSandbox()
    loop.run_until_complete(sandbox.start(refuse))

    async def send() -> None:
        await sandbox.put({"value": value})
        await sandbox.start(refuse)
        result = await sandbox.execute(touch, lambda chunk: None)
        assert result.status == "ok", result

    ours, plain = [], []
    for _ in range(ROUNDS):
        plain.append(timed(copy))
        ours.append(timed(lambda: loop.run_until_complete(send())))
    loop.run_until_complete(sandbox.shutdown())
    loop.close()
    a, b = statistics.median(ours), statistics.median(plain)
    print(f"{name}: {a:.3f} s, a copy of the same bytes {b:.3f} s, ratio {a / b:.2f} (limit 2)")


def hidden_start() -> None:
    """A run whose first reply takes a second: the kernel starts meanwhile."""

    class Slow(ScriptedModel):
        async def complete(self, request, on_delta=None) -> Completion:  # type: ignore[no-untyped-def]
            await asyncio.sleep(1)
            return await super().complete(request, on_delta)

    seconds = []
    for _ in range(ROUNDS):
        model = Slow(["```repl\nSUBMIT(answer='done')\n```"])
        rlm = RLM("text -> answer", model=model, sub_model=model)
        started = time.perf_counter()
        rlm("What?", text="x")
        seconds.append(time.perf_counter() - started)
        rlm.close()
    print(f"a whole run whose one reply takes 1 s: {statistics.median(seconds):.3f} s")


def main() -> None:
    """Print every figure."""
    array = np.random.default_rng(0).random(125_000_000)
    transfer("ndarray, 1 GB", array, array.copy, "value.nbytes")
    frame = pd.DataFrame(np.random.default_rng(0).random((10_000_000, 4)), columns=list("abcd"))
    transfer("DataFrame, 320 MB", frame, frame.copy, "value.shape")
    hidden_start()


if __name__ == "__main__":
    main()
