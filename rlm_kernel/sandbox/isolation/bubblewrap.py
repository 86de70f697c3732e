"""bubblewrap's command line for a sandbox: namespaces of its own, and a tree of files made from an allow-list."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rlm_kernel.sandbox.isolation.policy import MB, Limits

__all__ = ["ETC", "HOME", "SCRATCH", "WORK", "command", "environment", "prepare"]

WORK = "/tmp"  # noqa: S108 - inside the sandbox, whose /tmp is its own
SCRATCH, HOME = "scratch", "home"
"""Folders below the one that can be written: the code's own files, and what libraries put into home."""
ETC = ("/etc/alternatives", "/etc/fonts", "/etc/ld.so.cache", "/etc/localtime")
"""BLAS is a link into alternatives on Debian; matplotlib wants fonts, dates want a time zone."""


def environment(work: str) -> dict[str, str]:
    """The whole environment of the code: nothing of the notebook's but the time zone."""
    home = f"{work}/{HOME}"
    made = {"PATH": "/usr/bin:/bin", "HOME": home, "TMPDIR": home, "IPYTHONDIR": f"{home}/.ipython"}
    made |= {
        "LANG": "C.UTF-8",
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    return made | ({"TZ": os.environ["TZ"]} if "TZ" in os.environ else {})


def command(program: str, readable: Sequence[str], limits: Limits, *, as_root: bool) -> list[str]:
    """Start bubblewrap itself with an empty environment: its first process keeps it, readable from inside.

    Args:
        program: where bubblewrap is.
        readable: files and folders to be seen at their own place, besides /usr.
        limits: of which the scratch folder's size is used here.
        as_root: the caller is root: no user namespace is needed, and the process gives its rights up itself.
    """
    made = [program, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if as_root:
        made += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        made += ["--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000", "--cap-drop", "ALL"]
    made += ["--hostname", "sandbox", "--die-with-parent", "--new-session", "--clearenv", "--as-pid-1"]
    made += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib64", "lib32"):
        path = Path("/") / name
        if path.is_symlink():  # where /usr is merged
            made += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            made += ["--ro-bind", str(path), str(path)]
    made += ["--perms", "0755", "--dir", "/etc"]  # else bubblewrap makes it for root alone
    for path in map(Path, ETC):
        made += ["--ro-bind-try", str(path), str(path)]
    # root may write to files of /proc and /dev that change the machine: nobody may
    made += ["--proc", "/proc"]
    if Path("/proc/keys").exists():  # the names of the user's keys
        made += ["--ro-bind", "/dev/null", "/proc/keys"]
    made += ["--remount-ro", "/proc", "--dev", "/dev"]
    size = str(limits.scratch * MB)
    made += ["--perms", "1777", "--size", size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108 - inside
    made += ["--perms", "0755", "--size", size, "--tmpfs", "/tmp"]  # noqa: S108 - inside
    made += _folders(readable)
    for path_ in readable:
        made += ["--ro-bind", path_, path_]  # after /tmp: an environment may live there
    for folder in (SCRATCH, HOME):
        made += ["--perms", "1777", "--dir", f"{WORK}/{folder}"]
    made += ["--chdir", f"{WORK}/{SCRATCH}", "--remount-ro", "/"]
    for name, value in environment(WORK).items():
        made += ["--setenv", name, value]
    return [*made, "--"]


def prepare(work: str, uid: int | None) -> None:
    """Make the folders that can be written, where there is no bubblewrap to make them.

    Args:
        work: an empty folder of this machine.
        uid: to whom they are to belong, if not to the caller.
    """
    for path in (Path(work), *(Path(work) / name for name in (SCRATCH, HOME))):
        path.mkdir(exist_ok=True)
        if uid is not None:
            os.chown(path, uid, uid)


def _folders(paths: Sequence[str]) -> list[str]:
    """The folders above these, to be passed through by everybody: bubblewrap makes them for root alone."""
    made: dict[str, None] = {}
    for path in paths:
        for folder in reversed(Path(path).parents[:-1]):
            if str(folder) != "/tmp" and not str(folder).startswith("/usr"):  # noqa: S108 - inside
                made[str(folder)] = None
    return [word for folder in made for word in ("--perms", "0755", "--dir", folder)]
