"""Landlock: which files this process and everything it starts may reach. Through the system calls; no package has them.

Source: the Linux manual page landlock(7) and Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
VERSION_FLAG, PATH_BENEATH = 1, 1
KNOWS_PORTS = 4
"""The version that came with Linux 6.7."""
PR_SET_NO_NEW_PRIVS = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_CHAR, MAKE_SOCK, MAKE_BLOCK, MAKE_SYM = 1 << 6, 1 << 9, 1 << 11, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
ALL_OF_ABI_1 = (1 << 13) - 1
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""Rights that make sense for a file; the others are about folders."""
TCP_BIND_AND_CONNECT, TCP_CONNECT, NET_PORT = 3, 2, 2
ABSTRACT_SOCKETS_AND_SIGNALS = 3

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The version of Landlock that this kernel has; 0 for none."""
    try:
        return _call(CREATE_RULESET, None, 0, VERSION_FLAG)
    except OSError:
        return 0


def restrict(readable: Iterable[str], writable: Iterable[str], newest: int = 99, port: int | None = None) -> int:
    """Allow reading (and running) below `readable`, all but device nodes below `writable`, and TCP to one port at most.

    To be called before there is a second thread: it holds for the calling thread and what it starts.

    Args:
        newest: play an older kernel, for tests.
        port: may be connected to. Without it there is no TCP at all.

    Returns:
        The version of Landlock that holds.

    Raises:
        OSError: the kernel has no Landlock, or none that knows ports.
    """
    version = min(abi(), newest)
    if not version:
        raise OSError("this kernel has no Landlock")
    if port is not None and version < KNOWS_PORTS:
        raise OSError("this kernel cannot hold a program to one port")
    handled = ALL_OF_ABI_1 | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    handled |= IOCTL_DEV if version >= 5 else 0
    attributes = struct.pack("<Q", handled)
    attributes += struct.pack("<Q", TCP_BIND_AND_CONNECT) if version >= KNOWS_PORTS else b""
    attributes += struct.pack("<Q", ABSTRACT_SOCKETS_AND_SIGNALS) if version >= 6 else b""
    ruleset = _call(CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path in readable:
            _allow(ruleset, path, handled & (EXECUTE | READ_FILE | READ_DIR))
        for path in writable:
            _allow(ruleset, path, handled & ~(MAKE_CHAR | MAKE_BLOCK | MAKE_SYM | MAKE_SOCK | EXECUTE))
        if port is not None:
            _call(ADD_RULE, ruleset, NET_PORT, struct.pack("<QQ", TCP_CONNECT, port), 0)
        if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "no_new_privs was refused")
        _call(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there need not be allowed
    try:
        rights &= rights if os.path.isdir(path) else OF_FILES
        _call(ADD_RULE, ruleset, PATH_BENEATH, struct.pack("<Qi", rights, beneath), 0)
    finally:
        os.close(beneath)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
