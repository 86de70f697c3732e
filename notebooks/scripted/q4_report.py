"""The replies of `02_q4_report.ipynb`, written by hand in a capable model's place; see `build.py`.

Five turns, as in a typical run: explore, search, extract (with a slip that the next turn mends), verify, answer. Then one
reply to a direct call.
"""

from __future__ import annotations

import re

RUN = [
    """\
**Explore.** How long is the text, and how is it built?

```repl
lines = report.splitlines()
print(len(report), "characters,", len(lines), "lines")
print([line for line in lines if line.startswith("#")])
```""",
    """\
**Search.** The question turns on growth, so I look for every line that speaks of it.

```repl
import re
for line in lines:
    if re.search(r"grow|faster|fastest|year ago|earlier", line, re.I):
        print("-", line)
```""",
    """\
**Extract.** The only thing that is called fastest-growing is a region, not a segment, so its 15% is not the answer. I \
take the segments with their amounts and work out each share myself.

```repl
def section(title):
    return report.split(f"## {title}\\n")[1].split("\\n## ")[0].strip()

segments = re.findall(r"- ([\\w ]+): \\$([\\d.]+)[BM] \\((\\d+)%\\)", section("Revenue by segment"))
total = sum(float(amount) for _, amount, _ in segments)
for name, amount, stated in segments:
    print(name, f"{100 * float(amount) / total:.1f}% of all, the report says {stated}%")
```""",
    """\
**Verify.** My shares are wrong: I added billions to millions. With the units right they have to agree with the report. \
Which segment grows fastest is a matter of reading, so a sub-model gets the two sections that could tell.

```repl
unit = {"B": 1e9, "M": 1e6}
found = re.findall(r"- ([\\w ]+): \\$([\\d.]+)([BM]) \\((\\d+)%\\)", section("Revenue by segment"))
revenue = {name: float(amount) * unit[u] for name, amount, u, _ in found}
share = {name: 100 * amount / sum(revenue.values()) for name, amount in revenue.items()}
print(f"total ${sum(revenue.values()) / 1e9}B", share)

asked = (
    "Which segment grows fastest? Quote the words that you rely on.\\n"
    "If the excerpt does not say, reply NOT STATED and what comes nearest.\\n\\n"
    + section("Revenue by segment") + "\\n" + section("Outlook for 2025")
)
verdict = llm_query(asked)
print(verdict)
```""",
    """\
**Answer.** The shares agree now. The sub-model confirms what the search showed: no segment has a growth rate, and the \
outlook names AI first. I answer with that reading, say that it is one, and quote only lines that stand in the report.

```repl
evidence = [line for line in lines if line.startswith("- AI Products") or (line and line in verdict)]
print(evidence)
SUBMIT(
    answer=(
        f"{share['AI Products']:.0f}%, if AI Products ($800M) is the fastest-growing segment. The report gives no growth "
        "rate by segment; its outlook names the market for AI first among the sources of growth."
    ),
    percent=share["AI Products"],
    evidence=evidence,
)
```""",
]

DIRECT = """\
The report has no growth rate by segment. "Fastest-growing" is said of a region, Asia Pacific, and does not count here. \
The outlook names the market for AI first, so AI Products is the best reading: $800M, 32%.

```json
{
  "answer": "32%, if AI Products is the fastest-growing segment; the report does not say so, its outlook suggests it.",
  "percent": 32,
  "evidence": ["- AI Products: $800M (32%)"]
}
```"""

REPLIES = [*RUN, DIRECT]


def sub_model(prompt: str) -> str:
    """Stands for the sub-model: looks in the prompt for a segment's growth, else for what comes nearest."""
    excerpt = prompt.partition("\n\n")[2]
    segments = re.findall(r"^- ([\w ]+): \$", excerpt, re.MULTILINE)
    sentences = re.split(r"(?<=\.)\s+", excerpt)
    of_growth = [s for s in sentences if re.search(r"\bgr[eo]w", s, re.IGNORECASE)]
    rated = [(s, name) for s in of_growth for name in segments if name in s and "%" in s]
    if rated:
        return "\n".join(f'{name}: "{sentence}"' for sentence, name in rated)
    named = {name: place for s in of_growth for name in segments if (place := _place(name.split()[0], s)) >= 0}
    order = sorted(named, key=named.__getitem__)
    others = ", ".join(name for name in segments if name not in named) or "none"
    return (
        f"NOT STATED: the excerpt has no growth rate for {', '.join(segments)}.\n"
        f'Nearest: "{" ".join(of_growth)}"\n'
        f"In the order in which this names them: {', '.join(order)}; not named: {others}."
    )


def _place(word: str, sentence: str) -> int:
    found = re.search(rf"\b{word}\b", sentence, re.IGNORECASE)
    return found.start() if found else -1
