"""Replies of the quickstart, written by hand; `build.py` runs them on the 336,776 flights."""

from __future__ import annotations

import calendar
import re

WORST = [
    """\
I will look at the table first: what a row is, which values are missing.

```repl
print(flights.shape)
print(flights.isna().sum()[lambda s: s > 0])
print(flights[["dep_time", "dep_delay", "arr_time", "arr_delay"]].describe().round(1))
```""",
    """\
`dep_time` is missing where a flight never left (cancelled); `arr_delay` is missing for those and for a few more that \
left but did not arrive as planned (diverted). All of them failed the traveller. So a flight is *unreliable* when it was \
cancelled, diverted, or arrived more than 30 minutes late. Now every route with at least one flight a day.

```repl
flights["route"] = flights["origin"] + "-" + flights["dest"]
cancelled = flights["dep_time"].isna()
diverted = flights["dep_time"].notna() & flights["arr_delay"].isna()
late = flights["arr_delay"] > 30
flights["unreliable"] = cancelled | diverted | late
routes = flights.groupby("route").agg(flights=("unreliable", "size"), unreliable=("unreliable", "mean"))
daily = routes[routes["flights"] >= 365].sort_values("unreliable", ascending=False)
print(len(routes), "routes,", len(daily), "with at least 365 flights")
print(daily.head(8).round(4))
```""",
    """\
Before I go deeper into the worst ones: is it the time of the day or the season?

```repl
top = list(daily.index[:5])
hour = flights["time_hour"].dt.hour
print(flights[flights["route"] == top[0]].groupby(hour)["unreliable"].mean().round(3))
```""",
    """\
`time_hour` is text, and in UTC; `hour` already holds the scheduled local hour. I use that one.

```repl
def profile(route):
    f = flights[flights["route"] == route]
    part = f.groupby(f["hour"].map(lambda h: "before noon" if h < 12 else "noon to 17:00" if h < 17 else "after 17:00"))
    month = f.groupby("month")["unreliable"].mean()
    carrier = f.groupby("carrier")["unreliable"].agg(["size", "mean"]).sort_values("mean", ascending=False)
    return {
        "route": route,
        "flights": len(f),
        "unreliable": round(f["unreliable"].mean(), 3),
        "cancelled": round(f["dep_time"].isna().mean(), 3),
        "by_time_of_day": part["unreliable"].mean().round(3).to_dict(),
        "worst_months": month.nlargest(3).round(3).to_dict(),
        "by_carrier": {c: [int(r["size"]), round(r["mean"], 3)] for c, r in carrier.iterrows()},
    }

profiles = [profile(r) for r in top]
for p in profiles:
    print(p)
```""",
    """\
The numbers are in hand. Saying in plain words what they mean for a traveller is a job for the sub-model: one small \
prompt per route, all at once.

```repl
ask = (
    "You advise air travellers. From this profile of one route out of New York in 2013, write one sentence that says "
    "when it fails and how to avoid that. 'unreliable' is the share of flights cancelled, diverted or more than 30 "
    "minutes late. Use only these numbers.\\n\\n"
)
sentences = llm_batch([ask + repr(p) for p in profiles])
for p, s in zip(profiles, sentences):
    print(p["route"], "|", s)
```""",
    """\
I check the winner by another way of counting, and the sub-model's sentence against the numbers, before I answer.

```repl
worst = top[0]
f = flights[flights["route"] == worst]
fine = (f["arr_delay"] <= 30).sum()
print(worst, len(f), "flights,", fine, "fine,", round(1 - fine / len(f), 4))
by_carrier = (
    f.groupby("carrier")
    .agg(flights=("unreliable", "size"), cancelled=("dep_time", lambda s: s.isna().mean()), unreliable=("unreliable", "mean"))
    .sort_values("flights", ascending=False)
    .round(3)
    .reset_index()
)
print(by_carrier)
check = llm_query(
    "Does every number in the sentence occur in the profile or follow from it? Answer yes or no, then why.\\n\\n"
    f"Sentence: {sentences[0]}\\n\\nProfile: {profiles[0]}"
)
print(check)
```""",
    """\
Both counts agree and the sentence holds.

```repl
SUBMIT(
    route=worst,
    unreliable=round(1 - fine / len(f), 4),
    by_carrier=by_carrier,
    advice=sentences[0],
)
```""",
]

FOLLOW_UP = [
    """\
The sandbox still has `daily` and `flights` with its `unreliable` column from the first question.

```repl
SHOW_VARS()
```""",
    """\
```repl
best = daily.sort_values("unreliable").head(1)
print(best.round(4))
SUBMIT(route=best.index[0], unreliable=round(float(best["unreliable"].iloc[0]), 4))
```""",
]

REPLIES = WORST + FOLLOW_UP


def sub_model(prompt: str) -> str:
    """Stands for the sub-model: one sentence made from the numbers of the profile in the prompt."""
    if prompt.startswith("Does every number"):
        return "Yes: every share is in the profile, rounded to whole percent."
    share = {k: float(v) for k, v in re.findall(r"'(before noon|noon to 17:00|after 17:00)': ([\d.]+)", prompt)}
    months = re.search(r"'worst_months': \{(\d+): ([\d.]+)", prompt)
    best, worst = min(share, key=share.get), max(share, key=share.get)  # type: ignore[arg-type]
    month = f"{calendar.month_name[int(months[1])]} is worst ({float(months[2]):.0%})" if months else ""
    return (
        f"Departures {worst} fail most often ({share[worst]:.0%}), so book {best} ({share[best]:.0%}); "
        f"{month}, so keep a day in hand then."
    )
