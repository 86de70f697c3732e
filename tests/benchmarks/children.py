"""What child runs cost: their start beside a fresh kernel's, the memory of each, and fifty of them beside the ideal.

    python tests/benchmarks/children.py [start] [memory] [fifty]

Nothing is asserted; each figure stands beside its limit. The model is scripted.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from rlm_kernel.models import ScriptedModel
from rlm_kernel.rlm import RLM
from rlm_kernel.sandbox.base import ignore, nobody
from rlm_kernel.sandbox.kernel import KernelSandbox
from rlm_kernel.sandbox.launch import KernelProcess
from tests.helpers import code

ROUNDS = 9
CHILDREN, AT_ONCE, MODEL_SECONDS = 50, 16, 1.0


async def first_cell(sandbox: KernelSandbox) -> float:
    """Seconds from nothing to the end of a first cell."""
    begun = time.perf_counter()
    await sandbox.start(nobody)
    await sandbox.execute("print(1)", ignore)
    return time.perf_counter() - begun


async def bench_start() -> None:
    """In turn, in the same run; the parent holds pandas and 100 MB."""
    fresh, born = [], []
    parent = KernelSandbox()
    await parent.put({"text": "x" * 100_000_000})
    await parent.start(nobody)
    await parent.execute("import pandas", ignore)
    for _ in range(ROUNDS):
        other = KernelSandbox()
        fresh.append(await first_cell(other))
        await other.shutdown()
        child = await parent.spawn()
        born.append(await first_cell(child))
        await child.shutdown()
    await parent.shutdown()
    a, b = statistics.median(born), statistics.median(fresh)
    print(
        f"start to first cell: child {a * 1000:.0f} ms, fresh kernel {b * 1000:.0f} ms, ratio {a / b:.2f} (limit 0.4)"
    )


async def bench_memory() -> None:
    """Of each further child, beside what it shares with its parent: proportional and private."""
    parent = KernelSandbox()
    await parent.put({"text": "x" * 100_000_000})
    await parent.start(nobody)
    await parent.execute("import pandas", ignore)
    children = []

    def used() -> tuple[float, float]:
        assert isinstance(parent._process, KernelProcess)
        assert parent._process.own is not None
        family = psutil.Process(parent._process.own.pid).children(recursive=True)
        full = []
        for process in family:
            with contextlib.suppress(psutil.Error):  # a copy on its way out
                full.append(process.memory_full_info())
        return sum(m.pss for m in full) / 2**20, sum(m.uss for m in full) / 2**20

    await asyncio.sleep(0.5)
    before = used()
    for _ in range(10):
        child = await parent.spawn()
        await first_cell(child)
        children.append(child)
    after = used()
    for child in children:
        await child.shutdown()
    await parent.shutdown()
    pss, uss = ((y - x) / len(children) for x, y in zip(before, after, strict=True))
    print(f"memory of a further child: {pss:.1f} MB (proportional), {uss:.1f} MB private; a fresh kernel has about 60")


def bench_fifty() -> None:
    """Fifty children of two turns, the model takes a second each; sixteen at once."""
    ask = f"r = rlm_batch([{{'prompt': '?', 'n': n}} for n in range({CHILDREN})], outputs='n: int')\nprint(sum(r))"
    script: list[Any] = [code("import pandas"), code(ask), code("SUBMIT('done')")]
    root = ScriptedModel(script)

    class Slow(ScriptedModel):
        async def complete(self, request: Any, on_delta: Any = None) -> Any:
            await asyncio.sleep(MODEL_SECONDS)
            last = request.messages[-1].content
            self._replies = (code("m = n * n") if "run 1." in last else code("SUBMIT(n=m)"),)
            self._answered = 0
            return await super().complete(request, on_delta)

    with RLM("-> answer: str", model=root, sub_model=Slow([], name="slow"), max_children=AT_ONCE) as rlm:
        result = rlm("go")
    cell = result.trajectory.cells[1]
    assert cell.text() == f"{sum(n * n for n in range(CHILDREN))}\n", cell.text()
    ideal = -(-CHILDREN // AT_ONCE) * 2 * MODEL_SECONDS
    print(
        f"{CHILDREN} children of two turns, a model of {MODEL_SECONDS:g} s, {AT_ONCE} at once: {cell.seconds:.2f} s, "
        f"ideal {ideal:g} s, ratio {cell.seconds / ideal:.2f} (limit 1.3)"
    )


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["start", "memory", "fifty"]
    if "start" in wanted:
        asyncio.run(bench_start())
    if "memory" in wanted:
        asyncio.run(bench_memory())
    if "fifty" in wanted:
        bench_fifty()
