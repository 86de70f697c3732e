"""The scripted replies of `06_recursion.ipynb`: see `build.py`. No model was asked.

A child's replies are chosen by its question and by what its code has printed, as a model would choose them: the figures are
read out of the last message.
"""

from __future__ import annotations

import ast
import re
from typing import Any

MONTHS = [
    """\
I look at both tables first.

```repl
print(flights.shape, weather.shape)
print(list(flights.columns))
print(list(weather.columns))
print(flights["dep_time"].isna().mean().round(4), "of all flights have no departure time: cancelled")
```""",
    '''\
Finding the worst day of a month is one line. Finding out what was the matter that day is a small investigation, whose steps \
depend on what turns up. So: a run of its own for each month, with the month's part of both tables.

```repl
QUESTION = """Which day of this month lost the largest share of its flights (no `dep_time`: cancelled), and what was the matter?
`flights` and `weather` (hourly, at the three airports) hold this month. Compare the day's weather with a usual day's and its
airports with each other. If neither tells, say "unclear" and have it looked into who was hit."""

parts = [
    {
        "prompt": QUESTION,
        "flights": flights[flights["month"] == month].reset_index(drop=True),
        "weather": weather[weather["month"] == month].reset_index(drop=True),
    }
    for month in range(1, 13)
]
found = rlm_batch(parts, outputs="day: int, cancelled: float, reason: str, note: str")
for month, row in enumerate(found, 1):
    print(month, row)
```''',
    """\
Twelve answers. The figures I can check myself, all at once; the reasons I read.

```repl
import pandas as pd

worst = pd.DataFrame([{"month": month, **row} for month, row in enumerate(found, 1)])
daily = flights["dep_time"].isna().groupby([flights["month"], flights["day"]]).mean()
assert all(daily[m].idxmax() == d for m, d in zip(worst["month"], worst["day"]))
assert all(abs(daily[m, d] - c) < 0.001 for m, d, c in zip(worst["month"], worst["day"], worst["cancelled"]))
print("days and shares agree")
print(sorted(worst["reason"]))
```""",
    """\
They agree, and each reason stands on the child's own figures.

```repl
SUBMIT(worst=worst)
```""",
]

PASSENGERS = [
    """\
Who was on board is a question of its own: I give the day's cancelled flights to a run that may look around.

```repl
day = flights[(flights["month"] == 2) & (flights["day"] == 9)]
lost = day[day["dep_time"].isna()].reset_index(drop=True)
print(len(lost), "cancelled")
people = rlm_query("How many passengers were booked on the flights in `lost`?", outputs="passengers: int", lost=lost)
print(people)
```""",
    """\
It could not tell, and rightly: nothing here says how many were booked. Seats, then. Where the plane is known `planes` has \
them. A flight that never left often has no plane in the table; then I take the mean of the airline's planes over the year.

```repl
def seated(f):
    return f.merge(planes[["tailnum", "seats"]], on="tailnum", how="left")["seats"]

known = seated(lost)
year = seated(flights).groupby(flights["carrier"]).mean()
estimate = known.fillna(lost["carrier"].map(year))
print(known.notna().sum(), "of", len(lost), "with a known plane;", estimate.isna().sum(), "without any figure")
print(round(estimate.sum()))
```""",
    """\
Good enough, with a word on how it was counted.

```repl
SUBMIT(
    seats=round(estimate.sum()),
    note=f"Passengers are not in the data. Seats of the {len(lost)} cancelled flights: the plane's where it is known "
    f"({known.notna().sum()}), else the mean of the airline's planes in the year.",
)
```""",
]

MORNINGS = [
    """\
One run for each airport.

```repl
parts = [
    {"prompt": "How late do flights leave before noon, and is there an hour that is much better?", "flights": part}
    for _, part in flights.groupby("origin")
]
names = sorted(flights["origin"].unique())
mornings = rlm_batch(parts, outputs="delay: float, best_hour: int")
for name, row in zip(names, mornings):
    print(name, row)
```""",
    """\
Before I answer I compare with the whole day.

```repl
print(flights.groupby("origin")["dep_delay"].mean().round(1).to_dict())
```""",
    """\
```repl
best = min(zip(names, mornings), key=lambda pair: pair[1]["delay"])
SUBMIT(airport=best[0], delay=best[1]["delay"])
```""",
]

REPLIES = [*MONTHS, *PASSENGERS, *MORNINGS]


def sub_model(prompt: str) -> str:
    """No plain sub-call is made in this notebook."""
    raise ValueError(prompt[:200])


def CHILDREN(request: Any) -> str:  # noqa: N802 - the builder looks for this name
    """The reply of a child run, by its question and its turn."""
    question = request.messages[0].content
    turn = sum(message.role == "assistant" for message in request.messages)
    told = request.messages[-1].content
    for begins, replies in _CHILDREN.items():
        if question.startswith(begins):
            reply = replies[turn]
            return reply if isinstance(reply, str) else reply(told)
    raise ValueError(question[:200])


def judge(told: str) -> str:
    """What was the matter, from the three lines of figures that the code has printed."""
    airports, today, usual = (
        ast.literal_eval(line) for line in re.findall(r"^\w[\w ]*: (\{.*\})$", told, re.MULTILINE)
    )
    name = max(airports, key=airports.get)
    others = max(share for airport, share in airports.items() if airport != name)
    if airports[name] > 0.2 and others < airports[name] / 3:
        reason, why = (
            "one airport",
            f"{name} lost {airports[name]:.0%} of its flights, no other airport more than {others:.0%}",
        )
    elif today["precip"] > 0.1 and today["temp"] <= 32:
        reason, why = "snow", f"{today['precip']} inches of precipitation, down to {today['temp']:.0f} °F"
    elif today["precip"] >= 0.4:
        reason, why = "rain", f"{today['precip']} inches of rain where {usual['precip']} is usual"
    elif (today["gust"] or 0) >= 40:
        reason, why = "wind", f"gusts of {today['gust']:.0f} mph where {usual['gust']:.0f} is usual"
    else:
        return """\
Neither the weather at the airports nor one of them explains that. Who was hit, and on the way to where? That is open enough for a \
run of its own.

```repl
finding = rlm_query("Who was hit by the cancellations of this day, and flights to where?", outputs="finding: str", day_flights=f)
print(finding)
SUBMIT(day=day, cancelled=share["mean"].max(), reason="unclear", note=finding)
```"""
    return f"""\
{reason.capitalize()}: {why}.

```repl
SUBMIT(day=day, cancelled=share["mean"].max(), reason="{reason}", note="{why}")
```"""


_MONTH = [
    """\
The days first.

```repl
share = flights["dep_time"].isna().groupby(flights["day"]).agg(["mean", "sum", "size"])
print(share.sort_values("mean", ascending=False, kind="stable").head(3).round(3))
```""",
    """\
One day to look into: its airports, its weather, and that of a usual day.

```repl
import pandas as pd

day = int(share["mean"].idxmax())
f = flights[flights["day"] == day].reset_index(drop=True)

def sums(w):
    rain = w.groupby("origin")["precip"].sum().max()
    return {"temp": w["temp"].min(), "gust": w["wind_gust"].max(), "precip": rain, "visib": w["visib"].min()}

def rounded(figures):
    return {name: None if pd.isna(value) else round(float(value), 2) for name, value in figures.items()}

print("lost:", rounded(f["dep_time"].isna().groupby(f["origin"]).mean().to_dict()))
days = pd.DataFrame([sums(w) for _, w in weather.groupby("day")])
print("that day:", rounded(sums(weather[weather["day"] == day])))
print("usual:", rounded(days.median().to_dict()))
```""",
    judge,
]
_DAY = [
    """\
```repl
gone = day_flights["dep_time"].isna()
by_carrier = gone.groupby(day_flights["carrier"]).agg(["sum", "size"]).sort_values("sum", ascending=False, kind="stable")
by_dest = gone.groupby(day_flights["dest"]).agg(["sum", "size"]).sort_values("sum", ascending=False, kind="stable")
print(by_carrier.head(4))
print(by_dest.head(6))
print(gone.groupby(day_flights["hour"] // 6 * 6).mean().round(2).to_dict())
```""",
    """\
```repl
top, where = by_carrier.iloc[0], ", ".join(by_dest.index[:3])
evening = gone[day_flights["hour"] >= 12].sum()
SUBMIT(finding=f"{by_carrier.index[0]} lost {top['sum']} of {top['size']} flights; most to {where}; {evening} of {gone.sum()} after noon")
```""",
]
_BOOKED = [
    """\
```repl
print(list(lost.columns))
(column,) = [name for name in lost.columns if "passenger" in name]
print(lost[column].sum())
```""",
    """\
There is no such column. Perhaps there is a table of planes.

```repl
print(lost.merge(planes, on="tailnum")["seats"].sum())
```""",
    """\
The number of passengers cannot be told: `lost` has no column for them, and there is no other table here. I will not make one up.""",
]
_MORNING = [
    """\
```repl
early = flights[flights["hour"] < 12]
print(early["dep_delay"].describe().round(1))
```""",
    """\
The mean by hour; hours with few flights aside.

```repl
hours = early.groupby("hour")["dep_delay"].agg(["mean", "size"])
print(hours[hours["size"] > 1000].round(1))
```""",
    """\
```repl
SUBMIT(delay=round(early["dep_delay"].mean(), 1), best_hour=int(hours[hours["size"] > 1000]["mean"].idxmin()))
```""",
]
_CHILDREN: dict[str, list[Any]] = {
    "Which day of this month": _MONTH,
    "Who was hit": _DAY,
    "How many passengers": _BOOKED,
    "How late do flights leave": _MORNING,
}
