"""Whose threads are these? A process with threads that nobody can start again in its copy must not be copied.

fork() copies the calling thread alone. Python's own threads of the kernel are made anew in the copy; OpenBLAS and
Arrow start theirs again when they need them (pthread_atfork in OpenBLAS's memory.c and Arrow's atfork_internal.cc).
Anything else (OpenMP after use, polars, DuckDB, a pool of the model's) would wait for ever for threads that are gone.
So each thread that Python does not know is looked at: its stack holds return addresses into the library that began it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterable

HARMLESS = ("openblas", "libarrow", "libzmq")
"""Part of the names of libraries that start their threads again in a copy, and of ZeroMQ, which is made anew there."""
HARMLESS_NAMES = ("jemalloc_bg_thd",)
"""A memory allocator's threads, which it stops and starts itself (pthread_atfork in its background_thread.c)."""
COMMON = ("libc.so", "libc-", "libpthread", "ld-linux", "libm.so", "python", "libpython", "libstdc++")
"""In every stack, so they tell nothing."""
STACK_BYTES = 64 * 1024
WORD = 8

_harmless: set[str] = set()
"""Threads that were looked at: what one began with does not change."""


def obstacles(own: Iterable[threading.Thread]) -> str | None:
    """What forbids a copy, in words; empty when nothing does, None while a thread runs, which cannot be looked at.

    Args:
        own: threads of the kernel itself. Those of the guest have names that begin with `rlm-`.
    """
    known = {*own, threading.main_thread()}
    foreign = [t.name for t in threading.enumerate() if t not in known and not t.name.startswith("rlm-")]
    if foreign:
        return f"a thread of Python is running ({foreign[0]})"
    native = {str(t.native_id) for t in threading.enumerate()} | {str(os.getpid())}  # that of the main thread is stale
    try:
        running = os.listdir("/proc/self/task")
    except OSError:  # Landlock allows the /proc/self of the first kernel alone
        return "its threads cannot be looked at"
    for tid in _harmless - {*running}:
        _harmless.discard(tid)
    code: list[tuple[int, int, str]] = []
    for tid in running:
        if tid in native or tid in _harmless:
            continue
        if _name(tid) not in HARMLESS_NAMES:
            code = code or _mapped()
            library = _library(tid, code)
            if not library:
                return None
            if not any(part in library for part in HARMLESS):
                return f"{library} has threads of its own"
        _harmless.add(tid)
    return ""


def _name(tid: str) -> str:
    try:
        with open(f"/proc/self/task/{tid}/comm") as file:
            return file.read().strip()
    except OSError:  # it has just ended
        return HARMLESS_NAMES[0]


def _mapped() -> list[tuple[int, int, str]]:
    """What the process has mapped: from, to, the file's base name where it is code."""
    found = []
    with open("/proc/self/maps") as file:
        for line in file:
            span, rights, *_, path = (line.rstrip("\n") + " ").split(" ", 5)
            low, high = (int(x, 16) for x in span.split("-"))
            path = path.strip()
            name = os.path.basename(path) if "x" in rights and path.startswith("/") else ""
            found.append((low, high, "" if name.startswith(COMMON) else name))
    return found


def _library(tid: str, mapped: list[tuple[int, int, str]]) -> str:
    """Base name of the library whose function the thread began with.

    Empty while the thread runs: only of one that waits is it known where its stack ends.
    """
    try:
        with open(f"/proc/self/task/{tid}/syscall") as file:
            words = file.read().split()
    except OSError:
        return ""
    if len(words) < 2:
        return ""
    top = int(words[-2], 16)
    end = next((high for low, high, _ in mapped if low <= top < high), top)
    begin = max(top, end - STACK_BYTES) // WORD * WORD
    stack = ctypes.string_at(begin, end - begin)
    code = [region for region in mapped if region[2]]
    # from its first frame on: deeper ones may hold what is left of another thread that had this memory before
    for i in range(len(stack) - WORD, -1, -WORD):
        address = int.from_bytes(stack[i : i + WORD], "little")
        for low, high, name in code:
            if low <= address < high:
                return name
    return ""
