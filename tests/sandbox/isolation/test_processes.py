"""Processes as the host sees them."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

import pytest

from rlm_kernel.sandbox.isolation.processes import Process


def test_a_descriptor_is_watched_until_the_end_and_not_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be a connection's the next moment, so it is taken out of the loop once."""
    taken: list[Any] = []

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        remove = loop.remove_reader
        monkeypatch.setattr(loop, "remove_reader", lambda fd: (taken.append(fd), remove(fd)))
        child = subprocess.Popen(["/bin/sleep", "60"])
        found = Process.find(child.pid)
        assert found is not None
        ended = loop.create_future()
        found.when_ended(ended)
        child.kill()
        await ended
        child.wait()
        await asyncio.sleep(0)
        assert found.ended

    asyncio.run(watch())
    assert len(taken) == 1
