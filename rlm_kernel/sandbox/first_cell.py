"""The first cell of a sandbox: the guest's own files, as source, and the call that installs them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

__all__ = ["bootstrap"]

_GUEST = (
    *("__init__", "channel", "children", "copies", "describe", "inbox", "kernel"),
    *("repl", "saving", "sealing", "streams", "tools", "tracebacks", "upload", "wire"),
)


@cache
def _sources() -> dict[str, str]:
    folder = files("rlm_kernel.sandbox.guest")
    return {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in _GUEST}


def bootstrap(parent_pid: int | None) -> str:
    """The cell's code.

    Args:
        parent_pid: the host's process, where the kernel runs on the same machine.
    """
    first = (files("rlm_kernel.sandbox.guest") / "bootstrap.py").read_text(encoding="utf-8")
    return f"{first}\n_bootstrap({_sources()!r}, {parent_pid!r})\ndel _bootstrap\n"
