"""Variables as text in a prompt: which form they take, how long that is about, and what has none."""

from __future__ import annotations

import datetime
import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from rlm_kernel import InputError
from rlm_kernel.astext import as_text, measure


@dataclass
class Point:
    x: int
    label: str = "here"


class Person(BaseModel):
    name: str
    born: datetime.date


class Color(enum.Enum):
    RED = "red"


FRAME = pd.DataFrame({"name": ["ä", "b, c"], "n": [1, 2]})


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        ("a\nb", "text", "a\nb"),
        (b"\xc3\xa4", "text", "ä"),
        (3, "JSON", "3"),
        (None, "JSON", "null"),
        (float("nan"), "JSON", "NaN"),
        ([1, "ä", None], "JSON", '[1,"ä",null]'),
        ({"a": (1, 2), 3: {4}}, "JSON", '{"a":[1,2],"3":[4]}'),
        (Point(1), "JSON", '{"x":1,"label":"here"}'),
        ([Person(name="Ada", born=datetime.date(1815, 12, 10))], "JSON", '[{"name":"Ada","born":"1815-12-10"}]'),
        ({"c": Color.RED}, "JSON", '{"c":"red"}'),
        (FRAME, "CSV", 'name,n\nä,1\n"b, c",2\n'),
        (FRAME.set_index("name"), "CSV", 'name,n\nä,1\n"b, c",2\n'),
        (FRAME["n"], "CSV", "n\n1\n2\n"),
        (pl.DataFrame({"a": [1, 2]}), "CSV", "a\n1\n2\n"),
        (pl.DataFrame({"a": [[1], [2, 3]]}), "JSON", '[{"a":[1]},{"a":[2,3]}]'),
        (pl.Series([1, 2]), "JSON", "[1,2]"),
        (pa.table({"a": [1, 2]}), "CSV", '"a"\n1\n2\n'),
        (np.array([[1, 2], [3, 4]]), "JSON", "[[1,2],[3,4]]"),
        (np.float64(1.5), "JSON", "1.5"),
        ({"t": FRAME, "a": np.arange(2), "n": pd.NA, "s": FRAME["n"]}, "JSON",
         '{"t":[{"name":"ä","n":1},{"name":"b, c","n":2}],"a":[0,1],"n":null,"s":{"0":1,"1":2}}'),
    ],
    ids=str,
)  # fmt: skip
def test_each_kind_has_its_form(value: Any, form: str, text: str) -> None:
    """Text stays text, tables become CSV, all else JSON; nothing is left out."""
    assert as_text("x", value) == (form, text)


@pytest.mark.parametrize("value", [object(), int, (x for x in [1]), Path("a.txt"), lambda: 1, [object()], Path])
def test_what_has_no_form_is_named(value: Any) -> None:
    """In one line that says what to do; a generator is not used up."""
    assert measure(value) is None
    with pytest.raises(InputError, match=r"^variable 'x' \(\w+\) has no form as text; pass the data it holds, or str"):
        as_text("x", value)


def test_a_generator_is_left_alone() -> None:
    """The user's own iterator is not read by looking at it."""
    numbers = (n for n in range(3))
    assert measure(numbers) is None
    assert list(numbers) == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "why"),
    [(b"\xff", "invalid start byte"), (["\ud800"], "surrogates"), ({"a": [b"\xff"]}, "utf-8")],
    ids=["bytes", "half a character", "bytes within"],
)
def test_what_fails_on_the_way_is_named(value: Any, why: str) -> None:
    """The error of a library is translated into one line."""
    with pytest.raises(InputError, match=rf"^variable 'x' \(\w+\) cannot be put into a prompt: .*{why}.*pass it as a"):
        as_text("x", value)


def test_a_value_within_itself() -> None:
    """It ends, with an error."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InputError, match="has no form as text"):
        as_text("x", loop)


class Hostile:
    """Whatever is asked of it, it raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_a_foreign_class_cannot_break_the_measure() -> None:
    """It has no form, that is all."""
    assert measure(Hostile()) is None
    assert measure([Hostile()]) is None


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), max_size=40),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text("abc", max_size=5), inner, max_size=12),
    max_leaves=40,
)  # fmt: skip


@given(_VALUES)
@settings(deadline=None)
def test_the_measure_is_near(value: Any) -> None:
    """Of small values of any shape, within a quarter, or a few bytes."""
    _, text = as_text("x", value)
    exact, told = len(text.encode()), measure(value)
    assert told is not None
    assert abs(told - exact) <= max(0.25 * exact, 2 * sum(map(text.count, "[{:,1")) + 12)


@pytest.mark.parametrize(
    "value",
    [
        pd.DataFrame({"a": range(5000), "b": ["some words"] * 5000, "c": np.linspace(0, 1, 5000)}),
        pl.DataFrame({"a": range(5000), "b": ["some words"] * 5000}),
        pa.table({"a": list(range(5000)), "b": ["some words"] * 5000}),
        np.arange(40_000).reshape(200, 200),
        [{"id": n, "text": "some words", "tags": ["a", "b"]} for n in range(3000)],
        "漢字" * 100_000 + "ascii" * 10_000,
    ],
    ids=lambda v: type(v).__name__,
)
def test_the_measure_of_large_values_is_near(value: Any) -> None:
    """Although it looks at a small part of them."""
    _, text = as_text("x", value)
    told = measure(value)
    assert told is not None
    assert abs(told / len(text.encode()) - 1) < 0.2


def test_a_long_list_is_not_walked() -> None:
    """A few hundred items are looked at, however many there are."""
    looked = 0

    class Text(str):
        def isascii(self) -> bool:
            nonlocal looked
            looked += 1
            return super().isascii()

    assert measure([Text("word")] * 1_000_000) == pytest.approx(7_000_000, rel=0.01)
    assert looked <= 200
    assert json.loads(as_text("x", ["word"])[1]) == ["word"]
