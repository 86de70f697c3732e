"""What tokens cost, from the price list that ships with `genai-prices`. Never asks the network, never fails."""

from __future__ import annotations

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
    import genai_prices

    if provider is None and "/" in model:
        provider, model = model.split("/", 1)
    # Their input count includes what was read from and written to the cache; ours does not.
    tokens = genai_prices.Usage(
        input_tokens=usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    if not _is_listed(model, provider):
        return None
    try:
        context = {"processing": "batch"} if batch else None
        return float(genai_prices.calc_price(tokens, model, provider_id=provider, price_context=context).total_price)
    except Exception:  # noqa: BLE001 - whatever the list does not know or cannot add up has no price here
        return None


@lru_cache(maxsize=4096)
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
