"""Made data of notebook 08: a shop's orders and customers, one to a line. The same on every machine."""

from __future__ import annotations

import random
from collections.abc import Iterator

THINGS = ["kettle", "lamp", "clock", "chair", "radio", "bicycle bell", "garden hose", "teapot", "mirror", "umbrella"]
CITIES = ["Porto", "Ghent", "Turin", "Malaga", "Graz", "Brno", "Cork", "Vilnius"]
LATE = [
    "It took three weeks longer than you wrote.",
    "My mother's birthday was over when it came.",
    "I had given up waiting for it.",
    "You promised a Friday, it came a fortnight after that.",
    "By the time it came I had bought another one.",
    "Ten days on the road, for a town next door!",
]
"""Notes that say that the parcel came late, none of them with the word."""
OTHER = [
    "A late reply to my letter, but a kind one.",
    "A present; she likes it.",
    "Better late than never: my review, after a year.",
    "Heavy, but that is what I wanted.",
    "Hums a little at night.",
    "I waited to write until I had used it for a month.",
    "I would buy it again.",
    "It broke after three weeks.",
    "My neighbour wants one too.",
    "Nothing to complain of.",
    "One screw was missing.",
    "Please send the bill again.",
    "Scratched on one side.",
    "Smaller than on the picture.",
    "The box was dented, the rest is fine.",
    "The chocolate brown one is lovely.",
    "The colour is not as shown.",
    "The manual is in the wrong language.",
    "Very pleased.",
    "Works as it should.",
]
SPECIAL = {
    25: "order 2207411 of customer 87: mirror, 58 euros, paid. There was a green parrot in the parcel.",
    43: "order 4120893 of customer 77: teapot, 31 euros, paid. The lid whistles in F sharp.",
}
"""Lines that stand at these places."""


def made_orders(characters: int) -> str:
    """A text of this length, or less by part of a line; a longer one begins with the shorter ones."""
    return "\n".join(_lines(characters // 80))[: characters + 1].rpartition("\n")[0]


def _lines(number: int) -> Iterator[str]:
    rng = random.Random(0)
    notes, states = LATE + 3 * OTHER, 9 * ["paid"] + ["refunded"]
    for start in range(0, number, 10_000):
        picks = [rng.choices(one, k=10_000) for one in (range(10_000), THINGS, range(5, 300), states, notes)]
        for n, (who, thing, price, state, note) in enumerate(zip(*picks, strict=True), start):
            if n in SPECIAL:
                yield SPECIAL[n]
            elif n % 10 == 7:
                yield f"customer {n} lives in {CITIES[who % 8]}."
            else:
                yield f"order {n * 7919 % 9999991} of customer {who}7: {thing}, {price} euros, {state}. {note}"
