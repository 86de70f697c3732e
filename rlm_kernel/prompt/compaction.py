"""The messages about a conversation that has become too long: the call for a summary, and what stands in its place."""

from __future__ import annotations

from collections.abc import Sequence

from rlm_kernel.models.base import Message
from rlm_kernel.prompt.excerpt import Excerpt

__all__ = ["Turn", "excerpts", "shortened", "summary_call", "summary_message", "summary_notice", "transcript"]

Turn = tuple[int, str, str]
"""Its number, what the model replied, and what it was told of that."""

EXCERPTS_CHARS = 12_000
SUMMARY_CHARS = 30_000
VARIABLES_CHARS = 6_000


def summary_call() -> str:
    """Asks for a summary."""
    return (
        "[This conversation nearly fills your window. Before you go on, write a summary of it, in place of which you "
        "will not see your earlier turns any more; write no code now. What you leave out you will not know: what was "
        "asked, what you have found with the exact figures and names, which variables hold what, what was tried and "
        "failed, what is established and what is a guess, and what is still to be done, in order. At most 800 words.]"
    )


def summary_message(last: int, text: str) -> str:
    """The summary, as said by the model. It stands for an earlier one as well."""
    cut = Excerpt(SUMMARY_CHARS)
    cut.add(text.strip())
    return f"(Summary of my turns 1 to {last}.)\n\n{cut.cut(SUMMARY_CHARS)}"


def summary_notice(transcript: str, variables: str, question: str) -> str:
    """What the model is told along with its summary.

    Args:
        transcript: the name of the variable with the turns.
        variables: those of the REPL, as SHOW_VARS() has them; may be empty.
        question: the one that is being answered, where it was asked in a message that is gone.
    """
    cut = Excerpt(VARIABLES_CHARS)
    cut.add(variables)
    parts = [
        "Your turns up to here gave way to that summary. Their full text is in the variable "
        f"`{transcript}` (str): search it when you need a detail. The REPL has all its variables"
        + (f":\n\n{cut.cut(VARIABLES_CHARS)}" if variables else "; SHOW_VARS() lists them.")
    ]
    parts += [f"What you were asked:\n\n{question}"] if question else []
    return "\n\n".join(parts)


def excerpts(turns: Sequence[Turn]) -> str:
    """Beginnings of these turns, in place of a summary that the model did not write."""
    share = max(60, EXCERPTS_CHARS // (2 * max(1, len(turns))))
    kept = [f"Turn {number}: {_head(reply, share)}\n-> {_head(told, share)}" for number, reply, told in turns]
    room = max(1, EXCERPTS_CHARS // (2 * share))
    if len(kept) > room:
        kept[room // 2 : len(kept) - room // 2] = [f"… {len(kept) - 2 * (room // 2)} more turns …"]
    return "\n".join(kept)


def _head(text: str, chars: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= chars else f"{text[: chars - 1]}…"


def transcript(turns: Sequence[Turn]) -> str:
    """These turns in full."""
    return "".join(
        f"===== turn {number}: reply =====\n{reply}\n\n===== turn {number}: what came of it =====\n{told}\n\n"
        for number, reply, told in turns
    )


def shortened(messages: Sequence[Message], chars: int) -> tuple[Message, ...]:
    """These messages with at most so many characters, the first and the last whole."""
    middle = messages[1:-1]
    if not middle:
        return tuple(messages)
    share = max(200, chars // len(middle))
    made = []
    for message in middle:
        cut = Excerpt(share)
        cut.add(message.content)
        made.append(Message(message.role, cut.cut(share)))
    return (messages[0], *made, messages[-1])
