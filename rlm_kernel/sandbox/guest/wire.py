"""How values leave the sandbox, and results of tools enter it: JSON with tagged leaves. Both sides import this file.

A leaf that JSON has no word for is an object whose only key starts with `$`: `{"$arrow": base64}` (an Arrow IPC
stream), `{"$npy": base64}` (numpy's format, pickling refused), `{"$bytes": base64}`, `{"$dict": [[key, value]…]}` (keys
that are not text), `{"$text": …}` (a value by its text form: dates, decimals, paths). Nothing is ever pickled on the
way out: the host does not unpickle what the sandbox sends.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import io
import pathlib
import uuid
from typing import Any

MAX_DEPTH = 40
MAX_BYTES = 64 * 2**20

_TEXT = (datetime.date, datetime.time, decimal.Decimal, pathlib.PurePath, uuid.UUID)


class NotSendableError(TypeError):
    """The value has no form that may be sent; the message says what would."""


def encode(value: Any, depth: int = 0) -> Any:  # noqa: C901 - a table of kinds, one line each
    """`value` as JSON-able data with tagged leaves.

    Raises:
        NotSendableError: no safe form exists (an object array, a custom class, a generator).
    """
    if depth > MAX_DEPTH:
        raise NotSendableError(f"nested deeper than {MAX_DEPTH} levels")
    if value is None or isinstance(value, bool | str) or type(value) in (int, float):
        return value
    if isinstance(value, enum.Enum):
        return encode(value.value, depth + 1)
    if isinstance(value, int | float):  # subclasses: numpy.float64 is one
        return float(value) if isinstance(value, float) else int(value)
    if isinstance(value, dict):
        return _encode_dict(value, depth)
    if isinstance(value, list | tuple | set | frozenset):
        return [encode(x, depth + 1) for x in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": _b64(bytes(value))}
    if type(value).__name__ in ("NAType", "NaTType"):  # pandas' missing values; NaT calls itself a datetime
        return None
    if isinstance(value, _TEXT):
        return {"$text": value.isoformat() if hasattr(value, "isoformat") else str(value)}
    if isinstance(value, datetime.timedelta):
        return {"$seconds": value.total_seconds()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name), depth + 1) for f in dataclasses.fields(value)}
    if hasattr(value, "model_dump") and not isinstance(value, type):  # a pydantic model
        return encode(value.model_dump(), depth + 1)
    return _encode_foreign(value, depth)


def _encode_dict(value: dict[Any, Any], depth: int) -> Any:
    if all(isinstance(k, str) for k in value) and not (len(value) == 1 and next(iter(value)).startswith("$")):
        return {k: encode(v, depth + 1) for k, v in value.items()}
    return {"$dict": [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in value.items()]}


def _encode_foreign(value: Any, depth: int) -> Any:
    """numpy, pandas, polars and pyarrow, recognised by their module so that none has to be installed."""
    root = type(value).__module__.partition(".")[0]
    name = type(value).__name__
    if root == "numpy" and name == "ndarray":
        return {"$npy": _b64(_npy(value))}
    if name == "datetime64":
        return None if str(value) == "NaT" else encode(value.astype("datetime64[us]").item(), depth + 1)
    if name == "timedelta64":
        return None if str(value) == "NaT" else {"$seconds": value / type(value)(1, "s")}
    if root in ("numpy", "pandas") and hasattr(value, "item") and not hasattr(value, "__len__"):
        return encode(value.item(), depth + 1)
    if root == "pandas" and name == "Series":
        return {"$series": [encode(value.name, depth + 1), _b64(_arrow(value.to_frame(name="value")))]}
    if root == "pandas" and name == "Index":
        return encode(value.tolist(), depth + 1)
    if (root, name) in (("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "Table")):
        return {"$arrow": _b64(_arrow(value))}
    if root == "polars" and name == "Series":
        return encode(value.to_list(), depth + 1)
    raise NotSendableError(
        f"a value of type {name} cannot be sent: use text, numbers, bool, None, lists, dicts, dates, a DataFrame or an "
        "ndarray"
    )


def _npy(array: Any) -> bytes:
    import numpy as np

    if array.dtype.hasobject:
        raise NotSendableError("an ndarray of Python objects cannot be sent: give it a number or text dtype")
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def _arrow(frame: Any) -> bytes:
    try:
        import pyarrow as pa
    except ImportError:
        raise NotSendableError("a table is sent as Arrow, and pyarrow is not installed") from None
    try:
        if isinstance(frame, pa.Table):
            table = frame
        elif hasattr(frame, "to_arrow"):
            table = frame.to_arrow()
        else:
            table = pa.Table.from_pandas(frame)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise NotSendableError(f"the table has a column that Arrow cannot hold: {error}") from None
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def _b64(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise NotSendableError(f"{len(data):,} bytes are more than the {MAX_BYTES:,} that may be sent: send less")
    return base64.b64encode(data).decode("ascii")


def decode(data: Any, depth: int = 0) -> Any:
    """The value that `encode` was given, on the host. Hostile input raises ValueError, it never runs anything.

    Raises:
        ValueError: not what `encode` writes.
    """
    if depth > MAX_DEPTH + 4:
        raise ValueError("nested too deep")
    if isinstance(data, list):
        return [decode(x, depth + 1) for x in data]
    if not isinstance(data, dict):
        return data
    if len(data) == 1 and (tag := next(iter(data))).startswith("$"):
        leaf = _LEAVES.get(tag)
        if leaf is None:
            raise ValueError(f"unknown tag {tag!r}")
        try:
            return leaf(data[tag], depth)
        except (TypeError, OverflowError, LookupError) as error:
            raise ValueError(f"a broken {tag}: {error}") from None
    return {k: decode(v, depth + 1) for k, v in data.items()}


def _decode_dict(pairs: Any, depth: int) -> dict[Any, Any]:
    return {_hashable(decode(k, depth + 1)): decode(v, depth + 1) for k, v in pairs}


def _hashable(key: Any) -> Any:
    return tuple(_hashable(k) for k in key) if isinstance(key, list) else key


def _decode_npy(text: Any, _: int) -> Any:
    import numpy as np

    # read_array, not load: an archive is no array
    return np.lib.format.read_array(io.BytesIO(base64.b64decode(text, validate=True)), allow_pickle=False)


def _decode_table(text: Any, _: int) -> Any:
    import pyarrow as pa

    return pa.ipc.open_stream(base64.b64decode(text, validate=True)).read_all().to_pandas()


def _decode_series(pair: Any, depth: int) -> Any:
    name, text = pair
    return _decode_table(text, depth).iloc[:, 0].rename(_hashable(decode(name, depth + 1)))


_LEAVES: dict[str, Any] = {
    "$dict": _decode_dict,
    "$npy": _decode_npy,
    "$arrow": _decode_table,
    "$series": _decode_series,
    "$bytes": lambda text, depth: base64.b64decode(text, validate=True),
    "$text": lambda text, depth: str(text),
    "$seconds": lambda number, depth: datetime.timedelta(seconds=float(number)),
}
