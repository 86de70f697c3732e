"""A value of one sandbox on its way into another: bytes that only sandboxes read. The host passes them on, no more."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlm_kernel.events import Variable

__all__ = ["Sealed", "sealed"]

_WORD_CHARS, _PREVIEW_CHARS = 200, 2_000


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Sealed:
    """What a sandbox's `guest.sealing` made of a value."""

    data: bytes | None
    """A pickle; None for a large value, which the other sandbox may have inherited."""
    digest: str
    """Of the pickle."""
    size: int
    """Bytes of the pickle."""
    source: str
    """The name of the variable in its sandbox; empty if it has none."""
    python: tuple[int, int]
    """The version that pickled it."""


def sealed(variables: object) -> tuple[dict[str, Sealed], tuple[Variable, ...]]:
    """The variables of a request, and what the model is to be told of them.

    Raises:
        ValueError: they are none.
    """
    if not isinstance(variables, Mapping):
        raise ValueError("variables are passed by name")
    found, described = {}, []
    for name, given in variables.items():
        if not isinstance(name, str) or not isinstance(given, Mapping):
            raise ValueError("variables are passed by name")
        try:
            data = given.get("data")
            found[name] = Sealed(
                None if data is None else base64.b64decode(data, validate=True),
                str(given["digest"])[:_WORD_CHARS],
                int(given["size"]),
                str(given["source"])[:_WORD_CHARS],
                (int(given["python"][0]), int(given["python"][1])),
            )
            kind, words = _text(given["type"], _WORD_CHARS), _text(given["words"], _WORD_CHARS)
            described.append(Variable(name, kind, words, _text(given["preview"], _PREVIEW_CHARS)))
        except (KeyError, IndexError, TypeError, ValueError, OverflowError, binascii.Error):
            raise ValueError(f"the variable {name[:40]!r} cannot be read") from None
    return found, tuple(described)


def _text(value: Any, limit: int) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value[:limit]
