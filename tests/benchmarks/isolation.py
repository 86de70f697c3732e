"""What isolation and checkpoints cost: `full` beside an unprotected kernel, in turn, in the same run.

    python tests/benchmarks/isolation.py [start] [cell] [data] [checkpoint] [iteration]

Nothing is asserted; each figure stands beside its limit.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from rlm_kernel.models import ScriptedModel
from rlm_kernel.rlm import RLM
from rlm_kernel.sandbox.isolation.policy import Limits
from rlm_kernel.sandbox.journal import Journal
from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.sandbox.lab import Lab, lab

LARGE = Limits(memory=8192)
LEVELS = ("full", "none")
TIMED = """
import time
app, took = get_ipython().kernel.parent, []
def timed(step, *, patient, made=app.checkpoint):
    begun = time.perf_counter()
    try:
        return made(step, patient=patient)
    finally:
        took.append(time.perf_counter() - begun)
app.checkpoint = timed
"""
WITHOUT_COPIES = "get_ipython().kernel.parent.checkpoint = lambda step, *, patient: True"


def seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def tell(what: str, full: list[float], none: list[float], limit: str) -> None:
    a, b = statistics.median(full), statistics.median(none)
    print(f"{what:44} full {a * 1000:8.2f} ms   none {b * 1000:8.2f} ms   ratio {a / b:.2f}   (limit {limit})")


def bench_start() -> None:
    """From nothing to the first cell's result."""
    taken: dict[str, list[float]] = {level: [] for level in LEVELS}
    for _ in range(9):
        for level in LEVELS:
            with lab(KernelSandbox(level=level)) as made:
                taken[level].append(seconds(lambda made=made: (made.start(), made.run("1"))))  # type: ignore[misc]  # now
    tell("start to first result", taken["full"], taken["none"], "1.15")


def bench_cell() -> None:
    """A cell that computes for a moment, and one that does nothing."""
    busy = "sum(i * i for i in range(300_000))"
    for what, code in (("a cell that does nothing", "x = 1"), ("a cell of about 20 ms", busy)):
        taken: dict[str, list[float]] = {level: [] for level in LEVELS}
        with lab(KernelSandbox(level="full")) as full, lab(KernelSandbox(level="none")) as none:
            full.start()
            none.start()
            for _ in range(60):
                for level, made in (("full", full), ("none", none)):
                    taken[level].append(seconds(lambda made=made, code=code: made.run(code)))  # type: ignore[misc]  # now
                    time.sleep(0.02)
        tell(what, taken["full"], taken["none"], "1.1")


def bench_data() -> None:
    """A text and an array of 1 GB into a warm sandbox."""
    for what, value in (("1 GB text", "x" * 10**9), ("1 GB array", np.ones(10**9 // 8))):
        taken: dict[str, list[float]] = {level: [] for level in LEVELS}
        for turn in range(6):
            for level in LEVELS[:: 1 if turn % 2 else -1]:  # what the disk still has to write slows the next one
                with lab(KernelSandbox(level=level, limits=LARGE)) as made:
                    made.start()
                    taken[level].append(seconds(lambda made=made, value=value: made.put(x=value)))  # type: ignore[misc]  # now
        tell(what, taken["full"], taken["none"], "1.1")


def bench_checkpoint() -> None:
    """A copy with 1 GB of state, and a resume from it to its first result."""
    for what, code in (
        ("little", "x = 1"),
        ("array of 1 GB", "import numpy as np; x = np.ones(125_000_000)"),
        ("text of 1 GB", "x = 'x' * 10**9"),
    ):
        with lab(Journal(KernelSandbox(limits=LARGE))) as made:
            made.start()
            made.run(code)
            made.run(TIMED)
            for i in range(20):
                made.run(f"y = {i}")
                time.sleep(0.05)
            taken = [float(x) for x in made.run("print(*took)").text().split()]
            resumed = [_resume(made) for _ in range(7)]
        print(
            f"checkpoint, {what:20} median {statistics.median(taken) * 1000:6.2f} ms (limit 10)   "
            f"resume to first result {statistics.median(resumed) * 1000:6.1f} ms (limit 250)"
        )


def _resume(made: Lab) -> float:
    made.run("import os; os._exit(1)")
    return seconds(lambda: (made.wait(made.sandbox.recover()), made.run("1")))


def bench_iteration() -> None:
    """Iterations of a whole run, with copies and without, for a model that answers at once or after a while."""
    for delay, count in ((0.0, 60), (0.05, 30)):
        taken: dict[str, list[float]] = {"with": [], "without": []}
        for _ in range(5):
            for name, times in taken.items():
                first = WITHOUT_COPIES if name == "without" else "x = 1"
                replies = [first, *["x = 1"] * count, "SUBMIT(1)"]
                model = ScriptedModel([f"```repl\n{code}\n```" for code in replies], delay=delay)
                rlm = RLM("-> n: int", model=model, sub_model=model, max_iterations=len(replies))
                rlm.start()
                times.append(seconds(lambda rlm=rlm: rlm("?")) / len(replies))  # type: ignore[misc]  # now
                rlm.close()
        with_copies, without = (statistics.median(taken[name]) * 1000 for name in ("with", "without"))
        print(
            f"an iteration, the model takes {delay:g} s: with copies {with_copies:.2f} ms, without {without:.2f} ms, "
            f"ratio {with_copies / without:.2f} (limit 1.15)"
        )


BENCHES = {
    "start": bench_start,
    "cell": bench_cell,
    "data": bench_data,
    "checkpoint": bench_checkpoint,
    "iteration": bench_iteration,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHES:
        BENCHES[name]()
