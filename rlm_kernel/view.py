"""What a `%%rlm` cell shows: the live panel, or in a terminal the story as text, then the settled result.

The panel and the result share one display, so a saved notebook holds the result alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

from IPython.display import DisplayHandle, display

from rlm_kernel import events as ev
from rlm_kernel.panel import LivePanel, notebook, watched
from rlm_kernel.render.live import TextView
from rlm_kernel.result import Result
from rlm_kernel.trajectory import Trajectory

__all__ = ["View"]


class View:
    """One cell's output; call it with every event, and `pulse` in between.

    Args:
        trajectory: of the run, as it grows.
        on_stop: called, in any thread, when Stop is clicked.
        quiet: show the answer alone, without the trajectory.
        verbose: print the run as text instead of showing the panel.
        silent: show nothing at all.

    Raises:
        InputError: `RLM_PANEL` in the environment is not one of its values.
    """

    def __init__(
        self,
        trajectory: Trajectory,
        on_stop: Callable[[], None],
        *,
        quiet: bool = False,
        verbose: bool = False,
        silent: bool = False,
    ) -> None:
        self._trajectory, self._on_stop = trajectory, on_stop
        terminal = notebook() is None
        told = not silent and (verbose or (terminal and not quiet))
        self._text = TextView.terminal() if told else None
        self._quiet = quiet
        self._silent = silent or (told and terminal)  # the story ends with the answer
        self._live = watched() and not (quiet or silent or told)
        self._panel: LivePanel | None = None
        self._handle: DisplayHandle | None = None

    def __call__(self, event: ev.Event) -> None:
        """Take in an event."""
        if self._text is not None:
            self._text(event)
        if self._live:
            self._guarded(lambda: self._hear(event))

    def pulse(self) -> float | None:
        """Show what is new, if it is time for it.

        Returns:
            Seconds after which to call again; None when events alone matter.
        """
        wait: list[float] = []
        if self._panel is not None:
            panel = self._panel
            self._guarded(lambda: wait.append(panel.pulse()))
        return wait[0] if wait else None

    def settle(self, result: Result) -> None:
        """Show the result in the panel's place."""
        if self._panel is not None:
            self._guarded(self._panel.finish)
        if self._silent:
            return
        shown = (result.answer_only() if self._quiet else result)._repr_mimebundle_()
        if self._handle is None:
            display(shown, raw=True)
        else:
            self._handle.update(shown, raw=True)

    def _hear(self, event: ev.Event) -> None:
        if self._panel is None:  # not before the run has begun: the model is asked while the widget is made
            self._panel = LivePanel(self._trajectory, self._on_stop)
            self._handle = display(self._panel.bundle, raw=True, display_id=True)
        self._panel.hear(event)

    def _guarded(self, show: Callable[[], object]) -> None:
        """A panel that fails must not end the run that it shows."""
        try:
            show()
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on and the result is shown
            self._live, self._panel = False, None
            warnings.warn(f"the live panel failed ({type(error).__name__}: {error}); the run goes on", stacklevel=2)
