"""The ledger: what is charged, what is refused, which limit ends a run."""

from __future__ import annotations

import pytest

from rlm_kernel import Options, Usage
from rlm_kernel.budget import Ledger, OverdrawnError


def ledger(**options: object) -> Ledger:
    return Ledger(Options().merged(options))


def test_sub_calls_are_charged_before_they_are_made() -> None:
    """What is charged is no longer left."""
    account = ledger(max_llm_calls=5)
    account.charge_subcalls(2)
    assert (account.subcalls, account.subcalls_left) == (2, 3)


def test_a_batch_larger_than_what_is_left_is_refused_whole() -> None:
    """Nothing of it is charged, and the run goes on: a smaller batch still fits."""
    account = ledger(max_llm_calls=5)
    account.charge_subcalls(2)
    with pytest.raises(OverdrawnError, match="4 sub-calls were asked for but 3 of 5 are left"):
        account.charge_subcalls(4)
    assert account.subcalls == 2
    assert account.exhausted() is None
    account.charge_subcalls(3)
    assert account.subcalls_left == 0


def test_asking_when_none_is_left_ends_the_run() -> None:
    """Using the last sub-call is fine, asking for one more is the limit."""
    account = ledger(max_llm_calls=1)
    account.charge_subcalls(1)
    assert account.exhausted() is None
    with pytest.raises(OverdrawnError, match="all 1 are used"):
        account.charge_subcalls(1)
    assert account.exhausted() == ("max_llm_calls", "all 1 sub-calls were used")


def test_an_empty_batch_costs_nothing() -> None:
    """No prompt, no charge, also when nothing is left."""
    account = ledger(max_llm_calls=0)
    account.charge_subcalls(0)
    assert account.exhausted() is None


def test_iterations_run_out() -> None:
    """The limit is reached when that many turns were taken."""
    account = ledger(max_iterations=2)
    account.iterations = 1
    assert account.exhausted() is None
    account.iterations = 2
    assert account.exhausted() == ("max_iterations", "all 2 iterations were used")


def test_errors_run_out() -> None:
    """The limit is on turns that failed one after another."""
    account = ledger(max_errors=2)
    account.errors = 2
    assert account.exhausted() == ("max_errors", "2 turns in a row ended in an error")


def test_time_runs_out_first() -> None:
    """When several limits are reached at once, the time is named."""
    account = Ledger(Options(timeout=1.0, max_iterations=1), started=-1e9)
    account.iterations = 1
    reached = account.exhausted()
    assert reached is not None
    assert (reached[0], account.seconds_left) == ("timeout", 0.0)


def test_without_a_limit_there_is_no_end_of_time() -> None:
    """`timeout=None` never ends a run."""
    account = Ledger(Options(), started=-1e9)
    assert account.seconds_left is None
    assert account.exhausted() is None


def test_usage_and_cost_add_up() -> None:
    """Tokens of all four kinds and dollars are summed."""
    account = ledger()
    account.settle(Usage(1, 2, 3, 4), 0.25)
    account.settle(Usage(10, 20, 30, 40), 0.5)
    assert Usage(11, 22, 33, 44) == account.usage
    assert account.total_cost == 0.75


def test_one_unknown_price_makes_the_total_unknown() -> None:
    """A sum that leaves calls out would be a lie."""
    account = ledger()
    account.settle(Usage(1, 1), 0.25)
    account.settle(Usage(1, 1), None)
    account.settle(Usage(1, 1), 0.25)
    assert account.total_cost is None


def test_a_call_that_used_nothing_needs_no_price() -> None:
    """No tokens, no cost, whatever the model."""
    account = ledger()
    account.settle(Usage(), None)
    assert account.total_cost == 0.0
