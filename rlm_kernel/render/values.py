"""Which form an answer takes: a table, a list, text, one short value or a block. From values to plain strings.

Values are recognised by what they are like; no data library is imported for it. Every string that leaves this module
is clean and bounded, and no value, however hostile its `__repr__`, makes it raise.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import html.parser
import json
import pathlib
import reprlib
import sys
import uuid
from collections.abc import Mapping, Sequence, Set
from typing import Any

from rlm_kernel.render.clean import clean, clip, excerpt
from rlm_kernel.render.story import steady

__all__ = ["Block", "Form", "Items", "Plain", "Table", "Text", "form", "html_table"]

COLUMNS = 16
_EXACT = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID, pathlib.PurePath)


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; `more_rows` and `more_columns` count what is not among them."""

    columns: tuple[str, ...]
    """Empty when the columns have no names."""
    rows: tuple[tuple[str, ...], ...]
    more_rows: int = 0
    more_columns: int = 0

    @property
    def width(self) -> int:
        """Cells of the longest row."""
        return max((len(r) for r in (self.columns, *self.rows)), default=0)

    def numeric(self, column: int) -> bool:
        """Whether every cell of the column is a number, so that it is set to the right."""
        cells = [r[column] for r in self.rows if column < len(r)]
        return bool(cells) and all(c.lstrip("-").replace(",", "")[:1].isdigit() and _is_number(c) for c in cells)


@dataclasses.dataclass(frozen=True, slots=True)
class Items:
    """A list, one short line each."""

    items: tuple[str, ...]
    more: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """Prose, to be read as Markdown."""

    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Plain:
    """One value on one line."""

    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Preformatted lines."""

    text: str


Form = Table | Items | Text | Plain | Block


def form(value: Any, rows: int = 10, chars: int = 20_000) -> Form:
    """The form of `value`, with at most so many rows (or items) and characters."""
    try:
        return _form(value, max(1, rows), chars)
    except Exception:  # noqa: BLE001 - foreign code ran on hostile data
        return Block(f"<{clip(type(value).__name__, 60)}>")


def _form(value: Any, rows: int, chars: int) -> Form:
    if (table := _frame(value, rows)) is not None:
        return table
    value = _unwrapped(value)
    if isinstance(value, str):
        return Text(excerpt(str.__str__(value), chars, 400))
    if value is None or isinstance(value, (bool, int, float, complex, *_EXACT)):
        return Plain(clip(_scalar(value), 300))
    if isinstance(value, Mapping):
        shown = [(cell(k), cell(v, 1000)) for k, v in _first(value.items(), rows * 2)]
        return Table((), tuple(shown), more_rows=len(value) - len(shown)) if shown else Plain("nothing (an empty dict)")
    if isinstance(value, (Sequence, Set)) and not isinstance(value, (bytes, bytearray, memoryview, range)):
        if not value:
            return Plain(f"nothing (an empty {clip(type(value).__name__, 40)})")
        if isinstance(value, Set):
            value = sorted(value, key=lambda item: (type(item).__name__, cell(item)))
        if all(isinstance(item, Mapping) for item in value):
            return _records(value, rows)
        shown_items = tuple(cell(item, 1000) for item in _first(value, rows * 2))
        return Items(shown_items, more=len(value) - len(shown_items))
    return Block(excerpt(steady(_REPR.repr(value)) if _is_plain(value) else steady(repr(value)[:chars]), chars, 40))


def cell(value: Any, limit: int = 200) -> str:
    """`value` on one line of at most `limit` characters."""
    try:
        value = _unwrapped(value)
        if isinstance(value, str):
            return clip(str.__str__(value), limit)
        if isinstance(value, float) and not isinstance(value, bool):
            return _rounded(value)
        if value is None or isinstance(value, (bool, int, complex, *_EXACT)):
            return clip(_scalar(value), limit)
        if isinstance(value, (list, tuple, dict)) and len(value) <= 100:
            return clip(_compact(value), limit)
        return clip(steady(_REPR.repr(value)), limit)
    except Exception:  # noqa: BLE001 - foreign code ran on hostile data
        return f"<{clip(type(value).__name__, 60)}>"


def html_table(source: object, rows: int) -> Table | None:
    """The first table of an untrusted HTML text, as cells of text; None when there is none."""
    if not isinstance(source, str) or "<table" not in source[:10_000]:
        return None
    reader = _Reader()
    try:
        reader.feed(source[:400_000])
    except Exception:  # noqa: BLE001 - foreign code ran on hostile data
        return None
    lines = [line for line in reader.lines if line]
    if not lines:
        return None
    header, body = (lines[0], lines[1:]) if reader.header else ([], lines)
    width = max(len(line) for line in lines)
    header = [""] * (width - len(header)) + header if header else []
    cells = [tuple(clip(c, 200) for c in (line + [""] * (width - len(line)))[:COLUMNS]) for line in body[:rows]]
    names = tuple(clip(c, 80) for c in header[:COLUMNS])
    return Table(names, tuple(cells), len(body) - len(cells), max(0, width - COLUMNS))


def _frame(value: Any, rows: int) -> Table | None:
    """Frames and series of pandas, polars and Arrow, if the program that made them has loaded those."""
    if (pd := sys.modules.get("pandas")) and isinstance(value, (pd.DataFrame, pd.Series)):
        if isinstance(value, pd.Series):
            value = value.to_frame("" if value.name is None else value.name)
        head = value.iloc[:rows, :COLUMNS]
        names = [cell(c, 80) for c in head.columns]
        indexed = not isinstance(value.index, pd.RangeIndex)
        body = list(head.itertuples(index=indexed, name=None))
        if indexed:
            names.insert(0, " / ".join("" if n is None else cell(n, 60) for n in value.index.names))
            body = [(" / ".join(map(cell, row[0])) if isinstance(row[0], tuple) else row[0], *row[1:]) for row in body]
        return _table(names, body, len(value), value.shape[1])
    if (pl := sys.modules.get("polars")) and isinstance(value, (pl.DataFrame, pl.Series)):
        value = value.to_frame() if isinstance(value, pl.Series) else value
        head = value[:rows, :COLUMNS]
        return _table([cell(c, 80) for c in head.columns], head.rows(), *value.shape)
    if (pa := sys.modules.get("pyarrow")) and isinstance(value, pa.Table):
        head = value.slice(0, rows).select(list(range(min(COLUMNS, value.num_columns))))
        body = list(zip(*(column.to_pylist() for column in head.columns), strict=True))
        return _table([cell(c, 80) for c in head.column_names], body, value.num_rows, value.num_columns)
    return None


def _table(names: list[str], body: Sequence[Sequence[Any]], height: int, width: int) -> Table:
    columns = [_aligned(column) for column in zip(*body, strict=True)]
    rows = tuple(zip(*columns, strict=True))
    return Table(tuple(names), rows, height - len(body), max(0, width - COLUMNS))


def _aligned(column: Sequence[Any]) -> list[str]:
    """The cells of a column; floats all get the decimals of the longest."""
    cells = [cell(value) for value in column]
    if not all(isinstance(value, float) for value in column) or any("e" in c for c in cells):
        return cells
    digits = max((len(c.partition(".")[2]) for c in cells), default=0)
    return [c if c[-1:].isalpha() else f"{value:.{digits}f}" for c, value in zip(cells, column, strict=True)]


def _records(value: Any, rows: int) -> Form:
    names = list(dict.fromkeys(str(key) for record in _first(value, 1000) for key in record))
    shown = [tuple(cell(record.get(n, "")) for n in names[:COLUMNS]) for record in _first(value, rows)]
    if not names:
        return Plain(f"{len(value):,} empty records")
    more = max(0, len(names) - COLUMNS)
    return Table(tuple(cell(n, 80) for n in names[:COLUMNS]), tuple(shown), len(value) - len(shown), more)


def _unwrapped(value: Any) -> Any:
    """Scalars of numpy, enums, models, dataclasses and named tuples as what they hold."""
    if isinstance(value, enum.Enum):
        return value.value
    if type(value).__module__.partition(".")[0] == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    if isinstance(getattr(type(value), "model_fields", None), Mapping):
        return {name: getattr(value, name, None) for name in type(value).model_fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return value._asdict()
    return value


def _scalar(value: Any) -> str:
    return f"{value:#x}" if isinstance(value, int) and abs(value).bit_length() > 4000 else str(value)


def _rounded(value: float) -> str:
    text = float.__repr__(value)
    if len(text) <= 10 or value != value or abs(value) >= 1e15 or abs(value) < 1e-4:  # noqa: PLR0124 - NaN is not itself
        return text if len(text) <= 10 else f"{value:.6g}"
    return f"{value:.4f}".rstrip("0").rstrip(".") if abs(value) >= 1 else f"{value:.6g}"


def _compact(value: Any) -> str:
    if isinstance(value, (list, tuple)) and all(isinstance(v, (str, int, float)) for v in value):
        return ", ".join(cell(v) for v in value)
    try:
        return json.dumps(value, ensure_ascii=False, default=lambda v: steady(_REPR.repr(v)))
    except (TypeError, ValueError, RecursionError):
        return steady(_REPR.repr(value))


def _is_plain(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict, set, frozenset, bytes, bytearray))


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def _first(values: Any, number: int) -> list[Any]:
    return [value for value, _ in zip(values, range(number), strict=False)]


class _Reader(html.parser.HTMLParser):
    """Collects the rows of the first table; everything else is passed over."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[list[str]] = []
        self.header = False
        self.depth = 0
        self.closed = False
        self.open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.depth += 1
        elif self.depth == 1 and not self.closed:
            if tag == "thead":
                self.header = True
            elif tag == "tr":
                self.lines.append([])
            elif tag in ("td", "th") and self.lines:
                self.lines[-1].append("")
                self.open = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "table" and self.depth:
            self.depth -= 1
            self.closed = self.closed or self.depth == 0
        elif tag in ("td", "th"):
            self.open = False

    def handle_data(self, data: str) -> None:
        if self.open and self.depth and not self.closed and self.lines and self.lines[-1]:
            self.lines[-1][-1] += clean(data)


_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxtuple, _REPR.maxset, _REPR.maxdict = 6, 20, 20, 20, 20
_REPR.maxstring, _REPR.maxother, _REPR.maxlong = 200, 400, 100
