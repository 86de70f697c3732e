"""The widget: how patches and answers travel to the browser, and clicks back.

One comm, one small custom message for each patch. The state that a page asks for when it is loaded again is made at
that moment from the store; nothing else is ever synchronised.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

__all__ = ["Panel"]

HERE = Path(__file__).parent
ROOMS = ("elements", "table", "text", "calls", "cell", "iteration", "strip", "tools", "view")


def _script() -> str:
    """The modules in `js/` as the one that a widget consists of: what they import of each other stands before them."""
    joined = "\n".join((HERE / "js" / f"{room}.js").read_text(encoding="utf-8") for room in ROOMS)
    return re.sub(r"^import .*\n|^export (?!default)", "", joined, flags=re.MULTILINE)


def _state(_value: Any, panel: Panel) -> dict[str, Any]:
    return panel.snapshot()


class Panel(anywidget.AnyWidget):
    """The panel of one run in the browser.

    Args:
        snapshot: makes the whole state, for a page that is loaded now; called in any thread.
        received: gets each message from the browser, whatever is in it, in whichever thread the kernel reads it.
    """

    _esm = _script()
    _css = HERE / "panel.css"
    uid = traitlets.Unicode().tag(sync=True)
    """Names the panel in the browser, where several views show one."""
    state = traitlets.Any().tag(sync=True, to_json=_state)

    def __init__(self, snapshot: Callable[[], dict[str, Any]], received: Callable[[dict[str, Any]], None]) -> None:
        self.snapshot = snapshot
        super().__init__(uid=uuid.uuid4().hex)
        self.on_msg(lambda _widget, content, _buffers: received(content) if isinstance(content, dict) else None)
        if hasattr(self.comm, "_reply_subshell_for"):
            # ipykernel 7.4.0 sends what comes from the browser to the shell that last published on this comm, which is
            # busy with the cell; without this a click on Stop arrives only when the cell has ended
            self.comm._reply_subshell_for = lambda _data, default: default

    def __repr__(self) -> str:
        return "<the live panel of a run>"  # without an address: outputs are compared
