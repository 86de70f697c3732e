"""How a function is called: its parameters as they are shown to the model, and the check of what comes for them.

Knows nothing of sandboxes. Annotations that pydantic cannot check are shown and not checked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from rlm_kernel.foreign import foreign_type, plain

__all__ = ["Shape", "documentation"]

_ANNOTATION_CHARS, _DEFAULT_CHARS, _TEXT_CHARS = 100, 40, 600
_MODULE = re.compile(r"""('[^']*'|"[^"]*")|\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])""")
"""What stands before the name of a class; what is in quotes stays."""
_Parameter = inspect.Parameter


class _Verbatim:
    """Shows as the text that it is given, where `inspect` wants an object."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class Shape:
    """The parameters and the result of a function.

    Attributes:
        text: for the model: `(path: str, limit: int = 10) -> list[str]`; `(...)` where nobody knows.
        classes: the fields of the classes in it, a line each.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        hints = _hints(_target(function))
        try:
            self._signature: inspect.Signature | None = inspect.signature(function)
        except Exception:  # noqa: BLE001 - many builtins have none, and a callable of the user's may raise anything
            self._signature, self.text = None, "(...)"
            self._checks: dict[str, TypeAdapter[Any]] = {}
            self._written: dict[str, str] = {}
            self.classes: tuple[str, ...] = ()
            return
        parameters = self._signature.parameters.values()
        kinds = {p.name: hints.get(p.name, p.annotation) for p in parameters}
        known = {name: kind for name, kind in kinds.items() if kind is not _Parameter.empty}
        self._written = {name: _written(kind) for name, kind in known.items()}
        self._checks = {name: check for name, kind in known.items() if (check := _check(kind)) is not None}
        result = function if inspect.isclass(function) else hints.get("return", self._signature.return_annotation)
        shown = [
            p.replace(
                annotation=_Verbatim(self._written[p.name]) if p.name in known else _Parameter.empty,
                default=_default(p.default),
            )
            for p in parameters
        ]
        returns = _Parameter.empty if result is _Parameter.empty else _Verbatim(_written(result))
        text = str(inspect.Signature(shown, return_annotation=returns))
        self.text = text if len(text) <= _TEXT_CHARS else f"{text[:_TEXT_CHARS]}…"
        self.classes = tuple(dict.fromkeys(line for kind in (*known.values(), result) for line in _classes(kind)))

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments as the function's own types.

        Raises:
            TypeError: they do not fit; the text is for the model.
        """
        if self._signature is None:
            return args, kwargs
        bound = self._signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if (check := self._checks.get(name)) is None:
                continue
            written = self._written[name]
            match self._signature.parameters[name].kind:
                case _Parameter.VAR_POSITIONAL:
                    made: Any = tuple(_checked(f"{name}[{i}]", check, v, written) for i, v in enumerate(value))
                case _Parameter.VAR_KEYWORD:
                    made = {key: _checked(key, check, v, written) for key, v in value.items()}
                case _:
                    made = _checked(name, check, value, written)
            bound.arguments[name] = made
        return bound.args, bound.kwargs


def documentation(function: Callable[..., Any]) -> str:
    """The docstring of a function, of what a partial is made of, or of an object's class."""
    while isinstance(function, functools.partial):
        function = function.func
    text = inspect.getdoc(function)
    return text if isinstance(text, str) else ""


def _target(function: Any) -> Any:
    """What has the annotations of a callable."""
    target = inspect.unwrap(function)
    while isinstance(target, functools.partial):
        target = target.func
    if inspect.isclass(target):
        return target.__init__
    return target if inspect.isroutine(target) else type(target).__call__


def _hints(annotated: Any) -> dict[str, Any]:
    """The annotations of a function or class as types; where one cannot be resolved, those that are no text."""
    try:
        return typing.get_type_hints(annotated, include_extras=True)
    except Exception:  # noqa: BLE001 - annotations are expressions of the user's
        found = getattr(annotated, "__annotations__", {})
        return {name: _Verbatim(kind) if isinstance(kind, str) else kind for name, kind in found.items()}


def _written(kind: Any) -> str:
    if isinstance(kind, _Verbatim):
        text = repr(kind).strip("'\"")
    else:
        text = "None" if kind is type(None) else inspect.formatannotation(kind)
    text = _MODULE.sub(r"\1", " ".join(text.split()))
    return text if len(text) <= _ANNOTATION_CHARS else f"{text[:_ANNOTATION_CHARS]}…"


def _default(value: Any) -> Any:
    """A default as it is shown: without the address of an object, which would differ from run to run."""
    if value is _Parameter.empty:
        return value
    simple = value is None or isinstance(value, bool | int | float | str | bytes | enum.Enum)
    simple = simple or (isinstance(value, list | dict | tuple | set) and not value)
    shown = (value.name if isinstance(value, enum.Enum) else repr(value)) if simple else "…"
    return _Verbatim(shown if len(shown) <= _DEFAULT_CHARS else "…")


def _check(kind: Any) -> TypeAdapter[Any] | None:
    if isinstance(kind, _Verbatim) or kind is Any:
        return None
    kind = foreign_type(kind) if isinstance(kind, type) else kind
    for config in (ConfigDict(arbitrary_types_allowed=True), None):
        with contextlib.suppress(Exception):  # models have a configuration of their own; the rest cannot be checked
            return TypeAdapter(kind, config=config)
    return None


def _checked(name: str, check: TypeAdapter[Any], value: Any, written: str) -> Any:
    try:
        return check.validate_python(plain(value, written))
    except ValidationError as error:
        problems = []
        for found in error.errors(include_url=False, include_context=False)[:3]:
            place = f"{name}{''.join(f'[{p!r}]' for p in found['loc'])}: " if found["loc"] else ""
            got = repr(found["input"])[:80]
            problems.append(f"{place}{found['msg']}, got {got} ({type(found['input']).__name__})")
        raise TypeError(f"'{name}' has to be {written}: {'; '.join(problems)}") from None


def _classes(kind: Any) -> list[str]:
    """The fields of the models, dataclasses, typed dicts and enums in a type, a line each."""
    if not isinstance(kind, type) or typing.get_origin(kind) is not None:
        return [line for inner in typing.get_args(kind) for line in _classes(inner)]
    if issubclass(kind, enum.Enum):
        return [f"{kind.__name__}: one of {', '.join(repr(member.value) for member in list(kind)[:20])}"]
    fields = [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    fields = list(getattr(kind, "model_fields", fields))
    fields = list(kind.__annotations__) if typing.is_typeddict(kind) else fields
    hints = _hints(kind) if fields else {}
    shown = ", ".join(f"{name}: {_written(hints[name])}" if name in hints else name for name in fields[:20])
    return [f"{kind.__name__}: a dict with {shown}"] if fields else []
