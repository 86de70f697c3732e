"""Answers the page while the cell runs: the few messages without which a page that is loaded again stays empty.

A kernel reads one message after another in its main thread, which is busy with our cell. But ipykernel 7 receives them
in a thread of its own. For as long as a run goes on, what a page needs to find the panel, and what it says to the panel
(Stop), is answered right there; everything else goes its usual way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Attendant"]

_FINDING = ("kernel_info_request", "comm_info_request")
_TALK = ("comm_msg", "comm_close")
_CONTROL = "jupyter.widget.control"


class Attendant:
    """Stands in for the kernel's reader of shell messages between `start` and `stop`.

    Where the kernel is built otherwise (ipykernel has no public way to do this), it does nothing: the panel comes back
    when the cell has ended.

    Args:
        kernel: an ipykernel.
        comm_id: of the panel.
    """

    def __init__(self, kernel: Any, comm_id: str) -> None:
        self._kernel, self._comm_id = kernel, comm_id
        self._cell: Any = None
        """The request that the cell is, while it runs."""
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to answer; called where the cell runs."""
        if hasattr(self._kernel, "shell_channel_thread_main"):
            self._cell = self._kernel.get_parent("shell")
            self._listen(self._received)

    def stop(self) -> None:
        """Leave it to the kernel again."""
        with self._lock:
            self._cell = None
        self._listen(getattr(self._kernel, "shell_channel_thread_main", None))

    def _listen(self, receiver: Callable[[Any], Any] | None) -> None:
        loop = getattr(getattr(self._kernel, "shell_channel_thread", None), "io_loop", None)
        if loop is not None and receiver is not None:
            loop.add_callback(self._kernel.shell_stream.on_recv, receiver, copy=False)  # a stream belongs to its loop

    async def _received(self, frames: list[Any]) -> None:
        try:
            attended = await self._attended(frames)
        except Exception:  # noqa: BLE001 - a message that cannot be read is the kernel's to complain about
            attended = False
        if not attended:
            await self._kernel.shell_channel_thread_main(frames)

    async def _attended(self, frames: list[Any]) -> bool:
        kernel, session = self._kernel, self._kernel.session
        idents, parts = session.feed_identities(frames, copy=False)
        header = session.deserialize(parts, content=False, copy=False)
        kind, content = header["header"]["msg_type"], session.unpack(header["content"])
        if not (kind in _FINDING or self._ours(kind, content)):
            return False
        request = session.deserialize(parts, content=True, copy=False)  # now it is ours: it cannot be read again
        self._say("busy", request)
        try:
            handled = kernel.shell_handlers[kind](kernel.shell_stream, idents, request)
            if handled is not None:
                await handled
        except Exception:  # noqa: BLE001 - a wrong request of the page's, which the kernel would log and forget
            return True
        finally:
            self._say("idle", request)  # only with this the page takes its request for answered
            with self._lock:
                if self._cell is not None:
                    self._say("busy", self._cell)  # the cell still runs
        return True

    def _say(self, state: str, request: Any) -> None:
        kernel = self._kernel
        topic = kernel._topic("status")
        kernel.session.send(kernel.iopub_socket, "status", {"execution_state": state}, parent=request, ident=topic)

    def _ours(self, kind: str, content: dict[str, Any]) -> bool:
        if kind == "comm_open":
            return content.get("target_name") == _CONTROL
        comm = self._kernel.comm_manager.get_comm(content.get("comm_id")) if kind in _TALK else None
        return comm is not None and (comm.comm_id == self._comm_id or comm.target_name == _CONTROL)
