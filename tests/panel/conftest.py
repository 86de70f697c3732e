"""Panels whose comm keeps what is sent."""

from __future__ import annotations

from collections.abc import Iterator

import comm
import pytest

from tests.panel.browser import Recorder


@pytest.fixture(autouse=True)
def _recorded() -> Iterator[None]:
    """A kernel's way to say how its comms travel; here they do not."""
    before, comm.create_comm = comm.create_comm, Recorder
    yield
    comm.create_comm = before
