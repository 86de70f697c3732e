"""The variables of a sandbox, out of it and into another one, as bytes that only sandboxes read.

They travel by the verbs and the request channel that every sandbox has. The guest's half is `guest/saving.py`; what it
says is checked and bounded here.
"""

from __future__ import annotations

import asyncio
import base64
import json
import keyword
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

from rlm_kernel.errors import SandboxError
from rlm_kernel.sandbox.base import Chunk, RefusedError, nobody
from rlm_kernel.sandbox.journal import Journal

__all__ = ["MAX_BYTES", "Sink", "Stored", "put_back", "take_out"]

MAX_BYTES = 512 * 2**20
"""Of all variables of a sandbox."""
MAX_NAMES = 5_000
MAX_BUFFERS = 100_000
_NAME_CHARS, _WORD_CHARS, _WHY_CHARS = 200, 200, 400
_SAID_CHARS = 4 * 2**20
_BATCH_BYTES = 64 * 2**20
_GRACE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Stored:
    """What has to be known of a variable's bytes."""

    name: str
    type: str
    size: str
    """In words, as the model is told."""
    sizes: tuple[int, ...] = ()
    """Bytes of its pickle, and of each of its buffers."""
    writable: tuple[bool, ...] = ()
    """Of each buffer."""
    python: tuple[int, int] = (0, 0)
    """The version that pickled it."""
    same: str = ""
    """The name of an earlier one that is the very same object; then it has no bytes."""

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Stored:
        """What somebody says of a variable, checked.

        Raises:
            ValueError: it does not fit.
        """
        name, sizes, writable = facts.get("name"), facts.get("sizes", []), facts.get("writable", [])
        python, same = facts.get("python", [0, 0]), facts.get("same", "")
        if not is_name(name) or not (same == "" or is_name(same)):
            raise ValueError("a variable has a name")
        if not isinstance(sizes, list | tuple) or not all(type(n) is int and n >= 0 for n in sizes):
            raise ValueError("sizes are numbers")
        if not isinstance(writable, list | tuple) or not all(type(w) is bool for w in writable):
            raise ValueError("writable is true or false")
        if len(sizes) > MAX_BUFFERS or bool(same) == bool(sizes) or len(writable) != max(0, len(sizes) - 1):
            raise ValueError("its parts do not fit")
        if not (isinstance(python, list | tuple) and len(python) == 2 and all(type(n) is int for n in python)):
            raise ValueError("a version has two numbers")
        kind, size = (str(facts.get(word, ""))[:_WORD_CHARS] for word in ("type", "size"))
        return cls(str(name), kind, size, tuple(sizes), tuple(writable), (python[0], python[1]), str(same))


class Sink(Protocol):
    """Where the bytes of variables go, one variable after the other."""

    def write(self, part: bytes) -> None:
        """Take more of the next variable."""
        ...

    def keep(self, variable: Stored) -> None:
        """That was all of it."""
        ...

    def drop(self) -> None:
        """It is not wanted after all."""
        ...


class _Taking:
    """Answers the guest while it saves.

    Attributes:
        refused: why a variable is not saved, by name.
        failure: an error of the sink's, which is the end of it.
    """

    def __init__(self, sink: Sink, limit: int) -> None:
        self._sink, self._left, self._received = sink, limit, 0
        self._kept: set[str] = set()
        self.refused: dict[str, str] = {}
        self.failure: Exception | None = None

    async def __call__(self, method: str, params: Mapping[str, Any]) -> None:
        if method != "save":
            raise RefusedError("no question is being answered")
        if self.failure is not None:
            raise RefusedError("it cannot be written")
        try:
            self._take(params)
        except ValueError as error:
            self._sink.drop()
            self._received = 0
            raise RefusedError(str(error)) from None
        except OSError as error:
            self.failure = error
            raise RefusedError("it cannot be written") from None

    def _take(self, params: Mapping[str, Any]) -> None:
        if (part := params.get("part")) is not None:
            data = base64.b64decode(str(part), validate=True)
            self._received += len(data)
            if self._received > self._left:
                raise ValueError(f"more than the {MAX_BYTES >> 20:,} MB that can be saved")
            self._sink.write(data)
            return
        received, self._received = self._received, 0
        if (why := params.get("failed")) is not None:
            self._sink.drop()
            name = str(params.get("name"))[:_NAME_CHARS]
            if len(self.refused) < MAX_NAMES:
                self.refused[name] = str(why)[:_WHY_CHARS]
            return
        variable = Stored.read(params)
        if sum(variable.sizes) != received or variable.name in self._kept or len(self._kept) >= MAX_NAMES:
            raise ValueError("its parts do not fit, or there are too many variables")
        if variable.same and variable.same not in self._kept:
            raise ValueError(f"it is the same as {variable.same}")
        self._sink.keep(variable)
        self._kept.add(variable.name)
        self._left -= received


async def take_out(journal: Journal, sink: Sink, skipped: Iterable[str], limit: int = MAX_BYTES) -> dict[str, str]:
    """Have a sandbox save its variables. They stay in it as they are.

    Args:
        journal: around the sandbox; no cell runs.
        sink: gets the bytes.
        skipped: names of variables that are not saved.
        limit: bytes, for all of them.

    Returns:
        Why a variable is not saved, by name; under `*` for all of them.

    Raises:
        SandboxError: it broke off.
        OSError: the sink could not take more.
    """
    taking = _Taking(sink, limit)
    await journal.start(taking)
    said: list[str] = []
    code = f"__rlm__.repl.save({sorted(skipped)!r}, {limit})"
    status = await _glance(journal, code, said)
    if taking.failure is not None:
        raise taking.failure
    if status == "error" and not taking.refused and "__rlm__" in "".join(said):
        return {"*": "this kind of sandbox cannot save its variables"}
    if status != "ok":
        raise SandboxError(f"the sandbox broke off while its variables were saved ({status}); nothing was written")
    return taking.refused


async def put_back(
    journal: Journal, variables: Sequence[Stored], read: Callable[[Stored], bytes | None]
) -> dict[str, str]:
    """Have a sandbox load variables; it is started if it does not run.

    Args:
        journal: around the sandbox.
        variables: as they were saved, in that order.
        read: the bytes of one; also called later, if the sandbox has to be built again; None for what is gone by then.

    Returns:
        Why a variable could not be loaded, by name.

    Raises:
        SandboxError: it could not be started, or broke off.
    """
    failed: dict[str, str] = {}
    await journal.start(nobody)
    for batch in _batches(variables):
        names = {v.name: f"__rlm_{number}" for number, v in enumerate(batch) if v.sizes}
        values = {names[v.name]: partial(read, v) for v in batch if v.sizes}
        await journal.inner.put({name: await asyncio.to_thread(value) for name, value in values.items()})
        await journal.start(nobody)
        journal.stepped(values)
        specs = [asdict(v) | {"data": names.get(v.name, "")} for v in batch]
        said: list[str] = []
        result = await journal.execute(f"__rlm__.repl.load({json.dumps(specs)!r})", _listener(said))
        if result.status != "ok":
            why = "".join(said).strip().rpartition("\n")[2][-200:] or result.status
            raise SandboxError(f"the sandbox could not load the variables: {why}")
        failed |= _read_failed("".join(said), {v.name for v in batch})
    return failed


def _batches(variables: Sequence[Stored]) -> Iterator[list[Stored]]:
    """Some at a time, so that few of their bytes are held twice."""
    batch: list[Stored] = []
    for variable in variables:
        if batch and sum(sum(v.sizes) for v in (*batch, variable)) > _BATCH_BYTES:
            yield batch
            batch = []
        batch.append(variable)
    if batch:
        yield batch


def _read_failed(said: str, names: set[str]) -> dict[str, str]:
    """Which of them the guest says it could not load; it may say anything."""
    lines = [line for line in said.splitlines() if line.startswith("{")]
    try:
        found = json.loads(lines[-1]) if lines else {}
    except (ValueError, RecursionError):
        found = {}
    return {str(name): str(why)[:_WHY_CHARS] for name, why in found.items() if name in names}


async def _glance(journal: Journal, code: str, said: list[str]) -> str:
    """Run a cell that leaves all as it was; when nobody waits for it any more it is interrupted."""
    running = asyncio.ensure_future(journal.inner.execute(code, _listener(said)))
    try:
        result = await asyncio.shield(running)
    except asyncio.CancelledError:
        await journal.interrupt()
        await asyncio.wait([running], timeout=_GRACE_SECONDS)
        if not running.done():
            running.cancel()
            await asyncio.wait([running])
            await journal.recover(rebuild=False)
        elif running.exception() is None:
            journal.stepped()
        raise
    if result.status != "died":
        journal.stepped()
    return result.status


def _listener(said: list[str]) -> Callable[[Chunk], None]:
    length = 0

    def hear(chunk: Chunk) -> None:
        nonlocal length
        length += len(chunk.text)
        if length <= _SAID_CHARS:
            said.append(chunk.text)

    return hear


def is_name(name: object) -> bool:
    """Whether a variable can be called so."""
    return isinstance(name, str) and len(name) <= _NAME_CHARS and name.isidentifier() and not keyword.iskeyword(name)
