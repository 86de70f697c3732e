"""Every option there is, with its default, its help and its check: the magic, `RLM(...)` and the environment share it.

Precedence: the call, then `configure()` or `%config RLMMagics`, then `RLM_*` in the environment, then the default.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rlm_kernel.errors import InputError, closest
from rlm_kernel.sandbox.isolation.allowlist import parse
from rlm_kernel.tools import Toolbox

if TYPE_CHECKING:
    from rlm_kernel.models.base import Model
    from rlm_kernel.sandbox.base import Sandbox

__all__ = ["Options", "configure", "defaults", "parse_value"]

_LISTENERS: list[Callable[[Options], None]] = []


def _option(
    default: Any,
    text: str,
    *,
    least: float | None = None,
    flags: tuple[str, ...] = (),
    metavar: str = "",
    read: Callable[[Any], object] | None = None,
) -> Any:
    about = {"help": text, "least": least, "flags": flags, "metavar": metavar, "read": read}
    return field(default=default, metadata=about)


def _share(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InputError(f"compact_at is a share of the window, above 0 and at most 1, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a run. Every field's help is what `%%rlm?` shows."""

    model: str | Model = _option(
        "claude-sonnet-5-5", "the model that writes the code: claude-…, or openai/NAME", flags=("-m",), metavar="NAME"
    )
    sub_model: str | Model = _option("claude-haiku-5-5", "the model that llm_query and llm_batch ask", metavar="NAME")
    max_iterations: int = _option(20, "turns of the model before it has to answer", least=1, metavar="N")
    max_llm_calls: int = _option(50, "sub-calls (llm_query, llm_batch) over the whole run", least=0, metavar="N")
    max_output_chars: int = _option(20_000, "characters of output that the model sees per turn", least=100, metavar="N")
    max_errors: int = _option(
        5, "turns with an error, one after another, before it has to answer", least=1, metavar="N"
    )
    max_concurrency: int = _option(
        64,
        "sub-calls at the same time, fewer while the provider refuses some; and calls of tools",
        least=1,
        metavar="N",
    )
    max_depth: int = _option(
        2,
        "levels of runs: 2 is the run and its children (rlm_query); with 0 or 1 there are no children",
        least=0,
        metavar="N",
    )
    max_children: int = _option(16, "child runs at the same time, on each level", least=1, metavar="N")
    batch_api: bool = _option(
        False,
        "let code ask through the provider's batch service, for half the price and within hours instead of seconds: "
        "llm_batch(…, batch_api=True); give it time with --cell-timeout none",
    )
    budget: float | None = _option(
        None, "US dollars for the whole run, children included; reserved before each call", least=0, metavar="USD"
    )
    max_tokens: int | None = _option(
        None, "tokens for the whole run, children included, of input and output together", least=1, metavar="N"
    )
    timeout: float | None = _option(
        None, "seconds for the whole run; one last call for the best answer may follow", least=0.1, metavar="SECONDS"
    )
    cell_timeout: float | None = _option(
        600.0, "seconds for one piece of code, its sub-calls included", least=0.1, metavar="SECONDS"
    )
    tools: Toolbox = _option(
        Toolbox(),
        "functions of the notebook that the code may call, and DataTools, with commas between them. Functions run "
        "here, outside of the sandbox, with all that you may do: each is a hole in the sandbox, made on purpose",
        metavar="NAME,…",
        read=Toolbox.of,
    )
    max_tool_calls: int = _option(10_000, "calls of tools over the whole run, children included", least=0, metavar="N")
    tool_timeout: float | None = _option(
        120.0, "seconds that a call of a tool is waited for", least=0.01, metavar="SECONDS"
    )
    compact_at: float | None = _option(
        0.8,
        "share of the model's window from which on the older turns of a conversation give way to a summary; none: only "
        "when the provider takes no more",
        metavar="SHARE",
        read=_share,
    )
    sandbox: str | Sandbox | None = _option(
        None, "the kernelspec or the Jupyter server to run the code in; without it, this Python", metavar="NAME|URL"
    )
    sandbox_level: str = _option(
        "auto",
        "how the code is kept from this machine: full (bubblewrap), landlock, none (not at all), or auto, the best of "
        "the first two that can be had",
        metavar="LEVEL",
    )
    sandbox_memory: int = _option(4096, "MB that the code may use beside the data", least=256, metavar="MB")
    sandbox_scratch: int = _option(256, "MB of its scratch folder", least=1, metavar="MB")
    sandbox_output: int = _option(16, "MB that one piece of code may put out", least=1, metavar="MB")
    sandbox_cpu: float | None = _option(
        3600.0,
        "seconds of the processor that one piece of code may use, all its processes together",
        least=0.1,
        metavar="SECONDS",
    )
    sandbox_processes: int = _option(256, "processes and threads it may have", least=16, metavar="N")
    sandbox_net: str | None = _option(
        None,
        "hosts that the code may be connected to, through a proxy (level full only): names, *.example.org or addresses "
        "with commas between them; what the code knows can be sent there. Without it there is no network",
        flags=("--net",),
        metavar="HOST[:PORT],…",
        read=parse,
    )
    record: str | None = _option(None, "write every model reply to this file", metavar="FILE")
    replay: str | None = _option(None, "answer from this recording instead of a model", metavar="FILE")
    see: bool = _option(
        False,
        "show the model the figures that its code displays (PNG and JPEG), at most 3 a turn",
    )
    direct: bool = _option(
        False,
        "ask the model once, with the variables as text in the prompt, for what fits into one call: no code is run",
    )
    fresh: bool = _option(False, "start with an empty sandbox")
    quiet: bool = _option(False, "show the answer alone")
    verbose: bool = _option(False, "print the run as text while it goes on")

    def __post_init__(self) -> None:
        object.__setattr__(self, "tools", Toolbox.of(self.tools))

    def merged(self, changes: Mapping[str, Any]) -> Options:
        """These options with some replaced.

        Raises:
            InputError: an unknown option or a value out of range.
        """
        known = {f.name: f for f in dataclasses.fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise InputError(f"unknown option '{name}'{closest(name, list(known))}; there are: {', '.join(known)}")
            check(known[name], value)
        return dataclasses.replace(self, **changes)


def check(option: dataclasses.Field[Any], value: Any) -> None:
    """Refuse a value that the option cannot have.

    Raises:
        InputError: with the option's name and what it takes.
    """
    kind, least = str(option.type), option.metadata["least"]
    if value is None and "None" in kind:
        return
    if kind == "bool" and not isinstance(value, bool):
        raise InputError(f"{option.name} is True or False, not {value!r}")
    if kind == "str | None" and not isinstance(value, str | os.PathLike):
        what = "the name of a file" if option.metadata["metavar"] == "FILE" else option.metadata["metavar"]
        raise InputError(f"{option.name} takes {what}, not {value!r}")
    if option.metadata["read"] is not None:
        option.metadata["read"](value)
    if "Sandbox" in kind and not (isinstance(value, str) or hasattr(value, "execute")):
        raise InputError(
            f"{option.name} takes the name of a kernelspec, the address of a Jupyter server or a Sandbox, not {value!r}"
        )
    if least is None:
        return
    whole = kind.startswith("int")
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        unit = "a whole number" if whole else "US dollars" if option.metadata["metavar"] == "USD" else "seconds"
        raise InputError(f"{option.name} takes {unit}, not {value!r}")
    if not value >= least:
        raise InputError(f"{option.name} has to be at least {least:g}, not {value:g}")


def parse_value(option: dataclasses.Field[Any], text: str) -> Any:
    """The value of an option written as text, in the environment or on the magic's line.

    Raises:
        InputError: it cannot be read.
    """
    kind = str(option.type)
    try:
        if kind == "bool":
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}[
                text.lower()
            ]
        if kind in ("float | None", "int | None") and text.lower() in ("none", ""):
            value: Any = None
        elif "float" in kind:
            value = float(text)
        else:
            value = int(text) if kind.startswith("int") else text
    except (ValueError, KeyError):
        raise InputError(f"{option.name}: {text!r} is not {'yes or no' if kind == 'bool' else 'a number'}") from None
    check(option, value)
    return value


def _from_environment() -> Options:
    found = {}
    for option in dataclasses.fields(Options):
        text = os.environ.get(f"RLM_{option.name.upper()}")
        if text is not None:
            try:
                found[option.name] = parse_value(option, text)
            except InputError as error:
                raise InputError(f"in the environment, RLM_{option.name.upper()}: {error}") from None
    return Options(**found)


_configured: Options | None = None


def defaults() -> Options:
    """The options that hold where a call says nothing."""
    return _configured if _configured is not None else _from_environment()


def configure(**options: Any) -> Options:
    """Set defaults for every later `%%rlm` and `RLM(...)`; returns all of them.

    Args:
        **options: fields of `Options`: `model="claude-opus-5-5"`, `max_iterations=30`, … A model or a sandbox may be an
            object of your own.

    Raises:
        InputError: an unknown option or a value out of range.
    """
    global _configured  # noqa: PLW0603 - the one place where defaults live
    _configured = defaults().merged(options)
    for listener in _LISTENERS:
        listener(_configured)
    return _configured


def on_configure(listener: Callable[[Options], None] | None) -> None:
    """Have the magic's traits follow; None takes it away."""
    _LISTENERS[:] = [listener] if listener is not None else []
