"""Turns a stock ipykernel into the REPL: the only guest file that knows IPython.

Everything is hooked by IPython's own events and hooks; the kernel's loop, sockets and messages stay as they are.
"""

from __future__ import annotations

import asyncio
import builtins
import ctypes
import gc
import getpass
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

from .channel import Channel
from .copies import Copies
from .inbox import receive
from .repl import Repl, refuse_exit, refuse_input
from .streams import Flusher, Stream
from .tracebacks import tracebacks
from .upload import Uploads, whole

_PR_SET_PDEATHSIG = 1
_KERNELS_OWN = ("__builtins__", "__name__", "In", "Out", "_ih", "_oh", "_dh", "get_ipython")


class Guest:
    """What the host talks to, under one hidden name in the kernel's namespace."""

    def __init__(self, shell: Any, parent_pid: int | None) -> None:
        self._shell = shell
        if parent_pid is not None:
            _die_with(parent_pid)
        shell.history_manager.enabled = False  # no file of the user's is written
        shell.kernel._execute_sleep = 0  # half a millisecond a cell, meant for kernels that cannot flush
        shell.InteractiveTB.structured_traceback = shell.SyntaxTB.structured_traceback = tracebacks(shell)
        shell.set_custom_exc((BaseExceptionGroup,), _show_group)  # IPython would print it past the tracebacks
        shell.ask_exit = refuse_exit
        _wait_for_readers(shell.kernel.iopub_thread)
        _hear_interrupts(asyncio.get_running_loop())
        warnings.formatwarning = _warning
        shell.events.register("pre_run_cell", self._before)
        shell.events.register("post_run_cell", self._after)
        flusher = Flusher()
        self._out, self._err = Stream(sys.stdout, flusher), Stream(sys.stderr, flusher)
        self._out.beside(self._err)
        self._err.beside(self._out)
        self._print = builtins.print
        self._kept = {n: shell.user_ns[n] for n in _KERNELS_OWN if n in shell.user_ns}
        self._kept |= {"__rlm__": self, "exit": refuse_exit, "quit": refuse_exit}
        self._channel = Channel(whole(shell.kernel.raw_input))
        self._channel.open()
        self.repl = Repl(shell.user_ns, self._channel, str(Path.cwd()))
        self._uploads = Uploads()
        self._left: dict[str, Any] = {}
        self._mend()
        self._flusher = flusher
        self._copies = Copies(shell.kernel, self._woken) if hasattr(shell.kernel.parent, "checkpoint") else None

    def take(self, name: str, offset: int) -> None:
        """Keep the buffers that came with this very request as a part of a file; see `Uploads.take`."""
        self._uploads.take(name, offset, self._shell.kernel.get_parent("shell")["buffers"])

    def receive(self, parcels: str) -> None:
        """Load variables, given as JSON; what could not be loaded goes back with the reply."""
        failed = receive(self._shell.user_ns, json.loads(parcels), self._uploads, self._left)
        self.repl.changes()  # what the user sent is no news to the model
        self._tell(failed=failed)
        self._stepped()

    def born(self) -> None:
        """This process is a child: it begins with an empty REPL, and may be given what it has of its parent's.

        Which is not freed: that would write to memory which is shared as long as nobody does.
        """
        gc.freeze()
        self._left = self.repl.clear()
        self._shell.execution_count = 1
        self._shell.user_ns["_ih"][:] = [""]
        self._shell.user_ns["_oh"].clear()
        self._mend()

    def _mend(self) -> None:
        """Put back what model code may have broken, so that the next cell finds a REPL as the last one did."""
        sys.stdout, sys.stderr = self._out, self._err
        builtins.print = self._print
        self._shell.user_ns.update(self._kept)

    def _before(self, info: Any) -> None:
        # ipykernel sets these anew for every cell that may use stdin; the stdin channel belongs to the pump
        builtins.input = refuse_input
        getpass.getpass = refuse_input
        self._mend()

    def _after(self, result: Any) -> None:
        self._mend()
        self._out.flush()
        self._err.flush()
        self._tell(**self.repl.changes())
        self._stepped()

    def _stepped(self) -> None:
        if self._copies is not None:
            self._copies.due()

    def _woken(self, loop: asyncio.AbstractEventLoop) -> None:
        """This process was a copy and is the kernel from now on: the threads are gone, the streams are new."""
        _wait_for_readers(self._shell.kernel.iopub_thread)
        _hear_interrupts(loop)
        self._flusher.revive()
        self._out.revive(sys.stdout)
        self._err.revive(sys.stderr)
        self._channel.revive()
        self._channel.open()
        self._mend()

    def _tell(self, **facts: Any) -> None:
        # a payload rides in the execute_reply, so this costs no message of its own
        self._shell.payload_manager.write_payload({"source": "rlm_kernel", **facts})


def _wait_for_readers(publisher: Any) -> None:
    """A host that reads slowly is waited for; else the end of a cell could be lost with the output that is too much."""
    publisher.schedule(lambda: setattr(publisher.socket, "xpub_nodrop", True))


def _hear_interrupts(loop: asyncio.AbstractEventLoop) -> None:
    """The host sends SIGURG after each SIGINT.

    Having a handler gives the loop a wakeup descriptor, so that a top-level await ends at once; and it breaks waits
    that a library (polars) made SIGINT go on with.
    """
    loop.add_signal_handler(signal.SIGURG, int)
    signal.siginterrupt(signal.SIGURG, True)


def _show_group(shell: Any, etype: Any, value: BaseException, tb: Any, tb_offset: Any = None) -> list[str]:
    lines: list[str] = shell.InteractiveTB.structured_traceback(etype, value, tb)
    shell._showtraceback(etype, value, lines)
    return lines


def _warning(message: Any, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """A warning without the path of this machine, which would make recordings differ."""
    return f"{category.__name__}: {message}\n"


def _die_with(parent_pid: int) -> None:
    """On Linux, end this process when the host's does, even in the middle of a C call."""
    if sys.platform == "linux" and os.getppid() == parent_pid:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def install(parent_pid: int | None) -> Guest:
    """Make the running kernel a sandbox."""
    from IPython import get_ipython

    shell = get_ipython()
    return Guest(shell, parent_pid)
