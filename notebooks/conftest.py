"""The notebooks are tests: nbval runs them and compares every output with the one that is saved."""

from __future__ import annotations

import os
from collections.abc import Generator
from unittest import mock

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Each cell is run without a key, and showing its result once: nbval does not follow updates of a display."""
    without_key = {k: v for k, v in os.environ.items() if k != "ANTHROPIC_API_KEY"}
    with mock.patch.dict(os.environ, {**without_key, "RLM_PANEL": "static"}, clear=True):
        return (yield)
