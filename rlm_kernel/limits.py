"""Values of a budget: what may be spent, and the most that a call can take. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_kernel.config import Options
from rlm_kernel.events import StopReason

__all__ = ["Estimate", "Limits", "OverdrawnError"]


class OverdrawnError(Exception):
    """More was asked for than is left; nothing was charged. The text is for the model.

    Attributes:
        reason: the limit that was reached.
    """

    def __init__(self, reason: StopReason, text: str) -> None:
        super().__init__(text)
        self.reason: StopReason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run and all runs below it may spend together; None where there is no limit."""

    usd: float | None = None
    tokens: int | None = None
    """Of all four kinds together."""
    calls: int | None = None
    """Sub-calls; a child run counts as one, and those it makes count too."""
    seconds: float | None = None

    @classmethod
    def of(cls, options: Options) -> Limits:
        """Those of the outermost run."""
        return cls(options.budget, options.max_tokens, options.max_llm_calls, options.timeout)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The most that a call can take."""

    tokens: int = 0
    usd: float | None = 0.0
    """None when the price is not known: then dollars cannot be limited."""

    def __add__(self, other: Estimate) -> Estimate:
        """Of both; where one price is not known the other still counts."""
        known = [usd for usd in (self.usd, other.usd) if usd is not None]
        return Estimate(self.tokens + other.tokens, sum(known) if known else None)

    def __sub__(self, other: Estimate) -> Estimate:
        """Without a part that was added before."""
        usd = self.usd if self.usd is None or other.usd is None else self.usd - other.usd
        return Estimate(self.tokens - other.tokens, usd)
