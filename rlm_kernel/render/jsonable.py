"""Values as JSON and back: what an answer looks like in a file.

JSON's own kinds come back equal, and so do tuples, nan and infinities, and dicts with other keys than strings. Any
other value comes back as the text of its `repr`, a table as a list of records (dicts), a scalar of numpy as a number.
Nothing is ever unpickled or evaluated.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["KEY", "decode", "encode"]

KEY = "rlm_kernel"
"""Marks an object that stands for something else; a dict that has this key itself is written as its items."""
_DEEP = 60
_LONG = 10_000
"""Bits of the longest integer written as one: Python refuses to print much longer ones."""


def encode(value: Any, depth: int = 0) -> Any:
    """`value` as JSON.

    What JSON has no form for becomes an object with the key `rlm_kernel` that names its kind: `float` (nan and
    infinities), `tuple`, `dict` (keys that are no strings), `table` or `repr`.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if abs(value).bit_length() < _LONG else _repr(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {KEY: "float", "text": repr(float(value))}
    if depth >= _DEEP:
        return _repr(value)
    if type(value) is list:
        return [encode(item, depth + 1) for item in value]
    if type(value) is tuple:
        return {KEY: "tuple", "items": [encode(item, depth + 1) for item in value]}
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    return _foreign(value, depth)


def decode(value: Any) -> Any:
    """What `encode` made, as a value again."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value.get(KEY):
        case None:
            return {k: decode(v) for k, v in value.items()}
        case "float":
            return float(value["text"])
        case "tuple":
            return tuple(decode(item) for item in value["items"])
        case "dict":
            return {decode(k): decode(v) for k, v in value["items"]}
        case "table":
            return decode(value["records"])
        case _:
            return value["text"]


def _mapping(value: Mapping[Any, Any], depth: int) -> Any:
    if all(isinstance(k, str) for k in value) and KEY not in value:
        return {str.__str__(k): encode(v, depth + 1) for k, v in value.items()}
    return {KEY: "dict", "items": [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in value.items()]}


def _foreign(value: Any, depth: int) -> Any:
    try:
        if type(value).__module__.partition(".")[0] == "numpy" and getattr(value, "ndim", None) == 0:
            item = value.item()
            return encode(item, depth + 1) if isinstance(item, (bool, int, float, str)) else _repr(value)
        records = _records(value)
        return _repr(value) if records is None else {KEY: "table", "records": encode(records, depth + 1)}
    except Exception:  # noqa: BLE001 - foreign code ran on hostile data
        return _repr(value)


def _records(value: Any) -> list[Any] | None:
    if (pd := sys.modules.get("pandas")) and isinstance(value, pd.DataFrame):
        default = isinstance(value.index, pd.RangeIndex)
        return list((value if default else value.reset_index()).to_dict("records"))
    if (pl := sys.modules.get("polars")) and isinstance(value, pl.DataFrame):
        return list(value.to_dicts())
    if (pa := sys.modules.get("pyarrow")) and isinstance(value, pa.Table):
        return list(value.to_pylist())
    return None


def _repr(value: Any) -> dict[str, str]:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    try:
        text = f"{value:#x}" if isinstance(value, int) else repr(value)
    except Exception:  # noqa: BLE001 - foreign code ran on hostile data
        text = f"<{kind}>"
    return {KEY: "repr", "type": kind, "text": text}
