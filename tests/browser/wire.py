"""What lies between a page and the server, and what gets stuck or lost there."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Browser, WebSocketRoute

from tests.browser.lab import Server
from tests.browser.page import NotebookPage

__all__ = ["Wire"]


class Wire:
    """Delivers a page's frames as long as nobody says otherwise; `close` it."""

    def __init__(self, browser: Browser) -> None:
        self.deaf = False
        """What a widget says is kept until `deliver`; some front ends do so while a cell runs."""
        self.lose: bytes = b""
        """The next message to a widget that holds these bytes is lost."""
        self._kept: list[Callable[[], None]] = []
        self._context = browser.new_context(viewport={"width": 1280, "height": 1000})
        self._context.route_web_socket(re.compile("/channels"), self._connect)

    def close(self) -> None:
        """Close the pages."""
        self._context.close()

    def notebook(self, server: Server, cells: list[str]) -> NotebookPage:
        """Open one at the end of this wire."""
        return NotebookPage(self._context, server, cells)

    def deliver(self) -> None:
        """Hand over what was kept, and keep nothing more."""
        self.deaf = False
        for send in self._kept:
            send()
        self._kept.clear()

    def _connect(self, socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def up(frame: str | bytes) -> None:
            if self.deaf and _is_comm(frame):
                self._kept.append(lambda: server.send(frame))
            else:
                server.send(frame)

        def down(frame: str | bytes) -> None:
            if self.lose and _is_comm(frame) and self.lose in _bytes(frame):
                self.lose = b""
            else:
                socket.send(frame)

        socket.on_message(up)
        server.on_message(down)


def _bytes(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame


def _is_comm(frame: str | bytes) -> bool:
    return b'"comm_msg"' in _bytes(frame)
