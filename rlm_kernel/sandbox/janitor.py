"""Cleans up after a host that was killed: a shell that waits on a pipe and outlives us by a blink.

The pipe closes when the host ends, however it ends; then the janitor kills the process groups it was told of and
removes the folder. A normal shutdown dismisses it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["Janitor"]

_SCRIPT = """
while read -r group; do groups="$groups $group"; done
for group in $groups; do kill -KILL "-$group" 2>/dev/null; done
rm -rf -- "$1"
"""


class Janitor:
    """One per sandbox on this machine.

    Args:
        folder: removed when the host ends without `dismiss`.
    """

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - a fixed script, the folder is an argument
            ["/bin/sh", "-c", _SCRIPT, "sh", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt of the terminal is not for it
            env={"PATH": "/usr/bin:/bin"},
        )

    def watch(self, group: int) -> None:
        """Kill this process group too."""
        if self._process.stdin is not None:
            self._process.stdin.write(f"{group}\n".encode())
            self._process.stdin.flush()

    def dismiss(self) -> None:
        """Everything is cleaned up already: go."""
        self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
