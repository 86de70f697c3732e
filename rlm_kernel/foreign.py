"""Tables and arrays as output types, recognised without importing their libraries before somebody uses them."""

from __future__ import annotations

import importlib
import re
from typing import Annotated, Any

from pydantic import PlainValidator

__all__ = ["foreign_type", "from_json", "has_json", "plain"]

_LIBRARIES = {
    "DataFrame": "pandas",
    "Series": "pandas",
    "ndarray": "numpy",
    "pd.DataFrame": "pandas",
    "pd.Series": "pandas",
    "np.ndarray": "numpy",
    "pl.DataFrame": "polars",
    "pa.Table": "pyarrow",
    "pandas.DataFrame": "pandas",
    "pandas.Series": "pandas",
    "numpy.ndarray": "numpy",
    "polars.DataFrame": "polars",
    "pyarrow.Table": "pyarrow",
}
_NAMED = re.compile(r"\b(DataFrame|Series|ndarray|Table)\b")
_FOREIGN = {
    ("pandas", "DataFrame"),
    ("pandas", "Series"),
    ("numpy", "ndarray"),
    ("polars", "DataFrame"),
    ("pyarrow", "Table"),
}


def foreign_type(kind: type | str) -> Any:
    """The type that pydantic checks for a table or array class, or for the name of one.

    A class that is neither is returned as it is; for a name that is none, or whose library is missing, None.
    """
    if isinstance(kind, str):
        library = _LIBRARIES.get(kind)
        if library is None:
            return None
        try:
            found: type = getattr(importlib.import_module(library), kind.rpartition(".")[2])
        except ImportError:
            return None
        return foreign_type(found)
    root = kind.__module__.partition(".")[0]
    if (root, kind.__name__) not in _FOREIGN:
        return kind
    wanted = kind
    return Annotated[Any, PlainValidator(lambda value: _convert(value, wanted, root))]


def _convert(value: Any, kind: type, library: str) -> Any:
    """A decoded value as the declared class. Tables arrive as pandas, arrays as numpy."""
    if isinstance(value, kind):
        return value
    arrived = type(value).__name__
    if arrived == "DataFrame" and library == "polars":
        return importlib.import_module("polars").from_pandas(value)
    if arrived == "DataFrame" and library == "pyarrow":
        return kind.from_pandas(value)  # type: ignore[attr-defined]  # pyarrow.Table
    if arrived == "Series" and kind.__name__ == "ndarray":
        return value.to_numpy()
    raise ValueError(f"submit a {library} {kind.__name__}, not a {arrived}")


def _is_foreign(kind: Any) -> bool:
    return any(isinstance(about, PlainValidator) for about in getattr(kind, "__metadata__", ()))


def has_json(kind: Any, annotation: str) -> bool:
    """Whether a value of this type can be made from JSON: tables and arrays only where they are the whole of it."""
    return _is_foreign(kind) or isinstance(kind, type) or not _NAMED.search(annotation)


def from_json(value: Any, kind: Any, annotation: str) -> Any:
    """What JSON has of a table or an array, as what the sandbox would send; anything else as it is.

    Raises:
        ValueError: it is none.
    """
    if not _is_foreign(kind):
        return value
    try:
        match annotation.rpartition(".")[2]:
            case "ndarray":
                return importlib.import_module("numpy").array(value)
            case "Series":
                return importlib.import_module("pandas").Series(value)
        return importlib.import_module("pandas").DataFrame(value)
    except Exception as error:  # noqa: BLE001 - whatever the library makes of it
        raise ValueError(f"that is no {annotation}: {type(error).__name__}: {error}") from None


def plain(value: Any, annotation: str) -> Any:
    """A table or array as lists, where the declared type is not a table or array."""
    if any(name in annotation for name in ("DataFrame", "Series", "ndarray", "Table", "Any")):
        return value
    match type(value).__name__:
        case "Series" if annotation.lower().startswith("dict"):
            return value.to_dict()
        case "ndarray" | "Series":
            return value.tolist()
        case "DataFrame":
            return value.to_dict("records")
    return value
