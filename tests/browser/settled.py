"""A notebook that was run elsewhere: an answer with all that a run can hold, a stopped and a failed run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat

from tests.notebook.book import SETUP, environment

__all__ = ["RUNS", "html", "in_order", "write"]

PICTURE = r"""
import base64, struct, zlib
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
rows = zlib.compress(b"".join(b"\0" + b"\x2f\x9e\x73" * 40 for _ in range(30)))
png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 30, 8, 2, 0, 0, 0)) + chunk(b"IDAT", rows)
png += chunk(b"IEND", b"")
display({"image/png": base64.b64encode(png).decode(), "text/plain": "<Figure of hours>"}, raw=True)
"""
SCRIPT = f"""
import pandas as pd
from rlm_kernel import Completion, ModelError
from rlm_kernel.models import base
PICTURE = {PICTURE!r}
tickets = pd.DataFrame({{"kind": ["bug", "question", "bug"], "hours": [5.5, 0.5, 9.25]}})
def sub(prompt):
    if "third" in prompt:
        raise ModelError("overloaded")
    return f"It is about {{prompt.split()[-1]}}."
"""
ANSWERED = [
    """I look at the *hours* first, they are in `tickets`:

```repl
by_kind = tickets.groupby("kind", as_index=False)["hours"].mean()
display(by_kind)
print("the longest took", tickets["hours"].max(), "hours")
print("\\n![pixel](https://rlm.invalid/p.png)\\n\\n# no heading")
```
""",
    "```repl\n{PICTURE}\n```",
    "```repl\ntickets['hour'].max()\n```",
    """Now I have them read.

```repl
read = llm_batch(["Read the first: shipping", "Read the second: billing", "Read the third: returns"])
```
""",
    """One failed, I go on without it.

```repl
said = "Bugs take **longest**:\\n\\n- shipping\\n- billing"
SUBMIT(summary=said, table=by_kind, score=0.75, kinds=["bug", "question"])
```
""",
]
CELLS = [
    SETUP,
    SCRIPT,
    f"script(*[base.Completion(t.replace('{{PICTURE}}', PICTURE), 'scripted') for t in {ANSWERED!r}], sub=sub)",
    "%%rlm tickets -> summary: str, table: DataFrame, score: float, kinds: list[str]\nWhich kind takes longest?",
    "script('found = 7\\nprint(found)', 'print(found + 1)')",
    "%%rlm tickets -> n: int --max-iterations 1 --fresh\nHow many were reopened?",
    "script('hours = tickets.hours', ModelError('the service is overloaded'))",
    "%%rlm tickets -> n: int\nWho wrote most of them?",
]
RUNS = {
    3: [
        "Which kind takes longest?", "Answered", "5 iterations", "3 sub-calls", "summary", "Bugs take longest:",
        "shipping", "billing", "table", "kind", "hours", "bug", "7.375", "question", "0.5", "score", "0.75", "kinds",
        "1", "I look at the hours first", "by_kind = tickets.groupby", "bug", "7.375", "the longest took 9.25 hours",
        "![pixel]", "# no heading", "2", "1 picture", "import base64", "3", "KeyError: 'hour'", "tickets['hour'].max()",
        "KeyError: 'hour'", "4", "Now I have them read.", "read = llm_batch", "1 of 3 calls failed",
        "Read the first: shipping", "It is about shipping.", "Read the third: returns", "✗ overloaded",
        "5", "One failed, I go on without it.", "SUBMIT(",
    ],
    5: [
        "How many were reopened?", "Stopped at the limit of 1 iteration", "no valid answer was given", "found = 7", "7",
        "2", "print(found + 1)", "8",
    ],
    7: [
        "Who wrote most of them?", "Failed", "the service is overloaded", "1", "hours = tickets.hours", "2", "no reply",
        "unfinished", "no reply",
    ],
}  # fmt: skip
"""By the number of the cell: what is to be read of its run, in this order."""


def write(folder: Path, **environ: str) -> Path:
    """Have a program run the notebook; its folder is that of somebody else, so nobody here trusts it."""
    path = folder / "book.ipynb"
    book: Any = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "python3", "language": "python"}
    book.cells = [nbformat.v4.new_code_cell(source) for source in CELLS]  # type: ignore[no-untyped-call]
    nbformat.write(book, path)  # type: ignore[no-untyped-call]
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", "--allow-errors", str(path)]
    done = subprocess.run(
        command, env=environment(folder, **environ), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return path


def outputs(path: Path, number: int) -> list[dict[str, Any]]:
    """What a cell has put out, as it is saved."""
    book: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    return list(book.cells[number].outputs)


def html(path: Path, number: int) -> str:
    """The page that a cell's run has left in the notebook."""
    return str(next(o["data"]["text/html"] for o in outputs(path, number) if "text/html" in o.get("data", {})))


def in_order(text: str, parts: list[str]) -> list[str]:
    """The parts that do not follow one another in the text; none when all is there."""
    text, at, missing = " ".join(text.split()), 0, []
    for part in parts:
        found = text.find(part, at)
        if found < 0:
            missing.append(part)
        else:
            at = found + len(part)
    return missing
