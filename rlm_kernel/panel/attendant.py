"""Answers the page while the cell runs: the few messages without which a page that is loaded again stays empty.

A kernel reads one message after another in its main thread, which is busy with our cell. But ipykernel 7 receives them
in a thread of its own. For as long as a run goes on, what a page needs to find the panel, and what it says to the panel
(Stop), is answered right there; everything else goes its usual way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Attendant"]

_FINDING = ("kernel_info_request", "comm_info_request")
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

    def start(self) -> None:
        """Begin to answer."""
        self._listen(self._received)

    def stop(self) -> None:
        """Leave it to the kernel again."""
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
        handled = kernel.shell_handlers[kind](
            kernel.shell_stream, idents, session.deserialize(parts, content=True, copy=False)
        )
        if handled is not None:
            await handled
        return True

    def _ours(self, kind: str, content: dict[str, Any]) -> bool:
        if kind == "comm_open":
            return content.get("target_name") == _CONTROL
        comm = self._kernel.comm_manager.get_comm(content.get("comm_id")) if kind == "comm_msg" else None
        return comm is not None and (comm.comm_id == self._comm_id or comm.target_name == _CONTROL)
