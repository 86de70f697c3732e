"""Says what a value is in a few words: type, size, preview. Never costs more than a glance at the value.

Nothing here may walk a whole value, call a method that computes, or fail: a value may be 1 GB, lazy or hostile.
"""

from __future__ import annotations

import reprlib
import types
from collections import deque
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

PREVIEW_CHARS = 1000


class _Glance(reprlib.Repr):
    """`repr` that stops early, at every level."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist, self.maxtuple = 4, 6, 6, 6
        self.maxset = self.maxfrozenset = self.maxdeque = 6
        self.maxstring, self.maxlong, self.maxother = 80, 40, 120

    def repr_instance(self, x: object, level: int) -> str:
        if size := _frame_size(x):
            return f"<{_type_name(x)} {size}>"
        if hasattr(x, "dtype") and hasattr(x, "item"):
            return repr(x.item())
        for base in (dict, list, tuple, set, frozenset, deque):
            if isinstance(x, base):  # its own repr would walk all of it
                shown: str = getattr(self, f"repr_{base.__name__}")(x, level)
                return f"{type(x).__name__}({shown})"
        if (fields := getattr(type(x), "__dataclass_fields__", None)) or type(x) is types.SimpleNamespace:
            values = {name: getattr(x, name, None) for name in list(fields or vars(x))[: self.maxdict]}
            return f"{type(x).__name__}({', '.join(f'{k}={self.repr1(v, level - 1)}' for k, v in values.items())})"
        return super().repr_instance(x, level)


_glance = _Glance()


def describe(value: object, limit: int = PREVIEW_CHARS) -> tuple[str, str, str]:
    """(type, size, preview) of any value; the preview has at most `limit` characters."""
    try:
        kind = _type_name(value)
    except Exception:  # noqa: BLE001 - a class may lie about its module and name
        kind = "object"
    try:
        size = _size(value)
    except Exception:  # noqa: BLE001 - a foreign __len__ or shape may raise anything; the name alone will do
        size = ""
    try:
        preview = _preview(value, limit)
    except Exception as error:  # noqa: BLE001 - as above, for a foreign __repr__
        preview = f"<no preview: {type(error).__name__}>"
    return kind, size, preview if len(preview) <= limit else f"{preview[: limit - 1]}…"


def glance(value: object, chars: int) -> str:
    """`repr` of any value that stops early; it has at most about `chars` characters and never fails."""
    shown = _Glance()
    shown.maxstring = chars
    try:
        text = shown.repr(value)
    except Exception as error:  # noqa: BLE001 - a foreign __repr__
        text = f"<{type(error).__name__} while it was looked at>"
    return text if len(text) <= chars else f"{text[:chars]}…"


def _type_name(value: object) -> str:
    cls = type(value)
    module = cls.__module__
    plain = ("builtins", "__main__")
    root = module.partition(".")[0]
    if module in plain:
        name = cls.__qualname__
    elif root in {"pandas", "polars", "numpy", "pyarrow", "PIL", "pathlib", "datetime"}:
        name = cls.__name__
    else:
        name = f"{module}.{cls.__qualname__}"
    if isinstance(value, list) and type(value) is list and value:
        first = type(value[0])
        if all(type(x) is first for x in value[:50]):
            return f"list[{first.__name__}]"
    return name


def _frame_size(value: object) -> str:
    """The size of anything that has a shape: frames, series, arrays, tables."""
    shape = getattr(value, "shape", None)
    if not isinstance(shape, tuple) or not shape or not all(isinstance(n, int) for n in shape):
        return ""
    if hasattr(value, "columns") or hasattr(value, "column_names"):
        return f"{shape[0]:,} rows x {shape[1]:,} columns" if len(shape) == 2 else ""
    dtype = getattr(value, "dtype", None)
    return f"shape {shape}" + (f", {dtype}" if dtype is not None else "")


def _size(value: object) -> str:
    if isinstance(value, str):
        return f"{len(value):,} characters"
    if isinstance(value, bytes | bytearray):
        return f"{len(value):,} bytes"
    if frame := _frame_size(value):
        return frame
    if isinstance(value, Mapping):
        return f"{len(value):,} keys"
    if isinstance(value, list | tuple | set | frozenset):
        return f"{len(value):,} items"
    if _type_name(value) == "Image" and hasattr(value, "mode"):
        return f"{getattr(value, 'width', '?')} x {getattr(value, 'height', '?')} pixels, {value.mode}"
    if isinstance(value, PurePath) and hasattr(value, "stat"):
        return f"{value.stat().st_size:,} bytes" if value.is_file() else "no such file"  # type: ignore[attr-defined]  # a concrete path
    if hasattr(value, "__len__") and not isinstance(value, type) and not hasattr(value, "dtype"):
        return f"{len(value):,} items"
    return ""


def _preview(value: object, limit: int) -> str:
    if isinstance(value, str):
        if len(value) <= limit:
            return repr(value)
        return f"{value[: limit * 2 // 3]!r} … {value[-(limit // 5) :]!r}"
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType | type):
        return _callable(value)
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if hasattr(value, "columns") and hasattr(value, "head"):
        return _frame(value, limit)
    if hasattr(value, "column_names") and hasattr(value, "schema"):
        return f"columns: {', '.join(f'{f.name} ({f.type})' for f in list(value.schema)[:60])}"
    if hasattr(value, "dtype") and bool(getattr(value, "shape", False)):
        return _array(value)
    if isinstance(value, Mapping):
        keys = ", ".join(_glance.repr(k) for k, _ in zip(value, range(20), strict=False))
        more = ", …" if len(value) > 20 else ""
        shown: Mapping[Any, Any] = value if type(value) is dict else {}
        return f"keys: {keys}{more}" + (f"\n{_glance.repr(shown)}" if shown else "")
    return _glance.repr(value)


def _callable(value: Any) -> str:
    import inspect

    try:
        signature = str(inspect.signature(value))
    except (TypeError, ValueError):
        signature = "(...)"
    doc = (inspect.getdoc(value) or "").partition("\n")[0]
    word = "class" if isinstance(value, type) else "def"
    return f"{word} {value.__name__}{signature}" + (f": {doc}" if doc else "")


def _frame(value: Any, limit: int) -> str:
    """Columns with their types, then the first rows."""
    names = list(value.columns)
    types_ = list(value.dtypes)
    columns = ", ".join(f"{n} ({t})" for n, t in list(zip(names, types_, strict=False))[:60])
    more = f", … {len(names) - 60} more" if len(names) > 60 else ""
    text = f"columns: {columns}{more}"
    head = value.head(3)
    rows = head.iloc[:, :12].to_string(max_colwidth=30) if hasattr(head, "iloc") else str(head)
    for line in rows.splitlines():  # whole rows only
        if len(text) + len(line) >= limit:
            break
        text += f"\n{line}"
    return text


def _array(value: Any) -> str:
    if hasattr(value, "head"):  # a series
        return str(value.head(5))
    flat = value.reshape(-1)[:8] if hasattr(value, "reshape") and 0 not in value.shape else []
    return f"first values: {[_scalar(x) for x in flat]}"


def _scalar(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
