"""Values on their way out: what goes through comes back, what is no value is refused, nothing runs."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import io
import json
import math
import pathlib
import pickle
import sys
import uuid
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_kernel.sandbox.guest.wire import MAX_DEPTH, NotSendableError, decode, encode


def through(value: Any) -> Any:
    """There and back, with JSON between."""
    return decode(json.loads(json.dumps(encode(value))))


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


@dataclasses.dataclass
class Point:
    x: int
    when: datetime.date


class Model(pydantic.BaseModel):
    name: str
    parts: list[bytes]


VALUES: dict[str, tuple[Any, Any]] = {
    "plain": ([None, True, 1, -1.5, "a\r\n\0é🧪", [], {}], [None, True, 1, -1.5, "a\r\n\0é🧪", [], {}]),
    "lone surrogate": ("\ud800", "\ud800"),
    "big int": (2**200, 2**200),
    "int keys": ({1: "a", "1": "b"}, {1: "a", "1": "b"}),
    "tuple keys": ({(1, ("x", 2)): "a"}, {(1, ("x", 2)): "a"}),
    "None and bool keys": ({None: 1, True: 2}, {None: 1, True: 2}),
    "a key that looks like a tag": ({"$bytes": "x"}, {"$bytes": "x"}),
    "a tag among other keys": ({"$npy": 1, "b": 2}, {"$npy": 1, "b": 2}),
    "nested tags": ({"$a": {"$b": [{"$dict": []}]}}, {"$a": {"$b": [{"$dict": []}]}}),
    "tuple and set": (((1, 2), {3}, frozenset({4})), [[1, 2], [3], [4]]),
    "bytes": ([b"\0\xff", bytearray(b"x"), memoryview(b"yy")[::2]], [b"\0\xff", b"x", b"y"]),
    "date": (datetime.date(2024, 2, 29), "2024-02-29"),
    "datetime": (datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.UTC), "2024-01-01T12:00:00+00:00"),
    "time": (datetime.time(1, 2, 3), "01:02:03"),
    "timedelta": (datetime.timedelta(days=-1, microseconds=1), datetime.timedelta(days=-1, microseconds=1)),
    "decimal": (decimal.Decimal("1.10"), "1.10"),
    "path": (pathlib.PurePosixPath("/a b"), "/a b"),
    "uuid": (uuid.UUID(int=1), str(uuid.UUID(int=1))),
    "enum": ([Colour.RED, Level.LOW, Word.YES], ["red", 1, "yes"]),
    "enum keys": ({Colour.RED: 1, Level.LOW: 2}, {"red": 1, 1: 2}),
    "dataclass": (Point(1, datetime.date(2024, 1, 1)), {"x": 1, "when": "2024-01-01"}),
    "pydantic": (Model(name="n", parts=[b"\0"]), {"name": "n", "parts": [b"\0"]}),
    "numpy scalars": ([np.float32(1.5), np.int8(-1), np.bool_(True), np.str_("s")], [1.5, -1, True, "s"]),
    "numpy date": (np.datetime64("2024-01-01T00:00:00", "s"), "2024-01-01T00:00:00"),
    "numpy date in ns": (np.datetime64("2024-01-01T00:00:00", "ns"), "2024-01-01T00:00:00"),
    "numpy duration in ns": (np.timedelta64(1_500_000_000, "ns"), datetime.timedelta(seconds=1.5)),
    "pandas scalars": (
        [pd.Timestamp("2024-01-01"), pd.Timedelta("1s")],
        ["2024-01-01T00:00:00", datetime.timedelta(seconds=1)],
    ),
    "pandas missing": ([pd.NA, pd.NaT], [None, None]),
    "pandas index": (pd.Index([1, 2]), [1, 2]),
    "polars series": (pl.Series([1, None]), [1, None]),
}


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES)
def test_round_trip(value: Any, expected: Any) -> None:
    """Text, numbers, containers and the tagged leaves come back as plain values."""
    actual = through(value)

    assert expected == actual
    assert type(expected) is type(actual)


def test_numbers_keep_their_type() -> None:
    """1, 1.0 and True are three things; NaN and the infinities arrive."""
    assert [int, float, bool] == [type(x) for x in through([1, 1.0, True])]
    assert [type(x) for x in through([np.int64(1), np.float64(1), np.bool_(True)])] == [int, float, bool]
    assert math.isnan(through(math.nan))
    assert [math.inf, -math.inf] == through([math.inf, -math.inf])


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=[]))
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers() | st.sampled_from(["$npy", "$bytes", "$dict", "$"]), inner)
    ),
    max_leaves=20,
)


@settings(deadline=None, derandomize=True, database=None)
@given(plain)
def test_any_plain_value(value: Any) -> None:
    """Whatever is built from lists, dicts and plain leaves comes back equal."""
    assert value == through(value)


def test_frame() -> None:
    """A pandas frame keeps columns, dtypes, index and missing values."""
    frame = pd.DataFrame(
        {"n": [1, 2], "t": ["a\r\n", None], "d": pd.to_datetime(["2024-01-01", None]).tz_localize("UTC")},
        index=pd.Index(["x", "y"], name="row"),
    )

    pd.testing.assert_frame_equal(frame, through(frame))
    pd.testing.assert_frame_equal(frame.iloc[:0], through(frame.iloc[:0]))


def test_frame_with_levels_and_categories() -> None:
    """So do levels of an index and categories."""
    frame = pd.DataFrame({"c": pd.Categorical(["a", "b"]), "v": [1.5, np.nan]}).set_index(
        pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["l", "n"])
    )

    pd.testing.assert_frame_equal(frame, through(frame))


def test_frame_with_numbered_columns() -> None:
    """Columns that are numbers stay numbers."""
    frame = pd.DataFrame([[1, 2.5]])

    assert list(through(frame).columns) == [0, 1]


def test_other_tables_arrive_as_pandas() -> None:
    """polars and pyarrow tables cross in the same form."""
    expected = pd.DataFrame({"n": [1, 2]})

    pd.testing.assert_frame_equal(expected, through(pl.DataFrame({"n": [1, 2]})))
    pd.testing.assert_frame_equal(expected, through(pa.table({"n": [1, 2]})))


@pytest.mark.parametrize("name", ["score", None, 7])
def test_series(name: Any) -> None:
    """A series keeps its name, or that it has none."""
    series = pd.Series([1.5, None], name=name, index=["a", "b"])

    pd.testing.assert_series_equal(series, through(series))


ARRAYS = [
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(10)[::-2],
    np.empty((0, 3)),
    np.array(5),
    np.array(["2024-01-01", "NaT"], dtype="datetime64[ns]"),
    np.array(["a", "漢"]),
    np.array([1j, np.nan]),
    np.zeros(2, dtype=[("a", "i4"), ("b", "U3")]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_array(array: np.ndarray) -> None:
    """Values, dtype and shape come back."""
    actual = through(array)

    np.testing.assert_array_equal(array, actual)
    assert (array.dtype, array.shape) == (actual.dtype, actual.shape)


def _loop() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def _deep() -> list[Any]:
    made: list[Any] = []
    for _ in range(MAX_DEPTH + 1):
        made = [made]
    return made


REFUSED: dict[str, tuple[Any, str]] = {
    "objects in an array": (np.array([{}], dtype=object), "Python objects"),
    "objects in a structured array": (np.zeros(1, dtype=[("a", object)]), "Python objects"),
    "custom class": (type("Thing", (), {})(), "type Thing"),
    "a class": (Point, "type"),
    "a model's class": (Model, "cannot be sent"),
    "generator": ((x for x in "ab"), "generator"),
    "function": (len, "builtin_function_or_method"),
    "complex": (1j, "complex"),
    "itself": (_loop(), "deeper"),
    "too deep": (_deep(), "deeper"),
    "deep inside": ({"a": [{"b": object()}]}, "type object"),
    "a key": ({object(): 1}, "type object"),
    "a table of objects": (pd.DataFrame({"a": [{1}, "x", 3]}), "column"),
    "names twice": (pd.DataFrame([[1, 2]], columns=["a", "a"]), "column"),
    "lazy frame": (pl.LazyFrame({"a": [1]}), "LazyFrame"),
    "masked array": (np.ma.array([1], mask=[True]), "MaskedArray"),
}


@pytest.mark.parametrize(("value", "says"), REFUSED.values(), ids=REFUSED)
def test_refusals(value: Any, says: str) -> None:
    """What has no safe form is refused with the reason."""
    with pytest.raises(NotSendableError, match=says):
        encode(value)


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes have a limit, which the refusal names."""
    monkeypatch.setattr("rlm_kernel.sandbox.guest.wire.MAX_BYTES", 1000)

    with pytest.raises(NotSendableError, match="1,000"):
        encode(b"x" * 1001)


class Bomb:
    """Leaves a trace if anybody unpickles it."""

    def __reduce__(self) -> Any:
        return exec, ("import sys; sys.exploded = True",)


def _npy(array: np.ndarray) -> str:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return base64.b64encode(out.getvalue()).decode()


def _npz(**arrays: np.ndarray) -> str:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return base64.b64encode(out.getvalue()).decode()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


BOMBS = {
    "array of objects": {"$npy": _npy(np.array([Bomb()], dtype=object))},
    "structured array of objects": {"$npy": _npy(np.array([(Bomb(),)], dtype=[("a", object)]))},
    "a bare pickle as npy": {"$npy": _b64(pickle.dumps(Bomb()))},
    "a bare pickle as arrow": {"$arrow": _b64(pickle.dumps(Bomb()))},
    "a bare pickle as series": {"$series": _b64(pickle.dumps(Bomb()))},
    "an archive of arrays": {"$npy": _npz(a=np.array([Bomb()], dtype=object))},
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_nothing_is_unpickled(data: Any) -> None:
    """A pickle in any disguise is refused and does not run."""
    with pytest.raises(Exception, match=r".") as caught:
        decode(data)

    assert isinstance(caught.value, (ValueError, OSError, pa.ArrowException))
    assert not hasattr(sys, "exploded")


def test_an_array_is_an_array() -> None:
    """An archive is no array, whatever is in it."""
    with pytest.raises(ValueError):
        decode({"$npy": _npz(a=np.arange(3))})


HOSTILE: dict[str, Any] = {
    "unknown tag": {"$eval": "1"},
    "empty tag": {"$": 1},
    "not base64": {"$bytes": "§"},
    "bytes of another type": {"$bytes": 5},
    "bytes of None": {"$bytes": None},
    "dict of no pairs": {"$dict": 5},
    "dict of triples": {"$dict": [[1, 2, 3]]},
    "dict of text": {"$dict": ["abc"]},
    "a key that is a dict": {"$dict": [[{"a": 1}, 2]]},
    "a key that is a dict in a list": {"$dict": [[[{"a": 1}], 2]]},
    "seconds that are text": {"$seconds": "x"},
    "endless seconds": {"$seconds": math.inf},
    "NaN seconds": {"$seconds": math.nan},
    "too many seconds": {"$seconds": 1e300},
    "seconds in a list": {"$seconds": []},
    "empty arrow": {"$arrow": ""},
    "empty npy": {"$npy": ""},
    "npy of a list": {"$npy": [1]},
    "arrow of a number": {"$arrow": 1.5},
    "nested too deep": json.loads("[" * 200 + "]" * 200),
    "tags nested too deep": json.loads('{"$dict":[[1,' * 60 + "1" + "]]}" * 60),
    "keys nested too deep": {"$dict": [[json.loads("[" * 200 + "]" * 200), 1]]},
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_input(data: Any) -> None:
    """What `encode` never writes raises ValueError; for broken tables and arrays, what their libraries raise."""
    with pytest.raises((ValueError, EOFError, OSError, pa.ArrowException)):
        decode(data)


def test_npy_that_claims_to_be_huge() -> None:
    """A header may not make the host reserve more than was sent."""
    header = b"\x93NUMPY\x01\x00"
    words = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000,), }"
    text = words.ljust(118) + b"\n"
    with pytest.raises((ValueError, MemoryError)):
        decode({"$npy": _b64(header + len(text).to_bytes(2, "little") + text)})


def test_text_tag_is_text() -> None:
    """Whatever stands behind `$text`, a str comes out."""
    assert [str, str] == [type(decode({"$text": x})) for x in ("a", {"b": 1})]
