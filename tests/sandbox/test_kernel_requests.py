"""Large requests and answers through a real kernel: what a run may need gets through, what is too much is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlm_kernel.sandbox.guest import wire
from tests.sandbox.lab import Lab

TEN_MB = 10_000_000


def test_a_prompt_of_ten_megabytes(kernel: Lab) -> None:
    """Of lines, quotes and other letters too: it arrives as it is, and so does as long a reply."""
    ran = kernel.run(f"p = ('é\\n\"x' * {TEN_MB // 4})\nprint(llm_query(p) == p.upper())")

    assert (ran.status, ran.text()) == ("ok", "True\n")


def test_ten_thousand_prompts_at_once(kernel: Lab) -> None:
    """One message takes them all, and one their replies."""
    ran = kernel.run(
        "replies = llm_batch([f'{i:05d} ' + 'é' * 2000 for i in range(10_000)])\nprint(len(replies), replies[9999][:6])"
    )

    assert (ran.status, ran.text()) == ("ok", "10000 09999 \n")
    assert [len(params["prompts"]) for _, params in kernel.asked] == [10_000]


def test_many_threads_with_long_prompts(kernel: Lab) -> None:
    """Together they are more than one message may hold: they go in several."""
    ran = kernel.run(
        "from concurrent.futures import ThreadPoolExecutor\n"
        f"with ThreadPoolExecutor(16) as pool:\n"
        f"    replies = list(pool.map(llm_query, [chr(97 + i) * {TEN_MB} for i in range(16)]))\n"
        "print([(r[0], len(r)) for r in replies])"
    )

    assert (ran.status, ran.text()) == ("ok", f"{[(chr(65 + i), TEN_MB) for i in range(16)]}\n")


def test_an_answer_of_tens_of_megabytes(kernel: Lab) -> None:
    """Bytes, a table and text; one that is too large is refused in words, and the next one is taken."""
    given: list[Any] = []

    async def take(method: str, params: Mapping[str, Any]) -> Any:
        given.append({name: wire.decode(value) for name, value in params["fields"].items()})

    kernel.answer = take
    assert kernel.run("SUBMIT(a=b'x' * 60_000_000)").status == "ok"
    assert (
        kernel.run("import pandas as pd\nSUBMIT(a=pd.DataFrame({'n': range(5_000_000)}), b='é' * 10**7)").status == "ok"
    )
    refused = kernel.run("SUBMIT(a=b'x' * 100_000_000)").text("error")
    refused += kernel.run("SUBMIT(a=['x' * 10**7] * 11)").text("error")
    assert kernel.run("SUBMIT(a=1)").status == "ok"

    assert given[0] == {"a": b"x" * 60_000_000}
    assert given[1]["a"]["n"].sum() == sum(range(5_000_000))
    assert given[1]["b"] == "é" * 10**7
    assert given[2:] == [{"a": 1}]
    assert "100,000,000 bytes are more than the 67,108,864 that may be sent" in refused
    assert "105 MB are more than the 96 MB that may be sent at once: send less" in refused
