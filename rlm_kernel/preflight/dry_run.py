"""Works out what a question would take and send, without a key and without the network.

What would be sent is made by the same functions as in a run; what it would take is an estimate (`forecast.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlm_kernel import prompt
from rlm_kernel.budget import Ledger
from rlm_kernel.config import Options
from rlm_kernel.direct import hint, message, tokens_of
from rlm_kernel.errors import InputError
from rlm_kernel.granting import LEAST_OUTPUT, input_bound, last_call, most
from rlm_kernel.job import sandbox_of, task_of
from rlm_kernel.models import resolve
from rlm_kernel.models.base import Message, Model, Request
from rlm_kernel.models.prices import window
from rlm_kernel.preflight.forecast import Forecast, direct, growths, run, subcalls, tokens
from rlm_kernel.preflight.sheet import sheet
from rlm_kernel.render.sheet import sheet_html, sheet_markdown, sheet_text
from rlm_kernel.result import Shown
from rlm_kernel.sandbox.base import isolation
from rlm_kernel.signature import Signature
from rlm_kernel.task import Task

__all__ = ["Preflight", "preflight"]


@dataclass(frozen=True, repr=False)
class Preflight(Shown):
    """What a question would take and send. Show it, or read its parts.

    Tokens are estimates, one for three bytes of UTF-8; prices come from the price list, cached input at its own.
    """

    task: Task
    model: str
    sub_model: str
    sandbox: str
    """How the code would be kept from this machine, in words."""
    system: str
    """The system prompt, exactly as it would be sent."""
    message: str
    """The first message, likewise."""
    variables: Mapping[str, int | None]
    """Tokens of each variable as text; None where it has no such form."""
    window: int | None
    """Tokens that one call of the model takes; None when that is not known."""
    direct: Forecast | None
    """One call with all variables as text in its prompt; None where there can be none."""
    short: Forecast
    """The main model in a run that is soon done."""
    typical: Forecast
    long: Forecast
    """The same in a run that uses all its turns, each with as much output as it may have."""
    subcalls: Forecast
    """All sub-calls that the code may make, in addition."""
    too_little: str
    """Why the limits do not even allow the first call; empty when they do."""
    hint: str
    """That a direct call would do, if it would."""

    @property
    def fits(self) -> bool | None:
        """Whether one call takes the variables as text; None when that is not known."""
        if self.direct is None:
            return False
        return None if self.window is None else self.direct.tokens <= self.window

    def __repr__(self) -> str:
        return sheet_text(sheet(self))

    def _html(self) -> str:
        return sheet_html(sheet(self))

    def _markdown(self) -> str:
        return sheet_markdown(sheet(self))


def preflight(question: str, signature: Signature, variables: Mapping[str, Any], options: Options) -> Preflight:
    """What a question would take and send.

    Raises:
        InputError: what a run would raise before it starts, but for a missing key.
    """
    task = task_of(question, signature, variables, options)
    model, sub_model = (resolve(spec, check=False) for spec in (options.model, options.sub_model))
    sizes = tokens_of({**variables, **options.tools.values})
    data = None if None in sizes.values() else sum(size or 0 for size in sizes.values())
    if options.direct:
        system, first = prompt.direct_system(signature), message(task, variables, model.name)
    else:
        system, first = prompt.system_prompt(task), prompt.first_message(question, prompt.status_line(Ledger(options)))
    request = tokens(system) + tokens(first)
    one_call = request if options.direct else tokens(prompt.direct_system(signature)) + tokens(question) + (data or 0)
    short, typical, long = (run(model, request, growth, options) for growth in growths(options))
    return Preflight(
        task=task,
        model=model.name,
        sub_model=sub_model.name,
        sandbox=_sandbox(options),
        system=system,
        message=first,
        variables=sizes,
        window=window(model.name),
        direct=None if data is None else direct(model, one_call),
        short=short,
        typical=typical,
        long=long,
        subcalls=subcalls(sub_model, options.max_llm_calls),
        too_little=_too_little(model, Request((Message("user", first),), system), options),
        hint=hint(task, variables),
    )


def _sandbox(options: Options) -> str:
    try:
        return isolation(sandbox_of(options))
    except InputError as error:
        return f"there can be none: {error}"


def _too_little(model: Model, request: Request, options: Options) -> str:
    """Why the limits do not even allow the first call; a run keeps back what its last one can take."""
    counted = hasattr(model, "count_tokens")
    size = tokens(request.system) + tokens(request.messages[0].content) if counted else input_bound(request)
    wanted = most(model, size, LEAST_OUTPUT, cache=not options.direct)
    if not options.direct:
        wanted += last_call(model, size + LEAST_OUTPUT, options)
    short = Ledger(options).short_of(wanted)
    return "" if short is None else short[1]
