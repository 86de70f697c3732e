"""The notebooks are tests: `pytest --nbval` runs them and compares every output with the one that is saved.

This file does the same for notebooks of yours, copied beside them. With `RLM_PANEL=live` in the environment the cells
open the live panel, as they do for a person; otherwise they show their result at once. Either way the result is what is
compared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import Any
from unittest import mock

import nbformat
import nbval.plugin
import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """A cell is run without a key, and its displays are followed."""
    without_key = {k: v for k, v in os.environ.items() if k != "ANTHROPIC_API_KEY"}
    followed = following(nbval.plugin.IPyNbFile.get_kernel_message)
    with (
        mock.patch.dict(os.environ, without_key, clear=True),
        mock.patch.object(nbval.plugin.IPyNbFile, "get_kernel_message", followed),
    ):
        return (yield)


def following(get: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """What nbval's `get_kernel_message` lacks: a display that is updated is compared as it is in the end."""
    shown: dict[str, Any] = {}

    def get_kernel_message(self: Any, timeout: float | None = None, stream: str = "iopub") -> dict[str, Any]:
        message = get(self, timeout, stream)
        content = message["content"]
        display = content.get("transient", {}).get("display_id")
        if display and message["msg_type"] == "display_data":
            content["data"] = shown[display] = nbformat.from_dict(content["data"])
        elif display in shown and message["msg_type"] == "update_display_data":
            shown[display].clear()
            shown[display].update(content["data"])
        return message

    return get_kernel_message
