"""Values of a budget: what may be spent, and the most that a call can take. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_kernel.config import Options
from rlm_kernel.events import StopReason

__all__ = ["Estimate", "Limits", "OverdrawnError"]

_EPSILON = 1e-9
"""Dollars: sums of the same numbers in another order differ by less."""


class OverdrawnError(Exception):
    """More was asked for than is left; nothing was charged. The text is for the model.

    Attributes:
        reason: the limit that was reached.
    """

    def __init__(self, reason: StopReason, text: str) -> None:
        super().__init__(text)
        self.reason: StopReason = reason


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

    def short(self, wanted: Estimate, spent: Estimate, kept: Estimate) -> tuple[StopReason, str] | None:
        """The limit that a call would break, and a line about it.

        Args:
            wanted: the most that it can take.
            spent: what was spent.
            kept: what is kept for others.
        """
        if (limit := self.tokens) is not None:
            left = max(0, limit - spent.tokens - kept.tokens)
            if wanted.tokens > left:
                free_tokens = f"{left:,} of {limit:,} are free for it"
                return "max_tokens", f"the next call may take {wanted.tokens:,} tokens, and {free_tokens}"
        if (usd := self.usd) is not None:
            cost = spent.usd or 0.0
            free = max(0.0, usd - cost - (kept.usd or 0.0))
            if wanted.usd is None:  # whoever answers may have a price all the same, which is known when it has
                return ("budget", f"${cost:.4f} of ${usd:.4f} were spent") if cost > usd + _EPSILON else None
            if wanted.usd > free + _EPSILON:
                free_usd = f"${free:.4f} of ${usd:.4f} are free for it"
                return "budget", f"the next call may cost ${wanted.usd:.4f}, and {free_usd}"
        return None
