"""Puts the variables that the host sent into the namespace.

A parcel is one file per variable in a folder of the host's, which removes it when it has been loaded: a stretch of
text or bytes, or a pickle (protocol 5) followed by its out-of-band buffers, which are mapped copy-on-write, not copied.
Unpickling is safe in this direction: the host is the trusted side.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle  # host -> sandbox only, see above
import sys
from collections.abc import Mapping
from typing import Any

from .sealing import LackError, inherited
from .upload import Uploads

_CHUNK = 16 * 2**20


def receive(
    namespace: dict[str, Any], parcels: list[dict[str, Any]], uploads: Uploads, left: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Load every parcel into `namespace`, from `uploads` if it is there, else from its file.

    Args:
        namespace: of the code.
        parcels: what was sent.
        uploads: parcels that came over the kernel's channels.
        left: variables that this process had when it was born.

    Returns:
        `{"name", "error"}` for each that could not be loaded.
    """
    failed = []
    for parcel in parcels:
        try:
            if parcel["kind"] == "inherited":
                namespace[parcel["name"]] = inherited(parcel, left)
            else:
                namespace[parcel["name"]] = _load(parcel, uploads.open(parcel["path"]))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a foreign __setstate__ may raise anything, SystemExit too
            kind = "" if isinstance(error, LackError) else f"{type(error).__name__}: "
            failed.append({"name": parcel["name"], "error": f"{kind}{error}"})
    return failed


class _Unpickler(pickle.Unpickler):
    """Says what this Python lacks, where it is not the host's."""

    def __init__(self, file: Any, buffers: list[memoryview], python: tuple[int, int]) -> None:
        super().__init__(file, buffers=buffers)
        self._python = python

    def find_class(self, module: str, name: str) -> Any:
        root, here = module.partition(".")[0], sys.version_info[:2]
        if root == "cloudpickle" and name == "_make_function" and here != self._python:
            theirs, own = (".".join(map(str, version)) for version in (self._python, here))
            raise LackError(f"code of Python {theirs} does not run in the sandbox's Python {own}; pass data instead")
        try:
            return super().find_class(module, name)
        except ModuleNotFoundError as error:
            raise LackError(f"the sandbox's Python has no module '{error.name}': install it there") from None
        except AttributeError:
            version = getattr(sys.modules.get(root), "__version__", "")
            raise LackError(
                f"the sandbox's {root} {version} has no {name}: install the version there that is here"
            ) from None


def _load(parcel: dict[str, Any], fd: int | None) -> Any:
    if fd is None:
        fd = os.open(parcel["path"], os.O_RDONLY)
    try:
        if parcel["kind"] == "text":
            return _text(fd, parcel["size"], parcel["ascii"])
        if parcel["kind"] == "bytes":
            return _fill(fd, bytearray(parcel["size"])) if parcel["mutable"] else _read(fd, parcel["size"])
        return _unpickle(fd, parcel)
    finally:
        os.close(fd)


def _unpickle(fd: int, parcel: dict[str, Any]) -> Any:
    buffers = []
    if parcel["buffers"]:
        whole = memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_COPY))
        for offset, size, readonly in parcel["buffers"]:
            view = whole[offset : offset + size]
            buffers.append(view.toreadonly() if readonly else view)
    with open(fd, "rb", closefd=False) as file:
        return _Unpickler(file, buffers, tuple(parcel["python"])).load()


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
