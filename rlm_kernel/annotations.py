"""Types as they are written in a signature: an expression becomes a type, and nothing is evaluated.

Names are looked up, subscripts and unions are built; all else is an error that points at its place.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime
import decimal
import enum
import inspect
import pathlib
import typing
import uuid
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter

from rlm_kernel.errors import closest
from rlm_kernel.foreign import foreign_type

__all__ = ["TypeReader"]

_TYPES: dict[str, Any] = {
    **{t.__name__: t for t in (str, int, float, bool, bytes, list, dict, tuple, set, frozenset, object)},
    **{t.__name__: t for t in (datetime.datetime, datetime.date, datetime.time, datetime.timedelta)},
    **{t.__name__: t for t in (decimal.Decimal, pathlib.Path, uuid.UUID)},
    **{n: getattr(typing, n) for n in ("Any", "Literal", "Optional", "Union")},
    **{t.__name__.title(): t for t in (list, dict, tuple, set)},
    "None": None,
}


_ARITY: dict[Any, int] = {list: 1, set: 1, frozenset: 1, dict: 2}


class TypeReader:
    """Reads type expressions.

    Args:
        namespace: where names are looked up that are not Python's own.
        fail: raises, given what is wrong and at which column.
    """

    def __init__(self, namespace: Mapping[str, Any], fail: Callable[[str, int], typing.NoReturn]) -> None:
        self._namespace, self._fail = namespace, fail

    def read(self, node: ast.expr, shift: int) -> Any:
        """The type that this expression names; `shift` is what its columns are off by."""
        at = node.col_offset + shift
        match node:
            case ast.Constant(value=None):
                return None
            case ast.Constant(value=str() as quoted):
                try:
                    inside = ast.parse(quoted, mode="eval").body
                except (SyntaxError, ValueError):
                    self._fail("this is not a type", at)
                return self.read(inside, at + 1)
            case ast.Name(id=name):
                return self._named(name, at)
            case ast.Attribute():
                return self._attribute(node, shift)
            case ast.BinOp(op=ast.BitOr()):
                return typing.Union[self.read(node.left, shift), self.read(node.right, shift)]  # noqa: UP007 - built at run time
            case ast.Subscript():
                return self._subscript(node, shift)
        return self._fail("this is not a type", at)

    def _subscript(self, node: ast.Subscript, shift: int) -> Any:
        at = node.col_offset + shift
        base = self.read(node.value, shift)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if not inner or len(inner) != _ARITY.get(base, len(inner)):
            self._fail(f"{ast.unparse(node.value)} takes {_ARITY.get(base, 'some')} in its brackets", at)
        if base is typing.Literal:
            return typing.Literal[tuple(self._literal(x, shift) for x in inner)]
        arguments = tuple(... if _is_ellipsis(x) else self.read(x, shift) for x in inner)
        try:
            return base[arguments if len(arguments) > 1 else arguments[0]]
        except TypeError as error:
            return self._fail(str(error), at)

    def _literal(self, node: ast.expr, shift: int) -> Any:
        try:
            value = ast.literal_eval(node)
        except ValueError:
            value = ...
        if not isinstance(value, str | int | bytes | None):
            self._fail("Literal takes texts and numbers", node.col_offset + shift)
        return value

    def _named(self, name: str, at: int) -> Any:
        if name in self._namespace and isinstance(self._namespace[name], type):
            return foreign_type(self._namespace[name])
        if name in _TYPES:
            return _TYPES[name]
        if (kind := foreign_type(name)) is not None:
            return kind
        known = [
            *_TYPES,
            "DataFrame",
            "Series",
            "ndarray",
            *(n for n, v in self._namespace.items() if isinstance(v, type)),
        ]
        return self._fail(f"unknown type '{name}'{closest(name, known)}", at)

    def _attribute(self, node: ast.Attribute, shift: int) -> Any:
        path, root = [node.attr], node.value
        while isinstance(root, ast.Attribute):
            path.insert(0, root.attr)
            root = root.value
        at = node.col_offset + shift
        if not isinstance(root, ast.Name):
            self._fail("this is not a type", at)
        module = self._namespace.get(root.id)
        if module is None and (kind := foreign_type(f"{root.id}.{'.'.join(path)}")) is not None:
            return kind
        for part in path:  # looked up without running anything: not a property, not a module's own __getattr__
            known = isinstance(module, ModuleType | type)
            module = inspect.getattr_static(module, part, None) if known else None
        if not isinstance(module, type):
            self._fail(f"unknown type '{ast.unparse(node)}'", at)
        return foreign_type(module)

    def check(self, kind: Any, node: ast.expr, shift: int) -> None:
        """Values come back as JSON and tables, so a type has to be one that can be built from those."""
        if isinstance(kind, type) and not _buildable(kind):
            self._fail(
                f"'{ast.unparse(node)}' cannot come back from the sandbox: use a pydantic model or a dataclass",
                node.col_offset + shift,
            )
        try:
            TypeAdapter(kind)
        except Exception:  # noqa: BLE001 - PydanticUserError, and what foreign classes raise on being looked at
            self._fail(f"'{ast.unparse(node)}' is no type that pydantic can check", node.col_offset + shift)


def _buildable(kind: type) -> bool:
    known = kind.__module__ in ("builtins", "typing") or kind in _TYPES.values() or dataclasses.is_dataclass(kind)
    return known or issubclass(kind, enum.Enum | dict) or hasattr(kind, "model_validate")


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...
