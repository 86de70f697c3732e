"""What a run may take, before it is made: a simple model of a conversation that grows and is cached. Pure arithmetic.

In each of its turns the model writes a reply and is told what its code put out. The first turn writes the first request
into the provider's cache; each later one reads from there what the one before had sent, and writes what is new. So with
a first request of `s` tokens and `g` tokens of reply and output a turn, `n` turns

    write   s + (n - 1) g
    read    (n - 1) s + (n - 1) (n - 2) / 2 g        and reply n times.

How many turns there are and how long they get nobody knows before; the three cases below are assumptions.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlm_kernel.budget import Estimate
from rlm_kernel.config import Options
from rlm_kernel.figures import A_RUN, A_TURN
from rlm_kernel.granting import BYTES_PER_TOKEN, IMAGE_TOKENS, last_call
from rlm_kernel.models.base import Model
from rlm_kernel.models.prices import cost
from rlm_kernel.usage import Usage

__all__ = ["SUB_INPUT", "SUB_OUTPUT", "Forecast", "Growth", "direct", "growths", "run", "subcalls", "tokens"]

SHORT, TYPICAL = 3, 8
"""Turns, where as many are allowed."""
SUB_INPUT, SUB_OUTPUT = 4000, 400
"""Tokens of a sub-call."""
DIRECT_OUTPUT = 500
"""Tokens of the reply to a direct call."""


_NOTHING = Estimate()


@dataclass(frozen=True, slots=True)
class Growth:
    """How a run is assumed to go on."""

    turns: int
    reply: int
    """Tokens of each."""
    output: int
    """Tokens of what the model is told of each turn."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What some calls of a model may take together."""

    calls: int
    usage: Usage
    cost: float | None
    """USD; None when the price is not known."""
    kept: Estimate = _NOTHING
    """What a budget keeps back beside that, for the last answer of a run."""

    @property
    def tokens(self) -> int:
        """Of all kinds together."""
        return self.usage.total_tokens


def tokens(text: str) -> int:
    """About how many tokens a text has."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def growths(options: Options) -> tuple[Growth, Growth, Growth]:
    """A short, a typical and a long run; of the long one, every output is as long as it may be."""
    turns = options.max_iterations
    output = options.max_output_chars // BYTES_PER_TOKEN
    most = output + (IMAGE_TOKENS * min(A_TURN * turns, A_RUN) // turns if options.see else 0)
    return (
        Growth(min(SHORT, turns), 250, min(400, output)),
        Growth(min(TYPICAL, turns), 400, min(1000, output)),
        Growth(turns + 1, 1500, most),  # one more call asks for the answer
    )


def run(model: Model, first: int, growth: Growth, options: Options) -> Forecast:
    """What the turns of a run take, with a first request of so many tokens."""
    later, new = growth.turns - 1, growth.reply + growth.output
    read, written = later * first + later * (later - 1) // 2 * new, first + later * new
    usage = Usage(0, growth.turns * growth.reply, read, written)
    mean = Usage(0, growth.reply, read // growth.turns, written // growth.turns)
    kept = last_call(model, written + growth.reply, options)
    return Forecast(growth.turns, usage, _times(growth.turns, cost(mean, model.name)), kept)


def subcalls(model: Model, number: int) -> Forecast:
    """What so many sub-calls take; one is never cached. A child run counts as one, and takes as much as a run."""
    usage = Usage(number * SUB_INPUT, number * SUB_OUTPUT)
    return Forecast(number, usage, _times(number, cost(Usage(SUB_INPUT, SUB_OUTPUT), model.name)))


def direct(model: Model, first: int) -> Forecast:
    """What one call takes that holds the data."""
    usage = Usage(first, DIRECT_OUTPUT)
    return Forecast(1, usage, cost(usage, model.name))


def _times(number: int, one: float | None) -> float | None:
    """Of so many calls: prices may depend on the length of each, so one of them is priced."""
    return None if one is None else one * number
