"""A pytest plugin for notebooks with `%%rlm` cells as tests: `pytest --nbval -p rlm_kernel.nbval notebooks`.

nbval runs a notebook and compares every output with the one that is saved. It does not follow a display that is
updated, which the live panel is until its run ends; this plugin adds that, and takes the key out of the environment, so
that what is not recorded fails instead of being paid for. `RLM_PANEL=live` in the environment opens the panel in each
cell, as it opens for a person; otherwise cells show their result at once. Either way the result is what is compared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import Any
from unittest import mock

import nbformat
import nbval.plugin
import pytest

__all__ = ["pytest_runtest_protocol"]

_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A cell of a notebook is run without a key, and its displays are followed."""
    if not isinstance(item, nbval.plugin.IPyNbCell):
        return (yield)
    without_key = {name: value for name, value in os.environ.items() if name not in _KEYS}
    followed = _following(nbval.plugin.IPyNbFile.get_kernel_message)
    with (
        mock.patch.dict(os.environ, without_key, clear=True),
        mock.patch.object(nbval.plugin.IPyNbFile, "get_kernel_message", followed),
    ):
        return (yield)


def _following(get: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """What nbval's `get_kernel_message` lacks: a display that is updated is compared as it is in the end."""
    shown: dict[str, Any] = {}

    def get_kernel_message(self: Any, timeout: float | None = None, stream: str = "iopub") -> dict[str, Any]:
        message = get(self, timeout, stream)
        content = message["content"]
        display = content.get("transient", {}).get("display_id")
        if display and message["msg_type"] == "display_data":
            content["data"] = shown[display] = nbformat.from_dict(content["data"])  # type: ignore[no-untyped-call]  # nbformat has no types
        elif display in shown and message["msg_type"] == "update_display_data":
            shown[display].clear()
            shown[display].update(content["data"])
        return message

    return get_kernel_message
