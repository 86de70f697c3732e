"""Frames, arrays, tables and images arrive as they were, dtypes and memory layout included."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image

from tests.sandbox.lab import Lab


def frame() -> pd.DataFrame:
    """One column of every kind."""
    return pd.DataFrame(
        {
            "int": [1, 2, 3],
            "small": np.array([1, 2, 3], dtype="int8"),
            "float": [1.5, np.nan, np.inf],
            "bool": [True, False, True],
            "text": ["a\r\n", "é\0", None],
            "object": pd.Series([(1, 2), {"k": [1]}, None], dtype=object),
            "category": pd.Categorical(["x", "y", None], categories=["y", "x", "z"], ordered=True),
            "naive": pd.to_datetime(["2024-01-01", None, "2024-02-29 12:00:00.000000001"], format="mixed"),
            "aware": pd.to_datetime(["2024-01-01", None, "2024-07-01"]).tz_localize("Europe/Berlin"),
            "delta": pd.to_timedelta([1, None, 3], unit="s"),
            "Int64": pd.array([1, None, 2**62], dtype="Int64"),
            "boolean": pd.array([True, None, False], dtype="boolean"),
            "string": pd.array(["a", None, "漢"], dtype="string"),
            "period": pd.period_range("2024-01", periods=3, freq="M"),
            "interval": pd.interval_range(0, 3),
            "complex": [1j, 2, 3],
            "arrow": pd.array([1, None, 3], dtype=pd.ArrowDtype(pa.int64())),
            7: [decimal.Decimal("1.10"), datetime.date(2024, 1, 1), b"\r\n"],
        },
        index=pd.Index(["r1", "r2", "r3"], name="row"),
    )


def multi() -> pd.DataFrame:
    """Levels on both axes."""
    rows = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["letter", None])
    columns = pd.MultiIndex.from_tuples([("x", "p"), ("x", "q")], names=["top", "sub"])
    made = pd.DataFrame([[1, 2.5], [3, 4.5], [5, 6.5]], index=rows, columns=columns)
    made.attrs = {"source": "here"}
    return made


FRAMES = {
    "every dtype": frame(),
    "levels": multi(),
    "empty": pd.DataFrame(),
    "no rows": frame().iloc[:0],
    "no columns": pd.DataFrame(index=[1, 2]),
    "names twice": pd.DataFrame([[1, "a"]], columns=["x", "x"]),
    "big": pd.DataFrame({"n": np.arange(200_000), "t": [f"row {i}" for i in range(200_000)]}),
    "a view": pd.DataFrame(np.arange(40_000.0).reshape(400, 100)).iloc[::3, ::-2],
    "by date": pd.DataFrame({"v": range(4)}, index=pd.date_range("2024-01-01", periods=4, freq="QE", tz="UTC")),
}


@pytest.mark.parametrize("expected", FRAMES.values(), ids=FRAMES)
def test_pandas_frame(kernel: Lab, expected: pd.DataFrame) -> None:
    """Values, dtypes, index, column names and attributes are the same, and it can be written to."""
    kernel.put(df=expected)
    actual = kernel.fetch("df")

    pd.testing.assert_frame_equal(expected, actual, check_freq=True, check_column_type="exact")
    assert list(expected.dtypes) == list(actual.dtypes)
    assert expected.attrs == actual.attrs
    if len(expected.columns) and len(expected):
        before = expected.copy(deep=True)
        assert kernel.run("df.iloc[0, 0] = df.iloc[-1, 0]; df['new'] = 1; df.sort_index()").status == "ok"
        pd.testing.assert_frame_equal(before, expected)


@pytest.mark.parametrize("column", [c for c in frame().columns if isinstance(c, str)])
def test_pandas_series(kernel: Lab, column: str) -> None:
    """A series keeps its name, index and dtype."""
    expected = frame()[column]
    kernel.put(series=expected)

    pd.testing.assert_series_equal(expected, kernel.fetch("series"))


def test_pandas_scalars(kernel: Lab) -> None:
    """Timestamps, intervals and the missing values keep their kind."""
    values = [pd.Timestamp("2024-01-01 00:00:00.000000001", tz="UTC"), pd.Timedelta("1ns"), pd.Interval(0, 1)]
    kernel.put(values=values, missing=[pd.NA, pd.NaT, None])

    assert values == kernel.fetch("values")
    assert kernel.say("missing") == "[<NA>, NaT, None]"


def test_polars_frame(kernel: Lab) -> None:
    """A polars frame with nested and missing values is the same inside."""
    expected = pl.DataFrame(
        {
            "n": [1, None, 3],
            "t": ["a\r\n", "漢", None],
            "l": [[1, 2], [], None],
            "s": [{"a": 1}, {"a": 2}, None],
            "d": [datetime.datetime(2024, 1, 1), None, datetime.datetime(1900, 1, 1)],
            "c": pl.Series(["x", "y", "x"], dtype=pl.Categorical),
        }
    )
    kernel.put(pf=expected, ps=expected["l"], lazy=expected.lazy())

    from polars.testing import assert_frame_equal

    assert_frame_equal(expected, kernel.fetch("pf"))
    assert expected.schema == kernel.fetch("pf.schema")
    assert kernel.say("ps.to_list()") == "[[1, 2], [], None]"
    assert kernel.say("lazy.select('n').collect()['n'].to_list()") == "[1, None, 3]"


def _structured() -> np.ndarray:
    made = np.zeros(3, dtype=[("a", "<i4"), ("b", "U5"), ("c", "f8", (2,))])
    made["b"] = ["x", "é", ""]
    return made


ARRAYS: dict[str, Any] = {
    "C order": np.arange(12).reshape(3, 4),
    "F order": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "big": np.arange(1_000_000),
    "big, F order": np.asfortranarray(np.arange(300_000.0).reshape(300, 1000)),
    "every other": np.arange(200_000)[::2],
    "backwards": np.arange(10)[::-1],
    "transposed view": np.arange(120_000.0).reshape(300, 400)[10:200, ::3].T,
    "zero size": np.empty((0, 3)),
    "zero size in the middle": np.empty((2, 0, 3), dtype="f4"),
    "0-d": np.array(7.5),
    "structured": _structured(),
    "datetime64": np.array(["2024-01-01", "NaT"], dtype="datetime64[ns]"),
    "timedelta64": np.array([1, 2], dtype="timedelta64[ms]"),
    "big endian": np.arange(5, dtype=">i4"),
    "text": np.array(["a", "漢\r\n"]),
    "bytes": np.array([b"a", b"\0b"]),
    "bool": np.array([True, False]),
    "complex": np.array([1j, np.nan]),
    "objects": np.array([{"a": 1}, (1, 2), None], dtype=object),
    "half": np.array([1.5, np.nan], dtype="float16"),
}


@pytest.mark.parametrize("expected", ARRAYS.values(), ids=ARRAYS)
def test_array(kernel: Lab, expected: np.ndarray) -> None:
    """Values, dtype, shape and order are the same, and writing to it stays inside."""
    before = expected.copy()
    kernel.put(array=expected)
    kernel.run("kept = array.copy(order='K')")

    actual = kernel.fetch("kept")
    np.testing.assert_array_equal(expected, actual)
    assert (expected.dtype, expected.shape) == (actual.dtype, actual.shape)
    assert kernel.fetch("(type(array).__name__, array.flags.writeable)") == ("ndarray", True)
    if expected.flags.c_contiguous or expected.flags.f_contiguous:
        flags = (expected.flags.c_contiguous, expected.flags.f_contiguous)
        assert flags == kernel.fetch("(array.flags.c_contiguous, array.flags.f_contiguous)")
    if expected.size:
        assert kernel.run("array[...] = array.flat[0]").status == "ok"
        np.testing.assert_array_equal(before, expected)


@pytest.mark.parametrize("size", [4, 500_000])
def test_readonly_array_stays_readonly(kernel: Lab, size: int) -> None:
    """What the notebook protected is protected inside."""
    array = np.arange(size)
    array.flags.writeable = False
    kernel.put(array=array)

    assert kernel.say("array.flags.writeable, array.sum()") == f"False {array.sum()}"
    assert "read-only" in kernel.run("array[0] = 1").text("error")


def test_mapped_arrays_are_aligned(kernel: Lab) -> None:
    """Vector code may rely on the alignment of every array in a variable."""
    kernel.put(arrays=[np.arange(n, dtype="f8") for n in (1, 1001, 33)])

    assert kernel.say("[a.ctypes.data % 64 for a in arrays if a.size > 500], all(a.flags.aligned for a in arrays)") == (
        "[0] True"
    )


def test_arrays_that_share_memory(kernel: Lab) -> None:
    """The same array twice in one variable is one array inside."""
    array = np.arange(100_000)
    kernel.put(pair=[array, array])

    assert kernel.say("pair[0] is pair[1]") == "True"


def test_numpy_scalars_and_generator(kernel: Lab) -> None:
    """numpy's own scalars keep their type; a generator goes on where it was."""
    generator = np.random.default_rng(3)
    kernel.put(scalars=[np.float32(1.5), np.int8(-1), np.bool_(True), np.datetime64("2024-01-01")], rng=generator)

    assert kernel.fetch("[type(s).__name__ for s in scalars]") == ["float32", "int8", "bool", "datetime64"]
    assert generator.random() == float(kernel.say("rng.random()"))


def test_masked_array(kernel: Lab) -> None:
    """A mask travels along."""
    kernel.put(masked=np.ma.array([1, 2, 3], mask=[False, True, False]))

    assert kernel.say("masked.tolist()") == "[1, None, 3]"


def test_arrow_table(kernel: Lab) -> None:
    """Schema, metadata, chunks and nested columns are the same."""
    expected = pa.table(
        {
            "n": pa.chunked_array([[1, None], [3]]),
            "l": pa.array([[1], [], None]),
            "d": pa.array(["a", "b", "a"]).dictionary_encode(),
            "s": pa.array([{"x": "é"}, None, {"x": None}]),
        }
    ).replace_schema_metadata({"k": "v"})
    kernel.put(table=expected)
    actual = kernel.fetch("table")

    assert expected.equals(actual, check_metadata=True)
    assert expected["n"].num_chunks == actual["n"].num_chunks


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P"])
def test_image(kernel: Lab, mode: str) -> None:
    """An image keeps its pixels, mode and palette."""
    expected = Image.radial_gradient("L").resize((40, 30)).convert(mode)
    kernel.put(image=expected)

    assert (expected.mode, expected.size, expected.tobytes()) == kernel.fetch(
        "(image.mode, image.size, image.tobytes())"
    )
    assert expected.getpalette() == kernel.fetch("image.getpalette()")
