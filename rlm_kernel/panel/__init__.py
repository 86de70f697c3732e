"""The live view of a run: a widget in the notebook that shows everything as it happens.

What the browser gets is plain data, made from the trajectory by functions (`scene`, `nodes`); the browser builds
elements from it and never parses HTML. `store` knows what has been sent, `feed` what has changed, `widget` how it
travels.
"""

from __future__ import annotations

from rlm_kernel.panel.live import LivePanel, notebook, show, watched

__all__ = ["LivePanel", "notebook", "show", "watched"]
