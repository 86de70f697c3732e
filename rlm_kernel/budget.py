"""What a run may spend and what it has spent. Charged on the host, before the spending."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rlm_kernel.config import Options
from rlm_kernel.events import StopReason
from rlm_kernel.usage import Usage

__all__ = ["Ledger", "OverdrawnError"]


class OverdrawnError(Exception):
    """More was asked for than is left; nothing was charged."""


@dataclass(slots=True)
class Ledger:
    """The account of one run.

    Args:
        options: the limits.
        started: when the run began, by the monotonic clock, in seconds.
    """

    options: Options
    started: float = field(default_factory=time.monotonic)
    iterations: int = 0
    subcalls: int = 0
    errors: int = 0
    """Turns with an error, one after another, up to now."""
    refused: bool = False
    """A sub-call was asked for when none was left."""
    usage: Usage = Usage()
    cost: float = 0.0
    unpriced: bool = False

    def charge_subcalls(self, count: int) -> None:
        """Take `count` sub-calls, or none.

        Raises:
            OverdrawnError: fewer are left; the text is for the model.
        """
        left = self.subcalls_left
        if count > left:
            self.refused = self.refused or left == 0
            allowed = self.options.max_llm_calls
            if left == 0:
                raise OverdrawnError(f"no sub-call is left, all {allowed} are used: answer from what you have")
            raise OverdrawnError(
                f"{count:,} sub-calls were asked for but {left:,} of {allowed:,} are left; none was made"
            )
        self.subcalls += count

    def settle(self, usage: Usage, cost: float | None) -> None:
        """Add what a call really took."""
        self.usage += usage
        if cost is None:
            self.unpriced = self.unpriced or usage.total_tokens > 0
        else:
            self.cost += cost

    @property
    def total_cost(self) -> float | None:
        """USD; None when the price of a model is not known."""
        return None if self.unpriced else self.cost

    @property
    def subcalls_left(self) -> int:
        """Sub-calls that may still be made."""
        return max(0, self.options.max_llm_calls - self.subcalls)

    @property
    def seconds(self) -> float:
        """Since the run started."""
        return time.monotonic() - self.started

    @property
    def seconds_left(self) -> float | None:
        """Until the run has to end; None without a limit."""
        return None if self.options.timeout is None else max(0.0, self.options.timeout - self.seconds)

    def exhausted(self) -> tuple[StopReason, str] | None:
        """The limit that has been reached, and a line about it; None when the run may go on."""
        options = self.options
        if self.seconds_left == 0.0:
            return "timeout", f"the time limit of {options.timeout:g} s was reached"
        if self.errors >= options.max_errors:
            return "max_errors", f"{self.errors} turns in a row ended in an error"
        if self.refused:
            return "max_llm_calls", f"all {options.max_llm_calls} sub-calls were used"
        if self.iterations >= options.max_iterations:
            return "max_iterations", f"all {options.max_iterations} iterations were used"
        return None
