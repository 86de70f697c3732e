"""What the first code of a sandbox is told: itself, as source, and its policy."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from rlm_kernel.sandbox.isolation import bubblewrap
from rlm_kernel.sandbox.isolation.policy import Level, Limits, prefixes

__all__ = ["new_uid", "policy", "script"]

_FIRST_UID, _PER_HOST = 2**30, 64
"""Far beyond the users that people make. Each sandbox has its own: the kernel counts a user's processes together."""
_INSIDE = ("landlock", "net", "seccomp", "threads", "shed", "kernel", "keeper", "lock")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_OWN_DEVICES = ("/tmp", "/dev/shm", "/dev/ptmx", "/dev/pts")  # noqa: S108 - inside, where they are the sandbox's own
_PROCESSES = ("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices/system/cpu")
_made = itertools.count()
_START = """\
import importlib.abc, importlib.util, json, sys
class _Sent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    sources = json.loads({sources!r})
    def find_spec(self, name, path=None, target=None):
        if name == "rlm_inside" or name.startswith("rlm_inside."):
            return importlib.util.spec_from_loader(name, self, is_package=name == "rlm_inside")
    def exec_module(self, module):
        name = module.__name__.partition(".")[2]
        if name:
            exec(compile(self.sources[name], "<" + module.__name__ + ">", "exec"), module.__dict__)
sys.meta_path.insert(0, _Sent())
from rlm_inside.keeper import keep
keep(json.loads({policy!r}))
"""


def script(told: Mapping[str, Any]) -> bytes:
    """A program for a Python's stdin: it locks its process down as it is told, and keeps a kernel."""
    return _START.format(sources=json.dumps(_sources()), policy=json.dumps(told)).encode()


def policy(level: Level, uid: int | None, limits: Limits, readable: list[str], work: str) -> dict[str, Any]:
    """What is to hold.

    Args:
        level: of isolation.
        uid: of its user, if not the caller's.
        limits: what it may use.
        readable: files and folders to be read besides Python's and /usr.
        work: the folder that can be written, as it is called inside.
    """
    full = level == "full"
    system = ["/usr", "/bin", "/lib", "/lib64", *bubblewrap.ETC]
    return {
        "locked": level != "none",
        "uid": uid,
        "limits": limits.rlimits(counted=full or uid is not None),
        "readable": ["/"] if full else [*system, *_PROCESSES, *prefixes(), *readable],
        "writable": [work, *_DEVICES, *(_OWN_DEVICES if full else ())],
        "shared": level == "landlock",
        "scratch": f"{work}/{bubblewrap.SCRATCH}",
        "private": _private([*prefixes(), *readable]),
        "host_pid": os.getpid(),
    }


def new_uid(level: Level) -> int | None:
    """A user of a sandbox's own when the host is root, unless that user could not read this Python."""
    if os.getuid() != 0 or level == "none":
        return None
    reached = level == "full" or all(_open_to_all(Path(path)) for path in prefixes())
    return _FIRST_UID + os.getpid() * _PER_HOST + next(_made) % _PER_HOST if reached else None


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in path.parents) and bool(path.stat().st_mode & 0o004)


def _private(readable: list[str]) -> list[str]:
    """Files and folders of the user's home that no sandbox may read: tried from inside."""
    with contextlib.suppress(OSError):
        entries = [str(entry) for entry in Path.home().iterdir()]
        return [e for e in entries if not any(f"{path}/".startswith(f"{e}/") for path in readable)][:50]
    return []


def _sources() -> dict[str, str]:
    folder = files("rlm_kernel.sandbox.isolation.inside")
    return {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in _INSIDE}
