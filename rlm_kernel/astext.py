"""Variables as text in a prompt: text as it stands, tables as CSV, all else as JSON. Whole, or an error.

`measure` says about how long that is at the price of a glance; only `as_text` makes it. Libraries of tables and arrays
are asked only about what is theirs, so none is imported here.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import io
import itertools
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from types import GeneratorType
from typing import Any

from rlm_kernel.errors import InputError

__all__ = ["as_text", "measure"]

_SAMPLE = 200
"""Items of a collection that are looked at, and rows and columns of a table."""
_NESTED = 20
"""Items of a collection within another."""
_PARTS, _CHARS = 16, 4096
"""Parts of a text that is not ASCII of which the bytes are counted, and characters of a part."""
_DEEP = 30
_SCALARS = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID, enum.Enum, PurePath, complex)
_SCALAR_BYTES = 20
_TABLES = {("pandas", "DataFrame"), ("pandas", "Series"), ("polars", "DataFrame"), ("pyarrow", "Table")}


def as_text(name: str, value: Any) -> tuple[str, str]:
    """What form a variable takes in a prompt (`text`, `CSV` or `JSON`), and itself in this form.

    Raises:
        InputError: it has none; the message names it.
    """
    kind = type(value).__name__
    if measure(value) is None:
        raise InputError(f"variable '{name}' ({kind}) has no form as text; pass the data it holds, or str({name})")
    try:
        if isinstance(value, str):
            return "text", value
        if isinstance(value, bytes | bytearray):
            return "text", value.decode()
        csv = _csv(value) if _is_table(value) else None
        return ("JSON", _json(value)) if csv is None else ("CSV", csv)
    except Exception as error:  # noqa: BLE001 - a foreign class may raise anything on its way to text
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"variable '{name}' ({kind}) cannot be put into a prompt: {why}; pass it as a str") from None


# -- how long it is -----------------------------------------------------------------------------------------------
def measure(value: Any) -> int | None:
    """About how many bytes of UTF-8 a value has as text; None where it has no such form."""
    try:
        if isinstance(value, PurePath):
            return None  # the name of a file is not what is in it
        return max(1, round(_bytes(value) if isinstance(value, str) else _measure(value, 0)))
    except Exception:  # noqa: BLE001 - what cannot be looked at has no form that could be told
        return None


class _NoTextError(Exception):
    """A value has no form as text."""


def _measure(value: Any, depth: int) -> float:
    """As JSON."""
    if (size := _scalar(value)) is not None:
        return size
    if depth > _DEEP or isinstance(value, GeneratorType | type):
        raise _NoTextError
    if (size := _table(value)) is not None:
        return size
    deeper = depth + 1
    if isinstance(value, Mapping):
        pairs = _mean(value.items(), len(value), depth, lambda i: _measure(i[0], deeper) + _measure(i[1], deeper) + 2)
        return 2 + len(value) * pairs
    if isinstance(value, list | tuple | set | frozenset):
        return 2 + len(value) * _mean(value, len(value), depth, lambda item: _measure(item, deeper) + 1)
    if dataclasses.is_dataclass(value) or hasattr(type(value), "model_fields"):
        return _measure(dict(vars(value)), depth)
    if _root(value) == "numpy" and hasattr(value, "item"):
        return _measure(value.item(), deeper)
    raise _NoTextError


def _scalar(value: Any) -> float | None:
    """The size of what holds nothing else; None for anything else."""
    if isinstance(value, str):
        return _bytes(value) + 2
    if value is None or isinstance(value, bool):
        return 4
    if isinstance(value, float):
        return len(repr(float(value)))
    if isinstance(value, int):
        return value.bit_length() * 0.302 + 1
    if isinstance(value, bytes | bytearray):
        return len(value) + 2
    if isinstance(value, _SCALARS) or type(value).__name__ == "NAType":
        return _SCALAR_BYTES
    return None


def _bytes(text: str) -> float:
    if text.isascii():
        return len(text)
    parts = [text[i : i + _CHARS] for i in range(0, len(text), max(_CHARS, len(text) // _PARTS))]
    return len(text) * sum(len(p.encode("utf-8", "surrogatepass")) for p in parts) / sum(map(len, parts))


def _mean(items: Iterable[Any], number: int, depth: int, size: Callable[[Any], float]) -> float:
    """The size of an item, from some that are spread over all."""
    step = _step(number, _NESTED if depth else _SAMPLE)
    some = items[::step] if isinstance(items, list | tuple) else itertools.islice(items, 0, None, step)
    seen = [size(item) for item in some]
    return sum(seen) / len(seen) if seen else 0.0


def _step(number: int, sample: int = _SAMPLE) -> int:
    return -(-number // sample) or 1


def _table(value: Any) -> float | None:
    """The size of a table as CSV or of an array as JSON; None for anything else."""
    root = _root(value)
    if root == "numpy" and hasattr(value, "flat") and value.ndim:
        number, some = int(value.size), value.flat[:: _step(value.size)].tolist()
        return 2 + number * (1 + _mean(some, 0, 0, _cell))
    if root == "polars" and type(value).__name__ == "Series":
        return 2 + len(value) * (1 + _mean(value.gather_every(_step(len(value))).to_list(), 0, 0, _cell))
    if not _is_table(value):
        return None
    rows, columns = map(int, (*value.shape, 1)[:2])
    names = getattr(value, "column_names", None) or getattr(value, "columns", None)
    head = sum(len(str(name)) + 1 for name in (names if names is not None else ()))
    cells = [c for column in _some_cells(value, rows, columns) for c in column]
    return head + rows * columns * (1 + _mean(cells, 0, 0, _cell))


def _cell(value: Any) -> float:
    """Of a table or an array: a text is not quoted, and anything can be printed."""
    try:
        return _bytes(value) if isinstance(value, str) else _measure(value, 1)
    except _NoTextError:
        return _SCALAR_BYTES


def _some_cells(value: Any, rows: int, columns: int) -> list[list[Any]]:
    """Some cells of some columns."""
    down, across = _step(rows), _step(columns)
    if _root(value) == "pandas":
        some = (value.to_frame() if value.ndim == 1 else value).iloc[::down, ::across]
        return [some.iloc[:, i].tolist() for i in range(some.shape[1])]
    if _root(value) == "polars":
        return [column.to_list() for column in value[:, ::across].gather_every(down).get_columns()]
    return [value.column(i).take(list(range(0, rows, down))).to_pylist() for i in range(0, columns, across)]


# -- the text itself ----------------------------------------------------------------------------------------------
def _root(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _is_table(value: Any) -> bool:
    return (_root(value), type(value).__name__) in _TABLES


def _csv(value: Any) -> str | None:
    """A table as CSV; None for one with lists in its cells, which only JSON can hold."""
    if _root(value) == "pandas":
        numbered = type(value.index).__name__ == "RangeIndex" and value.index.name is None
        return str(value.to_csv(index=not numbered))
    try:
        if _root(value) == "polars":
            return str(value.write_csv())
        from pyarrow import csv

        sink = io.BytesIO()
        csv.write_csv(value, sink)
        return sink.getvalue().decode()
    except Exception:  # noqa: BLE001 - each library has an error of its own for such cells
        return None


def _json(value: Any) -> str:
    from pydantic_core import to_json

    return to_json(value, inf_nan_mode="constants", fallback=_plain).decode()


def _plain(value: Any) -> Any:
    """What pydantic does not know, as something that it does."""
    if type(value).__name__ == "NAType":
        return None
    if _is_table(value) and _root(value) == "pandas":
        return value.to_dict("records") if value.ndim > 1 else value.to_dict()
    for method in ("to_dicts", "to_pylist", "to_list", "tolist"):
        if _root(value) in ("numpy", "pandas", "polars", "pyarrow") and hasattr(value, method):
            return getattr(value, method)()
    raise TypeError(f"a {type(value).__name__} has no form as JSON")
