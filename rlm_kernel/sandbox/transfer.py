"""Variables on their way into the sandbox: packed into files of its folder, checked before anything starts.

Text and bytes go as they are; everything else as a pickle (protocol 5, cloudpickle, so functions and classes of the
notebook travel too) with its large buffers beside it, which the guest maps instead of copying. The guest's half is
`guest/inbox.py`.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle

from rlm_kernel.errors import TransferError
from rlm_kernel.sandbox.sealed import Sealed

__all__ = ["Parcel", "pack", "write"]

_CHUNK = 4 * 2**20
_PAGE = 4096
_BIG = 256 * 2**10
_HINTS: dict[type, str] = {
    types.GeneratorType: "pass list(...) of it",
    io.TextIOWrapper: "pass its text, or a pathlib.Path to the file",
    memoryview: "pass bytes(...) of it",
    io.BufferedReader: "pass its bytes, or a pathlib.Path to the file",
}


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle, but for what it would send as something else: a file as its text, a view as its bytes."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, io.TextIOWrapper | memoryview):
            raise pickle.PicklingError(f"cannot pickle {type(obj).__name__!r} object")
        return super().reducer_override(obj)


@dataclass(slots=True)
class Parcel:
    """One variable, packed: what the guest has to know, and what is still to be written."""

    name: str
    path: Path
    spec: dict[str, Any]
    _bulk: Callable[[], None] | None = field(default=None, repr=False)

    def write(self) -> None:
        """Write the bulk; slow, so it is done while the kernel starts. Only memory and disk can fail here."""
        if self._bulk is not None:
            self._bulk()
            self._bulk = None


def pack(variables: Mapping[str, Any], folder: Path) -> list[Parcel]:
    """Pack every variable, or none.

    Raises:
        TransferError: a value cannot travel; the message names it. Nothing is left in `folder`.
    """
    parcels: list[Parcel] = []
    try:
        for number, (name, value) in enumerate(variables.items()):
            parcels.append(_pack(name, value, folder / f"{number}-{os.urandom(4).hex()}"))
    except BaseException:
        for parcel in parcels:
            parcel.path.unlink(missing_ok=True)
        raise
    return parcels


def _pack(name: str, value: Any, path: Path) -> Parcel:
    spec: dict[str, Any] = {"name": name, "path": str(path)}
    if isinstance(value, Sealed):
        return _pack_sealed(name, value, path, spec)
    if type(value) is str and len(value) > _BIG:
        spec |= {"kind": "text", "size": len(value), "ascii": value.isascii()}
        return Parcel(name, path, spec, lambda: _write_text(path, value))
    if type(value) in (bytes, bytearray) and len(value) > _BIG:
        spec |= {"kind": "bytes", "size": len(value), "mutable": type(value) is bytearray}
        return Parcel(name, path, spec, lambda: _write_buffers(path, [(0, memoryview(value))]))
    buffers: list[pickle.PickleBuffer] = []
    with path.open("wb") as file:
        path.chmod(0o644)
        try:
            _Pickler(file, protocol=5, buffer_callback=buffers.append).dump(value)
        except Exception as error:  # noqa: BLE001 - a foreign __reduce__ may raise anything
            file.close()
            path.unlink(missing_ok=True)
            raise TransferError(_why_not(name, value, error)) from None
        size = file.tell()
    views = [b.raw() for b in buffers]
    layout, offset = [], size
    for view in views:
        offset = -(-offset // _PAGE) * _PAGE  # a page each: mapped arrays keep their alignment
        layout.append((offset, view))
        offset += view.nbytes
    spec |= {
        "kind": "pickle",
        "python": sys.version_info[:2],
        "buffers": [[at, v.nbytes, v.readonly] for at, v in layout],
    }
    return Parcel(name, path, spec, (lambda: _write_buffers(path, layout)) if layout else None)


def _pack_sealed(name: str, value: Sealed, path: Path, spec: dict[str, Any]) -> Parcel:
    path.write_bytes(value.data or b"")
    path.chmod(0o644)
    if value.data is None:
        spec |= {"kind": "inherited", "source": value.source, "digest": value.digest, "size": value.size}
    else:
        spec |= {"kind": "pickle", "python": value.python, "buffers": []}
    return Parcel(name, path, spec)


def _why_not(name: str, value: Any, error: Exception) -> str:
    kind = type(value).__name__
    hint = next((text for cls, text in _HINTS.items() if isinstance(value, cls)), "pass the data it holds instead")
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return f"variable '{name}' ({kind}) cannot travel to the sandbox: {reason}; {hint}"


def _write_text(path: Path, text: str) -> None:
    with path.open("wb", buffering=0) as file:
        path.chmod(0o644)
        for start in range(0, len(text), _CHUNK):
            _write_all(file, text[start : start + _CHUNK].encode("utf-8", "surrogatepass"))


def _write_buffers(path: Path, layout: list[tuple[int, memoryview]]) -> None:
    path.touch(0o644)
    with path.open("r+b", buffering=0) as file:
        for offset, view in layout:
            file.seek(offset)
            _write_all(file, view)
        if layout:
            file.truncate(max(offset + view.nbytes for offset, view in layout))


def _write_all(file: io.FileIO, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[file.write(view[: 64 * _CHUNK]) :]


def write(parcels: Iterable[Parcel]) -> None:
    """Write the bulk of each."""
    for parcel in parcels:
        parcel.write()
