"""What a recording holds, and how it is written as JSON that people can read and `git diff` can show.

Values only; files are opened in `replay.py`. Text of several lines is a list of its lines; everything at its default
is left out; a conversation is stored once, each turn with only the messages that are new. Of a picture that was shown
to a model its digest is kept.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from rlm_kernel.models.base import Completion, Image, Message, Refused, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["FORMAT", "VERSION", "Call", "Conversation", "Failed", "Run", "Subcall", "dump", "load"]

FORMAT = "rlm_kernel recording"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Failed:
    """A call that raised instead of answering: the error's class and message."""

    type: str
    message: str
    abandoned: tuple[Usage, ...] = ()
    """What its attempts took, as far as the provider told."""


@dataclass(slots=True)
class Call:
    """One request and what came back; `outcome` is None only while it is under way."""

    messages: tuple[Message, ...]
    outcome: Completion | Failed | Refused | None = None
    """`Refused` for a request that no model was asked, because of a budget: a replay decides as the run did."""


@dataclass(slots=True)
class Conversation:
    """The turns of one loop with its model: the run's own first, then those of its children."""

    model: str
    system: str
    turns: list[Call] = field(default_factory=list)
    """The first turn has all messages, each later one those that came after the reply before it."""
    window: int | None = None
    """Tokens that fit into a call of the model, where it says so itself: it decides when turns become a summary."""


@dataclass(slots=True)
class Subcall:
    """One `llm_query`."""

    model: str
    system: str
    call: Call


@dataclass(slots=True)
class Run:
    """Everything the models were asked for one question."""

    question: str
    signature: str
    sub_model: str = ""
    """Whom `llm_query` asks unless it says otherwise."""
    conversations: list[Conversation] = field(default_factory=list)
    subcalls: list[Subcall] = field(default_factory=list)


def dump(runs: Iterable[Run], note: str = "") -> bytes:
    """The recording as a file's content."""
    document = {"format": FORMAT, "version": VERSION, "note": _lines(note), "runs": [_run(run) for run in runs]}
    text = json.dumps(document, ensure_ascii=False, indent=1)
    # A lone surrogate cannot be encoded but JSON can escape it. All of them are inside of strings.
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text).encode() + b"\n"


def load(document: Mapping[str, Any]) -> tuple[list[Run], str]:
    """The runs and the note of a parsed file. Damage shows as KeyError, TypeError, ValueError or AttributeError."""
    return [_read_run(run) for run in document["runs"]], _text(document.get("note", ""))


def _run(run: Run) -> dict[str, Any]:
    return {
        "question": _lines(run.question),
        "signature": _lines(run.signature),
        **({"sub_model": run.sub_model} if run.sub_model else {}),
        "conversations": [
            {
                "model": talk.model,
                **({"window": talk.window} if talk.window is not None else {}),
                **_system(talk.system),
                "turns": [_call(turn) for turn in talk.turns if turn.outcome],
            }
            for talk in run.conversations
            if any(turn.outcome for turn in talk.turns)
        ],
        "subcalls": [
            {"model": sub.model, **_system(sub.system), **_call(sub.call)} for sub in run.subcalls if sub.call.outcome
        ],
    }


def _read_run(data: Mapping[str, Any]) -> Run:
    return Run(
        _text(data["question"]),
        _text(data["signature"]),
        str(data.get("sub_model", "")),
        [
            Conversation(
                talk["model"],
                _text(talk.get("system", "")),
                [_read_call(turn) for turn in talk["turns"]],
                int(talk["window"]) if "window" in talk else None,
            )
            for talk in data["conversations"]
        ],
        [Subcall(sub["model"], _text(sub.get("system", "")), _read_call(sub)) for sub in data["subcalls"]],
    )


def _system(system: str) -> dict[str, Any]:
    return {"system": _lines(system)} if system else {}


def _call(call: Call) -> dict[str, Any]:
    messages = [{message.role: _lines(message.content), **_images(message)} for message in call.messages]
    match call.outcome:
        case Completion() as reply:
            return {"messages": messages, "reply": _reply(reply)}
        case Failed(kind, message, abandoned):
            error = {"type": kind, "message": _lines(message), **_abandoned(abandoned)}
            return {"messages": messages, "error": error}
        case Refused(limit, text):
            return {"messages": messages, "refused": {"limit": limit, "text": _lines(text)}}
    raise ValueError("a call under way cannot be written down")


def _images(message: Message) -> dict[str, Any]:
    shown = [{"media_type": image.media_type, "sha256": image.digest} for image in message.images]
    return {"images": shown} if shown else {}


def _read_call(data: Mapping[str, Any]) -> Call:
    messages = []
    for message in data["messages"]:
        images = tuple(Image(i["media_type"], digest=i["sha256"]) for i in message.get("images", ()))
        ((role, content),) = ((key, value) for key, value in message.items() if key != "images")
        if role not in {"user", "assistant"}:
            raise ValueError(f"no such role: {role}")
        messages.append(Message(role, _text(content), images))
    if "error" in data:
        error = data["error"]
        return Call(tuple(messages), Failed(str(error["type"]), _text(error["message"]), _read_abandoned(error)))
    if "refused" in data:
        limit = data["refused"]["limit"]
        if limit not in {"budget", "max_tokens"}:
            raise ValueError(f"no such limit: {limit}")
        return Call(tuple(messages), Refused(limit, _text(data["refused"]["text"])))
    return Call(tuple(messages), _read_reply(data["reply"]))


def _reply(reply: Completion) -> dict[str, Any]:
    return {
        **({"thinking": _lines(reply.thinking)} if reply.thinking else {}),
        "text": _lines(reply.text),
        "model": reply.model,
        **({"stop_reason": reply.stop_reason} if reply.stop_reason != "end" else {}),
        "usage": _usage(reply.usage),
        **_abandoned(reply.abandoned),
    }


def _usage(usage: Usage) -> dict[str, int]:
    return {name: count for name, count in asdict(usage).items() if count}


def _abandoned(attempts: tuple[Usage, ...]) -> dict[str, Any]:
    return {"abandoned": [_usage(usage) for usage in attempts]} if attempts else {}


def _read_abandoned(data: Mapping[str, Any]) -> tuple[Usage, ...]:
    return tuple(Usage(**usage) for usage in data.get("abandoned", ()))


def _read_reply(data: Mapping[str, Any]) -> Completion:
    stop = data.get("stop_reason", "end")
    if stop not in {"end", "max_tokens", "refusal"}:
        raise ValueError(f"no such stop_reason: {stop}")
    return Completion(
        text=_text(data["text"]),
        model=data["model"],
        usage=Usage(**data.get("usage", {})),
        thinking=_text(data.get("thinking", "")),
        stop_reason=cast("Literal['end', 'max_tokens', 'refusal']", stop),
        abandoned=_read_abandoned(data),
    )


def _lines(text: str) -> Any:
    """`text` as it is when it fits on a line and JSON can hold it, else the list of its lines, to be joined again.

    JSON reads an escaped high surrogate before a low one as a single character; a line where that would happen is in
    turn a list of pieces.
    """
    lines = [_pieces(line) for line in text.split("\n")]
    return lines[0] if len(lines) == 1 and isinstance(lines[0], str) else lines


def _pieces(line: str) -> str | list[str]:
    pieces = re.split("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])", line)
    return line if len(pieces) == 1 else pieces


def _text(value: str | list[str | list[str]]) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return "\n".join(line if isinstance(line, str) else "".join(line) for line in value)
