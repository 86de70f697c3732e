"""Reads a message of the kernel off the wire: the frames that Jupyter's protocol prescribes, and only what we use.

The signature is checked before anything is parsed, and dates stay text: jupyter_client's own reader looks for them in
every string, which costs more than all the rest.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jupyter_client.session import DELIM, Session

__all__ = ["Message", "read"]

_PARTS = 5
"""Signature, header, parent header, metadata, content."""


@dataclass(frozen=True, slots=True)
class Message:
    """What arrived. All of it is hostile but for the signature."""

    kind: str
    parent_id: str
    content: dict[str, Any]


def read(session: Session, frames: Sequence[bytes]) -> Message:
    """The message in these frames.

    Raises:
        ValueError: it is none, or its signature is wrong.
    """
    start = frames.index(DELIM) + 1
    if len(frames) < start + _PARTS:
        raise ValueError("too few frames")
    signature, header, parent, metadata, content = frames[start : start + _PARTS]
    if session.auth is not None:
        expected = session.sign([header, parent, metadata, content])
        if not hmac.compare_digest(expected, signature):
            raise ValueError("wrong signature")
    head, above, body = json.loads(header), json.loads(parent), json.loads(content)
    if not (isinstance(head, dict) and isinstance(above, dict) and isinstance(body, dict)):
        raise ValueError("not a message")
    return Message(str(head.get("msg_type")), str(above.get("msg_id")), body)
