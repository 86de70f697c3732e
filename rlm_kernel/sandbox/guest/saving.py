"""The variables of the REPL as bytes, one by one, and back: for a file that outlives this process.

They are pickled and unpickled in here alone; to the host they are bytes. A variable that cannot be saved or loaded is
told with its reason, and the others are kept. Functions of the REPL keep working on the REPL's variables: cloudpickle
would give each a copy of those that it uses.
"""

from __future__ import annotations

import base64
import importlib
import io
import marshal
import pickle
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .channel import HostError
from .describe import describe

try:
    from cloudpickle import Pickler as _Base  # classes of the REPL can be saved
except ImportError:
    from pickle import Pickler as _Base

PART_BYTES = 4 * 2**20
_IPYTHONS = re.compile(r"_+|_i{1,3}|_i?\d+|_[iod]h|_exit_code|__.*")
_PLAIN = (bool, int, float, complex, type(None))
_HERE = sys.version_info[:2]


class LackError(Exception):
    """This Python cannot make the value again."""


class _TooLargeError(Exception):
    """There is no room for it."""


class _Out:
    """Takes a pickle and sends it in parts.

    Args:
        room: bytes.
        send: sends one part.
    """

    def __init__(self, room: int, send: Callable[[bytes | memoryview], object]) -> None:
        self._room, self._send = room, send
        self._waiting = bytearray()
        self.size = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.size += view.nbytes
        if self.size > self._room:
            raise _TooLargeError(f"larger than the {self._room >> 20:,} MB that are left of what can be saved")
        if len(self._waiting) + view.nbytes < PART_BYTES:
            self._waiting += view
        else:
            self.flush()
            for start in range(0, view.nbytes, PART_BYTES):
                self._send(view[start : start + PART_BYTES])
        return view.nbytes

    def flush(self) -> None:
        if self._waiting:
            self._send(bytes(self._waiting))
            self._waiting.clear()


class _Saver(_Base):  # type: ignore[misc]  # cloudpickle has no types
    """Knows what belongs to this REPL.

    Args:
        out: takes the pickle.
        buffers: takes what is not part of it.
        namespace: of the REPL.
        own: the names of its functions, by id.
    """

    def __init__(self, out: Any, buffers: list[Any], namespace: Mapping[str, Any], own: Mapping[int, str]) -> None:
        super().__init__(out, protocol=5, buffer_callback=buffers.append)
        self._namespace, self._own = namespace, own

    def reducer_override(self, obj: Any) -> Any:
        kind: Any = type(obj)
        if (own := self._own.get(id(obj))) is not None:
            return _own, (own,)
        if kind is types.ModuleType and sys.modules.get(name := obj.__name__) is obj:
            return importlib.import_module, (name,)
        if kind is types.FunctionType and obj.__globals__ is self._namespace:
            return _taken_apart(obj)
        if issubclass(kind, io.TextIOWrapper | memoryview):  # cloudpickle would make text and bytes of them
            raise pickle.PicklingError(f"cannot pickle {kind.__name__!r} object")
        if _Base is pickle.Pickler:
            if issubclass(kind, type) and obj.__module__ == "__main__":
                raise pickle.PicklingError(f"the class {obj.__name__} needs cloudpickle, which is not installed here")
            return NotImplemented
        return super().reducer_override(obj)


def _taken_apart(function: Any) -> Any:
    """A function as what makes it again in another REPL, of the same Python."""
    cells = function.__closure__ or ()
    state = {
        "__defaults__": function.__defaults__,
        "__kwdefaults__": function.__kwdefaults__,
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
    }
    contents = [(n, cell.cell_contents) for n, cell in enumerate(cells) if _is_filled(cell)]
    made = (marshal.dumps(function.__code__), function.__name__, len(cells), _HERE)
    return _function, made, (state, function.__dict__, contents), None, None, _fill


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - it raises when there is nothing
    except ValueError:
        return False
    return True


def _own(name: str) -> Any:
    """Stands in pickles for a function of the REPL."""
    raise NotImplementedError("found by _Loader alone")


def _function(code: bytes, name: str, cells: int, python: tuple[int, int]) -> Any:
    """Stands in pickles for making a function of the REPL."""
    raise NotImplementedError("found by _Loader alone")


def _fill(function: Any, state: Any) -> None:
    """Give a function what it had."""
    attributes, own, contents = state
    for name, value in attributes.items():
        setattr(function, name, value)
    function.__dict__.update(own)
    for number, value in contents:
        function.__closure__[number].cell_contents = value


class _Loader(pickle.Unpickler):
    """Finds what belongs to this REPL, and says what this Python lacks."""

    def __init__(
        self, file: Any, buffers: list[Any], python: tuple[int, int], namespace: dict[str, Any], own: Mapping[str, Any]
    ) -> None:
        super().__init__(file, buffers=buffers)
        self._python, self._namespace, self._own = python, namespace, own

    def find_class(self, module: str, name: str) -> Any:
        if module.rpartition(".")[2] == "saving" and name in ("_own", "_function", "_fill"):
            return {"_own": self._find, "_function": self._make, "_fill": _fill}[name]
        if module.partition(".")[0] == "cloudpickle" and name == "_make_function":
            self._same(self._python)
        try:
            return super().find_class(module, name)
        except ModuleNotFoundError as error:
            raise LackError(f"the sandbox's Python has no module '{error.name}': install it there") from None
        except AttributeError:
            raise LackError(f"there is no {module}.{name} in the sandbox's Python") from None

    def _find(self, name: str) -> Any:
        if name not in self._own:
            raise LackError(f"it needs {name}, which this REPL has not")
        return self._own[name]

    def _make(self, code: bytes, name: str, cells: int, python: tuple[int, int]) -> Any:
        self._same(python)
        empty = tuple(types.CellType() for _ in range(cells)) or None
        return types.FunctionType(marshal.loads(code), self._namespace, name, None, empty)  # noqa: S302 - as unpickling

    @staticmethod
    def _same(python: tuple[int, int]) -> None:
        if tuple(python) != _HERE:
            theirs, here = (".".join(map(str, version)) for version in (python, _HERE))
            raise LackError(f"code of Python {theirs} does not run in the sandbox's Python {here}")


def _names(namespace: Mapping[str, Any], skipped: Iterable[str]) -> Iterator[str]:
    skipped = set(skipped)
    for name in list(namespace):
        if isinstance(name, str) and name.isidentifier() and name not in skipped and not _IPYTHONS.fullmatch(name):
            yield name


def save(
    namespace: Mapping[str, Any],
    own: Mapping[str, Any],
    skipped: Iterable[str],
    room: int,
    call: Callable[..., Any],
) -> None:
    """Send every variable to the host.

    Args:
        namespace: of the REPL.
        own: its functions.
        skipped: names that are not saved.
        room: bytes, for all of them.
        call: asks the host.
    """
    known = {id(value): name for name, value in own.items()}
    first: dict[int, str] = {}
    for name in _names(namespace, skipped):
        value = namespace[name]
        kind, size, _ = describe(value, 1)
        facts: dict[str, Any] = {"name": name, "type": kind, "size": size}
        same = first.setdefault(id(value), name) if type(value) not in _PLAIN else name
        try:
            if same != name:
                facts["same"] = same
            else:
                out = _Out(room, lambda part: call("save", part=base64.b64encode(part).decode("ascii")))
                facts |= _saved(value, out, namespace, known)
                room -= out.size
            call("save", **facts)
        except KeyboardInterrupt:
            raise
        except HostError as error:
            call("save", name=name, failed=str(error))
        except BaseException as error:  # noqa: BLE001 - a foreign __reduce__ may raise anything, SystemExit too
            why = " ".join(str(error).split())[:300] or type(error).__name__
            call("save", name=name, failed=f"{kind}: {why}")


def _saved(value: Any, out: _Out, namespace: Mapping[str, Any], own: Mapping[int, str]) -> dict[str, Any]:
    """Send a value; what has to be known of it to load it."""
    buffers: list[pickle.PickleBuffer] = []
    _Saver(out, buffers, namespace, own).dump(value)
    sizes, writable = [out.size], []
    for buffer in buffers:
        view = buffer.raw()
        out.write(view)
        sizes.append(view.nbytes)
        writable.append(not view.readonly)
    out.flush()
    return {"sizes": sizes, "writable": writable, "python": list(_HERE)}


def load(namespace: dict[str, Any], own: Mapping[str, Any], specs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Make variables of bytes that the host put into the namespace.

    Args:
        namespace: of the REPL.
        own: its functions.
        specs: of each variable, as `save` told it, and under `data` the name of its bytes.

    Returns:
        Why a variable could not be loaded, by name.
    """
    failed = {}
    for spec in specs:
        name = spec["name"]
        try:
            if spec["same"]:
                namespace[name] = namespace[spec["same"]]
            else:
                namespace[name] = _loaded(namespace, own, spec)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a foreign __setstate__ may raise anything, SystemExit too
            if spec["same"]:
                failed[name] = f"it is the same as {spec['same']}"
            else:
                kind = "" if isinstance(error, LackError) else f"{type(error).__name__}: "
                failed[name] = f"{kind}{' '.join(str(error).split())[:300]}"
    return failed


def _loaded(namespace: dict[str, Any], own: Mapping[str, Any], spec: Mapping[str, Any]) -> Any:
    whole = memoryview(namespace.pop(spec["data"]))
    parts, start = [], 0
    for size in spec["sizes"]:
        parts.append(whole[start : start + size])
        start += size
    # copied, so that each begins where processors like it and may be written to
    buffers = [bytearray(p) if w else bytes(p) for p, w in zip(parts[1:], spec["writable"], strict=True)]
    return _Loader(io.BytesIO(parts[0]), buffers, tuple(spec["python"]), namespace, own).load()
