"""Reads a message of the kernel off the wire: the frames that Jupyter's protocol prescribes, and only what we use.

Whoever holds the kernel holds its key, so the signature keeps strangers out and nothing else: everything is bounded
before it is parsed. Dates stay text: jupyter_client's own reader looks for them in every string.
"""

from __future__ import annotations

import hmac
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

from jupyter_client.session import DELIM, Session

__all__ = ["MAX_CONTAINERS", "MAX_DEPTH", "MAX_DIGITS", "MAX_HEADER_BYTES", "Message", "loads", "read"]

MAX_HEADER_BYTES = 64 * 2**10
"""Of a header and of a parent header."""
MAX_DEPTH = 200
"""Levels of nesting in JSON. A value may leave the sandbox with 40, of which each takes up to three."""
MAX_CONTAINERS = 2_000_000
"""Lists and objects in one JSON text: they take twenty times as much memory as text, all else at most twelve times."""
MAX_DIGITS = 4300
"""Of a whole number, which is Python's own default: reading one takes time that grows with the square."""
_PARTS = 5
"""Signature, header, parent header, metadata, content."""
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
"""Strings, so that what is in them does not count, and what opens and closes. Possessive: takes linear time."""


@dataclass(frozen=True, slots=True)
class Message:
    """What arrived. All of it is hostile."""

    kind: str
    parent_id: str
    content: dict[str, Any]


def read(session: Session, frames: Sequence[bytes], *parents: str) -> Message | None:
    """The message in these frames.

    Args:
        session: has the key.
        frames: no more than fit in memory several times.
        parents: of a message of another parent no more than the parent is parsed. Without any all are taken.

    Returns:
        The message; None for one of another parent.

    Raises:
        ValueError: it is none, its signature is wrong, or it is out of bounds.
    """
    start = list(frames).index(DELIM) + 1
    if len(frames) < start + _PARTS:
        raise ValueError("too few frames")
    signature, header, parent, metadata, content = frames[start : start + _PARTS]
    if len(header) > MAX_HEADER_BYTES or len(parent) > MAX_HEADER_BYTES:
        raise ValueError("too long a header")
    if session.auth is not None:
        expected = session.sign([header, parent, metadata, content])
        if not hmac.compare_digest(expected, signature):
            raise ValueError("wrong signature")
    above = _word(_object(parent), "msg_id")
    if parents and above not in parents:
        return None
    return Message(_word(_object(header), "msg_type"), above, _object(content))


def loads(text: str, *, constants: bool = False) -> Any:
    """The value of a JSON text from an enemy. Of a name that comes twice in an object the last counts.

    Args:
        text: the text.
        constants: NaN and the infinities, which Python writes and JSON has not, are taken too.

    Raises:
        ValueError: it is no JSON, or nested too deep, or has too many containers or too long a number.
    """
    _check_nesting(text)
    limited = 0 < sys.get_int_max_str_digits() <= MAX_DIGITS  # else the user has told Python not to look
    try:
        return _decoder(constants=constants, limited=limited).decode(text)
    except RecursionError:  # where the caller has used most of the stack up
        raise ValueError("nested too deep") from None


def _check_nesting(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = containers = 0
    for found in _BRACKETS.finditer(text):
        match text[found.start()]:
            case "[" | "{":
                depth += 1
                containers += 1
                if depth > MAX_DEPTH or containers > MAX_CONTAINERS:
                    raise ValueError("nested too deep or too often")
            case "]" | "}":
                depth -= 1


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS + 1:
        raise ValueError("too long a number")
    return int(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


@cache
def _decoder(*, constants: bool, limited: bool) -> json.JSONDecoder:
    own: dict[str, Any] = {} if limited else {"parse_int": _whole}
    return json.JSONDecoder(**own) if constants else json.JSONDecoder(parse_constant=_refuse, **own)


def _object(raw: bytes) -> dict[str, Any]:
    value = loads(raw.decode("utf-8", "replace"))
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _word(value: dict[str, Any], name: str) -> str:
    word = value.get(name)
    return word if isinstance(word, str) else ""
