"""The signature `inputs -> outputs`: read from text, checked by pydantic. Pure values; no kernel, no model.

The text is read with Python's own tokenizer and parser, so types are written as in any annotation, and nothing in it
is evaluated: names are looked up, subscripts and unions are built, all else is an error that points at its place.
"""

from __future__ import annotations

import ast
import builtins
import io
import keyword
import tokenize
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rlm_kernel.annotations import TypeReader
from rlm_kernel.errors import SignatureError
from rlm_kernel.foreign import plain
from rlm_kernel.sandbox.guest.repl import RESERVED

__all__ = ["Field", "Signature"]

_RESULT_NAMES = ("trajectory", "iterations", "usage", "cost", "total_time", "stop_reason", "detail", "values")


@dataclass(frozen=True, slots=True)
class Field:
    """One input or output.

    Attributes:
        name: a Python identifier.
        type: the type that pydantic checks; `str` unless said otherwise.
        annotation: the type as it was written.
        description: shown to the model.
    """

    name: str
    type: Any = str
    annotation: str = "str"
    description: str = ""


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
        for field, start in zip(inputs, reader.starts[: len(inputs)], strict=True):
            _check_input(field.name, reader, start)
        for field, start in zip(outputs, reader.starts[len(inputs) :], strict=False):
            _check_output(field.name, reader, start)
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
            raise ValueError(f"unknown field {', '.join(unknown)}; call {wanted}")
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


def _check_input(name: str, reader: _Reader, start: int) -> None:
    if name in RESERVED or name == "__rlm__":
        reader.fail(f"'{name}' is a name of the REPL; rename the variable", start)
    if hasattr(builtins, name):
        reader.fail(f"a variable called '{name}' would hide Python's own {name} in the REPL; rename it", start)


def _check_output(name: str, reader: _Reader, start: int) -> None:
    if name in RESERVED or name in _RESULT_NAMES or name == "print" or name.startswith("_"):
        reader.fail(f"an output cannot be called '{name}', that name is taken", start)


class _Reader:
    """Reads fields out of a signature, remembering where each stands."""

    def __init__(self, text: str, namespace: Mapping[str, Any]) -> None:
        self.text = text
        self._types = TypeReader(namespace, self.fail)
        self.starts: list[int] = []

    def fail(self, why: str, at: int) -> typing.NoReturn:
        """Raise, pointing at column `at` (from 0)."""
        at = max(0, min(at, len(self.text)))
        raise SignatureError(f"signature: {why}, at column {at + 1}: {self.text[:at]} ▸{self.text[at:]}".rstrip())

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
        try:
            tree = ast.parse(f"{head}{part}): pass")
        except SyntaxError as error:
            at = min((error.offset or len(head) + 1) - 1 + shift, end)
            self._explain(begin, end)
            self.fail("cannot be read here (names separated by commas, 'name: type')", at)
        function = tree.body[0]
        if len(tree.body) != 1 or not isinstance(function, ast.FunctionDef) or function.returns:
            self.fail("names separated by commas, 'name: type', are expected", begin)
        arguments = function.args
        for odd in (
            arguments.vararg,
            arguments.kwarg,
            *arguments.posonlyargs,
            *arguments.kwonlyargs,
            *arguments.defaults,
        ):
            if odd is not None:
                self.fail(
                    "only names and types, no '*', '/' or defaults", getattr(odd, "col_offset", len(head)) + shift
                )
        found: list[Field] = []
        for argument in arguments.args:
            start = argument.col_offset + shift
            if any(f.name == argument.arg for f in found):
                self.fail(f"'{argument.arg}' appears twice", start)
            self.starts.append(start)
            if argument.annotation is None:
                found.append(Field(argument.arg))
            else:
                kind = self._types.read(argument.annotation, shift)
                self._types.check(kind, argument.annotation, shift)
                found.append(Field(argument.arg, kind, ast.unparse(argument.annotation)))
        return tuple(found)

    def _explain(self, begin: int, end: int) -> None:
        """Name the mistakes that people make: keywords and missing commas."""
        at = begin
        for word in self.text[begin:end].replace(",", " ").replace(":", " ").split():
            at = self.text.index(word, at)
            if keyword.iskeyword(word) and word not in ("None", "True", "False"):
                self.fail(f"'{word}' is a keyword of Python and cannot be a name", at)
            if word[0].isdigit():
                self.fail(f"'{word}' is not a name", at)
