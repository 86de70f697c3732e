"""Remembers on disk which batches were handed in, so that a kernel that is started again finds its own.

One small file for each, in the user's folder for state: whose name tells what was asked by a digest, and whose text
holds the batch's name at the provider, no prompt and no key.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rlm_kernel.errors import ModelError

__all__ = ["Entry", "HandedIn"]

_FORMAT = "rlm_kernel batch"
_DAYS = 29
"""For which a provider keeps the results."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch."""

    id: str
    """At the provider; empty while it is being handed in."""
    began: float
    """When, in seconds since 1970."""
    requests: int
    max_tokens: int


class HandedIn:
    """The batches that were handed in and not collected.

    Args:
        folder: where the files are; made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str) -> Entry | None:
        """The batch of this digest. A file that cannot be read is none."""
        try:
            data = json.loads(self._path(key).read_text())
            if data.pop("format") != _FORMAT:
                return None
            entry = Entry(str(data["id"]), float(data["began"]), int(data["requests"]), int(data["max_tokens"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return entry if time.time() - entry.began < _DAYS * 86_400 else None

    def save(self, key: str, entry: Entry) -> None:
        """Write it down, in one step and for the user alone.

        Raises:
            ModelError: it cannot be written, so that nobody could find the batch again.
        """
        path = self._path(key)
        beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._prune()
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()
            file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "w") as stream:
                json.dump({"format": _FORMAT, **asdict(entry)}, stream)
            beside.replace(path)
        except OSError as exc:
            with contextlib.suppress(OSError):
                beside.unlink()
            text = f"cannot write {path} ({exc.strerror or exc}), and without it a batch could not be found again"
            raise ModelError(text) from exc

    def forget(self, key: str) -> None:
        """It was collected, or is gone."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _prune(self) -> None:
        """Drop what no provider remembers any more."""
        oldest = time.time() - _DAYS * 86_400
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
