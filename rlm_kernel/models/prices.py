"""What tokens cost, from the price list that ships with `genai-prices`. Never asks the network, never fails."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache

from rlm_kernel.usage import Usage

__all__ = ["ceiling", "cost", "preload", "window"]


def cost(usage: Usage, model: str, provider: str | None = None, *, batch: bool = False) -> float | None:
    """US dollars for `usage` of `model`.

    Args:
        usage: tokens of one call (the price of a token may depend on how many there are); its four counts are disjoint.
        model: the name, also as `provider/name`.
        provider: the provider's id at genai-prices (`anthropic`, `openai`, `openrouter`), if the name leaves it open.
        batch: asked through the provider's batch service, which is cheaper.

    Returns:
        None for a model whose price nobody knows.
    """
    if provider is None and "/" in model:
        provider, model = model.split("/", 1)
    minute = int(time.time() // 60)  # prices change with the date, some with the time of day
    rates = None
    if total := _input(usage):
        starts = _tiers(model, provider, minute)
        rates = _rates(model, provider, batch, starts[bisect_left(starts, total) - 1] + 1, minute)
    if rates is None:
        return _listed(usage, model, provider, batch=batch)
    counts = usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens
    return sum(rate * count for rate, count in zip(rates, counts, strict=True))


def ceiling(model: str, tokens: int, output: int, *, cache: bool, batch: bool = False) -> float | None:
    """US dollars that a call can take at most; None for a model whose price nobody knows.

    Args:
        model: the name, also as `provider/name`.
        tokens: of the input.
        output: of the reply, at most.
        cache: the input may be written to the cache, which is dearer than plain input with most providers.
        batch: see `cost`.
    """
    # The price is linear in how the input is split, so it is highest where all of it is of one kind. That it was read
    # from the cache is cheaper everywhere, but for a list that has it otherwise.
    splits = [Usage(tokens, output), Usage(0, output, tokens)]
    if cache:
        splits.append(Usage(0, output, 0, tokens))
    known = [price for split in splits if (price := cost(split, model, batch=batch)) is not None]
    return max(known, default=None)


@cache
def window(model: str) -> int | None:
    """Tokens that fit into a call of this model; None where nobody knows."""
    from genai_prices.data_snapshot import get_snapshot

    provider, slash, name = model.partition("/")
    try:
        _, info = get_snapshot().find_provider_model(name if slash else model, None, provider if slash else None, None)
    except LookupError:
        return None
    return info.context_window


def _input(usage: Usage) -> int:
    return usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens


def _listed(usage: Usage, model: str, provider: str | None, *, batch: bool) -> float | None:
    """The price as the list has it. Adding it up takes a tenth of a millisecond: much, for thousands of calls."""
    import genai_prices

    if not _is_listed(model, provider):
        return None
    # Their input count includes what was read from and written to the cache; ours does not.
    tokens = genai_prices.Usage(
        input_tokens=_input(usage),
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    try:
        context = {"processing": "batch"} if batch else None
        return float(genai_prices.calc_price(tokens, model, provider_id=provider, price_context=context).total_price)
    except Exception:  # noqa: BLE001 - whatever the list does not know or cannot add up has no price here
        return None


@lru_cache(maxsize=64)
def _tiers(model: str, provider: str | None, minute: int) -> Sequence[int]:  # noqa: ARG001 - until when it is kept
    """The sizes of input above which a token has another price, in order, from 0."""
    from genai_prices.data_snapshot import get_snapshot
    from genai_prices.types import TieredPrices

    try:
        _, info = get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return (0,)
    of_all = [info.get_prices(datetime.now(UTC)), *(variant.prices for variant in info.price_variants or ())]
    tiered = [price for prices in of_all for price in vars(prices).values() if isinstance(price, TieredPrices)]
    return sorted({0, *(tier.start for price in tiered for tier in price.tiers)})


@lru_cache(maxsize=256)
def _rates(
    model: str,
    provider: str | None,
    batch: bool,
    total: int,
    minute: int,  # noqa: ARG001 - until when it is kept
) -> tuple[float, float, float, float] | None:
    """Of a token of each kind, asked of the list for a call with so much input; None where it is not so simple."""
    if _listed(Usage(), model, provider, batch=batch) != 0.0:  # each call has a price of its own
        return None
    million = 10**6
    plain, output, read, written = (
        _listed(usage, model, provider, batch=batch)
        for usage in (Usage(total), Usage(total, million), Usage(0, 0, total), Usage(0, 0, 0, total))
    )
    if plain is None or output is None or read is None or written is None:
        return None
    return plain / total, (output - plain) / million, read / total, written / total


@cache
def _is_listed(model: str, provider: str | None) -> bool:
    """Looking for a model that is not there takes the list half a millisecond, so it is done once."""
    import genai_prices

    try:
        genai_prices.calc_price(genai_prices.Usage(input_tokens=1), model, provider_id=provider)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def preload() -> None:
    """Load the list ahead of its first use, which takes a tenth of a second."""
    _is_listed("", None)
