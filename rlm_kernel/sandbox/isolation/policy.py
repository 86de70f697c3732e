"""What a sandbox may reach and use. Values only."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["DEFAULT", "LEVELS", "PROMISES", "PROVISIONER", "Level", "Limits", "prefixes", "promise"]

Level = Literal["full", "landlock", "seatbelt", "none"]
LEVELS: tuple[Level, ...] = ("full", "landlock", "seatbelt", "none")
MB = 2**20
PROVISIONER = "rlm-sandbox"
"""The name of our entry point in `jupyter_client.kernel_provisioners`."""

PROMISES: dict[Level, str] = {
    "full": "no network, no files but Python's and /usr (read-only) and a scratch folder, no environment, no other "
    "processes; limits on memory, processes and scratch. It shares this machine's kernel: a bug there can break it, "
    "and the data can leave through the prompts of sub-calls.",
    "landlock": "no network, no files but Python's and /usr (read-only) and a scratch folder, no environment; "
    "limits on memory and processes. Disk is not bounded, and it can see which processes run and whether a file that "
    "it names is there. It shares this machine's kernel: a bug there can break it, and the data can leave through the "
    "prompts of sub-calls.",
    "seatbelt": "best effort, by macOS's sandbox-exec, which nobody has tried on a Mac yet: no network, no files but "
    "Python's, the system's (read-only) and a scratch folder, no environment; names and sizes of files can be seen, "
    "and memory, processes and disk are not bounded. The data can leave through the prompts of sub-calls.",
    "none": "NOTHING is kept from it: a separate process, started without your key and environment, whose code can "
    "read your files and your other processes and use the network.",
}
"""What each level keeps from the code and what it does not."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the code may use. Sizes in MB."""

    memory: int = 4096
    """Address space of one process, besides the data that the host sends; and of all processes together."""
    processes: int = 256
    """Processes and threads."""
    scratch: int = 256
    """The scratch folder, and any one file."""
    files: int = 1024
    """Open at once, in one process."""
    output: int = 16
    """What one cell may put out, in millions (2**20) of characters."""
    cpu: float | None = 3600.0
    """Seconds of the processor that one cell may use, all its processes together; None without a limit.

    An hour is more than one core can use before `cell_timeout`, and what a machine full of them uses in a minute.
    """

    def rlimits(self, *, counted: bool = True) -> dict[str, int]:
        """As `setrlimit` takes them.

        Args:
            counted: the processes of the user are the sandbox's own; else a browser's would count as well.
        """
        return {
            "RLIMIT_AS": self.memory * MB,
            **({"RLIMIT_NPROC": self.processes} if counted else {}),
            "RLIMIT_FSIZE": self.scratch * MB,
            "RLIMIT_NOFILE": self.files,
            "RLIMIT_CORE": 0,
        }


DEFAULT = Limits()


def prefixes() -> list[str]:
    """Where this Python and its packages live, without the rest of those folders: a pip.conf may hold a token."""
    made: dict[str, None] = {}
    for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix):
        for name in ("bin", "lib", "lib64", "include", "share", "pyvenv.cfg"):
            path = Path(prefix) / name
            if path.exists() and not str(path).startswith("/usr/"):
                made[str(path)] = None
    executable = os.path.realpath(sys.executable)
    if not any(executable.startswith((f"{p}/", "/usr/")) for p in made):
        made[executable] = None
    return list(made)


def promise(level: Level, limits: Limits, net: str) -> str:
    """What a sandbox keeps from its code, for people.

    Args:
        level: of the sandbox.
        limits: of the sandbox.
        net: the hosts that it may be connected to; empty for none.
    """
    if level == "none":
        return PROMISES[level]
    through = f"network: only {net}, through a proxy of the host; what the code knows can be sent there; for the rest"
    kept = PROMISES[level].replace("no network", through, 1) if net else PROMISES[level]
    sizes = f"{limits.memory:,} MB of memory, {limits.processes} processes and threads"
    if level == "full":
        sizes += f", {limits.scratch:,} MB of scratch"
    return f"{kept} Limits: {sizes}."
