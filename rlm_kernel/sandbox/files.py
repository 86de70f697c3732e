"""Files out of a sandbox: what lies in its scratch folder, and copies of that for the user.

The folder is the enemy's, who may change it at any moment. So it is held open from before the first foreign code on;
everything below it is reached from there, one name at a time, following no link; what is opened is looked at once more;
and no more is read than was announced. Paths of the sandbox never reach the host as such.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from rlm_kernel.errors import InputError
from rlm_kernel.sandbox.base import MAX_FILES, ScratchFile

__all__ = ["Scratch"]

T = TypeVar("T")

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Nothing waits: neither for the other end of a pipe, nor for whoever holds a lease on a file."""
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_SEEN = 50_000
_MAX_DEPTH = 16
_MAX_NAME, _MAX_PATH = 200, 1000
_CHUNK = 2**20


class Scratch:
    """The scratch folder of a running sandbox.

    Args:
        path: has to be opened while nothing foreign runs.
        limit: bytes of one file, and of all that are copied at once.
    """

    def __init__(self, path: str | Path, limit: int) -> None:
        self._folder = os.open(path, _FOLDER)
        self._limit = limit

    def close(self) -> None:
        """Let go of it. Safe to call twice; what is being copied is copied to its end."""
        folder, self._folder = self._folder, -1
        if folder >= 0:
            os.close(folder)

    async def files(self) -> list[ScratchFile]:
        """What is there, by name; at most `MAX_FILES`.

        Raises:
            InputError: the sandbox has ended.
        """
        return await self._lend(lambda folder: _listing(folder, self._limit))

    async def copy_files(self, names: Sequence[str], to: Path, *, force: bool = False) -> list[Path]:
        """Copy files; see `HasFiles.copy_files`."""
        return await self._lend(lambda folder: _copy(folder, names, to, force, self._limit))

    async def _lend(self, work: Callable[[int], T]) -> T:
        """Work in a thread, with a descriptor that it alone closes."""
        if self._folder < 0:
            raise InputError("the sandbox has ended, and its files with it")
        folder = os.dup(self._folder)

        def do() -> T:
            try:
                return work(folder)
            finally:
                os.close(folder)

        return await asyncio.to_thread(do)


def _listing(folder: int, limit: int) -> list[ScratchFile]:
    found: list[ScratchFile] = []
    seen = 0

    def look(folder: int, above: tuple[str, ...]) -> None:
        nonlocal seen
        with os.scandir(folder) as entries:
            for entry in entries:
                seen += 1
                if seen > _MAX_SEEN or len(found) >= MAX_FILES:
                    return
                with contextlib.suppress(OSError):  # it has just gone, or it is shut for its owner too
                    parts = (*above, entry.name)
                    status = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode) and not _bad_path(parts) and len(parts) < _MAX_DEPTH:
                        with _opened(entry.name, _FOLDER, folder) as below:
                            look(below, parts)
                    else:
                        found.append(_file(parts, status, limit))

    with _opened(".", _FOLDER, folder) as own:  # of a place of its own in the folder: others may be reading it
        look(own, ())
    return sorted(found, key=lambda file: file.name)


def _file(parts: Sequence[str], status: os.stat_result, limit: int) -> ScratchFile:
    folder = stat.S_ISDIR(status.st_mode)
    name = "".join(c if c.isprintable() else repr(c)[1:-1] for c in "/".join(parts)[:_MAX_PATH]) + "/" * folder
    try:
        modified = datetime.fromtimestamp(status.st_mtime, UTC)
    except (ValueError, OverflowError, OSError):  # a time that no calendar has
        modified = datetime.fromtimestamp(0, UTC)
    return ScratchFile(name, status.st_size, modified, _bad_path(parts) or _bad_file(status, limit))


def _bad_path(parts: Sequence[str]) -> str:
    """Why the user had better not have a file of this name; empty where nothing speaks against it."""
    if sum(len(os.fsencode(part)) + 1 for part in parts) > _MAX_PATH or len(parts) > _MAX_DEPTH:
        return "its path is too long"
    for part in parts:
        if part in ("", ".", ".."):
            return "no path within the scratch folder"
        if not part.isprintable():
            return "unprintable characters in its name"
        if part.startswith("."):
            return "hidden"
        if part[0] in "-~ " or part[-1] == " " or "\\" in part:
            return "a name that programs would misread"
        if len(os.fsencode(part)) > _MAX_NAME:
            return "its name is too long"
    return ""


def _bad_file(status: os.stat_result, limit: int) -> str:
    """Why a file is not copied, whatever its name; empty where nothing speaks against it."""
    if stat.S_ISLNK(status.st_mode):
        return "a symbolic link"
    if not stat.S_ISREG(status.st_mode):
        return "no regular file"
    if status.st_nlink != 1:
        return "it has another name as well, which may be anywhere"
    if status.st_size > limit:
        return f"larger than {limit:,} bytes"
    return ""


def _copy(folder: int, names: Sequence[str], to: Path, force: bool, limit: int) -> list[Path]:
    wanted = [*dict.fromkeys(names)]
    if not 0 < len(wanted) <= MAX_FILES:
        raise InputError(f"1 to {MAX_FILES:,} files can be copied at once, not {len(wanted):,}")
    total = 0
    for name in wanted:  # all are looked at before the first is copied
        with _source(folder, name, limit) as source:
            total += os.fstat(source).st_size
        if not force and os.path.lexists(to / name):
            raise InputError(f"{to / name} is there already: copy to another folder, or overwrite it with --force")
    if total > limit:
        raise InputError(f"these are {total:,} bytes; {limit:,} can be copied at once")
    try:
        to.mkdir(exist_ok=True)
        target = os.open(to, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"nothing can be copied to {to}: {error.strerror}") from None
    made = []
    try:
        for name in wanted:
            with _source(folder, name, limit) as source:
                _write(source, target, name, force=force)
            made.append(to / name)
    finally:
        os.close(target)
    return made


@contextmanager
def _source(folder: int, name: str, limit: int) -> Iterator[int]:
    """A file of the sandbox's that may be copied, open.

    Raises:
        InputError: it may not, or it is not there.
    """
    parts = name.split("/")
    with contextlib.ExitStack() as stack:
        if why := _bad_path(parts):
            raise InputError(f"{name!r} is not copied: {why}")
        try:
            for part in parts[:-1]:
                folder = stack.enter_context(_opened(part, _FOLDER, folder))
            # before it is opened: a link or a pipe is told as such
            if why := _bad_file(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False), limit):
                raise InputError(f"{name!r} is not copied: {why}")
            source = stack.enter_context(_opened(parts[-1], _READ, folder))
        except OSError as error:
            raise InputError(f"{name!r} is not copied: {error.strerror}; %rlm files lists what is there") from None
        if why := _bad_file(os.fstat(source), limit):
            raise InputError(f"{name!r} is not copied: {why}")
        yield source


def _write(source: int, target: int, name: str, *, force: bool) -> None:
    """Copy to the same name below the folder `target`, whole or not at all.

    Raises:
        InputError: it was changed meanwhile, it is there already, or it cannot be written.
    """
    *above, last = name.split("/")
    size = os.fstat(source).st_size
    beside = f".{last}.{os.urandom(4).hex()}" if force else last
    try:
        with contextlib.ExitStack() as stack:
            for part in above:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=target)
                target = stack.enter_context(_opened(part, _FOLDER, target))
            with _opened(beside, _WRITE, target) as copy:
                try:
                    if not _same(source, copy, size):
                        raise InputError(f"{name!r} was changed while it was copied; try again when the code is done")
                    if force:
                        os.replace(beside, last, src_dir_fd=target, dst_dir_fd=target)
                except BaseException:
                    os.unlink(beside, dir_fd=target)
                    raise
    except FileExistsError:
        raise InputError(f"{name!r} is there already: copy to another folder, or overwrite it with --force") from None
    except OSError as error:
        raise InputError(f"{name!r} cannot be written: {error.strerror}") from None


def _same(source: int, copy: int, size: int) -> bool:
    """Copy as many bytes; whether those were all."""
    while size:
        data = os.read(source, min(size, _CHUNK))
        if not data:
            return False
        size -= len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(copy, view) :]
    return not os.read(source, 1)


@contextmanager
def _opened(name: str, how: int, folder: int) -> Iterator[int]:
    opened = os.open(name, how, 0o644, dir_fd=folder)
    try:
        yield opened
    finally:
        os.close(opened)
