"""What was said to a model and heard of it. It grows at its end, so that a provider can cache its beginning.

A question that goes on with an earlier one is asked in a copy, so the earlier conversation stays as it was until the
new question has got a reply. Only where the model's window is full does a conversation change before its end: see
`compacted`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from rlm_kernel.granting import input_bound
from rlm_kernel.models.base import Completion, Image, Message, Request

__all__ = ["Conversation"]

_BYTES_PER_TOKEN = 3
"""Of text that nobody has counted: a guess for when a conversation becomes long, no bound."""


class Conversation:
    """The messages to one model.

    Args:
        system: what holds for all of it.
        first: the first message.
        told: what the model knows of its task by then, by what it is about; see `prompt.told`.
        model: the name of the model.

    Attributes:
        unsent: the next message to the model.
        images: the pictures that belong to it.
        known: the first messages of which the tokens are known, as (how many, how many tokens): a provider tells them
            with its reply.
        replies: how many there were.
        asked: the question that is being answered, as it was asked in a later message than the first; else empty.
        transcript: the turns that gave way to a summary, as text.
    """

    def __init__(self, system: str, first: str, told: Mapping[str, str] | None = None, model: str = "") -> None:
        self.system, self.unsent, self.told, self.model = system, first, dict(told or {}), model
        self.images: tuple[Image, ...] = ()
        self.known = (0, 0)
        self.replies = 0
        self.asked = self.transcript = ""
        self.messages: tuple[Message, ...] = ()
        self._opening = 0
        """Tokens of the system prompt and the first message, once they are known."""
        self._asked_at = 0
        """The place of the message with the question."""
        self._after = 1
        """The place of the first reply that is no summary."""

    def next(self) -> Request:
        """What is to be asked next."""
        return Request((*self.messages, Message("user", self.unsent, self.images)), self.system)

    def replied(self, request: Request, completion: Completion) -> None:
        """Take the reply to `next`."""
        self.messages = (*request.messages, Message("assistant", completion.text))
        self.replies += 1
        usage = completion.own_usage
        if total := usage.total_tokens:
            self.known = len(self.messages), total
            if self.replies == 1:
                self._opening = total - usage.output_tokens

    @property
    def last_reply(self) -> str:
        """What the model said last; empty before it has."""
        return self.messages[-1].content if self.messages else ""

    @property
    def bound(self) -> int:
        """As many tokens as all that was said can have at most."""
        return input_bound(Request(self.messages, self.system), self.known)

    @property
    def tokens(self) -> int:
        """About as many tokens as `next` has."""
        count, tokens = self.known
        texts = [m.content for m in self.messages[count:]] + [self.unsent] + ([] if count else [self.system])
        return tokens + sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) // _BYTES_PER_TOKEN

    def follow_up(self, question: str, status: str, told: Mapping[str, str], model: str) -> Conversation:
        """The conversation in which one more question is asked.

        Args:
            question: with what the model has to know for it.
            status: where its run stands.
            told: what the model knows of its task by then.
            model: the name of who is asked.
        """
        more = copy.copy(self)
        more.unsent = f"{self.unsent}\n\n{question}\n\n[{status}]"
        more.asked, more._asked_at = question, len(self.messages)
        more.told = {**self.told, **told}
        if model != self.model:  # which counts otherwise
            more.model, more.known, more._opening = model, (0, 0), 0
        return more

    # -- a conversation that has become too long ---------------------------------------------------------------
    @property
    def older(self) -> list[tuple[int, str, str]]:
        """The turns before the last reply: number, reply, and what it was told. Summaries are no turns."""
        said = [m.content for m in self.messages[self._after : -1]]
        first = self.replies - len(said) // 2
        return [(first + n, said[2 * n], said[2 * n + 1]) for n in range(len(said) // 2)]

    @property
    def question_is_older(self) -> bool:
        """Whether the message that asked what is being answered is among what can give way."""
        return bool(self.asked) and self._asked_at < len(self.messages)

    def compacted(self, summary: str, notice: str, transcript: str) -> Conversation:
        """The conversation in which the turns before the last reply gave way to a summary.

        The system prompt and the first message stay as they are.

        Args:
            summary: as a reply of the model.
            notice: the message to that.
            transcript: all turns that have given way by now, as text.
        """
        made = copy.copy(self)
        said = Message("assistant", summary), Message("user", notice)
        made.messages = (self.messages[0], *said, self.messages[-1])
        made.known = (1, self._opening) if self._opening else (0, 0)
        made._asked_at, made._after = min(self._asked_at, 2), 3
        made.transcript = transcript
        return made

    # -- as JSON ----------------------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """All of it as JSON; `of` makes it again. Pictures that were shown are left out."""
        said = [[message.role, message.content] for message in self.messages]
        return {"messages": said} | {name: getattr(self, name) for name in (*_TEXTS, *_NUMBERS, "told", "known")}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Conversation:
        """What `state` made.

        Raises:
            KeyError, TypeError, ValueError: it is no such thing.
        """
        made = cls("", "", {_text(name): _text(text) for name, text in state["told"].items()})
        for name in _TEXTS:
            setattr(made, name, _text(state[name]))
        for name in _NUMBERS:
            setattr(made, name, _number(state[name]))
        count, tokens = state["known"]
        said = tuple(Message(role, _text(text)) for role, text in state["messages"])
        if [m.role for m in said] != ["user", "assistant"] * (len(said) // 2) or not 0 <= _number(count) <= len(said):
            raise ValueError("its messages do not take turns")
        made.messages, made.known = said, (count, _number(tokens))
        return made


_TEXTS = ("system", "unsent", "model", "asked", "transcript")
_NUMBERS = ("replies", "_opening", "_asked_at", "_after")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"expected a number, found {value!r}")
    return value
