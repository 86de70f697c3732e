"""A trajectory as a JSONL file: the format of alexzhang13/rlm's logger, which its visualizer opens.

The first line describes the run, each further line is one iteration; what that format has no place for stands under the
key `rlm_kernel` of each line, from which `load` makes an equal trajectory again. Values become JSON and come back as
`rlm_kernel.render.jsonable` says: one that JSON cannot hold as the text of its `repr`, a table as a list of records.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm_kernel.errors import RecordingError
from rlm_kernel.events import Variable
from rlm_kernel.render.jsonable import KEY, decode, encode
from rlm_kernel.trajectory import Cell, Iteration, Output, Subcall, ToolCall, Trajectory
from rlm_kernel.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["load", "save"]

VERSION = 1
_RUN = ("run", "question", "signature", "sub_model", "max_llm_calls", "parent", "isolation",
        "tools", "stop_reason", "detail", "cost", "seconds")  # fmt: skip
_CALL = ("number", "batch", "cost", "seconds", "started", "finished")
_ELSEWHERE = ("prompt", "reply", "cells", "usage")
_ERRORS = ("stderr", "error")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def save(trajectory: Trajectory, path: str | os.PathLike[str]) -> None:
    """Write the trajectory to `path`, all of it or nothing.

    Raises:
        RecordingError: the file cannot be written.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="ascii", newline="\n") as file:
            for line in _lines(trajectory):
                file.write(json.dumps(line, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise RecordingError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> Trajectory:
    """The trajectory in `path`, written by `save` or, as far as it goes, by alexzhang13/rlm.

    Raises:
        RecordingError: the file cannot be read or holds no run.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RecordingError(f"{path} is not a trajectory: it is not text in UTF-8") from error
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                lines.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise RecordingError(f"{path}, line {number}: not JSON; no trajectory, or damaged") from error
    try:
        return _trajectory(lines)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise RecordingError(f"{path} is not a trajectory, or is damaged ({type(error).__name__}: {error})") from error


def _lines(t: Trajectory, began: datetime.datetime | None = None) -> Iterator[dict[str, Any]]:
    began = began or datetime.datetime.now().astimezone() - datetime.timedelta(seconds=max(0.0, min(t.seconds, 1e9)))
    extra = {name: encode(getattr(t, name)) for name in _RUN}
    extra |= {
        "version": VERSION,
        "usage": asdict(t.usage),
        "variables": [asdict(v) for v in t.variables],
        "values": [[name, encode(value)] for name, value in t.values.items()],
    }
    yield {
        "type": "metadata",
        "timestamp": began.isoformat(),
        "root_model": t.model,
        "max_depth": 1,
        "max_iterations": t.max_iterations,
        "backend": "rlm_kernel", "backend_kwargs": {"model_name": t.model},
        "environment_type": "jupyter", "environment_kwargs": {},
        "other_backends": [t.sub_model] if t.sub_model else None,
        KEY: extra,
    }  # fmt: skip
    for place, i in enumerate(t.iterations):
        yield _iteration_line(t, i, place, began)


def _iteration_line(t: Trajectory, i: Iteration, place: int, began: datetime.datetime) -> dict[str, Any]:
    prompt = [{"role": "user", "content": i.prompt}]
    if place == 0:
        # The visualizer takes its title from this phrase; a quotation mark would end it.
        title = " ".join(t.question.split()).replace('"', "'")[:400]
        prompt.insert(0, {"role": "user", "content": f'original query: "{title}"'})
    last = place == len(t.iterations) - 1
    answer = None
    if last and t.values:
        single = next(iter(t.values.values())) if len(t.values) == 1 else None
        answer = single if isinstance(single, str) else json.dumps(encode(t.values), ensure_ascii=False)
    extra = {name: encode(getattr(i, name)) for name in Iteration.__dataclass_fields__ if name not in _ELSEWHERE}
    return {
        "type": "iteration",
        "iteration": place + 1,
        "timestamp": (began + datetime.timedelta(seconds=max(0.0, min(i.started, 1e9)))).isoformat(),
        "prompt": prompt,
        "response": i.reply,
        "code_blocks": [_block(c, answer, began) for c in i.cells],
        "final_answer": answer,
        "iteration_time": encode(i.model_seconds + sum(c.seconds for c in i.cells)),
        KEY: extra | {"usage": asdict(i.usage)},
    }


def _block(cell: Cell, answer: str | None, began: datetime.datetime) -> dict[str, Any]:
    streams = {False: "", True: ""}
    pieces = []
    for output in cell.outputs:
        wrong = output.kind in _ERRORS
        pieces.append({"kind": output.kind, "start": len(streams[wrong]), "chars": len(output.text)})
        pieces[-1] |= {"data": encode(output.data)} if output.data else {}
        streams[wrong] += output.text
    if any(_PAIR.search(text) for text in streams.values()):
        # Two halves of a character become one on the way through JSON: keep each piece by itself.
        pieces = [piece | {"text": o.text} for piece, o in zip(pieces, cell.outputs, strict=True)]
    return {
        "code": cell.code,
        "result": {
            "stdout": streams[False],
            "stderr": streams[True],
            "locals": {v.name: v.preview or " ".join(filter(None, (v.type, v.size))) for v in cell.changed},
            "execution_time": encode(cell.seconds),
            "rlm_calls": [_call(s, began) for s in cell.subcalls],
            "final_answer": answer if cell.status == "submitted" else None,
        },
        KEY: {
            "number": cell.number,
            "status": cell.status,
            "started": encode(cell.started),
            "seconds": encode(cell.seconds),
            "changed": [asdict(v) for v in cell.changed],
            "removed": list(cell.removed),
            "outputs": pieces,
            "tool_calls": [encode(asdict(call)) for call in cell.tool_calls],
        },
    }


def _call(s: Subcall, began: datetime.datetime) -> dict[str, Any]:
    sent = s.usage.input_tokens + s.usage.cache_read_tokens + s.usage.cache_write_tokens
    totals = {"total_calls": 1, "total_input_tokens": sent, "total_output_tokens": s.usage.output_tokens}
    cost = {} if s.cost is None else {"total_cost": encode(s.cost)}
    made: dict[str, Any] = {
        "root_model": s.model,
        "prompt": s.prompt,
        "response": s.reply,
        "usage_summary": {"model_usage_summaries": {s.model: totals | cost}, **cost},
        "prompt_tokens": sent,
        "completion_tokens": s.usage.output_tokens,
        "execution_time": encode(s.seconds),
    }
    if s.error:
        made["error"] = s.error
    if s.run:
        lines = list(_lines(s.run, began))  # its times count from the same start
        made["metadata"] = {"run_metadata": lines[0], "iterations": lines[1:]}
    return made | {KEY: {name: encode(getattr(s, name)) for name in _CALL} | {"usage": asdict(s.usage)}}


def _trajectory(lines: list[Any]) -> Trajectory:
    """Lines of either writer as a trajectory."""
    if not all(isinstance(line, dict) for line in lines):
        raise ValueError("a line that is no object")
    head = next((line for line in lines if line.get("type") == "metadata"), None)
    turns = [line for line in lines if line.get("type") == "iteration"]
    if head is None and not turns:
        raise ValueError("neither metadata nor iterations")
    head = head or {}
    extra = head.get(KEY)
    if extra is None:
        return _foreign(head, turns, next((line for line in lines if line.get("type") == "run_context"), {}))
    if extra["version"] > VERSION:
        raise ValueError(f"version {extra['version']} is newer than this program")
    t = Trajectory(
        **{name: decode(extra[name]) for name in _RUN},
        model=head["root_model"],
        max_iterations=head["max_iterations"],
        usage=Usage(**extra["usage"]),
        variables=tuple(Variable(**v) for v in extra["variables"]),
        values={name: decode(value) for name, value in extra["values"]},
        iterations=[_iteration(line) for line in turns],
    )
    return t.indexed()


def _iteration(line: dict[str, Any]) -> Iteration:
    return Iteration(
        **{name: decode(line[KEY][name]) for name in Iteration.__dataclass_fields__ if name not in _ELSEWHERE},
        prompt=line["prompt"][-1]["content"],
        reply=line["response"],
        usage=Usage(**line[KEY]["usage"]),
        cells=[_cell(block) for block in line["code_blocks"]],
    )


def _cell(block: dict[str, Any]) -> Cell:
    own, result = block[KEY], block["result"]
    outputs = []
    for piece in own["outputs"]:
        text = result["stderr" if piece["kind"] in _ERRORS else "stdout"]
        text = piece.get("text", text[piece["start"] : piece["start"] + piece["chars"]])
        outputs.append(Output(piece["kind"], text, decode(piece.get("data", {}))))
    return Cell(
        own["number"], block["code"], outputs, [_subcall(call) for call in result["rlm_calls"]], own["status"],
        decode(own["seconds"]), decode(own["started"]), tuple(Variable(**v) for v in own["changed"]),
        tuple(own["removed"]), [ToolCall(**decode(call)) for call in own["tool_calls"]],
    )  # fmt: skip


def _subcall(call: dict[str, Any]) -> Subcall:
    own = call[KEY]
    return Subcall(
        **{name: decode(own[name]) for name in _CALL},
        prompt=call["prompt"],
        model=call["root_model"],
        reply=call["response"],
        error=call.get("error", ""),
        usage=Usage(**own["usage"]),
        run=_child(call),
    )


def _child(call: dict[str, Any]) -> Trajectory | None:
    nested = call.get("metadata")
    return _trajectory([nested["run_metadata"], *nested["iterations"]]) if nested else None


def _foreign(head: dict[str, Any], turns: list[dict[str, Any]], context: dict[str, Any]) -> Trajectory:
    """The run in a file of alexzhang13/rlm: what it tells, in our words; the rest stays at its default."""
    t = Trajectory(model=_said(head.get("root_model")), max_iterations=int(head.get("max_iterations") or 0))
    t.question = _said(context.get("root_prompt"))
    numbers = itertools.count(1)
    for place, line in enumerate(turns, 1):
        prompt = line.get("prompt") or ""
        prompt = prompt[-1].get("content") if isinstance(prompt, list) else prompt
        i = Iteration(place, _said(prompt), reply=_said(line.get("response")), model=t.model, done=True)
        for block in line.get("code_blocks") or []:
            result = block.get("result") or {}
            texts = [("stdout", _said(result.get("stdout"))), ("stderr", _said(result.get("stderr")))]
            calls = [_foreign_call(call, next(numbers)) for call in result.get("rlm_calls") or []]
            cell = Cell(len(t.cells) + len(i.cells) + 1, _said(block.get("code")), subcalls=calls)
            cell.outputs = [Output(kind, text) for kind, text in texts if text]
            cell.status, cell.seconds = "ok", float(result.get("execution_time") or 0)
            i.cells.append(cell)
        t.iterations.append(i)
        t.seconds += float(line.get("iteration_time") or 0)
        answer = line.get("final_answer")
        if answer is not None:
            t.values = {"answer": answer[-1] if isinstance(answer, list) else answer}
    t.signature, t.stop_reason = "context -> answer", "answered" if t.values else "max_iterations"
    t.usage = sum((s.usage for s in t.subcalls), Usage())
    return t.indexed()


def _foreign_call(call: dict[str, Any], number: int) -> Subcall:
    counts = list((call.get("usage_summary") or {}).get("model_usage_summaries", {}).values())
    sent, got = (sum(int(c.get(k) or 0) for c in counts) for k in ("total_input_tokens", "total_output_tokens"))
    made = Subcall(number, _said(call.get("prompt")), _said(call.get("root_model")), reply=_said(call.get("response")))
    made.usage = Usage(sent or int(call.get("prompt_tokens") or 0), got or int(call.get("completion_tokens") or 0))
    made.error, made.finished = _said(call.get("error")), True
    made.seconds, made.run = float(call.get("execution_time") or 0), _child(call)
    return made


def _said(value: Any) -> str:
    """A text as it is; anything else (a list of messages) as JSON."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
