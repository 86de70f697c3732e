"""Puts the variables that the host sent into the namespace.

A parcel is one file per variable in the sandbox's folder, removed as soon as it is open here: a stretch of text or
bytes, or a pickle (protocol 5) followed by its out-of-band buffers, which are mapped copy-on-write, not copied.
Unpickling is safe in this direction: the host is the trusted side.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle  # host -> sandbox only, see above
import sys
from typing import Any

_CHUNK = 16 * 2**20


def receive(namespace: dict[str, Any], parcels: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Load every parcel into `namespace`; returns `{"name", "error"}` for each that could not be."""
    failed = []
    for parcel in parcels:
        try:
            namespace[parcel["name"]] = _load(parcel)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a foreign __setstate__ may raise anything, SystemExit too
            failed.append({"name": parcel["name"], "error": f"{type(error).__name__}: {error}"})
    return failed


def _load(parcel: dict[str, Any]) -> Any:
    fd = os.open(parcel["path"], os.O_RDONLY)
    try:
        os.unlink(parcel["path"])  # noqa: PTH108 - no pathlib in here
        if parcel["kind"] == "text":
            return _text(fd, parcel["size"], parcel["ascii"])
        if parcel["kind"] == "bytes":
            return _fill(fd, bytearray(parcel["size"])) if parcel["mutable"] else _read(fd, parcel["size"])
        return _unpickle(fd, parcel)
    finally:
        os.close(fd)


def _unpickle(fd: int, parcel: dict[str, Any]) -> Any:
    if not parcel["buffers"]:
        with open(fd, "rb", closefd=False) as file:
            return pickle.load(file)  # noqa: S301 - from the host
    whole = memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_COPY))
    buffers = []
    for offset, size, readonly in parcel["buffers"]:
        view = whole[offset : offset + size]
        buffers.append(view.toreadonly() if readonly else view)
    return pickle.loads(whole[: parcel["size"]], buffers=buffers)  # noqa: S301 - from the host


def _read(fd: int, size: int) -> bytes:
    with open(fd, "rb", closefd=False) as file:
        return file.read(size)


def _fill(fd: int, target: Any) -> Any:
    view, done = memoryview(target).cast("B"), 0
    while done < len(view):
        got = os.readv(fd, [view[done : done + _CHUNK]])
        if not got:
            raise EOFError("the parcel is shorter than it says")
        done += got
    return target


def _text(fd: int, size: int, ascii_only: bool) -> str:
    if ascii_only and size and sys.implementation.name == "cpython":
        return _ascii(fd, size)
    return _read(fd, os.fstat(fd).st_size).decode("utf-8", "surrogatepass")


def _ascii(fd: int, size: int) -> str:
    """Read into the memory of a fresh str: decoding would hold the text twice, which 1 GB does not allow.

    This is the use that PyUnicode_New (CPython's C API) is made for: fill it before anybody else sees it.
    """
    new = ctypes.pythonapi.PyUnicode_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_ssize_t, ctypes.c_uint]
    text: str = new(size, 127)
    address = id(text) + sys.getsizeof(text) - size - 1  # compact ASCII: header, characters, one NUL
    _fill(fd, (ctypes.c_char * size).from_address(address))
    return text
