"""Runs after `test_rig`: its browser has left this thread without an event loop."""

from __future__ import annotations

import asyncio


def test_asyncio_runs() -> None:
    """No loop of the browser's is left running in this thread."""
    assert asyncio.run(asyncio.sleep(0, "done")) == "done"
