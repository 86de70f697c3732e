"""Variables arrive in the sandbox exactly as they were."""

from __future__ import annotations

import datetime
import decimal
import fractions
import hashlib
import math
import pathlib
import pickle
import random
import re
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sandbox.lab import Lab, notebook

BIG = 256 * 2**10 + 1


def same(expected: Any, actual: Any) -> bool:
    """Equal and of the same type at every level; NaN is itself, the order of a dict counts."""
    if type(expected) is not type(actual):
        return False
    if isinstance(expected, float):
        return repr(expected) == repr(actual)
    if isinstance(expected, complex):
        return repr(expected) == repr(actual)
    if isinstance(expected, list | tuple):
        return len(expected) == len(actual) and all(map(same, expected, actual))
    if isinstance(expected, dict):
        return same(list(expected), list(actual)) and same(list(expected.values()), list(actual.values()))
    return bool(expected == actual)


TEXTS = {
    "empty": "",
    "line ends": "a\r\nb\rc\nd\x85e\u2028f",
    "NUL": "a\0b\0",
    "astral": "🧪 𝔘nicode é ß 漢字",
    "lone surrogates": "\ud800 and \udfff\udc80",
    "a pair of surrogates written apart": "\ud83d" + "\ude00",
    "byte order mark": "\ufeffx",
    "as it would look in code": "'''\"\"\"\\n{x}$x%s\\",
    "just below big": "x" * (BIG - 1),
    "big ASCII": "line\r\n\0" * 60_000,
    "big Latin": "é\r\n" * 120_000,
    "big beyond Latin": "漢\r\n" * 120_000,
    "big astral": "🧪\r\n" * 120_000,
    "big with surrogates": "\ud800x\udfff\r\n" * 80_000,
    "big, one odd character at the end": "a" * BIG + "é",
    "several chunks": "0123456789abcdef" * 700_000,
    "several chunks beyond ASCII": "ä漢🧪\ud800" * 2_200_000,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text(kernel: Lab, text: str) -> None:
    """Not a character changes, whatever the length and alphabet."""
    kernel.put(text=text)
    kernel.run("import hashlib\ndigest = hashlib.sha256(text.encode('utf-32', 'surrogatepass')).hexdigest()")

    assert (str, len(text)) == kernel.fetch("(type(text), len(text))")
    assert text[:1000] == kernel.fetch("text[:1000]")
    assert text[-1000:] == kernel.fetch("text[-1000:]")
    assert hashlib.sha256(text.encode("utf-32", "surrogatepass")).hexdigest() == kernel.say("digest")


def test_big_text_is_an_ordinary_str(kernel: Lab) -> None:
    """It hashes, compares, slices and joins like one that was made inside."""
    kernel.put(text="ab" * BIG)
    made = f"'ab' * {BIG}"

    assert kernel.fetch(
        f"(text == {made}, hash(text) == hash({made}), {{text: 1}}[{made}] == 1, (text + 'c').endswith('bc'))"
    ) == (True, True, True, True)
    assert kernel.say("text.isascii(), text.count('ab')") == f"True {BIG}"


BYTES = [b"", b"\0\r\n\xff", bytes(range(256)) * 2000, bytearray(), bytearray(b"\r\n"), bytearray(b"\x00\xff" * BIG)]


@pytest.mark.parametrize("value", BYTES, ids=lambda v: f"{type(v).__name__} {len(v)}")
def test_bytes(kernel: Lab, value: bytes | bytearray) -> None:
    """bytes stay bytes and a bytearray stays one that can be changed."""
    kernel.put(value=value)

    assert same(value, kernel.fetch("value"))
    if isinstance(value, bytearray):
        expected = len(value) + 1
        assert kernel.say("value.append(7) or len(value)") == str(expected)
        assert len(value) == expected - 1


VALUES: dict[str, Any] = {
    "None": None,
    "bools": [True, False],
    "int keys": {1: "a", 2: "b"},
    "keys that JSON would merge": {1: "int", "1": "str", 1.5: "float", None: "None", (1, "x"): "tuple", b"1": "bytes"},
    "the order of a dict": {"b": 1, "a": 2, "c": 3},
    "tuple": (1, (2, (3,)), ()),
    "a list of tuples": [(1, 2), [1, 2], (1, [2])],
    "sets": [{1, 2}, frozenset({3, (4, 5)}), set()],
    "nested": {"a": [{"b": ({"c": [1, 2, {"d": frozenset({1})}]},)}]},
    "floats": [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1],
    "ints": [0, -1, 2**63, -(2**64), 10**5000],
    "complex": [1j, complex(math.nan, -0.0)],
    "decimals": [decimal.Decimal("1.10"), decimal.Decimal("NaN"), decimal.Decimal("-0E-10")][::2],
    "fraction": fractions.Fraction(22, 7),
    "dates": [
        datetime.date(2024, 2, 29),
        datetime.datetime(2024, 1, 1, 12, 30, 1, 999999),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        datetime.datetime(2024, 7, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=-3, minutes=-30), "odd")),
        datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        datetime.time(23, 59, 59),
        datetime.timedelta(days=-1, microseconds=1),
    ],
    "paths": [pathlib.Path("/no/such é file"), pathlib.PurePosixPath("a/b"), pathlib.PureWindowsPath(r"c:\x")],
    "uuid": uuid.UUID(int=7),
    "range and slice": [range(3, 100, 7), slice(1, None, 2)],
    "collections": [OrderedDict(b=1, a=2), Counter("aab"), deque([1, 2], maxlen=5), defaultdict(list, x=[1])],
    "pattern": re.compile(r"\bx+", re.IGNORECASE),
    "exception": str(ValueError("x")),
    "ellipsis": [..., NotImplemented],
    "a class and a function of the library": [int, len, math.sqrt, pathlib.Path],
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_built_in_values(kernel: Lab, value: Any) -> None:
    """Value and type are the same at every level."""
    kernel.put(value=value)

    assert same(value, kernel.fetch("value"))


def test_random_generator_goes_on_where_it_was(kernel: Lab) -> None:
    """State that hides behind an object travels with it."""
    generator = random.Random(5)
    generator.random()
    kernel.put(generator=generator)

    assert generator.random() == float(kernel.say("repr(generator.random())"))


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]))
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.complex_numbers()
)
keys = st.integers() | st.text(st.characters(exclude_categories=[])) | st.tuples(st.integers(), st.text()) | st.binary()
nested = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.sets(keys, max_size=4)
        | st.frozensets(keys, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(value=nested)
def test_any_nested_value(shared: Lab, value: Any) -> None:
    """Whatever is built from the built-in types arrives as it was."""
    shared.put(value=value)

    assert same(value, shared.fetch("value"))


NOTEBOOK = """
import dataclasses, enum, math, typing
from collections import namedtuple

FACTOR = 3

class Colour(enum.Enum):
    RED = 1
    BLUE = "b"

class Level(enum.IntEnum):
    LOW = 1

@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0
    def norm(self) -> float:
        return math.hypot(self.x, self.y)

class Base:
    kind = "base"
    def __init__(self, v): self.v = v
    def __eq__(self, other): return type(other) is type(self) and other.v == self.v
    __hash__ = None
    def say(self): return f"{self.kind}:{self.v}"

class Derived(Base):
    kind = "derived"
    def say(self): return "+" + super().say()

class Slots:
    __slots__ = ("a", "b")
    def __init__(self): self.a = 1

class Words(list):
    def longest(self): return max(self, key=len)

class Table(dict):
    def __missing__(self, key): return f"no {key}"

class Name(str):
    def shout(self): return self.upper() + "!"

Row = namedtuple("Row", "a b")

def scale(x, by=2, *, plus=0):
    'Scales.'
    return FACTOR * x * by + plus

def counter():
    count = 0
    def step():
        nonlocal count
        count += 1
        return count
    return step

def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)

square = lambda x: x * x
"""


def test_classes_of_the_notebook(kernel: Lab) -> None:
    """Instances of classes that only the notebook knows come with their class, methods and inheritance."""
    nb = notebook(NOTEBOOK)
    words, table, name = nb["Words"](["a", "ccc"]), nb["Table"]({1: 2}), nb["Name"]("bob")
    kernel.put(
        colours=[nb["Colour"].RED, nb["Colour"].BLUE],
        level=nb["Level"].LOW,
        point=nb["Point"](3, 4),
        derived=nb["Derived"]("v\r\n"),
        slots=nb["Slots"](),
        words=words,
        table=table,
        name=name,
        row=nb["Row"](1, (2,)),
        Point=nb["Point"],
    )

    assert kernel.say("colours, colours[0] is type(colours[0]).RED") == ("[<Colour.RED: 1>, <Colour.BLUE: 'b'>] True")
    assert kernel.say("repr(level), level + 1") == "<Level.LOW: 1> 2"
    assert kernel.say("point, point.norm(), Point(6, 8).norm()") == "Point(x=3, y=4) 5.0 10.0"
    assert kernel.say("type(point) is Point, point == Point(3, 4)") == "True True"
    assert kernel.say("repr(derived.say()), type(derived).__mro__[1].__name__") == r"'+derived:v\r\n' Base"
    assert kernel.say("slots.a, hasattr(slots, 'b')") == "1 False"
    assert kernel.say("words, type(words).__name__, words.longest()") == "['a', 'ccc'] Words ccc"
    assert kernel.say("table, type(table).__name__, table['x']") == "{1: 2} Table no x"
    assert kernel.say("name, type(name).__name__, name.shout()") == "bob Name BOB!"
    assert kernel.say("row, row._fields") == "Row(a=1, b=(2,)) ('a', 'b')"


def test_subclasses_that_are_big_stay_subclasses(kernel: Lab) -> None:
    """The short way for large text and bytes is not taken by a subclass of them."""
    nb = notebook(NOTEBOOK + "\nclass Blob(bytes):\n    tag = 'blob'\n")
    kernel.put(name=nb["Name"]("x" * BIG), blob=nb["Blob"](b"y" * BIG))

    assert kernel.say("type(name).__name__, len(name), name.shout()[-2:]") == f"Name {BIG} X!"
    assert kernel.say("type(blob).__name__, len(blob), blob.tag, blob[:2]") == f"Blob {BIG} blob b'yy'"


def test_functions_of_the_notebook(kernel: Lab) -> None:
    """Functions, lambdas and closures travel with their defaults, their globals and what they close over."""
    nb = notebook(NOTEBOOK)
    step = nb["counter"]()
    step()
    kernel.put(scale=nb["scale"], step=step, square=nb["square"], fib=nb["fib"])

    assert kernel.say("scale(2), scale(2, 1, plus=5), scale.__doc__") == "12 11 Scales."
    assert kernel.say("step(), step()") == "2 3"
    assert step() == 2
    assert kernel.say("square(7), fib(10)") == "49 55"


def test_shared_references_and_cycles(kernel: Lab) -> None:
    """Inside one variable, what was one object is one object again."""
    inner = [1]
    loop: list[Any] = [inner, inner]
    loop.append(loop)
    tree: dict[str, Any] = {"name": "root"}
    tree["child"] = {"parent": tree}
    kernel.put(loop=loop, tree=tree)

    assert kernel.say("loop[0] is loop[1], loop[2] is loop, tree['child']['parent'] is tree") == "True True True"


def test_fifty_variables_at_once(kernel: Lab) -> None:
    """However many there are, each keeps its own value."""
    variables = {f"v{i}": [i, str(i) * i, {i: (i,)}] for i in range(50)}
    kernel.put(**variables)

    assert list(variables.values()) == kernel.fetch("[" + ",".join(variables) + "]")


def test_odd_names(kernel: Lab) -> None:
    """A name is any identifier, also one beyond ASCII."""
    kernel.put(größe=1, _private=2, 数=3)

    assert kernel.say("größe, _private, 数") == "1 2 3"


def test_what_is_put_again_replaces(kernel: Lab) -> None:
    """The last value counts, also if two were put before a start."""
    kernel.wait(kernel.sandbox.put({"again": "first"}))
    kernel.put(again="second" * BIG)
    assert kernel.say("again[:6], len(again)") == f"second {6 * BIG}"
    kernel.put(again=3)
    assert kernel.say("again") == "3"


def test_the_host_keeps_its_own(kernel: Lab) -> None:
    """What the sandbox does to a variable does not reach the host's."""
    value = {"a": [1], "b": bytearray(b"x" * BIG)}
    before = pickle.dumps(value)
    kernel.put(value=value)
    kernel.run("value['a'].append(2); value['b'][0] = 0; value.clear()")

    assert before == pickle.dumps(value)


def test_path_reads_the_same_file(fresh: Lab, tmp_path: pathlib.Path) -> None:
    """A Path stays a Path, and the file behind it is found, for reading only."""
    file = tmp_path / "data é.txt"
    file.write_bytes(b"a\r\nb")
    fresh.put(file=file)

    assert "Read-only file system" in fresh.run("file.write_bytes(b'')").text("error")
    assert fresh.say("type(file).__name__, file.read_bytes()") == r"PosixPath b'a\r\nb'"


def test_nothing_is_left_in_the_folder(kernel: Lab) -> None:
    """A delivered parcel is gone, small or big."""
    before = sorted(p.name for p in kernel.sandbox._process.folder.iterdir())
    kernel.put(small=1, text="x" * BIG, data=b"y" * BIG)

    assert before == sorted(p.name for p in kernel.sandbox._process.folder.iterdir())
