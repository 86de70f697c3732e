"""Signatures: read, refused, and used to check an answer."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import pathlib
import sys
import types
import uuid
from typing import Any, Literal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from rlm_kernel import Field, Signature, SignatureError


class City(BaseModel):
    name: str
    people: int = 0


@dataclasses.dataclass
class Point:
    x: float
    y: float


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Row(TypedDict):
    name: str
    count: int


HERE = {"City": City, "Point": Point, "Colour": Colour, "Row": Row, "datetime": datetime}


def names(fields: tuple[Field, ...]) -> list[str]:
    return [f.name for f in fields]


def refused(text: str, namespace: Any = None) -> str:
    with pytest.raises(SignatureError) as caught:
        Signature.parse(text, namespace)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


def validated(kind: str, value: Any) -> Any:
    return Signature.parse(f"-> a: {kind}", HERE).validate({"a": value})["a"]


def mend(kind: str, value: Any) -> str:
    with pytest.raises(ValueError) as caught:
        validated(kind, value)
    return str(caught.value)


# -- reading ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "inputs", "outputs"),
    [
        ("tickets, policy -> answer: str, by: dict[str, float]", ["tickets", "policy"], ["answer", "by"]),
        ("tickets", ["tickets"], ["answer"]),
        ("tickets, policy", ["tickets", "policy"], ["answer"]),
        ("-> n: int", [], ["n"]),
        ("", [], ["answer"]),
        ("document, question -> answer", ["document", "question"], ["answer"]),
        ("a->b", ["a"], ["b"]),
        ("  a ,b  ->  c  ", ["a", "b"], ["c"]),
        ("a, -> b,", ["a"], ["b"]),
        ("a: int, b: DataFrame -> c", ["a", "b"], ["c"]),
        ("größe, 数据 -> ответ: str", ["größe", "数据"], ["ответ"]),
        ("x -> x", ["x"], ["x"]),
        ("a -> b: Literal['->', 'x, y']", ["a"], ["b"]),
    ],
)
def test_the_forms_of_a_signature(text: str, inputs: list[str], outputs: list[str]) -> None:
    """Names, types, arrows and spaces are read as the documentation writes them."""
    signature = Signature.parse(text)
    assert (inputs, outputs) == (names(signature.inputs), names(signature.outputs))


def test_an_output_without_a_type_is_text() -> None:
    """`-> answer` means `-> answer: str`."""
    assert Field("answer", str, "str") == Signature.parse("-> answer").outputs[0]


def test_a_signature_shows_as_it_would_be_written() -> None:
    """Its text names every field and every output's type."""
    assert str(Signature.parse("a,b->c:dict[str,int],d")) == "a, b -> c: dict[str, int], d: str"
    assert str(Signature.parse("->n:int")) == "-> n: int"


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        ("str", "x", "x"),
        ("int", 3, 3),
        ("float", 3, 3.0),
        ("bool", True, True),
        ("bytes", b"\0\xff", b"\0\xff"),
        ("None", None, None),
        ("Any", {"x": [1]}, {"x": [1]}),
        ("object", 3, 3),
        ("list", [1, "a"], [1, "a"]),
        ("list[int]", [1, 2], [1, 2]),
        ("List[int]", [1, 2], [1, 2]),
        ("dict", {"a": 1}, {"a": 1}),
        ("dict[str, float]", {"a": 1}, {"a": 1.0}),
        ("Dict[int, str]", {1: "a"}, {1: "a"}),
        ("dict[str, list[int]]", {"a": [1]}, {"a": [1]}),
        ("tuple", [1, 2], (1, 2)),
        ("tuple[int, str]", [1, "a"], (1, "a")),
        ("tuple[int, ...]", [1, 2, 3], (1, 2, 3)),
        ("list[tuple[str, int]]", [["a", 1]], [("a", 1)]),
        ("set[int]", [1, 1, 2], {1, 2}),
        ("frozenset[str]", ["a"], frozenset("a")),
        ("Literal['a', 1, None, True]", "a", "a"),
        ("Literal[-1]", -1, -1),
        ("Optional[int]", None, None),
        ("Union[int, str]", "a", "a"),
        ("int | str | None", None, None),
        ("'list[int]'", [1], [1]),
        ("datetime", "2024-01-02T03:04:05", datetime.datetime(2024, 1, 2, 3, 4, 5)),
        ("datetime.date", "2024-01-02", datetime.date(2024, 1, 2)),
        ("date", "2024-01-02", datetime.date(2024, 1, 2)),
        ("time", "03:04:05", datetime.time(3, 4, 5)),
        ("timedelta", datetime.timedelta(seconds=3), datetime.timedelta(seconds=3)),
        ("Decimal", "1.10", decimal.Decimal("1.10")),
        ("Path", "/a/b", pathlib.Path("/a/b")),
        ("UUID", str(uuid.UUID(int=3)), uuid.UUID(int=3)),
        ("City", {"name": "Bern", "people": 3}, City(name="Bern", people=3)),
        ("list[City]", [{"name": "Bern"}], [City(name="Bern")]),
        ("dict[str, City]", {"x": {"name": "Bern"}}, {"x": City(name="Bern")}),
        ("City | None", {"name": "Bern"}, City(name="Bern")),
        ("Point", {"x": 1, "y": 2}, Point(1.0, 2.0)),
        ("list[Point]", [{"x": 1, "y": 2}], [Point(1.0, 2.0)]),
        ("Colour", "red", Colour.RED),
        ("dict[Colour, int]", {"red": 1}, {Colour.RED: 1}),
        ("Row", {"name": "a", "count": 1}, {"name": "a", "count": 1}),
        ("list[Row]", [{"name": "a", "count": 1}], [{"name": "a", "count": 1}]),
    ],
)
def test_every_kind_of_type_takes_its_values(annotation: str, given: Any, expected: Any) -> None:
    """A value as it comes out of the sandbox arrives as the declared type."""
    actual = validated(annotation, given)
    assert expected == actual
    assert type(expected) is type(actual)


@pytest.mark.parametrize("written", ["DataFrame", "pd.DataFrame", "pandas.DataFrame"])
def test_a_frame_is_a_frame_however_its_type_is_written(written: str) -> None:
    """pandas need not be a name of the notebook."""
    frame = pd.DataFrame({"a": [1, 2]})
    pd.testing.assert_frame_equal(frame, Signature.parse(f"-> t: {written}").validate({"t": frame})["t"])


def test_tables_and_arrays_of_every_library() -> None:
    """Series, ndarray, polars frames and Arrow tables are made of what arrives, pandas and numpy."""
    frame = pd.DataFrame({"a": [1, 2]})
    pd.testing.assert_series_equal(frame["a"], validated("Series", frame["a"]))
    assert validated("np.ndarray", frame["a"]).tolist() == [1, 2]
    assert validated("ndarray", np.array([1, 2])).tolist() == [1, 2]
    assert validated("pl.DataFrame", frame)["a"].to_list() == [1, 2]
    assert isinstance(validated("pl.DataFrame", frame), pl.DataFrame)
    assert isinstance(validated("pa.Table", frame), pa.Table)
    assert [len(t) for t in validated("list[DataFrame]", [frame, frame])] == [2, 2]
    assert validated("DataFrame | None", None) is None


def test_a_library_under_a_name_of_ones_own() -> None:
    """`import pandas as panda` in the notebook makes `panda.DataFrame` a type."""
    frame = pd.DataFrame({"a": [1]})
    signature = Signature.parse("-> t: panda.DataFrame", {"panda": pd})
    pd.testing.assert_frame_equal(frame, signature.validate({"t": frame})["t"])


# -- refusing -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "points_at", "says"),
    [
        ("-> a: strr", "strr", "did you mean 'str'?"),
        ("-> a: Dataframe", "Dataframe", "did you mean 'DataFrame'?"),
        ("-> a: list[Cty]", "Cty]", "did you mean 'City'?"),
        ("-> a: x.y.z", "x.y.z", "unknown type 'x.y.z'"),
        ("a, b, a -> c", "a -> c", "'a' appears twice"),
        ("-> c: int, c: str", "c: str", "'c' appears twice"),
        ("llm_query -> a", "llm_query -> a", "'llm_query' is a name of the REPL"),
        ("x, SUBMIT -> a", "SUBMIT -> a", "'SUBMIT' is a name of the REPL"),
        ("print -> a", "print -> a", "would hide Python's own print"),
        ("x, list -> a", "list -> a", "would hide Python's own list"),
        ("-> print", "print", "cannot be called 'print'"),
        ("-> a, trajectory: str", "trajectory: str", "cannot be called 'trajectory'"),
        ("-> _a", "_a", "cannot be called '_a'"),
        ("-> SUBMIT", "SUBMIT", "cannot be called 'SUBMIT'"),
        ("a, class -> b", "class -> b", "'class' is a keyword"),
        ("-> for: str", "for: str", "'for' is a keyword"),
        ("3a -> b", "3a -> b", "'3a' is not a name"),
        ("tickets policy -> a", "policy -> a", ""),
        ("-> a: int b: str", "int b: str", ""),
        ("a,,b", ",b", ""),
        (",a", ",a", ""),
        ("a.b -> c", ".b -> c", ""),
        ("-> a: list[int", "", ""),
        ("-> a: dict[", "", ""),
        ("-> a: list[int]]", "]", ""),
        ("a -> b -> c", "-> c", "more than one '->'"),
        ("a ->", ">", "the answer has no field"),
        ("-> a: int[str]", "int[str]", ""),
        ("-> a: 5", "5", "not a type"),
        ("-> a: [int]", "[int]", "not a type"),
        ("-> a: int | 5", "5", "not a type"),
        ("-> a: int = 3", "3", "defaults"),
        ("x=1 -> a", "1 -> a", "defaults"),
        ("*a -> b", "a -> b", "'*'"),
        ("**a -> b", "a -> b", "'*'"),
        ("tickets; rm -> a", "; rm -> a", ""),
        ("größe, print -> x", "print -> x", "hide"),
        ("größe -> x: Strr", "Strr", "unknown type"),
        ("a -> 数: Strr", "Strr", "unknown type"),
    ],
)
def test_a_mistake_is_pointed_at(text: str, points_at: str, says: str) -> None:
    """The message is one line, says what is wrong and marks the place."""
    message = refused(text, HERE)
    assert says in message
    left = text.removesuffix(points_at) if points_at else text
    assert f"at column {len(left) + 1}: {left} ▸{points_at}" in message


@pytest.mark.parametrize(
    "text",
    [
        "-> a: 'int +'",
        "-> a: 'a b'",
        "-> a: ''",
        "-> a: list[()]",
        "-> a: dict[str]",
        "-> a: list[int, str]",
        "-> a: Literal[()]",
        "-> a: Literal[{}]",
        "-> a: Literal[x]",
        "-> a: Literal",
        "-> a: Optional",
        "-> a: Union",
        "-> a: Optional[int, str]",
        "-> a: list[...]",
        "-> a: Any[int]",
        "-> a: DataFrame[int]",
        "-> a: " + "|".join(["int"] * 5000),
        "-> a: " + "list[" * 500 + "int" + "]" * 500,
        "a, / -> b",
        "a, *, b -> c",
        "a): print(1) #",
        "a): pass #",
        "a # b",
        "-> a: int # x",
        "a\0b",
        "a\n, b",
        "-> a: (yield)",
        "-> a: await x",
        "-> a:",
        "-> a: Exception",
        "->",
        "-> : int",
        "()",
        "'a' -> b",
    ],
)
def test_nothing_but_a_signature_error_comes_of_a_bad_signature(text: str) -> None:
    """However odd the text, the error is ours, in one short line."""
    refused(text)


def test_a_class_that_cannot_be_built_from_values_is_refused() -> None:
    """A plain class of the notebook has no form that could come back; the message says what has."""

    class Plain:
        pass

    assert "use a pydantic model or a dataclass" in refused("-> a: Plain", {"Plain": Plain})
    refused("-> a: list[Plain]", {"Plain": Plain})


def test_nothing_in_a_signature_is_evaluated() -> None:
    """Calls, comprehensions, subscripts, f-strings and defaults of the text never run."""
    ran: list[str] = []

    class Trap:
        def __getitem__(self, key: object) -> type:
            ran.append("subscript")
            return int

        def __call__(self) -> type:
            ran.append("call")
            return int

        def __or__(self, other: object) -> type:
            ran.append("or")
            return int

    for text in (
        "-> a: trap()",
        "-> a: trap[int]",
        "-> a: trap | int",
        "-> a: [x for x in trap()]",
        "-> a: Literal[trap()]",
        "-> a: Literal[f'{trap()}']",
        "-> a: 'trap()'",
        "-> a: (x := trap())",
        "-> a: int = trap()",
        "a=trap() -> b",
        "a): trap() #",
    ):
        with pytest.raises(SignatureError):
            Signature.parse(text, {"trap": Trap()})
    assert ran == []


def test_attributes_of_objects_are_not_read() -> None:
    """`thing.attribute` is a type where `thing` is a module or a class; a property of an object is never run."""
    ran: list[str] = []

    class Trap:
        @property
        def kind(self) -> type:
            ran.append("property")
            return int

        def __getattr__(self, name: str) -> type:
            ran.append(name)
            return int

    for text in ("-> a: trap.kind", "-> a: trap.other", "-> a: list[trap.kind]"):
        with pytest.raises(SignatureError):
            Signature.parse(text, {"trap": Trap()})
    assert ran == []


def test_a_module_of_the_notebook_holds_types() -> None:
    """`models.City` is looked up in the module that the notebook imported as `models`."""
    module = types.ModuleType("models")
    module.City = City  # type: ignore[attr-defined]
    signature = Signature.parse("-> a: models.City", {"models": module})
    assert City(name="Bern") == signature.validate({"a": {"name": "Bern"}})["a"]


def test_reading_a_signature_imports_no_library() -> None:
    """A signature without tables loads neither pandas nor polars."""
    import subprocess

    text = (
        "import sys; from rlm_kernel import Signature; Signature.parse('a -> b: int'); print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# -- a Signature object -------------------------------------------------------------------------------------------
def test_a_signature_object_may_carry_descriptions() -> None:
    """Fields of one's own have a description, and the whole has instructions."""
    signature = Signature((Field("doc"),), (Field("n", int, "int", "how many"),), "Count.")
    assert (str(signature), signature.instructions) == ("doc -> n: int", "Count.")
    assert signature.validate({"n": 3}) == {"n": 3}


def test_the_annotation_of_a_field_follows_from_its_type() -> None:
    """`Field("n", int)` is told to the model as `n: int`, not as the default `str`."""
    assert str(Signature((), (Field("n", int), Field("l", list[str])))) == "-> n: int, l: list[str]"


def test_a_frame_as_the_type_of_a_field_of_ones_own() -> None:
    """`Field("t", pd.DataFrame, "DataFrame")` takes a frame as the parsed form does."""
    frame = pd.DataFrame({"a": [1]})
    signature = Signature((), (Field("t", pd.DataFrame, "DataFrame"),))
    pd.testing.assert_frame_equal(frame, signature.validate({"t": frame})["t"])


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ((), ()),
        ((Field("print"),), (Field("a"),)),
        ((Field("a"), Field("a")), (Field("b"),)),
        ((), (Field("b"), Field("b"))),
        ((), (Field("SUBMIT"),)),
        ((), (Field("not a name"),)),
    ],
)
def test_a_signature_object_is_checked_as_text_is(inputs: tuple[Field, ...], outputs: tuple[Field, ...]) -> None:
    """Missing, doubled and reserved names are refused however the signature was made."""
    with pytest.raises(SignatureError):
        Signature(inputs, outputs)


# -- checking an answer -------------------------------------------------------------------------------------------
def test_a_wrong_value_is_told_so_that_it_can_be_mended() -> None:
    """The message names the field, its type, the place within it and what was given."""
    text = mend("dict[str, float]", {"a": 1, "b": "many"})
    for part in ("'a'", "dict[str, float]", "['b']", "'many'", "str"):
        assert part in text


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", "three"),
        ("int", 3.5),
        ("int", None),
        ("str", 3),
        ("str", ["a"]),
        ("float", "x"),
        ("list[int]", {"a": 1}),
        ("list[int]", "123"),
        ("dict", [1]),
        ("tuple[int, str]", [1]),
        ("Literal['low', 'high']", "medium"),
        ("datetime", "yesterday"),
        ("City", {"people": 3}),
        ("City", "Bern"),
        ("Colour", "green"),
        ("Row", {"name": "a"}),
        ("Point", {"x": 1}),
        ("DataFrame", [1, 2]),
        ("DataFrame", {"a": [1]}),
        ("DataFrame", None),
        ("Series", [1]),
        ("ndarray", [1]),
        ("pl.DataFrame", [1]),
    ],
)
def test_values_that_do_not_fit_are_refused(kind: str, value: Any) -> None:
    """A value of another type is an error for the model, whatever the type."""
    text = mend(kind, value)
    assert kind in text
    assert len(text) < 600


def test_a_list_is_no_frame_and_the_message_says_so() -> None:
    """The model is told to submit a frame, and what it submitted."""
    assert "submit a pandas DataFrame, not a list" in mend("DataFrame", [1, 2])


def test_a_huge_wrong_value_is_not_repeated_at_length() -> None:
    """A megabyte that does not fit makes a short message."""
    assert len(mend("int", "x" * 1_000_000)) < 500
    assert len(mend("list[int]", ["x"] * 10_000)) < 1500


def test_arrays_and_series_serve_where_a_list_is_wanted() -> None:
    """What numpy and pandas compute need not be converted by hand."""
    assert validated("list[int]", np.array([1, 2])) == [1, 2]
    assert validated("list[list[float]]", np.array([[1], [2]])) == [[1.0], [2.0]]
    assert validated("list[str]", pd.Series(["a", "b"])) == ["a", "b"]
    assert {1, 2} == validated("set[int]", np.array([1, 2, 2]))
    assert validated("list[dict]", pd.DataFrame({"a": [1]})) == [{"a": 1}]
    assert [Row(name="a", count=1)] == validated("list[Row]", pd.DataFrame({"name": ["a"], "count": [1]}))


def test_a_series_serves_where_a_dict_is_wanted() -> None:
    """`df.groupby(…).mean()` is an answer to `by_category: dict[str, float]`."""
    assert validated("dict[str, float]", pd.Series([1.5, 2.0], index=["a", "b"])) == {"a": 1.5, "b": 2.0}


def test_values_without_names() -> None:
    """One value for the only field, or one dict with a key per field."""
    one, two = Signature.parse("-> n: int"), Signature.parse("-> n: int, s: str")
    assert one.validate({}, [3]) == {"n": 3}
    assert two.validate({}, [{"n": 3, "s": "a"}]) == {"n": 3, "s": "a"}
    assert Signature.parse("-> n: dict").validate({}, [{"n": 3}]) == {"n": {"n": 3}}


@pytest.mark.parametrize(
    ("fields", "values", "says"),
    [
        ({}, [], "missing n, s"),
        ({"n": 1}, [], "missing s"),
        ({"n": 1, "s": "a", "x": 1}, [], "unknown field x"),
        ({}, [1], "has 2 fields"),
        ({}, [{"n": 1}], "has 2 fields"),
        ({}, [1, "a"], "call it as"),
        ({"n": 1}, ["a"], "call it as"),
    ],
)
def test_the_wrong_fields_are_told_with_the_right_call(fields: dict[str, Any], values: list[Any], says: str) -> None:
    """Whatever is missing or too much, the message holds the call that is wanted."""
    with pytest.raises(ValueError) as caught:
        Signature.parse("-> n: int, s: str").validate(fields, values)
    assert says in str(caught.value)
    assert "SUBMIT(n=<int>, s=<str>)" in str(caught.value)


def test_validated_fields_come_in_the_order_of_the_signature() -> None:
    """However they were submitted."""
    assert list(Signature.parse("-> n: int, s: str").validate({"s": "a", "n": 1})) == ["n", "s"]


def test_literal_types_are_those_of_python() -> None:
    """A parsed type is the very type that an annotation would be."""
    assert Literal["a", 1] == Signature.parse("-> x: Literal['a', 1]").outputs[0].type
