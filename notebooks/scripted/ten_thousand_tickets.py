"""The replies of `03_ten_thousand_tickets.ipynb`, written by hand in a capable model's place; see `build.py`.

Three questions: averages by category (with an error that the next turn mends), a follow-up on what the sandbox still
holds, and one that has to be answered at a limit. No sub-call: what can be counted is counted by code.
"""

from __future__ import annotations

AVERAGES = [
    """\
A long JSON text. I parse it and look at one record, and at the values that each field takes.

```repl
import json
from collections import Counter

data = json.loads(tickets)
print(len(data), "tickets;", data[0])
for field in ("status", "priority", "category"):
    print(field, dict(Counter(t[field] for t in data)))
```""",
    """\
Clean categories. Now the critical tickets by category, and the average of `resolution_hours` in each.

```repl
groups = {}
for t in data:
    if t["priority"] == "critical":
        groups.setdefault(t["category"], []).append(t)
for name, group in groups.items():
    print(name, len(group), sum(t["resolution_hours"] for t in group) / len(group))
```""",
    """\
Some tickets have no `resolution_hours`. Before I leave them out I want to know what they are: open ones only?

```repl
critical = [t for group in groups.values() for t in group]
missing = Counter(t["status"] for t in critical if t["resolution_hours"] is None)
for status, n in Counter(t["status"] for t in critical).items():
    print(f"{status}: {n} critical tickets, {missing[status]} without hours ({missing[status] / n:.0%})")
print("other fields that may be empty:", [k for k in data[0] if any(t[k] in (None, "") for t in data)])
```""",
    """\
Hours are missing in about three of ten, whatever the status, so the status does not tell which tickets are resolved. I average \
over those that have hours and say so. A ranking needs the spread as well: with each mean I give its standard error.

```repl
from statistics import mean, median, stdev
import pandas as pd

hours = {c: [t["resolution_hours"] for t in g if t["resolution_hours"] is not None] for c, g in groups.items()}
by_category = pd.DataFrame(
    {
        "category": c,
        "critical": len(groups[c]),
        "with_hours": len(h),
        "mean_hours": round(mean(h), 2),
        "median_hours": median(h),
        "standard_error": round(stdev(h) / len(h) ** 0.5, 2),
    }
    for c, h in hours.items()
).sort_values("mean_hours", ascending=False, ignore_index=True)
print(by_category.to_string())
```""",
    """\
I check the means by another way, then answer. How large is the gap between first and last, \
measured by its own error?

```repl
import math

frame = pd.DataFrame(data)
again = frame[frame["priority"] == "critical"].groupby("category")["resolution_hours"].mean().round(2)
assert again.to_dict() == dict(zip(by_category["category"], by_category["mean_hours"]))

worst, best = by_category.iloc[0], by_category.iloc[-1]
gap = round(worst["mean_hours"] - best["mean_hours"], 2)
error = round(math.sqrt(worst["standard_error"] ** 2 + best["standard_error"] ** 2), 2)
print(f"gap {gap} h, standard error of the gap {error} h")
listed = ", ".join(f"{r.category} {r.mean_hours} h" for r in by_category.itertuples())
SUBMIT(
    answer=(
        f"Critical tickets take on average: {listed}. {worst['category'].capitalize()} is slowest, "
        f"but only {gap} h behind the fastest, with a standard error of {error} h: no ground for a ranking."
    ),
    methodology=(
        f"Parsed all {len(data):,} tickets, kept the {len(critical):,} critical ones, grouped them by "
        f"category. Means over the {sum(map(len, hours.values())):,} that have resolution_hours; the others "
        "were left out, not counted as zero. Status was ignored: hours are missing about as often in all "
        "three. There is no field for the first response, so 'response time' was read as resolution time. "
        "The means were computed twice, in plain Python and with pandas."
    ),
    by_category=by_category,
)
```""",
]

CHANCE = [
    """\
Nothing was handed over, so I look at what the first question left behind.

```repl
SHOW_VARS()
```""",
    """\
`hours` has the values of each category. If the category did not matter, its labels could be shuffled among the tickets. I do \
that 1,000 times and count how often the gap between slowest and fastest gets as large as the real one.

```repl
import random

pool = [h for group in hours.values() for h in group]
sizes = [len(group) for group in hours.values()]

def spread(values):
    means, start = [], 0
    for n in sizes:
        means.append(sum(values[start : start + n]) / n)
        start += n
    return max(means) - min(means)

def by_chance(rounds, seed=0):
    rng = random.Random(seed)
    return [spread(rng.sample(pool, len(pool))) for _ in range(rounds)]

real = spread(pool)
shuffled = by_chance(1_000)
as_large = sum(g >= real for g in shuffled)
print(f"real gap {real:.3f} h (in the table: {gap} h); as large by chance: {as_large} of {len(shuffled)}")
```""",
    """\
The gap agrees with the table.

```repl
p = as_large / len(shuffled)
SUBMIT(
    p_value=p,
    verdict=(
        f"{'Yes' if p < 0.05 else 'No'}: of {len(shuffled):,} random shuffles of the categories {as_large:,} have a gap at "
        f"least as large as the real one ({real:.1f} h)."
    ),
)
```""",
]

LIMITED = [
    """\
I look at how dates and priorities are written before I count.

```repl
print(frame["created"].str[:7].nunique(), "months")
print(frame["created"].str[10:].value_counts().to_dict(), frame["priority"].value_counts().to_dict())
```""",
    """\
ISO dates, all at midnight, so the first seven characters are the month.

```repl
by_month = frame[frame["priority"] == "critical"].groupby(frame["created"].str[:7]).size()
print(by_month.sort_values(ascending=False).head(3))
```""",
    """\
The best that I have: the count above, not checked a second time.

```repl
SUBMIT(month=by_month.idxmax(), opened=int(by_month.max()))
```""",
]

REPLIES = [*AVERAGES, *CHANCE, *LIMITED]


def sub_model(prompt: str) -> str:
    """Nothing here is a matter of reading."""
    raise AssertionError(f"no sub-call was expected: {prompt[:200]}")
