"""What a hostile cell is, and what every one of them finds in its namespace."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PRELUDE", "Cell"]


@dataclass(frozen=True)
class Cell:
    """One attempt.

    Attributes:
        code: run after `PRELUDE`; `O` says where things are.
        control: it gets through where nothing is isolated, which is tried; "root": if the host is root.
        by_design: the levels whose promise leaves it open.
    """

    code: str
    control: bool | str = True
    by_design: tuple[str, ...] = ()


PRELUDE = r"""
import ctypes, fcntl, glob, mmap, os, pathlib, platform, resource, signal, socket, stat, struct, subprocess, sys
import tempfile, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
COLUMN = ("x86_64", "aarch64").index(platform.machine())

def call(numbers, *words):
    ctypes.set_errno(0)
    number = numbers if isinstance(numbers, int) else numbers[COLUMN]
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(w) if isinstance(w, int) else w for w in words))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def forks(*words):
    # not as `call` does: the lock of the interpreter has to be held, or the child may wait for it for ever
    result = ctypes.PyDLL(None, use_errno=True).syscall(*(ctypes.c_long(w) if isinstance(w, int) else w for w in words))
    if result < 0:
        raise OSError(ctypes.get_errno(), 'refused')
    return result

def tries(**attempts):
    # what an attempt returns is told, unless that is None
    for name, attempt in attempts.items():
        try:
            result = attempt()
        except Exception as error:
            print("refused", name, error)
        else:
            print("done" if result is None else f"GOT {name}: {result!r}")

def silent(result):
    return None  # the host sees for itself

def show(*paths):
    for path in paths:
        try:
            with open(path, "rb") as file:
                print(file.read(65536))
        except OSError as error:
            print("refused", path, error)

def opens(path, flags=os.O_RDONLY):
    os.close(os.open(path, flags))
    return path

def environ(*paths):
    for path in paths:
        try:
            with open(path, "rb") as file:
                print([word for word in file.read().split(b"\0") if word.startswith(b"RLM_CANARY")])
        except OSError as error:
            print("refused", path, error)

def in_child(work):
    # a process of its own, for what could end it
    pid = os.fork()
    if not pid:
        try:
            os._exit(0 if work() else 1)
        except BaseException:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0
"""
