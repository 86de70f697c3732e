"""How a dry run reads: the price first, then whether the limits hold, then what it is made of and what would be sent.

Nothing here differs from one rendering to the next: no time, no address. From values to values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rlm_kernel.granting import BYTES_PER_TOKEN
from rlm_kernel.preflight.forecast import SUB_INPUT, SUB_OUTPUT, Forecast, growths, tokens
from rlm_kernel.render.sheet import Fold, Head, Line, Part, Sheet
from rlm_kernel.render.story import about, steady
from rlm_kernel.render.values import Table

if TYPE_CHECKING:
    from rlm_kernel.preflight.dry_run import Preflight

__all__ = ["sheet"]

_COUNTED = (
    f"Estimates: one token for {BYTES_PER_TOKEN} bytes of text; list prices, cached input at its own; runs as the "
    "table assumes."
)
_ENDED = "would end early, with the best answer so far"


def sheet(p: Preflight) -> Sheet:
    """The dry run as a page."""
    parts: list[Part] = [*_lead(p), *_limits(p), _expected(p), Line(_COUNTED, "quiet")]
    if p.task.variables:
        rows = tuple((v.name, v.type, v.size, _size(p.variables[v.name])) for v in p.task.variables)
        parts += [Head("Variables"), Table(("", "type", "size", "as text"), rows)]
    return Sheet(p.task.question.strip(), "Dry run · nothing was started, nothing was asked", (*parts, *_sent(p)))


# -- what it takes ------------------------------------------------------------------------------------------------
def _lead(p: Preflight) -> Iterator[Line]:
    if p.task.options.direct and p.direct is not None:
        yield Line(f"about {_usd(p.direct.cost) or f'{about(p.direct.tokens)} tokens'}, in one call", "large")
    elif p.typical.cost is None:
        low, usual, high = (about(f.tokens) for f in (p.short, p.typical, p.long))
        yield Line(f"{low} to {high} tokens, typically about {usual}", "large")
    else:
        low, usual, high = (_usd(f.cost) for f in (p.short, p.typical, p.long))
        yield Line(f"{low} to {high}, typically about {usual}", "large")
    used = [(p.model, p.typical)] if p.task.options.direct else [(p.model, p.typical), (p.sub_model, p.subcalls)]
    if unknown := dict.fromkeys(name for name, forecast in used if forecast.cost is None):
        so = ", so the budget cannot be kept; --max-tokens can" if p.task.options.budget is not None else ""
        yield Line(f"the price of {' and '.join(unknown)} is not known{so}", "short")
    if p.task.options.replay:
        yield Line(
            f"with --replay nothing is asked and nothing paid: the replies come from {p.task.options.replay}", "good"
        )
    if p.hint:
        yield Line(p.hint, "good")


def _limits(p: Preflight) -> Iterator[Line]:
    """Whether a budget holds that long."""
    options = p.task.options
    if p.too_little:
        yield Line(f"nothing would be asked, the limits are too low: {p.too_little}", "bad")
        return
    if options.budget is not None and p.typical.cost is not None:
        yield _covers(
            p, f"the budget of {_usd(options.budget)}", options.budget, lambda f: f.cost, lambda f: f.kept.usd
        )
    if options.max_tokens is not None:
        limit = options.max_tokens
        yield _covers(p, f"the limit of {limit:,} tokens", limit, lambda f: f.tokens, lambda f: f.kept.tokens)


def _covers(
    p: Preflight,
    what: str,
    limit: float,
    amount: Callable[[Forecast], float | None],
    kept: Callable[[Forecast], float | None],
) -> Line:
    if p.task.options.direct and p.direct is not None:
        return Line(f"{what} covers the call", "good")  # else it would not even be asked

    def within(forecast: Forecast, more: float = 0.0) -> bool:
        return (amount(forecast) or 0.0) + (kept(forecast) or 0.0) + more <= limit

    calls = amount(p.subcalls)
    if within(p.long):
        if calls is None:
            return Line(f"{what} covers a long run; what its sub-calls take is not known", "good")
        beside = "with" if within(p.long, calls) else "but hardly"
        return Line(f"{what} covers a long run {beside} all its sub-calls", "good")
    if within(p.typical):
        return Line(f"{what} covers a typical run; a long one {_ENDED}", "short")
    if within(p.short):
        return Line(f"{what} covers a short run; a typical one {_ENDED}", "short")
    return Line(f"{what} does not cover a short run: it {_ENDED}", "bad")


def _expected(p: Preflight) -> Table:
    options = p.task.options
    rows: list[tuple[str, Forecast, str]] = []
    if p.direct is not None:
        fits = {True: "", False: f"; too much, {p.window or 0:,} fit", None: "; if as much fits"}[p.fits]
        rows.append(("one direct call", p.direct, f"all variables as text{fits}"))
    if not options.direct:
        for name, forecast, growth in zip(
            ("a short run", "a typical run", "a long run"), (p.short, p.typical, p.long), growths(options), strict=True
        ):
            said = f"replies of {growth.reply:,} tokens, outputs of {growth.output:,}"
            rows.append((name, forecast, said + (", all turns" if forecast is p.long else "")))
        if p.subcalls.calls:
            each = f"each {SUB_INPUT:,} tokens, its reply {SUB_OUTPUT:,}"
            rows.append(("and all sub-calls", p.subcalls, each))
    shown = tuple((name, f"{f.calls:,}", about(f.tokens), _usd(f.cost)[1:] or "?", said) for name, f, said in rows)
    if all(f.cost is None for _, f, _ in rows):
        return Table(("", "calls", "tokens", "assumed"), tuple((*row[:3], row[4]) for row in shown))
    return Table(("", "calls", "tokens", "USD", "assumed"), shown)


def _size(size: int | None) -> str:
    return "no such form" if size is None else f"about {about(size)} tokens"


def _usd(dollars: float | None) -> str:
    """An amount, about as exact as it is known; nothing where it is not."""
    if dollars is None:
        return ""
    if dollars >= 0.1 or dollars == 0:
        return f"${dollars:,.2f}"
    return f"${dollars:.3f}" if dollars >= 0.01 else f"${dollars:.4f}" if dollars >= 0.0001 else "$0.0001"


# -- what is sent ------------------------------------------------------------------------------------------------
def _sent(p: Preflight) -> Iterator[Part]:
    options = p.task.options
    yield Head("What would be sent")
    if options.direct:
        rows = [(p.model, "the system prompt and the message below, which holds the variables")]
    else:
        does, most = (
            "prints and displays" if options.see else "prints",
            f"{options.max_output_chars:,} characters a turn",
        )
        rows = [(p.model, f"the prompts below, then what its code {does}, up to {most}")]
        if options.max_llm_calls:
            rows.append((p.sub_model, f"the prompts that this code makes, {options.max_llm_calls:,} at most"))
        rows.append(("the sandbox", "the variables, whole"))
    if options.record:
        rows.append((options.record, "every reply"))
    yield Table((), tuple(rows))
    if not options.direct:
        yield Line(f"Sandbox, {p.sandbox}", "quiet")
    for title, text, name in (("System prompt", p.system, "system"), ("First message", p.message, "message")):
        size = f"about {about(tokens(text))} tokens"
        yield Fold(f"{title} · {size}", steady(text), f"the attribute {name} of the preflight")
