"""The panel of a run that goes on, or has ended: when the browser is told, and who answers its questions."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from rlm_kernel import events as ev
from rlm_kernel.errors import InputError
from rlm_kernel.panel.attendant import Attendant
from rlm_kernel.panel.feed import Feed
from rlm_kernel.render import to_html, to_markdown, to_text
from rlm_kernel.trajectory import Trajectory

__all__ = ["LivePanel", "notebook", "show", "watched"]

WIDGET = "application/vnd.jupyter.widget-view+json"
INTERVAL = 0.06
"""Seconds between two messages: at most 17 per second, where Jupyter's servers allow 1,000 of all kinds."""
CLOCK = 5.0
"""Seconds after which the browser's clock is set again; it runs by itself."""
LISTEN = 0.1
"""Seconds after which a question of the browser is answered at the latest while a cell runs."""


class LivePanel:
    """A panel in a notebook.

    While the run goes on, everything is sent from the thread that calls `pulse` (the notebook's main thread: some
    front ends drop what other threads publish); what the browser asks is kept until then. After `finish` the browser is
    answered at once.

    Args:
        trajectory: of the outermost run.
        on_stop: called when Stop is clicked, in any thread; it has to return at once.
    """

    _open: ClassVar[LivePanel | None] = None
    """The last run's panel stays open until there is another; longer if a page was loaded again while it ran."""

    def __init__(self, trajectory: Trajectory, on_stop: Callable[[], None] | None = None) -> None:
        from rlm_kernel.panel.widget import Panel

        self._trajectory, self._on_stop = trajectory, on_stop
        self._feed = Feed(trajectory)
        self._questions: deque[dict[str, Any]] = deque()
        self._lock = threading.RLock()
        self._sent, self._last, self._clock = 0, 0.0, -CLOCK
        self._began: float | None = None
        self._over = on_stop is None
        if self._over:
            self._feed.everything()
            self._feed.store.take()
        self.widget = Panel(self._snapshot, self._received)
        self._loaded = False  # until a page asks for everything in the middle of the run
        self._attendant = Attendant(notebook(), self.widget.model_id)
        if not self._over:
            self._attendant.start()

    @property
    def bundle(self) -> dict[str, Any]:
        """What to display; a viewer without widgets shows the text."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return {WIDGET: view, "text/plain": "a run goes on; its live panel needs a notebook with widgets"}

    def hear(self, event: ev.Event) -> None:
        """Take in an event."""
        self._began = time.monotonic() - event.at
        self._feed.hear(event)

    def pulse(self) -> float:
        """Tell the browser what is new, unless it was told a moment ago.

        Returns:
            Seconds after which to call again.
        """
        wait = self._last + INTERVAL - time.monotonic()
        if wait > 0:
            return wait
        self._tell()
        return LISTEN

    def finish(self) -> None:
        """Tell the rest. From now on the browser is answered in the thread in which it asks."""
        self._attendant.stop()
        self._tell()
        self._over = True
        self._tell()  # what was asked in between
        if LivePanel._open is not None and not LivePanel._open._loaded:
            LivePanel._open.widget.close()
        LivePanel._open = self

    def _tell(self) -> None:
        with self._lock:
            self._feed.update()
            if not self._questions and not self._feed.store.pending:
                return
            self._last = time.monotonic()
            # counted first: a patch that an interrupt keeps from being sent is missed by the browser, and asked for
            self._sent += 1
            message: dict[str, Any] = {"seq": self._sent, **self._feed.store.take()}
            if (now := self._now()) is None or now - self._clock > CLOCK:
                message["now"] = now
                self._clock = now or 0.0
            if self._questions:
                message["answers"] = [self._answer(self._questions.popleft()) for _ in range(len(self._questions))]
            self.widget.send(message)

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        made = self._snapshot() if "sync" in question else self._feed.asked(question)
        return {"id": question.get("id"), **made}

    def _received(self, question: dict[str, Any]) -> None:
        if "stop" in question and self._on_stop is not None and not self._over:
            self._on_stop()
        self._questions.append(question)
        if self._over:
            self._tell()

    def _snapshot(self) -> dict[str, Any]:
        if not self._over:
            self._loaded = True
        with self._lock:  # the number and the values have to be of the same moment
            return {
                "seq": self._sent,
                "now": self._now(),
                "over": self._on_stop is None,
                "set": self._feed.store.snapshot(),
            }

    def _now(self) -> float | None:
        """Seconds since the run began; None when it is over."""
        if self._began is None or self._trajectory.stop_reason != "running":
            return None
        return round(time.monotonic() - self._began, 2)


def watched() -> bool:
    """Whether somebody watches in a notebook that can show a live panel.

    That is a Jupyter kernel whose front end takes input; programs that run notebooks (nbclient, nbval, papermill) do
    not, and get the settled output alone. `RLM_PANEL=live` or `static` in the environment decides it either way.

    Raises:
        InputError: `RLM_PANEL` is something else.
    """
    wish = os.environ.get("RLM_PANEL", "")
    if wish not in ("", "live", "static"):
        raise InputError(f"RLM_PANEL in the environment is live or static, not '{wish}'")
    kernel = notebook()
    return kernel is not None and wish != "static" and (wish == "live" or bool(getattr(kernel, "_allow_stdin", False)))


def notebook() -> Any:
    """The Jupyter kernel that this is; None in a terminal or a script."""
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None)


def show(trajectory: Trajectory) -> None:
    """Show a run that has ended: in a notebook in the panel, elsewhere as text."""
    from IPython.display import display

    if notebook() is None:
        print(to_text(trajectory))
        return
    settled = {
        "text/html": to_html(trajectory),
        "text/markdown": to_markdown(trajectory),
        "text/plain": to_text(trajectory),
    }
    display({**(LivePanel(trajectory).bundle if watched() else {}), **settled}, raw=True)
