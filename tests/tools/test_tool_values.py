"""What can be handed over as a tool, what it is called, and how it is shown."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import operator
import pickle
from typing import Any, Literal, TypedDict

import pandas as pd
import pydantic
import pytest

from rlm_kernel import DataTool, InputError, Options, Tool, tool
from rlm_kernel.tools import Toolbox


def read_file(path: str, limit: int = 10) -> list[str]:
    """Read a text file.

    Only its first lines.
    """
    return [path] * limit


class Store:
    """A place with methods."""

    def __init__(self, base: int) -> None:
        self.base = base

    def find(self, key: str) -> int:
        """Look one up."""
        return self.base + len(key)

    @tool
    def count(self, text: str) -> int:
        """Count them."""
        return self.base * len(text)

    def __call__(self, x: int) -> int:
        """Add the base."""
        return self.base + x


class Place(pydantic.BaseModel):
    name: str
    people: int = 0


@dataclasses.dataclass
class Point:
    x: float
    y: float


class Row(TypedDict):
    id: int


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


# -- what is a tool -----------------------------------------------------------------------------------------------
def test_a_function_is_a_tool_as_it_stands() -> None:
    """Its name, its parameters and its docstring are what the model is told."""
    (made,) = Toolbox.of([read_file]).functions
    assert made.name == "read_file"
    assert made.heading == "read_file(path: str, limit: int = 10) -> list[str]"
    assert made.description == "Read a text file.\n\nOnly its first lines."


def test_the_decorator_gives_another_name_and_description() -> None:
    """With and without arguments, and as a plain call; the function can still be called."""

    @tool
    def plain(x: int) -> int:
        """As it is."""
        return x

    @tool(name="renamed", description="Something else.")
    def given(x: int) -> int:
        return x + 1

    assert [(t.name, t.description) for t in (plain, given, tool(read_file, name="open_file"))] == [
        ("plain", "As it is."),
        ("renamed", "Something else."),
        ("open_file", "Read a text file.\n\nOnly its first lines."),
    ]
    assert (plain(1), given(x=1)) == (1, 2)


@pytest.mark.parametrize(
    ("function", "heading"),
    [
        (lambda: None, "f()"),
        (lambda x, *rest, key=None, **more: None, "f(x, *rest, key=None, **more)"),
        (Store(1).find, "f(key: str) -> int"),
        (Store(1), "f(x: int) -> int"),
        (functools.partial(read_file, limit=3), "f(path: str, *, limit: int = 3) -> list[str]"),
        (math.sqrt, "f(x, /)"),
        (operator.itemgetter(1), "f(...)"),
        (max, "f(...)"),
        (dict, "f(...)"),
        (Place, "f(*, name: str, people: int = 0) -> Place"),
        (Point, "f(x: float, y: float) -> Point"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whatever_can_be_called_can_be_a_tool(function: Any, heading: str) -> None:
    """Lambdas, bound methods, objects, partials, builtins, classes; a name has to be given where there is none."""
    assert tool(function, name="f").heading == heading


def test_every_kind_of_parameter_is_shown() -> None:
    """Positional-only, keyword-only, any number of them, with and without defaults and annotations."""

    def f(a, /, b: int, c: float | None = None, *rest: str, d, e: Literal["x", "y"] = "x", **more: bool) -> None: ...

    assert tool(f).heading == (
        "f(a, /, b: int, c: float | None = None, *rest: str, d, e: Literal['x', 'y'] = 'x', **more: bool) -> None"
    )


def test_what_differs_from_run_to_run_is_not_shown() -> None:
    """The address of an object that is a default, which would make a replay drift; nor a long default."""

    def f(client: Any = object(), rows: Any = [1, 2], text: str = "x" * 1000, kind: Any = Colour.RED) -> None: ...  # noqa: B006, B008

    assert tool(f).heading == "f(client: Any = …, rows: Any = …, text: str = …, kind: Any = RED) -> None"


def test_annotations_that_mean_nothing_are_shown_as_they_are() -> None:
    """What cannot be resolved is text for the model, and nothing is checked."""

    def f(x: Nowhere, y: "a path" = "") -> Unknown: ...  # noqa: F722, F821

    assert tool(f).heading == "f(x: Nowhere, y: a path = '') -> Unknown"


def test_classes_in_annotations_are_explained() -> None:
    """Models, dataclasses, typed dicts and enums, wherever they stand; tables by their name."""

    def f(place: Place, at: list[Point], row: Row | None, colour: Colour, df: pd.DataFrame) -> dict[str, Place]: ...

    made = tool(f)
    assert made.heading.endswith("colour: Colour, df: DataFrame) -> dict[str, Place]")
    assert made.shape.classes == (
        "Place: a dict with name: str, people: int",
        "Point: a dict with x: float, y: float",
        "Row: a dict with id: int",
        "Colour: one of 'red', 'blue'",
    )


def test_a_method_that_is_a_tool_belongs_to_its_object() -> None:
    """Looked up on an object it is the tool of that object; on the class it is not bound."""
    store = Store(3)
    assert isinstance(store.count, Tool)
    assert store.count("ab") == 6
    assert store.count.heading == "count(text: str) -> int"
    assert store.count.description == "Count them."


# -- what is none ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("read_file", "tools takes a list, .* not str"),
        ({"f": read_file}, "tools takes a list, .* not dict"),
        (read_file, "tools takes a list, .* not function"),
        (None, "tools takes a list, .* not NoneType"),
        ([5], r"a tool is a function, not int; data is DataTool\(name, value\)"),
        ([("users", [])], "a tool is a function, not tuple"),
        ([lambda x: x], r"a lambda has no name of its own: tool\(f, name='…'\)"),
        ([functools.partial(read_file)], "a callable of type partial has no name"),
        ([Store(1)], "a callable of type Store has no name"),
        ([len], "a tool called 'len' would hide Python's own len"),
        ([tool(read_file, name="x"), tool(read_file, name="x")], "two tools are called 'x'"),
        ([read_file, DataTool("read_file", 1)], "two tools are called 'read_file'"),
        ([read_file] * 101, "101 tools are more than the 100"),
    ],
)
def test_what_is_no_tool_is_refused_in_one_line(given: Any, says: str) -> None:
    """When it is handed over, before anything starts; also by `Options`."""
    with pytest.raises(InputError, match=says) as caught:
        Toolbox.of(given)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=says):
        Options().merged({"tools": given})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("llm_query", "'llm_query' is a name of the REPL; rename the tool"),
        ("SUBMIT", "a name of the REPL"),
        ("__rlm_tools__", "a name of the REPL"),
        ("print", "would hide Python's own print"),
        ("no name", "'no name' is not a name"),
        ("class", "'class' is not a name"),
        ("1st", "'1st' is not a name"),
    ],
)
def test_names_that_a_tool_cannot_have(name: str, says: str) -> None:
    """Reserved names, Python's own, and what is no name; for functions and for data."""
    with pytest.raises(InputError, match=says):
        tool(read_file, name=name)
    with pytest.raises(InputError, match=says):
        DataTool(name, 1)


def test_a_data_tool_takes_a_name_first() -> None:
    """As text; so must its description be."""
    with pytest.raises(InputError, match="DataTool takes the name first, as text, not list"):
        DataTool([1], "users")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="tool 'users': its description has to be text"):
        DataTool("users", [1], 5)  # type: ignore[arg-type]


def test_values_of_tools_are_compared_by_identity() -> None:
    """A frame among them has no truth value, and must not be asked for one; nor is data printed."""
    one, other = DataTool("users", pd.DataFrame({"a": [1]})), DataTool("users", pd.DataFrame({"a": [1]}))
    assert one != other
    assert repr(one) == "DataTool(name='users', description='')"


# -- names on a line ---------------------------------------------------------------------------------------------
def test_tools_by_the_names_of_variables() -> None:
    """What is called so in the notebook; a tool that has a name keeps it."""
    known = {
        "f": lambda x: x,
        "store": Store(1),
        "named": tool(read_file, name="own_name"),
        "users": DataTool("people", []),
    }
    made = Toolbox.named(" f, store.find,named,users,", known)
    assert [t.name for t in made.functions] == ["f", "find", "own_name"]
    assert [d.name for d in made.data] == ["people"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("read_fil", r"--tools: nothing is called 'read_fil' \(did you mean 'read_file'\?\)"),
        ("store.nothing", "--tools store.nothing: 'Store' object has no attribute 'nothing'"),
        ("users", r"--tools: 'users' is no function; data goes into the signature, or .* DataTool\('users', users"),
        ("read_file,read_file", "two tools are called 'read_file'"),
    ],
)
def test_names_of_nothing(names: str, says: str) -> None:
    """One line says what is wrong and what to do."""
    with pytest.raises(InputError, match=says):
        Toolbox.named(names, {"read_file": read_file, "store": Store(1), "users": [1]})


def test_a_toolbox_that_was_used_can_be_pickled() -> None:
    """A dry run holds the options, and can be kept."""
    box = Toolbox.of([])
    assert box.find("add") is None
    assert pickle.loads(pickle.dumps(box)).functions == ()
