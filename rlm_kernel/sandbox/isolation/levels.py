"""Which level of isolation this machine can give, found out by trying."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys

from rlm_kernel.errors import InputError
from rlm_kernel.sandbox.isolation import bubblewrap, seatbelt
from rlm_kernel.sandbox.isolation.inside import landlock, seccomp
from rlm_kernel.sandbox.isolation.policy import LEVELS, Level, Limits, prefixes, promise

__all__ = ["choose", "described", "why_not"]

_SECONDS = 20


def choose(wish: str = "auto", *, elsewhere: bool = False) -> Level:
    """The level to use: the one that is wished for, or the best that can be had but for "none".

    Args:
        wish: a level, or "auto".
        elsewhere: a kernelspec or a server runs the kernel, as it does.

    Raises:
        InputError: it cannot be had; the message says what to install.
    """
    if elsewhere and wish in LEVELS[:-1]:
        raise InputError(f"sandbox level '{wish}': a kernelspec or server runs its kernels as it does; leave it away")
    if wish == "none" or elsewhere:
        return "none"
    if wish in LEVELS:
        if missing := why_not(wish):
            raise InputError(f"the sandbox level '{wish}' cannot be had here: {missing}")
        return wish
    if wish != "auto":
        raise InputError(f"sandbox_level is auto, {', '.join(LEVELS)}, not '{wish}'")
    for level in LEVELS[:-1]:
        if not why_not(level):
            return level
    raise InputError(
        f"this machine cannot isolate model-written code: {why_not('full')}. To run it all the same, with all that "
        "your user may do, say --sandbox-level none"
    )


def described(level: Level, limits: Limits, net: str) -> str:
    """What a level keeps from the code, and whether there is a better one, in words."""
    better = f" The level 'full' keeps more: {why_not('full')}." if level == "landlock" and why_not("full") else ""
    return f"{level}: {promise(level, limits, net)}{better}"


@functools.cache
def why_not(level: Level) -> str:
    """Why a level cannot be had on this machine; empty when it can."""
    if level == "none":
        return ""
    if level == "seatbelt":
        has_it = sys.platform == "darwin" and os.access(seatbelt.PROGRAM, os.X_OK)
        return "" if has_it else f"it needs macOS with {seatbelt.PROGRAM}"
    if not sys.platform.startswith("linux"):
        return f"it needs Linux, this is {platform.system()}"
    if platform.machine() not in seccomp.MACHINES:
        return f"it is not made for {platform.machine()} machines"
    if not landlock.abi():
        return "this kernel has no Landlock (Linux 5.13 has it; some containers forbid it)"
    return _no_bubblewrap() if level == "full" else ""


def _no_bubblewrap() -> str:
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap is not installed (apt install bubblewrap, dnf install bubblewrap)"
    words = bubblewrap.command(program, prefixes(), Limits(), as_root=os.getuid() == 0)
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            [*words, "/usr/bin/true"],
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not run: {error}"
    if done.returncode == 0:
        return ""
    said = " ".join(done.stderr.split())[:200]
    advice = "in a container that is usual, on Ubuntu 24.04 it needs an AppArmor profile"
    return f"bubblewrap may not make namespaces here ({said}); {advice}"
