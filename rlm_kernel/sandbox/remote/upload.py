"""Sends packed variables to a kernel that cannot read our files: in pieces, as buffers of execute requests.

A piece is acknowledged before the next one goes out, so there is never more than one on the way and an interrupt ends
it in between. The guest's half is `guest/upload.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rlm_kernel.errors import SandboxError
from rlm_kernel.sandbox.base import CellResult, OnChunk

__all__ = ["PIECE", "upload"]

PIECE = 8 * 2**20
"""Bytes at once: a Jupyter server closes a connection on a message of more than 10 MiB (tornado's default)."""


class _Runs(Protocol):
    async def run(
        self, code: str, on_chunk: OnChunk, *, silent: bool = False, buffers: Sequence[bytes] = ()
    ) -> tuple[CellResult, Mapping[str, Any]]: ...


async def upload(client: _Runs, paths: Iterable[Path]) -> None:
    """Send these files; the guest finds them by their names from now on.

    Raises:
        SandboxError: the kernel ended or could not keep them.
    """
    for path in paths:
        with path.open("rb") as file:
            size, offset = os.fstat(file.fileno()).st_size, 0
            while offset < size or not size:
                piece = await asyncio.to_thread(os.pread, file.fileno(), PIECE, offset)
                await _send(client, path.name, offset, piece)
                offset += len(piece)
                if not piece:
                    break


async def _send(client: _Runs, name: str, offset: int, piece: bytes) -> None:
    said: list[str] = []
    result, _ = await client.run(
        f"__rlm__.take({name!r}, {offset})", lambda chunk: said.append(chunk.text), silent=True, buffers=[piece]
    )
    if result.status == "died":
        raise SandboxError("the sandbox died while the variables were sent to it")
    if result.status != "ok":
        why = "".join(said).strip().rpartition("\n")[2] or result.status
        raise SandboxError(f"the sandbox could not keep the variables: {why[:300]}")
