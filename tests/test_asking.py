"""Asking within a budget: what is granted, what it takes, and what is said when too little is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from rlm_kernel import Completion, Delta, Message, ModelError, Options, Request, Usage
from rlm_kernel.asking import Answer, ask
from rlm_kernel.budget import Estimate, Ledger, OverdrawnError
from rlm_kernel.granting import MAX_OUTPUT, grant, input_bound, most
from rlm_kernel.models import prices
from rlm_kernel.models.attempts import METER
from rlm_kernel.models.prices import ceiling, cost
from tests.helpers import in_loop

HAIKU = "claude-haiku-5-5"
NAMES = [f"{provider.id}/{model.id}" for provider in get_snapshot().providers for model in provider.models]


class Model:
    """Answers with what it is given, and keeps the requests."""

    def __init__(
        self, reply: Completion | Exception, *, name: str = HAIKU, counted: int | Exception | None = None
    ) -> None:
        self.name, self.reply = name, reply
        self.requests: list[Request] = []
        self.counts = 0
        if counted is not None:
            self.counted = counted
            self.count_tokens = self._count

    async def _count(self, request: Request) -> int:
        self.counts += 1
        if isinstance(self.counted, Exception):
            raise self.counted
        return self.counted

    async def complete(self, request: Request, on_delta: Any = None) -> Completion:
        self.requests.append(request)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    async def close(self) -> None:
        """Nothing to release."""


def reply(*counts: int, model: str = HAIKU) -> Completion:
    return Completion("ok", model, Usage(*counts))


def request(chars: int = 100, **more: Any) -> Request:
    return Request((Message("user", "x" * chars),), kind="sub", cache=False, **more)


def ledger(**options: Any) -> Ledger:
    return Ledger(Options().merged(options))


def asked(model: Any, account: Ledger, wanted: Request | None = None) -> Answer:
    return in_loop(ask(model, wanted or request(), account))


# -- the most that a call can cost --------------------------------------------------------------------------------
@given(
    name=st.sampled_from(NAMES),
    tokens=st.integers(0, 1_000_000),
    output=st.integers(0, 64_000),
    shares=st.tuples(*[st.floats(0, 1)] * 4),
    cache=st.booleans(),
    batch=st.booleans(),
)
def test_no_call_costs_more_than_its_ceiling(
    name: str, tokens: int, output: int, shares: tuple[float, ...], cache: bool, batch: bool
) -> None:
    """Whatever part of the input is read from the cache or written to it, for every model that has a price."""
    used = int(tokens * shares[0])
    read = int(used * shares[1])
    written = int((used - read) * shares[2]) if cache else 0
    usage = Usage(used - read - written, int(output * shares[3]), read, written)
    real, highest = cost(usage, name, batch=batch), ceiling(name, tokens, output, cache=cache, batch=batch)

    assert (real is None) == (highest is None)
    assert real is None or highest is None or real <= highest + 1e-9


@given(name=st.sampled_from(NAMES), counts=st.tuples(*[st.integers(0, 400_000)] * 4), batch=st.booleans())
def test_a_price_is_the_lists(name: str, counts: tuple[int, ...], batch: bool) -> None:
    """Which is asked for the price of a token once a minute, and not for each call."""
    usage = Usage(*counts)
    listed = prices._listed(usage, name.partition("/")[2], name.partition("/")[0], batch=batch)
    assert cost(usage, name, batch=batch) == (None if listed is None else pytest.approx(listed, rel=1e-9))


def test_a_batch_of_the_provider_costs_half() -> None:
    """As the price list knows; where it knows nothing of batches it is the full price."""
    assert cost(Usage(1000, 1000), "claude-sonnet-5-5", batch=True) == pytest.approx(0.5 * 0.012)
    assert cost(Usage(1000, 1000), "claude-3-opus-20240229", batch=True) is not None


@given(st.text(), st.text())
def test_no_request_has_more_tokens_than_bytes(prompt: str, system: str) -> None:
    """And what is around each message is counted."""
    bound = input_bound(Request((Message("user", prompt),), system))
    assert bound >= len(prompt.encode("utf-8", "surrogatepass")) + len(system.encode("utf-8", "surrogatepass")) + 8


# -- what is granted ----------------------------------------------------------------------------------------------
def test_without_a_limit_nothing_is_asked_of_the_model() -> None:
    """Neither a shorter reply nor a count."""
    model = Model(reply(10, 10), counted=5)
    asked(model, ledger())

    assert ([r.max_tokens for r in model.requests], model.counts) == ([None], 0)


@pytest.mark.parametrize(
    ("own", "wanted", "granted"), [(None, None, MAX_OUTPUT), (3_000, None, 3_000), (3_000, 700, 700), (None, 90, 90)]
)
def test_with_much_left_the_reply_may_be_as_long_as_ever(own: int | None, wanted: int | None, granted: int) -> None:
    """As the request says, else as the model's own setting says, else as long as replies are."""
    model = Model(reply(10, 10))
    if own is not None:
        model.max_tokens = own  # type: ignore[attr-defined]
    asked(model, ledger(budget=1.0), request(max_tokens=wanted))

    assert [r.max_tokens for r in model.requests] == [granted]


def test_with_little_left_the_reply_is_shorter() -> None:
    """Half as long, and half of that, down to where it is not worth asking for."""
    lengths = []
    for limit in (20_000, 10_000, 5_000, 1_000):
        model = Model(reply(10, 10))
        asked(model, ledger(max_tokens=limit))
        lengths.append(model.requests[0].max_tokens)

    assert lengths == [16_000, 8_000, 4_000, 512]


@pytest.mark.parametrize(("limits", "reason"), [({"max_tokens": 600}, "max_tokens"), ({"budget": 0.0001}, "budget")])
def test_with_too_little_left_nobody_is_asked(limits: dict[str, Any], reason: str) -> None:
    """The error names the limit, and says in a line how much would be needed and how much there is."""
    model, account = Model(reply(10, 10)), ledger(**limits)
    with pytest.raises(OverdrawnError, match=r"^the next call may .* free for it$") as caught:
        asked(model, account)

    assert (caught.value.reason, model.requests, account.usage) == (reason, [], Usage())


def test_near_the_limit_the_input_is_counted() -> None:
    """Bytes are only a bound; a text of long words has a fifth of it. Far from the limit a count would be wasted."""
    near, far = Model(reply(2_000, 10), counted=2_000), Model(reply(2_000, 10), counted=2_000)
    asked(near, ledger(max_tokens=9_000), request(10_000))
    asked(far, ledger(max_tokens=90_000), request(10_000))

    assert (near.counts, near.requests[0].max_tokens) == (1, 4_000)
    assert (far.counts, far.requests[0].max_tokens) == (0, 16_000)


@pytest.mark.parametrize("counted", [10_200, ModelError("404"), ValueError("odd")])
def test_a_count_that_does_not_help_changes_nothing(counted: int | Exception) -> None:
    """It is no smaller than the bound, or this server cannot count: the call does not fit, and no model failed."""
    with pytest.raises(OverdrawnError, match="may take 10,644 tokens"):
        asked(Model(reply(1, 1), counted=counted), ledger(max_tokens=9_000), request(10_100))


def test_what_is_held_back_is_there_for_the_last_call_alone() -> None:
    """Others are refused what it needs, and it gets it."""
    model, account = Model(reply(10, 10)), ledger(max_tokens=3_000)
    account.hold(Estimate(2_000))

    async def main() -> tuple[int | None, int | None]:
        with pytest.raises(OverdrawnError):
            await grant(model, request(500), account)
        then = lambda tokens: Estimate(1_000)  # noqa: E731
        return (
            (await grant(model, request(500), account, last=True)).max_tokens,
            (await grant(model, request(500), account, last=True, then=then)).max_tokens,
        )

    assert in_loop(main()) == (2_000, 1_000)


def test_no_price_no_limit_in_dollars() -> None:
    """Tokens are counted, and their limit holds."""
    account = ledger(budget=1e-9, max_tokens=20_000)
    answer = asked(Model(reply(10_000, 10, model="nobody-knows"), name="nobody-knows"), account)

    assert (answer.cost, account.total_cost, account.usage) == (None, None, Usage(10_000, 10))
    with pytest.raises(OverdrawnError) as caught:
        asked(Model(reply(10, 10), name="nobody-knows"), account, request(10_000))
    assert caught.value.reason == "max_tokens"


def test_a_price_that_is_known_only_afterwards_ends_it_then() -> None:
    """Who was asked under a name without a price answers under one that has it."""
    account, model = ledger(budget=0.01), Model(reply(200_000, 10), name="my-alias")
    assert asked(model, account).cost == cost(Usage(200_000, 10), HAIKU)
    with pytest.raises(OverdrawnError, match=r"^\$0\.1000 of \$0\.0100 were spent$"):
        asked(model, account)


def test_a_name_without_a_price_does_not_hide_the_one_that_was_asked_for() -> None:
    """A server may call its model what it likes."""
    assert asked(Model(reply(1_000, 10, model="internal-7")), ledger()).cost == cost(Usage(1_000, 10), HAIKU)


# -- what it takes ------------------------------------------------------------------------------------------------
def test_every_attempt_has_its_own_price() -> None:
    """A token of a large call may be dearer, so two small ones are not priced as a large one."""
    spent = (Usage(90_000, 100), Usage(90_000, 200))
    account = ledger(budget=5.0)
    answer = asked(Model(Completion("ok", HAIKU, spent[0] + spent[1], abandoned=spent[:1])), account)

    known = [price for usage in spent if (price := cost(usage, HAIKU)) is not None]
    together = cost(spent[0] + spent[1], HAIKU)
    assert together is not None
    assert answer.cost == account.total_cost == pytest.approx(sum(known))
    assert answer.cost < together / 2
    assert account.usage == spent[0] + spent[1]


def failing(attempt: Callable[[Any], Awaitable[Any]]) -> Any:
    """A model whose call does `attempt`."""

    class Failing(Model):
        async def complete(self, request: Request, on_delta: Any = None) -> Completion:
            await attempt(on_delta)
            raise ModelError("broke")

    return Failing(reply())


def test_a_failed_call_costs_what_its_provider_told() -> None:
    """Each attempt of it; nothing where nothing was told and nothing came."""

    async def attempt(on_delta: Any) -> None:
        meter = METER.get()
        assert meter is not None
        meter.took(Usage(100, 1))
        assert meter.abandoned(Usage(100, 1, 5))
        meter.took(Usage(100, 2))

    async def nothing(on_delta: Any) -> None:
        pass

    account = ledger(budget=1.0)
    for work in (attempt, nothing):
        with pytest.raises(ModelError):
            asked(failing(work), account)

    assert account.usage == Usage(200, 3, 5)
    assert account.cost == pytest.approx((cost(Usage(100, 1, 5), HAIKU) or 0) + (cost(Usage(100, 2), HAIKU) or 0))


def test_a_call_that_is_cancelled_costs_what_had_come() -> None:
    """The provider was paid for it, though it told nothing; never more than was reserved."""

    async def attempt(on_delta: Any) -> None:
        on_delta(Delta("x" * 300))
        on_delta(Delta("y" * 99_000))
        await asyncio.Event().wait()

    async def main(account: Ledger) -> Usage:
        task = asyncio.ensure_future(ask(failing(attempt), request(900), account))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return account.usage

    assert in_loop(main(ledger(budget=1.0))) == Usage(310, 16_000)
    assert in_loop(main(ledger(max_tokens=1_500))) == Usage(310, 512)
    assert in_loop(main(ledger(budget=1.0))).total_tokens <= most(failing(attempt), 916, 16_000, cache=False).tokens


def test_a_broken_attempt_is_not_asked_again_without_the_money() -> None:
    """The adapter asks before it does, and whoever has room for one attempt has none for two."""
    allowed: list[bool] = []

    async def attempt(on_delta: Any) -> None:
        meter = METER.get()
        assert meter is not None
        allowed.append(meter.abandoned(Usage(600, 100)))

    for limit in (1_500, 20_000):
        with pytest.raises(ModelError):
            asked(failing(attempt), ledger(max_tokens=limit))
    assert allowed == [False, True]


def test_who_lost_its_place_is_granted_a_shorter_reply() -> None:
    """Two calls are granted as much as each could have alone; the second waits, and then asks for what is left."""
    account = ledger(max_tokens=12_000)

    async def main() -> list[int | None]:
        model = Model(reply(100, 7_000))
        await asyncio.gather(ask(model, request(), account), ask(model, request(), account))
        return [r.max_tokens for r in model.requests]

    assert in_loop(main()) == [8_000, 4_000]
