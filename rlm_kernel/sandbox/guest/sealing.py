"""Values of this sandbox as bytes for another one. The host passes them on and never reads them.

A large value is not sent where the other sandbox has it already: a child of this process, whose state is that of before
the cell that asks. The digest of its own pickle proves it, so a value that was changed since is not mistaken for it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import sys
from collections.abc import Mapping
from typing import Any

from .describe import describe

INLINE_BYTES = 32 * 2**20
"""Of a value that is sent as it is."""


class _Sink:
    """Takes a pickle: hashes it, and keeps it as long as it is small."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=20)
        self._kept: io.BytesIO | None = io.BytesIO()
        self.size = 0

    def write(self, piece: Any) -> int:
        size = memoryview(piece).nbytes
        self._hash.update(piece)
        self.size += size
        if self._kept is not None:
            self._kept.write(piece)
            if self.size > INLINE_BYTES:
                self._kept = None
        return size

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    @property
    def data(self) -> bytes | None:
        return self._kept.getvalue() if self._kept is not None else None


def _pickled(value: Any) -> _Sink:
    try:
        from cloudpickle import Pickler  # functions and classes of the REPL travel too
    except ImportError:
        from pickle import Pickler
    sink = _Sink()
    Pickler(sink, 5).dump(value)
    return sink


def seal(name: str, value: Any, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """`value` as JSON-able data, and what is to be told of it.

    Raises:
        TypeError: it cannot be passed on.
    """
    try:
        sink = _pickled(value)
    except Exception as error:  # noqa: BLE001 - a foreign __reduce__ may raise anything
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise TypeError(f"the variable {name!r} ({type(value).__name__}) cannot be passed on: {why}") from None
    kind, words, preview = describe(value)
    made = {"digest": sink.digest, "size": sink.size, "python": list(sys.version_info[:2])}
    made |= {"type": kind, "words": words, "preview": preview}
    made["source"] = next((n for n, v in list(namespace.items()) if v is value and isinstance(n, str)), "")
    if sink.data is not None:
        made["data"] = base64.b64encode(sink.data).decode("ascii")
    return made


class LackError(Exception):
    """This Python lacks something that the other one has."""


def inherited(parcel: Mapping[str, Any], left: Mapping[str, Any]) -> Any:
    """The value of a parcel that holds none, from what this process had of its parent.

    Raises:
        LackError: it is not there, or it has been changed since.
    """
    value = left.get(parcel["source"], left)
    if value is left or _pickled(value).digest != parcel["digest"]:
        size = parcel["size"] / 2**20
        raise LackError(
            f"it takes {size:,.0f} MB and was made or changed in this very block, or the REPL could not be copied "
            f"after it was; call rlm_query in a later block, or pass a part of at most {INLINE_BYTES >> 20} MB"
        )
    return value
