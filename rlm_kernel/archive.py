"""A saved session as one file: a zip with a manifest in JSON, and the bytes of each variable as they are.

Written beside its place and moved there when it is whole, for its owner alone to read. Whatever a file holds, reading
it runs nothing: the variables' bytes are for a sandbox.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from rlm_kernel.conversation import Conversation
from rlm_kernel.errors import RecordingError
from rlm_kernel.history import History
from rlm_kernel.memory import Memory
from rlm_kernel.sandbox.state import MAX_BYTES, MAX_NAMES, Stored
from rlm_kernel.trajectory import Trajectory

__all__ = ["Archive", "Writer"]

FORMAT, VERSION = "rlm_kernel session", 1
MAX_MANIFEST_BYTES = 256 * 2**20
_MANIFEST, _TRAJECTORY = "manifest.json", "trajectory.jsonl"
_IN_MEMORY = 8 * 2**20
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError, TypeError, ValueError,
    AttributeError, IndexError, RecursionError, OverflowError,
)  # fmt: skip


class Writer:
    """Writes a saved session; use it in a `with`, which leaves the file that was there alone unless all goes well.

    Args:
        path: of the file.

    Attributes:
        variables: those that are in it by now.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.variables = path, list[Stored]()
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._waiting: IO[bytes] | None = None
        self._opened: IO[bytes]
        self._zip: zipfile.ZipFile

    def __enter__(self) -> Writer:
        self._part.unlink(missing_ok=True)
        self._opened = os.fdopen(os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "w+b")
        self._zip = zipfile.ZipFile(self._opened, "w", zipfile.ZIP_STORED)
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()
        for close in (self._zip.close, self._opened.close, self._part.unlink):
            with contextlib.suppress(OSError):  # on a full disk even closing fails; the file is gone if it was moved
                close()

    def write(self, part: bytes) -> None:
        """Take more of the next variable."""
        if self._waiting is None:
            self._waiting = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - it is closed by keep and drop
        self._waiting.write(part)

    def keep(self, variable: Stored) -> None:
        """That was all of it."""
        if self._waiting is not None:
            self._waiting.seek(0)
            with self._zip.open(_member(variable), "w", force_zip64=True) as member:
                while piece := self._waiting.read(_IN_MEMORY):
                    member.write(piece)
        self.drop()
        self.variables.append(variable)

    def drop(self) -> None:
        """It is not wanted after all."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.close()

    def finish(self, memory: Memory) -> int:
        """Add what the session knows, and put the file in its place. Returns its size in bytes."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "asked": memory.history.asked,
            "history": memory.history.entries,
            "talk": memory.talk.state() if memory.talk is not None else None,
            "refused": dict(memory.refused),
            "variables": [asdict(variable) for variable in self.variables],
        }
        self._zip.writestr(_MANIFEST, json.dumps(document), zipfile.ZIP_DEFLATED, 1)
        if memory.last is not None:
            with _own_copy() as copy:
                memory.last.save(copy)
                self._zip.write(copy, _TRAJECTORY, zipfile.ZIP_DEFLATED, 1)
        self._zip.close()
        self._opened.flush()
        os.fsync(self._opened.fileno())
        size = self._part.stat().st_size
        self._part.replace(self.path)
        return size


class Archive:
    """A saved session that was read and checked, but for the values of its variables.

    Attributes:
        memory: what the session knew.
        variables: in the order in which they were saved.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read it.

        Raises:
            RecordingError: it cannot be read, is none, is damaged, or was written by a newer version of this package.
        """
        path = Path(path)
        self.variables: list[Stored] = []
        self.memory = Memory()
        try:
            self._zip = zipfile.ZipFile(path)
        except OSError as error:
            raise RecordingError(f"cannot read {path}: {error.strerror or error}") from None
        except _DAMAGE:
            raise RecordingError(f"{path} is no saved session") from None
        try:
            document = self._manifest(path)
            self._read(document)
            if (broken := self._zip.testzip()) is not None:
                raise ValueError(f"{broken} does not fit its checksum")
        except RecordingError:
            self._zip.close()
            raise
        except (*_DAMAGE, OSError) as error:
            self._zip.close()
            raise RecordingError(f"{path} is damaged ({type(error).__name__}: {str(error)[:200]})") from None

    def read(self, variable: Stored) -> bytes | None:
        """The bytes of a variable; None if they are gone."""
        try:
            return self._zip.read(_member(variable))
        except (*_DAMAGE, OSError):
            return None

    def close(self) -> None:
        """No variable is read any more."""
        self._zip.close()

    def _manifest(self, path: Path) -> dict[str, Any]:
        try:
            info = self._zip.getinfo(_MANIFEST)
            if info.file_size > MAX_MANIFEST_BYTES:
                raise ValueError("its manifest is too large")
            document = json.loads(self._zip.read(info))
        except KeyError:
            document = None
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise RecordingError(f"{path} is no saved session")
        version = document.get("version")
        if not isinstance(version, int):
            raise ValueError(f"its version is {version!r}")
        if version > VERSION:
            text = f"{path} has version {version} of a saved session, this rlm_kernel reads up to {VERSION}"
            raise RecordingError(f"{text}: pip install --upgrade rlm_kernel")
        return document

    def _read(self, document: Mapping[str, Any]) -> None:
        self.variables = [Stored.read(facts) for facts in document["variables"]]
        names = [variable.name for variable in self.variables]
        if len(set(names)) != len(names) or len(names) > MAX_NAMES:
            raise ValueError("a variable is there twice")
        total = 0
        for variable in self.variables:
            if variable.sizes:
                info = self._zip.getinfo(_member(variable))
                if info.file_size != sum(variable.sizes) or info.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"the bytes of {variable.name} do not fit")
                total += info.file_size
        if total > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES >> 20:,} MB of variables")
        talk = document["talk"]
        self.memory = Memory(
            None if talk is None else Conversation.of(talk),
            History(_entries(document["history"]), int(document["asked"])),
            self._trajectory(),
            {str(name): str(why) for name, why in document["refused"].items()},
        )

    def _trajectory(self) -> Trajectory | None:
        if _TRAJECTORY not in self._zip.namelist():
            return None
        if self._zip.getinfo(_TRAJECTORY).file_size > MAX_MANIFEST_BYTES:
            raise ValueError("its trajectory is too large")
        with _own_copy() as copy:
            copy.write_bytes(self._zip.read(_TRAJECTORY))
            return Trajectory.load(copy)


def _entries(entries: Any) -> list[dict[str, Any]]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise TypeError("the history is no list of objects")
    return entries


def _member(variable: Stored) -> str:
    return f"variables/{variable.name}"


@contextlib.contextmanager
def _own_copy() -> Iterator[Path]:
    """The path of a file that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="rlm-") as folder:
        yield Path(folder) / _TRAJECTORY
