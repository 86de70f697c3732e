"""What the model is told of a value: type, size and a preview, from no more than a glance."""

from __future__ import annotations

import collections
import datetime
import itertools
import math
import pathlib
import threading
import types
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image

from rlm_kernel.sandbox.guest.describe import PREVIEW_CHARS, describe
from tests.sandbox.lab import notebook

FRAME = pd.DataFrame({"id": [1, 2, 3, 4], "text": ["a", "b", "c", "d"]})

KINDS: dict[str, tuple[Any, str, str, list[str]]] = {
    "str": ("line\r\nb", "str", "7 characters", [r"'line\r\nb'"]),
    "long str": ("start" + "x" * 10_000 + "end", "str", "10,008 characters", ["'start", "end'", "…"]),
    "bytes": (b"a\0", "bytes", "2 bytes", [r"b'a\x00'"]),
    "int": (42, "int", "", ["42"]),
    "nan": (math.nan, "float", "", ["nan"]),
    "None": (None, "NoneType", "", ["None"]),
    "list of one type": (["a", "b"], "list[str]", "2 items", ["['a', 'b']"]),
    "list of several types": ([1, "b"], "list", "2 items", ["[1, 'b']"]),
    "long list": (list(range(100_000)), "list[int]", "100,000 items", ["[0, 1, 2, 3, 4, 5, ...]"]),
    "tuple": ((1, 2), "tuple", "2 items", ["(1, 2)"]),
    "set": ({1}, "set", "1 items", ["{1}"]),
    "dict": ({"a": [1], 2: 3}, "dict", "2 keys", ["keys: 'a', 2", "{'a': [1], 2: 3}"]),
    "dict of many": (dict.fromkeys(range(100)), "dict", "100 keys", ["keys: 0, 1,", ", …"]),
    "pandas": (FRAME, "DataFrame", "4 rows x 2 columns", ["id (int64)", "text (str)", "1", "c"]),
    "series": (FRAME["id"], "Series", "shape (4,), int64", ["1", "4"]),
    "polars": (pl.DataFrame({"n": [1, 2]}), "DataFrame", "2 rows x 1 columns", ["n (Int64)"]),
    "arrow": (pa.table({"n": [1, 2]}), "Table", "2 rows x 1 columns", ["n (int64)"]),
    "array": (np.arange(6).reshape(2, 3), "ndarray", "shape (2, 3), int64", ["[0, 1, 2, 3, 4, 5]"]),
    "empty array": (np.empty((0, 3)), "ndarray", "shape (0, 3), float64", ["[]"]),
    "0-d array": (np.array(5), "ndarray", "", ["5"]),
    "image": (Image.new("RGB", (40, 30)), "Image", "40 x 30 pixels, RGB", []),
    "date": (datetime.date(2024, 1, 1), "date", "", ["datetime.date(2024, 1, 1)"]),
    "no file": (pathlib.Path("/no/such"), "PosixPath", "no such file", ["/no/such"]),
    "function": (notebook("def f(a, b=1):\n    'Adds.'")["f"], "function", "", ["def f(a, b=1): Adds."]),
    "class": (notebook("class C:\n    'Holds.'")["C"], "type", "", ["class C", "Holds."]),
    "own class": (notebook("class C: pass")["C"](), "C", "", ["C"]),
    "module": (math, "module", "", ["math"]),
    "counter": (collections.Counter("aab"), "collections.Counter", "2 keys", ["'a', 'b'"]),
    "generator": ((x for x in "ab"), "generator", "", ["generator"]),
}


@pytest.mark.parametrize(("value", "kind", "size", "parts"), KINDS.values(), ids=KINDS)
def test_kinds(value: Any, kind: str, size: str, parts: list[str]) -> None:
    """Each kind has its own measure and its own way to be looked at."""
    actual = describe(value)

    assert (kind, size) == actual[:2]
    assert [part for part in parts if part not in actual[2]] == []
    assert len(actual[2]) <= PREVIEW_CHARS


def test_size_of_a_file(tmp_path: pathlib.Path) -> None:
    """Of a Path the model sees how large the file is."""
    file = tmp_path / "f"
    file.write_bytes(b"abc")

    assert describe(file)[1] == "3 bytes"


def test_limit() -> None:
    """No preview is longer than asked for."""
    for limit, (value, *_) in itertools.product((10, 60, 160), KINDS.values()):
        assert len(describe(value, limit)[2]) <= limit


def raising(name: str, error: str = "ValueError('no')") -> Any:
    """An object whose `name` raises."""
    body = f"def {name}(self, *a): raise {error}"
    if name in ("shape", "columns", "dtype", "model_dump"):
        body = f"@property\n    {body}"
    return notebook(f"class Hostile:\n    {body}")["Hostile"]()


HOSTILE = {
    name: raising(name)
    for name in ("__repr__", "__len__", "__getattr__", "__getattribute__", "shape", "columns", "dtype", "__str__")
}
HOSTILE |= {
    "repr of the wrong type": notebook("class H:\n    def __repr__(self): return 5")["H"](),
    "negative length": notebook("class H:\n    def __len__(self): return -1")["H"](),
    "huge length": notebook("class H:\n    def __len__(self): return 2**100")["H"](),
    "class that lies": notebook("class H:\n    @property\n    def __class__(self): raise ValueError")["H"](),
    "dict whose keys raise": notebook("class H(dict):\n    def __iter__(self): raise ValueError")["H"](a=1),
    "repr that recurses": notebook("class H:\n    def __repr__(self): return repr(self)")["H"](),
    "shape of another kind": notebook("class H:\n    shape = (1, 'x')\n    columns = 5\n    head = 6")["H"](),
    "module without a name": types.SimpleNamespace(__name__=None),
    "class without a module": type("X", (), {"__module__": None})(),
    "class with odd module": type("X", (), {"__module__": 5})(),
    "type with a hostile name": type("X\n" * 1000, (), {})(),
    "exception that cannot be shown": notebook("class H(Exception):\n    def __str__(self): raise ValueError")["H"](),
    "surrogates": "\ud800" * 10,
    "lock": threading.Lock(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_raises(name: str) -> None:
    """Whatever a value does when it is looked at, there is a description, alone and inside a list and a dict."""
    for held in (HOSTILE[name], [HOSTILE[name]], {"k": HOSTILE[name]}):
        kind, size, preview = describe(held)
        assert (str, str, str) == (type(kind), type(size), type(preview))
        assert len(preview) <= PREVIEW_CHARS


def test_exceptions_that_are_no_errors_pass() -> None:
    """An interrupt in the middle of a foreign repr is not swallowed."""
    with pytest.raises(KeyboardInterrupt):
        describe(raising("__repr__", "KeyboardInterrupt()"))


def test_infinite_and_self_referential() -> None:
    """What has no end is shown by its start."""
    loop: list[Any] = [1]
    loop.append(loop)
    endless = itertools.count()

    assert describe(loop)[1] == "2 items"
    assert describe(endless)[2] == "count(0)"
    assert next(endless) == 0


def test_deeply_nested() -> None:
    """Depth does not matter."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    assert describe(deep)[2] == "[[[[[...]]]]]"


def test_huge_int() -> None:
    """An int that Python refuses to write out is no error."""
    assert len(describe(10**100_000)[2]) <= PREVIEW_CHARS


class Counting(list):  # type: ignore[type-arg]
    """Counts how many of its elements are looked at."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.reads = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        for value in super().__iter__():
            self.reads += 1
            yield value

    def __getitem__(self, key: Any) -> Any:
        self.reads += 1
        return super().__getitem__(key)


class Item:
    """Counts how often its kind is shown."""

    shown = 0

    def __repr__(self) -> str:
        Item.shown += 1
        return "item"


@pytest.mark.parametrize("make", [list, tuple, lambda items: dict(enumerate(items)), lambda items: set(items)])
def test_the_cost_does_not_grow(make: Any) -> None:
    """Of a long value as few elements are shown as of a short one."""

    def shown(length: int) -> int:
        Item.shown = 0
        describe(make([Item() for _ in range(length)]))
        return Item.shown

    assert shown(20) == shown(20_000)
    assert shown(20_000) < 20


def test_the_cost_of_a_lists_subclass_does_not_grow() -> None:
    """Neither of a list that computes its elements: whatever its repr is, it is asked at most once."""
    few, many = Counting(range(20)), Counting(range(20_000))
    describe(few)
    describe(many)

    assert few.reads == many.reads


@pytest.mark.parametrize(
    "make",
    [
        lambda n: collections.deque([Item()] * n),
        lambda n: collections.OrderedDict((i, Item()) for i in range(n)),
        lambda n: np.array([Item()] * n, dtype=object),
        lambda n: pd.Series([Item()] * n, dtype=object),
        lambda n: pd.DataFrame({"a": [Item()] * n}),
        lambda n: pd.DataFrame([[Item()] * 30] * (n // 30)),
        lambda n: notebook("class L(list): pass")["L"]([Item()] * n),
        lambda n: notebook("class T(tuple): pass")["T"]([Item()] * n),
        lambda n: collections.namedtuple("Row", "a b")([Item()] * n, 1),
        lambda n: pd.Index([Item() for _ in range(n)], dtype=object),
        lambda n: types.SimpleNamespace(a=[Item()] * n),
        lambda n: notebook("import dataclasses\n@dataclasses.dataclass\nclass D:\n    a: list")["D"]([Item()] * n),
    ],
    ids=[
        "deque",
        "OrderedDict",
        "object array",
        "series",
        "frame",
        "wide frame",
        "list subclass",
        "tuple subclass",
        "namedtuple",
        "index",
        "namespace",
        "dataclass",
    ],
)
def test_the_cost_of_other_containers_does_not_grow(make: Any) -> None:
    """Of the usual containers, too, a glance is a glance."""

    def shown(length: int) -> int:
        value = make(length)
        Item.shown = 0
        describe(value)
        return Item.shown

    assert shown(30_000) <= max(shown(300), 100)


def test_lazy_frame_is_not_collected() -> None:
    """A polars LazyFrame is not run to be looked at."""
    ran: list[int] = []

    def touch(frame: pl.DataFrame) -> pl.DataFrame:
        ran.append(1)
        return frame

    lazy = pl.DataFrame({"a": [1]}).lazy().map_batches(touch)
    kind, _, preview = describe(lazy)

    assert (kind, ran) == ("LazyFrame", [])
    assert preview
