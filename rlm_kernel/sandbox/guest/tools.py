"""The host's tools as functions of the REPL: arguments go out as JSON, and the result or the error comes back as one.

Every kind of sandbox gets them in the same way: as a variable, a text called `CARRIER`, which is taken out of the
namespace again.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from typing import Any

from . import wire
from .channel import Channel, HostError

CARRIER = "__rlm_tools__"
"""What it holds: `[[name, docstring], …]` as JSON; empty for no tools."""
_OURS = ("CancelledError", "Submitted")
"""Names by which the host tells how a cell ended; an error of a tool must not look like it."""


class ToolError(Exception):
    """A tool failed, or the host refused to call it. Its class has the name of what was raised there."""

    __module__ = "builtins"  # the model knows it by its bare name

    def __str__(self) -> str:  # KeyError would put its text into quotes once more
        return str(self.args[0]) if self.args else ""


def read(text: str, channel: Channel) -> dict[str, Callable[..., Any]]:
    """The functions that the host has described.

    Raises:
        Exception: it is no description.
    """
    return {str(name): _function(str(name), str(doc), channel) for name, doc in json.loads(text)} if text else {}


def _function(name: str, doc: str, channel: Channel) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            given = {"args": [wire.encode(x) for x in args], "kwargs": {k: wire.encode(v) for k, v in kwargs.items()}}
        except wire.NotSendableError as error:
            raise TypeError(f"{name}(): {error}") from None
        try:
            answer = channel.call("tool", tool=name, arguments=json.dumps(given, ensure_ascii=False))
        except HostError as error:
            raise ToolError(str(error)) from None
        if "error" in answer:
            raise _raised(answer["error"], answer["text"])
        try:
            return wire.decode(json.loads(answer["value"]))
        except ImportError as error:
            raise ToolError(f"the result of {name}() needs '{error.name}', which the sandbox has not got") from None

    call.__name__ = call.__qualname__ = name
    call.__doc__, call.__module__, call.__annotations__ = doc, "builtins", {}
    return call


def _raised(name: str, text: str) -> Exception:
    """An error of the host's, as what it is called there where Python has an exception of that name."""
    known = getattr(builtins, name, None)
    if name in _OURS or (
        isinstance(known, type) and not issubclass(known, Exception)
    ):  # SystemExit would end the kernel
        return ToolError(f"{name}: {text}" if text else name)
    bases = (ToolError, known) if isinstance(known, type) else (ToolError,)
    try:
        made: Exception = type(name, bases, {"__module__": "builtins"})(text)
    except TypeError:  # UnicodeDecodeError takes more than a text
        made = type(name, (ToolError,), {"__module__": "builtins"})(text)
    return made
