"""A question that goes on with a conversation: only what is new is told, since its beginning stays as it is."""

from __future__ import annotations

from collections.abc import Mapping

from rlm_kernel.prompt.system import ANSWER, VARIABLE, facts, submit_call, variable
from rlm_kernel.task import Task

__all__ = ["follow_up", "told"]


def told(task: Task) -> dict[str, str]:
    """What a model has been told once it was asked this, by what it is about."""
    known = {name: text for name, text in facts(task).items() if name not in ("variables", "max_iterations")}
    return known | {f"{VARIABLE}{v.name}": variable(v) for v in task.variables}


def follow_up(task: Task, known: Mapping[str, str]) -> str:
    """The question, and what the model does not know yet of what it is about.

    Args:
        task: with the question.
        known: what it has been told before, as `told` has it.
    """
    now = told(task)
    parts = [f"Now another question, in the same REPL; turns and limits are counted anew.\n\n{task.question}"]
    if any(now[name] != known.get(name) for name in ANSWER):
        parts.append(f"This answer is handed in with `{submit_call(task.signature)}`; its fields:\n{now['fields']}")
        if now["instructions"] or known.get("instructions"):
            parts.append(now["instructions"].strip() or "The instructions for the earlier answer do not hold for it.")
    else:
        parts.append(f"Hand in this answer with `{submit_call(task.signature)}` as well.")
    parts += _variables(task, now, known)
    if now["max_output_chars"] != known.get("max_output_chars"):
        parts.append(f"Of what your code prints you now see at most {now['max_output_chars']} characters a turn.")
    for name, text in now.items():
        before = known.get(name, "")
        if name in (*ANSWER, "max_output_chars") or name.startswith(VARIABLE) or text == before:
            continue
        parts.append(f"This holds now:\n{text.strip()}" if text else f"This does not hold any more:\n{before.strip()}")
    return "\n\n".join(parts)


def _variables(task: Task, now: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    """What of the variables that were handed over is new."""
    new = [v for v in task.variables if now[f"{VARIABLE}{v.name}"] != known.get(f"{VARIABLE}{v.name}")]
    same = [f"`{v.name}`" for v in task.variables if v not in new]
    parts = ["New in the REPL:\n" + "\n".join(f"\n{variable(v)}" for v in new)] if new else []
    if same:
        parts.append(f"Handed over again, as they were described: {', '.join(same)}.")
    return parts
