"""Kernel messages as a Jupyter server's websocket carries them, in both dialects. No socket here.

`v1.kernel.websocket.jupyter.org` passes the kernel's own frames on; the older one, which gateways still speak, holds
JSON. See https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html
"""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Sequence
from typing import Any

from jupyter_client.session import DELIM

__all__ = ["V1", "decode", "encode"]

V1 = "v1.kernel.websocket.jupyter.org"
_PARTS = ("header", "parent_header", "metadata", "content")
_MOST_PARTS = 1024


def encode(channel: str, parts: Sequence[bytes], buffers: Sequence[bytes], *, v1: bool) -> bytes | str:
    """A message for the server.

    Args:
        channel: "shell", "control" or "stdin".
        parts: header, parent header, metadata and content, each as JSON.
        buffers: go along as they are.
        v1: the dialect.
    """
    if v1:
        pieces: list[bytes] = [channel.encode(), *parts, *buffers]
        first = 8 * (len(pieces) + 2)
        offsets = itertools.accumulate((len(piece) for piece in pieces), initial=first)
        return b"".join([struct.pack(f"<{len(pieces) + 2}Q", len(pieces) + 1, *offsets), *pieces])
    fields = ", ".join(f'"{name}": {part.decode()}' for name, part in zip(_PARTS, parts, strict=True))
    text = f'{{"channel": "{channel}", {fields}, "buffers": []}}'
    if not buffers:
        return text
    pieces = [text.encode(), *buffers]
    offsets = itertools.accumulate((len(piece) for piece in pieces[:-1]), initial=4 * (len(pieces) + 1))
    return b"".join([struct.pack(f">{len(pieces) + 1}I", len(pieces), *offsets), *pieces])


def decode(data: bytes | str, *, v1: bool) -> tuple[str, list[bytes]]:
    """The channel of a message and its frames as they come from a kernel's socket, without a signature.

    Raises:
        ValueError, RecursionError: it is no message.
    """
    if isinstance(data, str):  # also what a server says itself among messages of the newer dialect
        return _of_json(data)
    if not v1:
        (count,) = struct.unpack_from(">I", _at_least(data, 4))
        if not 1 <= count <= _MOST_PARTS:
            raise ValueError("too many parts")
        start = struct.unpack_from(">I", _at_least(data, 4 + 4 * count), 4)[0]
        end = struct.unpack_from(">I", data, 8)[0] if count > 1 else len(data)
        return _of_json(data[start:end])  # nothing of ours sends buffers out of the sandbox
    (count,) = struct.unpack_from("<Q", _at_least(data, 8))
    if not len(_PARTS) + 2 <= count <= _MOST_PARTS:
        raise ValueError("too many parts")
    offsets = struct.unpack_from(f"<{count}Q", _at_least(data, 8 + 8 * count), 8)
    if any(a > b for a, b in itertools.pairwise(offsets)) or offsets[-1] > len(data):
        raise ValueError("parts that overlap")
    pieces = [data[a:b] for a, b in itertools.pairwise(offsets)]
    return pieces[0].decode(), [DELIM, b"", *pieces[1:]]


def _of_json(text: bytes | str) -> tuple[str, list[bytes]]:
    message: Any = json.loads(text)
    if not isinstance(message, dict):
        raise ValueError("not a message")
    parts = [json.dumps(message.get(name) or {}).encode() for name in _PARTS]
    return str(message.get("channel")), [DELIM, b"", *parts]


def _at_least(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise ValueError("cut short")
    return data
