"""One call of a tool: hostile arguments are read and checked, the result is put into a form that may travel.

Nothing that a tool does gets past this: what it raises, SystemExit too, becomes the name and text of an error, without
the paths of this machine; what it returns is bounded.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rlm_kernel.sandbox.guest import wire
from rlm_kernel.sandbox.guest.describe import glance
from rlm_kernel.sandbox.messages import loads
from rlm_kernel.tools.values import Tool
from rlm_kernel.tools.workers import Workers

__all__ = ["MAX_CHARS", "Outcome", "perform", "told"]

MAX_CHARS = 32 * 2**20
"""Of the arguments of a call, and of its result, as JSON."""
ERROR_CHARS = 2_000
TOLD_CHARS = 2_000
"""Of a result that are kept for people."""
_ASKED_CHARS = 500
_SMALL_CHARS = 4_000
_PATH = re.compile(
    r"""(?<=['"])(?:[A-Za-z]:)?[/\\][^'"\n]*(?=['"])"""  # in quotes it may have spaces
    r"""|(?<![\w:/.~\\-])(?:/[^\s/:'"<>|,;()\[\]]+){2,}/?"""
    r"""|(?<!\w)[A-Za-z]:[/\\][^\s:'"<>|,;()\[\]]*"""
)
_WORDS = {"$arrow": "<table>", "$series": "<series>", "$npy": "<array>", "$bytes": "<bytes>"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call.

    Attributes:
        answer: for the sandbox: `value`, JSON in `guest.wire`'s form; or `error`, a name, and `text`.
        told: the result for people; empty after an error.
        error: for people; empty when there was none.
    """

    answer: dict[str, str]
    told: str = ""
    error: str = ""

    @classmethod
    def of(cls, name: str, text: str) -> Outcome:
        """An error of this name."""
        return cls({"error": name[:100], "text": text}, error=f"{name}: {text}" if text else name)


async def perform(tool: Tool, arguments: str, workers: Workers) -> Outcome:
    """Have a tool called.

    Args:
        tool: whose function may do anything.
        arguments: from the sandbox: `{"args": […], "kwargs": {…}}`, with values in `guest.wire`'s form.
        workers: where it runs.
    """
    if tool.is_async:
        return await workers.run_async(_call_async(tool, arguments))
    outcome = await workers.run(partial(_call, tool, arguments))
    if isinstance(outcome, Outcome):
        return outcome
    return await workers.run_async(_awaited(outcome, arguments))  # a function that has returned a coroutine


def told(arguments: str) -> str:
    """Arguments as they would be written in a call, cut to a line's length; hostile and unread as they may be."""
    if len(arguments) > _SMALL_CHARS:
        return f"{arguments[:_ASKED_CHARS]}… ({len(arguments):,} characters in all)"
    try:
        given = json.loads(arguments, object_hook=_hook)
        parts = [glance(v, _ASKED_CHARS) for v in given["args"]]
        parts += [f"{name}={glance(v, _ASKED_CHARS)}" for name, v in given["kwargs"].items()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return arguments[:_ASKED_CHARS]
    line = ", ".join(parts)
    return line if len(line) <= _ASKED_CHARS else f"{line[:_ASKED_CHARS]}…"


class _Word(str):
    """Shows without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _hook(value: dict[str, Any]) -> Any:
    tag = next(iter(value), "") if len(value) == 1 else ""
    return _Word(_WORDS[tag]) if tag in _WORDS else value[tag] if tag == "$text" else value


def _call(tool: Tool, arguments: str) -> Outcome | Awaitable[Any]:
    """In a thread."""
    try:
        call = _bound(tool, arguments)
    except Exception as error:  # noqa: BLE001 - hostile bytes, and validators of the user's
        return _refused(tool, error)
    try:
        value = call()
    except BaseException as error:  # noqa: BLE001 - a tool may raise anything; SystemExit would end the thread
        return _failed(error, arguments)
    return value if inspect.isawaitable(value) else _packed(value, arguments)


async def _call_async(tool: Tool, arguments: str) -> Outcome:
    """On the loop of the tools."""
    try:
        call = _bound(tool, arguments)
    except Exception as error:  # noqa: BLE001 - as above
        return _refused(tool, error)
    return await _awaited(call, arguments)


async def _awaited(work: Awaitable[Any] | Callable[[], Awaitable[Any]], arguments: str) -> Outcome:
    try:
        value = await (work() if callable(work) else work)
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
        return _failed(error, arguments)
    except BaseException as error:  # noqa: BLE001 - as above; it would end the loop
        return _failed(error, arguments)
    return _packed(value, arguments)


def _bound(tool: Tool, arguments: str) -> Callable[[], Any]:
    """The call, ready to be made.

    Raises:
        Exception: the arguments do not fit, or are none.
    """
    given = loads(arguments, constants=True)
    args, kwargs = given["args"], given["kwargs"]
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise TypeError("these are no arguments")
    decoded = [wire.decode(v) for v in args], {name: wire.decode(v) for name, v in kwargs.items()}
    args, kwargs = tool.shape.bind(*decoded)
    return partial(tool.function, *args, **kwargs)


def _packed(value: Any, arguments: str) -> Outcome:
    """A result, ready to travel."""
    try:
        if isinstance(value, str | bytes) and len(value) > MAX_CHARS:
            return _too_large(len(value))
        text = json.dumps(wire.encode(value))
        if len(text) > MAX_CHARS:
            return _too_large(len(text))
        shown = value if isinstance(value, str) else glance(value, TOLD_CHARS)
    except wire.NotSendableError as error:
        return Outcome.of("TypeError", f"the tool returned something that cannot be sent: {error}")
    except Exception as error:  # noqa: BLE001 - a foreign class is looked at; another thread may be changing it
        return _failed(error, arguments)
    cut = f"{shown[:TOLD_CHARS]}… ({len(shown):,} characters in all)" if len(shown) > TOLD_CHARS else shown
    return Outcome({"value": text}, cut)


def _too_large(size: int) -> Outcome:
    most = f"the {MAX_CHARS >> 20} MB that a tool may return"
    return Outcome.of("ValueError", f"the result is {size >> 20:,} MB, more than {most}: ask for less at once")


def _refused(tool: Tool, error: Exception) -> Outcome:
    kind = "a value that cannot be read" if not isinstance(error, TypeError | ValueError) else ""
    return Outcome.of("TypeError", f"{tool.name}(): {kind or _text(error)}")


def _failed(error: BaseException, arguments: str) -> Outcome:
    return Outcome.of(type(error).__name__, _pathless(_text(error), arguments))


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a foreign __str__
        return ""
    return text if len(text) <= ERROR_CHARS else f"{text[:ERROR_CHARS]}…"


def _pathless(text: str, known: str) -> str:
    """Without the paths of this machine, but for their last part, and for those that the sandbox has named itself."""

    def shorter(found: re.Match[str]) -> str:
        path = found[0]
        root = "/" + path.lstrip("/").partition("/")[0]
        if path.startswith("/") and not os.path.lexists(root):  # /api/v1 is none
            return path
        if json.dumps(path, ensure_ascii=False)[1:-1] in known:
            return path
        return "…/" + re.split(r"[/\\]", path.rstrip("/\\"))[-1]

    return _PATH.sub(shorter, text)
