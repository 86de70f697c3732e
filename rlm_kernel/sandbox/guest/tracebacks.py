"""Errors as the model sees them: the lines of its own code, the last frame below them, and what led to it.

No path of this machine and no frame of IPython's: they tell the model nothing and would make recordings differ.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .repl import Submitted
from .streams import encodable

_CHAIN = 3
"""Exceptions that are told of a chain, and levels of a group."""
_PYTHONS_OWN = re.compile(r"python3\.\d+t?")
"""The folder of its library, whose name differs from version to version."""


def tracebacks(shell: Any) -> Callable[..., list[str]]:
    """What stands in for IPython's `structured_traceback`.

    Args:
        shell: knows which frames are cells.
    """

    def is_cell(frame: traceback.FrameSummary) -> bool:
        return shell.compile.format_code_name(frame.filename) is not None

    def structured(etype: Any, value: BaseException | None = None, tb: Any = None, *_: Any, **__: Any) -> list[str]:
        if value is None or isinstance(value, Submitted):
            return []
        try:
            lines = tell(value, tb if isinstance(tb, TracebackType) else value.__traceback__, is_cell)
        except Exception:  # noqa: BLE001 - an exception of the model's own may do anything when it is looked at
            lines = [f"{type(value).__name__}: (it cannot be shown)"]
        return [encodable(line) for line in lines]

    return structured


def tell(value: BaseException, tb: Any, is_cell: Callable[[traceback.FrameSummary], bool], depth: int = 0) -> list[str]:
    """The lines about one exception, those before it, and those in it."""
    lines: list[str] = []
    before = value.__cause__ or (None if value.__suppress_context__ else value.__context__)
    if before is not None and depth < _CHAIN:
        lines = [*tell(before, before.__traceback__, is_cell, depth + 1), "which led to:"]
    frames = traceback.extract_tb(tb)
    if own := [i for i, frame in enumerate(frames) if is_cell(frame)]:
        shown = [_in_cell(frames[i], i == own[0]) for i in own]
        if own[-1] < len(frames) - 1 and not frames[-1].filename.startswith("<rlm_guest"):
            shown.append(_in_library(frames[-1]))
        cut = [*shown[:4], f"  … {len(shown) - 7} more frames …", *shown[-3:]]
        lines += ["Traceback:", *(shown if len(shown) <= 8 else cut)]
    if isinstance(value, SyntaxError):
        where = f"line {value.lineno}: " if value.lineno else ""
        return [*lines, f"{type(value).__name__}: {where}{value.msg}", f"    {(value.text or '').strip()}"]
    lines += [line.rstrip() for line in traceback.format_exception_only(type(value), value)]
    if isinstance(value, BaseExceptionGroup) and depth < _CHAIN:
        for inner in value.exceptions[:8]:
            lines += [f"  | {line}" for line in tell(inner, inner.__traceback__, is_cell, depth + 1)]
    return lines


def _in_cell(frame: traceback.FrameSummary, outermost: bool) -> str:
    name = "" if outermost else f", in {frame.name}"
    return f"  line {frame.lineno}{name}: {(frame.line or '').strip()}"


def _in_library(frame: traceback.FrameSummary) -> str:
    *folder, name = frame.filename.split("/")[-2:]
    if folder and not _PYTHONS_OWN.fullmatch(folder[0]):
        name = f"{folder[0]}/{name}"
    return f"  {name}, in {frame.name}: {(frame.line or '').strip()}"
