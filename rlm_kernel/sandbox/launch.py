"""Starts and ends the sandbox kernel's process: its kernelspec, folder, environment and janitor.

Nothing here speaks to the kernel; that is `client.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager

from rlm_kernel.errors import InputError, closest
from rlm_kernel.sandbox.janitor import Janitor

__all__ = ["KernelProcess", "check_kernelspec"]

_KEPT = {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME", "TMPDIR", "VIRTUAL_ENV", "CONDA_PREFIX"}
_KEPT_PREFIXES = ("LC_", "OMP_", "OPENBLAS_", "MKL_")


_APART_SECONDS = 0.02
"""Between two signals: of two that arrive together the first decides whether a wait goes on."""


class _ThisPython(KernelSpecManager):
    """The default sandbox: an ipykernel of the very Python that runs the notebook, whatever is installed as python3."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            display_name="rlm_kernel sandbox",
            language="python",
        )


def check_kernelspec(name: str) -> None:
    """Find out that a kernelspec is installed, before anything is started.

    Raises:
        InputError: it is not; the message lists those that are.
    """
    specs = KernelSpecManager()
    try:
        specs.get_kernel_spec(name)
    except (NoSuchKernel, ValueError):
        known = sorted(specs.find_kernel_specs())
        raise InputError(
            f"no kernelspec is called '{name}'{closest(name, known)}; installed: {', '.join(known) or 'none'}"
        ) from None


class KernelProcess:
    """A kernel's process and the folder it lives in.

    Args:
        kernelspec: the name of an installed kernelspec; None for this Python.
    """

    def __init__(self, kernelspec: str | None) -> None:
        # short: the path of an ipc socket must fit 107 bytes
        self.folder = Path(tempfile.mkdtemp(prefix="rlm-"))
        self._janitor = Janitor(self.folder)
        self.manager = AsyncKernelManager(
            kernel_name=kernelspec or "rlm_kernel",
            kernel_spec_manager=KernelSpecManager() if kernelspec else _ThisPython(),
            transport="ipc",
            ip=str(self.folder / "k"),
            connection_file=str(self.folder / "connection.json"),
        )

    @property
    def pid(self) -> int | None:
        """The kernel's process id, where it is a process of this machine."""
        pid: int | None = getattr(self.manager.provisioner, "pid", None)
        return pid

    async def launch(self) -> None:
        """Start the process. Its own words go to a log in the folder."""
        (self.folder / "work").mkdir()
        with (self.folder / "log").open("wb") as log:
            await self.manager.start_kernel(
                env=environment(self.folder), cwd=str(self.folder / "work"), stdout=log, stderr=log
            )
        if self.pid is not None:
            self._janitor.watch(self.pid)

    async def alive(self) -> bool:
        """Whether the process runs."""
        return bool(await self.manager.is_alive())

    async def interrupt(self) -> None:
        """Interrupt it the way its kernelspec says."""
        await self.manager.interrupt_kernel()
        spec = self.manager.kernel_spec
        if self.pid is not None and spec is not None and spec.interrupt_mode == "signal":
            await asyncio.sleep(_APART_SECONDS)
            await self.manager.signal_kernel(signal.SIGURG)  # see guest/kernel.py; ignored by who knows nothing of it

    def last_words(self) -> str:
        """The last line that the process wrote, which usually says why it ended."""
        with contextlib.suppress(OSError):
            lines = (self.folder / "log").read_text(errors="replace").strip().splitlines()
            return lines[-1][:300] if lines else ""
        return ""

    async def end(self) -> None:
        """Kill the process and remove the folder. Safe to call twice."""
        with contextlib.suppress(Exception):  # half-started kernels raise all sorts; the janitor's list is complete
            await self.manager.shutdown_kernel(now=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._janitor.dismiss()


def environment(folder: Path) -> dict[str, str]:
    """The kernel's environment: an allow-list of the notebook's, so that no key can be in it."""
    kept = {k: v for k, v in os.environ.items() if k in _KEPT or k.startswith(_KEPT_PREFIXES)}
    return {**kept, "IPYTHONDIR": str(folder / "ipython"), "PYTHONDONTWRITEBYTECODE": "1"}
