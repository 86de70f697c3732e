"""The signature `inputs -> outputs`: read from text, checked by pydantic. Pure values; no kernel, no model.

The text is read with Python's own tokenizer and parser, so types are written as in any annotation, and nothing in it
is evaluated: names are looked up, subscripts and unions are built, all else is an error that points at its place.
"""

from __future__ import annotations

import ast
import io
import keyword
import re
import tokenize
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rlm_kernel.annotations import TypeReader
from rlm_kernel.errors import SignatureError
from rlm_kernel.foreign import foreign_type, plain
from rlm_kernel.names import is_name, name_problem
from rlm_kernel.sandbox.guest.repl import RESERVED

__all__ = ["Field", "Signature"]

_SHOWN = 60
"""Characters of a signature that an error shows on each side of its place."""
_ANNOTATED = re.compile(r"\b(typing|builtins)\.")
_RESULT_NAMES = {
    "answer_only",
    "cost",
    "detail",
    "iterations",
    "stop_reason",
    "total_time",
    "trajectory",
    "usage",
    "values",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One input or output.

    Attributes:
        name: a Python identifier.
        type: the type that pydantic checks; `str` unless said otherwise.
        annotation: the type as it is shown to the model; made from the type unless given.
        description: shown to the model.
    """

    name: str
    type: Any = str
    annotation: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        kind = self.type
        if not self.annotation:
            plain_name = isinstance(kind, type) and not hasattr(kind, "__args__")
            object.__setattr__(self, "annotation", kind.__name__ if plain_name else _ANNOTATED.sub("", str(kind)))
        if isinstance(kind, type):
            object.__setattr__(self, "type", foreign_type(kind))


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes in and what has to come out.

    Args:
        inputs: the variables that the question is about; their types are not prescribed.
        outputs: the fields of the answer, at least one.
        instructions: anything the model should know beyond the question.
    """

    inputs: tuple[Field, ...] = ()
    outputs: tuple[Field, ...] = (Field("answer"),)
    instructions: str = ""

    def __post_init__(self) -> None:
        if not self.outputs:
            raise SignatureError("signature: the answer has no field")
        for fields, check in ((self.inputs, name_problem), (self.outputs, output_problem)):
            names = [f.name for f in fields]
            for name in names:
                if problem := check(name) or (f"'{name}' appears twice" if names.count(name) > 1 else ""):
                    raise SignatureError(f"signature: {problem}")

    @classmethod
    def parse(cls, text: str, namespace: Mapping[str, Any] | None = None) -> Signature:
        """Read `tickets, policy -> answer: str, by_category: dict[str, float]`.

        Args:
            text: names only mean `-> answer: str`; no inputs (`-> n: int`) is fine.
            namespace: where further types are looked up (pydantic models, dataclasses, enums of the notebook).

        Raises:
            SignatureError: it cannot be read; the message points at the place.
        """
        reader = _Reader(text, namespace or {})
        arrow = reader.arrow()
        inputs = reader.fields(0, len(text) if arrow is None else arrow)
        outputs = reader.fields(arrow + 2, len(text)) if arrow is not None else (Field("answer"),)
        if not outputs:
            reader.fail("the answer has no field; write for example '-> answer: str'", len(text.rstrip()) - 1)
        problems = [name_problem(f.name) for f in inputs] + [output_problem(f.name) for f in outputs]
        for problem, start in zip(problems, reader.starts, strict=False):
            if problem:
                reader.fail(problem, start)
        return cls(inputs, outputs)

    def __str__(self) -> str:
        left = ", ".join(f.name for f in self.inputs)
        right = ", ".join(f"{f.name}: {f.annotation}" for f in self.outputs)
        return f"{left} -> {right}".strip()

    def validate(self, fields: Mapping[str, Any], values: Sequence[Any] = ()) -> dict[str, Any]:
        """The submitted values as the declared types.

        Args:
            fields: by name.
            values: without names: one value for the only field, or a dict with one key per field.

        Raises:
            ValueError: something is missing, unknown or of the wrong type; the text is for the model.
        """
        names = [f.name for f in self.outputs]
        wanted = f"SUBMIT({', '.join(f'{f.name}=<{f.annotation}>' for f in self.outputs)})"
        if values:
            if fields or len(values) > 1:
                raise ValueError(f"call it as {wanted}")
            if len(names) == 1:
                fields = {names[0]: values[0]}
            elif isinstance(values[0], dict) and set(values[0]) == set(names):
                fields = values[0]
            else:
                raise ValueError(f"the answer has {len(names)} fields; call {wanted}")
        if missing := [n for n in names if n not in fields]:
            raise ValueError(f"missing {', '.join(missing)}; call {wanted}")
        if unknown := [n for n in fields if n not in names]:
            raise ValueError(f"unknown field {', '.join(n[:40] for n in unknown[:5])}; call {wanted}")
        return {f.name: _validate(f, fields[f.name]) for f in self.outputs}


def _validate(field: Field, value: Any) -> Any:
    if field.type is Any or field.type is object:
        return value
    try:
        return TypeAdapter(field.type).validate_python(plain(value, field.annotation))
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False)[:5]:
            place = "".join(f"[{p!r}]" for p in problem["loc"])
            shown = repr(problem["input"])
            problems.append(
                f"{field.name}{place}: {problem['msg']}, got {shown[:80]} ({type(problem['input']).__name__})"
            )
        raise ValueError(f"field '{field.name}' has to be {field.annotation}: {'; '.join(problems)}") from None


def output_problem(name: str) -> str:
    """Why a field of the answer cannot be called so; empty when it can."""
    if not is_name(name):
        return f"{name!r} is not a name"
    taken = name in RESERVED or name in _RESULT_NAMES or name == "print" or name.startswith("_")
    return f"an output cannot be called '{name}', that name is taken" if taken else ""


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _count_characters(tree: ast.AST, source: str) -> None:
    """Python's parser counts bytes; columns are for people, who count characters."""
    encoded = source.encode()
    for node in ast.walk(tree):
        if isinstance(node, ast.expr | ast.arg | ast.stmt):
            node.col_offset = len(encoded[: node.col_offset].decode())


class _Reader:
    """Reads fields out of a signature, remembering where each stands."""

    def __init__(self, text: str, namespace: Mapping[str, Any]) -> None:
        self.text = text
        self._types = TypeReader(namespace, self.fail)
        self.starts: list[int] = []

    def fail(self, why: str, at: int) -> typing.NoReturn:
        """Raise, pointing at column `at` (from 0)."""
        at = max(0, min(at, len(self.text)))
        before, after = _one_line(self.text[:at]), _one_line(self.text[at:])
        shown = f"{'…' * (len(before) > _SHOWN)}{before[-_SHOWN:]} ▸{after[:_SHOWN]}{'…' * (len(after) > _SHOWN)}"
        raise SignatureError(f"signature: {why}, at column {at + 1}: {shown}".rstrip())

    def arrow(self) -> int | None:
        """Where `->` stands."""
        try:
            found = [
                t.start[1]
                for t in tokenize.generate_tokens(io.StringIO(self.text).readline)
                if t.type == tokenize.OP and t.string == "->"
            ]
        except (tokenize.TokenError, IndentationError, SyntaxError):
            position = self.text.find("->")  # the parser says better what is wrong
            return position if position >= 0 else None
        if len(found) > 1:
            self.fail("more than one '->'", found[1])
        return found[0] if found else None

    def fields(self, begin: int, end: int) -> tuple[Field, ...]:
        """The fields between two columns."""
        part = self.text[begin:end]
        if not part.strip():
            return ()
        if "\n" in part:
            self.fail("one line only", begin + part.index("\n"))
        head = "def _("  # the fields read like the parameters of a function, so Python's parser reads them
        shift = begin - len(head)
        source = f"{head}{part}): pass"
        try:
            tree = ast.parse(source)
        except (RecursionError, MemoryError):
            self.fail("too long", begin)
        except SyntaxError as error:
            at = min((error.offset or len(head) + 1) - 1 + shift, end)
            self._explain(begin, end)
            self.fail("cannot be read here (names separated by commas, 'name: type')", at)
        _count_characters(tree, source)
        function = tree.body[0]
        whole = len(tree.body) == 1 and isinstance(function, ast.FunctionDef) and not function.returns
        if not isinstance(function, ast.FunctionDef) or not whole or function.body[0].col_offset != len(source) - 4:
            self.fail("names separated by commas, 'name: type', are expected", begin)
        arguments = function.args
        odd = (arguments.vararg, arguments.kwarg, *arguments.posonlyargs, *arguments.kwonlyargs, *arguments.defaults)
        if wrong := next((node for node in odd if node is not None), None):
            self.fail("only names and types, no '*', '/' or defaults", wrong.col_offset + shift)
        found: list[Field] = []
        for argument in arguments.args:
            if any(f.name == argument.arg for f in found):
                self.fail(f"'{argument.arg}' appears twice", argument.col_offset + shift)
            found.append(self._field(argument, shift))
        return tuple(found)

    def _field(self, argument: ast.arg, shift: int) -> Field:
        start = argument.col_offset + shift
        self.starts.append(start)
        if argument.annotation is None:
            return Field(argument.arg)
        try:
            kind = self._types.read(argument.annotation, shift)
            self._types.check(kind, argument.annotation, shift)
        except RecursionError:
            self.fail("too long a type", start)
        return Field(argument.arg, kind, ast.unparse(argument.annotation))

    def _explain(self, begin: int, end: int) -> None:
        """Name the mistakes that people make: keywords and missing commas."""
        at = begin
        for word in self.text[begin:end].replace(",", " ").replace(":", " ").split():
            at = self.text.index(word, at)
            if keyword.iskeyword(word) and word not in ("None", "True", "False"):
                self.fail(f"'{word}' is a keyword of Python and cannot be a name", at)
            if word[0].isdigit():
                self.fail(f"'{word}' is not a name", at)
