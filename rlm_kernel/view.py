"""What a `%%rlm` cell shows: one line about what is going on, which gives way to the settled result.

The line and the result share one display, so a saved notebook holds the result alone.
"""

from __future__ import annotations

import os
import sys
import time

from IPython.display import DisplayHandle, display

from rlm_kernel import events as ev
from rlm_kernel.render.live import TextView, progress_line
from rlm_kernel.result import Result
from rlm_kernel.trajectory import Trajectory

__all__ = ["View"]

_PAUSE_SECONDS = 0.25


class View:
    """One cell's output; call it with every event.

    With `RLM_PANEL=static` in the environment nothing is shown until the end, and the result is displayed once: a test
    that compares outputs (nbval) does not follow updates.

    Args:
        trajectory: of the run, as it grows.
        quiet: show the answer alone, without the trajectory.
        verbose: print the run as text instead of the one line.
        silent: show nothing at all.
    """

    def __init__(
        self, trajectory: Trajectory, *, quiet: bool = False, verbose: bool = False, silent: bool = False
    ) -> None:
        self._quiet, self._silent = quiet, silent
        self._live = not (quiet or silent or verbose) and os.environ.get("RLM_PANEL") != "static"
        self._text = TextView(sys.stdout.write) if verbose and not silent else None
        self._handle: DisplayHandle | None = None
        self._trajectory = trajectory
        self._shown = ""
        self._last = 0.0

    def __call__(self, event: ev.Event) -> None:
        if self._text is not None:
            self._text(event)
        if not self._live:
            return
        now = time.monotonic()
        if now - self._last < _PAUSE_SECONDS and not isinstance(event, ev.RunStarted):
            return
        line = progress_line(self._trajectory)
        if line != self._shown:
            self._last, self._shown = now, line
            if self._handle is None:
                self._handle = display({"text/plain": line}, raw=True, display_id=True)
            else:
                self._handle.update({"text/plain": line}, raw=True)

    def settle(self, result: Result) -> None:
        """Show the result in the line's place."""
        if self._silent:
            return
        shown = (result.answer_only() if self._quiet else result)._repr_mimebundle_()
        if self._handle is None:
            display(shown, raw=True)
        else:
            self._handle.update(shown, raw=True)
