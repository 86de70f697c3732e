"""What a call of a tool costs the code that makes it, beside a sub-call that is answered at once.

    python tests/benchmarks/tools.py

Both ride on the same channel, so what a tool takes more is its own: the way into a thread or onto the loop of the
coroutines and back, and the check of its arguments. 200 calls each, in turn, in one cell; five rounds.
"""

from __future__ import annotations

import json
import statistics

from rlm_kernel import RLM, ScriptedModel

CALLS, ROUNDS = 200, 5
CELL = f"""
import json, time
def timed(call):
    seconds = []
    for i in range({CALLS}):
        started = time.perf_counter()
        call(i)
        seconds.append(time.perf_counter() - started)
    return seconds
kinds = {{
    "llm_query": lambda i: llm_query("x"),
    "a function": lambda i: function(x=i),
    "a coroutine": lambda i: coroutine(x=i),
    "a function, 100 KB there and back": lambda i: echo(text),
}}
text = "x" * 100_000
took = {{name: [] for name in kinds}}
for _ in range({ROUNDS} + 1):
    for name, call in kinds.items():
        took[name].append(timed(call))
SUBMIT(json.dumps({{name: rounds[1:] for name, rounds in took.items()}}))
"""


def function(x: int) -> int:
    """Add one."""
    return x + 1


async def coroutine(x: int) -> int:
    """Add one."""
    return x + 1


def echo(text: str) -> str:
    """The same again."""
    return text


def main() -> None:
    """Print every figure, in ms."""
    model = ScriptedModel([f"```repl\n{CELL}\n```"], sub="y")
    options = {"model": model, "sub_model": model, "max_llm_calls": 100_000, "max_tool_calls": 100_000}
    with RLM("-> answer", tools=[function, coroutine, echo], **options) as rlm:
        took = json.loads(rlm("How long?").answer)
    base = statistics.median(x for seconds in took["llm_query"] for x in seconds)
    for name, rounds in took.items():
        medians = sorted(1000 * statistics.median(seconds) for seconds in rounds)
        middle = 1000 * statistics.median(x for seconds in rounds for x in seconds)
        print(
            f"{name}: {middle:.2f} ms a call (rounds {medians[0]:.2f} to {medians[-1]:.2f}), "
            f"{middle / 1000 / base:.2f} x llm_query (limit 0.5 ms)"
        )


if __name__ == "__main__":
    main()
