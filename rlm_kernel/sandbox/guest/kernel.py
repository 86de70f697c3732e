"""Turns a stock ipykernel into the REPL: the only guest file that knows IPython.

Everything is hooked by IPython's own events and hooks; the kernel's loop, sockets and messages stay as they are.
"""

from __future__ import annotations

import builtins
import ctypes
import getpass
import json
import os
import signal
import sys
import traceback
from types import TracebackType
from typing import Any

from .channel import Channel
from .inbox import receive
from .repl import Repl, Submitted, refuse_input
from .streams import Flusher, Stream

_PR_SET_PDEATHSIG = 1


class Guest:
    """What the host talks to, under one hidden name in the kernel's namespace."""

    def __init__(self, shell: Any, parent_pid: int | None) -> None:
        self._shell = shell
        if parent_pid is not None:
            _die_with(parent_pid)
        shell.history_manager.enabled = False  # no file of the user's is written
        shell.kernel._execute_sleep = 0  # half a millisecond a cell, meant for kernels that cannot flush
        shell.InteractiveTB.structured_traceback = self._traceback
        shell.SyntaxTB.structured_traceback = self._traceback
        shell.events.register("pre_run_cell", self._before)
        shell.events.register("post_run_cell", self._after)
        flusher = Flusher()
        sys.stdout, sys.stderr = out, err = Stream(sys.stdout, flusher), Stream(sys.stderr, flusher)
        out.beside(err)
        err.beside(out)
        self.repl = Repl(shell.user_ns, Channel(shell.kernel.raw_input))

    def receive(self, parcels: str) -> None:
        """Load variables, given as JSON; what could not be loaded goes back with the reply."""
        failed = receive(self._shell.user_ns, json.loads(parcels))
        self.repl.changes()  # what the user sent is no news to the model
        self._tell(failed=failed)

    def _before(self, info: Any) -> None:
        # ipykernel sets these anew for every cell that may use stdin; the stdin channel belongs to the pump
        builtins.input = refuse_input
        getpass.getpass = refuse_input  # type: ignore[assignment]  # it never returns

    def _after(self, result: Any) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._tell(**self.repl.changes())

    def _tell(self, **facts: Any) -> None:
        # a payload rides in the execute_reply, so this costs no message of its own
        self._shell.payload_manager.write_payload({"source": "rlm_kernel", **facts})

    def _traceback(
        self, etype: Any, value: BaseException | None = None, tb: Any = None, *_: Any, **__: Any
    ) -> list[str]:
        """The frames in model-written code, with line numbers, and the last one below them."""
        if value is None or isinstance(value, Submitted):
            return []
        if not isinstance(tb, TracebackType):
            tb = value.__traceback__
        lines = traceback.format_exception_only(type(value), value)
        if isinstance(value, SyntaxError):
            where = f"line {value.lineno}: " if value.lineno else ""
            code = (value.text or "").rstrip()
            return [f"{type(value).__name__}: {where}{value.msg}\n    {code.strip()}"]
        frames = traceback.extract_tb(tb)
        own = [self._is_cell(f.filename) for f in frames]
        if not any(own):
            return [line.rstrip() for line in lines]
        last = max(i for i, mine in enumerate(own) if mine)
        shown = [self._frame(frame, i == own.index(True)) for i, frame in enumerate(frames) if own[i]]
        if last < len(frames) - 1 and not frames[-1].filename.startswith("<rlm_guest"):
            shown.append(self._frame(frames[-1], False))
        out = ["Traceback:"]
        out += shown if len(shown) <= 8 else [*shown[:4], f"  … {len(shown) - 7} more frames …", *shown[-3:]]
        if value.__cause__ is not None:
            out.insert(0, f"(caused by {type(value.__cause__).__name__}: {value.__cause__})")
        return out + [line.rstrip() for line in lines]

    def _is_cell(self, filename: str) -> bool:
        return self._shell.compile.format_code_name(filename) is not None

    def _frame(self, frame: traceback.FrameSummary, outermost: bool) -> str:
        if self._is_cell(frame.filename):
            place = f"line {frame.lineno}" + ("" if outermost else f", in {frame.name}")
        else:  # a path of this machine tells the model nothing and would make recordings differ
            place = f"{'/'.join(frame.filename.split('/')[-2:])}, in {frame.name}"
        return f"  {place}: {(frame.line or '').strip()}"


def _die_with(parent_pid: int) -> None:
    """On Linux, end this process when the host's does, even in the middle of a C call."""
    if sys.platform == "linux" and os.getppid() == parent_pid:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def install(parent_pid: int | None) -> Guest:
    """Make the running kernel a sandbox."""
    from IPython import get_ipython

    shell = get_ipython()
    guest = Guest(shell, parent_pid)
    shell.user_ns["__rlm__"] = guest
    return guest
